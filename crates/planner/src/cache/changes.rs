//! Which services a run must load: those of whose inputs something changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::node::Capacity;
use longshore_model::{App, Desired, ReplicaId, ReplicaStatus, ServiceKey, ServiceName, SharedMap};

use super::{Holders, Known, Part};
use crate::PlanInput;
use crate::cluster::{Cluster, same_arc};
use crate::draft::Draft;

impl Part {
    /// Services to load before anything is decided, in no order: their time has come, or
    /// something was written or seen of them.
    pub(crate) fn changed(
        &mut self,
        input: &PlanInput<'_>,
        cluster: &mut Cluster<'_>,
    ) -> Vec<ServiceKey> {
        let mut found = Found::new(self);
        let kept = &self.kept;
        for (number, due_ms) in kept.dues.iter().enumerate() {
            if *due_ms <= input.now_ms {
                found.add(number);
            }
        }
        if !Arc::ptr_eq(&kept.plan, input.current) {
            let (before, now) = (&kept.plan.services, &input.current.services);
            before.differing(now, Arc::ptr_eq, |key| found.add_key(key, self));
        }
        if !Arc::ptr_eq(&kept.memory, input.memory) {
            let (before, now) = (&kept.memory.services, &input.memory.services);
            before.differing(now, Arc::ptr_eq, |key| found.add_key(key, self));
        }
        if !Arc::ptr_eq(&kept.desired, input.desired) {
            desired(&kept.desired, input.desired, |key| found.add_key(key, self));
        }
        self.nodes(input, cluster, &mut found);
        self.edges(cluster, &mut found);
        self.take(found, cluster)
    }

    /// Services to load once the nodes were judged: what they may know of one of their nodes, or
    /// of the whole cluster, is not what it was.
    pub(crate) fn concerned(&mut self, draft: &mut Draft<'_>) -> Vec<ServiceKey> {
        let mut found = Found::new(self);
        let kept = &self.kept;
        if kept.brake != draft.brake || kept.problems != draft.report.problems {
            found.all(self);
        }
        let cluster = &draft.cluster;
        for &number in cluster.touched() {
            let slot = &cluster.nodes[number];
            if slot.was != slot.look(&cluster.held[number]) {
                found.on(&kept.holders[number]);
                found.global(self);
            }
        }
        self.take(found, &mut draft.cluster)
    }

    fn nodes(&self, input: &PlanInput<'_>, cluster: &mut Cluster<'_>, found: &mut Found) {
        let (before, now) = (&self.kept.desired.nodes, &input.desired.nodes);
        before.differing(now, PartialEq::eq, |id| {
            if let Some(number) = cluster.number(id) {
                cluster.touch(number);
                found.on(&self.kept.holders[number]);
                found.global(self);
            }
        });
        for &number in cluster.touched() {
            let (slot, kept) = (&cluster.nodes[number], &self.kept.nodes[number]);
            let holders = &self.kept.holders[number];
            let replicas = slot.seen.map(|seen| &seen.replicas);
            if !same_arc(kept.replicas.as_ref(), replicas) {
                statuses(holders, kept.replicas.as_deref(), replicas, found);
                // Whoever asks later pays for all replicas there.
                slot.has_strangers();
            }
            let capacity = slot.seen.map(|seen| &seen.capacity);
            // The same `Arc` says so at once.
            let volumes = |capacity: Option<&Arc<Capacity>>| capacity.map(|c| c.volumes.clone());
            if kept.capacity.as_ref() != capacity {
                if volumes(kept.capacity.as_ref()) != volumes(capacity) {
                    // Any service may find its data there, or miss it.
                    found.all(self);
                }
                found.on(holders);
                found.global(self);
            }
        }
    }

    fn edges(&self, cluster: &Cluster<'_>, found: &mut Found) {
        let edges = cluster.edges.iter().zip(cluster.fresh());
        let same = self.kept.edges.len() == cluster.edges.len()
            && edges.zip(&self.kept.edges).all(|((edge, fresh), kept)| {
                (edge.connected, edge.gone, *fresh) == (kept.connected, kept.gone, kept.fresh)
            });
        if !same {
            return found.all(self);
        }
        for (edge, kept) in cluster.edges.iter().zip(&self.kept.edges) {
            let refused = edge.seen.map(|seen| &seen.refused);
            shared_differing(kept.refused.as_ref(), refused, String::eq, |key| {
                found.add_key(key, self);
            });
            let servers = edge.seen.map(|seen| &seen.servers);
            shared_differing(kept.servers.as_ref(), servers, Arc::ptr_eq, |key| {
                found.add_key(key, self);
            });
        }
    }

    /// Marks what was found as loaded and takes it off its nodes.
    fn take(&mut self, found: Found, cluster: &mut Cluster<'_>) -> Vec<ServiceKey> {
        let mut keys: Vec<ServiceKey> = found.strangers.into_iter().collect();
        let mut numbers = found.numbers;
        numbers.sort_unstable();
        for number in numbers {
            // A service that was forgotten keeps its number, and nobody else gets it.
            let key = self.kept.keys[number].clone();
            if self.kept.numbers.get(&key) == Some(&number) {
                self.loaded[number] = true;
                self.unload(cluster, number, &key);
                keys.push(key);
            }
        }
        keys
    }
}

/// What was found so far.
struct Found {
    marked: Vec<bool>,
    numbers: Vec<Known>,
    /// Services that the cache does not know.
    strangers: BTreeSet<ServiceKey>,
}

impl Found {
    fn new(part: &Part) -> Self {
        Self {
            marked: part.loaded.clone(),
            numbers: Vec::new(),
            strangers: BTreeSet::new(),
        }
    }

    fn add(&mut self, number: Known) {
        if !self.marked[number] {
            self.marked[number] = true;
            self.numbers.push(number);
        }
    }

    fn add_key(&mut self, key: &ServiceKey, part: &Part) {
        match part.kept.numbers.get(key) {
            Some(&number) => self.add(number),
            None => {
                self.strangers.insert(key.clone());
            }
        }
    }

    fn on(&mut self, holders: &Holders) {
        for &(_, number) in holders {
            self.add(number);
        }
    }

    /// Those that look at every node.
    fn global(&mut self, part: &Part) {
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::GlobalMissesNewcomers) {
            return;
        }
        for &number in &part.kept.global {
            self.add(number);
        }
    }

    fn all(&mut self, part: &Part) {
        for &number in part.kept.numbers.values() {
            self.add(number);
        }
    }
}

/// Calls `tell` with each key whose values differ, or that only one map has. Both in one pass.
fn differing<K: Ord, V>(
    before: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
    mut tell: impl FnMut(&K),
) {
    let mut old = before.iter().peekable();
    for (key, value) in now {
        while let Some((gone, _)) = old.next_if(|(k, _)| *k < key) {
            tell(gone);
        }
        match old.next_if(|(k, _)| *k == key) {
            Some((_, known)) if same(known, value) => {}
            _ => tell(key),
        }
    }
    old.for_each(|(gone, _)| tell(gone));
}

/// The same of maps that may be shared, and then are equal, or not be there.
fn shared_differing<V>(
    before: Option<&Arc<BTreeMap<ServiceKey, V>>>,
    now: Option<&Arc<BTreeMap<ServiceKey, V>>>,
    same: impl Fn(&V, &V) -> bool,
    tell: impl FnMut(&ServiceKey),
) {
    if same_arc(before, now) {
        return;
    }
    let none = BTreeMap::new();
    let before = before.map_or(&none, |map| map);
    let now = now.map_or(&none, |map| map);
    differing(before, now, same, tell);
}

/// Services of which operators wrote something else than before.
fn desired(before: &Desired, now: &Desired, mut tell: impl FnMut(&ServiceKey)) {
    let (none, of) = (SharedMap::new(), |app: &App| (app.revision, app.applied_ms));
    let apps = (&before.apps, &now.apps);
    apps.0.differing(
        apps.1,
        |_, _| false,
        |name| {
            let (old, new) = (apps.0.get(name), apps.1.get(name));
            let alike = old.map(of) == new.map(of);
            let old = old.map_or(&none, |app| &app.services);
            let new = new.map_or(&none, |app| &app.services);
            let mut tell = |service: &ServiceName| {
                tell(&ServiceKey::new(name.clone(), service.clone()));
            };
            match alike {
                true => old.differing(new, Arc::ptr_eq, tell),
                false => old.keys().chain(new.keys()).for_each(&mut tell),
            }
        },
    );
    differing(&before.manual, &now.manual, PartialEq::eq, &mut tell);
    differing(&before.autoscale, &now.autoscale, PartialEq::eq, &mut tell);
    differing(&before.rollout, &now.rollout, PartialEq::eq, &mut tell);
    differing(&before.aside, &now.aside, PartialEq::eq, &mut tell);
}

/// Services on a node of whose replicas it says something else than before.
fn statuses(
    holders: &Holders,
    before: Option<&BTreeMap<ReplicaId, ReplicaStatus>>,
    now: Option<&Arc<BTreeMap<ReplicaId, ReplicaStatus>>>,
    found: &mut Found,
) {
    for (id, number) in holders {
        let before = before.and_then(|all| all.get(id));
        let now = now.and_then(|all| all.get(id));
        if before != now {
            found.add(*number);
        }
    }
}
