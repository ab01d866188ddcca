//! `controller run`: opens the data directory and serves until it is told to stop.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longshore_identity::PkiError;
use longshore_identity::ca::ClusterCa;
use longshore_identity::tls::{CertHolder, certificate_validity};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::backups;
use crate::clock::Clock;
use crate::cluster::{Cluster, OpenError, Parts};
use crate::config::{Config, ConfigError};
use crate::damaged::WayOut;
use crate::files::{self, FileError};
use crate::grpc::{self, ServeError};
use crate::images::{self, BlobError, Blobs};
use crate::init::{DataDir, InitError, issue_server};
use crate::prometheus;
use crate::reconcile;
use crate::recording;
use crate::seal::{self, KeyFile, SealError};
use crate::shared::{self, SharedError};
use crate::store::{Ballast, Meta, RedbStore, Repository, Store, StoreError};

/// Open calls have this long to end after a stop was asked for.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// And so long after a failure.
const FATAL_TIMEOUT: Duration = Duration::from_millis(200);
/// How often the own certificate's age is looked at.
const RENEW_PERIOD: Duration = Duration::from_secs(3_600);

/// Why the controller does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No cluster there.
    #[error("{0} holds no cluster; make one with `controller init`")]
    NoCluster(String),
    /// A half-made cluster.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key or certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Being one of several.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// The key of the store's secrets.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store is damaged.
    #[error("{found}\n{way_out}")]
    Damaged {
        /// What was found.
        found: StoreError,
        /// What helps.
        way_out: Box<WayOut>,
    },
    /// The folder of images.
    #[error(transparent)]
    Images(#[from] BlobError),
    /// The store failed later.
    #[error("{0}")]
    Fatal(String),
    /// Its address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The server.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl RunError {
    /// The error of a damaged store, or what else it is.
    fn damage(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(found @ StoreError::Corrupt { .. })
            | Self::Open(OpenError::Store(found @ StoreError::Corrupt { .. }))
            | Self::Seal(SealError::Store(found @ StoreError::Corrupt { .. })) => Ok(found),
            other => Err(other),
        }
    }

    /// 70 if the store or the server failed and a restart is what helps, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            // Etcd, and whoever leads by it, may be another next time.
            Self::Shared(SharedError::Ended(_)) => 70,
            Self::Fatal(_) | Self::Store(_) | Self::Open(OpenError::Store(_)) | Self::Serve(_) => {
                70
            }
            _ => 1,
        }
    }
}

/// A controller that is ready to serve.
pub struct Controller {
    /// Its cluster.
    pub cluster: Arc<Cluster>,
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
    certs: Arc<CertHolder>,
    blobs: Arc<Blobs>,
    dir: DataDir,
    _lock: std::fs::File,
}

/// What a controller stands on, whatever its store is.
pub(crate) struct Ground {
    dir: DataDir,
    lock: std::fs::File,
    pub(crate) ca: ClusterCa,
    pub(crate) certs: Arc<CertHolder>,
    listener: TcpListener,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Ground {
    /// Reads keys, makes the server's certificate if it must, and binds the port.
    ///
    /// # Errors
    /// As [`Controller::open`].
    pub(crate) async fn lay(
        dir: DataDir,
        lock: std::fs::File,
        meta: &Meta,
        config: &Config,
    ) -> Result<Self, RunError> {
        let ca_key = files::read_private(&dir.ca_key())?;
        let ca = ClusterCa::load(&meta.cluster, &files::read(&dir.ca())?, &ca_key)?;
        let certs = certificate(&dir, &ca, meta, config)?;
        let address = config.listen.clone().unwrap_or_else(|| meta.listen.clone());
        let failed = |source| RunError::Listen {
            address: address.clone(),
            source,
        };
        let listener = TcpListener::bind(&*address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            dir,
            lock,
            ca,
            certs,
            listener,
            address,
        })
    }

    /// The same port, for another server after which this one's begins: no connection is refused in between.
    ///
    /// # Errors
    /// [`RunError::Listen`].
    pub(crate) fn second_listener(&self) -> Result<TcpListener, RunError> {
        let second = || {
            let descriptor = std::os::fd::AsFd::as_fd(&self.listener).try_clone_to_owned()?;
            TcpListener::from_std(std::net::TcpListener::from(descriptor))
        };
        second().map_err(|source| RunError::Listen {
            address: self.address.to_string(),
            source,
        })
    }
}

/// Makes sure that there is a cluster, and that nobody else runs it.
///
/// # Errors
/// As [`Controller::open`].
pub(crate) fn claim(dir: &DataDir) -> Result<std::fs::File, RunError> {
    let name = dir.path().display().to_string();
    if dir.marker().exists() {
        return Err(InitError::Unfinished(name).into());
    }
    if !dir.ca().exists() {
        return Err(RunError::NoCluster(name));
    }
    Ok(files::lock(&dir.lock())?)
}

impl Controller {
    /// Opens everything and binds the port; raises the term.
    ///
    /// # Errors
    /// [`RunError`] with one clear message.
    pub async fn open(data_dir: &Path, config: Config) -> Result<Self, RunError> {
        let dir = DataDir::new(data_dir);
        let (backups, key) = (config.backup.folder(&dir), config.store.seal_key.clone());
        let opened = Self::open_in(dir.clone(), config).await;
        opened.map_err(|error| match error.damage() {
            Ok(found) => {
                let way_out = Box::new(WayOut::find(&dir, &backups, key.as_deref()));
                RunError::Damaged { found, way_out }
            }
            Err(other) => other,
        })
    }

    async fn open_in(dir: DataDir, config: Config) -> Result<Self, RunError> {
        let lock = claim(&dir)?;
        let store = Arc::new(open_store(&dir, config.store.ballast_mib << 20)?);
        let meta = Repository::meta(&*store)?;
        let ground = Ground::lay(dir, lock, &meta, &config).await?;
        Self::with_store(ground, store, config, None)
    }

    /// Opens a cluster; `term` is an election's. Blocks as its store does.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn with_store(
        ground: Ground,
        store: Arc<dyn Store>,
        config: Config,
        term: Option<u64>,
    ) -> Result<Self, RunError> {
        let key = KeyFile::of_service(config.store.seal_key.as_deref(), ground.dir.seal_key());
        let (store, seal) = seal::sealed(store, &key)?;
        let blobs = Arc::new(Blobs::open(&ground.dir.images(), config.images.clone())?);
        let Ground {
            dir,
            ca,
            certs,
            listener,
            address,
            lock,
        } = ground;
        let parts = Parts {
            backups: config.backup.folder(&dir),
            config,
            ca,
            seal: Some(seal),
            term,
            clock: Clock::start(),
            port: address.port(),
        };
        let cluster = Cluster::open(store, parts)?;
        Ok(Self {
            cluster,
            address,
            listener,
            certs,
            blobs,
            dir,
            _lock: lock,
        })
    }

    /// Serves until `stop` or until the store fails.
    ///
    /// # Errors
    /// [`RunError::Fatal`] if the store failed, [`RunError::Serve`] if the server ended by itself.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self {
            cluster,
            address,
            listener,
            certs,
            blobs,
            dir,
            _lock,
        } = self;
        tracing::info!(%address, cluster = cluster.meta.cluster, term = cluster.fence.term, "serving");
        let halt = cluster.stopping.clone();
        let looping = tokio::spawn(reconcile::run(Arc::clone(&cluster), halt.clone()));
        let asking = tokio::spawn(prometheus::run(Arc::clone(&cluster), halt.clone()));
        let renewing = tokio::spawn(renew(
            Arc::clone(&cluster),
            Arc::clone(&certs),
            dir,
            halt.clone(),
        ));
        let recording = tokio::spawn(recording::run(Arc::clone(&cluster), halt.clone()));
        let (cleared, held) = (Arc::clone(&cluster), Arc::clone(&blobs));
        let backing_up = tokio::spawn(backups::run(Arc::clone(&cluster), halt.clone()));
        let sweeping = tokio::spawn(images::run(cleared, held, halt.clone()));
        let served_images = (Arc::clone(&cluster), blobs);
        let server = grpc::serve(served_images, listener, certs, halt.clone());
        let mut server = tokio::spawn(server);
        let mut fatal = cluster.fatal.subscribe();
        let mut served = Ok(());
        tokio::select! {
            () = stop.cancelled() => tracing::info!("stopping"),
            _ = fatal.wait_for(Option::is_some) => {}
            ended = &mut server => served = Err(ended_by_itself(ended)),
        }
        halt.cancel();
        // Who leads no more must not answer on.
        let patience = match cluster.fatal.borrow().is_some() {
            true => FATAL_TIMEOUT,
            false => STOP_TIMEOUT,
        };
        if !server.is_finished() && tokio::time::timeout(patience, &mut server).await.is_err() {
            tracing::warn!("some calls did not end in time and are cut");
            server.abort();
        }
        for task in [looping, asking, recording, renewing, sweeping, backing_up] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the controller failed");
            }
        }
        cluster.close_history();
        match cluster.fatal.borrow().clone() {
            Some(why) => Err(RunError::Fatal(why)),
            None => served,
        }
    }
}

/// The server must not end before it is told to: whatever it says, the controller is of no use
/// without it and must be started again.
pub(crate) fn ended_by_itself(
    ended: Result<Result<(), ServeError>, tokio::task::JoinError>,
) -> RunError {
    match ended {
        Ok(Err(error)) => RunError::Serve(error),
        Ok(Ok(())) => RunError::Fatal("the server ended by itself".into()),
        Err(error) => RunError::Fatal(format!("the server failed: {error}")),
    }
}

/// At most this part of a disk is set aside.
const BALLAST_SHARE: u64 = 8;

/// The store; `ballast_bytes` of its disk are set aside.
fn open_store(dir: &DataDir, ballast_bytes: u64) -> Result<RedbStore, StoreError> {
    let store = RedbStore::open(&dir.store())?;
    // On a small disk it would be most of it.
    let most = rustix::fs::statvfs(dir.path()).map_or(u64::MAX, |disk| {
        disk.f_blocks.saturating_mul(disk.f_frsize) / BALLAST_SHARE
    });
    let bytes = ballast_bytes.min(most);
    let ballast = Ballast::new(dir.ballast(), bytes);
    Ok(match bytes {
        // What a setting of before left is removed.
        0 => store,
        _ => store.with_ballast(ballast),
    })
}

/// Runs with the given settings until SIGTERM or SIGINT.
///
/// # Errors
/// As [`Controller::open`] and [`Controller::run`].
pub async fn run(data_dir: PathBuf, config: Config) -> Result<(), RunError> {
    #[cfg(feature = "mutants")]
    switch_mutant();
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        wait_for_signal().await;
        asked.cancel();
    });
    match config.store.etcd.clone() {
        Some(etcd) => shared::run(&data_dir, config, etcd, stop).await,
        None => Controller::open(&data_dir, config).await?.run(stop).await,
    }
}

/// The seeded mistake that `LONGSHORE_MUTANT` names, for a bench that must be able to fail
/// (docs/bench-handover.md). No build without the feature knows the variable.
#[cfg(feature = "mutants")]
fn switch_mutant() {
    use longshore_model::{Mutant, mutant};
    let Ok(wanted) = std::env::var("LONGSHORE_MUTANT") else {
        return;
    };
    let found = Mutant::ALL.iter().find(|known| known.name() == wanted);
    tracing::warn!(mutant = wanted, known = found.is_some(), "seeded mistake");
    mutant::switch(found.copied());
    reconcile::let_mistakes_through();
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("signals cannot be heard; only kill -9 stops this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The server's certificate; made anew if it is old, damaged or for other names.
fn certificate(
    dir: &DataDir,
    ca: &ClusterCa,
    meta: &Meta,
    config: &Config,
) -> Result<Arc<CertHolder>, RunError> {
    let advertise = config.advertise.as_ref().unwrap_or(&meta.advertise);
    let load = || -> Result<Arc<CertHolder>, RunError> {
        let key = files::read_private(&dir.server_key())?;
        Ok(CertHolder::from_pem(&files::read(&dir.server())?, &key)?)
    };
    if config.advertise.is_none()
        && let Ok(certs) = load()
        && !is_old(&certs, SystemTime::now())
    {
        return Ok(certs);
    }
    issue_server(dir, ca, advertise, SystemTime::now())?;
    load()
}

/// Two thirds of its life are over.
fn is_old(certs: &CertHolder, now: SystemTime) -> bool {
    let Some(Ok((from, until))) = certs.leaf_der().map(|leaf| certificate_validity(&leaf)) else {
        return true;
    };
    let life = until.duration_since(from).unwrap_or_default();
    now.duration_since(from).unwrap_or(life) >= life / 3 * 2
}

async fn renew(
    cluster: Arc<Cluster>,
    certs: Arc<CertHolder>,
    dir: DataDir,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEW_PERIOD) => {}
            () = stop.cancelled() => return,
        }
        if !is_old(&certs, SystemTime::now()) {
            continue;
        }
        let renewed = issue_server(&dir, &cluster.ca, &cluster.advertise, SystemTime::now())
            .map_err(RunError::from)
            .and_then(|()| {
                let key = files::read_private(&dir.server_key())?;
                Ok(certs.swap(&files::read(&dir.server())?, &key)?)
            });
        match renewed {
            Ok(()) => tracing::info!("the server certificate was renewed"),
            Err(error) => tracing::error!(
                error = crate::chain(&error),
                "the server certificate could not be renewed; trying again in an hour"
            ),
        }
    }
}

/// Is it an address or a name that can be in a URL and a certificate?
#[must_use]
pub fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (!text.is_empty()
            && text.len() <= 253
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'))
}
