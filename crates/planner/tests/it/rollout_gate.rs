//! HAProxy's own numbers as a judge of a rollout.

use crate::rollouts::{NEW, OLD, image, of_image, rollout, settled, update, with};
use crate::world::*;
use longshore_model::observe::ServerAnswers;
use longshore_model::record::{RolloutAnswer, Setback};
use longshore_model::rollout::{RolloutNews, Trouble};
use longshore_model::spec::{FailureAction, GateSpec, UpdateOrder};
use longshore_model::*;
use longshore_planner::recompute_rollout;

fn gated(image: &str) -> ServiceSpec {
    let mut spec = with(image, 2, update(FailureAction::Rollback));
    spec.gate = Some(GateSpec {
        requests_min: 20,
        error_increase_permille_max: Some(20),
        latency_permille_max: Some(1_500),
        latency_ms_min: 10,
    });
    spec
}

/// A tick in which every server answers, the new ones as told.
fn answer(world: &mut World, requests: u64, errors: u64, response_ms: u32) {
    let all: Vec<(ReplicaId, bool)> = world
        .active("web")
        .into_iter()
        .map(|r| (r.id, image(world, r) == NEW))
        .collect();
    for (id, new) in all {
        let answers = world.edge().answers.entry(id).or_default();
        *answers = ServerAnswers {
            requests_total: answers.requests_total + requests,
            errors_total: answers.errors_total + if new { errors } else { 0 },
            response_ms: if new { response_ms } else { 40 },
        };
    }
    world.tick(500);
}

#[test]
fn a_gate_compares_new_and_old_side_by_side() {
    for (requests, errors, response_ms, wanted) in [
        (30, 0, 50, "done"),
        (30, 3, 50, "rolled_back"),
        (30, 0, 90, "rolled_back"),
        // Too few to have an opinion.
        (1, 1, 900, "done"),
    ] {
        let mut world = settled(3, gated(OLD));
        world.apply("web", gated(NEW));
        for _ in 0..120 {
            answer(&mut world, requests, errors, response_ms);
            assert!(world.answering("web") >= 2);
            let rollout = rollout(&world);
            if rollout.open && rollout.serving_since_ms.is_some() {
                assert!(of_image(&world, OLD) >= 2 - rollout.passed as usize);
            }
        }
        assert_eq!(
            rollout(&world).word(),
            wanted,
            "{errors} errors, {response_ms} ms"
        );
        let trouble = world.plan.services[&key("web")]
            .refused
            .as_ref()
            .map(|r| &r.why);
        match (wanted, errors) {
            ("done", _) => assert!(trouble.is_none()),
            (_, 0) => match trouble {
                Some(Trouble::Latency { new_ms, old_ms, .. }) => {
                    assert!(*new_ms <= 90 && *old_ms >= 40, "{trouble:?}");
                }
                _ => panic!("{trouble:?}"),
            },
            _ => assert!(matches!(
                trouble,
                Some(Trouble::Errors {
                    old_permille: 0,
                    ..
                })
            )),
        }
    }
}

/// A batch of three of which two find a free host port beside the old ones: the two are compared
/// and pass, the third follows.
#[test]
fn a_gated_batch_without_room_for_all_of_it_passes_with_what_fits() {
    let on_host_port = |image: &str| {
        let mut spec = gated(image);
        (spec.replicas, spec.update.parallelism) = (3, 3);
        spec.update.order = UpdateOrder::Auto;
        spec.container.fixed_ports.insert(8000, 5353);
        spec
    };
    let mut world = settled(5, on_host_port(OLD));
    world.apply("web", on_host_port(NEW));
    for _ in 0..120 {
        answer(&mut world, 30, 0, 40);
        assert!(world.answering("web") >= 2);
    }
    assert_eq!((of_image(&world, NEW), of_image(&world, OLD)), (3, 0));
    assert_eq!(rollout(&world).word(), "done");
}

/// The file says: in spite of that. It is said and noted once a kind of trouble, and the record
/// gives it again (see `World::run`).
#[test]
fn a_gate_that_a_rollout_goes_on_in_spite_of_is_said_and_noted() {
    let tolerant = |image: &str| {
        let mut spec = gated(image);
        spec.update.failure_action = FailureAction::Continue;
        spec.update.parallelism = 2;
        spec
    };
    let mut world = settled(3, tolerant(OLD));
    world.apply("web", tolerant(NEW));
    let mut noted = Vec::new();
    for _ in 0..120 {
        answer(&mut world, 30, 3, 40);
        for record in &world.report.records {
            if let Decision::Rollout(look) = &record.decision
                && let RolloutAnswer::GoesOn { why } = &look.answer
            {
                assert_eq!(look.setback, Some(Setback::Gate));
                assert_eq!(recompute_rollout(look), look.answer);
                noted.push(why.clone());
            }
        }
    }
    assert!(matches!(noted[..], [Trouble::Errors { .. }]), "{noted:?}");
    let said: Vec<&Trouble> = world
        .events
        .iter()
        .filter_map(|event| match event {
            EventKind::Rollout {
                news: RolloutNews::Continues { why },
                ..
            } => Some(why),
            _ => None,
        })
        .collect();
    assert_eq!(said, [&noted[0]]);
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (2, "done"));
}
