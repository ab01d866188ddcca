//! The bench's ledgers over loopback, with a real HAProxy.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::classic::{Classic, Machines};
use super::system::System;
use super::{Collector, Running, edge};
use crate::bench_app::{Ledger, Settings, run_until, serve};
use crate::kind::Kind;
use crate::traffic::{Plan, Target};
use crate::{get_with, until};

const SOON: Duration = Duration::from_secs(10);
/// A signal that had no effect for so long was not heard.
const SIGNAL_AGAIN: Duration = Duration::from_secs(1);

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Below those that the kernel gives to whoever asks for any: an app, a connection or another test
/// would be given it before HAProxy opens it.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id() % 1_200 * 10;
    let ports = (0..100).map(|_| 20_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000);
    ports
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of a hundred ports is free")
}

fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let settings = Settings {
            listen,
            grace: SOON,
            ledger_to: None,
            replica: "app".to_owned(),
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let ledger = std::sync::Arc::new(Ledger::default());
            serve(listener, &settings, ledger, CancellationToken::new()).await;
        });
    });
    listen
}

/// HAProxy before two apps; the ports of its frontend and of its statistics.
fn proxy(file: &std::path::Path) -> (Proxy, u16, u16) {
    let (port, stats) = (free_port(), free_port());
    let servers: String = (1..=2)
        .map(|number| format!("    server s{number} {}\n", app()))
        .collect();
    let config = format!(
        "defaults\n    mode http\n    timeout connect 2s\n    timeout client 60s\n    \
         timeout server 60s\n    timeout tunnel 60s\n\
         frontend stats\n    bind 127.0.0.1:{stats}\n    stats enable\n    stats uri /stats\n    \
         http-request use-service prometheus-exporter if {{ path /metrics }}\n\
         frontend fe_{port}\n    bind 127.0.0.1:{port}\n    default_backend be_{port}\n\
         backend be_{port}\n    balance roundrobin\n{servers}"
    );
    std::fs::write(file, config).unwrap();
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-db", "-f"]).arg(file).stderr(Stdio::null());
    let proxy = Proxy(haproxy.spawn().expect("haproxy is installed"));
    until("HAProxy answers", SOON, || {
        get_with(&format!("127.0.0.1:{stats}"), "/metrics", SOON)
    });
    (proxy, port, stats)
}

#[test]
fn haproxy_read_exactly_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let (_proxy, port, stats) = proxy(&folder.path().join("haproxy.cfg"));
    let before = edge::counters("127.0.0.1", stats, port);
    let target = Target::parse(&format!("127.0.0.1:{port}"), "192.168.56").unwrap();
    let running = Running::start(vec![Plan {
        queue: Some(target),
        slow_ms: 200,
        download_rate: 5.0,
        download_s: 1,
        socket_s: 1,
        ..Plan::standard(target)
    }]);
    let tally = std::sync::Arc::clone(&running.tally);
    until("every kind has had answers", SOON, || {
        let counts = Kind::ALL.map(|kind| tally.counts(kind, false).ok);
        if counts.iter().all(|ok| *ok > 5) {
            Ok(())
        } else {
            Err(counts)
        }
    });
    let tally = running.finish();
    let written: u64 = Kind::ALL.map(|kind| tally.http(kind).0).iter().sum();
    for kind in Kind::ALL {
        assert_eq!(
            tally.counts(kind, false).failed,
            0,
            "{kind:?} {:?}",
            tally.classes(false)
        );
    }
    let since = edge::counters("127.0.0.1", stats, port).since(&before);
    assert_eq!(since.map(|counters| counters.requests), Some(written));
}

/// The classic way on this machine: apps in threads, a HAProxy with a master.
struct Loopback {
    folder: tempfile::TempDir,
    ports: (u16, u16),
    grace: Duration,
    apps: Vec<(String, CancellationToken, std::thread::JoinHandle<()>)>,
    master: Option<Child>,
}

impl Loopback {
    fn new(grace: Duration) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            ports: (free_port(), free_port()),
            grace,
            apps: Vec::new(),
            master: None,
        }
    }

    /// Returns once the new worker serves. A master that started a moment ago does not hear a signal:
    /// it is sent again.
    fn reload(&self, file: &str) {
        let name = |line: &str| {
            line.trim()
                .strip_prefix("server ")?
                .split(' ')
                .next()
                .map(str::to_owned)
        };
        let wanted: BTreeSet<String> = file.lines().filter_map(name).collect();
        let page = format!("127.0.0.1:{}", self.ports.1);
        let mut signalled = None;
        until("the new worker serves", SOON, || {
            if signalled.is_none_or(|at: Instant| at.elapsed() > SIGNAL_AGAIN) {
                self.signal("-USR2");
                signalled = Some(Instant::now());
            }
            let page = get_with(&page, "/stats;csv", SOON).map_or_else(|e| e, |answer| answer.body);
            let lines = page.lines().filter(|line| line.starts_with("be_"));
            let names = lines
                .filter_map(|line| line.split(',').nth(1))
                .map(str::to_owned);
            let served: BTreeSet<String> = names.filter(|name| name != "BACKEND").collect();
            if served == wanted {
                Ok(())
            } else {
                Err(served)
            }
        });
    }

    fn signal(&self, signal: &str) {
        let pid = self.master.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        // After a panic only.
        if self.master.is_some() {
            self.end();
        }
    }
}

impl Machines for Loopback {
    fn port(&self) -> u16 {
        self.ports.0
    }

    fn stats_port(&self) -> u16 {
        self.ports.1
    }

    fn start(&mut self, _worker: &str, name: &str, _number: u16, ledger_to: &str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let settings = Settings {
            listen,
            grace: self.grace,
            ledger_to: Some(ledger_to.parse().unwrap()),
            replica: name.to_owned(),
        };
        let stop = CancellationToken::new();
        let ends = stop.clone();
        // The thread's end cuts what is left, as SIGKILL would.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                run_until(&settings, listener, ends.cancelled_owned()).await;
            });
        });
        self.apps.push((name.to_owned(), stop, thread));
        listen.port()
    }

    fn stop(&mut self, replicas: &[(String, String)]) {
        let leaves = |name: &String| replicas.iter().any(|(_, leaving)| leaving == name);
        let (gone, kept) = self.apps.drain(..).partition(|(name, ..)| leaves(name));
        self.apps = kept;
        let gone: Vec<(String, CancellationToken, std::thread::JoinHandle<()>)> = gone;
        for (_, stop, _) in &gone {
            stop.cancel();
        }
        for (_, _, thread) in gone {
            thread.join().unwrap();
        }
    }

    fn address(&self, _worker: &str) -> String {
        "127.0.0.1".to_owned()
    }

    fn configure(&mut self, file: &str) {
        let path = self.folder.path().join("haproxy.cfg");
        std::fs::write(&path, file).unwrap();
        if self.master.is_some() {
            return self.reload(file);
        }
        let mut haproxy = Command::new("haproxy");
        haproxy.arg("-W").arg("-f").arg(&path).stderr(Stdio::null());
        self.master = Some(haproxy.spawn().expect("haproxy is installed"));
        let address = format!("127.0.0.1:{}", self.ports.0);
        until("HAProxy serves", SOON, || {
            match get_with(&address, "/healthz", SOON) {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(other),
            }
        });
    }

    fn end(&mut self) {
        self.signal("-TERM");
        self.master.take().unwrap().wait().unwrap();
    }
}

#[test]
fn stopping_first_and_reloading_later_cuts_long_requests_and_the_bench_says_so() {
    let collector = Collector::start("127.0.0.1");
    let machines = Loopback::new(Duration::from_millis(300));
    let target = Target::parse(&format!("127.0.0.1:{}", machines.port()), "192.168.56").unwrap();
    let mut classic = Classic::new(machines);
    classic.deploy(&collector.address.to_string());
    let running = Running::start(vec![Plan {
        download_rate: 10.0,
        download_s: 2,
        ..Plan::standard(target)
    }]);
    classic.scale(4);
    let tally = std::sync::Arc::clone(&running.tally);
    let before = tally.http(Kind::Download).0;
    until("downloads go on everywhere", SOON, || {
        let begun = tally.http(Kind::Download).0 - before;
        if begun > 15 { Ok(()) } else { Err(begun) }
    });
    classic.scale(1);
    let tally = running.finish();
    classic.down();
    let ledgers = collector.take();
    let cut: u64 = ledgers.served.values().map(|served| served.cut).sum();
    let failed = tally.counts(Kind::Download, false).failed;
    assert!(
        failed > 0 && cut > 0,
        "failed {failed}, cut {cut}: {:?}",
        tally.classes(false)
    );
    assert_eq!(classic.reloads(), Some(2));
}
