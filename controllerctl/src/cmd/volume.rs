//! `volume` and `system df`: what takes room, and whose it is.

use longshore_proto::control::v1 as pb;

use super::Run;
use crate::cli::{DiskArgs, VolumeCommand, VolumeInspectArgs, VolumeLsArgs, VolumeRmArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::disk::{Room, Volume};
use crate::output::{note, now_ms, print, yaml};
use crate::text::printable;

pub(super) async fn volume(run: &Run, command: &VolumeCommand) -> Result<Exit, Failure> {
    match command {
        VolumeCommand::Ls(args) => list(run, args).await,
        VolumeCommand::Inspect(args) => inspect(run, args).await,
        VolumeCommand::Rm(args) => remove(run, args).await,
    }
}

/// What takes room, with a row for the controller's store.
pub(super) async fn df(run: &Run, args: &DiskArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let request = pb::DiskUseRequest {
        nodes: args.node.clone(),
        sizes: true,
    };
    let told = client.disk_use(request).await?;
    let mut rows: Vec<Room> = told.nodes.iter().map(Room::from).collect();
    if args.node.is_empty() {
        rows.push(Room::of_store(told.store_bytes));
    }
    print(&run.out.list(&rows, now_ms()))?;
    Ok(silent(&told.nodes))
}

/// Nodes that did not answer are named, and make the command fail.
fn silent(nodes: &[pb::NodeDisk]) -> Exit {
    let mut exit = Exit::Done;
    for node in nodes.iter().filter(|node| !node.problem.is_empty()) {
        note(&printable(&format!("! {}: {}", node.node, node.problem)));
        exit = Exit::Failed;
    }
    exit
}

/// Named volumes of apps; not done: some node does not answer.
pub(super) async fn look(
    client: &mut Client,
    nodes: &[String],
) -> Result<(Vec<Volume>, Exit), Failure> {
    let request = pb::DiskUseRequest {
        nodes: nodes.to_vec(),
        sizes: false,
    };
    let told = client.disk_use(request).await?;
    let volumes = told.nodes.iter().flat_map(|node| {
        let volumes = node.named.iter();
        volumes.map(|volume| Volume::new(&node.node, volume))
    });
    let mut volumes: Vec<Volume> = volumes.collect();
    volumes.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
    Ok((volumes, silent(&told.nodes)))
}

async fn list(run: &Run, args: &VolumeLsArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let (mut volumes, exit) = look(&mut client, &args.node).await?;
    let of = |volume: &Volume| args.apps.iter().any(|app| volume.is_of(app));
    volumes.retain(|volume| args.apps.is_empty() || of(volume));
    print(&run.out.list(&volumes, now_ms()))?;
    Ok(exit)
}

/// Those of these names.
fn pick(all: Vec<Volume>, names: &[String]) -> Result<Vec<Volume>, Failure> {
    for name in names {
        if !all.iter().any(|volume| volume.name == *name) {
            return Err(Failure::new(format!("no app has a volume {name:?} there"))
                .hint("controllerctl volume ls"));
        }
    }
    let named = all.into_iter();
    Ok(named
        .filter(|volume| names.contains(&volume.name))
        .collect())
}

async fn inspect(run: &Run, args: &VolumeInspectArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let (all, exit) = look(&mut client, &args.node).await?;
    let picked = pick(all, &args.volumes)?;
    print(&run.out.document(&picked, || yaml(&picked)))?;
    Ok(exit)
}

async fn remove(run: &Run, args: &VolumeRmArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let (all, _) = look(&mut client, &args.node).await?;
    let picked = pick(all, &args.volumes)?;
    for name in &args.volumes {
        let on: Vec<&str> = picked
            .iter()
            .filter(|volume| volume.name == *name)
            .map(|volume| volume.node.as_str())
            .collect();
        if args.node.is_empty() && on.len() > 1 {
            let on = on.join(", ");
            return Err(Failure::new(format!("{name} is on several nodes: {on}"))
                .exit(Exit::Usage)
                .hint("say which: --node NODE"));
        }
    }
    if let Some(used) = picked.iter().find(|volume| !volume.used_by.is_empty()) {
        let (name, node, users) = (&used.name, &used.node, used.used_by.join(", "));
        return Err(Failure::new(format!(
            "{name} on {node} is in use by {users}; nothing was removed"
        ))
        .hint("take its app down first: controllerctl down APP"));
    }
    for volume in &picked {
        note(&printable(&format!(
            "  - {}  on {}",
            volume.name, volume.node
        )));
    }
    run.confirm(
        "Remove these volumes, with what is in them?",
        &client.context,
    )?;
    for volume in &picked {
        remove_one(&mut client, volume).await?;
    }
    print(&run.out.document(&picked, String::new))?;
    Ok(Exit::Done)
}

/// Removes it, and says so.
pub(super) async fn remove_one(client: &mut Client, volume: &Volume) -> Result<(), Failure> {
    let request = pb::RemoveVolumeRequest {
        node: volume.node.clone(),
        name: volume.name.clone(),
    };
    client.remove_volume(request).await?;
    let (name, node) = (&volume.name, &volume.node);
    note(&printable(&format!("{name} on {node}: removed")));
    Ok(())
}
