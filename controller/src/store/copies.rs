//! Copies of a store: whether one is good, and what makes it a cluster that goes on from there.

use std::sync::Arc;

use longshore_model::{NodeId, Plan};

use super::repository::{META, Repository, load, put, read_events};
use super::{Batch, Loaded, Meta, Store, StoreError, Table, plan};

/// More than a cluster counts in its life. Exact as a JSON number, for a million restores.
const GENERATIONS: u64 = 1 << 32;
/// More replicas than a cluster makes between a copy and its use.
const REPLICAS: u64 = 1_000_000;

impl Repository {
    /// Everything, without writing; its term is 0.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(store: &dyn Store) -> Result<Loaded, StoreError> {
        load(store, Self::meta(store)?, 0)
    }

    /// Reads everything, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn verify(store: &dyn Store) -> Result<Meta, StoreError> {
        let meta = Self::meta(store)?;
        load(store, meta.clone(), 0)?;
        read_events(store)?;
        Ok(meta)
    }

    /// Says what cluster a store holds whose other rows were brought here: the one of `before`, under a higher
    /// generation. So whoever led it where the rows come from leads no more. Terms begin anew. Until this is written,
    /// the store holds none.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn moved(store: &dyn Store, before: &Meta) -> Result<Meta, StoreError> {
        let mut meta = before.clone();
        meta.cluster_generation += 1;
        Self::create(store, &meta)?;
        Ok(meta)
    }

    /// Makes the rows of a copy those of a cluster that goes on from there, under `generation`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn restored(store: &dyn Store, generation: u64) -> Result<Meta, StoreError> {
        let mut loaded = load(store, Self::meta(store)?, 0)?;
        loaded.meta.cluster_generation = generation;
        let mut changes = vec![put(Table::Meta, META, &loaded.meta)?];
        if loaded.plan.version > 0 {
            let next = raised(&loaded.plan, loaded.desired.nodes.keys());
            plan::diff(&loaded.plan, &next, &mut changes)?;
        }
        let guards = Vec::new();
        store.write(&Batch { guards, changes })?;
        Ok(loaded.meta)
    }
}

/// The plan as of a copy, above all that agents may have been told after it was made: what they hold
/// must not pass for an answer to this plan, and new replicas must not be taken for theirs.
fn raised<'n>(plan: &Plan, nodes: impl Iterator<Item = &'n NodeId>) -> Plan {
    let mut next = plan.clone();
    let raise = |generation: &mut u64| {
        if *generation > 0 {
            *generation += GENERATIONS;
        }
    };
    next.next_replica += REPLICAS;
    raise(&mut next.routes_generation);
    let generations = Arc::make_mut(&mut next.generations);
    for node in nodes {
        let told = generations.get(node).copied().unwrap_or(0);
        generations.insert(node.clone(), told + GENERATIONS);
    }
    for service in next.services.values_mut() {
        for replica in Arc::make_mut(service).replicas.values_mut() {
            let replica = Arc::make_mut(replica);
            if let Some(woken) = &mut replica.woken {
                raise(&mut woken.generation);
            }
            if let Some(leaving) = &mut replica.leaving {
                raise(&mut leaving.drain_generation);
                raise(&mut leaving.park_generation);
                raise(&mut leaving.stop_generation);
            }
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use longshore_model::{Event, EventKind};

    use super::*;
    use crate::store::MemStore;

    /// Keys of events are numbers, and from the 128th on no text.
    #[test]
    fn a_store_with_many_events_is_good() {
        let store = Arc::new(MemStore::default());
        let meta = Meta::new("lab".into(), "x".into(), Vec::new());
        Repository::create(&*store, &meta).unwrap();
        let (mut repository, _) = Repository::open(store.clone()).unwrap();
        let started = |term| Event {
            at_ms: term,
            kind: EventKind::ControllerStarted { term },
        };
        let events: Vec<Event> = (1..=300).map(started).collect();
        repository.record(&events).unwrap();
        assert_eq!(Repository::verify(&*store).unwrap().cluster, "lab");
    }
}
