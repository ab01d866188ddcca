//! First starts that wait for another service (`depends_on`).
//!
//! Only the first one: what once ran in full comes back without asking, whatever became of the
//! others meanwhile, so that an outage never ends in everybody waiting for everybody.

use longshore_model::depends::Until;
use longshore_model::plan::ServicePlan;
use longshore_model::replica::ReplicaState;
use longshore_model::{Reason, ServiceKey};

use crate::draft::Draft;
use crate::jobs;

/// Must the start of the service wait? Says for whom.
pub(crate) fn waits(draft: &mut Draft<'_>, service: usize) -> bool {
    let slot = &draft.services[service];
    let Some(spec) = slot.spec.filter(|spec| !spec.depends_on.is_empty()) else {
        return false;
    };
    let was_there = draft
        .planned(service)
        .is_some_and(|entry| entry.good.is_some())
        || slot.rows.iter().any(|&row| draft.replica(row).is_some());
    // A job waits at each start: what it needs may be there no more.
    if was_there && spec.job.is_none() {
        return false;
    }
    let app = &slot.key.app;
    let missing: Vec<Reason> = spec
        .depends_on
        .iter()
        .filter(|(on, until)| {
            // A new template waits for jobs, not only the first one.
            if **until == Until::Completed && slot.spec.is_some_and(|spec| spec.job.is_none()) {
                return false;
            }
            let key = ServiceKey::new(app.clone(), (*on).clone());
            let there = **until == Until::Completed || wants_some(draft, &key);
            there && !is_there(draft, &key, **until)
        })
        .map(|(on, until)| Reason::WaitsForService {
            service: on.clone(),
            until: *until,
        })
        .collect();
    let waits = !missing.is_empty();
    for reason in missing {
        draft.wait(service, reason);
    }
    waits
}

fn in_force<'d>(draft: &Draft<'d>, key: &ServiceKey) -> Option<&'d ServicePlan> {
    draft.input.current.services.get(key).map(|entry| &**entry)
}

/// Nobody waits for a service that is to have no replicas, or is not there.
fn wants_some(draft: &Draft<'_>, key: &ServiceKey) -> bool {
    let Some((_, spec)) = draft.input.desired.service(key) else {
        return false;
    };
    let loaded = draft.services.binary_search_by(|slot| slot.key.cmp(key));
    let target = match loaded {
        Ok(number) => draft.target(number),
        // Whose count does not change in this run.
        Err(_) => in_force(draft, key).map_or(spec.replicas, |entry| entry.target),
    };
    target > 0
}

/// By the plan in force and what nodes say, not by what this run made of it: a run may leave out
/// services of which nothing changed, and decides the others one after the other.
fn is_there(draft: &Draft<'_>, key: &ServiceKey, until: Until) -> bool {
    if until == Until::Completed {
        return jobs::state(draft, key).is_none_or(|job| job.completed());
    }
    let replicas = in_force(draft, key).map(|entry| entry.replicas.values());
    let mut staying = replicas
        .into_iter()
        .flatten()
        .filter(|replica| replica.leaving.is_none());
    staying.any(|replica| {
        let node = draft.input.observed.nodes.get(&replica.node);
        let status = node.and_then(|node| node.replicas.get(&replica.id));
        status.is_some_and(|status| match until {
            Until::Healthy => status.state == ReplicaState::Healthy,
            Until::Started | Until::Completed => matches!(
                status.state,
                ReplicaState::Starting
                    | ReplicaState::Healthy
                    | ReplicaState::Unhealthy
                    | ReplicaState::Completed
            ),
        })
    })
}
