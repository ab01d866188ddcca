//! Rollouts: how they stand, what was before, and what operators say about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::job::with_runs;
use longshore_model::plan::{Plan, ServicePlan, Traffic};
use longshore_model::report::ServiceReport;
use longshore_model::rollout::{Direction, Phase, RolloutControl, Said, Trouble};
use longshore_model::spec::{FailureAction, UpdateOrder, UpdateSpec};
use longshore_model::{
    App, Desired, Event, EventKind, Observed, Reason, ServiceKey, ServiceName, ServiceSpec,
};
use longshore_proto::control::v1 as pb;
use longshore_wire::to_struct;
use tonic::Status;

use self::older::older;
use super::differences::differences;
use super::lists::is_shut_out;
use super::{apply, find, leavers};
use crate::cluster::{Cluster, Ledger, View};
use crate::explain::Clock;
use crate::grpc::Refusal;
use crate::store::{Origin, RevisionRecord, StoreError, StoredEvent, put_rollout, revisions};

mod older;

/// Services named in one call.
const SERVICES_MAX: usize = 256;

fn bounded(services: &[String]) -> Result<(), Status> {
    match services.len() {
        0..=SERVICES_MAX => Ok(()),
        _ => Err(Status::invalid_argument(format!(
            "at most {SERVICES_MAX} services at a time"
        ))),
    }
}

/// Rollouts of the named services, or of all.
pub(super) fn list(cluster: &Cluster, words: &[String]) -> Result<Vec<pb::Rollout>, Status> {
    bounded(words)?;
    let (view, desired) = (cluster.view(), cluster.desired());
    let keys: Vec<ServiceKey> = match words {
        [] => desired.services().map(|(key, ..)| key).collect(),
        words => words
            .iter()
            .map(|word| find::service(&desired, &view.plan, word))
            .collect::<Result<_, _>>()?,
    };
    let observed = cluster.fleet.snapshot();
    let now_ms = cluster.now_ms();
    let of = |key| state(&view, &desired, &observed, &key, Clock { now_ms });
    Ok(keys.into_iter().map(of).collect())
}

/// How the rollout of one service stands.
pub(super) fn state(
    view: &View,
    desired: &Desired,
    observed: &Observed,
    key: &ServiceKey,
    clock: Clock,
) -> pb::Rollout {
    let spec = desired.service(key).map(|(_, spec)| spec);
    let report = view.report.services.get(key);
    let mut out = pb::Rollout {
        service: key.to_string(),
        state: "none".into(),
        wanted: report.map_or(0, |report| report.wanted),
        waits: leavers::waits(
            report.map(|report| &**report),
            &view.plan,
            observed,
            key,
            clock,
        ),
        image: spec
            .map(|spec| spec.container.image.clone())
            .unwrap_or_default(),
        ..pb::Rollout::default()
    };
    let Some(service) = view.plan.services.get(key) else {
        return out;
    };
    out.wanted = service.target;
    if let Some(good) = &service.good {
        out.good_revision = good.revision;
    }
    if let (Some(_), Some(good)) = (&service.refused, &service.good) {
        out.image.clone_from(&good.spec.container.image);
    }
    fill(&mut out, service, spec);
    count(&mut out, &view.plan, observed, key, service);
    if let Some(report) = report {
        say_place(&mut out, report);
    }
    out
}

/// One that finds no place for a replica waits, whatever else it does.
fn say_place(out: &mut pb::Rollout, report: &ServiceReport) {
    let mut waits = report.waits.iter();
    let place = waits.find(|wait| matches!(wait, Reason::Unplaceable { .. }));
    if let Some(place) = place.filter(|_| out.state == "running") {
        out.state = "waiting".into();
        let place = place.to_string();
        out.waits.retain(|wait| *wait != place);
        out.waits.insert(0, place);
    }
}

/// Which replica goes first, and why where the file does not say so.
fn order(spec: &ServiceSpec, update: &UpdateSpec, no_room: bool) -> &'static str {
    let asked = spec.update.order;
    match update.order {
        UpdateOrder::StopFirst if asked == UpdateOrder::Auto => {
            "stop-first: volume data is written by one replica at a time"
        }
        UpdateOrder::StopFirst => "stop-first",
        UpdateOrder::Auto if no_room => "stop-first: no node has room for one more",
        UpdateOrder::Auto | UpdateOrder::StartFirst => "start-first",
    }
}

fn fill(out: &mut pb::Rollout, service: &ServicePlan, spec: Option<&Arc<ServiceSpec>>) {
    let Some(rollout) = &service.rollout else {
        return;
    };
    out.state = rollout.word().into();
    out.revision = rollout.revision;
    out.from_revision = rollout.from_revision;
    out.batches = rollout.batches;
    out.started_ms = rollout.started_ms;
    out.since_ms = rollout.phase_ms;
    out.failed = rollout.failed;
    out.back = rollout.direction == Direction::Back;
    if let Phase::Held { by } = &rollout.phase {
        out.held_by.clone_from(by);
    }
    if let Some(spec) = spec {
        let update = spec.exchange(rollout.direction == Direction::Back);
        out.order = order(spec, &update, rollout.stop_first).into();
        out.tolerated = update.tolerated(service.target);
        out.failure_action = match update.failure_action {
            FailureAction::Pause => "pause",
            FailureAction::Continue => "continue",
            FailureAction::Rollback => "rollback",
        }
        .into();
    }
    let refused = service.refused.as_ref().map(|refused| &refused.why);
    let failed = rollout.phase == Phase::Failed;
    let trouble = match failed {
        true => rollout.trouble.as_ref(),
        false => refused.or(rollout.trouble.as_ref()),
    };
    if let Some(trouble) = trouble {
        out.why = match failed {
            true => rollout.pause.with(trouble),
            false => trouble.to_string(),
        };
        let back = rollout.direction == Direction::Back && rollout.phase != Phase::Done;
        if let Some(again) = rollout.trouble.as_ref().filter(|_| back && !failed) {
            out.why.push_str(&format!("; on the way back: {again}"));
        }
        out.trouble = Some(to_struct(trouble));
    }
}

/// Replicas of the old template and of the new one; of these, the ones that edges send requests.
fn count(
    out: &mut pb::Rollout,
    plan: &Plan,
    observed: &Observed,
    key: &ServiceKey,
    service: &ServicePlan,
) {
    let Some(rollout) = &service.rollout else {
        return;
    };
    let of_service = plan.replicas_of(key);
    for replica in of_service.filter(|r| r.leaving.is_none()) {
        if replica.template == rollout.to {
            out.new_total += 1;
            let serves = replica.traffic == Traffic::Serve;
            let reached = serves && !is_shut_out(key, replica.id, observed);
            out.new_serving += u32::from(reached);
        } else {
            out.old_total += 1;
        }
    }
}

/// The kept revisions at which a service changed, newest first.
pub(super) fn history(
    cluster: &Cluster,
    word: &str,
) -> Result<pb::RolloutHistoryResponse, Refusal> {
    let (view, desired) = (cluster.view(), cluster.desired());
    let key = find::service(&desired, &view.plan, word).map_err(Refusal)?;
    let records = revisions(&*cluster.store(), &key.app)?;
    let good = view.plan.services.get(&key).and_then(|s| s.good.as_ref());
    let mut rows: Vec<pb::Revision> = Vec::new();
    let mut before: Option<&Arc<ServiceSpec>> = None;
    for record in &records {
        let Some(spec) = record.app.services.get(&key.service) else {
            before = None;
            continue;
        };
        if before == Some(spec) {
            continue;
        }
        let changes = before.map(|old| differences(old, spec));
        rows.push(pb::Revision {
            changes: changes.unwrap_or_default(),
            good: good.is_some_and(|good| good.revision == record.app.revision),
            ..row(record, &key.service, spec)
        });
        before = Some(spec);
    }
    // The present one is the newest of those that changed the service.
    if let (Some(last), Some(_)) = (rows.last_mut(), desired.service(&key)) {
        last.current = true;
    }
    rows.reverse();
    Ok(pb::RolloutHistoryResponse {
        service: key.to_string(),
        revisions: rows,
    })
}

fn row(record: &RevisionRecord, service: &ServiceName, spec: &ServiceSpec) -> pb::Revision {
    let (origin, of_revision) = match &record.origin {
        Origin::Undone {
            service: undone,
            to_revision,
        } if undone == service => ("undone", *to_revision),
        Origin::Restarted { services } if services.contains(service) => ("restarted", 0),
        _ => ("applied", 0),
    };
    let outcome = record.outcomes.get(service);
    pb::Revision {
        revision: record.app.revision,
        applied_ms: record.app.applied_ms,
        applied_by: record.app.applied_by.clone(),
        origin: origin.into(),
        of_revision,
        image: spec.container.image.clone(),
        outcome: outcome.map(|o| o.state.clone()).unwrap_or_default(),
        why: outcome.map(|o| o.why.clone()).unwrap_or_default(),
        ..pb::Revision::default()
    }
}

/// The desired spec of the service that a word means, with its app.
fn wanted<'d>(
    cluster: &Cluster,
    desired: &'d Desired,
    word: &str,
) -> Result<(ServiceKey, &'d App, &'d Arc<ServiceSpec>), Status> {
    let key = find::service(desired, &cluster.view().plan, word)?;
    match desired.service(&key) {
        Some((app, spec)) => Ok((key, app, spec)),
        None => Err(Status::failed_precondition(format!(
            "{key} was taken down and is on its way out; apply its app again"
        ))),
    }
}

/// The next revision of an app with other services, written and noted.
fn next_revision(
    ledger: &mut Ledger,
    desired: &mut Desired,
    app: App,
    origin: Origin,
) -> Result<Vec<StoredEvent>, StoreError> {
    let event = Event {
        at_ms: app.applied_ms,
        kind: EventKind::AppApplied {
            app: app.name.clone(),
            revision: app.revision,
            by: app.applied_by.clone(),
        },
    };
    let events = ledger.repository.put_app_as(&app, origin, &[event])?;
    desired.apps.insert(app.name.clone(), app);
    Ok(events)
}

/// Applies what the service was at an older revision as a new one. The other services of the app
/// stay as they are.
pub(super) fn undo(
    cluster: &Cluster,
    request: &pb::UndoRolloutRequest,
    by: &str,
) -> Result<pb::UndoRolloutResponse, Refusal> {
    let at_ms = cluster.now_ms();
    cluster.change(|ledger, desired| {
        let (key, app, now) = wanted(cluster, desired, &request.service)?;
        let records = revisions(&*cluster.store(), &key.app)?;
        let (to_revision, spec) = older(&records, &key, now, request.to_revision)?;
        let mut app = App {
            revision: app.revision + 1,
            applied_ms: at_ms,
            applied_by: by.to_owned(),
            ..app.clone()
        };
        app.services.insert(key.service.clone(), Arc::clone(spec));
        app.services = with_runs(app.services);
        // What was allowed then may not be allowed now.
        apply::check_again(cluster, desired, &app)?;
        let origin = Origin::Undone {
            service: key.service.clone(),
            to_revision,
        };
        let revision = app.revision;
        let events = next_revision(ledger, desired, app, origin)?;
        let answer = pb::UndoRolloutResponse {
            service: key.to_string(),
            revision,
            to_revision,
        };
        Ok((answer, events))
    })
}

/// The services that words name, as a restart makes them.
///
/// # Errors
/// A service that is not there, or that cannot be restarted.
pub(super) fn restarted(
    cluster: &Cluster,
    desired: &Desired,
    words: &[String],
) -> Result<BTreeMap<ServiceKey, Arc<ServiceSpec>>, Status> {
    bounded(words)?;
    let at_ms = cluster.now_ms();
    let mut specs = BTreeMap::new();
    for word in words {
        let (key, _, spec) = wanted(cluster, desired, word)?;
        refuse_refused(cluster, &key)?;
        let mut spec = ServiceSpec::clone(spec);
        // Twice within one millisecond is two restarts.
        spec.container.restarted_ms = at_ms.max(spec.container.restarted_ms + 1);
        specs.insert(key, Arc::new(spec));
    }
    let first = specs.keys().next().map(|key| key.app.clone());
    if let Some(first) = first
        && let Some(other) = specs.keys().find(|key| key.app != first)
    {
        return Err(Status::invalid_argument(format!(
            "{first} and {} are two apps; restart one after the other",
            other.app
        )));
    }
    Ok(specs)
}

/// Replaces all replicas by new ones of the same spec.
pub(super) fn restart(
    cluster: &Cluster,
    request: &pb::RestartServicesRequest,
    by: &str,
) -> Result<pb::RestartServicesResponse, Refusal> {
    let at_ms = cluster.now_ms();
    cluster.change(|ledger, desired| {
        let specs = restarted(cluster, desired, &request.services)?;
        let Some(first) = specs.keys().next().map(|key| key.app.clone()) else {
            return Err(Status::invalid_argument("no service was named").into());
        };
        let Some(app) = desired.apps.get(&first) else {
            return Err(Status::not_found(format!("there is no app {first}")).into());
        };
        let mut app = App {
            revision: app.revision + 1,
            applied_ms: at_ms,
            applied_by: by.to_owned(),
            ..app.clone()
        };
        let services = specs.keys().map(ToString::to_string).collect();
        let names = specs.keys().map(|key| key.service.clone()).collect();
        for (key, spec) in specs {
            app.services.insert(key.service, spec);
        }
        let revision = app.revision;
        let origin = Origin::Restarted { services: names };
        let events = next_revision(ledger, desired, app, origin)?;
        let answer = pb::RestartServicesResponse { services, revision };
        Ok((answer, events))
    })
}

/// A restart of what failed would start what failed.
fn refuse_refused(cluster: &Cluster, key: &ServiceKey) -> Result<(), Status> {
    let view = cluster.view();
    let service = view.plan.services.get(key);
    match service.and_then(|service| service.refused.as_ref()) {
        None => Ok(()),
        Some(refused) => Err(Status::failed_precondition(format!(
            "{key} was rolled back from revision {}: {}. First decide what it shall be: \
             controllerctl rollout undo {key}, or try again: controllerctl rollout resume {key}",
            refused.revision, refused.why
        ))),
    }
}

/// No further batch until it is resumed.
pub(super) fn pause(
    cluster: &Cluster,
    word: &str,
    by: &str,
) -> Result<pb::PauseRolloutResponse, Refusal> {
    let at_ms = cluster.now_ms();
    cluster.change(|ledger, desired| {
        let (key, ..) = wanted(cluster, desired, word)?;
        let mut control = desired.rollout.get(&key).cloned().unwrap_or_default();
        if let Some(held) = &control.held {
            let by = &held.by;
            return Err(Status::already_exists(format!("{key} is already held by {by}")).into());
        }
        control.held = Some(Said {
            at_ms,
            by: by.to_owned(),
        });
        put_rollout(&mut ledger.repository, &key, &control)?;
        let service = key.to_string();
        desired.rollout.insert(key, control);
        Ok((pb::PauseRolloutResponse { service }, Vec::new()))
    })
}

/// The job for whose failure a service's rollout stopped.
fn failed_job(service: &ServicePlan) -> Option<&ServiceName> {
    let stopped = service
        .rollout
        .as_ref()
        .filter(|r| r.phase == Phase::Failed);
    let trouble = stopped.and_then(|rollout| rollout.trouble.as_ref());
    match service
        .refused
        .as_ref()
        .map(|refused| &refused.why)
        .or(trouble)?
    {
        Trouble::Job { service, .. } => Some(service),
        _ => None,
    }
}

/// Goes on, or tries again.
pub(super) fn resume(
    cluster: &Cluster,
    word: &str,
    by: &str,
) -> Result<pb::ResumeRolloutResponse, Refusal> {
    let at_ms = cluster.now_ms();
    cluster.change(|ledger, desired| {
        let (key, ..) = wanted(cluster, desired, word)?;
        let before = desired.rollout.get(&key).cloned().unwrap_or_default();
        let view = cluster.view();
        let service = view.plan.services.get(&key);
        let stopped = service.is_some_and(|service| {
            let failed = service.rollout.as_ref().map(|r| &r.phase) == Some(&Phase::Failed);
            failed || service.refused.is_some()
        });
        if let Some(job) = service
            .and_then(|service| failed_job(service))
            .filter(|_| before.held.is_none())
        {
            return Err(Status::failed_precondition(format!(
                "{key} waits for {job}, which failed: mend it and apply again, or: controllerctl \
                 restart {}/{job}",
                key.app
            ))
            .into());
        }
        if before.held.is_none() && !stopped {
            return Err(Status::failed_precondition(format!(
                "{key}: nothing is paused and nothing failed"
            ))
            .into());
        }
        let last_ms = before.resumed.map_or(0, |said| said.at_ms);
        let control = RolloutControl {
            held: None,
            resumed: Some(Said {
                at_ms: at_ms.max(last_ms + 1),
                by: by.to_owned(),
            }),
        };
        put_rollout(&mut ledger.repository, &key, &control)?;
        let service = key.to_string();
        desired.rollout.insert(key, control);
        Ok((pb::ResumeRolloutResponse { service }, Vec::new()))
    })
}
