//! What users do with nodes.

use std::collections::BTreeMap;

use controller::store::NodeRecord;
use longshore_model::node::DrainOrder;
use longshore_model::node::Roles;
use longshore_model::{Availability, Node, NodeId};

use crate::event::HostNo;
use crate::world::World;

impl World {
    /// A node joins (again).
    pub(crate) fn join(&mut self, host: HostNo) -> bool {
        let at = &self.hosts[host];
        let node = Node {
            id: at.id.clone(),
            roles: Roles {
                worker: at.worker,
                edge: at.edge,
            },
            labels: self.labels(host),
            availability: Availability::Active,
            address: at.address,
            joined_ms: 0,
            note: None,
            drain: None,
            uncordoned_ms: 0,
            removed_volumes: BTreeMap::new(),
        };
        let acked = self.change(
            |desired| {
                desired.nodes.insert(node.id.clone(), node.clone());
            },
            |repository, _| {
                let record = NodeRecord {
                    node: node.clone(),
                    serials: Vec::new(),
                };
                repository.put_node(&record, &[])
            },
        );
        if acked {
            self.truth.left.remove(&host);
        }
        acked
    }

    fn availability(
        &mut self,
        id: &NodeId,
        availability: Availability,
        drain: Option<DrainOrder>,
    ) -> bool {
        let known = self
            .cluster()
            .is_some_and(|c| c.desired().nodes.contains_key(id));
        known
            && self.change(
                |desired| {
                    if let Some(node) = desired.nodes.get_mut(id) {
                        node.availability = availability;
                        node.drain = drain;
                    }
                },
                |repository, meant| {
                    let Some(node) = meant.nodes.get(id).cloned() else {
                        return Ok(Vec::new());
                    };
                    let serials = Vec::new();
                    repository.put_node(&NodeRecord { node, serials }, &[])
                },
            )
    }

    pub(crate) fn node_verb(&mut self) {
        let host = self.dice.below(self.hosts.len());
        let id = self.hosts[host].id.clone();
        let next = match self.dice.below(4) {
            0 => Availability::Cordoned,
            1 => Availability::Draining,
            _ => Availability::Active,
        };
        let ordered = self.scenario.rich && next == Availability::Draining;
        let drain = ordered.then(|| self.drain_order()).flatten();
        if self.availability(&id, next, drain) {
            say!(self, "user sets {id} {next:?} {drain:?}");
        }
    }

    /// A drain with a deadline. By force only where requests may fail: of a lone replica none is
    /// left then.
    fn drain_order(&mut self) -> Option<DrainOrder> {
        let within_ms = self.dice.between(1_000, 15_000);
        let force = self.dice.one_in(3) && !self.scenario.clean;
        let since_ms = self.cluster()?.now_ms();
        Some(DrainOrder {
            since_ms,
            deadline_ms: since_ms + within_ms,
            force,
        })
    }

    /// A node that holds nothing is removed, or one that left joins again.
    pub(crate) fn node_leaves(&mut self) {
        let host = self.dice.below(self.hosts.len());
        let id = self.hosts[host].id.clone();
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        if !cluster.desired().nodes.contains_key(&id) {
            if self.join(host) {
                say!(self, "{id} joins again");
            }
            return;
        }
        let plan = &cluster.view().plan;
        let held = crate::adapter::replicas(plan).any(|r| r.node == id);
        let forced = !self.scenario.clean && self.dice.one_in(4);
        if self.hosts[host].edge || (held && !forced) {
            return;
        }
        let acked = self.change(
            |desired| {
                desired.nodes.remove(&id);
            },
            |repository, _| repository.remove_node(&id, &[], &[]),
        );
        if acked {
            say!(self, "user removes {id}");
            self.volumes_are_left(host);
            cluster.fleet.forget(&id);
            self.pump();
        }
    }
}
