//! Two or more nodes in one process. Addresses of 127.0.0.0/8 stand for name addresses and for
//! containers, so no route is needed.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use longshore_identity::Identity;
use longshore_identity::ca::ClusterCa;
use longshore_identity::tls::{CertHolder, peer_info};
use longshore_model::ReplicaId;
use longshore_model::names::{Named, NamedReplica};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::sleep;

use super::super::*;

pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// An address that no other test uses: tests of one process count, processes differ.
pub(super) fn fresh() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(10);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, NEXT.fetch_add(1, Ordering::Relaxed), high, low)
}

pub(super) fn ca() -> ClusterCa {
    ClusterCa::create("lab", SystemTime::now()).unwrap()
}

pub(super) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(super) fn certs(ca: &ClusterCa, identity: &Identity) -> Arc<CertHolder> {
    let (cert, key) = ca.issue_new(identity, &[], DAY, SystemTime::now()).unwrap();
    CertHolder::from_pem(&cert, &key).unwrap()
}

/// One whose time ended a moment ago.
pub(super) fn over(ca: &ClusterCa, identity: &Identity) -> Arc<CertHolder> {
    let then = SystemTime::now() - DAY - Duration::from_secs(60);
    let (cert, key) = ca.issue_new(identity, &[], DAY, then).unwrap();
    CertHolder::from_pem(&cert, &key).unwrap()
}

pub(super) fn serial(certs: &CertHolder) -> String {
    let leaf = certs.leaf_der().unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], 1));
    peer_info(Some(&[leaf]), at).unwrap().serial
}

pub(super) fn tls(ca: &ClusterCa, certs: Arc<CertHolder>) -> NodeTls {
    NodeTls::new(
        certs,
        TrustHolder::new(ca.cert_pem(), HashSet::new()).unwrap(),
    )
    .unwrap()
}

pub(super) fn service() -> ServiceKey {
    "demo/redis".parse().unwrap()
}

/// Bounds for tests that are not about time: a machine that is busy elsewhere may let the whole
/// process stand still for seconds.
pub(super) fn patient() -> Limits {
    Limits {
        patience: Duration::from_secs(600),
        attempt: Duration::from_secs(60),
        greeting: Duration::from_secs(60),
        ..Limits::default()
    }
}

/// One agent.
pub(super) struct Node {
    pub(super) mesh: Arc<Mesh>,
    pub(super) doors: Arc<Doors>,
    pub(super) serial: String,
    /// Where other agents reach it.
    pub(super) peers: SocketAddr,
    id: NodeId,
    names: watch::Sender<Arc<Names>>,
    locals: BTreeMap<ReplicaId, Local>,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    pub(super) async fn start(ca: &ClusterCa, name: &str, limits: Limits) -> Self {
        let id = node_id(name);
        let certs = certs(ca, &Identity::Node(id.clone()));
        let (sender, names) = watch::channel(Arc::default());
        let (doors, stop) = (Arc::new(Doors::default()), CancellationToken::new());
        let mesh = Arc::new(Mesh::new(Parts {
            node: id.clone(),
            tls: tls(ca, Arc::clone(&certs)),
            doors: Arc::clone(&doors),
            names,
            range: "127.0.0.0/8".parse().unwrap(),
            callers: Vec::new(),
            limits,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peers = listener.local_addr().unwrap();
        let (running, stopped) = (Arc::clone(&mesh), stop.clone());
        tokio::spawn(async move { peer::accept(&running.0, &listener, &stopped).await });
        let (running, stopped) = (Arc::clone(&mesh), stop.clone());
        let ready = watch::channel(true).1;
        tokio::spawn(async move { listen::run(&running.0, ready, &stopped).await });
        Self {
            mesh,
            doors,
            serial: serial(&certs),
            peers,
            id,
            names: sender,
            locals: BTreeMap::new(),
            stop,
        }
    }

    /// A replica of this node.
    pub(super) fn local(&mut self, replica: u64, address: Ipv4Addr, accepts: bool) {
        let address = Some(IpAddr::V4(address));
        let service = Some(service());
        let local = Local {
            service,
            address,
            accepts,
        };
        self.locals.insert(ReplicaId(replica), local);
        self.doors.set(&self.locals);
    }

    /// It is on this node no more.
    pub(super) fn gone(&mut self, replica: u64) {
        self.locals.remove(&ReplicaId(replica));
        self.doors.set(&self.locals);
    }

    pub(super) fn named(&self, replica: u64) -> NamedReplica {
        NamedReplica {
            replica: ReplicaId(replica),
            node: self.id.clone(),
            address: self.peers.ip(),
            peer_port: self.peers.port(),
        }
    }

    /// The directory is this one service.
    pub(super) fn direct(&self, at: SocketAddr, replicas: &[NamedReplica]) {
        let SocketAddr::V4(at) = at else { panic!() };
        let named = Named {
            address: *at.ip(),
            ports: [at.port()].into(),
            replicas: replicas.to_vec(),
            hosts: BTreeMap::new(),
            drain_ms: 0,
        };
        let services = [(service(), named)].into();
        let generation = self.names.borrow().generation + 1;
        let names = Names {
            generation,
            services,
            ..Names::default()
        };
        self.names.send_replace(Arc::new(names));
    }

    /// The directory has this port of the service, at an address that nobody asks for.
    pub(super) fn list(&self, port: u16) {
        self.direct((fresh(), port).into(), &[]);
    }

    /// The directory has no services.
    pub(super) fn direct_nowhere(&self) {
        self.names.send_replace(Arc::default());
    }
}

/// Tells its tag, then gives back what it gets, until the caller has ended.
pub(super) fn container(at: (Ipv4Addr, u16), tag: u8) -> SocketAddr {
    // Shared, as nothing of it is to be in the way of who listens on all addresses.
    let listener = foreign_listener(at.into(), true);
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                tcp.write_all(&[tag]).await.unwrap();
                let (mut read, mut write) = tcp.split();
                // A caller that breaks off ends it.
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    at
}

/// A connection to a name, and the tag of the replica that took it.
pub(super) async fn call(at: SocketAddr) -> (TcpStream, u8) {
    let mut stream = connect(at).await;
    let tag = stream.read_u8().await.expect("no replica took it");
    (stream, tag)
}

/// A connection to a name, once somebody listens there.
pub(super) async fn connect(at: SocketAddr) -> TcpStream {
    for _ in 0..1_000 {
        if let Ok(stream) = TcpStream::connect(at).await {
            return stream;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody listens on {at}");
}

/// Says something and hears it.
pub(super) async fn echo(stream: &mut TcpStream) {
    stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// A socket that says that its port is shared, or not.
pub(super) fn foreign_listener(at: SocketAddr, shared: bool) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(shared).unwrap();
    socket.bind(at).unwrap();
    socket.listen(16).unwrap()
}
