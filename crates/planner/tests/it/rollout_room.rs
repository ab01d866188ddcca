//! Rollouts of services for which the nodes have too few host ports.

use crate::rollouts::{NEW, OLD, of_image, on_host_port, rollout, settled, update, with};
use crate::world::*;
use longshore_model::observe::EngineState;
use longshore_model::spec::{FailureAction, UpdateOrder};
use longshore_model::*;

/// What does not fit is not waited for.
#[test]
fn stop_first_goes_on_where_more_are_wanted_than_host_ports_there_are() {
    for (nodes, least) in [(1, 0), (3, 2)] {
        let stop_first = |image: &str| {
            let mut spec = on_host_port(image, 5);
            spec.update.order = UpdateOrder::StopFirst;
            spec
        };
        let mut world = World::new(nodes);
        world.apply("web", stop_first(OLD));
        world.ticks(40);
        world.apply("web", stop_first(NEW));
        for _ in 0..120 {
            world.tick(500);
            assert!(world.answering("web") >= least, "one at a time");
        }
        assert_eq!(of_image(&world, NEW), nodes);
        assert_eq!(rollout(&world).word(), "done");
    }
}

/// A batch of two that finds one free host port, while all that are wanted are there with it: the
/// old ones stop first for the other.
#[test]
fn a_batch_that_finds_room_for_a_part_of_it_goes_on_stop_first() {
    let of_two = |image: &str| {
        let mut spec = on_host_port(image, 4);
        spec.update.parallelism = 2;
        spec
    };
    let mut world = World::new(4);
    world.available("node1", Availability::Cordoned);
    world.apply("web", of_two(OLD));
    world.ticks(40);
    assert_eq!(of_image(&world, OLD), 3);
    world.available("node1", Availability::Active);
    world.apply("web", of_two(NEW));
    for _ in 0..120 {
        world.tick(500);
        assert!(world.answering("web") >= 3, "one at a time");
    }
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (4, "done"));
}

fn stop_first(mut spec: ServiceSpec, parallelism: u32) -> ServiceSpec {
    spec.update.order = UpdateOrder::StopFirst;
    spec.update.parallelism = parallelism;
    spec
}

fn nowhere(mut spec: ServiceSpec) -> ServiceSpec {
    spec.placement.constraints.push(spec::Constraint {
        attribute: spec::NodeAttribute::Label("ssd".into()),
        equal: true,
        value: "true".into(),
    });
    spec
}

/// Each one that stopped would only be lost, one after the other, whatever the file says of order.
#[test]
fn none_stops_first_for_what_no_node_may_run_any_more() {
    for order in [UpdateOrder::Auto, UpdateOrder::StopFirst] {
        let wanted = |image: &str| {
            let mut spec = on_host_port(image, 4);
            spec.update.order = order;
            spec
        };
        let mut world = World::new(4);
        world.apply("web", wanted(OLD));
        world.ticks(40);
        world.apply("web", wanted(NEW));
        while of_image(&world, NEW) < 2 {
            world.tick(500);
        }
        world.apply("web", nowhere(wanted(NEW)));
        for _ in 0..60 {
            world.tick(500);
            assert!(world.answering("web") >= 3, "{order:?}: one was on its way");
        }
    }
}

/// The old one on a node that takes nothing new stops only where its successor has a place.
#[test]
fn what_stops_first_on_a_cordoned_node_has_a_place_elsewhere() {
    let mut world = World::new(3);
    world.apply("web", stop_first(on_host_port(OLD, 3), 1));
    world.ticks(40);
    world.available("node3", Availability::Cordoned);
    world.apply("web", stop_first(on_host_port(NEW, 3), 1));
    for _ in 0..120 {
        world.tick(500);
        assert!(world.answering("web") >= 2, "one at a time");
    }
    assert_eq!((of_image(&world, NEW), of_image(&world, OLD)), (2, 1));
    assert_eq!(world.answering("web"), 3);
    world.add_worker("node4");
    world.ticks(60);
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (3, "done"));
}

/// As many as the file lets stop at once, but none that nobody follows.
#[test]
fn of_several_that_stop_first_none_stops_while_no_node_takes_its_successor() {
    let two = |image: &str| {
        let mut spec = stop_first(with(image, 2, update(FailureAction::Pause)), 2);
        spec.update.max_unavailable = 2;
        spec
    };
    let mut world = World::new(3);
    world.apply("web", two(OLD));
    world.ticks(40);
    for node in ["node1", "node2", "node3"] {
        world.available(node, Availability::Cordoned);
    }
    world.apply("web", two(NEW));
    for _ in 0..60 {
        world.tick(500);
        assert_eq!((of_image(&world, OLD), world.answering("web")), (2, 2));
    }
    let waits = &world.report.services[&key("web")].waits;
    let said = waits
        .iter()
        .find(|wait| matches!(wait, Reason::Unplaceable { .. }));
    assert!(said.is_some(), "{waits:?}");
    world.available("node3", Availability::Active);
    world.ticks(120);
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (2, "done"));
}

/// Where more are wanted than fit, one that leaves a node which takes nothing new is no reason for
/// the next one to leave as well.
#[test]
fn one_that_stops_first_on_a_cordoned_node_draws_no_other_with_it() {
    let mut world = World::new(3);
    world.apply("web", stop_first(on_host_port(OLD, 5), 1));
    world.ticks(40);
    world.apply("web", stop_first(on_host_port(NEW, 5), 1));
    world.tick(500);
    let first = world.leaving("web");
    assert_eq!(first[0].0.node, id("node1"), "it is about to be followed");
    world.available("node2", Availability::Cordoned);
    world.apply("web", stop_first(on_host_port("web:3", 5), 2));
    for _ in 0..60 {
        world.tick(500);
        assert!(world.answering("web") >= 1, "two at a time");
    }
    assert_eq!((of_image(&world, "web:3"), world.answering("web")), (2, 3));
}

/// A node is removed with the new one on it: the old one stops only when that is known to be gone,
/// or the check refuses the plan for ever.
#[test]
fn none_stops_first_beside_one_that_is_lost() {
    let mut world = World::new(2);
    world.apply("web", on_host_port(OLD, 2));
    world.ticks(40);
    world.apply("web", on_host_port(NEW, 2));
    while of_image(&world, NEW) < 1 || rollout(&world).serving_since_ms.is_none() {
        world.tick(500);
    }
    let new = world.active("web").into_iter();
    let node = new
        .filter(|replica| Some(&replica.template) == Some(&rollout(&world).to))
        .map(|replica| replica.node.clone())
        .next()
        .unwrap();
    world.desired.nodes.remove(&node);
    world.nodes.remove(&node);
    for _ in 0..60 {
        world.tick(500);
    }
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (1, "done"));
}

/// A batch is as large as the file says, also where replicas are missing besides.
#[test]
fn what_is_missing_is_a_part_of_the_batch() {
    let mut world = settled(3, with(OLD, 3, update(FailureAction::Pause)));
    world.scale("web", 4);
    world.apply("web", with(NEW, 3, update(FailureAction::Pause)));
    world.tick(500);
    assert_eq!((of_image(&world, NEW), of_image(&world, OLD)), (1, 3));
    for _ in 0..120 {
        world.tick(500);
        let new = u32::try_from(of_image(&world, NEW)).unwrap();
        assert!(new <= rollout(&world).passed + 1, "{new} new");
    }
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (4, "done"));
}

/// The same with a limit for each node: one may start as soon as another one leaves there.
#[test]
fn each_node_is_updated_in_turn_where_more_are_wanted_than_may_share_nodes() {
    for order in [UpdateOrder::Auto, UpdateOrder::StopFirst] {
        let two_each = |image: &str| {
            let mut spec = with(image, 6, update(FailureAction::Pause));
            spec.placement.max_per_node = 2;
            spec.update.order = order;
            spec
        };
        let mut world = World::new(2);
        world.apply("web", two_each(OLD));
        world.ticks(40);
        assert_eq!(of_image(&world, OLD), 4);
        world.apply("web", two_each(NEW));
        for _ in 0..120 {
            world.tick(500);
            assert!(world.answering("web") >= 3, "one at a time");
        }
        assert_eq!((of_image(&world, NEW), rollout(&world).word()), (4, "done"));
    }
}

/// An old standby leaves with the first run of a rollout; its place is taken once it is gone.
#[test]
fn a_standby_that_leaves_holds_its_place_until_it_is_gone() {
    let with_standby = |image: &str| {
        let mut spec = with(image, 3, update(FailureAction::Pause));
        spec.placement.max_per_node = 2;
        spec.autoscale = Some(AutoscaleSpec {
            warm: 1,
            ..node_cpu_policy(3, 3)
        });
        spec
    };
    let mut world = settled(2, with_standby(OLD));
    assert_eq!(world.report.services[&key("web")].warm.planned, 1);
    world.apply("web", with_standby(NEW));
    for _ in 0..120 {
        world.tick(500);
        assert!(world.answering("web") >= 3);
    }
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (3, "done"));
    assert_eq!(world.report.services[&key("web")].warm.planned, 1);
}

/// A service that wants so many standbys.
fn pool(image: &str, warm: u32) -> ServiceSpec {
    let mut pool = spec(image, 1);
    pool.autoscale = Some(AutoscaleSpec {
        warm,
        ..node_cpu_policy(1, 1)
    });
    pool
}

/// Of a batch of two, one finds room. With that it is complete for now: nothing is short of room.
#[test]
fn what_found_no_place_at_first_holds_no_standbys_up() {
    let of_two = |image: &str| {
        let mut spec = on_host_port(image, 3);
        spec.update.parallelism = 2;
        spec
    };
    let mut world = World::new(4);
    world.apply("web", of_two(OLD));
    world.apply("pool", pool("pool:1", 0));
    world.ticks(40);
    world.apply("web", of_two(NEW));
    world.apply("pool", pool("pool:1", 2));
    world.tick(500);
    assert_eq!(of_image(&world, NEW), 1);
    assert_eq!(world.report.services[&key("pool")].warm.planned, 2);
}

/// An old one leaves for the one new one that found room. Its node's engine is down: nothing else
/// finds room there, and the old ones stop first from this run on.
#[test]
fn a_batch_that_turns_to_stop_first_holds_no_standbys_up() {
    let all = |image: &str| {
        let mut spec = on_host_port(image, 3);
        spec.update.parallelism = 3;
        spec
    };
    let mut world = World::new(4);
    world.apply("web", all(OLD));
    world.apply("even", pool("pool:1", 1));
    world.apply("odd", pool("pool:2", 2));
    world.ticks(40);
    let first = world.active("web")[0].node.clone();
    world.apply("web", all(NEW));
    world.tick(500);
    world.node(first.as_str()).engine = EngineState::Down;
    // One of the two wants more with every run.
    for number in 0..40 {
        world.apply("even", pool("pool:1", 1 + number % 2));
        world.apply("odd", pool("pool:2", 2 - number % 2));
        world.tick(500);
    }
    assert!(rollout(&world).stop_first);
}

/// The old one on a node that takes nothing new keeps its place beside a batch: one that has no
/// room there opens no batch after the other.
#[test]
fn with_a_gate_no_batch_is_opened_in_vain_beside_a_cordoned_node() {
    let gated = |image: &str| {
        let mut spec = on_host_port(image, 3);
        spec.gate = Some(spec::GateSpec {
            requests_min: 20,
            error_increase_permille_max: Some(20),
            latency_permille_max: None,
            latency_ms_min: 10,
        });
        spec
    };
    let mut world = World::new(3);
    world.apply("web", gated(OLD));
    world.ticks(40);
    world.available("node3", Availability::Cordoned);
    world.apply("web", gated(NEW));
    for _ in 0..240 {
        world.tick(500);
        assert!(world.answering("web") >= 2, "one at a time");
    }
    assert_eq!((of_image(&world, NEW), of_image(&world, OLD)), (2, 1));
    assert!(rollout(&world).batches <= 3, "{:?}", rollout(&world));
    world.available("node3", Availability::Active);
    world.ticks(40);
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (3, "done"));
}

/// What a successor reserves is nowhere: stopping an old one first would only lose it.
#[test]
fn none_stops_first_for_a_reservation_that_no_node_has() {
    let big = |memory_bytes: u64| {
        let mut spec = on_host_port(NEW, 3);
        spec.container.resources.memory_reserved_bytes = memory_bytes;
        spec
    };
    let mut world = World::new(3);
    world.apply("web", on_host_port(OLD, 3));
    world.ticks(40);
    world.apply("web", big(1 << 50));
    for _ in 0..60 {
        world.tick(500);
        assert_eq!(world.answering("web"), 3);
    }
    let waits = &world.report.services[&key("web")].waits;
    let lacks = |refusal: &reason::RefusalCount| {
        matches!(refusal.kind, reason::Refusal::Memory { .. }) && refusal.nodes == 3
    };
    let says = |wait: &Reason| match wait {
        Reason::Unplaceable { counts, .. } => counts.iter().any(lacks),
        _ => false,
    };
    assert!(waits.iter().any(says), "{waits:?}");
    world.apply("web", big(1 << 20));
    world.ticks(60);
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (3, "done"));
}

/// A standby of the old template holds the only free host port: it makes way within the run that
/// sees it, and the old one on a node that takes nothing new need not wait for the next one.
#[test]
fn a_place_that_an_outdated_standby_holds_is_known_at_once() {
    let mut world = World::new(2);
    let warm = |image: &str| {
        let mut spec = stop_first(on_host_port(image, 1), 1);
        spec.autoscale = pool(image, 1).autoscale;
        spec
    };
    world.apply("web", warm(OLD));
    world.ticks(40);
    assert_eq!(world.report.services[&key("web")].warm.ready, 1);
    let node = world.active("web")[0].node.to_string();
    world.available(&node, Availability::Cordoned);
    world.apply("web", warm(NEW));
    world.ticks(60);
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (1, "done"));
}
