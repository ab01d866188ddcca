//! `ImageService` and `ImageSourceService`: the contract; not served yet.

use std::sync::Arc;

use longshore_proto::images::v1 as pb;
use longshore_proto::images::v1::image_service_server::ImageService;
use longshore_proto::images::v1::image_source_service_server::ImageSourceService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::cluster::Cluster;

/// See the module.
#[derive(Clone)]
pub(super) struct Images {
    _cluster: Arc<Cluster>,
}

impl Images {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { _cluster: cluster }
    }
}

fn not_yet<T>() -> Result<Response<T>, Status> {
    let why = "this controller holds no images yet; push to a registry";
    Err(Status::unimplemented(why))
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn missing_blobs(
        &self,
        _: Request<pb::MissingBlobsRequest>,
    ) -> Result<Response<pb::MissingBlobsResponse>, Status> {
        not_yet()
    }

    async fn upload_blob(
        &self,
        _: Request<Streaming<pb::UploadBlobRequest>>,
    ) -> Result<Response<pb::UploadBlobResponse>, Status> {
        not_yet()
    }

    async fn record_image(
        &self,
        _: Request<pb::RecordImageRequest>,
    ) -> Result<Response<pb::RecordImageResponse>, Status> {
        not_yet()
    }

    async fn list_images(
        &self,
        _: Request<pb::ListImagesRequest>,
    ) -> Result<Response<pb::ListImagesResponse>, Status> {
        not_yet()
    }

    async fn remove_image(
        &self,
        _: Request<pb::RemoveImageRequest>,
    ) -> Result<Response<pb::RemoveImageResponse>, Status> {
        not_yet()
    }

    async fn prune_images(
        &self,
        _: Request<pb::PruneImagesRequest>,
    ) -> Result<Response<pb::PruneImagesResponse>, Status> {
        not_yet()
    }

    async fn resolve_images(
        &self,
        _: Request<pb::ResolveImagesRequest>,
    ) -> Result<Response<pb::ResolveImagesResponse>, Status> {
        not_yet()
    }
}

#[tonic::async_trait]
impl ImageSourceService for Images {
    async fn get_manifest(
        &self,
        _: Request<pb::GetManifestRequest>,
    ) -> Result<Response<pb::GetManifestResponse>, Status> {
        not_yet()
    }

    type GetBlobStream = ReceiverStream<Result<pb::GetBlobResponse, Status>>;

    async fn get_blob(
        &self,
        _: Request<pb::GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        not_yet()
    }
}
