//! Pure decisions: what the cluster shall look like next, given what is wanted, what was
//! planned and what was seen.
//!
//! # Guarantees
//! - [`plan`] is a function: no clock, no I/O, no randomness, no map order. Same input, same
//!   outcome.
//! - If nothing is to change, `outcome.plan` is `input.current`, the same `Arc`. Otherwise its
//!   version is one higher, its parent is the current version, and it shares with it every
//!   service that did not change.
//! - Planning again with the outcome and the same observations changes nothing.
//!
//! # Assumptions
//! - `input.current` is the plan last committed (or the default one).
//! - `input.memory` is the memory of the run before, or the default after a start.
//! - `started_ms` is when this process began to lead; it is what `Memory` may know from.
//!
//! # Caveats
//! The planner does not send anything and does not know what was sent; it reads from
//! acknowledged generations what nodes and edges have obeyed.

mod bounds;
mod cache;
mod certificates;
pub mod check;
mod cluster;
mod config;
mod depends;
mod draft;
mod drains;
mod each_node;
mod failures;
mod finish;
mod flaps;
mod gate;
mod handover;
mod health;
mod homes;
mod jobs;
mod liveness;
mod load;
mod place;
mod policy;
mod progress;
mod put_back;
mod queues;
mod reach;
mod rebalance;
mod recompute;
mod record;
pub mod replay;
mod report;
mod rollout;
mod scale;
mod signal;
mod verdict;
mod warm;
mod weights;
mod window;

use std::sync::Arc;

use longshore_model::{Desired, Memory, Observed, Plan, Report, TimeMs};

pub use cache::Cache;
pub use check::{Checker, Violation, check};
pub use cluster::EdgePresence;
pub use config::{PlannerConfig, RebalanceMode};
pub use progress::recompute_rollout;
pub use recompute::recompute;

use draft::Draft;

/// Everything that a planning run may look at.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// Now; read once, before the run.
    pub now_ms: TimeMs,
    /// When this controller started or became the leader.
    pub started_ms: TimeMs,
    /// What operators want.
    pub desired: &'a Arc<Desired>,
    /// The plan in force.
    pub current: &'a Arc<Plan>,
    /// What the run before remembered.
    pub memory: &'a Arc<Memory>,
    /// What was seen.
    pub observed: &'a Observed,
    /// Settings.
    pub config: &'a PlannerConfig,
}

impl PlanInput<'_> {
    /// Silence counts from here on: before, this controller was not there to hear anything.
    fn listens_since_ms(&self) -> TimeMs {
        self.started_ms.max(self.observed.watched_since_ms)
    }
}

/// Result of a planning run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The next plan; the current one itself if nothing changes.
    pub plan: Arc<Plan>,
    /// For the next run; not committed. The memory given itself if nothing changes.
    pub memory: Arc<Memory>,
    /// For people.
    pub report: Report,
}

/// Decides what comes next.
#[must_use]
pub fn plan(input: &PlanInput<'_>) -> Outcome {
    plan_with(input, &mut Cache::default())
}

/// The same with what the run before remembers: it gives what [`plan`] gives, and costs what the
/// services cost of which something changed, besides a look at every node.
#[must_use]
pub fn plan_with(input: &PlanInput<'_>, cache: &mut Cache) -> Outcome {
    let mut part = cache.begin(input);
    let mut draft = Draft::new(input, part.as_mut());
    liveness::run(&mut draft);
    if let Some(part) = &mut part {
        let keys = part.concerned(&mut draft);
        draft.load(keys);
        draft.in_order();
    }
    put_back::run(&mut draft);
    health::run(&mut draft);
    homes::run(&mut draft);
    // What was on its way out goes on first: its room may be needed.
    let leaving = handover::leaving(&draft);
    handover::run(&mut draft, &leaving);
    jobs::run(&mut draft);
    failures::run(&mut draft);
    reach::run(&mut draft);
    scale::begin(&mut draft);
    progress::run(&mut draft);
    scale::run(&mut draft);
    place::forget_failures(&mut draft);
    rebalance::run(&mut draft);
    rollout::run(&mut draft);
    // What no longer moves is a surplus, which must not wait for the next run.
    if rebalance::end(&mut draft) {
        rollout::run(&mut draft);
    }
    warm::run(&mut draft);
    let leaving = std::mem::take(&mut draft.leaving_now);
    handover::run(&mut draft, &leaving);
    queues::run(&mut draft);
    weights::run(&mut draft);
    report::run(&mut draft, part.as_ref());
    drains::run(&mut draft);
    let outcome = finish::run(&mut draft);
    cache.end(part, &mut draft, &outcome);
    outcome
}
