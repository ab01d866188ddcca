//! `exec`: a command in a replica. `run`: a container of its own.

use std::collections::HashMap;
use std::error::Error as _;
use std::io::{IsTerminal, Write};

use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1::{TerminalSize, Words};
use pb::exec_request::Message as In;
use pb::exec_response::Message as Out;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::Run;
use crate::cli::{ExecArgs, RunArgs};
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::text::printable;

/// Pieces of input under way.
const QUEUE: usize = 16;
/// Docker's code for "could not be run".
const CANNOT_RUN: u8 = 125;

/// Puts the terminal into raw mode and back, whatever happens.
struct RawTerminal;

impl RawTerminal {
    fn enter() -> Result<Self, Failure> {
        crossterm::terminal::enable_raw_mode()?;
        Ok(Self)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // There is nothing else to try.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

pub(super) async fn exec(run: &Run, args: ExecArgs) -> Result<Exit, Failure> {
    check_terminal(args.tty)?;
    let start = pb::ExecStart {
        target: args.target,
        command: args.command,
        tty: args.tty,
        stdin: args.interactive,
        user: args.user.unwrap_or_default(),
        working_dir: args.workdir.unwrap_or_default(),
        env: variables(&args.env)?,
        size: args.tty.then(size).flatten(),
    };
    follow(run, In::Start(start), args.interactive, args.tty).await
}

/// A container like the service's replicas, removed with its end or with ours.
pub(super) async fn run(run: &Run, args: RunArgs) -> Result<Exit, Failure> {
    check_terminal(args.tty)?;
    let command = (!args.command.is_empty()).then_some(Words {
        words: args.command,
    });
    let entrypoint = args.entrypoint.map(|word| Words { words: vec![word] });
    let start = pb::RunStart {
        service: args.service,
        entrypoint,
        command,
        tty: args.tty,
        stdin: args.interactive,
        user: args.user.unwrap_or_default(),
        working_dir: args.workdir.unwrap_or_default(),
        env: variables(&args.env)?,
        size: args.tty.then(size).flatten(),
    };
    follow(run, In::Run(start), args.interactive, args.tty).await
}

fn check_terminal(tty: bool) -> Result<(), Failure> {
    if tty && !std::io::stdin().is_terminal() {
        return Err(Failure::new("-t needs a terminal")
            .exit(Exit::Usage)
            .hint("leave -t out"));
    }
    Ok(())
}

/// Of the terminal; none if it has none.
fn size() -> Option<TerminalSize> {
    let (columns, rows) = crossterm::terminal::size().ok()?;
    (rows > 0 && columns > 0).then(|| TerminalSize {
        rows: rows.into(),
        columns: columns.into(),
    })
}

fn variables(pairs: &[String]) -> Result<HashMap<String, String>, Failure> {
    let split = |pair: &String| {
        let pair = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("{pair:?} is no NAME=VALUE")).exit(Exit::Usage))?;
        Ok((pair.0.to_owned(), pair.1.to_owned()))
    };
    pairs.iter().map(split).collect()
}

/// Sends the first message, hands on both directions, ends with the command's code.
async fn follow(run: &Run, start: In, interactive: bool, tty: bool) -> Result<Exit, Failure> {
    let what = What::of(&start);
    let mut client = run.connect(None).await?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let first = pb::ExecRequest {
        message: Some(start),
    };
    if sender.send(first).await.is_err() {
        return Err(Failure::new("the command could not be sent"));
    }
    if tty {
        tokio::spawn(send_sizes(sender.clone()));
    }
    if interactive {
        tokio::spawn(send_stdin(sender));
    } else {
        drop(sender);
    }
    let mut output = client
        .exec(ReceiverStream::new(receiver))
        .await
        .map_err(engine_failed)?;
    let raw = tty.then(RawTerminal::enter).transpose()?;
    let exit = loop {
        let next = tokio::select! {
            next = output.next() => next,
            _ = tokio::signal::ctrl_c() => break Exit::Interrupted,
        };
        match next {
            None => {
                drop(raw);
                return Err(cut(what));
            }
            Some(Err(status)) => {
                drop(raw);
                return Err(ended(what, status));
            }
            Some(Ok(message)) => match message.message {
                Some(Out::Stdout(bytes)) => write(std::io::stdout(), &bytes)?,
                Some(Out::Stderr(bytes)) => write(std::io::stderr(), &bytes)?,
                Some(Out::Placed(placed)) => say_where(run, &placed, tty),
                Some(Out::ExitCode(code)) => {
                    break Exit::Command(u8::try_from(code).unwrap_or(CANNOT_RUN));
                }
                None => {}
            },
        }
    };
    drop(raw);
    Ok(exit)
}

/// Where it runs, to whoever wants to know.
fn say_where(run: &Run, placed: &pb::RunPlaced, tty: bool) {
    if run.global.quiet {
        return;
    }
    let (service, node, id) = (&placed.service, &placed.node, &placed.run_id);
    let line = printable(&format!("{service} on {node} (run {id})"));
    // A raw terminal goes down, but not back to the left.
    note(&if tty { line + "\r" } else { line });
}

/// What becomes of a command that nobody listens to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Exec,
    Run,
}

impl What {
    fn of(start: &In) -> Self {
        match start {
            In::Run(_) => Self::Run,
            _ => Self::Exec,
        }
    }
}

/// A command that had begun and whose stream failed.
fn ended(what: What, status: Status) -> Failure {
    // Not a word of the other end, but what became of the connection.
    let is_cut = status.source().is_some() || status.code() == Code::Unavailable;
    match is_cut {
        true => cut(what).because(status),
        false => engine_failed(Failure::call("run the command", status)),
    }
}

/// The controller went away in the middle of a command.
fn cut(what: What) -> Failure {
    let becomes = match what {
        What::Exec => {
            "the command may still run in its container: its input was closed, nobody ends it"
        }
        What::Run => "its container is removed by its node",
    };
    Failure::new("the connection to the controller broke while the command ran: it was restarted, or the way to it was cut")
        .exit(Exit::Command(CANNOT_RUN))
        .details(vec![becomes.to_owned()])
        .hint("controllerctl status tells whether it is back; then run it again")
}

/// Exit code 125 unless the failure has a better one.
fn engine_failed(failure: Failure) -> Failure {
    if failure.exit == Exit::Failed {
        failure.exit(Exit::Command(CANNOT_RUN))
    } else {
        failure
    }
}

/// The command's bytes are its own: they are not touched.
fn write(mut to: impl Write, bytes: &[u8]) -> Result<(), Failure> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

async fn send_stdin(sender: mpsc::Sender<pb::ExecRequest>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let message = match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => In::StdinClosed(true),
            Ok(bytes) => In::Stdin(buffer[..bytes].to_vec()),
        };
        let end = matches!(message, In::StdinClosed(_));
        if sender
            .send(pb::ExecRequest {
                message: Some(message),
            })
            .await
            .is_err()
            || end
        {
            return;
        }
    }
}

/// Sends each new size of the terminal.
async fn send_sizes(sender: mpsc::Sender<pb::ExecRequest>) {
    // Without it the terminal keeps its first size.
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    // One between the start and here would be lost.
    let mut told = None;
    loop {
        let now = size();
        if now != told
            && let Some(size) = now
        {
            told = now;
            let message = Some(In::Size(size));
            if sender.send(pb::ExecRequest { message }).await.is_err() {
                return;
            }
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_cut_off_says_so_and_asks_for_no_certificate() {
        let broke = || Status::from_error(Box::new(std::io::Error::other("error reading a body")));
        for (what, becomes) in [(What::Exec, "may still run"), (What::Run, "is removed")] {
            let text = ended(what, broke()).render(false);
            assert!(text.contains("broke while the command ran"), "{text}");
            assert!(text.contains(becomes), "{text}");
            assert!(!text.contains("certificate"), "{text}");
        }
        let refused = ended(What::Exec, Status::aborted("the container is gone"));
        assert!(
            refused.message.contains("the container is gone"),
            "{refused}"
        );
        assert_eq!(refused.exit, Exit::Command(CANNOT_RUN));
    }
}
