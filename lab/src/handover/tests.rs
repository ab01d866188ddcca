//! The bench's ledgers over loopback, with a real HAProxy.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Running, edge};
use crate::bench_app::{Ledger, Settings, serve};
use crate::kind::Kind;
use crate::traffic::{Plan, Target};
use crate::{get_with, until};

const SOON: Duration = Duration::from_secs(10);

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
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
    let running = Running::start(Plan {
        slow_ms: 200,
        download_rate: 5.0,
        download_s: 1,
        socket_s: 1,
        ..Plan::standard(target)
    });
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
