//! What the run says beside its plan.

use std::collections::BTreeSet;

use longshore_model::plan::Traffic;
use longshore_model::report::{NodeReport, NodeState};
use longshore_model::{EventKind, Reason};

use crate::draft::{Condition, Draft};

/// Fills the report and says new waits once.
pub(crate) fn run(draft: &mut Draft<'_>) {
    say_serving(draft);
    for service in 0..draft.services.len() {
        count_replicas(draft, service);
        say_waits(draft, service);
    }
    let services = &draft.plan.services;
    draft
        .memory
        .said
        .retain(|key, _| services.contains_key(key));
    for slot in &draft.cluster.nodes {
        let reason = match slot.state {
            NodeState::Away if slot.up > 0 => Some(Reason::UnknownButServing {
                node: slot.id.clone(),
            }),
            NodeState::Away if slot.braked => draft.report.problems.first().cloned(),
            _ => None,
        };
        let report = NodeReport {
            state: slot.state,
            replicas: slot.replicas,
            cpu_reserved_milli: slot.cpu_reserved_milli,
            memory_reserved_bytes: slot.memory_reserved_bytes,
            cpu_ratio: slot.cpu_ratio,
            drain: None,
            reason,
        };
        draft.report.nodes.insert(slot.id.clone(), report);
    }
}

/// Who takes traffic from now on.
fn say_serving(draft: &mut Draft<'_>) {
    for row in &draft.rows {
        let Some(replica) = draft.plan.replicas.get(&row.id) else {
            continue;
        };
        if row.was_in || replica.traffic != Traffic::Serve {
            continue;
        }
        draft.report.events.push(EventKind::Serving {
            service: replica.service.clone(),
            slot: replica.slot,
            replica: replica.id,
            node: replica.node.clone(),
            after_ms: draft.input.now_ms.saturating_sub(replica.created_ms),
        });
    }
}

fn count_replicas(draft: &mut Draft<'_>, service: usize) {
    let slot = &draft.services[service];
    let mut counts = draft.report.services.remove(&slot.key).unwrap_or_default();
    for &row in &slot.rows {
        let Some(replica) = draft.replica(row) else {
            continue;
        };
        if replica.leaving.is_some() {
            counts.leaving += 1;
            continue;
        }
        let healthy = draft.rows[row].condition == Condition::Healthy;
        counts.planned += 1;
        counts.healthy += u32::from(healthy);
        // What HAProxy still reaches on a node that cannot tell goes on serving.
        let unknown =
            draft.rows[row].condition == Condition::Unknown && draft.rows[row].sight.up > 0;
        counts.serving += u32::from(replica.traffic == Traffic::Serve && (healthy || unknown));
        let outdated = slot
            .template
            .as_ref()
            .is_some_and(|wanted| *wanted != replica.template);
        counts.outdated += u32::from(outdated);
    }
    counts.waits.clone_from(&slot.waits);
    let key = slot.key.clone();
    if draft.plan.services.contains_key(&key) {
        draft.report.services.insert(key, counts);
    }
}

/// An event for each kind of wait that was not there the run before.
fn say_waits(draft: &mut Draft<'_>, service: usize) {
    let slot = &draft.services[service];
    let mut now = BTreeSet::new();
    let mut events = Vec::new();
    let before = draft.memory.said.get(&slot.key);
    for why in &slot.waits {
        let Some(word) = word(why) else { continue };
        if now.insert(word.to_owned()) && !before.is_some_and(|said| said.contains(word)) {
            events.push(EventKind::Waits {
                service: slot.key.clone(),
                why: why.clone(),
            });
        }
    }
    if now.is_empty() {
        draft.memory.said.remove(&slot.key);
    } else {
        draft.memory.said.insert(slot.key.clone(), now);
    }
    draft.report.events.extend(events);
}

/// Waits worth an event; the others are the ordinary course of a change.
fn word(reason: &Reason) -> Option<&'static str> {
    match reason {
        Reason::Unplaceable { .. } => Some("unplaceable"),
        Reason::Backoff { .. } => Some("backoff"),
        Reason::Quarantined { .. } => Some("quarantined"),
        Reason::UnknownButServing { .. } => Some("unknown_but_serving"),
        _ => None,
    }
}
