//! What the run says beside its plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::observe::EdgeObserved;
use longshore_model::plan::Traffic;
use longshore_model::report::{NodeReport, NodeState, RebalanceReport};
use longshore_model::{EventKind, NodeId, Reason, SharedMap};

use crate::cache::Part;
use crate::draft::{Condition, Draft};
use crate::reach;

/// Fills the report and says new waits once.
pub(crate) fn run(draft: &mut Draft<'_>, part: Option<&Part>) {
    for service in 0..draft.services.len() {
        say_serving(draft, service);
    }
    let mut services = part
        .map(|part| Arc::clone(part.reports()))
        .unwrap_or_default();
    for service in 0..draft.services.len() {
        say_refused(draft, service);
        reach::say(draft, service);
        count_replicas(draft, service);
        if decides(draft, service) {
            crate::record::scale(draft, service);
        }
        say_waits(draft, service);
        let moves = draft.planned(service).map_or(0, |entry| entry.moves.len());
        let rebalance = RebalanceReport {
            moving: u32::try_from(moves).unwrap_or(u32::MAX),
            stays: crate::rebalance::stay(draft, service),
        };
        let slot = &mut draft.services[service];
        slot.report.rebalance = rebalance;
        let mut rows = slot.rows.iter();
        let stays = slot.spec.is_some() || rows.any(|&row| draft.rows[row].replica().is_some());
        let known = services.get(&slot.key);
        if !stays {
            if known.is_some() {
                Arc::make_mut(&mut services).remove(&slot.key);
            }
        } else if known.is_none_or(|known| **known != slot.report) {
            let report = Arc::new(std::mem::take(&mut slot.report));
            Arc::make_mut(&mut services).insert(slot.key.clone(), report);
        }
    }
    draft.report.services = services;
    let due = draft.services.iter().filter_map(|slot| slot.due_ms);
    draft.report.look_again_ms = due
        .chain(part.and_then(Part::due_ms))
        .chain(draft.due_ms)
        .min();
    draft.report.nodes = node_reports(draft, part);
}

/// Was anything decided about the count, be it that it stays? A fixed count that nobody changed is
/// no decision, and its service is not even loaded while it is settled.
fn decides(draft: &Draft<'_>, service: usize) -> bool {
    let slot = &draft.services[service];
    let measured = slot.spec.is_some_and(|spec| spec.autoscale.is_some());
    let before = slot.before.map(|before| before.target);
    measured || before != draft.planned(service).map(|entry| entry.target)
}

/// Reports of all nodes: those of the run before, but for nodes that this one touched.
fn node_reports(draft: &Draft<'_>, part: Option<&Part>) -> Arc<SharedMap<NodeId, NodeReport>> {
    let Some(part) = part else {
        let nodes = 0..draft.cluster.nodes.len();
        let reports = nodes.map(|number| {
            let id = draft.cluster.nodes[number].id.clone();
            (id, node_report(draft, number))
        });
        return Arc::new(reports.collect());
    };
    let mut reports = Arc::clone(part.node_reports());
    for &number in draft.cluster.touched() {
        let id = draft.cluster.nodes[number].id;
        let now = node_report(draft, number);
        if reports.get(id) != Some(&now) {
            Arc::make_mut(&mut reports).insert(id.clone(), now);
        }
    }
    reports
}

fn node_report(draft: &Draft<'_>, number: usize) -> NodeReport {
    let (slot, held) = (&draft.cluster.nodes[number], &draft.cluster.held[number]);
    let reason = match slot.state {
        NodeState::Away if held.up > 0 => Some(Reason::UnknownButServing {
            node: slot.id.clone(),
        }),
        NodeState::Away if slot.braked => draft.report.problems.first().cloned(),
        NodeState::Ready => slot.flapping.map(|flapping| Reason::Flapping {
            node: slot.id.clone(),
            losses: flapping.losses,
            until_ms: flapping.until_ms,
        }),
        _ => None,
    };
    NodeReport {
        state: slot.state,
        replicas: held.replicas,
        cpu_reserved_milli: held.cpu_reserved_milli,
        memory_reserved_bytes: held.memory_reserved_bytes,
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
        if row.was == Traffic::Serve || replica.traffic != Traffic::Serve {
            continue;
        }
        let woken = row.before.and_then(|before| before.woken);
        let since_ms = woken.map_or(replica.created_ms, |woken| woken.at_ms);
        draft.report.events.push(EventKind::Serving {
            service: replica.service.clone(),
            slot: replica.slot,
            replica: replica.id,
            node: replica.node.clone(),
            after_ms: draft.input.now_ms.saturating_sub(since_ms),
            // One that was taken out of the routes drains meanwhile.
            again: row.was != Traffic::Out,
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
        if replica.rests() {
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

/// Edges that cannot serve it as wanted: nothing that the planner could do mends that.
fn say_refused(draft: &mut Draft<'_>, service: usize) {
    let slot = &draft.services[service];
    if slot.spec.is_none() {
        return;
    }
    for (edge, detail) in draft.cluster.refused_by(&slot.key) {
        draft.wait(service, Reason::NotRouted { edge, detail });
    }
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
    // Nothing else tells that an edge serves it again; the other waits end with a step. An edge
    // that is away, or has just come back and does not list the service, says nothing.
    if before.contains(NOT_ROUTED) && !now.contains(NOT_ROUTED) && slot.spec.is_some() {
        let lists = |seen: &EdgeObserved| seen.servers.contains_key(&slot.key);
        let mut edges = draft.cluster.edges.iter();
        if edges.all(|edge| edge.connected && edge.seen.is_some_and(lists)) {
            let service = slot.key.clone();
            let routes = slot.spec.iter().flat_map(|spec| &spec.routes);
            let ports = routes.map(|route| route.listen_port).collect();
            events.push(EventKind::RoutedAgain { service, ports });
        } else {
            now.insert(NOT_ROUTED.to_owned());
        }
    }
    if *before != now {
        draft.memory_mut(service).said = now;
    }
    draft.report.events.extend(events);
}

/// An edge cannot serve it.
const NOT_ROUTED: &str = "not_routed";

/// Waits worth an event; the others are the ordinary course of a change.
fn word(reason: &Reason) -> Option<&'static str> {
    match reason {
        Reason::Unplaceable { .. } => Some("unplaceable"),
        Reason::Backoff { .. } => Some("backoff"),
        Reason::NoRoomToStartFirst { .. } => Some("no_room_to_start_first"),
        Reason::UnknownButServing { .. } => Some("unknown_but_serving"),
        Reason::KeptInRoutes { .. } => Some("kept_in_routes"),
        Reason::NotRouted { .. } => Some(NOT_ROUTED),
        Reason::NotReached { .. } => Some("not_reached"),
        _ => None,
    }
}
