//! Nodes that come and go.

use crate::world::*;
use longshore_model::plan::Flaps;
use longshore_model::*;

/// The node loses its power, is called lost, and comes back.
fn flap(world: &mut World, node: &str) {
    world.node(node).power = false;
    // Where no edge can tell, it takes longer.
    for _ in 0..40 {
        if !world.plan.lost.contains_key(&id(node)) {
            world.tick(500);
        }
    }
    assert!(world.plan.lost.contains_key(&id(node)), "{node} is lost");
    world.node(node).power = true;
    world.ticks(3);
    assert!(world.plan.lost.is_empty(), "{node} is back");
}

fn penalty_ms(world: &World, node: &str) -> Option<u64> {
    let report = &world.report.nodes[&id(node)];
    match report.reason {
        Some(Reason::Flapping { until_ms, .. }) => {
            Some(until_ms - world.plan.flaps[&id(node)].back_ms.unwrap())
        }
        _ => None,
    }
}

#[test]
fn a_node_that_comes_and_goes_waits_longer_each_time_before_it_takes_replicas() {
    let mut world = World::new(4);
    world.config.flap_replacements_max = 100;
    world.apply("web", spec("web:1", 4));
    world.ticks(8);
    flap(&mut world, "node2");
    assert_eq!(penalty_ms(&world, "node2"), None, "a reboot is no flap");
    world.scale("web", 8);
    world.ticks(4);
    assert!(world.per_node("web").contains_key("node2"));
    flap(&mut world, "node2");
    assert_eq!(penalty_ms(&world, "node2"), Some(60_000));
    let said = EventKind::NodeFlaps {
        node: id("node2"),
        losses: 2,
        for_ms: 60_000,
    };
    assert!(world.events.contains(&said));
    world.scale("web", 12);
    world.ticks(8);
    assert_eq!(world.answering("web"), 12, "elsewhere");
    assert!(!world.per_node("web").contains_key("node2"));
    for wait_ms in [120_000, 240_000, 480_000, 960_000, 1_800_000, 1_800_000] {
        flap(&mut world, "node2");
        assert_eq!(penalty_ms(&world, "node2"), Some(wait_ms));
    }
}

#[test]
fn a_penalty_ends_once_the_node_has_stayed_and_outlives_a_restart_of_the_controller() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    flap(&mut world, "node2");
    flap(&mut world, "node2");
    world.started = world.now;
    (world.memory, world.cache) = Default::default();
    world.scale("web", 6);
    world.ticks(110);
    assert_eq!(penalty_ms(&world, "node2"), Some(60_000));
    assert!(!world.per_node("web").contains_key("node2"));
    world.ticks(12);
    assert_eq!(penalty_ms(&world, "node2"), None);
    world.scale("web", 9);
    world.ticks(4);
    assert!(world.per_node("web").contains_key("node2"));
    world.now += 3_600_000;
    world.ticks(3);
    assert!(world.plan.flaps.is_empty(), "an hour without a loss");
}

#[test]
fn one_node_causes_three_replacements_an_hour_and_no_more() {
    let mut world = World::new(3);
    let mut everywhere = spec("web:1", 3);
    everywhere.placement.max_per_node = 1;
    world.apply("web", everywhere);
    world.ticks(8);
    let first_ms = world.now;
    for _ in 0..2 {
        flap(&mut world, "node2");
        world.ticks(130);
        assert_eq!(world.per_node("web")["node2"], 1, "re-admitted");
    }
    flap(&mut world, "node2");
    let Flaps { replaced_ms, .. } = &world.plan.flaps[&id("node2")];
    assert_eq!(replaced_ms.len(), 3);
    assert!(replaced_ms[0] >= first_ms);
    let until_ms = replaced_ms[0] + world.config.flap_forget_ms;
    let waits = world.report.services[&key("web")].waits.clone();
    let refused = Refusal::Flapping {
        losses: 3,
        until_ms,
    };
    let Some(Reason::Unplaceable { refusals, .. }) = waits.first() else {
        panic!("{waits:?}")
    };
    assert!(refusals.contains(&(id("node2"), refused)), "{refusals:?}");
    world.now = until_ms - 2_000;
    world.ticks(2);
    assert!(!world.per_node("web").contains_key("node2"));
    world.ticks(10);
    assert_eq!(world.per_node("web")["node2"], 1);
}

#[test]
fn what_runs_on_a_node_that_flaps_goes_on_and_the_only_node_takes_what_there_is() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.ticks(8);
    for _ in 0..3 {
        flap(&mut world, "node2");
    }
    assert!(penalty_ms(&world, "node2").is_some());
    assert_eq!(world.active("web").len(), 2);
    world.node("node1").session = false;
    world.node("node1").reachable = false;
    world.ticks(10);
    assert_eq!(penalty_ms(&world, "node2"), None, "nobody else takes any");
    assert_eq!(world.per_node("web")["node2"], 2);
    world.node("node1").session = true;
    world.node("node1").reachable = true;
    world.ticks(10);
    assert!(penalty_ms(&world, "node2").is_some());
    assert_eq!(world.per_node("web")["node2"], 2, "what serves stays");
    assert_eq!(world.answering("web"), 2);
}

#[test]
fn a_clock_put_back_makes_no_penalty_longer() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.now += 7_200_000;
    world.ticks(8);
    flap(&mut world, "node2");
    flap(&mut world, "node2");
    world.now -= 3_600_000;
    world.started = world.now;
    (world.memory, world.cache) = Default::default();
    world.ticks(4);
    let until_ms = match world.report.nodes[&id("node2")].reason {
        Some(Reason::Flapping { until_ms, .. }) => until_ms,
        ref other => panic!("{other:?}"),
    };
    assert!(until_ms <= world.now + 60_000);
}

#[test]
fn whoever_takes_a_node_back_forgives_its_losses() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    for _ in 0..3 {
        flap(&mut world, "node2");
    }
    assert!(penalty_ms(&world, "node2").is_some());
    world.tick(1_000);
    let now_ms = world.now;
    world
        .desired
        .nodes
        .get_mut(&id("node2"))
        .unwrap()
        .uncordoned_ms = now_ms;
    world.ticks(2);
    assert_eq!(penalty_ms(&world, "node2"), None);
    world.scale("web", 9);
    world.ticks(8);
    assert!(world.per_node("web").contains_key("node2"));
    // The next loss is the first again.
    flap(&mut world, "node2");
    assert_eq!(penalty_ms(&world, "node2"), None);
    flap(&mut world, "node2");
    assert_eq!(penalty_ms(&world, "node2"), Some(60_000));
}

/// A controller that is cut off hears of each node for the last time at another moment. Where no edge can tell of
/// any, the first to be judged must not be evicted before the others are.
#[test]
fn nodes_that_fall_silent_one_after_the_other_are_one_outage_without_a_second_witness_too() {
    let mut world = World::new(3);
    let mut plain = spec("web:1", 6);
    plain.routes.clear();
    world.apply("web", plain);
    world.ticks(8);
    let placed = world.per_node("web");
    for node in ["node2", "node1", "node3"] {
        world.node(node).power = false;
        world.tick(400);
    }
    for _ in 0..120 {
        world.tick(250);
        assert!(world.plan.lost.is_empty(), "{:?}", world.plan.lost);
    }
    let outage = |reason: &Reason| matches!(reason, Reason::PartialOutage { away: 3, all: 3 });
    assert!(
        world.report.problems.iter().any(outage),
        "{:?}",
        world.report.problems
    );
    assert_eq!(world.per_node("web"), placed);
}
