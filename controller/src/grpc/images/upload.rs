//! One blob on its way in: messages are read here, written and hashed on a thread that may wait
//! for the disk, with a bounded number of pieces between them.

use std::sync::Arc;
use std::time::Duration;

use longshore_model::ImageDigest;
use longshore_model::image::CHUNK_BYTES_MAX;
use longshore_proto::images::v1 as pb;
use longshore_proto::images::v1::upload_blob_request::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{Images, blob_status, digest};
use crate::images::{BlobError, Encoding, Upload};

/// Pieces between the connection and the disk: 512 KiB.
const PIECES_MAX: usize = 8;
/// Longest silence within an upload.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for others' uploads to end.
const TURN_PATIENCE: Duration = Duration::from_secs(300);

enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// Writes until the end; none: the sender broke off, nothing is kept.
fn write(mut upload: Upload, mut pieces: mpsc::Receiver<Piece>) -> Result<Option<()>, BlobError> {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Bytes(bytes) => upload.write(&bytes)?,
            Piece::End => return upload.finish().map(Some),
        }
    }
    Ok(None)
}

async fn next(messages: &mut Streaming<pb::UploadBlobRequest>) -> Result<Option<Message>, Status> {
    let silent = || {
        let seconds = SILENCE_MAX.as_secs();
        Status::deadline_exceeded(format!(
            "nothing came for {seconds} s: the upload was given up"
        ))
    };
    let message = timeout(SILENCE_MAX, messages.message()).await;
    let message = message.map_err(|_| silent())??;
    match message {
        None => Ok(None),
        Some(pb::UploadBlobRequest { message: None }) => Err(Status::invalid_argument(
            "a message of the upload says nothing",
        )),
        Some(request) => Ok(request.message),
    }
}

fn encoding(head: &pb::UploadHead) -> Result<Encoding, Status> {
    match head.encoding() {
        pb::BlobEncoding::Identity => Ok(Encoding::Identity),
        pb::BlobEncoding::Zstd => Ok(Encoding::Zstd),
        pb::BlobEncoding::Unspecified => Err(Status::invalid_argument(
            "head.encoding must be identity or zstd",
        )),
    }
}

impl Images {
    pub(super) async fn take(
        &self,
        mut messages: Streaming<pb::UploadBlobRequest>,
    ) -> Result<pb::UploadBlobResponse, Status> {
        let first = next(&mut messages).await?;
        let Some(Message::Head(head)) = first else {
            return Err(Status::invalid_argument(
                "the first message of an upload must be its head",
            ));
        };
        let (digest, encoding) = (digest("head.digest", &head.digest)?, encoding(&head)?);
        let turn = timeout(TURN_PATIENCE, Arc::clone(&self.uploads).acquire_owned()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Status::resource_exhausted(
                "too many uploads at the same time: try again later",
            ));
        };
        let (pieces, written) = self.begin(digest, head.bytes, encoding)?;
        let sent = send(&mut messages, &pieces).await;
        drop(pieces);
        // What the disk said is the cause of what the stream says.
        let written = written.await.map_err(|error| {
            tracing::error!(%error, "an upload failed inside the controller");
            Status::internal("the controller failed inside this upload; its log says why")
        })?;
        match written {
            Err(error) => Err(blob_status(&error)),
            Ok(Some(())) => Ok(pb::UploadBlobResponse {}),
            Ok(None) => Err(sent
                .err()
                .unwrap_or_else(|| Status::cancelled("the upload was broken off"))),
        }
    }

    #[expect(clippy::type_complexity, reason = "a queue and what reads it")]
    fn begin(
        &self,
        digest: ImageDigest,
        bytes: u64,
        encoding: Encoding,
    ) -> Result<
        (
            mpsc::Sender<Piece>,
            tokio::task::JoinHandle<Result<Option<()>, BlobError>>,
        ),
        Status,
    > {
        let leased = self
            .blobs
            .lease(std::slice::from_ref(&digest), self.cluster.now_ms());
        leased.map_err(|error| blob_status(&error))?;
        let upload = self.blobs.begin(digest, bytes, encoding);
        let upload = upload.map_err(|error| blob_status(&error))?;
        let (pieces, queue) = mpsc::channel(PIECES_MAX);
        let written = tokio::task::spawn_blocking(move || write(upload, queue));
        Ok((pieces, written))
    }
}

/// Hands on all pieces, and the end only if there was one.
async fn send(
    messages: &mut Streaming<pb::UploadBlobRequest>,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(), Status> {
    loop {
        let piece = match next(messages).await? {
            None => Piece::End,
            Some(Message::Chunk(bytes)) if bytes.len() <= CHUNK_BYTES_MAX => Piece::Bytes(bytes),
            Some(Message::Chunk(bytes)) => {
                return Err(Status::invalid_argument(format!(
                    "a chunk of {} bytes; at most {CHUNK_BYTES_MAX} are allowed",
                    bytes.len()
                )));
            }
            Some(Message::Head(_)) => {
                return Err(Status::invalid_argument("an upload has one head only"));
            }
        };
        let is_end = matches!(piece, Piece::End);
        // The writer has given up: it says why itself.
        if pieces.send(piece).await.is_err() || is_end {
            return Ok(());
        }
    }
}
