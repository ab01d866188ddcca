//! The loop: observe → plan → commit → execute, one run in flight.
//!
//! # Guarantees
//! - It runs on every signal (a report changed, an operator wrote, an edge acknowledged) and at
//!   least every second; signals that come close together share a run.
//! - A plan that fails the independent check, or that cannot be stored, is never executed.
//!
//! # Assumptions
//! - [`run`] is called once per process; the plan in the view is the one that is stored.
//!
//! It takes no event data and keeps no retries: the next run sees what this one missed.

mod commit;
mod execute;
pub(crate) mod names;
pub(crate) mod observe;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use longshore_model::{Memory, Observed, TimeMs};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::waiting::beside;

pub(crate) use execute::names_now;
#[cfg(feature = "mutants")]
pub use plan::let_mistakes_through;

/// At least this long from the start of one run to the next.
const GAP: Duration = Duration::from_millis(8);
/// At most this long.
const PERIOD: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub async fn run(cluster: Arc<Cluster>, stop: CancellationToken) {
    let mut memory: Arc<Memory> = Arc::default();
    let mut due = Instant::now();
    let mut last = due - GAP;
    while !stop.is_cancelled() {
        tokio::select! {
            () = cluster.wake.notified() => {}
            () = tokio::time::sleep_until(due) => {}
            () = stop.cancelled() => return,
        }
        tokio::time::sleep_until(last + GAP).await;
        last = Instant::now();
        due = last + PERIOD;
        let now_ms = cluster.now_ms();
        let (held, carried) = (Arc::clone(&cluster), Arc::clone(&memory));
        // Planning computes and committing waits for the disk: neither may stall a session.
        let run = beside(move || step(&held, carried, now_ms));
        match run.await {
            Ok(next) => {
                memory = next.memory;
                if let Some(at_ms) = next.look_again_ms {
                    due = due.min(last + Duration::from_millis(at_ms.saturating_sub(now_ms)));
                }
            }
            // A panic is a bug; the data plane goes on with what it has, and so does the loop.
            Err(error) => tracing::error!(%error, "a planning run failed"),
        }
    }
}

/// What one run leaves for the next.
pub struct Next {
    /// For the next run.
    pub memory: Arc<Memory>,
    /// When to run again at the latest, if something is timed.
    pub look_again_ms: Option<TimeMs>,
}

/// One run: decides and executes.
pub fn step(cluster: &Cluster, memory: Arc<Memory>, now_ms: TimeMs) -> Next {
    let (next, observed) = decide(cluster, memory, now_ms);
    execute(cluster, &observed);
    next
}

/// The first half of a run: observe, plan, commit. A process that ends after it has sent nothing.
pub fn decide(cluster: &Cluster, memory: Arc<Memory>, now_ms: TimeMs) -> (Next, Observed) {
    let seen = observe::observe(cluster, now_ms);
    let planned = plan::plan(cluster, &seen, &memory);
    let (learned, look_again_ms) = match &planned {
        Ok(outcome) => (Arc::clone(&outcome.memory), outcome.report.look_again_ms),
        Err(_) => (Arc::default(), None),
    };
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::CommitAfterExecute) {
        commit::execute_first(cluster, &seen, &planned);
    }
    let committed = commit::commit(cluster, &seen, planned);
    let next = Next {
        memory: if committed { learned } else { memory },
        look_again_ms,
    };
    (next, seen.observed)
}

/// The second half: sends what was committed.
pub fn execute(cluster: &Cluster, observed: &Observed) {
    execute::execute(cluster, observed);
}
