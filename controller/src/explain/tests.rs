//! What people read. A change here is seen by everybody who asks why.

use std::cmp::Reverse;
use std::sync::Arc;

use longshore_model::autoscale::{Step, StepTo, TargetKind};
use longshore_model::plan::{DrainReceipt, Leaving, Replica, Traffic};
use longshore_model::reason::{LeaveReason, Refusal, RefusalCount};
use longshore_model::record::{
    AllNodes, Candidate, Choice, DrainRecord, EdgeAnswer, NodeScore, PlacementAsked,
    PlacementRecord, VictimNode, VictimRank, VictimRecord, VictimState,
};
use longshore_model::replica::ReplicaStatus;
use longshore_model::report::{
    BoundReport, BoundSource, Clamp, ClampRule, Direction, DropReason, Dropped, NodeReport,
    NodeState, Proposal, ScaleReport, ServiceReport, SignalReport, SignalRule, Trust,
};
use longshore_model::{
    Decision, DecisionRecord, Event, EventKind, NodeId, Reason, Recorded, ReplicaId, ServiceKey,
    TimeMs,
};

use super::*;
use longshore_model::reason::ScaleCause;

/// 2026-11-21, 12:16:05 UTC.
const NOW_MS: TimeMs = 1_795_263_365_000;

const CLOCK: Clock = Clock { now_ms: NOW_MS };

fn key() -> ServiceKey {
    "shop/web".parse().unwrap()
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn recorded(at_ms: TimeMs, count: u64, decision: Decision) -> Recorded {
    let record = DecisionRecord {
        at_ms,
        service: key(),
        plan_version: 42,
        decision,
    };
    Recorded {
        first_ms: at_ms - (count - 1) * 1_000,
        count,
        ..Recorded::new(record)
    }
}

fn signal(name: &str, value: Option<f64>, target: f64, asks: Option<u32>) -> SignalReport {
    SignalReport {
        signal: name.into(),
        value,
        target,
        recommendation: asks,
        good: 3,
        all: 3,
        raw: asks,
        rule: SignalRule::Target {
            kind: TargetKind::Utilization,
            tolerance_up: 0.1,
            tolerance_down: 0.1,
        },
        trust: Trust::Good,
        carriers: 3,
        oldest_ms: Some(NOW_MS - 30_000),
        newest_ms: Some(NOW_MS - 900),
        dropped: Vec::new(),
        capped: false,
        problem: None,
        tried_ms: None,
        answered_ms: None,
    }
}

fn held() -> ScaleReport {
    let mut cpu = signal("cpu", Some(0.58), 0.6, Some(4));
    cpu.dropped.push(Dropped {
        why: DropReason::Warming,
        count: 1,
        sources: vec!["r19".into()],
    });
    let office = BoundReport {
        upper: false,
        count: 4,
        source: BoundSource::Schedule {
            name: "office".into(),
        },
        until_ms: Some(NOW_MS + 6_000_000),
    };
    ScaleReport {
        current: 5,
        result: 5,
        signals: vec![cpu, signal("requests", Some(88.0), 100.0, Some(4))],
        recommendation: Some(4),
        clamps: vec![
            Clamp {
                rule: ClampRule::Stabilization {
                    direction: Direction::Down,
                    recommendation: 5,
                },
                before: 4,
                after: 5,
                until_ms: Some(NOW_MS + 155_000),
            },
            Clamp {
                rule: ClampRule::Bounds { min: 4, max: 12 },
                before: 5,
                after: 5,
                until_ms: None,
            },
        ],
        min: 4,
        max: 12,
        bounds: vec![office],
        ..ScaleReport::default()
    }
}

fn grown() -> ScaleReport {
    ScaleReport {
        current: 3,
        result: 5,
        signals: vec![signal("cpu", Some(0.86), 0.6, Some(6))],
        recommendation: Some(6),
        clamps: vec![Clamp {
            rule: ClampRule::Rate {
                direction: Direction::Up,
                policy: 0,
                end: 5,
            },
            before: 6,
            after: 5,
            until_ms: None,
        }],
        min: 2,
        max: 12,
        ..ScaleReport::default()
    }
}

fn score(node: &str, score: &[u64]) -> NodeScore {
    NodeScore {
        node: id(node),
        score: score.to_vec(),
    }
}

fn placement() -> PlacementRecord {
    let choice = |replica, slot, chosen, runner_up| Choice {
        replica: ReplicaId(replica),
        slot,
        chosen,
        runner_up,
    };
    let memory = Refusal::Memory {
        free_bytes: 512 << 20,
        asked_bytes: 768 << 20,
    };
    PlacementRecord {
        asked: PlacementAsked {
            count: 2,
            memory_bytes: 768 << 20,
            ..PlacementAsked::default()
        },
        fields: vec!["suspect".into(), "replicas of the service there".into()],
        all: Some(AllNodes {
            fit: 2,
            refused: RefusalCount::of([&memory, &Refusal::Cordoned], 8),
            refusals: vec![
                (id("node2"), memory.clone()),
                (id("node4"), Refusal::Cordoned),
            ],
            facts: Vec::new(),
        }),
        best: vec![score("node3", &[0, 0]), score("node1", &[0, 1])],
        choices: vec![
            choice(
                19,
                4,
                score("node3", &[0, 0]),
                Some(score("node1", &[0, 1])),
            ),
            choice(
                20,
                5,
                score("node1", &[0, 1]),
                Some(score("node3", &[0, 1])),
            ),
        ],
        placed: 2,
        refused: RefusalCount::of([&memory, &Refusal::Cordoned], 8),
        refusals: vec![(id("node2"), memory), (id("node4"), Refusal::Cordoned)],
        short: None,
    }
}

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
        moved: None,
        failures: Some("failed 2 times in a row: its container was removed by hand".into()),
    };
    insta::assert_snapshot!("service_waits", said(service(&story, CLOCK)));
}

fn event(at_ms: TimeMs, kind: EventKind) -> Event {
    Event { at_ms, kind }
}

/// The life of r19 = web.4.
fn life() -> Vec<Event> {
    let (service, replica, node, slot) = (key(), ReplicaId(19), id("node3"), 4);
    let at_ms = NOW_MS - 700_000;
    let receipt = DrainReceipt {
        sessions_at_drain: 12,
        sessions_at_park: 0,
        zero_ms: Some(at_ms + 92_000),
        forced: false,
        edge_gone: false,
    };
    let placed = EventKind::Placed {
        service: service.clone(),
        slot,
        replica,
        node: node.clone(),
    };
    let serving = EventKind::Serving {
        service: service.clone(),
        slot,
        replica,
        node: node.clone(),
        after_ms: 900,
        again: false,
        started_ms: Some(at_ms + 300),
        healthy_ms: Some(at_ms + 500),
    };
    // Its agent lost its ledger and proved it anew; it ran on meanwhile.
    let mut anew = serving.clone();
    if let EventKind::Serving {
        again,
        healthy_ms,
        after_ms,
        ..
    } = &mut anew
    {
        (*again, *healthy_ms, *after_ms) = (true, Some(at_ms + 59_500), 60_000);
    }
    let leaving = EventKind::Leaving {
        service: service.clone(),
        slot,
        replica,
        node: node.clone(),
        why: LeaveReason::ScaleIn,
    };
    let drained = EventKind::Drained {
        service: service.clone(),
        replica,
        node: node.clone(),
        after_ms: 2_100,
        receipts: vec![(id("edge1"), receipt)],
    };
    let gone = EventKind::Gone {
        service,
        slot,
        replica,
        node,
        why: LeaveReason::ScaleIn,
    };
    vec![
        event(at_ms, placed),
        event(at_ms + 900, serving),
        event(at_ms + 60_000, anew),
        event(at_ms + 90_000, leaving),
        event(at_ms + 92_100, drained),
        event(at_ms + 93_000, gone),
    ]
}

fn drain() -> DrainRecord {
    let at_ms = NOW_MS - 700_000;
    DrainRecord {
        replica: ReplicaId(19),
        slot: 4,
        node: id("node3"),
        why: LeaveReason::ScaleIn,
        since_ms: at_ms + 90_000,
        at_ms: at_ms + 92_100,
        late_ms: at_ms + 125_000,
        park_generation: 9,
        edges: vec![EdgeAnswer {
            edge: id("edge1"),
            runs_generation: 9,
            gone: false,
            receipt: None,
        }],
    }
}

/// r19 = web.4 is one too many of five.
fn victims() -> VictimRecord {
    let candidate = |replica, slot, on_node| Candidate {
        slot,
        node: id("node3"),
        rank: VictimRank {
            proven: true,
            state: VictimState::Serving,
            node_state: VictimNode::Active,
            on_node: Reverse(on_node),
            sessions: 12,
            replica: Reverse(ReplicaId(replica)),
        },
        serves: true,
        may_serve: false,
    };
    VictimRecord {
        surplus: 1,
        considered: 5,
        serving: 5,
        floor: 4,
        chosen: vec![ReplicaId(19)],
        leaves: 1,
        candidates: vec![candidate(19, 4, 2), candidate(11, 2, 2)],
    }
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
        status: None,
        connected: false,
        edges: Vec::new(),
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
        })),
        stop: false,
        paused: false,
        woken: None,
    };
    let status: ReplicaStatus = serde_json::from_value(serde_json::json!({
        "id": "r19",
        "state": "unhealthy",
        "reason": {"reason": "check_fails", "detail": "500"},
        "restarts": 2,
    }))
    .unwrap();
    let story = ReplicaStory {
        id: ReplicaId(19),
        service: &key(),
        planned: Some(&planned),
        shut_out: false,
        status: Some(&status),
        connected: true,
        edges: vec![(id("edge1"), "check down, 3 sessions, 0 queued".into())],
        placement: None,
        victims: None,
        drain: None,
        events: &events[..4],
    };
    insta::assert_snapshot!("replica", said(replica(&story, CLOCK)));
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
        report: Some(&report),
        state: "ready".into(),
        availability: "cordoned".into(),
        node: Some(&node_of),
        seen_ms: NOW_MS - 1_000,
        connected: true,
        refused: None,
        refuses: vec![(&service, &refusal)],
    };
    insta::assert_snapshot!("node", said(node(&story, CLOCK)));
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
