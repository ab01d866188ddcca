//! What the rows mean: typed reads at the start, typed batches afterwards.
//!
//! Every batch is guarded by the *writer row* `(term, count)`: a second writer, or a failed write
//! that was applied after all, makes the next write fail instead of mixing two histories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::aside::AsideMap;
use longshore_model::autoscale::AutoscaleControl;
use longshore_model::rollout::RolloutControl;
use longshore_model::{App, AppName, Desired, Event, ManualScale, NodeId, Plan, ServiceKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::history::HistoryBatch;
use super::record::{decode, encode};
use super::revisions::{self, Origin};
use super::rows::{Loaded, Meta, NodeRecord, SCHEMA, StoredEvent, TokenRecord};
use super::{
    Batch, Change, Guard, Store, StoreError, Table, apart, contents, images, operators, plan, said,
    secrets,
};
use crate::operators::OperatorRecord;

/// Events kept; older ones leave as new ones come.
pub const EVENTS_MAX: u64 = 10_000;
/// Rows read at a time when a whole table is read.
const PAGE: usize = 1_000;

pub(super) const META: &[u8] = b"meta";
const WRITER: &[u8] = b"writer";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Writer {
    term: u64,
    count: u64,
}

/// Typed access to a [`Store`]. One per process; calls come one at a time (the caller's lock).
pub struct Repository {
    store: Arc<dyn Store>,
    writer: Writer,
    next_event: u64,
}

impl Repository {
    /// Writes the first rows of a new cluster.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the store already holds one.
    pub fn create(store: &dyn Store, meta: &Meta) -> Result<(), StoreError> {
        Self::create_by(store, meta, None)
    }

    /// As [`Self::create`], with the operator who makes it.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_by(
        store: &dyn Store,
        meta: &Meta,
        operator: Option<&OperatorRecord>,
    ) -> Result<(), StoreError> {
        let guard = Guard {
            table: Table::Meta,
            key: META.to_vec(),
            expected: None,
        };
        let writer = Writer { term: 0, count: 0 };
        let mut changes = vec![
            put(Table::Meta, META, meta)?,
            put(Table::Meta, WRITER, &writer)?,
        ];
        if let Some(operator) = operator {
            changes.push(operators::row(operator)?);
        }
        store.write(&Batch {
            guards: vec![guard],
            changes,
        })
    }

    /// Raises the term, durably, and reads everything.
    ///
    /// # Errors
    /// [`StoreError`] if anything is damaged, of another schema, or cannot be written.
    pub fn open(store: Arc<dyn Store>) -> Result<(Self, Loaded), StoreError> {
        Self::open_as(store, None)
    }

    /// As [`Self::open`], with the `term` of an election instead of the next one.
    ///
    /// # Errors
    /// As [`Self::open`]; [`StoreError::Deposed`] if the store has seen that term, or a later one.
    pub fn open_as(store: Arc<dyn Store>, term: Option<u64>) -> Result<(Self, Loaded), StoreError> {
        let meta = Self::meta(&*store)?;
        let before: Writer =
            read_one(&*store, Table::Meta, WRITER)?.ok_or_else(|| StoreError::Corrupt {
                place: "row writer of table meta".into(),
                detail: "it is missing".into(),
            })?;
        let term = term.unwrap_or(before.term + 1);
        if term <= before.term {
            let last = before.term;
            return Err(StoreError::Deposed {
                why: format!(
                    "term {term} is not above {last}, the last one; was etcd put back to an older state?"
                ),
            });
        }
        let writer = Writer { term, count: 0 };
        store.write(&Batch {
            guards: vec![guard(Table::Meta, WRITER, &before)?],
            changes: vec![put(Table::Meta, WRITER, &writer)?],
        })?;
        let next_event = last_event(&*store)? + 1;
        let mut loaded = load(&*store, meta, writer.term)?;
        let mut repository = Self {
            store,
            writer,
            next_event,
        };
        if loaded.meta.schema != SCHEMA {
            let before = std::mem::replace(&mut loaded.meta.schema, SCHEMA);
            let mut changes = vec![put(Table::Meta, META, &loaded.meta)?];
            operators::migrate(before, &mut loaded.operators, &mut changes)?;
            plan::rewrite(&*repository.store, &loaded.plan, &mut changes)?;
            repository.write(Batch {
                guards: Vec::new(),
                changes,
            })?;
        }
        Ok((repository, loaded))
    }

    /// Adds guard and count of the writer, then writes. Nothing to write is no write.
    fn write(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        if batch.changes.is_empty() {
            return Ok(());
        }
        let next = Writer {
            count: self.writer.count + 1,
            ..self.writer
        };
        batch.guards.push(guard(Table::Meta, WRITER, &self.writer)?);
        batch.changes.push(put(Table::Meta, WRITER, &next)?);
        self.store.write(&batch)?;
        self.writer = next;
        Ok(())
    }

    /// Runs `fill` on a new batch that also appends `events`, and writes it.
    pub(super) fn write_with(
        &mut self,
        events: &[Event],
        fill: impl FnOnce(&mut Batch) -> Result<(), StoreError>,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let mut batch = Batch::default();
        fill(&mut batch)?;
        let stored: Vec<StoredEvent> = (self.next_event..)
            .zip(events)
            .map(|(sequence, event)| StoredEvent {
                sequence,
                event: event.clone(),
            })
            .collect();
        for StoredEvent { sequence, event } in &stored {
            batch
                .changes
                .push(put(Table::Events, &sequence.to_be_bytes(), event)?);
            if let Some(old) = sequence.checked_sub(EVENTS_MAX) {
                batch
                    .changes
                    .push(remove(Table::Events, &old.to_be_bytes()));
            }
        }
        self.write(batch)?;
        self.next_event += stored.len() as u64;
        Ok(stored)
    }

    /// Appends events.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn record(&mut self, events: &[Event]) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |_| Ok(()))
    }

    /// Writes an app that a file brought, and notes its revision.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn put_app(&mut self, app: &App, events: &[Event]) -> Result<Vec<StoredEvent>, StoreError> {
        self.put_app_as(app, Origin::Applied, events)
    }

    /// Writes an app and notes its revision and where that came from.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn put_app_as(
        &mut self,
        app: &App,
        origin: Origin,
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |batch| {
            batch.changes.extend(revisions::added(app, origin)?);
            batch
                .changes
                .push(put(Table::Apps, app.name.as_str().as_bytes(), app)?);
            Ok(())
        })
    }

    /// Removes an app, its past revisions, its secrets and contents, and what operators said of its services.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn remove_app(
        &mut self,
        app: &AppName,
        services: &[ServiceKey],
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let forgotten = revisions::forgotten(&*self.store, app)?;
        self.write_with(events, |batch| {
            batch.changes.extend(forgotten);
            batch
                .changes
                .push(remove(Table::Apps, app.as_str().as_bytes()));
            for key in services {
                for table in [Table::Manual, Table::Autoscale, Table::Aside] {
                    batch
                        .changes
                        .push(remove(table, key.to_string().as_bytes()));
                }
            }
            Ok(())
        })
    }

    /// Writes a manual count.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn put_manual(&mut self, key: &ServiceKey, scale: &ManualScale) -> Result<(), StoreError> {
        let change = put(Table::Manual, key.to_string().as_bytes(), scale)?;
        write_rows(self, vec![change])
    }

    /// Writes a node that joins, the token that it used, and refuses its certificates of before,
    /// in one batch.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn join_node(
        &mut self,
        record: &NodeRecord,
        token: &TokenRecord,
        revoked: &[String],
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |batch| {
            let key = record.node.id.as_str().as_bytes();
            batch.changes.push(put(Table::Nodes, key, record)?);
            let changes = &mut batch.changes;
            changes.push(put(Table::Tokens, token.id.as_bytes(), token)?);
            for serial in revoked {
                changes.push(put(Table::Revoked, serial.as_bytes(), serial)?);
            }
            Ok(())
        })
    }

    /// Writes a node.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn put_node(
        &mut self,
        record: &NodeRecord,
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |batch| {
            let key = record.node.id.as_str().as_bytes();
            batch.changes.push(put(Table::Nodes, key, record)?);
            Ok(())
        })
    }

    /// Writes a node with its certificates, and refuses those that it has no more.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn renew_node(
        &mut self,
        record: &NodeRecord,
        revoked: &[String],
    ) -> Result<(), StoreError> {
        let key = record.node.id.as_str().as_bytes();
        let mut changes = vec![put(Table::Nodes, key, record)?];
        for serial in revoked {
            changes.push(put(Table::Revoked, serial.as_bytes(), serial)?);
        }
        write_rows(self, changes)
    }

    /// Removes a node and refuses its certificates from then on.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn remove_node(
        &mut self,
        node: &NodeId,
        serials: &[String],
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |batch| {
            batch
                .changes
                .push(remove(Table::Nodes, node.as_str().as_bytes()));
            for serial in serials {
                batch
                    .changes
                    .push(put(Table::Revoked, serial.as_bytes(), serial)?);
            }
            Ok(())
        })
    }

    /// Writes a token and forgets others.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn put_token(&mut self, token: &TokenRecord, forget: &[String]) -> Result<(), StoreError> {
        let mut changes: Vec<Change> = forget
            .iter()
            .map(|id| remove(Table::Tokens, id.as_bytes()))
            .collect();
        changes.push(put(Table::Tokens, token.id.as_bytes(), token)?);
        self.write(Batch {
            guards: Vec::new(),
            changes,
        })
    }

    /// Forgets a token.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn forget_token(&mut self, id: &str) -> Result<(), StoreError> {
        self.write(Batch {
            guards: Vec::new(),
            changes: vec![remove(Table::Tokens, id.as_bytes())],
        })
    }

    /// Commits `next` over `current` with its events and decisions: only rows that differ are written, and only
    /// if the stored plan still is `current`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is another one; else as [`Store::write`].
    pub fn commit_plan(
        &mut self,
        current: &Plan,
        next: &Plan,
        events: &[Event],
        history: &HistoryBatch,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let outcomes = revisions::went_on(&*self.store, events)?;
        self.write_with(events, |batch| {
            batch.changes.extend(outcomes);
            batch.changes.extend_from_slice(&history.changes);
            if next.version == current.version {
                return Ok(());
            }
            batch.guards.push(plan::guard(current)?);
            plan::diff(current, next, &mut batch.changes)
        })
    }

    /// The store, for reading events without the caller's lock.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Events from `sequence` on, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn events(
        store: &dyn Store,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = store.scan(Table::Events, &sequence.to_be_bytes(), limit)?;
        rows.iter()
            .map(|(key, value)| {
                let event = decode(Table::Events, key, value)?;
                Ok(StoredEvent {
                    sequence: sequence_of(key)?,
                    event,
                })
            })
            .collect()
    }
}

/// Writes rows that need no more guard than the writer's own.
pub(super) fn write_rows(
    repository: &mut Repository,
    changes: Vec<Change>,
) -> Result<(), StoreError> {
    repository.write(Batch {
        guards: Vec::new(),
        changes,
    })
}

pub(super) fn put<T: Serialize>(table: Table, key: &[u8], value: &T) -> Result<Change, StoreError> {
    let value = Some(encode(table, key, value)?);
    Ok(Change {
        table,
        key: key.to_vec(),
        value,
    })
}

pub(super) fn remove(table: Table, key: &[u8]) -> Change {
    Change {
        table,
        key: key.to_vec(),
        value: None,
    }
}

pub(super) fn guard<T: Serialize>(
    table: Table,
    key: &[u8],
    expected: &T,
) -> Result<Guard, StoreError> {
    let expected = Some(encode(table, key, expected)?);
    Ok(Guard {
        table,
        key: key.to_vec(),
        expected,
    })
}

pub(super) fn read_one<T: DeserializeOwned>(
    store: &dyn Store,
    table: Table,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    store
        .get(table, key)?
        .map(|record| decode(table, key, &record))
        .transpose()
}

/// Reads a whole table whose keys are texts, page by page.
pub(super) fn read_all<T: DeserializeOwned>(
    store: &dyn Store,
    table: Table,
    mut take: impl FnMut(&str, T) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    read_rows(store, table, |key, value| {
        let text = std::str::from_utf8(key).map_err(|_| bad_key(table, key))?;
        take(text, value)
    })
}

/// Reads all events.
pub(super) fn read_events(store: &dyn Store) -> Result<(), StoreError> {
    let read = |key: &[u8], _: Event| sequence_of(key).map(drop);
    read_rows(store, Table::Events, read)
}

fn read_rows<T: DeserializeOwned>(
    store: &dyn Store,
    table: Table,
    mut take: impl FnMut(&[u8], T) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut from = Vec::new();
    loop {
        let rows = store.scan(table, &from, PAGE)?;
        for (key, value) in &rows {
            take(key, decode(table, key, value)?)?;
        }
        match rows.last() {
            Some((key, _)) if rows.len() == PAGE => {
                from.clone_from(key);
                from.push(0);
            }
            _ => return Ok(()),
        }
    }
}

pub(super) fn bad_key(table: Table, key: &[u8]) -> StoreError {
    let place = format!("a key of table {}", table.name());
    StoreError::Corrupt {
        place,
        detail: super::readable(key),
    }
}

fn sequence_of(key: &[u8]) -> Result<u64, StoreError> {
    key.try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| bad_key(Table::Events, key))
}

/// Sequence of the last event; 0 if there was none. Keys have no gaps but at the start, so the
/// last one is found from the first and the count.
fn last_event(store: &dyn Store) -> Result<u64, StoreError> {
    let mut last = 0;
    loop {
        let rows = store.scan(Table::Events, &(last + 1_u64).to_be_bytes(), PAGE)?;
        let Some((key, _)) = rows.last() else {
            return Ok(last);
        };
        last = sequence_of(key)?;
    }
}

pub(super) fn load(store: &dyn Store, meta: Meta, term: u64) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded {
        meta,
        term,
        desired: Desired::default(),
        serials: BTreeMap::new(),
        revoked: BTreeSet::new(),
        tokens: Vec::new(),
        plan: plan::load(store)?,
        secrets: secrets::load(store)?,
        contents: contents::load(store)?,
        said: said::load(store)?,
        images: images::load(store)?,
        apart: apart::load(store)?,
        operators: operators::load(store)?,
    };
    read_all(store, Table::Apps, |_, app: App| {
        loaded.desired.apps.insert(app.name.clone(), app);
        Ok(())
    })?;
    read_all(store, Table::Nodes, |_, record: NodeRecord| {
        loaded
            .serials
            .insert(record.node.id.clone(), record.serials);
        loaded
            .desired
            .nodes
            .insert(record.node.id.clone(), record.node);
        Ok(())
    })?;
    read_all(store, Table::Manual, |key, scale: ManualScale| {
        let key = key
            .parse()
            .map_err(|_| bad_key(Table::Manual, key.as_bytes()))?;
        loaded.desired.manual.insert(key, scale);
        Ok(())
    })?;
    read_all(store, Table::Rollout, |key, control: RolloutControl| {
        let key = key
            .parse()
            .map_err(|_| bad_key(Table::Rollout, key.as_bytes()))?;
        loaded.desired.rollout.insert(key, control);
        Ok(())
    })?;
    read_all(store, Table::Aside, |key, aside: AsideMap| {
        let key = key
            .parse()
            .map_err(|_| bad_key(Table::Aside, key.as_bytes()))?;
        loaded.desired.aside.insert(key, aside);
        Ok(())
    })?;
    read_all(store, Table::Autoscale, |key, control: AutoscaleControl| {
        let key = key
            .parse()
            .map_err(|_| bad_key(Table::Autoscale, key.as_bytes()))?;
        loaded.desired.autoscale.insert(key, control);
        Ok(())
    })?;
    read_all(store, Table::Revoked, |_, serial: String| {
        loaded.revoked.insert(serial);
        Ok(())
    })?;
    read_all(store, Table::Tokens, |_, token: TokenRecord| {
        loaded.tokens.push(token);
        Ok(())
    })?;
    Ok(loaded)
}
