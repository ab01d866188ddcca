//! Plan: the pure planner, and the independent check of what it gave.

use std::sync::Arc;

use longshore_model::Memory;
use longshore_planner::{Outcome, PlanInput};

use super::observe::Seen;
use crate::cluster::Cluster;

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
    match cluster.check(&input, &outcome) {
        Ok(()) => Ok(outcome),
        Err(violation) => Err(format!(
            "the next plan breaks an invariant and is not used: {violation}"
        )),
    }
}
