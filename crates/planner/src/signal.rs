//! What each signal asks for, before anything bends it.

use longshore_model::AutoscaleSpec;
use longshore_model::autoscale::{Metric, Signal, Step, StepRule, StepTo, TargetKind};
use longshore_model::report::{SignalReport, SignalRule, Trust};

use crate::draft::Draft;
use crate::load::{self, Reading};

/// Thresholds meet means of decimal fractions: a hair below counts as reached.
const HAIR: f64 = 1e-9;

/// Counts that the rules start from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    /// The count in force.
    pub current: u32,
    /// Replicas that carried the load that was measured.
    pub seasoned: u32,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    /// With its tolerance, and with what a rollout leaves of it.
    pub bent: u32,
    /// Without tolerance.
    pub raw: u32,
}

/// Reads all signals of a policy. While a rollout runs (`rolling`), answers that got slow or bad
/// are the gate's business: they ask for no more.
pub(crate) fn read(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    counts: Counts,
    rolling: bool,
) -> Vec<SignalReport> {
    let mut readings: Vec<(&Signal, Reading)> = Vec::new();
    let targets = policy.metrics.iter().map(|metric| &metric.signal);
    let steps = policy.steps.iter().map(|rule| &rule.signal);
    for signal in targets.chain(steps) {
        if readings.iter().all(|(known, _)| *known != signal) {
            let reading = load::read(draft, service, policy, signal);
            if let Some(next_ms) = reading.tally.next_ms {
                draft.look_again(service, next_ms);
            }
            readings.push((signal, reading));
        }
    }
    let report = |signal: &Signal, rule: SignalRule, target: f64| {
        let found = readings.iter().find(|(known, _)| *known == signal);
        let none = Reading::default();
        let reading = found.map_or(&none, |(_, reading)| reading);
        report(signal, reading, rule, target, counts, rolling)
    };
    let metric = |metric: &Metric| {
        let rule = SignalRule::Target {
            kind: metric.kind,
            tolerance_up: tolerance(policy.scale_up.tolerance),
            tolerance_down: tolerance(policy.scale_down.tolerance),
        };
        report(&metric.signal, rule, metric.target)
    };
    let steps = |rule: &StepRule| {
        let steps = rule.steps.clone();
        report(&rule.signal, SignalRule::Steps { steps }, 0.0)
    };
    let metrics = policy.metrics.iter().map(metric);
    metrics.chain(policy.steps.iter().map(steps)).collect()
}

/// A tolerance that is no number is none.
fn tolerance(value: f64) -> f64 {
    match value.is_finite() {
        true => value.max(0.0),
        false => 0.0,
    }
}

fn report(
    signal: &Signal,
    reading: &Reading,
    rule: SignalRule,
    target: f64,
    counts: Counts,
    rolling: bool,
) -> SignalReport {
    let per_replica = matches!(
        rule,
        SignalRule::Target {
            kind: TargetKind::AverageValue,
            ..
        }
    );
    let divisor = if per_replica {
        f64::from(counts.current.max(1))
    } else {
        1.0
    };
    let mut report = SignalReport {
        signal: signal.to_string(),
        value: reading.value.map(|value| value / divisor),
        target,
        recommendation: None,
        good: reading.tally.good,
        all: reading.tally.all,
        raw: None,
        rule,
        trust: reading.trust(signal),
        // Whatever the count is by now: it may have changed in this very run, and the load was
        // measured before. Ready ones without a sample count as idle.
        carriers: match signal {
            Signal::Cpu | Signal::Memory => reading.tally.good,
            _ => counts.seasoned,
        },
        oldest_ms: reading.tally.oldest_ms,
        newest_ms: reading.tally.newest_ms,
        dropped: reading.tally.dropped(),
        capped: rolling && matches!(signal, Signal::Latency | Signal::Errors),
        problem: reading.problem.clone(),
        tried_ms: reading.tried_ms,
        answered_ms: reading.answered_ms,
    };
    if let (SignalRule::Steps { steps }, Some(value)) = (&report.rule, report.value) {
        report.target = reached(steps, value).map_or(0.0, |step| step.at);
    }
    let asked = asked(&report, counts);
    report.raw = asked.map(|asked| asked.raw);
    report.recommendation = asked.map(|asked| asked.bent);
    report
}

/// What a signal asks for, from its report alone.
pub(crate) fn asked(report: &SignalReport, counts: Counts) -> Option<Asked> {
    let value = report.value.filter(|value| value.is_finite())?;
    if matches!(
        report.trust,
        Trust::Idle | Trust::Undefined | Trust::Missing
    ) {
        return None;
    }
    let asked = match &report.rule {
        SignalRule::Target {
            kind,
            tolerance_up,
            tolerance_down,
        } => track(
            report,
            counts,
            *kind,
            value,
            (*tolerance_up, *tolerance_down),
        )?,
        SignalRule::Steps { steps } => {
            let count = change(reached(steps, value)?.to, counts);
            Asked {
                raw: count,
                bent: count,
            }
        }
    };
    Some(match report.capped {
        true => Asked {
            bent: asked.bent.min(counts.current),
            ..asked
        },
        false => asked,
    })
}

/// Target tracking. Upwards, only replicas that carried the measured load count, so that those
/// still starting are not ordered twice; downwards the whole count does, and sources without a
/// sample count as being at their target.
fn track(
    report: &SignalReport,
    counts: Counts,
    kind: TargetKind,
    value: f64,
    (up, down): (f64, f64),
) -> Option<Asked> {
    let (target, current) = (report.target, counts.current);
    if !target.is_finite() || target <= 0.0 {
        return None;
    }
    let ratio = value / target;
    let raw = match kind {
        TargetKind::AverageValue => ceil(f64::from(current.max(1)) * ratio),
        _ if ratio > 1.0 => ceil(f64::from(report.carriers) * ratio).max(current),
        _ => {
            let (good, all) = (
                f64::from(report.good),
                f64::from(report.all.max(report.good)),
            );
            let careful = (ratio * good + (all - good)) / all.max(1.0);
            ceil(f64::from(current) * careful).min(current)
        }
    };
    // From nothing, somebody who waits counts at once.
    let inside = current > 0 && is_tolerated(ratio, (up, down));
    let bent = if inside { current } else { raw };
    Some(Asked { bent, raw })
}

/// Is a value of so many times its target inside the tolerance, upwards and downwards?
pub(crate) fn is_tolerated(ratio: f64, (up, down): (f64, f64)) -> bool {
    let tolerance = if ratio > 1.0 { up } else { down };
    (ratio - 1.0).abs() <= tolerance + HAIR
}

/// The highest threshold reached.
fn reached(steps: &[Step], value: f64) -> Option<&Step> {
    let reached = steps.iter().filter(|step| value + HAIR >= step.at);
    reached.max_by(|a, b| a.at.total_cmp(&b.at))
}

fn change(to: StepTo, counts: Counts) -> u32 {
    match to {
        StepTo::Count(count) => count,
        // More, on top of some that have not shown yet what they do: wait for them.
        StepTo::Change(change) if change > 0 && counts.seasoned < counts.current => counts.current,
        // More than those that it was measured with, also where the count is lower by now.
        StepTo::Change(change) if change > 0 => counts.seasoned.saturating_add_signed(change),
        StepTo::Change(change) => counts.current.saturating_add_signed(change),
    }
}

/// Rounds up. Values come from measurements: anything beyond the type is its limit.
fn ceil(value: f64) -> u32 {
    let up = (value - HAIR).ceil().clamp(0.0, f64::from(u32::MAX));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = up as u32;
    count
}
