//! Decisions made again from their records.

use longshore_model::Decision;
use longshore_planner::{recompute, recompute_rollout};

/// The decision follows from its record alone, as it comes back from the store.
pub(super) fn follows(decision: &Decision) {
    let stored = serde_json::to_string(decision).unwrap();
    let read: Decision = serde_json::from_str(&stored).unwrap();
    assert_eq!(read, *decision, "{stored}");
    match &read {
        Decision::Scale(report) => assert_eq!(recompute(report), report.result, "{report:?}"),
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
