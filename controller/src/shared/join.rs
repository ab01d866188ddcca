//! A further controller: keys out of a copy of the cluster, and no store of its own.

use std::path::{Path, PathBuf};

use crate::backup::{BackupError, Keys};
use crate::files::{self, FileError};
use crate::init::DataDir;
use crate::seal::{KeyFile, SealError};

/// Why there is no further controller.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is one.
    #[error("{0} is a controller's already (ca.pem is there); choose another --data-dir")]
    Exists(String),
    /// The copy.
    #[error("{}", file.display())]
    Copy {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BackupError,
    },
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key of secrets.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Takes the keys of `copy` (`-`: standard input) into a data directory; returns what to tell the operator.
///
/// # Errors
/// [`JoinError`].
pub fn join(dir: &DataDir, copy: &Path, seal_key: Option<&Path>) -> Result<String, JoinError> {
    let name = dir.path().display().to_string();
    if dir.ca().exists() {
        return Err(JoinError::Exists(name));
    }
    let key = KeyFile::of_service(seal_key, dir.seal_key());
    let keys = Keys::of_copy(copy, key.there()?.as_ref()).map_err(|source| JoinError::Copy {
        file: copy.to_owned(),
        source,
    })?;
    files::private_dir(dir.path())?;
    let _lock = files::lock(&dir.lock())?;
    if let Some(copied) = &keys.seal_key {
        key.load_or(Some(copied))?;
    }
    files::write_private(&dir.ca_key(), keys.ca_key.as_bytes())?;
    // Where the CA is, the controller is whole.
    files::write_private(&dir.ca(), keys.ca.as_bytes())?;
    files::give_to_owner(dir.path())?;
    let cluster = &keys.cluster;
    Ok(format!(
        "cluster {cluster}: its keys are in {name}\nnext:\n  controller run --data-dir {name}, with [store.etcd] and \
         advertise in controller.toml\n"
    ))
}
