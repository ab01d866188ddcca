//! A clock that is put back between two processes: nothing waits until it has come again to where
//! it was.

use crate::rollouts::{NEW, OLD, rollout, settled, update, with};
use crate::world::*;
use longshore_model::autoscale::{Approval, AutoscaleControl};
use longshore_model::plan::Traffic;
use longshore_model::spec::{FailureAction, UpdateSpec};
use longshore_model::*;
use longshore_planner::RebalanceMode;

const HOUR_MS: u64 = 3_600_000;

/// A new process begins an hour earlier by the clock. It remembers nothing.
fn put_back(world: &mut World) {
    world.now -= HOUR_MS;
    world.started = world.now;
    (world.memory, world.observed) = Default::default();
    (world.cache, world.checker) = Default::default();
    // Nodes say how long ago something was.
    let nodes = world.nodes.values_mut();
    for status in nodes.flat_map(|sim| sim.containers.values_mut()) {
        for at_ms in [&mut status.started_ms, &mut status.healthy_ms] {
            *at_ms = at_ms.map(|at_ms| at_ms - HOUR_MS);
        }
    }
}

/// The same before anything happens: there is an hour to go back.
fn later(mut world: World) -> World {
    world.now += 2 * HOUR_MS;
    world
}

fn replaced(world: &mut World, update: UpdateSpec) {
    world.apply("web", with(OLD, 3, update.clone()));
    world.ticks(60);
    assert_eq!(rollout(world).word(), "done");
    world.apply("web", with(NEW, 3, update));
    world.tick(500);
}

#[test]
fn what_leaves_has_its_time_from_then_on_and_no_more() {
    let mut world = later(World::new(3));
    world.sticky = true;
    replaced(&mut world, update(FailureAction::Pause));
    while world.leaving("web").is_empty() {
        world.tick(500);
    }
    let first = world.leaving("web")[0].0.id;
    world.ticks(4);
    put_back(&mut world);
    world.ticks(16);
    let drains = world.plan.replica(first).map(|replica| replica.traffic);
    assert_eq!(drains, Some(Traffic::Drain), "its sessions are not cut");
    world.ticks(16);
    assert!(world.plan.replica(first).is_none(), "ten seconds are over");
}

#[test]
fn a_batch_is_watched_for_its_time_and_no_longer() {
    let mut world = later(World::new(3));
    let monitor_ms = 10_000;
    let watched = UpdateSpec {
        monitor_ms,
        ..update(FailureAction::Pause)
    };
    replaced(&mut world, watched);
    while rollout(&world).serving_since_ms.is_none() {
        world.tick(500);
    }
    put_back(&mut world);
    let until_ms = world.now + monitor_ms;
    while rollout(&world).batches < 2 {
        world.tick(500);
        assert!(world.now <= until_ms + 2_000, "{:?}", rollout(&world));
    }
    assert!(world.now >= until_ms, "and no shorter");
}

#[test]
fn the_next_batch_waits_for_its_delay_and_no_longer() {
    let mut world = later(World::new(3));
    let delay_ms = 10_000;
    let slow = UpdateSpec {
        delay_ms,
        ..update(FailureAction::Pause)
    };
    replaced(&mut world, slow);
    while rollout(&world).passed_ms.is_none() {
        world.tick(500);
    }
    put_back(&mut world);
    let until_ms = world.now + delay_ms;
    while rollout(&world).batches < 2 {
        world.tick(500);
        assert!(world.now <= until_ms + 2_000, "{:?}", rollout(&world));
    }
    assert!(world.now >= until_ms, "and no shorter");
}

#[test]
fn what_fails_after_it_counts_against_the_rollout() {
    let mut world = later(World::new(3));
    replaced(&mut world, update(FailureAction::Pause));
    while rollout(&world).batches < 2 {
        world.tick(500);
    }
    put_back(&mut world);
    world.broken.push(NEW.into());
    world.ticks(120);
    assert_eq!(rollout(&world).word(), "paused");
    assert_eq!(world.answering("web"), 3);
}

#[test]
fn a_node_that_joined_before_it_is_lost_as_any_other() {
    let mut world = later(World::new(3));
    world.apply("web", spec(OLD, 3));
    let joined_ms = world.now;
    let node = world.desired.nodes.get_mut(&id("node2")).unwrap();
    node.joined_ms = joined_ms;
    world.ticks(40);
    put_back(&mut world);
    world.ticks(30);
    world.node("node2").power = false;
    world.ticks(60);
    assert!(world.plan.lost.contains_key(&id("node2")));
    assert_eq!(world.answering("web"), 3);
}

/// Nodes that were lost long ago are not lost at once with one that is lost now.
#[test]
fn what_was_lost_before_it_is_no_outage_an_hour_long() {
    let mut world = later(World::new(5));
    world.apply("web", spec(OLD, 5));
    world.ticks(40);
    world.node("node1").power = false;
    world.ticks(200);
    put_back(&mut world);
    world.ticks(160);
    world.node("node2").power = false;
    world.ticks(60);
    assert!(world.plan.lost.contains_key(&id("node2")));
    assert_eq!(world.answering("web"), 5);
}

#[test]
fn a_drain_by_force_has_its_time_and_no_more() {
    let mut world = later(World::new(1));
    world.apply("web", spec(OLD, 2));
    world.ticks(40);
    world.drain("node1", 20_000, true);
    world.ticks(4);
    put_back(&mut world);
    world.ticks(30);
    assert_eq!(world.answering("web"), 2, "nowhere else is room");
    world.ticks(60);
    assert_eq!(world.everyone().count(), 0);
    let drain = &world.report.nodes[&id("node1")].drain;
    assert!(drain.as_ref().is_some_and(|drain| drain.late));
}

#[test]
fn a_count_said_to_an_earlier_life_is_not_for_this_one() {
    let mut world = later(settled(3, spec(OLD, 2)));
    world.scale("web", 5);
    world.ticks(10);
    assert_eq!(world.answering("web"), 5);
    world.desired.apps = SharedMap::new();
    world.ticks(60);
    put_back(&mut world);
    world.apply("web", spec(OLD, 2));
    world.ticks(20);
    assert_eq!(world.plan.services[&key("web")].target, 2);
}

#[test]
fn consent_from_before_it_is_asked_for_again() {
    let mut world = later(World::new(3));
    let mut asking = spec(OLD, 2);
    let mut policy = node_cpu_policy(2, 6);
    policy.mode = AutoscaleMode::Approve;
    asking.autoscale = Some(policy);
    world.apply("web", asking);
    world.ticks(60);
    let consent = Approval {
        count: 4,
        at_ms: world.now,
        by: "ana".into(),
    };
    let control = AutoscaleControl {
        approved: Some(consent),
        ..AutoscaleControl::default()
    };
    world.desired.autoscale.insert(key("web"), control);
    put_back(&mut world);
    world.ticks(40);
    for sim in world.nodes.values_mut() {
        sim.load = 1.2;
    }
    for _ in 0..40 {
        world.tick(500);
    }
    let scale = &world.report.services[&key("web")].scale;
    assert_eq!(scale.proposal.as_ref().map(|p| p.count), Some(4));
    assert_eq!(world.plan.services[&key("web")].target, 2);
}

#[test]
fn replicas_move_to_a_node_that_joined_only_for_as_long_as_files_say() {
    let mut world = later(World::new(2));
    world.config.rebalance = RebalanceMode::OnJoin;
    world.apply("web", spec(OLD, 2));
    let joined_ms = world.now;
    let node = world.desired.nodes.get_mut(&id("node2")).unwrap();
    node.joined_ms = joined_ms;
    world.ticks(40);
    put_back(&mut world);
    world.ticks(4);
    let until_ms = world.memory.rebalance.until_ms;
    assert!(until_ms <= world.now + world.config.rebalance_window_ms);
}
