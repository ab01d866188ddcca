//! Jobs of apps: what makes them run anew, and how they stand.

use std::sync::Arc;

use longshore_model::job::{Job, with_runs};
use longshore_model::plan::{Plan, Replica};
use longshore_model::reason::FailReason;
use longshore_model::{AppName, ReplicaState, ServiceKey, ServiceSpec, TimeMs, job};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::apply::Services;
use crate::cluster::View;
use crate::explain::Clock;

/// The services of an app with the runs of their jobs. A run that failed is another one from here
/// on: who applies the same file again wants it tried again.
pub(super) fn with_tries(
    view: &View,
    app: &AppName,
    services: Services,
    at_ms: TimeMs,
) -> Services {
    let mut services = with_runs(services);
    let failed = |(name, spec): (&longshore_model::ServiceName, &Arc<ServiceSpec>)| {
        spec.job?;
        let entry = view
            .plan
            .services
            .get(&ServiceKey::new(app.clone(), name.clone()))?;
        let job = entry.job.as_ref().filter(|job| job.failed())?;
        (job.template == spec.container.template_id()).then(|| name.clone())
    };
    let failed: Vec<_> = services.iter().filter_map(failed).collect();
    for name in failed {
        if let Some(spec) = services.get_mut(&name) {
            let container = &mut Arc::make_mut(spec).container;
            container.restarted_ms = at_ms.max(container.restarted_ms + 1);
        }
    }
    services
}

/// Jobs that are none, and those who wait for what never ends.
pub(super) fn check(app: &AppName, services: &Services) -> Result<(), Status> {
    match job::fault(services) {
        None => Ok(()),
        Some(fault) => Err(Status::invalid_argument(format!("{app}/{fault}"))),
    }
}

/// It has no count.
pub(super) fn refuse_count(key: &ServiceKey, spec: &ServiceSpec) -> Result<(), Status> {
    if spec.job.is_none() {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "{key} is a job: it runs once, until it ends, and has no count; to run it anew: \
         controllerctl restart {key}"
    )))
}

/// What became of a job's replica that has ended, and its exit code in words.
pub(super) fn ended(replica: &Replica) -> Option<(ReplicaState, Option<String>)> {
    let code = replica.ended?.code;
    let state = match code {
        Some(0) => ReplicaState::Completed,
        _ => ReplicaState::Failed,
    };
    Some((state, code.map(|code| format!("exited with code {code}"))))
}

/// How a job stands, for people and scripts.
pub(super) fn state(job: &Job) -> pb::ServiceJob {
    let code = match &job.last {
        _ if job.completed() => Some(0),
        Some(FailReason::Exited { code, .. }) => Some(*code),
        _ => None,
    };
    pb::ServiceJob {
        state: job.word().into(),
        revision: job.revision,
        tries: job.tries,
        exit_code: code,
        ended_ms: job.end.map_or(0, |end| end.at_ms),
        node: job
            .replica
            .as_ref()
            .map(|(_, node)| node.to_string())
            .unwrap_or_default(),
        why: match &job.last {
            Some(last) if !job.completed() => last.to_string(),
            _ => String::new(),
        },
    }
}

/// How the service stands, if it is a job.
pub(super) fn line(plan: &Plan, key: &ServiceKey, clock: Clock) -> Option<String> {
    let job = plan.services.get(key)?.job.as_ref()?;
    let revision = job.revision;
    let tries = match job.tries {
        0 => String::new(),
        tries => format!(", {tries} failed before"),
    };
    let on = job.replica.as_ref();
    let on = on.map_or_else(String::new, |(id, node)| format!(" ({id} on {node})"));
    Some(match job.end {
        None => format!("job: runs, or is to run, for revision {revision}{tries}"),
        Some(end) if end.completed => {
            let at = clock.at(end.at_ms);
            format!("job: completed at {at}{on} for revision {revision}{tries}")
        }
        Some(end) => {
            let at = clock.at(end.at_ms);
            format!(
                "job: failed at {at}{on} for revision {revision}; to run it anew: controllerctl \
                 restart {key}"
            )
        }
    })
}
