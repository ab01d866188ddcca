//! Recorded loads against policies: the planner decides, the load is what it was.

use longshore_model::autoscale::{Schedule, ScheduleEnd, Signal};
use longshore_model::recording::{Load, Point, RESOLUTION_MS};
use longshore_model::spec::{Resources, RouteSpec};
use longshore_model::*;
use longshore_planner::PlannerConfig;
use longshore_planner::replay::{Step, replay, unrecorded};
use proptest::prelude::*;

use crate::rig::{Rig, START, key, metric, policy, push};

fn spec(policy: AutoscaleSpec) -> ServiceSpec {
    ServiceSpec {
        container: ContainerSpec {
            image: "web:1".into(),
            ports: vec![8000],
            resources: Resources {
                cpu_limit_milli: 1_000,
                memory_limit_bytes: 1 << 30,
                ..Resources::default()
            },
            ..ContainerSpec::default()
        },
        replicas: 2,
        autoscale: Some(policy),
        routes: vec![RouteSpec::new(80, 8000)],
        ..ServiceSpec::default()
    }
}

/// Points of one load each, with so many replicas as they were.
fn points(load: Load, wanted: u32, totals: impl IntoIterator<Item = f64>) -> Vec<Point> {
    let begin = START.next_multiple_of(RESOLUTION_MS);
    let point = |(at, total): (u64, f64)| {
        let mut point = Point {
            at_ms: begin + at * RESOLUTION_MS,
            wanted,
            ready: wanted,
            ..Point::default()
        };
        point.loads[load.index()] = Some(total);
        point
    };
    (0..).zip(totals).map(point).collect()
}

fn counts(steps: &[Step]) -> Vec<u32> {
    steps.iter().map(|step| step.would).collect()
}

fn run(spec: &ServiceSpec, points: &[Point]) -> Vec<Step> {
    let steps = replay(&key(), spec, points, &PlannerConfig::default());
    assert_eq!(steps.len(), points.len());
    steps
}

#[test]
fn a_total_load_is_shared_by_the_count_of_the_replay() {
    let spec = spec(policy(1, 10, vec![metric(Signal::Cpu, 0.5)]));
    // Two cores all the time: four replicas at half a core each, whatever ran then.
    let quiet = points(Load::Cpu, 2, [2_000.0; 30]);
    let steps = run(&spec, &quiet);
    assert_eq!(*counts(&steps).last().unwrap(), 4, "{steps:?}");
    let last = steps.last().unwrap();
    assert_eq!((last.was, last.was_ratio), (2, Some(2.0)));
    assert_eq!(last.would_ratio, Some(1.0));
    let changed = steps.iter().filter(|step| step.cause.is_some());
    assert!(changed.count() >= 1);
    // It goes down again with the load, after the window of the policy.
    let falling = points(Load::Cpu, 2, [vec![2_000.0; 30], vec![400.0; 30]].concat());
    assert_eq!(*counts(&run(&spec, &falling)).last().unwrap(), 1);
}

#[test]
fn requests_queues_schedules_and_zero_are_replayed() {
    let mut web = spec(policy(0, 10, vec![metric(Signal::Requests, 100.0)]));
    let load = [vec![0.0; 30], vec![450.0; 30]].concat();
    let steps = run(&web, &points(Load::Requests, 1, load));
    let counts = counts(&steps);
    assert_eq!((counts[29], *counts.last().unwrap()), (0, 5), "{counts:?}");
    let always = Schedule {
        name: "always".into(),
        start: "* * * * *".into(),
        end: ScheduleEnd::After(3_600_000),
        time_zone: "UTC".into(),
        min: Some(3),
        max: None,
    };
    web.autoscale.as_mut().unwrap().schedules.push(always);
    let steps = run(&web, &points(Load::Requests, 1, [0.0; 30]));
    assert!(
        steps.iter().skip(2).all(|step| step.would == 3),
        "{steps:?}"
    );
}

#[test]
fn a_dry_run_is_replayed_as_if_it_acted_and_holes_hold_the_count() {
    let mut web = spec(policy(1, 10, vec![metric(Signal::Cpu, 0.5)]));
    web.autoscale.as_mut().unwrap().mode = AutoscaleMode::DryRun;
    let mut seen = points(Load::Cpu, 2, [2_000.0; 60]);
    for point in &mut seen[30..] {
        point.loads = Default::default();
    }
    let counts = counts(&run(&web, &seen));
    assert_eq!((counts[29], counts[59]), (4, 4), "{counts:?}");
}

#[test]
fn what_was_not_recorded_is_named() {
    let of = policy(
        1,
        4,
        vec![metric(Signal::Queue, 1.0), metric(Signal::Cpu, 0.5)],
    );
    let seen = points(Load::Cpu, 2, [1.0]);
    assert_eq!(unrecorded(&of, &seen), [&Signal::Queue]);
    // Missing for ever, it would keep the count up: the other signal decides alone.
    let falling = points(Load::Cpu, 2, [vec![1_500.0; 30], vec![400.0; 30]].concat());
    let steps = run(&spec(of.clone()), &falling);
    assert_eq!(steps.last().unwrap().would, 1, "{steps:?}");
    let fixed = ServiceSpec {
        autoscale: None,
        ..spec(of)
    };
    assert_eq!(replay(&key(), &fixed, &seen, &PlannerConfig::default()), []);
}

/// Each load for two minutes: what the loop decides second by second, as it is recorded.
fn live(of: AutoscaleSpec, loads: &[f64]) -> (Rig, Vec<Point>) {
    let mut rig = Rig::new(of, 2);
    rig.started -= 600_000;
    rig.now = rig.now.next_multiple_of(RESOLUTION_MS);
    rig.decide();
    let mut seen = Vec::new();
    for load in loads {
        for _ in 0..12 {
            rig.run(RESOLUTION_MS / 1_000, |rig| {
                let each = load / f64::from(rig.target().max(1));
                push(&mut rig.replica_cpu, rig.now, each);
            });
            let mut point = Point {
                at_ms: rig.now,
                wanted: rig.target(),
                ready: rig.target(),
                ..Point::default()
            };
            point.loads[Load::Cpu.index()] = Some(*load);
            seen.push(point);
        }
    }
    (rig, seen)
}

/// The same count, or two of those between which the tolerance leaves the choice to the way there.
fn as_good(step: &Step) -> bool {
    let tolerated = |ratio: Option<f64>| ratio.is_some_and(|r| (0.899..=1.101).contains(&r));
    step.was == step.would || (tolerated(step.was_ratio) && tolerated(step.would_ratio))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The live policy over its own recording gives the live decisions, three points after the load
    /// changed at the latest.
    #[test]
    fn a_policy_over_its_own_recording_decides_what_the_loop_decided(
        loads in prop::collection::vec(0.0..8_000.0_f64, 2..6),
        target in 0.2..0.9_f64,
    ) {
        let of = policy(1, 12, vec![metric(Signal::Cpu, target)]);
        let (rig, seen) = live(of, &loads);
        let app = rig.desired.apps.get(&key().app).unwrap();
        let spec = app.services.get(&key().service).unwrap();
        let steps = run(spec, &seen);
        for (load, of_load) in loads.iter().zip(steps.chunks(12)) {
            let last = of_load.last().unwrap();
            prop_assert!(as_good(last), "at {load}: {last:?} of {:?}", counts(&steps));
        }
        // On the way there the loop, with its window of five seconds, sees more than a point each
        // ten: it may go too far and come back.
        let far = steps.iter().filter(|step| !as_good(step)).count();
        prop_assert!(far <= 3 * loads.len(), "{:?}", counts(&steps));
    }

    #[test]
    fn counts_stay_in_bounds_whatever_was_measured(
        loads in prop::collection::vec(prop::option::of(prop::num::f64::ANY), 1..40),
        (min, more) in (0_u32..5, 0_u32..6),
    ) {
        let mut web = spec(policy(min, min + more, vec![metric(Signal::Requests, 10.0)]));
        web.replicas = min;
        let mut seen = points(Load::Requests, min, vec![0.0; loads.len()]);
        for (point, load) in seen.iter_mut().zip(loads) {
            point.loads[Load::Requests.index()] = load;
        }
        let steps = run(&web, &seen);
        prop_assert!(steps.iter().all(|step| (min..=min + more).contains(&step.would)));
    }
}
