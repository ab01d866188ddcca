//! Filters: which nodes cannot take a replica, and why.

use longshore_model::NodeId;
use longshore_model::node::Availability;
use longshore_model::reason::Refusal;
use longshore_model::record::NodeFacts;
use longshore_model::report::NodeState;
use longshore_model::spec::{Constraint, ContainerSpec, NodeAttribute, PlacementSpec};

use super::Board;
use crate::cluster::{Flapping, Held, NodeSlot};
use crate::draft::Draft;
use crate::homes;

/// Why the node cannot take one more replica, if it cannot.
pub(super) fn refusal(
    slot: &NodeSlot<'_>,
    board: &Board<'_>,
    number: usize,
    draft: &Draft<'_>,
) -> Option<Refusal> {
    let refused = fit_refusal(slot, board.placement, &board.container);
    let refused = refused.or_else(|| {
        let (volume, home) = elsewhere(board, number, draft)?;
        Some(Refusal::VolumeElsewhere { volume, home })
    });
    let refused = refused.or_else(|| {
        let volume = missing(slot, &board.container)?.to_owned();
        Some(Refusal::VolumeMissing { volume })
    });
    refused.or_else(|| room_refusal(slot, board, number, draft))
}

/// The first volume whose data is on another node, and on which.
fn elsewhere(board: &Board<'_>, number: usize, draft: &Draft<'_>) -> Option<(String, NodeId)> {
    let found = board
        .is_pinned
        .then(|| homes::elsewhere(draft, &board.container, number));
    let (volume, home) = found.flatten()?;
    Some((volume.to_owned(), home.clone()))
}

/// The first volume that nobody makes for the service and that the node says it does not have.
pub(super) fn missing<'c>(slot: &NodeSlot<'_>, container: &'c ContainerSpec) -> Option<&'c str> {
    slot.seen?.capacity.lacks(container.external_volumes())
}

/// The same, whatever room and data there is: is the node fit for work, do the constraints hold there,
/// and does the image run there? That stays so during a run.
pub(crate) fn fit_refusal(
    slot: &NodeSlot<'_>,
    placement: &PlacementSpec,
    container: &ContainerSpec,
) -> Option<Refusal> {
    if !slot.node.roles.worker {
        return Some(Refusal::NotWorker);
    }
    #[cfg(feature = "mutants")]
    let draining = slot.node.availability == Availability::Draining;
    #[cfg(feature = "mutants")]
    if draining && longshore_model::mutant::is(longshore_model::Mutant::DrainingNodeTaken) {
        return None;
    }
    match slot.node.availability {
        Availability::Active => {}
        Availability::Cordoned => return Some(Refusal::Cordoned),
        Availability::Draining => return Some(Refusal::Draining),
    }
    match (slot.state, slot.seen) {
        (NodeState::EngineDown, _) => return Some(Refusal::EngineDown),
        (NodeState::RuntimeStuck, _) => return Some(Refusal::RuntimeStuck),
        (NodeState::Ready, _) if let Some(flapping) = slot.flapping => {
            return Some(flapping.refusal());
        }
        (NodeState::Ready, Some(seen)) if seen.capacity.cpu_milli == 0 => {
            return Some(Refusal::NoCapacity);
        }
        (NodeState::Ready, Some(_)) => {}
        _ => return Some(Refusal::Away),
    }
    lasting_refusal(slot, placement, container)
}

/// What stays so whatever becomes of the node: do the constraints hold there, and does the image
/// run there?
pub(crate) fn lasting_refusal(
    slot: &NodeSlot<'_>,
    placement: &PlacementSpec,
    container: &ContainerSpec,
) -> Option<Refusal> {
    let refused = constraint_refusal(slot, &placement.constraints);
    refused.or_else(|| platform_refusal(slot, container))
}

fn platform_refusal(slot: &NodeSlot<'_>, container: &ContainerSpec) -> Option<Refusal> {
    let platform = container.platform.as_ref()?;
    let capacity = &slot.seen?.capacity;
    let runs = platform.runs_on(&capacity.os, &capacity.arch);
    (!runs).then(|| Refusal::Platform {
        wanted: platform.to_string(),
        found: format!("{}/{}", capacity.os, capacity.arch),
    })
}

/// Why a node that is fit cannot take one more replica as it is now.
pub(super) fn room_refusal(
    slot: &NodeSlot<'_>,
    board: &Board<'_>,
    number: usize,
    draft: &Draft<'_>,
) -> Option<Refusal> {
    let held = &draft.cluster.held[number];
    let max = board.placement.max_per_node;
    #[cfg(feature = "mutants")]
    let max = match longshore_model::mutant::is(longshore_model::Mutant::NodeCrowded) {
        true => 0,
        false => max,
    };
    if max > 0 && board.of_service[number] >= max {
        return Some(Refusal::MaxPerNode { max });
    }
    let asked = board.container.resources;
    let free_milli = held.cpu_milli.saturating_sub(held.cpu_reserved_milli);
    if asked.cpu_reserved_milli > free_milli {
        return Some(Refusal::Cpu {
            free_milli,
            asked_milli: asked.cpu_reserved_milli,
        });
    }
    let free_bytes = held.memory_bytes.saturating_sub(held.memory_reserved_bytes);
    if asked.memory_reserved_bytes > free_bytes {
        return Some(Refusal::Memory {
            free_bytes,
            asked_bytes: asked.memory_reserved_bytes,
        });
    }
    port_refusal(slot, held, board, draft)
}

/// Is a certain host port in use there, or no port of the range left?
fn port_refusal(
    slot: &NodeSlot<'_>,
    held: &Held,
    board: &Board<'_>,
    draft: &Draft<'_>,
) -> Option<Refusal> {
    let fixed = board.container.fixed_ports.values();
    #[cfg(feature = "mutants")]
    let fixed =
        fixed.filter(|_| !longshore_model::mutant::is(longshore_model::Mutant::FixedPortTwice));
    for &port in fixed {
        if held.holds(port) || slot.taken_by_stranger(port) {
            return Some(Refusal::HostPort { port });
        }
    }
    let config = draft.input.config;
    let span = usize::from(config.port_max.saturating_sub(config.port_min)) + 1;
    let used = held.ports.len() + board.container.ports.len();
    let none = config.port_min > config.port_max || (used > span && span_used(held, draft, used));
    (none && !board.container.ports.is_empty()).then_some(Refusal::Ports)
}

/// Ports outside the range (of an earlier configuration) do not use it up.
fn span_used(held: &Held, draft: &Draft<'_>, used: usize) -> bool {
    let range = draft.input.config.port_min..=draft.input.config.port_max;
    let outside = held
        .ports
        .iter()
        .filter(|port| !range.contains(port))
        .count();
    used - outside > range.len()
}

/// The first constraint that does not hold.
pub(crate) fn constraint_refusal(
    slot: &NodeSlot<'_>,
    constraints: &[Constraint],
) -> Option<Refusal> {
    constraints.iter().find_map(|constraint| {
        let found = attribute(slot, &constraint.attribute);
        let found = || found.into_iter().flatten();
        let broken = !constraint.holds(found());
        broken.then(|| Refusal::of_constraint(constraint, &found().collect::<Vec<_>>()))
    })
}

/// All that the filters above look at, for the history.
pub(super) fn facts(
    slot: &NodeSlot<'_>,
    board: &Board<'_>,
    number: usize,
    draft: &Draft<'_>,
) -> NodeFacts {
    let held = &draft.cluster.held[number];
    let capacity = slot.seen.map(|seen| &seen.capacity);
    let constraints = board.placement.constraints.iter();
    let found = constraints.map(|constraint| {
        let values = attribute(slot, &constraint.attribute);
        values.into_iter().flatten().map(str::to_owned).collect()
    });
    let platform = board.container.platform.as_ref().and(capacity);
    let config = draft.input.config;
    let range = config.port_min..=config.port_max;
    let in_range = held.ports.iter().filter(|port| range.contains(port));
    let fixed = board.container.fixed_ports.values().copied();
    NodeFacts {
        node: slot.id.clone(),
        worker: slot.node.roles.worker,
        availability: slot.node.availability,
        state: slot.state,
        seen: slot.seen.is_some(),
        flapping: slot.flapping.map(Flapping::refusal),
        found: found.collect(),
        platform: platform.map(|has| (has.os.clone(), has.arch.clone())),
        elsewhere: elsewhere(board, number, draft),
        missing: missing(slot, &board.container).map(str::to_owned),
        of_service: board.of_service[number],
        cpu_milli: held.cpu_milli,
        cpu_reserved_milli: held.cpu_reserved_milli,
        memory_bytes: held.memory_bytes,
        memory_reserved_bytes: held.memory_reserved_bytes,
        taken: fixed
            .filter(|port| held.holds(*port) || slot.taken_by_stranger(*port))
            .collect(),
        ports_used: u32::try_from(in_range.count()).unwrap_or(u32::MAX),
        no_port: false,
    }
}

/// The values of an attribute: one, none, or several roles.
fn attribute<'n>(slot: &NodeSlot<'n>, attribute: &NodeAttribute) -> [Option<&'n str>; 2] {
    let capacity = slot.seen.map(|seen| &seen.capacity);
    let value = match attribute {
        NodeAttribute::Id | NodeAttribute::Hostname => slot.id.as_str(),
        NodeAttribute::Role => {
            let roles = slot.node.roles;
            return [
                roles.worker.then_some("worker"),
                roles.edge.then_some("edge"),
            ];
        }
        NodeAttribute::Os => capacity.map_or("", |c| &c.os),
        NodeAttribute::Arch => capacity.map_or("", |c| &c.arch),
        NodeAttribute::Label(label) => slot.node.labels.get(label).map_or("", String::as_str),
        NodeAttribute::EngineLabel(label) => capacity.map_or("", |c| {
            c.engine_labels.get(label).map_or("", String::as_str)
        }),
    };
    [Some(value), None]
}
