//! Images that the controller holds.

use std::fs::File;
use std::time::Duration;

use longshore_proto::images::v1 as pb;
use tonic::Request;

use super::{CALL_TIMEOUT, Client, bounded};
use crate::engine::archive::{Layer, parts};
use crate::failure::{Exit, Failure};

/// One message of an upload, as the contract has it.
const CHUNK_BYTES: usize = 64 << 10;
/// An upload that is slower than this is stuck.
const BYTES_PER_S_MIN: u64 = 16 << 10;
/// And has this long, however short it is.
const UPLOAD_S_MIN: u64 = 60;
/// Most digests of one question.
const DIGESTS_MAX: usize = 512;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $rpc:ident($request:ident) -> $answer:ident, $attempt:literal;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// The refusal or the failed connection, in words.
                pub async fn $name(&mut self, message: pb::$request) -> Result<pb::$answer, Failure> {
                    let mut request = Request::new(message);
                    request.set_timeout(CALL_TIMEOUT);
                    let answer = bounded(self.images.$rpc(request)).await;
                    Ok(answer.map_err(|s| Failure::call($attempt, s))?.into_inner())
                }
            )*
        }
    };
}

calls! {
    /// Names an image whose blobs are there.
    record_image = record_image(RecordImageRequest) -> RecordImageResponse, "name the image";
    /// All images.
    list_images = list_images(ListImagesRequest) -> ListImagesResponse, "list images";
    /// Forgets an image.
    remove_image = remove_image(RemoveImageRequest) -> RemoveImageResponse, "remove the image";
    /// Forgets what nothing needs.
    prune_images = prune_images(PruneImagesRequest) -> PruneImagesResponse, "prune images";
    /// Has nodes fetch an image now.
    fetch_image = fetch_image(FetchImageRequest) -> FetchImageResponse, "have nodes fetch the image";
    /// What names mean now.
    resolve_images = resolve_images(ResolveImagesRequest) -> ResolveImagesResponse, "resolve images";
}

impl Client {
    /// Of these blobs, those that the controller lacks.
    ///
    /// # Errors
    /// The refusal or the failed connection, in words.
    pub async fn missing_blobs(&mut self, digests: &[String]) -> Result<Vec<String>, Failure> {
        if digests.len() > DIGESTS_MAX {
            let layers = digests.len();
            return Err(Failure::new(format!(
                "{layers} layers are more than an image has"
            )));
        }
        let digests = digests.to_vec();
        let request = Request::new(pb::MissingBlobsRequest { digests });
        let answer = bounded(self.images.missing_blobs(request)).await;
        let answer = answer.map_err(|s| Failure::call("ask for missing layers", s))?;
        Ok(answer.into_inner().missing)
    }

    /// Sends a layer. `sent` hears how many bytes went by.
    ///
    /// # Errors
    /// The refusal or the failed connection, in words.
    pub async fn upload_layer(
        &mut self,
        layer: Layer,
        sent: impl FnMut(u64) + Send + 'static,
    ) -> Result<(), Failure> {
        let head = pb::UploadHead {
            digest: layer.digest,
            bytes: layer.bytes,
            encoding: pb::BlobEncoding::Zstd.into(),
        };
        self.upload(head, layer.wire_bytes, chunks(layer.file, sent))
            .await
    }

    /// Sends a configuration.
    ///
    /// # Errors
    /// The refusal or the failed connection, in words.
    pub async fn upload_config(&mut self, digest: String, text: Vec<u8>) -> Result<(), Failure> {
        let bytes = text.len() as u64;
        let head = pb::UploadHead {
            digest,
            bytes,
            encoding: pb::BlobEncoding::Identity.into(),
        };
        let parts: Vec<Vec<u8>> = text.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
        self.upload(head, bytes, tokio_stream::iter(parts)).await
    }

    async fn upload(
        &mut self,
        head: pb::UploadHead,
        wire_bytes: u64,
        parts: impl tokio_stream::Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<(), Failure> {
        use pb::upload_blob_request::Message;
        use tokio_stream::StreamExt;
        let digest = head.digest.clone();
        let message = |message| pb::UploadBlobRequest {
            message: Some(message),
        };
        let head = tokio_stream::once(message(Message::Head(head)));
        let stream = head.chain(parts.map(move |part| message(Message::Chunk(part))));
        let patience = Duration::from_secs(UPLOAD_S_MIN + wire_bytes / BYTES_PER_S_MIN);
        let call = self.images.upload_blob(Request::new(stream));
        let again = "push again: what arrived is not sent twice";
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(Failure::call(&format!("send {digest}"), status).hint(again)),
            Err(_) => {
                let message = format!("{digest} took longer than {} s", patience.as_secs());
                Err(Failure::new(message).exit(Exit::TimedOut).hint(again))
            }
        }
    }
}

/// The file in messages, read by a thread of its own. One that cannot be read any more ends early:
/// the controller refuses what is too short.
fn chunks(
    file: File,
    mut sent: impl FnMut(u64) + Send + 'static,
) -> impl tokio_stream::Stream<Item = Vec<u8>> + Send + 'static {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    tokio::task::spawn_blocking(move || {
        for part in parts(file, CHUNK_BYTES).map_while(Result::ok) {
            let bytes = part.len() as u64;
            if sender.blocking_send(part).is_err() {
                break;
            }
            sent(bytes);
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}
