//! How many replicas each service shall have, and why not more or fewer.

mod decide;

use longshore_model::reason::ScaleCause;
use longshore_model::report::{BoundSource, ScaleReport};
use longshore_model::{AutoscaleSpec, ManualScale, Reason, ServiceSpec, TimeMs};

use crate::bounds::{self, Bounds};
use crate::draft::Draft;
use crate::{each_node, jobs, policy};

/// Gives services that begin a life their first count. Before rollouts are looked at: the first
/// one would otherwise end at once, with nothing to exchange and nothing wanted.
pub(crate) fn begin(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        if let Some(spec) = draft.services[service].spec
            && new_life(draft, service)
        {
            first_count(draft, service, spec);
        }
    }
}

/// Never scaled, or taken down since.
fn new_life(draft: &Draft<'_>, service: usize) -> bool {
    let entry = draft.planned(service);
    let last = entry.and_then(|entry| entry.last_change.as_ref());
    last.is_none_or(|change| change.cause == ScaleCause::Down)
}

fn first_count(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) {
    let key = &draft.services[service].key;
    let applied_ms = draft.services[service].app.map_or(0, |app| app.applied_ms);
    // A count that was said to an earlier life of this service is not for this one.
    let manual = draft.input.desired.manual.get(key);
    // So is one by a clock that was put back before the service was applied anew.
    let now_ms = draft.input.now_ms;
    let before = |at_ms: TimeMs| at_ms < applied_ms || (applied_ms <= now_ms && now_ms < at_ms);
    let stale = manual.filter(|manual| before(manual.at_ms));
    let obeyed = stale.map(|manual| manual.at_ms);
    let first = match spec.is_global() {
        true => each_node::each(draft, service, spec).nodes,
        false => bounds::in_force(draft, service, spec).clamp(spec.replicas),
    };
    let entry = draft.entry(service);
    entry.manual_obeyed_ms = obeyed;
    entry.manual_is_stale = obeyed.is_some();
    entry.rollout = None;
    draft.change_target(service, first, ScaleCause::Initial);
}

/// Decides the count of every service.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        let scale = match draft.services[service].spec {
            Some(spec) if spec.job.is_some() => jobs::count(draft, service, spec),
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

fn desired(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) -> ScaleReport {
    let bounds = bounds::in_force(draft, service, spec);
    follow_file(draft, service, spec, &bounds);
    if spec.is_global() {
        return each_node::scale(draft, service, spec);
    }
    let manual = obey_manual(draft, service, spec, &bounds);
    let limit = limit(draft, service, spec, manual);
    let current = draft.target(service);
    let Some(policy) = &spec.autoscale else {
        return ScaleReport {
            current,
            result: current,
            min: spec.replicas,
            max: spec.replicas,
            reasons: [Reason::Fixed].into_iter().chain(limit).collect(),
            ..ScaleReport::default()
        };
    };
    let from_elsewhere = bounds.sources.iter();
    let from_elsewhere = from_elsewhere.filter(|bound| bound.source != BoundSource::File);
    let reasons = from_elsewhere.map(|bound| Reason::BoundsFrom {
        bound: bound.clone(),
    });
    let mut report = ScaleReport {
        current,
        result: current,
        min: bounds.min,
        max: bounds.max,
        bounds: bounds.sources.clone(),
        reasons: limit.into_iter().chain(reasons).collect(),
        ..ScaleReport::default()
    };
    decide::run(draft, service, policy, &bounds, manual, &mut report);
    report
}

/// Routes, drain time, and a fixed count that changed in the file.
fn follow_file(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec, bounds: &Bounds) {
    let entry = draft.planned(service);
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
            entry.ways_closed = spec.routes.is_empty();
            draft.routes_dirty = true;
        }
    }
    let to = bounds.clamp(spec.replicas);
    // The count of a global service is no matter of its file.
    let file_changed = file_changed && !spec.is_global();
    if file_changed && spec.autoscale.is_none() && draft.target(service) != to {
        let cause = ScaleCause::Bounds { min: to, max: to };
        draft.change_target(service, to, cause);
    }
}

/// No service has more than so many replicas, whoever asks: what a run costs follows from counts.
fn limit(
    draft: &mut Draft<'_>,
    service: usize,
    spec: &ServiceSpec,
    manual: Option<&ManualScale>,
) -> Option<Reason> {
    let most = AutoscaleSpec::REPLICAS_MAX;
    let file = spec.autoscale.as_ref().map_or(spec.replicas, |p| p.min);
    let asked = file
        .max(manual.map_or(0, |manual| manual.count))
        .max(draft.target(service));
    if draft.target(service) > most {
        let cause = ScaleCause::Bounds { min: 0, max: most };
        draft.change_target(service, most, cause);
    }
    (asked > most).then_some(Reason::CountLimit { asked, most })
}

/// Until when a person holds the count, by the clock as it is now.
pub(crate) fn held_until(manual: &ManualScale, now_ms: TimeMs) -> Option<TimeMs> {
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::HoldIgnored) {
        return None;
    }
    manual.hold_until_ms.filter(|until_ms| *until_ms > now_ms)
}

/// A count that a person set: once, and as long as it is held. Returns the last one said to this
/// life of the service.
fn obey_manual<'a>(
    draft: &mut Draft<'a>,
    service: usize,
    spec: &ServiceSpec,
    bounds: &Bounds,
) -> Option<&'a ManualScale> {
    let manual = draft
        .input
        .desired
        .manual
        .get(&draft.services[service].key)?;
    let obeyed = draft.planned(service);
    #[cfg(feature = "mutants")]
    let obeyed =
        obeyed.filter(|_| !longshore_model::mutant::is(longshore_model::Mutant::ManualObeyedTwice));
    let held = held_until(manual, draft.input.now_ms).is_some();
    if let Some(entry) = obeyed.filter(|e| e.manual_obeyed_ms == Some(manual.at_ms)) {
        // A hold that was over is in force again where the clock was put back.
        let fell_short = entry.target != manual.count.min(AutoscaleSpec::REPLICAS_MAX);
        if entry.manual_is_stale || !(held && fell_short && spec.autoscale.is_some()) {
            return (!entry.manual_is_stale).then_some(manual);
        }
    }
    let free = spec.autoscale.is_none() || held;
    let to = if free {
        manual.count.min(AutoscaleSpec::REPLICAS_MAX)
    } else {
        bounds.clamp(manual.count)
    };
    let entry = draft.entry(service);
    entry.manual_obeyed_ms = Some(manual.at_ms);
    entry.manual_is_stale = false;
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
