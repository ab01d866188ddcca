//! The history of decisions as the API has it.

use longshore_model::{Decision, DecisionKind, Recorded, TimeMs};
use longshore_proto::control::v1 as pb;
use longshore_wire::to_struct;
use tonic::Status;

use super::find;
use crate::cluster::Cluster;
use crate::explain;
use crate::grpc::Refusal;

/// Decisions of one answer.
const DECISIONS_MAX: usize = 512;

/// A decision with its record, whole.
pub(super) fn convert(recorded: &Recorded) -> pb::Decision {
    let record = &recorded.record;
    let kind = record.decision.kind().as_str().to_owned();
    // The record without what stands beside it already.
    let whole = match &record.decision {
        Decision::Scale(report) => to_struct(report),
        Decision::Placement(placement) => to_struct(placement),
        Decision::Drain(drain) => to_struct(drain),
        Decision::Victims(victims) => to_struct(victims),
        Decision::Rollout(look) => to_struct(look),
        Decision::Move(look) => to_struct(look),
    };
    pb::Decision {
        service: record.service.to_string(),
        kind,
        first_ms: recorded.first_ms,
        last_ms: recorded.last_ms,
        count: recorded.count,
        plan_version: record.plan_version,
        summary: explain::summary(record),
        record: Some(whole),
    }
}

/// Serves `ListDecisions`.
pub(super) fn list(
    cluster: &Cluster,
    request: &pb::ListDecisionsRequest,
) -> Result<pb::ListDecisionsResponse, Refusal> {
    let kind = match request.kind.as_str() {
        "" => None,
        word => Some(
            DecisionKind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == word)
                .ok_or_else(|| unknown_kind(word))?,
        ),
    };
    let service = match request.service.as_str() {
        "" => None,
        word => Some(find::one_of(&services(cluster), word).map_err(Refusal)?),
    };
    let limit = match request.limit as usize {
        0 => DECISIONS_MAX,
        limit => limit.min(DECISIONS_MAX),
    };
    let wanted = |group: &crate::store::Group| {
        kind.is_none_or(|kind| kind == group.kind)
            && service.as_ref().is_none_or(|key| *key == group.service)
    };
    let until_ms = match request.until_ms {
        0 => TimeMs::MAX,
        until_ms => until_ms,
    };
    let mut found = cluster.decisions(wanted, DECISIONS_MAX)?;
    found.retain(|r| r.last_ms >= request.since_ms && r.first_ms <= until_ms);
    found.sort_by(|a, b| {
        let order = |r: &Recorded| (r.last_ms, r.record.service.clone());
        order(a).cmp(&order(b))
    });
    found.drain(..found.len().saturating_sub(limit));
    Ok(pb::ListDecisionsResponse {
        decisions: found.iter().map(convert).collect(),
    })
}

fn unknown_kind(word: &str) -> Refusal {
    let known = DecisionKind::ALL.map(DecisionKind::as_str).join(", ");
    Refusal(Status::invalid_argument(format!(
        "there is no kind of decision {word:.64?}; there are {known}"
    )))
}

/// Services that are there, and those that left a history.
pub(super) fn services(cluster: &Cluster) -> Vec<longshore_model::ServiceKey> {
    let mut keys = find::known(&cluster.desired(), &cluster.view().plan);
    keys.extend(cluster.remembered());
    keys.sort();
    keys.dedup();
    keys
}
