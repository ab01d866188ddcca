//! Warm standbys: proven, paused, taken first, given up first.

use crate::world::*;
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::{LeaveReason, StandbyEnd};
use longshore_model::report::WarmWait;
use longshore_model::spec::Resources;
use longshore_model::*;

fn warm_spec(image: &str, replicas: u32, warm: u32) -> ServiceSpec {
    let mut service = spec(image, replicas);
    let mut policy = node_cpu_policy(1, 20);
    policy.metrics.clear();
    policy.warm = warm;
    service.autoscale = Some(policy);
    service.container.resources = Resources {
        cpu_reserved_milli: 1_000,
        memory_reserved_bytes: 1 << 30,
        ..Default::default()
    };
    service
}

fn standbys(world: &World, service: &str) -> Vec<Replica> {
    let key = key(service);
    let of = world.everyone().filter(|r| r.service == key && r.paused);
    of.filter(|r| r.leaving.is_none()).cloned().collect()
}

fn warm(world: &World, service: &str) -> (u32, u32, u32) {
    let report = &world.report.services[&key(service)].warm;
    (report.wanted, report.planned, report.ready)
}

#[test]
fn a_pool_is_proven_then_paused_and_counts_for_nothing() {
    let mut world = World::new(2);
    world.apply("web", warm_spec("web:1", 2, 2));
    world.ticks(2);
    let waits = world.report.services[&key("web")].warm.waits.clone();
    assert_eq!(waits, Some(WarmWait::ServiceFirst));
    world.ticks(12);
    assert_eq!(warm(&world, "web"), (2, 2, 2));
    let report = &world.report.services[&key("web")];
    assert_eq!((report.planned, report.healthy, report.serving), (2, 2, 2));
    assert_eq!(world.answering("web"), 2);
    let all: Vec<_> = standbys(&world, "web").iter().map(|r| r.traffic).collect();
    assert_eq!(all, [Traffic::Out, Traffic::Out]);
    let node = &world.report.nodes[&id("node1")];
    assert_eq!(node.cpu_reserved_milli, 1_000, "a standby holds no CPU");
    assert_eq!(node.memory_reserved_bytes, 2 << 30, "but memory");
    assert_eq!(world.plan.services[&key("web")].target, 2);
}

#[test]
fn a_scale_out_takes_standbys_first_and_fills_up_again() {
    let mut world = World::new(2);
    world.apply("web", warm_spec("web:1", 2, 2));
    world.ticks(14);
    let pool: Vec<ReplicaId> = standbys(&world, "web").iter().map(|r| r.id).collect();
    world.scale("web", 4);
    let outcome = world.tick(500);
    let woken: Vec<ReplicaId> = outcome.report.events.iter().filter_map(woken).collect();
    assert_eq!(woken, pool, "in the same run");
    let placed = |e: &EventKind| matches!(e, EventKind::Placed { .. });
    assert!(
        !outcome.report.events.iter().any(placed),
        "nothing is started for it"
    );
    let traffic: Vec<_> = world.active("web").iter().map(|r| r.traffic).collect();
    assert_eq!(
        traffic[2..],
        [Traffic::Out, Traffic::Out],
        "healthy before the pause is not now"
    );
    world.ticks(3);
    assert_eq!(
        world
            .active("web")
            .iter()
            .filter(|r| r.traffic == Traffic::Serve)
            .count(),
        4
    );
    assert!(
        world.active("web").iter().all(|r| r.woken.is_none()),
        "forgotten once proven"
    );
    world.ticks(12);
    assert_eq!(warm(&world, "web"), (2, 2, 2));
    assert_eq!(world.answering("web"), 4);
    let slots: Vec<u32> = world.active("web").iter().map(|r| r.slot).collect();
    assert_eq!(slots, [1, 2, 3, 4]);
}

fn woken(event: &EventKind) -> Option<ReplicaId> {
    match event {
        EventKind::Woken { replica, .. } => Some(*replica),
        _ => None,
    }
}

#[test]
fn a_standby_replaces_one_that_failed_and_one_whose_node_was_lost() {
    let mut world = World::new(3);
    world.apply("web", warm_spec("web:1", 3, 1));
    world.ticks(16);
    let victim = world.active("web")[0].clone();
    world.fail(victim.id);
    let outcome = world.tick(500);
    assert!(outcome.report.events.iter().any(|e| woken(e).is_some()));
    world.ticks(16);
    assert_eq!(
        (world.answering("web"), warm(&world, "web")),
        (3, (1, 1, 1))
    );
    let standby = standby_elsewhere(&mut world);
    let lost = world
        .active("web")
        .iter()
        .map(|r| r.node.to_string())
        .find(|n| *n != standby);
    world.node(&lost.unwrap()).power = false;
    world.ticks(40);
    assert!(world.events.iter().filter(|e| woken(e).is_some()).count() >= 2);
    assert_eq!(world.answering("web"), 3);
}

fn standby_elsewhere(world: &mut World) -> String {
    standbys(world, "web")[0].node.to_string()
}

#[test]
fn standbys_give_their_room_to_what_serves_and_do_not_come_back_before_it_is_there() {
    let mut world = World::new(1);
    world.apply("web", warm_spec("web:1", 1, 3));
    world.ticks(14);
    assert_eq!(warm(&world, "web"), (3, 3, 3));
    let mut big = spec("big:1", 1);
    big.container.resources.memory_reserved_bytes = 6 << 30;
    world.apply("big", big);
    world.tick(500);
    let pressure = LeaveReason::Standby {
        why: StandbyEnd::Pressure {
            service: key("big"),
        },
    };
    let given = world.leaving("web");
    assert_eq!(given.len(), 2, "no more than needed");
    assert!(
        given
            .iter()
            .all(|(r, leaving)| r.paused && leaving.reason == pressure)
    );
    let waits = world.report.services[&key("web")].warm.waits.clone();
    assert_eq!(waits, Some(WarmWait::Pressure));
    world.ticks(20);
    assert_eq!(world.answering("big"), 1);
    assert_eq!(warm(&world, "web"), (3, 1, 1));
    let waits = world.report.services[&key("web")].warm.waits.clone();
    let Some(WarmWait::Unplaceable { counts }) = waits else {
        panic!("{waits:?}")
    };
    assert!(!counts.is_empty());
    assert!(
        world.report.services[&key("web")].waits.is_empty(),
        "the service itself is fine"
    );
}

#[test]
fn a_new_template_drops_standbys_and_makes_new_ones_after_the_rollout() {
    let mut world = World::new(2);
    world.apply("web", warm_spec("web:1", 2, 1));
    world.ticks(14);
    world.apply("web", warm_spec("web:2", 2, 1));
    world.tick(500);
    assert!(standbys(&world, "web").is_empty());
    let waits = world.report.services[&key("web")].warm.waits.clone();
    assert_eq!(waits, Some(WarmWait::RolloutRuns));
    world.ticks(60);
    let pool = standbys(&world, "web");
    assert_eq!((pool.len(), pool[0].revision), (1, 2));
    assert_eq!(warm(&world, "web"), (1, 1, 1));
}

#[test]
fn of_a_rollout_that_stopped_no_standby_is_tried() {
    let mut world = World::new(2);
    world.apply("web", warm_spec("web:1", 2, 2));
    world.ticks(80);
    world.broken.push("web:2".into());
    world.apply("web", warm_spec("web:2", 2, 2));
    world.ticks(200);
    let plan = &world.plan.services[&key("web")];
    let phase = plan.rollout.as_ref().map(|rollout| &rollout.phase);
    assert_eq!(phase, Some(&rollout::Phase::Failed));
    assert_eq!(warm(&world, "web"), (2, 2, 2));
    let images = standbys(&world, "web");
    let images = images.iter().map(|r| &plan.templates[&r.template].image);
    assert!(images.clone().all(|image| image == "web:1"), "{plan:?}");
}

#[test]
fn fewer_wanted_a_drained_node_and_the_end_of_a_service_end_standbys() {
    let mut world = World::new(2);
    world.apply("web", warm_spec("web:1", 1, 2));
    world.ticks(14);
    let node = standbys(&world, "web")[0].node.to_string();
    world.available(&node, Availability::Draining);
    world.ticks(16);
    assert!(
        standbys(&world, "web")
            .iter()
            .all(|r| r.node.as_str() != node)
    );
    assert_eq!(warm(&world, "web").1, 2, "the pool moved");
    world.apply("web", warm_spec("web:1", 1, 0));
    world.ticks(6);
    assert_eq!(warm(&world, "web"), (0, 0, 0));
    world.available(&node, Availability::Active);
    world.apply("web", warm_spec("web:1", 1, 2));
    world.ticks(14);
    world.desired.apps = SharedMap::new();
    world.ticks(16);
    assert_eq!(world.everyone().count(), 0);
}

#[test]
fn a_standby_without_cpu_to_go_on_with_is_left_alone() {
    let mut world = World::new(1);
    world.apply("web", warm_spec("web:1", 2, 1));
    world.ticks(14);
    let mut hungry = spec("hungry:1", 1);
    hungry.container.resources.cpu_reserved_milli = 2_000;
    world.apply("hungry", hungry);
    world.ticks(6);
    world.scale("web", 3);
    world.ticks(4);
    assert_eq!(world.active("web").len(), 2);
    assert!(!world.report.services[&key("web")].waits.is_empty());
    assert!(!world.events.iter().any(|e| woken(e).is_some()));
}
