//! Images of the fake controller: blobs are taken, checked and kept.

use std::collections::BTreeMap;

use controllerctl::engine::archive::digest;
use longshore_proto::control::v1 as control;
use longshore_proto::images::v1 as pb;
use pb::image_service_server::ImageService;

use super::*;

/// What it holds.
#[derive(Default)]
pub(crate) struct Images {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// Name and digest of the configuration.
    pub(crate) names: BTreeMap<String, String>,
    /// What came over the wire since it began.
    pub(crate) wire_bytes: usize,
    /// Uploads of this kind of blob are refused: `layer`, `config`.
    pub(crate) refuses: Option<&'static str>,
    /// What node1 says of an image that it is to fetch, one after the other: state and detail.
    pub(crate) says: Vec<(&'static str, &'static str)>,
    /// What it was told to fetch.
    pub(crate) ordered: Option<(String, String)>,
}

impl Images {
    /// What node1 fetches, one step further with each look.
    pub(crate) fn steps(&mut self) -> Vec<control::NodeImage> {
        let Some((image, digest)) = self.ordered.clone() else {
            return Vec::new();
        };
        let (state, detail) = match self.says.len() {
            0 => return Vec::new(),
            1 => self.says[0],
            _ => self.says.remove(0),
        };
        vec![control::NodeImage {
            image,
            digest,
            state: state.into(),
            detail: detail.into(),
            why: "asked".into(),
            by: "ana".into(),
            replicas: 0,
        }]
    }
}

fn image(name: &str, config: &str) -> pb::Image {
    let (repository, tag) = name.rsplit_once(':').unwrap();
    pb::Image {
        repository: repository.into(),
        tag: tag.into(),
        manifest_digest: format!("sha256:{}", "ab".repeat(32)),
        config_digest: config.into(),
        platform: "linux/amd64".into(),
        bytes: 40_390_000,
        layers: vec![pb::ImageLayer::default(); 3],
        pushed_ms: NOW_MS,
        pushed_by: "ana".into(),
        kept: vec![pb::KeptReason {
            kind: "revision".into(),
            by: "shop/web@3".into(),
        }],
    }
}

#[tonic::async_trait]
impl ImageService for Fake {
    async fn missing_blobs(
        &self,
        request: Request<pb::MissingBlobsRequest>,
    ) -> Answer<pb::MissingBlobsResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let mut missing = request.into_inner().digests;
        let blobs = &self.world().images.blobs;
        missing.retain(|digest| !blobs.contains_key(digest));
        missing.dedup();
        Ok(Response::new(pb::MissingBlobsResponse { missing }))
    }

    async fn fetch_image(
        &self,
        request: Request<pb::FetchImageRequest>,
    ) -> Answer<pb::FetchImageResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let request = request.into_inner();
        if request.nodes != ["node1"] {
            return Err(Status::not_found(
                "there is no node \"nowhere\": see node ls",
            ));
        }
        let digest = format!("sha256:{}", "ab".repeat(32));
        self.world().images.ordered = Some((request.name.clone(), digest.clone()));
        Ok(Response::new(pb::FetchImageResponse {
            name: request.name,
            manifest_digest: digest,
        }))
    }

    async fn upload_blob(
        &self,
        request: Request<Streaming<pb::UploadBlobRequest>>,
    ) -> Answer<pb::UploadBlobResponse> {
        use pb::upload_blob_request::Message;
        let mut stream = request.into_inner();
        let first = stream.message().await?.and_then(|m| m.message);
        let Some(Message::Head(head)) = first else {
            return Err(Status::invalid_argument("no head"));
        };
        let is_layer = head.encoding == i32::from(pb::BlobEncoding::Zstd);
        let kind = if is_layer { "layer" } else { "config" };
        if self.world().images.refuses == Some(kind) {
            return Err(Status::resource_exhausted("the disk is full"));
        }
        let mut wire = Vec::new();
        while let Some(message) = stream.message().await? {
            let Some(Message::Chunk(chunk)) = message.message else {
                return Err(Status::invalid_argument("two heads"));
            };
            assert!(chunk.len() <= 64 << 10);
            wire.extend_from_slice(&chunk);
        }
        let mut world = self.world();
        world.images.wire_bytes += wire.len();
        let plain = match is_layer {
            true => zstd::decode_all(wire.as_slice()).unwrap(),
            false => wire,
        };
        assert_eq!(
            (digest(&plain), plain.len() as u64),
            (head.digest.clone(), head.bytes)
        );
        world.calls.push(format!("upload {kind}"));
        world.images.blobs.insert(head.digest, plain);
        Ok(Response::new(pb::UploadBlobResponse {}))
    }

    async fn record_image(
        &self,
        request: Request<pb::RecordImageRequest>,
    ) -> Answer<pb::RecordImageResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        let digests = request.diff_ids.iter().chain([&request.config_digest]);
        for digest in digests {
            if !world.images.blobs.contains_key(digest) {
                return Err(Status::failed_precondition(format!("{digest} is not here")));
            }
        }
        let name = match request.name.contains(':') {
            true => request.name,
            false => request.name + ":latest",
        };
        world
            .calls
            .push(format!("record {name} {}", request.platform));
        let config = request.config_digest;
        let before = world.images.names.insert(name.clone(), config.clone());
        Ok(Response::new(pb::RecordImageResponse {
            name,
            manifest_digest: format!("sha256:{}", "ab".repeat(32)),
            changed: before.as_ref() != Some(&config),
            previous_digest: String::new(),
        }))
    }

    async fn list_images(
        &self,
        _: Request<pb::ListImagesRequest>,
    ) -> Answer<pb::ListImagesResponse> {
        let world = self.world();
        let images = world.images.names.iter();
        Ok(Response::new(pb::ListImagesResponse {
            images: images.map(|(name, config)| image(name, config)).collect(),
            ..Default::default()
        }))
    }

    async fn remove_image(
        &self,
        request: Request<pb::RemoveImageRequest>,
    ) -> Answer<pb::RemoveImageResponse> {
        let name = request.into_inner().name;
        self.call(&format!("remove {name}"));
        if self.world().images.names.remove(&name).is_none() {
            return Err(Status::not_found(format!("there is no image {name:?}")));
        }
        Ok(Response::new(pb::RemoveImageResponse {
            name,
            manifest_digest: String::new(),
            freed_bytes: 1_200_000,
        }))
    }

    async fn prune_images(
        &self,
        request: Request<pb::PruneImagesRequest>,
    ) -> Answer<pb::PruneImagesResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        let call = format!("prune {:?} {}", request.keep, request.dry_run);
        world.calls.push(call);
        let names = &mut world.images.names;
        let removed = names.iter().map(|(name, config)| image(name, config));
        let removed: Vec<_> = removed.collect();
        if !request.dry_run {
            names.clear();
        }
        Ok(Response::new(pb::PruneImagesResponse {
            removed_blobs: 4 * u32::try_from(removed.len()).unwrap(),
            freed_bytes: 1_200_000 * removed.len() as u64,
            removed,
            kept: Vec::new(),
        }))
    }

    async fn resolve_images(
        &self,
        request: Request<pb::ResolveImagesRequest>,
    ) -> Answer<pb::ResolveImagesResponse> {
        let names = request.into_inner().names.into_iter();
        let world = self.world();
        let pin = |name: String| {
            world.images.names.contains_key(&name).then(|| pb::Pin {
                name,
                ..Default::default()
            })
        };
        Ok(Response::new(pb::ResolveImagesResponse {
            pins: names.filter_map(pin).collect(),
        }))
    }
}
