//! Room that `max_replicas_per_node` and fixed host ports leave a service, whatever else its nodes
//! hold.

use longshore_model::plan::PortBinding;
use longshore_model::{Availability, ServiceSpec};

use super::filter::constraint_refusal;
use crate::cluster::NodeSlot;
use crate::draft::Draft;

/// Can a node be full for this service alone?
pub(crate) fn is_tight(spec: &ServiceSpec) -> bool {
    spec.placement.max_per_node > 0 || !spec.container.fixed_ports.is_empty()
}

/// Is there no node that could hold one more replica of the service beside those it has, only
/// because of `max_replicas_per_node` or a fixed host port? Then none can start first. What its own
/// replicas hold that leave is free soon: waiting for that costs nobody a replica.
pub(crate) fn no_room(draft: &Draft<'_>, service: usize) -> bool {
    let Some(spec) = draft.services[service].spec else {
        return false;
    };
    if !is_tight(spec) {
        return false;
    }
    let (max, fixed) = (spec.placement.max_per_node, &spec.container.fixed_ports);
    let mut here = vec![0_u32; draft.cluster.nodes.len()];
    let mut soon_free = vec![false; draft.cluster.nodes.len()];
    for &row in &draft.services[service].rows {
        let (Some(number), Some(replica)) = (draft.rows[row].node, draft.replica(row)) else {
            continue;
        };
        here[number] += u32::from(replica.leaving.is_none() && !replica.paused);
        let holds = |port: &PortBinding| fixed.values().any(|fixed| *fixed == port.host_port);
        soon_free[number] |= replica.leaving.is_some() && replica.ports.iter().any(holds);
    }
    let takes = |slot: &NodeSlot<'_>| {
        slot.takes() && constraint_refusal(slot, &spec.placement.constraints).is_none()
    };
    let held = &draft.cluster.held;
    let nodes = draft.cluster.nodes.iter().zip(held);
    let nodes = nodes.zip(here.iter().zip(soon_free));
    let mut taking = nodes.filter(|((slot, _), _)| takes(slot)).peekable();
    // Where no node would take one anyway, stopping an old one makes no room.
    let any = taking.peek().is_some();
    any && !taking.any(|((_, held), (here, soon_free))| {
        let free = soon_free || fixed.values().all(|port| !held.holds(*port));
        free && (max == 0 || *here < max)
    })
}

/// So many replicas of a service fit on its nodes together, as far as `max_replicas_per_node` and
/// fixed host ports decide. Nodes that are lost or away count: they may come back; of others that
/// take nothing new, those that have one. Of a node that has more than it may, all count.
pub(crate) fn fit(draft: &Draft<'_>, service: usize) -> u32 {
    let Some(spec) = draft.services[service].spec else {
        return u32::MAX;
    };
    let (max, fixed) = (spec.placement.max_per_node, &spec.container.fixed_ports);
    let mut ours = vec![None::<u32>; draft.cluster.nodes.len()];
    let mut soon_free = vec![false; draft.cluster.nodes.len()];
    for &row in &draft.services[service].rows {
        if let (Some(number), Some(replica)) = (draft.rows[row].node, draft.replica(row)) {
            if replica.leaving.is_none() {
                *ours[number].get_or_insert_default() += u32::from(!replica.paused);
            }
            soon_free[number] |= replica.leaving.is_some();
        }
    }
    let each = match (fixed.is_empty(), max) {
        (false, _) => 1,
        (true, 0) => return u32::MAX,
        (true, max) => max,
    };
    let nodes = draft.cluster.nodes.iter().zip(&draft.cluster.held);
    let nodes = nodes.zip(ours.iter().zip(soon_free));
    let fitting = nodes.map(|((slot, held), (ours, soon_free))| {
        let open = |port: &u16| !held.holds(*port) && !slot.taken_by_stranger(*port);
        let takes = ours.is_some()
            || slot.node.roles.worker
                && slot.node.availability == Availability::Active
                && constraint_refusal(slot, &spec.placement.constraints).is_none()
                && (soon_free || fixed.values().all(open));
        match takes {
            true => each.max(ours.unwrap_or(0)),
            false => 0,
        }
    });
    fitting.fold(0, u32::saturating_add)
}
