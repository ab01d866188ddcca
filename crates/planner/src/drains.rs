//! Nodes that are drained: how far it got, what it waits for, and its deadline.

use std::sync::Arc;

use longshore_model::memory::DrainSaid;
use longshore_model::report::DrainReport;
use longshore_model::{EventKind, Reason, ServiceKey};

use crate::draft::Draft;
use crate::homes;
use crate::put_back::drain_deadline;

/// May what is left on the row's node be stopped whatever is missing then?
pub(crate) fn is_forced(draft: &Draft<'_>, row: usize) -> bool {
    let Some(number) = draft.rows[row].node else {
        return false;
    };
    let order = draft.cluster.nodes[number].node.drain;
    let over = |deadline_ms| draft.input.now_ms >= deadline_ms;
    #[cfg(feature = "mutants")]
    let over = |deadline_ms| {
        over(deadline_ms) || longshore_model::mutant::is(longshore_model::Mutant::ForcedAtOnce)
    };
    // What its data holds there moves nowhere: nothing is gained by waiting.
    let held = || homes::holds(draft, row);
    order.is_some_and(|order| order.force && (over(drain_deadline(&draft.input, &order)) || held()))
}

/// Reports the drains of all nodes, says what changed, and notes when their deadlines are due.
pub(crate) fn run(draft: &mut Draft<'_>) {
    let numbers = draft.cluster.draining.clone();
    let known = draft.drains.keys();
    let same = known.len() == numbers.len();
    if !same || !numbers.is_empty() {
        forget(draft, &numbers);
    }
    if numbers.is_empty() {
        return;
    }
    let mut reports = left(draft, &numbers);
    for number in numbers {
        let report = reports[number].take().unwrap_or_default();
        say(draft, number, &report);
        let id = draft.cluster.nodes[number].id;
        let order = draft.cluster.nodes[number].node.drain;
        let deadline_ms = order.map(|order| drain_deadline(&draft.input, &order));
        if let Some(at_ms) = deadline_ms.filter(|at_ms| *at_ms > draft.input.now_ms) {
            let due_ms = &mut draft.report.look_again_ms;
            *due_ms = Some(due_ms.map_or(at_ms, |now| now.min(at_ms)));
        }
        let known = draft.report.nodes.get(id);
        if known.is_some_and(|known| known.drain.as_ref() != Some(&report)) {
            let nodes = Arc::make_mut(&mut draft.report.nodes);
            if let Some(node) = nodes.get_mut(id) {
                node.drain = Some(report);
            }
        }
    }
}

/// What is left on each of the nodes, in one pass over the replicas.
fn left(draft: &Draft<'_>, numbers: &[usize]) -> Vec<Option<DrainReport>> {
    let mut reports: Vec<Option<DrainReport>> = vec![None; draft.cluster.nodes.len()];
    for &number in numbers {
        let order = draft.cluster.nodes[number].node.drain;
        reports[number] = Some(DrainReport {
            late: order
                .is_some_and(|order| draft.input.now_ms >= drain_deadline(&draft.input, &order)),
            ..DrainReport::default()
        });
    }
    let waits_max = draft.input.config.refusals_max;
    for row in &draft.rows {
        let report = row.node.and_then(|number| reports[number].as_mut());
        let (Some(report), Some(replica)) = (report, row.replica()) else {
            continue;
        };
        report.left += 1;
        if replica.leaving.is_some() {
            report.leaving += 1;
        } else if report.waits.len() < waits_max {
            let key = &draft.services[row.service].key;
            let named = |(service, _): &(ServiceKey, Reason)| service == key;
            if !report.waits.iter().any(named) {
                report
                    .waits
                    .push((key.clone(), why(draft, row.service, row.id)));
            }
        }
    }
    reports
}

/// What a replica on a drained node waits for: room, the end of a back-off, or its replacement.
fn why(draft: &Draft<'_>, service: usize, replica: longshore_model::ReplicaId) -> Reason {
    let waits = &draft.services[service].waits;
    let stops =
        |reason: &&Reason| matches!(reason, Reason::Unplaceable { .. } | Reason::Backoff { .. });
    let found = waits.iter().find(stops).cloned();
    found.unwrap_or(Reason::WaitsForReplacement { replica })
}

/// Forgets nodes that are no longer drained.
fn forget(draft: &mut Draft<'_>, numbers: &[usize]) {
    let drained = |id| numbers.iter().any(|&n| draft.cluster.nodes[n].id == id);
    if draft.drains.keys().any(|id| !drained(id)) {
        let kept = draft.drains.iter().filter(|(id, _)| drained(id));
        draft.drains = Arc::new(kept.map(|(id, said)| (id.clone(), *said)).collect());
    }
}

/// An event for a drain that ended or ran out of time, once; none for what was so before the
/// controller started.
fn say(draft: &mut Draft<'_>, number: usize, report: &DrainReport) {
    let slot = &draft.cluster.nodes[number];
    let now = match (report.left, report.late) {
        (0, _) => DrainSaid::Done,
        (_, true) => DrainSaid::Late,
        (_, false) => DrainSaid::Runs,
    };
    let id = slot.id;
    let before = draft.drains.get(id).copied();
    if before == Some(now) {
        return;
    }
    let order = slot.node.drain;
    let known = draft.input.memory.node_states.contains_key(id);
    let event = match (now, order) {
        (DrainSaid::Done, Some(order)) => Some(EventKind::NodeDrained {
            node: id.clone(),
            after_ms: draft.input.now_ms.saturating_sub(order.since_ms),
        }),
        (DrainSaid::Late, Some(order)) => Some(EventKind::NodeDrainLate {
            node: id.clone(),
            left: report.left,
            force: order.force,
        }),
        _ => None,
    };
    draft.report.events.extend(event.filter(|_| known));
    Arc::make_mut(&mut draft.drains).insert(id.clone(), now);
}
