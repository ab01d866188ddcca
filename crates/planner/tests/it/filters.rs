//! Filters of nodes, each against a plain reading of the rule, and what they are called.

use crate::world::*;
use longshore_model::reason::Refusal;
use longshore_model::spec::{Constraint, NodeAttribute, Platform};
use longshore_model::*;
use proptest::prelude::*;

fn label(world: &mut World, node: &str, key: &str, value: &str) {
    let node = world.desired.nodes.get_mut(&id(node)).unwrap();
    node.labels.insert(key.into(), value.into());
}

fn refusals(world: &World, service: &str) -> (Vec<Refusal>, String) {
    let waits = &world.report.services[&key(service)].waits;
    let [reason @ Reason::Unplaceable { refusals, .. }] = waits.as_slice() else {
        panic!("{waits:?}")
    };
    let of = refusals.iter().map(|(_, refusal)| refusal.clone());
    (of.collect(), reason.to_string())
}

#[test]
fn services_spread_over_zones_by_themselves_once_there_are_two() {
    let mut world = World::new(4);
    for node in ["node1", "node2", "node3", "node4"] {
        label(&mut world, node, "zone", "a");
    }
    world.apply("before", spec("before:1", 4));
    world.tick(500);
    let counts: Vec<usize> = world.per_node("before").into_values().collect();
    assert_eq!(counts, [1, 1, 1, 1], "one zone is none");
    label(&mut world, "node4", "zone", "b");
    world.apply("after", spec("after:1", 6));
    world.tick(500);
    let counts: Vec<usize> = world.per_node("after").into_values().collect();
    assert_eq!(counts, [1, 1, 1, 3]);
    let mut other = spec("other:1", 4);
    other.placement.spread_labels.push("rack".into());
    world.apply("other", other);
    world.tick(500);
    let counts: Vec<usize> = world.per_node("other").into_values().collect();
    assert_eq!(
        counts,
        [1, 1, 1, 1],
        "who names a preference means that one"
    );
}

#[test]
fn several_levels_are_evened_out_in_their_order() {
    let mut world = World::new(4);
    for (node, zone, rack) in [
        ("node1", "a", "1"),
        ("node2", "a", "2"),
        ("node3", "a", "2"),
        ("node4", "b", "3"),
    ] {
        label(&mut world, node, "zone", zone);
        world
            .node(node)
            .engine_labels
            .insert("rack".into(), rack.into());
    }
    world.ticks(1);
    let mut two = spec("two:1", 8);
    two.placement.spread_labels = vec!["zone".into(), "engine.labels.rack".into()];
    world.apply("two", two);
    world.tick(500);
    let counts: Vec<usize> = world.per_node("two").into_values().collect();
    assert_eq!(counts, [2, 1, 1, 4]);
}

#[test]
fn an_image_goes_to_its_platform_whatever_the_engine_calls_it() {
    let mut world = World::new(2);
    world.node("node2").arch = Some("aarch64".into());
    let mut arm = spec("arm:1", 2);
    arm.container.platform = Platform::parse("linux/arm64/v8");
    world.apply("arm", arm);
    let mut mips = spec("mips:1", 1);
    mips.container.platform = Platform::parse("linux/mips64");
    world.apply("mips", mips);
    world.ticks(5);
    assert_eq!(world.per_node("arm"), [("node2".into(), 2)].into());
    let (refused, said) = refusals(&world, "mips");
    let other = Refusal::Platform {
        wanted: "linux/mips64".into(),
        found: "linux/amd64".into(),
    };
    assert!(refused.contains(&other), "{refused:?}");
    assert_eq!(
        said,
        "0 of 3 nodes fit: 2 are not linux/mips64, 1 runs no containers"
    );
}

#[test]
fn a_node_without_cpu_takes_nothing_and_is_not_called_away() {
    let mut world = World::new(2);
    world.node("node2").empty = true;
    let mut everywhere = spec("web:1", 2);
    everywhere.placement.max_per_node = 1;
    world.apply("web", everywhere);
    world.ticks(5);
    assert_eq!(world.per_node("web"), [("node1".into(), 1)].into());
    let (refused, said) = refusals(&world, "web");
    assert!(refused.contains(&Refusal::NoCapacity), "{refused:?}");
    assert!(said.contains("1 has no cpu at all"), "{said}");
}

#[test]
fn a_certain_host_port_is_for_one_replica_of_one_service_per_node() {
    let mut world = World::new(2);
    let fixed = |image: &str, replicas| {
        let mut service = spec(image, replicas);
        service.container.fixed_ports.insert(8000, 5353);
        service
    };
    world.apply("dns", fixed("dns:1", 3));
    world.ticks(5);
    let ports: Vec<u16> = world
        .active("dns")
        .iter()
        .map(|r| r.ports[0].host_port)
        .collect();
    assert_eq!(ports, [5353, 5353]);
    assert_eq!(world.answering("dns"), 2, "it may be a way in as well");
    let held = Refusal::HostPort { port: 5353 };
    let (refused, said) = refusals(&world, "dns");
    assert_eq!(refused[1..], [held.clone(), held.clone()]);
    assert!(said.contains("2 have port 5353 in use"), "{said}");
    world.apply("other", fixed("other:1", 1));
    world.ticks(2);
    assert_eq!(refusals(&world, "other").0[1..], [held.clone(), held]);
    world.add_worker("node3");
    world.ticks(6);
    assert_eq!(world.active("dns").len() + world.active("other").len(), 3);
}

/// Values of labels and roles in several spellings.
fn constraint() -> impl Strategy<Value = Constraint> {
    let attribute = prop_oneof![
        Just(NodeAttribute::Hostname),
        Just(NodeAttribute::Role),
        Just(NodeAttribute::Os),
        Just(NodeAttribute::Arch),
        Just(NodeAttribute::Label("disk".into())),
        Just(NodeAttribute::Label("Disk".into())),
        Just(NodeAttribute::EngineLabel("disk".into())),
    ];
    let value = prop_oneof![
        Just("node1"),
        Just("NODE2"),
        Just("worker"),
        Just("edge"),
        Just("Linux"),
        Just("x86_64"),
        Just("amd64"),
        Just("ssd"),
        Just("SSD"),
        Just("hdd"),
        Just("*"),
    ];
    (attribute, any::<bool>(), value).prop_map(|(attribute, equal, value)| Constraint {
        attribute,
        equal,
        value: value.into(),
    })
}

/// Swarm's rule, read plainly: full match without regard to case; a missing label is empty.
fn plainly(constraint: &Constraint, node: usize) -> bool {
    let disk = ["ssd", "Ssd", "hdd", ""][node];
    let rack = ["", "SSD", "", "hdd"][node];
    let values: Vec<String> = match &constraint.attribute {
        NodeAttribute::Hostname | NodeAttribute::Id => vec![format!("node{}", node + 1)],
        NodeAttribute::Role if node == 3 => vec!["worker".into(), "edge".into()],
        NodeAttribute::Role => vec!["worker".into()],
        NodeAttribute::Os => vec!["linux".into()],
        NodeAttribute::Arch => vec!["amd64".into(), "x86_64".into()],
        NodeAttribute::Label(key) if key == "disk" => vec![disk.into()],
        NodeAttribute::Label(_) => vec![String::new()],
        NodeAttribute::EngineLabel(_) => vec![rack.into()],
    };
    let wanted = constraint.value.to_lowercase();
    values.iter().any(|v| v.to_lowercase() == wanted) == constraint.equal
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn replicas_go_exactly_where_the_constraints_hold(
        constraints in prop::collection::vec(constraint(), 1..3),
    ) {
        let mut world = World::new(4);
        for (n, disk) in ["ssd", "Ssd", "hdd"].iter().enumerate() {
            label(&mut world, &format!("node{}", n + 1), "disk", disk);
        }
        world.desired.nodes.get_mut(&id("node4")).unwrap().roles.edge = true;
        world.node("node2").engine_labels.insert("disk".into(), "SSD".into());
        world.node("node4").engine_labels.insert("disk".into(), "hdd".into());
        world.ticks(1);
        let mut web = spec("web:1", 8);
        web.routes.clear();
        web.placement.constraints = constraints.clone();
        world.apply("web", web);
        world.tick(500);
        let found: Vec<String> = world.per_node("web").into_keys().collect();
        let holds = |n: &usize| constraints.iter().all(|c| plainly(c, *n));
        let expected: Vec<String> =
            (0..4).filter(holds).map(|n| format!("node{}", n + 1)).collect();
        prop_assert_eq!(found, expected, "{:?}", constraints);
    }
}

/// What runs where its file does not want it any more counts as not yet as wanted.
#[test]
fn replicas_on_nodes_that_no_longer_fit_are_counted() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.ticks(20);
    let mut nowhere = spec("web:1", 2);
    nowhere.placement.constraints.push(Constraint {
        attribute: NodeAttribute::Label("ssd".into()),
        equal: true,
        value: "true".into(),
    });
    world.apply("web", nowhere);
    world.ticks(20);
    let report = &world.report.services[&key("web")];
    assert_eq!((report.misplaced, report.outdated), (2, 0));
    assert_eq!(world.answering("web"), 2);
    world.apply("web", spec("web:1", 2));
    world.ticks(2);
    assert_eq!(world.report.services[&key("web")].misplaced, 0);
}

/// Edges are told that it is no mistake: with a generation of its own, and until the service or a
/// new way in is there.
#[test]
fn ways_in_that_a_file_closes_are_named_in_the_routes() {
    let mut world = World::new(2);
    let inside = |image: &str| {
        let mut web = spec(image, 2);
        web.routes.clear();
        web
    };
    world.apply("jobs", inside("jobs:1"));
    world.apply("web", spec("web:1", 2));
    world.ticks(20);
    assert_eq!(world.plan.routes().closed, [], "one never had any");
    let mut generation = world.plan.routes().generation;
    let mut news = |world: &World| {
        let before = std::mem::replace(&mut generation, world.plan.routes().generation);
        generation > before
    };
    world.apply("web", inside("web:1"));
    world.ticks(4);
    let routes = world.plan.routes();
    assert_eq!(
        (routes.backends.len(), routes.closed),
        (0, vec![key("web")])
    );
    assert!(news(&world));
    world.apply("web", spec("web:1", 2));
    world.ticks(4);
    assert_eq!(world.plan.routes().closed, []);
    assert!(news(&world));
    world.apply("web", inside("web:1"));
    world.ticks(4);
    assert!(news(&world));
    world.desired.apps = SharedMap::new();
    world.ticks(20);
    assert_eq!(world.plan.routes().closed, []);
    assert!(news(&world), "other content, another generation");
}
