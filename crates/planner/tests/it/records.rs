//! What every record of every run must hold: the decision follows from the record alone.

use crate::world::*;
use longshore_model::record::PlacementRecord;
use longshore_model::spec::{PlacementPolicy, Resources};
use longshore_model::*;
use proptest::prelude::*;

fn places(world: &World, record: &PlacementRecord) {
    let scores = record
        .best
        .iter()
        .chain(record.choices.iter().map(|c| &c.chosen));
    for score in scores {
        assert_eq!(score.score.len(), record.fields.len(), "{record:?}");
    }
    all_nodes(world, record);
    let first = record.choices.first().map(|choice| &choice.chosen.node);
    assert_eq!(record.recompute(), first, "{record:?}");
    for choice in &record.choices {
        assert_eq!(choice.recompute(), &choice.chosen.node, "{choice:?}");
        if let Some(replica) = world.plan.replica(choice.replica) {
            assert_eq!(replica.node, choice.chosen.node);
        }
    }
    for (node, refusal) in &record.refusals {
        assert!(
            refusal.recompute(),
            "{node} refuses without a reason: {refusal:?}"
        );
        let counted = record
            .refused
            .iter()
            .any(|count| count.kind.is_alike(refusal));
        assert!(counted, "{refusal:?} is not counted: {record:?}");
    }
}

/// Every node of a small cluster either has a score or a reason.
fn all_nodes(world: &World, record: &PlacementRecord) {
    let Some(all) = &record.all else {
        assert_eq!(record.placed, 0, "placed without a look: {record:?}");
        return;
    };
    assert_eq!(
        all.nodes() as usize,
        world.desired.nodes.len(),
        "{record:?}"
    );
    assert_eq!(all.fit as usize, record.best.len(), "{record:?}");
    assert!(
        record.best.is_sorted_by(|a, b| a.score < b.score),
        "{record:?}"
    );
    for (node, refusal) in &all.refusals {
        assert!(refusal.recompute(), "{node} without a reason: {refusal:?}");
        let scored = record.best.iter().any(|best| best.node == *node);
        assert!(!scored, "{node} both fits and does not: {record:?}");
    }
}

/// Makes every decision of the last run again; gives how many there were of each kind.
fn check(world: &World) -> [usize; 4] {
    let mut seen = [0; 4];
    for record in &world.report.records {
        assert_eq!(record.plan_version, world.plan.version);
        match &record.decision {
            // The recomputation of counts has tests of its own.
            Decision::Scale(_) => seen[0] += 1,
            Decision::Placement(placement) => {
                seen[1] += 1;
                places(world, placement);
            }
            Decision::Drain(drain) => {
                seen[2] += 1;
                assert!(drain.recompute(), "stopped too early: {drain:?}");
                let replica = world.plan.replica(drain.replica);
                assert!(replica.is_none_or(|replica| replica.stop), "{drain:?}");
            }
            Decision::Victims(victims) => {
                seen[3] += 1;
                assert_eq!(victims.recompute(), victims.chosen, "{victims:?}");
            }
            // Made again in every run of every world.
            Decision::Rollout(_) | Decision::Move(_) => {}
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn each_decision_follows_from_its_record(
        nodes in 1..5_usize,
        cordoned in prop::option::of(1..3_usize),
        counts in prop::collection::vec(0..12_u32, 1..4),
        memory in 0..4_u64,
        pack in any::<bool>(),
        most in 0..3_u32,
    ) {
        let mut world = World::new(nodes);
        if let Some(node) = cordoned.filter(|node| *node <= nodes) {
            world.available(&format!("node{node}"), Availability::Cordoned);
        }
        let mut seen = [0; 4];
        for count in counts {
            let mut web = spec("web:1", count);
            web.container.resources = Resources {
                memory_reserved_bytes: memory << 30,
                ..Default::default()
            };
            web.placement.max_per_node = most;
            if pack {
                web.placement.policy = PlacementPolicy::Binpack;
            }
            world.apply("web", web);
            for _ in 0..12 {
                world.tick(500);
                for (all, now) in seen.iter_mut().zip(check(&world)) {
                    *all += now;
                }
            }
        }
        prop_assert!(seen[0] > 0, "no decision about a count was noted");
    }
}

#[test]
fn a_life_leaves_a_record_of_its_place_and_of_its_end() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    let mut seen = [0; 4];
    let mut watch = |world: &mut World| {
        for _ in 0..20 {
            world.tick(500);
            for (all, now) in seen.iter_mut().zip(check(world)) {
                *all += now;
            }
        }
        seen
    };
    assert_eq!(watch(&mut world)[1], 1, "two replicas, one look for places");
    world.apply("web", spec("web:1", 1));
    let seen = watch(&mut world);
    assert_eq!(seen[3], 1, "one choice of who leaves");
    assert_eq!(seen[2], 1, "one replica left");
}

#[test]
fn each_place_names_the_next_best_node_while_there_is_one() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 7));
    let mut choices = 0;
    for _ in 0..10 {
        world.tick(500);
        for record in &world.report.records {
            if let Decision::Placement(placement) = &record.decision {
                let alone = placement.choices.iter().find(|c| c.runner_up.is_none());
                assert!(alone.is_none(), "two more nodes fit: {alone:?}");
                choices += placement.choices.len();
            }
        }
    }
    assert_eq!(choices, 7);
}
