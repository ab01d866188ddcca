//! Logs and commands of replicas, carried over the session. Their pieces wait for room, so a
//! fast writer is slowed down and never fills memory.

use std::collections::HashMap;
use std::sync::Arc;

use longshore_model::ReplicaId;
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::open_stream::Kind;
use longshore_proto::agent::v1::session_request::Message as Out;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::relay::{Bulk, Input, PIECE_BYTES_MAX, exec, logs, request, run, words};
use super::{disk, proxy, said};
use crate::edge::ProxyView;
use crate::reconcile::Snapshot;
use crate::runs::Runner;
use crate::runtime::runs::RunOrder;
use crate::runtime::terminal::Size;
use crate::runtime::{ExecOptions, LogOptions, Runtime};
use crate::said::Said;

/// Streams of one session.
const STREAMS_MAX: usize = 32;
/// Pieces of standard input that a controller may send before more are granted, one for each that a
/// command has read: 256 KiB of those that `controllerctl` makes.
pub(super) const STDIN_PIECES: u32 = 16;
/// Pieces that wait for a command to read them; more than are granted, for controllers that do not
/// wait for that.
const STDIN_QUEUE: usize = 64;
/// What is asked of a node that cannot have it.
const NO_EDGE: &str = "this node is no edge";
/// Words of a command.
const COMMAND_WORDS_MAX: usize = 256;

/// What streams are opened with.
pub struct NodeView<'n> {
    /// Replicas and their containers.
    pub snapshot: &'n Snapshot,
    /// HAProxy's configuration; none on a node that is no edge.
    pub proxy: Option<&'n ProxyView>,
    /// Runs containers once; none on a node that is no worker.
    pub runner: Option<&'n Arc<Runner>>,
    /// What the agent said.
    pub said: &'n Said,
}

/// Open streams of one session; all end with it.
pub struct Streams {
    bulk: Bulk,
    open: HashMap<u64, OpenStream>,
}

struct OpenStream {
    task: AbortHandle,
    /// Standard input; an empty piece ends it.
    stdin: Option<mpsc::Sender<Vec<u8>>>,
    /// Of its terminal, if it has one.
    size: Option<watch::Sender<Option<Size>>>,
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
        node: &NodeView<'_>,
        message: pb::OpenStream,
    ) {
        self.open.retain(|_, stream| !stream.task.is_finished());
        let id = message.stream_id;
        let (stdin, input) = mpsc::channel(STDIN_QUEUE);
        let planned = self.plan(node, message);
        let (wants_stdin, tty, first) = match &planned {
            Ok(Work::Exec(_, options)) => (options.stdin, options.tty, options.size),
            Ok(Work::Run(_, order)) => (order.stdin, order.tty, order.size),
            _ => (false, false, None),
        };
        let (size, sizes) = watch::channel(first.filter(|_| tty));
        let input = Input {
            pieces: input,
            sizes,
        };
        let bulk = self.bulk.clone();
        let task = tokio::spawn(async move {
            let ended = match planned {
                Ok(Work::Logs(container, options)) => {
                    logs(&*runtime, &container, &options, id, &bulk).await
                }
                Ok(Work::Exec(container, options)) => {
                    exec(&*runtime, &container, &options, id, &bulk, input).await
                }
                Ok(Work::Run(runner, order)) => {
                    let begun = runner.begin(&runtime, &order).await;
                    run(&*runtime, begun, id, &bulk, input).await
                }
                Ok(Work::Disk(asked)) => disk::told(&*runtime, &asked, id, &bulk).await,
                Ok(Work::Said(kept, asked)) => said::told(&kept, &asked, id, &bulk).await,
                Ok(Work::RemoveVolume(volume)) => {
                    let removed = runtime.remove_volume(&volume.name, volume.named).await;
                    removed.map(|()| None).map_err(words)
                }
                Ok(Work::ProxyConfig(view)) => proxy::file(&view, id, &bulk).await,
                Ok(Work::ProxyWanted(view)) => proxy::wanted(&view, id, &bulk).await,
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
            size: tty.then_some(size),
        };
        self.open.insert(id, stream);
    }

    fn plan(&self, node: &NodeView<'_>, message: pb::OpenStream) -> Result<Work, String> {
        if self.open.len() >= STREAMS_MAX {
            return Err(format!(
                "this node serves {STREAMS_MAX} streams already; try again later"
            ));
        }
        if self.open.contains_key(&message.stream_id) {
            return Err("that stream is open already".into());
        }
        let container = |replica: u64| {
            let replica = ReplicaId(replica);
            let view = node
                .snapshot
                .replicas
                .iter()
                .find(|view| view.id == replica);
            let container = view.and_then(|view| view.container.clone());
            container.ok_or_else(|| format!("{replica} has no container here"))
        };
        Ok(match message.kind {
            Some(Kind::Logs(logs)) => {
                let options = LogOptions {
                    follow: logs.follow,
                    tail: logs.tail,
                    since_s: logs.since_s,
                    timestamps: logs.timestamps,
                };
                Work::Logs(container(logs.replica_id)?, options)
            }
            Some(Kind::Exec(exec)) => {
                if exec.command.is_empty() || exec.command.len() > COMMAND_WORDS_MAX {
                    return Err(format!("a command has 1 to {COMMAND_WORDS_MAX} words"));
                }
                let options = ExecOptions {
                    size: exec.size.and_then(Size::from_pb),
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
                Work::Exec(container(exec.replica_id)?, options)
            }
            Some(Kind::ProxyConfig(_)) => Work::ProxyConfig(node.proxy.ok_or(NO_EDGE)?.clone()),
            Some(Kind::ProxyWanted(_)) => Work::ProxyWanted(node.proxy.ok_or(NO_EDGE)?.clone()),
            Some(Kind::AgentLog(asked)) => Work::Said(node.said.clone(), asked),
            Some(Kind::Disk(disk)) => {
                node.runner.ok_or("this node is no worker")?;
                Work::Disk(disk)
            }
            Some(Kind::RemoveVolume(volume)) => Work::RemoveVolume(volume),
            Some(Kind::Run(run)) => {
                let runner = node.runner.ok_or("this node is no worker")?;
                let order = RunOrder::from_pb(*run, runner.cluster())?;
                Work::Run(Arc::clone(runner), Box::new(order))
            }
            None => return Err("this agent does not know that kind of stream".into()),
        })
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

    /// A terminal has another size now.
    pub fn resize(&mut self, message: &pb::StreamResize) {
        let stream = self.open.get(&message.stream_id);
        let terminal = stream.and_then(|stream| stream.size.as_ref());
        let size = message.size.and_then(Size::from_pb);
        if let (Some(terminal), Some(size)) = (terminal, size) {
            terminal.send_replace(Some(size));
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
    Logs(String, LogOptions),
    Exec(String, ExecOptions),
    Run(Arc<Runner>, Box<RunOrder>),
    Disk(pb::DiskStream),
    Said(Said, pb::AgentLogStream),
    RemoveVolume(pb::RemoveVolumeStream),
    ProxyConfig(ProxyView),
    ProxyWanted(ProxyView),
}
