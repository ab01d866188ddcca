//! `system backup`: a copy of the whole cluster; `system backups`: those that the controller makes.

use std::io::{IsTerminal, Write};
use std::path::Path;

use longshore_model::spec::ContentDigest;
use longshore_proto::control::v1 as pb;
use serde::Serialize;
use tokio_stream::StreamExt;

use super::{Run, support};
use crate::cli::BackupArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::backups::BackupRow;
use crate::output::{note, now_ms, print, size};
use crate::text::printable;

/// Longest copy that is taken.
const BYTES_MAX: usize = 1 << 30;

/// What was written.
#[derive(Debug, Serialize)]
struct Backup {
    /// Where.
    file: String,
    bytes: u64,
    sha256: String,
}

pub(super) async fn backup(run: &Run, args: &BackupArgs) -> Result<Exit, Failure> {
    let to_stdout = args.file == Path::new("-");
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(Failure::new("a copy is no text for a terminal")
            .exit(Exit::Usage)
            .hint("name a file, or send it on: controllerctl system backup - | ..."));
    }
    let mut client = run.connect(None).await?;
    let whole = fetch(&mut client).await?;
    let sha256 = ContentDigest::of(&whole).to_string();
    if to_stdout {
        let mut out = std::io::stdout().lock();
        out.write_all(&whole)?;
        out.flush()?;
    } else {
        support::write(&args.file, &whole)?;
        let back = std::fs::read(&args.file)?;
        if ContentDigest::of(&back).to_string() != sha256 {
            let file = args.file.display();
            return Err(Failure::new(format!("{file} reads back as something else"))
                .hint("its disk is not to be trusted: write to another one"));
        }
        let written = Backup {
            file: args.file.display().to_string(),
            bytes: whole.len() as u64,
            sha256: sha256.clone(),
        };
        print(
            &run.out
                .document(&written, || printable(&written.file) + "\n"),
        )?;
    }
    let length = size(whole.len() as u64);
    note(&format!(
        "{length}, sha256 {sha256}. Keys and secrets are in it: whoever has it has the cluster."
    ));
    Ok(Exit::Done)
}

async fn fetch(client: &mut Client) -> Result<Vec<u8>, Failure> {
    let mut stream = client.backup(pb::BackupRequest {}).await?;
    let (mut whole, mut digest) = (Vec::new(), String::new());
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|status| Failure::call("copy the cluster", status))?;
        whole.extend(piece.data);
        digest = piece.digest;
        if whole.len() > BYTES_MAX {
            return Err(Failure::new("the copy has more than 1 GiB"));
        }
    }
    if ContentDigest::of(&whole).to_string() != digest {
        return Err(
            Failure::new("the copy did not arrive whole; nothing was written").hint("try again"),
        );
    }
    Ok(whole)
}

pub(super) async fn list(run: &Run) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let answer = client.list_backups(pb::ListBackupsRequest {}).await?;
    let rows: Vec<_> = answer.backups.iter().map(BackupRow::from).collect();
    print(&run.out.list(&rows, now_ms()))?;
    if !answer.problem.is_empty() {
        let why = printable(&answer.problem);
        note(&format!("the last one could not be made: {why}"));
    }
    if answer.every_ms == 0 {
        note("none are made: [backup] every_minutes is 0 in controller.toml");
    } else if rows.is_empty() {
        let folder = printable(&answer.folder);
        note(&format!(
            "none yet in {folder}: the first one is made within a minute"
        ));
    }
    Ok(Exit::Done)
}
