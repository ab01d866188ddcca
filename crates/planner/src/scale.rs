//! How many replicas each service shall have, and why not more or fewer.

use longshore_model::autoscale::{AutoscaleMode, OnMissing};
use longshore_model::reason::ScaleCause;
use longshore_model::report::ScaleReport;
use longshore_model::{AutoscaleSpec, ManualScale, Reason, ServiceSpec};

use crate::draft::Draft;
use crate::policy;
use crate::signal::{self, Ask};

/// Decides the count of every service.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        let scale = match draft.services[service].spec {
            Some(spec) => desired(draft, service, spec),
            None => down(draft, service),
        };
        let wanted = draft.target(service);
        let report = &mut draft.services[service].report;
        report.wanted = wanted;
        report.scale = scale;
    }
}

fn down(draft: &mut Draft<'_>, service: usize) -> ScaleReport {
    if draft.target(service) > 0 {
        draft.change_target(service, 0, ScaleCause::Down);
    }
    ScaleReport::default()
}

/// Bounds in force. A file that has them crosswise gets `min` for both.
fn bounds(spec: &ServiceSpec) -> (u32, u32) {
    spec.autoscale.as_ref().map_or((0, u32::MAX), |policy| {
        (policy.min, policy.max.max(policy.min))
    })
}

fn desired(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) -> ScaleReport {
    let (min, max) = bounds(spec);
    follow_file(draft, service, spec, (min, max));
    let (report_min, report_max) = if spec.autoscale.is_some() {
        (min, max)
    } else {
        (spec.replicas, spec.replicas)
    };
    let mut report = ScaleReport {
        min: report_min,
        max: report_max,
        ..ScaleReport::default()
    };
    let manual = obey_manual(draft, service, spec, (min, max));
    let Some(policy) = &spec.autoscale else {
        report.reasons.push(Reason::Fixed);
        return report;
    };
    let held = manual
        .and_then(|m| m.hold_until_ms)
        .filter(|&until| until > draft.input.now_ms);
    let signals = signal::read(draft, service, policy);
    report.signals = signals.iter().map(|ask| ask.report.clone()).collect();
    if let Some(until_ms) = held {
        draft.look_again(service, until_ms);
        report.reasons.push(Reason::Held {
            until_ms: Some(until_ms),
        });
        return report;
    }
    let target = draft.target(service);
    let clamped = target.clamp(min, max);
    if clamped != target {
        draft.change_target(service, clamped, ScaleCause::Bounds { min, max });
    }
    follow_load(draft, service, policy, &signals, &mut report);
    report
}

/// First count, routes, drain time, and a fixed count that changed in the file.
fn follow_file(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec, bounds: (u32, u32)) {
    let key = draft.services[service].key.clone();
    let entry = draft.planned(service);
    let came_back = |e: &longshore_model::plan::ServicePlan| {
        e.last_change
            .as_ref()
            .is_none_or(|change| change.cause == ScaleCause::Down)
    };
    let new = entry.is_none_or(came_back);
    let file_changed = entry.is_some_and(|entry| entry.file_replicas != spec.replicas);
    let as_file = entry.is_some_and(|entry| {
        entry.drain_ms == spec.drain_ms
            && entry.file_replicas == spec.replicas
            && entry.routes == spec.routes
    });
    if !as_file {
        let entry = draft.entry(service);
        entry.drain_ms = spec.drain_ms;
        entry.file_replicas = spec.replicas;
        if entry.routes != spec.routes {
            entry.routes.clone_from(&spec.routes);
            draft.routes_dirty = true;
        }
    }
    if new {
        let applied_ms = draft.services[service].app.map_or(0, |app| app.applied_ms);
        // A count that was said to an earlier life of this service is not for this one.
        let stale = draft
            .input
            .desired
            .manual
            .get(&key)
            .filter(|m| m.at_ms < applied_ms);
        let obeyed = stale.map(|manual| manual.at_ms);
        draft.entry(service).manual_obeyed_ms = obeyed;
        let first = spec.replicas.clamp(bounds.0, bounds.1);
        draft.change_target(service, first, ScaleCause::Initial);
    } else if file_changed && spec.autoscale.is_none() && draft.target(service) != spec.replicas {
        let cause = ScaleCause::Bounds {
            min: spec.replicas,
            max: spec.replicas,
        };
        draft.change_target(service, spec.replicas, cause);
    }
}

/// A count that a person set, once. Returns the last one said to this life of the service.
fn obey_manual<'a>(
    draft: &mut Draft<'a>,
    service: usize,
    spec: &ServiceSpec,
    (min, max): (u32, u32),
) -> Option<&'a ManualScale> {
    let manual = draft
        .input
        .desired
        .manual
        .get(&draft.services[service].key)?;
    let applied_ms = draft.services[service].app.map_or(0, |app| app.applied_ms);
    let obeyed = draft.planned(service);
    if let Some(entry) = obeyed.filter(|e| e.manual_obeyed_ms == Some(manual.at_ms)) {
        let ours = manual.at_ms >= applied_ms
            || entry
                .changes
                .iter()
                .any(|c| matches!(c.cause, ScaleCause::Manual { .. }) && c.at_ms >= manual.at_ms);
        return ours.then_some(manual);
    }
    let held = manual
        .hold_until_ms
        .is_some_and(|until| until > draft.input.now_ms);
    let free = spec.autoscale.is_none() || held;
    let to = if free {
        manual.count
    } else {
        manual.count.clamp(min, max)
    };
    draft.entry(service).manual_obeyed_ms = Some(manual.at_ms);
    if draft.target(service) != to {
        draft.change_target(
            service,
            to,
            ScaleCause::Manual {
                by: manual.by.clone(),
            },
        );
    }
    if let Some(policy) = &spec.autoscale {
        // The down window starts from what the person said.
        policy::remember(draft, service, policy, to);
    }
    Some(manual)
}

/// The metrics' part.
fn follow_load(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    signals: &[Ask],
    report: &mut ScaleReport,
) {
    let (min, max) = (report.min, report.max);
    let current = draft.target(service);
    for ask in signals.iter().filter(|ask| ask.partial()) {
        report.reasons.push(Reason::MissingSamples {
            signal: ask.report.signal.clone(),
            good: ask.report.good,
            all: ask.report.all,
        });
    }
    let Some(best) = signals
        .iter()
        .filter(|ask| ask.count.is_some())
        .max_by_key(|ask| ask.count)
    else {
        return without_samples(draft, service, policy, report);
    };
    let asked = best.count.unwrap_or(current);
    report.recommendation = Some(asked);
    let bounded = asked.clamp(min, max);
    let incomplete = signals.iter().any(Ask::partial);
    let wanted = if bounded < current && incomplete {
        current
    } else {
        bounded
    };
    policy::remember(draft, service, policy, wanted);
    let decision = policy::decide(draft, service, policy, wanted);
    if asked > max {
        report.reasons.push(Reason::AtMax);
    } else if asked < min {
        report.reasons.push(Reason::AtMin);
    } else if asked == current {
        report.reasons.push(Reason::InsideTolerance);
    }
    report.reasons.extend(decision.reasons);
    if decision.count == current {
        return;
    }
    if policy.mode != AutoscaleMode::On {
        report.reasons.push(Reason::DryRun {
            would_be: decision.count,
        });
        return;
    }
    let cause = ScaleCause::Metric {
        signal: best.report.signal.clone(),
        value: best.report.value.unwrap_or_default(),
        target: best.report.target,
        limited_by: decision.limited_by,
    };
    draft.change_target(service, decision.count, cause);
}

/// No signal has a good sample.
fn without_samples(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    report: &mut ScaleReport,
) {
    let current = draft.target(service);
    policy::remember(draft, service, policy, current);
    if policy.on_missing == OnMissing::Hold || policy.mode != AutoscaleMode::On {
        return;
    }
    // Those of the last change may still be starting.
    if let Some(reason) = policy::held_down(draft, service, policy) {
        report.reasons.push(reason);
        return;
    }
    // Only what does not serve anyway is given back.
    let serving = draft.active(service).into_iter().filter(|&row| {
        draft
            .replica(row)
            .is_some_and(|r| r.traffic == longshore_model::plan::Traffic::Serve)
    });
    let serving = u32::try_from(serving.count()).unwrap_or(u32::MAX);
    let count = serving
        .clamp(report.min, report.max)
        .min(current.max(report.min));
    if count != current {
        let cause = ScaleCause::Bounds {
            min: report.min,
            max: report.max,
        };
        draft.change_target(service, count, cause);
    }
}
