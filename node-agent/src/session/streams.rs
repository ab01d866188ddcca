//! Logs and commands of replicas, carried over the session. Their pieces wait for room, so a
//! fast writer is slowed down and never fills memory.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use longshore_model::ReplicaId;
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::open_stream::Kind;
use longshore_proto::agent::v1::session_request::Message as Out;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::reconcile::Snapshot;
use crate::runtime::{Channel, ExecOptions, LogOptions, Output, Runtime, RuntimeError};

/// Streams of one session.
const STREAMS_MAX: usize = 32;
/// Bytes of one message.
const PIECE_BYTES_MAX: usize = 32 << 10;
/// Pieces of standard input that wait for a command to read them.
const STDIN_QUEUE: usize = 64;
/// Words of a command.
const COMMAND_WORDS_MAX: usize = 256;

type Bulk = mpsc::Sender<pb::SessionRequest>;

/// Open streams of one session; all end with it.
pub struct Streams {
    bulk: Bulk,
    open: HashMap<u64, OpenStream>,
}

struct OpenStream {
    task: AbortHandle,
    /// Standard input; an empty piece ends it.
    stdin: Option<mpsc::Sender<Vec<u8>>>,
}

impl Drop for Streams {
    fn drop(&mut self) {
        for stream in self.open.values() {
            stream.task.abort();
        }
    }
}

impl Streams {
    /// None yet; pieces go to `bulk`.
    #[must_use]
    pub fn new(bulk: mpsc::Sender<pb::SessionRequest>) -> Self {
        Self {
            bulk,
            open: HashMap::new(),
        }
    }

    /// Opens a stream, or ends it at once with the reason.
    pub fn open<R: Runtime>(
        &mut self,
        runtime: Arc<R>,
        snapshot: &Snapshot,
        message: pb::OpenStream,
    ) {
        self.open.retain(|_, stream| !stream.task.is_finished());
        let id = message.stream_id;
        let (stdin, input) = mpsc::channel(STDIN_QUEUE);
        let planned = self.plan(snapshot, message);
        let wants_stdin = matches!(&planned, Ok((_, Work::Exec(options))) if options.stdin);
        let bulk = self.bulk.clone();
        let task = tokio::spawn(async move {
            let ended = match planned {
                Ok((container, Work::Logs(options))) => {
                    logs(&*runtime, &container, &options, id, &bulk).await
                }
                Ok((container, Work::Exec(options))) => {
                    exec(&*runtime, &container, &options, id, &bulk, input).await
                }
                Err(why) => Err(why),
            };
            let (error, exit_code) = match ended {
                Ok(exit_code) => (String::new(), exit_code),
                Err(why) => (why, None),
            };
            let end = pb::StreamEnd {
                stream_id: id,
                error,
                exit_code,
            };
            // The session is gone: so is whoever would read this.
            let _ = bulk.send(request(Out::StreamEnd(end))).await;
        });
        let stream = OpenStream {
            task: task.abort_handle(),
            stdin: wants_stdin.then_some(stdin),
        };
        self.open.insert(id, stream);
    }

    fn plan(&self, snapshot: &Snapshot, message: pb::OpenStream) -> Result<(String, Work), String> {
        if self.open.len() >= STREAMS_MAX {
            return Err(format!(
                "this node serves {STREAMS_MAX} streams already; try again later"
            ));
        }
        if self.open.contains_key(&message.stream_id) {
            return Err("that stream is open already".into());
        }
        let (replica, work) = match message.kind {
            Some(Kind::Logs(logs)) => {
                let options = LogOptions {
                    follow: logs.follow,
                    tail: logs.tail,
                    since_s: logs.since_s,
                    timestamps: logs.timestamps,
                };
                (logs.replica_id, Work::Logs(options))
            }
            Some(Kind::Exec(exec)) => {
                if exec.command.is_empty() || exec.command.len() > COMMAND_WORDS_MAX {
                    return Err(format!("a command has 1 to {COMMAND_WORDS_MAX} words"));
                }
                let options = ExecOptions {
                    command: exec.command,
                    tty: exec.tty,
                    stdin: exec.stdin,
                    user: exec.user,
                    working_dir: exec.working_dir,
                    env: exec
                        .env
                        .iter()
                        .map(|(key, value)| format!("{key}={value}"))
                        .collect(),
                };
                (exec.replica_id, Work::Exec(options))
            }
            None => return Err("this agent does not know that kind of stream".into()),
        };
        let replica = ReplicaId(replica);
        let view = snapshot.replicas.iter().find(|view| view.id == replica);
        let container = view.and_then(|view| view.container.clone());
        let container = container.ok_or_else(|| format!("{replica} has no container here"))?;
        Ok((container, work))
    }

    /// Standard input for a command.
    pub fn data(&mut self, message: pb::StreamData) {
        let Some(stream) = self.open.get(&message.stream_id) else {
            return;
        };
        let Some(stdin) = &stream.stdin else { return };
        if message.data.len() > PIECE_BYTES_MAX || stdin.try_send(message.data).is_err() {
            // It does not read: losing a piece in silence would be worse than ending it.
            let why = "the command does not read its input fast enough".to_owned();
            self.fail(message.stream_id, why);
        }
    }

    fn fail(&mut self, id: u64, error: String) {
        self.end(id);
        let end = pb::StreamEnd {
            stream_id: id,
            error,
            exit_code: None,
        };
        let bulk = self.bulk.clone();
        tokio::spawn(async move { bulk.send(request(Out::StreamEnd(end))).await });
    }

    /// Nobody reads it any more.
    pub fn end(&mut self, id: u64) {
        if let Some(stream) = self.open.remove(&id) {
            stream.task.abort();
        }
    }
}

enum Work {
    Logs(LogOptions),
    Exec(ExecOptions),
}

fn request(message: Out) -> pb::SessionRequest {
    pb::SessionRequest {
        message: Some(message),
    }
}

async fn logs<R: Runtime>(
    runtime: &R,
    container: &str,
    options: &LogOptions,
    id: u64,
    bulk: &Bulk,
) -> Result<Option<i64>, String> {
    let output = runtime.logs(container, options).await.map_err(words)?;
    forward(output, id, bulk).await.map(|()| None)
}

async fn exec<R: Runtime>(
    runtime: &R,
    container: &str,
    options: &ExecOptions,
    id: u64,
    bulk: &Bulk,
    mut input: mpsc::Receiver<Vec<u8>>,
) -> Result<Option<i64>, String> {
    let mut run = runtime.exec(container, options).await.map_err(words)?;
    let feed = async {
        while let Some(piece) = input.recv().await {
            if piece.is_empty() || run.input.write_all(&piece).await.is_err() {
                break;
            }
            // A command that does not read any more has ended; its output tells.
            let _ = run.input.flush().await;
        }
        let _ = run.input.shutdown().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        forwarded = forward(run.output, id, bulk) => forwarded?,
        () = feed => {}
    }
    runtime.exec_exit_code(&run.id).await.map_err(words)
}

async fn forward(mut output: Output, id: u64, bulk: &Bulk) -> Result<(), String> {
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

fn words(error: RuntimeError) -> String {
    error.to_string()
}
