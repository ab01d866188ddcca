//! `exec`: a command in a replica, relayed through its node's session.

use futures_util::StreamExt;
use longshore_model::plan::Replica;
use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::find;
use super::lists::covers;
use crate::cluster::Cluster;
use crate::fleet::{Outbox, StreamEvent};

const WORDS_MAX: usize = 256;
const ENV_MAX: usize = 256;
/// Bytes of one message to an agent.
const CHUNK_BYTES: usize = 32 << 10;
/// Messages that wait for the operator.
const WAITING_MAX: usize = 16;

type Item = Result<pb::ExecResponse, Status>;

/// Serves `Exec`.
pub(super) async fn exec(
    cluster: &Cluster,
    mut requests: Streaming<pb::ExecRequest>,
    by: &str,
) -> Result<ReceiverStream<Item>, Status> {
    let first = requests
        .message()
        .await?
        .and_then(|request| request.message);
    let Some(pb::exec_request::Message::Start(start)) = first else {
        return Err(Status::invalid_argument("exec begins with start"));
    };
    if start.command.is_empty() || start.command.len() > WORDS_MAX || start.env.len() > ENV_MAX {
        return Err(Status::invalid_argument(format!(
            "exec needs a command of 1 to {WORDS_MAX} words and at most {ENV_MAX} variables"
        )));
    }
    let replica = choose(cluster, &start.target)?;
    tracing::info!(by, replica = %replica.id, node = %replica.node, "exec");
    let link = cluster.fleet.link(&replica.node).ok_or_else(|| {
        Status::unavailable(format!(
            "{} is not connected; try another replica",
            replica.node
        ))
    })?;
    let kind = agent::open_stream::Kind::Exec(agent::ExecStream {
        replica_id: replica.id.0,
        command: start.command,
        tty: start.tty,
        stdin: start.stdin,
        user: start.user,
        working_dir: start.working_dir,
        env: start.env,
    });
    let outbox = link.outbox.clone();
    let opened = cluster.fleet.streams.open(&replica.node, link.outbox, kind);
    let (guard, mut output) = opened.ok_or_else(|| {
        Status::resource_exhausted("too many streams are open, or the node does not keep up; retry")
    })?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let typing = relay_input(guard.id, requests, outbox);
        let showing = async {
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
