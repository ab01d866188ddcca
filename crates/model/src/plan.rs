//! The plan: immutable result of one planning run, and what follows from it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::{NodeId, ReplicaId, ServiceKey, TemplateId};
use crate::job::{Ended, Job};
use crate::reason::{FailReason, LeaveReason, ScaleCause};
use crate::receipt::DrainReceipt;
use crate::rollout::{Good, Refused, Rollout};
use crate::routes::{Backend, CLOSED_MAX, Routes, Server, ServerMode};
use crate::shared::SharedMap;
use crate::spec::{ContainerSpec, Probe, RouteSpec};
use crate::weight::Weighed;

/// What the controller has decided and committed. Nodes and edges are told parts of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Counts commits.
    pub version: u64,
    /// Version that it was made from.
    pub parent: u64,
    /// Next replica id; never goes back.
    pub next_replica: u64,
    /// Services, also those that still have replicas after they left the desired state. Plans
    /// share what did not change between them: the same `Arc` means the same decision.
    #[serde(default)]
    pub services: SharedMap<ServiceKey, Arc<ServicePlan>>,
    /// Assignment generation of each node; rises with each change of its content.
    #[serde(default)]
    pub generations: Arc<SharedMap<NodeId, u64>>,
    /// Routes generation; rises with each change of content.
    pub routes_generation: u64,
    /// Nodes that were declared lost, and when; left when they come back.
    #[serde(default)]
    pub lost: BTreeMap<NodeId, TimeMs>,
    /// Workers that were declared lost and have not stayed for long since.
    #[serde(default)]
    pub flaps: BTreeMap<NodeId, Flaps>,
    /// Home nodes of volumes whose data is on one node, by the engine's name. They outlive services
    /// and apps, as the data does.
    #[serde(default)]
    pub homes: Arc<Homes>,
    /// Nodes that left the cluster while they were the home of a volume, the last one first: what
    /// such a one still has when it is back was written to later than other copies.
    #[serde(default)]
    pub former_homes: Arc<FormerHomes>,
}

/// How a node came and went. Forgotten once it stayed for long.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flaps {
    /// How often it was declared lost since it last stayed for long.
    pub losses: u32,
    /// Since when it is back; none: it is still away.
    #[serde(default)]
    pub back_ms: Option<TimeMs>,
    /// When it was lost with replicas, which were replaced then; oldest first, bounded by the
    /// planner.
    #[serde(default)]
    pub replaced_ms: Vec<TimeMs>,
}

/// Home nodes of volumes, by the engine's name of the volume.
pub type Homes = BTreeMap<String, Home>;

/// Former home nodes, by the engine's name of the volume.
pub type FormerHomes = BTreeMap<String, Vec<NodeId>>;

/// Where the data of a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The node on which the first replica with it was placed.
    pub node: NodeId,
    /// Since when.
    pub since_ms: TimeMs,
    /// Nobody makes it for its service: without it there, the node is no home.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
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
    /// That count was said to an earlier life of the service, which ended when it was taken down.
    #[serde(default)]
    pub manual_is_stale: bool,
    /// Approval last obeyed (its `at_ms`).
    #[serde(default)]
    pub approval_obeyed_ms: Option<TimeMs>,
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
    /// It had ways in, and its file has none any more.
    #[serde(default)]
    pub ways_closed: bool,
    /// Its last replicas leave and something waits at an edge: see [`Backend::holds`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds: bool,
    /// The present or last rollout.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    /// The last revision of which every replica served.
    #[serde(default)]
    pub good: Option<Good>,
    /// What the file asks for, if that failed and was rolled back.
    #[serde(default)]
    pub refused: Option<Refused>,
    /// Where it is, if it is a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// Its replicas that move.
    #[serde(default)]
    pub moves: Vec<Move>,
    /// Its replicas' weights; none: all are equal, as they are until measurements say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weighed>,
    /// Container specs that its replicas refer to.
    #[serde(default)]
    pub templates: BTreeMap<TemplateId, Arc<ContainerSpec>>,
    /// Its replicas that exist or shall exist, the leaving ones included.
    #[serde(default)]
    pub replicas: BTreeMap<ReplicaId, Arc<Replica>>,
}

impl ServicePlan {
    /// The decision alone, with no replicas.
    #[must_use]
    pub fn without_replicas(&self) -> Self {
        Self {
            target: self.target,
            routes: self.routes.clone(),
            last_change: self.last_change.clone(),
            changes: self.changes.clone(),
            manual_obeyed_ms: self.manual_obeyed_ms,
            manual_is_stale: self.manual_is_stale,
            approval_obeyed_ms: self.approval_obeyed_ms,
            file_replicas: self.file_replicas,
            failures: self.failures.clone(),
            drain_ms: self.drain_ms,
            ways_closed: self.ways_closed,
            holds: self.holds,
            job: self.job.clone(),
            moves: self.moves.clone(),
            weights: self.weights.clone(),
            rollout: self.rollout.clone(),
            good: self.good.clone(),
            refused: self.refused.clone(),
            templates: self.templates.clone(),
            replicas: BTreeMap::new(),
        }
    }

    /// Does a route of the service lead to a port that the replica publishes?
    #[must_use]
    pub fn leads_to(&self, replica: &Replica) -> bool {
        replica.is_behind(&self.routes)
    }
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
    pub leaving: Option<Box<Leaving>>,
    /// Its node is told to stop it. Never unset.
    #[serde(default)]
    pub stop: bool,
    /// Warm standby: its node is told to pause it once its health was proven. It is in no route
    /// as long as this holds and until its node proved its health anew.
    #[serde(default)]
    pub paused: bool,
    /// It was a standby and goes on; left once its health is proven anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub woken: Option<Woken>,
    /// It is a job's and has ended; never unset. It is in no count and holds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// A standby that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woken {
    /// Since when.
    pub at_ms: TimeMs,
    /// Assignment generation of its node that says so: what the node said before it accepted that
    /// is about the time before the pause.
    pub generation: u64,
}

/// A replica that moves to another node to even out the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// It leaves once its successor serves.
    pub replica: ReplicaId,
    /// The one that was placed for it.
    pub successor: ReplicaId,
    /// When it began.
    pub since_ms: TimeMs,
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
    /// When that was decided.
    #[serde(default)]
    pub stop_ms: TimeMs,
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
    /// It is a job's and has ended: it is not started again, and what is left of it stays.
    #[serde(default)]
    pub ended: bool,
}

impl Plan {
    /// All replicas, by service, then by id.
    pub fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.services
            .values()
            .flat_map(|service| service.replicas.values())
    }

    /// Replicas of one service, by id.
    pub fn replicas_of(&self, service: &ServiceKey) -> impl Iterator<Item = &Arc<Replica>> {
        let service = self.services.get(service);
        service
            .into_iter()
            .flat_map(|service| service.replicas.values())
    }

    /// One replica. Looks into every service: for a person's question, not for a loop.
    #[must_use]
    pub fn replica(&self, id: ReplicaId) -> Option<&Arc<Replica>> {
        self.services
            .values()
            .find_map(|service| service.replicas.get(&id))
    }

    /// What a replica runs.
    #[must_use]
    pub fn template(&self, replica: &Replica) -> Option<&Arc<ContainerSpec>> {
        let service = self.services.get(&replica.service)?;
        service.templates.get(&replica.template)
    }

    /// What `node` must run, with its generation.
    #[must_use]
    pub fn assignment(&self, node: &NodeId) -> Assignment {
        self.assignments([node]).remove(node).unwrap_or_default()
    }

    /// What each of `nodes` must run, in one pass over the plan.
    #[must_use]
    pub fn assignments<'n>(
        &self,
        nodes: impl IntoIterator<Item = &'n NodeId>,
    ) -> BTreeMap<NodeId, Assignment> {
        let empty = |node: &NodeId| Assignment {
            generation: self.generations.get(node).copied().unwrap_or(0),
            ..Assignment::default()
        };
        let nodes = nodes.into_iter();
        let mut assignments: BTreeMap<NodeId, Assignment> =
            nodes.map(|node| (node.clone(), empty(node))).collect();
        for service in self.services.values() {
            for replica in service.replicas.values() {
                let Some(assignment) = assignments.get_mut(&replica.node) else {
                    continue;
                };
                assignment.replicas.push(replica.assigned());
                if let Some(spec) = service.templates.get(&replica.template) {
                    let templates = &mut assignment.templates;
                    templates.insert(replica.template.clone(), Arc::clone(spec));
                }
            }
        }
        for assignment in assignments.values_mut() {
            assignment
                .replicas
                .sort_unstable_by_key(|replica| replica.id);
        }
        assignments
    }

    /// What every edge must serve.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let (mut backends, mut closed) = (Vec::new(), Vec::new());
        for (key, service) in &self.services {
            backends.extend(service.backends(key));
            if service.ways_closed && closed.len() < CLOSED_MAX {
                closed.push(key.clone());
            }
        }
        Routes {
            generation: self.routes_generation,
            backends,
            closed,
        }
    }
}

impl ServicePlan {
    /// The service's ways in with their servers.
    pub fn backends(&self, key: &ServiceKey) -> impl Iterator<Item = Backend> {
        self.routes.iter().map(|route| {
            let port = route.container_port;
            let replicas = self.replicas.values();
            let mut route = route.clone();
            // HAProxy has one check for all servers of a backend. A path that those which serve do
            // not know would take them all out: until they are replaced, a connection is enough.
            if !self.all_answer(route.check_path.as_deref()) {
                route.check_path = None;
            }
            let servers = replicas.filter_map(|replica| {
                let mut server = replica.server(port)?;
                server.weight = Weighed::of(self.weights.as_ref(), &route, replica.id);
                Some(server)
            });
            Backend {
                service: key.clone(),
                servers: servers.collect(),
                holds: self.holds,
                route,
            }
        })
    }

    /// Were all replicas that serve started to answer this path?
    fn all_answer(&self, path: Option<&str>) -> bool {
        let answers = |spec: &ContainerSpec| {
            let probe = spec.probe.as_ref();
            path.is_none() || probe.and_then(Probe::checked_path) == path
        };
        if self.templates.values().all(|spec| answers(spec)) {
            return true;
        }
        let replicas = self.replicas.values();
        let mut serving = replicas.filter(|replica| replica.traffic == Traffic::Serve);
        serving.all(|replica| {
            let spec = self.templates.get(&replica.template);
            spec.is_none_or(|spec| answers(spec))
        })
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
            ended: self.ended.is_some(),
        }
    }

    /// It is there and in no count: a standby, or what is left of a job.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.paused || self.ended.is_some()
    }

    /// Name that people see: `service.slot`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.service.service, self.slot)
    }

    /// Does one of the routes lead to a port that it publishes?
    #[must_use]
    pub fn is_behind(&self, routes: &[RouteSpec]) -> bool {
        routes.iter().any(|route| {
            let mut ports = self.ports.iter();
            ports.any(|port| port.container_port == route.container_port)
        })
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
            weight: None,
        })
    }
}
