//! `x-autoscale`: how the count follows the load.

use longshore_model::autoscale::{
    AutoscaleMode, AutoscaleSpec, Behavior, Metric, OnMissing, RateAmount, RatePolicy, Signal,
    Step, StepRule, StepTo,
};
use longshore_model::spec::ContainerSpec;

use super::super::problem::Problems;
use super::super::units;
use super::deploy::REPLICAS_MAX;
use super::item::{Fields, Item};
use super::keys;

/// Most metrics, step rules or rate policies, as the wire allows.
const LIST_MAX: usize = 16;
/// Most thresholds of one rule, as the wire allows.
const STEPS_MAX: usize = 64;

/// Signals of the format that are not measured yet.
const LATER: [&str; 7] = [
    "memory",
    "requests",
    "queue",
    "concurrency",
    "latency",
    "errors",
    "prometheus",
];

pub(super) fn read(
    item: Option<Item<'_>>,
    container: &ContainerSpec,
    p: &mut Problems,
) -> Option<AutoscaleSpec> {
    let item = item?;
    let mut fields = item.fields(p)?;
    let min = fields
        .take("min")
        .and_then(|i| i.number(p, 1, REPLICAS_MAX));
    let max = fields
        .take("max")
        .and_then(|i| i.number(p, 1, REPLICAS_MAX));
    let mut metrics = Vec::new();
    // The short form: signals right here.
    signals(&mut fields, &mut metrics, p);
    if let Some(list) = fields.take("metrics") {
        for entry in list.items(p) {
            let Some(mut fields) = entry.fields(p) else {
                continue;
            };
            signals(&mut fields, &mut metrics, p);
            fields.finish(p, &[]);
        }
    }
    let steps = fields
        .take("steps")
        .map(|i| step_rules(&i, max, p))
        .unwrap_or_default();
    let mut time = |name, default, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        item.and_then(|item| item.duration_ms(p)).unwrap_or(default)
    };
    let window_ms = time("window", AutoscaleSpec::WINDOW_MS, p);
    let warmup_ms = time("warmup", AutoscaleSpec::WARMUP_MS, p);
    if window_ms < 1_000 {
        item.invalid(p, "window must be at least 1s");
    }
    let missing = [
        ("hold", OnMissing::Hold),
        ("scale-to-min", OnMissing::ScaleToMin),
    ];
    let on_missing = fields
        .take("on_missing")
        .and_then(|i| i.choice(p, &missing));
    let mode = fields.take("mode").map(|i| mode(&i, p)).unwrap_or_default();
    let (scale_up, scale_down) = behaviors(fields.take("behavior"), p);
    fields.finish(p, keys::AUTOSCALE);
    if item.node.get("max").is_none() {
        item.invalid(p, "has no max");
    }
    check(&item, &metrics, &steps, container, p);
    let min = min.unwrap_or(1);
    let max = max?;
    if min > max {
        item.invalid(p, format!("min {min} is above max {max}"));
        return None;
    }
    let on_missing = on_missing.unwrap_or_default();
    Some(AutoscaleSpec {
        min,
        max,
        metrics,
        steps,
        window_ms,
        warmup_ms,
        scale_up,
        scale_down,
        on_missing,
        mode,
        schedules: Vec::new(),
        warm: 0,
    })
}

/// What only shows when all of it was read.
fn check(
    item: &Item<'_>,
    metrics: &[Metric],
    steps: &[StepRule],
    container: &ContainerSpec,
    p: &mut Problems,
) {
    let asked = ["metrics", "steps", "cpu", "node_cpu"]
        .iter()
        .any(|k| item.node.get(k).is_some())
        || LATER.iter().any(|k| item.node.get(k).is_some());
    if !asked {
        item.invalid_help(
            p,
            "has neither metrics nor steps",
            "for example: node_cpu: 60%",
        );
    }
    if metrics.len() > LIST_MAX || steps.len() > LIST_MAX {
        item.invalid(p, format!("more than {LIST_MAX} metrics or step rules"));
    }
    let signals = metrics
        .iter()
        .map(|m| &m.signal)
        .chain(steps.iter().map(|s| &s.signal));
    let resources = container.resources;
    if signals.into_iter().any(|s| *s == Signal::Cpu)
        && resources.cpu_limit_milli == 0
        && resources.cpu_reserved_milli == 0
    {
        item.invalid_help(
            p,
            "cpu is a share of limits.cpus or reservations.cpus, and the service has neither",
            "set deploy.resources.reservations.cpus, or use node_cpu",
        );
    }
}

fn signals(fields: &mut Fields<'_>, metrics: &mut Vec<Metric>, p: &mut Problems) {
    for signal in [Signal::NodeCpu, Signal::Cpu] {
        if let Some(item) = fields.take(signal.as_str())
            && let Some(target) = item.ratio(p)
        {
            let kind = signal.default_kind();
            metrics.push(Metric {
                signal,
                target,
                kind,
            });
        }
    }
    for name in LATER {
        if let Some(item) = fields.take(name) {
            let message = format!("not supported yet: {name}");
            p.error("not_supported", item.key, &item.path, message)
                .help("supported now: node_cpu, cpu")
                .file();
        }
    }
}

fn mode(item: &Item<'_>, p: &mut Problems) -> AutoscaleMode {
    match item.text(p) {
        Some("on" | "true") => AutoscaleMode::On,
        Some("dry-run") => AutoscaleMode::DryRun,
        Some("approve") => {
            item.invalid(p, "not supported yet: approve");
            AutoscaleMode::DryRun
        }
        Some(other) => {
            item.invalid(p, format!("{other:?} is none of: on, dry-run"));
            AutoscaleMode::On
        }
        None => AutoscaleMode::On,
    }
}

/// `- node_cpu: { 20%: 2, 80%: +2 }`, or `- node_cpu: { each: 10% }` for one replica per 10 %.
fn step_rules(item: &Item<'_>, max: Option<u32>, p: &mut Problems) -> Vec<StepRule> {
    let mut rules = Vec::new();
    for entry in item.items(p) {
        let Some(mut fields) = entry.fields(p) else {
            continue;
        };
        for signal in [Signal::NodeCpu, Signal::Cpu] {
            let Some(rule) = fields.take(signal.as_str()) else {
                continue;
            };
            let steps = match rule.node.get("each") {
                Some(_) => each(&rule, max, p),
                None => thresholds(&rule, p),
            };
            if !steps.is_empty() {
                rules.push(StepRule { signal, steps });
            }
        }
        fields.finish(p, &[]);
    }
    rules
}

fn each(item: &Item<'_>, max: Option<u32>, p: &mut Problems) -> Vec<Step> {
    let Some(mut fields) = item.fields(p) else {
        return Vec::new();
    };
    let share = fields.take("each").and_then(|i| i.ratio(p));
    fields.finish(p, &[]);
    let Some(share) = share else {
        return Vec::new();
    };
    let steps = (1.0 / share)
        .floor()
        .min(f64::from(max.unwrap_or(REPLICAS_MAX)));
    if !(1.0..=64.0).contains(&steps) {
        item.invalid(
            p,
            format!("each must make 1 to {STEPS_MAX} steps up to 100%"),
        );
        return Vec::new();
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = steps as u32;
    (1..=count)
        .map(|n| Step {
            at: share * f64::from(n),
            to: StepTo::Count(n),
        })
        .collect()
}

fn thresholds(item: &Item<'_>, p: &mut Problems) -> Vec<Step> {
    let mut steps = Vec::new();
    for (key, value) in item.entries(p).unwrap_or_default() {
        let at = match units::ratio(&key.name) {
            Ok(at) => at,
            // From 0 on is a threshold too: the floor of a staircase.
            Err(_) if matches!(key.name.as_str(), "0" | "0%") => 0.0,
            Err(message) => {
                p.error("invalid", key.place, &value.path, message).file();
                continue;
            }
        };
        let Some(text) = value.text(p) else { continue };
        let to = if text.starts_with(['+', '-']) {
            text.parse().ok().map(StepTo::Change)
        } else {
            text.parse().ok().map(StepTo::Count)
        };
        match to {
            Some(to) => steps.push(Step { at, to }),
            None => value.invalid(p, format!("{text:?} must be a count (3) or a change (+2)")),
        }
    }
    if steps.len() > STEPS_MAX {
        item.invalid(p, format!("more than {STEPS_MAX} thresholds"));
        steps.clear();
    }
    steps.sort_by(|a, b| a.at.total_cmp(&b.at));
    steps
}

fn behaviors(item: Option<Item<'_>>, p: &mut Problems) -> (Behavior, Behavior) {
    let (mut up, mut down) = (AutoscaleSpec::default_up(), AutoscaleSpec::default_down());
    if let Some(mut fields) = item.and_then(|item| item.fields(p)) {
        if let Some(i) = fields.take("scale_up") {
            behavior(&i, &mut up, p);
        }
        if let Some(i) = fields.take("scale_down") {
            behavior(&i, &mut down, p);
        }
        fields.finish(p, &[]);
    }
    (up, down)
}

fn behavior(item: &Item<'_>, behavior: &mut Behavior, p: &mut Problems) {
    let Some(mut fields) = item.fields(p) else {
        return;
    };
    if let Some(ms) = fields.take("stabilization").and_then(|i| i.duration_ms(p)) {
        behavior.stabilization_ms = ms;
    }
    if let Some(tolerance) = fields.take("tolerance").and_then(|i| i.decimal(p, 10.0)) {
        behavior.tolerance = tolerance;
    }
    if let Some(min) = fields
        .take("select")
        .and_then(|i| i.choice(p, &[("max", false), ("min", true)]))
    {
        behavior.select_min = min;
    }
    if let Some(list) = fields.take("policies") {
        let items = list.items(p);
        if items.len() > LIST_MAX {
            list.invalid(p, format!("more than {LIST_MAX} policies"));
        }
        behavior.policies = items.iter().filter_map(|i| policy(i, p)).collect();
    }
    fields.finish(p, &[]);
}

fn policy(item: &Item<'_>, p: &mut Problems) -> Option<RatePolicy> {
    let mut fields = item.fields(p)?;
    let replicas = fields
        .take("replicas")
        .and_then(|i| i.number(p, 1, REPLICAS_MAX));
    let percent = fields.take("percent").and_then(|i| i.number(p, 1, 10_000));
    let period_ms = fields.take("period").and_then(|i| i.duration_ms(p));
    fields.finish(p, &[]);
    let amount = match (replicas, percent) {
        (Some(n), None) => RateAmount::Replicas(n),
        (None, Some(n)) => RateAmount::Percent(n),
        _ => {
            item.invalid(p, "needs either replicas or percent");
            return None;
        }
    };
    match period_ms {
        Some(period_ms) if period_ms > 0 => Some(RatePolicy { amount, period_ms }),
        _ => {
            item.invalid(p, "needs a period, for example 15s");
            None
        }
    }
}
