//! What operators want of nodes.

use longshore_model::node::{AvailabilityNote, DrainOrder};
use longshore_model::{Availability, Event, EventKind, Node, NodeId};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::{check_labels, find, held};
use crate::cluster::{ChangeError, Cluster, Ledger};
use crate::grpc::Refusal;
use crate::store::{NodeRecord, StoredEvent};

/// Most volumes that an error names.
const VOLUMES_SHOWN: usize = 5;
const LABELS_MAX: usize = 64;
const MESSAGE_CHARS_MAX: usize = 200;
/// Longest deadline of a drain: a week.
const DRAIN_MS_MAX: u64 = 7 * 86_400_000;

pub(super) fn availability_word(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Cordoned => "cordoned",
        Availability::Draining => "draining",
    }
}

fn put(
    ledger: &mut Ledger,
    node: &Node,
    events: &[Event],
) -> Result<Vec<StoredEvent>, ChangeError<Refusal>> {
    let serials = ledger.serials.get(&node.id).cloned().unwrap_or_default();
    let record = NodeRecord {
        node: node.clone(),
        serials,
    };
    Ok(ledger.repository.put_node(&record, events)?)
}

/// Active, cordoned or draining.
pub(super) fn set_availability(
    cluster: &Cluster,
    request: &pb::SetNodeAvailabilityRequest,
    by: &str,
) -> Result<(), Refusal> {
    let availability = match request.availability() {
        pb::NodeAvailability::Active => Availability::Active,
        pb::NodeAvailability::Cordoned => Availability::Cordoned,
        pb::NodeAvailability::Draining => Availability::Draining,
        pb::NodeAvailability::Unspecified => {
            return Err(Refusal(Status::invalid_argument(
                "which availability is not said",
            )));
        }
    };
    if request.deadline_ms > DRAIN_MS_MAX {
        let rule = "the deadline of a drain is at most 7 days away";
        return Err(Refusal(Status::invalid_argument(rule)));
    }
    let deadline_ms = match request.deadline_ms {
        0 => cluster.config.planner.node_drain_ms,
        asked => asked,
    };
    let chars = request.message.chars().count();
    if chars > MESSAGE_CHARS_MAX {
        return Err(Refusal(Status::invalid_argument(format!(
            "the message has {chars} characters; at most {MESSAGE_CHARS_MAX} are allowed"
        ))));
    }
    let message: String = request
        .message
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let at_ms = cluster.now_ms();
    cluster.change(|ledger, desired| {
        let id = find::node(desired, &request.node)?;
        let Some(node) = desired.nodes.get_mut(&id) else {
            return Ok(((), Vec::new()));
        };
        let drain = (availability == Availability::Draining).then(|| DrainOrder {
            since_ms: node.drain.map_or(at_ms, |drain| drain.since_ms),
            deadline_ms: at_ms.saturating_add(deadline_ms),
            force: request.force,
        });
        // A drain may be ordered again, with another deadline or by force; and who takes back what is
        // active forgives its losses.
        if node.availability == availability && availability == Availability::Cordoned {
            return Ok(((), Vec::new()));
        }
        if availability == Availability::Active {
            node.uncordoned_ms = at_ms;
        }
        // Without a word: why it takes nothing new was said before. Ordered again, it was also
        // said by whom.
        let said = node.note.take().filter(|_| message.is_empty());
        let again = node.availability == availability;
        node.availability = availability;
        node.drain = drain;
        let note = match said {
            Some(said) if again => said,
            said => AvailabilityNote {
                at_ms,
                by: by.to_owned(),
                message: said.map_or_else(|| message.clone(), |said| said.message),
            },
        };
        node.note = (availability != Availability::Active).then_some(note);
        let kind = EventKind::NodeAvailability {
            node: id,
            availability: availability_word(availability).into(),
            by: by.to_owned(),
            message,
        };
        let events = put(ledger, node, &[Event { at_ms, kind }])?;
        Ok(((), events))
    })
}

/// Sets and removes labels.
pub(super) fn set_labels(
    cluster: &Cluster,
    request: pb::SetNodeLabelsRequest,
) -> Result<(), Refusal> {
    cluster.change(|ledger, desired| {
        let id = find::node(desired, &request.node)?;
        let Some(node) = desired.nodes.get_mut(&id) else {
            return Ok(((), Vec::new()));
        };
        let mut labels = node.labels.clone();
        labels.retain(|key, _| !request.remove.contains(key));
        labels.extend(request.set);
        check_labels(&labels, LABELS_MAX)?;
        if labels == node.labels {
            return Ok(((), Vec::new()));
        }
        node.labels = labels;
        let events = put(ledger, node, &[])?;
        Ok(((), events))
    })
}

/// A volume was removed there: if that was its home, it has none any more, and what the node said
/// of it before holds no longer.
pub(super) fn volume_removed(cluster: &Cluster, id: &NodeId, volume: &str) -> Result<(), Refusal> {
    let at_ms = cluster.now_ms();
    cluster.change(|ledger, desired| {
        let Some(node) = desired.nodes.get_mut(id) else {
            return Ok(((), Vec::new()));
        };
        node.volume_removed(volume.to_owned(), at_ms);
        let events = put(ledger, node, &[])?;
        Ok(((), events))
    })
}

/// The first few volumes of a node, each with whom it holds there.
fn shown(volumes: &[pb::NodeVolume]) -> String {
    let shown = volumes.iter().take(VOLUMES_SHOWN).map(|volume| {
        let services = volume.services.join(", ");
        match services.is_empty() {
            true => volume.name.clone(),
            false => format!("{} (of {services})", volume.name),
        }
    });
    let shown: Vec<String> = shown.collect();
    let more = match volumes.len().saturating_sub(VOLUMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

/// Why a node is not removed without force, if there is anything to say, and the way out.
fn objection(id: &NodeId, away: bool, held: usize, volumes: &[pb::NodeVolume]) -> Option<String> {
    let replicas = if held == 1 { "replica" } else { "replicas" };
    let has = match (held, volumes.is_empty()) {
        (0, true) => return None,
        (0, false) => format!("the data of {}", shown(volumes)),
        (_, true) => format!("{held} {replicas}"),
        (_, false) => format!("{held} {replicas} and the data of {}", shown(volumes)),
    };
    let given_up = match volumes.is_empty() {
        true => "",
        false => ", which gives that data up",
    };
    let way_out = match (away, held) {
        (true, _) => format!(
            "it is not connected, so nothing drains it: it comes back with all of that once its \
             agent runs and reaches the controller; or, if it is gone for good: controllerctl node \
             rm {id} --force{given_up}"
        ),
        (false, 0) => format!(
            "and no other node has it; remove what may go (controllerctl volume rm VOLUME --node \
             {id}), or remove the node with --force{given_up}"
        ),
        (false, _) if volumes.is_empty() => format!(
            "drain it first (controllerctl node drain {id}), or remove it with --force if it is \
             gone for good"
        ),
        (false, _) => format!(
            "a drain (controllerctl node drain {id}) moves what has no data there; of the rest save \
             what is needed, take it down and remove the volumes (controllerctl volume rm VOLUME \
             --node {id}), or remove the node with --force{given_up}"
        ),
    };
    let sign = if held == 0 && !away { "," } else { ";" };
    Some(format!("{id} has {has}{sign} {way_out}"))
}

/// Removes a node: its certificates are refused from then on, its session is cut at once. Says which
/// data went with it.
pub(super) fn remove(
    cluster: &Cluster,
    request: &pb::RemoveNodeRequest,
    by: &str,
) -> Result<Vec<pb::NodeVolume>, Refusal> {
    let (mut revoked, mut given_up) = (Vec::new(), Vec::new());
    let id: NodeId = cluster.change::<_, Refusal>(|ledger, desired| {
        let id = find::node(desired, &request.node)?;
        let held = cluster
            .view()
            .plan
            .replicas()
            .filter(|r| r.node == id)
            .count();
        let plan = &cluster.view().plan;
        let observed = cluster.fleet.snapshot();
        given_up = held::volumes(plan, desired, &observed, &id);
        let away = cluster.fleet.link(&id).is_none();
        let objection = objection(&id, away, held, &given_up);
        if let Some(objection) = objection.filter(|_| !request.force) {
            return Err(Status::failed_precondition(objection).into());
        }
        revoked = ledger.serials.get(&id).cloned().unwrap_or_default();
        let kind = EventKind::NodeAvailability {
            node: id.clone(),
            availability: "removed".into(),
            by: by.to_owned(),
            message: String::new(),
        };
        let event = Event {
            at_ms: cluster.now_ms(),
            kind,
        };
        let events = ledger.repository.remove_node(&id, &revoked, &[event])?;
        ledger.serials.remove(&id);
        desired.nodes.remove(&id);
        Ok((id, events))
    })?;
    cluster.trust.revoke(revoked);
    cluster.fleet.forget(&id);
    Ok(given_up)
}
