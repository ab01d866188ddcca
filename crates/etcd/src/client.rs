//! The client: each call at one endpoint, within a deadline, with an outcome.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::error::{EtcdError, Refusal, Silence};
use crate::finder::{Finder, Link};
use crate::limits::{ANSWER_BYTES_MAX, ATTEMPTS_MAX};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::cluster_client::ClusterClient;
use crate::pb::etcdserverpb::kv_client::KvClient;
use crate::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::race::with_leader;
use crate::rows::{Range, Rows, signed, unsigned};
use crate::settings::Settings;
use crate::txn::{Txn, TxnReply};

/// An etcd cluster. Clones share the endpoint that is held on to.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) finder: Arc<Finder>,
    patience: Duration,
}

/// A call, in words, and whether it may be made twice or has changed something when its answer is
/// lost.
pub(crate) struct Call {
    pub(crate) attempted: String,
    /// May it be made again after it was perhaps done?
    pub(crate) again: bool,
    pub(crate) writes: bool,
}

impl Call {
    pub(crate) fn read(attempted: impl Into<String>) -> Self {
        Self {
            attempted: attempted.into(),
            again: true,
            writes: false,
        }
    }

    /// A write that is made once only.
    pub(crate) fn write(attempted: impl Into<String>) -> Self {
        Self {
            attempted: attempted.into(),
            again: false,
            writes: true,
        }
    }

    /// A write that does no more the second time.
    pub(crate) fn repeatable(attempted: impl Into<String>) -> Self {
        Self {
            attempted: attempted.into(),
            again: true,
            writes: true,
        }
    }

    pub(crate) fn silent(&self, link: &Link, silence: Silence) -> EtcdError {
        let (attempted, endpoint) = (self.attempted.clone(), link.endpoint.to_string());
        match self.writes {
            true => EtcdError::Unknown {
                attempted,
                endpoint,
                silence,
            },
            false => EtcdError::Unanswered {
                attempted,
                endpoint,
                silence,
            },
        }
    }

    pub(crate) fn refused(&self, link: &Link, refusal: Refusal) -> EtcdError {
        EtcdError::Refused {
            attempted: self.attempted.clone(),
            endpoint: link.endpoint.to_string(),
            refusal,
        }
    }

    /// What a status means for this call.
    pub(crate) fn failed(&self, link: &Link, status: Status) -> EtcdError {
        match Refusal::of(&status) {
            Some(refusal) => self.refused(link, refusal),
            // A write was made all the same.
            None if !self.writes && is_too_large(&status) => EtcdError::AnswerTooLarge {
                attempted: self.attempted.clone(),
                max: ANSWER_BYTES_MAX,
            },
            None => self.silent(link, Silence::Broken(Box::new(status))),
        }
    }
}

/// Answers say who gave them.
pub(crate) trait Headed {
    fn header(&self) -> Option<&pb::ResponseHeader>;
}

macro_rules! headed {
    ($($answer:ident),*) => {
        $(impl Headed for pb::$answer {
            fn header(&self) -> Option<&pb::ResponseHeader> {
                self.header.as_ref()
            }
        })*
    };
}
headed!(
    RangeResponse,
    TxnResponse,
    CompactionResponse,
    WatchResponse,
    LeaseGrantResponse,
    LeaseRevokeResponse,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveResponse,
    MemberListResponse,
    StatusResponse
);

/// The endpoint in use, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// The endpoint.
    pub endpoint: String,
    /// Its member's id.
    pub member_id: u64,
    /// etcd's version, such as 3.5.16.
    pub version: String,
    /// The member that leads etcd's own cluster.
    pub leader_id: u64,
    /// Bytes that its database takes on disk.
    pub database_bytes: u64,
    /// Of these, in use; the rest would be freed by a defragmentation.
    pub used_bytes: u64,
    /// Its alarms, in its words: NOSPACE, CORRUPT.
    pub alarms: Vec<String>,
}

/// A member of etcd's cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where it says that clients find it.
    pub client_urls: Vec<String>,
    /// Does it only listen?
    pub is_learner: bool,
}

impl Client {
    /// Dials nobody yet. Must be called inside of a tokio runtime.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let patience = settings.patience;
        Self {
            finder: Arc::new(Finder::new(settings)),
            patience,
        }
    }

    /// The same cluster and endpoint, with another limit on each call.
    #[must_use]
    pub fn patient_for(&self, patience: Duration) -> Self {
        Self {
            finder: Arc::clone(&self.finder),
            patience,
        }
    }

    /// The cluster, once an endpoint of it has served.
    #[must_use]
    pub fn cluster_id(&self) -> Option<u64> {
        self.finder.cluster_id()
    }

    /// Reads rows.
    ///
    /// # Errors
    /// [`EtcdError`], never of unknown outcome.
    pub async fn range(&self, range: Range) -> Result<Rows, EtcdError> {
        let call = Call::read(format!("read of {}", range.span));
        let send = |channel| {
            let request = with_leader(range.request());
            async move { kv(channel).range(request).await }
        };
        let (answer, _) = self.call(&call, send).await?;
        let revision = revision_of(&answer);
        Ok(Rows::new(answer, revision))
    }

    /// Makes a transaction, once. If only its answer is lost, the outcome is unknown: read back.
    ///
    /// # Errors
    /// [`EtcdError`]; [`EtcdError::outcome`] says whether it may have been made.
    pub async fn txn(&self, txn: Txn) -> Result<TxnReply, EtcdError> {
        let call = match txn.writes() {
            true => Call::write(txn.attempted()),
            false => Call::read(txn.attempted()),
        };
        let request = txn.request()?;
        let send = |channel| {
            let request = with_leader(request.clone());
            async move { kv(channel).txn(request).await }
        };
        let (answer, link) = self.call(&call, send).await?;
        let revision = revision_of(&answer);
        TxnReply::new(answer, revision)
            .ok_or_else(|| call.silent(&link, Silence::Odd("a reply without content")))
    }

    /// Forgets what was before `revision`; present rows stay. etcd grows until somebody does, or
    /// it does so by itself (`--auto-compaction-retention`).
    ///
    /// # Errors
    /// [`EtcdError`]; [`Refusal::Compacted`] if it was done already.
    pub async fn compact(&self, revision: u64) -> Result<(), EtcdError> {
        let call = Call::write(format!("compaction up to revision {revision}"));
        let send = |channel| {
            let request = with_leader(pb::CompactionRequest {
                revision: signed(revision),
                physical: false,
            });
            async move { kv(channel).compact(request).await }
        };
        self.call(&call, send).await.map(drop)
    }

    /// Asks the endpoint in use how it is.
    ///
    /// # Errors
    /// [`EtcdError`], never of unknown outcome.
    pub async fn status(&self) -> Result<EndpointStatus, EtcdError> {
        let send = |channel| async move {
            let mut maintenance = MaintenanceClient::new(channel);
            maintenance.status(with_leader(pb::StatusRequest {})).await
        };
        let (answer, link) = self.call(&Call::read("question for status"), send).await?;
        Ok(EndpointStatus {
            endpoint: link.endpoint.to_string(),
            member_id: answer.header.as_ref().map_or(0, |header| header.member_id),
            version: answer.version,
            leader_id: answer.leader,
            database_bytes: unsigned(answer.db_size),
            used_bytes: unsigned(answer.db_size_in_use),
            alarms: answer.errors,
        })
    }

    /// Asks who belongs to etcd's cluster.
    ///
    /// # Errors
    /// [`EtcdError`], never of unknown outcome.
    pub async fn members(&self) -> Result<Vec<Member>, EtcdError> {
        let send = |channel| async move {
            let mut cluster = ClusterClient::new(channel);
            let question = with_leader(pb::MemberListRequest {});
            cluster.member_list(question).await
        };
        let (answer, _) = self.call(&Call::read("question for members"), send).await?;
        let member = |member: pb::Member| Member {
            id: member.id,
            name: member.name,
            client_urls: member.client_ur_ls,
            is_learner: member.is_learner,
        };
        Ok(answer.members.into_iter().map(member).collect())
    }

    /// Makes a call at the endpoint in use, and leaves it if it does not answer in time or cannot
    /// serve. What may be made again is, at the next endpoint, as long as there is patience.
    pub(crate) async fn call<T, F, S>(&self, call: &Call, send: S) -> Result<(T, Link), EtcdError>
    where
        T: Headed,
        F: Future<Output = Result<Response<T>, Status>>,
        S: Fn(Channel) -> F,
    {
        let deadline = Instant::now() + self.patience;
        let mut attempts = 0;
        let mut maybe_done = None;
        loop {
            let link = match self.finder.link(deadline).await {
                Ok(link) => link,
                // What an earlier attempt may have done says more than that there was no further.
                Err(tried) => {
                    return Err(maybe_done.unwrap_or_else(|| EtcdError::NoEndpoint {
                        attempted: call.attempted.clone(),
                        tried: (*tried).clone(),
                    }));
                }
            };
            attempts += 1;
            let error = match self.attempt(call, &link, deadline, &send).await {
                Ok(answer) => return Ok((answer, link)),
                Err(error) => error,
            };
            let gone = match &error {
                EtcdError::Refused { refusal, .. } => refusal.is_of_the_endpoint(),
                EtcdError::AnswerTooLarge { .. } => false,
                _ => true,
            };
            if gone {
                self.finder.leave(&link, &error);
            }
            let undone = error.outcome() == crate::Outcome::NotApplied && maybe_done.is_none();
            if !gone || !(call.again || undone) || attempts >= ATTEMPTS_MAX {
                return Err(error);
            }
            maybe_done = (!undone).then_some(error);
        }
    }

    async fn attempt<T, F, S>(
        &self,
        call: &Call,
        link: &Link,
        deadline: Instant,
        send: &S,
    ) -> Result<T, EtcdError>
    where
        T: Headed,
        F: Future<Output = Result<Response<T>, Status>>,
        S: Fn(Channel) -> F,
    {
        let begun = Instant::now();
        let until = deadline.min(begun + self.finder.settings().call_deadline);
        let answer = match tokio::time::timeout_at(until, send(link.channel.clone())).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(call.failed(link, status)),
            Err(_) => {
                let ms = (until - begun).as_millis();
                return Err(call.silent(link, Silence::Deadline { ms }));
            }
        };
        let Some(header) = answer.header() else {
            return Err(call.silent(link, Silence::Odd("no header")));
        };
        match self.cluster_id() {
            Some(wanted) if wanted != header.cluster_id => {
                let found = header.cluster_id;
                // The address leads elsewhere now; a write has been made there.
                Err(match call.writes {
                    true => call.silent(link, Silence::Odd("it came from another cluster")),
                    false => call.refused(link, Refusal::OtherCluster { found, wanted }),
                })
            }
            _ => Ok(answer),
        }
    }
}

fn revision_of(answer: &impl Headed) -> u64 {
    answer
        .header()
        .map_or(0, |header| unsigned(header.revision))
}

/// Did tonic refuse an answer for its size? Its words, as there is nothing else to tell by
/// (`tonic::codec::decode`); a test reads too much from a real member.
fn is_too_large(status: &Status) -> bool {
    status.code() == Code::OutOfRange
        && status
            .message()
            .starts_with("Error, decoded message length too large")
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(ANSWER_BYTES_MAX)
        .max_encoding_message_size(crate::limits::ETCD_REQUEST_BYTES_MAX)
}
