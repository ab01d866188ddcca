//! What the containers of each node reach by name: worked out from the plan, the numbers of the apps'
//! services, and the ports that replicas' images listen on.
//!
//! # Guarantees
//! - A replica is listed as long as it is in the plan's routes, with ways in or without (its own
//!   check, with doubts weighed), and is not on its way out: it is off the list before it is told to
//!   stop.
//! - A controller that began anew takes nothing away and holds nothing back: what only nodes know (ports
//!   of images, their own ports) is kept in the store, and goes for those that it does not hear of.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_model::names::{
    NAMES_MAX, Named, NamedReplica, Names, PEER_PORT, PORTS_MAX, RANGE, REVOKED_MAX, address, hosts,
};
use longshore_model::plan::{ServicePlan, Traffic};
use longshore_model::{
    AppName, Desired, NodeId, Observed, Plan, ReplicaId, ReplicaStatus, ServiceKey,
};

use crate::guests::GuestApps;
use crate::store::Said;

type Services = BTreeMap<ServiceKey, Named>;

type Statuses = Arc<BTreeMap<ReplicaId, ReplicaStatus>>;

/// What the directory follows from.
pub(crate) struct Scene<'a> {
    /// The plan in force.
    pub(crate) plan: &'a Arc<Plan>,
    /// What operators want.
    pub(crate) desired: &'a Arc<Desired>,
    /// What was seen.
    pub(crate) observed: &'a Observed,
    /// Serials that are refused.
    pub(crate) revoked: &'a Arc<HashSet<String>>,
    /// Apps that have containers on nodes beside the plan.
    pub(crate) guests: &'a GuestApps,
}

/// What a node that was heard of said.
#[derive(Debug, Clone)]
struct Heard {
    peer_port: u16,
    replicas: Statuses,
}

/// What was worked out last, and from what.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    plan: Option<Arc<Plan>>,
    desired: Option<Arc<Desired>>,
    revoked: Arc<HashSet<String>>,
    guests: GuestApps,
    nodes: BTreeMap<NodeId, Heard>,
    addresses: BTreeMap<ServiceKey, Ipv4Addr>,
    generation: u64,
    told: BTreeMap<NodeId, Arc<Names>>,
    /// What nodes said last.
    said: Said,
    /// The same, as the store has it.
    stored: Said,
}

impl Directory {
    /// Knows what the store has.
    pub(crate) fn new(said: Said) -> Self {
        Self {
            stored: said.clone(),
            said,
            ..Self::default()
        }
    }

    /// What the store has and what it shall have, where the two differ.
    pub(crate) fn unsaved(&self) -> Option<(Said, Said)> {
        let differs = self.said != self.stored;
        differs.then(|| (self.stored.clone(), self.said.clone()))
    }

    /// The store has this now.
    pub(crate) fn saved(&mut self, said: Said) {
        self.stored = said;
    }

    /// What each worker is told, worked out anew only where something of it may have changed.
    pub(crate) fn look(&mut self, scene: &Scene<'_>) -> &BTreeMap<NodeId, Arc<Names>> {
        if !self.is_current(scene) {
            self.learn(scene);
            self.work_out(scene);
        }
        &self.told
    }

    /// Numbers of services that are still told of, though their app may be gone.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> {
        let offset = |address: &Ipv4Addr| address.to_bits() ^ RANGE.to_bits();
        let offsets = self.addresses.values().map(offset);
        offsets.filter_map(|offset| u16::try_from(offset).ok())
    }

    fn is_current(&self, scene: &Scene<'_>) -> bool {
        let same_plan = self.plan.as_ref();
        let same_desired = self.desired.as_ref();
        let mut count = 0;
        let mut known = heard(scene.observed).map(|(node, seen)| {
            count += 1;
            self.nodes.get(node).is_some_and(|known| {
                known.peer_port == seen.peer_port && Arc::ptr_eq(&known.replicas, &seen.replicas)
            })
        });
        let same_nodes = known.all(|same| same);
        same_nodes
            && count == self.nodes.len()
            && same_plan.is_some_and(|known| Arc::ptr_eq(known, scene.plan))
            && same_desired.is_some_and(|known| Arc::ptr_eq(known, scene.desired))
            && Arc::ptr_eq(&self.revoked, scene.revoked)
            && self.guests == *scene.guests
    }

    fn learn(&mut self, scene: &Scene<'_>) {
        let nodes = heard(scene.observed).map(|(node, seen)| (node.clone(), seen));
        self.nodes = nodes.collect();
        self.plan = Some(Arc::clone(scene.plan));
        self.desired = Some(Arc::clone(scene.desired));
        self.revoked = Arc::clone(scene.revoked);
        self.guests.clone_from(scene.guests);
        self.hear(scene);
        // A service that was taken down keeps its address as long as it has replicas.
        let services = &scene.plan.services;
        self.addresses.retain(|key, _| services.contains_key(key));
        for key in services.keys() {
            let app = scene.desired.apps.get(&key.app);
            if let Some(number) = app.and_then(|app| app.numbers.get(&key.service)) {
                self.addresses.insert(key.clone(), address(*number));
            }
        }
    }

    /// Keeps what is new of what nodes say. Where not all replicas of a service have said what their image
    /// listens on, the others stand beside what was said before.
    fn hear(&mut self, scene: &Scene<'_>) {
        let known = |node: &NodeId| scene.desired.nodes.contains_key(node);
        let ports = &mut self.said.peer_ports;
        ports.retain(|node, _| known(node));
        let heard = self.nodes.iter().filter(|(node, _)| known(node));
        ports.extend(heard.map(|(node, heard)| (node.clone(), heard.peer_port)));
        let services = &scene.plan.services;
        self.said
            .exposed
            .retain(|key, _| services.contains_key(key));
        for (key, service) in services {
            let mut all = service.replicas.values().map(|replica| {
                let status = self.nodes.get(&replica.node)?.replicas.get(&replica.id)?;
                status.exposed.as_deref()
            });
            let mut ports = BTreeSet::new();
            let mut complete = all.len() > 0;
            for exposed in &mut all {
                complete &= exposed.is_some();
                ports.extend(exposed.into_iter().flatten());
            }
            if !complete {
                ports.extend(self.said.exposed.get(key).into_iter().flatten());
            }
            let ports: BTreeSet<u16> = ports.into_iter().take(PORTS_MAX).collect();
            if self
                .said
                .exposed
                .get(key)
                .is_none_or(|known| *known != ports)
            {
                self.said.exposed.insert(key.clone(), ports);
            }
        }
        self.said.exposed.retain(|_, ports| !ports.is_empty());
    }

    fn work_out(&mut self, scene: &Scene<'_>) {
        let revoked: BTreeSet<String> = scene.revoked.iter().cloned().collect();
        if revoked.len() > REVOKED_MAX {
            let beyond = revoked.len() - REVOKED_MAX;
            tracing::warn!(
                beyond,
                "more certificates are refused than nodes can be told of"
            );
        }
        let revoked: BTreeSet<String> = revoked.into_iter().take(REVOKED_MAX).collect();
        let (apps, at) = self.services(scene.plan);
        let workers = scene
            .desired
            .nodes
            .values()
            .filter(|node| node.roles.worker);
        let workers: BTreeSet<&NodeId> = workers.map(|node| &node.id).collect();
        self.told.retain(|node, _| workers.contains(node));
        self.generation += 1;
        for node in workers {
            let here = at.get(node).cloned().unwrap_or_default();
            let guests = self.guests.get(node).into_iter().flatten();
            let of_apps: BTreeSet<&AppName> =
                here.iter().map(|key| &key.app).chain(guests).collect();
            let all = of_apps
                .into_iter()
                .filter_map(|app| apps.get(app))
                .flatten();
            let mut services: Services = all
                .take(NAMES_MAX)
                .map(|(key, named)| (key.clone(), named.clone()))
                .collect();
            for key in here {
                if let Some(named) = services.get_mut(key)
                    && let Some(app) = scene.desired.apps.get(&key.app)
                {
                    named.hosts = hosts(app, &key.service);
                }
            }
            let told = self.told.get(node);
            if told.is_none_or(|told| told.services != services || told.revoked != revoked) {
                let names = Names {
                    generation: self.generation,
                    services,
                    revoked: revoked.clone(),
                };
                self.told.insert(node.clone(), Arc::new(names));
            }
        }
    }

    /// All services by app, and which have replicas on which node.
    fn services<'p>(&self, plan: &'p Plan) -> (ByApp<'p>, ByNode<'p>) {
        let (mut apps, mut at) = (ByApp::new(), ByNode::new());
        for (key, service) in &plan.services {
            for replica in service.replicas.values() {
                at.entry(&replica.node).or_default().insert(key);
            }
            if let Some(address) = self.addresses.get(key) {
                let named = self.named(key, service, *address);
                apps.entry(&key.app).or_default().insert(key.clone(), named);
            }
        }
        (apps, at)
    }

    fn named(&self, key: &ServiceKey, service: &ServicePlan, address: Ipv4Addr) -> Named {
        let mut ports: BTreeSet<u16> = BTreeSet::new();
        for spec in service.templates.values() {
            ports.extend(&spec.ports);
        }
        ports.extend(self.said.exposed.get(key).into_iter().flatten());
        let mut replicas = Vec::new();
        for replica in service.replicas.values() {
            if replica.traffic == Traffic::Serve && replica.leaving.is_none() {
                let peer_port = self.said.peer_ports.get(&replica.node);
                replicas.push(NamedReplica {
                    replica: replica.id,
                    node: replica.node.clone(),
                    address: replica.address,
                    // Away as it is, other agents may reach it.
                    peer_port: peer_port.copied().unwrap_or(PEER_PORT),
                });
            }
        }
        Named {
            address,
            ports: ports.into_iter().take(PORTS_MAX).collect(),
            replicas,
            hosts: BTreeMap::new(),
            drain_ms: service.drain_ms,
        }
    }
}

type ByApp<'p> = BTreeMap<&'p AppName, Services>;
type ByNode<'p> = BTreeMap<&'p NodeId, BTreeSet<&'p ServiceKey>>;

/// Nodes that have reported since the controller began.
fn heard(observed: &Observed) -> impl Iterator<Item = (&NodeId, Heard)> {
    let nodes = observed.nodes.iter();
    let heard = nodes.filter(|(_, seen)| seen.reported_ms > 0);
    heard.map(|(node, seen)| {
        let heard = Heard {
            peer_port: seen.peer_port,
            replicas: Arc::clone(&seen.replicas),
        };
        (node, heard)
    })
}
