//! What trials of the whole system got wrong once, one fact each.

use crate::world::*;
use longshore_model::plan::Traffic;
use longshore_model::reason::{FailReason, LeaveReason};
use longshore_model::repair::{Repair, RepairKind};
use longshore_model::report::NodeState;
use longshore_model::*;

/// Sets the state of every container of a world.
fn all_become(world: &mut World, state: ReplicaState) {
    for sim in world.nodes.values_mut() {
        for status in sim.containers.values_mut() {
            status.state = state;
        }
    }
}

#[test]
fn checks_that_fail_everywhere_leave_half_of_the_service_in_the_routes() {
    for count in [1, 2, 5] {
        let mut world = World::new(3);
        world.apply("web", spec("web:1", count));
        world.ticks(8);
        all_become(&mut world, ReplicaState::Unhealthy);
        for _ in 0..200 {
            world.tick(500);
            let active = world.active("web");
            let served = active.iter().filter(|r| r.traffic == Traffic::Serve);
            let served = served.count();
            assert!(served * 2 >= count as usize, "{served} of {count} left");
        }
    }
}

/// They were healthy and HAProxy reaches them; that their agents have lost their ledgers is no
/// evidence against them. What started anew has proven nothing.
#[test]
fn what_agents_forgot_leaves_half_of_the_service_in_the_routes() {
    let crash = || FailReason::Exited {
        code: 1,
        oom: false,
        last_line: String::new(),
    };
    for (count, crashed) in [(1, false), (2, false), (5, false), (5, true)] {
        let mut world = World::new(3);
        world.apply("web", spec("web:1", count));
        world.ticks(8);
        // The world lets what is assigned start with its next step.
        all_become(&mut world, ReplicaState::Assigned);
        let containers = world.nodes.values_mut().flat_map(|sim| &mut sim.containers);
        for (_, status) in containers {
            status.reason = crashed.then(crash);
        }
        world.tick(500);
        let active = world.active("web");
        let served = active.iter().filter(|r| r.traffic == Traffic::Serve);
        let served = u32::try_from(served.count()).unwrap();
        let half = if crashed { 0 } else { count.div_ceil(2) };
        assert_eq!(served, half, "{count}, crashed: {crashed}");
        let kept = Reason::KeptInRoutes {
            replicas: half,
            unproven: half,
        };
        let waits = &world.report.services[&key("web")].waits;
        assert_eq!(waits.contains(&kept), half > 0, "{waits:?}");
        world.ticks(8);
        assert_eq!(world.answering("web"), count as usize);
        assert!(world.leaving("web").is_empty());
        let serving = world.events.iter().filter_map(|event| match event {
            EventKind::Serving { again, .. } => Some(*again),
            _ => None,
        });
        let (again, first): (Vec<bool>, Vec<bool>) = serving.partition(|again| *again);
        let came_back = count - half;
        assert_eq!(
            (first.len(), again.len()),
            (count as usize, came_back as usize)
        );
    }
}

#[test]
fn one_that_proves_itself_anew_is_not_held_in_for_what_waits() {
    let mut world = World::new(1);
    world.apply("web", spec("web:1", 1));
    world.ticks(8);
    world.edge().has_queue = true;
    world.ticks(2);
    all_become(&mut world, ReplicaState::Assigned);
    for sim in world.nodes.values_mut() {
        for status in sim.containers.values_mut() {
            status.reason = Some(FailReason::Exited {
                code: 1,
                oom: false,
                last_line: String::new(),
            });
        }
    }
    world.tick(500);
    assert_eq!(world.active("web")[0].traffic, Traffic::Drain);
    assert!(!world.plan.routes().backends[0].holds);
}

#[test]
fn one_check_that_fails_is_taken_out_and_said() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    let first = world.active("web")[0].id;
    for sim in world.nodes.values_mut() {
        if let Some(status) = sim.containers.get_mut(&first) {
            status.state = ReplicaState::Unhealthy;
        }
    }
    world.tick(500);
    assert_eq!(world.plan.replica(first).unwrap().traffic, Traffic::Drain);
    assert_eq!(world.answering("web"), 2);
}

#[test]
fn a_surplus_replica_whose_check_fails_does_not_leave_for_being_too_many() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    let first = world.active("web")[0].id;
    for sim in world.nodes.values_mut() {
        if let Some(status) = sim.containers.get_mut(&first) {
            status.state = ReplicaState::Unhealthy;
        }
    }
    world.scale("web", 2);
    world.tick(500);
    let reasons: Vec<&LeaveReason> = world
        .leaving("web")
        .into_iter()
        .map(|(_, leaving)| &leaving.reason)
        .collect();
    assert_eq!(reasons, [&LeaveReason::Unhealthy]);
}

#[test]
fn a_template_that_fails_does_not_crowd_the_next_one_onto_few_nodes() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(8);
    world.broken.push("bad:1".into());
    world.apply("web", spec("bad:1", 3));
    world.ticks(60);
    world.apply("web", spec("web:2", 3));
    world.ticks(60);
    let spread = world.per_node("web");
    assert_eq!(spread.len(), 3, "{spread:?}");
    world.scale("web", 9);
    world.ticks(20);
    let spread = world.per_node("web");
    assert!(spread.values().all(|&count| count == 3), "{spread:?}");
}

#[test]
fn nodes_that_join_without_their_agents_are_awaited_not_lost() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(100);
    for name in ["late1", "late2"] {
        world.add_worker(name);
        world.desired.nodes.get_mut(&id(name)).unwrap().joined_ms = world.now;
        world.node(name).session = false;
        world.node(name).power = false;
    }
    world.node("node1").power = false;
    world.ticks(30);
    assert!(world.report.problems.is_empty(), "{:?}", world.report);
    assert!(world.plan.lost.contains_key(&id("node1")));
    for name in ["late1", "late2"] {
        assert_ne!(world.report.nodes[&id(name)].state, NodeState::Lost);
    }
    assert_eq!(world.answering("web"), 3);
}

#[test]
fn the_brake_lets_go_only_after_a_calm_time() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 6));
    world.ticks(8);
    world.node("node1").power = false;
    world.node("node2").power = false;
    world.ticks(30);
    assert!(!world.report.problems.is_empty());
    world.node("node1").power = true;
    world.ticks(100);
    assert!(world.plan.lost.is_empty(), "evicted while the dust settles");
    world.ticks(60);
    assert!(world.plan.lost.contains_key(&id("node2")), "calm for long");
    assert!(world.report.problems.is_empty());
}

#[test]
fn what_no_edge_serves_is_not_called_serving() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.ticks(8);
    assert_eq!(world.report.services[&key("web")].serving, 2);
    // Its HAProxy is away: the agent reports that it has no server any more.
    world.deaf_edges = true;
    world.ticks(2);
    assert_eq!(world.report.services[&key("web")].serving, 0);
    world.deaf_edges = false;
    // Only its agent is away: its HAProxy goes on.
    world.ticks(2);
    world.edge().session = false;
    world.ticks(10);
    assert_eq!(world.report.services[&key("web")].serving, 2);
}

#[test]
fn nothing_is_stopped_while_nodes_come_back_from_an_outage_whoever_set_the_count() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 3));
    world.ticks(150);
    world.scale("web", 4);
    world.ticks(200);
    world.node("node1").power = false;
    world.node("node2").power = false;
    world.ticks(20);
    assert_eq!(world.per_node("web").get("node3"), Some(&4));
    world.node("node1").power = true;
    world.node("node2").power = true;
    world.ticks(60);
    assert!(!world.report.problems.is_empty(), "the brake is still on");
    assert_eq!(world.leaving("web").len(), 0);
    let waits = &world.report.services[&key("web")].waits;
    let outage = |r: &Reason| matches!(r, Reason::PartialOutage { .. });
    assert!(waits.iter().any(outage), "{waits:?}");
    // Once it is calm, the surplus goes from where most are.
    world.ticks(120);
    let spread = world.per_node("web");
    assert_eq!(world.active("web").len(), 4);
    assert_eq!(spread.len(), 3, "{spread:?}");
}

#[test]
fn of_nodes_that_fall_silent_one_after_the_other_none_is_evicted_first() {
    // HAProxy may find the later one's servers down much later than the first one's.
    for later_ms in [0, 500, 1_000, 2_000, 4_000] {
        let mut world = World::new(3);
        world.apply("web", spec("web:1", 6));
        world.ticks(150);
        world.node("node1").power = false;
        world.node("node2").session = false;
        let mut past_ms = 0;
        while past_ms < 15_000 {
            if past_ms == later_ms {
                world.node("node2").power = false;
            }
            world.tick(500);
            past_ms += 500;
        }
        let lost = &world.plan.lost;
        assert!(lost.is_empty(), "{later_ms} ms later: {lost:?}");
        assert!(matches!(
            world.report.problems[..],
            [Reason::PartialOutage { away: 2, all: 3 }]
        ));
    }
}

#[test]
fn what_an_edge_cannot_serve_is_said_of_the_service_once_and_for_as_long() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 2));
    world.apply("api", spec("api:1", 2));
    world.ticks(100);
    let detail = "port 8080 is taken".to_owned();
    world.edge().refused = [(key("web"), detail)].into();
    world.events.clear();
    world.ticks(10);
    let waits = |world: &World, name: &str| world.report.services[&key(name)].waits.clone();
    let said = waits(&world, "web");
    assert!(
        matches!(&said[..], [Reason::NotRouted { detail, .. }] if detail == "port 8080 is taken"),
        "{said:?}"
    );
    assert!(waits(&world, "api").is_empty());
    let events = world.events.iter().filter(|event| {
        matches!(event, EventKind::Waits { service, why: Reason::NotRouted { .. } } if *service == key("web"))
    });
    assert_eq!(events.count(), 1, "{:?}", world.events);
    // An edge that is away, or lists nothing yet, does not say that it serves again.
    world.deaf_edges = true;
    world.edge().refused.clear();
    world.events.clear();
    world.tick(500);
    let again = |event: &EventKind| matches!(event, EventKind::RoutedAgain { .. });
    assert!(!world.events.iter().any(again), "{:?}", world.events);
    world.deaf_edges = false;
    world.tick(500);
    assert!(waits(&world, "web").is_empty());
    assert!(
        matches!(world.events.last(), Some(EventKind::RoutedAgain { service, .. }) if *service == key("web")),
        "{:?}",
        world.events.last()
    );
}

#[test]
fn a_haproxy_that_does_not_answer_is_said_once_and_when_it_is_back() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.ticks(20);
    world.events.clear();
    let down = "HAProxy is not running".to_owned();
    world.edge().problem = Some(down.clone());
    world.ticks(2);
    assert!(world.events.is_empty(), "it lists its servers: it answers");
    world.deaf_edges = true;
    world.ticks(2);
    world.edge().problem = None;
    world.deaf_edges = false;
    world.ticks(2);
    let said = world.events.iter().filter_map(|event| match event {
        EventKind::EdgeSilent { problem, .. } => Some(Some(problem.clone())),
        EventKind::EdgeAnswers { .. } => Some(None),
        _ => None,
    });
    assert_eq!(said.collect::<Vec<_>>(), [Some(down), None]);
}

#[test]
fn another_program_on_an_edges_port_is_said_once_and_when_it_is_gone() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.ticks(20);
    world.events.clear();
    let by = |pid: u32| (format!("haproxy (pid {pid})"), [80].into());
    for sharers in [vec![by(7)], vec![by(7), by(8)], vec![by(8)], vec![]] {
        world.edge().sharers = sharers.into_iter().collect();
        world.ticks(2);
    }
    let said = world.events.iter().filter_map(|event| match event {
        EventKind::PortsShared { program, .. } => Some((true, program.as_str())),
        EventKind::PortsOwn { program, .. } => Some((false, program.as_str())),
        _ => None,
    });
    let (seven, eight) = ("haproxy (pid 7)", "haproxy (pid 8)");
    assert_eq!(
        said.collect::<Vec<_>>(),
        [(true, seven), (true, eight), (false, seven), (false, eight)]
    );
}

#[test]
fn what_an_edges_agent_mends_is_said_once_and_not_from_before_the_start() {
    let repair = |number| Repair {
        number,
        kind: RepairKind::Changed,
        what: format!("be_web/slot{number} was in maint"),
        more: 0,
        away_ms: None,
    };
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    // A controller that has just started hears of what was long before it.
    let before_ms = world.now.saturating_sub(world.started) + 60_000;
    world.edge().repairs = vec![(before_ms, repair(1)), (0, repair(2))];
    world.ticks(20);
    // The third comes with the report after the next.
    world.edge().repairs = vec![(9_000, repair(2)), (100, repair(3)), (0, repair(4))];
    world.ticks(4);
    // An agent whose clock was put back begins below: what it mends from then on is said.
    world.edge().repairs = vec![(0, repair(1))];
    world.ticks(4);
    world.edge().repairs = vec![(9_000, repair(1)), (0, repair(2))];
    world.ticks(4);
    let said = world.events.iter().filter_map(|event| match event {
        EventKind::EdgeRepaired { repair, .. } => Some(repair.number),
        _ => None,
    });
    assert_eq!(said.collect::<Vec<_>>(), [2, 3, 4, 2]);
}

#[test]
fn what_an_edge_reaches_counts_while_its_node_cannot_tell() {
    for unlisted in [true, false] {
        let mut world = World::new(2);
        world.apply("web", spec("web:1", 2));
        world.ticks(40);
        let untold = world.active("web")[1].clone();
        world.apply("web", spec("web:2", 2));
        for _ in 0..60 {
            world.now += 500;
            world.act();
            world.report_all();
            let seen = world.observed.nodes.get_mut(&untold.node).unwrap();
            let seen = std::sync::Arc::make_mut(seen);
            if unlisted {
                // Its agent has just started and is still looking for what runs.
                std::sync::Arc::make_mut(&mut seen.replicas).remove(&untold.id);
            } else {
                seen.engine = observe::EngineState::Stuck;
                let said = std::sync::Arc::make_mut(&mut seen.replicas);
                said.get_mut(&untold.id).unwrap().state = ReplicaState::Unhealthy;
            }
            world.run();
            if !world.leaving("web").is_empty() {
                break;
            }
        }
        let left: Vec<ReplicaId> = world.leaving("web").iter().map(|(r, _)| r.id).collect();
        assert!(!left.is_empty(), "nothing was given up");
        assert!(!left.contains(&untold.id), "{left:?}");
    }
}

#[test]
fn what_was_taken_out_of_the_routes_is_not_stopped_before_its_sessions_are_over() {
    for state in [ReplicaState::Starting, ReplicaState::Unhealthy] {
        let mut world = World::new(3);
        world.sticky = true;
        world.apply("web", spec("web:1", 3));
        world.ticks(40);
        let first = world.active("web")[0].clone();
        let set = |world: &mut World| {
            let sim = world.nodes.get_mut(&first.node).unwrap();
            if let Some(status) = sim.containers.get_mut(&first.id) {
                // The world lets what is assigned start with its next step.
                status.state = match state {
                    ReplicaState::Starting => ReplicaState::Assigned,
                    state => state,
                };
            }
        };
        // Its agent proves it anew, or its check fails; what it answers goes on.
        set(&mut world);
        world.tick(500);
        assert_eq!(world.active("web")[0].traffic, Traffic::Drain, "{state:?}");
        world.apply("web", spec("web:2", 3));
        let mut left_ms = None;
        for _ in 0..60 {
            world.tick(500);
            let Some(replica) = world.plan.replica(first.id).cloned() else {
                break;
            };
            if !replica.stop {
                set(&mut world);
            }
            left_ms = left_ms.or(replica.leaving.as_ref().map(|_| world.now));
            let waited_ms = left_ms.map_or(0, |at_ms| world.now - at_ms);
            assert!(
                !replica.stop || waited_ms >= 10_000,
                "{state:?}: {waited_ms} ms"
            );
        }
        assert!(world.plan.replica(first.id).is_none(), "{state:?}");
    }
}

#[test]
fn sessions_of_an_edge_that_comes_back_in_the_middle_of_a_drain_get_their_time() {
    let mut world = World::new(3);
    world.add_edge("edge2");
    world.apply("web", spec("web:1", 3));
    world.ticks(40);
    world.edges.get_mut(&id("edge2")).unwrap().session = false;
    world.tick(world.config.edge_lease_ms + 500);
    world.scale("web", 2);
    let mut since_ms = None;
    for _ in 0..60 {
        world.tick(500);
        let leaving = world.leaving("web");
        let Some((replica, _)) = leaving.first() else {
            break;
        };
        let waited_ms = world.now - *since_ms.get_or_insert(world.now);
        assert!(!replica.stop || waited_ms >= 10_000, "{waited_ms} ms");
        if replica.traffic == Traffic::Out {
            world.edges.get_mut(&id("edge2")).unwrap().session = true;
        }
    }
    assert!(since_ms.is_some() && world.leaving("web").is_empty());
}

#[test]
fn a_controller_that_was_stopped_for_a_while_takes_nobody_for_gone() {
    let mut world = World::new(1);
    world.sticky = true;
    world.apply("web", spec("web:1", 3));
    world.ticks(40);
    world.scale("web", 2);
    world.ticks(2);
    // What was said meanwhile is still unread when it goes on.
    world.now += 30_000;
    world.observed.watched_since_ms = world.now;
    world.run();
    assert!(world.plan.lost.is_empty());
    let stops = world.everyone().filter(|replica| replica.stop).count();
    assert_eq!(stops, 0, "an edge may still send requests there");
    world.ticks(20);
    assert_eq!(world.answering("web"), 2);
}
