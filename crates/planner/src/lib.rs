//! Pure decisions: what the cluster shall look like next, given what is wanted, what was
//! planned and what was seen.
//!
//! # Guarantees
//! - [`plan`] is a function: no clock, no I/O, no randomness, no map order. Same input, same
//!   outcome.
//! - If nothing is to change, `outcome.plan == *input.current`, version included. Otherwise its
//!   version is one higher and its parent is the current version.
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

pub mod check;
mod cluster;
mod config;
mod draft;
mod failures;
mod handover;
mod health;
mod liveness;
mod load;
mod place;
mod policy;
mod report;
mod rollout;
mod scale;
mod signal;

use std::collections::BTreeSet;

use longshore_model::{Desired, Memory, Observed, Plan, Report, TimeMs};

pub use check::{Violation, check};
pub use config::PlannerConfig;

use draft::Draft;

/// Everything that a planning run may look at.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// Now; read once, before the run.
    pub now_ms: TimeMs,
    /// When this controller started or became the leader.
    pub started_ms: TimeMs,
    /// What operators want.
    pub desired: &'a Desired,
    /// The plan in force.
    pub current: &'a Plan,
    /// What the run before remembered.
    pub memory: &'a Memory,
    /// What was seen.
    pub observed: &'a Observed,
    /// Settings.
    pub config: &'a PlannerConfig,
}

/// Result of a planning run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The next plan; equals the current one if nothing changes.
    pub plan: Plan,
    /// For the next run; not committed.
    pub memory: Memory,
    /// For people.
    pub report: Report,
}

/// Decides what comes next.
#[must_use]
pub fn plan(input: &PlanInput<'_>) -> Outcome {
    let mut draft = Draft::new(input);
    liveness::run(&mut draft);
    health::run(&mut draft);
    // What was on its way out goes on first: its room may be needed.
    let leaving = handover::leaving(&draft);
    handover::run(&mut draft, &leaving);
    failures::run(&mut draft);
    scale::run(&mut draft);
    place::forget_failures(&mut draft);
    rollout::run(&mut draft);
    let leaving = std::mem::take(&mut draft.leaving_now);
    handover::run(&mut draft, &leaving);
    report::run(&mut draft);
    finish(draft)
}

/// Forgets what nothing refers to, raises the generations of what changed, gives the plan its
/// version.
fn finish(mut draft: Draft<'_>) -> Outcome {
    let current = draft.input.current;
    let mut routes_changed = draft.routes_changed();
    for slot in draft.services.iter().filter(|slot| slot.spec.is_none()) {
        let held = slot.rows.iter().any(|&row| draft.replica(row).is_some());
        if !held && let Some(entry) = draft.plan.services.remove(&slot.key) {
            routes_changed |= !entry.routes.is_empty();
        }
    }
    if draft.plan.replicas.len() < draft.rows.len() {
        let of = |replica: &'_ longshore_model::plan::Replica| replica.template.clone();
        let used: BTreeSet<_> = draft.plan.replicas.values().map(of).collect();
        draft.plan.templates.retain(|id, _| used.contains(id));
    }
    for slot in draft.cluster.nodes.iter().filter(|slot| slot.dirty) {
        *draft.plan.generations.entry(slot.id.clone()).or_default() += 1;
    }
    if routes_changed {
        draft.plan.routes_generation += 1;
    }
    if draft.plan != *current {
        draft.plan.version = current.version + 1;
        draft.plan.parent = current.version;
    }
    Outcome {
        plan: draft.plan,
        memory: draft.memory,
        report: draft.report,
    }
}
