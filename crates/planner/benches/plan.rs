//! How long planning takes: a full placement, an unchanged tick, one service changed.
//!
//! `cargo bench -p longshore-planner`; `NODES`, `REPLICAS` and `SERVICES` change the size. The
//! best and the median of several runs are printed: on a machine that does other things as well
//! they lie apart, and only the best says what the code costs.
#![allow(clippy::unwrap_used)] // a fixture that breaks shall say so

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_model::node::{Capacity, Node};
use longshore_model::observe::{
    CheckState, EdgeObserved, NodeObserved, ServerAdmin, ServerObserved, ServersByService,
};
use longshore_model::spec::{Resources, RouteSpec};
use longshore_model::*;
use longshore_planner::{Outcome, PlanInput, PlannerConfig, check, plan};

const NOW_MS: u64 = 10_000_000;
const RUNS: usize = 15;

struct Size {
    nodes: u32,
    replicas: u32,
    services: u32,
}

struct Fixture {
    desired: Arc<Desired>,
    observed: Observed,
    plan: Arc<Plan>,
    memory: Arc<Memory>,
    config: PlannerConfig,
}

fn from_env(name: &str, default: u32) -> u32 {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn node(name: &str, number: u32, worker: bool) -> Node {
    Node {
        id: NodeId::new(name).unwrap(),
        roles: Roles {
            worker,
            edge: !worker,
        },
        labels: BTreeMap::new(),
        availability: Availability::Active,
        address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)),
        joined_ms: 0,
        note: None,
        drain: None,
    }
}

fn spec(image: &str, replicas: u32) -> ServiceSpec {
    ServiceSpec {
        container: ContainerSpec {
            image: image.into(),
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
        rollback: None,
        gate: None,
        autoscale: None,
        routes: vec![RouteSpec {
            listen_port: 80,
            container_port: 8000,
            mode: Default::default(),
            domains: vec![],
            balance: Default::default(),
            check_path: None,
            maxconn_per_replica: 0,
        }],
        drain_ms: 10_000,
    }
}

impl Fixture {
    fn new(size: &Size) -> Self {
        let mut fixture = Self {
            desired: Arc::default(),
            observed: Observed::default(),
            plan: Arc::default(),
            memory: Arc::default(),
            config: PlannerConfig::default(),
        };
        let desired = Arc::make_mut(&mut fixture.desired);
        let session = observe::SessionObserved {
            connected: true,
            last_echo_ms: NOW_MS,
            ..Default::default()
        };
        for number in 0..size.nodes {
            let node = node(&format!("node{number:05}"), number, true);
            let seen = NodeObserved {
                session,
                capacity: Capacity {
                    cpu_milli: 64_000,
                    memory_bytes: 256 << 30,
                    os: "linux".into(),
                    arch: "amd64".into(),
                    ..Default::default()
                },
                reported_ms: NOW_MS,
                ..Default::default()
            };
            fixture
                .observed
                .nodes
                .insert(node.id.clone(), Arc::new(seen));
            desired.nodes.insert(node.id.clone(), node);
        }
        let edge = node("edge", size.nodes, false);
        let seen = EdgeObserved {
            session,
            reported_ms: NOW_MS,
            ..Default::default()
        };
        fixture
            .observed
            .edges
            .insert(edge.id.clone(), Arc::new(seen));
        desired.nodes.insert(edge.id.clone(), edge);
        let services = (0..size.services).map(|number| {
            let spec = spec(
                &format!("registry.example/team/service{number}:1"),
                size.replicas / size.services,
            );
            (
                format!("service{number:04}").parse().unwrap(),
                Arc::new(spec),
            )
        });
        let app = App {
            name: "app".parse().unwrap(),
            revision: 1,
            services: services.collect(),
            applied_ms: NOW_MS - 100_000,
            applied_by: "ana".into(),
        };
        desired.apps.insert(app.name.clone(), app);
        fixture
    }

    fn input(&self) -> PlanInput<'_> {
        PlanInput {
            now_ms: NOW_MS,
            started_ms: NOW_MS - 100_000,
            desired: &self.desired,
            current: &self.plan,
            memory: &self.memory,
            observed: &self.observed,
            config: &self.config,
        }
    }

    /// Commits an outcome, and the fleet does at once what it says.
    fn obey(&mut self, outcome: Outcome) {
        (self.plan, self.memory) = (outcome.plan, outcome.memory);
        let mut statuses: BTreeMap<&NodeId, BTreeMap<ReplicaId, ReplicaStatus>> = BTreeMap::new();
        let mut servers = ServersByService::new();
        for replica in self.plan.replicas() {
            let status = ReplicaStatus {
                id: replica.id,
                state: ReplicaState::Healthy,
                reason: None,
                container_id: None,
                started_ms: Some(NOW_MS - 90_000),
                healthy_ms: Some(NOW_MS - 90_000),
                restarts: 0,
            };
            let of_node = statuses.entry(&replica.node).or_default();
            of_node.insert(replica.id, status);
            let server = ServerObserved {
                check: CheckState::Up,
                admin: ServerAdmin::Ready,
                sessions: 3,
                queued: 0,
                answers: longshore_model::observe::ServerAnswers::default(),
            };
            let of_service = servers.entry(replica.service.clone()).or_default();
            of_service.insert(replica.id, server);
        }
        for (id, seen) in &mut self.observed.nodes {
            let seen = Arc::make_mut(seen);
            seen.assignment_generation = self.plan.generations.get(id).copied().unwrap_or(0);
            seen.replicas = Arc::new(statuses.remove(id).unwrap_or_default());
        }
        let edge = Arc::make_mut(self.observed.edges.values_mut().next().unwrap());
        edge.routes_generation = self.plan.routes_generation;
        edge.take_servers(&servers);
    }
}

fn measure<T>(name: &str, run: impl Fn() -> T) {
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        let result = std::hint::black_box(run());
        let took = start.elapsed();
        drop(result);
        took
    });
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (best, median) = (ms(times[0]), ms(times[RUNS / 2]));
    println!("{name:<24}{best:>10.3} ms best{median:>10.3} ms median");
}

fn main() {
    let size = Size {
        nodes: from_env("NODES", 1_000),
        replicas: from_env("REPLICAS", 10_000),
        services: from_env("SERVICES", 100),
    };
    println!(
        "{} nodes, {} replicas of {} services",
        size.nodes, size.replicas, size.services
    );
    let mut fixture = Fixture::new(&size);
    measure("full placement", || plan(&fixture.input()));
    for _ in 0..4 {
        let outcome = plan(&fixture.input());
        fixture.obey(outcome);
    }
    let same = plan(&fixture.input());
    assert!(same.plan == fixture.plan, "the cluster has settled");
    let all = same.plan.replicas().count();
    assert_eq!(
        all,
        (size.replicas / size.services * size.services) as usize
    );
    measure("unchanged tick", || plan(&fixture.input()));
    measure("check of that", || check(&fixture.input(), &same));
    let app = Arc::make_mut(&mut fixture.desired)
        .apps
        .values_mut()
        .next()
        .unwrap();
    let count = app.services.values().next().unwrap().replicas;
    let first = app.services.values_mut().next().unwrap();
    *first = Arc::new(spec("registry.example/team/service0:2", count + 10));
    measure("one service changed", || plan(&fixture.input()));
    let changed = plan(&fixture.input());
    assert!(changed.plan != fixture.plan, "something happens");
}
