//! Home nodes of volumes: where data is that no other node has.
//!
//! A volume gets its home with the first replica that is placed with it, whatever service of
//! whatever app that is: the engine's name says which volume it is. From then on no replica with it
//! is placed elsewhere. The home outlives replicas and services, as the data does; it ends when the
//! volume is removed there or the node leaves the cluster. One that has none, but is on a node
//! already, has its home there. Of several copies it is the one of the node that was its home last:
//! that was written to last. Only of nodes that never were, engines' own times decide.

use std::cmp::Reverse;
use std::iter;
use std::sync::Arc;

use longshore_model::observe::NodeObserved;
use longshore_model::plan::{FormerHomes, Home};
use longshore_model::report::NodeState;
use longshore_model::{ContainerSpec, NodeId, ServiceSpec, TimeMs};

use crate::cluster::NodeSlot;
use crate::draft::Draft;
use crate::place::lasting_refusal;

/// Former homes that are kept of one volume.
const FORMER_MAX: usize = 4;
/// Volumes of which former homes are kept.
const FORMER_VOLUMES_MAX: usize = 1_024;

/// Forgets homes that are over, and finds those of volumes that were in use before there were any.
pub(crate) fn run(draft: &mut Draft<'_>) {
    forget(draft);
    for service in 0..draft.services.len() {
        adopt(draft, service);
        find(draft, service);
    }
}

/// A volume that was removed, a node that left.
fn forget(draft: &mut Draft<'_>) {
    let nodes = &draft.input.desired.nodes;
    let cluster = &draft.cluster;
    let now_ms = draft.input.now_ms;
    // One that was noted by a clock which was put back since is older than it says.
    let since_ms = |home: &Home| home.since_ms.min(now_ms);
    let goes_on = |name: &String, home: &Home| {
        // Somebody removed it there by hand, as only they may.
        let missed = home.external
            && cluster.number(&home.node).is_some_and(|number| {
                let slot = &cluster.nodes[number];
                let lacks =
                    |seen: &NodeObserved| seen.capacity.lacks(iter::once(&**name)).is_some();
                slot.state == NodeState::Ready && slot.seen.is_some_and(lacks)
            });
        let node = nodes.get(&home.node).filter(|_| !missed);
        node.is_some_and(|node| {
            let removed_ms = node.removed_volumes.get(name);
            removed_ms.is_none_or(|removed_ms| *removed_ms <= since_ms(home))
        })
    };
    let homes = draft.homes.iter();
    let over = homes.filter(|(name, home)| !goes_on(name, home));
    let over: Vec<(String, NodeId)> = over
        .map(|(name, home)| (name.clone(), home.node.clone()))
        .collect();
    for (name, node) in over {
        Arc::make_mut(&mut draft.homes).remove(&name);
        if !nodes.contains_key(&node) {
            keep_former(&mut draft.former_homes, &name, &node);
        }
    }
}

/// The node left the cluster with the data; it may come back with it.
fn keep_former(former: &mut Arc<FormerHomes>, name: &str, node: &NodeId) {
    let former = Arc::make_mut(former);
    let nodes = former.entry(name.to_owned()).or_default();
    nodes.retain(|other| other != node);
    nodes.insert(0, node.clone());
    nodes.truncate(FORMER_MAX);
    while former.len() > FORMER_VOLUMES_MAX {
        let other = former.keys().find(|other| *other != name).cloned();
        if other.and_then(|other| former.remove(&other)).is_none() {
            break;
        }
    }
}

/// The home of what runs already is where it serves, or else where it is.
fn adopt(draft: &mut Draft<'_>, service: usize) {
    let spec = draft.services[service].spec;
    if !spec.is_some_and(|spec| is_pinned(spec)) {
        return;
    }
    let unknown = |&row: &usize| {
        let spec = draft.runs(row);
        let mut volumes = spec.into_iter().flat_map(|spec| spec.local_volumes());
        draft.rows[row].node.is_some() && volumes.any(|name| !draft.homes.contains_key(name))
    };
    let rows = draft.services[service].rows.iter().copied();
    let mut rows: Vec<usize> = rows.filter(unknown).collect();
    rows.sort_by_key(|&row| {
        let leaves = draft.replica(row).is_none_or(|r| r.leaving.is_some());
        (!draft.serves(row), leaves, draft.rows[row].id)
    });
    for row in rows {
        if let (Some(spec), Some(number)) = (draft.runs(row).cloned(), draft.rows[row].node) {
            settle(draft, &spec, number);
        }
    }
}

/// Volumes of the service that have no home, and are on nodes already.
fn find(draft: &mut Draft<'_>, service: usize) {
    let Some(spec) = draft.services[service].spec.filter(|spec| is_pinned(spec)) else {
        return;
    };
    let homeless = |name: &&str| !draft.homes.contains_key(*name);
    let homeless: Vec<&str> = spec.container.local_volumes().filter(homeless).collect();
    for name in homeless {
        let nodes = 0..draft.cluster.nodes.len();
        let found = nodes.filter_map(|number| Some((rank(draft, spec, number, name)?, number)));
        // Of those that are alike the first by name.
        let found = found.max_by_key(|(rank, number)| (*rank, Reverse(*number)));
        if let Some((_, number)) = found {
            insert(draft, &spec.container, name, number);
        }
    }
}

/// Is a copy of the volume on the node, which may run the service? How lately that was its home, how
/// many of the service's volumes are there, and when the engine says that the copy was made: older
/// engines say when its folder changed last.
fn rank(
    draft: &Draft<'_>,
    spec: &ServiceSpec,
    number: usize,
    name: &str,
) -> Option<(Reverse<usize>, usize, TimeMs)> {
    let slot = &draft.cluster.nodes[number];
    let made_ms = copy(slot, name)?;
    let suits =
        slot.node.roles.worker && lasting_refusal(slot, &spec.placement, &spec.container).is_none();
    let is_there = |name: &&str| match draft.homes.get(*name) {
        Some(home) => home.node == *slot.id,
        None => copy(slot, name).is_some(),
    };
    let there = spec.container.local_volumes().filter(is_there);
    let former = draft.former_homes.get(name);
    let since = former.and_then(|nodes| nodes.iter().position(|id| id == slot.id));
    let since = Reverse(since.unwrap_or(usize::MAX));
    suits.then(|| (since, there.count(), made_ms))
}

/// Is a copy of the volume on the node, as far as it says? Since when.
fn copy(slot: &NodeSlot<'_>, name: &str) -> Option<TimeMs> {
    slot.node.copy_ms(name, &slot.seen?.capacity)
}

/// Does its data hold the service where it is? One on each node has data on each node.
pub(crate) fn is_pinned(spec: &ServiceSpec) -> bool {
    !spec.is_global() && spec.container.local_volumes().next().is_some()
}

/// The first volume of a replica whose data is on another node than number `number`, and on which.
pub(crate) fn elsewhere<'d>(
    draft: &'d Draft<'_>,
    container: &'d ContainerSpec,
    number: usize,
) -> Option<(&'d str, &'d NodeId)> {
    let id = draft.cluster.nodes[number].id;
    container.local_volumes().find_map(|name| {
        let home = &draft.homes.get(name)?.node;
        (home != id).then_some((name, home))
    })
}

/// The first volume of a replica that has a home, and which.
pub(crate) fn home<'d>(
    draft: &'d Draft<'_>,
    container: &'d ContainerSpec,
) -> Option<(&'d str, &'d NodeId)> {
    let mut volumes = container.local_volumes();
    volumes.find_map(|name| Some((name, &draft.homes.get(name)?.node)))
}

/// Volumes of a replica that is placed there have their home there from now on.
pub(crate) fn settle(draft: &mut Draft<'_>, container: &ContainerSpec, number: usize) {
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::VolumeHasNoHome) {
        return;
    }
    for name in container.local_volumes() {
        if !draft.homes.contains_key(name) {
            insert(draft, container, name, number);
        }
    }
}

fn insert(draft: &mut Draft<'_>, container: &ContainerSpec, name: &str, number: usize) {
    let home = Home {
        node: draft.cluster.nodes[number].id.clone(),
        since_ms: draft.input.now_ms,
        external: container.external_volumes().any(|other| other == name),
    };
    Arc::make_mut(&mut draft.homes).insert(name.to_owned(), home);
}

/// Can no successor of the row's replica start but on the very node where it is? Such a one moves
/// nowhere.
pub(crate) fn holds(draft: &Draft<'_>, row: usize) -> bool {
    let (Some(number), Some(spec)) = (
        draft.rows[row].node,
        draft.services[draft.rows[row].service].spec,
    ) else {
        return false;
    };
    let id = draft.cluster.nodes[number].id;
    is_pinned(spec) && home(draft, &spec.container).is_some_and(|(_, home)| home == id)
}

/// Is the replica's container to be reckoned with although its node is lost? It may come back with
/// the node, and write to the same volume as a successor there.
pub(crate) fn may_come_back(draft: &Draft<'_>, row: usize) -> bool {
    let wanted = draft.services[draft.rows[row].service].spec.is_some();
    let spec = draft.runs(row);
    wanted
        && draft.rows[row].node.is_some()
        && spec.is_some_and(|spec| spec.written_volume().is_some())
}
