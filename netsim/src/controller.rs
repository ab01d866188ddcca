//! The controller: its own gate, services and loop, on a store that survives it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use controller::backups::Folder;
use controller::clock::Clock;
use controller::cluster::{Cluster, Parts};
use controller::config::Config;
use controller::images::Blobs;
use controller::{grpc, reconcile};
use longshore_identity::Identity;
use longshore_identity::tls::{CertHolder, Listener};
use tokio_util::sync::CancellationToken;
use turmoil::net::{TcpListener, TcpStream};

use crate::world::{CONTROLLER, PORT, World};

const DAY: Duration = Duration::from_secs(86_400);

/// A port of the simulated network.
struct Simulated(TcpListener);

impl Listener for Simulated {
    type Io = TcpStream;

    async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// Runs one life of it.
pub async fn run(world: Arc<World>) -> Result<(), Box<dyn std::error::Error>> {
    let ca = world.ca();
    let name = [CONTROLLER.to_owned()];
    let identity = Identity::Controller("controller".into());
    let (cert, key) = ca.issue_new(&identity, &name, DAY, SystemTime::now())?;
    let certs = CertHolder::from_pem(&format!("{cert}\n{}", ca.cert_pem()), &key)?;
    let mut config = Config::default();
    config.reflection = false;
    let parts = Parts {
        config: config.clone(),
        ca,
        seal: None,
        backups: Folder::new(world.dir.path().join("backups")),
        term: None,
        clock: Clock::start(),
        port: PORT,
    };
    let store: Arc<dyn controller::store::Store> = Arc::clone(&world.store) as _;
    let cluster = Cluster::open(store, parts)?;
    let blobs = Arc::new(Blobs::open(
        &world.dir.path().join("images"),
        config.images,
    )?);
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let stop = CancellationToken::new();
    tokio::spawn(reconcile::run(Arc::clone(&cluster), stop.clone()));
    grpc::serve((cluster, blobs), Simulated(listener), certs, stop).await?;
    Ok(())
}
