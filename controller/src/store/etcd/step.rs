//! One transaction of the chain: sent until it is known what came of it.
//!
//! It is made only while the election's key is this leader's, the mark is that of the step before,
//! and the guards hold; it puts its own mark. So sending it again makes it at most once. If it was
//! not made, etcd reads what did not hold in the same step: the own mark means that an earlier
//! sending was made and only its answer was lost.

use std::time::{Duration, Instant};

use longshore_etcd::{
    Client, Compare, EtcdError, Leadership, Op, Outcome, Range, Refusal, Reply, Row, Span, Txn,
    TxnReply,
};

use super::compaction::Compaction;
use super::keys::Keys;
use crate::store::{Guard, StoreError, readable};

/// Between two sendings: the client looks for another endpoint by itself, so this only keeps a
/// member that refuses at once from being asked in a circle.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// See [`PAUSE_FIRST`].
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Where the chain of writes has got to.
pub(super) struct Chain {
    /// At which the present mark was written; 0: there is none.
    revision: u64,
    /// Tells this chain from another one of the same leadership.
    nonce: u64,
    count: u64,
    /// May parts of a journal that does not count lie about?
    pub(super) stray: bool,
    pub(super) compaction: Compaction,
}

impl Chain {
    pub(super) fn unknown() -> Self {
        Self {
            revision: 0,
            nonce: 0,
            count: 0,
            stray: false,
            compaction: Compaction::default(),
        }
    }

    /// A new chain that follows upon the mark of that revision.
    pub(super) fn after(revision: u64) -> Result<Self, StoreError> {
        let nonce = getrandom::u64().map_err(|source| StoreError::Io {
            attempted: "drawing a random number",
            place: "the system".into(),
            source: source.to_string().into(),
        })?;
        Ok(Self {
            revision,
            nonce,
            ..Self::unknown()
        })
    }

    /// The next step. No two have the same mark, also if one was not made.
    pub(super) fn next(&mut self, keys: &Keys, guards: &[Guard], ops: Vec<Op>, term: u64) -> Step {
        self.count += 1;
        let guarded = |guard: &Guard| Guarded {
            row: keys.row(guard.table, &guard.key),
            table: guard.table.name(),
            key: readable(&guard.key),
            expected: guard.expected.clone(),
        };
        Step {
            mark: format!("{term} {:016x} {}", self.nonce, self.count).into_bytes(),
            follows: self.revision,
            guards: guards.iter().map(guarded).collect(),
            ops,
        }
    }

    #[cfg(test)]
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Gives the revision before which etcd may forget the past now, if at all.
    pub(super) fn made(&mut self, revision: u64) -> Option<u64> {
        self.revision = revision;
        self.compaction.written(Instant::now(), revision)
    }
}

struct Guarded {
    row: Vec<u8>,
    table: &'static str,
    key: String,
    expected: Option<Vec<u8>>,
}

/// What one transaction does, and upon what.
pub(super) struct Step {
    mark: Vec<u8>,
    follows: u64,
    guards: Vec<Guarded>,
    ops: Vec<Op>,
}

/// Whoever sends steps.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) leadership: Leadership,
    pub(super) mark_key: Vec<u8>,
    /// Longest time for one step.
    pub(super) patience: Duration,
    pub(super) place: String,
}

impl Sender {
    /// Makes a step, and gives the revision at which its mark was written.
    ///
    /// # Errors
    /// Not fatal: nothing was changed, nor will be. [`StoreError::Io`]: what came of it did not
    /// become known in time. [`StoreError::Deposed`]: another one leads, or may.
    pub(super) async fn make(self, step: Step) -> Result<u64, StoreError> {
        let txn = self.txn(&step);
        let begun = Instant::now();
        let mut pause = PAUSE_FIRST;
        // A sending that may have been made: whatever is heard later does not undo it.
        let mut unheard: Option<EtcdError> = None;
        loop {
            let Some(left) = self.left(begun)? else {
                return Err(self.unknown(unheard));
            };
            let sent = self.client.patient_for(left).txn(txn.clone()).await;
            let error = match sent {
                Ok(reply) if reply.succeeded => return Ok(reply.revision),
                Ok(reply) => return self.not_made(&step, reply),
                Err(error) => error,
            };
            if error.refusal() == Some(&Refusal::NoSpace) && unheard.is_none() {
                return self.perhaps_full(&step, begun, error).await;
            }
            match (error.outcome(), &unheard) {
                (Outcome::NotApplied, None) => return Err(failed("a write", &self.place, error)),
                (Outcome::NotApplied, Some(_)) => {}
                (Outcome::Unknown, _) => {
                    tracing::debug!(%error, "a write is sent again");
                    unheard = Some(error);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn txn(&self, step: &Step) -> Txn {
        let look = |key: &[u8]| Op::Get(Range::of(Span::key(key)));
        let mut txn = Txn::new()
            .when(self.leadership.guard())
            .when(Compare::modified_at(self.mark_key.clone(), step.follows))
            .then(Op::put(self.mark_key.clone(), step.mark.clone()))
            .otherwise(look(self.leadership.key().as_bytes()))
            .otherwise(look(&self.mark_key));
        for guard in &step.guards {
            txn = txn.otherwise(look(&guard.row)).when(match &guard.expected {
                Some(value) => Compare::value(guard.row.clone(), value.clone()),
                None => Compare::absent(guard.row.clone()),
            });
        }
        step.ops.iter().cloned().fold(txn, Txn::then)
    }

    /// How long the next call may take; none: no more time.
    fn left(&self, begun: Instant) -> Result<Option<Duration>, StoreError> {
        let now = Instant::now();
        if !self.leadership.is_valid(now) {
            return Err(lapsed());
        }
        let leading = self.leadership.leading_until().duration_since(now);
        let left = self.patience.saturating_sub(begun.elapsed()).min(leading);
        Ok((!left.is_zero()).then_some(left))
    }

    /// What did not hold, if anything.
    fn not_made(&self, step: &Step, reply: TxnReply) -> Result<u64, StoreError> {
        let mut rows = reply.replies.into_iter().map(|reply| match reply {
            Reply::Got(rows) => rows.rows.into_iter().next(),
            Reply::Put | Reply::Deleted(_) => None,
        });
        let leader = rows.next().flatten().map_or(0, |row| row.create_revision);
        if leader != self.leadership.term() {
            return Err(StoreError::Deposed {
                why: match leader {
                    0 => "nobody does".into(),
                    term => format!("the leader of term {term} does"),
                },
            });
        }
        let mark = rows.next().flatten();
        if let Some(row) = mark.as_ref().filter(|row| row.value == step.mark) {
            return Ok(row.mod_revision);
        }
        if mark.map_or(0, |row: Row| row.mod_revision) != step.follows {
            let why = "something else writes under the same leadership".into();
            return Err(StoreError::Deposed { why });
        }
        let mut guards = step.guards.iter().zip(rows);
        let failed = guards
            .find(|(guard, row)| row.as_ref().map(|row| &row.value) != guard.expected.as_ref());
        Err(match failed {
            Some((Guarded { table, key, .. }, _)) => StoreError::Conflict {
                table,
                key: key.clone(),
            },
            None => self.io("a write", "refused, and all that it was guarded by holds"),
        })
    }

    /// The write that fills etcd up is refused like those after it, but made.
    async fn perhaps_full(
        &self,
        step: &Step,
        begun: Instant,
        error: EtcdError,
    ) -> Result<u64, StoreError> {
        let Some(left) = self.left(begun)? else {
            return Err(self.unknown(Some(error)));
        };
        let look = Range::of(Span::key(self.mark_key.clone()));
        let Ok(rows) = self.client.patient_for(left).range(look).await else {
            return Err(self.unknown(Some(error)));
        };
        match rows.rows.first().filter(|row| row.value == step.mark) {
            Some(row) => Ok(row.mod_revision),
            None => Err(failed("a write", &self.place, error)),
        }
    }

    fn unknown(&self, unheard: Option<EtcdError>) -> StoreError {
        let attempted = "a write (it may have been made)";
        match unheard {
            Some(source) => self.io(attempted, source),
            None => self.io(attempted, "no time for it"),
        }
    }

    fn io(
        &self,
        attempted: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Io {
            attempted,
            place: self.place.clone(),
            source: source.into(),
        }
    }
}

/// The leadership ran out by the clock: another one may lead at any time.
pub(super) fn lapsed() -> StoreError {
    StoreError::Deposed {
        why: "etcd has not confirmed it in time, or it was given up".into(),
    }
}

/// What a call's failure means. Nothing was changed by it.
pub(super) fn failed(attempted: &'static str, place: &str, error: EtcdError) -> StoreError {
    let place = place.to_owned();
    match (&error, error.refusal()) {
        (_, Some(Refusal::NoSpace)) => StoreError::Full {
            place: format!("{place}: {}", Refusal::NoSpace),
        },
        (_, Some(Refusal::Corrupt)) => StoreError::Corrupt {
            place,
            detail: Refusal::Corrupt.to_string(),
        },
        (EtcdError::NoEndpoint { .. } | EtcdError::Unanswered { .. }, _)
        | (_, Some(Refusal::NoLeader | Refusal::Busy)) => StoreError::Away {
            attempted,
            place,
            source: Box::new(error),
        },
        _ => StoreError::Io {
            attempted,
            place,
            source: Box::new(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::etcd::rig::Rig;

    /// As etcd does now and then (`crates/etcd/tests/real/calls.rs`): the write that fills it up.
    #[test]
    fn a_write_that_was_made_and_refused_for_want_of_space_counts() {
        let rig = Rig::start();
        let keys = Keys::new("/longshore/lab");
        let sender = Sender {
            client: rig.client(),
            leadership: rig.leadership(),
            mark_key: keys.mark(),
            patience: longshore_etcd_host::PATIENCE,
            place: "etcd".into(),
        };
        let mut chain = Chain::after(0).unwrap();
        let full = || EtcdError::Refused {
            attempted: "a write".into(),
            endpoint: "here".into(),
            refusal: Refusal::NoSpace,
        };
        rig.runtime.block_on(async {
            let step = chain.next(&keys, &[], Vec::new(), 1);
            let made = sender.client.txn(sender.txn(&step)).await.unwrap();
            let now = Instant::now();
            let found = sender.perhaps_full(&step, now, full()).await.unwrap();
            assert_eq!((made.succeeded, found), (true, made.revision));
            chain.made(found);
            let other = chain.next(&keys, &[], Vec::new(), 1);
            let error = sender.perhaps_full(&other, now, full()).await.unwrap_err();
            assert!(matches!(error, StoreError::Full { .. }), "{error}");
            assert!(
                error.to_string().contains("etcdctl alarm disarm"),
                "{error}"
            );
        });
    }
}
