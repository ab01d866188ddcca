//! Jobs: run once for each template, before what waits for them.

use longshore_model::depends::Until;
use longshore_model::rollout::{Phase, Trouble};
use longshore_model::spec::{FailureAction, JobSpec, Resources};
use longshore_model::*;

use crate::world::*;

fn job(image: &str, tries_max: u32) -> ServiceSpec {
    let mut spec = spec(image, 1);
    spec.routes.clear();
    spec.container.ports.clear();
    spec.job = Some(JobSpec { tries_max });
    spec
}

fn after(image: &str, replicas: u32) -> ServiceSpec {
    ServiceSpec {
        depends_on: [("migrate".parse().unwrap(), Until::Completed)].into(),
        ..spec(image, replicas)
    }
}

fn waits(world: &World, name: &str) -> Vec<String> {
    let waits = world.report.services[&key(name)].waits.iter();
    waits.map(ToString::to_string).collect()
}

fn state(world: &World) -> String {
    let entry = &world.plan.services[&key("migrate")];
    let job = entry.job.as_ref().unwrap();
    format!("{} {}", job.word(), job.tries)
}

fn images(world: &World) -> Vec<String> {
    let active = world.active("web").into_iter();
    let images = active.filter_map(|replica| world.plan.template(replica));
    images.map(|container| container.image.clone()).collect()
}

/// Times that a try of the job was placed.
fn placed(world: &World) -> usize {
    let of_job = |event: &&EventKind| match event {
        EventKind::Placed { service, .. } => *service == key("migrate"),
        _ => false,
    };
    world.events.iter().filter(of_job).count()
}

fn deployed() -> World {
    let mut world = World::new(3);
    world.apply("migrate", job("job:1", 2));
    world.apply("web", after("web:1", 2));
    world.ticks(60);
    assert_eq!((state(&world).as_str(), placed(&world)), ("completed 0", 1));
    assert_eq!(world.answering("web"), 2);
    world
}

#[test]
fn what_waits_for_a_job_starts_once_it_has_completed_and_the_job_runs_once() {
    let mut world = World::new(3);
    let mut reserving = job("job:1", 1);
    reserving.container.resources = Resources {
        cpu_reserved_milli: 3_000,
        ..Resources::default()
    };
    world.apply("migrate", reserving);
    world.apply("web", after("web:1", 2));
    world.tick(500);
    assert!(world.active("web").is_empty());
    let wait = "its new replicas wait until migrate has completed";
    assert_eq!(waits(&world, "web"), [wait]);
    assert_eq!(state(&world), "runs 0");
    let reserved = |world: &World| -> u64 {
        let nodes = world.report.nodes.values();
        nodes.map(|node| node.cpu_reserved_milli).sum()
    };
    assert_eq!(reserved(&world), 3_000);
    world.ticks(60);
    assert_eq!(world.answering("web"), 2);
    assert_eq!((state(&world).as_str(), placed(&world)), ("completed 0", 1));
    assert_eq!(reserved(&world), 0, "what has ended holds nothing");
    let report = &world.report.services[&key("migrate")];
    assert_eq!((report.wanted, report.planned), (0, 0));
    // Its container is kept for its log, and not started again.
    let kept = world.replicas("migrate")[0];
    assert_eq!(kept.ended.and_then(|ended| ended.code), Some(0));
    assert!(kept.leaving.is_none());
    world.ticks(300);
    assert_eq!(placed(&world), 1);
}

#[test]
fn the_next_run_says_whose_end_it_waits_for() {
    let mut world = World::new(3);
    world.apply("migrate", job("job:1", 1));
    world.tick(500);
    let first = world.active("migrate")[0].id;
    world.apply("migrate", job("job:2", 1));
    let said = (0..60).any(|_| {
        world.tick(100);
        waits(&world, "migrate").contains(&format!("the next try starts once {first} has ended"))
    });
    assert!(said, "{:?}", waits(&world, "migrate"));
    world.ticks(60);
    assert_eq!((state(&world).as_str(), placed(&world)), ("completed 0", 2));
}

#[test]
fn a_new_image_waits_for_its_own_run_and_the_old_one_serves_on() {
    let mut world = deployed();
    world.apply("web", after("web:2", 2));
    for _ in 0..3 {
        world.tick(500);
        assert_eq!(images(&world), ["web:1", "web:1"], "{}", state(&world));
        assert_eq!(world.answering("web"), 2);
    }
    world.ticks(80);
    assert_eq!(placed(&world), 2, "a dependent's template is a new run");
    assert_eq!(images(&world), ["web:2", "web:2"]);
    assert_eq!(
        world.replicas("migrate").len(),
        1,
        "the last one alone is kept"
    );
    // A count is none.
    world.scale("web", 4);
    world.ticks(20);
    assert_eq!((world.answering("web"), placed(&world)), (4, 2));
}

#[test]
fn a_job_that_fails_is_tried_as_often_as_it_may_be_and_takes_nothing_down() {
    let mut world = deployed();
    world.broken.push("job:2".into());
    world.apply("migrate", job("job:2", 3));
    world.apply("web", after("web:2", 2));
    for _ in 0..200 {
        world.tick(500);
        assert_eq!((images(&world).len(), world.answering("web")), (2, 2));
        assert!(images(&world).iter().all(|image| image == "web:1"));
    }
    assert_eq!((state(&world).as_str(), placed(&world)), ("failed 3", 4));
    let rollout = world.plan.services[&key("web")].rollout.clone().unwrap();
    assert_eq!(rollout.phase, Phase::Failed);
    assert!(
        matches!(&rollout.trouble, Some(Trouble::Job { tries: 3, .. })),
        "{rollout:?}"
    );
    let said = waits(&world, "web").join("; ");
    assert!(
        said.contains("migrate, which goes before it, failed (started 3 times)"),
        "{said}"
    );
    // What served before is what is started where one is missing.
    let lost = world.active("web")[0].id;
    world.fail(lost);
    world.ticks(40);
    assert_eq!(images(&world), ["web:1", "web:1"]);
    // Mended, it goes on by itself.
    world.broken.clear();
    let mut again = job("job:2", 3);
    again.container.restarted_ms = world.now;
    world.apply("migrate", again);
    world.ticks(120);
    assert_eq!(state(&world), "completed 0");
    assert_eq!(images(&world), ["web:2", "web:2"]);
}

#[test]
fn a_failed_job_rolls_back_what_asks_for_it_and_its_next_run_takes_it_up_again() {
    let mut world = deployed();
    world.broken.push("job:2".into());
    let mut web = after("web:2", 2);
    web.update.failure_action = FailureAction::Rollback;
    world.apply("migrate", job("job:2", 1));
    world.apply("web", web);
    world.ticks(60);
    assert_eq!(images(&world), ["web:1", "web:1"]);
    let refused = &world.plan.services[&key("web")].refused;
    assert!(refused.is_some(), "{}", waits(&world, "web").join("; "));
    world.broken.clear();
    world.apply("migrate", job("job:3", 1));
    world.ticks(120);
    assert_eq!(images(&world), ["web:2", "web:2"]);
}

#[test]
fn the_first_start_waits_for_a_job_that_failed() {
    let mut world = World::new(2);
    world.broken.push("job:1".into());
    world.apply("migrate", job("job:1", 1));
    world.apply("web", after("web:1", 2));
    world.ticks(60);
    assert!(world.active("web").is_empty());
    assert_eq!((state(&world).as_str(), placed(&world)), ("failed 1", 1));
    assert!(waits(&world, "migrate")[0].starts_with("failed, started once; last: exited with"));
    world.broken.clear();
    world.apply("migrate", job("job:2", 1));
    world.ticks(60);
    assert_eq!(world.answering("web"), 2);
}

#[test]
fn a_job_whose_node_is_lost_runs_elsewhere_and_one_that_has_completed_does_not() {
    let mut world = World::new(3);
    world.apply("migrate", job("slow-job:1", 1));
    world.ticks(6);
    let first = world.active("migrate")[0].node.clone();
    world.node(first.as_str()).power = false;
    world.ticks(120);
    let second = world.active("migrate")[0];
    assert_ne!(second.node, first);
    assert_eq!(state(&world), "runs 0", "a lost node is no failed try");
    // Done, its node is lost as well.
    let node = second.node.clone();
    let id = second.id;
    let sim = world.node(node.as_str());
    sim.containers.get_mut(&id).unwrap().state = ReplicaState::Completed;
    world.ticks(4);
    assert_eq!(state(&world), "completed 0");
    world.node(node.as_str()).power = false;
    world.ticks(200);
    assert_eq!((state(&world).as_str(), placed(&world)), ("completed 0", 2));
}

#[test]
fn a_job_ends_before_its_node_is_empty_and_goes_with_its_app() {
    let mut world = World::new(2);
    world.apply("migrate", job("slow-job:1", 1));
    world.ticks(6);
    let (id, node) = (
        world.active("migrate")[0].id,
        world.active("migrate")[0].node.clone(),
    );
    world.drain(node.as_str(), 3_600_000, false);
    world.ticks(20);
    assert_eq!(world.active("migrate")[0].node, node, "it may end first");
    let sim = world.node(node.as_str());
    sim.containers.get_mut(&id).unwrap().state = ReplicaState::Completed;
    world.ticks(20);
    assert!(world.replicas("migrate").is_empty(), "nothing stays there");
    assert_eq!(placed(&world), 1);
    world.apply("migrate", job("job:2", 1));
    world.ticks(20);
    assert_eq!(state(&world), "completed 0");
    let app = world.desired.apps.values_mut().next().unwrap();
    app.services.remove(&key("migrate").service);
    world.ticks(20);
    assert!(world.plan.services.get(&key("migrate")).is_none());
}

#[test]
fn a_new_revision_ends_the_run_before_it_and_begins_only_then() {
    let mut world = World::new(2);
    world.apply("migrate", job("slow-job:1", 1));
    world.ticks(6);
    let first = world.active("migrate")[0].id;
    world.apply("migrate", job("job:2", 1));
    let both = |world: &World| {
        let containers = world.nodes.values().flat_map(|sim| sim.containers.values());
        let running = containers.filter(|status| status.state == ReplicaState::Healthy);
        running.count()
    };
    for _ in 0..20 {
        world.tick(500);
        assert!(both(&world) <= 1, "two runs at a time");
    }
    assert_eq!(state(&world), "completed 0");
    assert!(world.plan.replica(first).is_none());
}

fn with_standby(image: &str, replicas: u32) -> ServiceSpec {
    let mut spec = after(image, replicas);
    let mut policy = node_cpu_policy(replicas, 20);
    policy.metrics.clear();
    policy.warm = 1;
    spec.autoscale = Some(policy);
    spec
}

fn standbys(world: &World) -> Vec<String> {
    let paused = world.replicas("web").into_iter();
    let paused = paused.filter(|replica| replica.paused && replica.leaving.is_none());
    let images = paused.filter_map(|replica| world.plan.template(replica));
    images.map(|container| container.image.clone()).collect()
}

/// It is started before it is paused.
#[test]
fn a_standby_waits_for_the_job_as_well() {
    let mut world = World::new(3);
    world.apply("migrate", job("job:1", 1));
    world.apply("web", with_standby("web:1", 0));
    world.tick(500);
    assert_eq!(
        (state(&world).as_str(), standbys(&world)),
        ("runs 0", vec![])
    );
    let warm = world.report.services[&key("web")].warm.clone();
    let why = warm.waits.map(|why| why.to_string());
    assert_eq!(why.unwrap(), "migrate, which goes first, has not completed");
    world.ticks(60);
    assert_eq!(standbys(&world), ["web:1"]);
}

#[test]
fn until_the_job_has_completed_the_old_standbys_stay() {
    let mut world = World::new(3);
    world.apply("migrate", job("job:1", 1));
    world.apply("web", with_standby("web:1", 1));
    world.ticks(60);
    assert_eq!(standbys(&world), ["web:1"]);
    world.apply("web", with_standby("web:2", 1));
    world.ticks(2);
    assert_eq!(
        (state(&world).as_str(), standbys(&world)),
        ("runs 0", vec!["web:1".to_owned()])
    );
    world.ticks(120);
    assert_eq!(standbys(&world), ["web:2"]);
}
