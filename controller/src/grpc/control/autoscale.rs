//! What operators tell autoscalers, and how services scale.

use longshore_model::autoscale::{
    Approval, AutoscaleControl, AutoscaleMode, BoundsOverride, Pause,
};
use longshore_model::plan::ScaleChange;
use longshore_model::{AutoscaleSpec, Desired, Event, EventKind, ServiceKey, ServiceSpec, TimeMs};
use longshore_proto::control::v1 as pb;
use pb::set_autoscale_request::Action;
use tonic::Status;

use super::apply::REPLICAS_MAX;
use super::find;
use super::lists::signal_values;
use crate::cluster::{Cluster, View};
use crate::explain;
use crate::grpc::Refusal;

/// Longest pause with an end.
const PAUSE_MS_MAX: u64 = 30 * 86_400_000;
/// Services of one list.
const SERVICES_MAX: usize = 256;

fn policy<'d>(
    desired: &'d Desired,
    key: &ServiceKey,
) -> Result<(&'d ServiceSpec, &'d AutoscaleSpec), Status> {
    let Some((_, spec)) = desired.service(key) else {
        return Err(Status::failed_precondition(format!(
            "{key} was taken down and is on its way out; apply its app again"
        )));
    };
    match &spec.autoscale {
        Some(policy) => Ok((spec, policy)),
        None if spec.is_global() => Err(Status::failed_precondition(format!(
            "{key} has one replica on each node that takes it (deploy.mode: global): its count \
             goes by the nodes, not by the load"
        ))),
        None => Err(Status::failed_precondition(format!(
            "{key} does not scale by load: its file has no x-autoscale; controllerctl scale \
             {}=N sets its count",
            key.service
        ))),
    }
}

/// Serves `ListAutoscale`.
pub(super) fn list(
    cluster: &Cluster,
    words: &[String],
) -> Result<pb::ListAutoscaleResponse, Status> {
    if words.len() > SERVICES_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {SERVICES_MAX} services at a time"
        )));
    }
    let (view, desired) = (cluster.view(), cluster.desired());
    let mut services = Vec::new();
    for word in words {
        let key = find::service(&desired, &view.plan, word)?;
        let (_, policy) = policy(&desired, &key)?;
        services.push(state(&view, &desired, &key, policy, cluster.now_ms()));
    }
    if words.is_empty() {
        let scaling = desired
            .services()
            .filter_map(|(key, _, spec)| Some((key, spec.autoscale.as_ref()?)));
        services.extend(
            scaling.map(|(key, policy)| state(&view, &desired, &key, policy, cluster.now_ms())),
        );
    }
    Ok(pb::ListAutoscaleResponse { services })
}

fn state(
    view: &View,
    desired: &Desired,
    key: &ServiceKey,
    policy: &AutoscaleSpec,
    now_ms: TimeMs,
) -> pb::AutoscaleState {
    let report = view.report.services.get(key).cloned().unwrap_or_default();
    let said = desired.autoscale.get(key).cloned().unwrap_or_default();
    let change: Option<&ScaleChange> = view
        .plan
        .services
        .get(key)
        .and_then(|service| service.last_change.as_ref());
    let paused = said
        .paused
        .filter(|pause| pause.until_ms.is_none_or(|until_ms| until_ms > now_ms));
    pb::AutoscaleState {
        service: key.to_string(),
        mode: super::lists::word(&policy.mode),
        wanted: report.wanted,
        min: report.scale.min,
        max: report.scale.max,
        file_min: policy.min,
        file_max: policy.max,
        signals: signal_values(&report.scale),
        recommendation: report.scale.recommendation,
        reasons: report
            .scale
            .reasons
            .iter()
            .map(ToString::to_string)
            .collect(),
        paused: paused.map(|pause| pb::AutoscalePause {
            since_ms: pause.since_ms,
            until_ms: pause.until_ms.unwrap_or(0),
            by: pause.by,
        }),
        bounds: said.bounds.map(|bounds| pb::AutoscaleBounds {
            min: bounds.min,
            max: bounds.max,
            at_ms: bounds.at_ms,
            by: bounds.by,
        }),
        approved: said.approved.map(|approval| pb::AutoscaleApproval {
            count: approval.count,
            at_ms: approval.at_ms,
            by: approval.by,
        }),
        awaits_approval: report.scale.proposal.as_ref().map(|wish| wish.count),
        last_change: change.map_or_else(String::new, |change| {
            format!("{} -> {}  {}", change.from, change.to, change.cause)
        }),
        last_change_ms: change.map_or(0, |change| change.at_ms),
        cause: explain::cause(&report.scale).unwrap_or_default(),
    }
}

/// Serves `SetAutoscale`: one thing said, written down with who said it.
pub(super) fn set(
    cluster: &Cluster,
    request: &pb::SetAutoscaleRequest,
    by: &str,
) -> Result<ServiceKey, Refusal> {
    let now_ms = cluster.now_ms();
    let action = request
        .action
        .as_ref()
        .ok_or_else(|| Refusal(Status::invalid_argument("the request says nothing")))?;
    cluster.change(|ledger, desired| {
        let view = cluster.view();
        let key = find::service(desired, &view.plan, &request.service)?;
        let (_, policy) = policy(desired, &key)?;
        let before = desired.autoscale.get(&key).cloned().unwrap_or_default();
        let (after, event) = match action {
            Action::Pause(pause) => paused(&key, before, pause, now_ms, by)?,
            Action::Resume(_) => resumed(&key, before, by),
            Action::Bounds(bounds) => bounded(&key, before, policy, bounds, now_ms, by)?,
            Action::Approve(approve) => {
                let wish = view.report.services.get(&key);
                let wish = wish.and_then(|report| report.scale.proposal.as_ref());
                let wish = wish.map(|proposal| proposal.count);
                approved(&key, before, (policy.mode, wish), approve, now_ms, by)?
            }
        };
        let events: Vec<Event> = event
            .map(|kind| Event {
                at_ms: now_ms,
                kind,
            })
            .into_iter()
            .collect();
        let stored = ledger.repository.put_autoscale(&key, &after, &events)?;
        if after == AutoscaleControl::default() {
            desired.autoscale.remove(&key);
        } else {
            desired.autoscale.insert(key.clone(), after);
        }
        Ok((key, stored))
    })
}

/// Serves what `SetAutoscale` led to.
pub(super) fn after(cluster: &Cluster, key: &ServiceKey) -> pb::SetAutoscaleResponse {
    let (view, desired) = (cluster.view(), cluster.desired());
    let policy = policy(&desired, key).ok();
    pb::SetAutoscaleResponse {
        state: policy.map(|(_, policy)| state(&view, &desired, key, policy, cluster.now_ms())),
    }
}

type Said = (AutoscaleControl, Option<EventKind>);

fn paused(
    key: &ServiceKey,
    before: AutoscaleControl,
    pause: &pb::PauseAutoscale,
    now_ms: TimeMs,
    by: &str,
) -> Result<Said, Status> {
    if pause.for_ms > PAUSE_MS_MAX {
        return Err(Status::invalid_argument(
            "a pause with an end lasts at most 30 days; without one it lasts until it is resumed",
        ));
    }
    let until_ms = (pause.for_ms > 0).then(|| now_ms + pause.for_ms);
    let paused = Pause {
        since_ms: now_ms,
        until_ms,
        by: by.to_owned(),
    };
    let event = EventKind::AutoscalePaused {
        service: key.clone(),
        until_ms,
        by: by.to_owned(),
    };
    let after = AutoscaleControl {
        paused: Some(paused),
        ..before
    };
    Ok((after, Some(event)))
}

/// Lets it go on; twice is no mistake and no event.
fn resumed(key: &ServiceKey, before: AutoscaleControl, by: &str) -> Said {
    let event = before
        .paused
        .is_some()
        .then(|| EventKind::AutoscaleResumed {
            service: key.clone(),
            by: by.to_owned(),
        });
    let after = AutoscaleControl {
        paused: None,
        ..before
    };
    (after, event)
}

fn bounded(
    key: &ServiceKey,
    before: AutoscaleControl,
    policy: &AutoscaleSpec,
    bounds: &pb::SetAutoscaleBounds,
    now_ms: TimeMs,
    by: &str,
) -> Result<Said, Status> {
    let kept = before.bounds.as_ref().filter(|_| !bounds.clear);
    let min = bounds.min.or_else(|| kept.and_then(|kept| kept.min));
    let max = bounds.max.or_else(|| kept.and_then(|kept| kept.max));
    if bounds.min.is_none() && bounds.max.is_none() && !bounds.clear {
        return Err(Status::invalid_argument(
            "neither a lower nor an upper bound was given",
        ));
    }
    let (low, high) = (min.unwrap_or(policy.min), max.unwrap_or(policy.max));
    if high > REPLICAS_MAX {
        return Err(Status::invalid_argument(format!(
            "max {high}: at most {REPLICAS_MAX} replicas are allowed"
        )));
    }
    if low > high {
        return Err(Status::invalid_argument(format!(
            "{key}: min {low} would be above max {high} (the file says {}..{}); set both",
            policy.min, policy.max
        )));
    }
    if low == 0 && !policy.metrics.iter().any(|metric| metric.signal.wakes()) {
        return Err(Status::invalid_argument(format!(
            "{key}: min 0 needs a signal that can bring it back (requests, queue, concurrency or \
             prometheus)"
        )));
    }
    let said = (min.is_some() || max.is_some()).then(|| BoundsOverride {
        min,
        max,
        at_ms: now_ms,
        by: by.to_owned(),
    });
    let event = (said.is_some() || before.bounds.is_some()).then(|| EventKind::AutoscaleBounds {
        service: key.clone(),
        min,
        max,
        by: by.to_owned(),
    });
    let after = AutoscaleControl {
        bounds: said,
        ..before
    };
    Ok((after, event))
}

fn approved(
    key: &ServiceKey,
    before: AutoscaleControl,
    (mode, wish): (AutoscaleMode, Option<u32>),
    approve: &pb::ApproveAutoscale,
    now_ms: TimeMs,
    by: &str,
) -> Result<Said, Status> {
    if mode == AutoscaleMode::DryRun {
        return Err(Status::failed_precondition(format!(
            "{key} is in mode dry-run, which only says what it would do and takes no approvals: \
             write mode: approve (or on) in its x-autoscale and apply it, or set the count: \
             controllerctl scale {}=N",
            key.service
        )));
    }
    let Some(count) = wish else {
        return Err(Status::failed_precondition(format!(
            "{key} asks for nothing now; controllerctl why {} says why",
            key.service
        )));
    };
    if let Some(expected) = approve.count.filter(|expected| *expected != count) {
        return Err(Status::failed_precondition(format!(
            "{key} asks for {count} by now, not for {expected}; nothing was approved"
        )));
    }
    let event = EventKind::AutoscaleApproved {
        service: key.clone(),
        count,
        by: by.to_owned(),
    };
    let approval = Approval {
        count,
        at_ms: now_ms,
        by: by.to_owned(),
    };
    let after = AutoscaleControl {
        approved: Some(approval),
        ..before
    };
    Ok((after, Some(event)))
}
