//! The plan: immutable result of one planning run, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::{NodeId, ReplicaId, ServiceKey, TemplateId};
use crate::observe::ServerAnswers;
use crate::reason::{FailReason, LeaveReason, ScaleCause};
use crate::report::NodeState;
use crate::rollout::{Good, Refused, Rollout};
use crate::routes::{Backend, Routes, Server, ServerMode};
use crate::spec::{ContainerSpec, RouteSpec};

/// What the controller has decided and committed. Nodes and edges are told parts of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Counts commits.
    pub version: u64,
    /// Version that it was made from.
    pub parent: u64,
    /// Next replica id; never goes back.
    pub next_replica: u64,
    /// Services, also those that still have replicas after they left the desired state.
    pub services: BTreeMap<ServiceKey, ServicePlan>,
    /// Replicas that exist or shall exist.
    pub replicas: BTreeMap<ReplicaId, Replica>,
    /// Container specs that replicas refer to.
    pub templates: BTreeMap<TemplateId, Arc<ContainerSpec>>,
    /// Assignment generation of each node; rises with each change of its content.
    pub generations: BTreeMap<NodeId, u64>,
    /// Routes generation; rises with each change of content.
    pub routes_generation: u64,
    /// Nodes that were declared lost, and when; left when they come back.
    #[serde(default)]
    pub lost: BTreeMap<NodeId, TimeMs>,
}

/// What was decided about one service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Replicas wanted.
    pub target: u32,
    /// Its ways in, as last seen in the desired state: they outlive it while replicas drain.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
    /// Last change of `target`.
    #[serde(default)]
    pub last_change: Option<ScaleChange>,
    /// Recent changes of `target`, oldest first, for rate policies; bounded by the planner.
    #[serde(default)]
    pub changes: Vec<ScaleChange>,
    /// Manual count last obeyed (its `at_ms`).
    #[serde(default)]
    pub manual_obeyed_ms: Option<TimeMs>,
    /// `replicas` of the file when last obeyed, for services without autoscaling.
    #[serde(default)]
    pub file_replicas: u32,
    /// Failures in a row of new replicas, and when the next may start.
    #[serde(default)]
    pub failures: Option<Failures>,
    /// How long its replicas may finish their sessions, as last seen in the desired state: it
    /// outlives the service there.
    #[serde(default)]
    pub drain_ms: u64,
    /// The present or last rollout.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    /// The last revision of which every replica served.
    #[serde(default)]
    pub good: Option<Good>,
    /// What the file asks for, if that failed and was rolled back.
    #[serde(default)]
    pub refused: Option<Refused>,
}

/// Failures in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failures {
    /// Template that fails.
    pub template: TemplateId,
    /// How often.
    pub count: u32,
    /// Rounds of starts in which that was: several that fail together are one try.
    #[serde(default)]
    pub rounds: u32,
    /// No new start before this time.
    pub retry_at_ms: TimeMs,
    /// The last one.
    pub last: FailReason,
}

/// One change of a count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleChange {
    /// When.
    pub at_ms: TimeMs,
    /// Before.
    pub from: u32,
    /// After.
    pub to: u32,
    /// Why.
    pub cause: ScaleCause,
}

/// One replica: where it is, what it runs, what shall become of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// Its service.
    pub service: ServiceKey,
    /// Its place in the service, 1 is the first; unique among replicas that do not leave.
    pub slot: u32,
    /// Its node.
    pub node: NodeId,
    /// That node's address.
    pub address: IpAddr,
    /// What it runs.
    pub template: TemplateId,
    /// App revision that made it.
    pub revision: u64,
    /// Host ports reserved for it.
    pub ports: Vec<PortBinding>,
    /// When it was planned.
    pub created_ms: TimeMs,
    /// Its part in the routes.
    pub traffic: Traffic,
    /// Set once it shall leave; never unset.
    #[serde(default)]
    pub leaving: Option<Leaving>,
    /// Its node is told to stop it. Never unset.
    #[serde(default)]
    pub stop: bool,
    /// Warm standby: its node is told to pause it once its health was proven. It is in no route
    /// as long as this holds and until its node proved its health anew.
    #[serde(default)]
    pub paused: bool,
}

/// A container port and the host port on which the node publishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Port inside the container.
    pub container_port: u16,
    /// Port on the node's address.
    pub host_port: u16,
}

/// A replica's part in the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// In no route.
    #[default]
    Out,
    /// Takes requests.
    Serve,
    /// Finishes what it has.
    Drain,
}

/// A replica on its way out: drain → parked → stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaving {
    /// Why.
    pub reason: LeaveReason,
    /// Since when.
    pub since_ms: TimeMs,
    /// After this it is stopped even with sessions (recorded as forced).
    pub deadline_ms: TimeMs,
    /// Routes generation that drains it; 0 if it was in no route.
    pub drain_generation: u64,
    /// Routes generation that no longer has it; 0 until then.
    pub park_generation: u64,
    /// What the edges said.
    #[serde(default)]
    pub receipts: BTreeMap<NodeId, DrainReceipt>,
    /// Assignment generation of its node that tells it to stop; 0 until then.
    #[serde(default)]
    pub stop_generation: u64,
}

/// What one edge said about a replica that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DrainReceipt {
    /// Sessions when the edge first acknowledged the drain.
    pub sessions_at_drain: u32,
    /// Sessions when it was parked.
    pub sessions_at_park: u32,
    /// When the edge first showed zero sessions.
    pub zero_ms: Option<TimeMs>,
    /// The deadline passed, or the edge was gone.
    pub forced: bool,
    /// The edge could not be asked.
    pub edge_gone: bool,
}

/// Everything that one node must run, whole. A node obeys the highest (term, generation) only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Assignment {
    /// Rises with every change of content.
    pub generation: u64,
    /// Replicas in id order.
    pub replicas: Vec<AssignedReplica>,
    /// The specs that they refer to.
    pub templates: BTreeMap<TemplateId, Arc<ContainerSpec>>,
}

/// One replica of an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedReplica {
    /// Its id.
    pub id: ReplicaId,
    /// Its service.
    pub service: ServiceKey,
    /// Its place in the service.
    pub slot: u32,
    /// App revision that made it.
    pub revision: u64,
    /// What it runs.
    pub template: TemplateId,
    /// Host ports reserved for it.
    pub ports: Vec<PortBinding>,
    /// It shall stop (signal, grace, kill, remove). A replica that is absent shall stop as well.
    pub stop: bool,
    /// Warm standby: started, proven healthy once, then paused. Unset: it runs; one that was
    /// paused goes on and proves its health anew.
    #[serde(default)]
    pub paused: bool,
}

impl Plan {
    /// What `node` must run, with its generation.
    #[must_use]
    pub fn assignment(&self, node: &NodeId) -> Assignment {
        let replicas: Vec<AssignedReplica> = self
            .replicas
            .values()
            .filter(|replica| &replica.node == node)
            .map(Replica::assigned)
            .collect();
        let templates = replicas
            .iter()
            .filter_map(|replica| {
                let spec = self.templates.get(&replica.template)?;
                Some((replica.template.clone(), Arc::clone(spec)))
            })
            .collect();
        let generation = self.generations.get(node).copied().unwrap_or(0);
        Assignment {
            generation,
            replicas,
            templates,
        }
    }

    /// What every edge must serve.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let mut by_service: BTreeMap<&ServiceKey, Vec<&Replica>> = BTreeMap::new();
        for replica in self.replicas.values().filter(|r| r.traffic != Traffic::Out) {
            by_service
                .entry(&replica.service)
                .or_default()
                .push(replica);
        }
        let mut backends = Vec::new();
        for (key, service) in &self.services {
            let replicas = by_service.get(key).map_or(&[][..], Vec::as_slice);
            for route in &service.routes {
                let port = route.container_port;
                backends.push(Backend {
                    service: key.clone(),
                    route: route.clone(),
                    servers: replicas.iter().filter_map(|r| r.server(port)).collect(),
                });
            }
        }
        Routes {
            generation: self.routes_generation,
            backends,
        }
    }
}

impl Replica {
    /// Its entry in its node's assignment.
    #[must_use]
    pub fn assigned(&self) -> AssignedReplica {
        AssignedReplica {
            id: self.id,
            service: self.service.clone(),
            slot: self.slot,
            revision: self.revision,
            template: self.template.clone(),
            ports: self.ports.clone(),
            stop: self.stop,
            paused: self.paused,
        }
    }

    /// Name that people see: `service.slot`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.service.service, self.slot)
    }

    /// Its server entry for a container port; none if it is out or does not publish that port.
    #[must_use]
    pub fn server(&self, container_port: u16) -> Option<Server> {
        let mode = match self.traffic {
            Traffic::Out => return None,
            Traffic::Serve => ServerMode::Serve,
            Traffic::Drain => ServerMode::Drain,
        };
        let binding = self
            .ports
            .iter()
            .find(|p| p.container_port == container_port)?;
        Some(Server {
            replica: self.id,
            address: self.address,
            port: binding.host_port,
            mode,
        })
    }
}

/// What planning runs carry from one to the next without committing it: it is rebuilt after a
/// start, while nothing is scaled in, moved or declared lost.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Recommendations of each service, oldest first, bounded by the planner.
    pub recommendations: BTreeMap<ServiceKey, Vec<Recommendation>>,
    /// Since when edges have not reached a replica that its node calls healthy.
    pub unreachable_since_ms: BTreeMap<ReplicaId, TimeMs>,
    /// Since when a connected node has not listed a replica that it must know.
    #[serde(default)]
    pub missing_since_ms: BTreeMap<ReplicaId, TimeMs>,
    /// Since when a replica's own check has failed.
    #[serde(default)]
    pub unhealthy_since_ms: BTreeMap<ReplicaId, TimeMs>,
    /// Nodes on which a service's replicas failed lately; others are preferred.
    #[serde(default)]
    pub failed_on_ms: BTreeMap<ServiceKey, BTreeMap<NodeId, TimeMs>>,
    /// State of each node as last said in an event.
    #[serde(default)]
    pub node_states: BTreeMap<NodeId, NodeState>,
    /// What HAProxy had counted when the gate of a batch began to look.
    #[serde(default)]
    pub gates: BTreeMap<ServiceKey, GateMemory>,
    /// Kinds of waits of each service as last said in an event.
    #[serde(default)]
    pub said: BTreeMap<ServiceKey, BTreeSet<String>>,
}

/// Where the gate of one service's batch began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GateMemory {
    /// When.
    pub since_ms: TimeMs,
    /// Counters then, by edge and replica.
    pub base: BTreeMap<NodeId, BTreeMap<ReplicaId, ServerAnswers>>,
}

/// What the metrics asked for at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// When.
    pub at_ms: TimeMs,
    /// How many.
    pub count: u32,
}
