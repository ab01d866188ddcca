//! `x-autoscale`: how the count follows the load. The forms are read here, with positions; what
//! they may say together is the model's rule, which the controller asks again.

mod behavior;
mod schedules;
mod signals;

use longshore_model::autoscale::{
    AutoscaleError, AutoscaleFault, AutoscaleMode, AutoscalePart, AutoscaleSpec, Direction, Metric,
    OnMissing, ScheduleError, StepRule, time_zones,
};
use longshore_model::spec::ContainerSpec;

use super::super::problem::{Problems, did_you_mean};
use super::deploy::REPLICAS_MAX;
use super::item::{Fields, Item};
use super::keys;

/// What was read, and where it stands.
struct Parts<'a> {
    metrics: Vec<(Metric, Item<'a>)>,
    steps: Vec<(StepRule, Item<'a>)>,
    schedules: Vec<(longshore_model::autoscale::Schedule, Item<'a>)>,
}

/// Reads the policy of a service that HAProxy reaches (`routed`) or not.
pub(super) fn read(
    item: Option<Item<'_>>,
    container: &ContainerSpec,
    routed: bool,
    p: &mut Problems,
) -> Option<AutoscaleSpec> {
    let item = item?;
    let errors_before = p.errors();
    let mut fields = item.fields(p)?;
    let (min, max) = (fields.take("min"), fields.take("max"));
    let min = min.and_then(|i| i.number(p, 0, REPLICAS_MAX)).unwrap_or(1);
    let max = max.and_then(|i| i.number(p, 1, REPLICAS_MAX));
    let parts = parts(&mut fields, max, p);
    let mut time = |name, default, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        item.and_then(|item| item.duration_ms(p)).unwrap_or(default)
    };
    let window_ms = time("window", AutoscaleSpec::WINDOW_MS, p);
    let warmup_ms = time("warmup", AutoscaleSpec::WARMUP_MS, p);
    let missing = [
        ("hold", OnMissing::Hold),
        ("scale-to-min", OnMissing::ScaleToMin),
    ];
    let on_missing = fields.take("on_missing");
    let on_missing = on_missing.and_then(|i| i.choice(p, &missing));
    let modes = [
        ("on", AutoscaleMode::On),
        // What YAML makes of `on`.
        ("true", AutoscaleMode::On),
        ("dry-run", AutoscaleMode::DryRun),
        ("approve", AutoscaleMode::Approve),
    ];
    let mode = fields.take("mode").and_then(|i| i.choice(p, &modes));
    let warm = fields.take("warm");
    let warm = warm.and_then(|i| i.number(p, 0, REPLICAS_MAX)).unwrap_or(0);
    let (scale_up, scale_down) = behavior::read(fields.take("behavior"), p);
    fields.finish(p, keys::AUTOSCALE);
    if item.node.get("max").is_none() {
        item.lacks(p, &["max"], "has no max", "add for example: max: 10");
    }
    let spec = AutoscaleSpec {
        min,
        max: max?,
        metrics: parts.metrics.iter().map(|(m, _)| m.clone()).collect(),
        steps: parts.steps.iter().map(|(s, _)| s.clone()).collect(),
        window_ms,
        warmup_ms,
        scale_up,
        scale_down,
        on_missing: on_missing.unwrap_or_default(),
        mode: mode.unwrap_or_default(),
        schedules: parts.schedules.iter().map(|(s, _)| s.clone()).collect(),
        warm,
    };
    // Of half of a policy nothing more can be said.
    if p.errors() > errors_before {
        return None;
    }
    for error in spec.faults(&container.resources, routed) {
        say(&error, &item, &parts, p);
    }
    (p.errors() == errors_before).then_some(spec)
}

fn parts<'a>(fields: &mut Fields<'a>, max: Option<u32>, p: &mut Problems) -> Parts<'a> {
    let mut metrics = Vec::new();
    // The short form: signals right here.
    signals::metrics(fields, &mut metrics, p);
    if let Some(list) = fields.take("metrics") {
        for entry in list.items(p) {
            let Some(mut fields) = entry.fields(p) else {
                continue;
            };
            signals::metrics(&mut fields, &mut metrics, p);
            fields.finish(p, &[]);
        }
    }
    let steps = fields.take("steps");
    let steps = steps.map(|i| signals::steps(&i, max, p));
    let schedules = fields.take("schedules");
    let schedules = schedules.map(|i| schedules::read(&i, p));
    Parts {
        metrics,
        steps: steps.unwrap_or_default(),
        schedules: schedules.unwrap_or_default(),
    }
}

/// Says what the model has found at the place where it stands.
fn say(error: &AutoscaleError, whole: &Item<'_>, parts: &Parts<'_>, p: &mut Problems) {
    let behavior = |name| whole.at("behavior").at(name);
    let entry = match error.part {
        AutoscalePart::Metric(n) => parts.metrics.get(n).map(|(_, item)| item.clone()),
        AutoscalePart::Step(n) => parts.steps.get(n).map(|(_, item)| item.clone()),
        AutoscalePart::Schedule(n) => {
            let entry = parts.schedules.get(n);
            entry.map(|(schedule, item)| schedules::place(schedule, item, &error.fault))
        }
        AutoscalePart::Min => Some(whole.at("min")),
        AutoscalePart::Max => Some(whole.at("max")),
        AutoscalePart::Window => Some(whole.at("window")),
        AutoscalePart::Warmup => Some(whole.at("warmup")),
        AutoscalePart::Warm => Some(whole.at("warm")),
        AutoscalePart::Behavior(Direction::Up) => Some(behavior("scale_up")),
        AutoscalePart::Behavior(Direction::Down) => Some(behavior("scale_down")),
        AutoscalePart::Whole => None,
    };
    let item = entry.as_ref().unwrap_or(whole);
    let message = error.fault.to_string();
    match help(&error.fault) {
        Some(help) => item.invalid_help(p, message, help),
        None => item.invalid(p, message),
    }
}

fn help(fault: &AutoscaleFault) -> Option<String> {
    if let AutoscaleFault::Schedule(ScheduleError::TimeZone { name }) = fault {
        let zones: Vec<String> = time_zones().collect();
        let near = keys::nearest(name, zones.iter().map(String::as_str));
        if let Some(near) = near {
            return Some(did_you_mean(near));
        }
    }
    fault.help().map(str::to_owned)
}
