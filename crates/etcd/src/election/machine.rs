//! Who leads: decided from times and answers alone. What it wants done comes out as requests; the
//! driver sends them and gives the answers back. All times are of one monotonic clock.
//!
//! Safe for two reasons, each enough where the other fails: a leadership ends by itself
//! ([`VALID_OF_TTL`] of the lease's time after the last keep-alive that was answered was *sent*,
//! which is before etcd can end the lease, whose time counts from when it *received* it); and
//! every write carries a guard on the election's key. What has ended is never taken up again.

use std::time::Duration;

use crate::rows::LeaseId;

/// Since an instant that stays the same.
pub(crate) type Moment = Duration;

/// Share of a lease's time for which it proves a leadership: 2 of 3. The rest is for clocks that
/// run at different speeds, and for the holder to stop.
const VALID_OF_TTL: (u32, u32) = (2, 3);

/// Who has the election's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The key's create revision.
    pub(crate) term: u64,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) value: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Who has the key?
    Look,
    Grant,
    /// The key, if nobody has it, with this lease.
    Campaign(LeaseId),
    KeepAlive(LeaseId),
    Revoke(LeaseId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Seen(Option<Holder>),
    Granted(LeaseId, Duration),
    Won {
        term: u64,
    },
    Kept(Duration),
    LeaseGone,
    Revoked,
    /// None in time, or an error: it may have been done.
    Failed,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send, and give the answer with this number. One is under way at a time.
    Send(u64, Ask),
    /// Ask again then, unless something happens before; none: only when something does.
    Wait(Option<Moment>),
    /// It is over.
    Ended(End),
}

/// Why a leadership, or a candidacy, is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// No keep-alive was answered in time.
    #[error("etcd has not kept the lease alive in time")]
    Lapsed,
    /// etcd says that the lease is over.
    #[error("the lease is over")]
    LeaseGone,
    /// The election's key is gone, or is another's.
    #[error("the election's key is not held any more")]
    KeyGone,
    /// It was given up.
    #[error("it was given up")]
    Resigned,
}

#[derive(Debug, Clone)]
pub(crate) struct Lead {
    pub(crate) term: u64,
    pub(crate) lease: LeaseId,
    pub(crate) until: Moment,
    keep_at: Moment,
    confirm_at: Moment,
}

#[derive(Debug, Clone)]
enum Phase {
    Follow {
        look_at: Moment,
    },
    Looking,
    Granting,
    Campaign {
        lease: LeaseId,
        until: Moment,
        give_up_at: Moment,
        at: Moment,
    },
    GiveUp {
        lease: LeaseId,
    },
    Lead(Lead),
    Ended(End),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    ttl: Duration,
    phase: Phase,
    /// Number, question, when it was sent.
    pending: Option<(u64, Ask, Moment)>,
    asked: u64,
    /// The key may have changed since it was last looked at.
    hinted: bool,
    holder: Option<Holder>,
}

impl Machine {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            phase: Phase::Follow {
                look_at: Moment::ZERO,
            },
            pending: None,
            asked: 0,
            hinted: false,
            holder: None,
        }
    }

    /// How long a request may take.
    pub(crate) fn deadline(ttl: Duration) -> Duration {
        ttl / 6
    }

    fn retry(&self) -> Duration {
        self.ttl / 12
    }

    fn valid_for(&self, granted: Duration) -> Duration {
        self.ttl.min(granted) * VALID_OF_TTL.0 / VALID_OF_TTL.1
    }

    /// The leadership that is held, if it holds at `now`.
    pub(crate) fn leads(&self, now: Moment) -> Option<&Lead> {
        match &self.phase {
            Phase::Lead(lead) if now < lead.until => Some(lead),
            _ => None,
        }
    }

    /// Who was last seen to have the key.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    /// The key may have changed.
    pub(crate) fn hint(&mut self) {
        self.hinted = true;
    }

    /// Gives up for good; the lease to end, if there is one.
    pub(crate) fn resign(&mut self) -> Option<LeaseId> {
        let lease = match self.phase {
            Phase::Campaign { lease, .. } | Phase::GiveUp { lease } => Some(lease),
            Phase::Lead(ref lead) => Some(lead.lease),
            _ => None,
        };
        self.pending = None;
        self.phase = Phase::Ended(End::Resigned);
        lease
    }

    fn send(&mut self, now: Moment, ask: Ask) -> Step {
        self.asked += 1;
        self.pending = Some((self.asked, ask, now));
        Step::Send(self.asked, ask)
    }

    fn end(&mut self, end: End) -> Step {
        self.pending = None;
        self.phase = Phase::Ended(end);
        Step::Ended(end)
    }

    pub(crate) fn poll(&mut self, now: Moment) -> Step {
        match &self.phase {
            Phase::Ended(end) => Step::Ended(*end),
            Phase::Lead(lead) if now >= lead.until => self.end(End::Lapsed),
            Phase::Lead(lead) if self.pending.is_some() => Step::Wait(Some(lead.until)),
            _ if self.pending.is_some() => Step::Wait(None),
            Phase::Lead(lead) => self.poll_lead(now, lead.clone()),
            Phase::Follow { look_at } if now < *look_at && !self.hinted => {
                Step::Wait(Some(*look_at))
            }
            Phase::Follow { .. } | Phase::Looking => {
                self.hinted = false;
                self.phase = Phase::Looking;
                self.send(now, Ask::Look)
            }
            Phase::Granting => self.send(now, Ask::Grant),
            Phase::Campaign {
                lease, give_up_at, ..
            } if now >= *give_up_at => {
                let lease = *lease;
                self.phase = Phase::GiveUp { lease };
                self.send(now, Ask::Revoke(lease))
            }
            Phase::Campaign { at, give_up_at, .. } if now < *at => {
                Step::Wait(Some(*at.min(give_up_at)))
            }
            Phase::Campaign { lease, .. } => {
                let lease = *lease;
                self.send(now, Ask::Campaign(lease))
            }
            Phase::GiveUp { lease } => {
                let lease = *lease;
                self.send(now, Ask::Revoke(lease))
            }
        }
    }

    fn poll_lead(&mut self, now: Moment, lead: Lead) -> Step {
        if now >= lead.keep_at {
            return self.send(now, Ask::KeepAlive(lead.lease));
        }
        if !self.hinted {
            return Step::Wait(Some(lead.keep_at.min(lead.until)));
        }
        if now < lead.confirm_at {
            return Step::Wait(Some(lead.keep_at.min(lead.until).min(lead.confirm_at)));
        }
        self.hinted = false;
        self.send(now, Ask::Look)
    }

    /// An answer; one that nobody waits for any more changes nothing.
    pub(crate) fn answer(&mut self, now: Moment, number: u64, answer: Answer) {
        let Some((_, _, sent)) = self.pending.take_if(|(pending, ..)| *pending == number) else {
            return;
        };
        let again = now + self.retry();
        match self.phase.clone() {
            Phase::Looking => match answer {
                Answer::Seen(None) => {
                    self.holder = None;
                    self.phase = Phase::Granting;
                }
                Answer::Seen(holder) => {
                    self.holder = holder;
                    self.follow(now + self.ttl / 3);
                }
                _ => self.follow(again),
            },
            Phase::Granting => match answer {
                Answer::Granted(lease, ttl) => {
                    self.phase = Phase::Campaign {
                        lease,
                        until: sent + self.valid_for(ttl),
                        give_up_at: sent + self.ttl / 3,
                        at: now,
                    };
                }
                _ => self.follow(again),
            },
            Phase::Campaign {
                lease,
                until,
                give_up_at,
                ..
            } => match answer {
                Answer::Won { term } if now < until => self.lead(now, term, lease, until),
                // An earlier attempt, whose answer was lost, was made.
                Answer::Seen(Some(holder)) if holder.lease == Some(lease) && now < until => {
                    self.lead(now, holder.term, lease, until);
                }
                Answer::Failed => {
                    let at = again;
                    self.phase = Phase::Campaign {
                        lease,
                        until,
                        give_up_at,
                        at,
                    };
                }
                other => {
                    if let Answer::Seen(holder) = other {
                        self.holder = holder;
                    }
                    self.phase = Phase::GiveUp { lease };
                }
            },
            // If it was not ended, it ends by itself.
            Phase::GiveUp { .. } => self.follow(again),
            Phase::Lead(lead) => self.answer_lead(now, sent, lead, answer),
            Phase::Follow { .. } | Phase::Ended(_) => {}
        }
    }

    fn answer_lead(&mut self, now: Moment, sent: Moment, mut lead: Lead, answer: Answer) {
        if now >= lead.until {
            // Too late: others may lead by now, whatever the answer says.
            self.end(End::Lapsed);
            return;
        }
        match answer {
            Answer::Kept(ttl) => {
                lead.until = lead.until.max(sent + self.valid_for(ttl));
                lead.keep_at = sent + self.ttl / 3;
            }
            Answer::LeaseGone => {
                self.end(End::LeaseGone);
                return;
            }
            Answer::Seen(Some(holder)) if holder.term == lead.term => {}
            Answer::Seen(_) => {
                self.end(End::KeyGone);
                return;
            }
            _ => {
                // Whichever it was: both are soon asked again.
                self.hinted = true;
                lead.keep_at = lead.keep_at.max(now + self.retry());
                lead.confirm_at = now + self.retry();
            }
        }
        self.phase = Phase::Lead(lead);
    }

    fn follow(&mut self, look_at: Moment) {
        self.phase = Phase::Follow { look_at };
    }

    fn lead(&mut self, now: Moment, term: u64, lease: LeaseId, until: Moment) {
        self.holder = None;
        self.phase = Phase::Lead(Lead {
            term,
            lease,
            until,
            keep_at: now,
            confirm_at: now,
        });
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
