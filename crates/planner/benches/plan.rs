//! What planning costs: a full placement, an unchanged tick, one service changed, and the check.
//!
//! `make bench-plan` prints one line per case:
//! `plan NODES REPLICAS kind seconds placements_per_s peak_mib allocations_per_placement
//! cpu_seconds`. The best of several runs counts: on a machine that does other things as well only
//! the best says what the code costs. `cpu_seconds` is the time that the run really had a core; the
//! planner has one thread, so that on an idle machine both are the same. Allocations do not depend
//! on the machine. `MAX=100000` leaves out larger ones, `ONLY=10000x1000000` all but one. A line
//! `# load` says how busy the machine was before each size.
#![allow(clippy::unwrap_used)] // a fixture that breaks shall say so

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use longshore_model::node::{Capacity, Node};
use longshore_model::observe::{
    CheckState, EdgeObserved, NodeObserved, ServerAdmin, ServerObserved, ServersByService,
    SessionObserved,
};
use longshore_model::spec::{Constraint, NodeAttribute, Resources, RouteSpec};
use longshore_model::*;
use longshore_planner::{Cache, Checker, Outcome, PlanInput, PlannerConfig, plan_with};

const NOW_MS: u64 = 10_000_000;

#[derive(Clone, Copy)]
struct Size {
    nodes: u32,
    replicas: u32,
}

/// Replicas of each service.
const PER_SERVICE: u32 = 100;

/// Ticks, a second each, within which a cluster that obeys comes to rest.
const TICKS_TO_REST_MAX: usize = 30;

struct Fixture {
    size: Size,
    now_ms: u64,
    desired: Arc<Desired>,
    observed: Observed,
    plan: Arc<Plan>,
    memory: Arc<Memory>,
    config: PlannerConfig,
}

fn node(name: &str, number: u32, worker: bool) -> Node {
    let disk = if number.is_multiple_of(2) {
        "ssd"
    } else {
        "hdd"
    };
    Node {
        id: NodeId::new(name).unwrap(),
        roles: Roles {
            worker,
            edge: !worker,
        },
        labels: BTreeMap::from([("disk".to_owned(), disk.to_owned())]),
        availability: Availability::Active,
        address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)),
        joined_ms: 0,
        note: None,
        drain: None,
        uncordoned_ms: 0,
        removed_volumes: BTreeMap::new(),
    }
}

/// Every second service may go to half of the nodes only.
fn spec(number: u32, revision: u32, replicas: u32) -> ServiceSpec {
    let constraint = Constraint {
        attribute: NodeAttribute::Label("disk".into()),
        equal: true,
        value: "ssd".into(),
    };
    let mut spec = ServiceSpec {
        container: ContainerSpec {
            image: format!("registry.example/team/service{number}:{revision}"),
            ports: vec![8000],
            resources: Resources {
                cpu_reserved_milli: 100,
                memory_reserved_bytes: 64 << 20,
                ..Resources::default()
            },
            ..ContainerSpec::default()
        },
        replicas,
        placement: Default::default(),
        update: Default::default(),
        autoscale: None,
        routes: vec![RouteSpec::new(80, 8000)],
        drain_ms: 10_000,
        ..minimal()
    };
    if number.is_multiple_of(2) {
        spec.placement.constraints.push(constraint);
    }
    spec
}

fn minimal() -> ServiceSpec {
    let json = r#"{"container":{"image":"x","stop_grace_ms":1000},"replicas":1,"drain_ms":0}"#;
    serde_json::from_str(json).unwrap()
}

fn app_name() -> AppName {
    "app".parse().unwrap()
}

fn key(number: u32) -> ServiceName {
    ServiceName::new(format!("service{number:05}")).unwrap()
}

impl Fixture {
    fn new(size: Size) -> Self {
        let mut desired = Desired::default();
        let mut observed = Observed::default();
        for number in 0..size.nodes {
            let node = node(&format!("node{number:05}"), number, true);
            let seen = NodeObserved {
                capacity: Arc::new(Capacity {
                    cpu_milli: 64_000,
                    memory_bytes: 256 << 30,
                    os: "linux".into(),
                    arch: "amd64".into(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            observed.nodes.insert(node.id.clone(), Arc::new(seen));
            desired.nodes.insert(node.id.clone(), node);
        }
        let edge = node("edge", size.nodes, false);
        observed.edges.insert(edge.id.clone(), Arc::default());
        desired.nodes.insert(edge.id.clone(), edge);
        let services = (0..size.replicas / PER_SERVICE)
            .map(|number| (key(number), Arc::new(spec(number, 1, PER_SERVICE))));
        let app = App {
            name: app_name(),
            revision: 1,
            services: services.collect(),
            applied_ms: NOW_MS - 100_000,
            applied_by: "ana".into(),
            numbers: Default::default(),
        };
        desired.apps.insert(app.name.clone(), app);
        let mut fixture = Self {
            size,
            now_ms: NOW_MS,
            desired: Arc::new(desired),
            observed,
            plan: Arc::default(),
            memory: Arc::default(),
            config: PlannerConfig::default(),
        };
        fixture.beat();
        fixture
    }

    fn input(&self) -> PlanInput<'_> {
        PlanInput {
            now_ms: self.now_ms,
            started_ms: NOW_MS - 100_000,
            desired: &self.desired,
            current: &self.plan,
            memory: &self.memory,
            observed: &self.observed,
            config: &self.config,
        }
    }

    /// A second passes; every node and edge gives a sign of life.
    fn beat(&mut self) {
        self.now_ms += 1_000;
        let session = SessionObserved {
            connected: true,
            last_echo_ms: self.now_ms,
            since_ms: 0,
        };
        for seen in self.observed.nodes.values_mut() {
            let seen = Arc::make_mut(seen);
            (seen.session, seen.reported_ms) = (session, self.now_ms);
        }
        for seen in self.observed.edges.values_mut() {
            let seen = Arc::make_mut(seen);
            (seen.session, seen.reported_ms) = (session, self.now_ms);
        }
    }

    fn adopt(&mut self, outcome: Outcome) {
        (self.plan, self.memory) = (outcome.plan, outcome.memory);
    }

    /// The fleet does at once what the plan says.
    fn obey(&mut self) {
        let mut statuses: BTreeMap<&NodeId, BTreeMap<ReplicaId, ReplicaStatus>> = BTreeMap::new();
        let mut servers = ServersByService::new();
        for replica in self.plan.replicas().filter(|replica| !replica.stop) {
            let status = ReplicaStatus {
                id: replica.id,
                state: ReplicaState::Healthy,
                reason: None,
                container_id: None,
                started_ms: Some(NOW_MS - 90_000),
                healthy_ms: Some(NOW_MS - 90_000),
                restarts: 0,
                exit: None,
                exposed: None,
            };
            let of_node = statuses.entry(&replica.node).or_default();
            of_node.insert(replica.id, status);
            let server = ServerObserved {
                check: CheckState::Up,
                admin: ServerAdmin::Ready,
                sessions: 3,
                queued: 0,
                answers: Default::default(),
            };
            let of_service = servers.entry(replica.service.clone()).or_default();
            of_service.insert(replica.id, server);
        }
        for (id, seen) in &mut self.observed.nodes {
            let seen = Arc::make_mut(seen);
            seen.assignment_generation = self.plan.generations.get(id).copied().unwrap_or(0);
            let now = statuses.remove(id).unwrap_or_default();
            if *seen.replicas != now {
                seen.replicas = Arc::new(now);
            }
        }
        let edge: &mut EdgeObserved =
            Arc::make_mut(self.observed.edges.values_mut().next().unwrap());
        edge.routes_generation = self.plan.routes_generation;
        edge.take_servers(&servers);
    }

    fn print_least(&self, kind: &str, least: &Least, placed: u64) {
        self.print(kind, least.took, placed, Some(least.allocations));
    }

    fn print(&self, kind: &str, took: Took, placed: u64, allocations: Option<u64>) {
        let Took {
            seconds,
            cpu_seconds,
        } = took;
        let per_s = placed as f64 / seconds;
        let per = allocations.map(|count| count as f64 / placed.max(1) as f64);
        let per = per.map_or_else(|| "-".to_owned(), |per| format!("{per:.1}"));
        let Size { nodes, replicas } = self.size;
        let peak = peak_mib();
        println!(
            "plan {nodes} {replicas} {kind} {seconds:.6} {per_s:.0} {peak} {per} {cpu_seconds:.6}"
        );
    }
}

/// Highest resident size since the last reset, MiB; 0 where the system does not say.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// How long something took, at best.
#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
    cpu_seconds: f64,
}

impl Took {
    const NEVER: Self = Self {
        seconds: f64::MAX,
        cpu_seconds: f64::MAX,
    };

    fn least(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.min(other.seconds),
            cpu_seconds: self.cpu_seconds.min(other.cpu_seconds),
        }
    }
}

/// CPU time that this thread has used.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn timed<T>(run: impl FnOnce() -> T) -> (Took, T) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let result = std::hint::black_box(run());
    let took = Took {
        cpu_seconds: cpu_seconds() - cpu,
        seconds: start.elapsed().as_secs_f64(),
    };
    (took, result)
}

fn best<T>(runs: usize, mut run: impl FnMut() -> T) -> (Took, T) {
    let (mut best, mut last) = timed(&mut run);
    for _ in 1..runs {
        drop(last);
        let (took, result) = timed(&mut run);
        best = best.least(took);
        last = result;
    }
    (best, last)
}

fn full(size: Size, runs: usize) -> (Fixture, Cache, Checker) {
    let _unsupported = std::fs::write("/proc/self/clear_refs", "5");
    let mut fixture = Fixture::new(size);
    let (took, (outcome, cache)) = best(runs, || {
        let mut cache = Cache::default();
        (plan_with(&fixture.input(), &mut cache), cache)
    });
    let placed = outcome.plan.replicas().count() as u64;
    assert_eq!(placed, u64::from(size.replicas));
    let counted = allocation_counter::measure(|| {
        std::hint::black_box(plan_with(&fixture.input(), &mut Cache::default()));
    });
    fixture.print("full", took, placed, Some(counted.count_total));
    let (took, checker) = best(1, || {
        let mut checker = Checker::default();
        checker.check(&fixture.input(), &outcome).map(|()| checker)
    });
    fixture.print("check-all", took, placed, None);
    let checker = checker.unwrap();
    fixture.adopt(outcome);
    (fixture, cache, checker)
}

fn tick(fixture: &mut Fixture, cache: &mut Cache) -> Outcome {
    fixture.beat();
    let outcome = plan_with(&fixture.input(), cache);
    fixture.adopt(outcome.clone());
    outcome
}

/// Ticks until the first rollouts have been monitored and nothing is left to do.
fn come_to_rest(fixture: &mut Fixture, cache: &mut Cache) {
    for _ in 0..TICKS_TO_REST_MAX {
        let (plan, memory) = (Arc::clone(&fixture.plan), Arc::clone(&fixture.memory));
        fixture.obey();
        let outcome = tick(fixture, cache);
        let same = Arc::ptr_eq(&plan, &outcome.plan) && Arc::ptr_eq(&memory, &outcome.memory);
        if same && outcome.report.look_again_ms.is_none() {
            return;
        }
    }
    panic!("no rest within {TICKS_TO_REST_MAX} ticks");
}

/// The least time of some rounds, and the allocations of the last one.
struct Least {
    took: Took,
    allocations: u64,
}

impl Least {
    fn new() -> Self {
        Self {
            took: Took::NEVER,
            allocations: 0,
        }
    }

    fn measure<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let mut result = None;
        let (took, counted) = timed(|| allocation_counter::measure(|| result = Some(run())));
        self.took = self.took.least(took);
        self.allocations = counted.count_total;
        result.unwrap()
    }
}

fn incremental(mut fixture: Fixture, mut cache: Cache, mut checker: Checker) {
    come_to_rest(&mut fixture, &mut cache);
    let outcome = plan_with(&fixture.input(), &mut cache);
    checker.check(&fixture.input(), &outcome).unwrap();
    let before = Arc::clone(&fixture.plan);
    let (mut planning, mut checking) = (Least::new(), Least::new());
    for _ in 0..9 {
        fixture.beat();
        let outcome = planning.measure(|| plan_with(&fixture.input(), &mut cache));
        let verdict = checking.measure(|| checker.check(&fixture.input(), &outcome));
        verdict.unwrap();
        fixture.adopt(outcome);
    }
    assert!(Arc::ptr_eq(&before, &fixture.plan), "nothing changed");
    fixture.print_least("unchanged", &planning, 0);
    fixture.print_least("check-unchanged", &checking, 0);
    let (mut planning, mut checking) = (Least::new(), Least::new());
    for round in 0..9 {
        let number = round * 7 + 1;
        let desired = Arc::make_mut(&mut fixture.desired);
        let app = desired.apps.get_mut(&app_name()).unwrap();
        app.services
            .insert(key(number), Arc::new(spec(number, 2, PER_SERVICE + 10)));
        fixture.beat();
        let outcome = planning.measure(|| plan_with(&fixture.input(), &mut cache));
        let verdict = checking.measure(|| checker.check(&fixture.input(), &outcome));
        verdict.unwrap();
        assert!(outcome.plan.version > fixture.plan.version);
        fixture.adopt(outcome);
    }
    fixture.print_least("one-service", &planning, 10);
    fixture.print_least("check-one", &checking, 0);
}

fn main() {
    let max = std::env::var("MAX").ok().and_then(|text| text.parse().ok());
    let max: u32 = max.unwrap_or(1_000_000);
    let only = std::env::var("ONLY").ok().filter(|only| !only.is_empty());
    println!(
        "plan NODES REPLICAS kind seconds placements_per_s peak_mib allocations_per_placement \
         cpu_seconds"
    );
    let sizes = [
        (1_000, 1_000, 9),
        (1_000, 10_000, 9),
        (1_000, 100_000, 5),
        (10_000, 1_000_000, 2),
    ];
    for (nodes, replicas, runs) in sizes {
        let wanted = only
            .as_ref()
            .map(|only| *only == format!("{nodes}x{replicas}"));
        if wanted.unwrap_or(replicas <= max) {
            print!(
                "# load {}",
                std::fs::read_to_string("/proc/loadavg").unwrap_or_default()
            );
            let (fixture, cache, checker) = full(Size { nodes, replicas }, runs);
            incremental(fixture, cache, checker);
        }
    }
}
