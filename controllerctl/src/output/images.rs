//! Images as rows and as the JSON contract.

use longshore_proto::control::v1 as control;
use longshore_proto::images::v1 as pb;
use serde::Serialize;

use super::views::time;
use super::{Row, Shown, age, size};
use crate::text;

/// `image ls`
#[derive(Debug, Serialize)]
pub struct Image {
    /// shop/web:1; without a tag shop/web@sha256:…
    pub name: String,
    /// shop/web
    pub repository: String,
    /// None: another image has its tag by now.
    pub tag: Option<String>,
    /// What nodes are told to run.
    pub digest: String,
    /// linux/amd64
    pub platform: String,
    /// Of configuration and layers, uncompressed.
    pub bytes: u64,
    /// How many layers it has.
    pub layers: usize,
    /// When it was pushed.
    pub pushed: Option<String>,
    /// By whom.
    pub by: String,
    /// Why prune keeps it.
    pub kept: Vec<Kept>,
    #[serde(skip)]
    pushed_ms: u64,
}

/// Why an image stays.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// revision, running, newest, upload
    pub kind: String,
    /// app/service@revision, app/service or nothing.
    pub by: Option<String>,
}

impl From<&pb::Image> for Image {
    fn from(image: &pb::Image) -> Self {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (repository, digest) = (&image.repository, &image.manifest_digest);
        let kept = image.kept.iter().map(|reason| Kept {
            kind: reason.kind.clone(),
            by: filled(&reason.by),
        });
        Self {
            name: match image.tag.as_str() {
                "" => format!("{repository}@{digest}"),
                tag => format!("{repository}:{tag}"),
            },
            repository: repository.clone(),
            tag: filled(&image.tag),
            digest: digest.clone(),
            platform: image.platform.clone(),
            bytes: image.bytes,
            layers: image.layers.len(),
            pushed: time(image.pushed_ms),
            by: image.pushed_by.clone(),
            kept: kept.collect(),
            pushed_ms: image.pushed_ms,
        }
    }
}

impl Row for Image {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["IMAGE", "TAG", "DIGEST", "SIZE", "PUSHED", "BY"];
        if wide {
            titles.extend(["PLATFORM", "LAYERS", "KEPT"]);
        }
        titles
    }

    fn cells(&self, wide: bool, now_ms: u64) -> Vec<Shown> {
        let mut cells = vec![
            Shown::from(&self.repository),
            self.tag.clone().unwrap_or_default().into(),
            short(&self.digest, wide).into(),
            size(self.bytes).into(),
            age(self.pushed_ms, now_ms).into(),
            Shown::from(&self.by),
        ];
        if wide {
            let kept = self.kept.iter().map(|kept| match &kept.by {
                Some(by) => format!("{} ({by})", kept.kind),
                None => kept.kind.clone(),
            });
            let kept: Vec<String> = kept.collect();
            cells.push(Shown::from(&self.platform));
            cells.push(self.layers.into());
            cells.push(kept.join(", ").into());
        }
        cells
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// An image that is built or sent before the app is applied.
#[derive(Debug, Serialize)]
pub struct PlannedBuild {
    /// The first service that needs it.
    pub service: String,
    /// Its name.
    pub image: String,
    /// build (and push), push
    pub action: String,
    /// The directory that it is built from.
    pub context: String,
    /// Why.
    pub reason: String,
}

/// `image rm`, `image prune`
#[derive(Debug, Serialize)]
pub struct Removed {
    /// Images that are gone.
    pub removed: Vec<String>,
    /// Blobs that no image needed.
    pub blobs: u32,
    /// What that frees.
    pub freed_bytes: u64,
}

/// An image that a node has or fetches before a replica needs it there.
#[derive(Debug, Serialize)]
pub struct NodeImage {
    /// As the app's file names it.
    pub image: String,
    /// What it is; none: whatever its registry gives.
    pub digest: Option<String>,
    /// ordered, waiting, fetching, here, failed
    pub state: String,
    /// Why it failed, or what it waits for.
    pub detail: Option<String>,
    /// asked, `scale_out`, standby
    pub why: String,
    /// Who asked; else the service.
    pub by: String,
    /// Replicas that the service may yet place.
    pub replicas: Option<u32>,
}

impl From<&control::NodeImage> for NodeImage {
    fn from(image: &control::NodeImage) -> Self {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            image: image.image.clone(),
            digest: filled(&image.digest),
            state: image.state.clone(),
            detail: filled(&image.detail),
            why: image.why.clone(),
            by: image.by.clone(),
            replicas: (image.replicas > 0).then_some(image.replicas),
        }
    }
}

impl NodeImage {
    /// Why the node is to have it.
    #[must_use]
    pub fn reason(&self) -> String {
        let Self { by, .. } = self;
        let replicas = text::replicas(self.replicas.unwrap_or(0));
        match self.why.as_str() {
            "asked" => format!("{by} asked for it"),
            "standby" => format!("{by} may place {replicas} as warm standbys"),
            _ => format!("{by} may place {replicas} more"),
        }
    }

    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        let detail = self.detail.as_ref().map(|detail| format!(", {detail}"));
        let (image, state) = (&self.image, &self.state);
        format!(
            "{image} {state}{}: {}",
            detail.unwrap_or_default(),
            self.reason()
        )
    }
}

/// As docker shows a digest, or whole.
#[must_use]
pub fn short(digest: &str, whole: bool) -> String {
    match digest.strip_prefix("sha256:") {
        Some(hex) if !whole => hex.chars().take(12).collect(),
        _ => digest.to_owned(),
    }
}
