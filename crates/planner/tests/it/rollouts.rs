//! What the planner promises of rollouts: facts for each way to fail, and laws for random ones.
//! Every run is checked as in `World::run`: invariants, determinism, planning again changes
//! nothing.

use crate::world::*;
use longshore_model::record::RolloutAnswer;
use longshore_model::rollout::{Phase, Rollout, RolloutControl, RolloutNews, Said, Trouble};
use longshore_model::spec::{FailureAction, UpdateOrder, UpdateSpec};
use longshore_model::*;
use proptest::prelude::*;

/// The old and the new image of most facts.
pub(crate) const OLD: &str = "web:1";
pub(crate) const NEW: &str = "web:2";

pub(crate) fn with(image: &str, replicas: u32, update: UpdateSpec) -> ServiceSpec {
    ServiceSpec {
        update,
        ..spec(image, replicas)
    }
}

pub(crate) fn update(failure_action: FailureAction) -> UpdateSpec {
    UpdateSpec {
        failure_action,
        monitor_ms: 2_000,
        ..UpdateSpec::default()
    }
}

/// A world where the old revision has served in full.
pub(crate) fn settled(nodes: usize, spec: ServiceSpec) -> World {
    let mut world = World::new(nodes);
    world.apply("web", spec);
    world.ticks(30);
    assert_eq!(rollout(&world).phase, Phase::Done);
    world
}

pub(crate) fn rollout(world: &World) -> &Rollout {
    let plan = &world.plan.services[&key("web")];
    plan.rollout.as_ref().unwrap()
}

pub(crate) fn image(world: &World, replica: &plan::Replica) -> String {
    world.plan.template(replica).unwrap().image.clone()
}

pub(crate) fn of_image(world: &World, image_of: &str) -> usize {
    let active = world.active("web").into_iter();
    active.filter(|r| image(world, r) == image_of).count()
}

pub(crate) fn news(world: &World) -> Vec<&RolloutNews> {
    let news = world.events.iter().filter_map(|event| match event {
        EventKind::Rollout { news, .. } => Some(news),
        _ => None,
    });
    news.collect()
}

pub(crate) fn failures(world: &World) -> usize {
    let failed = |event: &&EventKind| matches!(event, EventKind::Failed { .. });
    world.events.iter().filter(failed).count()
}

fn said(at_ms: u64) -> Said {
    Said {
        at_ms,
        by: "ana".into(),
    }
}

/// What the last run noted of rollouts, a word each.
fn looks(world: &World) -> Vec<&'static str> {
    let records = world.report.records.iter();
    let looks = records.filter_map(|record| match &record.decision {
        Decision::Rollout(look) => Some(match look.answer {
            RolloutAnswer::Fails { .. } => "fails",
            RolloutAnswer::Reopens => "reopens",
            RolloutAnswer::Watches => "watches",
            RolloutAnswer::Interrupted => "interrupted",
            RolloutAnswer::WaitsForReplicas => "waits",
            RolloutAnswer::WaitsForJob { .. } => "waits for a job",
            RolloutAnswer::Monitors { .. } => "monitors",
            RolloutAnswer::Passes => "passes",
            RolloutAnswer::Delays { .. } => "delays",
            RolloutAnswer::Holds => "holds",
            RolloutAnswer::Opens { .. } => "opens",
            RolloutAnswer::Finishes => "finishes",
            RolloutAnswer::GoesOn { .. } => "goes on",
        }),
        _ => None,
    });
    looks.collect()
}

#[test]
fn the_first_rollout_ends_when_all_have_served_for_the_monitoring_time() {
    let mut world = World::new(2);
    world.apply("web", with(OLD, 3, update(FailureAction::Pause)));
    world.tick(500);
    assert_eq!(rollout(&world).phase, Phase::Running);
    assert!(world.plan.services[&key("web")].good.is_none());
    world.ticks(30);
    let plan = &world.plan.services[&key("web")];
    assert_eq!(rollout(&world).phase, Phase::Done);
    assert_eq!(plan.good.as_ref().unwrap().template, rollout(&world).to);
    let took: Vec<_> = news(&world)
        .into_iter()
        .filter_map(|news| match news {
            RolloutNews::Finished { after_ms, .. } => Some(*after_ms),
            _ => None,
        })
        .collect();
    assert!(
        matches!(took[..], [after_ms] if after_ms >= 2_000),
        "{took:?}"
    );
}

#[test]
fn batches_wait_for_the_monitoring_and_the_delay() {
    let update = UpdateSpec {
        parallelism: 2,
        delay_ms: 4_000,
        monitor_ms: 3_000,
        ..UpdateSpec::default()
    };
    let mut world = settled(3, with(OLD, 5, update.clone()));
    world.apply("web", with(NEW, 5, update));
    let mut opened = Vec::new();
    let mut batches = 0;
    let mut answers = Vec::new();
    for _ in 0..120 {
        world.tick(500);
        answers.extend(looks(&world));
        assert!(world.answering("web") >= 5);
        let rollout = rollout(&world);
        let new = u32::try_from(of_image(&world, NEW)).unwrap();
        assert!(
            new <= rollout.passed + 2,
            "{new} new, {} passed",
            rollout.passed
        );
        if rollout.batches > batches {
            batches = rollout.batches;
            opened.push(world.now);
        }
    }
    assert_eq!(rollout(&world).phase, Phase::Done);
    assert_eq!((of_image(&world, NEW), of_image(&world, OLD)), (5, 0));
    assert_eq!(opened.len(), 3, "2 + 2 + 1");
    let batch = ["opens", "waits", "watches", "monitors", "passes"];
    let (between, end) = (["delays"].as_slice(), ["finishes"].as_slice());
    let chain = [&batch, between, &batch, between, &batch, end].concat();
    answers.dedup();
    assert_eq!(answers, chain);
    assert!(
        opened.windows(2).all(|w| w[1] - w[0] >= 7_000),
        "{opened:?}"
    );
    assert!(matches!(
        news(&world).last(),
        Some(RolloutNews::Finished { .. })
    ));
}

#[test]
fn zero_is_all_at_once() {
    let all = UpdateSpec {
        parallelism: 0,
        ..update(FailureAction::Pause)
    };
    let mut world = settled(2, with(OLD, 4, all.clone()));
    world.apply("web", with(NEW, 4, all));
    world.tick(500);
    assert_eq!((of_image(&world, NEW), of_image(&world, OLD)), (4, 4));
    world.ticks(20);
    assert_eq!((of_image(&world, NEW), of_image(&world, OLD)), (4, 0));
}

#[test]
fn a_paused_failure_waits_for_a_person_and_resume_tries_again() {
    let mut world = settled(3, with(OLD, 3, update(FailureAction::Pause)));
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 3, update(FailureAction::Pause)));
    for _ in 0..200 {
        world.tick(500);
        assert_eq!(world.answering("web"), 3);
    }
    assert_eq!(rollout(&world).phase, Phase::Failed);
    assert_eq!(failures(&world), 2, "the second is one too many");
    let Some(Trouble::Replicas {
        failed, tolerated, ..
    }) = rollout(&world).trouble
    else {
        panic!("{:?}", rollout(&world));
    };
    assert_eq!((failed, tolerated), (2, 1));
    world.broken.clear();
    let control = RolloutControl {
        held: None,
        resumed: Some(said(world.now)),
    };
    world.desired.rollout.insert(key("web"), control);
    world.ticks(60);
    assert_eq!(rollout(&world).phase, Phase::Done);
    assert_eq!(of_image(&world, NEW), 3);
}

#[test]
fn a_rollback_brings_the_whole_spec_back_and_is_not_tried_again() {
    let mut old = with(OLD, 3, update(FailureAction::Rollback));
    old.drain_ms = 7_000;
    let mut world = settled(3, old);
    world.broken.push(NEW.into());
    let mut new = with(NEW, 3, update(FailureAction::Rollback));
    new.routes[0].listen_port = 81;
    world.apply("web", new.clone());
    for _ in 0..400 {
        world.tick(500);
        assert_eq!(world.answering("web"), 3, "{:?}", rollout(&world));
    }
    let plan = &world.plan.services[&key("web")];
    assert_eq!(rollout(&world).word(), "rolled_back");
    assert_eq!((plan.drain_ms, plan.routes[0].listen_port), (7_000, 80));
    assert_eq!(of_image(&world, OLD), 3);
    assert_eq!(failures(&world), 2, "it never loops");
    let waits = &world.report.services[&key("web")].waits;
    let rolled_back = |r: &Reason| {
        matches!(
            r,
            Reason::RolledBack {
                revision: 2,
                to_revision: 1,
                ..
            }
        )
    };
    assert!(waits.iter().any(rolled_back), "{waits:?}");
    // The same again changes nothing; something else is tried.
    world.apply("web", new.clone());
    world.ticks(20);
    assert_eq!(failures(&world), 2);
    new.container.image = "web:3".into();
    world.apply("web", new);
    world.ticks(80);
    assert_eq!(of_image(&world, "web:3"), 3);
    assert_eq!(rollout(&world).word(), "done");
    assert!(world.plan.services[&key("web")].refused.is_none());
}

#[test]
fn continue_goes_on_trying_with_growing_pauses() {
    let mut world = settled(3, with(OLD, 2, update(FailureAction::Continue)));
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 2, update(FailureAction::Continue)));
    for _ in 0..120 {
        world.tick(500);
        assert_eq!(world.answering("web"), 2);
    }
    assert_eq!(rollout(&world).phase, Phase::Running);
    assert!((3..=8).contains(&failures(&world)), "{}", failures(&world));
    world.broken.clear();
    world.ticks(200);
    assert_eq!(of_image(&world, NEW), 2);
}

#[test]
fn a_clock_that_is_put_back_does_not_make_the_pause_longer() {
    let mut world = World::new(2);
    world.now += 7_200_000;
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 2, update(FailureAction::Pause)));
    world.ticks(40);
    world.broken.clear();
    world.now -= 3_600_000;
    world.started = world.now;
    (world.memory, world.observed) = Default::default();
    (world.cache, world.checker) = Default::default();
    world.ticks(60);
    assert_eq!(world.answering("web"), 2);
}

#[test]
fn paused_with_no_old_one_left_the_last_good_template_runs_again() {
    let stop_first = UpdateSpec {
        parallelism: 0,
        order: UpdateOrder::StopFirst,
        ..update(FailureAction::Pause)
    };
    let mut world = settled(3, with(OLD, 1, stop_first.clone()));
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 1, stop_first));
    world.ticks(300);
    assert_eq!((failures(&world), rollout(&world).word()), (2, "paused"));
    assert_eq!((of_image(&world, OLD), world.answering("web")), (1, 1));
}

#[test]
fn a_ratio_of_zero_tolerates_nothing() {
    let strict = UpdateSpec {
        failure_permille_max: Some(0),
        ..update(FailureAction::Pause)
    };
    let mut world = settled(2, with(OLD, 2, strict.clone()));
    world.broken.push(NEW.into());
    world.apply("web", with(NEW, 2, strict));
    world.ticks(60);
    assert_eq!(
        (failures(&world), &rollout(&world).phase),
        (1, &Phase::Failed)
    );
}

#[test]
fn a_held_rollout_finishes_its_batch_and_begins_no_other() {
    let mut world = settled(3, with(OLD, 3, update(FailureAction::Pause)));
    world.apply("web", with(NEW, 3, update(FailureAction::Pause)));
    world.tick(500);
    let held = RolloutControl {
        held: Some(said(world.now)),
        resumed: None,
    };
    world.desired.rollout.insert(key("web"), held);
    world.ticks(60);
    assert_eq!((of_image(&world, NEW), of_image(&world, OLD)), (1, 2));
    assert_eq!(rollout(&world).word(), "held");
    world.desired.rollout.clear();
    world.ticks(60);
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (3, "done"));
}

#[test]
fn without_room_for_one_more_the_old_one_stops_first_and_it_is_said() {
    let tight = |image: &str| {
        let mut spec = with(image, 3, update(FailureAction::Pause));
        spec.placement.max_per_node = 1;
        spec
    };
    let mut world = settled(3, tight(OLD));
    world.apply("web", tight(NEW));
    let mut told = false;
    for _ in 0..120 {
        world.tick(500);
        assert!(world.answering("web") >= 2, "one at a time");
        let waits = &world.report.services[&key("web")].waits;
        told |= waits.contains(&Reason::NoRoomToStartFirst { max_per_node: 1 });
    }
    assert!(told);
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (3, "done"));
}

pub(crate) fn on_host_port(image: &str, replicas: u32) -> ServiceSpec {
    let mut spec = with(image, replicas, update(FailureAction::Pause));
    spec.container.fixed_ports.insert(8000, 5353);
    spec
}

/// Lives through the rollout of a service with a fixed host port: the fewest that answered, and
/// whether it was said that none can start first.
fn exchange_on_host_port(nodes: usize, replicas: u32) -> (usize, bool) {
    let mut world = settled(nodes, on_host_port(OLD, replicas));
    world.apply("web", on_host_port(NEW, replicas));
    let (mut fewest, mut told) = (usize::MAX, false);
    for _ in 0..120 {
        world.tick(500);
        fewest = fewest.min(world.answering("web"));
        let waits = &world.report.services[&key("web")].waits;
        told |= waits.contains(&Reason::NoRoomToStartFirst { max_per_node: 0 });
        let on: std::collections::BTreeSet<_> = world.everyone().map(|r| &r.node).collect();
        assert_eq!(on.len(), world.everyone().count(), "one on each node");
    }
    assert_eq!(of_image(&world, NEW), replicas as usize);
    assert_eq!(rollout(&world).word(), "done");
    (fewest, told)
}

#[test]
fn a_host_port_is_handed_over_stop_first_where_every_node_has_it_in_use() {
    assert_eq!(exchange_on_host_port(1, 1), (0, true));
    assert_eq!(exchange_on_host_port(3, 3), (2, true), "one at a time");
}

#[test]
fn where_another_node_has_the_host_port_free_the_new_one_starts_first() {
    assert_eq!(exchange_on_host_port(3, 2), (2, false));
}

#[test]
fn the_newest_revision_wins_in_the_middle_of_a_rollout() {
    let mut world = settled(3, with(OLD, 4, update(FailureAction::Rollback)));
    world.apply("web", with(NEW, 4, update(FailureAction::Rollback)));
    world.ticks(8);
    world.apply("web", with("web:3", 4, update(FailureAction::Rollback)));
    for _ in 0..120 {
        world.tick(500);
        assert!(world.answering("web") >= 4);
    }
    assert_eq!(
        (of_image(&world, "web:3"), rollout(&world).revision),
        (4, 3)
    );
}

#[test]
fn the_live_count_is_kept_across_a_rollout_and_its_rollback() {
    let scaled = |image: &str| {
        let mut spec = with(image, 1, update(FailureAction::Rollback));
        spec.autoscale = Some(node_cpu_policy(1, 8));
        spec
    };
    let mut world = settled(3, scaled(OLD));
    for sim in world.nodes.values_mut() {
        sim.load = 0.6;
    }
    world.scale("web", 5);
    world.ticks(20);
    world.broken.push(NEW.into());
    world.apply("web", scaled(NEW));
    for _ in 0..100 {
        world.tick(500);
        assert_eq!(world.plan.services[&key("web")].target, 5);
    }
    assert_eq!(
        (of_image(&world, OLD), rollout(&world).word()),
        (5, "rolled_back")
    );
}

#[test]
fn a_restart_replaces_every_replica() {
    let mut world = settled(2, with(OLD, 2, update(FailureAction::Pause)));
    let before: Vec<ReplicaId> = world.active("web").iter().map(|r| r.id).collect();
    let mut again = with(OLD, 2, update(FailureAction::Pause));
    again.container.restarted_ms = world.now;
    world.apply("web", again);
    world.ticks(40);
    assert!(world.active("web").iter().all(|r| !before.contains(&r.id)));
    assert_eq!(rollout(&world).word(), "done");
}

/// Few enough to be run at every change; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 24,
    }
}

fn any_update() -> impl Strategy<Value = UpdateSpec> {
    let orders = [
        UpdateOrder::Auto,
        UpdateOrder::StartFirst,
        UpdateOrder::StopFirst,
    ];
    let actions = [FailureAction::Pause, FailureAction::Rollback];
    let permille = prop_oneof![Just(None), (0..500_u32).prop_map(Some)];
    (
        0..4_u32,
        0..3_u64,
        0..3_usize,
        0..3_u64,
        0..2_usize,
        permille,
    )
        .prop_map(
            move |(parallelism, delay_s, order, monitor_s, action, failure_permille_max)| {
                UpdateSpec {
                    parallelism,
                    delay_ms: delay_s * 1_000,
                    order: orders[order],
                    max_unavailable: 0,
                    monitor_ms: monitor_s * 1_000,
                    failure_action: actions[action],
                    failure_permille_max,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the file says, a rollout ends in bounded time: through if the new template works,
    /// paused or rolled back if it does not, with a bounded number of tries and never below what
    /// the file allows.
    #[test]
    fn every_rollout_ends(
        replicas in 1..6_u32,
        update in any_update(),
        broken in any::<bool>(),
        at in 0..30_usize,
    ) {
        let mut world = settled(3, with(OLD, replicas, update.clone()));
        if broken {
            world.broken.push(NEW.into());
        }
        world.apply("web", with(NEW, replicas, update.clone()));
        let least = match update.order {
            UpdateOrder::StopFirst => replicas.saturating_sub(update.batch(replicas)),
            _ => replicas,
        };
        let batch = update.batch(replicas) as usize;
        for tick in 0..360 {
            if tick == at {
                // The newest wins from wherever it is; the same again changes nothing.
                world.apply("web", with(NEW, replicas, update.clone()));
            }
            world.tick(500);
            prop_assert!(world.answering("web") >= least as usize);
            let passed = rollout(&world).passed as usize;
            prop_assert!(of_image(&world, NEW) <= passed + batch || rollout(&world).word() != "running");
        }
        let word = rollout(&world).word();
        let wanted = match (broken, update.failure_action) {
            (false, _) => ["done"; 2],
            (true, FailureAction::Rollback) => ["rolled_back", "paused"],
            (true, _) => ["paused"; 2],
        };
        prop_assert!(wanted.contains(&word), "{} after three minutes", word);
        // Who stops the old ones first may have none left that work.
        if word != "paused" || update.order != UpdateOrder::StopFirst {
            prop_assert_eq!(world.answering("web"), replicas as usize);
        }
        let tolerated = update.tolerated(replicas) as usize;
        prop_assert!(failures(&world) <= tolerated + batch, "{} failures", failures(&world));
        let before = world.plan.version;
        world.ticks(10);
        prop_assert_eq!(world.plan.version, before, "at rest");
    }
}

/// More are wanted than nodes can take: each node's port is handed over in turn, and the rollout
/// ends with as many as fit.
#[test]
fn where_more_are_wanted_than_host_ports_there_are_each_node_is_updated_in_turn() {
    let mut world = World::new(3);
    world.apply("web", on_host_port(OLD, 5));
    world.ticks(40);
    world.apply("web", on_host_port(NEW, 5));
    for _ in 0..120 {
        world.tick(500);
        assert!(world.answering("web") >= 2, "one at a time");
    }
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (3, "done"));
}

/// Nobody can take the new one, full or not: to stop an old one would only lose it.
#[test]
fn a_host_port_is_not_given_up_for_what_no_node_may_run() {
    let mut world = settled(3, on_host_port(OLD, 3));
    let mut nowhere = on_host_port(NEW, 3);
    nowhere.placement.constraints.push(spec::Constraint {
        attribute: spec::NodeAttribute::Label("ssd".into()),
        equal: true,
        value: "true".into(),
    });
    world.apply("web", nowhere);
    for _ in 0..60 {
        world.tick(500);
        assert_eq!(world.answering("web"), 3);
    }
}
