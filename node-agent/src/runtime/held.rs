//! Images that the controller holds, brought into the engine: pulled from this agent by layers, or
//! loaded whole where the engine does not take that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::models::SystemInfo;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use longshore_model::{ImageDigest, ImageName, ImageRef};
use serde::Deserialize;
use tokio::time::timeout;

use super::archive::{self, BLOCK};
use super::docker::{CHANGE_DEADLINE, DockerRuntime, LOOK_DEADLINE, PULL_SILENCE};
use super::pull::readable;
use super::words::stuck;
use super::{ErrorKind, RuntimeError};
use crate::images::{ImageSource, Manifest, SourceError, local_name, local_tag};

/// Longest time that an image is loaded.
const LOAD_DEADLINE: Duration = Duration::from_secs(3_600);
/// Largest configuration and manifest that are taken.
const SMALL_BYTES_MAX: u64 = 4 << 20;
/// What an engine says that wants TLS of this agent, or whose loopback is another one (rootless).
const NOT_HERE: [&str; 2] = [
    "server gave HTTP response to HTTPS client",
    "connection refused",
];

/// Where images of the controller come from.
pub struct Held {
    /// The controller.
    pub source: Arc<dyn ImageSource>,
    /// Where this agent serves them on 127.0.0.1; none: it does not.
    pub port: Option<u16>,
    /// Why it does not, where it should.
    pub fault: Option<String>,
}

impl Held {
    /// The port that the engine pulls from; none: images are loaded whole.
    fn pulls(&self, info: &SystemInfo) -> Option<u16> {
        self.port.filter(|port| takes_plain(info, *port))
    }

    /// Why images are loaded whole, with the way out; none: they are not, or shall be.
    #[must_use]
    pub fn advice(&self, info: &SystemInfo) -> Option<String> {
        if self.port.is_none() || self.pulls(info).is_some() {
            return self.fault.clone();
        }
        Some(
            "insecure-registries in its daemon.json leaves loopback out: add \"127.0.0.0/8\" \
             there, then: systemctl reload docker"
                .to_owned(),
        )
    }
}

/// Does the engine take images from the host itself without TLS? It does by default; since Docker
/// 29.10 not where `insecure-registries` is set and leaves loopback out.
fn takes_plain(info: &SystemInfo, port: u16) -> bool {
    let Some(config) = &info.registry_config else {
        return true;
    };
    let Some(ranges) = &config.insecure_registry_cidrs else {
        return true;
    };
    let covers = |range: &String| range == "0.0.0.0/0" || range.starts_with("127.0.0.");
    let here = format!("127.0.0.1:{port}");
    let named = config.index_configs.as_ref();
    let named = named.and_then(|named| named.get(&here));
    ranges.iter().any(covers) || named.is_some_and(|index| index.secure == Some(false))
}

#[derive(Deserialize)]
struct Descriptor {
    digest: ImageDigest,
    size: u64,
}

/// As much of a manifest as counts here.
#[derive(Deserialize)]
struct Parts {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

fn refused(attempted: &str, detail: impl ToString) -> RuntimeError {
    RuntimeError {
        kind: ErrorKind::Refused,
        attempted: attempted.to_owned(),
        detail: detail.to_string(),
    }
}

impl DockerRuntime {
    /// Brings an image of the controller here, under its own name and its user's.
    pub(super) async fn pull_held(
        &self,
        image: &ImageRef,
        digest: &ImageDigest,
    ) -> Result<(), RuntimeError> {
        let attempted = format!("fetching {} from the controller", image.name);
        let Some(held) = self.held() else {
            return Err(refused(&attempted, "this agent fetches no images"));
        };
        let name: ImageName = image.name.parse().map_err(|e| refused(&attempted, e))?;
        let ask = |docker: Docker| async move {
            let info = docker.info().await?;
            Ok((docker, info))
        };
        let (docker, info) = self.call(&*attempted, LOOK_DEADLINE, ask).await?;
        if let Some(port) = held.pulls(&info) {
            let reference = format!("127.0.0.1:{port}/{}@{digest}", name.repository());
            let pulled = self.fetch(&attempted, &reference, "", None).await;
            match pulled {
                Err(error) if NOT_HERE.iter().any(|words| error.detail.contains(words)) => {}
                other => {
                    other?;
                    return self.name_image(&attempted, &reference, &name, digest).await;
                }
            }
        }
        self.load(&docker, &attempted, held, (image, digest)).await
    }

    /// Fetches what the engine can fetch by itself. Ends when nothing moved for a while.
    pub(super) async fn fetch(
        &self,
        attempted: &str,
        reference: &str,
        tag: &str,
        credentials: Option<DockerCredentials>,
    ) -> Result<(), RuntimeError> {
        let docker = self
            .call(attempted, LOOK_DEADLINE, |docker| async { Ok(docker) })
            .await?;
        let docker = match credentials {
            Some(_) => docker.with_request_modifier(readable),
            None => docker,
        };
        let options = CreateImageOptionsBuilder::new()
            .from_image(reference)
            .tag(tag)
            .build();
        let mut progress = docker.create_image(Some(options), None, credentials);
        loop {
            let step = timeout(PULL_SILENCE, progress.next()).await;
            match step.map_err(|_| stuck(attempted.to_owned(), PULL_SILENCE))? {
                None => return Ok(()),
                Some(Err(error)) => return Err(self.sort(attempted.to_owned(), &error)),
                Some(Ok(info)) => {
                    if let Some(detail) = info.error_detail.and_then(|error| error.message) {
                        return Err(refused(attempted, detail));
                    }
                }
            }
        }
    }

    async fn name_image(
        &self,
        attempted: &str,
        reference: &str,
        name: &ImageName,
        digest: &ImageDigest,
    ) -> Result<(), RuntimeError> {
        let held = local_name(&ImageRef {
            name: name.to_string(),
            digest: Some(digest.clone()),
        });
        let (repository, _) = held.rsplit_once(':').unwrap_or((&held, ""));
        // By what it is, last: once that name is there, all is done.
        let names = [
            (name.repository().to_owned(), name.tag().to_owned()),
            (repository.to_owned(), local_tag(digest)),
        ];
        for (repository, tag) in names {
            let options = TagImageOptionsBuilder::new()
                .repo(&repository)
                .tag(&tag)
                .build();
            let call =
                |docker: Docker| async move { docker.tag_image(reference, Some(options)).await };
            self.call(attempted, CHANGE_DEADLINE, call).await?;
        }
        Ok(())
    }

    async fn load(
        &self,
        docker: &Docker,
        attempted: &str,
        held: &Held,
        (image, digest): (&ImageRef, &ImageDigest),
    ) -> Result<(), RuntimeError> {
        let source_error = |error: SourceError| refused(attempted, error);
        let manifest = held.source.manifest("any", digest.as_str()).await;
        let manifest = manifest.map_err(source_error)?;
        let manifest =
            manifest.ok_or_else(|| refused(attempted, "it is not held there any more"))?;
        let archive = archive_of(Arc::clone(&held.source), &manifest, image);
        let archive = archive.map_err(|why| refused(attempted, why))?;
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let mut answer = Box::pin(docker.import_image_stream(options, archive, None));
        let load = async {
            while let Some(step) = answer.next().await {
                let step = step.map_err(|error| self.sort(attempted.to_owned(), &error))?;
                if let Some(detail) = step.error_detail.and_then(|error| error.message) {
                    return Err(refused(attempted, detail));
                }
            }
            Ok(())
        };
        match timeout(LOAD_DEADLINE, load).await {
            Ok(loaded) => loaded,
            Err(_) => Err(stuck(attempted.to_owned(), LOAD_DEADLINE)),
        }
    }
}

type Piece = Result<hyper::body::Bytes, SourceError>;

/// An image as `docker load` reads it, as it comes from the controller.
fn archive_of(
    source: Arc<dyn ImageSource>,
    manifest: &Manifest,
    image: &ImageRef,
) -> Result<impl Stream<Item = Piece> + Send + use<>, String> {
    let parts: Parts = serde_json::from_slice(&manifest.bytes)
        .map_err(|error| format!("its manifest cannot be read: {error}"))?;
    if parts.config.size > SMALL_BYTES_MAX {
        return Err(format!("its configuration has {} bytes", parts.config.size));
    }
    let file = |blob: &Descriptor| format!("{}.tar", blob.digest.hex());
    let config = format!("{}.json", parts.config.digest.hex());
    let names: Vec<String> = parts.layers.iter().map(file).collect();
    let user = image.name.parse::<ImageName>().map_err(|e| e.to_string())?;
    let index = serde_json::json!([{
        "Config": config,
        "RepoTags": [local_name(image), user.to_string()],
        "Layers": names,
    }]);
    let index = index.to_string().into_bytes();
    let mut entries = vec![(config, parts.config)];
    let mut seen = BTreeSet::new();
    for (name, layer) in names.into_iter().zip(parts.layers) {
        if seen.insert(layer.digest.clone()) {
            entries.push((name, layer));
        }
    }
    let blobs = stream::iter(entries).flat_map(move |(name, blob)| {
        let source = Arc::clone(&source);
        stream::once(entry(source, name, blob)).try_flatten()
    });
    let mut end = archive::header("manifest.json", index.len() as u64).to_vec();
    end.extend(&index);
    end.resize(end.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    Ok(blobs.chain(stream::iter([Ok(end.into())])))
}

/// Header, content and padding of one file of an archive.
async fn entry(
    source: Arc<dyn ImageSource>,
    name: String,
    blob: Descriptor,
) -> Result<impl Stream<Item = Piece> + Send, SourceError> {
    let found = source.blob(&blob.digest, 0, 0).await?;
    let found = found.filter(|found| found.total == blob.size);
    let found = found.ok_or_else(|| {
        SourceError::Refused(format!("blob {} is not as its image says", blob.digest))
    })?;
    let bytes = |piece: Vec<u8>| piece.into();
    let header = archive::header(&name, blob.size).to_vec();
    let padding = usize::try_from(blob.size.next_multiple_of(BLOCK as u64) - blob.size);
    let padding = vec![0; padding.unwrap_or(0)];
    let content = found.pieces.map_ok(bytes);
    let header = stream::iter([Ok(bytes(header))]);
    Ok(header
        .chain(content)
        .chain(stream::iter([Ok(bytes(padding))])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_leaves_loopback_out_is_found() {
        let info = |text: &str| serde_json::from_str::<SystemInfo>(text).unwrap();
        let with = |ranges: &str, index: &str| {
            info(&format!(
                r#"{{"RegistryConfig": {{"InsecureRegistryCIDRs": {ranges}, "IndexConfigs": {index}}}}}"#
            ))
        };
        let named = r#"{"127.0.0.1:5071": {"Name": "127.0.0.1:5071", "Secure": false}}"#;
        let other = r#"{"127.0.0.1:5000": {"Name": "127.0.0.1:5000", "Secure": false}}"#;
        let table = [
            (info("{}"), true),
            (with(r#"["127.0.0.0/8"]"#, "{}"), true),
            (with(r#"["::1/128", "127.0.0.0/8"]"#, "{}"), true),
            (with("[]", "{}"), false),
            (with(r#"["10.0.0.0/8"]"#, "{}"), false),
            (with("[]", named), true),
            (with("[]", other), false),
        ];
        for (info, takes) in table {
            assert_eq!(
                takes_plain(&info, 5071),
                takes,
                "{:?}",
                info.registry_config
            );
        }
    }
}
