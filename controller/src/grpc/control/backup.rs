//! `Backup`: a copy of the whole cluster.

use longshore_model::spec::ContentDigest;
use longshore_proto::control::v1 as pb;
use tonic::Status;

use crate::backup::{self, BackupError};
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
