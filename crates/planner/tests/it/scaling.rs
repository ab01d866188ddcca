//! What the planner promises of counts, one fact each.

use crate::world::*;
use longshore_model::autoscale::{OnMissing, Signal, Step, StepRule, StepTo};
use longshore_model::reason::ScaleCause;
use longshore_model::*;

#[test]
fn load_over_the_target_scales_out_and_the_new_ones_are_not_ordered_twice() {
    let mut world = World::new(3);
    let mut auto = spec("web:1", 2);
    auto.autoscale = Some(node_cpu_policy(1, 10));
    world.apply("web", auto);
    world.ticks(30);
    let settled = world.plan.services[&key("web")].target;
    for sim in world.nodes.values_mut() {
        sim.load = 1.2;
    }
    world.ticks(12);
    let target = world.plan.services[&key("web")].target;
    assert!(
        target > settled && target <= settled * 2,
        "{settled} -> {target}"
    );
}

#[test]
fn missing_samples_never_scale_in() {
    let mut world = World::new(3);
    let mut auto = spec("web:1", 5);
    auto.autoscale = Some(node_cpu_policy(1, 10));
    world.apply("web", auto);
    for sim in world.nodes.values_mut() {
        sim.load = 0.6;
    }
    world.ticks(30);
    let before = world.plan.services[&key("web")].target;
    for (sim, value) in world.nodes.values_mut().zip([0.0, 0.0, f64::NAN]) {
        sim.load = value;
    }
    world.ticks(120);
    assert_eq!(world.plan.services[&key("web")].target, before);
    let reasons = &world.report.services[&key("web")].scale.reasons;
    let missing = Reason::MissingSamples {
        signal: "node_cpu".into(),
        good: 2,
        all: 3,
    };
    assert!(reasons.contains(&missing), "{reasons:?}");
    world.node("node3").load = 0.0;
    world.ticks(60);
    assert_eq!(
        world.plan.services[&key("web")].target,
        1,
        "with all samples it may"
    );
}

#[test]
fn steps_follow_a_tenth_of_node_cpu() {
    let mut world = World::new(2);
    let mut auto = spec("web:1", 1);
    let tenths = (1..=9).map(|n| Step {
        at: f64::from(n) / 10.0,
        to: StepTo::Count(n),
    });
    let mut policy = node_cpu_policy(1, 9);
    policy.metrics.clear();
    policy.steps = vec![StepRule {
        signal: Signal::NodeCpu,
        steps: tenths.collect(),
    }];
    policy.scale_up.policies.clear();
    auto.autoscale = Some(policy);
    world.apply("web", auto);
    for (load, wanted) in [(0.3, 3), (0.77, 7), (0.3, 3), (0.05, 3), (0.1, 1)] {
        for sim in world.nodes.values_mut() {
            sim.load = load;
        }
        world.ticks(40);
        assert_eq!(world.plan.services[&key("web")].target, wanted, "at {load}");
    }
}

#[test]
fn a_manual_count_is_obeyed_once_and_held_as_long_as_asked() {
    let mut world = World::new(3);
    let mut auto = spec("web:1", 2);
    auto.autoscale = Some(node_cpu_policy(1, 5));
    world.apply("web", auto);
    world.ticks(20);
    world.scale("web", 9);
    world.tick(500);
    assert_eq!(
        world.plan.services[&key("web")].target,
        5,
        "inside the bounds"
    );
    world.scale("web", 7);
    let until = world.now + 60_000;
    world
        .desired
        .manual
        .get_mut(&key("web"))
        .unwrap()
        .hold_until_ms = Some(until);
    world.ticks(60);
    assert_eq!(
        world.plan.services[&key("web")].target,
        7,
        "a held count is free of bounds"
    );
    world.ticks(120);
    assert!(world.plan.services[&key("web")].target <= 5);
}

/// It lasts until its end by the controller's clock, also where that comes a second time.
#[test]
fn a_hold_that_was_over_holds_its_count_again_when_the_clock_is_put_back() {
    let mut world = World::new(3);
    let mut auto = spec("web:1", 2);
    auto.autoscale = Some(node_cpu_policy(1, 5));
    world.apply("web", auto);
    world.ticks(20);
    world.scale("web", 7);
    let until = world.now + 20_000;
    let manual = world.desired.manual.get_mut(&key("web")).unwrap();
    manual.hold_until_ms = Some(until);
    world.ticks(60);
    assert!(world.plan.services[&key("web")].target <= 5, "it is over");
    world.now = until - 10_000;
    world.ticks(4);
    let entry = &world.plan.services[&key("web")];
    assert_eq!(entry.target, 7);
    let change = entry.last_change.as_ref().unwrap();
    assert!(matches!(change.cause, ScaleCause::Manual { .. }));
    world.ticks(60);
    assert!(world.plan.services[&key("web")].target <= 5, "and again");
}

#[test]
fn a_redeploy_keeps_the_live_count_and_a_changed_file_does_not() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 2));
    world.ticks(5);
    world.scale("web", 5);
    world.ticks(5);
    world.apply("web", spec("web:2", 2));
    world.ticks(5);
    assert_eq!(world.plan.services[&key("web")].target, 5);
    world.apply("web", spec("web:2", 3));
    world.ticks(5);
    assert_eq!(world.plan.services[&key("web")].target, 3);
}

#[test]
fn a_dry_run_says_and_does_not() {
    let mut world = World::new(3);
    let mut auto = spec("web:1", 2);
    let mut policy = node_cpu_policy(1, 10);
    policy.mode = AutoscaleMode::DryRun;
    auto.autoscale = Some(policy);
    world.apply("web", auto);
    for sim in world.nodes.values_mut() {
        sim.load = 1.5;
    }
    world.ticks(30);
    assert_eq!(world.plan.services[&key("web")].target, 2);
    let reasons = &world.report.services[&key("web")].scale.reasons;
    assert!(
        reasons
            .iter()
            .any(|r| matches!(r, Reason::DryRun { would_be: 3.. })),
        "{reasons:?}"
    );
}

#[test]
fn without_samples_scale_to_min_gives_back_only_what_does_not_serve() {
    for (on_missing, wanted) in [(OnMissing::Hold, 6), (OnMissing::ScaleToMin, 3)] {
        let mut world = World::new(3);
        let mut auto = spec("web:1", 6);
        auto.placement.max_per_node = 1;
        let mut policy = node_cpu_policy(1, 10);
        policy.on_missing = on_missing;
        auto.autoscale = Some(policy);
        world.apply("web", auto);
        for sim in world.nodes.values_mut() {
            sim.load = f64::NAN;
        }
        world.ticks(40);
        assert_eq!(world.plan.services[&key("web")].target, wanted);
        assert_eq!(world.answering("web"), 3, "nothing that serves is given up");
    }
}

#[test]
fn nothing_is_given_back_without_samples_before_the_controller_has_watched() {
    let mut world = World::new(3);
    let mut auto = spec("web:1", 6);
    auto.placement.max_per_node = 1;
    let mut policy = node_cpu_policy(1, 10);
    policy.on_missing = OnMissing::ScaleToMin;
    auto.autoscale = Some(policy);
    world.started = world.now;
    world.apply("web", auto);
    for sim in world.nodes.values_mut() {
        sim.load = f64::NAN;
    }
    world.ticks(19);
    assert_eq!(world.plan.services[&key("web")].target, 6);
    world.ticks(3);
    assert_eq!(world.plan.services[&key("web")].target, 3);
}

/// A service on the CPU of its own replicas, half of a limit of one core.
fn on_replica_cpu(limit_milli: u64) -> ServiceSpec {
    let mut auto = spec("web:1", 2);
    let mut policy = node_cpu_policy(1, 8);
    policy.metrics[0].signal = Signal::Cpu;
    policy.metrics[0].target = 0.5;
    auto.autoscale = Some(policy);
    auto.container.resources.cpu_limit_milli = limit_milli;
    auto
}

#[test]
fn replica_cpu_follows_the_share_of_the_limit() {
    let mut world = World::new(3);
    world.apply("web", on_replica_cpu(1_000));
    let set = |world: &mut World, milli: f64| {
        for sim in world.nodes.values_mut() {
            (sim.container_milli, sim.load) = (milli, 0.0);
        }
    };
    set(&mut world, 480.0);
    world.ticks(40);
    assert_eq!(
        world.plan.services[&key("web")].target,
        2,
        "inside the tolerance"
    );
    set(&mut world, 900.0);
    world.ticks(12);
    assert!(world.plan.services[&key("web")].target >= 4);
    set(&mut world, 50.0);
    world.ticks(60);
    assert_eq!(world.plan.services[&key("web")].target, 1);
}

#[test]
fn replica_cpu_without_limit_or_reservation_decides_nothing() {
    let mut world = World::new(3);
    world.apply("web", on_replica_cpu(0));
    for milli in [3_000.0, 0.0] {
        for sim in world.nodes.values_mut() {
            sim.container_milli = milli;
        }
        world.ticks(60);
        assert_eq!(world.plan.services[&key("web")].target, 2);
    }
}

#[test]
fn a_load_inside_the_tolerance_changes_nothing() {
    let mut world = World::new(2);
    let mut auto = spec("web:1", 5);
    auto.autoscale = Some(node_cpu_policy(1, 10));
    world.apply("web", auto);
    for load in [0.65, 0.55] {
        for sim in world.nodes.values_mut() {
            sim.load = load;
        }
        world.ticks(60);
        assert_eq!(world.plan.services[&key("web")].target, 5, "at {load}");
    }
}

#[test]
fn a_count_held_beyond_the_maximum_falls_to_it_when_the_hold_ends() {
    let mut world = World::new(3);
    let mut auto = spec("web:1", 2);
    auto.autoscale = Some(node_cpu_policy(1, 5));
    world.apply("web", auto);
    world.ticks(10);
    world.scale("web", 9);
    let until = world.now + 30_000;
    let manual = world.desired.manual.get_mut(&key("web")).unwrap();
    manual.hold_until_ms = Some(until);
    for sim in world.nodes.values_mut() {
        sim.load = 1.4;
    }
    world.ticks(50);
    assert_eq!((world.active("web").len(), world.answering("web")), (9, 9));
    let reasons = &world.report.services[&key("web")].scale.reasons;
    let held = Reason::Held {
        until_ms: Some(until),
    };
    assert_eq!(*reasons, [held]);
    world.ticks(40);
    let entry = &world.plan.services[&key("web")];
    let change = entry.last_change.as_ref().unwrap();
    assert_eq!((change.from, change.to), (9, 5));
    assert_eq!(change.cause, ScaleCause::Bounds { min: 1, max: 5 });
    assert_eq!(world.answering("web"), 5);
}

/// Also where it was the count in force already, so that nothing changed when it was said.
#[test]
fn a_hold_outlives_a_redeploy() {
    let mut world = World::new(3);
    let mut auto = spec("web:1", 2);
    auto.autoscale = Some(node_cpu_policy(1, 5));
    world.apply("web", auto.clone());
    world.ticks(4);
    let count = world.plan.services[&key("web")].target;
    world.scale("web", count);
    let until = world.now + 60_000;
    let manual = world.desired.manual.get_mut(&key("web")).unwrap();
    manual.hold_until_ms = Some(until);
    world.tick(500);
    auto.container.image = "web:2".into();
    world.apply("web", auto);
    for _ in 0..100 {
        for sim in world.nodes.values_mut() {
            sim.load = 0.95;
        }
        world.tick(500);
        assert_eq!(world.plan.services[&key("web")].target, count);
    }
}
