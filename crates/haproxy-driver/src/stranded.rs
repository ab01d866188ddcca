//! What waits in HAProxy while no server that is to serve takes requests.
//!
//! Those that leave serve it ([`crate::decide`] holds them in). Where they are gone already, it waits for
//! a successor, and must not be left behind by a reload: the worker that becomes an old one goes on with
//! the servers that it has, and takes no command about them any more ("Proxy is disabled", seen on 2.6.12).

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_model::observe::ServerAdmin;
use longshore_model::routes::ServerMode;
use tokio::time::Instant;

use crate::converge::Outcome;
use crate::decide::points_at;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::intent::BackendIntent;
use crate::look::Depth;
use crate::readout::{Running, RunningServer};
use crate::slots::{Holder, SlotNumber};

/// So long a reload waits for somebody who serves what waits: as long as requests wait by default.
const WAIT_MS_MAX: u64 = 30_000;

type Pool = BTreeMap<SlotNumber, Holder>;
type Servers = BTreeMap<SlotNumber, RunningServer>;

impl Edge {
    /// Does nothing wait in the worker of now for a server that only a new one would get? False: the
    /// reload has to wait.
    pub(crate) async fn leaves_nobody_waiting(
        &mut self,
        outcome: &mut Outcome,
    ) -> Result<bool, EdgeError> {
        let seen = self.look(Depth::Loads).await?;
        let mut waits = Vec::new();
        for name in self.intent.backends.keys() {
            let queued = stranded(&seen.running, name.as_str());
            // Where the reload itself brings room for the one that follows, nothing is gained.
            if queued > 0 && !outcome.decision.reload.contains_key(name) {
                waits.push(format!("{queued} requests wait in {name} for a replica"));
            }
        }
        if waits.is_empty() {
            self.stranded_since = None;
            return Ok(true);
        }
        let since = *self.stranded_since.get_or_insert_with(Instant::now);
        let is_late = since.elapsed() >= Duration::from_millis(WAIT_MS_MAX);
        if !is_late {
            let why = waits.join("; ");
            outcome
                .problems
                .push(format!("a change of structure waits: {why}"));
        }
        Ok(is_late)
    }
}

/// Does a server that is to serve take requests?
pub(crate) fn is_served(backend: &BackendIntent, pool: &Pool, running: &Servers) -> bool {
    pool.iter().any(|(slot, holder)| {
        let Holder::Replica { id, .. } = holder else {
            return false;
        };
        let server = backend.servers.get(id);
        let server = server.filter(|server| server.mode == ServerMode::Serve);
        let mut both = server.zip(running.get(slot)).into_iter();
        both.any(|(server, now)| takes_requests(now) && points_at(now, server))
    })
}

/// Requests that wait for any server of a backend while none takes requests, not even one that leaves.
fn stranded(running: &Running, name: &str) -> u32 {
    let mut servers = running.backends.get(name).into_iter().flatten();
    match servers.any(|(_, now)| takes_requests(now)) {
        true => 0,
        false => running.queues.get(name).copied().unwrap_or(0),
    }
}

fn takes_requests(now: &RunningServer) -> bool {
    now.admin == ServerAdmin::Ready && now.up
}
