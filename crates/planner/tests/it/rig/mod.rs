//! One service on two workers behind two edges, whose replicas are healthy as soon as they are
//! planned: all that is left to decide is how many.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use longshore_model::autoscale::{Behavior, Metric, OnMissing, Signal};
use longshore_model::node::{Capacity, Node};
use longshore_model::observe::{
    BackendObserved, BackendSample, EdgeObserved, ExternalObserved, NodeObserved, NodeSamples,
    ReplicaSamples, Sample, SessionObserved,
};
use longshore_model::report::ScaleReport;
use longshore_model::spec::{Resources, RouteSpec, UpdateSpec};
use longshore_model::*;
use longshore_planner::{PlanInput, PlannerConfig, plan, recompute};

pub(crate) const START: u64 = 1_760_000_000_000;
pub(crate) const WORKERS: [&str; 2] = ["node1", "node2"];
pub(crate) const EDGES: [&str; 2] = ["edge1", "edge2"];
/// Samples that observers keep.
const RING: usize = 128;

pub(crate) fn key() -> ServiceKey {
    "app/web".parse().unwrap()
}

pub(crate) fn metric(signal: Signal, target: f64) -> Metric {
    Metric {
        kind: signal.default_kind(),
        signal,
        target,
    }
}

/// Windows of five seconds, nothing to wait for upwards, no rates.
pub(crate) fn policy(min: u32, max: u32, metrics: Vec<Metric>) -> AutoscaleSpec {
    let behavior = |stabilization_ms| Behavior {
        stabilization_ms,
        tolerance: 0.1,
        policies: vec![],
        select_min: false,
    };
    AutoscaleSpec {
        min,
        max,
        metrics,
        steps: vec![],
        window_ms: 5_000,
        warmup_ms: 0,
        scale_up: behavior(0),
        scale_down: behavior(10_000),
        on_missing: OnMissing::Hold,
        mode: AutoscaleMode::On,
        schedules: vec![],
        warm: 0,
    }
}

pub(crate) struct Rig {
    pub now: u64,
    pub started: u64,
    pub desired: Desired,
    pub plan: Arc<Plan>,
    pub memory: Arc<Memory>,
    pub config: PlannerConfig,
    pub report: Report,
    /// CPU ratio by worker.
    pub cpu: BTreeMap<&'static str, Vec<Sample>>,
    /// Each replica's CPU (thousandths of a core), and its memory (bytes).
    pub replica_cpu: Vec<Sample>,
    pub replica_memory: Vec<Sample>,
    /// HAProxy's counters by edge.
    pub rings: BTreeMap<&'static str, Vec<BackendSample>>,
    pub external: Vec<Sample>,
    /// What the source of these numbers said at the last try.
    pub external_problem: Option<String>,
}

impl Rig {
    pub(crate) fn new(policy: AutoscaleSpec, replicas: u32) -> Self {
        let mut desired = Desired::default();
        for (n, name) in (1_u8..).zip(WORKERS.into_iter().chain(EDGES)) {
            let worker = WORKERS.contains(&name);
            let id = NodeId::new(name).unwrap();
            let roles = Roles {
                worker,
                edge: !worker,
            };
            let node = Node {
                id: id.clone(),
                roles,
                labels: BTreeMap::new(),
                availability: Availability::Active,
                address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)),
                joined_ms: 0,
                note: None,
                drain: None,
                uncordoned_ms: 0,
                removed_volumes: BTreeMap::new(),
            };
            desired.nodes.insert(id, node);
        }
        let mut rig = Self {
            now: START + 100_000,
            started: START,
            desired,
            plan: Arc::default(),
            memory: Arc::default(),
            config: PlannerConfig {
                observe_ms: 5_000,
                ..PlannerConfig::default()
            },
            report: Report::default(),
            cpu: BTreeMap::new(),
            replica_cpu: vec![],
            replica_memory: vec![],
            rings: BTreeMap::new(),
            external: vec![],
            external_problem: None,
        };
        rig.apply(policy, replicas, "web:1");
        rig
    }

    pub(crate) fn apply(&mut self, policy: AutoscaleSpec, replicas: u32, image: &str) {
        let spec = ServiceSpec {
            container: ContainerSpec {
                image: image.into(),
                ports: vec![8000],
                resources: Resources {
                    cpu_limit_milli: 1_000,
                    memory_limit_bytes: 1_000,
                    ..Resources::default()
                },
                ..ContainerSpec::default()
            },
            replicas,
            placement: Default::default(),
            update: UpdateSpec::default(),
            rollback: None,
            gate: None,
            autoscale: Some(policy),
            routes: vec![RouteSpec::new(80, 8000)],
            drain_ms: 0,
            ..ServiceSpec::default()
        };
        let key = key();
        let revision = self.desired.apps.get(&key.app).map_or(0, |a| a.revision) + 1;
        let app = App {
            name: key.app.clone(),
            revision,
            services: [(key.service, Arc::new(spec))].into(),
            applied_ms: self.now,
            applied_by: "test".into(),
            numbers: Default::default(),
        };
        self.desired.apps.insert(key.app, app);
    }

    pub(crate) fn control(&mut self) -> &mut AutoscaleControl {
        self.desired.autoscale.entry(key()).or_default()
    }

    fn observed(&self) -> Observed {
        let session = SessionObserved {
            connected: true,
            last_echo_ms: self.now,
            since_ms: 0,
        };
        let mut observed = Observed::default();
        for name in WORKERS {
            let id = NodeId::new(name).unwrap();
            let assignment = self.plan.assignment(&id);
            let runs = assignment.replicas.iter().filter(|replica| !replica.stop);
            let status = |id: ReplicaId| ReplicaStatus {
                id,
                state: ReplicaState::Healthy,
                reason: None,
                container_id: None,
                started_ms: Some(self.started),
                healthy_ms: Some(self.started),
                restarts: 0,
                exit: None,
                exposed: None,
            };
            let of_replica = ReplicaSamples {
                memory_bytes: 0,
                memory_samples: Arc::new(self.replica_memory.clone()),
                cpu_milli: self.replica_cpu.clone(),
            };
            let replicas: BTreeMap<_, _> = runs.map(|r| (r.id, status(r.id))).collect();
            let samples = NodeSamples {
                cpu_ratio: self.cpu.get(name).cloned().unwrap_or_default(),
                memory_used_bytes: 0,
                replicas: replicas.keys().map(|r| (*r, of_replica.clone())).collect(),
                clock_ahead_ms: None,
            };
            let seen = NodeObserved {
                session,
                capacity: Arc::new(Capacity {
                    cpu_milli: 64_000,
                    memory_bytes: 64 << 30,
                    os: "linux".into(),
                    arch: "amd64".into(),
                    ..Capacity::default()
                }),
                assignment_generation: assignment.generation,
                reported_ms: self.now,
                replicas: Arc::new(replicas),
                samples: Arc::new(samples),
                ..NodeObserved::default()
            };
            observed.nodes.insert(id, Arc::new(seen));
        }
        self.observe_edges(&mut observed, session);
        let answers = ExternalObserved {
            samples: Arc::new(self.external.clone()),
            problem: self.external_problem.clone(),
            tried_ms: Some(self.now),
        };
        let answers = [("jobs".to_owned(), answers)].into();
        observed.external.insert(key(), answers);
        observed
    }

    fn observe_edges(&self, observed: &mut Observed, session: SessionObserved) {
        for name in EDGES {
            let samples = Arc::new(self.rings.get(name).cloned().unwrap_or_default());
            let backend = BackendObserved {
                samples,
                ..BackendObserved::default()
            };
            let seen = EdgeObserved {
                session,
                routes_generation: self.plan.routes_generation,
                reported_ms: self.now,
                backends: [(key(), backend)].into(),
                ..EdgeObserved::default()
            };
            observed
                .edges
                .insert(NodeId::new(name).unwrap(), Arc::new(seen));
        }
    }

    /// Plans once. The record must give the decision again, and planning again must change
    /// nothing.
    pub(crate) fn decide(&mut self) -> ScaleReport {
        let (desired, observed) = (Arc::new(self.desired.clone()), self.observed());
        let input = PlanInput {
            now_ms: self.now,
            started_ms: self.started,
            desired: &desired,
            current: &self.plan,
            memory: &self.memory,
            observed: &observed,
            config: &self.config,
        };
        let outcome = plan(&input);
        let again = plan(&PlanInput {
            current: &outcome.plan,
            memory: &outcome.memory,
            ..input
        });
        assert!(
            again.plan == outcome.plan,
            "planning again changes the plan"
        );
        assert_eq!(again.report.events, [], "planning again says something");
        self.plan = Arc::clone(&outcome.plan);
        self.memory = Arc::clone(&outcome.memory);
        self.report = outcome.report;
        let record = self.report.services[&key()].scale.clone();
        assert_eq!(recompute(&record), record.result, "{record:?}");
        crate::world::clamps(&record, self.now);
        assert_eq!(record.result, self.target(), "{record:?}");
        let mut count = record.clamps.first().map(|clamp| clamp.before);
        for clamp in &record.clamps {
            assert_eq!(
                count,
                Some(clamp.before),
                "clamps follow each other: {record:?}"
            );
            count = Some(clamp.after);
        }
        record
    }

    /// `seconds` pass; every second `feed` writes its samples, then the count is decided.
    pub(crate) fn run(&mut self, seconds: u64, mut feed: impl FnMut(&mut Self)) -> ScaleReport {
        let mut record = ScaleReport::default();
        for _ in 0..seconds {
            self.now += 1_000;
            feed(self);
            record = self.decide();
        }
        record
    }

    pub(crate) fn target(&self) -> u32 {
        let entry = self.plan.services.get(&key());
        entry.map_or(0, |entry| entry.target)
    }

    /// A sample of every worker.
    pub(crate) fn node_cpu(&mut self, value: f64) {
        for name in WORKERS {
            push(self.cpu.entry(name).or_default(), self.now, value);
        }
    }

    /// One more reading of an edge's counters: `requests` and `errors` more than before.
    pub(crate) fn answered(&mut self, edge: &'static str, requests: u64, errors: u64, ms: u32) {
        let at_ms = self.now;
        let ring = self.rings.entry(edge).or_default();
        let last = ring.last().copied().unwrap_or_default();
        let sample = BackendSample {
            at_ms,
            requests_total: last.requests_total.saturating_add(requests),
            errors_total: last.errors_total.saturating_add(errors),
            rate: u32::try_from(requests).unwrap(),
            response_ms: ms,
            ..BackendSample::default()
        };
        ring.push(sample);
        ring.drain(..ring.len().saturating_sub(RING));
    }
}

pub(crate) fn push(ring: &mut Vec<Sample>, at_ms: u64, value: f64) {
    ring.push(Sample { at_ms, value });
    ring.drain(..ring.len().saturating_sub(RING));
}
