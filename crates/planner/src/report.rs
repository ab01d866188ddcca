//! What the run says beside its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::plan::Traffic;
use longshore_model::report::{NodeReport, NodeState};
use longshore_model::{EventKind, Reason};

use crate::cluster::NodeSlot;
use crate::draft::{Condition, Draft};

/// Fills the report and says new waits once.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        say_serving(draft, service);
    }
    let mut services = BTreeMap::new();
    for service in 0..draft.services.len() {
        count_replicas(draft, service);
        crate::record::scale(draft, service);
        say_waits(draft, service);
        let slot = &mut draft.services[service];
        if slot.spec.is_some()
            || slot
                .rows
                .iter()
                .any(|&row| draft.rows[row].replica().is_some())
        {
            services.insert(slot.key.clone(), Arc::new(std::mem::take(&mut slot.report)));
        }
    }
    draft.report.services = Arc::new(services);
    let due = draft.services.iter().filter_map(|slot| slot.due_ms);
    draft.report.look_again_ms = due.min();
    let nodes = draft.cluster.nodes.iter();
    let nodes = nodes.map(|slot| (slot.id.clone(), node_report(slot, &draft.report.problems)));
    draft.report.nodes = Arc::new(nodes.collect());
}

fn node_report(slot: &NodeSlot<'_>, problems: &[Reason]) -> NodeReport {
    let reason = match slot.state {
        NodeState::Away if slot.up > 0 => Some(Reason::UnknownButServing {
            node: slot.id.clone(),
        }),
        NodeState::Away if slot.braked => problems.first().cloned(),
        _ => None,
    };
    NodeReport {
        state: slot.state,
        replicas: slot.replicas,
        cpu_reserved_milli: slot.cpu_reserved_milli,
        memory_reserved_bytes: slot.memory_reserved_bytes,
        drain: None,
        reason,
    }
}

/// Who takes traffic from now on.
fn say_serving(draft: &mut Draft<'_>, service: usize) {
    for &row in &draft.services[service].rows {
        let row = &draft.rows[row];
        let Some(replica) = row.replica() else {
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
            started_ms: row.status.and_then(|status| status.started_ms),
            healthy_ms: row.status.and_then(|status| status.healthy_ms),
        });
    }
}

fn count_replicas(draft: &mut Draft<'_>, service: usize) {
    let mut counts = std::mem::take(&mut draft.services[service].report);
    let slot = &draft.services[service];
    let without_edges = draft.cluster.edges.is_empty();
    for &row in &slot.rows {
        let row = &draft.rows[row];
        let Some(replica) = row.replica() else {
            continue;
        };
        if replica.leaving.is_some() {
            counts.leaving += 1;
            continue;
        }
        let healthy = row.condition == Condition::Healthy;
        counts.planned += 1;
        counts.healthy += u32::from(healthy);
        // What HAProxy still reaches goes on serving, whatever its node says or cannot say.
        let reached = row.condition != Condition::Starting && row.sight.up > 0;
        let through_edges =
            without_edges || row.sight.last_routed || !draft.has_route(service, replica);
        let in_routes = replica.traffic == Traffic::Serve;
        counts.serving += u32::from(in_routes && (healthy || reached) && through_edges);
        let outdated = slot
            .template
            .as_ref()
            .is_some_and(|wanted| *wanted != replica.template);
        counts.outdated += u32::from(outdated);
    }
    counts.waits.clone_from(&slot.waits);
    draft.services[service].report = counts;
}

/// An event for each kind of wait that was not there the run before.
fn say_waits(draft: &mut Draft<'_>, service: usize) {
    let slot = &draft.services[service];
    let mut now = BTreeSet::new();
    let mut events = Vec::new();
    let before = &draft.memory(service).said;
    for why in &slot.waits {
        let Some(word) = word(why) else { continue };
        if now.insert(word.to_owned()) && !before.contains(word) {
            events.push(EventKind::Waits {
                service: slot.key.clone(),
                why: why.clone(),
            });
        }
    }
    if *before != now {
        draft.memory_mut(service).said = now;
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
        Reason::KeptInRoutes { .. } => Some("kept_in_routes"),
        _ => None,
    }
}
