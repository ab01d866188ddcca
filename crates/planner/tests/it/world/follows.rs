//! Decisions made again from their records.

use longshore_model::Decision;
use longshore_planner::recompute_rollout;

/// The decision follows from its record alone.
pub(super) fn follows(decision: &Decision) {
    match decision {
        Decision::Rollout(look) => {
            assert_eq!(recompute_rollout(look), look.answer, "{look:?}");
        }
        Decision::Move(look) => {
            let moved = look.moved.as_ref();
            let moved = moved.map(|moved| (&moved.from, &moved.to, moved.replica));
            assert_eq!(look.recompute(), moved, "{look:?}");
        }
        // These have tests of their own.
        Decision::Scale(_) | Decision::Placement(_) | Decision::Drain(_) | Decision::Victims(_) => {
        }
    }
}
