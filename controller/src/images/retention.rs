//! Which images stay, and why. Pure.

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::{ImageDigest, ImageName};

use super::Catalog;

/// Newest tags of each repository that stay when nobody says another number.
pub const KEEP_TAGS: usize = 5;

/// What keeps an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptKind {
    /// A kept revision of an app names it: undo must work.
    Revision,
    /// Replicas run it, or are to, or may be taken back to it.
    Running,
    /// One of the newest tags of its repository.
    Newest,
    /// Somebody is sending or naming its parts.
    Upload,
}

impl KeptKind {
    /// In one word, as the API has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revision => "revision",
            Self::Running => "running",
            Self::Newest => "newest",
            Self::Upload => "upload",
        }
    }
}

/// One reason to keep an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// Which.
    pub kind: KeptKind,
    /// `app/service@revision`, `app/service`, or empty.
    pub by: String,
}

/// What apps need, by the digest of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs(pub BTreeMap<ImageDigest, BTreeSet<Kept>>);

impl Needs {
    /// One more.
    pub fn add(&mut self, digest: &ImageDigest, kind: KeptKind, by: String) {
        let of = self.0.entry(digest.clone()).or_default();
        of.insert(Kept { kind, by });
    }
}

/// What is to be done about each image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Those that stay, with every reason.
    pub kept: BTreeMap<ImageDigest, BTreeSet<Kept>>,
    /// Those that go.
    pub removed: BTreeSet<ImageDigest>,
    /// Names that go with them.
    pub names: BTreeSet<ImageName>,
}

/// Keeps what is needed, what is being sent, and the `keep` newest tags of each repository; the
/// rest goes. A name stays as long as its image does.
#[must_use]
pub fn judge(
    catalog: &Catalog,
    needs: &Needs,
    sending: &BTreeSet<ImageDigest>,
    keep: usize,
) -> Verdicts {
    let mut reasons = needs.0.clone();
    let mut because = |digest: &ImageDigest, kind| {
        let kept = Kept {
            kind,
            by: String::new(),
        };
        reasons.entry(digest.clone()).or_default().insert(kept);
    };
    for (digest, image) in &catalog.images {
        if sending.contains(&image.config.digest) {
            because(digest, KeptKind::Upload);
        }
    }
    let mut repositories: BTreeMap<&str, Vec<(u64, &ImageName, &ImageDigest)>> = BTreeMap::new();
    for (name, tag) in &catalog.tags {
        let tags = repositories.entry(name.repository()).or_default();
        tags.push((tag.at_ms, name, &tag.digest));
    }
    for tags in repositories.values_mut() {
        tags.sort_unstable();
        for (_, _, digest) in tags.iter().rev().take(keep) {
            because(digest, KeptKind::Newest);
        }
    }
    let mut verdicts = Verdicts::default();
    for digest in catalog.images.keys() {
        match reasons.remove(digest) {
            Some(kept) => drop(verdicts.kept.insert(digest.clone(), kept)),
            None => drop(verdicts.removed.insert(digest.clone())),
        }
    }
    let gone = |digest: &ImageDigest| !verdicts.kept.contains_key(digest);
    let names = catalog.tags.iter().filter(|(_, tag)| gone(&tag.digest));
    verdicts.names = names.map(|(name, _)| name.clone()).collect();
    verdicts
}
