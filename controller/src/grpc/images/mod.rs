//! `ImageService`: operators push images, look at them, remove them.

mod credentials;
mod fetch;
mod source;
mod upload;

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::image::{
    BLOBS_ASKED_MAX, IMAGE_CONFIG_BYTES_MAX, LAYERS_MAX, NAMES_ASKED_MAX,
};
use longshore_model::spec::Platform;
use longshore_model::{ImageDigest, ImageName};
use longshore_proto::images::v1 as pb;
use longshore_proto::images::v1::image_service_server::ImageService;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::{Refusal, auth, blocking, quoted};
use crate::cluster::{ChangeError, Cluster};
use crate::images::{
    self, BlobError, BlobRef, Blobs, Catalog, CatalogChanges, IMAGES_MAX, ImageRecord, KEEP_TAGS,
    Kept, TAGS_MAX, Tag,
};

/// Uploads at the same time, whatever the settings say.
const UPLOADS_MAX: usize = 1_024;
/// Downloads at the same time, of all nodes; more wait.
const DOWNLOADS_MAX: usize = 64;

/// See the module.
#[derive(Clone)]
pub(super) struct Images {
    cluster: Arc<Cluster>,
    blobs: Arc<Blobs>,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

impl Images {
    pub(super) fn new(cluster: Arc<Cluster>, blobs: Arc<Blobs>) -> Self {
        let uploads = cluster.config.images.uploads_max.min(UPLOADS_MAX);
        Self {
            cluster,
            blobs,
            uploads: Arc::new(Semaphore::new(uploads)),
            downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
        }
    }
}

fn digest(field: &str, text: &str) -> Result<ImageDigest, Status> {
    text.parse()
        .map_err(|error| Status::invalid_argument(format!("{field}: {} {error}", quoted(text))))
}

fn name(text: &str) -> Result<ImageName, Status> {
    text.parse()
        .map_err(|error| Status::invalid_argument(format!("image {} {error}", quoted(text))))
}

fn few(field: &str, count: usize, max: usize) -> Result<(), Status> {
    match count <= max {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "{field} has {count} entries; at most {max} are allowed"
        ))),
    }
}

/// A refused blob, as the caller sees it.
fn blob_status(error: &BlobError) -> Status {
    let why = crate::chain(error);
    match error {
        BlobError::TooLarge { .. } | BlobError::Digest { .. } | BlobError::Size { .. } => {
            Status::invalid_argument(why)
        }
        BlobError::Encoding { .. } => Status::invalid_argument(why),
        BlobError::Full { .. } | BlobError::Disk { .. } | BlobError::Leases => {
            Status::resource_exhausted(why)
        }
        BlobError::Absent(_) => Status::not_found(why),
        BlobError::Io { source, .. } => {
            tracing::error!(error = why, "images");
            match source.kind() {
                std::io::ErrorKind::StorageFull => Status::resource_exhausted(why),
                _ => Status::unavailable(why),
            }
        }
    }
}

fn refused(error: &BlobError) -> Refusal {
    Refusal(blob_status(error))
}

fn image_to_pb(
    (digest, image): (&ImageDigest, &ImageRecord),
    tag: Option<&ImageName>,
    kept: Option<&BTreeSet<Kept>>,
) -> pb::Image {
    let reason = |kept: &Kept| pb::KeptReason {
        kind: kept.kind.as_str().into(),
        by: kept.by.clone(),
    };
    let layer = |layer: &BlobRef| pb::ImageLayer {
        diff_id: layer.digest.to_string(),
        bytes: layer.bytes,
    };
    pb::Image {
        repository: tag.map_or_else(|| image.repository.clone(), |tag| tag.repository().into()),
        tag: tag.map(|tag| tag.tag().to_owned()).unwrap_or_default(),
        manifest_digest: digest.to_string(),
        config_digest: image.config.digest.to_string(),
        platform: image.platform.to_string(),
        bytes: image.bytes(),
        layers: image.layers.iter().map(layer).collect(),
        pushed_ms: image.pushed_ms,
        pushed_by: image.pushed_by.clone(),
        kept: kept.into_iter().flatten().map(reason).collect(),
    }
}

/// Images once per name, by name; those without one last, newest first.
fn images_to_pb<'k>(
    catalog: &Catalog,
    which: impl Fn(&ImageDigest) -> bool,
    kept: impl Fn(&ImageDigest) -> Option<&'k BTreeSet<Kept>>,
) -> Vec<pb::Image> {
    let mut all = Vec::new();
    let mut named = BTreeSet::new();
    for (name, tag) in &catalog.tags {
        if let Some(image) = catalog.images.get(&tag.digest)
            && which(&tag.digest)
        {
            named.insert(&tag.digest);
            all.push(image_to_pb(
                (&tag.digest, image),
                Some(name),
                kept(&tag.digest),
            ));
        }
    }
    let rest = catalog.images.iter();
    let mut rest: Vec<_> = rest
        .filter(|(digest, _)| !named.contains(digest) && which(digest))
        .collect();
    rest.sort_by_key(|(_, image)| std::cmp::Reverse(image.pushed_ms));
    all.extend(
        rest.into_iter()
            .map(|(digest, image)| image_to_pb((digest, image), None, kept(digest))),
    );
    all
}

/// What was asked to be recorded, checked by itself.
struct Asked {
    name: ImageName,
    config: ImageDigest,
    layers: Vec<ImageDigest>,
    platform: Option<Platform>,
}

fn asked(request: pb::RecordImageRequest) -> Result<Asked, Status> {
    few("diff_ids", request.diff_ids.len(), LAYERS_MAX)?;
    let layers = request.diff_ids.iter();
    let layers = layers.map(|text| digest("diff_ids", text));
    let platform = request.platform;
    let read = match platform.is_empty() {
        true => None,
        false => Some(Platform::parse(&platform).ok_or_else(|| {
            let said = quoted(&platform);
            Status::invalid_argument(format!("platform: {said} is none, such as linux/amd64"))
        })?),
    };
    Ok(Asked {
        name: name(&request.name)?,
        config: digest("config_digest", &request.config_digest)?,
        layers: layers.collect::<Result<_, _>>()?,
        platform: read,
    })
}

/// The image that was asked for: everything of it is here and fits together.
fn record_of(blobs: &Blobs, asked: &Asked, by: &str, now_ms: u64) -> Result<ImageRecord, Status> {
    let invalid = |why: String| Status::invalid_argument(format!("{}: {why}", asked.name));
    let mut all = asked.layers.clone();
    all.push(asked.config.clone());
    // Kept from here on, so that no prune comes between.
    let missing = blobs
        .lease(&all, now_ms)
        .map_err(|error| blob_status(&error))?;
    if !missing.is_empty() {
        let first: Vec<String> = missing.iter().take(3).map(ToString::to_string).collect();
        return Err(Status::failed_precondition(format!(
            "{}: {} of its blobs are not here ({}, …): push it again",
            asked.name,
            missing.len(),
            first.join(", ")
        )));
    }
    let config = blobs.read(&asked.config, IMAGE_CONFIG_BYTES_MAX);
    let config = config.map_err(|error| blob_status(&error))?;
    let (layers, platform) = images::read_config(&config)
        .map_err(|error| invalid(format!("configuration: {}", crate::chain(&error))))?;
    if layers != asked.layers {
        return Err(invalid(format!(
            "its configuration names {} layers that are not the {} of the push",
            layers.len(),
            asked.layers.len()
        )));
    }
    if let Some(said) = &asked.platform
        && (&said.os, &said.arch) != (&platform.os, &platform.arch)
    {
        return Err(invalid(format!("it is for {platform}, not for {said}")));
    }
    let sized = |digest: &ImageDigest| {
        let bytes = blobs.bytes_of(digest);
        let bytes = bytes.ok_or_else(|| blob_status(&BlobError::Absent(digest.clone())))?;
        Ok::<_, Status>(BlobRef {
            digest: digest.clone(),
            bytes,
        })
    };
    let config = sized(&asked.config)?;
    let layers = layers.iter().map(sized).collect::<Result<Vec<_>, _>>()?;
    let manifest = images::build(&config, &layers)
        .map_err(|error| Status::internal(format!("{}: {error}", asked.name)))?;
    Ok(ImageRecord {
        repository: asked.name.repository().to_owned(),
        manifest,
        config,
        layers,
        platform,
        pushed_ms: now_ms,
        pushed_by: by.to_owned(),
    })
}

fn record(
    cluster: &Cluster,
    blobs: &Blobs,
    asked: &Asked,
    by: &str,
) -> Result<pb::RecordImageResponse, Refusal> {
    let now_ms = cluster.now_ms();
    let image = record_of(blobs, asked, by, now_ms).map_err(Refusal)?;
    let digest = ImageDigest::of(image.manifest.as_bytes());
    cluster.change(|ledger, _| {
        let catalog = cluster.images();
        let is_new = !catalog.images.contains_key(&digest);
        let full = (is_new && catalog.images.len() >= IMAGES_MAX)
            || (!catalog.tags.contains_key(&asked.name) && catalog.tags.len() >= TAGS_MAX);
        if full {
            return Err(Status::resource_exhausted(format!(
                "{IMAGES_MAX} images or {TAGS_MAX} names are held; free some: controllerctl image \
                 prune"
            ))
            .into());
        }
        let previous = catalog.tags.get(&asked.name).map(|tag| tag.digest.clone());
        let tag = Tag {
            digest: digest.clone(),
            at_ms: now_ms,
        };
        let changes = CatalogChanges {
            images: [(digest.clone(), Some(Arc::new(image)))].into(),
            tags: [(asked.name.clone(), Some(tag))].into(),
        };
        ledger.repository.put_images(&changes)?;
        cluster.set_images(catalog.with(&changes));
        let changed = previous.as_ref() != Some(&digest);
        let previous = previous.filter(|_| changed);
        let answer = pb::RecordImageResponse {
            name: asked.name.to_string(),
            manifest_digest: digest.to_string(),
            changed,
            previous_digest: previous.map(String::from).unwrap_or_default(),
        };
        Ok((answer, Vec::new()))
    })
}

/// What is to be removed: a name, or an image with all its names.
fn doomed(catalog: &Catalog, text: &str) -> Result<(ImageDigest, Vec<ImageName>), Status> {
    let absent = || {
        Status::not_found(format!(
            "no image {} is held; see: controllerctl image ls",
            quoted(text)
        ))
    };
    if let Some((_, wanted)) = text.split_once('@') {
        let digest = digest("name", wanted)?;
        if !catalog.images.contains_key(&digest) {
            return Err(absent());
        }
        let names = catalog.tags.iter().filter(|(_, tag)| tag.digest == digest);
        let names = names.map(|(name, _)| name.clone()).collect();
        return Ok((digest, names));
    }
    let name = name(text)?;
    let tag = catalog.tags.get(&name).ok_or_else(absent)?;
    Ok((tag.digest.clone(), vec![name]))
}

fn remove(
    cluster: &Cluster,
    blobs: &Blobs,
    text: &str,
) -> Result<pb::RemoveImageResponse, Refusal> {
    let (digest, stays) = cluster.change(|ledger, _| {
        let catalog = cluster.images();
        let (digest, names) = doomed(&catalog, text)?;
        let of = catalog.tags.iter().filter(|(_, tag)| tag.digest == digest);
        let stays = of.count() > names.len();
        let needs = images::needs(cluster).map_err(ChangeError::Store)?;
        if let Some(needed) = needs.0.get(&digest)
            && !stays
        {
            let by: Vec<&str> = needed.iter().map(|kept| kept.by.as_str()).take(3).collect();
            return Err(Status::failed_precondition(format!(
                "{text} is needed by {}{}; take that down first (controllerctl down APP), or let \
                 image prune remove it once nothing goes back to it",
                by.join(", "),
                if needed.len() > by.len() { ", …" } else { "" }
            ))
            .into());
        }
        let changes = CatalogChanges {
            images: (!stays)
                .then(|| (digest.clone(), None))
                .into_iter()
                .collect(),
            tags: names.into_iter().map(|name| (name, None)).collect(),
        };
        ledger.repository.put_images(&changes)?;
        cluster.set_images(catalog.with(&changes));
        Ok(((digest, stays), Vec::new()))
    })?;
    let freed_bytes = match stays {
        true => 0,
        false => {
            let catalog = cluster.images();
            let collected = blobs.collect(&catalog.blobs(), cluster.now_ms());
            collected.map_err(|error| refused(&error))?.1
        }
    };
    Ok(pb::RemoveImageResponse {
        name: text.to_owned(),
        manifest_digest: digest.to_string(),
        freed_bytes,
    })
}

fn list(cluster: &Cluster, blobs: &Blobs) -> Result<pb::ListImagesResponse, Refusal> {
    let catalog = cluster.images();
    let sending = blobs.leased(cluster.now_ms());
    let needs = images::needs(cluster)?;
    let verdicts = images::judge(&catalog, &needs, &sending, KEEP_TAGS);
    let usage = blobs.usage();
    Ok(pb::ListImagesResponse {
        images: images_to_pb(&catalog, |_| true, |digest| verdicts.kept.get(digest)),
        stored_bytes: usage.bytes,
        stored_bytes_max: usage.bytes_max,
        disk_free_bytes: usage.free_bytes,
        blobs: u32::try_from(usage.blobs).unwrap_or(u32::MAX),
    })
}

fn prune(
    cluster: &Cluster,
    blobs: &Blobs,
    request: &pb::PruneImagesRequest,
) -> Result<pb::PruneImagesResponse, Refusal> {
    let keep = request.keep.map_or(KEEP_TAGS, |keep| {
        usize::try_from(keep).unwrap_or(usize::MAX)
    });
    let swept = images::prune::<Refusal>(cluster, blobs, keep, request.dry_run)?;
    let verdicts = &swept.verdicts;
    let removed = |digest: &ImageDigest| verdicts.removed.contains(digest);
    let kept = |digest: &ImageDigest| verdicts.kept.get(digest);
    Ok(pb::PruneImagesResponse {
        removed: images_to_pb(&swept.before, removed, |_| None),
        kept: images_to_pb(&swept.before, |digest| !removed(digest), kept),
        removed_blobs: u32::try_from(swept.blobs).unwrap_or(u32::MAX),
        freed_bytes: swept.bytes,
    })
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn missing_blobs(
        &self,
        request: Request<pb::MissingBlobsRequest>,
    ) -> Result<Response<pb::MissingBlobsResponse>, Status> {
        let digests = request.into_inner().digests;
        few("digests", digests.len(), BLOBS_ASKED_MAX)?;
        let digests = digests.iter().map(|text| digest("digests", text));
        let digests = digests.collect::<Result<Vec<_>, _>>()?;
        let missing = self.blobs.lease(&digests, self.cluster.now_ms());
        let missing = missing.map_err(|error| blob_status(&error))?;
        Ok(Response::new(pb::MissingBlobsResponse {
            missing: missing.into_iter().map(String::from).collect(),
        }))
    }

    async fn upload_blob(
        &self,
        request: Request<Streaming<pb::UploadBlobRequest>>,
    ) -> Result<Response<pb::UploadBlobResponse>, Status> {
        self.take(request.into_inner()).await.map(Response::new)
    }

    async fn record_image(
        &self,
        request: Request<pb::RecordImageRequest>,
    ) -> Result<Response<pb::RecordImageResponse>, Status> {
        let by = auth::operator(&request)?;
        let asked = asked(request.into_inner())?;
        let (cluster, blobs) = (Arc::clone(&self.cluster), Arc::clone(&self.blobs));
        let work = move || record(&cluster, &blobs, &asked, &by);
        blocking(work).await.map(Response::new)
    }

    async fn list_images(
        &self,
        _: Request<pb::ListImagesRequest>,
    ) -> Result<Response<pb::ListImagesResponse>, Status> {
        let (cluster, blobs) = (Arc::clone(&self.cluster), Arc::clone(&self.blobs));
        blocking(move || list(&cluster, &blobs))
            .await
            .map(Response::new)
    }

    async fn remove_image(
        &self,
        request: Request<pb::RemoveImageRequest>,
    ) -> Result<Response<pb::RemoveImageResponse>, Status> {
        auth::operator(&request)?;
        let text = request.into_inner().name;
        let (cluster, blobs) = (Arc::clone(&self.cluster), Arc::clone(&self.blobs));
        let work = move || remove(&cluster, &blobs, &text);
        blocking(work).await.map(Response::new)
    }

    async fn prune_images(
        &self,
        request: Request<pb::PruneImagesRequest>,
    ) -> Result<Response<pb::PruneImagesResponse>, Status> {
        auth::operator(&request)?;
        let request = request.into_inner();
        let (cluster, blobs) = (Arc::clone(&self.cluster), Arc::clone(&self.blobs));
        let work = move || prune(&cluster, &blobs, &request);
        blocking(work).await.map(Response::new)
    }

    async fn fetch_image(
        &self,
        request: Request<pb::FetchImageRequest>,
    ) -> Result<Response<pb::FetchImageResponse>, Status> {
        let by = auth::operator(&request)?;
        self.order(&request.into_inner(), &by).map(Response::new)
    }

    async fn resolve_images(
        &self,
        request: Request<pb::ResolveImagesRequest>,
    ) -> Result<Response<pb::ResolveImagesResponse>, Status> {
        let names = request.into_inner().names;
        few("names", names.len(), NAMES_ASKED_MAX)?;
        let catalog = self.cluster.images();
        let pin = |asked: String| {
            // What is no name that can be held is not held.
            let (digest, image) = catalog.resolve(&asked.parse().ok()?)?;
            Some(pb::Pin {
                name: asked,
                manifest_digest: digest.to_string(),
                platform: image.platform.to_string(),
            })
        };
        Ok(Response::new(pb::ResolveImagesResponse {
            pins: names.into_iter().filter_map(pin).collect(),
        }))
    }
}
