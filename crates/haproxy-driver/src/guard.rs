//! A list that would empty what serves is not obeyed.
//!
//! Whoever leaves is drained first, and whoever died fails HAProxy's own check. A list that simply
//! lacks most of the servers that HAProxy reaches and sends requests to is therefore a mistake (a
//! controller with an empty store, say): such servers stay until they are drained, or until
//! HAProxy finds them gone, which ends the matter by itself within a few checks; or until such
//! lists have come for long, since only people can know that they are right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_model::observe::ServerAdmin;
use longshore_model::routes::{Backend, Routes, Server, ServerMode};
use longshore_model::{ReplicaId, ServiceKey};
use tokio::time::Instant;

use crate::edge::Edge;
use crate::intent::{BackendIntent, Intent};
use crate::look::Depth;
use crate::quarantine::with_route;
use crate::readout::Running;
use crate::slots::{Holder, SlotMap};

/// A replica that died is found by HAProxy's checks before this is over: said is what lasts.
const SAID_AFTER_MS: u64 = 3_000;
/// Whoever insists for so long means it.
const KEPT_MS_MAX: u64 = 600_000;

/// What stands in for the routes that were asked for.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The routes with the servers that stay.
    pub(crate) routes: Routes,
    why: BTreeMap<ServiceKey, String>,
    since: Instant,
}

impl Kept {
    /// Services whose list is not obeyed, and why, once it has lasted.
    pub(crate) fn says(&self, now: Instant) -> impl Iterator<Item = (&ServiceKey, &String)> {
        let lasts = now >= self.since + Duration::from_millis(SAID_AFTER_MS);
        self.why.iter().filter(move |_| lasts)
    }
}

impl Edge {
    /// Looks whether the routes that were asked for may be obeyed as they are. A HAProxy that
    /// cannot be read has nothing to lose that is known.
    pub(crate) async fn guard(&mut self) {
        // Most lists take nobody away who serves: HAProxy need not be asked about those.
        let takes = |asked: &Routes| takes_away(asked, &self.intent);
        let seen = match self.routes.as_ref().is_some_and(takes) {
            true => self.look(Depth::States).await.ok().map(Arc::new),
            false => None,
        };
        let now = Instant::now();
        let before = self.kept.as_ref().map(|kept| kept.since);
        let since = before.unwrap_or(now);
        let insists = now >= since + Duration::from_millis(KEPT_MS_MAX);
        let look = seen.clone();
        let seen = seen.filter(|_| !insists);
        let kept = self.routes.as_ref().zip(seen).and_then(|(asked, seen)| {
            let (routes, why) = keep(asked, &self.intent, &self.slots, &seen.running)?;
            // Not acknowledged while it is not obeyed.
            let generation = self.acknowledged.min(asked.generation);
            Some(Kept {
                routes: Routes {
                    generation,
                    ..routes
                },
                why,
                since,
            })
        });
        self.kept = kept;
        self.seen = look;
    }
}

fn takes_away(asked: &Routes, intent: &Intent) -> bool {
    let backends = asked.backends.iter();
    let listed: BTreeSet<(&ServiceKey, ReplicaId)> = backends
        .flat_map(|b| b.servers.iter().map(|s| (&b.service, s.replica)))
        .collect();
    let open = |b: &&BackendIntent| !asked.closed.contains(&b.service);
    intent.backends.values().filter(open).any(|b| {
        let mut serving = b.servers.values().filter(|s| s.mode == ServerMode::Serve);
        serving.any(|s| !listed.contains(&(&b.service, s.replica)))
    })
}

/// The routes with all servers that must not vanish, and what is said of their services; none: the
/// routes may be obeyed as they are. A way in may go while its replicas stay behind others.
fn keep(
    asked: &Routes,
    intent: &Intent,
    slots: &SlotMap,
    running: &Running,
) -> Option<(Routes, BTreeMap<ServiceKey, String>)> {
    let mut serving: BTreeMap<&ServiceKey, BTreeSet<ReplicaId>> = BTreeMap::new();
    let open = |b: &&BackendIntent| !asked.closed.contains(&b.service);
    for backend in intent.backends.values().filter(open) {
        let replicas = serving.entry(&backend.service).or_default();
        replicas.extend(in_use(backend, slots, running));
    }
    let mut why = BTreeMap::new();
    let mut gone: BTreeSet<(&ServiceKey, ReplicaId)> = BTreeSet::new();
    for (service, serving) in &serving {
        let backends = asked.backends.iter().filter(|b| b.service == **service);
        let listed: BTreeMap<ReplicaId, ServerMode> = backends
            .flat_map(|b| b.servers.iter().map(|s| (s.replica, s.mode)))
            .collect();
        let stay = listed.values().filter(|mode| **mode == ServerMode::Serve);
        let stay = stay.count();
        let lost: Vec<_> = serving
            .iter()
            .filter(|id| !listed.contains_key(id))
            .collect();
        if lost.is_empty() || stay.saturating_mul(2) >= serving.len() {
            continue;
        }
        let said = format!(
            "the new list has {stay} servers where {} serve, and {} of these were not drained: kept \
             until they are, HAProxy's check fails, or {} min are over",
            serving.len(),
            lost.len(),
            KEPT_MS_MAX / 60_000,
        );
        why.insert((*service).clone(), said);
        gone.extend(lost.into_iter().map(|id| (*service, *id)));
    }
    if why.is_empty() {
        return None;
    }
    let mut routes = asked.clone();
    for backend in intent.backends.values() {
        let lost = |s: &&Server| gone.contains(&(&backend.service, s.replica));
        let servers: Vec<Server> = backend.servers.values().filter(lost).cloned().collect();
        put_back(&mut routes, backend, servers);
    }
    Some((routes, why))
}

fn put_back(routes: &mut Routes, backend: &BackendIntent, servers: Vec<Server>) {
    if servers.is_empty() {
        return;
    }
    let port = backend.listen_port;
    let is_this = |b: &&mut Backend| b.service == backend.service && b.route.listen_port == port;
    match routes.backends.iter_mut().find(is_this) {
        Some(listed) => listed.servers.extend(servers),
        None => {
            let whole = with_route(backend, &backend.route);
            routes.backends.push(Backend { servers, ..whole });
        }
    }
}

/// Replicas that HAProxy reaches and sends requests to.
fn in_use<'b>(
    backend: &'b BackendIntent,
    slots: &'b SlotMap,
    running: &'b Running,
) -> impl Iterator<Item = ReplicaId> + 'b {
    let name = backend.name.as_str();
    let known = slots.backends.get(name).zip(running.backends.get(name));
    let slots = known.into_iter().flat_map(|(pool, running)| {
        pool.iter().filter_map(|(slot, holder)| match holder {
            Holder::Replica { id, proven: true } => Some((*id, running.get(slot)?)),
            Holder::Replica { .. } | Holder::Leaving | Holder::Free => None,
        })
    });
    let up = slots.filter(|(_, now)| now.up && now.admin == ServerAdmin::Ready);
    let serves = |id: &ReplicaId| {
        let server = backend.servers.get(id);
        server.is_some_and(|server| server.mode == ServerMode::Serve)
    };
    up.map(|(id, _)| id).filter(move |id| serves(id))
}
