//! A cluster out of a copy, in a data directory that no controller uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use longshore_identity::PkiError;
use longshore_identity::ca::ClusterCa;

use super::rows::Rows;
use super::{About, BACKUP_BYTES_MAX, BackupError, Copy};
use crate::files::{self, FileError};
use crate::init::{DataDir, InitError, issue_server};
use crate::seal::{KeyFile, SealError, SealKey};
use crate::store::{RedbStore, Repository, SealedStore, StoreError};

/// What shall be restored where.
#[derive(Debug, Clone)]
pub struct Restore {
    /// Directory of the cluster's state and keys.
    pub data_dir: PathBuf,
    /// The copy.
    pub file: PathBuf,
    /// A store that is there is set aside and replaced.
    pub replace: bool,
    /// File of the key that the new store's secrets are sealed with, if it does not lie beside the store.
    pub seal_key: Option<PathBuf>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The copy.
    #[error("{}", file.display())]
    Backup {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BackupError,
    },
    /// The file of the copy.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// There is a store.
    #[error(
        "{0} has a store already; --replace sets it aside and puts the copy in its place: what \
         happened since the copy was made is forgotten then"
    )]
    Exists(String),
    /// It belongs to another cluster.
    #[error(
        "{0} belongs to another cluster (its ca.pem is another one); choose another --data-dir"
    )]
    OtherCluster(String),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CA.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The server's certificate.
    #[error(transparent)]
    Server(#[from] InitError),
    /// The key of the new store's secrets.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Setting the old store aside, or putting the new one in its place.
    #[error("cannot put the new store in its place")]
    Place(#[source] std::io::Error),
}

/// Restores; returns what to tell the operator.
///
/// # Errors
/// [`RestoreError`]; the store that is there stays in its place then.
pub fn restore(wanted: &Restore) -> Result<String, RestoreError> {
    let dir = DataDir::new(&wanted.data_dir);
    let key = KeyFile::of_service(wanted.seal_key.as_deref(), dir.seal_key());
    let copy = read(&wanted.file, key.there()?.as_ref())?;
    files::private_dir(dir.path())?;
    let restored = into(&dir, &copy, &key, wanted.replace);
    // Also of what did not succeed: the lock is made by it.
    files::give_to_owner(dir.path())?;
    restored
}

fn into(dir: &DataDir, copy: &Copy, key: &KeyFile, replace: bool) -> Result<String, RestoreError> {
    let name = dir.path().display().to_string();
    // Held by a controller that runs.
    let _lock = files::lock(&dir.lock())?;
    if dir.ca().exists() && files::read(&dir.ca())?.trim() != copy.ca.trim() {
        return Err(RestoreError::OtherCluster(name));
    }
    if dir.store().exists() && !replace {
        return Err(RestoreError::Exists(name));
    }
    let ca = ClusterCa::load(&copy.about.cluster, &copy.ca, &copy.ca_key)?;
    let generation = next_generation(dir, &copy.about);
    let made = dir.store().with_extension("restoring");
    files::remove(&made)?;
    let advertise = {
        let raw = Arc::new(RedbStore::open(&made)?);
        // With the key that is there: what is set aside is sealed with it.
        let store = SealedStore::open(raw, |_| key.load_or(copy.seal_key.as_ref()))?;
        Rows::of(&copy.plain)?.write_to(&store)?;
        let meta = Repository::restored(&store, generation)?;
        meta.advertise
    };
    files::write_private(&dir.ca_key(), copy.ca_key.as_bytes())?;
    if !dir.server().exists() {
        issue_server(dir, &ca, &advertise, SystemTime::now())?;
    }
    let aside = put(&made, &dir.store())?;
    files::write_private(&dir.ca(), copy.ca.as_bytes())?;
    // An init that was cut off is made good by this.
    files::remove(&dir.marker())?;
    let aside = aside.map_or_else(String::new, |aside| {
        format!("  the store of before: {}\n", aside.display())
    });
    Ok(format!(
        "cluster {}: restored in {name}, {} rows, cluster generation {generation}\n{aside}next:\n  \
         start the controller again; by hand: controller run --data-dir {name}\n",
        copy.about.cluster, copy.about.rows
    ))
}

fn read(file: &Path, key: Option<&SealKey>) -> Result<Copy, RestoreError> {
    let cannot = |source| RestoreError::Read {
        path: file.to_owned(),
        source,
    };
    let bad = |source| RestoreError::Backup {
        file: file.to_owned(),
        source,
    };
    let bytes = std::fs::metadata(file).map_err(cannot)?.len();
    if bytes > BACKUP_BYTES_MAX {
        return Err(bad(BackupError::TooLong));
    }
    let whole = std::fs::read(file).map_err(cannot)?;
    Copy::read(&whole, key).map_err(bad)
}

/// Above the copy's, and above that of the store that is there, if it can be read.
fn next_generation(dir: &DataDir, about: &About) -> u64 {
    let there = dir.store().exists().then(|| {
        let store = RedbStore::open(&dir.store()).ok()?;
        Repository::meta(&store).ok()
    });
    let there = there.flatten().map_or(0, |meta| meta.cluster_generation);
    there.max(about.cluster_generation).saturating_add(1)
}

/// In one step; the old one is kept beside it.
fn put(made: &Path, store: &Path) -> Result<Option<PathBuf>, RestoreError> {
    let place = || -> std::io::Result<Option<PathBuf>> {
        let aside = store.exists().then(|| {
            let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            store.with_extension(format!("before-{}", since.as_secs()))
        });
        if let Some(aside) = &aside {
            std::fs::hard_link(store, aside)?;
        }
        std::fs::rename(made, store)?;
        if let Some(folder) = store.parent() {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok(aside)
    };
    place().map_err(RestoreError::Place)
}
