//! Services that their data holds on a node.

use std::collections::BTreeMap;

use longshore_model::{Desired, NodeId, Observed, Plan, ServiceKey};
use longshore_proto::control::v1 as pb;

/// Most services that are named of one node, and of one volume, and most other nodes with a copy.
const LINES_MAX: usize = 32;

/// What its data holds on one node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Services, each with the volume.
    pub(super) lines: Vec<String>,
    /// Their replicas there, of those that stay.
    pub(super) replicas: u32,
}

/// Replicas that stay, by node, of services that no other node takes: a volume's data is there.
pub(super) fn by_node(plan: &Plan, desired: &Desired) -> BTreeMap<NodeId, Held> {
    let mut nodes: BTreeMap<NodeId, Held> = BTreeMap::new();
    let services = desired.services().filter(|(_, _, spec)| !spec.is_global());
    for (key, _, spec) in services {
        let mut volumes = spec.container.local_volumes();
        let home = volumes.find_map(|volume| Some((volume, &plan.homes.get(volume)?.node)));
        let Some((volume, node)) = home else {
            continue;
        };
        let replicas = staying(plan, &key, node);
        if replicas > 0 {
            let held = nodes.entry(node.clone()).or_default();
            held.replicas = held.replicas.saturating_add(replicas);
            if held.lines.len() < LINES_MAX {
                held.lines
                    .push(format!("{key} (its volume {volume} is there)"));
            }
        }
    }
    nodes
}

fn staying(plan: &Plan, key: &ServiceKey, node: &NodeId) -> u32 {
    let here = plan
        .replicas_of(key)
        .filter(|r| r.node == *node && r.leaving.is_none());
    u32::try_from(here.count()).unwrap_or(u32::MAX)
}

/// Volumes whose data is on the node: which services it holds there, and who else has a volume of
/// that name.
pub(super) fn volumes(
    plan: &Plan,
    desired: &Desired,
    observed: &Observed,
    node: &NodeId,
) -> Vec<pb::NodeVolume> {
    let homes = plan.homes.iter().filter(|(_, home)| home.node == *node);
    let volume = |name: &String| {
        let services = desired.services().filter(|(_, _, spec)| {
            let mut volumes = spec.container.local_volumes();
            !spec.is_global() && volumes.any(|volume| volume == name)
        });
        let has = |id: &&NodeId| {
            let seen = observed.nodes.get(*id);
            let here = seen.and_then(|seen| seen.capacity.volumes.as_ref());
            *id != node && here.is_some_and(|here| here.contains_key(name))
        };
        let copies = desired.nodes.keys().filter(has);
        pb::NodeVolume {
            name: name.clone(),
            services: services
                .take(LINES_MAX)
                .map(|(key, ..)| key.to_string())
                .collect(),
            copies: copies.take(LINES_MAX).map(ToString::to_string).collect(),
        }
    };
    homes.map(|(name, _)| volume(name)).collect()
}
