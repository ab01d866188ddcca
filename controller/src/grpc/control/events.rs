//! The event log: what is kept, then what comes.

use std::sync::Arc;

use longshore_model::EventKind;
use longshore_proto::control::v1 as pb;
use longshore_wire::event_to_pb;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::cluster::Cluster;
use crate::grpc::{Refusal, blocking};
use crate::store::StoredEvent;

/// Events that wait for one reader.
const WAITING_MAX: usize = 64;

/// Is the event about `word`: a service (`app/service` or `service`), an app or a node?
pub(super) fn is_about(kind: &EventKind, word: &str) -> bool {
    let word = word.strip_prefix("node/").unwrap_or(word);
    let service = kind.service().is_some_and(|key| {
        key.service.as_str() == word || key.app.as_str() == word || key.to_string() == word
    });
    let node = kind.node().is_some_and(|node| node.as_str() == word);
    let app = match kind {
        EventKind::AppApplied { app, .. } | EventKind::AppDown { app, .. } => {
            app.as_str() == word || word.starts_with(&format!("{app}/"))
        }
        _ => false,
    };
    service || node || app
}

/// Past events that match.
pub(super) fn past(
    cluster: &Cluster,
    since_ms: u64,
    about: &str,
    tail: usize,
) -> Result<Vec<StoredEvent>, Refusal> {
    let mut events = cluster.past_events()?;
    events.retain(|stored| {
        stored.event.at_ms >= since_ms && (about.is_empty() || is_about(&stored.event.kind, about))
    });
    if tail > 0 {
        events.drain(..events.len().saturating_sub(tail));
    }
    Ok(events)
}

/// Serves `Events`.
pub(super) async fn events(
    cluster: Arc<Cluster>,
    request: pb::EventsRequest,
) -> Result<ReceiverStream<Result<pb::EventsResponse, Status>>, Status> {
    // Listening begins before reading: nothing falls between the two, and what comes twice is
    // known by its sequence.
    let mut live = cluster.watch_events();
    let reader = Arc::clone(&cluster);
    let (since_ms, about) = (request.since_ms, request.about.clone());
    let tail = request.tail as usize;
    let past = blocking(move || past(&reader, since_ms, &about, tail)).await?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let mut last = 0;
        for stored in past {
            last = stored.sequence;
            if sender
                .send(Ok(event_to_pb(&stored.event, stored.sequence)))
                .await
                .is_err()
            {
                return;
            }
        }
        if !request.follow {
            return;
        }
        loop {
            let next = tokio::select! {
                next = live.recv() => next,
                () = sender.closed() => return,
                () = cluster.stopping.cancelled() => return,
            };
            let message = match next {
                Ok(stored) if stored.sequence <= last => continue,
                Ok(stored) => {
                    let kind = &stored.event.kind;
                    if !request.about.is_empty() && !is_about(kind, &request.about) {
                        continue;
                    }
                    event_to_pb(&stored.event, stored.sequence)
                }
                Err(RecvError::Lagged(missed)) => gap(&cluster, missed),
                Err(RecvError::Closed) => return,
            };
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Told to a reader that was too slow.
fn gap(cluster: &Cluster, missed: u64) -> pb::EventsResponse {
    pb::EventsResponse {
        sequence: 0,
        time_ms: cluster.now_ms(),
        r#type: "gap".into(),
        message: format!("{missed} events were not read in time; events --since shows them"),
        detail: None,
    }
}
