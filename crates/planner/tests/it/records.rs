//! What every record of every run must hold: the decision follows from the record alone.

use crate::world::*;
use longshore_model::observe::EngineState;
use longshore_model::reason::{Refusal, RefusalCount};
use longshore_model::record::{AllNodes, NodeFacts, PlacementAsked, PlacementRecord};
use longshore_model::spec::{Constraint, NodeAttribute, PlacementPolicy, Platform, Resources};
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
    short(record);
    let first = record.choices.first().map(|choice| &choice.chosen.node);
    assert_eq!(record.recompute(), first, "{record:?}");
    for choice in &record.choices {
        let again = record.recompute_choice(choice);
        assert_eq!(again, &choice.chosen.node, "{choice:?}");
        if let Some(replica) = world.plan.replica(choice.replica) {
            assert_eq!(replica.node, choice.chosen.node);
        }
    }
    for (_, refusal) in &record.refusals {
        let counted = record
            .refused
            .iter()
            .any(|count| count.kind.is_alike(refusal));
        assert!(counted, "{refusal:?} is not counted: {record:?}");
    }
}

/// Who fits and who does not, and why, follows from what is noted of each node.
fn filtered(record: &PlacementRecord, all: &AllNodes) {
    let again = again(&record.asked, &all.facts);
    let refused: Vec<_> = again
        .iter()
        .filter(|(_, refusal)| refusal.is_some())
        .collect();
    assert_eq!(all.fit as usize, again.len() - refused.len(), "{record:?}");
    for best in &record.best {
        assert!(again.contains(&(best.node.clone(), None)), "{record:?}");
    }
    for (node, refusal) in &all.refusals {
        let refused = (node.clone(), Some(refusal.clone()));
        assert!(again.contains(&refused), "{record:?}");
    }
    let counts = RefusalCount::of(refused.iter().filter_map(|(_, why)| why.as_ref()), 32);
    assert_eq!(counts, all.refused, "{record:?}");
}

/// The filters once more, from the facts.
fn again(asked: &PlacementAsked, facts: &[NodeFacts]) -> Vec<(NodeId, Option<Refusal>)> {
    let facts = facts.iter();
    facts
        .map(|facts| (facts.node.clone(), facts.refusal(asked)))
        .collect()
}

/// Places ran short: every node refuses, for the noted reasons.
fn short(record: &PlacementRecord) {
    let Some(look) = &record.short else {
        assert!(record.refused.is_empty(), "short of what? {record:?}");
        return;
    };
    let again = again(&look.asked, &look.facts);
    for (node, refusal) in &again {
        let refusal = refusal
            .as_ref()
            .unwrap_or_else(|| panic!("{node} fits: {record:?}"));
        let noted = (node.clone(), refusal.clone());
        assert!(record.refusals.contains(&noted), "{noted:?}: {record:?}");
    }
    assert_eq!(again.len(), record.refusals.len(), "{record:?}");
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
        record.best.is_sorted_by(|a, b| record.order(a, b).is_lt()),
        "{record:?}"
    );
    filtered(record, all);
    for (node, _) in &all.refusals {
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

/// What a file may ask of nodes, and nodes that differ in it.
#[derive(Debug, Clone)]
struct Limits {
    constraint: Option<Constraint>,
    platform: Option<Platform>,
    fixed_port: bool,
    /// CPU that each reserves, thousandths of a core.
    cpu_milli: u64,
    /// The range of host ports is that short.
    few_ports: Option<u16>,
    /// Per node: has the label, is of another architecture, has a dead engine, has no CPU.
    nodes: Vec<[bool; 4]>,
}

fn limits() -> impl Strategy<Value = Limits> {
    let attribute = prop_oneof![
        Just(NodeAttribute::Hostname),
        Just(NodeAttribute::Role),
        Just(NodeAttribute::Arch),
        Just(NodeAttribute::Label("disk".into())),
        Just(NodeAttribute::EngineLabel("disk".into())),
    ];
    let value = prop_oneof![Just("node1"), Just("edge"), Just("x86_64"), Just("ssd")];
    let constraint = (attribute, any::<bool>(), value).prop_map(|(attribute, equal, value)| {
        let value = value.into();
        Constraint {
            attribute,
            equal,
            value,
        }
    });
    let platform = prop_oneof![Just("linux/amd64"), Just("linux/arm64")];
    let platform = platform.prop_map(|text| Platform::parse(text).unwrap());
    let rarely = || prop::bool::weighted(0.2);
    let node = [
        any::<bool>().boxed(),
        rarely().boxed(),
        rarely().boxed(),
        rarely().boxed(),
    ];
    (
        prop::option::of(constraint),
        prop::option::of(platform),
        prop::bool::weighted(0.3),
        prop_oneof![Just(0), Just(1_500), Just(70_000)],
        prop::option::weighted(0.3, 0..4_u16),
        prop::collection::vec(node, 5),
    )
        .prop_map(
            |(constraint, platform, fixed_port, cpu_milli, few_ports, nodes)| Limits {
                constraint,
                platform,
                fixed_port,
                cpu_milli,
                few_ports,
                nodes,
            },
        )
}

impl Limits {
    fn dress(&self, world: &mut World) {
        if let Some(few) = self.few_ports {
            world.config.port_max = world.config.port_min + few;
        }
        let names: Vec<NodeId> = world.desired.nodes.keys().cloned().collect();
        let workers = names
            .iter()
            .filter(|name| name.as_str().starts_with("node"));
        for (name, [label, other, dead, empty]) in workers.zip(&self.nodes) {
            if *label {
                let node = world.desired.nodes.get_mut(name).unwrap();
                node.labels.insert("disk".into(), "ssd".into());
            }
            let sim = world.node(name.as_str());
            if *label {
                sim.engine_labels.insert("disk".into(), "hdd".into());
            }
            sim.arch = other.then(|| "aarch64".into());
            sim.empty = *empty;
            if *dead {
                sim.engine = EngineState::Down;
            }
        }
    }

    fn bind(&self, web: &mut ServiceSpec) {
        web.placement.constraints.extend(self.constraint.clone());
        web.container.platform.clone_from(&self.platform);
        web.container.resources.cpu_reserved_milli = self.cpu_milli;
        if self.fixed_port {
            web.container.fixed_ports.insert(8000, 5353);
        }
    }
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
        limits in limits(),
    ) {
        let mut world = World::new(nodes);
        limits.dress(&mut world);
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
            limits.bind(&mut web);
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

#[test]
fn a_packed_node_is_noted_with_what_it_really_holds() {
    let mut world = World::new(2);
    let mut web = spec("web:1", 3);
    web.placement.policy = PlacementPolicy::Binpack;
    world.apply("web", web);
    world.tick(500);
    let mut records = world.report.records.iter();
    let Some(Decision::Placement(record)) = records.find_map(|record| {
        let decision = &record.decision;
        matches!(decision, Decision::Placement(_)).then_some(decision)
    }) else {
        panic!("no place was noted");
    };
    let field = record.fields.iter().position(|f| f == "replicas there");
    let field = field.unwrap();
    let there = record.choices.iter().map(|c| c.chosen.score[field]);
    assert_eq!(there.collect::<Vec<_>>(), [0, 1, 2], "{record:?}");
    assert_eq!(record.most_wins, ["replicas there"]);
}
