//! The engine where the command runs: images are built by it and read from it. Nothing else of
//! this program talks to it.

pub mod archive;
pub mod build;
mod buildkit;
pub mod context;
pub mod dockerfile;
mod host;
pub mod ignored;

use bollard::errors::Error;
use bollard::query_parameters::TagImageOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio_stream::{Stream, StreamExt};

use crate::failure::{Exit, Failure};
use host::Host;

/// A build may run for long before its first word.
const TIMEOUT_S: u64 = 3_600;

/// Why the engine did not do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers there.
    #[error("there is no Docker engine at {address}")]
    Absent {
        /// Where it was looked for.
        address: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An address that cannot be used.
    #[error("{0}")]
    Address(String),
    /// It has no such image.
    #[error("the engine here has no image {0:?}")]
    NoImage(String),
    /// It refused, or the connection broke.
    #[error("the engine cannot {attempt}")]
    Refused {
        /// What was asked for.
        attempt: String,
        /// Cause.
        #[source]
        source: Error,
    },
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            EngineError::Absent { source, .. } => failure.because(source).hint(
                "start it, or say where it is: DOCKER_HOST=unix:///run/docker.sock; without one, \
                 build and push where there is one, then: controllerctl up --no-build",
            ),
            EngineError::Address(_) => failure.exit(Exit::Usage),
            EngineError::NoImage(_) => failure.hint("docker images lists those that it has"),
            EngineError::Refused { source, .. } => failure.because(source),
        }
    }
}

/// An engine that answers.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    /// As `DOCKER_HOST` has it.
    host: String,
}

/// What the engine says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// By what the engine knows it: the digest of its configuration, or of its manifest.
    pub id: String,
    /// SHA-256 of its layers' uncompressed archives, lowest first.
    pub diff_ids: Vec<String>,
    /// `linux/amd64`
    pub platform: String,
}

impl Engine {
    /// Connects as docker would: `DOCKER_HOST`, else the current context of docker, else the usual
    /// socket.
    ///
    /// # Errors
    /// [`EngineError::Absent`], [`EngineError::Address`].
    pub async fn connect() -> Result<Self, EngineError> {
        let host = host::choose(&|name| std::env::var(name).ok())?;
        let address = host.to_string();
        let absent = |source: Error| EngineError::Absent {
            address: address.clone(),
            source: source.into(),
        };
        let docker = match &host {
            Host::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), TIMEOUT_S, API_DEFAULT_VERSION)
            }
            Host::Tcp(authority) => {
                Docker::connect_with_http(authority, TIMEOUT_S, API_DEFAULT_VERSION)
            }
        };
        let docker = docker.map_err(absent)?;
        let docker = docker.negotiate_version().await.map_err(absent)?;
        Ok(Self {
            docker,
            host: address,
        })
    }

    /// Looks at an image. None: it has none of that name.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn image(&self, name: &str) -> Result<Option<Image>, EngineError> {
        let found = match self.docker.inspect_image(name).await {
            Ok(found) => found,
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return Ok(None),
            Err(source) => return Err(refused(format!("look at image {name:?}"), source)),
        };
        let words = [found.os, found.architecture, found.variant];
        let words = words.into_iter().flatten().filter(|word| !word.is_empty());
        let layers = found.root_fs.and_then(|fs| fs.layers);
        Ok(Some(Image {
            id: found.id.unwrap_or_default(),
            diff_ids: layers.unwrap_or_default(),
            platform: words.collect::<Vec<_>>().join("/"),
        }))
    }

    /// The archive of an image, as `docker save` writes it.
    pub fn export(
        &self,
        name: &str,
    ) -> impl Stream<Item = Result<bytes::Bytes, std::io::Error>> + Send + 'static + use<> {
        let stream = self.docker.export_image(name);
        stream.map(|part| part.map_err(std::io::Error::other))
    }

    /// Gives an image a further name.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn tag(&self, image: &str, name: &str) -> Result<(), EngineError> {
        let (repo, tag) = match name.rsplit_once(':') {
            Some((repo, tag)) if !tag.contains('/') => (repo, tag),
            _ => (name, "latest"),
        };
        let options = TagImageOptionsBuilder::default().repo(repo).tag(tag);
        let done = self.docker.tag_image(image, Some(options.build())).await;
        done.map_err(|source| refused(format!("name image {image:?} {name:?}"), source))
    }
}

fn refused(attempt: String, source: Error) -> EngineError {
    EngineError::Refused { attempt, source }
}
