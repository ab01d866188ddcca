//! An agent: joins once, then its own session and reconciler, with an engine in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_model::Roles;
use node_agent::identity::IdentityDir;
use node_agent::join::{JoinOptions, join};
use node_agent::ledger::Ledger;
use node_agent::mesh::Doors;
use node_agent::policy::Policy;
use node_agent::reconcile::{AgentClock, Core, Place, Reconciler, Snapshot};
use node_agent::runs::Runner;
use node_agent::runtime::EngineInfo;
use node_agent::said::Said;
use node_agent::sampler::{Roots, Sampler};
use node_agent::session::{self, SessionParts};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::world::{Host, World, lock, say};

/// Runs one life of it.
pub async fn run(world: Arc<World>, at: usize) -> Result<(), Box<dyn std::error::Error>> {
    let host = &world.hosts[at];
    let dir = IdentityDir::new(&host.dir);
    while !dir.cert_path().exists() {
        // A person tries again, too.
        if let Err(error) = enrol(&world, host).await {
            say(&*error);
        }
        sleep(Duration::from_millis(500)).await;
    }
    let identity = dir.load()?;
    let file = identity.file.clone();
    let path = host.dir.join("ledger.json");
    let (ledger, _) = Ledger::open(&path)?;
    let (ledger, stop, clock) = (
        Arc::new(ledger),
        CancellationToken::new(),
        AgentClock::start(),
    );
    let book = ledger.book();
    let (assigned, assignments) = watch::channel(book.assignment);
    let (snapshots_out, snapshots) = watch::channel(Snapshot::default());
    let (holds, held) = watch::channel(Arc::default());
    let (_names, names) = watch::channel(Arc::default());
    let place = Place {
        cluster: file.cluster.as_str().into(),
        node: file.node.clone(),
        address: file.address,
        policy: Policy::default(),
    };
    let reconciler = Reconciler {
        runtime: Arc::clone(&host.engine),
        core: Core::new(place, book.failed),
        clock,
        ledger: Arc::clone(&ledger),
        assignments,
        snapshots: snapshots_out,
        doors: Arc::new(Doors::default()),
        names,
        contents: held,
    };
    tokio::spawn(reconciler.run(stop.clone()));
    let nowhere = host.dir.join("nothing");
    let parts = SessionParts {
        identity,
        identity_dir: dir,
        ledger,
        assignments: Some(assigned),
        routes: None,
        certificates: None,
        contents: Some(holds),
        names: None,
        runner: Some(Arc::new(Runner::new(
            file.cluster.as_str().into(),
            Policy::default(),
        ))),
        snapshots,
        ahead: watch::channel(Vec::new()).1,
        edge_reports: watch::channel(Default::default()).1,
        proxy: None,
        runtime: Arc::clone(&host.engine),
        engine: watch::channel(engine()).1,
        clock,
        renewed: Arc::new(Notify::new()),
        said: Said::new(),
        sampler: Sampler::new(Roots {
            cgroup: nowhere.clone(),
            proc: nowhere,
        }),
    };
    session::run(parts, stop).await;
    Ok(())
}

fn engine() -> EngineInfo {
    EngineInfo {
        version: "28.0".into(),
        os: "linux".into(),
        arch: "x86_64".into(),
        live_restore: true,
        ..EngineInfo::default()
    }
}

async fn enrol(world: &World, host: &Host) -> Result<(), Box<dyn std::error::Error>> {
    let Some(token) = lock(&world.tokens).get(&host.name).cloned() else {
        return Ok(());
    };
    let options = JoinOptions {
        controller: World::url(),
        token,
        name: host.name.clone(),
        address: turmoil::lookup(host.name.as_str()),
        roles: Roles {
            worker: true,
            edge: false,
        },
        labels: BTreeMap::new(),
        data_dir: host.dir.clone(),
    };
    join(&options).await?;
    Ok(())
}
