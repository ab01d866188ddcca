//! The app of the hand-over bench: a well-behaved HTTP server that keeps a ledger.
//!
//! At SIGTERM it accepts no more, finishes what is in flight for as long as its grace time allows,
//! says its ledger and exits: what the guides ask of an app.

mod answer;
mod ledger;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use ledger::{Entry, Ledger};

/// Settings, from the environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen (`PORT`, default 8000, on all addresses).
    pub listen: SocketAddr,
    /// Time between SIGTERM and the end, for what is in flight (`GRACE_S`, default 9).
    pub grace: Duration,
    /// Who is told the ledger at the end (`LEDGER_TO`, `host:port`), besides standard output.
    pub ledger_to: Option<SocketAddr>,
    /// Name of this replica (`HOSTNAME`).
    pub replica: String,
}

impl Settings {
    /// Reads them.
    ///
    /// # Panics
    /// If one has no meaning.
    #[must_use]
    pub fn from_env() -> Self {
        let get = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let number = |name: &str, default: u16| {
            get(name).map_or(default, |text| text.parse().expect("a number"))
        };
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], number("PORT", 8000))),
            grace: Duration::from_secs(number("GRACE_S", 9).into()),
            ledger_to: get("LEDGER_TO").map(|text| text.parse().expect("LEDGER_TO: IP:PORT")),
            replica: get("HOSTNAME").unwrap_or_else(|| "bench".to_owned()),
        }
    }
}

/// Serves until SIGTERM, then ends as described above.
///
/// # Panics
/// If it cannot listen.
pub async fn run(settings: Settings) {
    let mut term = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
    let listener = TcpListener::bind(settings.listen)
        .await
        .expect("the port is free");
    let told = async {
        term.recv().await;
    };
    run_until(&settings, listener, told).await;
}

/// As [`run`], until `told`.
pub(crate) async fn run_until(
    settings: &Settings,
    listener: TcpListener,
    told: impl Future<Output = ()>,
) {
    let stop = CancellationToken::new();
    let ledger = Arc::new(Ledger::default());
    let serving = serve(listener, settings, Arc::clone(&ledger), stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => {}
        () = told => stop.cancel(),
    }
    // Out of time, the rest is cut: counted as begun and never finished.
    let _ = tokio::time::timeout(settings.grace, serving).await;
    let text = ledger.to_json(&settings.replica, true).to_string();
    println!("{text}");
    if let Some(address) = settings.ledger_to {
        tell(address, &text).await;
    }
}

/// Accepts until `stop`, then waits for all connections to end.
pub async fn serve(
    listener: TcpListener,
    settings: &Settings,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        if let Ok((stream, _)) = accepted {
            let peer = answer::Peer::new(stream, &settings.replica, &ledger, &stop);
            connections.spawn(peer.converse());
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Best effort, within a second: standard output has it, too.
async fn tell(address: SocketAddr, text: &str) {
    let send = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    };
    if !matches!(
        tokio::time::timeout(Duration::from_secs(1), send).await,
        Ok(Ok(()))
    ) {
        eprintln!("the ledger could not be sent to {address}");
    }
}
