//! Weights by load, through whole planning runs.

use std::sync::Arc;

use crate::world::*;
use longshore_model::spec::Weights;
use longshore_model::weight::{WEIGHT_MAX, WEIGHT_PERIOD_MS, WEIGHT_RISE_MAX, WeightRule};
use longshore_model::*;

fn weighed(replicas: u32) -> ServiceSpec {
    let mut spec = spec("web:1", replicas);
    spec.routes[0].weights = Weights::Load;
    spec
}

/// Weights of a service's servers in the routes, by replica.
fn weights(world: &World, service: &str) -> Vec<Option<u8>> {
    let service = key(service);
    let routes = world.plan.routes();
    let backends = routes.backends.iter().filter(|b| b.service == service);
    backends
        .flat_map(|b| b.servers.iter().map(|s| s.weight))
        .collect()
}

fn node_of(world: &World, nth: usize) -> NodeId {
    let plan = &world.plan.services[&key("web")];
    plan.replicas.values().nth(nth).unwrap().node.clone()
}

fn settled(workers: usize, replicas: u32) -> World {
    let mut world = World::new(workers);
    world.apply("web", weighed(replicas));
    world.apply("api", spec("api:1", replicas));
    world.ticks(60);
    world
}

#[test]
fn a_hog_moves_traffic_within_seconds_and_nobody_else_notices() {
    let mut world = settled(3, 3);
    assert_eq!(weights(&world, "web"), [Some(WEIGHT_MAX); 3]);
    assert_eq!(world.plan.services[&key("web")].weights, None);
    let hogged = node_of(&world, 1);
    let api = Arc::clone(&world.plan.services[&key("api")]);
    let (before, generation) = (world.now, world.plan.routes_generation);
    world.nodes.get_mut(&hogged).unwrap().load = 0.95;
    while weights(&world, "web")[1] == Some(WEIGHT_MAX) {
        world.tick(500);
        assert!(
            world.now - before < 5_000,
            "{:?}",
            world.report.services[&key("web")]
        );
    }
    assert_eq!(world.plan.routes_generation, generation + 1);
    assert!(weights(&world, "web")[1] < Some(WEIGHT_MAX));
    // Long afterwards it is at its least, and no other service has anything to do with it.
    world.ticks(120);
    let now = weights(&world, "web");
    assert!(now[1] < Some(30) && now[0] == Some(WEIGHT_MAX), "{now:?}");
    assert_eq!(weights(&world, "api"), [None; 3]);
    assert!(Arc::ptr_eq(&api, &world.plan.services[&key("api")]));
    // At most one list for the edges in a period, and none once all is said.
    let generation = world.plan.routes_generation;
    assert!(generation <= 20, "{generation}");
    world.ticks(60);
    assert_eq!(world.plan.routes_generation, generation);
}

#[test]
fn what_is_known_survives_a_restart_and_trust_comes_back_slowly() {
    let mut world = settled(3, 3);
    let hogged = node_of(&world, 0);
    world.nodes.get_mut(&hogged).unwrap().load = 0.95;
    world.ticks(60);
    let low = weights(&world, "web")[0].unwrap();
    assert!(low < 50, "{low}");
    world.started = world.now;
    (world.memory, world.observed) = Default::default();
    world.run();
    assert_eq!(weights(&world, "web")[0], Some(low));
    world.nodes.get_mut(&hogged).unwrap().load = 0.2;
    let mut last = (world.now, low);
    for _ in 0..200 {
        world.tick(500);
        let now = weights(&world, "web")[0].unwrap();
        if now != last.1 {
            assert!(
                now > last.1 && now - last.1 <= WEIGHT_RISE_MAX,
                "{last:?} {now}"
            );
            assert!(last.1 == low || world.now - last.0 >= WEIGHT_PERIOD_MS);
            last = (world.now, now);
        }
    }
    assert!(last.1 >= 85, "{last:?}");
}

#[test]
fn a_newcomer_weighs_what_the_others_do_and_a_leaver_is_forgotten() {
    let mut world = settled(4, 3);
    let hogged = node_of(&world, 2);
    world.nodes.get_mut(&hogged).unwrap().load = 0.95;
    world.ticks(60);
    world.scale("web", 4);
    world.ticks(12);
    let now = weights(&world, "web");
    assert_eq!(now.len(), 4);
    assert!(now[3] > now[2], "{now:?}");
    world.scale("web", 1);
    world.ticks(60);
    assert_eq!(weights(&world, "web").len(), 1);
    let known = world.plan.services[&key("web")].weights.as_ref().unwrap();
    assert_eq!(known.weights.len(), 1);
    // The file no longer asks for them.
    world.apply("web", spec("web:1", 1));
    world.ticks(2);
    assert_eq!(weights(&world, "web"), [None]);
    assert_eq!(world.plan.services[&key("web")].weights, None);
}

#[test]
fn the_report_says_why() {
    let mut world = settled(2, 2);
    let looks = &world.report.services[&key("web")].weights;
    assert!(
        looks.iter().all(|look| look.rule == WeightRule::Steady),
        "{looks:?}"
    );
    assert!(world.report.services[&key("api")].weights.is_empty());
    let hogged = node_of(&world, 0);
    world.nodes.get_mut(&hogged).unwrap().load = 1.0;
    world.ticks(24);
    let look = &world.report.services[&key("web")].weights[0];
    assert_eq!((&look.node, look.free_percent), (&hogged, Some(0)));
    assert!(look.weight <= 60 && look.age_ms <= 2_000, "{look:?}");
}

#[test]
fn a_clock_that_was_put_back_holds_up_nothing() {
    let mut world = settled(2, 2);
    let hogged = node_of(&world, 0);
    world.nodes.get_mut(&hogged).unwrap().load = 1.0;
    world.ticks(20);
    let mut plan = Plan::clone(&world.plan);
    let mut service = plan.services[&key("web")].as_ref().clone();
    service.weights.as_mut().unwrap().changed_ms = u64::MAX;
    plan.services.insert(key("web"), Arc::new(service));
    world.plan = Arc::new(plan);
    let before = weights(&world, "web");
    world.nodes.get_mut(&hogged).unwrap().load = 0.0;
    world.ticks(40);
    assert!(weights(&world, "web")[0] > before[0], "{before:?}");
}
