//! `image`: what the controller holds.

use longshore_proto::images::v1 as pb;

use super::{Run, push};
use crate::cli::{ImageCommand, PruneArgs, RemoveImagesArgs};
use crate::failure::{Exit, Failure};
use crate::output::images::{Image, Removed};
use crate::output::{note, now_ms, print, size};
use crate::text::printable;

pub(super) async fn image(run: &Run, command: &ImageCommand) -> Result<Exit, Failure> {
    match command {
        ImageCommand::Push(args) => push::push(run, args).await,
        ImageCommand::Ls => ls(run).await,
        ImageCommand::Rm(args) => rm(run, args).await,
        ImageCommand::Prune(args) => prune(run, args).await,
    }
}

async fn ls(run: &Run) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let answer = client.list_images(pb::ListImagesRequest {}).await?;
    let rows: Vec<_> = answer.images.iter().map(Image::from).collect();
    print(&run.out.list(&rows, now_ms()))?;
    if run.out.verbose {
        note(&format!(
            "{} blobs, {} of at most {}; {} are free on the controller's disk",
            answer.blobs,
            size(answer.stored_bytes),
            size(answer.stored_bytes_max),
            size(answer.disk_free_bytes)
        ));
    }
    Ok(Exit::Done)
}

async fn rm(run: &Run, args: &RemoveImagesArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    for name in &args.images {
        note(&printable(&format!("  - {name}")));
    }
    run.confirm("Remove these images?", &client.context)?;
    let mut done = Removed {
        removed: Vec::new(),
        blobs: 0,
        freed_bytes: 0,
    };
    for name in &args.images {
        let name = name.clone();
        let answer = client.remove_image(pb::RemoveImageRequest { name }).await;
        let answer = answer.map_err(|failure| failure.hint("controllerctl image ls -o wide"))?;
        note(&printable(&format!("{}: removed", answer.name)));
        done.freed_bytes += answer.freed_bytes;
        done.removed.push(answer.name);
    }
    finish(run, &done)
}

/// `system prune`: what is kept without a need. Nodes remove their containers and images by
/// themselves, and volumes are data.
pub(super) async fn prune_all(run: &Run, args: &PruneArgs) -> Result<Exit, Failure> {
    note("volumes stay: controllerctl volume ls, volume rm; nodes look after their own containers");
    prune(run, args).await
}

async fn prune(run: &Run, args: &PruneArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let mut request = pb::PruneImagesRequest {
        keep: args.keep,
        dry_run: true,
    };
    let would = client.prune_images(request).await?;
    for image in would.removed.iter().map(Image::from) {
        note(&printable(&format!(
            "  - {}  {}",
            image.name,
            size(image.bytes)
        )));
    }
    let nothing = would.removed.is_empty() && would.removed_blobs == 0;
    let mut answer = would;
    if !(nothing || args.dry_run) {
        let blobs = answer.removed_blobs;
        let freed = size(answer.freed_bytes);
        note(&format!("{blobs} blobs, {freed}"));
        run.confirm("Remove what nothing needs?", &client.context)?;
        request.dry_run = false;
        answer = client.prune_images(request).await?;
    }
    let names = answer.removed.iter().map(|image| Image::from(image).name);
    finish(
        run,
        &Removed {
            removed: names.collect(),
            blobs: answer.removed_blobs,
            freed_bytes: answer.freed_bytes,
        },
    )
}

fn finish(run: &Run, done: &Removed) -> Result<Exit, Failure> {
    note(&format!("{} freed", size(done.freed_bytes)));
    print(&run.out.document(done, String::new))?;
    Ok(Exit::Done)
}
