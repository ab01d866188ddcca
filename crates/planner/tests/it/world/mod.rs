//! A tiny world for the planner: nodes that obey assignments, edges that obey routes, faults.
//! No clock and no randomness of its own: all that happens is told from outside.

pub(crate) mod acts;
mod checked;
mod diff;
mod follows;
mod heard;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use checked::queues_of;
use diff::differing;
pub(crate) use follows::clamps;
use follows::follows;
use heard::{connect, ends, push, status};
use longshore_model::autoscale::{Behavior, Metric, Signal, TargetKind};
use longshore_model::certificate::CertificatesObserved;
use longshore_model::node::{Capacity, DrainOrder, Node};
use longshore_model::observe::{CheckState, EngineState, PortsBySharer, ServerAnswers};
use longshore_model::plan::{Assignment, Leaving, Replica};
use longshore_model::reason::FailReason;
use longshore_model::receipt::Exit;
use longshore_model::repair::Repair;
use longshore_model::routes::{Routes, ServerMode};
use longshore_model::spec::{RouteSpec, UpdateSpec};
use longshore_model::*;
use longshore_planner::{
    Cache, Checker, Outcome, PlanInput, PlannerConfig, check, plan, plan_with, recompute,
};

pub(crate) const START: u64 = 1_000_000;

#[derive(Default)]
pub(crate) struct SimNode {
    pub power: bool,
    pub session: bool,
    pub reachable: bool,
    pub load: f64,
    pub engine: EngineState,
    /// Its engine says that it has no CPU.
    pub empty: bool,
    /// Its engine's word for it; `amd64` if none.
    pub arch: Option<String>,
    pub engine_labels: BTreeMap<String, String>,
    /// Its volumes, and when they were made; none: it does not say.
    pub volumes: Option<BTreeMap<String, u64>>,
    /// CPU of each healthy container, thousandths of a core.
    pub container_milli: f64,
    pub assignment: Assignment,
    pub containers: BTreeMap<ReplicaId, ReplicaStatus>,
    /// How its containers end; none: it does not say.
    pub exit: Option<Exit>,
}

#[derive(Default)]
pub(crate) struct SimEdge {
    pub session: bool,
    pub routes: Routes,
    pub sessions: BTreeMap<ReplicaId, u32>,
    /// Servers that it has let in: their check passed once.
    pub let_in: BTreeSet<ReplicaId>,
    /// Nodes and images that its checks do not reach.
    pub blind_to: Vec<String>,
    /// What each server has answered.
    pub answers: BTreeMap<ReplicaId, ServerAnswers>,
    /// What it says that it cannot serve.
    pub refused: BTreeMap<ServiceKey, String>,
    /// What is wrong with its HAProxy.
    pub problem: Option<String>,
    /// Other programs on its ports.
    pub sharers: PortsBySharer,
    /// What it says of certificates.
    pub certificates: Option<CertificatesObserved>,
    /// What its agent mended, and how long ago by its report.
    pub repairs: Vec<(u64, Repair)>,
    /// It reports no servers.
    pub deaf: bool,
    /// Requests wait there for as long as anybody takes them.
    pub has_queue: bool,
}

/// The desired state, shared with the planner until the next change.
#[derive(Default)]
pub(crate) struct Wanted(pub Arc<Desired>);

impl std::ops::Deref for Wanted {
    type Target = Desired;
    fn deref(&self) -> &Desired {
        &self.0
    }
}

impl std::ops::DerefMut for Wanted {
    fn deref_mut(&mut self) -> &mut Desired {
        Arc::make_mut(&mut self.0)
    }
}

pub(crate) struct World {
    pub now: u64,
    pub started: u64,
    pub desired: Wanted,
    pub plan: Arc<Plan>,
    pub memory: Arc<Memory>,
    pub observed: Observed,
    pub config: PlannerConfig,
    pub nodes: BTreeMap<NodeId, SimNode>,
    pub edges: BTreeMap<NodeId, SimEdge>,
    /// Images whose containers never run.
    pub broken: Vec<String>,
    /// Images whose containers are healthy and fail HAProxy's check.
    pub shut_out: Vec<String>,
    pub report: Report,
    pub events: Vec<EventKind>,
    /// Sessions stick to a draining server as long as this is set.
    pub sticky: bool,
    /// Edges report that their HAProxy has no servers.
    pub deaf_edges: bool,
    /// What planning runs take over from each other.
    pub cache: Cache,
    /// What the checks of runs take over from each other.
    pub checker: Checker,
    /// The store takes no plan.
    pub refuse_commits: bool,
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn key(name: &str) -> ServiceKey {
    format!("app/{name}").parse().unwrap()
}

pub(crate) fn spec(image: &str, replicas: u32) -> ServiceSpec {
    ServiceSpec {
        container: ContainerSpec {
            image: image.into(),
            ports: vec![8000],
            ..Default::default()
        },
        replicas,
        placement: Default::default(),
        update: UpdateSpec::default(),
        rollback: None,
        gate: None,
        autoscale: None,
        routes: vec![RouteSpec::new(80, 8000)],
        drain_ms: 10_000,
        ..ServiceSpec::default()
    }
}

pub(crate) fn node_cpu_policy(min: u32, max: u32) -> AutoscaleSpec {
    let metrics = vec![Metric {
        signal: Signal::NodeCpu,
        kind: TargetKind::Utilization,
        target: 0.6,
    }];
    let calm = Behavior {
        stabilization_ms: 5_000,
        ..AutoscaleSpec::default_down()
    };
    AutoscaleSpec {
        min,
        max,
        metrics,
        steps: vec![],
        window_ms: 5_000,
        warmup_ms: 2_000,
        scale_up: AutoscaleSpec::default_up(),
        scale_down: calm,
        on_missing: Default::default(),
        mode: AutoscaleMode::On,
        schedules: vec![],
        warm: 0,
    }
}

impl World {
    /// `workers` machines of four cores and one edge; the observe window is already over.
    pub(crate) fn new(workers: usize) -> Self {
        let mut world = Self {
            now: START + 20_000,
            started: START,
            desired: Wanted::default(),
            plan: Arc::default(),
            memory: Arc::default(),
            observed: Observed::default(),
            config: PlannerConfig {
                observe_ms: 10_000,
                ..PlannerConfig::default()
            },
            nodes: BTreeMap::new(),
            edges: BTreeMap::new(),
            broken: vec![],
            shut_out: vec![],
            report: Report::default(),
            events: vec![],
            sticky: false,
            deaf_edges: false,
            cache: Cache::default(),
            checker: Checker::default(),
            refuse_commits: false,
        };
        for n in 1..=workers {
            world.add_worker(&format!("node{n}"));
        }
        world.add_edge("edge");
        world
    }

    pub(crate) fn add_worker(&mut self, name: &str) {
        let n = u8::try_from(self.nodes.len() + 1).unwrap();
        self.desired.nodes.insert(id(name), node(name, true, n));
        let sim = SimNode {
            power: true,
            session: true,
            reachable: true,
            load: 0.3,
            exit: Some(heard::ENDS_WELL),
            ..Default::default()
        };
        self.nodes.insert(id(name), sim);
    }

    pub(crate) fn add_edge(&mut self, name: &str) {
        self.desired.nodes.insert(id(name), node(name, false, 200));
        self.edges.insert(
            id(name),
            SimEdge {
                session: true,
                ..Default::default()
            },
        );
    }

    pub(crate) fn apply(&mut self, name: &str, spec: ServiceSpec) {
        let of: AppName = "app".parse().unwrap();
        let present = self.desired.apps.get(&of);
        let mut services = present.map(|app| app.services.clone()).unwrap_or_default();
        services.insert(name.parse().unwrap(), Arc::new(spec));
        // As the controller does it.
        let services = job::with_runs(services);
        let app = App {
            name: of.clone(),
            revision: present.map_or(0, |app| app.revision) + 1,
            services,
            applied_ms: self.now,
            applied_by: "ana".into(),
            numbers: Default::default(),
        };
        self.desired.apps.insert(of, app);
    }

    pub(crate) fn scale(&mut self, name: &str, count: u32) {
        let manual = ManualScale {
            count,
            at_ms: self.now,
            hold_until_ms: None,
            by: "ana".into(),
        };
        self.desired.manual.insert(key(name), manual);
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut SimNode {
        self.nodes.get_mut(&id(name)).unwrap()
    }

    pub(crate) fn edge(&mut self) -> &mut SimEdge {
        self.edges.values_mut().next().unwrap()
    }

    pub(crate) fn available(&mut self, name: &str, availability: Availability) {
        self.desired.nodes.get_mut(&id(name)).unwrap().availability = availability;
    }

    /// Drains a node, with a deadline after `after_ms`.
    pub(crate) fn drain(&mut self, name: &str, after_ms: u64, force: bool) {
        let now_ms = self.now;
        let node = self.desired.nodes.get_mut(&id(name)).unwrap();
        node.availability = Availability::Draining;
        node.drain = Some(DrainOrder {
            since_ms: now_ms,
            deadline_ms: now_ms + after_ms,
            force,
        });
    }

    /// Nodes and edges act and report; then one planning run, checked in every way.
    pub(crate) fn tick(&mut self, ms: u64) -> Outcome {
        self.now += ms;
        self.act();
        self.report_all();
        self.run()
    }

    pub(crate) fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick(500);
        }
    }

    pub(crate) fn input(&self) -> PlanInput<'_> {
        PlanInput {
            now_ms: self.now,
            started_ms: self.started,
            desired: &self.desired.0,
            current: &self.plan,
            memory: &self.memory,
            observed: &self.observed,
            config: &self.config,
        }
    }

    pub(crate) fn run(&mut self) -> Outcome {
        let mut cache = std::mem::take(&mut self.cache);
        let mut checker = std::mem::take(&mut self.checker);
        let input = self.input();
        // What a run takes over from the one before must not show.
        let outcome = plan_with(&input, &mut cache);
        assert_eq!(outcome, plan(&input), "from scratch it is another outcome");
        check(&input, &outcome).unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(checker.check(&input, &outcome), Ok(()), "of what changed");
        for (key, service) in outcome.report.services.iter() {
            assert_eq!(recompute(&service.scale), service.scale.result, "{key}");
        }
        for record in &outcome.report.records {
            follows(record);
        }
        if self.refuse_commits {
            (self.cache, self.checker) = (cache, checker);
            return outcome;
        }
        let next = PlanInput {
            current: &outcome.plan,
            memory: &outcome.memory,
            ..input
        };
        let again = plan(&next);
        // Half of the runs build on one that changed nothing.
        if self.now.is_multiple_of(1_000) {
            let cached = plan_with(&next, &mut cache);
            assert_eq!(cached, again, "again, from scratch it is another outcome");
        }
        let news = &again.report.events;
        assert!(
            again.plan == outcome.plan,
            "planning again changes the plan: {news:?}\n{}",
            differing(&outcome.plan, &again.plan)
        );
        assert!(news.is_empty(), "planning again says {news:?}");
        (self.cache, self.checker) = (cache, checker);
        self.plan = Arc::clone(&outcome.plan);
        self.memory = Arc::clone(&outcome.memory);
        self.report = outcome.report.clone();
        self.events.extend(outcome.report.events.iter().cloned());
        outcome
    }

    pub(crate) fn act(&mut self) {
        for (name, sim) in &mut self.nodes {
            if !sim.power {
                sim.containers.clear();
                continue;
            }
            if sim.session {
                let assignment = self.plan.assignment(name);
                if assignment.generation >= sim.assignment.generation {
                    sim.assignment = assignment;
                }
            }
            obey(sim, &self.broken, self.now);
        }
        let routes = self.plan.routes();
        for edge in self.edges.values_mut().filter(|edge| edge.session) {
            edge.routes = routes.clone();
            for server in edge.routes.backends.iter().flat_map(|b| &b.servers) {
                let sessions = edge.sessions.entry(server.replica).or_default();
                *sessions = match server.mode {
                    ServerMode::Serve => 4,
                    ServerMode::Drain if self.sticky => *sessions,
                    ServerMode::Drain => *sessions / 2,
                };
            }
            let listed = |r: &ReplicaId| {
                edge.routes
                    .backends
                    .iter()
                    .any(|b| b.servers.iter().any(|s| s.replica == *r))
            };
            edge.sessions.retain(|replica, _| listed(replica));
        }
        self.nobody_stops_what_an_edge_serves();
    }

    /// The reason why all of this exists.
    fn nobody_stops_what_an_edge_serves(&self) {
        for edge in self.edges.values().filter(|edge| edge.session) {
            for server in edge.routes.backends.iter().flat_map(|b| &b.servers) {
                if let Some(replica) = self.plan.replica(server.replica) {
                    assert!(
                        !replica.stop,
                        "{} stops while an edge has it",
                        server.replica
                    );
                }
            }
        }
    }

    pub(crate) fn report_all(&mut self) {
        for (name, sim) in &mut self.nodes {
            let seen = self.observed.nodes.entry(name.clone()).or_default();
            let seen = Arc::make_mut(seen);
            seen.session.connected = sim.session && sim.power;
            if !seen.session.connected {
                continue;
            }
            seen.session.last_echo_ms = self.now;
            let samples = Arc::make_mut(&mut seen.samples);
            push(&mut samples.cpu_ratio, self.now, sim.load);
            samples
                .replicas
                .retain(|id, _| sim.containers.contains_key(id));
            let healthy = |s: &&ReplicaStatus| s.state == ReplicaState::Healthy;
            for status in sim.containers.values().filter(healthy) {
                let of_replica = samples.replicas.entry(status.id).or_default();
                push(&mut of_replica.cpu_milli, self.now, sim.container_milli);
            }
            // As the fleet does it: what says the same stays the same.
            if *seen.replicas != sim.containers {
                seen.replicas = Arc::new(sim.containers.clone());
            }
            seen.capacity = Arc::new(Capacity {
                cpu_milli: if sim.empty { 0 } else { 4_000 },
                memory_bytes: 8 << 30,
                os: "linux".into(),
                arch: sim.arch.clone().unwrap_or_else(|| "amd64".into()),
                engine_labels: sim.engine_labels.clone(),
                volumes: sim.volumes.clone(),
            });
            seen.assignment_generation = sim.assignment.generation;
            seen.reported_ms = self.now;
            seen.engine = sim.engine;
        }
        self.let_in();
        for (name, edge) in &self.edges {
            let servers = self.servers_of(edge);
            let seen = self.observed.edges.entry(name.clone()).or_default();
            let seen = Arc::make_mut(seen);
            connect(&mut seen.session, edge.session, self.now);
            if !edge.session {
                continue;
            }
            seen.routes_generation = edge.routes.generation;
            seen.reported_ms = self.now;
            seen.take_servers(&servers);
            seen.backends = queues_of(edge);
            seen.problem.clone_from(&edge.problem);
            seen.sharers = Arc::new(edge.sharers.clone());
            seen.certificates = edge.certificates.clone().map(Arc::new);
            seen.take_repairs(edge.repairs.clone(), self.now);
            if *seen.refused != edge.refused {
                seen.refused = Arc::new(edge.refused.clone());
            }
        }
    }

    /// Replicas of a service that do not leave, without those that rest.
    pub(crate) fn active(&self, name: &str) -> Vec<&Replica> {
        let replicas = self.replicas(name).into_iter();
        replicas
            .filter(|r| r.leaving.is_none() && !r.rests())
            .collect()
    }

    /// All replicas of all services.
    pub(crate) fn everyone(&self) -> impl Iterator<Item = &Replica> {
        self.plan.replicas().map(|r| &**r)
    }

    /// A container ends and is not started again.
    pub(crate) fn fail(&mut self, replica: ReplicaId) {
        let nodes = self.nodes.values_mut();
        let status = nodes
            .into_iter()
            .find_map(|sim| sim.containers.get_mut(&replica));
        status.unwrap().state = ReplicaState::Failed;
    }

    /// All replicas of a service.
    pub(crate) fn replicas(&self, name: &str) -> Vec<&Replica> {
        let service = self.plan.services.get(&key(name));
        let replicas = service.into_iter().flat_map(|s| s.replicas.values());
        replicas.map(|r| &**r).collect()
    }

    pub(crate) fn leaving(&self, name: &str) -> Vec<(&Replica, &Leaving)> {
        let replicas = self.replicas(name).into_iter();
        replicas
            .filter_map(|r| Some((r, r.leaving.as_deref()?)))
            .collect()
    }

    /// Healthy servers in the edge's HAProxy that take requests.
    pub(crate) fn answering(&self, name: &str) -> usize {
        let key = key(name);
        let edge = self.edges.values().next().unwrap();
        let servers = edge.routes.backends.iter().filter(|b| b.service == key);
        servers
            .flat_map(|b| &b.servers)
            .filter(|s| s.mode == ServerMode::Serve)
            .filter(|s| self.check_of(edge, s.replica) == CheckState::Up)
            .count()
    }

    pub(crate) fn per_node(&self, name: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for replica in self.active(name) {
            *counts.entry(replica.node.to_string()).or_default() += 1;
        }
        counts
    }
}

fn node(name: &str, worker: bool, last: u8) -> Node {
    Node {
        id: id(name),
        roles: Roles {
            worker,
            edge: !worker,
        },
        labels: BTreeMap::new(),
        availability: Availability::Active,
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        joined_ms: 0,
        note: None,
        drain: None,
        uncordoned_ms: 0,
        removed_volumes: BTreeMap::new(),
    }
}

/// The agent: one step of each container's life per tick.
fn obey(sim: &mut SimNode, broken: &[String], now: u64) {
    let assignment = &sim.assignment;
    let exit = sim.exit;
    let wanted = |id: &ReplicaId| assignment.replicas.iter().find(|r| r.id == *id);
    sim.containers.retain(|id, status| match wanted(id) {
        Some(r) if r.stop => ends(status, exit),
        Some(_) => true,
        None => false,
    });
    for assigned in assignment.replicas.iter().filter(|r| !r.stop) {
        let template = &assignment.templates[&assigned.template];
        let image = &template.image;
        let ends = template.job.is_some() && !image.starts_with("slow");
        if assigned.ended && !sim.containers.contains_key(&assigned.id) {
            continue;
        }
        let Some(status) = sim.containers.get_mut(&assigned.id) else {
            sim.containers.insert(assigned.id, status(assigned.id, now));
            continue;
        };
        status.state = match status.state {
            ReplicaState::Assigned => ReplicaState::Starting,
            ReplicaState::Starting if broken.contains(image) => ReplicaState::Failed,
            ReplicaState::Starting => ReplicaState::Healthy,
            ReplicaState::Healthy if ends => ReplicaState::Completed,
            ReplicaState::Healthy if assigned.paused => ReplicaState::Paused,
            ReplicaState::Paused if !assigned.paused => ReplicaState::Starting,
            other => other,
        };
        if status.state == ReplicaState::Failed {
            let why = FailReason::Exited {
                code: 1,
                oom: false,
                last_line: String::new(),
            };
            status.reason.get_or_insert(why);
        }
        if status.state == ReplicaState::Healthy && status.healthy_ms.is_none() {
            status.healthy_ms = Some(now);
        }
    }
}
