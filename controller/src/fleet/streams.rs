//! Log and exec streams through agents' sessions.
//!
//! A session must never wait for the reader of a log, or the node would look away: what a slow
//! reader leaves lying is dropped, and its stream ends with words that say so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_model::NodeId;
use longshore_proto::agent::v1 as pb;
use tokio::sync::{Semaphore, mpsc};

use super::Outbox;

/// Messages that may wait for one reader.
const WAITING_MAX: usize = 256;
/// Most pieces of standard input that one agent takes ungranted.
const STDIN_PIECES_MAX: usize = 256;
/// Streams open at the same time.
const STREAMS_MAX: usize = 1_024;

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// Bytes; true: of standard error.
    Data(bool, Vec<u8>),
    /// It is over: words if it failed, the exit code if it was a command.
    End(String, Option<i64>),
}

struct Open {
    node: NodeId,
    sender: mpsc::Sender<StreamEvent>,
    lagging: bool,
    credit: Option<Arc<Semaphore>>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    open: BTreeMap<u64, Open>,
}

/// Streams by id.
#[derive(Clone, Default)]
pub struct StreamHub(Arc<Mutex<Inner>>);

/// Holds a stream open; dropped, it tells the agent to end it.
pub struct StreamGuard {
    /// Its id.
    pub id: u64,
    /// One permit for each piece of standard input that its agent has room for; none: an agent
    /// that grants none.
    pub credit: Option<Arc<Semaphore>>,
    outbox: Outbox,
    hub: StreamHub,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.hub.inner().open.remove(&self.id).is_some() {
            let end = pb::StreamEnd {
                stream_id: self.id,
                ..pb::StreamEnd::default()
            };
            // If the queue is full the session is ending or the agent ends the stream by itself.
            let _sent = self
                .outbox
                .stream(pb::session_response::Message::StreamEnd(end));
        }
    }
}

impl StreamHub {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream to a replica on `node`. None: too many are open, or the agent does not
    /// keep up.
    #[must_use]
    pub fn open(
        &self,
        node: &NodeId,
        outbox: Outbox,
        kind: pb::open_stream::Kind,
    ) -> Option<(StreamGuard, mpsc::Receiver<StreamEvent>)> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let mut inner = self.inner();
        if inner.open.len() >= STREAMS_MAX {
            return None;
        }
        inner.next += 1;
        let id = inner.next;
        let window = STDIN_PIECES_MAX.min(outbox.stdin_pieces as usize);
        let credit = (window > 0).then(|| Arc::new(Semaphore::new(window)));
        inner.open.insert(
            id,
            Open {
                node: node.clone(),
                sender,
                lagging: false,
                credit: credit.clone(),
            },
        );
        drop(inner);
        let guard = StreamGuard {
            id,
            credit,
            outbox: outbox.clone(),
            hub: self.clone(),
        };
        let open = pb::OpenStream {
            stream_id: id,
            kind: Some(kind),
        };
        outbox
            .stream(pb::session_response::Message::OpenStream(open))
            .then_some((guard, receiver))
    }

    /// Bytes came from `node`. Streams of other nodes are not its business.
    pub fn data(&self, node: &NodeId, data: pb::StreamData) {
        let stderr = data.channel() == pb::Channel::Stderr;
        let mut inner = self.inner();
        let Some(open) = inner.open.get_mut(&data.stream_id) else {
            return;
        };
        if open.node == *node && !open.lagging {
            open.lagging = open
                .sender
                .try_send(StreamEvent::Data(stderr, data.data))
                .is_err();
        }
    }

    /// A command on `node` read some of its standard input.
    pub fn credit(&self, node: &NodeId, credit: &pb::StreamCredit) {
        let inner = self.inner();
        let open = inner.open.get(&credit.stream_id);
        let of_node = open.filter(|open| open.node == *node);
        if let Some(granted) = of_node.and_then(|open| open.credit.as_ref()) {
            // Never more than the largest window, whatever it says.
            let room = STDIN_PIECES_MAX.saturating_sub(granted.available_permits());
            granted.add_permits(room.min(credit.pieces as usize));
        }
    }

    /// A stream ended on `node`.
    pub fn end(&self, node: &NodeId, end: pb::StreamEnd) {
        let mut inner = self.inner();
        if inner
            .open
            .get(&end.stream_id)
            .is_some_and(|open| open.node == *node)
            && let Some(open) = inner.open.remove(&end.stream_id)
        {
            drop(inner);
            open.finish(end.error, end.exit_code);
        }
    }

    /// All streams of a node end.
    pub fn close_node(&self, node: &NodeId, why: &str) {
        let mut inner = self.inner();
        let (of_node, others) = std::mem::take(&mut inner.open)
            .into_iter()
            .partition(|(_, open)| open.node == *node);
        inner.open = others;
        drop(inner);
        let of_node: BTreeMap<u64, Open> = of_node;
        for open in of_node.into_values() {
            open.finish(why.to_owned(), None);
        }
    }
}

impl Open {
    fn finish(self, error: String, exit_code: Option<i64>) {
        let error = match self.lagging {
            true => "output came faster than it was read; the rest was dropped".to_owned(),
            false => error,
        };
        let end = StreamEvent::End(error, exit_code);
        if let Err(mpsc::error::TrySendError::Full(end)) = self.sender.try_send(end) {
            // The reader is behind by a full queue; the end waits for it outside the session.
            tokio::spawn(async move { self.sender.send(end).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs() -> pb::open_stream::Kind {
        pb::open_stream::Kind::Logs(pb::LogStream::default())
    }

    fn data(stream_id: u64) -> pb::StreamData {
        pb::StreamData {
            stream_id,
            channel: pb::Channel::Stdout.into(),
            data: b"x".to_vec(),
        }
    }

    #[tokio::test]
    async fn a_node_writes_only_into_its_own_streams() {
        let (hub, (outbox, _reader)) = (StreamHub::default(), Outbox::new());
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let (guard, mut events) = hub.open(&a, outbox, logs()).unwrap();
        hub.data(&b, data(guard.id));
        hub.end(
            &b,
            pb::StreamEnd {
                stream_id: guard.id,
                ..Default::default()
            },
        );
        hub.data(&a, data(guard.id));
        assert_eq!(
            events.recv().await,
            Some(StreamEvent::Data(false, b"x".to_vec()))
        );
        hub.close_node(&a, "gone");
        assert_eq!(
            events.recv().await,
            Some(StreamEvent::End("gone".into(), None))
        );
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed() {
        let (hub, (outbox, _reader)) = (StreamHub::default(), Outbox::new());
        let node = NodeId::new("a").unwrap();
        let (guard, mut events) = hub.open(&node, outbox, logs()).unwrap();
        for _ in 0..WAITING_MAX * 2 {
            hub.data(&node, data(guard.id));
        }
        hub.end(
            &node,
            pb::StreamEnd {
                stream_id: guard.id,
                ..Default::default()
            },
        );
        let mut last = None;
        while let Some(event) = events.recv().await {
            last = Some(event);
        }
        let Some(StreamEvent::End(error, None)) = last else {
            panic!("{last:?}")
        };
        assert!(error.contains("faster than it was read"), "{error}");
    }
}
