//! Watches, as hints only: "something may have changed: read". etcd's watches have lost events
//! (fixed after 3.4.23: etcd #17529, #18089, #19179), so nothing is taken from what they say, and
//! whoever listens reads now and then without a hint as well.
//!
//! A watch starts at the present and each new start is a hint, so that neither a compaction nor a
//! change of endpoint hides anything: there is no past to ask for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Streaming;

use crate::client::{Call, Client};
use crate::error::{EtcdError, Silence};
use crate::finder::{Finder, Link, pause};
use crate::limits::BACKOFF_FIRST;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::watch_client::WatchClient;
use crate::race::with_leader;
use crate::rows::Span;

/// A watch that is opened again whenever it breaks, until this is dropped.
#[derive(Debug)]
pub struct Hints {
    seen: watch::Receiver<u64>,
    task: tokio::task::AbortHandle,
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hints {
    /// Waits until something in the span may have changed since the last time. Many changes may
    /// be one hint.
    pub async fn next(&mut self) {
        if self.seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Client {
    /// Watches a span.
    #[must_use]
    pub fn hints(&self, span: Span) -> Hints {
        let (hint, seen) = watch::channel(0);
        let finder = Arc::clone(&self.finder);
        let task = tokio::spawn(watches(finder, span, hint)).abort_handle();
        Hints { seen, task }
    }
}

async fn watches(finder: Arc<Finder>, span: Span, hint: watch::Sender<u64>) {
    let call = Call::read(format!("watch of {span}"));
    let mut bound = BACKOFF_FIRST;
    loop {
        let deadline = Instant::now() + finder.settings().patience;
        let Ok(link) = finder.link(deadline).await else {
            continue; // The search waits between its races.
        };
        let within = finder.settings().call_deadline;
        let mut opened = false;
        let follow = follow(&call, &link, &span, within, || {
            opened = true;
            hint.send_modify(|hints| *hints += 1);
        });
        tokio::select! {
            error = follow => if !is_compaction(&error) {
                finder.leave(&link, &error);
            },
            // Whoever left it knows why.
            () = finder.left(&link) => {}
        }
        if opened {
            bound = BACKOFF_FIRST;
        }
        pause(&mut bound).await;
    }
}

/// Follows one watch until it breaks.
async fn follow(
    call: &Call,
    link: &Link,
    span: &Span,
    within: Duration,
    mut hint: impl FnMut(),
) -> EtcdError {
    let silent = || {
        call.silent(
            link,
            Silence::Deadline {
                ms: within.as_millis(),
            },
        )
    };
    let (_open, mut answers) = match tokio::time::timeout(within, open(link, span)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(status)) => return call.failed(link, status),
        Err(_) => return silent(),
    };
    let mut created = false;
    loop {
        let next = answers.message();
        // After that, pings find out whether anybody is there.
        let next = match created {
            true => next.await,
            false => match tokio::time::timeout(within, next).await {
                Ok(next) => next,
                Err(_) => return silent(),
            },
        };
        match next {
            Ok(Some(answer)) if answer.canceled => return ended(call, link, &answer),
            Ok(Some(answer)) => {
                if answer.created || !answer.events.is_empty() {
                    created = true;
                    hint();
                }
            }
            Ok(None) => return call.silent(link, Silence::Odd("the watch ended")),
            Err(status) => return call.failed(link, status),
        }
    }
}

fn ended(call: &Call, link: &Link, answer: &pb::WatchResponse) -> EtcdError {
    use crate::Refusal;
    let refusal = match (answer.compact_revision, answer.cancel_reason.as_str()) {
        (revision, _) if revision > 0 => Refusal::Compacted,
        (_, "etcdserver: no leader") => Refusal::NoLeader,
        (_, reason) => Refusal::Invalid(reason.to_owned()),
    };
    call.refused(link, refusal)
}

fn is_compaction(error: &EtcdError) -> bool {
    error.refusal() == Some(&crate::Refusal::Compacted)
}

type Opened = (
    tokio::sync::mpsc::Sender<pb::WatchRequest>,
    Streaming<pb::WatchResponse>,
);

async fn open(link: &Link, span: &Span) -> Result<Opened, tonic::Status> {
    use pb::watch_request::RequestUnion;
    let create = pb::WatchCreateRequest {
        key: span.key.clone(),
        range_end: span.end.clone(),
        ..pb::WatchCreateRequest::default()
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let _ = sender.try_send(pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    });
    let questions = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut client = WatchClient::new(link.channel.clone());
    let answers = client.watch(with_leader(questions)).await?.into_inner();
    Ok((sender, answers))
}
