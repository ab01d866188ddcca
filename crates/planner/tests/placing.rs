//! What the planner promises of placement, one fact each.

mod world;

use longshore_model::reason::{FailReason, Refusal};
use longshore_model::spec::{Constraint, NodeAttribute, Resources};
use longshore_model::*;
use world::*;

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
    let Reason::Unplaceable { refusals } = &waits[0] else {
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
