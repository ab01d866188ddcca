//! Which endpoint to hold on to: the first that shows, by a linearizable read, that it is in touch
//! with a majority. All are asked at once, so that a frozen one costs nothing.

use std::time::Duration;

use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::{Refusal, Tried};
use crate::limits::ANSWER_BYTES_MAX;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::kv_client::KvClient;
use crate::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::settings::Settings;

/// What won.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) endpoint: String,
    pub(crate) channel: Channel,
    pub(crate) cluster_id: u64,
}

/// Asks all endpoints; the first good answer ends it.
///
/// # Errors
/// [`Tried`]: what was wrong with each.
pub(crate) async fn race(settings: &Settings, cluster_id: Option<u64>) -> Result<Found, Tried> {
    let mut probes = JoinSet::new();
    for (name, endpoint) in settings.dials() {
        let within = settings.race_deadline;
        probes.spawn(async move {
            let found = tokio::time::timeout(within, probe(&name, &endpoint, cluster_id)).await;
            found
                .unwrap_or_else(|_| Err(silent(within)))
                .map_err(|why| (name, why))
        });
    }
    let mut tried = Vec::new();
    while let Some(ended) = probes.join_next().await {
        match ended {
            // The rest end with the set.
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(why)) => tried.push(why),
            Err(error) => tracing::error!(%error, "a probe of an endpoint of etcd ended badly"),
        }
    }
    tried.sort();
    Err(Tried(tried))
}

fn silent(within: Duration) -> String {
    format!("no answer within {} ms", within.as_millis())
}

async fn probe(name: &str, dial: &Endpoint, wanted: Option<u64>) -> Result<Found, String> {
    let channel = dial.connect().await.map_err(|error| innermost(&error))?;
    let said = |status: Status| match Refusal::of(&status) {
        Some(refusal) => refusal.to_string(),
        // In TLS 1.3 the client is through before the server has looked at its certificate.
        None if name.starts_with("https:") => format!(
            "{}; if etcd asks for client certificates: does its CA know this one?",
            innermost(&status)
        ),
        None => innermost(&status),
    };
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let status = maintenance.status(with_leader(pb::StatusRequest {}));
    let status = status.await.map_err(said)?.into_inner();
    let cluster_id = status.header.as_ref().map_or(0, |header| header.cluster_id);
    let refusal = match (status.is_learner, status.leader, wanted) {
        (true, _, _) => Some(Refusal::Learner),
        (_, 0, _) => Some(Refusal::NoLeader),
        (_, _, Some(wanted)) if wanted != cluster_id => Some(Refusal::OtherCluster {
            found: cluster_id,
            wanted,
        }),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return Err(refusal.to_string());
    }
    // The status is what the member believes; that a majority agrees is what this shows. Any key
    // will do.
    let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
    let question = pb::RangeRequest {
        key: vec![0],
        count_only: true,
        ..pb::RangeRequest::default()
    };
    kv.range(with_leader(question)).await.map_err(said)?;
    Ok(Found {
        endpoint: name.to_owned(),
        channel,
        cluster_id,
    })
}

/// A member that knows of no leader then says so at once, and ends watches that it has open.
pub(crate) fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let yes = tonic::metadata::MetadataValue::from_static("true");
    request.metadata_mut().insert("hasleader", yes);
    request
}

/// What lies under an error of tonic's, whose own words say little.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
