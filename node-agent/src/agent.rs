//! `node-agent run`: loads what is on disk, starts the parts, waits for a signal.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longshore_haproxy_driver::{Certificates, Edge, EdgeError, Settings};
use longshore_identity::PkiError;
use longshore_identity::tls::{NodeTls, TrustHolder};
use longshore_model::Names;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::advice;
use crate::config::{Config, ConfigError};
use crate::controllers;
use crate::edge::{self, EdgeReading, ProxyView};
use crate::files::FileError;
use crate::identity::{IdentityDir, IdentityError, NodeFile, NodeIdentity};
use crate::images::ahead::Ahead;
use crate::images::{ImageSource, Remote, serve};
use crate::ledger::Ledger;
use crate::mesh::{self, Doors, Mesh};
use crate::policy::{Policy, PolicyError};
use crate::reconcile::{AgentClock, Chain, Core, Place, Reconciler, Snapshot};
use crate::renewal;
use crate::runs::Runner;
use crate::runtime::disk::Disk;
use crate::runtime::docker::DockerRuntime;
use crate::runtime::{EngineInfo, Held, Runtime};
use crate::said::Said;
use crate::sampler::{Roots, Sampler};
use crate::session::{self, SessionParts};

/// Longest wait for the parts to end in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The session's hello carries the engine's version if it is known by then.
const ENGINE_WAIT: Duration = Duration::from_millis(500);
/// Between two questions what the engine is, before and after its first answer.
const ENGINE_RETRY: Duration = Duration::from_secs(5);
const ENGINE_ASK_AGAIN: Duration = Duration::from_secs(60);
/// Services wait for external volumes that somebody makes.
const VOLUMES_ASK_AGAIN: Duration = Duration::from_secs(10);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Ledger.
    #[error(transparent)]
    Ledger(#[from] FileError),
    /// HAProxy's settings.
    #[error("the edge cannot work")]
    Edge(#[from] EdgeError),
    /// Keys or trust for connections between services.
    #[error("connections between services cannot work")]
    Names(#[from] PkiError),
    /// Signals.
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
}

/// What is on disk.
struct Loaded {
    config: Config,
    policy: Policy,
    identity: NodeIdentity,
    ledger: Arc<Ledger>,
}

impl Loaded {
    fn from_disk(data_dir: &Path, config_path: &Path) -> Result<Self, AgentError> {
        let config = Config::load(config_path)?;
        let policy = Policy::load(&config.policy_file)?;
        let identity = IdentityDir::new(data_dir).load()?;
        let (ledger, damage) = Ledger::open(&data_dir.join("ledger.json"))?;
        if let Some(damage) = damage {
            tracing::error!(error = %Chain(&damage), "starting without a ledger");
        }
        Ok(Self {
            config,
            policy,
            identity,
            ledger: Arc::new(ledger),
        })
    }
}

/// Runs until SIGTERM or SIGINT. Containers and HAProxy go on after it. Operators may read `said`.
///
/// # Errors
/// [`AgentError`] before anything was started.
pub async fn run(data_dir: &Path, config_path: &Path, said: Said) -> Result<(), AgentError> {
    let loaded = Loaded::from_disk(data_dir, config_path)?;
    let (config, policy, ledger) = (loaded.config, loaded.policy, loaded.ledger);
    let (file, identity) = (loaded.identity.file.clone(), loaded.identity);
    let (clock, stop, book) = (AgentClock::start(), CancellationToken::new(), ledger.book());
    tracing::info!(node = %file.node, cluster = file.cluster, version = env!("CARGO_PKG_VERSION"),
        "agent starts");
    let mut parts: JoinSet<()> = JoinSet::new();

    let runtime = Arc::new(open_engine(&config, &identity, &mut parts, &stop).await);
    let runner = start_runner(&file, &policy, &runtime, (&mut parts, &stop));
    let (engine_out, mut engine) = watch::channel(EngineInfo::default());
    let (snapshots_out, snapshots) = watch::channel(Snapshot::default());
    let (mut assignments, mut names, mut contents) = (None, None, None);
    if file.roles.worker {
        let (sender, receiver) = watch::channel(book.assignment);
        let (handle, doors) = start_mesh(&config, &identity, book.names, &mut parts, &stop)?;
        let (holds, held) = watch::channel(Arc::default());
        let reconciler = Reconciler {
            runtime: Arc::clone(&runtime),
            core: Core::new(place(&file, policy), book.failed),
            clock,
            ledger: Arc::clone(&ledger),
            assignments: receiver,
            snapshots: snapshots_out,
            doors,
            names: handle.names.subscribe(),
            contents: held,
        };
        (assignments, names, contents) = (Some(sender), Some(handle), Some(holds));
        parts.spawn(reconciler.run(stop.clone()));
        parts.spawn(preflight(Arc::clone(&runtime), engine_out, stop.clone()));
        // Not there yet is fine: the reports say so.
        let _ = timeout(ENGINE_WAIT, engine.changed()).await;
    }

    let (edge_out, edge_reports) = watch::channel(EdgeReading::default());
    let (mut routes, mut certificates, mut proxy) = (None, None, None);
    if file.roles.edge {
        let (sender, receiver) = watch::channel(book.routes);
        let (haproxy, (certify, certified), (view, asks)) = open_edge(config.haproxy).await?;
        (routes, certificates, proxy) = (Some(sender), Some(certify), Some(view));
        let told = (receiver, certified, asks);
        parts.spawn(edge::run(haproxy, told, edge_out, stop.clone()));
    }

    let renewed = start_renewal(data_dir, &identity, (&mut parts, &stop));
    let ahead = fetch_ahead(&identity, (&runtime, &snapshots), &mut parts, &stop);
    let session = SessionParts {
        identity,
        identity_dir: IdentityDir::new(data_dir),
        ledger,
        assignments,
        routes,
        certificates,
        contents,
        names,
        runner,
        snapshots,
        ahead,
        edge_reports,
        proxy,
        runtime,
        engine,
        clock,
        renewed,
        said,
        sampler: Sampler::new(Roots::default()),
    };
    parts.spawn(session::run(session, stop.clone()));
    let signal = wait_for_signal(&mut parts).await;
    end(parts, &stop).await;
    signal.map_err(AgentError::Signals)
}

/// The engine, with the way by which images of the controller come to it.
async fn open_engine(
    config: &Config,
    identity: &NodeIdentity,
    parts: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> DockerRuntime {
    let engine = DockerRuntime::new(&config.engine_socket, &identity.file.cluster);
    if !identity.file.roles.worker {
        return engine;
    }
    let source: Arc<dyn ImageSource> = Arc::new(Remote::new(identity.clone()));
    let mut held = Held {
        source: Arc::clone(&source),
        port: None,
        fault: None,
    };
    let port = config.images_port;
    if port > 0 {
        match serve::bind(port).await {
            Ok(listener) => {
                held.port = Some(port);
                parts.spawn(serve::serve(listener, source, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(port, %error, "images are not served to the engine of this host");
                held.fault = Some(format!(
                    "port {port} of 127.0.0.1 cannot be taken ({error}): set another images_port \
                     in node-agent.toml and restart the agent"
                ));
            }
        }
    }
    engine.with_images(held)
}

/// Fetches images before they are wanted, on workers; tells which are here by this.
fn fetch_ahead(
    identity: &NodeIdentity,
    (runtime, snapshots): (&Arc<DockerRuntime>, &watch::Receiver<Snapshot>),
    parts: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> watch::Receiver<Vec<String>> {
    let (here, fetched) = watch::channel(Vec::new());
    if identity.file.roles.worker {
        let ahead = Ahead {
            source: Arc::new(Remote::new(identity.clone())),
            runtime: Arc::clone(runtime),
            snapshots: snapshots.clone(),
            here,
        };
        parts.spawn(ahead.run(stop.clone()));
    }
    fetched
}

fn place(file: &NodeFile, policy: Policy) -> Place {
    Place {
        cluster: file.cluster.as_str().into(),
        node: file.node.clone(),
        address: file.address,
        policy,
    }
}

type Running<'p> = (&'p mut JoinSet<()>, &'p CancellationToken);

/// On workers: runs containers once, and removes those that nobody holds.
fn start_runner(
    file: &NodeFile,
    policy: &Policy,
    runtime: &Arc<DockerRuntime>,
    (parts, stop): Running<'_>,
) -> Option<Arc<Runner>> {
    let runner = Arc::new(Runner::new(file.cluster.as_str().into(), policy.clone()));
    let runner = file.roles.worker.then_some(runner)?;
    let sweep = Arc::clone(&runner).sweep(Arc::clone(runtime), stop.clone());
    parts.spawn(sweep);
    Some(runner)
}

/// Renews the certificate in time; tells of each new one.
fn start_renewal(
    data_dir: &Path,
    identity: &NodeIdentity,
    (parts, stop): Running<'_>,
) -> Arc<Notify> {
    let renewed = Arc::new(Notify::new());
    let (dir, notify) = (IdentityDir::new(data_dir), Arc::clone(&renewed));
    parts.spawn(renewal::run(dir, identity.clone(), notify, stop.clone()));
    parts.spawn(controllers::run(identity.clone(), stop.clone()));
    renewed
}

/// Starts the data path between services, with the directory that the ledger has.
fn start_mesh(
    config: &Config,
    identity: &NodeIdentity,
    known: Option<Arc<Names>>,
    parts: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(mesh::Handle, Arc<Doors>), PkiError> {
    let trust = TrustHolder::new(&identity.ca_pem, HashSet::new())?;
    let (sender, names) = watch::channel(Arc::default());
    let doors = Arc::new(Doors::default());
    let mesh = Arc::new(Mesh::new(mesh::Parts {
        node: identity.file.node.clone(),
        tls: NodeTls::new(Arc::clone(&identity.certs), trust)?,
        doors: Arc::clone(&doors),
        names,
        range: config.names_range,
        callers: config.names_callers.clone(),
        limits: mesh::Limits::default(),
    }));
    let all = match identity.file.address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let port = config.names_peer_port;
    let peers = (port > 0).then(|| SocketAddr::new(all, port));
    let (running, stop) = (Arc::clone(&mesh), stop.clone());
    parts.spawn(async move { running.run(peers, stop).await });
    let handle = mesh::Handle {
        names: sender,
        mesh,
        peer_port: port,
    };
    handle.tell(&known.unwrap_or_default());
    Ok((handle, doors))
}

type Certified = (
    watch::Sender<Arc<Certificates>>,
    watch::Receiver<Arc<Certificates>>,
);

/// What looks at HAProxy's configuration, and what its driver is asked by.
type Looks = (ProxyView, mpsc::Receiver<edge::Ask>);

/// HAProxy, and its certificates until the controller says more: those that an earlier process
/// left.
async fn open_edge(settings: Settings) -> Result<(Edge, Certified, Looks), EdgeError> {
    let looks = ProxyView::new(settings.config_path.clone());
    let mut haproxy = Edge::open(settings).await?;
    let saved = Arc::new(edge::certificates(&haproxy.saved_certificates()));
    // Whatever comes first: what is served is known by these.
    haproxy.set_certificates(Arc::clone(&saved));
    Ok((haproxy, watch::channel(saved), looks))
}

/// Ends the parts in order: a last report goes out, nothing is stopped.
async fn end(mut parts: JoinSet<()>, stop: &CancellationToken) {
    stop.cancel();
    let ended = async { while parts.join_next().await.is_some() {} };
    if timeout(STOP_TIMEOUT, ended).await.is_err() {
        tracing::warn!("some parts did not end in time");
    }
    tracing::info!("agent stops; containers and HAProxy go on");
}

/// Returns at SIGTERM or SIGINT, or when a part broke: a supervisor's restart repairs that.
async fn wait_for_signal(parts: &mut JoinSet<()>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            Some(ended) = parts.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a part of the agent broke; stopping");
                    return Ok(());
                }
            }
        }
    }
}

/// Learns what the engine is as soon as it answers, and warns of what will hurt later. Its version
/// and its labels may be others after its next restart: it is asked again now and then.
async fn preflight(
    runtime: Arc<DockerRuntime>,
    engine: watch::Sender<EngineInfo>,
    stop: CancellationToken,
) {
    loop {
        let mut wait = ENGINE_RETRY;
        match runtime.info().await {
            Ok(mut info) => {
                wait = ENGINE_ASK_AGAIN;
                let root = info.root.clone();
                let free = tokio::task::spawn_blocking(move || advice::free_percent(&root));
                info.disk_free_percent = free.await.unwrap_or_default();
                let is_known = {
                    let known = engine.borrow();
                    let known = (&known.version, known.live_restore);
                    known == (&info.version, info.live_restore)
                };
                if !is_known && !info.live_restore {
                    tracing::warn!(
                        "the engine's live-restore is off: a restart of dockerd kills every \
                         container; set \"live-restore\": true in /etc/docker/daemon.json"
                    );
                }
                if !is_known {
                    tracing::info!(version = info.version, arch = info.arch, "container engine");
                }
                info.volumes = runtime.volumes().await.unwrap_or_default();
                engine.send_replace(info);
            }
            Err(error) => tracing::debug!(%error, "the engine does not answer yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = look_at_volumes(&*runtime, &engine, wait) => {}
        }
    }
}

/// Looks now and then which volumes there are, for so long.
async fn look_at_volumes<R: Disk>(runtime: &R, engine: &watch::Sender<EngineInfo>, span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        sleep(VOLUMES_ASK_AGAIN.min(span)).await;
        // While it does not answer, what it said last holds.
        let Ok(volumes) = runtime.volumes().await else {
            continue;
        };
        engine.send_if_modified(|info| {
            let other = info.volumes != volumes;
            info.volumes = volumes;
            other
        });
    }
}
