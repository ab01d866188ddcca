//! The event log: what is kept, then what comes.

use std::sync::Arc;

use longshore_model::{EventKind, ServiceKey};
use longshore_proto::control::v1 as pb;
use longshore_wire::{event_to_pb, event_type};
use strum::VariantNames;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::cluster::Cluster;
use crate::grpc::control::decisions;
use crate::grpc::control::find::offer;
use crate::grpc::{blocking, quoted};
use crate::store::StoredEvent;

/// Events that wait for one reader.
const WAITING_MAX: usize = 64;

/// Types, services and nodes of one filter.
const WORDS_MAX: usize = 64;

/// Is the event about `word`: a service (`app/service` or `service`), an app or a node?
pub(super) fn is_about(kind: &EventKind, word: &str) -> bool {
    let word = word.strip_prefix("node/").unwrap_or(word);
    is_about_service(kind, word) || is_about_node(kind, word)
}

fn is_about_service(kind: &EventKind, word: &str) -> bool {
    let service = kind.service().is_some_and(|key| {
        key.service.as_str() == word || key.app.as_str() == word || key.to_string() == word
    });
    let app = match kind {
        EventKind::AppApplied { app, .. } | EventKind::AppDown { app, .. } => {
            app.as_str() == word || word.starts_with(&format!("{app}/"))
        }
        EventKind::CertificateBrought { app, services, .. }
        | EventKind::CertificateRenewed { app, services, .. }
        | EventKind::CertificateRefused { app, services, .. }
        | EventKind::CertificateServed { app, services, .. } => {
            let is_named =
                |key: &ServiceKey| key.service.as_str() == word || key.to_string() == word;
            app.as_str() == word || services.iter().any(is_named)
        }
        _ => false,
    };
    service || app
}

fn is_about_node(kind: &EventKind, word: &str) -> bool {
    kind.node().is_some_and(|node| node.as_str() == word)
}

/// Which events a reader wants.
#[derive(Debug, Clone, Default)]
struct Filter {
    since_ms: u64,
    about: String,
    types: Vec<String>,
    services: Vec<String>,
    nodes: Vec<String>,
}

impl Filter {
    fn new(request: &pb::EventsRequest) -> Result<Self, Status> {
        let lists = [&request.types, &request.services, &request.nodes];
        if lists.iter().any(|list| list.len() > WORDS_MAX) {
            return Err(Status::invalid_argument(format!(
                "at most {WORDS_MAX} types, services and nodes each"
            )));
        }
        let known = EventKind::VARIANTS;
        let unknown = |word: &&String| !known.contains(&word.as_str());
        if let Some(word) = request.types.iter().find(unknown) {
            let near = offer(word, known.iter().copied());
            return Err(Status::invalid_argument(format!(
                "there are no events of type {}{near}; there are {}",
                quoted(word),
                known.join(", ")
            )));
        }
        Ok(Self {
            since_ms: request.since_ms,
            about: request.about.clone(),
            types: request.types.clone(),
            services: request.services.clone(),
            nodes: request.nodes.clone(),
        })
    }

    /// Calls of operators are told to who asks for them: they say twice what other events say once.
    fn is_of_type(&self, kind: &EventKind) -> bool {
        match self.types.is_empty() {
            true => !matches!(kind, EventKind::OperatorCalled { .. }),
            false => self.types.iter().any(|word| *word == event_type(kind)),
        }
    }

    fn wants(&self, stored: &StoredEvent) -> bool {
        let kind = &stored.event.kind;
        let any = |words: &[String], is: &dyn Fn(&str) -> bool| {
            words.is_empty() || words.iter().any(|word| is(word))
        };
        stored.event.at_ms >= self.since_ms
            && (self.about.is_empty() || is_about(kind, &self.about))
            && any(&self.services, &|word| is_about_service(kind, word))
            && any(&self.nodes, &|word| is_about_node(kind, word))
            && self.is_of_type(kind)
    }
}

/// Serves `Events`.
pub(super) async fn events(
    cluster: Arc<Cluster>,
    request: pb::EventsRequest,
) -> Result<ReceiverStream<Result<pb::EventsResponse, Status>>, Status> {
    let filter = Filter::new(&request)?;
    // Listening begins before reading: nothing falls between the two, and what comes twice is
    // known by its sequence.
    let mut live = cluster.watch_events();
    let (mut past, mut last) = read(&cluster, request.after_sequence).await?;
    // Who follows may wait for something that is still to come.
    if !request.follow {
        known(&cluster, &filter.about).await?;
    }
    past.retain(|stored| filter.wants(stored));
    if request.tail > 0 {
        past.drain(..past.len().saturating_sub(request.tail as usize));
    }
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            for stored in past.iter().filter(|stored| filter.wants(stored)) {
                let message = event_to_pb(&stored.event, stored.sequence);
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            if !request.follow {
                return;
            }
            past.clear();
            let next = tokio::select! {
                next = live.recv() => next,
                () = sender.closed() => return,
                () = cluster.stopping.cancelled() => return,
            };
            match next {
                Ok(stored) if stored.sequence <= last => {}
                Ok(stored) => {
                    last = stored.sequence;
                    past.push(StoredEvent::clone(&stored));
                }
                // A slow reader reads on from the store: nothing is lost, nothing comes twice.
                Err(RecvError::Lagged(_)) => match read(&cluster, last).await {
                    Ok((missed, newest)) => (past, last) = (missed, newest.max(last)),
                    Err(status) => {
                        // A reader that has gone needs no word.
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                },
                Err(RecvError::Closed) => return,
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Refuses a word that means nothing and of which no event tells.
async fn known(cluster: &Arc<Cluster>, about: &str) -> Result<(), Status> {
    let word = about.strip_prefix("node/").unwrap_or(about);
    let (desired, services) = (cluster.desired(), decisions::services(cluster));
    let mut names: Vec<String> = desired.nodes.keys().map(ToString::to_string).collect();
    names.extend(services.iter().flat_map(|key| {
        let (app, service) = (key.app.to_string(), key.service.to_string());
        [app, service, key.to_string()]
    }));
    if about.is_empty() || names.iter().any(|name| name == word) {
        return Ok(());
    }
    // Of what is gone the log may still tell.
    let (events, _) = read(cluster, 0).await?;
    match events
        .iter()
        .any(|stored| is_about(&stored.event.kind, word))
    {
        true => Ok(()),
        false => {
            let near = offer(word, names.iter().map(String::as_str));
            Err(Status::not_found(format!(
                "nothing is known of {}: there is no such app, service or node{near}",
                quoted(about)
            )))
        }
    }
}

/// Events after `sequence`, and the newest sequence. One that is still to come is of another
/// history (a store that was restored): then all are read.
async fn read(cluster: &Arc<Cluster>, sequence: u64) -> Result<(Vec<StoredEvent>, u64), Status> {
    let reader = Arc::clone(cluster);
    let mut events = blocking(move || Ok(reader.past_events()?)).await?;
    let newest = events.last().map_or(0, |stored| stored.sequence);
    if sequence <= newest {
        events.retain(|stored| stored.sequence > sequence);
    }
    Ok((events, newest))
}
