//! Copies of a cluster in one file, and a cluster out of such a copy.
//!
//! # Format
//! A tar archive, version 1: `about.json` (what is in it, with the SHA-256 of the rows), `ca.pem`,
//! `ca-key.pem`, `seal.key` if that lies beside the store, `rows`: each row of the store as it is stored as the length and the bytes of its table's name, its key
//! and its record (lengths: 32 bits, big-endian). Records carry a checksum of their own.
//!
//! # Guarantees
//! - All rows are of one moment: nobody writes while they are read.
//! - A copy is read back, record by record, before it is handed out, and again before it is used.
//! - A restored cluster leads by a higher cluster generation: what agents were told before is older. Its
//!   assignments and routes have higher generations than agents can have seen, so that nobody seems to
//!   have obeyed what he was never told; replicas get ids that were never given.

mod restore;
mod rows;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use longshore_model::TimeMs;
use longshore_model::spec::ContentDigest;
use serde::{Deserialize, Serialize};

pub use self::restore::{Restore, RestoreError, restore};

use crate::cluster::Cluster;
use crate::seal::{SealError, SealKey};
use crate::store::{Repository, SealedStore, StoreError};
pub(crate) use rows::Rows;

/// Version of the format.
const FORMAT: u32 = 2;
/// The oldest version that is read: before secrets were sealed.
const FORMAT_READ_MIN: u32 = 1;
/// Longest copy.
pub const BACKUP_BYTES_MAX: u64 = 1 << 30;

const ABOUT: &str = "about.json";
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const SEAL_KEY: &str = "seal.key";
const ROWS: &str = "rows";

/// What a copy says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the format.
    pub format: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Cluster generation that it is of.
    pub cluster_generation: u64,
    /// When it was made, by the controller's clock.
    pub time_ms: TimeMs,
    /// Version of the controller that made it.
    pub controller_version: String,
    /// Rows in it.
    pub rows: u64,
    /// SHA-256 of them.
    pub rows_sha256: String,
}

/// Why there is no copy, or why one cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is too long.
    #[error("the copy has more than {BACKUP_BYTES_MAX} bytes")]
    TooLong,
    /// It is no copy, or a damaged one.
    #[error("this is no good copy of a cluster: {0}")]
    Damaged(String),
    /// Its secrets are sealed with a key that is not in it.
    #[error(
        "its secrets are sealed with a key that is not in it; name the file of the key with \
         --seal-key ([store] seal_key of the controller.toml of then, or its service's credential)"
    )]
    NoKey,
    /// Its secrets cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The archive.
    #[error("the archive cannot be handled")]
    Archive(#[source] std::io::Error),
}

fn damaged(why: impl Into<String>) -> BackupError {
    BackupError::Damaged(why.into())
}

/// A copy of the cluster as it is.
///
/// # Errors
/// [`BackupError`]; a copy that cannot be read back is an error, too.
pub fn backup(cluster: &Cluster) -> Result<Vec<u8>, BackupError> {
    let rows = {
        // All writes go through this lock.
        let _ledger = cluster.ledger();
        let store = cluster.store();
        Rows::of(store.stored().unwrap_or(&*store))?
    };
    let encoded = rows.encode();
    let about = About {
        format: FORMAT,
        cluster: cluster.meta.cluster.clone(),
        cluster_generation: cluster.meta.cluster_generation,
        time_ms: cluster.now_ms(),
        controller_version: env!("CARGO_PKG_VERSION").to_owned(),
        rows: rows.len(),
        rows_sha256: ContentDigest::of(&encoded).to_string(),
    };
    let about = serde_json::to_vec_pretty(&about).map_err(|error| damaged(error.to_string()))?;
    let ca_key = cluster.ca.key_pem();
    let seal_key = cluster.seal.as_ref().filter(|seal| seal.in_copies);
    let seal_key = seal_key.map(|seal| seal.key.to_text());
    let mut archive = tar::Builder::new(Vec::new());
    let mut parts: Vec<(&str, &[u8])> = vec![
        (ABOUT, &about),
        (CA, cluster.ca.cert_pem().as_bytes()),
        (CA_KEY, ca_key.as_bytes()),
        (ROWS, &encoded),
    ];
    parts.extend(seal_key.as_ref().map(|key| (SEAL_KEY, key.as_bytes())));
    for (name, bytes) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        let added = archive.append_data(&mut header, name, bytes);
        added.map_err(BackupError::Archive)?;
    }
    let whole = archive.into_inner().map_err(BackupError::Archive)?;
    if whole.len() as u64 > BACKUP_BYTES_MAX {
        return Err(BackupError::TooLong);
    }
    Copy::read(&whole, cluster.seal.as_ref().map(|seal| &seal.key))?;
    Ok(whole)
}

/// What a copy says of itself, if it is good: read, understood, its secrets opened.
///
/// # Errors
/// [`BackupError`].
pub fn verify(whole: &[u8], key: Option<&SealKey>) -> Result<About, BackupError> {
    Copy::read(whole, key).map(|copy| copy.about)
}

/// A copy that was read and found good. Shows nothing of what is in it.
struct Copy {
    about: About,
    ca: String,
    ca_key: String,
    /// What its secrets are sealed with, if that is in it.
    seal_key: Option<SealKey>,
    /// As nobody sealed them.
    plain: SealedStore,
}

impl Copy {
    /// `key` opens what is sealed if the key is not in the copy.
    fn read(whole: &[u8], key: Option<&SealKey>) -> Result<Self, BackupError> {
        let mut parts = std::collections::BTreeMap::new();
        let mut archive = tar::Archive::new(whole);
        let not_tar = |error: std::io::Error| damaged(format!("it is no tar archive ({error})"));
        for entry in archive.entries().map_err(not_tar)? {
            let mut entry = entry.map_err(not_tar)?;
            let name = entry.path().map_err(not_tar)?.display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(not_tar)?;
            parts.insert(name, bytes);
        }
        let mut part = |name: &str| {
            let found = parts.remove(name);
            found.ok_or_else(|| damaged(format!("{name} is not in it")))
        };
        let text = |bytes: Vec<u8>, name: &str| {
            String::from_utf8(bytes).map_err(|_| damaged(format!("{name} is no text")))
        };
        let about: About = serde_json::from_slice(&part(ABOUT)?)
            .map_err(|error| damaged(format!("{ABOUT}: {error}")))?;
        if !(FORMAT_READ_MIN..=FORMAT).contains(&about.format) {
            let format = about.format;
            return Err(damaged(format!(
                "its format is {format}, and this controller knows {FORMAT}"
            )));
        }
        let encoded = part(ROWS)?;
        let (ca, ca_key) = (text(part(CA)?, CA)?, text(part(CA_KEY)?, CA_KEY)?);
        let seal_key = parts.remove(SEAL_KEY).map(|bytes| {
            let read = SealKey::from_text(&text(bytes, SEAL_KEY)?);
            read.ok_or_else(|| damaged(format!("{SEAL_KEY} is no key")))
        });
        let seal_key = seal_key.transpose()?;
        if ContentDigest::of(&encoded).to_string() != about.rows_sha256 {
            return Err(damaged("its rows are not those that were copied"));
        }
        let rows = Rows::decode(&encoded).map_err(damaged)?;
        if rows.len() != about.rows {
            return Err(damaged("rows are missing"));
        }
        // Every record's own checksum, and what it means.
        rows.check()?;
        let key = seal_key.as_ref().or(key);
        let plain = SealedStore::open(Arc::new(rows.in_memory()?), |is_sealed| match key {
            Some(key) => Ok(key.clone()),
            None if is_sealed => Err(BackupError::NoKey),
            None => Ok(SealKey::random()?),
        })?;
        let meta = Repository::verify(&plain)?;
        if meta.cluster != about.cluster {
            return Err(damaged("its store is of another cluster"));
        }
        Ok(Self {
            ca,
            ca_key,
            about,
            seal_key,
            plain,
        })
    }
}

/// What a further controller of a cluster needs of a copy of it. Shows nothing of it.
pub struct Keys {
    /// The cluster.
    pub cluster: String,
    /// Its CA.
    pub ca: String,
    /// The CA's key.
    pub ca_key: String,
    /// What its secrets are sealed with, if that is in the copy.
    pub seal_key: Option<SealKey>,
}

impl Keys {
    /// Those of a copy in a file (`-`: standard input); `key` opens its secrets if the key is not in it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn of_copy(file: &Path, key: Option<&SealKey>) -> Result<Self, BackupError> {
        let mut whole = Vec::new();
        let read = match file == Path::new("-") {
            true => std::io::stdin()
                .lock()
                .take(BACKUP_BYTES_MAX + 1)
                .read_to_end(&mut whole),
            false => std::fs::File::open(file)
                .and_then(|file| file.take(BACKUP_BYTES_MAX + 1).read_to_end(&mut whole)),
        };
        match read.map_err(BackupError::Archive)? as u64 {
            0..=BACKUP_BYTES_MAX => {}
            _ => return Err(BackupError::TooLong),
        }
        let copy = Copy::read(&whole, key)?;
        Ok(Self {
            cluster: copy.about.cluster,
            ca: copy.ca,
            ca_key: copy.ca_key,
            seal_key: copy.seal_key,
        })
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
