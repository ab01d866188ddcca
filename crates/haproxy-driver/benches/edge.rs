//! What it costs to bring servers in, drain them and take them out, beside a rewritten file and a
//! reload of the same change, and to look at them once a second. One line a case, medians over
//! `ROUNDS` new HAProxys: `edge SERVERS kind seconds commands reloads p99_ms rss_mib haproxy_cpu_ms
//! own_cpu_ms`. The last two are what HAProxy's worker and this process spent, the traffic's client
//! and server included; of `a pass` they are for one, so 20 ms at a pass a second are 2 % of a core.
//!
//! All on loopback: one listener answers for every address of 127/8, checks come every minute and
//! are said to have passed by hand, so that what is measured is the driver and HAProxy, not ten
//! thousand replicas.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A bench stops where anything fails.

#[path = "../tests/real/host/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod host;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::{Client, Host, Replica, everywhere, free_port, http, routes};
use longshore_haproxy_driver::slots::Holder;
use longshore_model::ReplicaId;
use longshore_model::route::CheckTimes;
use longshore_model::routes::{Backend, Server, ServerMode};
use tokio::task::JoinHandle;

/// Servers of one service.
const PER_SERVICE: usize = 100;
/// Passes that one's cost is the mean of.
const PASSES: u32 = 20;
/// Between two requests beside each change.
const PACE_MS: u64 = 5;

fn main() {
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or(default.to_owned());
    let servers = setting("SERVERS", "1000,10000");
    let rounds: usize = setting("ROUNDS", "3").parse().expect("ROUNDS: a number");
    // What a service has that says nothing; each newcomer costs a command more than with 0.
    let maxconn = setting("MAXCONN", "64").parse().expect("MAXCONN: a number");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    println!("edge SERVERS kind seconds commands reloads p99_ms rss_mib haproxy_cpu_ms own_cpu_ms");
    for count in servers.split(',') {
        let count: usize = count.trim().parse().expect("SERVERS: numbers with commas");
        let rounds =
            (0..rounds.max(1)).map(|_| runtime.block_on(case(count.min(100_000), maxconn)));
        print(count, &rounds.collect::<Vec<_>>());
    }
}

/// What one kind of change cost.
struct Cost {
    kind: &'static str,
    seconds: f64,
    commands: usize,
    reloads: usize,
    p99_ms: f64,
    rss_mib: u64,
    haproxy_cpu_ms: f64,
    own_cpu_ms: f64,
}

/// A line for each kind: the medians of all rounds.
fn print(count: usize, rounds: &[Vec<Cost>]) {
    for (i, first) in rounds[0].iter().enumerate() {
        let median = |of: fn(&Cost) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(|costs| of(&costs[i])).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "edge {count} \"{}\" {:.4} {} {} {:.1} {} {:.1} {:.1}",
            first.kind,
            median(|c| c.seconds),
            median(|c| c.commands as f64),
            median(|c| c.reloads as f64),
            median(|c| c.p99_ms),
            median(|c| c.rss_mib as f64),
            median(|c| c.haproxy_cpu_ms),
            median(|c| c.own_cpu_ms),
        );
    }
}

/// Milliseconds on a processor, of all threads of a process.
fn cpu_ms(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    spent.sum::<f64>() / 1e6
}

struct Bench {
    host: Host,
    count: usize,
    /// Requests at a time for each server.
    maxconn: u32,
    ports: Vec<u16>,
    /// Of the listener that answers for all servers.
    replica_port: u16,
    /// The way in that the traffic takes.
    steady: Backend,
    generation: u64,
    costs: Vec<Cost>,
}

async fn case(count: usize, maxconn: u32) -> Vec<Cost> {
    let mut host = Host::with(|settings| {
        // Each server's check counts as well where HAProxy asks for file descriptors.
        settings.connections_max = 500;
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
        maxconn,
        ports: (0..services).map(|_| free_port()).collect(),
        replica_port: everywhere().await,
        steady,
        generation: 1,
        costs: Vec::new(),
    };
    bench.change("structure", None).await;
    let serve = Some(ServerMode::Serve);
    bench.change("bring in, pools grow", serve).await;
    bench.open("open").await;
    bench.change("drain", Some(ServerMode::Drain)).await;
    bench.change("take out", None).await;
    // As an agent does after each change: what left is free from then on.
    bench.host.edge.tick().await.unwrap();
    bench.change("bring in, pools there", serve).await;
    bench.open("open again").await;
    bench.change("unchanged", serve).await;
    bench.passes().await;
    bench.reload().await;
    replica.kill();
    bench.costs
}

impl Bench {
    fn backends(&self, mode: Option<ServerMode>) -> Vec<Backend> {
        let mut left = self.count;
        let backends = self.ports.iter().enumerate().map(|(service, port)| {
            let here = left.min(PER_SERVICE);
            left -= here;
            let servers = (0..here).filter_map(|n| self.server(service * PER_SERVICE + n, mode?));
            let mut backend = http(&format!("bench/w{service}"), *port, servers.collect());
            backend.route.maxconn_per_replica = self.maxconn;
            backend.route.check = CheckTimes {
                interval_ms: 60_000,
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
            weight: None,
        })
    }

    /// From the routes to the acknowledgement, which follows the reading back.
    async fn change(&mut self, kind: &'static str, mode: Option<ServerMode>) {
        self.generation += 1;
        let wanted = routes(self.generation, self.backends(mode));
        let watch = self.watch().await;
        let applied = self.host.edge.apply(&wanted).await.unwrap();
        assert_eq!(applied.generation, self.generation, "{applied:?}");
        let reloads = usize::from(applied.reloaded);
        self.note(kind, watch, applied.steps, reloads).await;
    }

    /// All checks pass at once: until all servers take requests.
    async fn open(&mut self, kind: &'static str) {
        self.pass_checks().await;
        let watch = self.watch().await;
        let (started, mut steps) = (Instant::now(), 0);
        loop {
            // As an agent does: what fails is tried again.
            let ticked = self.host.edge.tick().await;
            if let Ok(ticked) = &ticked {
                steps += ticked.steps;
                if ticked.pending == 0 {
                    break;
                }
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{ticked:?}");
        }
        self.note(kind, watch, steps, 0).await;
    }

    /// Says to HAProxy that the checks of all joining servers have passed.
    async fn pass_checks(&self) {
        let mut line = String::new();
        for (backend, pool) in &self.host.edge.slots().backends {
            for (slot, holder) in pool {
                if matches!(holder, Holder::Replica { proven: false, .. }) {
                    line += &format!("set server {backend}/slot{slot} health up;");
                }
                if line.len() > 8_000 {
                    self.host.by_hand(&std::mem::take(&mut line)).await;
                }
            }
        }
        self.host.by_hand(&line).await;
    }

    /// What an agent does once a second where nothing changes.
    async fn passes(&mut self) {
        let watch = self.watch().await;
        for _ in 0..PASSES {
            let ticked = self.host.edge.tick().await.unwrap();
            assert_eq!(ticked.steps, 0, "{ticked:?}");
            let seen = self.host.edge.report().await.unwrap();
            assert!(seen.problems.is_empty(), "{:?}", seen.problems);
        }
        self.note("a pass", watch, 0, 0).await;
        let cost = self.costs.last_mut().unwrap();
        let passes = f64::from(PASSES);
        cost.seconds /= passes;
        cost.haproxy_cpu_ms /= passes;
        cost.own_cpu_ms /= passes;
    }

    /// The same change the usual way: a new file with other addresses, and a reload.
    async fn reload(&mut self) {
        let text = self.host.config();
        let path = self.host.settings.config_path.clone();
        let before = self.pid().await;
        let watch = self.watch().await;
        std::fs::write(&path, text).unwrap();
        host::signal(self.host.master_pid(), rustix::process::Signal::USR2);
        let started = Instant::now();
        while matches!(self.pid().await, pid if pid == before || pid == 0) {
            let waited = started.elapsed();
            let log = self.host.log();
            let last = log.lines().next_back();
            assert!(waited < Duration::from_secs(60), "no new worker: {last:?}");
        }
        self.note("rewrite and reload", watch, 0, 1).await;
    }

    /// Begins to measure, with traffic beside.
    async fn watch(&self) -> Watch {
        let pid = self.pid().await;
        Watch {
            traffic: Traffic::start(self.steady.route.listen_port),
            haproxy_cpu_ms: cpu_ms(pid),
            own_cpu_ms: cpu_ms(std::process::id()),
            pid,
            started: Instant::now(),
        }
    }

    async fn note(&mut self, kind: &'static str, watch: Watch, commands: usize, reloads: usize) {
        let seconds = watch.started.elapsed().as_secs_f64();
        let own_cpu_ms = cpu_ms(std::process::id()) - watch.own_cpu_ms;
        // A new worker has begun at nothing.
        let pid = self.pid().await;
        let before = (pid == watch.pid).then_some(watch.haproxy_cpu_ms);
        let haproxy_cpu_ms = cpu_ms(pid) - before.unwrap_or(0.0);
        let p99 = watch.traffic.stop().await;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib: u64 = rss
            .and_then(|t| t.trim().split(' ').next()?.parse().ok())
            .unwrap_or(0);
        self.costs.push(Cost {
            kind,
            seconds,
            commands,
            reloads,
            p99_ms: p99.as_secs_f64() * 1e3,
            rss_mib: rss_kib / 1024,
            haproxy_cpu_ms,
            own_cpu_ms,
        });
    }

    /// Of the worker that answers; 0 while none does.
    async fn pid(&self) -> u32 {
        let info = self.host.by_hand("show info").await;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid: "));
        pid.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
    }
}

/// What was there when a measurement began.
struct Watch {
    traffic: Traffic,
    haproxy_cpu_ms: f64,
    own_cpu_ms: f64,
    pid: u32,
    started: Instant,
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
