//! Laws of the autoscaler on random streams: missing, stale, not numbers, infinite, negative, huge,
//! counters that go back, clocks that jump, restarts. `PROPTEST_CASES` asks for more cases.

use crate::rig::*;
use longshore_model::autoscale::{
    Behavior, ExternalQuery, OnMissing, Pause, RateAmount, RatePolicy, Signal, Step, StepRule,
    StepTo,
};
use longshore_model::observe::{BackendSample, Sample};
use longshore_model::reason::ScaleCause;
use longshore_model::*;
use proptest::prelude::*;

/// What one edge's counters do.
#[derive(Debug, Clone, Copy)]
enum Counter {
    Silent,
    Rises(u32),
    /// Its program started again.
    Restarts,
    /// Anything at all.
    Is(u64, u64),
}

/// What happens before one decision.
#[derive(Debug, Clone)]
struct Happens {
    after_ms: u64,
    /// CPU of each worker, none: it says nothing.
    cpu: [Option<f64>; 2],
    replica: Option<f64>,
    external: Option<f64>,
    counters: [Counter; 2],
    /// Milliseconds by which samples are stamped wrongly.
    skew_ms: i64,
    /// The controller starts again, and its clock jumps by so much.
    restart_ms: Option<i64>,
}

fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        8 => (0.0..2.0_f64).prop_map(Some),
        2 => (0.0..500.0_f64).prop_map(Some),
        2 => any::<u64>().prop_map(|bits| Some(f64::from_bits(bits))),
        1 => Just(Some(f64::NAN)),
        1 => Just(Some(f64::MAX)),
        2 => Just(None),
    ]
}

fn counter() -> impl Strategy<Value = Counter> {
    prop_oneof![
        8 => (0..2_000_u32).prop_map(Counter::Rises),
        1 => Just(Counter::Silent),
        1 => Just(Counter::Restarts),
        1 => any::<(u64, u64)>().prop_map(|(requests, errors)| Counter::Is(requests, errors)),
    ]
}

fn happens() -> impl Strategy<Value = Happens> {
    let skew = prop_oneof![
        12 => Just(0_i64),
        1 => Just(3_600_000),
        1 => Just(-3_600_000),
        1 => -6_000..6_000_i64,
    ];
    let restart = prop_oneof![
        12 => Just(None),
        1 => prop_oneof![Just(0_i64), -400_000..400_000_i64].prop_map(Some),
    ];
    let after = prop_oneof![4 => Just(1_000_u64), 2 => 100..4_000_u64, 1 => 4_000..40_000_u64];
    let values = ([value(), value()], value(), value(), [counter(), counter()]);
    (after, values, skew, restart).prop_map(
        |(after_ms, (cpu, replica, external, counters), skew_ms, restart_ms)| Happens {
            after_ms,
            cpu,
            replica,
            external,
            counters,
            skew_ms,
            restart_ms,
        },
    )
}

fn jobs() -> Signal {
    Signal::Prometheus(ExternalQuery {
        url: None,
        query: "jobs".into(),
    })
}

fn signals() -> [(Signal, f64); 9] {
    [
        (Signal::NodeCpu, 0.6),
        (Signal::Cpu, 0.5),
        (Signal::Memory, 0.8),
        (Signal::Requests, 300.0),
        (Signal::Queue, 1.0),
        (Signal::Concurrency, 10.0),
        (Signal::Latency, 100.0),
        (Signal::Errors, 0.05),
        (jobs(), 40.0),
    ]
}

fn behavior() -> impl Strategy<Value = Behavior> {
    let policies = prop_oneof![
        2 => Just(vec![]),
        1 => (1..4_u32, 1_000..20_000_u64).prop_map(|(n, period_ms)| vec![
            RatePolicy { amount: RateAmount::Replicas(n), period_ms },
            RatePolicy { amount: RateAmount::Percent(50), period_ms },
        ]),
    ];
    let window = prop_oneof![Just(0_u64), Just(4_000), Just(30_000)];
    let tolerance = prop_oneof![4 => Just(0.1), 1 => Just(f64::NAN), 1 => Just(0.0)];
    (window, tolerance, policies, any::<bool>()).prop_map(
        |(stabilization_ms, tolerance, policies, select_min)| Behavior {
            stabilization_ms,
            tolerance,
            policies,
            select_min,
        },
    )
}

/// Policies, some of which the API would refuse: a stored one may be anything.
fn policies() -> impl Strategy<Value = AutoscaleSpec> {
    let chosen = proptest::collection::btree_set(0..9_usize, 1..4);
    let bad = prop_oneof![12 => Just(None), 1 => prop_oneof![
        Just(0.0), Just(-1.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::MIN_POSITIVE),
    ].prop_map(Some)];
    let steps = proptest::option::weighted(0.2, -3..4_i32);
    let window = prop_oneof![Just(2_000_u64), Just(10_000)];
    (
        (0..4_u32, 0..9_u32),
        chosen,
        bad,
        steps,
        window,
        [behavior(), behavior()],
    )
        .prop_map(|((min, more), chosen, bad, steps, window_ms, [up, down])| {
            let metrics = chosen.iter().map(|n| {
                let (signal, target) = signals()[*n].clone();
                metric(signal, bad.unwrap_or(target))
            });
            let mut policy = policy(min, (min + more).max(1), metrics.collect());
            policy.steps.extend(steps.map(|change| StepRule {
                signal: Signal::NodeCpu,
                steps: vec![Step {
                    at: 0.3,
                    to: StepTo::Change(change),
                }],
            }));
            policy.window_ms = window_ms;
            (policy.scale_up, policy.scale_down) = (up, down);
            policy
        })
}

fn feed(rig: &mut Rig, step: &Happens) {
    let at_ms = rig.now.saturating_add_signed(step.skew_ms);
    for (name, value) in WORKERS.into_iter().zip(step.cpu) {
        if let Some(value) = value {
            push(rig.cpu.entry(name).or_default(), at_ms, value);
        }
    }
    if let Some(value) = step.replica {
        push(&mut rig.replica_cpu, at_ms, value * 1_000.0);
        push(&mut rig.replica_memory, at_ms, value * 1_000.0);
    }
    if let Some(value) = step.external {
        push(&mut rig.external, at_ms, value);
    }
    for (name, counter) in EDGES.into_iter().zip(step.counters) {
        let ring = rig.rings.entry(name).or_default();
        let last = ring.last().copied().unwrap_or_default();
        let (requests_total, errors_total, rate) = match counter {
            Counter::Silent => continue,
            Counter::Rises(n) => (
                last.requests_total.saturating_add(n.into()),
                last.errors_total.saturating_add(u64::from(n) / 50),
                n,
            ),
            Counter::Restarts => (0, 0, 0),
            Counter::Is(requests, errors) => (requests, errors, u32::MAX),
        };
        ring.push(BackendSample {
            at_ms,
            requests_total,
            errors_total,
            rate,
            sessions: rate / 10,
            queued: rate / 200,
            response_ms: rate / 8,
        });
        let surplus = ring.len().saturating_sub(128);
        ring.drain(..surplus);
    }
}

/// Written apart from the planner: could anybody know enough of this signal to take capacity away?
fn known(rig: &Rig, policy: &AutoscaleSpec, signal: &Signal) -> bool {
    let (now, window) = (rig.now, policy.window_ms);
    let inside = |at_ms: u64, stale_ms: u64| at_ms <= now && now - at_ms <= window.min(stale_ms);
    let number = |s: &&Sample| s.value.is_finite() && s.value >= 0.0;
    // Of a window shorter than the pace of measuring the newest sample counts while it is fresh.
    let lasts = |at_ms: u64| at_ms <= now && now - at_ms <= 5_000;
    let fresh = |ring: &[Sample]| {
        let newest = ring
            .iter()
            .filter(|s| s.at_ms <= now)
            .max_by_key(|s| s.at_ms);
        let newest = newest.filter(number).is_some_and(|s| lasts(s.at_ms));
        newest || ring.iter().filter(number).any(|s| inside(s.at_ms, 5_000))
    };
    let edges = |least: usize| {
        EDGES.iter().all(|edge| {
            let ring = rig.rings.get(edge).map_or(&[][..], |ring| ring);
            let within = ring
                .iter()
                .filter(|s| s.at_ms <= now && now - s.at_ms <= window);
            let within = within.count() >= least && ring.iter().any(|s| inside(s.at_ms, 5_000));
            within || ring.len() >= least && ring.iter().any(|s| lasts(s.at_ms))
        })
    };
    match signal {
        Signal::NodeCpu => {
            let heard = |name: &&str| rig.cpu.get(name).is_some_and(|ring| fresh(ring));
            WORKERS.iter().all(heard)
        }
        Signal::Cpu => fresh(&rig.replica_cpu),
        Signal::Memory => fresh(&rig.replica_memory),
        Signal::Queue | Signal::Concurrency => edges(1),
        Signal::Requests | Signal::Latency | Signal::Errors => edges(2),
        Signal::Prometheus(_) => {
            let mut numbers = rig.external.iter().filter(number);
            numbers.any(|s| s.at_ms <= now && now - s.at_ms <= 30_000)
        }
    }
}

/// A change of the count, on a clock that never jumps.
#[derive(Debug, Clone, Copy)]
struct Went {
    at_ms: u64,
    up: bool,
}

/// Lives through a stream and checks every decision.
fn live(
    policy: &AutoscaleSpec,
    stream: &[Happens],
    recommendations_max: usize,
) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(policy.clone(), policy.min);
    rig.config.recommendations_max = recommendations_max;
    rig.decide();
    let (mut true_ms, mut went): (u64, Vec<Went>) = (0, Vec::new());
    for step in stream {
        rig.now += step.after_ms;
        true_ms += step.after_ms;
        if let Some(jump_ms) = step.restart_ms {
            rig.now = rig.now.saturating_add_signed(jump_ms);
            rig.started = rig.now;
            rig.memory = Default::default();
        }
        feed(&mut rig, step);
        let before = rig.target();
        let record = rig.decide();
        let after = rig.target();
        prop_assert!(
            (policy.min..=policy.max).contains(&after),
            "{after} outside: {record:?}"
        );
        if after == before {
            continue;
        }
        if after < before {
            for rule in &policy.metrics {
                let known = known(&rig, policy, &rule.signal);
                prop_assert!(
                    known,
                    "{before} -> {after} without {}: {record:?}",
                    rule.signal
                );
            }
        }
        let up = after > before;
        let window_ms = match up {
            true => policy.scale_up.stabilization_ms,
            false => policy.scale_down.stabilization_ms,
        };
        let turned = went.iter().rev().find(|w| w.up != up);
        if let Some(last) = turned {
            let rest_ms = true_ms - last.at_ms;
            prop_assert!(
                rest_ms >= window_ms,
                "turned after {rest_ms} ms: {record:?}"
            );
        }
        went.push(Went { at_ms: true_ms, up });
    }
    Ok(())
}

/// Few enough to be run at every change.
fn cases(few: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config.cases,
        None => few,
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..config
    }
}

proptest! {
    #![proptest_config(cases(48))]

    /// Bounds, bad data, one turn per window, the record, planning twice: see [`live`] and
    /// [`Rig::decide`].
    #[test]
    fn the_autoscaler_keeps_its_laws(
        policy in policies(),
        stream in proptest::collection::vec(happens(), 1..30),
        // One that remembers next to nothing keeps them as well.
        recommendations_max in prop_oneof![Just(1_024_usize), Just(1)],
    ) {
        live(&policy, &stream, recommendations_max)?;
    }

    #[test]
    fn no_consent_no_change(
        mut policy in policies(),
        stream in proptest::collection::vec(happens(), 1..20),
        way in 0..4_u8,
        first in 0..9_u32,
    ) {
        policy.on_missing = OnMissing::ScaleToMin;
        match way {
            0 => policy.mode = AutoscaleMode::DryRun,
            1 => policy.mode = AutoscaleMode::Approve,
            _ => {}
        }
        let mut rig = Rig::new(policy, first);
        match way {
            2 => {
                let (by, since_ms) = ("ana".into(), rig.now);
                rig.control().paused = Some(Pause { since_ms, until_ms: None, by });
            }
            3 => {
                let manual = ManualScale {
                    count: first,
                    at_ms: rig.now,
                    hold_until_ms: Some(u64::MAX),
                    by: "ana".into(),
                };
                rig.desired.manual.insert(key(), manual);
            }
            _ => {}
        }
        rig.decide();
        let before = rig.target();
        for step in &stream {
            rig.now += step.after_ms;
            feed(&mut rig, step);
            let record = rig.decide();
            prop_assert_eq!(rig.target(), before, "{:?}", record);
        }
        let entry = &rig.plan.services[&key()];
        let others = entry.changes.iter().filter(|change| {
            !matches!(change.cause, ScaleCause::Initial | ScaleCause::Manual { .. })
        });
        prop_assert_eq!(others.count(), 0);
    }

    /// The same past, and then more of one signal: never fewer replicas.
    #[test]
    fn more_load_never_means_fewer_replicas(
        policy in policies(),
        past in proptest::collection::vec(happens(), 0..8),
        (low, high) in prop_oneof![
            (0.0..3.0_f64, 0.0..3.0_f64),
            (0.0..1e300_f64, 0.0..1e300_f64),
        ],
        which in 0..5_u8,
    ) {
        let mut policy = policy;
        policy.steps.clear();
        let (low, high) = (low.min(high), low.max(high));
        let result = |value: f64| {
            let mut rig = Rig::new(policy.clone(), 4);
            rig.decide();
            for step in &past {
                rig.now += step.after_ms;
                let quiet = Happens { skew_ms: 0, ..step.clone() };
                feed(&mut rig, &quiet);
                rig.decide();
            }
            // Everything else is as it should be; counters start anew.
            rig.rings.clear();
            for second in 1..=20 {
                rig.now += 1_000;
                let load = |n| if which == n { value } else { 0.3 };
                rig.node_cpu(load(0));
                let now = rig.now;
                push(&mut rig.replica_cpu, now, load(1) * 1_000.0);
                push(&mut rig.replica_memory, now, load(2) * 1_000.0);
                push(&mut rig.external, now, load(3) * 100.0);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let more = (load(4) * 1_000.0).min(1e6) as u64;
                // Enough for `latency` and `errors` to say something: that they do not know is
                // not less than that all is well.
                let requests = 50 + more;
                for edge in EDGES {
                    rig.answered(edge, requests, 0, 50);
                }
                // Decided once, at the end: decisions on the way would make two pasts.
                if second == 20 {
                    rig.decide();
                }
            }
            rig.target()
        };
        let (fewer, more) = (result(low), result(high));
        prop_assert!(fewer <= more, "{low} -> {fewer}, {high} -> {more}");
    }
}
