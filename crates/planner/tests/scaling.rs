//! What the planner promises of counts, one fact each.

mod world;

use longshore_model::autoscale::{Signal, Step, StepRule, StepTo};
use longshore_model::*;
use world::*;

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
