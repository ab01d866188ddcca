//! Counts set by people.

use longshore_model::{Desired, ManualScale, Plan, ServiceKey};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::apply::REPLICAS_MAX;
use super::{find, jobs};
use crate::cluster::Cluster;
use crate::grpc::Refusal;

/// Longest hold.
const HOLD_MS_MAX: u64 = 30 * 86_400_000;

/// The service whose count may be set to this one.
///
/// # Errors
/// A service that is not there, or that cannot have that count.
pub(super) fn may(
    desired: &Desired,
    plan: &Plan,
    (word, count, hold_ms): (&str, u32, u64),
) -> Result<ServiceKey, Status> {
    let key = find::service(desired, plan, word)?;
    let Some((_, spec)) = desired.service(&key) else {
        return Err(Status::failed_precondition(format!(
            "{key} was taken down and is on its way out; apply its app again"
        )));
    };
    if spec.is_global() {
        return Err(Status::failed_precondition(format!(
            "{key} has one replica on each node that takes it (deploy.mode: global), and no \
             count; deploy.placement.constraints and labels of nodes say which nodes. To have \
             a count, write deploy.mode: replicated and apply"
        )));
    }
    jobs::refuse_count(&key, spec)?;
    if count > REPLICAS_MAX {
        return Err(Status::invalid_argument(format!(
            "{count} replicas of {key}: at most {REPLICAS_MAX} are allowed"
        )));
    }
    if hold_ms > HOLD_MS_MAX {
        return Err(Status::invalid_argument("a hold lasts at most 30 days"));
    }
    // A hold is a person's word against the policy, for a while; without one the autoscaler
    // would undo the count at once.
    if let Some(scaling) = &spec.autoscale
        && hold_ms == 0
        && !(scaling.min..=scaling.max).contains(&count)
    {
        let (min, max) = (scaling.min, scaling.max);
        return Err(Status::failed_precondition(format!(
            "{key} scales by load between {min} and {max}; {count} is outside. Choose a count \
             within, change x-autoscale min/max and apply, or overrule it for a while: \
             --hold DURATION"
        )));
    }
    Ok(key)
}

/// What is kept of a count.
pub(super) fn manual(count: u32, hold_ms: u64, now_ms: u64, by: &str) -> ManualScale {
    ManualScale {
        count,
        at_ms: now_ms,
        hold_until_ms: (hold_ms > 0).then(|| now_ms + hold_ms),
        by: by.to_owned(),
    }
}

/// Sets a count.
pub(super) fn scale(
    cluster: &Cluster,
    request: &pb::ScaleRequest,
    by: &str,
) -> Result<pb::ScaleResponse, Refusal> {
    let (count, now_ms) = (request.count, cluster.now_ms());
    cluster.change(|ledger, desired| {
        let plan = &cluster.view().plan;
        let asked = (request.service.as_str(), count, request.hold_ms);
        let key = may(desired, plan, asked)?;
        let first = desired.service(&key).map(|(_, spec)| spec.replicas);
        let from = plan
            .services
            .get(&key)
            .map_or(first.unwrap_or_default(), |service| service.target);
        let manual = manual(count, request.hold_ms, now_ms, by);
        ledger.repository.put_manual(&key, &manual)?;
        desired.manual.insert(key.clone(), manual);
        Ok((
            pb::ScaleResponse {
                service: key.to_string(),
                from,
                to: count,
            },
            Vec::new(),
        ))
    })
}
