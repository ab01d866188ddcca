//! What requests of the OCI distribution API ask for. Pure.

use longshore_model::ImageDigest;
use longshore_model::image::repository;

/// A request that is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Is this a registry?
    Base,
    /// A manifest.
    Manifest {
        /// Of which images.
        repository: String,
        /// Tag or digest.
        reference: String,
    },
    /// Tags of a repository.
    Tags(String),
    /// A blob.
    Blob(ImageDigest),
}

/// Reads a path. None: nothing that is served.
#[must_use]
pub fn asked(path: &str) -> Option<Asked> {
    let rest = path.strip_prefix("/v2")?;
    if rest.is_empty() || rest == "/" {
        return Some(Asked::Base);
    }
    let rest = rest.strip_prefix('/')?;
    let (rest, last) = rest.rsplit_once('/')?;
    let (name, kind) = rest.rsplit_once('/')?;
    let repository = repository(name)?.to_owned();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b":._-".contains(&b);
    match kind {
        "manifests" if last.len() <= 128 && last.bytes().all(is_plain) => Some(Asked::Manifest {
            repository,
            reference: last.to_owned(),
        }),
        "tags" if last == "list" => Some(Asked::Tags(repository)),
        "blobs" => last.parse().ok().map(Asked::Blob),
        _ => None,
    }
}

/// Tags after `last`, in their order, at most `n` of them, as the query asks; and whether there are
/// more.
#[must_use]
pub fn page(mut tags: Vec<String>, query: &str) -> (Vec<String>, bool) {
    let value = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    tags.sort_unstable();
    if let Some(last) = value("last") {
        tags.retain(|tag| tag.as_str() > last);
    }
    let most = value("n").and_then(|n| n.parse().ok());
    let most = most.unwrap_or(usize::MAX);
    let more = tags.len() > most;
    tags.truncate(most);
    // Nothing to go on from.
    let more = more && !tags.is_empty();
    (tags, more)
}

/// Do conditions with entity tags name this digest? `*` names any; weak tags are as good, since
/// what has a digest never changes.
#[must_use]
pub fn names(condition: &str, digest: &str) -> bool {
    let mut each = condition.split(',').map(str::trim);
    each.any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest
    })
}

/// First byte, and last if it is said, of a `Range` with one part. None: the whole is given, which
/// is allowed for whatever is not understood.
#[must_use]
pub fn range(header: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
    let first = first.trim().parse().ok()?;
    let last = match last.trim() {
        "" => None,
        last => Some(last.parse().ok()?),
    };
    last.is_none_or(|last| first <= last)
        .then_some((first, last))
}
