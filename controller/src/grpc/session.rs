//! One agent's session: what it says goes to the fleet, what waits in its outbox goes to it, and a
//! round trip every second shows that it is there.

use std::sync::Arc;
use std::time::Duration;

use longshore_model::NodeId;
use longshore_proto::agent::v1 as pb;
use longshore_wire::{
    assignment_to_pb, capacity_from_pb, certificates_to_pb, contents_to_pb, edge_report_from_pb,
    names_to_pb, node_report_from_pb, routes_to_pb,
};
use pb::session_request::Message as Request;
use pb::session_response::Message as Response;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::{Status, Streaming};

use super::{enroll, quoted};
use crate::cluster::Cluster;
use crate::contents::Held;
use crate::fleet::{Command, Greeting, OutboxReader, Outgoing, Session};

/// The first message must come within this.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const PING_PERIOD: Duration = Duration::from_secs(1);
/// Most that the log repeats of why an agent refused.
const REFUSED_CHARS_MAX: usize = 500;
/// How often a report is wanted without any change.
const REPORT_PERIOD_MS: u64 = 1_000;

type Responses = mpsc::Sender<Result<pb::SessionResponse, Status>>;

/// Whose session it is.
pub(super) struct Caller {
    pub(super) node: NodeId,
    pub(super) edge: bool,
}

/// Serves a session to its end.
pub(super) async fn run(
    cluster: Arc<Cluster>,
    caller: Caller,
    mut requests: Streaming<pb::SessionRequest>,
    responses: Responses,
) {
    let greeting = match timeout(HELLO_TIMEOUT, requests.message()).await {
        Ok(Ok(Some(pb::SessionRequest {
            message: Some(Request::Hello(hello)),
        }))) => greeting(hello),
        Ok(Ok(_)) => {
            refuse(
                &responses,
                Status::invalid_argument("a session begins with hello"),
            )
            .await;
            return;
        }
        Ok(Err(_)) => return,
        Err(_) => {
            refuse(
                &responses,
                Status::deadline_exceeded("no hello came within 5 s"),
            )
            .await;
            return;
        }
    };
    let node = caller.node;
    let session = cluster
        .fleet
        .connect(&node, caller.edge, greeting, cluster.now_ms());
    // Removed between the check of the call and here.
    if !cluster.desired().nodes.contains_key(&node) {
        cluster.fleet.forget(&node);
        refuse(&responses, enroll::removed(&node)).await;
        return;
    }
    let Session { id, ended, outbox } = session;
    // The planner says in the event log that a node came or went.
    tracing::info!(%node, session = id, "session began");
    cluster.wake.notify_one();
    let end = {
        let sending = send(&cluster, &node, id, outbox, &responses);
        let receiving = receive(&cluster, &node, id, &mut requests);
        tokio::select! {
            () = sending => Status::unavailable("the agent went away"),
            status = receiving => status,
            () = ended.cancelled() => Status::aborted(
                "a newer session of this node took over, or the node was removed",
            ),
            () = cluster.stopping.cancelled() => Status::unavailable("the controller stops; come back"),
        }
    };
    if cluster.fleet.disconnect(&node, id) {
        tracing::info!(%node, session = id, why = end.message(), "session ended");
        cluster.wake.notify_one();
    }
    refuse(&responses, end).await;
}

/// The last word of a session; if nobody listens any more, nobody needs it.
async fn refuse(responses: &Responses, status: Status) {
    let _heard = timeout(Duration::from_secs(1), responses.send(Err(status))).await;
}

fn greeting(hello: pb::Hello) -> Greeting {
    let short = |text: String| text.chars().take(64).collect();
    Greeting {
        capacity: hello.capacity.map(capacity_from_pb).unwrap_or_default(),
        assignment_generation: hello.assignment_generation,
        routes_generation: hello.routes_generation,
        agent_version: short(hello.agent_version),
        engine_version: short(hello.engine_version),
        peer_port: u16::try_from(hello.peer_port).unwrap_or(0),
        stdin_pieces: hello.stdin_pieces,
    }
}

/// Returns when the agent no longer listens.
async fn send(
    cluster: &Cluster,
    node: &NodeId,
    session: u64,
    mut outbox: OutboxReader,
    responses: &Responses,
) {
    let welcome = Response::Welcome(pb::Welcome {
        controller_version: env!("CARGO_PKG_VERSION").into(),
        fence: Some(cluster.fence.into()),
        time_ms: cluster.now_ms(),
        report_interval_ms: REPORT_PERIOD_MS,
    });
    if !say(responses, welcome).await {
        return;
    }
    let mut held = Held::default();
    let mut pings = interval(PING_PERIOD);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            _ = pings.tick() => {
                // Not to be guessed: an echo must prove that the ping was read.
                let Ok(nonce) = getrandom::u64() else { continue };
                cluster.fleet.pinged(node, session, nonce);
                Response::Ping(pb::Ping { nonce })
            }
            next = outbox.next() => match next {
                Some(Outgoing::Assignment(assignment)) => {
                    for (digest, contents) in held.before(&assignment, &cluster.contents()) {
                        let contents = contents_to_pb(&digest, &contents, cluster.fence);
                        if !say(responses, Response::Contents(contents)).await {
                            return;
                        }
                    }
                    Response::Assignment(assignment_to_pb(&assignment, cluster.fence))
                }
                Some(Outgoing::Names(names)) => Response::Names(names_to_pb(&names, cluster.fence)),
                Some(Outgoing::Routes(routes)) => Response::Routes(routes_to_pb(&routes, cluster.fence)),
                Some(Outgoing::Certificates(secrets)) => {
                    Response::Certificates(certificates_to_pb(&secrets.all, cluster.fence))
                }
                Some(Outgoing::Stream(message)) => message,
                // The fleet dropped this session; its token says why.
                None => std::future::pending().await,
            },
        };
        if !say(responses, message).await {
            return;
        }
    }
}

async fn say(responses: &Responses, message: Response) -> bool {
    responses
        .send(Ok(pb::SessionResponse {
            message: Some(message),
        }))
        .await
        .is_ok()
}

/// Returns why no more is heard.
async fn receive(
    cluster: &Cluster,
    node: &NodeId,
    session: u64,
    requests: &mut Streaming<pb::SessionRequest>,
) -> Status {
    loop {
        match requests.message().await {
            Ok(Some(request)) => {
                if let Err(status) = hear(cluster, node, session, request.message) {
                    tracing::warn!(%node, why = status.message(), "an agent's message was refused");
                    return status;
                }
            }
            Ok(None) => return Status::ok("the agent ended its session"),
            Err(status) => return status,
        }
    }
}

/// Takes one message.
///
/// # Errors
/// What is wrong with it; the session ends, as everything after it would build on it.
fn hear(
    cluster: &Cluster,
    node: &NodeId,
    session: u64,
    message: Option<Request>,
) -> Result<(), Status> {
    let now_ms = cluster.now_ms();
    let invalid = |error: longshore_wire::WireError| Status::invalid_argument(crate::chain(&error));
    let fleet = &cluster.fleet;
    match message {
        Some(Request::Echo(echo)) => fleet.echoed(node, session, echo.nonce, now_ms),
        Some(Request::NodeReport(report)) => {
            let report = node_report_from_pb(report).map_err(invalid)?;
            if fleet.node_report(node, session, report, now_ms) {
                cluster.wake.notify_one();
            }
        }
        Some(Request::EdgeReport(report)) => {
            let report = edge_report_from_pb(report).map_err(invalid)?;
            if fleet.edge_report(node, session, report, now_ms) {
                cluster.wake.notify_one();
            }
        }
        Some(Request::StreamData(data)) => fleet.streams.data(node, data),
        Some(Request::StreamCredit(credit)) => fleet.streams.credit(node, &credit),
        Some(Request::StreamEnd(end)) => fleet.streams.end(node, end),
        Some(Request::Refused(refused)) => hear_refusal(cluster, node, session, refused),
        Some(Request::Hello(_)) => return Err(Status::invalid_argument("a second hello")),
        // From a newer agent: this one message is not understood, the rest is.
        None => {}
    }
    Ok(())
}

/// A command that an agent could not write to its disk is sent again; one of an older leadership
/// is not.
fn hear_refusal(cluster: &Cluster, node: &NodeId, session: u64, refused: pb::Refused) {
    let why: String = refused.why.chars().take(REFUSED_CHARS_MAX).collect();
    tracing::warn!(
        %node,
        what = quoted(&refused.what),
        have = refused.have_generation,
        ?why,
        "the agent refused a command and kept what it had"
    );
    let have: longshore_wire::Fence = refused.have.map(Into::into).unwrap_or_default();
    if have <= cluster.fence {
        let what = match refused.what.split_ascii_whitespace().next() {
            Some("routes") => Command::Routes,
            Some("names") => Command::Names,
            _ => Command::Assignment,
        };
        let fleet = &cluster.fleet;
        fleet.refused(node, session, what, refused.have_generation);
    }
}
