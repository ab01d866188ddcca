//! What the planner promises of placement, one fact each.

use crate::world::*;
use longshore_model::observe::EngineState;
use longshore_model::reason::{FailReason, Refusal};
use longshore_model::spec::{Constraint, NodeAttribute, PlacementPolicy, Resources};
use longshore_model::*;

#[test]
fn a_first_round_spreads_evenly_over_three_nodes() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 7));
    world.tick(500);
    let counts: Vec<usize> = world.per_node("web").into_values().collect();
    assert_eq!(counts, [3, 2, 2]);
    let slots: Vec<u32> = world.active("web").iter().map(|r| r.slot).collect();
    assert_eq!(slots, [1, 2, 3, 4, 5, 6, 7]);
    world.ticks(5);
    assert_eq!(world.answering("web"), 7);
}

#[test]
fn what_fits_nowhere_waits_with_a_reason_for_each_node() {
    let mut world = World::new(3);
    world.available("node1", Availability::Cordoned);
    let labels = &mut world.desired.nodes.get_mut(&id("node3")).unwrap().labels;
    labels.insert("disk".into(), "hdd".into());
    let ssd = Constraint {
        attribute: NodeAttribute::Label("disk".into()),
        equal: false,
        value: "hdd".into(),
    };
    let mut big = spec("big:1", 1);
    big.placement.constraints.push(ssd);
    big.container.resources = Resources {
        memory_reserved_bytes: 16 << 30,
        ..Default::default()
    };
    world.apply("big", big);
    world.apply("web", spec("web:1", 2));
    world.ticks(5);
    let waits = &world.report.services[&key("big")].waits;
    let Reason::Unplaceable { refusals, .. } = &waits[0] else {
        panic!("{waits:?}")
    };
    assert_eq!(refusals[0], (id("edge"), Refusal::NotWorker));
    assert_eq!(refusals[1], (id("node1"), Refusal::Cordoned));
    assert!(matches!(refusals[2], (_, Refusal::Memory { .. })));
    assert!(matches!(refusals[3], (_, Refusal::Constraint { .. })));
    assert_eq!(world.answering("web"), 2);
}

#[test]
fn reservations_fill_a_node_and_no_more() {
    let mut world = World::new(2);
    let mut wide = spec("wide:1", 9);
    wide.container.resources = Resources {
        cpu_reserved_milli: 1_000,
        ..Default::default()
    };
    world.apply("wide", wide);
    world.ticks(5);
    assert_eq!(world.active("wide").len(), 8);
    assert_eq!(world.report.nodes[&id("node1")].cpu_reserved_milli, 4_000);
}

#[test]
fn a_port_that_a_stranger_holds_is_not_tried_again() {
    let mut world = World::new(1);
    world.apply("web", spec("web:1", 1));
    world.ticks(2);
    let first = world.active("web")[0].clone();
    let port = first.ports[0].host_port;
    let status = world.node("node1").containers.get_mut(&first.id).unwrap();
    (status.state, status.reason) = (ReplicaState::Failed, Some(FailReason::PortTaken { port }));
    world.config.backoff_base_ms = 0;
    world.config.port_min = port;
    world.config.port_max = port + 1;
    world.ticks(8);
    assert_eq!(world.active("web")[0].ports[0].host_port, port + 1);
    assert_eq!(world.answering("web"), 1);
}

fn label(world: &mut World, node: &str, zone: &str) {
    let node = world.desired.nodes.get_mut(&id(node));
    let labels = node.map(|node| &mut node.labels);
    labels.map(|labels| labels.insert("zone".into(), zone.into()));
}

#[test]
fn zones_are_evened_out_before_nodes_are() {
    let mut world = World::new(4);
    label(&mut world, "node1", "a");
    for node in ["node2", "node3", "node4"] {
        label(&mut world, node, "b");
    }
    let mut zoned = spec("web:1", 6);
    zoned
        .placement
        .spread_labels
        .push("node.labels.zone".into());
    world.apply("web", zoned);
    world.ticks(5);
    let counts: Vec<usize> = world.per_node("web").into_values().collect();
    assert_eq!(counts, [3, 1, 1, 1]);
    assert_eq!(world.answering("web"), 6);
}

#[test]
fn binpack_fills_one_node_before_the_next() {
    let mut world = World::new(3);
    let mut packed = spec("web:1", 5);
    packed.placement.policy = PlacementPolicy::Binpack;
    packed.container.resources.cpu_reserved_milli = 1_000;
    world.apply("web", packed);
    world.tick(500);
    let counts: Vec<usize> = world.per_node("web").into_values().collect();
    assert_eq!(counts, [4, 1]);
}

#[test]
fn no_node_gets_more_than_max_per_node() {
    let mut world = World::new(2);
    let mut few = spec("web:1", 5);
    few.placement.max_per_node = 2;
    world.apply("web", few);
    world.ticks(5);
    let counts: Vec<usize> = world.per_node("web").into_values().collect();
    assert_eq!(counts, [2, 2]);
    let waits = &world.report.services[&key("web")].waits;
    let Reason::Unplaceable { refusals, .. } = &waits[0] else {
        panic!("{waits:?}")
    };
    let node1 = (id("node1"), Refusal::MaxPerNode { max: 2 });
    assert!(refusals.contains(&node1), "{refusals:?}");
    world.add_worker("node3");
    world.ticks(6);
    assert_eq!(world.answering("web"), 5, "a new node takes what waited");
}

#[test]
fn an_engine_that_is_down_takes_nothing_and_keeps_what_serves() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.node("node1").engine = EngineState::Down;
    world.ticks(10);
    let state = world.report.nodes[&id("node1")].state;
    assert_eq!(state, report::NodeState::EngineDown);
    assert!(world.plan.lost.is_empty());
    assert_eq!(world.leaving("web").len(), 0, "what it ran may still run");
    assert_eq!(world.per_node("web")["node1"], 1);
    assert_eq!((world.active("web").len(), world.answering("web")), (3, 3));
    let mut everywhere = spec("api:1", 3);
    everywhere.placement.max_per_node = 1;
    world.apply("api", everywhere);
    world.ticks(3);
    let waits = &world.report.services[&key("api")].waits;
    let Reason::Unplaceable { refusals, .. } = &waits[0] else {
        panic!("{waits:?}")
    };
    assert!(refusals.contains(&(id("node1"), Refusal::EngineDown)));
    world.node("node1").engine = EngineState::Stuck;
    world.ticks(3);
    let state = world.report.nodes[&id("node1")].state;
    assert_eq!(state, report::NodeState::RuntimeStuck);
    let waits = &world.report.services[&key("api")].waits;
    let said = waits[0].to_string();
    assert!(said.contains("1 has a stuck container engine"), "{said}");
    assert_eq!(world.per_node("web")["node1"], 1, "it keeps what it runs");
    world.node("node1").reachable = false;
    world.ticks(20);
    assert!(
        !world.per_node("web").contains_key("node1"),
        "replaced once no edge reaches it"
    );
    assert_eq!(world.answering("web"), 3);
    (world.node("node1").engine, world.node("node1").reachable) = (EngineState::Ok, true);
    world.ticks(20);
    assert_eq!((world.active("web").len(), world.answering("web")), (3, 3));
    assert_eq!(world.answering("api"), 3);
}

#[test]
fn a_service_spreads_although_another_crowds_a_node() {
    let mut world = World::new(2);
    let mut crowd = spec("crowd:1", 5);
    crowd.placement.constraints.push(Constraint {
        attribute: NodeAttribute::Hostname,
        equal: true,
        value: "node1".into(),
    });
    world.apply("crowd", crowd);
    world.tick(500);
    world.apply("web", spec("web:1", 2));
    world.tick(500);
    assert_eq!(world.per_node("crowd")["node1"], 5);
    let counts: Vec<usize> = world.per_node("web").into_values().collect();
    assert_eq!(counts, [1, 1]);
}

#[test]
fn a_port_that_comes_round_is_passed_over_while_it_is_held() {
    let mut world = World::new(1);
    world.config.port_max = world.config.port_min + 2;
    world.apply("db", spec("db:1", 1));
    world.ticks(6);
    let held = world.active("db")[0].ports[0].host_port;
    for image in ["web:1", "web:2", "web:3", "web:4", "web:5"] {
        world.apply("web", spec(image, 1));
        world.ticks(14);
        assert_ne!(world.active("web")[0].ports[0].host_port, held);
    }
    assert_eq!((world.answering("db"), world.answering("web")), (1, 1));
}
