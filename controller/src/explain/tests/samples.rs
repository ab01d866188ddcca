//! What the tests tell of.

use longshore_model::weight::{WeightLook, WeightRule};

use super::*;

/// 2026-11-21, 12:16:05 UTC.
pub(super) const NOW_MS: TimeMs = 1_795_263_365_000;

pub(super) const CLOCK: Clock = Clock { now_ms: NOW_MS };

pub(super) fn key() -> ServiceKey {
    "shop/web".parse().unwrap()
}

pub(super) fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub(super) fn recorded(at_ms: TimeMs, count: u64, decision: Decision) -> Recorded {
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

pub(super) fn signal(
    name: &str,
    value: Option<f64>,
    target: f64,
    asks: Option<u32>,
) -> SignalReport {
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

pub(super) fn held() -> ScaleReport {
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
                    window_ms: 300_000,
                    made_ms: Some(NOW_MS - 145_000),
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

pub(super) fn grown() -> ScaleReport {
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
                select_min: false,
                policies: vec![RateLook {
                    amount: RateAmount::Replicas(2),
                    period_ms: 60_000,
                    start: 3,
                    full: false,
                }],
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

pub(super) fn score(node: &str, score: &[u64]) -> NodeScore {
    NodeScore {
        node: id(node),
        score: score.to_vec(),
    }
}

pub(super) fn placement() -> PlacementRecord {
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
        most_wins: Vec::new(),
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

pub(super) fn event(at_ms: TimeMs, kind: EventKind) -> Event {
    Event { at_ms, kind }
}

const ENDS_WELL: Exit = Exit {
    code: 0,
    after_ms: Some(870),
    killed: None,
};

/// The life of r19 = web.4.
pub(super) fn life() -> Vec<Event> {
    let (service, replica, node, slot) = (key(), ReplicaId(19), id("node3"), 4);
    let at_ms = NOW_MS - 700_000;
    let receipt = DrainReceipt {
        sessions_at_drain: 12,
        sessions_at_park: 0,
        zero_after_ms: Some(2_000),
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
        after_ms: Some(900),
        exit: Some(ENDS_WELL),
        lost: false,
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

pub(super) fn drain() -> DrainRecord {
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
pub(super) fn victims() -> VictimRecord {
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

/// A weight on its way up.
pub(super) fn weight() -> WeightLook {
    WeightLook {
        replica: ReplicaId(19),
        slot: 4,
        node: id("node3"),
        weight: 45,
        target: 80,
        free_percent: Some(62),
        age_ms: 900,
        rule: WeightRule::Rises,
    }
}
