//! One open stream: hello, then commands in and reports out, until it breaks.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, PollNext};
use longshore_identity::tls::{CertificateRefusal, ConnectError, RENEW_FIRST, explain};
use longshore_model::NodeId;
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::agent_service_client::AgentServiceClient;
use longshore_proto::agent::v1::session_request::Message as Out;
use longshore_proto::agent::v1::session_response::Message as In;
use longshore_wire::{
    WireError, assignment_from_pb, capacity_to_pb, certificates_from_pb, names_from_pb,
    routes_from_pb,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::SessionParts;
use super::contents::{forget_others, take_contents};
use super::reports::Reporter;
use super::streams::{NodeView, STDIN_PIECES, Streams};
use crate::edge;
use crate::identity::NodeFile;
use crate::join::{JoinError, dial};
use crate::ledger::{Accepted, LedgerError};
use crate::runtime::Runtime;

/// From dialling to the controller's welcome.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The controller pings every second; silence for so long is a dead connection.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// With several controllers: by then another one may lead.
const SILENCE_SEVERAL_MAX: Duration = Duration::from_secs(4);
/// Echoes and reports that wait to be sent.
const CONTROL_QUEUE: usize = 64;
/// Pieces of logs and command output that wait to be sent; senders wait when it is full.
const BULK_QUEUE: usize = 32;
/// An assignment of 4,096 replicas with 1,024 templates fits.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// The controller's word is taken within these bounds.
const REPORT_INTERVAL_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The controller does not take this node's certificate.
    #[error(
        "{controller} does not take this node's certificate: {refusal}; enrol the node again: \
         controllerctl token create --role {role} --name {node}, and with that token on this host \
         node-agent join --controller {controller} --name {node} --address {address} --role {role}"
    )]
    Certificate {
        /// Who.
        controller: String,
        /// Why not.
        refusal: CertificateRefusal,
        /// This node.
        node: NodeId,
        /// Its address.
        address: IpAddr,
        /// Its roles, as options take them.
        role: &'static str,
    },
    /// The controller takes this node's certificate for renewing it only.
    #[error("no session before the certificate is renewed: {0}")]
    RenewFirst(String),
    /// It wants the certificate renewed, and that failed.
    #[error("the certificate is over, and not renewed yet")]
    NotRenewed(#[source] JoinError),
    /// The controller, or the way to it, ended the call.
    #[error("the controller ended the session: {why}")]
    Ended {
        /// In words, the last cause included.
        why: String,
        /// It meant it: trying again at once changes nothing.
        refusal: bool,
    },
    /// Nothing came for too long.
    #[error("the controller was silent for {0} s")]
    Silent(u64),
    /// It does not take what it is sent.
    #[error("the controller does not take messages: {CONTROL_QUEUE} are waiting")]
    Full,
    /// It sent something that is not agreed.
    #[error("the controller sent a message that cannot be used")]
    Message(#[from] WireError),
}

impl SessionError {
    /// Is it an orderly no?
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Ended { refusal: true, .. }
                | Self::Certificate { .. }
                | Self::NotRenewed(JoinError::Refused { .. })
        )
    }

    pub(super) fn dialled(error: ConnectError, file: &NodeFile) -> Self {
        match error {
            ConnectError::Refused { endpoint, refusal } => Self::Certificate {
                controller: endpoint,
                refusal,
                node: file.node.clone(),
                address: file.address,
                role: match (file.roles.worker, file.roles.edge) {
                    (true, true) => "worker,edge",
                    (false, true) => "edge",
                    _ => "worker",
                },
            },
            other => other.into(),
        }
    }

    fn ended(status: Status) -> Self {
        let orderly = [
            Code::PermissionDenied,
            Code::Unauthenticated,
            Code::FailedPrecondition,
            Code::ResourceExhausted,
            Code::Unimplemented,
            Code::InvalidArgument,
        ];
        if status.metadata().contains_key(RENEW_FIRST) {
            return Self::RenewFirst(status.message().to_owned());
        }
        let refusal = orderly.contains(&status.code());
        let why = status.source().and_then(explain).unwrap_or_else(|| {
            if status.message().is_empty() {
                format!("{:?}", status.code())
            } else {
                status.message().to_owned()
            }
        });
        Self::Ended { why, refusal }
    }

    fn closed() -> Self {
        Self::Ended {
            why: "the stream was closed".into(),
            refusal: false,
        }
    }
}

/// Why serving ended without an error.
pub(super) enum Ended {
    Stop,
    Renewed,
}

pub(super) struct Live {
    inbound: Streaming<pb::SessionResponse>,
    control: mpsc::Sender<pb::SessionRequest>,
    reporter: Reporter,
    streams: Streams,
}

fn request(message: Out) -> pb::SessionRequest {
    pb::SessionRequest {
        message: Some(message),
    }
}

impl Live {
    /// Dials and says hello.
    pub(super) async fn open<R: Runtime>(parts: &SessionParts<R>) -> Result<Self, SessionError> {
        let opened = timeout(OPEN_TIMEOUT, Self::open_now(parts)).await;
        opened.unwrap_or(Err(SessionError::Silent(OPEN_TIMEOUT.as_secs())))
    }

    async fn open_now<R: Runtime>(parts: &SessionParts<R>) -> Result<Self, SessionError> {
        let identity = &parts.identity;
        let dialled = dial(identity).await;
        let channel = dialled.map_err(|error| SessionError::dialled(error, &identity.file))?;
        let (control, control_out) = mpsc::channel(CONTROL_QUEUE);
        let (bulk, bulk_out) = mpsc::channel(BULK_QUEUE);
        // Echoes and reports go first: a long log must not make the node look dead.
        let out = stream::select_with_strategy(
            ReceiverStream::new(control_out),
            ReceiverStream::new(bulk_out),
            |(): &mut ()| PollNext::Left,
        );
        let hello = request(Out::Hello(hello(parts)));
        control
            .send(hello)
            .await
            .map_err(|_| SessionError::closed())?;
        let mut client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut inbound = client
            .session(out)
            .await
            .map_err(SessionError::ended)?
            .into_inner();
        let first = inbound.message().await.map_err(SessionError::ended)?;
        let Some(In::Welcome(welcome)) = first.and_then(|first| first.message) else {
            return Err(SessionError::closed());
        };
        tracing::info!(
            controller = welcome.controller_version,
            "session with the controller"
        );
        let interval_ms = welcome
            .report_interval_ms
            .clamp(*REPORT_INTERVAL_MS.start(), *REPORT_INTERVAL_MS.end());
        let reporter = Reporter::new(Duration::from_millis(interval_ms), parts.routes.is_some());
        Ok(Self {
            inbound,
            control,
            reporter,
            streams: Streams::new(bulk),
        })
    }

    /// Works until the stream breaks.
    pub(super) async fn serve<R: Runtime>(
        &mut self,
        parts: &mut SessionParts<R>,
        stop: &CancellationToken,
    ) -> Result<Ended, SessionError> {
        let renewed = Arc::clone(&parts.renewed);
        let mut heard = Instant::now();
        let silence_max = match parts.identity.controllers.list().len() {
            0 | 1 => SILENCE_MAX,
            _ => SILENCE_SEVERAL_MAX,
        };
        loop {
            let now = Instant::now();
            while let Some(report) = self.reporter.next(parts, now) {
                self.send(report)?;
            }
            let report_at = self.reporter.wake_at(now);
            tokio::select! {
                // Pings are answered before anything else.
                biased;
                message = self.inbound.message() => {
                    heard = Instant::now();
                    let message = message.map_err(SessionError::ended)?;
                    let message = message.ok_or_else(SessionError::closed)?;
                    self.take(parts, message).await?;
                }
                () = stop.cancelled() => return Ok(Ended::Stop),
                () = renewed.notified() => return Ok(Ended::Renewed),
                Ok(()) = parts.snapshots.changed() => self.reporter.node_changed(),
                Ok(()) = parts.edge_reports.changed() => {
                    let next = parts.edge_reports.borrow_and_update().to_send(Instant::now());
                    self.reporter.edge_changed(&next);
                }
                () = sleep_until(report_at) => {}
                () = sleep_until(heard + silence_max) => {
                    return Err(SessionError::Silent(silence_max.as_secs()));
                }
            }
        }
    }

    /// Sends a last report and closes in order.
    pub(super) async fn close<R: Runtime>(mut self, parts: &mut SessionParts<R>) {
        self.reporter.node_changed();
        self.reporter.hurry();
        while let Some(report) = self.reporter.next(parts, Instant::now()) {
            if self.send(report).is_err() {
                break;
            }
        }
        drop((self.control, self.streams));
        // Until the controller has seen the end; a second is enough for it.
        let drained = async { while let Ok(Some(_)) = self.inbound.message().await {} };
        if timeout(Duration::from_secs(1), drained).await.is_err() {
            tracing::debug!("the controller did not close the session in time");
        }
    }

    fn send(&self, message: Out) -> Result<(), SessionError> {
        self.control
            .try_send(request(message))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SessionError::Full,
                mpsc::error::TrySendError::Closed(_) => SessionError::closed(),
            })
    }

    async fn take<R: Runtime>(
        &mut self,
        parts: &mut SessionParts<R>,
        message: pb::SessionResponse,
    ) -> Result<(), SessionError> {
        match message.message {
            Some(In::Ping(ping)) => self.send(Out::Echo(pb::Echo { nonce: ping.nonce }))?,
            Some(In::Assignment(assignment)) => {
                if let Some(refused) = take_assignment(parts, assignment).await? {
                    self.send(Out::Refused(refused))?;
                }
            }
            Some(In::Routes(routes)) => {
                if let Some(refused) = take_routes(parts, routes).await? {
                    self.send(Out::Refused(refused))?;
                }
            }
            Some(In::Names(names)) => {
                if let Some(refused) = take_names(parts, names).await? {
                    self.send(Out::Refused(refused))?;
                }
            }
            Some(In::Certificates(certificates)) => {
                if let Some(refused) = take_certificates(parts, certificates)? {
                    self.send(Out::Refused(refused))?;
                }
            }
            Some(In::Contents(contents)) => {
                if let Some(refused) = take_contents(parts, contents)? {
                    self.send(Out::Refused(refused))?;
                }
            }
            Some(In::OpenStream(open)) => {
                let snapshot = parts.snapshots.borrow().clone();
                let node = NodeView {
                    snapshot: &snapshot,
                    proxy: parts.proxy.as_ref(),
                    runner: parts.runner.as_ref(),
                    said: &parts.said,
                };
                self.streams.open(Arc::clone(&parts.runtime), &node, open);
            }
            Some(In::StreamData(data)) => self.streams.data(data),
            Some(In::StreamResize(resize)) => self.streams.resize(&resize),
            Some(In::StreamEnd(end)) => self.streams.end(end.stream_id),
            // A welcome twice, or something newer than this agent: nothing to obey.
            Some(In::Welcome(_)) | None => {}
        }
        Ok(())
    }
}

fn hello<R: Runtime>(parts: &SessionParts<R>) -> pb::Hello {
    let book = parts.ledger.book();
    let engine = parts.engine.borrow().clone();
    pb::Hello {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id(),
        capacity: Some(capacity_to_pb(&parts.sampler.capacity(&engine))),
        fence: Some(book.fence.into()),
        assignment_generation: book
            .assignment
            .map_or(0, |assignment| assignment.generation),
        routes_generation: book.routes.map_or(0, |routes| routes.generation),
        engine_version: engine.version,
        peer_port: parts
            .names
            .as_ref()
            .map_or(0, |names| names.peer_port.into()),
        stdin_pieces: STDIN_PIECES,
    }
}

/// The kernel's id of this boot; in a container that of its host, so its own host name is added.
fn boot_id() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let boot = read("/proc/sys/kernel/random/boot_id");
    let name = read("/proc/sys/kernel/hostname");
    format!("{}-{}", boot.trim(), name.trim())
}

async fn take_assignment<R: Runtime>(
    parts: &SessionParts<R>,
    message: pb::Assignment,
) -> Result<Option<pb::Refused>, SessionError> {
    let (fence, assignment) = assignment_from_pb(message)?;
    let generation = assignment.generation;
    let Some(sender) = &parts.assignments else {
        return Ok(None);
    };
    let assignment = Arc::new(assignment);
    match parts
        .ledger
        .accept_assignment(fence, Arc::clone(&assignment))
        .await
    {
        Ok(Accepted::New) => {
            let replicas = assignment.replicas.len();
            tracing::info!(
                generation,
                replicas,
                term = fence.term,
                "assignment accepted"
            );
            forget_others(parts, &assignment);
            sender.send_replace(Some(assignment));
            Ok(None)
        }
        Ok(Accepted::Same) => {
            forget_others(parts, &assignment);
            Ok(None)
        }
        Err(error) => Ok(Some(refusal(parts, "assignment", generation, &error))),
    }
}

async fn take_routes<R: Runtime>(
    parts: &SessionParts<R>,
    message: pb::Routes,
) -> Result<Option<pb::Refused>, SessionError> {
    let (fence, routes) = routes_from_pb(message)?;
    let generation = routes.generation;
    let Some(sender) = &parts.routes else {
        return Ok(None);
    };
    let routes = Arc::new(routes);
    match parts.ledger.accept_routes(fence, Arc::clone(&routes)).await {
        Ok(Accepted::New) => {
            sender.send_replace(Some(routes));
            Ok(None)
        }
        Ok(Accepted::Same) => Ok(None),
        Err(error) => Ok(Some(refusal(parts, "routes", generation, &error))),
    }
}

async fn take_names<R: Runtime>(
    parts: &SessionParts<R>,
    message: pb::Names,
) -> Result<Option<pb::Refused>, SessionError> {
    let (fence, names) = names_from_pb(message)?;
    let generation = names.generation;
    let Some(handle) = &parts.names else {
        return Ok(None);
    };
    let names = Arc::new(names);
    match parts.ledger.accept_names(fence, Arc::clone(&names)).await {
        Ok(Accepted::New) => {
            let services = names.services.len();
            tracing::info!(generation, services, term = fence.term, "names accepted");
            handle.tell(&names);
            Ok(None)
        }
        Ok(Accepted::Same) => Ok(None),
        Err(error) => Ok(Some(refusal(parts, "names", generation, &error))),
    }
}

/// Certificates are not written down here: the driver keeps those that it needs as files.
fn take_certificates<R: Runtime>(
    parts: &SessionParts<R>,
    message: pb::Certificates,
) -> Result<Option<pb::Refused>, SessionError> {
    let (fence, secrets) = certificates_from_pb(message)?;
    let Some(sender) = &parts.certificates else {
        return Ok(None);
    };
    let have = parts.ledger.book().fence;
    if fence < have {
        tracing::warn!(?fence, ?have, "refused certificates of an older leader");
        return Ok(Some(pb::Refused {
            what: format!("certificates of term {}", fence.term),
            have: Some(have.into()),
            have_generation: 0,
            why: "a newer leader was obeyed".to_owned(),
        }));
    }
    sender.send_replace(Arc::new(edge::certificates(&secrets)));
    Ok(None)
}

fn refusal<R: Runtime>(
    parts: &SessionParts<R>,
    what: &str,
    generation: u64,
    error: &LedgerError,
) -> pb::Refused {
    tracing::warn!(what, generation, %error, "refused a command");
    let have_generation = match error {
        LedgerError::Refused(refusal) => refusal.have_generation,
        _ => 0,
    };
    pb::Refused {
        what: format!("{what} {generation}"),
        have: Some(parts.ledger.book().fence.into()),
        have_generation,
        why: error.to_string(),
    }
}
