//! `approve -i`: asks whenever a service in approve mode asks for another count.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};

use longshore_proto::control::v1 as pb;
use pb::set_autoscale_request::Action;
use tokio::sync::mpsc;

use super::Run;
use crate::cli::ApproveArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::text::printable;

/// Lines that were typed and not read yet.
const LINES_MAX: usize = 16;

pub(super) async fn interactive(run: &Run, args: &ApproveArgs) -> Result<Exit, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::new("-i asks, and there is no terminal")
            .exit(Exit::Usage)
            .hint("without questions: controllerctl approve SERVICE [--count N]"));
    }
    let mut client = run.connect(None).await?;
    let services: Vec<String> = args.service.iter().cloned().collect();
    // A service that is not there, or needs no approval, is said before anybody waits.
    list(&mut client, &services).await?;
    let context = client.context.clone();
    note(&format!(
        "context {}: waiting for services that ask; Ctrl-C ends",
        printable(&context)
    ));
    tokio::select! {
        done = ask_all(client, services, lines()) => done,
        _ = tokio::signal::ctrl_c() => {
            note("");
            Ok(Exit::Interrupted)
        }
    }
}

async fn list(
    client: &mut Client,
    services: &[String],
) -> Result<Vec<pb::AutoscaleState>, Failure> {
    let services = services.to_vec();
    let request = pb::ListAutoscaleRequest { services };
    Ok(client.list_autoscale(request).await?.services)
}

async fn ask_all(
    mut client: Client,
    services: Vec<String>,
    mut lines: mpsc::Receiver<String>,
) -> Result<Exit, Failure> {
    let mut changes = client.changes();
    // What somebody said no to is not asked again until it is another count.
    let mut declined: BTreeMap<String, u32> = BTreeMap::new();
    loop {
        let states = match list(&mut client, &services).await {
            Ok(states) => states,
            Err(failure) => {
                changes.pause(failure).await?;
                continue;
            }
        };
        let mut has_asked = false;
        for state in &states {
            let Some(count) = state.awaits_approval else {
                declined.remove(&state.service);
                continue;
            };
            if declined.get(&state.service) == Some(&count) {
                continue;
            }
            has_asked = true;
            match answer(state, count, &mut lines).await? {
                Answer::Yes => agree(&mut client, &state.service, count).await?,
                Answer::No => {
                    declined.insert(state.service.clone(), count);
                    note(&format!(
                        "{} stays at {}",
                        printable(&state.service),
                        state.wanted
                    ));
                }
                Answer::Nobody => return Ok(Exit::Done),
            }
        }
        // While somebody thought, much may have changed.
        if !has_asked {
            changes.next().await?;
        }
    }
}

enum Answer {
    Yes,
    No,
    /// The end of what is typed.
    Nobody,
}

async fn answer(
    state: &pb::AutoscaleState,
    count: u32,
    lines: &mut mpsc::Receiver<String>,
) -> Result<Answer, Failure> {
    // What was typed before the question is no answer to it.
    while lines.try_recv().is_ok() {}
    let cause = match state.cause.as_str() {
        "" => String::new(),
        cause => format!(" ({cause})"),
    };
    let question = format!(
        "{} asks for {} -> {count}{cause}",
        state.service, state.wanted
    );
    let mut err = std::io::stderr().lock();
    write!(
        err,
        "{}; Enter agrees, n leaves it [Y/n] ",
        printable(&question)
    )?;
    err.flush()?;
    drop(err);
    let Some(line) = lines.recv().await else {
        return Ok(Answer::Nobody);
    };
    Ok(match line.trim().to_ascii_lowercase().as_str() {
        "" | "y" | "yes" => Answer::Yes,
        _ => Answer::No,
    })
}

/// Agrees to that count and to no other. A refusal is said, and nothing more: it asks again.
async fn agree(client: &mut Client, service: &str, count: u32) -> Result<(), Failure> {
    let count_asked = Some(count);
    let action = Action::Approve(pb::ApproveAutoscale { count: count_asked });
    let request = pb::SetAutoscaleRequest {
        service: service.to_owned(),
        action: Some(action),
    };
    match client.set_autoscale(request).await {
        Ok(_) => note(&format!("{} goes to {count}", printable(service))),
        Err(failure) if failure.exit == Exit::Unreachable && !failure.transient => {
            return Err(failure);
        }
        Err(failure) => note(&format!("not done: {}", printable(&failure.message))),
    }
    Ok(())
}

/// Lines from the terminal, read by a thread of their own: such a read cannot be taken back.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            // What is too much is lost: nobody asked for it.
            match sender.try_send(line) {
                Err(mpsc::error::TrySendError::Closed(_)) => break,
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
            }
        }
    });
    receiver
}
