//! Reads the archive of an image as it comes, without holding it.
//!
//! Two layouts are in use: `ID/layer.tar` of engines before 25, and `blobs/sha256/…` of OCI since.
//! Layers may be compressed there; what names one is the SHA-256 of its plain archive (its diff
//! id). Which is which is known once all of it was read, so a layer goes into a file on disk, as it
//! will be sent, until its name is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

use data_encoding::HEXLOWER;
use longshore_model::spec::Platform;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Largest configuration or list; as much as the controller takes of a configuration.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// All of them together.
const DOCUMENTS_BYTES_MAX: usize = 16 << 20;
/// One record of an archive: enough to tell what something is.
const RECORD_BYTES: usize = 512;
/// The library's own middle way between time and size.
const LEVEL: i32 = 3;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It broke off, or is no archive.
    #[error("cannot read the image from the engine")]
    Read(#[source] io::Error),
    /// The disk says no.
    #[error("cannot keep a layer in {directory}; TMPDIR names another directory")]
    Spool {
        /// Where.
        directory: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It is not what the engine said before.
    #[error("the engine's archive of the image lacks {0}")]
    Lacks(String),
    /// Who wanted the layers is gone.
    #[error("nobody takes the layers any more")]
    Gone,
}

/// A layer, ready to be sent.
#[derive(Debug)]
pub struct Layer {
    /// `sha256:…` of its plain archive.
    pub digest: String,
    /// Length of its plain archive.
    pub bytes: u64,
    /// Length of the file.
    pub wire_bytes: u64,
    /// Its archive as one zstd frame, from the start.
    pub file: File,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "Config")]
    config: String,
}

#[derive(Deserialize)]
struct Configuration {
    rootfs: RootFs,
}

/// The configuration of one of the images in an archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// What it runs on.
    pub platform: Platform,
    /// SHA-256 of its layers' plain archives, lowest first.
    pub diff_ids: Vec<String>,
    /// `sha256:…` of the configuration.
    pub config: String,
}

#[derive(Deserialize)]
struct MemberConfiguration {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

enum Kind {
    Plain,
    Gzip,
    Zstd,
    Document,
    Other,
}

/// Reads an archive to its end: hands over each of the `missing` layers, once, and gives the
/// configuration of the image whose layers are `diff_ids`, for `platform`. `directory` has room for a layer.
///
/// # Errors
/// [`ArchiveError`]
pub fn read(
    input: impl Read,
    (diff_ids, platform): (&[String], &str),
    mut missing: BTreeSet<String>,
    directory: &Path,
    mut found: impl FnMut(Layer) -> Result<(), ArchiveError>,
) -> Result<Vec<u8>, ArchiveError> {
    let mut archive = tar::Archive::new(input);
    let mut documents = Documents::default();
    for entry in archive.entries().map_err(ArchiveError::Read)? {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(ArchiveError::Read)?;
        let path = path.to_string_lossy().into_owned();
        let head = head(&mut entry).map_err(ArchiveError::Read)?;
        let kind = kind(&head);
        let size = entry.header().size().map_err(ArchiveError::Read)?;
        let whole = io::Cursor::new(head).chain(&mut entry);
        if matches!(kind, Kind::Document) && size <= DOCUMENT_BYTES_MAX {
            documents.read(path, whole)?;
            continue;
        }
        let is_named =
            |digest: &String| path.strip_prefix("blobs/sha256/") == digest.strip_prefix("sha256:");
        let is_there = diff_ids.iter().any(is_named) && !missing.iter().any(is_named);
        if matches!(kind, Kind::Document | Kind::Other) || is_there || missing.is_empty() {
            continue;
        }
        let layer = match kind {
            Kind::Gzip => spool(flate2::read::MultiGzDecoder::new(whole), directory),
            Kind::Zstd => spool(
                zstd::Decoder::new(whole).map_err(ArchiveError::Read)?,
                directory,
            ),
            _ => spool(whole, directory),
        }?;
        if missing.remove(&layer.digest) {
            found(layer)?;
        }
    }
    if let Some(digest) = missing.first() {
        return Err(ArchiveError::Lacks(format!("layer {digest}")));
    }
    configuration(&documents.texts, (diff_ids, platform))
}

/// Lists and configurations of an archive, by path.
#[derive(Default)]
struct Documents {
    texts: BTreeMap<String, Vec<u8>>,
    bytes: usize,
}

impl Documents {
    fn read(&mut self, path: String, whole: impl Read) -> Result<(), ArchiveError> {
        let mut text = Vec::new();
        let mut whole = whole.take(DOCUMENT_BYTES_MAX);
        whole.read_to_end(&mut text).map_err(ArchiveError::Read)?;
        self.bytes += text.len();
        if self.bytes > DOCUMENTS_BYTES_MAX {
            let too_much = io::Error::other("it holds more than an image has");
            return Err(ArchiveError::Read(too_much));
        }
        self.texts.insert(path, text);
        Ok(())
    }
}

/// Reads an archive to its end: which images are in it, by platform.
///
/// # Errors
/// [`ArchiveError`]
pub fn members(input: impl Read) -> Result<Vec<Member>, ArchiveError> {
    let mut archive = tar::Archive::new(input);
    let mut documents = Documents::default();
    for entry in archive.entries().map_err(ArchiveError::Read)? {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        let size = entry.header().size().map_err(ArchiveError::Read)?;
        if !entry.header().entry_type().is_file() || size > DOCUMENT_BYTES_MAX {
            continue;
        }
        let path = entry.path().map_err(ArchiveError::Read)?;
        let path = path.to_string_lossy().into_owned();
        let head = head(&mut entry).map_err(ArchiveError::Read)?;
        if matches!(kind(&head), Kind::Document) {
            documents.read(path, io::Cursor::new(head).chain(&mut entry))?;
        }
    }
    // What builders say of an image is kept as one of an unknown platform.
    let member = |text: &Vec<u8>| {
        let read: MemberConfiguration = serde_json::from_slice(text).ok()?;
        let platform = parsed(&read).filter(|platform| &*platform.os != "unknown")?;
        Some(Member {
            platform,
            diff_ids: read.rootfs.diff_ids,
            config: digest(text),
        })
    };
    Ok(documents.texts.values().filter_map(member).collect())
}

fn parsed(read: &MemberConfiguration) -> Option<Platform> {
    let (os, arch, variant) = (&read.os, &read.architecture, &read.variant);
    Platform::parse(&match variant.as_str() {
        "" => format!("{os}/{arch}"),
        _ => format!("{os}/{arch}/{variant}"),
    })
}

/// The configuration that names these layers, for this platform: where there are several, one does.
fn configuration(
    documents: &BTreeMap<String, Vec<u8>>,
    (diff_ids, platform): (&[String], &str),
) -> Result<Vec<u8>, ArchiveError> {
    let lacks = |what: &str| ArchiveError::Lacks(what.to_owned());
    let list = documents.get("manifest.json");
    let list = list.ok_or_else(|| lacks("manifest.json"))?;
    let list: Vec<Manifest> = serde_json::from_slice(list)
        .map_err(|error| ArchiveError::Read(io::Error::other(error)))?;
    let fits = |text: &&Vec<u8>| {
        let read = serde_json::from_slice::<Configuration>(text);
        read.is_ok_and(|read| read.rootfs.diff_ids == diff_ids)
    };
    // Images of two platforms may have the same layers: none of a program.
    let wanted = Platform::parse(platform);
    let is_for = |text: &&Vec<u8>| {
        let read = serde_json::from_slice(text)
            .ok()
            .and_then(|read| parsed(&read));
        read == wanted
    };
    // The list may name the engine's own platform alone.
    let listed = list.iter().filter_map(|one| documents.get(&one.config));
    let texts: Vec<_> = listed.chain(documents.values()).filter(fits).collect();
    let found = texts.iter().copied().find(|text| is_for(text));
    let found = found.or(texts.first().copied()).cloned();
    found.ok_or_else(|| lacks("its configuration; if it was built anew meanwhile, push again"))
}

/// `sha256:…` of these bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(bytes)))
}

fn head(entry: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(RECORD_BYTES);
    entry.take(RECORD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn kind(head: &[u8]) -> Kind {
    match head {
        [0x1f, 0x8b, ..] => Kind::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Kind::Zstd,
        head if head.get(257..262) == Some(b"ustar") => Kind::Plain,
        // An archive without a file.
        head if head.len() == RECORD_BYTES && head.iter().all(|byte| *byte == 0) => Kind::Plain,
        [b'{' | b'[', ..] => Kind::Document,
        head if head.len() == RECORD_BYTES => Kind::Plain,
        _ => Kind::Other,
    }
}

/// Reads a layer to its end.
fn spool(mut plain: impl Read, directory: &Path) -> Result<Layer, ArchiveError> {
    let full = |source| ArchiveError::Spool {
        directory: directory.display().to_string(),
        source,
    };
    let file = tempfile::tempfile_in(directory).map_err(full)?;
    let mut out = zstd::Encoder::new(file, LEVEL).map_err(full)?;
    let mut sum = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = plain.read(&mut buffer).map_err(ArchiveError::Read)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            break;
        };
        sum.update(part);
        bytes += read as u64;
        out.write_all(part).map_err(full)?;
    }
    let mut file = out.finish().map_err(full)?;
    let wire_bytes = file.stream_position().map_err(full)?;
    file.rewind().map_err(full)?;
    Ok(Layer {
        digest: format!("sha256:{}", HEXLOWER.encode(&sum.finalize())),
        bytes,
        wire_bytes,
        file,
    })
}

/// In parts of at most `bytes`, to the end.
pub fn parts(file: File, bytes: usize) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let mut file = BufReader::with_capacity(bytes, file);
    std::iter::from_fn(move || {
        let mut part = Vec::with_capacity(bytes);
        match (&mut file).take(bytes as u64).read_to_end(&mut part) {
            Ok(0) => None,
            Ok(_) => Some(Ok(part)),
            Err(error) => Some(Err(error)),
        }
    })
}
