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

mod config;

use longshore_model::{Desired, Memory, Observed, Plan, Report, TimeMs};

pub use config::PlannerConfig;

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
    Outcome {
        plan: input.current.clone(),
        memory: input.memory.clone(),
        report: Report::default(),
    }
}
