//! What a rollback goes back to is what served in full: a revision of which no replica was ever
//! wanted has proved nothing, however long ago its rollout ended.

use crate::rollouts::*;
use crate::world::*;
use longshore_model::rollout::{Phase, Rollout, RolloutNews};
use longshore_model::spec::{FailureAction, UpdateSpec};
use longshore_model::*;

/// The old revision has served in full, and the new one was applied while none is wanted.
fn unproved(action: FailureAction) -> World {
    let mut world = settled(3, with(OLD, 3, update(action)));
    world.scale("web", 0);
    world.ticks(40);
    world.apply("web", with(NEW, 3, update(action)));
    world.ticks(20);
    assert_eq!(world.plan.services[&key("web")].target, 0);
    assert_eq!(rollout(&world).phase, Phase::Done);
    world
}

fn good_revision(world: &World) -> u64 {
    let good = world.plan.services[&key("web")].good.as_ref();
    good.map_or(0, |good| good.revision)
}

#[test]
fn a_revision_that_nobody_wanted_replicas_of_is_not_the_last_good_one() {
    let world = unproved(FailureAction::Rollback);
    assert_eq!(good_revision(&world), 1);
    let said = RolloutNews::Unproved { good_revision: 1 };
    assert_eq!(*news(&world).last().unwrap(), &said);
    let waits = &world.report.services[&key("web")].waits;
    let why = Reason::Unproved {
        revision: 2,
        good_revision: 1,
    };
    assert!(waits.contains(&why), "{waits:?}");
}

#[test]
fn its_first_replicas_are_watched_like_a_rollout_and_then_it_is_good() {
    let mut world = unproved(FailureAction::Rollback);
    world.scale("web", 3);
    world.ticks(3);
    assert_eq!(
        (of_image(&world, NEW), rollout(&world).word()),
        (3, "running")
    );
    assert_eq!(good_revision(&world), 1, "not yet watched");
    world.ticks(20);
    assert_eq!(
        (rollout(&world).word(), rollout(&world).revision),
        ("done", 2)
    );
    assert_eq!(good_revision(&world), 2);
    let took = news(&world).into_iter().rev().find_map(|news| match news {
        RolloutNews::Finished { after_ms, .. } => Some(*after_ms),
        _ => None,
    });
    assert!(
        took.is_some_and(|ms| (2_000..10_000).contains(&ms)),
        "{took:?}"
    );
    let waits = &world.report.services[&key("web")].waits;
    assert_eq!(waits, &[]);
}

#[test]
fn its_first_replicas_that_crash_bring_the_good_revision_back() {
    for restart in [false, true] {
        let mut world = unproved(FailureAction::Rollback);
        world.broken.push(NEW.into());
        if restart {
            world.started = world.now;
            (world.memory, world.observed) = Default::default();
            (world.cache, world.checker) = Default::default();
        }
        world.scale("web", 3);
        world.ticks(120);
        assert_eq!(rollout(&world).word(), "rolled_back");
        assert_eq!((of_image(&world, OLD), world.answering("web")), (3, 3));
        assert!((2..=3).contains(&failures(&world)), "{}", failures(&world));
    }
}

#[test]
fn where_its_file_says_pause_the_good_template_serves_while_it_waits() {
    let mut world = unproved(FailureAction::Pause);
    world.broken.push(NEW.into());
    world.scale("web", 3);
    world.ticks(120);
    assert_eq!(rollout(&world).word(), "paused");
    assert_eq!((of_image(&world, OLD), world.answering("web")), (3, 3));
}

/// What served for a moment before the count went back to none proves nothing either.
#[test]
fn a_count_that_is_taken_back_before_the_end_of_the_monitoring_proves_nothing() {
    let mut world = unproved(FailureAction::Rollback);
    world.scale("web", 3);
    world.ticks(3);
    world.scale("web", 0);
    world.ticks(40);
    assert_eq!(
        (rollout(&world).phase.clone(), good_revision(&world)),
        (Phase::Done, 1)
    );
    world.broken.push(NEW.into());
    world.scale("web", 2);
    world.ticks(120);
    assert_eq!(
        (of_image(&world, OLD), rollout(&world).word()),
        (2, "rolled_back")
    );
}

/// Revision and count come together: no old replica is there, but an old revision that worked.
#[test]
fn a_revision_that_comes_with_its_count_can_fail_where_none_ran() {
    let mut world = settled(3, with(OLD, 3, update(FailureAction::Rollback)));
    world.scale("web", 0);
    world.ticks(40);
    world.broken.push(NEW.into());
    world.scale("web", 3);
    world.apply("web", with(NEW, 3, update(FailureAction::Rollback)));
    world.ticks(120);
    assert_eq!(
        (of_image(&world, OLD), rollout(&world).word()),
        (3, "rolled_back")
    );
}

/// A file that changes no template is no rollout: it is good as soon as it is in force.
#[test]
fn a_rollback_goes_back_to_what_the_file_said_last_of_the_good_template() {
    let mut world = settled(3, with(OLD, 3, update(FailureAction::Rollback)));
    let moved = |image: &str| {
        let mut spec = with(image, 3, update(FailureAction::Rollback));
        spec.routes[0].listen_port = 81;
        spec
    };
    world.apply("web", moved(OLD));
    world.ticks(20);
    assert_eq!(good_revision(&world), 2);
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 3, update(FailureAction::Rollback)));
    world.ticks(120);
    let plan = &world.plan.services[&key("web")];
    assert_eq!(rollout(&world).word(), "rolled_back");
    assert_eq!(plan.routes[0].listen_port, 81);
}

/// Plans and events of before know neither of these fields.
#[test]
fn what_was_stored_before_is_read() {
    let world = unproved(FailureAction::Rollback);
    let stored = serde_json::to_value(rollout(&world)).unwrap();
    let mut old = stored;
    assert!(old.as_object_mut().unwrap().remove("pause").is_some());
    let read: Rollout = serde_json::from_value(old).unwrap();
    assert_eq!(read, *rollout(&world));
    let old = r#"{"news":"batch","batch":1,"new":1,"of":3,"stop_first":false}"#;
    let batch: RolloutNews = serde_json::from_str(old).unwrap();
    assert_eq!(batch.to_string(), "batch 1 began: 1 of 3 new");
}

#[test]
fn a_first_deployment_of_none_is_tried_on_once_replicas_are_wanted() {
    let mut world = World::new(2);
    world.broken.push(OLD.into());
    world.apply("web", with(OLD, 0, update(FailureAction::Rollback)));
    world.ticks(20);
    assert_eq!(rollout(&world).word(), "done");
    let said = RolloutNews::Unproved { good_revision: 0 };
    assert_eq!(*news(&world).last().unwrap(), &said);
    world.scale("web", 2);
    world.ticks(40);
    assert_eq!(rollout(&world).word(), "running");
    let began = RolloutNews::Started { from_revision: 0 };
    assert_eq!(*news(&world).last().unwrap(), &began);
    world.broken.clear();
    world.ticks(60);
    assert_eq!((rollout(&world).word(), good_revision(&world)), ("done", 1));
}

/// A deployment that is not through exchanges nothing that a change of the count could disturb:
/// it does not lock the count, as a later one does.
#[test]
fn a_first_rollout_does_not_lock_the_count() {
    let long = |image: &str| {
        let monitored = UpdateSpec {
            monitor_ms: 3_600_000,
            ..update(FailureAction::Pause)
        };
        let mut spec = with(image, 6, monitored);
        spec.autoscale = Some(node_cpu_policy(1, 8));
        spec
    };
    let mut world = World::new(3);
    world.apply("web", long(OLD));
    world.ticks(10);
    assert_eq!(world.plan.services[&key("web")].target, 6);
    for sim in world.nodes.values_mut() {
        sim.load = 0.05;
    }
    world.ticks(120);
    assert_eq!(rollout(&world).phase, Phase::Running);
    let target = world.plan.services[&key("web")].target;
    assert_eq!(target, 1, "nothing locks it");
}

#[test]
fn where_nothing_ever_worked_the_next_revision_is_a_first_rollout_as_well() {
    let mut world = World::new(3);
    world.broken = vec![OLD.into(), NEW.into()];
    world.apply("web", with(OLD, 3, update(FailureAction::Rollback)));
    // All have failed and wait before the next try: no replica runs.
    let idle = |world: &World| world.active("web").is_empty();
    for _ in 0..200 {
        world.tick(500);
        if idle(&world) {
            break;
        }
    }
    assert!(idle(&world), "{:?}", world.active("web").len());
    world.apply("web", with(NEW, 3, update(FailureAction::Rollback)));
    world.ticks(3);
    assert_eq!(
        (rollout(&world).revision, rollout(&world).from_revision),
        (2, 0)
    );
    let began = news(&world).into_iter().filter_map(|news| match news {
        RolloutNews::Started { from_revision } => Some(*from_revision),
        _ => None,
    });
    assert_eq!(began.collect::<Vec<_>>(), [0, 0]);
}
