//! Changes of structure: when they are loaded, and what is served while they cannot be.
//!
//! Membership never waits for them. While a reload fails or is put off, servers come and go in the
//! structure that HAProxy has, and the file on disk is that structure with the servers of now.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::ServiceKey;
use longshore_model::observe::ServerAdmin;
use longshore_model::routes::Backend;
use longshore_model::spec::RouteSpec;
use tokio::time::Instant;

use crate::admit::Draft;
use crate::blocking::blocking;
use crate::compile::refuse;
use crate::converge::{Outcome, Waits};
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::intent::Intent;
use crate::look::Seen;
use crate::name::BackendName;
use crate::pending::{Due, spacing_ms};
use crate::quarantine::bounded;
use crate::readout::Running;
use crate::render::with_servers;

/// Between two reloads where the second puts back what a hand took away.
const LOST_SPACING_MS: u64 = 1_000;

impl Edge {
    /// The file as it should be for the servers that are there: with pools as they are.
    pub(crate) async fn present(&self) -> Draft {
        let (intent, slots) = (Arc::clone(&self.intent), self.slots.clone());
        let settings = Arc::clone(&self.settings);
        blocking(move || Draft::of(&intent, slots, &settings)).await
    }

    /// The file on disk with the servers of now.
    pub(crate) async fn with_servers(&self) -> String {
        let (driven, slots) = (self.driven(), self.slots.clone());
        let file = self.written.clone().unwrap_or_default();
        blocking(move || with_servers(&file, &driven, &slots)).await
    }

    /// Is there a structure that HAProxy has not loaded?
    pub(crate) fn is_reload_due(&self, draft: &Draft, outcome: &Outcome) -> bool {
        self.slots.reload_owed
            || self.loaded.as_ref() != Some(&draft.structure)
            || !outcome.decision.reload.is_empty()
    }

    /// Reloads where it is time to; a reload that fails is a problem and no error.
    pub(crate) async fn try_reload(
        &mut self,
        wanted: &str,
        mut seen: Arc<Seen>,
        outcome: &mut Outcome,
    ) -> Result<Arc<Seen>, EdgeError> {
        let usual_ms = self.settings.reload_spacing_ms;
        let seen_reloads = match self.old_workers.is_empty() {
            true => 0,
            false => self.oldest_reloads,
        };
        let spacing_ms = match outcome.lost.is_empty() {
            true => spacing_ms(usual_ms, seen_reloads),
            // It served until a hand took it away.
            false => usual_ms.min(LOST_SPACING_MS),
        };
        let due = self.reloads.due(wanted, Instant::now(), spacing_ms);
        if due == Due::Spaced && spacing_ms > usual_ms {
            outcome.problems.push(format!(
                "a change of structure waits, {} s after the last one: an old worker with connections has \
                 seen {seen_reloads} reloads, and the tenth would cut them",
                spacing_ms.div_ceil(1_000)
            ));
        }
        if due != Due::Now {
            return Ok(seen);
        }
        if !self.leaves_nobody_waiting(outcome).await? {
            return Ok(seen);
        }
        match self.reload(&seen.running, &outcome.decision.reload).await {
            Ok(false) => seen = self.settle(outcome).await?,
            Ok(true) => {
                outcome.reloaded = true;
                let mut lost = std::mem::take(&mut outcome.lost);
                outcome.repaired.append(&mut lost);
                self.reloads.done(Instant::now());
                seen = self.settle(outcome).await?;
                if let Some((name, why)) = outcome.decision.reload.first_key_value() {
                    let why = format!("after the reload, {name} {why}");
                    self.reloads.failed(wanted.to_owned(), why, Instant::now());
                }
            }
            Err(error) => {
                let why = error.chain();
                self.reloads.failed(wanted.to_owned(), why, Instant::now());
                // Ways in that are not wanted any more must not go on serving.
                seen = self.settle(outcome).await?;
            }
        }
        Ok(seen)
    }

    /// After all that could be done now was done.
    pub(crate) fn waits(&self, draft: &Draft, outcome: &Outcome) -> Waits {
        if !self.is_reload_due(draft, outcome) {
            Waits::No
        } else if self.reloads.failure().is_some() {
            Waits::Failing
        } else {
            Waits::Spaced
        }
    }

    /// Says of each service that is not served as wanted that it waits.
    pub(crate) fn say_waiting(&mut self, running: &Running, outcome: &mut Outcome) {
        self.waiting.clear();
        let why = match (outcome.waits, self.reloads.failure()) {
            (Waits::Failing, Some(why)) => bounded(why),
            _ => return,
        };
        for (name, backend) in &self.intent.backends {
            let loaded = self.slots.loaded.get(name.as_str());
            let said = if !running.backends.contains_key(name.as_str()) {
                format!("waits for a reload of HAProxy: {why}")
            } else if loaded.is_some_and(|route| *route != backend.route) {
                format!("served as it was before; waits for a reload of HAProxy: {why}")
            } else {
                continue;
            };
            refuse(&mut self.waiting, &backend.service, &said);
        }
        outcome
            .problems
            .push(format!("a change of structure waits: {why}"));
    }

    /// What the worker is driven to: the intent and, while reloads fail, ways in that are not
    /// wanted any more, without the servers that are not.
    pub(crate) fn driven(&self) -> Arc<Intent> {
        let retired: Vec<_> = match self.reloads.failure() {
            Some(_) => self.retired().collect(),
            None => Vec::new(),
        };
        if retired.is_empty() {
            return Arc::clone(&self.intent);
        }
        let mut driven = Intent::clone(&self.intent);
        for (service, route) in retired {
            // Those that serve elsewhere may stay until the reload.
            let mut servers = BTreeMap::new();
            for backend in self.intent.backends.values() {
                if backend.service == service {
                    servers.extend(backend.servers.clone());
                }
            }
            driven.keep(&Backend {
                service,
                route,
                servers: servers.into_values().collect(),
                holds: false,
            });
        }
        Arc::new(driven)
    }

    /// Ways in that HAProxy has and nobody wants.
    fn retired(&self) -> impl Iterator<Item = (ServiceKey, RouteSpec)> {
        self.slots.loaded.iter().filter_map(|(name, route)| {
            let (service, port) = BackendName::parse(name)?;
            let name = BackendName::of(&service, port);
            let is_wanted = self.intent.backends.contains_key(&name);
            (!is_wanted).then(|| (service, route.clone()))
        })
    }

    /// Would a server of a way in that nobody wants get requests?
    pub(crate) fn retired_serve(&self, running: &Running) -> bool {
        self.retired().any(|(service, route)| {
            let name = BackendName::of(&service, route.listen_port);
            let servers = running.backends.get(name.as_str());
            let mut servers = servers.into_iter().flat_map(|servers| servers.values());
            servers.any(|server| server.admin == ServerAdmin::Ready)
        })
    }
}
