//! `NodeLogs`: what a node's agent itself said, relayed through its session.

use std::sync::Arc;
use std::time::Duration;

use longshore_model::NodeId;
use longshore_model::report::NodeState;
use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::find;
use super::lists::absence;
use crate::cluster::Cluster;
use crate::fleet::StreamEvent;

/// Lines that wait for the operator.
const WAITING_MAX: usize = 256;
/// Longest message of an agent.
const LINE_BYTES_MAX: usize = 8 << 10;
/// With `follow`: after the node went away it is looked for this often.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

type Item = Result<pb::NodeLogsResponse, Status>;

/// Serves `NodeLogs`. A node that is not there is said at once, with the reason; with `follow`,
/// one that goes away is followed again once it is back.
pub(super) fn follow(
    cluster: Arc<Cluster>,
    request: pb::NodeLogsRequest,
) -> Result<ReceiverStream<Item>, Status> {
    let node = find::node(&cluster.desired(), &request.node)?;
    if cluster.fleet.link(&node).is_none() {
        return Err(Status::failed_precondition(format!(
            "the log of {node} cannot be read: {}; on the machine: journalctl -u \
             longshore-node-agent",
            why_away(&cluster, &node)
        )));
    }
    let (out, receiver) = mpsc::channel(WAITING_MAX);
    let relay = Relay { node, request, out };
    tokio::spawn(relay.run(cluster));
    Ok(ReceiverStream::new(receiver))
}

fn why_away(cluster: &Cluster, node: &NodeId) -> String {
    let view = cluster.view();
    let report = view.report.nodes.get(node);
    let state = report.map_or(NodeState::Unknown, |report| report.state);
    match absence(state) {
        "" => "not connected".to_owned(),
        words => words.to_owned(),
    }
}

struct Relay {
    node: NodeId,
    request: pb::NodeLogsRequest,
    out: mpsc::Sender<Item>,
}

impl Relay {
    async fn run(mut self, cluster: Arc<Cluster>) {
        let mut said_away = false;
        loop {
            match self.once(&cluster, &mut said_away).await {
                Ok(()) if !self.request.follow => return,
                // Its reader is gone.
                Err(None) => return,
                Err(Some(why)) if !self.request.follow => {
                    let _heard = self.out.send(Err(Status::aborted(why))).await;
                    return;
                }
                Err(Some(why)) if !said_away => {
                    said_away = true;
                    let notice = format!("{why}; going on once it is back");
                    if self.notice(notice).await.is_err() {
                        return;
                    }
                }
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_PERIOD) => {}
                () = self.out.closed() => return,
                () = cluster.stopping.cancelled() => return,
            }
        }
    }

    async fn notice(&self, notice: String) -> Result<(), Option<String>> {
        let response = pb::NodeLogsResponse {
            notice,
            ..Default::default()
        };
        self.out.send(Ok(response)).await.map_err(|_| None)
    }

    /// Reads until the stream ends; an error without words: the reader is gone.
    async fn once(
        &mut self,
        cluster: &Cluster,
        said_away: &mut bool,
    ) -> Result<(), Option<String>> {
        let node = self.node.clone();
        let Some(link) = cluster.fleet.link(&node) else {
            return Err(Some(format!("{node}: {}", why_away(cluster, &node))));
        };
        let kind = agent::open_stream::Kind::AgentLog(agent::AgentLogStream {
            follow: self.request.follow,
            tail: self.request.tail,
            since_ms: self.request.since_ms,
            after_start: self.request.after_start,
            after_sequence: self.request.after_sequence,
        });
        let opened = cluster.fleet.streams.open(&node, link.outbox, kind);
        let (_guard, mut events) =
            opened.ok_or_else(|| Some("too many streams are open; retry".to_owned()))?;
        let mut rest = Vec::new();
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = self.out.closed() => return Err(None),
            };
            match event {
                Some(StreamEvent::Data(_, data)) => {
                    rest.extend(data);
                    for line in lines(&mut rest).map_err(Some)? {
                        *said_away = false;
                        self.put(line).await?;
                    }
                }
                Some(StreamEvent::End(error, _)) if !error.is_empty() => {
                    return Err(Some(format!("{node}: {error}")));
                }
                Some(StreamEvent::End(..)) | None => return Ok(()),
            }
        }
    }

    async fn put(&mut self, line: agent::AgentLine) -> Result<(), Option<String>> {
        let request = &mut self.request;
        if request.after_start == line.start {
            let lost = line.sequence.saturating_sub(request.after_sequence + 1);
            if lost > 0 {
                let why = "more was said than is kept, or than could be read";
                self.notice(format!("{lost} lines are missing: {why}"))
                    .await?;
            }
        } else if request.after_start != 0 {
            self.notice("the agent started again".to_owned()).await?;
        }
        let request = &mut self.request;
        (request.after_start, request.after_sequence) = (line.start, line.sequence);
        // What comes from now on was not there when the call began.
        request.tail = request.tail.filter(|_| !request.follow);
        let response = pb::NodeLogsResponse {
            start: line.start,
            sequence: line.sequence,
            time_ms: line.time_ms,
            level: line.level,
            line: line.line,
            ..Default::default()
        };
        self.out.send(Ok(response)).await.map_err(|_| None)
    }
}

/// Whole lines of what came so far; the rest stays in `rest`.
fn lines(rest: &mut Vec<u8>) -> Result<Vec<agent::AgentLine>, String> {
    let broken = || "its agent sends what is no line".to_owned();
    let (mut whole, mut at) = (Vec::new(), 0);
    while let Ok(length) = prost::decode_length_delimiter(&rest[at..]) {
        let begin = at + prost::length_delimiter_len(length);
        if length > LINE_BYTES_MAX {
            return Err(broken());
        }
        let Some(bytes) = rest.get(begin..begin + length) else {
            break;
        };
        whole.push(agent::AgentLine::decode(bytes).map_err(|_| broken())?);
        at = begin + length;
    }
    rest.drain(..at);
    // A length has at most ten bytes.
    if rest.len() > LINE_BYTES_MAX + 10 {
        return Err(broken());
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_pieces_and_nonsense_is_refused() {
        let line = |sequence, text: &str| agent::AgentLine {
            sequence,
            line: text.repeat(200),
            ..Default::default()
        };
        let sent = [line(1, "a"), line(2, "b"), line(3, "")];
        let mut bytes = Vec::new();
        for line in &sent {
            line.encode_length_delimited(&mut bytes).unwrap();
        }
        for size in [1, 2, 7, 300, bytes.len()] {
            let (mut rest, mut got) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                rest.extend_from_slice(piece);
                got.extend(lines(&mut rest).unwrap());
            }
            assert_eq!((got.as_slice(), rest.len()), (&sent[..], 0), "{size}");
        }
        for nonsense in [
            vec![0xff; 12_000],
            vec![0xff, 0xff, 0x7f],
            vec![2, 0xff, 0xff],
        ] {
            assert!(lines(&mut nonsense.clone()).is_err(), "{nonsense:.8?}");
        }
    }
}
