//! Who leaves when fewer are wanted: the planner against a naive model of the same order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::world::*;
use longshore_model::*;
use proptest::prelude::*;

const REPLICAS: usize = 8;

/// The rank of a replica: the smallest leaves first. Looked up anew for each that leaves.
fn rank(world: &World, replica: &plan::Replica, left: &BTreeSet<ReplicaId>) -> impl Ord + use<> {
    let seen = &world.observed.nodes[&replica.node];
    let sick = seen.replicas[&replica.id].state == ReplicaState::Unhealthy;
    let node = &world.desired.nodes[&replica.node];
    let reserved = world
        .plan
        .replicas()
        .filter(|r| r.node == replica.node)
        .count()
        * 1_000;
    let over = reserved as u64 > seen.capacity.cpu_milli;
    let place = match (node.availability, over) {
        (Availability::Cordoned, _) => 1,
        (_, true) => 2,
        _ => 3,
    };
    let staying = world.active("web");
    let here = staying
        .iter()
        .filter(|r| r.node == replica.node && !left.contains(&r.id));
    let sessions = world.observed.edges.values().map(|edge| {
        let of = edge
            .sessions
            .get(&replica.service)
            .and_then(|s| s.get(&replica.id));
        of.map_or(0, |s| s.sessions)
    });
    (
        !sick,
        place,
        Reverse(here.count()),
        sessions.sum::<u32>(),
        Reverse(replica.id),
    )
}

fn naive(world: &World, count: usize) -> BTreeSet<ReplicaId> {
    let mut left = BTreeSet::new();
    for _ in 0..count {
        let staying = world
            .active("web")
            .into_iter()
            .filter(|r| !left.contains(&r.id));
        let victim = staying.min_by_key(|r| rank(world, r, &left)).unwrap().id;
        left.insert(victim);
    }
    left
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn surplus_leaves_in_order(
        sessions in prop::collection::vec(0..5_u32, REPLICAS),
        cordoned in 0..8_u8,
        shrunk in 0..8_u8,
        sick in 0..16_usize,
        to in 1..REPLICAS,
    ) {
        let mut world = World::new(3);
        let mut web = spec("web:1", u32::try_from(REPLICAS).unwrap());
        web.container.resources.cpu_reserved_milli = 1_000;
        world.apply("web", web);
        world.ticks(16);
        prop_assert_eq!(world.answering("web"), REPLICAS);
        let ids: Vec<ReplicaId> = world.active("web").iter().map(|r| r.id).collect();
        for n in 0..3_u8 {
            let node = id(&format!("node{}", n + 1));
            if cordoned & (1 << n) != 0 {
                world.desired.nodes.get_mut(&node).unwrap().availability = Availability::Cordoned;
            }
            let seen = Arc::make_mut(world.observed.nodes.get_mut(&node).unwrap());
            if shrunk & (1 << n) != 0 {
                Arc::make_mut(&mut seen.capacity).cpu_milli = 1_500;
            }
            if let Some(id) = ids.get(sick)
                && let Some(status) = Arc::make_mut(&mut seen.replicas).get_mut(id)
            {
                status.state = ReplicaState::Unhealthy;
            }
        }
        let edge = Arc::make_mut(world.observed.edges.values_mut().next().unwrap());
        let of_web = Arc::make_mut(edge.sessions.get_mut(&key("web")).unwrap());
        let wanted: BTreeMap<ReplicaId, u32> = ids.iter().copied().zip(sessions).collect();
        for (id, server) in of_web.iter_mut() {
            server.sessions = wanted[id];
        }
        let expected = naive(&world, REPLICAS - to);
        world.scale("web", u32::try_from(to).unwrap());
        world.run();
        let left: BTreeSet<ReplicaId> = world.leaving("web").iter().map(|(r, _)| r.id).collect();
        prop_assert_eq!(left, expected);
    }
}
