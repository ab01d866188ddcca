//! Windows and rates: how fast a count may follow what the signals ask for.

use longshore_model::autoscale::{Behavior, RateAmount, RatePolicy};
use longshore_model::memory::Recommendation;
use longshore_model::plan::ScaleChange;
use longshore_model::reason::ScaleCause;
use longshore_model::report::{ClampRule, Direction, RateLook};
use longshore_model::{AutoscaleSpec, TimeMs};

use crate::draft::Draft;

/// Adds a recommendation. One that a later one outbids both as a maximum and as a minimum of any
/// window that holds it is dropped: what is left answers every window exactly.
pub(crate) fn remember(draft: &mut Draft<'_>, service: usize, policy: &AutoscaleSpec, count: u32) {
    let now_ms = draft.input.now_ms;
    let target = draft.target(service);
    let most = draft.input.config.recommendations_max;
    let window_ms = policy
        .scale_up
        .stabilization_ms
        .max(policy.scale_down.stabilization_ms);
    let past = &mut draft.memory_mut(service).recommendations;
    // After a start the count in force stands for the forgotten recommendations.
    if past.is_empty() {
        past.push(Recommendation {
            at_ms: now_ms,
            count: target,
        });
    }
    past.retain(|old| {
        old.at_ms <= now_ms
            && now_ms - old.at_ms <= window_ms
            && !(old.at_ms == now_ms && old.count == count)
    });
    past.push(Recommendation {
        at_ms: now_ms,
        count,
    });
    let (mut low, mut high) = (u32::MAX, 0);
    let mut kept: Vec<Recommendation> = Vec::with_capacity(past.len());
    for old in past.iter().rev() {
        let first = kept.is_empty();
        if first || old.count < low || old.count > high {
            (low, high) = (low.min(old.count), high.max(old.count));
            kept.push(*old);
        }
    }
    kept.truncate(most.max(1));
    kept.reverse();
    *past = kept;
}

fn behavior(policy: &AutoscaleSpec, direction: Direction) -> &Behavior {
    match direction {
        Direction::Up => &policy.scale_up,
        Direction::Down => &policy.scale_down,
    }
}

/// When a remembered time counts as having been. One from the future was written before a clock
/// jumped: it counts from this controller's start.
fn effective(draft: &Draft<'_>, at_ms: TimeMs) -> TimeMs {
    let now_ms = draft.input.now_ms;
    match at_ms <= now_ms {
        true => at_ms,
        false => draft.input.started_ms.min(now_ms),
    }
}

/// The most careful recommendation of the direction's window, and when it leaves the window.
pub(crate) fn stabilization(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    direction: Direction,
    wanted: u32,
) -> (ClampRule, Option<TimeMs>) {
    let now_ms = draft.input.now_ms;
    let window_ms = behavior(policy, direction).stabilization_ms;
    let mut best: Option<Recommendation> = None;
    for old in &draft.memory(service).recommendations {
        let inside = window_ms > 0 && now_ms.saturating_sub(old.at_ms) <= window_ms;
        let known = best.map_or(wanted, |best| best.count);
        let better = match direction {
            Direction::Up => old.count < known,
            Direction::Down => old.count > known,
        };
        if inside && better {
            best = Some(*old);
        }
    }
    let until_ms = best.map(|best| best.at_ms.saturating_add(window_ms));
    if let Some(until_ms) = until_ms {
        draft.look_again(service, until_ms.saturating_add(1));
    }
    let recommendation = best.map_or(wanted, |best| best.count);
    let rule = ClampRule::Stabilization {
        direction,
        recommendation,
        window_ms,
        made_ms: best.map(|best| best.at_ms),
    };
    (rule, until_ms)
}

/// Until when the count may not go in this direction, because it went the other way less than
/// this direction's stabilisation window ago.
pub(crate) fn turned(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    direction: Direction,
) -> Option<TimeMs> {
    let window_ms = behavior(policy, direction).stabilization_ms;
    let other = |change: &&ScaleChange| {
        let went = match direction {
            Direction::Up => change.to < change.from,
            Direction::Down => change.to > change.from,
        };
        went && !matches!(change.cause, ScaleCause::Initial | ScaleCause::Down)
    };
    let changes = &draft.planned(service)?.changes;
    let last = changes.iter().rev().find(other)?;
    // Across a restart the clock may have jumped: the time since it is sure.
    let started_ms = draft.input.started_ms.min(draft.input.now_ms);
    let since_ms = effective(draft, last.at_ms).max(started_ms);
    let until_ms = since_ms.saturating_add(window_ms);
    draft.look_again(service, until_ms);
    (until_ms > draft.input.now_ms).then_some(until_ms)
}

/// Until when nothing may be taken away, whatever the signals say, because too little was seen
/// since the start or since the last change: samples from before say nothing about the count in
/// force.
pub(crate) fn observing(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
) -> Option<TimeMs> {
    let observe_ms = draft.input.config.observe_ms.max(policy.window_ms);
    let start_ms = draft.input.started_ms.saturating_add(observe_ms);
    let last = draft.planned(service).and_then(|e| e.last_change.as_ref());
    let seen_ms = last.map_or(0, |last| {
        effective(draft, last.at_ms).saturating_add(policy.window_ms.max(1))
    });
    let until_ms = start_ms.max(seen_ms);
    draft.look_again(service, until_ms);
    (until_ms > draft.input.now_ms).then_some(until_ms)
}

/// Rate policies: the count at the start of each period bounds the count at its end. None without
/// policies. Also when the bound may move.
pub(crate) fn rate(
    draft: &Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    direction: Direction,
) -> Option<(ClampRule, TimeMs)> {
    let behavior = behavior(policy, direction);
    let up = direction == Direction::Up;
    let entry = draft.planned(service)?;
    let (current, changes) = (entry.target, &entry.changes);
    let now_ms = draft.input.now_ms;
    let inside = |change: &ScaleChange, period_ms: u64| {
        now_ms.saturating_sub(effective(draft, change.at_ms)) < period_ms
    };
    let look = |policy: &RatePolicy| {
        let moves = changes.iter().filter(|c| inside(c, policy.period_ms));
        let moved = moved(moves, up);
        RateLook {
            amount: policy.amount,
            period_ms: policy.period_ms,
            start: if up {
                current.saturating_sub(moved)
            } else {
                current.saturating_add(moved)
            },
            // Older changes of this period may be forgotten: then nothing more is allowed in it.
            full: changes.len() >= draft.input.config.changes_max
                && changes.first().is_some_and(|c| inside(c, policy.period_ms)),
        }
    };
    let policies: Vec<RateLook> = behavior.policies.iter().map(look).collect();
    let select_min = behavior.select_min;
    let (end, number) = allowed(direction, current, select_min, &policies)?;
    let period_ms = policies.get(number)?.period_ms;
    let oldest = changes.iter().find(|change| inside(change, period_ms));
    let since_ms = oldest.map_or(now_ms, |change| effective(draft, change.at_ms));
    let rule = ClampRule::Rate {
        direction,
        policy: u32::try_from(number).unwrap_or(u32::MAX),
        end,
        select_min,
        policies,
    };
    Some((rule, since_ms.saturating_add(period_ms)))
}

/// The count that rate policies allow, and which of them decides; none without policies.
pub(crate) fn allowed(
    direction: Direction,
    current: u32,
    select_min: bool,
    policies: &[RateLook],
) -> Option<(u32, usize)> {
    let up = direction == Direction::Up;
    let mut bound: Option<(u32, usize)> = None;
    for (number, look) in policies.iter().enumerate() {
        let end = match look.full {
            true => current,
            false => end_of_period(look.start, look.amount, up),
        };
        let looser = bound.is_none_or(|(best, _)| (end > best) == up && end != best);
        if bound.is_none() || looser != select_min {
            bound = Some((end, number));
        }
    }
    let (end, number) = bound?;
    let end = if up {
        end.max(current)
    } else {
        end.min(current)
    };
    Some((end, number))
}

/// Replicas that the autoscaler moved in one direction.
fn moved<'a>(changes: impl Iterator<Item = &'a ScaleChange>, up: bool) -> u32 {
    let ours = |change: &&ScaleChange| {
        matches!(
            change.cause,
            ScaleCause::Metric { .. } | ScaleCause::Approved { .. }
        )
    };
    changes.filter(ours).fold(0_u32, |sum, change| {
        let (from, to) = (change.from, change.to);
        sum.saturating_add(if up {
            to.saturating_sub(from)
        } else {
            from.saturating_sub(to)
        })
    })
}

/// Per cent are rounded so that a step of one is always possible.
fn end_of_period(start: u32, amount: RateAmount, up: bool) -> u32 {
    let wide = u64::from(start);
    let end = match (amount, up) {
        (RateAmount::Replicas(count), true) => wide + u64::from(count),
        (RateAmount::Replicas(count), false) => wide.saturating_sub(u64::from(count)),
        // From nothing, a share of nothing is one.
        (RateAmount::Percent(part), true) => wide
            .max(1)
            .saturating_mul(100 + u64::from(part))
            .div_ceil(100),
        (RateAmount::Percent(part), false) => wide * 100_u64.saturating_sub(u64::from(part)) / 100,
    };
    u32::try_from(end).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_cent_round_towards_a_step() {
        assert_eq!(end_of_period(3, RateAmount::Percent(50), true), 5);
        assert_eq!(end_of_period(3, RateAmount::Percent(50), false), 1);
        assert_eq!(end_of_period(1, RateAmount::Percent(10), false), 0);
        assert_eq!(end_of_period(2, RateAmount::Replicas(4), false), 0);
        assert_eq!(end_of_period(0, RateAmount::Percent(100), true), 2);
        for part in [100, u32::MAX] {
            let end = end_of_period(u32::MAX, RateAmount::Percent(part), true);
            assert_eq!(end, u32::MAX);
        }
    }
}
