//! Plan: the pure planner, and the independent check of what it gave.

use std::sync::Arc;

use longshore_model::Memory;
use longshore_planner::{Outcome, PlanInput};

use super::observe::Seen;
use crate::cluster::Cluster;

/// Plans are taken as they are.
#[cfg(feature = "mutants")]
static UNCHECKED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Commits plans without their check, which would stop a seeded mistake of the planner: for a
/// bench that measures what the mistake does to requests. The simulation keeps the check.
#[cfg(feature = "mutants")]
pub fn let_mistakes_through() {
    UNCHECKED.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// Plans and checks.
///
/// # Errors
/// What the check found, in words: the outcome must not be committed.
pub(super) fn plan(
    cluster: &Cluster,
    seen: &Seen,
    memory: &Arc<Memory>,
) -> Result<Outcome, String> {
    let input = PlanInput {
        now_ms: seen.now_ms,
        started_ms: cluster.started_ms,
        desired: &seen.desired,
        current: &seen.current,
        memory,
        observed: &seen.observed,
        config: &cluster.config.planner,
    };
    let outcome = cluster.plan(&input);
    #[cfg(feature = "mutants")]
    if UNCHECKED.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(outcome);
    }
    match cluster.check(&input, &outcome) {
        Ok(()) => Ok(outcome),
        Err(violation) => Err(format!(
            "the next plan breaks an invariant and is not used: {violation}"
        )),
    }
}
