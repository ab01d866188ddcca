//! `longshore.spec.v1`: the autoscaler's part.

use longshore_model::autoscale::{
    AutoscaleMode, AutoscaleSpec, Behavior, ExternalQuery, Metric, OnMissing, RateAmount,
    RatePolicy, Schedule, ScheduleEnd, Signal, Step, StepRule, StepTo, TargetKind,
};
use longshore_proto::spec::v1 as pb;

use crate::error::{WireError, invalid, list, required};
use crate::spec::duration;

/// A ratio or threshold: a number, not negative.
fn amount(field: &'static str, value: f64) -> Result<f64, WireError> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(value),
        false => Err(invalid(field, "must be a number of 0 or more")),
    }
}

fn signal_to(signal: &Signal) -> (i32, Option<pb::ExternalQuery>) {
    let word = match signal {
        Signal::NodeCpu => pb::Signal::NodeCpu,
        Signal::Cpu => pb::Signal::Cpu,
        Signal::Memory => pb::Signal::Memory,
        Signal::Requests => pb::Signal::Requests,
        Signal::Queue => pb::Signal::Queue,
        Signal::Concurrency => pb::Signal::Concurrency,
        Signal::Latency => pb::Signal::Latency,
        Signal::Errors => pb::Signal::Errors,
        Signal::Prometheus(_) => pb::Signal::Prometheus,
    };
    let external = match signal {
        Signal::Prometheus(external) => Some(pb::ExternalQuery {
            url: external.url.clone(),
            query: external.query.clone(),
        }),
        _ => None,
    };
    (word.into(), external)
}

fn signal_from(
    signal: pb::Signal,
    external: Option<pb::ExternalQuery>,
) -> Result<Signal, WireError> {
    Ok(match signal {
        pb::Signal::NodeCpu => Signal::NodeCpu,
        pb::Signal::Cpu => Signal::Cpu,
        pb::Signal::Memory => Signal::Memory,
        pb::Signal::Requests => Signal::Requests,
        pb::Signal::Queue => Signal::Queue,
        pb::Signal::Concurrency => Signal::Concurrency,
        pb::Signal::Latency => Signal::Latency,
        pb::Signal::Errors => Signal::Errors,
        pb::Signal::Prometheus => {
            let pb::ExternalQuery { url, query } = required("autoscale.external", external)?;
            Signal::Prometheus(ExternalQuery { url, query })
        }
        pb::Signal::Unspecified => return Err(invalid("autoscale.signal", "is not known")),
    })
}

fn metric_to(metric: &Metric) -> pb::Metric {
    let (signal, external) = signal_to(&metric.signal);
    let kind = match metric.kind {
        TargetKind::Utilization => pb::TargetKind::Utilization,
        TargetKind::AverageValue => pb::TargetKind::AverageValue,
        TargetKind::Value => pb::TargetKind::Value,
    };
    pb::Metric {
        signal,
        target: metric.target,
        kind: kind.into(),
        external,
    }
}

fn metric_from(metric: pb::Metric) -> Result<Metric, WireError> {
    let target = amount("autoscale.metrics.target", metric.target)?;
    if target == 0.0 {
        return Err(invalid("autoscale.metrics.target", "must be above 0"));
    }
    let kind = metric.kind();
    let signal = signal_from(metric.signal(), metric.external)?;
    let kind = match kind {
        pb::TargetKind::Unspecified => signal.default_kind(),
        pb::TargetKind::Utilization => TargetKind::Utilization,
        pb::TargetKind::AverageValue => TargetKind::AverageValue,
        pb::TargetKind::Value => TargetKind::Value,
    };
    Ok(Metric {
        signal,
        target,
        kind,
    })
}

fn rule_to(rule: &StepRule) -> pb::StepRule {
    let step = |step: &Step| pb::Step {
        at: step.at,
        to: Some(match step.to {
            StepTo::Count(count) => pb::step::To::Count(count),
            StepTo::Change(change) => pb::step::To::Change(change),
        }),
    };
    let (signal, external) = signal_to(&rule.signal);
    pb::StepRule {
        signal,
        steps: rule.steps.iter().map(step).collect(),
        external,
    }
}

fn rule_from(rule: pb::StepRule) -> Result<StepRule, WireError> {
    let signal = signal_from(rule.signal(), rule.external)?;
    let steps = list("autoscale.steps.steps", 64, rule.steps, |step| {
        let to = match required("autoscale.steps.to", step.to)? {
            pb::step::To::Count(count) => StepTo::Count(count),
            pb::step::To::Change(change) => StepTo::Change(change),
        };
        Ok(Step {
            at: amount("autoscale.steps.at", step.at)?,
            to,
        })
    })?;
    if !steps.is_sorted_by(|a, b| a.at < b.at) {
        return Err(invalid("autoscale.steps.at", "thresholds must rise"));
    }
    Ok(StepRule { signal, steps })
}

fn schedule_to(schedule: &Schedule) -> pb::Schedule {
    pb::Schedule {
        name: schedule.name.clone(),
        start: schedule.start.clone(),
        end: Some(match &schedule.end {
            ScheduleEnd::After(ms) => pb::schedule::End::AfterMs(*ms),
            ScheduleEnd::At(cron) => pb::schedule::End::At(cron.clone()),
        }),
        time_zone: schedule.time_zone.clone(),
        min: schedule.min,
        max: schedule.max,
    }
}

fn schedule_from(schedule: pb::Schedule) -> Result<Schedule, WireError> {
    let end = match required("autoscale.schedules.end", schedule.end)? {
        pb::schedule::End::AfterMs(ms) => ScheduleEnd::After(ms),
        pb::schedule::End::At(cron) => ScheduleEnd::At(cron),
    };
    Ok(Schedule {
        name: schedule.name,
        start: schedule.start,
        end,
        time_zone: schedule.time_zone,
        min: schedule.min,
        max: schedule.max,
    })
}

pub(crate) fn autoscale_to(spec: &AutoscaleSpec) -> pb::AutoscaleSpec {
    pb::AutoscaleSpec {
        min: spec.min,
        max: spec.max,
        metrics: spec.metrics.iter().map(metric_to).collect(),
        steps: spec.steps.iter().map(rule_to).collect(),
        window_ms: spec.window_ms,
        warmup_ms: spec.warmup_ms,
        scale_up: Some(behavior_to(&spec.scale_up)),
        scale_down: Some(behavior_to(&spec.scale_down)),
        on_missing: match spec.on_missing {
            OnMissing::Hold => pb::OnMissing::Hold,
            OnMissing::ScaleToMin => pb::OnMissing::ScaleToMin,
        }
        .into(),
        mode: match spec.mode {
            AutoscaleMode::On => pb::AutoscaleMode::On,
            AutoscaleMode::DryRun => pb::AutoscaleMode::DryRun,
            AutoscaleMode::Approve => pb::AutoscaleMode::Approve,
        }
        .into(),
        schedules: spec.schedules.iter().map(schedule_to).collect(),
        warm: spec.warm,
    }
}

pub(crate) fn autoscale_from(spec: pb::AutoscaleSpec) -> Result<AutoscaleSpec, WireError> {
    if spec.min > spec.max {
        let rule = format!("min {} is above max {}", spec.min, spec.max);
        return Err(invalid("autoscale.min", rule));
    }
    let (on_missing, mode) = (spec.on_missing(), spec.mode());
    Ok(AutoscaleSpec {
        min: spec.min,
        max: spec.max,
        metrics: list("autoscale.metrics", 16, spec.metrics, metric_from)?,
        steps: list("autoscale.steps", 16, spec.steps, rule_from)?,
        window_ms: duration("autoscale.window_ms", spec.window_ms)?.max(1000),
        warmup_ms: duration("autoscale.warmup_ms", spec.warmup_ms)?,
        scale_up: behavior_from(required("autoscale.scale_up", spec.scale_up)?)?,
        scale_down: behavior_from(required("autoscale.scale_down", spec.scale_down)?)?,
        on_missing: match on_missing {
            pb::OnMissing::ScaleToMin => OnMissing::ScaleToMin,
            _ => OnMissing::Hold,
        },
        mode: match mode {
            pb::AutoscaleMode::DryRun => AutoscaleMode::DryRun,
            pb::AutoscaleMode::Approve => AutoscaleMode::Approve,
            _ => AutoscaleMode::On,
        },
        schedules: list("autoscale.schedules", 16, spec.schedules, schedule_from)?,
        warm: spec.warm,
    })
}

fn behavior_to(b: &Behavior) -> pb::Behavior {
    pb::Behavior {
        stabilization_ms: b.stabilization_ms,
        tolerance: b.tolerance,
        policies: b
            .policies
            .iter()
            .map(|policy| pb::RatePolicy {
                amount: Some(match policy.amount {
                    RateAmount::Replicas(n) => pb::rate_policy::Amount::Replicas(n),
                    RateAmount::Percent(n) => pb::rate_policy::Amount::Percent(n),
                }),
                period_ms: policy.period_ms,
            })
            .collect(),
        select_min: b.select_min,
    }
}

fn behavior_from(b: pb::Behavior) -> Result<Behavior, WireError> {
    Ok(Behavior {
        stabilization_ms: duration("behavior.stabilization_ms", b.stabilization_ms)?,
        tolerance: amount("behavior.tolerance", b.tolerance)?,
        policies: list("behavior.policies", 16, b.policies, |policy| {
            let amount = match required("behavior.policies.amount", policy.amount)? {
                pb::rate_policy::Amount::Replicas(n) => RateAmount::Replicas(n),
                pb::rate_policy::Amount::Percent(n) => RateAmount::Percent(n),
            };
            let period_ms = duration("behavior.policies.period_ms", policy.period_ms)?;
            Ok(RatePolicy { amount, period_ms })
        })?,
        select_min: b.select_min,
    })
}
