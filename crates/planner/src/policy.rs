//! Windows and rates: how fast a count may follow what the signals ask for.

use longshore_model::autoscale::{Behavior, RateAmount};
use longshore_model::plan::{Recommendation, ScaleChange};
use longshore_model::reason::ScaleCause;
use longshore_model::{AutoscaleSpec, Reason, TimeMs};

use crate::draft::Draft;

/// What may be done now.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    pub count: u32,
    pub reasons: Vec<Reason>,
    pub limited_by: Option<String>,
}

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

/// When enough was seen to take capacity away.
fn observed_from(draft: &Draft<'_>, policy: &AutoscaleSpec) -> TimeMs {
    let observe_ms = draft.input.config.observe_ms.max(policy.window_ms);
    draft.input.started_ms.saturating_add(observe_ms)
}

/// Bends `wanted` by the windows and rates of its direction.
pub(crate) fn decide(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    wanted: u32,
) -> Decision {
    let now_ms = draft.input.now_ms;
    let current = draft.target(service);
    let mut decision = Decision {
        count: current,
        ..Decision::default()
    };
    let (lowest, _) = extreme(
        draft,
        service,
        policy.scale_up.stabilization_ms,
        false,
        wanted,
    );
    let (highest, at_ms) = extreme(
        draft,
        service,
        policy.scale_down.stabilization_ms,
        true,
        wanted,
    );
    if wanted > current {
        if lowest <= current && lowest < wanted {
            let until_ms = now_ms.saturating_add(policy.scale_up.stabilization_ms);
            decision.reasons.push(Reason::Stabilizing {
                recommendation: lowest,
                until_ms,
            });
            return decision;
        }
        decision.count = lowest.min(wanted);
        limit(draft, service, &policy.scale_up, true, &mut decision);
    } else if wanted < current {
        if let Some(reason) = held_down(draft, service, policy) {
            decision.reasons.push(reason);
            return decision;
        }
        if highest >= current {
            let until_ms = at_ms.saturating_add(policy.scale_down.stabilization_ms);
            draft.look_again(service, until_ms.saturating_add(1));
            decision.reasons.push(Reason::Stabilizing {
                recommendation: highest,
                until_ms,
            });
            return decision;
        }
        decision.count = highest;
        limit(draft, service, &policy.scale_down, false, &mut decision);
    }
    decision
}

/// Why nothing may be taken away now, whatever the signals say.
pub(crate) fn held_down(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
) -> Option<Reason> {
    let now_ms = draft.input.now_ms;
    let start_ms = observed_from(draft, policy);
    if now_ms < start_ms {
        draft.look_again(service, start_ms);
        return Some(Reason::Observing { until_ms: start_ms });
    }
    // Samples from before the last change say nothing about the count in force.
    let changed_ms = draft
        .planned(service)
        .and_then(|entry| entry.last_change.as_ref())
        .map_or(0, |change| change.at_ms);
    let seen_ms = changed_ms.saturating_add(policy.window_ms.max(1));
    if now_ms < seen_ms {
        draft.look_again(service, seen_ms);
        return Some(Reason::Observing { until_ms: seen_ms });
    }
    if draft.brake {
        return draft.report.problems.first().cloned();
    }
    crate::rollout::runs(draft, service).then_some(Reason::RolloutRuns)
}

/// Highest or lowest recommendation of a window, and when it was last made.
fn extreme(
    draft: &Draft<'_>,
    service: usize,
    window_ms: u64,
    highest: bool,
    wanted: u32,
) -> (u32, TimeMs) {
    let now_ms = draft.input.now_ms;
    let mut best = (wanted, now_ms);
    for old in &draft.memory(service).recommendations {
        let inside = window_ms > 0 && now_ms.saturating_sub(old.at_ms) <= window_ms;
        let better = if highest {
            old.count > best.0
        } else {
            old.count < best.0
        };
        if inside && better {
            best = (old.count, old.at_ms);
        }
    }
    best
}

/// Rate policies: the count at the start of each period bounds the count at its end.
fn limit(
    draft: &mut Draft<'_>,
    service: usize,
    behavior: &Behavior,
    up: bool,
    decision: &mut Decision,
) {
    let now_ms = draft.input.now_ms;
    let changes_max = draft.input.config.changes_max;
    let entry = draft.entry(service);
    let current = entry.target;
    let mut bound: Option<(u32, u64, usize)> = None;
    for (number, policy) in behavior.policies.iter().enumerate() {
        let moved = moved(&entry.changes, now_ms, policy.period_ms, up);
        // Older changes of this period may be forgotten: then nothing more is allowed in it.
        let full = entry.changes.len() >= changes_max
            && entry
                .changes
                .first()
                .is_some_and(|c| now_ms - c.at_ms < policy.period_ms);
        let start = if up {
            current.saturating_sub(moved)
        } else {
            current.saturating_add(moved)
        };
        let end = if full {
            current
        } else {
            end_of_period(start, policy.amount, up)
        };
        let looser = bound.is_none_or(|(best, ..)| (end > best) == up && end != best);
        if bound.is_none() || looser != behavior.select_min {
            bound = Some((end, policy.period_ms, number));
        }
    }
    let Some((end, period_ms, number)) = bound else {
        return;
    };
    let end = if up {
        end.max(current)
    } else {
        end.min(current)
    };
    let within = if up {
        decision.count <= end
    } else {
        decision.count >= end
    };
    if within {
        return;
    }
    decision.count = end;
    let direction = if up { "scale_up" } else { "scale_down" };
    decision.limited_by = Some(format!("{direction}.policies[{number}]"));
    let oldest = entry
        .changes
        .iter()
        .find(|c| now_ms.saturating_sub(c.at_ms) < period_ms);
    let until_ms = oldest
        .map_or(now_ms, |change| change.at_ms)
        .saturating_add(period_ms);
    draft.look_again(service, until_ms);
    decision.reasons.push(Reason::RateLimited { until_ms });
}

/// Replicas that the metrics moved within the period, in one direction.
fn moved(changes: &[ScaleChange], now_ms: TimeMs, period_ms: u64, up: bool) -> u32 {
    let inside = changes.iter().filter(|change| {
        matches!(change.cause, ScaleCause::Metric { .. })
            && now_ms.saturating_sub(change.at_ms) < period_ms
    });
    inside.fold(0_u32, |sum, change| {
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
        (RateAmount::Percent(part), true) => (wide * (100 + u64::from(part))).div_ceil(100),
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
        assert_eq!(
            end_of_period(u32::MAX, RateAmount::Percent(100), true),
            u32::MAX
        );
    }
}
