//! Images from an operator to the nodes: pushed, named, pinned, fetched, removed.

use longshore_identity::tls::{ServerTrust, connect};
use longshore_model::ImageDigest;
use longshore_proto::control::v1 as control;
use longshore_proto::images::v1 as pb;
use longshore_proto::images::v1::image_source_service_client::ImageSourceServiceClient;
use longshore_proto::images::v1::upload_blob_request::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::{Lab, app};

/// A layer larger than several pieces.
const LAYER_BYTES: usize = 300_000;

pub(crate) struct Image {
    layers: Vec<Vec<u8>>,
    config: Vec<u8>,
}

impl Image {
    pub(crate) fn new(tops: &[u8]) -> Self {
        let layers: Vec<Vec<u8>> = tops.iter().map(|byte| vec![*byte; LAYER_BYTES]).collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| ImageDigest::of(layer)).collect();
        let config = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self {
            layers,
            config: config.to_string().into_bytes(),
        }
    }

    fn digests(&self) -> Vec<String> {
        let all = self.layers.iter().chain([&self.config]);
        all.map(|blob| ImageDigest::of(blob).to_string()).collect()
    }

    fn request(&self, name: &str) -> pb::RecordImageRequest {
        let mut diff_ids = self.digests();
        let config_digest = diff_ids.pop().unwrap();
        pb::RecordImageRequest {
            name: name.into(),
            config_digest,
            diff_ids,
            platform: "linux/amd64".into(),
        }
    }
}

fn head(content: &[u8], digest: &ImageDigest) -> pb::UploadBlobRequest {
    let head = pb::UploadHead {
        digest: digest.to_string(),
        bytes: content.len() as u64,
        encoding: pb::BlobEncoding::Identity.into(),
    };
    pb::UploadBlobRequest {
        message: Some(Message::Head(head)),
    }
}

fn chunk(bytes: &[u8]) -> pb::UploadBlobRequest {
    pb::UploadBlobRequest {
        message: Some(Message::Chunk(bytes.to_vec())),
    }
}

async fn upload_as(lab: &Lab, digest: &ImageDigest, content: &[u8]) -> Result<(), Status> {
    let chunks = content.chunks(64 << 10).map(chunk);
    let messages: Vec<_> = [head(content, digest)].into_iter().chain(chunks).collect();
    let messages = tokio_stream::iter(messages);
    lab.images.clone().upload_blob(messages).await.map(drop)
}

async fn missing(lab: &Lab, image: &Image) -> Vec<String> {
    let request = pb::MissingBlobsRequest {
        digests: image.digests(),
    };
    let answer = lab.images.clone().missing_blobs(request).await.unwrap();
    answer.into_inner().missing
}

/// Sends what is missing, and gives the image its name.
pub(crate) async fn push(lab: &Lab, name: &str, image: &Image) -> (usize, pb::RecordImageResponse) {
    let missing = missing(lab, image).await;
    for blob in image.layers.iter().chain([&image.config]) {
        let digest = ImageDigest::of(blob);
        if missing.contains(&digest.to_string()) {
            upload_as(lab, &digest, blob).await.unwrap();
        }
    }
    let recorded = lab.images.clone().record_image(image.request(name)).await;
    (missing.len(), recorded.unwrap().into_inner())
}

async fn node(lab: &Lab) -> ImageSourceServiceClient<Channel> {
    let token = lab.token(true, false).await;
    let certs = lab.join(&token, "w9", true, false).await.unwrap();
    let trust = ServerTrust::Ca(lab.ca.clone());
    let channel = connect(&lab.url, Some(certs), trust).await.unwrap();
    ImageSourceServiceClient::new(channel)
}

async fn fetch(
    node: &ImageSourceServiceClient<Channel>,
    digest: &ImageDigest,
    (offset, length): (u64, u64),
) -> Result<(u64, Vec<u8>), Status> {
    let request = pb::GetBlobRequest {
        digest: digest.to_string(),
        offset,
        length,
    };
    let mut stream = node.clone().get_blob(request).await?.into_inner();
    let (mut total, mut content) = (0, Vec::new());
    while let Some(piece) = stream.message().await? {
        total = total.max(piece.total_bytes);
        assert!(piece.data.len() <= 64 << 10);
        content.extend(piece.data);
    }
    Ok((total, content))
}

async fn list(lab: &Lab) -> pb::ListImagesResponse {
    let listed = lab
        .images
        .clone()
        .list_images(pb::ListImagesRequest {})
        .await;
    listed.unwrap().into_inner()
}

fn uploads(lab: &Lab) -> usize {
    let folder = lab.data_dir().join("images/uploads");
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn an_image_is_pushed_once_and_fetched_as_it_was() {
    let lab = Lab::start().await;
    let image = Image::new(b"ab");
    let (sent, recorded) = push(&lab, "shop/web:1", &image).await;
    assert_eq!((sent, recorded.changed), (3, true));
    assert_eq!(recorded.name, "shop/web:1");
    // One layer more: only that and the configuration move.
    let next = Image::new(b"abc");
    let (sent, second) = push(&lab, "docker.io/shop/web:1", &next).await;
    assert_eq!(sent, 2);
    assert_eq!(second.previous_digest, recorded.manifest_digest);
    let lab = lab.restart().await;
    let node = node(&lab).await;
    let manifest = |repository: &str, reference: &str| {
        let request = pb::GetManifestRequest {
            repository: repository.into(),
            reference: reference.into(),
        };
        let mut node = node.clone();
        async move {
            node.get_manifest(request)
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let got = manifest("shop/web", "1").await.unwrap();
    assert_eq!(got.digest, second.manifest_digest);
    assert_eq!(ImageDigest::of(&got.manifest).to_string(), got.digest);
    let by_digest = manifest("any/other", &recorded.manifest_digest)
        .await
        .unwrap();
    assert_eq!(
        by_digest.media_type,
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        manifest("shop/web", "2").await.unwrap_err().code(),
        Code::NotFound
    );
    let repository = "shop/web".to_owned();
    let tags = node
        .clone()
        .list_tags(pb::ListTagsRequest { repository })
        .await;
    assert_eq!(tags.unwrap().into_inner().tags, ["1"]);
    let layer = ImageDigest::of(&next.layers[2]);
    let total = LAYER_BYTES as u64;
    let whole = fetch(&node, &layer, (0, 0)).await.unwrap();
    assert_eq!(whole, (total, next.layers[2].clone()));
    let end = fetch(&node, &layer, (total - 10, 100)).await.unwrap();
    assert_eq!(end, (total, vec![b'c'; 10]));
    let middle = fetch(&node, &layer, (70_000, 5)).await.unwrap();
    assert_eq!(middle.1.len(), 5);
    let beyond = fetch(&node, &layer, (total + 1, 0)).await.unwrap_err();
    assert_eq!(beyond.code(), Code::OutOfRange, "{beyond}");
    let absent = fetch(&node, &ImageDigest::of(b"?"), (0, 0))
        .await
        .unwrap_err();
    assert_eq!(absent.code(), Code::NotFound, "{absent}");
    let stranger = ImageSourceServiceClient::new(lab.channel.clone());
    let operator = fetch(&stranger, &layer, (0, 0));
    assert_eq!(operator.await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_is_wrong_with_a_push_is_said_and_nothing_of_it_stays() {
    let lab = Lab::start().await;
    let image = Image::new(b"ab");
    let digest = ImageDigest::of(b"other");
    let refused = upload_as(&lab, &digest, &image.layers[0])
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("send them again"), "{refused}");
    // A sender that goes away in the middle.
    let (sender, stream) = tokio::sync::mpsc::channel(4);
    let good = ImageDigest::of(&image.layers[0]);
    sender.send(head(&image.layers[0], &good)).await.unwrap();
    sender.send(chunk(b"aaa")).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut images = lab.images.clone();
    let sending = tokio::spawn(async move { images.upload_blob(stream).await.map(drop) });
    let wait = async {
        while uploads(&lab) == 0 {
            tokio::task::yield_now().await;
        }
        sending.abort();
        while uploads(&lab) > 0 {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(crate::support::BOUND, wait).await;
    waited.expect("an upload that was broken off stays");
    let record = |request: pb::RecordImageRequest| {
        let mut images = lab.images.clone();
        async move { images.record_image(request).await.unwrap_err() }
    };
    let absent = record(image.request("shop/web:1")).await;
    assert_eq!(absent.code(), Code::FailedPrecondition, "{absent}");
    assert!(
        absent.message().contains("3 of its blobs are not here"),
        "{absent}"
    );
    for blob in image.layers.iter().chain([&image.config]) {
        upload_as(&lab, &ImageDigest::of(blob), blob).await.unwrap();
    }
    let mut swapped = image.request("shop/web:1");
    swapped.diff_ids.reverse();
    let swapped = record(swapped).await;
    assert!(
        swapped.message().contains("its configuration names"),
        "{swapped}"
    );
    let mut other = image.request("shop/web:1");
    other.platform = "linux/arm64".into();
    let other = record(other).await;
    assert!(other.message().contains("it is for linux/amd64"), "{other}");
    let named = record(image.request("shop/Web:1")).await;
    assert!(named.message().contains("is no image name"), "{named}");
    assert!(list(&lab).await.images.is_empty());
}

#[tokio::test]
async fn a_service_runs_what_its_image_was_when_it_was_applied() {
    let lab = Lab::start().await;
    let mut agent = lab.node("w1", true, true).await;
    let (_, first) = push(&lab, "hello:1", &Image::new(b"a")).await;
    let apply = || {
        let request = control::ApplyAppRequest {
            app: Some(app("shop", "web", 80, 1)),
            ..Default::default()
        };
        let mut admin = lab.admin.clone();
        async move { admin.apply_app(request).await.unwrap().into_inner() }
    };
    assert_eq!(apply().await.revision, 1);
    assert!(!apply().await.changed, "the same image is no change");
    let told = agent.until_told("the first image", |told| runs(told, &first.manifest_digest));
    told.await;
    let (_, second) = push(&lab, "hello:1", &Image::new(b"b")).await;
    let plan = control::PlanAppRequest {
        app: Some(app("shop", "web", 80, 1)),
        ..Default::default()
    };
    let plan = lab.admin.clone().plan_app(plan).await.unwrap().into_inner();
    let details = plan.changes[0].details.join("; ");
    assert!(details.contains("container.image_digest"), "{details}");
    assert_eq!(apply().await.revision, 2);
    let told = agent.until_told("the second image", |told| {
        runs(told, &second.manifest_digest)
    });
    told.await;
    // Nothing removes what undo needs.
    let prune = |keep| pb::PruneImagesRequest {
        keep: Some(keep),
        dry_run: false,
    };
    let mut images = lab.images.clone();
    let pruned = images.prune_images(prune(0)).await.unwrap().into_inner();
    assert!(pruned.removed.is_empty(), "{pruned:?}");
    let kept: Vec<&str> = pruned
        .kept
        .iter()
        .map(|image| &*image.manifest_digest)
        .collect();
    assert_eq!(kept, [&*second.manifest_digest, &*first.manifest_digest]);
    assert!(
        pruned.kept[1]
            .kept
            .iter()
            .any(|kept| kept.by == "shop/web@1"),
        "{pruned:?}"
    );
    let undo = control::UndoRolloutRequest {
        service: "web".into(),
        to_revision: None,
    };
    lab.admin.clone().undo_rollout(undo).await.unwrap();
    let told = agent.until_told("the first image again", |told| {
        runs(told, &first.manifest_digest)
    });
    told.await;
    let held = pb::RemoveImageRequest {
        name: "hello:1".into(),
    };
    let held = images.remove_image(held).await.unwrap_err();
    assert!(held.message().contains("is needed by shop/web"), "{held}");
}

fn runs(told: &crate::support::Told, digest: &str) -> bool {
    let Some(assignment) = &told.assignment else {
        return false;
    };
    let mut specs = assignment.templates.values();
    specs.any(|spec| spec.image_digest.as_deref() == Some(digest))
}

#[tokio::test]
async fn what_nothing_needs_is_removed_with_its_bytes() {
    let lab = Lab::start().await;
    push(&lab, "tool:1", &Image::new(b"a")).await;
    push(&lab, "tool:2", &Image::new(b"ab")).await;
    let listed = list(&lab).await;
    let names: Vec<String> = listed
        .images
        .iter()
        .map(|i| format!("{}:{}", i.repository, i.tag))
        .collect();
    assert_eq!(
        (names, listed.blobs),
        (vec!["tool:1".into(), "tool:2".into()], 4)
    );
    let mut images = lab.images.clone();
    let dry = pb::PruneImagesRequest {
        keep: Some(1),
        dry_run: true,
    };
    // What was pushed within the hour is not taken from under its pusher.
    let pruned = images.prune_images(dry).await.unwrap().into_inner();
    assert_eq!(
        (pruned.removed.len(), pruned.removed_blobs),
        (0, 0),
        "{pruned:?}"
    );
    assert!(pruned.kept[0].kept.iter().any(|kept| kept.kind == "upload"));
    let lab = lab.restart().await;
    let mut images = lab.images.clone();
    let pruned = images.prune_images(dry).await.unwrap().into_inner();
    assert_eq!(
        (pruned.removed.len(), pruned.removed_blobs),
        (1, 1),
        "{pruned:?}"
    );
    assert_eq!(list(&lab).await.images.len(), 2, "that was only said");
    let wet = pb::PruneImagesRequest {
        dry_run: false,
        ..dry
    };
    images.prune_images(wet).await.unwrap();
    let listed = list(&lab).await;
    assert_eq!((listed.images.len(), listed.blobs), (1, 3));
    let name = "tool:2".to_owned();
    let removed = images
        .remove_image(pb::RemoveImageRequest { name })
        .await
        .unwrap();
    assert!(removed.into_inner().freed_bytes > 2 * LAYER_BYTES as u64);
    let listed = list(&lab).await;
    assert_eq!(
        (listed.images.len(), listed.blobs, listed.stored_bytes),
        (0, 0, 0)
    );
}
