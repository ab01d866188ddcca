//! What people read. A change here is seen by everybody who asks why.

use std::cmp::Reverse;
use std::sync::Arc;

use longshore_model::autoscale::{RateAmount, Step, StepTo, TargetKind};
use longshore_model::plan::{Leaving, Replica, Traffic};
use longshore_model::reason::{LeaveReason, Refusal, RefusalCount};
use longshore_model::receipt::{DrainReceipt, Exit};
use longshore_model::record::{
    AllNodes, Candidate, Choice, DrainRecord, EdgeAnswer, NodeFacts, NodeScore, PlacementAsked,
    PlacementRecord, VictimNode, VictimRank, VictimRecord, VictimState,
};
use longshore_model::replica::ReplicaStatus;
use longshore_model::report::{
    BoundReport, BoundSource, Clamp, ClampRule, Direction, DropReason, Dropped, NodeReport,
    NodeState, Proposal, RateLook, ScaleReport, ServiceReport, SignalReport, SignalRule, Trust,
};
use longshore_model::{
    Decision, DecisionRecord, Event, EventKind, NodeId, Reason, Recorded, ReplicaId, ServiceKey,
    TimeMs,
};

use super::*;
use longshore_model::reason::ScaleCause;

mod each_node;
mod samples;

use samples::*;

fn said(lines: Vec<String>) -> String {
    lines.join("\n")
}

#[test]
fn a_service_that_is_held() {
    let scale = recorded(NOW_MS - 1_000, 312, Decision::Scale(Arc::new(held())));
    let change = recorded(NOW_MS - 715_000, 1, Decision::Scale(Arc::new(grown())));
    let places = recorded(
        NOW_MS - 715_000,
        1,
        Decision::Placement(Arc::new(placement())),
    );
    let report = ServiceReport {
        wanted: 5,
        planned: 5,
        healthy: 5,
        serving: 5,
        ..ServiceReport::default()
    };
    let story = ServiceStory {
        key: &key(),
        report: Some(&report),
        scale: Some(&scale),
        change: Some(&change),
        placement: Some(&places),
        rollout: None,
        rollouts_from_ms: None,
        moved: None,
        failures: None,
    };
    insta::assert_snapshot!("service", said(service(&story, CLOCK)));
    let past = ServiceStory {
        report: None,
        ..story
    };
    let then = Clock {
        now_ms: NOW_MS + 86_400_000,
    };
    insta::assert_snapshot!("service_past", said(service(&past, then)));
}

#[test]
fn a_value_is_compared_with_a_target_or_with_a_step() {
    let step = |at| Step {
        at,
        to: StepTo::Count(2),
    };
    let with = |value: Option<f64>, target: f64| SignalReport {
        rule: SignalRule::Steps {
            steps: vec![step(100.0), step(200.0)],
        },
        ..signal("requests", value, target, None)
    };
    for (report, words) in [
        (signal("cpu", Some(0.58), 0.6, None), "of target 60 %"),
        (with(Some(230.0), 200.0), "at step 200.0/s"),
        (with(Some(5.0), 0.0), "below the lowest step, 100.0/s"),
        (with(None, 0.0), "for steps from 100.0/s"),
    ] {
        assert_eq!(report.against(), words);
    }
}

#[test]
fn a_service_that_waits_for_a_place_and_for_consent() {
    let mut asks = grown();
    asks.result = 3;
    asks.signals.push(SignalReport {
        good: 0,
        all: 1,
        trust: Trust::Missing,
        newest_ms: None,
        problem: Some("connection refused".into()),
        tried_ms: Some(NOW_MS - 3_000),
        answered_ms: Some(NOW_MS - 95_000),
        ..signal("jobs", None, 50.0, None)
    });
    asks.clamps.push(Clamp {
        rule: ClampRule::Approve { approved_by: None },
        before: 5,
        after: 3,
        until_ms: None,
    });
    asks.proposal = Some(Proposal {
        count: 5,
        why: ScaleCause::Metric {
            signal: "cpu".into(),
            value: 0.86,
            target: 0.6,
            limited_by: None,
        },
        since_ms: NOW_MS - 60_000,
    });
    let scale = recorded(NOW_MS, 1, Decision::Scale(Arc::new(asks)));
    let mut none = placement();
    none.placed = 0;
    none.choices.clear();
    none.best.clear();
    let places = recorded(NOW_MS, 7, Decision::Placement(Arc::new(none.clone())));
    let report = ServiceReport {
        wanted: 3,
        planned: 2,
        healthy: 2,
        serving: 2,
        waits: vec![Reason::Unplaceable {
            nodes: 2,
            counts: none.refused.clone(),
            refusals: none.refusals.clone(),
            home: None,
        }],
        ..ServiceReport::default()
    };
    let story = ServiceStory {
        key: &key(),
        report: Some(&report),
        scale: Some(&scale),
        change: None,
        placement: Some(&places),
        rollout: None,
        rollouts_from_ms: None,
        moved: None,
        failures: Some("failed 2 times in a row: its container was removed by hand".into()),
    };
    insta::assert_snapshot!("service_waits", said(service(&story, CLOCK)));
}

#[test]
fn a_replica_from_its_place_to_its_end() {
    let (events, drain, placement) = (life(), drain(), placement());
    let victims = victims();
    let story = ReplicaStory {
        id: ReplicaId(19),
        service: &key(),
        planned: None,
        shut_out: false,
        aside: None,
        not_by: Vec::new(),
        status: None,
        connected: false,
        edges: Vec::new(),
        weight: None,
        placement: Some(&placement),
        victims: Some(&victims),
        drain: Some(&drain),
        events: &events,
    };
    insta::assert_snapshot!("replica_gone", said(replica(&story, CLOCK)));
    let late = DrainRecord {
        edges: vec![EdgeAnswer {
            runs_generation: 8,
            ..drain.edges[0].clone()
        }],
        ..drain.clone()
    };
    assert!(late.forced() && !drain.forced());
    assert!(drain.recompute());
}

#[test]
fn a_replica_that_runs() {
    let events = life();
    let planned = Replica {
        id: ReplicaId(19),
        service: key(),
        slot: 4,
        node: id("node3"),
        address: "10.0.0.3".parse().unwrap(),
        template: longshore_model::TemplateId::new("0123456789abcdef").unwrap(),
        revision: 7,
        ports: Vec::new(),
        created_ms: NOW_MS - 700_000,
        traffic: Traffic::Drain,
        leaving: Some(Box::new(Leaving {
            reason: LeaveReason::NodeDrain,
            since_ms: NOW_MS - 1_000,
            deadline_ms: NOW_MS + 9_000,
            drain_generation: 3,
            park_generation: 0,
            receipts: std::collections::BTreeMap::new(),
            stop_generation: 0,
            stop_ms: 0,
        })),
        stop: false,
        paused: false,
        woken: None,
        ended: None,
    };
    let status: ReplicaStatus = serde_json::from_value(serde_json::json!({
        "id": "r19",
        "state": "unhealthy",
        "reason": {"reason": "check_fails", "detail": "500"},
        "restarts": 2,
    }))
    .unwrap();
    let weight = weight();
    let story = ReplicaStory {
        id: ReplicaId(19),
        service: &key(),
        planned: Some(&planned),
        shut_out: false,
        aside: None,
        not_by: Vec::new(),
        status: Some(&status),
        connected: true,
        edges: vec![(id("edge1"), "check down, 3 sessions, 0 queued".into())],
        weight: Some(&weight),
        placement: None,
        victims: None,
        drain: None,
        events: &events[..4],
    };
    insta::assert_snapshot!("replica", said(replica(&story, CLOCK)));
    // Two edges: one of them has no way to it.
    let edge2 = id("edge2");
    let serving = Replica {
        traffic: Traffic::Serve,
        leaving: None,
        ..planned.clone()
    };
    let story = ReplicaStory {
        planned: Some(&serving),
        not_by: vec![&edge2],
        ..story
    };
    let first = replica(&story, CLOCK).remove(0);
    let words = "takes traffic, but none through edge2: HAProxy's check fails there";
    assert!(first.ends_with(words), "{first}");
}

#[test]
fn a_node() {
    let report = NodeReport {
        state: NodeState::Ready,
        replicas: 3,
        cpu_reserved_milli: 1_500,
        memory_reserved_bytes: 768 << 20,
        ..NodeReport::default()
    };
    let node_of: longshore_model::Node = serde_json::from_value(serde_json::json!({
        "id": "node2",
        "roles": {"worker": true, "edge": false},
        "address": "10.0.0.2",
        "labels": {},
        "availability": "cordoned",
        "note": {"at_ms": NOW_MS - 90_000_000, "by": "ana", "message": "disk swap"},
        "joined_ms": 1,
    }))
    .unwrap();
    let (service, refusal) = (key(), Refusal::Cordoned);
    let story = NodeStory {
        id: &id("node2"),
        report: &report,
        state: "ready".into(),
        availability: "cordoned".into(),
        node: Some(&node_of),
        seen_ms: NOW_MS - 1_000,
        connected: true,
        refused: None,
        refuses: vec![(&service, &refusal)],
        problems: &["no way to 10.213.0.0/16".into()],
    };
    insta::assert_snapshot!("node", said(node(&story, CLOCK)));
}

#[test]
fn a_node_at_another_time() {
    let at = |kind| (NOW_MS - 90_000, kind);
    let away = EventKind::NodeAway { node: id("node2") };
    let cordoned = EventKind::NodeAvailability {
        node: id("node2"),
        availability: "cordoned".into(),
        by: "ana".into(),
        message: "disk swap".into(),
    };
    let facts: NodeFacts = serde_json::from_value(serde_json::json!({
        "node": "node2",
        "worker": true,
        "availability": "cordoned",
        "state": "ready",
        "seen": true,
        "of_service": 1,
        "cpu_milli": 4_000,
        "cpu_reserved_milli": 1_200,
        "memory_bytes": 2_u64 << 30,
        "memory_reserved_bytes": 512 << 20,
        "ports_used": 1,
    }))
    .unwrap();
    let placed = recorded(
        NOW_MS - 60_000,
        1,
        Decision::Placement(Arc::new(placement())),
    );
    let service = key();
    let mut story = NodeThen {
        id: &id("node2"),
        session: Some(at(&away)),
        availability: Some(at(&cordoned)),
        joined: true,
        replicas: vec!["web.4 (r19)".into()],
        seen: Some(Seen {
            at_ms: NOW_MS - 60_000,
            service: &service,
            state: "ready".into(),
            facts: &facts,
            refusal: Some(Refusal::Cordoned),
        }),
        decisions: &[placed],
    };
    let all = said(node_then(&story, CLOCK));
    story = NodeThen {
        session: None,
        availability: None,
        joined: false,
        replicas: Vec::new(),
        seen: None,
        decisions: &[],
        ..story
    };
    let nothing = said(node_then(&story, CLOCK));
    insta::assert_snapshot!("node_then", format!("{all}\n\n{nothing}"));
}

#[test]
fn a_slot_that_waits_says_for_what() {
    let mut report = ServiceReport {
        wanted: 4,
        planned: 3,
        ..ServiceReport::default()
    };
    let service = key();
    let said = |report: &ServiceReport| {
        let story = ServiceStory {
            key: &service,
            report: Some(report),
            scale: None,
            change: None,
            placement: None,
            rollout: None,
            rollouts_from_ms: None,
            moved: None,
            failures: Some("failed 2 times in a row: exit code 1".into()),
        };
        said(slot(&story, 4, CLOCK))
    };
    let nothing = said(&report);
    report.waits = vec![Reason::Unplaceable {
        counts: RefusalCount::of([&Refusal::Cordoned], 8),
        nodes: 1,
        refusals: vec![(id("node2"), Refusal::Cordoned)],
        home: None,
    }];
    insta::assert_snapshot!("slot", format!("{}\n\n{nothing}", said(&report)));
}

#[test]
fn one_line_says_what_and_why() {
    let line = |decision| summary(&recorded(NOW_MS, 1, decision).record);
    let mut short = placement();
    short.asked.count = 3;
    let lines = [
        line(Decision::Scale(Arc::new(held()))),
        line(Decision::Scale(Arc::new(grown()))),
        line(Decision::Scale(Arc::default())),
        line(Decision::Placement(Arc::new(placement()))),
        line(Decision::Placement(Arc::new(short))),
        line(Decision::Drain(Arc::new(drain()))),
        line(Decision::Victims(Arc::new(victims()))),
        line(Decision::Victims(Arc::new(VictimRecord {
            chosen: Vec::new(),
            floor: 5,
            ..victims()
        }))),
    ];
    insta::assert_snapshot!("summaries", lines.join("\n"));
}

/// `why` and the history name who agreed.
#[test]
fn an_approval_is_part_of_the_decision() {
    let mut report = grown();
    let clamp = Clamp {
        rule: ClampRule::Approve {
            approved_by: Some("ana".into()),
        },
        before: 5,
        after: 5,
        until_ms: None,
    };
    report.clamps.push(clamp);
    let lines = scale::lines(&key(), &report, NOW_MS, CLOCK);
    assert!(lines.contains(&"  approved by ana".to_owned()), "{lines:?}");
    let bent = scale::summary(&report);
    assert!(bent.starts_with("3 -> 5: cpu 86 % "), "{bent}");
    assert!(bent.ends_with("; approved by ana"), "{bent}");
    report.clamps.remove(0);
    let plain = scale::summary(&report);
    assert!(plain.ends_with("asks for 6; approved by ana"), "{plain}");
}
