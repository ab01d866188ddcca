//! `rollout …`, `restart`: how one revision follows another, and what people say about it.

use longshore_proto::control::v1 as pb;

use super::settle::{Goal, follow, settled};
use super::{Run, asked};
use crate::cli::{RestartArgs, RolloutCommand, ServiceArgs, UndoArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::outcome::Restarted;
use crate::output::rollouts::{RevisionRow, RolloutRow};
use crate::output::{note, now_ms, print};
use crate::text::printable;

pub(super) async fn rollout(run: &Run, command: &RolloutCommand) -> Result<Exit, Failure> {
    match command {
        RolloutCommand::Status(args) => {
            run.watch(args.watch.watch, async |client: &mut Client| {
                let request = pb::ListRolloutsRequest {
                    services: args.services.clone(),
                };
                let rollouts = client.list_rollouts(request).await?.rollouts;
                let rows: Vec<_> = rollouts.iter().map(RolloutRow).collect();
                Ok(run.out.list(&rows, now_ms()))
            })
            .await
        }
        RolloutCommand::History(args) => history(run, args).await,
        RolloutCommand::Undo(args) => undo(run, args).await,
        RolloutCommand::Pause(args) => {
            let mut client = run.connect(None).await?;
            let service = args.service.clone();
            let request = pb::PauseRolloutRequest { service };
            let answer = client.pause_rollout(request).await?;
            note(&printable(&format!(
                "{}: held; the batch that runs is finished, no other begins. Go on: \
                 controllerctl rollout resume {}",
                answer.service, answer.service
            )));
            Ok(Exit::Done)
        }
        RolloutCommand::Resume(args) => {
            let mut client = run.connect(None).await?;
            let service = args.service.clone();
            let request = pb::ResumeRolloutRequest { service };
            let answer = client.resume_rollout(request).await?;
            note(&printable(&format!("{}: goes on", answer.service)));
            Ok(Exit::Done)
        }
    }
}

async fn history(run: &Run, args: &ServiceArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let request = pb::RolloutHistoryRequest {
        service: args.service.clone(),
    };
    let revisions = client.rollout_history(request).await?.revisions;
    let rows: Vec<_> = revisions.iter().map(RevisionRow).collect();
    print(&run.out.list(&rows, now_ms()))?;
    Ok(Exit::Done)
}

async fn undo(run: &Run, args: &UndoArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let to = args.to_revision.map_or_else(
        || "the revision before".to_owned(),
        |n| format!("revision {n}"),
    );
    run.confirm(
        &format!("Take {} back to {to}?", args.service),
        &client.context,
    )?;
    let request = pb::UndoRolloutRequest {
        service: args.service.clone(),
        to_revision: args.to_revision,
    };
    let answer = client.undo_rollout(request).await?;
    note(&printable(&format!(
        "{}: as it was at revision {}, applied as revision {}",
        answer.service, answer.to_revision, answer.revision
    )));
    if args.detach {
        return Ok(Exit::Done);
    }
    let title = format!("Undoing {}", answer.service);
    watch(
        run,
        &mut client,
        title,
        vec![answer.service],
        answer.revision,
        args.wait_timeout,
    )
    .await
}

pub(super) async fn restart(run: &Run, args: &RestartArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let names = args.services.join(", ");
    let asked = pb::PlanServicesRequest {
        counts: Vec::new(),
        restart: args.services.clone(),
    };
    let plan = asked::show(&mut client, asked).await?;
    if plan.is_empty() {
        gaps(&mut client, &args.services).await?;
    }
    run.confirm(&format!("Restart {names}?"), &client.context)?;
    let request = pb::RestartServicesRequest {
        services: args.services.clone(),
    };
    let answer = client.restart_services(request).await?;
    let (services, revision) = (answer.services, answer.revision);
    let exit = if args.detach {
        note(&format!("restart applied as revision {revision}"));
        Exit::Done
    } else {
        let (title, names) = (format!("Restarting {names}"), services.clone());
        let timeout = args.wait_timeout;
        watch(run, &mut client, title, names, revision, timeout).await?
    };
    let document = Restarted {
        services,
        revision,
        done: !args.detach && exit == Exit::Done,
        plan,
    };
    print(&run.out.document(&document, String::new))?;
    Ok(exit)
}

/// Says of services whom nobody serves meanwhile: an older controller has no plan that would.
async fn gaps(client: &mut Client, words: &[String]) -> Result<(), Failure> {
    for service in client.services().await? {
        let named = |word: &String| *word == service.key || *word == service.name;
        if !service.gap.is_empty() && words.iter().any(named) {
            note(&printable(&format!("! {}: {}", service.key, service.gap)));
        }
    }
    Ok(())
}

async fn watch(
    run: &Run,
    client: &mut Client,
    title: String,
    services: Vec<String>,
    revision: u64,
    timeout: std::time::Duration,
) -> Result<Exit, Failure> {
    let again = format!("controllerctl rollout status {}", services.join(" "));
    let asked = services.len();
    let goal = Goal {
        services,
        app: None,
        revision,
        // One that was taken down meanwhile is not as wanted.
        done: Box::new(move |services| services.len() == asked && services.iter().all(settled)),
        counts: Vec::new(),
        certificates: None,
        judge: true,
        leaves: false,
        again,
    };
    follow(run, client, &title, &goal, timeout).await
}
