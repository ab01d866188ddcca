//! Images that the controller holds itself: their names and what identifies them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest piece of a blob in one message.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Layers of one image; engines stop at 127.
pub const LAYERS_MAX: usize = 256;
/// Longest configuration of an image.
pub const IMAGE_CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Blobs that one question may name.
pub const BLOBS_ASKED_MAX: usize = 512;
/// Names that one question may have.
pub const NAMES_ASKED_MAX: usize = 256;
/// Base-2 logarithm of the largest window of a compressed upload: 8 MiB, what reading it costs in
/// memory.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Longest repository: what registries take.
const REPOSITORY_BYTES_MAX: usize = 255;
/// Longest tag (OCI distribution specification).
const TAG_BYTES_MAX: usize = 128;
/// The tag of a name without one.
const DEFAULT_TAG: &str = "latest";

/// SHA-256 of a manifest, a configuration or an uncompressed layer: `sha256:` and 64 hexadecimal
/// digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest(String);

impl ImageDigest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(&Sha256::digest(bytes))
    }

    /// Of what was hashed already.
    #[must_use]
    pub fn from_sha256(digest: &[u8]) -> Self {
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("sha256:{hex}"))
    }

    /// The whole of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }

    /// As many of its digits as people read.
    #[must_use]
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// It is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be sha256: and 64 hexadecimal digits")]
pub struct NoImageDigest;

impl FromStr for ImageDigest {
    type Err = NoImageDigest;
    fn from_str(text: &str) -> Result<Self, NoImageDigest> {
        let hex = text.strip_prefix("sha256:").ok_or(NoImageDigest)?;
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match hex.len() == 64 && hex.bytes().all(is_hex) {
            true => Ok(Self(text.to_owned())),
            false => Err(NoImageDigest),
        }
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = NoImageDigest;
    fn try_from(text: String) -> Result<Self, NoImageDigest> {
        text.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> String {
        digest.0
    }
}

/// Name of an image, as the engine shows it: `docker.io/library/web` is `web:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    repository: String,
    tag: String,
}

/// Why a text is no name of an image that the controller can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoImageName {
    /// The repository.
    #[error(
        "is no image name: it is made of a-z, 0-9, '.', '_', '-' and '/', at most 255 characters, \
         such as shop/web:1"
    )]
    Repository,
    /// The tag.
    #[error(
        "has no valid tag: after the ':' come letters, digits, '.', '_' and '-', at most 128, the \
         first no '.' or '-'"
    )]
    Tag,
    /// It ends with `@sha256:…`.
    #[error("names a digest; only names with a tag are held under it")]
    Pinned,
    /// Its registry has a port.
    #[error("names a registry with a port; only names without one can be held")]
    Port,
}

impl ImageName {
    /// `shop/web`
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `1`
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

/// A repository in the engine's short form. None: it is none that can be held.
#[must_use]
pub fn repository(text: &str) -> Option<&str> {
    let short = ["docker.io/", "index.docker.io/"]
        .iter()
        .find_map(|hub| text.strip_prefix(hub))
        .unwrap_or(text);
    let short = match short.strip_prefix("library/") {
        Some(rest) if !rest.contains('/') => rest,
        _ => short,
    };
    let fits = short.len() <= REPOSITORY_BYTES_MAX && short.split('/').all(is_component);
    fits.then_some(short)
}

/// Alphanumerics with separators between them, each `.`, `_`, `__` or any number of `-` (OCI
/// distribution specification).
fn is_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = (bytes.first(), bytes.last());
    let (Some(first), Some(last)) = ends else {
        return false;
    };
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    is_word(*first)
        && is_word(*last)
        && separators
            .filter(|between| !between.is_empty())
            .all(|between| {
                matches!(between, "." | "_" | "__") || between.bytes().all(|b| b == b'-')
            })
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    text.len() <= TAG_BYTES_MAX
        && bytes.next().is_some_and(is_word)
        && bytes.all(|b| is_word(b) || b == b'.' || b == b'-')
}

impl FromStr for ImageName {
    type Err = NoImageName;
    fn from_str(text: &str) -> Result<Self, NoImageName> {
        if text.contains('@') {
            return Err(NoImageName::Pinned);
        }
        let last = text.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match text.get(last..).and_then(|name| name.find(':')) {
            Some(colon) => (
                text.get(..last + colon).unwrap_or_default(),
                text.get(last + colon + 1..).unwrap_or_default(),
            ),
            None => (text, DEFAULT_TAG),
        };
        if path.contains(':') {
            return Err(NoImageName::Port);
        }
        if !is_tag(tag) {
            return Err(NoImageName::Tag);
        }
        Ok(Self {
            repository: repository(path).ok_or(NoImageName::Repository)?.to_owned(),
            tag: tag.to_owned(),
        })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl TryFrom<String> for ImageName {
    type Error = NoImageName;
    fn try_from(text: String) -> Result<Self, NoImageName> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> String {
        name.to_string()
    }
}

/// Why engines take no such image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoImageReference {
    /// `https://…`
    #[error("begins as the address of a page; a registry is named by its host alone")]
    Scheme,
    /// `Shop/Web`: only the host may have them.
    #[error("has capitals in its repository; there are none")]
    Capitals,
    /// What is before the first `/`.
    #[error("has no host of a registry before its first '/'")]
    Registry,
    /// Anything else before tag and digest.
    #[error(
        "is no image reference: its repository is made of a-z, 0-9, '.', '_', '-' and '/', at most \
         255 characters"
    )]
    Repository,
    /// The tag.
    #[error(
        "has no valid tag: after the ':' come letters, digits, '.', '_' and '-', at most 128, the \
         first no '.' or '-'"
    )]
    Tag,
    /// What is behind the `@`.
    #[error("has no valid digest: after the '@' comes sha256: and 64 hexadecimal digits")]
    Digest,
}

/// Is it a reference that engines take: `[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]`
/// (`distribution/reference`)?
///
/// # Errors
/// [`NoImageReference`]: which part of it is wrong.
pub fn check_reference(text: &str) -> Result<(), NoImageReference> {
    use NoImageReference::{Capitals, Digest, Registry, Repository, Scheme, Tag};
    if text.contains("://") {
        return Err(Scheme);
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err(Digest);
    }
    let (host, rest) = split_host(name);
    if host.is_some_and(|host| !is_host(host)) {
        return Err(Registry);
    }
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(Tag);
    }
    let bytes = path.len() + host.map_or(0, |host| host.len() + 1);
    // An engine would take it for an image's own id.
    let is_id = path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit());
    match path.split('/').all(is_component) && bytes <= REPOSITORY_BYTES_MAX && !is_id {
        true => Ok(()),
        false if path.to_ascii_lowercase().split('/').all(is_component) && !is_id => Err(Capitals),
        false => Err(Repository),
    }
}

/// What is before the first `/` names a registry if it cannot be part of a repository.
fn split_host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((host, rest))
            if host.contains(['.', ':'])
                || host == "localhost"
                || host.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(host), rest)
        }
        _ => (None, name),
    }
}

fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let ends = !label.starts_with('-') && !label.ends_with('-');
        !label.is_empty() && ends && label.bytes().all(plain)
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let address = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    if let Some((address, rest)) = address {
        let is_address = address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        let rest_fits = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return !address.is_empty() && is_address && rest_fits;
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

/// Of the algorithms that engines know.
fn is_digest(text: &str) -> bool {
    let digits = |most| {
        move |hex: &str| {
            let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            hex.len() == most && hex.bytes().all(is_hex)
        }
    };
    let of = |prefix, most| text.strip_prefix(prefix).is_some_and(digits(most));
    of("sha256:", 64) || of("sha384:", 96) || of("sha512:", 128)
}

/// The image of a container: a name, and what exactly is meant by it where the controller holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRef {
    /// As the user wrote it.
    pub name: String,
    /// None: whatever its registry gives.
    pub digest: Option<ImageDigest>,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            None => f.write_str(&self.name),
            Some(digest) => write!(f, "{}@{digest}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_engine_reads_them() {
        let table = [
            ("web", Ok("web:latest")),
            ("shop/web:1", Ok("shop/web:1")),
            ("docker.io/library/web:1", Ok("web:1")),
            ("docker.io/shop/web", Ok("shop/web:latest")),
            ("library/web:V1.2-rc_3", Ok("web:V1.2-rc_3")),
            ("ghcr.io/a/b--c__d.e_f:x", Ok("ghcr.io/a/b--c__d.e_f:x")),
            ("localhost:5000/web:1", Err(NoImageName::Port)),
            ("web@sha256:00", Err(NoImageName::Pinned)),
            ("web:", Err(NoImageName::Tag)),
            ("web:-1", Err(NoImageName::Tag)),
            ("web:a:b", Err(NoImageName::Tag)),
            ("", Err(NoImageName::Repository)),
            ("Shop/web", Err(NoImageName::Repository)),
            ("a//b", Err(NoImageName::Repository)),
            ("a/..", Err(NoImageName::Repository)),
            ("a/../b", Err(NoImageName::Repository)),
            ("a..b", Err(NoImageName::Repository)),
            ("a_-b", Err(NoImageName::Repository)),
            ("-a", Err(NoImageName::Repository)),
            ("a b", Err(NoImageName::Repository)),
        ];
        for (text, expected) in table {
            let read = text.parse::<ImageName>().map(|name| name.to_string());
            assert_eq!(read, expected.map(str::to_owned), "{text}");
        }
        let long = "a".repeat(256);
        assert_eq!(long.parse::<ImageName>(), Err(NoImageName::Repository));
    }

    #[test]
    fn a_digest_is_exactly_one() {
        let good = ImageDigest::of(b"");
        assert_eq!(good.as_str().len(), 71);
        assert_eq!(good.short(), "e3b0c44298fc");
        assert_eq!(good.as_str().parse(), Ok(good.clone()));
        let bad = [good.hex().to_owned(), good.as_str().to_uppercase()];
        for text in bad.iter().map(String::as_str).chain(["sha256:../x", ""]) {
            assert_eq!(text.parse::<ImageDigest>(), Err(NoImageDigest), "{text}");
        }
    }
}
