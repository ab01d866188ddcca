//! Brings the engine in step with the assignment, for ever: on each new assignment, on each event
//! of the engine, and every few seconds anyway.
//!
//! # Guarantees
//! - Nothing is stopped because the controller or the engine is away.
//! - A container is found again by its label after a restart of the agent; it is not restarted.
//! - One step per replica at a time; at most two starts and four stops on the host.
//!
//! # Caveats
//! A container that somebody renamed is ours still; one whose labels were changed is not (the
//! engine offers no way to change them).

pub mod action;
mod carry;
pub mod core;
#[cfg(test)]
mod drain_tests;
#[cfg(test)]
mod exit_tests;
#[cfg(test)]
mod file_tests;
mod job;
#[cfg(test)]
mod job_tests;
#[cfg(test)]
mod tests;
mod tracked;
#[cfg(test)]
mod unclaimed_tests;
#[cfg(test)]
mod warm_tests;
#[cfg(test)]
mod writer_tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore_model::observe::EngineState;
use longshore_model::reason::FailReason;
use longshore_model::spec::ContentMap;
use longshore_model::{Assignment, Names, ReplicaId};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::action::Done;
use self::carry::{carry_out, log};
pub use self::core::{Core, Place, Snapshot, View};
use crate::backoff::Backoff;
use crate::ledger::Ledger;
use crate::mesh::Doors;
use crate::runtime::{Container, Runtime, RuntimeError};

/// Between two listings while something is on its way or the engine's events do not flow.
const BUSY_LIST: Duration = Duration::from_secs(1);
/// Between two listings otherwise: events tell sooner.
const IDLE_LIST: Duration = Duration::from_secs(5);
/// Several events become one listing.
const LIST_SPACING: Duration = Duration::from_millis(20);

/// Time on the agent's own monotonic clock; negative: before the agent started.
pub type AgentMs = i64;

/// The engine announces an end before its listing shows it: look again after these.
const FOLLOW_UPS: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// Turns the agent's monotonic clock into numbers.
#[derive(Debug, Clone, Copy)]
pub struct AgentClock(Instant);

impl AgentClock {
    /// Starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn now_ms(&self) -> AgentMs {
        i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn at(&self, ms: AgentMs) -> Instant {
        self.0 + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }
}

/// What the reconciler works with.
pub struct Reconciler<R> {
    /// The engine.
    pub runtime: Arc<R>,
    /// The decisions.
    pub core: Core,
    /// The clock that reports refer to.
    pub clock: AgentClock,
    /// Where failures are remembered.
    pub ledger: Arc<Ledger>,
    /// Assignments that the ledger has accepted.
    pub assignments: watch::Receiver<Option<Arc<Assignment>>>,
    /// What is reported.
    pub snapshots: watch::Sender<Snapshot>,
    /// Where connections by name come in. Their counts are an input of the decisions.
    pub doors: Arc<Doors>,
    /// What containers reach by name.
    pub names: watch::Receiver<Arc<Names>>,
    /// Contents of secrets and configs, as the controller sends them.
    pub contents: watch::Receiver<Arc<ContentMap>>,
}

enum Finished {
    Step(Done),
    Listed {
        began: u64,
        result: Result<Vec<Container>, RuntimeError>,
    },
    /// Something else that needs no answer.
    Nothing,
}

impl<R: Runtime> Reconciler<R> {
    /// Runs until `stop`. Steps in flight are abandoned then: the next start finds what they did.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut work: JoinSet<Finished> = JoinSet::new();
        let changed = Arc::new(Notify::new());
        let events_flow = Arc::new(AtomicBool::new(false));
        work.spawn(listen(
            Arc::clone(&self.runtime),
            Arc::clone(&changed),
            events_flow.clone(),
        ));
        let mut failed = self.core.failed();
        let mut last_list = None;
        let mut last_event = None;
        let mut listing = false;
        let mut left = self.doors.changes();
        self.take_assignment();
        self.core.hold(self.contents.borrow_and_update().clone());
        loop {
            let now_ms = self.clock.now_ms();
            // In this order: a replica that shall stop gets nothing new after it was counted.
            self.doors.set(&self.core.locals());
            self.core.connected(&self.doors.counts());
            for action in self.core.plan(now_ms) {
                let runtime = Arc::clone(&self.runtime);
                work.spawn(async move { Finished::Step(carry_out(&*runtime, action).await) });
            }
            let list_at =
                self.next_list(last_list, last_event, events_flow.load(Ordering::Relaxed));
            if !listing && list_at <= Instant::now() {
                listing = true;
                last_list = Some(Instant::now());
                work.spawn(list(Arc::clone(&self.runtime), self.core.begin_listing()));
            }
            self.publish(&mut failed, &mut work);
            // A listing in flight wakes the loop itself.
            let list_wake = (!listing).then_some(list_at);
            let wake = self.core.next_wake_ms(now_ms).map(|ms| self.clock.at(ms));
            let wake = [list_wake, wake].into_iter().flatten().min();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(joined) = work.join_next() => match joined {
                    Ok(Finished::Step(done)) => {
                        log(&done);
                        self.core.done(done, self.clock.now_ms());
                    }
                    Ok(Finished::Listed { began, result }) => {
                        listing = false;
                        self.log_engine(&result);
                        self.core.listed(began, result, self.clock.now_ms());
                    }
                    Ok(Finished::Nothing) => {}
                    Err(error) => tracing::error!(%error, "a step of the reconciler broke"),
                },
                Ok(()) = self.names.changed() => {
                    self.core.name(self.names.borrow_and_update().clone());
                }
                Ok(()) = self.contents.changed() => {
                    self.core.hold(self.contents.borrow_and_update().clone());
                }
                Ok(()) = self.assignments.changed() => self.take_assignment(),
                Ok(()) = left.changed() => {}
                () = changed.notified() => {
                    last_event = Some(Instant::now());
                    self.core.look();
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    /// The names first, as containers are made with them: they were told before, and both may be new.
    fn take_assignment(&mut self) {
        self.core.name(self.names.borrow_and_update().clone());
        let assignment = self.assignments.borrow_and_update().clone();
        if let Some(assignment) = assignment {
            self.core.keep(self.ledger.book().unclaimed);
            self.core.assign(&assignment);
        }
    }

    fn next_list(
        &self,
        last: Option<Instant>,
        event: Option<Instant>,
        events_flow: bool,
    ) -> Instant {
        let Some(last) = last else {
            return Instant::now();
        };
        if self.core.wants_list() {
            return last + LIST_SPACING;
        }
        let idle = events_flow && !self.core.is_busy();
        let regular = last + if idle { IDLE_LIST } else { BUSY_LIST };
        let follow_up = event.and_then(|at| {
            let looks = FOLLOW_UPS.into_iter().map(|after| at + after);
            looks.filter(|look| *look > last).min()
        });
        follow_up.map_or(regular, |look| look.min(regular))
    }

    fn publish(
        &mut self,
        failed: &mut BTreeMap<ReplicaId, FailReason>,
        work: &mut JoinSet<Finished>,
    ) {
        let snapshot = self.core.snapshot();
        self.snapshots.send_if_modified(|last| {
            let differs = *last != snapshot;
            if differs {
                *last = snapshot;
            }
            differs
        });
        let gone = self.core.take_forgotten();
        if !gone.is_empty() {
            let ledger = Arc::clone(&self.ledger);
            work.spawn(async move {
                if let Err(error) = ledger.forget_unclaimed(gone).await {
                    tracing::error!(error = %Chain(&error), "what was kept is not forgotten");
                }
                Finished::Nothing
            });
        }
        let now = self.core.failed();
        if now != *failed {
            for (id, reason) in now.iter().filter(|(id, _)| !failed.contains_key(id)) {
                tracing::warn!(replica = %id, %reason, "replica failed");
            }
            *failed = now.clone();
            let ledger = Arc::clone(&self.ledger);
            work.spawn(async move {
                if let Err(error) = ledger.record_failed(now).await {
                    tracing::error!(error = %Chain(&error), "failures are not remembered");
                }
                Finished::Nothing
            });
        }
    }

    fn log_engine(&self, result: &Result<Vec<Container>, RuntimeError>) {
        let was = self.snapshots.borrow().engine;
        match result {
            Err(error) if was == EngineState::Ok => {
                tracing::warn!(%error, "the engine is away; containers are left as they are");
            }
            Ok(_) if was != EngineState::Ok => tracing::info!("the engine is back"),
            _ => {}
        }
    }
}

/// An error with its causes, for logs.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Listens to the engine's events for ever, with waits where it cannot.
async fn listen<R: Runtime>(
    runtime: Arc<R>,
    changed: Arc<Notify>,
    flows: Arc<AtomicBool>,
) -> Finished {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    loop {
        let since = Instant::now();
        flows.store(true, Ordering::Relaxed);
        let error = runtime.watch(&changed).await;
        flows.store(false, Ordering::Relaxed);
        tracing::debug!(%error, "the engine's events stopped");
        // What happened meanwhile is found by listing.
        changed.notify_one();
        if since.elapsed() > Duration::from_secs(30) {
            backoff.reset();
        }
        sleep(backoff.next_wait().max(Duration::from_millis(100))).await;
    }
}

async fn list<R: Runtime>(runtime: Arc<R>, began: u64) -> Finished {
    Finished::Listed {
        began,
        result: runtime.list().await,
    }
}
