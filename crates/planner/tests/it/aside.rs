//! Replicas that an operator keeps out of the routes.

use crate::world::*;
use longshore_model::aside::Aside;
use longshore_model::plan::Traffic;
use longshore_model::*;

/// Keeps the nth of all replicas out, or lets it back.
pub(crate) fn set(world: &mut World, nth: usize, aside: bool) {
    let all: Vec<_> = world
        .plan
        .replicas()
        .map(|replica| (replica.service.clone(), replica.id))
        .collect();
    let Some((service, id)) = all.get(nth % all.len().max(1)).cloned() else {
        return;
    };
    let of_service = world.desired.aside.entry(service).or_default();
    if aside {
        of_service.insert(id, said());
    } else {
        of_service.remove(&id);
    }
}

fn said() -> Aside {
    Aside {
        at_ms: 1_000,
        by: "ana".into(),
        why: "disk swap".into(),
    }
}

fn traffic(world: &World, id: ReplicaId) -> Traffic {
    world.plan.replica(id).unwrap().traffic
}

#[test]
fn it_drains_stays_counted_and_serves_again_when_that_is_said() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 3));
    world.ticks(20);
    assert_eq!(world.answering("web"), 3);
    let ids: Vec<ReplicaId> = world.active("web").iter().map(|r| r.id).collect();
    let slot = world.plan.replica(ids[1]).unwrap().slot;
    set(&mut world, 1, true);
    world.ticks(40);
    assert_eq!(traffic(&world, ids[1]), Traffic::Drain);
    assert_eq!(world.answering("web"), 2);
    let now: Vec<ReplicaId> = world.active("web").iter().map(|r| r.id).collect();
    assert_eq!(now, ids, "nobody took its place");
    let report = &world.report.services[&key("web")];
    assert_eq!((report.healthy, report.serving), (3, 2));
    let said = said();
    let reason = Reason::SetAside { slot, said };
    assert_eq!(report.waits, [reason]);
    let unhealthy = |e: &&EventKind| matches!(e, EventKind::Unhealthy { .. });
    assert_eq!(world.events.iter().filter(unhealthy).count(), 0);
    set(&mut world, 1, false);
    world.ticks(4);
    assert_eq!(traffic(&world, ids[1]), Traffic::Serve);
    assert_eq!(world.answering("web"), 3);
    assert!(world.report.services[&key("web")].waits.is_empty());
}

#[test]
fn one_that_is_not_in_yet_stays_out() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.tick(100);
    let first = world.plan.replicas().next().unwrap().id;
    assert_eq!(traffic(&world, first), Traffic::Out);
    set(&mut world, 0, true);
    world.ticks(20);
    assert_eq!(traffic(&world, first), Traffic::Out);
    assert_eq!(world.answering("web"), 1);
    set(&mut world, 0, false);
    world.ticks(4);
    assert_eq!(world.answering("web"), 2);
}

#[test]
fn it_goes_first_when_fewer_are_wanted_and_a_new_revision_replaces_it() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 3));
    world.ticks(20);
    let kept = world.active("web")[0].id;
    set(&mut world, 0, true);
    world.ticks(4);
    world.scale("web", 2);
    world.ticks(20);
    assert!(world.plan.replica(kept).is_none(), "it went first");
    assert_eq!(world.answering("web"), 2);
    let next = world.active("web")[0].id;
    set(&mut world, 0, true);
    world.ticks(4);
    world.apply("web", spec("web:2", 2));
    world.ticks(60);
    assert!(world.plan.replica(next).is_none());
    assert_eq!(world.answering("web"), 2);
    assert!(world.report.services[&key("web")].waits.is_empty());
}
