//! Images that the controller holds itself: nodes fetch them from here.
//!
//! Bytes are files ([`Blobs`]), named by their digest; what they are together is rows of the store,
//! in memory as the [`Catalog`]. A row is written once all its blobs are durable, and blobs are
//! removed once no row names them: a crash in between leaves blobs too many, never too few.

mod ahead;
mod blobs;
mod board;
mod manifest;
mod retention;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::spec::Platform;
use longshore_model::{ImageDigest, ImageName, TimeMs};
use serde::{Deserialize, Serialize};

pub use self::blobs::{BlobError, Blobs, Encoding, ImagesConfig, Upload, Usage};
pub use self::board::{Ahead, AheadState, AheadWhy, Board, Scene, Seen};
pub use self::manifest::{ConfigError, MANIFEST_TYPE, build, read_config};
pub use self::retention::{KEEP_TAGS, Kept, KeptKind, Needs, Verdicts, judge};
pub use self::sweep::{Swept, needs, prune, run};

/// Images kept at most, tags of one image and of all together.
pub const IMAGES_MAX: usize = 4_096;
/// Tags kept at most.
pub const TAGS_MAX: usize = 8_192;

/// A blob of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// Of its uncompressed bytes.
    pub digest: ImageDigest,
    /// How many they are.
    pub bytes: u64,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Where it was pushed to last.
    pub repository: String,
    /// Its manifest: exactly the bytes that its digest is of.
    pub manifest: String,
    /// Its configuration.
    pub config: BlobRef,
    /// Its layers, lowest first.
    pub layers: Vec<BlobRef>,
    /// What it runs on.
    pub platform: Platform,
    /// When it was pushed last.
    pub pushed_ms: TimeMs,
    /// By whom.
    pub pushed_by: String,
}

impl ImageRecord {
    /// Configuration and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobRef> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// What it takes by itself; a layer that comes twice counts once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let each: BTreeMap<&ImageDigest, u64> = self
            .blobs()
            .map(|blob| (&blob.digest, blob.bytes))
            .collect();
        each.values().sum()
    }
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The manifest's.
    pub digest: ImageDigest,
    /// Since when, or when it was said last.
    pub at_ms: TimeMs,
}

/// All images and names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// By the digest of their manifest.
    pub images: BTreeMap<ImageDigest, Arc<ImageRecord>>,
    /// What names mean.
    pub tags: BTreeMap<ImageName, Tag>,
}

/// What is written, and what is removed.
#[derive(Debug, Clone, Default)]
pub struct CatalogChanges {
    /// By the digest of their manifest.
    pub images: BTreeMap<ImageDigest, Option<Arc<ImageRecord>>>,
    /// By name.
    pub tags: BTreeMap<ImageName, Option<Tag>>,
}

impl Catalog {
    /// What a name means; none: it is not held here.
    #[must_use]
    pub fn resolve(&self, name: &ImageName) -> Option<(&ImageDigest, &Arc<ImageRecord>)> {
        let tag = self.tags.get(name)?;
        self.images.get_key_value(&tag.digest)
    }

    /// What an image of a service is pinned to; none: nodes fetch it from its registry.
    #[must_use]
    pub fn pin(&self, image: &str) -> Option<&ImageDigest> {
        let name = image.parse().ok()?;
        self.resolve(&name).map(|(digest, _)| digest)
    }

    /// All blobs that any image has.
    #[must_use]
    pub fn blobs(&self) -> BTreeSet<&ImageDigest> {
        let images = self.images.values();
        images
            .flat_map(|image| image.blobs())
            .map(|blob| &blob.digest)
            .collect()
    }

    /// With these changes.
    #[must_use]
    pub fn with(&self, changes: &CatalogChanges) -> Self {
        let mut next = self.clone();
        for (digest, image) in &changes.images {
            match image {
                Some(image) => next.images.insert(digest.clone(), Arc::clone(image)),
                None => next.images.remove(digest),
            };
        }
        for (name, tag) in &changes.tags {
            match tag {
                Some(tag) => next.tags.insert(name.clone(), tag.clone()),
                None => next.tags.remove(name),
            };
        }
        next
    }
}
