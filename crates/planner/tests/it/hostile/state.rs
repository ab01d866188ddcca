//! A planning run's whole input, good ones of it, and what must hold whatever becomes of them.

use std::sync::{Arc, LazyLock};

use longshore_model::autoscale::{
    ExternalQuery, Metric, RateAmount, Schedule, ScheduleEnd, Signal, Step, StepRule, StepTo,
};
use longshore_model::observe::{BackendObserved, BackendSample, ExternalObserved, Sample};
use longshore_model::spec::{
    Constraint, FailureAction, GateSpec, NodeAttribute, Resources, UpdateOrder,
};
use longshore_model::*;
use longshore_planner::{
    Cache, Checker, Outcome, PlanInput, PlannerConfig, check, plan, plan_with, recompute,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Changes, Reader, Words};
use crate::world::*;

/// All that a planning run looks at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    now_ms: TimeMs,
    started_ms: TimeMs,
    desired: Arc<Desired>,
    current: Arc<Plan>,
    memory: Arc<Memory>,
    observed: Observed,
    config: PlannerConfig,
}

impl State {
    fn of(world: &World) -> Self {
        Self {
            now_ms: world.now,
            started_ms: world.started,
            desired: Arc::clone(&world.desired.0),
            current: Arc::clone(&world.plan),
            memory: Arc::clone(&world.memory),
            observed: world.observed.clone(),
            config: world.config.clone(),
        }
    }

    fn input(&self) -> PlanInput<'_> {
        PlanInput {
            now_ms: self.now_ms,
            started_ms: self.started_ms,
            desired: &self.desired,
            current: &self.current,
            memory: &self.memory,
            observed: &self.observed,
            config: &self.config,
        }
    }
}

/// A policy with everything in it.
fn rich_policy() -> AutoscaleSpec {
    let external = Signal::Prometheus(ExternalQuery {
        url: None,
        query: "jobs".into(),
    });
    let signals = [
        (Signal::NodeCpu, 0.6),
        (Signal::Cpu, 0.6),
        (Signal::Memory, 0.8),
        (Signal::Requests, 50.0),
        (Signal::Queue, 2.0),
        (Signal::Concurrency, 4.0),
        (Signal::Latency, 200.0),
        (Signal::Errors, 0.1),
        (external, 10.0),
    ];
    let metric = |(signal, target): (Signal, f64)| Metric {
        kind: signal.default_kind(),
        signal,
        target,
    };
    let step = |at, to| Step { at, to };
    let mut policy = AutoscaleSpec {
        metrics: signals.map(metric).into(),
        steps: vec![StepRule {
            signal: Signal::NodeCpu,
            steps: vec![
                step(0.2, StepTo::Count(2)),
                step(0.5, StepTo::Change(1)),
                step(0.9, StepTo::Change(-1)),
            ],
        }],
        schedules: vec![Schedule {
            name: "always".into(),
            start: "0 0 * * *".into(),
            end: ScheduleEnd::After(86_400_000),
            time_zone: "Europe/Brussels".into(),
            min: Some(2),
            max: None,
        }],
        warm: 2,
        ..node_cpu_policy(1, 8)
    };
    policy.scale_down.policies[0].amount = RateAmount::Replicas(2);
    policy
}

fn samples(now: u64, value: f64) -> Vec<Sample> {
    (0..12)
        .map(|n| Sample {
            at_ms: now - 6_000 + n * 500,
            value,
        })
        .collect()
}

/// What the tiny world does not measure.
fn measure(world: &mut World) {
    let now = world.now;
    for node in world.observed.nodes.values_mut() {
        let node = Arc::make_mut(node);
        for of_replica in Arc::make_mut(&mut node.samples).replicas.values_mut() {
            of_replica.memory_samples = Arc::new(samples(now, 1e8));
        }
        node.images = Arc::new(vec!["web:1".into()]);
    }
    let backend = |n: u64| BackendSample {
        at_ms: now - 6_000 + n * 500,
        requests_total: 1_000 + n * 40,
        errors_total: n,
        rate: 80,
        sessions: 6,
        queued: 1,
        response_ms: 30,
    };
    for edge in world.observed.edges.values_mut() {
        let of_web = BackendObserved {
            rate: 80,
            sessions: 6,
            samples: Arc::new((0..12).map(backend).collect()),
            ..BackendObserved::default()
        };
        Arc::make_mut(edge).backends.insert(key("web"), of_web);
    }
    let answer = ExternalObserved {
        samples: Arc::new(samples(now, 25.0)),
        problem: None,
        tried_ms: Some(now),
    };
    let of_web = world.observed.external.entry(key("web")).or_default();
    of_web.insert("jobs".into(), answer);
}

fn web(image: &str) -> ServiceSpec {
    let mut web = spec(image, 3);
    web.autoscale = Some(rich_policy());
    web.update.failure_action = FailureAction::Rollback;
    web.update.monitor_ms = 2_000;
    web.gate = Some(GateSpec {
        requests_min: 20,
        error_increase_permille_max: Some(10),
        latency_permille_max: Some(1_500),
        latency_ms_min: 10,
    });
    web
}

fn deploy(world: &mut World) {
    for (n, node) in world.desired.nodes.values_mut().enumerate() {
        node.labels.insert("zone".into(), (n % 2).to_string());
    }
    let mut api = spec("api:1", 3);
    api.container.resources = Resources {
        cpu_reserved_milli: 1_500,
        memory_reserved_bytes: 1 << 30,
        ..Resources::default()
    };
    api.placement.max_per_node = 2;
    api.placement.spread_labels = vec!["zone".into()];
    api.placement.constraints = vec![
        Constraint {
            attribute: NodeAttribute::Label("zone".into()),
            equal: false,
            value: "9".into(),
        },
        Constraint {
            attribute: NodeAttribute::Os,
            equal: true,
            value: "linux".into(),
        },
    ];
    let mut db = spec("db:1", 1);
    db.container.fixed_ports.insert(8000, 5_432);
    db.update.order = UpdateOrder::StopFirst;
    db.routes.clear();
    world.apply("web", web("web:1"));
    world.apply("api", api);
    world.apply("db", db);
}

/// Good states of a cluster at work: at rest, in a rollout that breaks, draining, moving, with a
/// node lost, scaled by hand.
fn states() -> Vec<Value> {
    let mut world = World::new(4);
    world.config.rebalance_cooldown_ms = 2_000;
    world.config.rebalance_period_ms = 500;
    let mut states = Vec::new();
    let mut live = |world: &mut World, ticks: usize| {
        for _ in 0..ticks {
            world.tick(500);
            measure(world);
        }
        let state = State::of(world);
        states.push(serde_json::to_value(&state).unwrap());
        let back: State = serde_json::from_value(states.last().unwrap().clone()).unwrap();
        assert_eq!(format!("{state:?}"), format!("{back:?}"));
    };
    deploy(&mut world);
    live(&mut world, 1);
    live(&mut world, 30);
    world.apply("web", web("web:2"));
    live(&mut world, 5);
    live(&mut world, 4);
    world.broken.push("web:3".into());
    world.apply("web", web("web:3"));
    live(&mut world, 9);
    live(&mut world, 30);
    world.drain("node2", 4_000, true);
    live(&mut world, 3);
    world.scale("api", 7);
    world.add_worker("node5");
    live(&mut world, 6);
    world.node("node1").power = false;
    live(&mut world, 25);
    states
}

pub(crate) static GOOD: LazyLock<(Vec<Value>, Words)> = LazyLock::new(|| {
    let states = states();
    let words = Words::of(&states);
    (states, words)
});

/// The state that bytes make of a good one; none if a type refuses it.
pub(crate) fn decode(nth: usize, bytes: &[u8]) -> Option<State> {
    let (states, words) = &*GOOD;
    let mut changes = Changes::new(bytes, words);
    State::deserialize(Reader::new(&mut changes, &states[nth % states.len()])).ok()
}

/// It grew within bounds. Where a service has fewer replicas than it should, it says why; a count can be made again from
/// its record, and a time to look again lies ahead.
fn explained(state: &State, outcome: &Outcome) {
    let before = state.current.replicas().count();
    let most = usize::try_from(AutoscaleSpec::REPLICAS_MAX).unwrap();
    // The count, as many to replace others, as many that stand by.
    let new = state.desired.services().count() * 3 * most;
    assert!(outcome.plan.replicas().count() <= before + new);
    for (service, report) in outcome.report.services.iter() {
        // What leaves makes room for what comes.
        if report.planned + report.leaving < report.wanted {
            assert!(
                !report.waits.is_empty(),
                "{service} says nothing: {report:?}"
            );
        }
        assert_eq!(recompute(&report.scale), report.scale.result, "{service}");
    }
    if let Some(at_ms) = outcome.report.look_again_ms {
        assert!(at_ms > state.now_ms, "looks again at once, for ever");
    }
}

/// Plans and checks a state, then another one on what the first left.
pub(crate) fn survives(first: &State, second: &State) {
    let mut cache = Cache::default();
    let mut checker = Checker::default();
    let outcome = plan_with(&first.input(), &mut cache);
    let said = checker.check(&first.input(), &outcome);
    assert_eq!(said, check(&first.input(), &outcome));
    explained(first, &outcome);
    let next = State {
        current: Arc::clone(&outcome.plan),
        memory: Arc::clone(&outcome.memory),
        ..second.clone()
    };
    let cached = plan_with(&next.input(), &mut cache);
    let scratch = plan(&next.input());
    // As texts: no NaN is like another.
    same(&format!("{cached:?}"), &format!("{scratch:?}"));
    let said = checker.check(&next.input(), &cached);
    let fresh = check(&next.input(), &cached);
    assert_eq!(said.is_ok(), fresh.is_ok(), "{said:?} {fresh:?}");
    explained(&next, &cached);
}

/// Both are the same text; else says where they part.
fn same(cached: &str, scratch: &str) {
    let mut both = cached.bytes().zip(scratch.bytes());
    if cached != scratch {
        let at = both.position(|(a, b)| a != b).unwrap_or(0);
        let part = |text: &str| {
            text[..]
                .get(at.saturating_sub(300)..at + 100)
                .map(str::to_owned)
        };
        panic!(
            "with what the run before left: {:?}; from scratch: {:?}",
            part(cached),
            part(scratch)
        );
    }
}
