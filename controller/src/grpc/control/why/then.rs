//! A node as it was: from events and from decisions that looked at it.

use std::collections::BTreeMap;

use longshore_model::record::{AllNodes, NodeFacts};
use longshore_model::{Decision, DecisionKind, EventKind, NodeId, Recorded, ReplicaId, ServiceKey};
use longshore_proto::control::v1 as pb;

use super::{LOOK_MAX, Scene, decisions, word};
use crate::explain::{self, NodeThen, Seen};
use crate::grpc::Refusal;

/// Decisions shown.
const DECISIONS_MAX: usize = 8;

pub(super) fn node(
    scene: &Scene<'_>,
    id: &NodeId,
    response: &mut pb::WhyResponse,
) -> Result<(), Refusal> {
    let kinds = events(scene, id);
    let mut there: BTreeMap<ReplicaId, Option<(&ServiceKey, u32)>> = BTreeMap::new();
    for kind in kinds.iter().map(|(_, kind)| *kind) {
        let Some(replica) = kind.replica() else {
            continue;
        };
        if matches!(kind, EventKind::Gone { .. }) {
            there.remove(&replica);
            continue;
        }
        let name = kind.service().zip(kind.slot());
        let known = there.entry(replica).or_default();
        *known = name.or(*known);
    }
    let last = |wanted: fn(&EventKind) -> bool| {
        let found = kinds.iter().rev().find(|(_, kind)| wanted(kind));
        found.copied()
    };
    let about = mentions(scene, id)?;
    let seen = about.iter().rev().find_map(|recorded| seen(recorded, id));
    let names = there.iter().map(|(replica, name)| match name {
        Some((key, slot)) => format!("{}.{slot} ({replica})", key.service),
        None => replica.to_string(),
    });
    let story = NodeThen {
        id,
        session: last(is_session),
        availability: last(|kind| matches!(kind, EventKind::NodeAvailability { .. })),
        joined: last(|kind| matches!(kind, EventKind::NodeJoined { .. })).is_some(),
        replicas: names.collect(),
        seen,
        decisions: &about,
    };
    response.lines = explain::node_then(&story, scene.clock);
    response.decisions = about.iter().map(decisions::convert).collect();
    Ok(())
}

/// The events of a node that are kept, oldest first.
fn events<'s>(scene: &'s Scene<'_>, id: &NodeId) -> Vec<(u64, &'s EventKind)> {
    let events = scene.events.iter().map(|stored| &stored.event);
    let events = events.map(|event| (event.at_ms, &event.kind));
    events.filter(|(_, kind)| kind.node() == Some(id)).collect()
}

fn is_session(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::NodeConnected { .. }
            | EventKind::NodeAway { .. }
            | EventKind::NodeLost { .. }
            | EventKind::NodeBack { .. }
            | EventKind::NodeFlaps { .. }
    )
}

/// The last decisions until then that name the node, oldest first. One service after the other, so
/// that no more than one history is in memory at once.
fn mentions(scene: &Scene<'_>, id: &NodeId) -> Result<Vec<Recorded>, Refusal> {
    let mut found: Vec<Recorded> = Vec::new();
    for key in decisions::services(scene.cluster) {
        let wanted = |group: &crate::store::Group| {
            let about_nodes = !matches!(group.kind, DecisionKind::Scale | DecisionKind::Rollout);
            about_nodes && group.service == key
        };
        let kept = scene.cluster.decisions(wanted, LOOK_MAX)?;
        let until = kept
            .into_iter()
            .filter(|recorded| recorded.last_ms <= scene.clock.now_ms);
        found.extend(until.filter(|recorded| names(&recorded.record.decision, id)));
        found.sort_by_key(|recorded| recorded.last_ms);
        found.drain(..found.len().saturating_sub(DECISIONS_MAX));
    }
    Ok(found)
}

fn names(decision: &Decision, id: &NodeId) -> bool {
    match decision {
        Decision::Placement(record) => {
            let mut best = record.best.iter().map(|score| &score.node);
            let mut refused = record.refusals.iter().map(|(node, _)| node);
            let chosen = |node: &NodeId| record.choices.iter().any(|c| c.chosen.node == *node);
            let mut facts = facts(record.all.as_ref(), record.short.as_deref());
            chosen(id)
                || best.any(|node| node == id)
                || refused.any(|node| node == id)
                || facts.any(|facts| facts.node == *id)
        }
        Decision::Drain(record) => record.node == *id,
        Decision::Victims(record) => record.candidates.iter().any(|c| c.node == *id),
        Decision::Move(record) => {
            let moved = record.moved.as_ref();
            moved.is_some_and(|moved| moved.from == *id || moved.to == *id)
        }
        Decision::Scale(_) | Decision::Rollout(_) => false,
    }
}

/// What the filters looked at, the newest first.
fn facts<'r>(
    all: Option<&'r AllNodes>,
    short: Option<&'r longshore_model::record::ShortLook>,
) -> impl Iterator<Item = &'r NodeFacts> {
    let short = short.into_iter().flat_map(|look| &look.facts);
    short.chain(all.into_iter().flat_map(|all| &all.facts))
}

/// What a look for places knew of the node.
fn seen<'r>(recorded: &'r Recorded, id: &NodeId) -> Option<Seen<'r>> {
    let Decision::Placement(record) = &recorded.record.decision else {
        return None;
    };
    let mut facts = facts(record.all.as_ref(), record.short.as_deref());
    let facts = facts.find(|facts| facts.node == *id)?;
    Some(Seen {
        at_ms: recorded.last_ms,
        service: &recorded.record.service,
        state: word(&facts.state),
        facts,
        refusal: facts.refusal(&record.asked),
    })
}
