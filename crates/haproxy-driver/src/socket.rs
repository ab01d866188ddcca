//! Conversations over HAProxy's unix sockets.
//!
//! A connection outlives a reload on the worker that accepted it, where commands still answer
//! success and change nothing that serves. So every conversation opens its own connection, asks
//! `show info` first, and is over within its deadline.

use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::certificates::is_plain_pem;
use crate::error::EdgeError;
use crate::readout::{self, Info};

/// Ends every answer in prompt mode.
const PROMPT: &[u8] = b"\n> ";
/// Most bytes of all answers of one conversation: 10,000 servers' statistics are about 3 MiB.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Room for what one read may bring.
const READ_BYTES: usize = 64 << 10;
/// Conversations with a worker that leaves before it is taken for the only one, and the time between.
const STOPPING_TRIES: usize = 20;
const STOPPING_PAUSE: Duration = Duration::from_millis(10);
/// Longest line that every release accepts, with room to spare.
const LINE_BYTES_MAX: usize = 12_000;
/// Commands of one conversation; more are sent in several.
pub(crate) const COMMANDS_MAX: usize = 2_000;

/// The worker's administration socket.
#[derive(Debug, Clone)]
pub(crate) struct AdminSocket {
    pub(crate) path: PathBuf,
    pub(crate) deadline: Duration,
    /// Takes over where the socket's file is gone, until it is back (see `rescue`).
    pub(crate) master: MasterSocket,
}

impl AdminSocket {
    /// Sends `commands` to a worker that is not stopping; gives its info and one answer each.
    pub(crate) async fn talk(&self, commands: &[String]) -> Result<(Info, Vec<String>), EdgeError> {
        let result = within(
            &self.path,
            self.deadline,
            self.converse_with_present(commands),
        )
        .await;
        if matches!(result, Err(EdgeError::Down { .. }))
            && let Ok(answers) = self.through_master(commands).await
        {
            return Ok(answers);
        }
        result
    }

    /// True if nobody listens, neither a worker nor a master. One that hangs still listens.
    pub(crate) async fn is_gone(&self) -> bool {
        for path in [&self.path, &self.master.path] {
            let result = within(path, self.deadline, connect(path)).await;
            if !matches!(&result, Err(EdgeError::Down { source, .. })
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused))
            {
                return false;
            }
        }
        true
    }

    async fn through_master(&self, commands: &[String]) -> Result<(Info, Vec<String>), EdgeError> {
        let mut info = readout::info(&self.master.ask("@1 show info").await?);
        check_info(&info)?;
        info.via_master = true;
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            check_line(command)?;
            answers.push(self.master.ask(&format!("@1 {command}")).await?);
        }
        Ok((info, answers))
    }

    /// Just after a reload both workers accept: the one that leaves until it has seen its signal,
    /// which takes a while on a busy host. It says so before anything is sent to it.
    async fn converse_with_present(
        &self,
        commands: &[String],
    ) -> Result<(Info, Vec<String>), EdgeError> {
        for _ in 1..STOPPING_TRIES {
            match self.converse(commands).await {
                Err(EdgeError::Stopping { .. }) => tokio::time::sleep(STOPPING_PAUSE).await,
                other => return other,
            }
        }
        self.converse(commands).await
    }

    async fn converse(&self, commands: &[String]) -> Result<(Info, Vec<String>), EdgeError> {
        let stream = connect(&self.path).await?;
        let (mut reader, mut writer) = stream.into_split();
        let mut buffer = Vec::with_capacity(READ_BYTES);
        send(&self.path, &mut writer, b"prompt\nshow info\n").await?;
        let first = replies(&self.path, &mut reader, &mut buffer, 2).await?;
        let info = readout::info(first.last().map_or("", String::as_str));
        check_info(&info)?;
        let mut lines = String::new();
        for command in commands {
            check_line(command)?;
            lines.push_str(command);
            lines.push('\n');
        }
        // HAProxy answers while we still write: read at the same time, or both sides wait.
        let (sent, answers) = tokio::join!(
            send(&self.path, &mut writer, lines.as_bytes()),
            replies(&self.path, &mut reader, &mut buffer, commands.len())
        );
        sent?;
        Ok((info, answers?))
    }
}

/// The master's socket. One command a connection: it has no reliable prompt to count.
#[derive(Debug, Clone)]
pub(crate) struct MasterSocket {
    pub(crate) path: PathBuf,
    pub(crate) deadline: Duration,
}

impl MasterSocket {
    /// Sends one command and reads to the end.
    pub(crate) async fn ask(&self, command: &str) -> Result<String, EdgeError> {
        within(&self.path, self.deadline, async {
            let mut stream = connect(&self.path).await?;
            let failed = |source| EdgeError::Down {
                socket: self.path.clone(),
                source,
            };
            stream
                .write_all(format!("{command}\n").as_bytes())
                .await
                .map_err(failed)?;
            stream.shutdown().await.map_err(failed)?;
            let mut bytes = Vec::new();
            let mut bounded = stream.take(REPLY_BYTES_MAX as u64);
            bounded.read_to_end(&mut bytes).await.map_err(failed)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        })
        .await
    }
}

fn check_info(info: &Info) -> Result<(), EdgeError> {
    if info.pid == 0 {
        let command = "show info".to_owned();
        return Err(EdgeError::Answer {
            command,
            why: "no pid in it".to_owned(),
        });
    }
    if info.stopping {
        return Err(EdgeError::Stopping { pid: info.pid });
    }
    Ok(())
}

/// Nothing that we emit comes near the limit; a longer line would be dropped in silence. One
/// command has more than one line: a certificate, of which each line is plain and none is empty.
fn check_line(command: &str) -> Result<(), EdgeError> {
    let (line, is_whole) = match command.split_once(" <<\n") {
        Some((line, pem)) => (line, line.starts_with("set ssl cert ") && is_plain_pem(pem)),
        None => (command, true),
    };
    if line.len() <= LINE_BYTES_MAX && !line.contains('\n') && is_whole {
        return Ok(());
    }
    // Never a line behind the first: it may be a key.
    let line = line.lines().next().unwrap_or_default();
    let command = line.chars().take(80).collect();
    Err(EdgeError::Answer {
        command,
        why: "it was not sent: not one short line".to_owned(),
    })
}

async fn within<T>(
    path: &Path,
    deadline: Duration,
    work: impl Future<Output = Result<T, EdgeError>>,
) -> Result<T, EdgeError> {
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or_else(|_| {
            Err(EdgeError::Silent {
                socket: path.to_owned(),
                deadline_ms,
            })
        })
}

async fn connect(path: &Path) -> Result<UnixStream, EdgeError> {
    let failed = |source| EdgeError::Down {
        socket: path.to_owned(),
        source,
    };
    UnixStream::connect(path).await.map_err(failed)
}

async fn send(path: &Path, writer: &mut OwnedWriteHalf, bytes: &[u8]) -> Result<(), EdgeError> {
    let failed = |source| EdgeError::Down {
        socket: path.to_owned(),
        source,
    };
    writer.write_all(bytes).await.map_err(failed)
}

/// Reads until `count` answers are complete. `buffer` keeps nothing over: an answer is asked for
/// before the next one is read.
async fn replies(
    path: &Path,
    reader: &mut OwnedReadHalf,
    buffer: &mut Vec<u8>,
    count: usize,
) -> Result<Vec<String>, EdgeError> {
    let mut answers = Vec::with_capacity(count);
    buffer.clear();
    let (mut start, mut scanned) = (0, 0);
    while answers.len() < count {
        while let Some(at) = memmem::find(&buffer[scanned..], PROMPT) {
            let end = scanned + at;
            answers.push(String::from_utf8_lossy(&buffer[start..end]).into_owned());
            start = end + PROMPT.len();
            scanned = start;
        }
        if answers.len() >= count {
            break;
        }
        scanned = scanned.max(buffer.len().saturating_sub(PROMPT.len() - 1));
        let failed = |source| EdgeError::Down {
            socket: path.to_owned(),
            source,
        };
        let read = reader.read_buf(buffer).await.map_err(failed)?;
        if read == 0 {
            return Err(failed(std::io::Error::from(
                std::io::ErrorKind::UnexpectedEof,
            )));
        }
        if buffer.len() > REPLY_BYTES_MAX {
            return Err(EdgeError::Answer {
                command: "a batch".to_owned(),
                why: format!("longer than {REPLY_BYTES_MAX} bytes"),
            });
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// Answers each line with what `script` gives for it, in prompt mode.
    async fn fake(
        listener: UnixListener,
        script: impl Fn(&str) -> Option<&'static str> + Send + 'static,
    ) {
        use tokio::io::AsyncBufReadExt as _;
        while let Ok((stream, _)) = listener.accept().await {
            let (reader, mut writer) = stream.into_split();
            let mut lines = tokio::io::BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match script(&line) {
                    Some(answer) => {
                        let text = format!("{answer}\n> ");
                        // In two parts, so that a prompt may be cut in the middle.
                        let (a, b) = text.as_bytes().split_at(text.len() - 2);
                        writer.write_all(a).await.unwrap();
                        tokio::task::yield_now().await;
                        writer.write_all(b).await.unwrap();
                    }
                    None => std::future::pending::<()>().await,
                }
            }
        }
    }

    fn socket(dir: &tempfile::TempDir) -> AdminSocket {
        {
            let deadline = Duration::from_millis(300);
            let master = MasterSocket {
                path: dir.path().join("m"),
                deadline,
            };
            AdminSocket {
                path: dir.path().join("s"),
                deadline,
                master,
            }
        }
    }

    #[tokio::test]
    async fn answers_are_counted_by_their_prompts() {
        let dir = tempfile::tempdir().unwrap();
        let socket = socket(&dir);
        let listener = UnixListener::bind(&socket.path).unwrap();
        tokio::spawn(fake(listener, |line| {
            Some(match line {
                "show info" => "Pid: 7\nStopping: 0\nVersion: 2.6.12\n",
                "a" => "one\ntwo\n",
                _ => "",
            })
        }));
        let (info, answers) = socket.talk(&["a".into(), "b".into()]).await.unwrap();
        assert_eq!((info.pid, info.version.as_str()), (7, "2.6.12"));
        assert_eq!(answers, ["one\ntwo\n", ""]);
    }

    #[tokio::test]
    async fn a_stopping_worker_gets_no_command() {
        let dir = tempfile::tempdir().unwrap();
        let socket = AdminSocket {
            deadline: Duration::from_secs(60),
            ..socket(&dir)
        };
        let listener = UnixListener::bind(&socket.path).unwrap();
        tokio::spawn(fake(listener, |line| {
            assert!(matches!(line, "prompt" | "show info"), "{line} was sent");
            Some("Pid: 7\nStopping: 1\n")
        }));
        let error = socket.talk(&["a".into()]).await.unwrap_err();
        assert!(matches!(error, EdgeError::Stopping { pid: 7 }), "{error}");
    }

    #[tokio::test]
    async fn a_worker_that_leaves_does_not_answer_for_the_one_that_came() {
        let dir = tempfile::tempdir().unwrap();
        let socket = AdminSocket {
            deadline: Duration::from_secs(60),
            ..socket(&dir)
        };
        let listener = UnixListener::bind(&socket.path).unwrap();
        let asked = std::sync::atomic::AtomicUsize::new(0);
        tokio::spawn(fake(listener, move |line| {
            Some(match line {
                "show info" => match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                    0..3 => "Pid: 7\nStopping: 1\n",
                    _ => "Pid: 8\nStopping: 0\n",
                },
                _ => "",
            })
        }));
        let (info, answers) = socket.talk(&["a".into()]).await.unwrap();
        assert_eq!((info.pid, answers.len()), (8, 1));
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline_and_absence_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let socket = socket(&dir);
        let error = socket.talk(&[]).await.unwrap_err();
        assert!(matches!(error, EdgeError::Down { .. }), "{error}");
        let listener = UnixListener::bind(&socket.path).unwrap();
        tokio::spawn(fake(listener, |_| None));
        let error = socket.talk(&[]).await.unwrap_err();
        assert!(
            matches!(
                error,
                EdgeError::Silent {
                    deadline_ms: 300,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_line_break_in_a_command_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let socket = socket(&dir);
        for bad in [
            "a\nb",
            "a <<\nMIIB\n",
            "set ssl cert x <<\nMIIB\n\nshow x\n",
            "set ssl cert x <<\nMIIB",
        ] {
            let listener = UnixListener::bind(&socket.path).unwrap();
            tokio::spawn(fake(listener, |_| Some("Pid: 7\n")));
            let error = socket.talk(&[bad.into()]).await.unwrap_err();
            std::fs::remove_file(&socket.path).unwrap();
            assert!(matches!(error, EdgeError::Answer { .. }), "{error}");
            assert!(!error.to_string().contains("MIIB"), "{error}");
        }
    }
}
