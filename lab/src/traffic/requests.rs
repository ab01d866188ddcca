//! One HTTP request and the verdict on it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::Shared;
use super::http1::{Connection, Request};
use super::verdict::Failure;
use crate::kind::{Kind, body_byte};

/// Beyond the time that the work itself takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// Pause of a queue's client after a failure, so that a dead edge is not hammered.
const PAUSE: Duration = Duration::from_millis(500);

/// Connections that wait for their next request.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<Connection>>);

impl Kept {
    /// One that is still good; those that the other side closed meanwhile are reconnects, no
    /// failures: nothing was written on them.
    fn take(&self, shared: &Shared) -> Option<Connection> {
        loop {
            let connection = self.0.lock().expect("not poisoned").pop()?;
            if connection.is_usable() {
                return Some(connection);
            }
            shared.tally.reconnected();
        }
    }

    fn put(&self, connection: Connection) {
        self.0.lock().expect("not poisoned").push(connection);
    }
}

/// A client of the queue: asks again as soon as it has its answer, until the run ends.
pub(super) async fn one_after_another(shared: Arc<Shared>) {
    let kept = Kept::default();
    while !shared.stop.is_cancelled() {
        let Some(id) = shared.next_id(Kind::Queued) else {
            return;
        };
        if !one(Kind::Queued, &id, &shared, &kept).await {
            sleep(PAUSE).await;
        }
    }
}

/// Sends one request and counts what came of it; false: it failed.
pub(super) async fn one(kind: Kind, id: &str, shared: &Shared, kept: &Kept) -> bool {
    let began = Instant::now();
    let mut replica = None;
    let limit = PATIENCE + own_time(kind, shared);
    let result = timeout(limit, ask(kind, id, shared, kept, &mut replica)).await;
    let result = result.unwrap_or(Err(Failure::Timeout));
    shared
        .tally
        .count(kind, id, began, replica.as_deref(), result);
    result.is_ok()
}

fn own_time(kind: Kind, shared: &Shared) -> Duration {
    match kind {
        Kind::Slow => Duration::from_millis(shared.plan.slow_ms),
        Kind::Queued => Duration::from_millis(shared.plan.queue_ms),
        Kind::Download => Duration::from_secs(shared.plan.download_s),
        _ => Duration::ZERO,
    }
}

async fn ask(
    kind: Kind,
    id: &str,
    shared: &Shared,
    kept: &Kept,
    replica: &mut Option<String>,
) -> Result<(), Failure> {
    let plan = &shared.plan;
    let keeps = kind == Kind::KeepAlive;
    let target = match kind {
        Kind::Queued => plan.queue.unwrap_or(plan.target),
        _ => plan.target,
    };
    let waiting = if keeps { kept.take(shared) } else { None };
    let mut connection = match waiting {
        Some(connection) => connection,
        None => Connection::open(target).await?,
    };
    let path = match kind {
        Kind::Slow => format!("/slow?ms={}", plan.slow_ms),
        Kind::Queued => format!("/slow?ms={}", plan.queue_ms),
        Kind::Download => format!("/download?s={}&kb={}", plan.download_s, plan.download_kib),
        _ => "/".to_owned(),
    };
    let request = Request {
        kind,
        id,
        path: &path,
        more: if keeps { "" } else { "Connection: close\r\n" },
    };
    connection.write(&request).await?;
    shared.tally.wrote(kind);
    let head = connection.head().await?;
    *replica = head.replica;
    if head.status != 200 {
        return Err(Failure::Status(head.status));
    }
    let body = connection
        .body(head.length.ok_or(Failure::BadHead)?)
        .await?;
    let right = match kind {
        Kind::Download => {
            u64::try_from(body.len()).is_ok_and(|length| length == plan.download_kib * 1024)
                && body.iter().enumerate().all(|(i, b)| *b == body_byte(i))
        }
        _ => body == format!("{id}\n").as_bytes(),
    };
    if !right {
        return Err(Failure::WrongBody);
    }
    shared.tally.answered(kind);
    if keeps && !head.close {
        kept.put(connection);
    }
    Ok(())
}
