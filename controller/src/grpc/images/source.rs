//! `ImageSourceService`: nodes fetch manifests and blobs.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::sync::Arc;

use longshore_identity::Identity;
use longshore_model::image::{CHUNK_BYTES_MAX, repository};
use longshore_model::{ImageDigest, ImageName};
use longshore_proto::images::v1 as pb;
use longshore_proto::images::v1::image_source_service_server::ImageSourceService;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::super::{Refusal, auth, blocking, quoted};
use super::{Images, digest, refused};
use crate::images::{Ahead, Catalog, MANIFEST_TYPE};

/// Pieces that wait for one node: 256 KiB.
const PIECES_MAX: usize = 4;

fn find<'c>(
    catalog: &'c Catalog,
    request: &pb::GetManifestRequest,
) -> Option<(ImageDigest, &'c str)> {
    let found = match request.reference.parse::<ImageDigest>() {
        Ok(digest) => catalog.images.get_key_value(&digest)?,
        Err(_) => {
            let repository = repository(&request.repository)?;
            let name: ImageName = format!("{repository}:{}", request.reference).parse().ok()?;
            catalog.resolve(&name)?
        }
    };
    Some((found.0.clone(), &found.1.manifest))
}

/// Sends a part of a file, piece by piece, as fast as the node takes them.
async fn send(
    file: File,
    mut left: u64,
    pieces: mpsc::Sender<Result<pb::GetBlobResponse, Status>>,
    _turn: OwnedSemaphorePermit,
) {
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(CHUNK_BYTES_MAX);
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(CHUNK_BYTES_MAX);
        let mut data = vec![0; most];
        let answer = match file.read(&mut data).await {
            Ok(0) => Err(Status::data_loss("the blob is shorter than it was")),
            Ok(read) => {
                data.truncate(read);
                left = left.saturating_sub(read as u64);
                Ok(pb::GetBlobResponse {
                    total_bytes: 0,
                    data,
                })
            }
            Err(error) => {
                tracing::error!(%error, "a blob cannot be read");
                Err(Status::unavailable(format!(
                    "the blob cannot be read: {error}"
                )))
            }
        };
        let is_end = answer.is_err();
        if pieces.send(answer).await.is_err() || is_end {
            return;
        }
    }
}

#[tonic::async_trait]
impl ImageSourceService for Images {
    async fn get_manifest(
        &self,
        request: Request<pb::GetManifestRequest>,
    ) -> Result<Response<pb::GetManifestResponse>, Status> {
        let request = request.into_inner();
        let catalog = self.cluster.images();
        let Some((digest, manifest)) = find(&catalog, &request) else {
            let name = format!("{}:{}", request.repository, request.reference);
            return Err(Status::not_found(format!(
                "no image {} is held",
                quoted(&name)
            )));
        };
        Ok(Response::new(pb::GetManifestResponse {
            manifest: manifest.as_bytes().to_vec(),
            media_type: MANIFEST_TYPE.into(),
            digest: digest.to_string(),
        }))
    }

    async fn list_tags(
        &self,
        request: Request<pb::ListTagsRequest>,
    ) -> Result<Response<pb::ListTagsResponse>, Status> {
        let asked = request.into_inner().repository;
        let catalog = self.cluster.images();
        let mut names = catalog.tags.keys().collect::<Vec<_>>();
        names.retain(|name| Some(name.repository()) == repository(&asked));
        if names.is_empty() {
            let name = quoted(&asked);
            return Err(Status::not_found(format!("no image {name} is held")));
        }
        let tags = names.into_iter().map(|name| name.tag().to_owned());
        Ok(Response::new(pb::ListTagsResponse {
            tags: tags.collect(),
        }))
    }

    async fn list_ahead(
        &self,
        request: Request<pb::ListAheadRequest>,
    ) -> Result<Response<pb::ListAheadResponse>, Status> {
        let Some(Identity::Node(node)) = auth::peer(&request)?.identity else {
            return Err(Status::permission_denied("only nodes may ask"));
        };
        let image = |ahead: Ahead| pb::AheadImage {
            asked_ms: ahead.why.asked_ms(),
            image: ahead.image.name,
            digest: ahead.image.digest.map(String::from),
        };
        let images = self.ahead_of(&node, request.into_inner()).await?;
        let images = images.into_iter().map(image).collect();
        Ok(Response::new(pb::ListAheadResponse { images }))
    }

    async fn get_credentials(
        &self,
        request: Request<pb::GetCredentialsRequest>,
    ) -> Result<Response<pb::GetCredentialsResponse>, Status> {
        self.credentials(request)
    }

    type GetBlobStream = ReceiverStream<Result<pb::GetBlobResponse, Status>>;

    async fn get_blob(
        &self,
        request: Request<pb::GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        let request = request.into_inner();
        let digest = digest("digest", &request.digest)?;
        let blobs = Arc::clone(&self.blobs);
        let offset = request.offset;
        let opened = move || -> Result<_, Refusal> {
            let (mut file, total) = blobs.open_blob(&digest).map_err(|error| refused(&error))?;
            if offset > total {
                return Err(Refusal(Status::out_of_range(format!(
                    "blob {digest} has {total} bytes, so none at {offset}"
                ))));
            }
            let sought = file.seek(SeekFrom::Start(offset));
            sought.map_err(|error| Refusal(Status::unavailable(error.to_string())))?;
            Ok((file, total))
        };
        let (file, total) = blocking(opened).await?;
        let turn = Arc::clone(&self.downloads).acquire_owned().await;
        let turn = turn.map_err(|_| Status::unavailable("the controller stops"))?;
        let left = match request.length {
            0 => total - offset,
            length => length.min(total - offset),
        };
        let (pieces, stream) = mpsc::channel(PIECES_MAX);
        let first = pb::GetBlobResponse {
            total_bytes: total,
            data: Vec::new(),
        };
        // The queue is empty: this waits for nobody.
        drop(pieces.send(Ok(first)).await);
        tokio::spawn(send(file, left, pieces, turn));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
