//! Nodes that are drained: additive first, with a deadline, by force only if that was said.

use crate::world::*;
use longshore_model::reason::LeaveReason;
use longshore_model::report::DrainReport;
use longshore_model::*;

fn report(world: &World, node: &str) -> DrainReport {
    world.report.nodes[&id(node)].drain.clone().unwrap()
}

fn late_events(world: &World) -> usize {
    let late = |e: &&EventKind| matches!(e, EventKind::NodeDrainLate { .. });
    world.events.iter().filter(late).count()
}

#[test]
fn a_drained_node_empties_and_nobody_is_missed() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 6));
    world.ticks(20);
    world.drain("node2", 60_000, false);
    let mut most_left = 0;
    for _ in 0..60 {
        world.tick(500);
        assert!(world.answering("web") >= 6, "replacements first");
        most_left = most_left.max(report(&world, "node2").left);
    }
    assert_eq!(most_left, 2);
    assert_eq!(report(&world, "node2"), DrainReport::default());
    let done =
        |e: &&EventKind| matches!(e, EventKind::NodeDrained { node, .. } if *node == id("node2"));
    assert_eq!(world.events.iter().filter(done).count(), 1, "said once");
    assert_eq!(late_events(&world), 0);
    world.available("node2", Availability::Active);
    world.desired.nodes.get_mut(&id("node2")).unwrap().drain = None;
    world.tick(500);
    assert_eq!(world.report.nodes[&id("node2")].drain, None);
}

#[test]
fn without_room_elsewhere_a_drain_says_so_and_waits() {
    let mut world = World::new(2);
    let mut wide = spec("wide:1", 8);
    wide.container.resources.cpu_reserved_milli = 1_000;
    world.apply("wide", wide);
    world.ticks(20);
    world.drain("node1", 5_000, false);
    world.ticks(8);
    let said = report(&world, "node1");
    assert_eq!((said.left, said.leaving, said.late), (4, 0, false));
    let (service, why) = &said.waits[0];
    assert_eq!(*service, key("wide"));
    assert!(matches!(why, Reason::Unplaceable { .. }), "{why:?}");
    world.ticks(10);
    assert!(report(&world, "node1").late);
    assert_eq!(
        world.answering("wide"),
        8,
        "late, and still nobody is stopped"
    );
    assert_eq!(late_events(&world), 1);
    world.add_worker("node3");
    world.ticks(40);
    assert_eq!(report(&world, "node1").left, 0);
    assert_eq!((world.answering("wide"), late_events(&world)), (8, 1));
}

#[test]
fn by_force_what_is_left_at_the_deadline_is_stopped_and_not_before() {
    let mut world = World::new(2);
    let mut wide = spec("wide:1", 8);
    wide.container.resources.cpu_reserved_milli = 1_000;
    world.apply("wide", wide);
    world.ticks(20);
    world.drain("node1", 5_000, true);
    world.ticks(9);
    assert_eq!(world.answering("wide"), 8);
    world.tick(500);
    let gone = world.leaving("wide");
    assert_eq!(gone.len(), 4);
    assert!(
        gone.iter()
            .all(|(r, l)| l.reason == LeaveReason::NodeDrainForced && r.node == id("node1"))
    );
    world.ticks(30);
    assert_eq!(report(&world, "node1").left, 0);
    assert_eq!(world.answering("wide"), 4);
}

/// What waits for an update leaves for that reason, which no place carries.
#[test]
fn by_force_what_waits_for_its_update_is_stopped_too() {
    let mut world = World::new(1);
    world.apply("web", spec("web:1", 1));
    world.ticks(20);
    world.available("node1", Availability::Cordoned);
    world.apply("web", spec("web:2", 1));
    world.ticks(20);
    assert_eq!(
        world.answering("web"),
        1,
        "it goes on until it has a successor"
    );
    world.drain("node1", 5_000, true);
    world.ticks(8);
    assert_eq!(world.answering("web"), 1);
    world.ticks(30);
    assert_eq!(report(&world, "node1").left, 0);
    assert_eq!(world.answering("web"), 0);
}

#[test]
fn the_deadline_is_a_time_to_look_again() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 1));
    world.ticks(20);
    world.drain("node1", 7_777, false);
    let deadline_ms = world.now + 7_777;
    let outcome = world.run();
    assert!(outcome.report.look_again_ms.unwrap() <= deadline_ms);
    world.started = world.now;
    world.memory = Default::default();
    let outcome = world.run();
    let said = |e: &EventKind| {
        matches!(
            e,
            EventKind::NodeDrained { .. } | EventKind::NodeDrainLate { .. }
        )
    };
    assert!(
        !outcome.report.events.iter().any(said),
        "a start says nothing anew"
    );
}

#[test]
fn an_order_to_force_is_carried_out_where_more_is_wanted_than_ever_fitted() {
    let mut world = World::new(1);
    world.apply("web", spec("web:1", 2));
    world.ticks(20);
    world.drain("node1", 3_000, true);
    world.scale("web", 7);
    world.ticks(5);
    assert_eq!(world.answering("web"), 2, "not before the deadline");
    world.tick(500);
    let gone = world.leaving("web");
    assert_eq!(gone.len(), 2);
    let forced = |l: &plan::Leaving| l.reason == LeaveReason::NodeDrainForced;
    assert!(gone.iter().all(|(_, l)| forced(l)));
}

#[test]
fn a_deadline_that_passed_while_nobody_could_tell_the_edge_does_not_stop_what_it_serves() {
    for comes_back in [true, false] {
        let mut world = World::new(2);
        world.apply("web", spec("web:1", 3));
        world.ticks(40);
        world.scale("web", 1);
        world.tick(500);
        assert_eq!(world.leaving("web").len(), 2);
        // Before the edge hears of it, the controller is away for longer than the drain may take.
        world.edge().session = false;
        world.now += 30_000;
        world.started = world.now;
        world.memory = Default::default();
        for _ in 0..18 {
            world.tick(500);
            let stops = world.everyone().filter(|r| r.stop).count();
            assert_eq!(stops, 0, "stopped while its lease lasts");
        }
        world.edge().session = comes_back;
        world.ticks(8);
        assert_eq!(world.replicas("web").len(), 1, "comes back: {comes_back}");
    }
}

#[test]
fn an_edge_that_lists_no_servers_does_not_say_that_their_sessions_are_over() {
    let mut world = World::new(2);
    world.sticky = true;
    world.apply("web", spec("web:1", 2));
    world.ticks(40);
    world.scale("web", 1);
    world.ticks(2);
    let traffic = |world: &World| world.leaving("web").first().map(|(r, _)| r.traffic);
    assert_eq!(traffic(&world), Some(plan::Traffic::Drain));
    // Its HAProxy does not answer.
    world.deaf_edges = true;
    world.ticks(5);
    assert_eq!(traffic(&world), Some(plan::Traffic::Drain));
    // No longer than the drain may take.
    world.ticks(30);
    assert!(world.leaving("web").is_empty());
}

#[test]
fn the_last_ones_stay_while_an_edge_lets_them_in_for_what_waits() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.ticks(20);
    world.edge().has_queue = true;
    world.scale("web", 0);
    world.ticks(15);
    // Between two requests it has no session.
    let drained = |world: &World| {
        let mut all = world.leaving("web").into_iter();
        all.all(|(replica, _)| replica.traffic == plan::Traffic::Drain)
    };
    assert_eq!((world.leaving("web").len(), drained(&world)), (2, true));
    // Somebody follows.
    world.scale("web", 1);
    world.ticks(20);
    assert_eq!(world.leaving("web").len(), 0);
    world.scale("web", 0);
    world.ticks(3);
    world.edge().has_queue = false;
    world.ticks(8);
    assert_eq!(world.replicas("web").len(), 0);
}

#[test]
fn an_edge_where_nothing_waits_holds_the_last_ones_as_long_as_another() {
    let mut world = World::new(2);
    world.add_edge("edge2");
    world.apply("web", spec("web:1", 2));
    world.ticks(20);
    world.edge().has_queue = true;
    world.ticks(2);
    let holds = |world: &World| world.plan.routes().backends[0].holds;
    world.scale("web", 1);
    world.ticks(10);
    assert_eq!(
        (world.replicas("web").len(), holds(&world)),
        (1, false),
        "one stays"
    );
    world.scale("web", 0);
    world.ticks(10);
    assert_eq!((world.leaving("web").len(), holds(&world)), (1, true));
    world.edge().has_queue = false;
    world.ticks(1);
    assert!(!holds(&world));
    // It began again at an edge: the others have said by now that they are done.
    world.edge().has_queue = true;
    world.ticks(3);
    assert_eq!((world.leaving("web").len(), holds(&world)), (1, false));
    world.edge().has_queue = false;
    world.ticks(8);
    assert_eq!(world.replicas("web").len(), 0);
}

#[test]
fn an_update_that_stops_first_waits_for_what_waits_and_not_beyond_the_deadline() {
    let stop_first = |image: &str| {
        let mut spec = spec(image, 1);
        spec.update.order = spec::UpdateOrder::StopFirst;
        spec
    };
    for ends in [true, false] {
        let mut world = World::new(1);
        world.apply("web", stop_first("web:1"));
        world.ticks(20);
        world.edge().has_queue = true;
        world.apply("web", stop_first("web:2"));
        world.ticks(15);
        let leaver = world.leaving("web").first().map(|(r, _)| r.traffic);
        assert_eq!(leaver, Some(plan::Traffic::Drain));
        assert_eq!(world.active("web").len(), 0);
        world.edge().has_queue = !ends;
        world.ticks(if ends { 15 } else { 80 });
        let revisions: Vec<_> = world.active("web").iter().map(|r| r.revision).collect();
        assert_eq!(
            (revisions, world.leaving("web").len()),
            (vec![2], 0),
            "ends: {ends}"
        );
    }
}
