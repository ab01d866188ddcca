//! Replicas that are healthy, and that HAProxy's check does not let in.

use crate::rollouts::*;
use crate::world::{self, *};
use longshore_model::observe::CheckState;
use longshore_model::plan::Traffic;
use longshore_model::reason::{FailReason, LeaveReason};
use longshore_model::rollout::{PauseCause, Phase, RolloutNews, Trouble};
use longshore_model::spec::{FailureAction, Probe, UpdateOrder, UpdateSpec};
use longshore_model::*;

/// None may fail.
fn strict(failure_action: FailureAction) -> UpdateSpec {
    UpdateSpec {
        failure_permille_max: Some(0),
        ..update(failure_action)
    }
}

/// The old revision serves, and edges do not reach what the new one starts.
fn shut_out(replicas: u32, update: UpdateSpec) -> World {
    let mut world = settled(3, with(OLD, replicas, update.clone()));
    world.shut_out.push(NEW.into());
    world.apply("web", with(NEW, replicas, update));
    world
}

fn not_reached(world: &World) -> Option<&Reason> {
    let waits = &world.report.services[&key("web")].waits;
    waits
        .iter()
        .find(|why| matches!(why, Reason::NotReached { .. }))
}

#[test]
fn a_revision_that_no_edge_reaches_is_rolled_back() {
    let mut world = shut_out(3, strict(FailureAction::Rollback));
    for _ in 0..80 {
        world.tick(500);
        assert!(world.answering("web") >= 3, "the old ones go on");
    }
    assert_eq!(rollout(&world).word(), "rolled_back");
    assert_eq!((of_image(&world, OLD), of_image(&world, NEW)), (3, 0));
    let why = news(&world).into_iter().find_map(|news| match news {
        RolloutNews::RollsBack { why, .. } => Some(why.clone()),
        _ => None,
    });
    assert!(
        matches!(
            why,
            Some(Trouble::Replicas {
                failed: 1,
                last: FailReason::NotReached {
                    after_ms: 11_500..=12_500,
                    ref edges,
                },
                ..
            }) if edges.is_empty()
        ),
        "{why:?}"
    );
}

#[test]
fn where_its_file_says_pause_it_pauses_with_the_old_ones() {
    let mut world = shut_out(3, strict(FailureAction::Pause));
    world.ticks(80);
    let paused = PauseCause::Asked;
    assert_eq!(
        (&rollout(&world).phase, rollout(&world).pause),
        (&Phase::Failed, paused)
    );
    assert_eq!((of_image(&world, OLD), of_image(&world, NEW)), (3, 0));
    assert_eq!(world.answering("web"), 3);
}

/// The check fails only once the old ones are gone, with sessions on the new ones.
#[test]
fn one_that_edges_reached_before_leaves_by_a_drain() {
    let slow = UpdateSpec {
        monitor_ms: 60_000,
        ..strict(FailureAction::Rollback)
    };
    let mut world = settled(3, with(OLD, 1, strict(FailureAction::Rollback)));
    world.apply("web", with(NEW, 1, slow));
    world.ticks(20);
    assert_eq!((of_image(&world, OLD), of_image(&world, NEW)), (0, 1));
    world.shut_out.push(NEW.into());
    let new = world.active("web")[0].id;
    for _ in 0..40 {
        world.tick(500);
        let replica = world.plan.replica(new).unwrap();
        if let Some(leaving) = &replica.leaving {
            assert_eq!(leaving.reason, LeaveReason::Unreachable);
            assert_eq!(replica.traffic, Traffic::Drain);
            world.ticks(40);
            assert_eq!(rollout(&world).word(), "rolled_back");
            assert_eq!(world.answering("web"), 1);
            return;
        }
    }
    panic!("{:#?}", world.plan.replica(new));
}

#[test]
fn slow_checks_get_their_time() {
    let mut world = World::new(3);
    let slow = |image: &str| {
        let mut spec = with(image, 1, strict(FailureAction::Rollback));
        spec.routes[0].check.interval_ms = 10_000;
        spec.routes[0].check.rise = 3;
        spec
    };
    world.apply("web", slow(OLD));
    world.ticks(30);
    world.shut_out.push(NEW.into());
    world.apply("web", slow(NEW));
    // Ten seconds, and three checks.
    world.ticks(78);
    assert_eq!(rollout(&world).word(), "running");
    assert!(not_reached(&world).is_some(), "it is said before");
    world.ticks(20);
    assert_eq!(rollout(&world).word(), "rolled_back");
}

#[test]
fn the_first_revision_is_not_given_up_but_it_is_said_once() {
    let mut world = World::new(3);
    world.shut_out.push(NEW.into());
    world.apply("web", with(NEW, 2, update(FailureAction::Rollback)));
    world.ticks(100);
    assert_eq!(failures(&world), 0);
    // One is tried elsewhere; where all are out of reach that is no way out.
    assert_eq!(world.active("web").len(), 3);
    assert!(
        matches!(
            not_reached(&world),
            Some(Reason::NotReached {
                replicas: 3,
                slot: 1,
                ..
            })
        ),
        "{:?}",
        world.report.services[&key("web")].waits
    );
    let said = world.events.iter().filter(|event| {
        let EventKind::Waits { why, .. } = event else {
            return false;
        };
        matches!(why, Reason::NotReached { .. })
    });
    assert_eq!(said.count(), 1);
    world.shut_out.clear();
    world.ticks(10);
    assert_eq!(not_reached(&world), None);
}

/// Others on the node are out of reach as well: it is the way to the node that fails.
#[test]
fn a_node_that_edges_lose_does_not_fail_a_rollout() {
    let mut world = World::new(2);
    let held = UpdateSpec {
        parallelism: 1,
        order: UpdateOrder::StartFirst,
        monitor_ms: 20_000,
        ..update(FailureAction::Rollback)
    };
    world.apply("other", spec("other:1", 2));
    world.apply("web", with(OLD, 2, held.clone()));
    world.ticks(80);
    world.apply("web", with(NEW, 2, held));
    world.ticks(6);
    let new = world.active("web").into_iter();
    let new = new.filter(|r| image(&world, r) == NEW).collect::<Vec<_>>();
    let [new] = &new[..] else {
        panic!("one at a time: {new:?}");
    };
    let node = new.node.to_string();
    world.node(&node).reachable = false;
    world.ticks(60);
    assert_eq!(failures(&world), 0, "{:?}", news(&world));
    assert_eq!(rollout(&world).word(), "running");
}

/// Two edges, of which the second does not reach `what`: a node or an image.
fn reached_by_one(replicas: u32, update: UpdateSpec, what: &str) -> World {
    let mut world = World::new(2);
    world.add_edge("edge2");
    world.apply("web", with(OLD, replicas, update.clone()));
    world.ticks(20);
    let edge2 = world.edges.get_mut(&world::id("edge2")).unwrap();
    edge2.blind_to.push(what.into());
    world.apply("web", with(NEW, replicas, update));
    world
}

#[test]
fn a_revision_that_one_edge_reaches_and_another_not_is_rolled_back() {
    let mut world = reached_by_one(2, strict(FailureAction::Rollback), NEW);
    for _ in 0..60 {
        world.tick(500);
        assert!(world.answering("web") >= 2, "the old ones go on");
    }
    assert_eq!(rollout(&world).word(), "rolled_back");
    assert_eq!((of_image(&world, OLD), of_image(&world, NEW)), (2, 0));
    let why = news(&world).into_iter().find_map(|news| match news {
        RolloutNews::RollsBack { why, .. } => Some(why.to_string()),
        _ => None,
    });
    let why = why.unwrap_or_default();
    assert!(why.contains("failed on edge2 for 1"), "{why}");
}

/// The same sight of the new ones, but for the old ones on the node: it may be the way there.
#[test]
fn an_edge_that_is_cut_off_from_a_node_fails_no_rollout_and_is_named() {
    let mut world = reached_by_one(2, strict(FailureAction::Rollback), "node1");
    world.ticks(100);
    assert_eq!(failures(&world), 0, "{:?}", news(&world));
    assert_eq!(rollout(&world).word(), "running");
    let waits = &world.report.services[&key("web")].waits;
    let Some(Reason::NotReached { edges, node, .. }) = waits.first() else {
        panic!("it is the first of what it waits for: {waits:?}");
    };
    assert_eq!(
        (&edges[..], node),
        (&[world::id("edge2")][..], &world::id("node1"))
    );
    let words = waits[0].to_string();
    assert!(words.contains("can edge2 connect to its node?"), "{words}");
    let said = world.events.iter().filter(|event| {
        matches!(
            event,
            EventKind::Waits {
                why: Reason::NotReached { .. },
                ..
            }
        )
    });
    assert_eq!(said.count(), 1);
    world
        .edges
        .get_mut(&world::id("edge2"))
        .unwrap()
        .blind_to
        .clear();
    world.ticks(40);
    assert_eq!(not_reached(&world), None);
    assert_eq!(rollout(&world).phase, Phase::Done);
    assert_eq!((of_image(&world, OLD), of_image(&world, NEW)), (0, 2));
}

/// An edge that was cut off from the controller says nothing: what it saw last does not count.
#[test]
fn an_edge_without_a_session_is_not_asked() {
    let mut world = reached_by_one(2, strict(FailureAction::Rollback), NEW);
    world.ticks(4);
    world.edges.get_mut(&world::id("edge2")).unwrap().session = false;
    world.ticks(100);
    assert_eq!(failures(&world), 0, "{:?}", news(&world));
    assert_eq!(not_reached(&world), None);
}

#[test]
fn a_rollout_that_waits_for_an_edge_without_a_haproxy_names_it() {
    let mut world = reached_by_one(2, strict(FailureAction::Rollback), "nothing");
    let edge2 = world.edges.get_mut(&world::id("edge2")).unwrap();
    (edge2.deaf, edge2.problem) = (true, Some("HAProxy is not running".into()));
    world.ticks(60);
    assert_eq!(failures(&world), 0, "{:?}", news(&world));
    assert_eq!(rollout(&world).word(), "running");
    let waits = &world.report.services[&key("web")].waits;
    let first = waits.first().map(ToString::to_string);
    let said = "waits for edge2: HAProxy is not running";
    assert_eq!(first.as_deref(), Some(said), "{waits:?}");
    let edge2 = world.edges.get_mut(&world::id("edge2")).unwrap();
    (edge2.deaf, edge2.problem) = (false, None);
    world.ticks(40);
    assert_eq!(rollout(&world).phase, Phase::Done);
    let waits = &world.report.services[&key("web")].waits;
    assert!(waits.is_empty(), "{waits:?}");
}

/// A spec whose check is for a path, asked for by the agent or by HAProxy alone.
fn checked(image: &str, path: Option<&str>, by_agent: bool) -> ServiceSpec {
    let mut spec = with(image, 2, update(FailureAction::Rollback));
    let path = path.map(str::to_owned);
    spec.routes[0].check_path.clone_from(&path);
    let (path, edge_path) = if by_agent { (path, None) } else { (None, path) };
    spec.container.probe = Some(Probe {
        port: 8000,
        path,
        edge_path,
        interval_ms: 1_000,
        timeout_ms: 1_000,
        retries: 3,
        start_ms_max: 60_000,
    });
    spec
}

#[test]
fn a_path_that_old_replicas_do_not_know_waits_until_they_are_gone() {
    for by_agent in [true, false] {
        let mut world = settled(3, checked(OLD, Some("/old"), by_agent));
        let asked = |world: &World| world.plan.routes().backends[0].route.check_path.clone();
        assert_eq!(asked(&world).as_deref(), Some("/old"));
        world.apply("web", checked(OLD, Some("/new"), by_agent));
        let mut seen = Vec::new();
        for _ in 0..40 {
            world.tick(500);
            let templates = world.active("web").into_iter();
            let serving = templates.filter(|r| r.traffic == Traffic::Serve);
            let paths: std::collections::BTreeSet<_> = serving
                .filter_map(|r| world.plan.template(r)?.probe.as_ref()?.checked_path())
                .map(str::to_owned)
                .collect();
            let asked = asked(&world);
            match &asked {
                Some(asked) => assert_eq!(paths, [asked.clone()].into()),
                None => assert!(paths.contains("/old"), "{paths:?}"),
            }
            seen.push(asked);
            assert!(world.answering("web") >= 2);
        }
        seen.dedup();
        assert_eq!(seen, [None, Some("/new".to_owned())]);
        assert_eq!(rollout(&world).phase, Phase::Done);
    }
}

#[test]
fn edges_say_down_of_what_is_shut_out() {
    let mut world = shut_out(1, update(FailureAction::Pause));
    world.ticks(6);
    let new = world.active("web").into_iter();
    let new: Vec<ReplicaId> = new
        .filter(|r| image(&world, r) == NEW)
        .map(|r| r.id)
        .collect();
    let edge = world.observed.edges.values().next().unwrap();
    let server = edge.server(&key("web"), new[0]).unwrap();
    assert_eq!(server.check, CheckState::Down);
}
