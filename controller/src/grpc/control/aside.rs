//! An operator's word about single replicas: kept out of the routes, and let back.

use std::collections::BTreeSet;

use longshore_model::aside::{Aside, AsideMap, WHY_CHARS_MAX};
use longshore_model::plan::{Replica, Traffic};
use longshore_model::{Desired, Event, EventKind, Observed, Plan, ReplicaId, ServiceKey};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::find::{self, Target};
use super::lists::is_shut_out;
use crate::cluster::Cluster;
use crate::grpc::Refusal;

/// Replicas of one call.
const REPLICAS_MAX: usize = 64;

/// Keeps replicas of one service out of the routes, or lets them back.
pub(super) fn set(
    cluster: &Cluster,
    request: &pb::SetReplicaTrafficRequest,
    by: &str,
) -> Result<pb::SetReplicaTrafficResponse, Refusal> {
    let serve = match request.traffic() {
        pb::ReplicaTraffic::Serve => true,
        pb::ReplicaTraffic::Drain => false,
        pb::ReplicaTraffic::Unspecified => {
            return Err(Refusal(Status::invalid_argument("the traffic is missing")));
        }
    };
    let why: String = request.message.chars().take(WHY_CHARS_MAX).collect();
    let at_ms = cluster.now_ms();
    cluster.change(|ledger, desired| {
        let view = cluster.view();
        let (key, chosen) = chosen(desired, &view.plan, &request.replicas)?;
        // Ids are used once: what was said of those that are gone means nothing any more.
        let mut aside = desired.aside.get(&key).cloned().unwrap_or_default();
        aside.retain(|id, _| view.plan.replica(*id).is_some());
        let mut events = Vec::new();
        for replica in &chosen {
            let (service, node) = (key.clone(), replica.node.clone());
            let (slot, replica, by) = (replica.slot, replica.id, by.to_owned());
            let kind = match serve {
                true if aside.remove(&replica).is_none() => continue,
                true => EventKind::LetBack {
                    service,
                    slot,
                    replica,
                    node,
                    by,
                },
                false => {
                    let why = why.clone();
                    let since_ms = aside.get(&replica).map_or(at_ms, |before| before.at_ms);
                    let said = Aside {
                        at_ms: since_ms,
                        by: by.clone(),
                        why: why.clone(),
                    };
                    if aside.insert(replica, said.clone()) == Some(said) {
                        continue;
                    }
                    EventKind::SetAside {
                        service,
                        slot,
                        replica,
                        node,
                        by,
                        why,
                    }
                }
            };
            events.push(Event { at_ms, kind });
        }
        if !serve && !request.force {
            let observed = cluster.fleet.snapshot();
            others_serve(&view.plan, &observed, &key, &aside, &chosen)?;
        }
        let stored = ledger.repository.put_aside(&key, &aside, &events)?;
        match aside.is_empty() {
            true => desired.aside.remove(&key),
            false => desired.aside.insert(key.clone(), aside),
        };
        let names = chosen.iter().map(|r| format!("{}.{}", key, r.slot));
        let answer = pb::SetReplicaTrafficResponse {
            replicas: names.collect(),
            changed: !events.is_empty(),
        };
        Ok((answer, stored))
    })
}

/// The replicas that are meant: of one service, behind edges, and not on their way out.
fn chosen<'p>(
    desired: &Desired,
    plan: &'p Plan,
    words: &[String],
) -> Result<(ServiceKey, Vec<&'p Replica>), Status> {
    if words.is_empty() || words.len() > REPLICAS_MAX {
        return Err(Status::invalid_argument(format!(
            "1 to {REPLICAS_MAX} replicas at a time"
        )));
    }
    let mut chosen: Vec<&Replica> = Vec::new();
    for word in words {
        let Target::Replica(id) = find::target(desired, plan, word)? else {
            return Err(Status::invalid_argument(format!(
                "{word} is no replica: name one as SERVICE.N; for a node there is node drain"
            )));
        };
        chosen.extend(plan.replica(id).map(|replica| &**replica));
    }
    chosen.sort_by_key(|replica| replica.id);
    chosen.dedup_by_key(|replica| replica.id);
    let Some(key) = chosen.first().map(|replica| replica.service.clone()) else {
        return Err(Status::not_found("there is no such replica any more"));
    };
    for replica in &chosen {
        let name = format!("{}.{} ({})", replica.service, replica.slot, replica.id);
        let refused = if replica.service != key {
            format!("{name} is of another service than {key}: one service at a time")
        } else if replica.leaving.is_some() {
            format!("{name} is on its way out")
        } else if !plan.services.get(&key).is_some_and(|s| s.leads_to(replica)) {
            format!("{name} is behind no edge, so that there is nothing to keep from it")
        } else {
            continue;
        };
        return Err(Status::failed_precondition(refused));
    }
    Ok((key, chosen))
}

/// Does somebody else take requests then?
fn others_serve(
    plan: &Plan,
    observed: &Observed,
    key: &ServiceKey,
    aside: &AsideMap,
    chosen: &[&Replica],
) -> Result<(), Status> {
    let serves = |replica: &Replica| {
        let stays = replica.leaving.is_none() && replica.traffic == Traffic::Serve;
        stays && !is_shut_out(key, replica.id, observed)
    };
    let gone: BTreeSet<ReplicaId> = chosen.iter().map(|replica| replica.id).collect();
    let loses = chosen.iter().any(|replica| serves(replica));
    let mut others = plan.replicas_of(key).filter(|r| !gone.contains(&r.id));
    if !loses || others.any(|r| serves(r) && !aside.contains_key(&r.id)) {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "nobody else of {key} takes requests: users would be refused. Scale it first \
         (controllerctl scale {key}=N), or say --force"
    )))
}
