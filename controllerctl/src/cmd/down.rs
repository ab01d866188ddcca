//! `down`: an app goes, with its named volumes if that is asked for.

use std::time::Duration;

use longshore_proto::control::v1 as pb;

use super::settle::{Goal, follow};
use super::{Run, app, volume};
use crate::cli::{DownArgs, FileArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::disk::Volume;
use crate::output::outcome::TakenDown;
use crate::output::{note, print};
use crate::text::{printable, replicas as counted};

pub(super) async fn down(run: &Run, args: &DownArgs) -> Result<Exit, Failure> {
    if let Some(seconds) = &args.timeout {
        // Nobody else's end may come sooner than its file says.
        let message = "down takes no -t: containers are given what their file says to stop";
        let app = args.app.as_deref().unwrap_or("the app");
        return Err(Failure::new(message).exit(Exit::Usage).hint(format!(
            "stop_grace_period: {seconds}s in the file, controllerctl up, then take {app} down; how long \
             this command waits is --wait-timeout"
        )));
    }
    let (app, pinned) = match &args.app {
        Some(app) => (app.clone(), None),
        None => {
            let loaded = app::read(run, &FileArgs::default())?;
            (loaded.app.to_string(), loaded.context)
        }
    };
    let mut client = run.connect(pinned.as_deref()).await?;
    let (volumes, external) = confirmed(run, &mut client, &app, args.volumes).await?;
    let answer = client
        .down_app(pb::DownAppRequest { app: app.clone() })
        .await?;
    let replicas = answer.replicas;
    let mut exit = if args.detach {
        let look = format!("controllerctl wait {app} --for deleted");
        note(&printable(&format!(
            "{app}: {} {} being drained and removed. Look: {look}",
            counted(replicas),
            if replicas == 1 { "is" } else { "are" }
        )));
        Exit::Done
    } else {
        gone(run, &mut client, &app, replicas, args.wait_timeout).await?
    };
    let mut removed = Vec::new();
    if exit == Exit::Done {
        for volume in volumes {
            match volume::remove_one(&mut client, &volume).await {
                Ok(()) => removed.push(volume),
                Err(failure) => {
                    let (name, node) = (&volume.name, &volume.node);
                    let why = format!("! {name} on {node} stays: {}", failure.message);
                    note(&printable(&why));
                    exit = Exit::Failed;
                }
            }
        }
    }
    let document = TakenDown {
        app,
        replicas,
        done: !args.detach && exit == Exit::Done,
        volumes: removed,
        external,
    };
    print(&run.out.document(&document, String::new))?;
    Ok(exit)
}

/// Shows what goes and asks; gives the volumes that go, and the external ones, which stay.
async fn confirmed(
    run: &Run,
    client: &mut Client,
    app: &str,
    with_volumes: bool,
) -> Result<(Vec<Volume>, Vec<Volume>), Failure> {
    let services = client.services().await?;
    let of_app: Vec<_> = services.iter().filter(|s| s.app == app).collect();
    for service in &of_app {
        let count = counted(service.wanted);
        note(&printable(&format!("  - {}  {count}", service.name)));
    }
    if of_app.is_empty() {
        // The controller says what there is instead.
        return Ok((Vec::new(), Vec::new()));
    }
    if !with_volumes {
        run.confirm(&format!("Take down app {app}?"), &client.context)?;
        return Ok((Vec::new(), Vec::new()));
    }
    let (volumes, silent) = volume::look(client, &[]).await?;
    if silent != Exit::Done {
        return Err(
            Failure::new("not every node says which volumes it has; nothing was changed")
                .hint("take the app down without --volumes, and later: controllerctl volume rm"),
        );
    }
    // Of others, and of those that were there before, only the containers go.
    let (external, mut volumes): (Vec<Volume>, Vec<Volume>) = volumes
        .into_iter()
        .partition(|volume| volume.is_external_to(app));
    volumes.retain(|volume| volume.app.as_deref() == Some(app));
    for volume in &volumes {
        let (name, node) = (&volume.name, &volume.node);
        note(&printable(&format!("  - volume {name}  on {node}")));
    }
    for volume in &external {
        let (name, node) = (&volume.name, &volume.node);
        let stays = format!("    volume {name}  on {node} is external and stays");
        note(&printable(&stays));
    }
    let what = match volumes.is_empty() {
        true => format!("Take down app {app}? It has no volumes of its own"),
        false => format!("Take down app {app}, and remove its volumes with what is in them?"),
    };
    run.confirm(&what, &client.context)?;
    Ok((volumes, external))
}

/// Follows an app until nothing of it is left.
async fn gone(
    run: &Run,
    client: &mut Client,
    app: &str,
    replicas: u32,
    timeout: Duration,
) -> Result<Exit, Failure> {
    let goal = Goal {
        services: Vec::new(),
        app: Some(app.to_owned()),
        revision: 0,
        done: Box::new(<[_]>::is_empty),
        counts: Vec::new(),
        certificates: None,
        judge: false,
        leaves: true,
        again: format!("controllerctl wait {app} --for deleted"),
    };
    let exit = follow(run, client, &format!("Removing {app}"), &goal, timeout).await?;
    if exit == Exit::Done {
        note(&printable(&format!(
            "{app}: {} {} drained and removed",
            counted(replicas),
            if replicas == 1 { "was" } else { "were" }
        )));
    }
    Ok(exit)
}
