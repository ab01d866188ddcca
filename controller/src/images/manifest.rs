//! Manifests as registries serve them, made from what was pushed.

use longshore_model::ImageDigest;
use longshore_model::spec::Platform;
use oci_spec::OciSpecError;
use oci_spec::image::{Descriptor, Digest, ImageManifestBuilder, MediaType};
use serde::Deserialize;

use super::BlobRef;

/// Media type of what [`build`] makes.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Why a configuration cannot be an image's.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is none.
    #[error("it is no image configuration")]
    Unreadable(#[source] serde_json::Error),
    /// A digest in it.
    #[error("its rootfs names {0:?}, which is no sha256 digest")]
    Digest(String),
    /// Its platform.
    #[error("its platform {0:?} is none")]
    Platform(String),
}

/// As much of a configuration as counts here; the rest is the engine's.
#[derive(Deserialize)]
struct Config {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// Layers, lowest first, and platform of a configuration.
///
/// # Errors
/// [`ConfigError`] if it is none.
pub fn read_config(bytes: &[u8]) -> Result<(Vec<ImageDigest>, Platform), ConfigError> {
    let config: Config = serde_json::from_slice(bytes).map_err(ConfigError::Unreadable)?;
    let digest = |text: String| text.parse().map_err(|_| ConfigError::Digest(text));
    let layers = config.rootfs.diff_ids.into_iter().map(digest);
    let layers = layers.collect::<Result<Vec<ImageDigest>, _>>()?;
    let mut words = format!("{}/{}", config.os, config.architecture);
    if !config.variant.is_empty() {
        words = format!("{words}/{}", config.variant);
    }
    let platform = Platform::parse(&words).ok_or(ConfigError::Platform(words))?;
    Ok((layers, platform))
}

/// The manifest of an image of uncompressed layers. The same image always has the same.
///
/// # Errors
/// None that a digest and a size could cause.
pub fn build(config: &BlobRef, layers: &[BlobRef]) -> Result<String, OciSpecError> {
    let describe = |kind: MediaType, blob: &BlobRef| -> Result<Descriptor, OciSpecError> {
        let digest: Digest = blob.digest.as_str().parse()?;
        Ok(Descriptor::new(kind, blob.bytes, digest))
    };
    let layers = layers.iter();
    let layers = layers.map(|layer| describe(MediaType::ImageLayer, layer));
    ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(describe(MediaType::ImageConfig, config)?)
        .layers(layers.collect::<Result<Vec<_>, _>>()?)
        .build()?
        .to_string()
}
