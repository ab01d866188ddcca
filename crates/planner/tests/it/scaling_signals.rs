//! Each signal, each bound and each word of an operator, one fact each.

use crate::rig::*;
use longshore_model::autoscale::{
    Approval, BoundsOverride, ExternalQuery, Pause, RateAmount, RatePolicy, Schedule, ScheduleEnd,
    Signal, Step, StepRule, StepTo, TargetKind,
};
use longshore_model::observe::BackendSample;
use longshore_model::reason::ScaleCause;
use longshore_model::report::{BoundSource, ClampRule, DropReason, ScaleReport, Trust};
use longshore_model::*;

/// A service with one signal that is at `count` replicas for a while.
fn on(signal: Signal, target: f64, count: u32) -> Rig {
    let mut rig = Rig::new(policy(1, 20, vec![metric(signal, target)]), count);
    rig.decide();
    rig
}

fn both(rig: &mut Rig, requests: u64, errors: u64, ms: u32) {
    for edge in EDGES {
        rig.answered(edge, requests, errors, ms);
    }
}

/// Adds a sample of what is at a time on both edges.
fn at_a_time(rig: &mut Rig, sample: BackendSample) {
    for edge in EDGES {
        let at_ms = rig.now;
        let ring = rig.rings.entry(edge).or_default();
        ring.push(BackendSample { at_ms, ..sample });
    }
}

#[test]
fn requests_of_all_edges_are_shared_by_the_replicas() {
    let mut rig = on(Signal::Requests, 100.0, 2);
    let record = rig.run(10, |rig| both(rig, 220, 0, 10));
    assert_eq!(rig.target(), 5, "440 a second at 100 each: {record:?}");
    assert!((record.signals[0].value.unwrap() - 88.0).abs() < 1e-6);
    let record = rig.run(30, |rig| both(rig, 100, 0, 10));
    assert_eq!(rig.target(), 2, "{record:?}");
}

#[test]
fn a_count_on_its_way_to_a_bound_is_not_said_to_be_at_it() {
    let one_a_minute = RatePolicy {
        amount: RateAmount::Replicas(1),
        period_ms: 60_000,
    };
    let mut slowly = policy(2, 4, vec![metric(Signal::Requests, 100.0)]);
    slowly.scale_up.policies = vec![one_a_minute];
    slowly.scale_down.policies = vec![one_a_minute];
    let mut rig = Rig::new(slowly, 2);
    rig.decide();
    for (each, bound, counts) in [(900, Reason::AtMax, [3, 4]), (0, Reason::AtMin, [3, 2])] {
        let mut way = Vec::new();
        for _ in 0..300 {
            let record = rig.run(1, |rig| both(rig, each, 0, 10));
            let said = record.reasons.contains(&bound);
            assert_eq!(said, said && record.result == counts[1], "{record:?}");
            if way.last() != Some(&(record.result, said)) {
                way.push((record.result, said));
            }
        }
        assert_eq!(way.last(), Some(&(counts[1], true)), "{way:?}");
        assert!(way.contains(&(counts[0], false)), "{way:?}");
    }
}

#[test]
fn a_silent_edge_forbids_to_take_away_and_not_to_add() {
    let mut rig = on(Signal::Requests, 100.0, 4);
    let one = |rig: &mut Rig| rig.answered("edge1", 50, 0, 10);
    let record = rig.run(60, one);
    assert_eq!(rig.target(), 4);
    let missing = Reason::MissingSamples {
        signal: "requests".into(),
        good: 1,
        all: 2,
    };
    assert!(record.reasons.contains(&missing), "{record:?}");
    let dropped = &record.signals[0].dropped[0];
    assert_eq!(dropped.why, DropReason::Silent);
    assert_eq!(dropped.sources, ["edge2"]);
    rig.run(10, |rig| rig.answered("edge1", 600, 0, 10));
    assert_eq!(rig.target(), 6);
}

#[test]
fn a_reloaded_haproxy_loses_an_interval_and_no_replica() {
    let mut rig = on(Signal::Requests, 100.0, 4);
    rig.run(10, |rig| both(rig, 200, 0, 10));
    for edge in EDGES {
        rig.rings
            .get_mut(edge)
            .unwrap()
            .last_mut()
            .unwrap()
            .requests_total = 0;
    }
    let record = rig.run(1, |rig| both(rig, 200, 0, 10));
    assert_eq!(record.signals[0].dropped[0].why, DropReason::WentBack);
    assert_eq!((rig.target(), record.signals[0].trust), (4, Trust::Good));
    assert!((record.signals[0].value.unwrap() - 100.0).abs() < 1e-6);
}

#[test]
fn what_waits_and_what_works_count_at_a_time() {
    let mut rig = on(Signal::Queue, 1.0, 2);
    let waiting = BackendSample {
        sessions: 12,
        queued: 3,
        ..BackendSample::default()
    };
    rig.run(10, |rig| at_a_time(rig, waiting));
    assert_eq!(rig.target(), 6, "three wait on each edge");
    let mut rig = on(Signal::Concurrency, 5.0, 2);
    rig.run(10, |rig| at_a_time(rig, waiting));
    assert_eq!(rig.target(), 4, "nine are at work on each edge");
    // Sessions are read at one moment; rate times duration says what was between.
    let busy = BackendSample {
        rate: 100,
        response_ms: 400,
        ..waiting
    };
    rig.run(10, |rig| at_a_time(rig, busy));
    assert_eq!(rig.target(), 16);
}

#[test]
fn slow_answers_are_weighed_by_requests() {
    let mut rig = on(Signal::Latency, 100.0, 2);
    let record = rig.run(10, |rig| {
        rig.answered("edge1", 300, 0, 200);
        rig.answered("edge2", 100, 0, 40);
    });
    assert!((record.signals[0].value.unwrap() - 160.0).abs() < 1e-6);
    assert!(rig.target() > 2);
}

#[test]
fn without_requests_latency_and_errors_say_nothing_and_block_nothing() {
    for signal in [Signal::Latency, Signal::Errors] {
        let mut rig = on(signal.clone(), 0.05, 4);
        let record = rig.run(60, |rig| both(rig, 1, 1, 900));
        assert_eq!(record.signals[0].trust, Trust::Idle);
        assert_eq!(rig.target(), 4, "{record:?}");
        let metrics = vec![metric(signal, 0.05), metric(Signal::Requests, 100.0)];
        let mut rig = Rig::new(policy(1, 20, metrics), 4);
        rig.run(60, |rig| both(rig, 1, 1, 900));
        assert_eq!(rig.target(), 1, "the other signal decides");
    }
}

#[test]
fn a_share_of_errors_adds_replicas() {
    let mut rig = on(Signal::Errors, 0.05, 2);
    let record = rig.run(10, |rig| both(rig, 100, 10, 10));
    assert!((record.signals[0].value.unwrap() - 0.1).abs() < 1e-6);
    assert!(rig.target() >= 4);
}

#[test]
fn memory_follows_the_share_of_the_limit() {
    let mut rig = on(Signal::Memory, 0.5, 2);
    let used = |rig: &mut Rig, bytes: f64| {
        let now = rig.now;
        push(&mut rig.replica_memory, now, bytes);
    };
    rig.run(6, |rig| used(rig, 900.0));
    assert!(rig.target() >= 4);
    rig.run(60, |rig| used(rig, 100.0));
    assert_eq!(rig.target(), 1);
}

fn jobs(kind: TargetKind) -> AutoscaleSpec {
    let signal = Signal::Prometheus(ExternalQuery {
        url: None,
        query: "jobs".into(),
    });
    let mut metric = metric(signal, 50.0);
    metric.kind = kind;
    policy(0, 20, vec![metric])
}

#[test]
fn a_number_from_outside_is_shared_or_compared_as_it_is() {
    let ask = |rig: &mut Rig, value: f64| {
        let now = rig.now;
        push(&mut rig.external, now, value);
    };
    let mut rig = Rig::new(jobs(TargetKind::AverageValue), 1);
    rig.run(3, |rig| ask(rig, 320.0));
    assert_eq!(rig.target(), 7, "320 at 50 each");
    // It is asked for less often than planned: the last answer holds until it is stale.
    let record = rig.run(25, |_| ());
    assert_eq!((rig.target(), record.signals[0].trust), (7, Trust::Good));
    let looks_ms = rig.report.look_again_ms.unwrap() - rig.now;
    assert!(
        looks_ms > 1_000,
        "it stays as it is, and is looked at again in {looks_ms} ms"
    );
    rig.external_problem = Some("connection refused".into());
    let record = rig.run(20, |_| ());
    assert_eq!((rig.target(), record.signals[0].trust), (7, Trust::Missing));
    let said = record.signals[0].problem.as_deref();
    assert_eq!(said, Some("connection refused"), "in its words");
    let answered_ms = rig.external.last().map(|sample| sample.at_ms);
    assert_eq!(record.signals[0].tried_ms, Some(rig.now));
    assert_eq!(record.signals[0].answered_ms, answered_ms);
    assert!(answered_ms < Some(rig.now - 30_000), "{answered_ms:?}");
    let mut rig = Rig::new(jobs(TargetKind::Value), 3);
    rig.decide();
    rig.run(1, |rig| ask(rig, 100.0));
    assert_eq!(rig.target(), 6, "twice the target");
}

/// A source that answered well a moment ago and answers nothing now takes nothing away, and may add.
#[test]
fn a_source_outside_whose_last_try_failed_takes_nothing_away() {
    let ask = |rig: &mut Rig, value: f64| {
        let now = rig.now;
        push(&mut rig.external, now, value);
    };
    let mut rig = Rig::new(jobs(TargetKind::AverageValue), 1);
    rig.run(3, |rig| ask(rig, 300.0));
    assert_eq!(rig.target(), 6);
    rig.run(1, |rig| ask(rig, 40.0));
    rig.external_problem = Some("the query gives NaN".into());
    let record = rig.run(29, |_| ());
    let (target, trust) = (rig.target(), record.signals[0].trust);
    assert_eq!((target, trust), (6, Trust::Partial), "{record:?}");
    rig.external_problem = None;
    rig.run(90, |rig| ask(rig, 40.0));
    assert_eq!(rig.target(), 1, "it answers again");
    rig.run(3, |rig| ask(rig, 300.0));
    rig.external_problem = Some("the query gives NaN".into());
    rig.run(2, |_| ());
    assert!(rig.target() > 1, "more is no risk");
}

#[test]
fn who_is_over_target_but_too_young_is_not_called_inside_tolerance() {
    let mut young = policy(1, 20, vec![metric(Signal::Latency, 100.0)]);
    young.warmup_ms = 3_600_000;
    let mut rig = Rig::new(young, 2);
    let record = rig.run(10, |rig| both(rig, 40, 0, 300));
    let (carriers, replicas) = (0, 2);
    let wanted = [Reason::Unseasoned { carriers, replicas }];
    assert_eq!((rig.target(), &record.reasons[..]), (2, &wanted[..]));
    let mut rig = on(Signal::Latency, 100.0, 2);
    let record = rig.run(90, |rig| both(rig, 40, 0, 95));
    assert_eq!(record.reasons, [Reason::InsideTolerance]);
    let record = rig.run(90, |rig| both(rig, 40, 0, 60));
    assert_eq!(
        (rig.target(), &record.reasons[..]),
        (2, &[Reason::AsAsked][..])
    );
}

#[test]
fn a_waiting_request_wakes_a_service_at_zero() {
    let mut rig = Rig::new(policy(0, 5, vec![metric(Signal::Requests, 100.0)]), 1);
    rig.run(60, |rig| both(rig, 0, 0, 0));
    assert_eq!(rig.target(), 0);
    let record = rig.run(1, |rig| rig.answered("edge1", 1, 0, 0));
    assert_eq!(
        rig.target(),
        1,
        "however little it is, and from one edge alone: {record:?}"
    );
}

/// `floor(node_cpu / 10)`, the design's example: one replica for each tenth.
#[test]
fn steps_follow_each_tenth_of_node_cpu() {
    let tenths = (1..=10).map(|n| Step {
        at: f64::from(n) * 0.1,
        to: StepTo::Count(n),
    });
    let mut tenth = policy(1, 9, vec![]);
    tenth.steps = vec![StepRule {
        signal: Signal::NodeCpu,
        steps: tenths.collect(),
    }];
    let mut rig = Rig::new(tenth, 1);
    for (load, wanted) in [
        (0.3, 3),
        (0.77, 7),
        (1.0, 9),
        (0.39, 3),
        (0.05, 3),
        (0.1, 1),
    ] {
        rig.run(40, |rig| rig.node_cpu(load));
        assert_eq!(rig.target(), wanted, "at {load}");
    }
}

fn utc(ms: u64) -> (u64, u64) {
    ((ms / 3_600_000) % 24, (ms / 60_000) % 60)
}

#[test]
fn a_schedule_moves_the_bounds_when_its_time_comes_and_says_so() {
    let mut rig = on(Signal::NodeCpu, 0.6, 2);
    let (hour, minute) = utc(rig.now + 120_000);
    let mut timed = policy(1, 20, vec![metric(Signal::NodeCpu, 0.6)]);
    timed.schedules = vec![Schedule {
        name: "rush".into(),
        start: format!("{minute} {hour} * * *"),
        end: ScheduleEnd::After(60_000),
        time_zone: "UTC".into(),
        min: Some(6),
        max: Some(7),
    }];
    rig.apply(timed, 2, "web:1");
    let calm = |rig: &mut Rig| rig.node_cpu(0.2);
    let start_ms = (rig.now + 120_000) / 60_000 * 60_000;
    while rig.now + 1_000 < start_ms {
        rig.run(1, calm);
        assert!(
            rig.report
                .look_again_ms
                .is_some_and(|at_ms| at_ms <= start_ms)
        );
    }
    assert_eq!(rig.target(), 1);
    let record = rig.run(1, calm);
    assert_eq!((rig.target(), record.min, record.max), (6, 6, 7));
    let source = BoundSource::Schedule {
        name: "rush".into(),
    };
    assert!(record.bounds.iter().all(|bound| bound.source == source));
    let last = rig.plan.services[&key()].last_change.clone().unwrap();
    let (min, max, name) = (6, 7, "rush".into());
    assert_eq!(last.cause, ScaleCause::Schedule { name, min, max });
    rig.run(30, |rig| rig.node_cpu(1.4));
    assert_eq!(rig.target(), 7, "its max holds as well");
    let record = rig.run(90, calm);
    assert_eq!((rig.target(), record.min, record.max), (1, 1, 20));
}

#[test]
fn bounds_set_by_hand_replace_the_files() {
    let mut rig = on(Signal::NodeCpu, 0.6, 2);
    let at_ms = rig.now;
    let said = |min, max| BoundsOverride {
        min,
        max,
        at_ms,
        by: "ana".into(),
    };
    rig.control().bounds = Some(said(Some(5), None));
    rig.run(3, |rig| rig.node_cpu(0.6));
    assert_eq!(rig.target(), 5);
    let last = rig.plan.services[&key()].last_change.clone().unwrap();
    let by = "ana".to_owned();
    assert_eq!(
        last.cause,
        ScaleCause::Override {
            by,
            min: 5,
            max: 20
        }
    );
    rig.control().bounds = Some(said(None, Some(3)));
    let record = rig.run(30, |rig| rig.node_cpu(1.4));
    assert_eq!((rig.target(), record.max), (3, 3));
}

#[test]
fn a_pause_holds_until_its_end() {
    let mut rig = on(Signal::NodeCpu, 0.6, 2);
    let until_ms = rig.now + 30_500;
    let paused = Pause {
        since_ms: rig.now,
        until_ms: Some(until_ms),
        by: "ana".into(),
    };
    rig.control().paused = Some(paused);
    let record = rig.run(30, |rig| rig.node_cpu(1.4));
    assert_eq!(rig.target(), 2);
    let by = "ana".to_owned();
    let reason = Reason::Paused {
        by,
        until_ms: Some(until_ms),
    };
    assert_eq!(record.reasons, [reason]);
    assert_eq!(
        record.recommendation,
        Some(5),
        "what it would ask for is still said"
    );
    assert!(
        rig.report
            .look_again_ms
            .is_some_and(|at_ms| at_ms <= until_ms)
    );
    rig.run(1, |rig| rig.node_cpu(1.4));
    assert_eq!(rig.target(), 5);
}

fn approve(rig: &mut Rig, count: u32) {
    let at_ms = rig.now;
    rig.control().approved = Some(Approval {
        count,
        at_ms,
        by: "ana".into(),
    });
}

fn proposed(record: &ScaleReport) -> Option<(u32, u64)> {
    let proposal = record.proposal.as_ref();
    proposal.map(|proposal| (proposal.count, proposal.since_ms))
}

#[test]
fn a_proposal_waits_for_fresh_consent_to_exactly_it_and_uses_it_once() {
    let mut asking = policy(1, 20, vec![metric(Signal::NodeCpu, 0.6)]);
    asking.mode = AutoscaleMode::Approve;
    let mut rig = Rig::new(asking, 2);
    rig.decide();
    let busy = |rig: &mut Rig| rig.node_cpu(1.2);
    let first = rig.run(1, busy);
    let since_ms = rig.now;
    assert_eq!(proposed(&first), Some((4, since_ms)));
    let later = rig.run(20, busy);
    assert_eq!((rig.target(), proposed(&later)), (2, Some((4, since_ms))));
    approve(&mut rig, 3);
    let record = rig.run(1, busy);
    let unused = |stale, approved| Reason::ApprovalUnused { approved, stale };
    assert!(record.reasons.contains(&unused(false, 3)), "{record:?}");
    approve(&mut rig, 4);
    rig.now += Approval::FRESH_MS;
    let record = rig.run(1, busy);
    assert_eq!(rig.target(), 2);
    assert!(record.reasons.contains(&unused(true, 4)), "{record:?}");
    approve(&mut rig, 4);
    let record = rig.run(1, busy);
    assert_eq!((rig.target(), record.proposal), (4, None));
    let last = rig.plan.services[&key()].last_change.clone().unwrap();
    assert_eq!(
        last.cause.to_string(),
        "approved by ana: node_cpu 120 % of target 60 %"
    );
    let record = rig.run(10, |rig| rig.node_cpu(0.6));
    assert_eq!((rig.target(), proposed(&record)), (4, None));
    // The same count again needs new consent.
    let record = rig.run(30, |rig| rig.node_cpu(0.1));
    assert_eq!((rig.target(), proposed(&record).map(|p| p.0)), (4, Some(1)));
}

#[test]
fn while_a_rollout_runs_only_more_is_possible_and_bad_answers_ask_for_nothing() {
    let metrics = vec![metric(Signal::NodeCpu, 0.6), metric(Signal::Errors, 0.05)];
    let mut rig = Rig::new(policy(1, 20, metrics), 4);
    let feed = |load: f64, errors: u64| {
        move |rig: &mut Rig| {
            rig.node_cpu(load);
            both(rig, 100, errors, 10);
        }
    };
    rig.run(20, feed(0.6, 0));
    assert_eq!(rig.target(), 4);
    let metrics = vec![metric(Signal::NodeCpu, 0.6), metric(Signal::Errors, 0.05)];
    rig.apply(policy(1, 20, metrics), 1, "web:2");
    let record = rig.run(30, feed(0.1, 0));
    assert_eq!(
        rig.target(),
        4,
        "a redeploy keeps the live count, and nothing is taken away"
    );
    assert!(record.reasons.contains(&Reason::RolloutRuns), "{record:?}");
    assert!(
        record
            .clamps
            .iter()
            .any(|clamp| clamp.rule == ClampRule::Rollout)
    );
    let record = rig.run(20, feed(0.6, 50));
    assert_eq!(
        rig.target(),
        4,
        "bad answers of a new revision are the gate's business"
    );
    assert!(record.signals[1].capped);
    rig.run(10, feed(1.2, 0));
    assert!(rig.target() >= 8, "load is load");
}
