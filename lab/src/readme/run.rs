//! Runs the commands of a page against the lab.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rexpect::process::WaitStatus;
use rexpect::reader::ReadUntil;
use rexpect::session::spawn_command;

use super::{CTRL_C, ENTER, Step, agrees, fixed, steps};
use crate::root;

/// Longest time of one command: images are built from packages on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);
/// Longest wait of one that has a terminal for its next line: load must build up first.
const LINE_LIMIT_MS: u64 = 180_000;
const PAUSE: Duration = Duration::from_millis(50);
/// Most bytes of what a command says.
const SAID_BYTES_MAX: u64 = 1 << 20;
/// The examples that `make examples` runs, each a folder of `examples/`.
const EXAMPLES: [&str; 5] = [
    "cpu-steps",
    "autoscale-api",
    "flask-uwsgi-nginx",
    "vagrant-roundrobin",
    "predict-api",
];

/// Which command of a page failed, and how.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The page, or a program, cannot be had.
    #[error("{page}: cannot {what}")]
    File {
        /// The page.
        page: String,
        /// What was attempted.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A command did not do what the page says.
    #[error("{page}:{line}: $ {command}\n{why}\n{said}")]
    Command {
        /// The page.
        page: String,
        /// Line of the command.
        line: usize,
        /// The command.
        command: String,
        /// What is not as it should be.
        why: String,
        /// All that it said.
        said: String,
    },
}

/// Runs the README of each named example, all without names, and prints a line for each: name, `ok` or
/// `failed`, seconds, figures. True: all ok.
#[must_use]
pub fn examples(names: &[String]) -> bool {
    let all = EXAMPLES.map(str::to_owned);
    let mut is_good = true;
    for name in if names.is_empty() { &all } else { names } {
        let (start, page) = (Instant::now(), format!("examples/{name}/README.md"));
        let ran = run(&page);
        let (word, figures) = match &ran {
            Ok(figures) => ("ok", figures.join("; ")),
            Err(_) => ("failed", String::new()),
        };
        println!(
            "{name:<20} {word:<7} {:>4} s  {figures}",
            start.elapsed().as_secs()
        );
        if let Err(error) = ran {
            let cause = std::error::Error::source(&error);
            let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
            eprintln!("{error}{cause}");
            is_good = false;
        }
    }
    is_good
}

/// Runs a page, named from the repository's root, and gives its figures. After a failure its last
/// command is run all the same: it cleans up.
///
/// # Errors
/// [`PageError`] of the first command that failed.
pub fn run(page: &str) -> Result<Vec<String>, PageError> {
    let text = std::fs::read_to_string(root().join(page));
    let text = text.map_err(|source| file_error(page, "be read", source))?;
    let steps = steps(&text);
    let mut figures = Vec::new();
    for step in &steps {
        match run_step(page, step) {
            Ok(figure) if step.has_figure => figures.push(figure),
            Ok(_) => {}
            Err(error) => {
                if let Some(last) = steps.last() {
                    let _ = run_step(page, last);
                }
                return Err(error);
            }
        }
    }
    Ok(figures)
}

/// Runs a command, and gives the last line that it said.
fn run_step(page: &str, step: &Step) -> Result<String, PageError> {
    let failed = |why: String, said: String| PageError::Command {
        page: page.to_owned(),
        line: step.line,
        command: step.command.clone(),
        why,
        said,
    };
    if step.needs_terminal() {
        return on_terminal(step)
            .map(|()| String::new())
            .map_err(|why| failed(why, String::new()));
    }
    let (code, said) = in_pipe(step).map_err(|source| file_error(page, "run a command", source))?;
    match code {
        Some(0) if step.expected.is_empty() || agrees(&step.expected, &said) => {
            Ok(said.lines().last().unwrap_or_default().to_owned())
        }
        Some(0) => {
            let wanted = step.expected.join("\n");
            Err(failed(format!("expected:\n{wanted}\nbut it said:"), said))
        }
        Some(code) => Err(failed(format!("ended with {code} and said:"), said)),
        None => Err(failed(
            format!("killed, or longer than {LIMIT:?}; it said:"),
            said,
        )),
    }
}

fn file_error(page: &str, what: &'static str, source: std::io::Error) -> PageError {
    let page = page.to_owned();
    PageError::File { page, what, source }
}

fn shell(step: &Step) -> Command {
    let bin = root().join(".lab/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command
        .args(["-c", &step.command])
        .current_dir(root())
        .env("PATH", format!("{}:{path}", absolute(&bin).display()))
        .env("CONTROLLERCTL_CONTEXT", "lab")
        .env("NO_COLOR", "1");
    command
}

fn absolute(path: &Path) -> std::path::PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Its exit code and all that it said. Into a file: what it leaves in the background may say more.
fn in_pipe(step: &Step) -> std::io::Result<(Option<i32>, String)> {
    let mut said = tempfile::tempfile()?;
    let mut child = shell(step)
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said.try_clone()?)
        .spawn()?;
    let end = Instant::now() + LIMIT;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break status.code();
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(PAUSE);
    };
    Ok((code, read(&mut said)?))
}

fn read(said: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    said.rewind()?;
    said.take(SAID_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Each expected line must come; keys are pressed as they say. A question that comes again, since what it
/// asked was out of date, is answered again.
fn on_terminal(step: &Step) -> Result<(), String> {
    let said = |error: rexpect::error::Error| error.to_string();
    let mut session = spawn_command(shell(step), Some(LINE_LIMIT_MS)).map_err(said)?;
    let mut question: Option<&str> = None;
    for line in &step.expected {
        if line == CTRL_C {
            session.send_control('c').map_err(said)?;
        } else if line.ends_with(ENTER) {
            session.exp_string(fixed(line)).map_err(said)?;
            session.send_line("").map_err(said)?;
            question = Some(fixed(line));
        } else {
            let wanted = fixed(line).to_owned();
            loop {
                let again = question.map(|text| ReadUntil::String(text.to_owned()));
                let any = [ReadUntil::String(wanted.clone())].into_iter().chain(again);
                let (_, found) = session.exp_any(any.collect()).map_err(said)?;
                if found == wanted {
                    break;
                }
                session.send_line("").map_err(said)?;
            }
        }
    }
    session.exp_eof().map_err(said)?;
    let is_stopped = step.expected.last().is_some_and(|line| line == CTRL_C);
    match session.process().wait().map_err(said)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, 130) | WaitStatus::Signaled(..) if is_stopped => Ok(()),
        other => Err(format!("ended with {other:?}")),
    }
}
