//! Takes the ledgers of replicas that end.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::kind::Kind;

/// How the host names of the queue's replicas begin.
const QUEUE_HOSTS: &str = "queue.";
/// Longest ledger.
const LEDGER_MAX: u64 = 64 * 1024;

/// Sum of ledgers, of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Served {
    /// Requests begun.
    pub(super) begun: u64,
    /// Requests finished.
    pub(super) finished: u64,
    /// Requests cut.
    pub(super) cut: u64,
    /// Echoes, of WebSockets.
    pub(super) echoes: u64,
}

/// What the ledgers that came say together.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    /// How many they are.
    pub(super) replicas: usize,
    /// Sums, by kind.
    pub(super) served: BTreeMap<Kind, Served>,
    /// Requests that each replica of the queue's service finished.
    pub(super) queued: Vec<u64>,
}

/// Listens for as long as the process lives.
#[derive(Clone)]
pub(super) struct Collector {
    /// Where replicas send their ledgers.
    pub(super) address: SocketAddr,
    ledgers: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// Begins to listen on a free port of `ip`, the address of this machine in the lab's network.
    ///
    /// # Panics
    /// If it cannot.
    #[must_use]
    pub(super) fn start(ip: &str) -> Self {
        let listener = TcpListener::bind(format!("{ip}:0")).expect("an address in the lab's net");
        let address = listener.local_addr().expect("an address");
        let ledgers = Arc::new(Mutex::default());
        let taken = Arc::clone(&ledgers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
                let mut text = String::new();
                let read = stream.take(LEDGER_MAX).read_to_string(&mut text);
                if let (Ok(_), Ok(ledger)) = (read, serde_json::from_str(&text)) {
                    let mut all: std::sync::MutexGuard<'_, Vec<Value>> =
                        taken.lock().expect("not poisoned");
                    all.push(ledger);
                }
            }
        });
        Self { address, ledgers }
    }

    /// How many came.
    ///
    /// # Panics
    /// If its thread panicked.
    #[must_use]
    pub(super) fn count(&self) -> usize {
        self.ledgers.lock().expect("not poisoned").len()
    }

    /// Forgets all that came.
    pub(super) fn forget(&self) {
        let _ = self.take();
    }

    /// Sums of all that came since the last call.
    ///
    /// # Panics
    /// If its thread panicked.
    #[must_use]
    pub(super) fn take(&self) -> Ledgers {
        let ledgers = std::mem::take(&mut *self.ledgers.lock().expect("not poisoned"));
        let mut sums = BTreeMap::new();
        for kind in Kind::ALL {
            let sum = |what: &str| {
                let counts = ledgers
                    .iter()
                    .map(|ledger| &ledger["kinds"][kind.name()][what]);
                counts.filter_map(Value::as_u64).sum()
            };
            let served = Served {
                begun: sum("begun"),
                finished: sum("finished"),
                cut: sum("cut"),
                echoes: sum("echoes"),
            };
            sums.insert(kind, served);
        }
        let of_queue = |ledger: &&Value| {
            let name = ledger["replica"].as_str().unwrap_or_default();
            name.starts_with(QUEUE_HOSTS)
        };
        let finished = |ledger: &Value| ledger["kinds"][Kind::Queued.name()]["finished"].as_u64();
        Ledgers {
            replicas: ledgers.len(),
            served: sums,
            queued: ledgers
                .iter()
                .filter(of_queue)
                .filter_map(finished)
                .collect(),
        }
    }
}
