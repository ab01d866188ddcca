//! `controller init`: a new cluster in an empty directory.
//!
//! The CA certificate is written last: where it is, the cluster is whole. A marker file names an
//! init that did not get so far.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use longshore_identity::ca::ClusterCa;
use longshore_identity::tls::serial_of;
use longshore_identity::{Identity, OperatorRole, PkiError};
use longshore_model::NodeId;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::files::{self, FileError};
use crate::operators::OperatorRecord;
use crate::shared::{EtcdConfig, LeadError, with_lead};
use crate::store::{Meta, RedbStore, Repository, StoreError};

/// Life of an operator's certificate.
pub const OPERATOR_VALIDITY: Duration = Duration::from_secs(365 * 86_400);
/// Life of the controller's certificate; made anew at two thirds.
pub const SERVER_VALIDITY: Duration = Duration::from_secs(365 * 86_400);

/// Where things are in a data directory.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Of this path.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// The CA's key.
    #[must_use]
    pub fn ca_key(&self) -> PathBuf {
        self.0.join("ca-key.pem")
    }

    /// The controller's certificate, the CA's behind it.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.0.join("server.pem")
    }

    /// The controller's key.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.0.join("server-key.pem")
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.0.join("store.redb")
    }

    /// The key that secrets in the store are sealed with, where no other is given.
    #[must_use]
    pub fn seal_key(&self) -> PathBuf {
        self.0.join("seal.key")
    }

    /// Room that is set aside for a full disk.
    #[must_use]
    pub fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// What cluster etcd had when it answered last, where several controllers share one.
    #[must_use]
    pub fn cluster(&self) -> PathBuf {
        self.0.join("cluster")
    }

    /// Backups that the controller makes by itself, where no other folder is given.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.0.join("backups")
    }

    /// Images that the controller holds.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// Held by the one controller that uses the directory.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// There while an init is not done.
    #[must_use]
    pub fn marker(&self) -> PathBuf {
        self.0.join("init-unfinished")
    }
}

/// What a new cluster shall be.
#[derive(Debug, Clone)]
pub struct Init {
    /// Where.
    pub data_dir: PathBuf,
    /// Its name.
    pub cluster: String,
    /// `address:port` to listen on.
    pub listen: String,
    /// Names and addresses that agents and operators use.
    pub advertise: Vec<String>,
    /// Where the first operator's credentials go.
    pub context_out: PathBuf,
    /// The etcd that it is made in, instead of a file.
    pub etcd: Option<EtcdConfig>,
}

/// Why there is no new cluster.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one.
    #[error(
        "{0} holds a cluster already (ca.pem is there); start it with `controller run`, or choose \
         another --data-dir"
    )]
    Exists(String),
    /// There is a half of one.
    #[error(
        "an earlier init in {0} was cut off; nothing has used it yet, so remove the directory and \
         run init again"
    )]
    Unfinished(String),
    /// There is one in etcd.
    #[error(
        "{0} of etcd holds a cluster already; to add a controller to it: controller join, else choose another \
         [store.etcd] prefix. Remove this data directory first"
    )]
    InEtcd(String),
    /// Making it in etcd.
    #[error(transparent)]
    Lead(#[from] LeadError),
    /// A bad flag.
    #[error("{flag}: {why}")]
    Flag {
        /// Which.
        flag: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key or certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the cluster; returns what to tell the operator.
///
/// # Errors
/// [`InitError`] in words, with the way out.
pub fn init(wanted: &Init) -> Result<String, InitError> {
    let flag = |flag| move |why: String| InitError::Flag { flag, why };
    NodeId::new(&*wanted.cluster).map_err(|e| flag("--cluster")(e.to_string()))?;
    let listen: SocketAddr = wanted
        .listen
        .parse()
        .map_err(|_| flag("--listen")(format!("{:?} is no ADDRESS:PORT", wanted.listen)))?;
    let Some(first) = wanted.advertise.first() else {
        return Err(flag("--advertise")(
            "give at least one address or name".into(),
        ));
    };
    let dir = DataDir::new(&wanted.data_dir);
    let name = dir.path().display().to_string();
    if dir.marker().exists() {
        return Err(InitError::Unfinished(name));
    }
    if dir.ca().exists() {
        return Err(InitError::Exists(name));
    }
    files::private_dir(dir.path())?;
    let _lock = files::lock(&dir.lock())?;
    files::write_private(&dir.marker(), b"")?;

    let now = SystemTime::now();
    let ca = ClusterCa::create(&wanted.cluster, now)?;
    let meta = Meta::new(
        wanted.cluster.clone(),
        wanted.listen.clone(),
        wanted.advertise.clone(),
    );
    let url = url_of(first, listen.port());
    let (context, admin) = context(&ca, &wanted.cluster, (&url, OperatorRecord::FIRST), now)?;
    create(&dir, wanted.etcd.as_ref(), &meta, &admin)?;
    files::write_private(&dir.ca_key(), ca.key_pem().as_bytes())?;
    issue_server(&dir, &ca, &wanted.advertise, now)?;
    files::write_private(&wanted.context_out, context.as_bytes())?;
    files::write_private(&dir.ca(), ca.cert_pem().as_bytes())?;
    files::remove(&dir.marker())?;
    Ok(format!(
        "cluster {}: made in {name}\n  CA, server certificate for {}, store\n  operator \
         credentials (admin): {}\nnext:\n  controller run --data-dir {name}\n  controllerctl \
         context import {} --name {}\n",
        wanted.cluster,
        wanted.advertise.join(", "),
        wanted.context_out.display(),
        wanted.context_out.display(),
        wanted.cluster,
    ))
}

fn create(
    dir: &DataDir,
    etcd: Option<&EtcdConfig>,
    meta: &Meta,
    admin: &OperatorRecord,
) -> Result<(), InitError> {
    let Some(etcd) = etcd else {
        let store = RedbStore::open(&dir.store())?;
        return Ok(Repository::create_by(&store, meta, Some(admin))?);
    };
    let created = with_lead(etcd, |store| {
        Ok::<_, LeadError>(Repository::create_by(store, meta, Some(admin))?)
    });
    created.map_err(|error| match error {
        LeadError::Store(StoreError::Conflict { .. }) => InitError::InEtcd(etcd.prefix.clone()),
        other => other.into(),
    })
}

/// Where a controller is that has this name or address.
#[must_use]
pub fn url_of(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("https://[{host}]:{port}"),
        false => format!("https://{host}:{port}"),
    }
}

/// Makes a server certificate for `advertise` and localhost and writes it with its key.
///
/// # Errors
/// [`InitError::Pki`] for a name that cannot be in a certificate, [`InitError::File`].
pub fn issue_server(
    dir: &DataDir,
    ca: &ClusterCa,
    advertise: &[String],
    now: SystemTime,
) -> Result<(), InitError> {
    let mut names: Vec<String> = advertise.to_vec();
    names.extend(["localhost", "127.0.0.1", "::1"].map(String::from));
    names.sort();
    names.dedup();
    let identity = Identity::Controller("controller".into());
    let (cert, key) = ca.issue_new(&identity, &names, SERVER_VALIDITY, now)?;
    // The CA goes with it: a joining agent knows only its digest.
    let chain = format!("{}\n{}", cert.trim_end(), ca.cert_pem());
    files::write_private(&dir.server_key(), key.as_bytes())?;
    files::write_private(&dir.server(), chain.as_bytes())?;
    Ok(())
}

/// Credentials of an admin, as `controllerctl context import` reads them.
///
/// # Errors
/// [`InitError::Pki`].
pub(crate) fn context(
    ca: &ClusterCa,
    cluster: &str,
    (url, name): (&str, &str),
    now: SystemTime,
) -> Result<(String, OperatorRecord), InitError> {
    let admin = Identity::Operator {
        name: name.into(),
        role: OperatorRole::Admin,
    };
    let (cert, key) = ca.issue_new(&admin, &[], OPERATOR_VALIDITY, now)?;
    let admin = OperatorRecord::first(name.to_owned(), serial(&cert)?, now);
    let mut context = toml::Table::new();
    context.insert("servers".into(), vec![url.to_owned()].into());
    context.insert("ca".into(), ca.cert_pem().into());
    context.insert("cert".into(), cert.into());
    context.insert("key".into(), key.as_str().into());
    let contexts = toml::Table::from_iter([(cluster.to_owned(), toml::Value::Table(context))]);
    let mut file = toml::Table::new();
    file.insert("current".into(), cluster.into());
    file.insert("context".into(), contexts.into());
    Ok((file.to_string(), admin))
}

fn serial(cert_pem: &str) -> Result<String, PkiError> {
    let unreadable = |detail: String| PkiError::Unreadable {
        what: "the new certificate",
        detail,
    };
    let der = CertificateDer::from_pem_slice(cert_pem.as_bytes());
    let der = der.map_err(|error| unreadable(error.to_string()))?;
    serial_of(&der).ok_or_else(|| unreadable("it has no serial".into()))
}
