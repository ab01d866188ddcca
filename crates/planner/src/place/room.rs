//! Room that `max_replicas_per_node` and fixed host ports leave a service, whatever else its nodes
//! hold.

use longshore_model::plan::PortBinding;
use longshore_model::{Availability, ServiceSpec};

use super::filter::{constraint_refusal, missing};
use crate::draft::Draft;
use crate::{homes, warm};

/// Can a node be full for this service alone?
pub(crate) fn is_tight(spec: &ServiceSpec) -> bool {
    spec.placement.max_per_node > 0 || !spec.container.fixed_ports.is_empty()
}

/// Is there no node that could hold one more replica of the service beside those it has, only
/// because of `max_replicas_per_node` or a fixed host port? Then none can start first. What its own
/// replicas hold that leave, and its standbys, is free soon: waiting for that costs nobody a replica.
pub(crate) fn no_room(draft: &Draft<'_>, service: usize) -> bool {
    let Some(spec) = draft.services[service].spec else {
        return false;
    };
    // Where no node would take one anyway, stopping an old one makes no room.
    is_tight(spec) && places(draft, service, |_| true) == Some(0)
}

/// Must old ones stop before new ones start, because of room? On each node by itself a fixed host
/// port always says so.
pub(crate) fn must_stop_first(draft: &Draft<'_>, service: usize) -> bool {
    match draft.services[service].spec {
        Some(spec) if spec.is_global() => !spec.container.fixed_ports.is_empty(),
        _ => no_room(draft, service),
    }
}

/// Would the node take a replica of the service, were there room on it?
pub(crate) fn would_take(draft: &Draft<'_>, number: usize, spec: &ServiceSpec) -> bool {
    let slot = &draft.cluster.nodes[number];
    slot.takes()
        && constraint_refusal(slot, &spec.placement.constraints).is_none()
        && has_data(draft, number, spec)
}

/// Is no volume of the service held by another node, and every one there that nobody makes for it?
fn has_data(draft: &Draft<'_>, number: usize, spec: &ServiceSpec) -> bool {
    let held = homes::is_pinned(spec) && homes::elsewhere(draft, &spec.container, number).is_some();
    !held && missing(&draft.cluster.nodes[number], &spec.container).is_none()
}

/// So many more replicas of the service its nodes could hold beside those it has, as far as
/// `max_replicas_per_node` and fixed host ports decide; what its own hold that leave is free soon,
/// and so is what its standbys hold. Only nodes that are `open` count. None: no node would take any.
pub(crate) fn places(
    draft: &Draft<'_>,
    service: usize,
    open: impl Fn(usize) -> bool,
) -> Option<u32> {
    let spec = draft.services[service].spec?;
    let (max, fixed) = (spec.placement.max_per_node, &spec.container.fixed_ports);
    let mut here = vec![0_u32; draft.cluster.nodes.len()];
    let mut soon_free = vec![false; draft.cluster.nodes.len()];
    for &row in &draft.services[service].rows {
        let (Some(number), Some(replica)) = (draft.rows[row].node, draft.replica(row)) else {
            continue;
        };
        here[number] += u32::from(replica.leaving.is_none() && !replica.rests());
        let holds = |port: &PortBinding| fixed.values().any(|fixed| *fixed == port.host_port);
        // A standby goes on as the next one, or makes room for it.
        let goes = replica.leaving.is_some() || replica.paused;
        soon_free[number] |= goes && replica.ports.iter().any(holds);
    }
    let each = per_node(spec);
    let nodes = draft.cluster.held.iter();
    let nodes = nodes.zip(here.iter().zip(soon_free)).enumerate();
    let taking = nodes.filter(|(number, _)| would_take(draft, *number, spec));
    let places = taking.map(|(number, (held, (here, soon_free)))| {
        let free = soon_free || fixed.values().all(|port| !held.holds(*port));
        match (free && open(number), max) {
            (false, _) => 0,
            (true, 0) => each,
            (true, max) => each.min(max.saturating_sub(*here)),
        }
    });
    places.reduce(u32::saturating_add)
}

/// Has the node what one more replica of the service reserves, once the replica of the row `gone`
/// is gone from it? Standbys make way.
pub(crate) fn reserves(
    draft: &Draft<'_>,
    service: usize,
    number: usize,
    gone: Option<usize>,
) -> bool {
    let Some(spec) = draft.services[service].spec else {
        return false;
    };
    let (asked, held) = (spec.container.resources, &draft.cluster.held[number]);
    let frees = gone
        .and_then(|row| draft.runs(row))
        .map(|old| old.resources);
    let (freed_milli, freed_bytes) = frees.map_or((0, 0), |frees| {
        (frees.cpu_reserved_milli, frees.memory_reserved_bytes)
    });
    let reserved_milli = held.cpu_reserved_milli.saturating_sub(freed_milli);
    if reserved_milli.saturating_add(asked.cpu_reserved_milli) > held.cpu_milli {
        return false;
    }
    let reserved_bytes = held.memory_reserved_bytes.saturating_sub(freed_bytes);
    let lacks_bytes = reserved_bytes
        .saturating_add(asked.memory_reserved_bytes)
        .saturating_sub(held.memory_bytes);
    lacks_bytes == 0 || lacks_bytes <= standby_bytes(draft, number)
}

/// What standbys of any service hold of the node.
fn standby_bytes(draft: &Draft<'_>, number: usize) -> u64 {
    let here = (0..draft.rows.len()).filter(|&row| draft.rows[row].node == Some(number));
    let paused = here.filter(|&row| draft.replica(row).is_some_and(|replica| replica.paused));
    let bytes = paused.map(|row| warm::memory_bytes(draft, row));
    bytes.fold(0, u64::saturating_add)
}

/// As many replicas of a service as one node can hold at all.
fn per_node(spec: &ServiceSpec) -> u32 {
    match (
        spec.container.fixed_ports.is_empty(),
        spec.placement.max_per_node,
    ) {
        (false, _) => 1,
        (true, 0) => u32::MAX,
        (true, max) => max,
    }
}

/// So many replicas of a service fit on its nodes together, as far as `max_replicas_per_node` and
/// fixed host ports decide. Nodes that are lost or away count: they may come back; of others that
/// take nothing new, those that have one. Of a node that has more than it may, all count. What
/// leaves counts until it is gone: that one leaves is no reason for another one to follow.
pub(crate) fn fit(draft: &Draft<'_>, service: usize) -> u32 {
    let Some(spec) = draft.services[service].spec else {
        return u32::MAX;
    };
    if !is_tight(spec) {
        return u32::MAX;
    }
    let fixed = &spec.container.fixed_ports;
    let mut ours = vec![None::<u32>; draft.cluster.nodes.len()];
    let mut elsewhere = 0_u32;
    for &row in &draft.services[service].rows {
        let Some(replica) = draft.replica(row) else {
            continue;
        };
        let one = u32::from(!replica.rests());
        match draft.rows[row].node {
            Some(number) => *ours[number].get_or_insert_default() += one,
            None => elsewhere += one,
        }
    }
    let each = per_node(spec);
    let nodes = draft.cluster.nodes.iter().zip(&draft.cluster.held);
    let fitting = nodes.zip(ours).enumerate();
    let fitting = fitting.map(|(number, ((slot, held), ours))| {
        let open = |port: &u16| !held.holds(*port) && !slot.taken_by_stranger(*port);
        let takes = ours.is_some()
            || slot.node.roles.worker
                && slot.node.availability == Availability::Active
                && constraint_refusal(slot, &spec.placement.constraints).is_none()
                && has_data(draft, number, spec)
                && fixed.values().all(open);
        match takes {
            true => each.max(ours.unwrap_or(0)),
            false => 0,
        }
    });
    fitting.fold(elsewhere, u32::saturating_add)
}
