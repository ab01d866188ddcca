//! Ways back that fail as well.

use crate::rollouts::{NEW, OLD, failures, news, of_image, rollout, settled, update, with};
use crate::world::World;
use longshore_model::rollout::{PauseCause, Phase, RolloutNews};
use longshore_model::spec::{FailureAction, UpdateOrder, UpdateSpec};

/// Replicas of the revision that failed still run: they go on until a person decides.
#[test]
fn a_rollback_that_fails_as_well_pauses() {
    let mut world = settled(3, with(OLD, 3, update(FailureAction::Rollback)));
    world.apply("web", with(NEW, 3, update(FailureAction::Rollback)));
    while rollout(&world).batches < 3 {
        world.tick(500);
    }
    world.broken.extend([OLD.to_owned(), NEW.to_owned()]);
    for _ in 0..400 {
        world.tick(500);
        assert!(world.answering("web") >= 3, "{:?}", rollout(&world));
    }
    let way_back = PauseCause::WayBack { to_revision: 1 };
    let news = news(&world);
    let rolls = |n: &&&RolloutNews| matches!(n, RolloutNews::RollsBack { .. });
    assert_eq!(news.iter().filter(rolls).count(), 1, "{news:?}");
    let paused =
        |n: &&&RolloutNews| matches!(n, RolloutNews::Paused { cause, .. } if *cause == way_back);
    assert_eq!(news.iter().filter(paused).count(), 1, "{news:?}");
    let at = rollout(&world);
    assert_eq!((at.word(), at.pause), ("paused", way_back));
    assert!(failures(&world) < 16, "{} in 200 s", failures(&world));
}

/// One that stops first and fails leaves nothing that runs: the first revision served in full, and
/// that is enough to go back to it, monitored to the end or not.
#[test]
fn a_first_revision_that_serves_is_a_way_back_before_it_was_monitored() {
    let stop_first = UpdateSpec {
        order: UpdateOrder::StopFirst,
        monitor_ms: 60_000,
        ..update(FailureAction::Rollback)
    };
    let mut world = World::new(2);
    world.apply("web", with(OLD, 2, stop_first.clone()));
    world.ticks(10);
    assert_eq!(world.answering("web"), 2);
    assert_eq!(rollout(&world).phase, Phase::Running, "not watched in full");
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 2, stop_first));
    world.ticks(400);
    assert_eq!(of_image(&world, OLD), 2);
    assert_eq!(world.answering("web"), 2);
    assert_eq!(rollout(&world).word(), "rolled_back");
}

/// None of the revision that failed is left, and the one that worked does not either: there is
/// nothing else to run, and it is tried on with growing pauses.
#[test]
fn a_rollback_with_nothing_else_to_run_is_tried_on() {
    let mut world = settled(3, with(OLD, 2, update(FailureAction::Rollback)));
    world.broken.extend([OLD.to_owned(), NEW.to_owned()]);
    let stop_first = UpdateSpec {
        order: UpdateOrder::StopFirst,
        ..update(FailureAction::Rollback)
    };
    world.apply("web", with(NEW, 2, stop_first));
    world.ticks(400);
    let back = news(&world);
    let rolls = back
        .iter()
        .filter(|n| matches!(n, RolloutNews::RollsBack { .. }));
    assert_eq!(rolls.count(), 1, "{back:?}");
    assert!(
        failures(&world) < 16,
        "{} failures in 200 s",
        failures(&world)
    );
    let at = rollout(&world);
    assert!(at.failed > 0 && at.trouble.is_some(), "to be said: {at:?}");
    world.broken.clear();
    world.ticks(200);
    assert_eq!(of_image(&world, OLD), 2);
    assert_eq!(rollout(&world).word(), "rolled_back");
}
