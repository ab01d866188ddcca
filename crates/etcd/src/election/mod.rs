//! The election of a leader: one key, which whoever makes it has, under a lease of its own.
//!
//! - *term*: the key's create revision. It only ever rises.
//! - A leadership is valid until [`Leadership::leading_until`], which lies before the earliest
//!   time at which etcd can end the lease. By then its holder must have stopped; the rest of the
//!   lease's time is for that.
//! - Each write of a leader carries [`Leadership::guard`]: clocks can be wrong, processes stand
//!   still between a look at the clock and a write, and leases have been ended too early by etcd
//!   (before 3.4.31). The guard holds all the same.
//! - A leadership that has ended is never taken up again: campaign anew, best in a new process.

mod machine;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

pub use machine::End;
use machine::{Answer, Ask, Holder, Machine, Step};

use crate::client::Client;
use crate::error::{EtcdError, Refusal};
use crate::limits::{TTL_MAX, TTL_MIN};
use crate::rows::{LeaseId, Range, Rows, Span};
use crate::txn::{Compare, Op, Reply, Txn};

const NAME_BYTES_MAX: usize = 255;
const URL_BYTES_MAX: usize = 2048;

/// Who stands, and for what.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The election's key, the same for all candidates.
    pub key: String,
    /// By what name others know this one.
    pub name: String,
    /// Where others find it when it leads.
    pub url: String,
    /// How long after its last keep-alive a dead leader is replaced; whole seconds.
    pub ttl: Duration,
}

/// Why somebody cannot stand.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("candidate {name:?}: {why}")]
pub struct CandidateError {
    name: String,
    why: String,
}

/// What is written at the key.
#[derive(Serialize, Deserialize)]
struct Who {
    name: String,
    url: String,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its name.
    pub name: String,
    /// Where to find it.
    pub url: String,
    /// The term that it leads.
    pub term: u64,
}

impl Leader {
    fn of(holder: &Holder) -> Self {
        let who = serde_json::from_slice(&holder.value).unwrap_or_else(|error| {
            tracing::warn!(%error, term = holder.term, "cannot read who leads");
            Who {
                name: "unreadable".into(),
                url: String::new(),
            }
        });
        Self {
            name: who.name,
            url: who.url,
            term: holder.term,
        }
    }
}

/// Where a candidate stands.
#[derive(Debug, Clone)]
pub enum Standing {
    /// Another leads, or nobody that is known of.
    Following(Option<Leader>),
    /// This one leads, as long as it is valid.
    Leading(Leadership),
    /// It leads, and stands, no more.
    Ended(End),
}

#[derive(Debug, Clone, Copy)]
struct Held {
    until: Instant,
    ended: Option<End>,
}

/// A leadership. Clones tell of the same one.
#[derive(Debug, Clone)]
pub struct Leadership {
    key: Arc<str>,
    term: u64,
    held: watch::Receiver<Held>,
}

impl Leadership {
    /// The term: above each one before.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The election's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Does it hold at `now`? Look right before each thing that only a leader may do.
    #[must_use]
    pub fn is_valid(&self, now: Instant) -> bool {
        let held = *self.held.borrow();
        held.ended.is_none() && now < held.until
    }

    /// Until when it holds if nothing more is heard from etcd.
    #[must_use]
    pub fn leading_until(&self) -> Instant {
        self.held.borrow().until
    }

    /// What each write of this leader carries: it is refused once the key is not this one's.
    #[must_use]
    pub fn guard(&self) -> Compare {
        Compare::created_at(self.key.as_bytes(), self.term)
    }

    /// Waits for its end. The holder must have stopped what only a leader may do by
    /// [`Self::leading_until`], so look at that as well.
    pub async fn ended(&self) -> End {
        let mut held = self.held.clone();
        let ended = held.wait_for(|held| held.ended.is_some()).await;
        ended
            .ok()
            .and_then(|held| held.ended)
            .unwrap_or(End::Lapsed)
    }
}

/// A candidacy under way. Dropped, it is given up without a word to etcd: the lease runs out.
#[derive(Debug)]
pub struct Election {
    standing: watch::Receiver<Standing>,
    resign: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Election {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Election {
    /// Where the candidate stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until that changes.
    pub async fn changed(&mut self) -> Standing {
        if self.standing.changed().await.is_err() {
            return Standing::Ended(End::Lapsed);
        }
        self.standing.borrow_and_update().clone()
    }

    /// Gives up and lets the next one lead at once. Only after all that a leader does has stopped.
    pub async fn resign(mut self) {
        if let Some(resign) = self.resign.take() {
            let _ = resign.send(());
        }
        while !matches!(self.changed().await, Standing::Ended(_)) {}
    }
}

impl Client {
    /// Stands for election, until it is won and lost again, or given up.
    ///
    /// # Errors
    /// [`CandidateError`] for a time to live that etcd would change, or too long a name.
    pub fn campaign(&self, candidate: Candidate) -> Result<Election, CandidateError> {
        let refuse = |why: String| {
            Err(CandidateError {
                name: candidate.name.chars().take(NAME_BYTES_MAX).collect(),
                why,
            })
        };
        let ttl = candidate.ttl;
        if !(TTL_MIN..=TTL_MAX).contains(&ttl) || ttl.subsec_nanos() != 0 {
            let most = TTL_MAX.as_secs();
            return refuse(format!("time to live {ttl:?}: 2 to {most} whole seconds"));
        }
        if candidate.name.len() > NAME_BYTES_MAX || candidate.url.len() > URL_BYTES_MAX {
            return refuse(format!(
                "name or URL is too long: {NAME_BYTES_MAX} and {URL_BYTES_MAX} bytes at most"
            ));
        }
        if candidate.key.is_empty() {
            return refuse("there is no key to stand for".into());
        }
        let (standing, seen) = watch::channel(Standing::Following(None));
        let (resign, resigned) = oneshot::channel();
        let driver = Driver {
            client: self.patient_for(Machine::deadline(ttl)),
            machine: Machine::new(ttl),
            origin: Instant::now(),
            candidate: Arc::new(candidate),
            standing,
            held: None,
        };
        Ok(Election {
            standing: seen,
            resign: Some(resign),
            task: tokio::spawn(driver.run(resigned)),
        })
    }
}

type Asked = Pin<Box<dyn Future<Output = (u64, Answer)> + Send>>;

struct Driver {
    client: Client,
    machine: Machine,
    origin: Instant,
    candidate: Arc<Candidate>,
    standing: watch::Sender<Standing>,
    held: Option<watch::Sender<Held>>,
}

impl Driver {
    async fn run(mut self, mut resigned: oneshot::Receiver<()>) {
        let mut hints = self.client.hints(Span::key(self.candidate.key.as_bytes()));
        let mut asked: Option<Asked> = None;
        loop {
            let step = self.machine.poll(self.origin.elapsed());
            self.publish();
            let wait = match step {
                Step::Ended(end) => return self.end(end),
                Step::Send(number, ask) => {
                    let (client, candidate) = (self.client.clone(), Arc::clone(&self.candidate));
                    asked = Some(Box::pin(async move {
                        (number, perform(&client, &candidate, ask).await)
                    }));
                    continue;
                }
                Step::Wait(wait) => wait,
            };
            let at = wait.map(|wait| tokio::time::Instant::from_std(self.origin + wait));
            tokio::select! {
                (number, answer) = of(&mut asked) => {
                    asked = None;
                    self.machine.answer(self.origin.elapsed(), number, answer);
                }
                () = hints.next() => self.machine.hint(),
                () = sleep_until(at) => {}
                Ok(()) = &mut resigned => return self.resign().await,
            }
        }
    }

    /// Says where the candidate stands, if that has changed.
    fn publish(&mut self) {
        let Some(lead) = self.machine.leads(self.origin.elapsed()) else {
            // A lapsed leadership stays until its end is said.
            if self.held.is_none() {
                let leader = self.machine.holder().map(Leader::of);
                self.standing.send_if_modified(|standing| {
                    let same = matches!(standing, Standing::Following(known) if *known == leader);
                    *standing = Standing::Following(leader.clone());
                    !same
                });
            }
            return;
        };
        let until = self.origin + lead.until;
        match &self.held {
            Some(held) => {
                held.send_if_modified(|held| std::mem::replace(&mut held.until, until) != until);
            }
            None => {
                let (held, seen) = watch::channel(Held { until, ended: None });
                self.held = Some(held);
                tracing::info!(name = %self.candidate.name, term = lead.term, "leads");
                self.standing.send_replace(Standing::Leading(Leadership {
                    key: self.candidate.key.as_str().into(),
                    term: lead.term,
                    held: seen,
                }));
            }
        }
    }

    fn end(&mut self, end: End) {
        tracing::info!(name = %self.candidate.name, why = %end, "leads no more");
        if let Some(held) = &self.held {
            held.send_modify(|held| held.ended = Some(end));
        }
        self.standing.send_replace(Standing::Ended(end));
    }

    async fn resign(&mut self) {
        let lease = self.machine.resign();
        if let Some(held) = &self.held {
            held.send_modify(|held| held.ended = Some(End::Resigned));
        }
        if let Some(lease) = lease {
            // If this fails, the lease runs out.
            let client = self.client.patient_for(self.candidate.ttl);
            if let Err(error) = client.revoke(lease).await {
                tracing::warn!(%error, "the next leader waits for the lease to run out");
            }
        }
        self.end(End::Resigned);
    }
}

async fn of(asked: &mut Option<Asked>) -> (u64, Answer) {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn perform(client: &Client, candidate: &Candidate, ask: Ask) -> Answer {
    let key = candidate.key.as_bytes();
    let answer = match ask {
        Ask::Look => client
            .range(Range::of(Span::key(key)))
            .await
            .map(|rows| Answer::Seen(holder(rows))),
        Ask::Grant => client
            .grant(candidate.ttl)
            .await
            .map(|lease| Answer::Granted(lease.id, lease.ttl)),
        Ask::Campaign(lease) => client.txn(claim(candidate, lease)).await.map(|reply| {
            match (reply.succeeded, reply.replies.into_iter().next()) {
                (true, _) => Answer::Won {
                    term: reply.revision,
                },
                (false, Some(Reply::Got(rows))) => Answer::Seen(holder(rows)),
                _ => Answer::Failed,
            }
        }),
        Ask::KeepAlive(lease) => client
            .keep_alive(lease)
            .await
            .map(|kept| kept.map_or(Answer::LeaseGone, Answer::Kept)),
        Ask::Revoke(lease) => client.revoke(lease).await.map(|()| Answer::Revoked),
    };
    answer.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &EtcdError) -> Answer {
    tracing::debug!(%error, "a step of the election failed");
    match error.refusal() {
        Some(Refusal::LeaseGone) => Answer::LeaseGone,
        _ => Answer::Failed,
    }
}

fn claim(candidate: &Candidate, lease: LeaseId) -> Txn {
    let key = candidate.key.as_bytes();
    let who = Who {
        name: candidate.name.clone(),
        url: candidate.url.clone(),
    };
    // Two strings: there is nothing in it that JSON cannot say.
    let value = serde_json::to_vec(&who).unwrap_or_default();
    Txn::new()
        .when(Compare::absent(key))
        .then(Op::put_with(key, value, lease))
        .otherwise(Op::Get(Range::of(Span::key(key))))
}

fn holder(rows: Rows) -> Option<Holder> {
    rows.rows.into_iter().next().map(|row| Holder {
        term: row.create_revision,
        lease: row.lease,
        value: row.value,
    })
}
