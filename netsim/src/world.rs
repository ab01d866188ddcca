//! What outlives a crash of its programs: the store, disks and engines; and what the judge looks at.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use controller::store::MemStore;
use longshore_identity::ca::ClusterCa;
use node_agent::runtime::fake::FakeRuntime;

pub const CLUSTER: &str = "sim";
pub const CONTROLLER: &str = "controller";
pub const PORT: u16 = 7443;
pub const APP: &str = "shop";
/// Services of the app.
pub const SERVICES: [&str; 2] = ["api", "web"];
pub const IMAGE: &str = "web:1";

/// A host that runs containers.
pub struct Host {
    pub name: String,
    /// Its disk: identity and ledger.
    pub dir: PathBuf,
    /// Its engine, which goes on while the agent is away.
    pub engine: Arc<FakeRuntime>,
}

/// What an operator was told.
#[derive(Debug, Default, Clone)]
pub struct Told {
    /// The count that was acknowledged last, by service.
    pub acknowledged: BTreeMap<String, u32>,
    /// Counts that were asked for afterwards and not answered: they may hold as well.
    pub unanswered: BTreeMap<String, Vec<u32>>,
    /// All counts that were asked for, by service, the latest last.
    pub counts: BTreeMap<String, Vec<u32>>,
    /// How many changes were acknowledged.
    pub changes: u32,
}

/// See the module.
pub struct World {
    pub seed: u64,
    pub ca_cert: String,
    pub ca_key: String,
    pub store: Arc<MemStore>,
    pub dir: tempfile::TempDir,
    pub hosts: Vec<Host>,
    /// Join tokens, by host.
    pub tokens: Mutex<BTreeMap<String, String>>,
    pub told: Mutex<Told>,
    /// The operator changes nothing more.
    pub quiet: Mutex<bool>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells who looks for the cause of something: `NETSIM_SAY=1`.
pub fn say(error: &dyn std::error::Error) {
    if std::env::var_os("NETSIM_SAY").is_some() {
        eprintln!("{}", controller::chain(error));
    }
}

impl World {
    pub fn ca(&self) -> ClusterCa {
        ClusterCa::load(CLUSTER, &self.ca_cert, &self.ca_key).expect("our own CA")
    }

    pub fn url() -> String {
        format!("https://{CONTROLLER}:{PORT}")
    }
}
