//! The history of decisions as the API has it.

use std::collections::BTreeMap;

use longshore_model::record::{Choice, NodeScore, PlacementRecord};
use longshore_model::{Decision, DecisionKind, NodeId, Recorded, TimeMs};
use longshore_proto::control::v1 as pb;
use longshore_wire::to_struct;
use serde::Serialize;
use tonic::Status;

use super::find;
use crate::cluster::Cluster;
use crate::explain;
use crate::grpc::{Refusal, quoted};

/// Decisions of one answer.
const DECISIONS_MAX: usize = 512;

/// A decision with its record, whole.
pub(super) fn convert(recorded: &Recorded) -> pb::Decision {
    let record = &recorded.record;
    let kind = record.decision.kind().as_str().to_owned();
    // The record without what stands beside it already.
    let whole = match &record.decision {
        Decision::Scale(report) => to_struct(report),
        Decision::Placement(placement) => to_struct(&Named::new(placement)),
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

/// A look for places with a name beside every number of a score.
#[derive(Serialize)]
struct Named<'r> {
    #[serde(flatten)]
    record: &'r PlacementRecord,
    best: Vec<NamedScore<'r>>,
    choices: Vec<NamedChoice<'r>>,
}

#[derive(Serialize)]
struct NamedScore<'r> {
    node: &'r NodeId,
    score: BTreeMap<&'r str, u64>,
}

#[derive(Serialize)]
struct NamedChoice<'r> {
    #[serde(flatten)]
    choice: &'r Choice,
    chosen: NamedScore<'r>,
    runner_up: Option<NamedScore<'r>>,
}

impl<'r> Named<'r> {
    fn new(record: &'r PlacementRecord) -> Self {
        let named = |score: &'r NodeScore| {
            let fields = record.fields.iter().map(AsRef::as_ref);
            NamedScore {
                node: &score.node,
                score: fields.zip(score.score.iter().copied()).collect(),
            }
        };
        let choices = record.choices.iter().map(|choice| NamedChoice {
            choice,
            chosen: named(&choice.chosen),
            runner_up: choice.runner_up.as_ref().map(named),
        });
        Self {
            record,
            best: record.best.iter().map(named).collect(),
            choices: choices.collect(),
        }
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
        "there is no kind of decision {}; there are {known}",
        quoted(word)
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
