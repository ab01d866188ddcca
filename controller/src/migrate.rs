//! Moves a cluster from the file of one controller into an etcd that several share, and back, while no controller runs.
//! Nodes are not told anything: what they are told next comes from a leader of a higher generation.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::backup::Rows;
use crate::files::{self, FileError};
use crate::init::DataDir;
use crate::run::{RunError, claim};
use crate::seal::{self, KeyFile, SealError};
use crate::shared::{EtcdConfig, LeadError, with_lead};
use crate::store::{EtcdStore, Meta, RedbStore, Repository, Store, StoreError, Table};

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum To {
    /// Into etcd.
    Etcd,
    /// Into the file in the data directory.
    Embedded,
}

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// There is no etcd in the configuration.
    #[error(
        "controller.toml names no etcd; add [store.etcd] with its endpoints (docs/controllers.md)"
    )]
    NoEtcd,
    /// The data directory.
    #[error(transparent)]
    Claim(#[from] Box<RunError>),
    /// There is nothing to move.
    #[error("{} is not there: this cluster has no store here", path.display())]
    NoFile {
        /// What is missing.
        path: PathBuf,
    },
    /// The target holds something.
    #[error("{place} holds a cluster already; nothing was moved")]
    NotEmpty {
        /// Where.
        place: String,
    },
    /// It is not there as it was read.
    #[error("{place} does not hold what was written to it; the cluster stays where it was")]
    Unlike {
        /// Where.
        place: String,
    },
    /// Leading.
    #[error(transparent)]
    Lead(#[from] LeadError),
    /// The stores.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key of secrets.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Putting the file in its place, or aside.
    #[error("cannot move {}", path.display())]
    Place {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// Moves the cluster of a data directory; returns what to tell the operator.
///
/// # Errors
/// [`MigrateError`]; the cluster is where it was then.
pub fn migrate(
    dir: &DataDir,
    etcd: Option<&EtcdConfig>,
    seal_key: Option<PathBuf>,
    to: To,
) -> Result<String, MigrateError> {
    let etcd = etcd.ok_or(MigrateError::NoEtcd)?;
    let _lock = claim(dir).map_err(Box::new)?;
    let key = KeyFile::of_service(seal_key.as_deref(), dir.seal_key());
    match to {
        To::Etcd => with_lead(etcd, |store| into_etcd(dir, store, &etcd.prefix, &key)),
        To::Embedded => with_lead(etcd, |store| into_file(dir, store, &key)),
    }
}

fn into_etcd(
    dir: &DataDir,
    etcd: &EtcdStore,
    prefix: &str,
    key: &KeyFile,
) -> Result<String, MigrateError> {
    let place = format!("{prefix} of etcd");
    if !dir.store().exists() {
        return Err(MigrateError::NoFile { path: dir.store() });
    }
    let rows = Rows::of(&RedbStore::open(&dir.store())?)?;
    let meta = carry(&rows, etcd, &place, key)?;
    let aside = aside(&dir.store())?;
    files::sync_folder(dir.path())?;
    Ok(format!(
        "cluster {}: {} rows moved to {place}, cluster generation {}\n  the file of before: {}\nnext:\n  start \
         the controller again with [store.etcd] and advertise in controller.toml; others: controller join\n",
        meta.cluster,
        rows.len(),
        meta.cluster_generation,
        aside.display()
    ))
}

fn into_file(dir: &DataDir, etcd: &EtcdStore, key: &KeyFile) -> Result<String, MigrateError> {
    let path = dir.store();
    if path.exists() {
        let place = path.display().to_string();
        return Err(MigrateError::NotEmpty { place });
    }
    let made = path.with_extension("moving");
    files::remove(&made)?;
    let rows = Rows::of(etcd)?;
    let meta = {
        let file = RedbStore::open(&made)?;
        carry(&rows, &file, &made.display().to_string(), key)?
    };
    std::fs::rename(&made, &path).map_err(|source| MigrateError::Place {
        path: path.clone(),
        source,
    })?;
    files::sync_folder(dir.path())?;
    // From now on nobody leads by etcd: first what cluster it is goes, then the rest.
    rows.only(Table::Meta).remove_from(etcd)?;
    rows.remove_from(etcd)?;
    Ok(format!(
        "cluster {}: {} rows moved to {}, cluster generation {}\nnext:\n  remove [store.etcd] from controller.toml \
         and start this controller again; the others are of no more use\n",
        meta.cluster,
        rows.len(),
        path.display(),
        meta.cluster_generation
    ))
}

/// Writes rows that can be understood to a store without a cluster, and reads them back. That it is a cluster is
/// written last: what is cut off before has done nothing, and is done again.
fn carry(rows: &Rows, store: &dyn Store, place: &str, key: &KeyFile) -> Result<Meta, MigrateError> {
    let (understood, _) = seal::sealed(Arc::new(rows.in_memory()?), key)?;
    let before = Repository::verify(&*understood)?;
    let there = Rows::of(store)?;
    if store.get(Table::Meta, Repository::META_ROW)?.is_some() {
        let place = place.to_owned();
        return Err(MigrateError::NotEmpty { place });
    }
    there.remove_from(store)?;
    let rest = rows.without(Table::Meta);
    rest.write_to(store)?;
    if Rows::of(store)? != rest {
        let place = place.to_owned();
        return Err(MigrateError::Unlike { place });
    }
    Ok(Repository::moved(store, &before)?)
}

/// Sets the old file aside, so that no controller leads by it by mistake.
fn aside(store: &Path) -> Result<PathBuf, MigrateError> {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let aside = store.with_extension(format!("moved-{}", since.as_secs()));
    std::fs::rename(store, &aside).map_err(|source| MigrateError::Place {
        path: store.to_owned(),
        source,
    })?;
    Ok(aside)
}
