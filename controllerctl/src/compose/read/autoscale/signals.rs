//! `metrics` and `steps`: what is measured, in the unit of each signal.

use longshore_model::autoscale::{
    AutoscaleSpec, ExternalQuery, Metric, Signal, Step, StepRule, StepTo, TargetKind,
};

use super::super::super::problem::Problems;
use super::super::super::units;
use super::super::deploy::REPLICAS_MAX;
use super::super::item::{Fields, Item};

const OWN: [Signal; 8] = [
    Signal::NodeCpu,
    Signal::Cpu,
    Signal::Memory,
    Signal::Requests,
    Signal::Queue,
    Signal::Concurrency,
    Signal::Latency,
    Signal::Errors,
];

/// A value of a signal in its unit; above 0.
fn value(signal: &Signal, text: &str) -> Result<f64, String> {
    match signal {
        Signal::NodeCpu | Signal::Cpu | Signal::Memory | Signal::Errors => units::ratio(text),
        Signal::Requests => units::per_second(text),
        // A count of milliseconds up to a day is exact.
        #[allow(clippy::cast_precision_loss)]
        Signal::Latency => match units::duration_ms(text)? {
            0 => Err(format!("{text:?} must be above 0")),
            ms => Ok(ms as f64),
        },
        Signal::Queue | Signal::Concurrency | Signal::Prometheus(_) => units::amount(text),
    }
}

pub(super) fn metrics<'a>(
    fields: &mut Fields<'a>,
    metrics: &mut Vec<(Metric, Item<'a>)>,
    p: &mut Problems,
) {
    for signal in OWN {
        let Some(item) = fields.take(signal.as_str()) else {
            continue;
        };
        let scalar = match &signal {
            Signal::Latency if item.is_map() => average(&item, p),
            _ => Some(item.clone()),
        };
        let target = scalar.and_then(|item| read(&item, &signal, p));
        if let Some(target) = target {
            let kind = signal.default_kind();
            let metric = Metric {
                signal,
                target,
                kind,
            };
            metrics.push((metric, item));
        }
    }
    if let Some(item) = fields.take("prometheus")
        && let Some(metric) = external_metric(&item, p)
    {
        metrics.push((metric, item));
    }
}

fn read(item: &Item<'_>, signal: &Signal, p: &mut Problems) -> Option<f64> {
    let text = item.text(p)?;
    let read = value(signal, text);
    read.map_err(|message| item.invalid(p, message)).ok()
}

/// `{ average: 250ms }`.
fn average<'a>(item: &Item<'a>, p: &mut Problems) -> Option<Item<'a>> {
    let mut fields = item.fields(p)?;
    let average = fields.take("average");
    fields.finish(
        p,
        &[(
            "percentile",
            "HAProxy counts averages only; a percentile can be asked of prometheus",
        )],
    );
    if average.is_none() && item.node.get("percentile").is_none() {
        item.lacks(
            p,
            &["average"],
            "has no average",
            "for example: latency: 250ms",
        );
    }
    average
}

/// `{ url: "http://10.0.0.9:9090", query: "sum(jobs)", target: 50, type: average }`.
fn external_metric(item: &Item<'_>, p: &mut Problems) -> Option<Metric> {
    let mut fields = item.fields(p)?;
    let signal = external(&mut fields, p);
    let target = fields.take("target");
    let kinds = [
        ("average", TargetKind::AverageValue),
        ("value", TargetKind::Value),
    ];
    let kind = fields.take("type").and_then(|i| i.choice(p, &kinds));
    fields.finish(p, &[]);
    queries(item, p);
    if item.node.get("target").is_none() {
        item.lacks(p, &["target"], "has no target", "for example: target: 50");
    }
    let signal = signal?;
    let target = target.and_then(|i| read(&i, &signal, p))?;
    Some(Metric {
        kind: kind.unwrap_or_else(|| signal.default_kind()),
        signal,
        target,
    })
}

fn external(fields: &mut Fields<'_>, p: &mut Problems) -> Option<Signal> {
    let url = fields.take("url").and_then(|i| i.word(p));
    let query = fields.take("query").and_then(|i| i.word(p));
    Some(Signal::Prometheus(ExternalQuery { url, query: query? }))
}

fn queries(item: &Item<'_>, p: &mut Problems) {
    if item.node.get("query").is_none() {
        let example = "for example: query: \"sum(jobs_waiting)\"";
        item.lacks(p, &["query"], "has no query", example);
    }
}

/// `- node_cpu: { 20%: 2, 80%: +2 }`, or `- node_cpu: { each: 10% }` for one replica per 10 %;
/// `- prometheus: { query: jobs, steps: { 10: 2 } }`.
pub(super) fn steps<'a>(
    item: &Item<'a>,
    max: Option<u32>,
    p: &mut Problems,
) -> Vec<(StepRule, Item<'a>)> {
    let mut rules = Vec::new();
    for entry in item.items(p) {
        let Some(mut fields) = entry.fields(p) else {
            continue;
        };
        for signal in OWN {
            if let Some(rule) = fields.take(signal.as_str()) {
                let steps = staircase(&rule, &signal, max, p);
                rules.extend(steps.map(|steps| (StepRule { signal, steps }, rule)));
            }
        }
        if let Some(rule) = fields.take("prometheus") {
            let read = external_steps(&rule, max, p);
            rules.extend(read.map(|read| (read, rule)));
        }
        fields.finish(p, &[]);
    }
    rules
}

fn external_steps(item: &Item<'_>, max: Option<u32>, p: &mut Problems) -> Option<StepRule> {
    let mut fields = item.fields(p)?;
    let signal = external(&mut fields, p);
    let steps = fields.take("steps");
    fields.finish(p, &[]);
    queries(item, p);
    if steps.is_none() {
        item.lacks(
            p,
            &["steps"],
            "has no steps",
            "for example: steps: { 10: 2, 100: 5 }",
        );
    }
    let (signal, steps) = (signal?, steps?);
    let steps = staircase(&steps, &signal, max, p)?;
    Some(StepRule { signal, steps })
}

fn staircase(
    item: &Item<'_>,
    signal: &Signal,
    max: Option<u32>,
    p: &mut Problems,
) -> Option<Vec<Step>> {
    match item.node.get("each") {
        Some(_) => each(item, signal, max, p),
        None => thresholds(item, signal, p),
    }
}

/// One replica for each such amount, at least one: up to 100 % for shares of nodes or limits, else up to `max`.
fn each(item: &Item<'_>, signal: &Signal, max: Option<u32>, p: &mut Problems) -> Option<Vec<Step>> {
    let mut fields = item.fields(p)?;
    let each = fields.take("each");
    let each = each.and_then(|i| read(&i, signal, p));
    fields.finish(p, &[]);
    let each = each?;
    let most = f64::from(max.unwrap_or(REPLICAS_MAX));
    let share = signal.default_kind() == TargetKind::Utilization || *signal == Signal::Errors;
    // 0.1 goes nine times and a bit into 1.0 as doubles.
    let fit = (1.0 / each + 1e-9).floor();
    let steps = if share { fit.min(most) } else { most };
    #[allow(clippy::cast_precision_loss)]
    let limit = AutoscaleSpec::STEPS_MAX as f64;
    if !(1.0..=limit).contains(&steps) {
        item.invalid_help(
            p,
            format!("each must make 1 to {limit} steps, not {steps}"),
            "up to 100% for shares, else up to max; a target does the same without steps",
        );
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = steps as u32;
    // Below the first amount one stays: without a step there the count would never come back to it.
    let step = |n| Step {
        at: if n == 1 { 0.0 } else { each * f64::from(n) },
        to: StepTo::Count(n),
    };
    Some((1..=count).map(step).collect())
}

fn thresholds(item: &Item<'_>, signal: &Signal, p: &mut Problems) -> Option<Vec<Step>> {
    let errors_before = p.errors();
    let mut steps = Vec::new();
    for (key, entry) in item.entries(p)? {
        let at = match value(signal, &key.name) {
            Ok(at) => at,
            // From 0 on is a threshold too: the floor of a staircase.
            Err(_) if matches!(key.name.as_str(), "0" | "0%" | "0ms" | "0s" | "0/s") => 0.0,
            Err(message) => {
                p.error("invalid", key.place, &entry.path, message).file();
                continue;
            }
        };
        let Some(text) = entry.text(p) else { continue };
        let to = if text.starts_with(['+', '-']) {
            text.parse().ok().map(StepTo::Change)
        } else {
            text.parse().ok().map(StepTo::Count)
        };
        match to {
            Some(to) => steps.push(Step { at, to }),
            None => entry.invalid(p, format!("{text:?} must be a count (3) or a change (+2)")),
        }
    }
    steps.sort_by(|a, b| a.at.total_cmp(&b.at));
    (p.errors() == errors_before).then_some(steps)
}
