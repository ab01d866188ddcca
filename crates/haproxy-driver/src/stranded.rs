//! What waits in HAProxy when it is about to be reloaded.
//!
//! The worker that becomes an old one goes on with the servers that it has, and takes no command about
//! them any more ("Proxy is disabled", seen on 2.6.12). What waits there for a server that is not let in
//! yet, as in an update that stops first, would wait for nobody.

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
use crate::readout::Running;
use crate::slots::Holder;
use crate::step::{Action, Step};

/// So long a reload waits for somebody who serves what waits: as long as requests wait by default.
const WAIT_MS_MAX: u64 = 30_000;

impl Edge {
    /// Sees to it that somebody serves what waits in the worker of now, also once it is an old one: those
    /// that leave are let in once more. False: nobody is there yet, so that the reload has to wait.
    pub(crate) async fn leaves_nobody_waiting(
        &mut self,
        outcome: &mut Outcome,
    ) -> Result<bool, EdgeError> {
        let seen = self.look(Depth::Loads).await?;
        let mut steps = Vec::new();
        let mut waits = Vec::new();
        for backend in self.intent.backends.values() {
            let queued = stranded(&seen.running, backend);
            // Where the reload itself brings room for the one that follows, nothing is gained.
            if queued == 0 || outcome.decision.reload.contains_key(&backend.name) {
                continue;
            }
            let let_in = self.let_in_once_more(&seen.running, backend);
            if let_in.is_empty() {
                let name = &backend.name;
                waits.push(format!("{queued} requests wait in {name} for a replica"));
            }
            steps.extend(let_in);
        }
        self.send(&steps).await?;
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

    /// Lets servers of a backend in that leave and are still there.
    fn let_in_once_more(&self, running: &Running, backend: &BackendIntent) -> Vec<Step> {
        let name = &backend.name;
        let pools = self.slots.backends.get(name.as_str());
        let pools = pools.zip(running.backends.get(name.as_str()));
        let Some((pool, running)) = pools else {
            return Vec::new();
        };
        let limit = self.slots.loaded.get(name.as_str());
        let maxconn = limit.map_or(backend.route.maxconn_per_replica, |route| {
            route.maxconn_per_replica
        });
        let leaves = pool.iter().filter(|(slot, holder)| match holder {
            Holder::Replica { id, .. } => {
                let server = backend.servers.get(id);
                // A newcomer proves itself first.
                let server = server.filter(|server| server.mode == ServerMode::Drain);
                let now = running.get(slot);
                let is_there = server
                    .zip(now)
                    .is_some_and(|(server, now)| now.up && points_at(now, server));
                is_there && !self.over.contains(id)
            }
            Holder::Leaving | Holder::Free => false,
        });
        let step = |slot, action| Step {
            backend: name.clone(),
            slot,
            action,
        };
        leaves
            .flat_map(|(slot, _)| {
                let pull = (maxconn > 0).then_some(Action::Pull { maxconn });
                let steps = [Some(Action::Ready), pull].into_iter().flatten();
                steps.map(move |action| step(*slot, action))
            })
            .collect()
    }
}

/// Requests that wait for any server of a backend while none takes requests.
fn stranded(running: &Running, backend: &BackendIntent) -> u32 {
    let name = backend.name.as_str();
    let servers = running.backends.get(name).into_iter().flatten();
    let mut takers = servers.filter(|(_, now)| now.admin == ServerAdmin::Ready && now.up);
    match takers.next() {
        Some(_) => 0,
        None => running.queues.get(name).copied().unwrap_or(0),
    }
}
