//! What each signal asks for, before windows and rate policies.

use longshore_model::AutoscaleSpec;
use longshore_model::autoscale::{Metric, Signal, StepRule, StepTo};
use longshore_model::report::{SignalReport, SignalRule, Trust};

use crate::draft::Draft;
use crate::load::{self, Reading};

/// Thresholds meet means of decimal fractions: a hair below counts as reached.
const HAIR: f64 = 1e-9;

/// One signal's wish.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub count: Option<u32>,
    pub report: SignalReport,
    /// Fewer than 80 % of its sources have good samples.
    incomplete: bool,
}

impl Ask {
    /// Too little is known to take capacity away.
    pub(crate) fn partial(&self) -> bool {
        self.incomplete
    }
}

/// Counts that the rules start from.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// The count in force.
    current: u32,
    /// Replicas that carried the load that was measured.
    seasoned: u32,
}

/// Reads all signals of a policy.
pub(crate) fn read(draft: &mut Draft<'_>, service: usize, policy: &AutoscaleSpec) -> Vec<Ask> {
    let counts = Counts {
        current: draft.target(service),
        seasoned: load::seasoned(draft, service, policy),
    };
    let mut readings: Vec<(&Signal, Reading)> = Vec::new();
    let mut asks = Vec::new();
    let targets = policy.metrics.iter().map(|metric| &metric.signal);
    let steps = policy.steps.iter().map(|rule| &rule.signal);
    for signal in targets.chain(steps) {
        if readings.iter().all(|(known, _)| *known != signal) {
            let reading = match signal {
                Signal::NodeCpu => load::node_cpu(draft, service, policy),
                Signal::Cpu => load::replica_cpu(draft, service, policy),
                _ => Reading::default(),
            };
            readings.push((signal, reading));
        }
    }
    let reading_of = |signal: &Signal| {
        let found = readings.iter().find(|(known, _)| *known == signal);
        found.map_or_else(Reading::default, |(_, reading)| *reading)
    };
    for metric in &policy.metrics {
        let reading = reading_of(&metric.signal);
        let count = reading
            .value
            .and_then(|value| track(policy, metric, counts, reading, value));
        asks.push(ask(&metric.signal, metric.target, reading, count));
    }
    for rule in &policy.steps {
        let reading = reading_of(&rule.signal);
        let step = reading.value.and_then(|value| step(rule, value));
        let count = step.map(|step| apply(step.1, counts));
        asks.push(ask(
            &rule.signal,
            step.map_or(0.0, |step| step.0),
            reading,
            count,
        ));
    }
    asks
}

fn ask(signal: &Signal, target: f64, reading: Reading, count: Option<u32>) -> Ask {
    let report = SignalReport {
        signal: signal.to_string(),
        value: reading.value,
        target,
        recommendation: count,
        good: reading.good,
        all: reading.all,
        raw: count,
        rule: SignalRule::default(),
        trust: Trust::default(),
        carriers: 0,
        oldest_ms: None,
        newest_ms: None,
        dropped: Vec::new(),
    };
    Ask {
        count,
        report,
        incomplete: !reading.complete() || reading.undefined,
    }
}

/// Target tracking. Upwards, only replicas that carried the measured load count, so that those
/// still starting are not ordered twice; downwards the whole count does.
fn track(
    policy: &AutoscaleSpec,
    metric: &Metric,
    counts: Counts,
    reading: Reading,
    value: f64,
) -> Option<u32> {
    if !metric.target.is_finite() || metric.target <= 0.0 {
        return None;
    }
    let ratio = value / metric.target;
    let tolerance = if ratio > 1.0 {
        policy.scale_up.tolerance
    } else {
        policy.scale_down.tolerance
    };
    // A tolerance that is no number is none.
    let tolerance = if tolerance.is_finite() {
        tolerance.max(0.0)
    } else {
        0.0
    };
    if (ratio - 1.0).abs() <= tolerance + HAIR {
        return Some(counts.current);
    }
    if ratio > 1.0 {
        let carriers = match metric.signal {
            Signal::NodeCpu => counts.seasoned,
            // Ready ones without a sample count as idle.
            _ => reading.good.min(counts.current),
        };
        Some(ceil(f64::from(carriers) * ratio).max(counts.current))
    } else {
        Some(ceil(f64::from(counts.current) * ratio).min(counts.current))
    }
}

/// The highest threshold reached.
fn step(rule: &StepRule, value: f64) -> Option<(f64, StepTo)> {
    let reached = rule.steps.iter().filter(|step| value + HAIR >= step.at);
    reached
        .max_by(|a, b| a.at.total_cmp(&b.at))
        .map(|step| (step.at, step.to))
}

fn apply(to: StepTo, counts: Counts) -> u32 {
    match to {
        StepTo::Count(count) => count,
        // More, on top of some that have not shown yet what they do: wait for them.
        StepTo::Change(change) if change > 0 && counts.seasoned < counts.current => counts.current,
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
