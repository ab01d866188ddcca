//! `logs`: a subscription to services. Replicas that come later join, those that go are said to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_model::ReplicaId;
use longshore_model::plan::Replica;
use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::find::{self, Target};
use super::lists::covers;
use crate::cluster::Cluster;
use crate::fleet::{StreamEvent, StreamGuard};

const TARGETS_MAX: usize = 64;
/// Replicas followed by one call.
const REPLICAS_MAX: usize = 256;
/// Lines that wait for the reader.
const WAITING_MAX: usize = 256;
/// Longest line; the rest begins a new one.
const LINE_BYTES_MAX: usize = 64 << 10;
/// How often replicas that came or went are looked for.
const LOOK_PERIOD: Duration = Duration::from_millis(200);

type Sender = mpsc::Sender<Result<pb::LogsResponse, Status>>;

struct Follower {
    task: tokio::task::JoinHandle<()>,
    name: String,
    node: String,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `Logs`.
pub(super) fn logs(
    cluster: Arc<Cluster>,
    request: pb::LogsRequest,
) -> Result<ReceiverStream<Result<pb::LogsResponse, Status>>, Status> {
    if request.targets.len() > TARGETS_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {TARGETS_MAX} targets at a time"
        )));
    }
    let (view, desired) = (cluster.view(), cluster.desired());
    let targets = request
        .targets
        .iter()
        .map(|word| find::target(&desired, &view.plan, word))
        .collect::<Result<Vec<Target>, Status>>()?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(follow(cluster, request, targets, sender));
    Ok(ReceiverStream::new(receiver))
}

async fn follow(
    cluster: Arc<Cluster>,
    request: pb::LogsRequest,
    targets: Vec<Target>,
    out: Sender,
) {
    let mut followers: BTreeMap<ReplicaId, Follower> = BTreeMap::new();
    let mut first = true;
    loop {
        let plan = Arc::clone(&cluster.view().plan);
        let wanted = |replica: &&Arc<Replica>| {
            targets.is_empty() || targets.iter().any(|t| covers(t, replica))
        };
        for replica in plan.replicas().filter(wanted) {
            if followers.len() >= REPLICAS_MAX || followers.contains_key(&replica.id) {
                continue;
            }
            // A container appears a while after its replica was planned.
            let nodes = cluster.fleet.snapshot().nodes;
            let seen = nodes
                .get(&replica.node)
                .and_then(|node| node.replicas.get(&replica.id));
            if seen.is_none_or(|status| status.container_id.is_none()) {
                continue;
            }
            let name = replica.name();
            let node = replica.node.to_string();
            if !first
                && say(&out, &name, &node, format!("joined on {node}"))
                    .await
                    .is_err()
            {
                return;
            }
            let task = tokio::spawn(one(
                Arc::clone(&cluster),
                request.clone(),
                Replica::clone(replica),
                out.clone(),
                first,
            ));
            followers.insert(replica.id, Follower { task, name, node });
        }
        if !request.follow {
            for follower in followers.values_mut() {
                // Its end is also said in its own stream; a panic there is logged by the runtime.
                let _ended = (&mut follower.task).await;
            }
            return;
        }
        let gone: Vec<ReplicaId> = followers
            .keys()
            .filter(|id| plan.replica(**id).is_none())
            .copied()
            .collect();
        for follower in gone.iter().filter_map(|id| followers.remove(id)) {
            if say(&out, &follower.name, &follower.node, "left".into())
                .await
                .is_err()
            {
                return;
            }
        }
        first = false;
        tokio::select! {
            () = tokio::time::sleep(LOOK_PERIOD) => {}
            () = out.closed() => return,
            () = cluster.stopping.cancelled() => return,
        }
    }
}

async fn say(out: &Sender, name: &str, node: &str, notice: String) -> Result<(), ()> {
    let (name, node) = (name.to_owned(), node.to_owned());
    let response = pb::LogsResponse {
        name,
        node,
        notice,
        ..Default::default()
    };
    out.send(Ok(response)).await.map_err(drop)
}

/// Opens the log of one replica.
fn open(
    cluster: &Cluster,
    request: &pb::LogsRequest,
    replica: &Replica,
    present: bool,
) -> Option<(StreamGuard, mpsc::Receiver<StreamEvent>)> {
    let link = cluster.fleet.link(&replica.node)?;
    let kind = agent::open_stream::Kind::Logs(agent::LogStream {
        replica_id: replica.id.0,
        follow: request.follow,
        // All of a log that began after the call belongs to it.
        tail: request.tail.filter(|_| present),
        since_s: request.since_s,
        timestamps: request.timestamps,
    });
    cluster.fleet.streams.open(&replica.node, link.outbox, kind)
}

async fn one(
    cluster: Arc<Cluster>,
    request: pb::LogsRequest,
    replica: Replica,
    out: Sender,
    present: bool,
) {
    let (name, node) = (replica.name(), replica.node.to_string());
    let Some((_guard, mut events)) = open(&cluster, &request, &replica, present) else {
        let why = format!(
            "its log cannot be read: {node} is not connected, or too many streams are open"
        );
        let _heard = say(&out, &name, &node, why).await;
        return;
    };
    let mut parts = [Vec::new(), Vec::new()];
    while let Some(event) = events.recv().await {
        match event {
            StreamEvent::Data(stderr, data) => {
                for line in lines(&mut parts[usize::from(stderr)], &data) {
                    if put(&out, &name, &node, stderr, &line).await.is_err() {
                        return;
                    }
                }
            }
            StreamEvent::End(error, _) => {
                for (stderr, rest) in [false, true].into_iter().zip(parts) {
                    if !rest.is_empty() && put(&out, &name, &node, stderr, &rest).await.is_err() {
                        return;
                    }
                }
                if !error.is_empty() {
                    let _heard = say(&out, &name, &node, format!("its log ended: {error}")).await;
                }
                return;
            }
        }
    }
}

async fn put(out: &Sender, name: &str, node: &str, stderr: bool, line: &[u8]) -> Result<(), ()> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = String::from_utf8_lossy(line).into_owned();
    let (name, node) = (name.to_owned(), node.to_owned());
    let response = pb::LogsResponse {
        name,
        node,
        stderr,
        line,
        ..Default::default()
    };
    out.send(Ok(response)).await.map_err(drop)
}

/// Whole lines of what came so far; the rest stays in `rest`.
fn lines(rest: &mut Vec<u8>, data: &[u8]) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    for byte in data {
        if *byte == b'\n' {
            whole.push(std::mem::take(rest));
        } else {
            rest.push(*byte);
            if rest.len() >= LINE_BYTES_MAX {
                whole.push(std::mem::take(rest));
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_chunks() {
        let mut rest = Vec::new();
        assert!(lines(&mut rest, b"one").is_empty());
        assert_eq!(
            lines(&mut rest, b" two\n\nthree"),
            [b"one two".to_vec(), Vec::new()]
        );
        assert_eq!(rest, b"three");
        assert_eq!(
            lines(&mut Vec::new(), &vec![b'x'; LINE_BYTES_MAX * 2]).len(),
            2
        );
    }
}
