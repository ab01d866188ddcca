//! Leases: rows that go with one are deleted when it is not kept alive. A lease is no lock:
//! whoever held it may not know yet that it is over.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::client::{Call, Client};
use crate::error::{EtcdError, Refusal};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::lease_client::LeaseClient;
use crate::race::with_leader;
use crate::rows::LeaseId;

/// A lease that was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// How long it lives unless it is kept alive: what was asked for, or longer.
    pub ttl: Duration,
}

/// What is left of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeToLive {
    /// How long it lives yet, in whole seconds.
    pub left: Duration,
    /// How long it was granted for.
    pub granted: Duration,
    /// The rows that go with it.
    pub keys: Vec<Vec<u8>>,
}

impl Client {
    /// Has a lease made, in whole seconds. If the answer is lost, what was made ends by itself.
    ///
    /// # Errors
    /// [`EtcdError`].
    pub async fn grant(&self, ttl: Duration) -> Result<Lease, EtcdError> {
        let call = Call::write(format!("grant of a lease of {} s", ttl.as_secs()));
        let asked = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let send = |channel| async move {
            let request = with_leader(pb::LeaseGrantRequest { ttl: asked, id: 0 });
            LeaseClient::new(channel).lease_grant(request).await
        };
        let (answer, link) = self.call(&call, send).await?;
        match seconds(answer.ttl) {
            Some(ttl) if answer.error.is_empty() => Ok(Lease {
                id: LeaseId(answer.id),
                ttl,
            }),
            _ => Err(call.refused(&link, Refusal::Invalid(answer.error))),
        }
    }

    /// Lets a lease live for its time from now on; none: it is over. That it was kept alive proves
    /// no leadership: etcd before 3.4.38 may say so of a lease that has just been revoked.
    ///
    /// # Errors
    /// [`EtcdError`]; tried at other endpoints as long as there is patience.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, EtcdError> {
        let call = Call::repeatable(format!("keep-alive of lease {lease}"));
        let (answer, _) = self
            .call(&call, |channel| keep_once(channel, lease))
            .await?;
        Ok(seconds(answer.ttl))
    }

    /// Ends a lease and deletes the rows that go with it. One that is over is ended.
    ///
    /// # Errors
    /// [`EtcdError`]; tried at other endpoints as long as there is patience.
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), EtcdError> {
        let call = Call::repeatable(format!("end of lease {lease}"));
        let send = |channel| async move {
            let request = with_leader(pb::LeaseRevokeRequest { id: lease.0 });
            LeaseClient::new(channel).lease_revoke(request).await
        };
        match self.call(&call, send).await {
            Err(error) if error.refusal() == Some(&Refusal::LeaseGone) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Asks what is left of a lease; none: it is over.
    ///
    /// # Errors
    /// [`EtcdError`], never of unknown outcome.
    pub async fn time_to_live(&self, lease: LeaseId) -> Result<Option<TimeToLive>, EtcdError> {
        let call = Call::read(format!("question for lease {lease}"));
        let send = |channel| async move {
            let request = with_leader(pb::LeaseTimeToLiveRequest {
                id: lease.0,
                keys: true,
            });
            LeaseClient::new(channel).lease_time_to_live(request).await
        };
        let (answer, _) = self.call(&call, send).await?;
        Ok(u64::try_from(answer.ttl).ok().map(|left| TimeToLive {
            left: Duration::from_secs(left),
            granted: seconds(answer.granted_ttl).unwrap_or_default(),
            keys: answer.keys,
        }))
    }
}

/// etcd's call is a stream; one question and its answer are all that is wanted of it.
async fn keep_once(
    channel: Channel,
    lease: LeaseId,
) -> Result<Response<pb::LeaseKeepAliveResponse>, Status> {
    let question = pb::LeaseKeepAliveRequest { id: lease.0 };
    // Left open until the answer is there: etcd may give up on a stream whose end it has seen.
    let (_open, questions) = {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let _ = sender.try_send(question);
        (
            sender,
            tokio_stream::wrappers::ReceiverStream::new(receiver),
        )
    };
    let mut client = LeaseClient::new(channel);
    let mut answers = client.lease_keep_alive(with_leader(questions)).await?;
    match answers.get_mut().message().await? {
        Some(answer) => Ok(Response::new(answer)),
        None => Err(Status::unavailable("the stream ended without an answer")),
    }
}

fn seconds(ttl: i64) -> Option<Duration> {
    u64::try_from(ttl)
        .ok()
        .filter(|ttl| *ttl > 0)
        .map(Duration::from_secs)
}
