//! Evening out the cluster: who moves, when nobody does, and that it comes to an end.

use std::sync::Arc;

use crate::world::*;
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::LeaveReason;
use longshore_model::record::MoveRecord;
use longshore_model::report::Stay;
use longshore_model::spec::{Constraint, NodeAttribute, PlacementPolicy, UpdateOrder};
use longshore_model::*;
use longshore_planner::RebalanceMode;
use proptest::prelude::*;

fn even_world(workers: usize, mode: RebalanceMode) -> World {
    let mut world = World::new(workers);
    world.config.rebalance = mode;
    world.config.rebalance_cooldown_ms = 2_000;
    world.config.rebalance_period_ms = 500;
    world
}

fn join(world: &mut World, name: &str) {
    world.add_worker(name);
    let now = world.now;
    world.desired.nodes.get_mut(&id(name)).unwrap().joined_ms = now;
}

fn per_node(world: &World, service: &str) -> Vec<usize> {
    world.per_node(service).into_values().collect()
}

/// Replicas on the move: those with a successor, and those that leave because of it.
fn moving(world: &World) -> usize {
    let services = world.plan.services.values();
    let planned: usize = services.map(|service| service.moves.len()).sum();
    let leaves = |r: &&Replica| {
        let leaving = r.leaving.as_ref();
        leaving.is_some_and(|l| l.reason == LeaveReason::Rebalanced)
    };
    planned + world.everyone().filter(leaves).count()
}

/// What the last run noted of its look for moves.
fn looks(world: &World) -> Vec<Arc<MoveRecord>> {
    let records = world.report.records.iter();
    let looks = records.filter_map(|record| match &record.decision {
        Decision::Move(look) => Some(Arc::clone(look)),
        _ => None,
    });
    looks.collect()
}

fn stay(world: &World, service: &str) -> Option<Stay> {
    world.report.services[&key(service)].rebalance.stays.clone()
}

#[test]
fn a_node_that_joins_gets_its_share_two_at_a_time_and_nobody_is_missed() {
    let mut world = even_world(2, RebalanceMode::OnJoin);
    world.apply("web", spec("web:1", 8));
    world.ticks(20);
    assert_eq!(stay(&world, "web"), Some(Stay::NoNodeJoined));
    join(&mut world, "node3");
    let mut most = 0;
    let mut noted = Vec::new();
    for _ in 0..120 {
        world.tick(500);
        assert!(world.answering("web") >= 8, "a move may not be missed");
        most = most.max(moving(&world));
        noted.extend(looks(&world));
    }
    let moved = noted.iter().filter_map(|look| look.moved.as_ref());
    let moved: Vec<_> = moved
        .map(|m| (m.from.to_string(), m.to.to_string()))
        .collect();
    assert_eq!(moved.len(), 2, "{moved:?}");
    assert!(moved.iter().all(|(_, to)| to == "node3"), "{moved:?}");
    let last = noted.last().unwrap();
    assert_eq!(last.stays, Some(Stay::Even));
    assert!(
        !last.from.is_empty(),
        "no look at why nothing moves: {last:?}"
    );
    assert_eq!(per_node(&world, "web"), [3, 3, 2]);
    assert_eq!(most, 2);
    assert_eq!((moving(&world), world.answering("web")), (0, 8));
    assert_eq!(stay(&world, "web"), Some(Stay::Even));
}

#[test]
fn a_node_that_comes_back_gets_its_share_again() {
    let mut world = even_world(3, RebalanceMode::OnJoin);
    world.apply("web", spec("web:1", 6));
    world.ticks(20);
    world.node("node2").power = false;
    world.ticks(60);
    assert_eq!(per_node(&world, "web"), [3, 3]);
    world.node("node2").power = true;
    world.ticks(120);
    assert_eq!(per_node(&world, "web"), [2, 2, 2]);
}

#[test]
fn services_of_one_replica_are_spread_over_the_nodes_too() {
    let mut world = even_world(1, RebalanceMode::OnJoin);
    for name in ["a", "b", "c", "d"] {
        world.apply(name, spec(&format!("{name}:1"), 1));
    }
    world.ticks(20);
    join(&mut world, "node2");
    world.ticks(120);
    let on_first = |name: &&str| world.per_node(name).contains_key("node1");
    assert_eq!(
        ["a", "b", "c", "d"].iter().filter(|n| on_first(n)).count(),
        2
    );
}

#[test]
fn what_must_stay_stays_and_says_why() {
    let mut world = even_world(1, RebalanceMode::OnJoin);
    type Shape = fn(&mut ServiceSpec);
    let shapes: [(&str, Shape, Stay); 4] = [
        ("stay", |s| s.placement.stay = true, Stay::OptedOut),
        (
            "pack",
            |s| s.placement.policy = PlacementPolicy::Binpack,
            Stay::Binpack,
        ),
        (
            "stop",
            |s| s.update.order = UpdateOrder::StopFirst,
            Stay::StopFirst,
        ),
        (
            "here",
            |s| {
                s.placement.constraints.push(Constraint {
                    attribute: NodeAttribute::Hostname,
                    equal: true,
                    value: "NODE1".into(),
                });
            },
            Stay::Even,
        ),
    ];
    for (name, shape, _) in &shapes {
        let mut service = spec(&format!("{name}:1"), 4);
        shape(&mut service);
        world.apply(name, service);
    }
    world.ticks(20);
    join(&mut world, "node2");
    world.ticks(60);
    for (name, _, why) in shapes {
        assert_eq!(stay(&world, name), Some(why), "{name}");
        assert_eq!(per_node(&world, name), [4], "{name}");
    }
}

#[test]
fn nothing_moves_while_the_cluster_is_not_sure() {
    let mut world = even_world(2, RebalanceMode::Continuous);
    world.apply("web", spec("web:1", 6));
    world.ticks(20);
    world.started = world.now;
    world.memory = Default::default();
    join(&mut world, "node3");
    world.ticks(10);
    assert!(matches!(stay(&world, "web"), Some(Stay::Observing { .. })));
    assert_eq!(moving(&world), 0);
    world.node("node2").session = false;
    world.ticks(20);
    assert_eq!(stay(&world, "web"), Some(Stay::Doubt));
    assert_eq!(moving(&world), 0);
    world.node("node2").session = true;
    world.ticks(80);
    assert_eq!(per_node(&world, "web"), [2, 2, 2]);
}

#[test]
fn a_change_of_the_count_and_a_rollout_come_first() {
    let mut world = even_world(2, RebalanceMode::Continuous);
    world.config.rebalance_cooldown_ms = 60_000;
    world.apply("web", spec("web:1", 6));
    world.ticks(20);
    join(&mut world, "node3");
    world.ticks(10);
    assert!(matches!(stay(&world, "web"), Some(Stay::Cooldown { .. })));
    assert_eq!(moving(&world), 0);
    world.config.rebalance_cooldown_ms = 0;
    let mut pinned = spec("web:2", 6);
    // The rollout itself goes nowhere near the new node.
    pinned.placement.constraints.push(Constraint {
        attribute: NodeAttribute::Hostname,
        equal: false,
        value: "node3".into(),
    });
    world.apply("web", pinned);
    world.ticks(3);
    assert_eq!(stay(&world, "web"), Some(Stay::RolloutRuns));
    assert_eq!(moving(&world), 0);
}

#[test]
fn a_rollout_that_is_over_is_not_said_to_run() {
    let mut world = even_world(2, RebalanceMode::OnJoin);
    world.config.rebalance_window_ms = 2_000;
    world.apply("web", spec("web:1", 6));
    world.ticks(40);
    join(&mut world, "node3");
    world.apply("web", spec("web:2", 6));
    world.ticks(4);
    assert_eq!(stay(&world, "web"), Some(Stay::RolloutRuns));
    let runs = |world: &World| {
        let rollout = world.plan.services[&key("web")].rollout.as_ref();
        rollout.is_some_and(longshore_model::rollout::Rollout::runs)
    };
    for _ in 0..400 {
        world.tick(500);
        if !runs(&world) {
            break;
        }
    }
    assert!(!runs(&world), "it goes on and on");
    world.tick(500);
    assert_eq!(stay(&world, "web"), Some(Stay::NoNodeJoined));
}

#[test]
fn a_rollout_ends_a_move_and_the_count_stays_right() {
    let mut world = even_world(1, RebalanceMode::Continuous);
    world.apply("web", spec("web:1", 4));
    world.ticks(20);
    join(&mut world, "node2");
    let begins = (0..40).any(|_| {
        world.tick(500);
        moving(&world) > 0
    });
    assert!(begins);
    world.apply("web", spec("web:2", 4));
    for _ in 0..80 {
        world.tick(500);
        assert!(world.answering("web") >= 4);
    }
    assert_eq!(world.active("web").len(), 4);
    let images = world.active("web").into_iter().map(|r| r.revision);
    assert!(images.into_iter().all(|revision| revision == 2));
}

#[test]
fn off_means_off() {
    let mut world = even_world(1, RebalanceMode::Off);
    world.apply("web", spec("web:1", 4));
    world.ticks(20);
    join(&mut world, "node2");
    world.ticks(60);
    assert_eq!(per_node(&world, "web"), [4]);
    assert_eq!(stay(&world, "web"), Some(Stay::Off));
}

/// Squared counts: per service and zone, per service and node, per node.
fn potential(world: &World) -> [u64; 3] {
    let mut zones: std::collections::BTreeMap<_, u64> = Default::default();
    let mut nodes: std::collections::BTreeMap<_, u64> = Default::default();
    let mut totals: std::collections::BTreeMap<_, u64> = Default::default();
    for replica in world.everyone().filter(|r| r.leaving.is_none()) {
        let zone = world.desired.nodes[&replica.node].labels.get("zone");
        *zones.entry((&replica.service, zone)).or_default() += 1;
        *nodes.entry((&replica.service, &replica.node)).or_default() += 1;
        *totals.entry(&replica.node).or_default() += 1;
    }
    let squares = |counts: Vec<u64>| counts.iter().map(|n| n * n).sum();
    [
        squares(zones.into_values().collect()),
        squares(nodes.into_values().collect()),
        squares(totals.into_values().collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// From any state: each wave of moves lowers the potential, there are no more moves than
    /// replicas can be moved, then nothing is planned any more.
    #[test]
    fn evening_out_comes_to_an_end(
        nodes in 2..6_usize,
        zones in 1..4_usize,
        counts in prop::collection::vec(1..7_u32, 1..4),
        crowded in any::<u8>(),
    ) {
        let mut world = even_world(nodes, RebalanceMode::Off);
        for (n, node) in world.desired.nodes.values_mut().enumerate() {
            if zones > 1 {
                node.labels.insert("zone".into(), (n % zones).to_string());
            }
            let cordoned = crowded & (1 << n) != 0;
            if cordoned {
                node.availability = Availability::Cordoned;
            }
        }
        let first = world.desired.nodes.keys().find(|n| n.as_str() == "node1").cloned().unwrap();
        world.desired.nodes.get_mut(&first).unwrap().availability = Availability::Active;
        for (n, count) in counts.iter().enumerate() {
            world.apply(["web", "api", "db"][n], spec(&format!("{n}:1"), *count));
        }
        world.ticks(20);
        for node in world.desired.nodes.values_mut() {
            node.availability = Availability::Active;
        }
        world.config.rebalance = RebalanceMode::Continuous;
        let replicas: u32 = counts.iter().sum();
        let (mut moves, mut before) = (0, potential(&world));
        let mut quiet = 0;
        for _ in 0..2_000 {
            let outcome = world.tick(500);
            let began = |e: &&EventKind| matches!(e, EventKind::Moving { .. });
            moves += outcome.report.events.iter().filter(began).count();
            prop_assert!(moving(&world) <= 2);
            if moving(&world) == 0 && potential(&world) != before {
                let now = potential(&world);
                prop_assert!(now < before, "{now:?} after {before:?}");
                before = now;
            }
            quiet = if moving(&world) == 0 { quiet + 1 } else { 0 };
            if quiet > 20 {
                break;
            }
        }
        prop_assert!(quiet > 20, "it does not end: {moves} moves");
        prop_assert!(moves <= 2 * replicas as usize, "{moves} moves of {replicas} replicas");
        for name in ["web", "api", "db"].iter().take(counts.len()) {
            prop_assert_eq!(stay(&world, name), Some(Stay::Even));
            let serving = |r: &&&Replica| r.traffic == Traffic::Serve;
            prop_assert_eq!(world.active(name).iter().filter(serving).count(), world.active(name).len());
        }
    }
}

#[test]
fn what_has_just_come_to_a_node_rests_there() {
    let mut world = even_world(2, RebalanceMode::Continuous);
    world.config.rebalance_cooldown_ms = 20_000;
    let pinned = |node: &str, count: u32| {
        let mut service = spec(&format!("{node}:1"), count);
        service.placement.constraints.push(Constraint {
            attribute: NodeAttribute::Hostname,
            equal: true,
            value: node.to_uppercase(),
        });
        service
    };
    world.apply("one", pinned("node1", 3));
    world.apply("web", spec("web:1", 1));
    let moved = |world: &World| {
        let moves = |event: &&EventKind| matches!(event, EventKind::Moving { .. });
        world.events.iter().filter(moves).count()
    };
    // Up and down on either node faster than the replica may follow.
    for _ in 0..10 {
        for (first, second) in [("one", "two"), ("two", "one")] {
            world.apply(
                first,
                pinned(if first == "one" { "node1" } else { "node2" }, 0),
            );
            world.apply(
                second,
                pinned(if second == "one" { "node1" } else { "node2" }, 4),
            );
            world.ticks(12);
        }
    }
    // 120 s: at most once in 20 s.
    let count = moved(&world);
    assert!((1..=6).contains(&count), "moved {count} times");
}
