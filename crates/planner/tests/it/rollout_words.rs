//! What is said of a rollout is the true reason, as data: why it pauses, why replicas leave, that
//! it goes on in spite of failures.

use crate::rollouts::*;
use crate::world::*;
use longshore_model::reason::LeaveReason;
use longshore_model::record::{RolloutAnswer, Setback};
use longshore_model::rollout::{PauseCause, Phase, RolloutNews, Trouble};
use longshore_model::spec::{Constraint, FailureAction, NodeAttribute, UpdateSpec};
use longshore_model::*;

/// Two at a time, and none may fail.
fn strict(failure_action: FailureAction) -> UpdateSpec {
    UpdateSpec {
        parallelism: 2,
        failure_permille_max: Some(0),
        ..update(failure_action)
    }
}

/// The newest replica of an image fails for good.
fn one_fails(world: &mut World, of: &str) {
    let active = world.active("web").into_iter();
    let failing = active.filter(|r| image(world, r) == of).map(|r| r.id);
    let failing = failing.max().unwrap();
    for sim in world.nodes.values_mut() {
        if let Some(status) = sim.containers.get_mut(&failing) {
            status.state = ReplicaState::Failed;
        }
    }
}

/// Why replicas left, failed ones apart.
fn left(world: &World) -> Vec<LeaveReason> {
    let left = world.events.iter().filter_map(|event| match event {
        EventKind::Leaving { why, .. } => Some(why.clone()),
        _ => None,
    });
    left.filter(|why| !matches!(why, LeaveReason::Failed { .. }))
        .collect()
}

/// What was noted of going on: how many had failed, how many may, and by which question.
fn went_on(world: &mut World, ticks: usize) -> Vec<(u32, u32)> {
    let mut noted = Vec::new();
    for _ in 0..ticks {
        world.tick(500);
        for record in &world.report.records {
            let Decision::Rollout(look) = &record.decision else {
                continue;
            };
            let RolloutAnswer::GoesOn { why } = &look.answer else {
                continue;
            };
            assert_eq!(look.setback, Some(Setback::Replica));
            let Trouble::Replicas {
                failed, tolerated, ..
            } = why
            else {
                panic!("{why}");
            };
            noted.push((*failed, *tolerated));
        }
    }
    noted
}

#[test]
fn a_rollback_to_nothing_pauses_and_says_that_there_is_nothing() {
    let long = UpdateSpec {
        monitor_ms: 60_000,
        ..update(FailureAction::Rollback)
    };
    let mut world = World::new(2);
    world.apply("web", with(OLD, 2, long.clone()));
    world.ticks(2);
    assert!(world.answering("web") < 2, "never served in full");
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 2, long));
    world.ticks(60);
    assert_eq!(
        (world.answering("web"), rollout(&world).word()),
        (2, "paused")
    );
    let waits = &world.report.services[&key("web")].waits;
    let said = waits.iter().find(|why| {
        matches!(
            why,
            Reason::RolloutPaused {
                revision: 2,
                cause: PauseCause::NothingWorked,
                ..
            }
        )
    });
    let said = said.unwrap_or_else(|| panic!("{waits:?}")).to_string();
    let begins = "rollout of revision 2 is paused: there is no earlier revision that worked to \
                  return to; 2 new replicas failed";
    assert!(said.starts_with(begins), "{said}");
    let superseded = RolloutNews::Superseded { by_revision: 2 };
    assert!(news(&world).contains(&&superseded));
    let paused = |news: &&RolloutNews| matches!(news, RolloutNews::Paused { cause, .. } if *cause == PauseCause::NothingWorked);
    assert!(news(&world).into_iter().any(|news| paused(&news)));
    // Where the file asks for the pause, there is nothing to add.
    let mut world = settled(2, with(OLD, 2, update(FailureAction::Pause)));
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 2, update(FailureAction::Pause)));
    world.ticks(60);
    assert_eq!(rollout(&world).pause, PauseCause::Asked);
}

#[test]
fn replicas_of_a_failed_rollout_do_not_leave_because_fewer_are_wanted() {
    let mut world = settled(3, with(OLD, 4, strict(FailureAction::Pause)));
    world.apply("web", with(NEW, 4, strict(FailureAction::Pause)));
    world.ticks(4);
    assert_eq!(of_image(&world, NEW), 2);
    one_fails(&mut world, NEW);
    world.ticks(40);
    assert_eq!(
        (of_image(&world, OLD), rollout(&world).word()),
        (4, "paused")
    );
    let why = left(&world);
    let failed = LeaveReason::RolloutFailed { revision: 2 };
    assert_eq!(
        why.iter().filter(|why| **why == failed).count(),
        1,
        "{why:?}"
    );
    assert!(!why.contains(&LeaveReason::ScaleIn), "{why:?}");
}

#[test]
fn replicas_that_are_rolled_back_say_so_and_so_do_the_batches() {
    let mut world = settled(3, with(OLD, 4, strict(FailureAction::Rollback)));
    world.apply("web", with(NEW, 4, strict(FailureAction::Rollback)));
    world.ticks(4);
    assert_eq!(of_image(&world, NEW), 2);
    one_fails(&mut world, NEW);
    world.tick(500);
    let going = world.report.services[&key("web")]
        .waits
        .iter()
        .any(|why| matches!(why, Reason::RolledBack { going, .. } if *going));
    assert!(going, "it is on its way");
    world.ticks(60);
    assert_eq!(
        (of_image(&world, OLD), rollout(&world).word()),
        (4, "rolled_back")
    );
    let why = left(&world);
    let back = LeaveReason::RolledBack {
        revision: 2,
        to_revision: 1,
    };
    assert!(why.contains(&back), "{why:?}");
    assert!(!why.contains(&LeaveReason::ScaleIn), "{why:?}");
    let words: Vec<String> = news(&world).iter().map(ToString::to_string).collect();
    let batch = "batch 1 of the way back began: 4 of 4 return to revision 1";
    assert!(words.iter().any(|said| said == batch), "{words:#?}");
    let over = world.report.services[&key("web")]
        .waits
        .iter()
        .any(|why| matches!(why, Reason::RolledBack { going, .. } if !*going));
    assert!(over);
}

/// The old template does not work any more either: nobody goes back and forth, a person decides.
#[test]
fn a_way_back_that_fails_pauses_and_says_so() {
    let mut world = settled(3, with(OLD, 4, strict(FailureAction::Rollback)));
    world.apply("web", with(NEW, 4, strict(FailureAction::Rollback)));
    let second = |world: &World| rollout(world).batches == 2 && world.answering("web") == 6;
    for _ in 0..60 {
        world.tick(500);
        if second(&world) {
            break;
        }
    }
    assert!(second(&world), "{:?}", rollout(&world));
    world.broken.push(OLD.into());
    one_fails(&mut world, NEW);
    world.ticks(120);
    assert_eq!(rollout(&world).word(), "paused", "{:#?}", news(&world));
    let way_back = PauseCause::WayBack { to_revision: 1 };
    assert_eq!(rollout(&world).pause, way_back);
    let waits = &world.report.services[&key("web")].waits;
    let said = waits
        .iter()
        .find(|why| matches!(why, Reason::RolloutPaused { cause, .. } if *cause == way_back));
    let said = said.unwrap_or_else(|| panic!("{waits:?}")).to_string();
    let begins = "rollout of revision 2 is paused: the way back to revision 1 failed as well; ";
    assert!(said.starts_with(begins), "{said}");
    let said: Vec<String> = waits.iter().map(ToString::to_string).collect();
    let of_first = "revision 2 was to be rolled back to 1: ";
    assert!(
        said.iter().any(|said| said.starts_with(of_first)),
        "{said:?}"
    );
    let goes_on = said
        .iter()
        .any(|said| said.contains("is being rolled back"));
    assert!(!goes_on, "it is paused: {said:?}");
    let all = news(&world);
    let why_paused = all.iter().filter_map(|news| match news {
        RolloutNews::Paused { cause, .. } => Some(*cause),
        _ => None,
    });
    assert_eq!(why_paused.collect::<Vec<_>>(), [way_back], "{all:#?}");
    let back = |news: &&&RolloutNews| matches!(news, RolloutNews::RollsBack { .. });
    assert_eq!(all.iter().filter(back).count(), 1, "{all:#?}");
    assert_eq!(world.answering("web"), 4, "what works stays");
}

#[test]
fn replicas_of_a_superseded_rollout_say_by_which() {
    let mut world = settled(3, with(OLD, 3, update(FailureAction::Pause)));
    world.apply("web", with(NEW, 3, update(FailureAction::Pause)));
    world.tick(500);
    assert_eq!((of_image(&world, OLD), of_image(&world, NEW)), (3, 1));
    world.apply("web", with("web:3", 3, update(FailureAction::Pause)));
    world.ticks(60);
    assert_eq!(
        (of_image(&world, "web:3"), rollout(&world).word()),
        (3, "done")
    );
    let why = left(&world);
    let superseded = LeaveReason::Superseded { by_revision: 3 };
    assert_eq!(
        why.iter().filter(|why| **why == superseded).count(),
        1,
        "{why:?}"
    );
    assert!(!why.contains(&LeaveReason::ScaleIn), "{why:?}");
}

#[test]
fn fewer_that_are_wanted_during_a_rollout_are_still_said_as_that() {
    let mut world = settled(3, with(OLD, 4, update(FailureAction::Pause)));
    world.apply("web", with(NEW, 4, update(FailureAction::Pause)));
    world.tick(500);
    world.scale("web", 2);
    world.ticks(60);
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (2, "done"));
    let why = left(&world);
    assert!(
        !why.iter()
            .any(|why| matches!(why, LeaveReason::Superseded { .. })),
        "{why:?}"
    );
}

/// Two revisions are left behind at once, and fewer are wanted in the same moment.
#[test]
fn fewer_that_are_wanted_with_the_next_revision_are_not_said_to_be_superseded() {
    let mut world = settled(3, with(OLD, 4, update(FailureAction::Pause)));
    world.apply("web", with(NEW, 4, update(FailureAction::Pause)));
    world.tick(500);
    assert_eq!((of_image(&world, OLD), of_image(&world, NEW)), (4, 1));
    world.apply("web", with("web:3", 4, update(FailureAction::Pause)));
    world.scale("web", 1);
    world.ticks(60);
    assert_eq!(
        (of_image(&world, "web:3"), rollout(&world).word()),
        (1, "done")
    );
    let why = left(&world);
    assert!(why.contains(&LeaveReason::ScaleIn), "{why:?}");
    let superseded = |why: &&LeaveReason| matches!(why, LeaveReason::Superseded { .. });
    assert_eq!(why.iter().find(superseded), None, "{why:?}");
}

#[test]
fn a_replica_whose_node_no_longer_fits_is_not_said_to_be_of_another_revision() {
    let mut world = settled(3, with(OLD, 3, update(FailureAction::Pause)));
    let mut elsewhere = with(OLD, 3, update(FailureAction::Pause));
    elsewhere.placement.constraints.push(Constraint {
        attribute: NodeAttribute::Hostname,
        equal: false,
        value: "node1".into(),
    });
    world.apply("web", elsewhere);
    world.ticks(40);
    assert_eq!(left(&world), [LeaveReason::Misplaced]);
}

#[test]
fn each_failure_that_is_tolerated_is_noted_once() {
    let tolerant = UpdateSpec {
        failure_permille_max: Some(500),
        ..update(FailureAction::Pause)
    };
    let mut world = settled(3, with(OLD, 4, tolerant.clone()));
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 4, tolerant));
    assert_eq!(went_on(&mut world, 60), [(1, 2), (2, 2)]);
    assert_eq!(rollout(&world).word(), "paused", "the third is too much");
    let tolerates = |n: &&RolloutNews| matches!(n, RolloutNews::Tolerates { .. });
    assert_eq!(news(&world).into_iter().filter(tolerates).count(), 2);
}

#[test]
fn going_on_in_spite_of_failures_is_noted_once_for_each() {
    let mut world = settled(3, with(OLD, 2, update(FailureAction::Continue)));
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 2, update(FailureAction::Continue)));
    let noted = went_on(&mut world, 120);
    let failed = u32::try_from(failures(&world)).unwrap();
    let all: Vec<(u32, u32)> = (1..=failed).map(|n| (n, 1)).collect();
    assert!(failed >= 3);
    assert_eq!(noted, all);
    let said =
        |kind: fn(&RolloutNews) -> bool| news(&world).into_iter().filter(|n| kind(n)).count();
    assert_eq!(said(|n| matches!(n, RolloutNews::Tolerates { .. })), 1);
    let continues = said(|n| matches!(n, RolloutNews::Continues { .. }));
    assert_eq!(continues, failures(&world) - 1);
}

/// Half of so many is fewer once fewer are wanted: the reason names what holds now.
#[test]
fn the_reason_names_what_is_tolerated_when_it_is_too_much() {
    let half = UpdateSpec {
        parallelism: 2,
        failure_permille_max: Some(500),
        ..update(FailureAction::Pause)
    };
    let mut world = settled(3, with(OLD, 4, half.clone()));
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 4, half));
    assert_eq!(went_on(&mut world, 4), [(2, 2)], "two at once");
    world.scale("web", 2);
    world.tick(500);
    let Some(Trouble::Replicas {
        failed, tolerated, ..
    }) = rollout(&world).trouble
    else {
        panic!("{:?}", rollout(&world));
    };
    assert_eq!(
        (rollout(&world).word(), failed, tolerated),
        ("paused", 2, 1)
    );
}

/// Of two ways in one is refused: the replicas are reached by the other one.
#[test]
fn a_rollout_that_ends_while_an_edge_refuses_a_way_in_says_so() {
    let mut world = World::new(2);
    let why = "port 443: HAProxy refuses certificate cert".to_owned();
    world.edge().refused = [(key("web"), why.clone())].into();
    world.apply("web", with(OLD, 2, update(FailureAction::Pause)));
    let mut looks = Vec::new();
    for _ in 0..30 {
        world.tick(500);
        let records = world.report.records.iter();
        looks.extend(records.filter_map(|record| match &record.decision {
            Decision::Rollout(look) if look.answer == RolloutAnswer::Finishes => {
                Some(look.refused_by.clone())
            }
            _ => None,
        }));
    }
    assert_eq!(rollout(&world).phase, Phase::Done);
    let refused: longshore_model::ways::RefusedBy = [(id("edge"), why)].into();
    assert_eq!(looks, std::slice::from_ref(&refused));
    let last = news(&world).into_iter().last().unwrap();
    let RolloutNews::Finished {
        after_ms,
        refused_by,
    } = last
    else {
        panic!("{last}");
    };
    assert_eq!(*refused_by, refused);
    assert_eq!(
        last.to_string(),
        format!(
            "rollout finished after {}, but the service is not reachable as wanted through edge: \
             port 443: HAProxy refuses certificate cert",
            span(*after_ms)
        )
    );
}
