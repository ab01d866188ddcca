//! `logs`: a subscription to services. Replicas that come later join, those that go are said to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use longshore_model::observe::NodeObserved;
use longshore_model::plan::Replica;
use longshore_model::{NodeId, Plan, ReplicaId};
use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;
use longshore_wire::{LogPosition, LogResume};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::comings;
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
/// Positions that a reader may bring along.
const MARKS_MAX: usize = 512;
/// A log that ended while its replica is there is opened again after this time.
const REOPEN_GAP: Duration = Duration::from_secs(2);
/// How often replicas that came or went are looked for.
const LOOK_PERIOD: Duration = Duration::from_millis(200);

type Sender = mpsc::Sender<Result<pb::LogsResponse, Status>>;

/// How far both streams of a replica were read: standard output, standard error.
type Positions = [LogPosition; 2];

struct Follower {
    task: tokio::task::JoinHandle<()>,
    name: String,
    node: String,
    /// Where the task stands; the next one goes on from there.
    at: Arc<Mutex<Positions>>,
    opened: Instant,
    /// Why its replica goes, as last seen; none: it stays.
    goes: Option<String>,
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
    if request.targets.len() > TARGETS_MAX || request.marks.len() > MARKS_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {TARGETS_MAX} targets and {MARKS_MAX} marks at a time"
        )));
    }
    let (view, desired) = (cluster.view(), cluster.desired());
    let targets = request
        .targets
        .iter()
        .map(|word| find::with_apps(&desired, &view.plan, word))
        .collect::<Result<Vec<Target>, Status>>()?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(follow(cluster, request, targets, sender));
    Ok(ReceiverStream::new(receiver))
}

/// What a reader that came back had read, by replica.
fn positions(marks: &[pb::LogMark]) -> BTreeMap<ReplicaId, Positions> {
    let mut read: BTreeMap<ReplicaId, Positions> = BTreeMap::new();
    for mark in marks {
        let of = read.entry(ReplicaId(mark.replica_id)).or_default();
        of[usize::from(mark.stderr)] = LogPosition {
            time_ns: mark.time_ns,
            lines: mark.lines,
        };
    }
    read
}

async fn follow(
    cluster: Arc<Cluster>,
    request: pb::LogsRequest,
    targets: Vec<Target>,
    out: Sender,
) {
    let mut followers: BTreeMap<ReplicaId, Follower> = BTreeMap::new();
    let mut read = positions(&request.marks);
    let mut first = true;
    loop {
        let plan = Arc::clone(&cluster.view().plan);
        let wanted = |replica: &&Arc<Replica>| {
            targets.is_empty() || targets.iter().any(|t| covers(t, replica))
        };
        let nodes = cluster.fleet.snapshot().nodes;
        for replica in plan.replicas().filter(wanted) {
            let before = followers.get(&replica.id);
            if !is_due(before, followers.len(), request.follow) {
                continue;
            }
            if !has_container(&nodes, replica) {
                continue;
            }
            let known = read.remove(&replica.id);
            let again = before.is_some() || known.is_some();
            let at = match before {
                Some(before) => Arc::clone(&before.at),
                None => Arc::new(Mutex::new(known.unwrap_or_default())),
            };
            let (name, node) = (replica.name(), replica.node.to_string());
            let joined = joined(&plan, replica);
            if !first && !again && say(&out, &name, &node, joined).await.is_err() {
                return;
            }
            let reader = Reader {
                cluster: Arc::clone(&cluster),
                request: request.clone(),
                replica: Replica::clone(replica),
                out: out.clone(),
                at: Arc::clone(&at),
                present: first,
                quiet: before.is_some(),
            };
            let follower = Follower {
                task: tokio::spawn(reader.run()),
                name,
                node,
                at,
                opened: Instant::now(),
                goes: None,
            };
            followers.insert(replica.id, follower);
        }
        if !request.follow {
            for follower in followers.values_mut() {
                // Its end is also said in its own stream; a panic there is logged by the runtime.
                let _ended = (&mut follower.task).await;
            }
            return;
        }
        if say_left(&plan, &mut followers, &out).await.is_err() {
            return;
        }
        first = false;
        tokio::select! {
            () = tokio::time::sleep(LOOK_PERIOD) => {}
            () = out.closed() => return,
            () = cluster.stopping.cancelled() => return,
        }
    }
}

/// A container appears a while after its replica was planned.
fn has_container(nodes: &BTreeMap<NodeId, Arc<NodeObserved>>, replica: &Replica) -> bool {
    let node = nodes.get(&replica.node);
    let status = node.and_then(|node| node.replicas.get(&replica.id));
    status.is_some_and(|status| status.container_id.is_some())
}

/// That a replica came, and why where that is known.
fn joined(plan: &Plan, replica: &Replica) -> String {
    let service = plan.services.get(&replica.service);
    let why = service.and_then(|service| comings::came(service, replica));
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    format!("joined on {}{why}", replica.node)
}

/// Says which replicas are gone and why, and follows them no longer.
async fn say_left(
    plan: &Plan,
    followers: &mut BTreeMap<ReplicaId, Follower>,
    out: &Sender,
) -> Result<(), ()> {
    for (id, follower) in followers.iter_mut() {
        let Some(replica) = plan.replica(*id) else {
            continue;
        };
        let service = plan.services.get(&replica.service);
        let goes = service.and_then(|service| comings::goes(service, replica));
        follower.goes = goes.or(follower.goes.take());
    }
    let gone = followers.keys().copied();
    let gone: Vec<ReplicaId> = gone.filter(|id| plan.replica(*id).is_none()).collect();
    for follower in gone.iter().filter_map(|id| followers.remove(id)) {
        let left = match &follower.goes {
            Some(why) => format!("left ({why})"),
            None => "left".to_owned(),
        };
        say(out, &follower.name, &follower.node, left).await?;
    }
    Ok(())
}

/// Shall a log be opened: for the first time, or because it ended while its replica is still
/// there (its node was away, its container started again, its reader was too slow)?
fn is_due(before: Option<&Follower>, open: usize, follow: bool) -> bool {
    match before {
        None => open < REPLICAS_MAX,
        Some(before) => {
            follow && before.task.is_finished() && before.opened.elapsed() >= REOPEN_GAP
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

/// Reads the log of one replica.
struct Reader {
    cluster: Arc<Cluster>,
    request: pb::LogsRequest,
    replica: Replica,
    out: Sender,
    at: Arc<Mutex<Positions>>,
    /// It was there when the call began.
    present: bool,
    /// Its failures were said already.
    quiet: bool,
}

impl Reader {
    fn at(&self) -> MutexGuard<'_, Positions> {
        // Positions are whole numbers: what a panic leaves behind is one of them.
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<(StreamGuard, mpsc::Receiver<StreamEvent>)> {
        let link = self.cluster.fleet.link(&self.replica.node)?;
        let read = self.at().map(|at| at.time_ns).into_iter();
        let from_ns = read.filter(|time_ns| *time_ns > 0).min();
        let kind = agent::open_stream::Kind::Logs(agent::LogStream {
            replica_id: self.replica.id.0,
            follow: self.request.follow,
            // All of a log that began after the call belongs to it.
            tail: self
                .request
                .tail
                .filter(|_| self.present && from_ns.is_none()),
            since_s: from_ns.map_or(self.request.since_s, |ns| ns / 1_000_000_000),
            // Without its time a line cannot be known again.
            timestamps: true,
        });
        let streams = &self.cluster.fleet.streams;
        streams.open(&self.replica.node, link.outbox, kind)
    }

    async fn run(self) {
        let (name, node) = (self.replica.name(), self.replica.node.to_string());
        let Some((_guard, mut events)) = self.open() else {
            if !self.quiet {
                let why = format!(
                    "its log cannot be read: {node} is not connected, or too many streams are open"
                );
                let _heard = say(&self.out, &name, &node, why).await;
            }
            return;
        };
        let mut resume = self.at().map(LogResume::after);
        let mut parts = [Vec::new(), Vec::new()];
        while let Some(event) = events.recv().await {
            match event {
                StreamEvent::Data(stderr, data) => {
                    for line in lines(&mut parts[usize::from(stderr)], &data) {
                        let resume = &mut resume[usize::from(stderr)];
                        if self.put(resume, stderr, &line).await.is_err() {
                            return;
                        }
                    }
                }
                StreamEvent::End(error, _) => {
                    for (stderr, rest) in [false, true].into_iter().zip(parts) {
                        let resume = &mut resume[usize::from(stderr)];
                        if !rest.is_empty() && self.put(resume, stderr, &rest).await.is_err() {
                            return;
                        }
                    }
                    if !error.is_empty() && !self.quiet {
                        let why = format!("its log ended: {error}");
                        let _heard = say(&self.out, &name, &node, why).await;
                    }
                    return;
                }
            }
        }
    }

    /// Hands a line on, unless it was read before.
    async fn put(&self, resume: &mut LogResume, stderr: bool, line: &[u8]) -> Result<(), ()> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = String::from_utf8_lossy(line);
        let (time_ns, text) = stamped(&line);
        if !resume.is_new(time_ns) {
            return Ok(());
        }
        let shown = if self.request.timestamps { &line } else { text };
        let response = pb::LogsResponse {
            name: self.replica.name(),
            node: self.replica.node.to_string(),
            stderr,
            line: shown.to_owned(),
            time_ns,
            replica_id: self.replica.id.0,
            ..Default::default()
        };
        self.out.send(Ok(response)).await.map_err(drop)?;
        self.at()[usize::from(stderr)] = resume.at;
        Ok(())
    }
}

/// The engine's time of a line, nanoseconds since the epoch, and its text; 0 without one.
fn stamped(line: &str) -> (u64, &str) {
    let parsed = line.split_once(' ').and_then(|(time, text)| {
        let time = humantime::parse_rfc3339(time).ok()?;
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        Some((u64::try_from(since.as_nanos()).ok()?, text))
    });
    parsed.unwrap_or((0, line))
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
    fn a_line_keeps_its_text_and_gives_its_time() {
        let line = "2026-11-21T12:04:10.000000007Z GET / 200";
        assert_eq!(stamped(line), (1_795_262_650_000_000_007, "GET / 200"));
        for plain in ["hello", "", "2026 was long", "2026-11-21T12:04:10.5Z"] {
            assert_eq!(stamped(plain), (0, plain));
        }
    }

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
