//! Commit: the store first, then what everybody sees.

use std::sync::Arc;

use longshore_model::Event;
use longshore_planner::Outcome;

use super::observe::Seen;
use crate::cluster::{Cluster, View};

/// Stores a changed plan with its events by compare-and-set and publishes it. Without a checked
/// plan, or without a store that takes it, the old plan stays in force and the reason is shown,
/// beside what was seen. True: committed; only then may the next run remember this one, or what
/// it had to say would be lost.
pub(super) fn commit(cluster: &Cluster, seen: &Seen, planned: Result<Outcome, String>) -> bool {
    let before = cluster.view();
    let (problem, report) = match planned {
        Err(violation) => {
            if before.problem.as_ref() != Some(&violation) {
                tracing::error!(
                    violation,
                    "the plan breaks an invariant and was not committed"
                );
            }
            (violation, None)
        }
        Ok(outcome) => {
            let at_ms = seen.now_ms;
            let events: Vec<Event> = outcome
                .report
                .events
                .iter()
                .map(|kind| Event {
                    at_ms,
                    kind: kind.clone(),
                })
                .collect();
            let records = &outcome.report.records;
            match cluster.commit(&seen.current, &outcome.plan, &events, records) {
                Ok(()) => {
                    let report = Arc::new(outcome.report);
                    cluster.set_view(View {
                        desired: Arc::clone(&seen.desired),
                        plan: outcome.plan,
                        report,
                        decided_ms: at_ms,
                        problem: None,
                    });
                    return true;
                }
                Err(error) => (error.to_string(), Some(Arc::new(outcome.report))),
            }
        }
    };
    cluster.set_view(View {
        // Seen, though nothing came of it: the reason is shown.
        desired: Arc::clone(&seen.desired),
        problem: Some(problem),
        report: report.unwrap_or_else(|| Arc::clone(&before.report)),
        ..View::clone(&before)
    });
    false
}

/// The mistake of sending a plan before it is stored.
#[cfg(feature = "mutants")]
pub(super) fn execute_first(cluster: &Cluster, seen: &Seen, planned: &Result<Outcome, String>) {
    if let Ok(outcome) = planned {
        let before = cluster.view();
        let mut early = View::clone(&before);
        early.plan = Arc::clone(&outcome.plan);
        cluster.set_view(early);
        super::execute(cluster, &seen.observed);
        cluster.set_view(View::clone(&before));
    }
}
