//! Services that their data holds on a node.

use std::collections::BTreeMap;

use longshore_model::{Desired, NodeId, Plan, ServiceKey};

/// Most services that are named of one node.
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
