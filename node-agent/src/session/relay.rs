//! What streams carry, from the engine to the session and back. Their pieces wait for room, so a fast
//! writer is slowed down and never fills memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::session_request::Message as Out;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::runs::{Begun, RUN_MAX, RunError, code_of, code_of_words};
use crate::runtime::terminal::{Size, Terminal};
use crate::runtime::{Channel, ExecOptions, ExecRun, LogOptions, Output, Runtime, RuntimeError};

/// Bytes of one message.
pub(super) const PIECE_BYTES_MAX: usize = 32 << 10;
/// How often a size is tried: for about 5 s.
const RESIZE_TRIES: u32 = 8;
const RESIZE_FIRST: Duration = Duration::from_millis(20);
const RESIZE_CAP: Duration = Duration::from_secs(2);

pub(super) type Bulk = mpsc::Sender<pb::SessionRequest>;

/// What comes in for a command.
pub(super) struct Input {
    /// Standard input; an empty piece ends it.
    pub(super) pieces: mpsc::Receiver<Vec<u8>>,
    /// Of its terminal, if it has one.
    pub(super) sizes: watch::Receiver<Option<Size>>,
}

pub(super) fn request(message: Out) -> pb::SessionRequest {
    pb::SessionRequest {
        message: Some(message),
    }
}

pub(super) async fn logs<R: Runtime>(
    runtime: &R,
    container: &str,
    options: &LogOptions,
    id: u64,
    bulk: &Bulk,
) -> Result<Option<i64>, String> {
    let output = runtime.logs(container, options).await.map_err(words)?;
    forward(output, id, bulk).await.map(|()| None)
}

pub(super) async fn exec<R: Runtime>(
    runtime: &R,
    container: &str,
    options: &ExecOptions,
    id: u64,
    bulk: &Bulk,
    input: Input,
) -> Result<Option<i64>, String> {
    let mut run = match runtime.exec(container, options).await {
        Ok(run) => run,
        Err(error) => {
            let code = code_of(&error).ok_or_else(|| words(error.clone()))?;
            return cannot_run(code, &words(error), id, bulk).await;
        }
    };
    let first = Arc::new(Mutex::new(Vec::new()));
    run.output = beginning(run.output, Arc::clone(&first));
    let exec = run.id.clone();
    let terminal = Terminal::Exec(exec.clone());
    let sized = follow_size(runtime, &terminal, input.sizes);
    tokio::select! {
        relayed = relay(run, id, bulk, input.pieces) => relayed?,
        () = sized => {}
    }
    let code = runtime.exec_exit_code(&exec).await.map_err(words)?;
    let first = std::mem::take(&mut *lock(&first));
    Ok(code.map(|code| started_or(code, &first)))
}

/// What an engine writes in place of a command that it could not start.
const NOT_STARTED: &[u8] = b"OCI runtime exec failed";
/// Of that no more is looked at.
const BEGINNING_BYTES: usize = 4 << 10;

/// An engine ends every command that it could not start with 126, and says why in its output: the
/// code is 127 where there is none of that name, as of a container's own command.
fn started_or(code: i64, first: &[u8]) -> i64 {
    if code != 126 || !first.starts_with(NOT_STARTED) {
        return code;
    }
    code_of_words(&String::from_utf8_lossy(first)).unwrap_or(code)
}

/// The same output; its first bytes are kept in `first` as they go by.
fn beginning(output: Output, first: Arc<Mutex<Vec<u8>>>) -> Output {
    Box::pin(output.inspect(move |piece| {
        if let Ok((_, bytes)) = piece {
            let mut first = lock(&first);
            let room = BEGINNING_BYTES.saturating_sub(first.len());
            first.extend(bytes.iter().take(room));
        }
    }))
}

fn lock(first: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    // Bytes are whole after every change.
    first.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says why a command cannot be run, and gives its code.
async fn cannot_run(code: i64, why: &str, id: u64, bulk: &Bulk) -> Result<Option<i64>, String> {
    let line = (Channel::Stderr, format!("{why}\n").into_bytes());
    let output = futures_util::stream::iter([Ok(line)]);
    forward(Box::pin(output), id, bulk).await?;
    Ok(Some(code))
}

/// A container of its own, from its start to its end.
pub(super) async fn run<R: Runtime>(
    runtime: &R,
    begun: Result<Begun<R>, RunError>,
    id: u64,
    bulk: &Bulk,
    input: Input,
) -> Result<Option<i64>, String> {
    let (lease, attached) = match begun.map_err(|error| error.to_string())? {
        Begun::Running(lease, attached) => (lease, attached),
        Begun::CannotRun(code, why) => return cannot_run(code, &why, id, bulk).await,
    };
    let whole = async {
        let terminal = Terminal::Container(attached.id.clone());
        let sized = follow_size(runtime, &terminal, input.sizes);
        tokio::select! {
            relayed = relay(attached, id, bulk, input.pieces) => relayed?,
            () = sized => {}
        }
        lease.wait().await.map_err(words)
    };
    let ended = tokio::time::timeout(RUN_MAX, whole).await;
    let hours = RUN_MAX.as_secs() / 3_600;
    let code = ended.map_err(|_| format!("a run ends after {hours} h; it was removed"))??;
    lease.end().await;
    Ok(Some(code))
}

/// Gives a terminal the newest size. Never ends: the command does.
async fn follow_size<R: Runtime>(
    runtime: &R,
    terminal: &Terminal,
    mut sizes: watch::Receiver<Option<Size>>,
) {
    loop {
        let size = *sizes.borrow_and_update();
        if let Some(size) = size {
            // An engine says that it runs before it does, and takes no size then.
            let mut backoff = Backoff::new(RESIZE_FIRST, RESIZE_CAP);
            for tries_left in (0..RESIZE_TRIES).rev() {
                match runtime.resize(terminal, size).await {
                    Ok(()) => break,
                    Err(error) if tries_left == 0 => {
                        tracing::debug!(%error, "the terminal keeps its size");
                    }
                    Err(_) => sleep(backoff.next_wait()).await,
                }
            }
        }
        if sizes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Hands on what comes in and what goes out, until the latter ends.
async fn relay(
    mut run: ExecRun,
    id: u64,
    bulk: &Bulk,
    mut input: mpsc::Receiver<Vec<u8>>,
) -> Result<(), String> {
    let feed = async {
        while let Some(piece) = input.recv().await {
            if piece.is_empty() || run.input.write_all(&piece).await.is_err() {
                break;
            }
            // A command that does not read any more has ended; its output tells.
            let _ = run.input.flush().await;
            let credit = pb::StreamCredit {
                stream_id: id,
                pieces: 1,
            };
            if bulk.send(request(Out::StreamCredit(credit))).await.is_err() {
                break;
            }
        }
        let _ = run.input.shutdown().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        forwarded = forward(run.output, id, bulk) => forwarded,
        () = feed => Ok(()),
    }
}

pub(super) async fn forward(mut output: Output, id: u64, bulk: &Bulk) -> Result<(), String> {
    while let Some(piece) = output.next().await {
        let (channel, bytes) = piece.map_err(words)?;
        let channel = match channel {
            Channel::Stdout => pb::Channel::Stdout,
            Channel::Stderr => pb::Channel::Stderr,
        };
        for part in bytes.chunks(PIECE_BYTES_MAX) {
            let data = pb::StreamData {
                stream_id: id,
                channel: channel.into(),
                data: part.to_vec(),
            };
            let sent = bulk.send(request(Out::StreamData(data))).await;
            sent.map_err(|_| "the session ended".to_owned())?;
        }
    }
    Ok(())
}

pub(super) fn words(error: RuntimeError) -> String {
    error.to_string()
}
