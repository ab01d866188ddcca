//! What the planner promises of a replica's life, one fact each.

use crate::world::*;
use longshore_model::plan::Traffic;
use longshore_model::reason::LeaveReason;
use longshore_model::spec::UpdateOrder;
use longshore_model::*;

#[test]
fn an_unchanged_cluster_keeps_its_plan_and_version() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    // Until its first rollout has been watched for the monitoring time.
    world.ticks(20);
    let before = world.plan.clone();
    world.ticks(5);
    assert_eq!(world.plan, before);
}

#[test]
fn a_start_first_rollout_keeps_the_full_count() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 4));
    world.ticks(8);
    world.apply("web", spec("web:2", 4));
    for _ in 0..80 {
        world.tick(500);
        assert!(
            world.answering("web") >= 4,
            "{} answer",
            world.answering("web")
        );
        assert!(world.active("web").len() <= 5, "one at a time");
    }
    assert!(world.active("web").iter().all(|r| r.revision == 2));
    assert_eq!(
        (world.active("web").len(), world.leaving("web").len()),
        (4, 0)
    );
}

#[test]
fn a_stop_first_rollout_never_runs_old_and_new_of_one_at_once() {
    let mut world = World::new(1);
    let stop_first = |image: &str| {
        let mut spec = spec(image, 1);
        spec.update.order = UpdateOrder::StopFirst;
        spec
    };
    world.apply("db", stop_first("db:1"));
    world.ticks(8);
    world.apply("db", stop_first("db:2"));
    for _ in 0..40 {
        world.tick(500);
        assert!(world.plan.replicas().count() <= 1);
    }
    assert_eq!(world.answering("db"), 1);
    assert_eq!(world.active("db")[0].revision, 2);
}

#[test]
fn a_scale_in_drains_then_parks_then_stops() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.sticky = true;
    world.scale("web", 1);
    world.tick(500);
    assert!(
        world
            .leaving("web")
            .iter()
            .all(|(r, _)| r.traffic == Traffic::Drain && !r.stop)
    );
    assert_eq!(world.leaving("web").len(), 2);
    world.ticks(4);
    assert!(
        world
            .leaving("web")
            .iter()
            .all(|(r, _)| r.traffic == Traffic::Drain),
        "sessions hold"
    );
    world.sticky = false;
    let mut seen = Vec::new();
    for _ in 0..12 {
        world.tick(500);
        seen.extend(
            world
                .leaving("web")
                .first()
                .map(|(r, _)| (r.traffic, r.stop)),
        );
    }
    seen.dedup();
    let order = [
        (Traffic::Drain, false),
        (Traffic::Out, false),
        (Traffic::Out, true),
    ];
    assert_eq!(seen, order);
    assert_eq!(world.plan.replicas().count(), 1);
    let receipts = world.events.iter().find_map(|event| match event {
        EventKind::Drained { receipts, .. } => Some(receipts.clone()),
        _ => None,
    });
    let receipt = receipts.unwrap()[0].1;
    assert_eq!(
        (receipt.sessions_at_drain, receipt.sessions_at_park),
        (4, 0)
    );
    assert_eq!(
        (receipt.forced, receipt.zero_after_ms),
        (false, Some(3_500))
    );
}

#[test]
fn sessions_that_never_end_are_forced_at_the_deadline() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.ticks(8);
    world.sticky = true;
    world.scale("web", 1);
    world.ticks(19);
    assert_eq!(world.leaving("web")[0].0.traffic, Traffic::Drain);
    world.ticks(8);
    let forced = world
        .events
        .iter()
        .any(|event| matches!(event, EventKind::Drained { receipts, .. } if receipts[0].1.forced));
    assert!(forced);
    assert_eq!(world.plan.replicas().count(), 1);
}

#[test]
fn an_edge_past_its_lease_is_named_gone_and_holds_nothing_up() {
    let mut world = World::new(2);
    world.add_edge("edge2");
    world.apply("web", spec("web:1", 2));
    world.ticks(8);
    world.edges.get_mut(&id("edge2")).unwrap().session = false;
    world.scale("web", 1);
    world.ticks(4);
    assert_eq!(
        world.leaving("web").len(),
        1,
        "inside its lease the edge is waited for"
    );
    world.ticks(30);
    assert_eq!(world.plan.replicas().count(), 1);
    let gone = world.events.iter().any(|event| {
        matches!(event, EventKind::Drained { receipts, .. }
        if receipts.iter().any(|(edge, r)| *edge == id("edge2") && r.edge_gone))
    });
    assert!(gone);
}

#[test]
fn a_node_that_both_witnesses_call_gone_is_replaced_at_once() {
    let mut world = World::new(4);
    world.apply("web", spec("web:1", 4));
    world.ticks(8);
    world.node("node2").power = false;
    world.ticks(4);
    assert_eq!(world.plan.lost.len(), 0, "the session may still come back");
    world.tick(500);
    assert!(world.plan.lost.contains_key(&id("node2")));
    assert_eq!(world.active("web").len(), 4);
    assert!(!world.per_node("web").contains_key("node2"));
    world.ticks(5);
    assert_eq!(
        (world.answering("web"), world.plan.replicas().count()),
        (4, 4)
    );
    world.node("node2").power = true;
    world.ticks(10);
    assert!(world.plan.lost.is_empty());
    assert!(
        world
            .events
            .contains(&EventKind::NodeBack { node: id("node2") })
    );
    assert_eq!(world.active("web").len(), 4, "nothing moves back by itself");
}

#[test]
fn a_node_that_haproxy_still_reaches_keeps_serving_and_is_replaced_only_after_the_hold() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.node("node1").session = false;
    world.ticks(100);
    assert_eq!(world.active("web").len(), 3, "nothing before the hold");
    assert_eq!(
        world.report.nodes[&id("node1")].state,
        report::NodeState::Away
    );
    world.ticks(40);
    assert_eq!(world.active("web").len(), 4, "additive: the original stays");
    assert_eq!((world.answering("web"), world.leaving("web").len()), (4, 0));
    world.node("node1").session = true;
    world.ticks(15);
    assert_eq!((world.active("web").len(), world.answering("web")), (3, 3));
    assert!(
        world.per_node("web").contains_key("node1"),
        "the original is kept"
    );
}

#[test]
fn losing_most_nodes_at_once_evicts_nothing_and_adds_where_there_is_room() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 6));
    world.ticks(8);
    world.node("node1").power = false;
    world.node("node2").power = false;
    world.ticks(10);
    assert!(world.plan.lost.is_empty());
    assert!(matches!(
        world.report.problems[0],
        Reason::PartialOutage { away: 2, all: 3 }
    ));
    assert_eq!(world.leaving("web").len(), 0);
    assert_eq!(world.answering("web"), 6, "six on the node that is left");
    world.node("node1").power = true;
    world.node("node2").power = true;
    world.ticks(130);
    assert!(world.report.problems.is_empty());
    assert_eq!((world.active("web").len(), world.answering("web")), (6, 6));
}

#[test]
fn nothing_is_lost_before_the_controller_has_watched() {
    let mut world = World::new(4);
    world.apply("web", spec("web:1", 4));
    world.ticks(8);
    world.node("node2").power = false;
    world.started = world.now;
    world.memory = Default::default();
    world.ticks(19);
    assert!(world.plan.lost.is_empty());
    world.tick(500);
    assert!(world.plan.lost.contains_key(&id("node2")));
}

#[test]
fn a_replica_that_failed_is_replaced_with_growing_pauses() {
    let mut world = World::new(2);
    world.broken.push("bad:1".into());
    world.apply("bad", spec("bad:1", 1));
    world.apply("good", spec("good:1", 2));
    world.ticks(120);
    let failed = |e: &&EventKind| matches!(e, EventKind::Failed { .. });
    let failures = world.events.iter().filter(failed).count();
    assert!(
        (4..=7).contains(&failures),
        "{failures} in a minute: 1, 2, 4, 8, 16 s"
    );
    let waits = &world.report.services[&key("bad")].waits;
    assert!(
        matches!(waits[0], Reason::Backoff { failures: 4.., .. }),
        "{waits:?}"
    );
    assert_eq!(
        world.answering("good"),
        2,
        "one bad service does not stop another"
    );
    let said = world
        .events
        .iter()
        .filter(|e| matches!(e, EventKind::Waits { .. }))
        .count();
    assert!(said <= failures, "said {said} times");
}

#[test]
fn a_broken_template_stops_its_rollout_and_the_old_one_stays() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.broken.push("web:2".into());
    world.apply("web", spec("web:2", 3));
    for _ in 0..100 {
        world.tick(500);
        assert_eq!(world.answering("web"), 3);
    }
    let failed = world
        .events
        .iter()
        .filter(|e| matches!(e, EventKind::Failed { .. }))
        .count();
    assert_eq!(failed, 2, "failures_max");
    let waits = &world.report.services[&key("web")].waits;
    assert!(
        waits
            .iter()
            .any(|r| matches!(r, Reason::RolloutPaused { .. } | Reason::RolledBack { .. })),
        "{waits:?}"
    );
    world.node("node1").containers.clear();
    world.ticks(40);
    assert_eq!(
        world.answering("web"),
        3,
        "what is missing starts from the old template"
    );
    world.apply("web", spec("web:3", 3));
    world.ticks(60);
    assert!(world.active("web").iter().all(|r| r.revision == 3));
}

#[test]
fn draining_a_node_replaces_first() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.available("node1", Availability::Draining);
    for _ in 0..30 {
        world.tick(500);
        assert!(world.answering("web") >= 3);
    }
    assert!(!world.per_node("web").contains_key("node1"));
    assert_eq!(world.plan.replicas().count(), 3);
    let why = |e: &EventKind| {
        matches!(
            e,
            EventKind::Gone {
                why: LeaveReason::NodeDrain,
                ..
            }
        )
    };
    assert_eq!(world.events.iter().filter(|e| why(e)).count(), 1);
}

#[test]
fn a_service_that_goes_down_drains_and_leaves_nothing() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.desired.apps = SharedMap::new();
    world.tick(500);
    assert!(
        world
            .leaving("web")
            .iter()
            .all(|(r, _)| r.traffic == Traffic::Drain)
    );
    assert_eq!(
        world.plan.routes().backends.len(),
        1,
        "its way in stays while it drains"
    );
    world.ticks(12);
    assert!(world.plan.replicas().count() == 0 && world.plan.services.is_empty());
    assert!(world.plan.routes().backends.is_empty());
}

#[test]
fn a_replica_that_no_edge_reaches_is_replaced_elsewhere() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.node("node1").reachable = false;
    world.ticks(9);
    assert_eq!(world.plan.next_replica, 4, "nothing new before the hold");
    world.ticks(25);
    assert!(
        !world.per_node("web").contains_key("node1"),
        "{:?}",
        world.per_node("web")
    );
    assert_eq!(
        (world.answering("web"), world.plan.replicas().count()),
        (3, 3)
    );
    let why = |e: &EventKind| {
        matches!(
            e,
            EventKind::Gone {
                why: LeaveReason::Unreachable,
                ..
            }
        )
    };
    assert!(world.events.iter().any(why));
}

#[test]
fn a_check_that_fails_for_all_replicas_churns_none() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    for n in ["node1", "node2", "node3"] {
        world.node(n).reachable = false;
    }
    world.ticks(100);
    assert!(
        world.plan.next_replica <= 5,
        "{} ids used",
        world.plan.next_replica
    );
}

#[test]
fn a_replica_whose_node_was_removed_is_replaced() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.desired.nodes.remove(&id("node3"));
    world.nodes.remove(&id("node3"));
    world.ticks(10);
    assert_eq!((world.active("web").len(), world.answering("web")), (3, 3));
}

#[test]
fn a_service_that_comes_up_again_while_it_drains_gets_new_replicas_and_its_files_count() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 2));
    world.ticks(8);
    world.scale("web", 5);
    world.ticks(8);
    world.sticky = true;
    world.desired.apps = SharedMap::new();
    world.ticks(3);
    let old: Vec<ReplicaId> = world.plan.replicas().map(|r| r.id).collect();
    assert_eq!(world.leaving("web").len(), 5);
    world.apply("web", spec("web:1", 2));
    world.ticks(8);
    assert_eq!((world.active("web").len(), world.answering("web")), (2, 2));
    assert!(world.active("web").iter().all(|r| !old.contains(&r.id)));
    assert_eq!(world.leaving("web").len(), 5, "none is called back");
    world.sticky = false;
    world.ticks(15);
    assert_eq!(
        (world.plan.replicas().count(), world.answering("web")),
        (2, 2)
    );
}

#[test]
fn replicas_that_fail_together_are_one_try() {
    let mut world = World::new(3);
    world.broken.push("bad:1".into());
    world.apply("bad", spec("bad:1", 6));
    world.ticks(4);
    let failures = world.plan.services[&key("bad")].failures.clone().unwrap();
    assert_eq!((failures.count, failures.rounds), (6, 1));
    assert!(failures.retry_at_ms <= world.now + world.config.backoff_base_ms);
    world.broken.clear();
    world.ticks(8);
    assert_eq!(world.answering("bad"), 6);
}

#[test]
fn a_port_is_not_given_twice_while_its_holder_leaves() {
    let mut world = World::new(1);
    world.config.port_max = world.config.port_min + 1;
    world.apply("web", spec("web:1", 1));
    world.ticks(8);
    world.sticky = true;
    world.apply("web", spec("web:2", 1));
    world.ticks(10);
    let ports: Vec<u16> = world
        .plan
        .replicas()
        .map(|r| r.ports[0].host_port)
        .collect();
    assert_eq!(ports.len(), 2, "old and new side by side");
    assert_ne!(ports[0], ports[1]);
}

#[test]
fn a_stopped_rollout_does_not_hold_up_a_node_drain() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.broken.push("web:2".into());
    world.apply("web", spec("web:2", 3));
    world.ticks(30);
    world.available("node1", Availability::Draining);
    for _ in 0..30 {
        world.tick(500);
        assert!(world.answering("web") >= 3);
    }
    assert!(!world.per_node("web").contains_key("node1"));
    assert!(
        world
            .active("web")
            .iter()
            .all(|r| r.template == world.active("web")[0].template)
    );
    assert_eq!((world.active("web").len(), world.answering("web")), (3, 3));
}
