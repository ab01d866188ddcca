//! `exec` and `run`: a command in a replica, or a container of its own, relayed through the session of
//! its node.

use std::sync::Arc;

use futures_util::StreamExt;
use longshore_model::NodeId;
use longshore_model::plan::Replica;
use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;
use longshore_wire::run_to_pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::lists::covers;
use super::{find, run};
use crate::cluster::Cluster;
use crate::fleet::{Outbox, StreamEvent};
use crate::grpc::blocking;
use crate::reconcile::names_now;

pub(super) const WORDS_MAX: usize = 256;
pub(super) const ENV_MAX: usize = 256;
/// Bytes of one message to an agent.
const CHUNK_BYTES: usize = 32 << 10;
/// Messages that wait for the operator.
const WAITING_MAX: usize = 16;

type Item = Result<pb::ExecResponse, Status>;

/// Serves `Exec`.
pub(super) async fn exec(
    cluster: &Arc<Cluster>,
    mut requests: Streaming<pb::ExecRequest>,
    by: &str,
) -> Result<ReceiverStream<Item>, Status> {
    let first = requests
        .message()
        .await?
        .and_then(|request| request.message);
    match first {
        Some(pb::exec_request::Message::Start(start)) => {
            let (node, kind) = command(cluster, start, by)?;
            relay(cluster, (&node, kind), requests, Vec::new(), ())
        }
        Some(pb::exec_request::Message::Run(start)) => run(cluster, start, requests, by).await,
        _ => Err(Status::invalid_argument("exec begins with start or run")),
    }
}

/// A container of its own.
async fn run(
    cluster: &Arc<Cluster>,
    start: pb::RunStart,
    requests: Streaming<pb::ExecRequest>,
    by: &str,
) -> Result<ReceiverStream<Item>, Status> {
    let (asked, by) = (Arc::clone(cluster), by.to_owned());
    let (placed, guest) = blocking(move || {
        let placed = run::place(&asked, start)?;
        let (id, app) = (&placed.run.id, placed.run.service.app.clone());
        let guest = asked.guests.come(id, placed.node.clone(), app);
        // Commands come before streams: its node knows the names before it makes the container.
        names_now(&asked);
        tracing::info!(by, run = id, service = %placed.run.service, node = %placed.node, "run");
        Ok((placed, guest))
    })
    .await?;
    let first = pb::RunPlaced {
        service: placed.run.service.to_string(),
        node: placed.node.to_string(),
        run_id: placed.run.id.clone(),
    };
    let first = pb::ExecResponse {
        message: Some(pb::exec_response::Message::Placed(first)),
    };
    let kind = agent::open_stream::Kind::Run(Box::new(run_to_pb(&placed.run)));
    relay(
        cluster,
        (&placed.node, kind),
        requests,
        vec![Ok(first)],
        guest,
    )
}

/// A command in a replica: where, and what.
fn command(
    cluster: &Cluster,
    start: pb::ExecStart,
    by: &str,
) -> Result<(NodeId, agent::open_stream::Kind), Status> {
    if start.command.is_empty() || start.command.len() > WORDS_MAX || start.env.len() > ENV_MAX {
        return Err(Status::invalid_argument(format!(
            "exec needs a command of 1 to {WORDS_MAX} words and at most {ENV_MAX} variables"
        )));
    }
    let replica = choose(cluster, &start.target)?;
    tracing::info!(by, replica = %replica.id, node = %replica.node, "exec");
    let kind = agent::open_stream::Kind::Exec(agent::ExecStream {
        replica_id: replica.id.0,
        command: start.command,
        tty: start.tty,
        stdin: start.stdin,
        user: start.user,
        working_dir: start.working_dir,
        env: start.env,
    });
    Ok((replica.node, kind))
}

/// Opens the stream and hands on both directions; `held` is let go with its end.
fn relay(
    cluster: &Cluster,
    (node, kind): (&NodeId, agent::open_stream::Kind),
    requests: Streaming<pb::ExecRequest>,
    first: Vec<Item>,
    held: impl Send + 'static,
) -> Result<ReceiverStream<Item>, Status> {
    let link = cluster.fleet.link(node).ok_or_else(|| {
        Status::unavailable(format!("{node} is not connected; try again in a moment"))
    })?;
    let outbox = link.outbox.clone();
    let opened = cluster.fleet.streams.open(node, link.outbox, kind);
    let (guard, mut output) = opened.ok_or_else(|| {
        Status::resource_exhausted("too many streams are open, or the node does not keep up; retry")
    })?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let typing = relay_input(guard.id, requests, outbox);
        let _held = held;
        let showing = async {
            for item in first {
                if sender.send(item).await.is_err() {
                    return;
                }
            }
            while let Some(event) = output.recv().await {
                let over = matches!(event, StreamEvent::End(..));
                if sender.send(convert(event)).await.is_err() || over {
                    return;
                }
            }
        };
        tokio::select! {
            () = showing => {}
            () = typing => {}
            () = sender.closed() => {}
        }
        drop(guard);
    });
    Ok(ReceiverStream::new(receiver))
}

/// The replica that a word means; of a service, its first one that runs.
fn choose(cluster: &Cluster, target: &str) -> Result<Replica, Status> {
    let plan = &cluster.view().plan;
    let found = find::target(&cluster.desired(), plan, target)?;
    if matches!(found, find::Target::Node(_)) {
        return Err(Status::invalid_argument(format!(
            "{target:.64?} is a node; exec takes a service or a replica (service.slot)"
        )));
    }
    let replicas = plan.replicas().filter(|replica| covers(&found, replica));
    let first = replicas.min_by_key(|r| (r.leaving.is_some(), r.stop, r.slot, r.id));
    first
        .map(|replica| Replica::clone(replica))
        .ok_or_else(|| Status::not_found(format!("{target:.64?} has no replica")))
}

/// Passes on what is typed. Ends only when the operator is gone: a closed input is no end.
async fn relay_input(id: u64, mut requests: Streaming<pb::ExecRequest>, outbox: Outbox) {
    use agent::session_response::Message;
    while let Some(Ok(request)) = requests.next().await {
        let stdin = agent::Channel::Stdin.into();
        let chunk = |data: Vec<u8>| {
            Message::StreamData(agent::StreamData {
                stream_id: id,
                channel: stdin,
                data,
            })
        };
        let parts: Vec<Vec<u8>> = match request.message {
            Some(pb::exec_request::Message::Stdin(bytes)) => {
                bytes.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect()
            }
            // An empty chunk is the end of input.
            Some(pb::exec_request::Message::StdinClosed(_)) => vec![Vec::new()],
            _ => Vec::new(),
        };
        for part in parts {
            if !outbox.stream_wait(chunk(part)).await {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}

fn convert(event: StreamEvent) -> Item {
    use pb::exec_response::Message;
    let message = match event {
        StreamEvent::Data(true, data) => Message::Stderr(data),
        StreamEvent::Data(false, data) => Message::Stdout(data),
        StreamEvent::End(error, _) if !error.is_empty() => return Err(Status::aborted(error)),
        StreamEvent::End(_, code) => Message::ExitCode(code.unwrap_or(0)),
    };
    Ok(pb::ExecResponse {
        message: Some(message),
    })
}
