//! What a connection by name costs beside a direct one, all on this machine: bytes and connects per
//! second, straight to the "container", through this node's agent, and through both nodes' agents.
//! docs/names.md has figures. It makes a route, so give it a network namespace of its own:
//! `cargo build --release -p node-agent --example names_bench` and
//! `unshare -rn sh -c 'ip link set lo up && target/release/examples/names_bench'`.
#![allow(clippy::unwrap_used)] // a measurement: a panic is its answer

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use longshore_identity::Identity;
use longshore_identity::ca::ClusterCa;
use longshore_identity::tls::{CertHolder, NodeTls, TrustHolder};
use longshore_model::names::{Named, NamedReplica};
use longshore_model::{Names, NodeId, ReplicaId};
use node_agent::mesh::{Doors, Limits, Local, Mesh, Parts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const CONTAINER: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 2);
const UNUSED: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 99);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 3);
const SPAN: Duration = Duration::from_secs(4);
const CALLERS: usize = 16;

/// An agent that has the replica and whose directory leads to `node`.
fn agent(ca: &ClusterCa, name: &str, names: Names, peers: SocketAddr) {
    let id = NodeId::new(name).unwrap();
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    let identity = Identity::Node(id.clone());
    let (cert, key) = ca.issue_new(&identity, &[], day, now).unwrap();
    let certs = CertHolder::from_pem(&cert, &key).unwrap();
    let trust = TrustHolder::new(ca.cert_pem(), HashSet::new()).unwrap();
    let doors = Arc::new(Doors::default());
    let local = Local {
        service: names.services.keys().next().cloned(),
        address: Some(IpAddr::V4(CONTAINER)),
        accepts: true,
    };
    doors.set(&[(ReplicaId(1), local)].into());
    let mesh = Mesh::new(Parts {
        node: id,
        tls: NodeTls::new(certs, trust).unwrap(),
        doors,
        names: watch::channel(Arc::new(names)).1,
        range: "10.213.0.0/16".parse().unwrap(),
        callers: Vec::new(),
        limits: Limits::default(),
    });
    tokio::spawn(async move { mesh.run(Some(peers), CancellationToken::new()).await });
}

fn service(name: &str, address: Ipv4Addr, port: u16, node: &str, peer_port: u16) -> Names {
    let replica = NamedReplica {
        replica: ReplicaId(1),
        node: NodeId::new(node).unwrap(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        peer_port,
    };
    let named = Named {
        address,
        ports: [port].into(),
        replicas: vec![replica],
        hosts: Default::default(),
        drain_ms: 0,
    };
    Names {
        generation: 1,
        services: [(name.parse().unwrap(), named)].into(),
        ..Names::default()
    }
}

/// Says one byte at once, then counts what it gets.
async fn container() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind((CONTAINER, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let bytes = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&bytes);
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let bytes = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                tcp.write_all(b"!").await.ok()?;
                while let Some(n) = tcp.read(&mut buffer).await.ok().filter(|n| *n > 0) {
                    bytes.fetch_add(n as u64, Ordering::Relaxed);
                }
                Some(())
            });
        }
    });
    (port, bytes)
}

async fn connects(at: SocketAddr, callers: usize) -> f64 {
    let until = Instant::now() + SPAN;
    let call = || async move {
        let mut done = 0_u32;
        while Instant::now() < until {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.read_u8().await.unwrap();
            // So many that wait out their end would use up the ports of one address.
            stream.set_zero_linger().unwrap();
            done += 1;
        }
        done
    };
    let calls: Vec<_> = (0..callers).map(|_| tokio::spawn(call())).collect();
    let mut done = 0;
    for call in calls {
        done += call.await.unwrap();
    }
    f64::from(done) / SPAN.as_secs_f64()
}

#[tokio::main]
async fn main() {
    let ca = ClusterCa::create("bench", SystemTime::now()).unwrap();
    let (port, bytes) = container().await;
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    agent(
        &ca,
        "near",
        service("b/near", NEAR, port, "near", 0),
        at(17_447),
    );
    // It knows the port; nobody calls it by this address.
    agent(
        &ca,
        "far",
        service("b/far", UNUSED, port, "far", 0),
        at(17_448),
    );
    agent(
        &ca,
        "caller",
        service("b/far", FAR, port, "far", 17_448),
        at(17_449),
    );
    sleep(Duration::from_millis(500)).await;
    for (way, address) in [
        ("direct", CONTAINER),
        ("this node", NEAR),
        ("another node", FAR),
    ] {
        let at = SocketAddr::from((address, port));
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.read_u8().await.unwrap();
        let (before, until) = (bytes.load(Ordering::Relaxed), Instant::now() + SPAN);
        let piece = vec![7; 64 * 1024];
        while Instant::now() < until {
            stream.write_all(&piece).await.unwrap();
        }
        let moved = bytes.load(Ordering::Relaxed) - before;
        drop(stream);
        let one = connects(at, 1).await;
        let many = connects(at, CALLERS).await;
        println!(
            "{way:>12}: {:6} MB/s, connects/s: {one:.0} by one caller ({:.2} ms each), {many:.0} by \
             {CALLERS}",
            moved / 1_000_000 / SPAN.as_secs(),
            1_000.0 / one,
        );
    }
}
