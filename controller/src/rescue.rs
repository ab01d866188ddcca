//! `controller admin`: lets an admin in on the controller's machine, when nobody can any more.

use std::path::PathBuf;
use std::time::SystemTime;

use longshore_identity::PkiError;
use longshore_identity::ca::ClusterCa;
use longshore_model::NodeId;

use crate::files::{self, FileError};
use crate::init::{self, DataDir, InitError, url_of};
use crate::run::{RunError, claim};
use crate::shared::{EtcdConfig, LeadError, with_lead};
use crate::store::{Meta, RedbStore, Repository, Store, StoreError};

/// What is wanted.
#[derive(Debug)]
pub struct Rescue {
    /// The cluster's directory here.
    pub data_dir: PathBuf,
    /// The admin's name.
    pub name: String,
    /// Where the credentials go.
    pub context_out: PathBuf,
    /// The etcd that the cluster is in.
    pub etcd: Option<EtcdConfig>,
    /// Addresses of the configuration.
    pub advertise: Option<Vec<String>>,
}

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// The name.
    #[error("--name: {0}")]
    Name(String),
    /// The directory: no cluster, or a controller runs.
    #[error(transparent)]
    Claim(#[from] Box<RunError>),
    /// Leading for a moment.
    #[error(transparent)]
    Lead(#[from] LeadError),
    /// Making credentials.
    #[error(transparent)]
    Init(#[from] Box<InitError>),
    /// The CA.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the credentials and writes who holds them; returns what to tell the operator.
///
/// # Errors
/// [`RescueError`]; nobody is let in then.
pub fn rescue(wanted: &Rescue) -> Result<String, RescueError> {
    let name = NodeId::new(wanted.name.as_str());
    let name = name.map_err(|error| RescueError::Name(error.to_string()))?;
    let dir = DataDir::new(&wanted.data_dir);
    let _lock = claim(&dir).map_err(Box::new)?;
    let write = |store: &dyn Store| admit(wanted, &dir, name.as_str(), store);
    match &wanted.etcd {
        None => write(&RedbStore::open(&dir.store())?),
        Some(etcd) => with_lead(etcd, |store| write(store)),
    }
}

fn admit(
    wanted: &Rescue,
    dir: &DataDir,
    name: &str,
    store: &dyn Store,
) -> Result<String, RescueError> {
    let meta = Repository::meta(store)?;
    let ca_key = files::read_private(&dir.ca_key())?;
    let ca = ClusterCa::load(&meta.cluster, &files::read(&dir.ca())?, &ca_key)?;
    let url = url(&meta, wanted.advertise.as_deref());
    let (context, admin) =
        init::context(&ca, &meta.cluster, (&url, name), SystemTime::now()).map_err(Box::new)?;
    Repository::admit(store, &admin)?;
    files::write_private(&wanted.context_out, context.as_bytes())?;
    files::give_to_owner(dir.path())?;
    let file = wanted.context_out.display();
    Ok(format!(
        "operator {name}: admin, with the credentials in {file}; what they had before counts no more\nnext:\n  start \
         the controller again\n  controllerctl context import {file} --force\n"
    ))
}

fn url(meta: &Meta, advertise: Option<&[String]>) -> String {
    let host = advertise.unwrap_or(&meta.advertise).first();
    let host = host.map_or("localhost", String::as_str);
    let port = meta.listen.rsplit_once(':');
    let port = port.and_then(|(_, port)| port.parse().ok());
    url_of(host, port.unwrap_or(7443))
}
