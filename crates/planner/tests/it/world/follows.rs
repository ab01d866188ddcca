//! Decisions made again from their records.

use longshore_model::report::{ClampRule, ScaleReport};
use longshore_model::{Decision, DecisionRecord};
use longshore_planner::{recompute, recompute_rollout};

/// The decision follows from its record alone, as it comes back from the store.
pub(super) fn follows(record: &DecisionRecord) {
    let decision = &record.decision;
    let stored = serde_json::to_string(decision).unwrap();
    let read: Decision = serde_json::from_str(&stored).unwrap();
    assert_eq!(read, *decision, "{stored}");
    match &read {
        Decision::Scale(report) => {
            assert_eq!(recompute(report), report.result, "{report:?}");
            clamps(report, record.at_ms);
        }
        Decision::Rollout(look) => {
            assert_eq!(recompute_rollout(look), look.answer, "{look:?}");
        }
        Decision::Move(look) => {
            let moved = look.moved.as_ref();
            let moved = moved.map(|moved| (&moved.from, &moved.to, moved.replica));
            assert_eq!(look.recompute(), moved, "{look:?}");
        }
        // These have tests of their own.
        Decision::Placement(_) | Decision::Drain(_) | Decision::Victims(_) => {}
    }
}

/// What a window or a rate allowed follows from what they looked at.
pub(crate) fn clamps(report: &ScaleReport, at_ms: u64) {
    let mut blank = report.clone();
    for clamp in &mut blank.clamps {
        match &mut clamp.rule {
            ClampRule::Rate {
                policy,
                end,
                policies,
                ..
            } => {
                assert!((*policy as usize) < policies.len(), "{report:?}");
                *end = report.current;
            }
            ClampRule::Stabilization {
                window_ms, made_ms, ..
            } => {
                let ends_ms = made_ms.map(|made_ms| made_ms + *window_ms);
                assert_eq!(ends_ms, clamp.until_ms, "{report:?}");
                assert!(ends_ms.is_none_or(|ends_ms| ends_ms >= at_ms), "{report:?}");
                let bent = clamp.before != clamp.after;
                assert!(made_ms.is_some() || !bent, "{report:?}");
            }
            _ => {}
        }
    }
    assert_eq!(recompute(&blank), report.result, "{report:?}");
}
