//! Images that the controller holds, brought to this host's own engine.
//!
//! The engine pulls them from this agent, which listens on the host's loopback address and speaks
//! the read half of the OCI distribution API ([`serve`]); each request is answered from the
//! controller as it streams in, with a few pieces in memory. Where the engine does not take images
//! from there, they are loaded as one archive instead (`crate::runtime`).

pub mod ahead;
#[cfg(test)]
mod ahead_tests;
pub mod http;
mod remote;
pub mod serve;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use longshore_model::{ImageDigest, ImageName, ImageRef, SecretText};

pub use self::remote::Remote;

/// Registry that no image is ever fetched from: images are named so on this host once they are
/// here, by what they are, so that a name that moves on changes no container.
const PINNED: &str = "longshore.local";

/// Why something did not come.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// No connection.
    #[error("the controller cannot be reached: {0}")]
    Away(String),
    /// It said no, or broke off.
    #[error("the controller does not give it: {0}")]
    Refused(String),
    /// A part that begins after the end.
    #[error("{0}")]
    Beyond(String),
}

/// A manifest, as the controller has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Exactly the bytes that `digest` is of.
    pub bytes: Vec<u8>,
    /// What they are.
    pub media_type: String,
    /// Of them.
    pub digest: String,
}

/// Pieces of a blob, in order.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Vec<u8>, SourceError>> + Send>>;

/// A part of a blob.
pub struct Blob {
    /// Size of the whole.
    pub total: u64,
    /// The part.
    pub pieces: Pieces,
}

/// Where images come from. None: it is not held there.
#[tonic::async_trait]
pub trait ImageSource: Send + Sync + 'static {
    /// A manifest by repository and tag, or by digest.
    async fn manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Manifest>, SourceError>;

    /// A blob from `offset` on; `length` 0: to its end.
    async fn blob(
        &self,
        digest: &ImageDigest,
        offset: u64,
        length: u64,
    ) -> Result<Option<Blob>, SourceError>;

    /// Tags of a repository.
    async fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, SourceError>;

    /// What this node may be asked to start next, most urgent first. Says how it went with what
    /// was said before; where that names all, the answer may wait so long for more.
    async fn ahead(&self, seen: &[Seen], wait: Duration) -> Result<Vec<Wanted>, SourceError>;

    /// With what an image is pulled from its registry. For one pull: they are not kept.
    async fn credentials(&self, image: &str) -> Result<Option<Credentials>, SourceError>;
}

/// An image that this node should have before it needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Which.
    pub image: ImageRef,
    /// When somebody asked for it by hand; 0: nobody did.
    pub asked_ms: u64,
}

/// How far this node is with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub wanted: Wanted,
    /// How far.
    pub stage: Stage,
}

/// How far this node is with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// For what.
    Waiting(&'static str),
    /// It comes.
    Fetching,
    /// It is here.
    Here,
    /// Why; it is tried again later.
    Failed(String),
}

/// Credentials for a registry. Their `Debug` shows no password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// As whom.
    pub user: String,
    /// Or a token.
    pub password: SecretText,
}

/// The name under which the engine of this host has an image.
#[must_use]
pub fn local_name(image: &ImageRef) -> String {
    match (&image.digest, image.name.parse::<ImageName>()) {
        (Some(digest), Ok(name)) => {
            format!("{PINNED}/{}:{}", name.repository(), local_tag(digest))
        }
        _ => image.name.clone(),
    }
}

/// The tag of [`local_name`].
#[must_use]
pub fn local_tag(digest: &ImageDigest) -> String {
    format!("sha256-{}", digest.hex())
}
