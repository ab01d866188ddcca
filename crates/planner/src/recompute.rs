//! The decision made again from its record alone.
//!
//! The planner decides with the same functions: a record is right exactly if it holds everything
//! that they look at.

use longshore_model::report::{ClampRule, Direction, ScaleReport};

use crate::{policy, signal};

/// The count that a record decides, from its inputs: signals, then clamps in their order. It must
/// equal [`ScaleReport::result`].
#[must_use]
pub fn recompute(record: &ScaleReport) -> u32 {
    let counts = signal::Counts {
        current: record.current,
        seasoned: record.seasoned,
    };
    let asked = record.signals.iter();
    let asked = asked
        .filter_map(|signal| signal::asked(signal, counts))
        .max();
    let first = asked.map_or(record.current, |asked| asked.bent);
    let clamps = record.clamps.iter();
    clamps.fold(first, |count, clamp| {
        apply(&clamp.rule, record.current, count)
    })
}

/// What a clamp makes of `count`, where `current` is in force.
pub(crate) fn apply(rule: &ClampRule, current: u32, count: u32) -> u32 {
    use Direction::{Down, Up};
    match *rule {
        ClampRule::MissingData { .. }
        | ClampRule::Observing
        | ClampRule::Outage
        | ClampRule::Rollout => count.max(current),
        ClampRule::NoSignal { serving: None } => current,
        ClampRule::NoSignal {
            serving: Some(serving),
        } => serving.min(current),
        ClampRule::Tolerance { .. } => count,
        ClampRule::Stabilization {
            direction,
            recommendation,
            ..
        } => towards(direction, current, count, recommendation),
        ClampRule::Rate {
            direction,
            end,
            select_min,
            ref policies,
            ..
        } => {
            // A record of before the policies were noted holds their answer only.
            let allowed = policy::allowed(direction, current, select_min, policies);
            towards(
                direction,
                current,
                count,
                allowed.map_or(end, |(end, _)| end),
            )
        }
        ClampRule::Turned { direction: Up } => count.min(current),
        ClampRule::Turned { direction: Down } => count.max(current),
        // Crosswise bounds never get here; if they did, the lower one would hold.
        ClampRule::Bounds { min, max } => count.min(max).max(min),
        ClampRule::Paused { .. } | ClampRule::Held { .. } | ClampRule::DryRun => current,
        ClampRule::Approve { ref approved_by } => match approved_by {
            Some(_) => count,
            None => current,
        },
    }
}

/// What is left of a change in one direction where no more than `end` is allowed.
fn towards(direction: Direction, current: u32, count: u32, end: u32) -> u32 {
    match direction {
        Direction::Up if count > current => count.min(end.max(current)),
        Direction::Down if count < current => count.max(end.min(current)),
        _ => count,
    }
}
