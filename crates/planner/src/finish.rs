//! The end of a run: what changed becomes a new plan, everything else stays shared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::memory::{Memory, ServiceMemory};
use longshore_model::plan::{Replica, ServicePlan};
use longshore_model::{NodeId, Plan, ReplicaId, ServiceKey, SharedMap};

use crate::Outcome;
use crate::draft::{Draft, ServiceSlot, same_spec};

/// Forgets what nothing refers to, raises the generations of what changed, gives the plan its
/// version.
pub(crate) fn run(draft: &mut Draft<'_>) -> Outcome {
    let current = draft.input.current;
    let mut routes_changed = draft.routes_changed();
    let mut changed: Vec<(ServiceKey, Option<Arc<ServicePlan>>)> = Vec::new();
    for number in 0..draft.services.len() {
        match next_service(draft, number) {
            Next::Same => {}
            Next::Changed(entry) => {
                changed.push((draft.services[number].key.clone(), Some(entry)));
            }
            Next::Gone => {
                let entry = draft.planned(number);
                routes_changed |=
                    entry.is_some_and(|entry| entry.ways_closed || !entry.routes.is_empty());
                if draft.services[number].before.is_some() {
                    changed.push((draft.services[number].key.clone(), None));
                }
            }
        }
    }
    let memory = memory(draft, &changed);
    let generations = generations(draft);
    let routes_generation = current
        .routes_generation
        .saturating_add(routes_changed.into());
    let same = changed.is_empty()
        && generations.is_none()
        && !routes_changed
        && draft.lost == current.lost
        && draft.flaps == current.flaps
        && same_homes(&draft.homes, &current.homes)
        && same_homes(&draft.former_homes, &current.former_homes)
        && draft.next_replica == current.next_replica;
    let plan = if same {
        Arc::clone(current)
    } else {
        Arc::new(Plan {
            version: current.version.saturating_add(1),
            parent: current.version,
            next_replica: draft.next_replica,
            services: merged(&current.services, changed),
            generations: generations.unwrap_or_else(|| Arc::clone(&current.generations)),
            routes_generation,
            lost: std::mem::take(&mut draft.lost),
            flaps: std::mem::take(&mut draft.flaps),
            homes: Arc::clone(&draft.homes),
            former_homes: Arc::clone(&draft.former_homes),
        })
    };
    crate::record::stamp(&mut draft.report.records, plan.version);
    Outcome {
        plan,
        memory,
        report: std::mem::take(&mut draft.report),
    }
}

/// Mostly the same ones.
pub(crate) fn same_homes<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// What becomes of a service's entry.
enum Next {
    Same,
    Changed(Arc<ServicePlan>),
    Gone,
}

fn next_service(draft: &Draft<'_>, number: usize) -> Next {
    let slot = &draft.services[number];
    let held = || slot.rows.iter().any(|&row| draft.replica(row).is_some());
    if slot.spec.is_none() && !held() {
        return Next::Gone;
    }
    let rows_changed = slot.rows.iter().any(|&row| draft.rows[row].changed());
    let decided = match (&slot.after, slot.before) {
        (Some(after), Some(before)) => !same_decision(after, before),
        (after, before) => after.is_some() && before.is_none(),
    };
    if !rows_changed && !decided {
        return Next::Same;
    }
    let mut entry = slot.after.clone().unwrap_or_else(|| {
        let before = slot.before.map(|before| before.without_replicas());
        before.unwrap_or_default()
    });
    entry.replicas = replicas(draft, slot);
    let used: BTreeSet<_> = entry.replicas.values().map(|r| &r.template).collect();
    if used.len() < entry.templates.len() {
        let used: BTreeSet<_> = used.into_iter().cloned().collect();
        entry.templates.retain(|id, _| used.contains(id));
    }
    Next::Changed(Arc::new(entry))
}

fn replicas(draft: &Draft<'_>, slot: &ServiceSlot<'_>) -> BTreeMap<ReplicaId, Arc<Replica>> {
    let rows = slot.rows.iter().map(|&row| &draft.rows[row]);
    rows.filter_map(|row| {
        let replica = match (row.before, row.replica()?) {
            // A change that was taken back is none.
            (Some(before), now) if before == now => before,
            (_, now) => now,
        };
        Some((row.id, Arc::clone(replica)))
    })
    .collect()
}

/// Equal apart from the replicas, which `after` does not hold?
fn same_decision(after: &ServicePlan, before: &ServicePlan) -> bool {
    // Every field by name: one that is added cannot be forgotten here.
    let ServicePlan {
        target,
        routes,
        last_change,
        changes,
        manual_obeyed_ms,
        manual_is_stale,
        approval_obeyed_ms,
        file_replicas,
        failures,
        drain_ms,
        ways_closed,
        holds,
        rollout,
        good: _,
        refused,
        job,
        moves,
        weights,
        templates,
        replicas: _,
    } = after;
    *target == before.target
        && *routes == before.routes
        && *last_change == before.last_change
        && *changes == before.changes
        && *manual_obeyed_ms == before.manual_obeyed_ms
        && *manual_is_stale == before.manual_is_stale
        && *approval_obeyed_ms == before.approval_obeyed_ms
        && *file_replicas == before.file_replicas
        && *failures == before.failures
        && *drain_ms == before.drain_ms
        && *ways_closed == before.ways_closed
        && *holds == before.holds
        && *rollout == before.rollout
        && *refused == before.refused
        && same_good(after, before)
        && *job == before.job
        && *moves == before.moves
        && *weights == before.weights
        && *templates == before.templates
}

/// The last good revision; its spec is long, and mostly the same one.
fn same_good(after: &ServicePlan, before: &ServicePlan) -> bool {
    match (&after.good, &before.good) {
        (Some(a), Some(b)) => {
            a.revision == b.revision && a.template == b.template && same_spec(&a.spec, &b.spec)
        }
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// The services of the plan in force with those that changed.
fn merged<V: Clone>(
    current: &SharedMap<ServiceKey, V>,
    changed: Vec<(ServiceKey, Option<V>)>,
) -> SharedMap<ServiceKey, V> {
    if current.is_empty() {
        let there = |(key, value): (_, Option<V>)| Some((key, value?));
        return changed.into_iter().filter_map(there).collect();
    }
    let mut merged = current.clone();
    for (key, value) in changed {
        match value {
            Some(value) => merged.insert(key, value),
            None => merged.remove(&key),
        };
    }
    merged
}

/// Assignment generations; none if no assignment changed.
fn generations(draft: &Draft<'_>) -> Option<Arc<SharedMap<NodeId, u64>>> {
    let current = &draft.input.current.generations;
    let touched = draft.cluster.touched().iter();
    let dirty = touched.map(|&number| &draft.cluster.nodes[number]);
    let dirty = dirty.filter(|slot| slot.dirty);
    let mut dirty = dirty.map(|slot| slot.id).chain(&draft.strangers).peekable();
    dirty.peek()?;
    let mut next = (**current).clone();
    for id in dirty {
        let now = current.get(id).copied().unwrap_or(0);
        next.insert(id.clone(), now.saturating_add(1));
    }
    Some(Arc::new(next))
}

/// Memory of services, without those that left the plan and those of which there is none.
fn memory(draft: &Draft<'_>, changed: &[(ServiceKey, Option<Arc<ServicePlan>>)]) -> Arc<Memory> {
    let before = draft.input.memory;
    let mut next: Vec<(ServiceKey, Option<Arc<ServiceMemory>>)> = Vec::new();
    for slot in &draft.services {
        let known = slot.memory_before;
        match &slot.memory_after {
            Some(after) if *after == ServiceMemory::default() => {
                next.extend(known.map(|_| (slot.key.clone(), None)));
            }
            Some(after) if known.is_none_or(|known| **known != *after) => {
                next.push((slot.key.clone(), Some(Arc::new(after.clone()))));
            }
            _ => {}
        }
    }
    let gone = changed.iter().filter(|(_, entry)| entry.is_none());
    next.extend(gone.map(|(key, _)| (key.clone(), None)));
    let same = Arc::ptr_eq(&draft.node_states, &before.node_states)
        && Arc::ptr_eq(&draft.edges_silent, &before.edges_silent)
        && Arc::ptr_eq(&draft.edges_shared, &before.edges_shared)
        && Arc::ptr_eq(&draft.certificates, &before.certificates)
        && Arc::ptr_eq(&draft.edges_repaired, &before.edges_repaired)
        && Arc::ptr_eq(&draft.rebalance, &before.rebalance)
        && Arc::ptr_eq(&draft.drains, &before.drains)
        && draft.braked_ms == before.braked_ms;
    if next.is_empty() && same {
        return Arc::clone(before);
    }
    Arc::new(Memory {
        services: merged(&before.services, next),
        node_states: Arc::clone(&draft.node_states),
        edges_silent: Arc::clone(&draft.edges_silent),
        edges_shared: Arc::clone(&draft.edges_shared),
        edges_repaired: Arc::clone(&draft.edges_repaired),
        braked_ms: draft.braked_ms,
        certificates: Arc::clone(&draft.certificates),
        rebalance: Arc::clone(&draft.rebalance),
        drains: Arc::clone(&draft.drains),
    })
}
