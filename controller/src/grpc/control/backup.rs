//! `Backup`: a copy of the whole cluster; `ListBackups`: those that the controller makes by itself.

use longshore_model::spec::ContentDigest;
use longshore_proto::control::v1 as pb;
use tonic::Status;

use crate::backup::{self, BackupError};
use crate::backups::Entry;
use crate::cluster::Cluster;
use crate::grpc::{Refusal, store_status};

/// Bytes of one message.
const PIECE_BYTES: usize = 64 << 10;

/// The copy in pieces, its digest at the end.
pub(super) fn backup(cluster: &Cluster, by: &str) -> Result<Vec<pb::BackupResponse>, Refusal> {
    let whole = backup::backup(cluster).map_err(|error| {
        tracing::error!(by, error = crate::chain(&error), "no copy of the cluster");
        Refusal(match error {
            BackupError::Store(error) => store_status(error),
            other => Status::internal(crate::chain(&other)),
        })
    })?;
    tracing::info!(
        by,
        bytes = whole.len(),
        "a copy of the cluster is handed out"
    );
    let digest = ContentDigest::of(&whole).to_string();
    let mut pieces: Vec<_> = whole
        .chunks(PIECE_BYTES)
        .map(|piece| pb::BackupResponse {
            data: piece.to_vec(),
            digest: String::new(),
        })
        .collect();
    pieces.push(pb::BackupResponse {
        data: Vec::new(),
        digest,
    });
    Ok(pieces)
}

/// Most backups in an answer.
const LISTED_MAX: usize = 1_000;

pub(super) fn list(cluster: &Cluster) -> Result<pb::ListBackupsResponse, Refusal> {
    let folder = cluster.backups.folder();
    let entries = folder.entries().map_err(|error| {
        tracing::warn!(error = crate::chain(&error), "backups cannot be listed");
        Refusal(Status::failed_precondition(crate::chain(&error)))
    })?;
    let backup = |entry: Entry| pb::Backup {
        file: entry.path.display().to_string(),
        time_ms: entry.time_ms,
        bytes: entry.bytes,
    };
    let newest = entries.into_iter().rev().take(LISTED_MAX);
    Ok(pb::ListBackupsResponse {
        backups: newest.map(backup).collect(),
        folder: folder.path().display().to_string(),
        every_ms: cluster.config.backup.every_minutes.saturating_mul(60_000),
        problem: cluster.backups.failure().unwrap_or_default(),
    })
}
