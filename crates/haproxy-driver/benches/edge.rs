//! What it costs to bring servers in, drain them and take them out, beside a rewritten file and a
//! reload of the same change. One line a case:
//! `edge SERVERS kind seconds commands reloads p99_ms rss_mib`.
//!
//! All on loopback: one listener answers for every address of 127/8, checks come every 30 s, so that
//! what is measured is the driver and HAProxy, not ten thousand replicas.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A bench stops where anything fails.

#[path = "../tests/real/host/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod host;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::{Client, Host, Replica, free_port, http, routes};
use longshore_model::ReplicaId;
use longshore_model::route::CheckTimes;
use longshore_model::routes::{Backend, Server, ServerMode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Servers of one service.
const PER_SERVICE: usize = 100;
/// Requests a second beside each change.
const PACE_MS: u64 = 5;

fn main() {
    let servers = std::env::var("SERVERS").unwrap_or_else(|_| "1000,10000".to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    println!("edge SERVERS kind seconds commands reloads p99_ms rss_mib");
    for count in servers.split(',') {
        let count: usize = count.trim().parse().expect("SERVERS: numbers with commas");
        runtime.block_on(case(count.min(100_000)));
    }
}

/// Listens on every address of this host and is well.
async fn everywhere() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let well = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(well).await;
            });
        }
    });
    port
}

struct Bench {
    host: Host,
    count: usize,
    ports: Vec<u16>,
    /// Of the listener that answers for all servers.
    replica_port: u16,
    /// The way in that the traffic takes.
    steady: Backend,
    generation: u64,
}

async fn case(count: usize) {
    let mut host = Host::with(|settings| {
        settings.connections_max = 5_000;
        settings.slots_max = 4_096;
        settings.reload_spacing_ms = 0;
    })
    .await;
    let replica = Replica::start(1).await;
    let port = free_port();
    let steady = http(
        "bench/steady",
        port,
        vec![replica.server(ServerMode::Serve)],
    );
    host.serve(1, vec![steady.clone()]).await;
    let services = count.div_ceil(PER_SERVICE);
    let mut bench = Bench {
        host,
        count,
        ports: (0..services).map(|_| free_port()).collect(),
        replica_port: everywhere().await,
        steady,
        generation: 1,
    };
    bench.change("structure", None).await;
    bench
        .change("bring in, pools grow", Some(ServerMode::Serve))
        .await;
    bench.joined().await;
    bench.change("drain", Some(ServerMode::Drain)).await;
    bench.change("take out", None).await;
    bench
        .change("bring in, pools there", Some(ServerMode::Serve))
        .await;
    bench.joined().await;
    bench.change("unchanged", Some(ServerMode::Serve)).await;
    bench.reload().await;
    replica.kill();
}

impl Bench {
    fn backends(&self, mode: Option<ServerMode>) -> Vec<Backend> {
        let mut left = self.count;
        let backends = self.ports.iter().enumerate().map(|(service, port)| {
            let here = left.min(PER_SERVICE);
            left -= here;
            let servers = (0..here).filter_map(|n| self.server(service * PER_SERVICE + n, mode?));
            let mut backend = http(&format!("bench/w{service}"), *port, servers.collect());
            backend.route.check = CheckTimes {
                interval_ms: 30_000,
                ..CheckTimes::default()
            };
            backend
        });
        let mut backends: Vec<Backend> = backends.collect();
        backends.push(self.steady.clone());
        backends
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "fits filter_map with a mode that may be none"
    )]
    fn server(&self, number: usize, mode: ServerMode) -> Option<Server> {
        let [_, b, c, d] = u32::try_from(number).unwrap().to_be_bytes();
        Some(Server {
            replica: ReplicaId(10 + number as u64),
            address: IpAddr::V4(Ipv4Addr::new(127, b + 1, c, d)),
            port: self.replica_port,
            mode,
        })
    }

    /// From the routes to the acknowledgement, which follows the reading back.
    async fn change(&mut self, kind: &str, mode: Option<ServerMode>) {
        self.generation += 1;
        let wanted = routes(self.generation, self.backends(mode));
        let traffic = Traffic::start(self.steady.route.listen_port);
        let started = Instant::now();
        let applied = self.host.edge.apply(&wanted).await.unwrap();
        let took = started.elapsed();
        let p99 = traffic.stop().await;
        assert_eq!(applied.generation, self.generation, "{applied:?}");
        self.print(
            kind,
            took,
            applied.steps,
            usize::from(applied.reloaded),
            p99,
        )
        .await;
    }

    /// Until HAProxy's checks have let all in: their pace, not the driver's.
    async fn joined(&mut self) {
        let (started, mut steps) = (Instant::now(), 0);
        let traffic = Traffic::start(self.steady.route.listen_port);
        loop {
            // As an agent does: what fails is tried again.
            let ticked = self.host.edge.tick().await;
            if let Ok(ticked) = &ticked {
                steps += ticked.steps;
                if ticked.pending == 0 {
                    break;
                }
            }
            assert!(started.elapsed() < Duration::from_secs(120), "{ticked:?}");
        }
        let p99 = traffic.stop().await;
        self.print("all checked and open", started.elapsed(), steps, 0, p99)
            .await;
    }

    /// The same change the usual way: a new file with other addresses, and a reload.
    async fn reload(&mut self) {
        let text = self.host.config();
        let path = self.host.settings.config_path.clone();
        let traffic = Traffic::start(self.steady.route.listen_port);
        let before = self.pid().await;
        let started = Instant::now();
        std::fs::write(&path, text).unwrap();
        host::signal(self.host.master_pid(), rustix::process::Signal::USR2);
        while matches!(self.pid().await, pid if pid == before || pid == 0) {
            assert!(started.elapsed() < Duration::from_secs(60), "no new worker");
        }
        let took = started.elapsed();
        let p99 = traffic.stop().await;
        self.print("rewrite and reload", took, 0, 1, p99).await;
    }

    /// Of the worker that answers; 0 while none does.
    async fn pid(&self) -> u32 {
        let info = self.host.by_hand("show info").await;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid: "));
        pid.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
    }

    async fn print(
        &mut self,
        kind: &str,
        took: Duration,
        commands: usize,
        reloads: usize,
        p99: Duration,
    ) {
        let pid = self.pid().await;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib: u64 = rss
            .and_then(|t| t.trim().split(' ').next()?.parse().ok())
            .unwrap_or(0);
        println!(
            "edge {} \"{kind}\" {:.3} {commands} {reloads} {:.1} {}",
            self.count,
            took.as_secs_f64(),
            p99.as_secs_f64() * 1e3,
            rss_kib / 1024
        );
    }
}

/// A client that keeps its connection and asks at a steady pace.
struct Traffic {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Duration>>,
}

impl Traffic {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut client = Client::connect(port).await;
            let mut pace = tokio::time::interval(Duration::from_millis(PACE_MS));
            let mut took = Vec::new();
            while !stopped.load(Ordering::SeqCst) || took.len() < 20 {
                pace.tick().await;
                let started = Instant::now();
                if client.get("/").await.is_none() {
                    // An idle connection may end with an old worker.
                    client = Client::connect(port).await;
                    assert!(client.get("/").await.is_some(), "a request failed");
                }
                took.push(started.elapsed());
            }
            took
        });
        Self { stop, task }
    }

    async fn stop(self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        let mut took = self.task.await.unwrap();
        took.sort_unstable();
        took[(took.len() * 99 / 100).min(took.len() - 1)]
    }
}
