//! The cluster that a replay is made in: one service, one huge worker, one edge, and replicas that
//! are healthy one point after they were planned.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use longshore_model::autoscale::Signal;
use longshore_model::node::{Capacity, Node};
use longshore_model::observe::{
    BackendObserved, BackendSample, EdgeObserved, ExternalObserved, NodeObserved, NodeSamples,
    ReplicaSamples, Sample, SessionObserved,
};
use longshore_model::reason::ScaleCause;
use longshore_model::recording::{Load, Point, RESOLUTION_MS};
use longshore_model::{
    App, AutoscaleMode, Availability, Desired, Memory, NodeId, Observed, Plan, ReplicaId,
    ReplicaState, ReplicaStatus, Roles, ServiceKey, ServiceSpec, TimeMs,
};

use crate::config::{PlannerConfig, RebalanceMode};
use crate::{Cache, PlanInput, plan_with};

/// Before the first point the service has run for so long.
const BEFORE_MS: u64 = 3_600_000;
/// Looks at the service before the first point: its first rollout ends.
const SETTLE_LOOKS: u64 = 8;
/// Samples kept, as the controller keeps them.
const RING: usize = 128;
/// Room for whatever a file asks for.
const CPU_MILLI: u64 = 1 << 40;
const MEMORY_BYTES: u64 = 1 << 60;

pub(super) struct World {
    key: ServiceKey,
    worker: NodeId,
    edge: NodeId,
    desired: Arc<Desired>,
    plan: Arc<Plan>,
    memory: Arc<Memory>,
    config: PlannerConfig,
    cache: Cache,
    started_ms: TimeMs,
    /// Since when each replica is healthy.
    healthy: BTreeMap<ReplicaId, TimeMs>,
    seen: Samples,
}

/// What was measured, as observers would keep it.
#[derive(Default)]
struct Samples {
    node_cpu: Vec<Sample>,
    /// Of each replica.
    cpu_milli: Vec<Sample>,
    memory: Vec<Sample>,
    backend: Vec<BackendSample>,
    external: BTreeMap<String, Vec<Sample>>,
    /// Of the edge's counters, with what is not whole yet.
    requests: f64,
    errors: f64,
    last_ms: TimeMs,
}

impl World {
    /// With as many replicas as were wanted at the first point, healthy since long.
    pub(super) fn new(
        key: &ServiceKey,
        spec: &ServiceSpec,
        missing: &[&Signal],
        first: &Point,
        config: &PlannerConfig,
    ) -> Option<Self> {
        let (worker, edge) = (NodeId::new("worker").ok()?, NodeId::new("edge").ok()?);
        let started_ms = first.at_ms.saturating_sub(BEFORE_MS);
        let app = App {
            name: key.app.clone(),
            revision: 1,
            services: [(
                key.service.clone(),
                Arc::new(made_up(spec, missing, first.wanted)),
            )]
            .into(),
            applied_ms: started_ms,
            applied_by: String::new(),
            numbers: BTreeMap::new(),
        };
        let mut desired = Desired::default();
        desired.apps.insert(key.app.clone(), app);
        for (id, last) in [(&worker, 1), (&edge, 2)] {
            let node = Node {
                id: id.clone(),
                roles: Roles {
                    worker: id == &worker,
                    edge: id == &edge,
                },
                labels: BTreeMap::new(),
                availability: Availability::Active,
                address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
                joined_ms: 0,
                note: None,
                drain: None,
                uncordoned_ms: 0,
                removed_volumes: BTreeMap::new(),
            };
            desired.nodes.insert(id.clone(), node);
        }
        // Points are further apart than samples of nodes and edges.
        let stale_ms = RESOLUTION_MS * 5 / 2;
        let mut world = Self {
            key: key.clone(),
            worker,
            edge,
            desired: Arc::new(desired),
            plan: Arc::default(),
            memory: Arc::default(),
            config: PlannerConfig {
                sample_stale_ms: config.sample_stale_ms.max(stale_ms),
                external_stale_ms: config.external_stale_ms.max(stale_ms),
                observe_ms: 0,
                rebalance: RebalanceMode::Off,
                ..config.clone()
            },
            cache: Cache::default(),
            started_ms,
            healthy: BTreeMap::new(),
            seen: Samples::default(),
        };
        for look in 1..=SETTLE_LOOKS {
            let before_ms = (SETTLE_LOOKS - look) * RESOLUTION_MS + BEFORE_MS / 2;
            world.look(first.at_ms.saturating_sub(before_ms));
        }
        Some(world)
    }

    /// Replicas wanted.
    pub(super) fn target(&self) -> u32 {
        self.plan.services.get(&self.key).map_or(0, |s| s.target)
    }

    /// Why that is what it is.
    pub(super) fn last_cause(&self) -> Option<ScaleCause> {
        let service = self.plan.services.get(&self.key)?;
        service
            .last_change
            .as_ref()
            .map(|change| change.cause.clone())
    }

    /// Replicas that share the load.
    pub(super) fn ready(&self) -> u32 {
        let staying = self.staying().filter(|id| self.healthy.contains_key(id));
        u32::try_from(staying.count()).unwrap_or(u32::MAX)
    }

    fn staying(&self) -> impl Iterator<Item = ReplicaId> {
        let service = self.plan.services.get(&self.key);
        let replicas = service.into_iter().flat_map(|s| s.replicas.values());
        replicas.filter(|r| r.leaving.is_none()).map(|r| r.id)
    }

    /// One point passes: what was planned before it runs, its load is measured, and the planner
    /// decides.
    pub(super) fn pass(&mut self, point: &Point) {
        self.start(point.at_ms);
        let ready = self.ready();
        self.seen.take(point, ready);
        self.look(point.at_ms);
    }

    /// Replicas that were planned are healthy by now.
    fn start(&mut self, now_ms: TimeMs) {
        let running: Vec<ReplicaId> = self.running().collect();
        self.healthy.retain(|id, _| running.contains(id));
        for id in running {
            self.healthy.entry(id).or_insert(now_ms);
        }
    }

    fn running(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        let assignment = self.plan.assignment(&self.worker);
        let replicas = assignment.replicas.into_iter();
        replicas
            .filter(|replica| !replica.stop)
            .map(|replica| replica.id)
    }

    fn look(&mut self, now_ms: TimeMs) {
        self.start(now_ms);
        let observed = self.observed(now_ms);
        let input = PlanInput {
            now_ms,
            started_ms: self.started_ms,
            desired: &self.desired,
            current: &self.plan,
            memory: &self.memory,
            observed: &observed,
            config: &self.config,
        };
        let outcome = plan_with(&input, &mut self.cache);
        self.plan = outcome.plan;
        self.memory = outcome.memory;
    }

    fn observed(&self, now_ms: TimeMs) -> Observed {
        let session = SessionObserved {
            connected: true,
            last_echo_ms: now_ms,
            since_ms: 0,
        };
        let of_replica = ReplicaSamples {
            memory_bytes: 0,
            memory_samples: Arc::new(self.seen.memory.clone()),
            cpu_milli: self.seen.cpu_milli.clone(),
        };
        let samples = NodeSamples {
            cpu_ratio: self.seen.node_cpu.clone(),
            replicas: self
                .healthy
                .keys()
                .map(|id| (*id, of_replica.clone()))
                .collect(),
            ..NodeSamples::default()
        };
        let worker = NodeObserved {
            session,
            capacity: Arc::new(Capacity {
                cpu_milli: CPU_MILLI,
                memory_bytes: MEMORY_BYTES,
                os: "linux".into(),
                arch: "amd64".into(),
                ..Capacity::default()
            }),
            assignment_generation: self.plan.assignment(&self.worker).generation,
            reported_ms: now_ms,
            replicas: Arc::new(self.healthy.iter().map(status).collect()),
            samples: Arc::new(samples),
            ..NodeObserved::default()
        };
        let backend = BackendObserved {
            samples: Arc::new(self.seen.backend.clone()),
            ..BackendObserved::default()
        };
        let edge = EdgeObserved {
            session,
            routes_generation: self.plan.routes_generation,
            reported_ms: now_ms,
            backends: [(self.key.clone(), backend)].into(),
            ..EdgeObserved::default()
        };
        let answer = |(query, samples): (&String, &Vec<Sample>)| {
            let answers = ExternalObserved {
                samples: Arc::new(samples.clone()),
                problem: None,
                tried_ms: Some(now_ms),
            };
            (query.clone(), answers)
        };
        let external = self.seen.external.iter().map(answer).collect();
        Observed {
            nodes: [(self.worker.clone(), Arc::new(worker))].into(),
            edges: [(self.edge.clone(), Arc::new(edge))].into(),
            external: [(self.key.clone(), external)].into(),
            watched_since_ms: 0,
        }
    }
}

fn status((id, since_ms): (&ReplicaId, &TimeMs)) -> (ReplicaId, ReplicaStatus) {
    let status = ReplicaStatus {
        id: *id,
        state: ReplicaState::Healthy,
        reason: None,
        container_id: None,
        started_ms: Some(*since_ms),
        healthy_ms: Some(*since_ms),
        restarts: 0,
        exit: None,
        exposed: None,
    };
    (*id, status)
}

/// The service, fit for one worker: what only says where replicas go is left out, and the policy
/// acts, whatever its mode, on what is recorded.
fn made_up(spec: &ServiceSpec, missing: &[&Signal], replicas: u32) -> ServiceSpec {
    let mut spec = spec.clone();
    spec.replicas = replicas;
    spec.placement = longshore_model::spec::PlacementSpec::default();
    spec.depends_on = BTreeMap::new();
    spec.container.mounts = Vec::new();
    spec.container.platform = None;
    // Nothing of it keeps a session.
    spec.drain_ms = 0;
    if let Some(policy) = &mut spec.autoscale {
        policy.mode = AutoscaleMode::On;
        policy.warm = 0;
        policy
            .metrics
            .retain(|metric| !missing.contains(&&metric.signal));
        policy.steps.retain(|rule| !missing.contains(&&rule.signal));
    }
    spec
}

fn push<T>(ring: &mut Vec<T>, sample: T) {
    ring.push(sample);
    ring.drain(..ring.len().saturating_sub(RING));
}

impl Samples {
    /// Takes what was measured until a point, shared by `ready` replicas.
    fn take(&mut self, point: &Point, ready: u32) {
        let at_ms = point.at_ms;
        let each = |load| {
            let total = point.load(load).filter(|_| ready > 0)?;
            Some(total / f64::from(ready))
        };
        let sample = |value| Sample { at_ms, value };
        if let Some(value) = each(Load::Cpu) {
            push(&mut self.cpu_milli, sample(value));
        }
        if let Some(value) = each(Load::Memory) {
            push(&mut self.memory, sample(value));
        }
        if let Some(value) = point.load(Load::NodeCpu) {
            push(&mut self.node_cpu, sample(value));
        }
        for (query, value) in &point.external {
            let ring = self.external.entry(query.clone()).or_default();
            push(ring, sample(*value));
        }
        self.count(point);
    }

    /// What HAProxy's counters would have said: they begin anew after a time without points.
    fn count(&mut self, point: &Point) {
        let Some(rate) = point.load(Load::Requests) else {
            return;
        };
        let load = |load| point.load(load).unwrap_or_default();
        if self.backend.is_empty() {
            // One reading before, or the first point would have no rate.
            let before = BackendSample {
                at_ms: point.at_ms.saturating_sub(RESOLUTION_MS),
                ..BackendSample::default()
            };
            push(&mut self.backend, before);
            self.last_ms = before.at_ms;
        }
        let seconds = crate::window::float(point.at_ms.saturating_sub(self.last_ms)) / 1_000.0;
        self.last_ms = point.at_ms;
        self.requests += rate * seconds;
        self.errors += load(Load::Errors) * seconds;
        let queued = whole(load(Load::Queue));
        let sample = BackendSample {
            at_ms: point.at_ms,
            requests_total: total(self.requests),
            errors_total: total(self.errors),
            rate: whole(rate),
            sessions: whole(load(Load::Concurrency)).saturating_add(queued),
            queued,
            response_ms: whole(load(Load::Latency)),
        };
        push(&mut self.backend, sample);
    }
}

/// The nearest number that a counter can have; anything beyond the type is its limit.
fn total(value: f64) -> u64 {
    let value = value.round().max(0.0);
    // Casts of floats saturate.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = value as u64;
    whole
}

fn whole(value: f64) -> u32 {
    u32::try_from(total(value)).unwrap_or(u32::MAX)
}
