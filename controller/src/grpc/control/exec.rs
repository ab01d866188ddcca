//! `exec` and `run`: a command in a replica, or a container of its own, relayed through the session of
//! its node.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use longshore_model::NodeId;
use longshore_model::plan::Replica;
use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;
use longshore_wire::run_to_pb;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::lists::covers;
use super::{find, run};
use crate::cluster::Cluster;
use crate::fleet::{Outbox, StreamEvent};
use crate::grpc::audit::{Audited, Slot};
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
    slot: &Slot,
) -> Result<ReceiverStream<Item>, Status> {
    let first = requests.message().await?;
    if let Some(first) = &first {
        slot.set(first.target());
    }
    match first.and_then(|request| request.message) {
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
    let size = start.size;
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
    let order = agent::RunStream {
        size,
        ..run_to_pb(&placed.run)
    };
    let kind = agent::open_stream::Kind::Run(Box::new(order));
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
        size: start.size,
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
        let typing = relay_input(guard.id, requests, outbox, guard.credit.clone());
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

/// Passes on what is typed, as the agent has room for it: what it has none for stays with the
/// operator, whose connection fills up. Ends only when the operator is gone: a closed input is no end.
async fn relay_input(
    id: u64,
    mut requests: impl Stream<Item = Result<pb::ExecRequest, Status>> + Unpin,
    outbox: Outbox,
    credit: Option<Arc<Semaphore>>,
) {
    use agent::session_response::Message;
    use pb::exec_request::Message as In;
    while let Some(Ok(request)) = requests.next().await {
        let parts: Vec<Vec<u8>> = match request.message {
            Some(In::Stdin(bytes)) => bytes.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect(),
            // An empty chunk is the end of input.
            Some(In::StdinClosed(_)) => vec![Vec::new()],
            Some(In::Size(size)) => {
                let size = Some(size);
                let resize = agent::StreamResize {
                    stream_id: id,
                    size,
                };
                if !outbox.stream_wait(Message::StreamResize(resize)).await {
                    return;
                }
                continue;
            }
            _ => continue,
        };
        for data in parts {
            if let Some(credit) = &credit
                && let Ok(permit) = credit.acquire().await
            {
                permit.forget();
            }
            let chunk = agent::StreamData {
                stream_id: id,
                channel: agent::Channel::Stdin.into(),
                data,
            };
            if !outbox.stream_wait(Message::StreamData(chunk)).await {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::poll;

    use super::*;
    use crate::fleet::{Fleet, Greeting, OutboxReader, Outgoing};

    const WINDOW: usize = 4;
    const BYTES: usize = 30 << 20;

    /// Bytes and pieces of standard input that wait for the agent.
    fn waiting(reader: &mut OutboxReader) -> (usize, usize) {
        let (mut bytes, mut pieces) = (0, 0);
        while let Some(next) = reader.waiting() {
            if let Outgoing::Stream(agent::session_response::Message::StreamData(data)) = next {
                bytes += data.data.len();
                pieces += 1;
            }
        }
        (bytes, pieces)
    }

    fn typed(message: pb::exec_request::Message) -> Result<pb::ExecRequest, Status> {
        let message = Some(message);
        Ok(pb::ExecRequest { message })
    }

    #[tokio::test]
    async fn a_command_that_reads_slowly_makes_only_its_sender_wait() {
        let fleet = Fleet::default();
        let node = NodeId::new("a").unwrap();
        let greeting = Greeting {
            stdin_pieces: u32::try_from(WINDOW).unwrap(),
            ..Greeting::default()
        };
        let mut session = fleet.connect(&node, false, greeting, 1);
        let outbox = fleet.link(&node).unwrap().outbox;
        let kind = agent::open_stream::Kind::Exec(agent::ExecStream::default());
        let (guard, _events) = fleet.streams.open(&node, outbox.clone(), kind).unwrap();
        let taken = Cell::new(0);
        let typing = (0..BYTES / CHUNK_BYTES).map(|_| {
            taken.set(taken.get() + 1);
            typed(pb::exec_request::Message::Stdin(vec![1; CHUNK_BYTES]))
        });
        let end = [typed(pb::exec_request::Message::StdinClosed(true))];
        let requests = futures_util::stream::iter(typing.chain(end));
        let input = relay_input(guard.id, requests, outbox, guard.credit.clone());
        let input = tokio::task::unconstrained(input);
        tokio::pin!(input);
        assert!(poll!(&mut input).is_pending());
        let (mut sent, pieces) = waiting(&mut session.outbox);
        assert_eq!(pieces, WINDOW);
        assert_eq!(taken.get(), WINDOW + 1, "the rest stays where it is");
        // Nobody reads: nothing moves.
        assert!(poll!(&mut input).is_pending());
        assert_eq!(waiting(&mut session.outbox), (0, 0));
        let credit = |stream_id, pieces| agent::StreamCredit { stream_id, pieces };
        // Other nodes and other streams grant nothing.
        let other = NodeId::new("b").unwrap();
        fleet.streams.credit(&other, &credit(guard.id, 9));
        fleet.streams.credit(&node, &credit(guard.id + 1, 9));
        assert!(poll!(&mut input).is_pending());
        assert_eq!(waiting(&mut session.outbox), (0, 0));
        let mut last = 1;
        while last > 0 {
            fleet.streams.credit(&node, &credit(guard.id, 1));
            assert!(poll!(&mut input).is_pending());
            let (bytes, pieces) = waiting(&mut session.outbox);
            assert!(pieces <= 1);
            sent += bytes;
            last = pieces;
        }
        assert_eq!(sent, BYTES);
        fleet.streams.credit(&node, &credit(guard.id, u32::MAX));
        fleet.streams.credit(&node, &credit(guard.id, u32::MAX));
        assert!(guard.credit.as_ref().unwrap().available_permits() <= 256);
    }

    #[tokio::test]
    async fn an_agent_that_grants_nothing_is_sent_all_and_told_of_sizes() {
        let fleet = Fleet::default();
        let node = NodeId::new("a").unwrap();
        let mut session = fleet.connect(&node, false, Greeting::default(), 1);
        let outbox = fleet.link(&node).unwrap().outbox;
        let size = longshore_proto::spec::v1::TerminalSize {
            rows: 40,
            columns: 100,
        };
        let typing = [
            typed(pb::exec_request::Message::Size(size)),
            typed(pb::exec_request::Message::Stdin(vec![1; 9 * CHUNK_BYTES])),
        ];
        let input = relay_input(7, futures_util::stream::iter(typing), outbox, None);
        tokio::pin!(input);
        assert!(poll!(&mut input).is_pending());
        let first = session.outbox.waiting();
        let Some(Outgoing::Stream(agent::session_response::Message::StreamResize(first))) = first
        else {
            panic!("{first:?}")
        };
        assert_eq!((first.stream_id, first.size), (7, Some(size)));
        assert_eq!(waiting(&mut session.outbox), (9 * CHUNK_BYTES, 9));
    }
}
