//! Past revisions of apps: what was applied, by whom, how it ended. `undo` starts from them.
//!
//! Bounded: the last [`REVISIONS_MAX`] of each app. They leave with their app, because the next
//! app of that name counts its revisions from 1 again.

use std::collections::BTreeMap;

use longshore_model::rollout::{RolloutControl, RolloutNews};
use longshore_model::{App, AppName, Event, EventKind, ServiceKey, ServiceName, TimeMs};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::repository::{Repository, write_rows};
use super::{Change, Store, StoreError, Table};

/// Revisions kept of each app.
pub const REVISIONS_MAX: u64 = 20;
/// Rows of one app that are looked at when it leaves: its services and then some.
const ROWS_MAX: usize = 1_000;

/// How a revision came to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Origin {
    /// A file was applied.
    #[default]
    Applied,
    /// A service was taken back to an older revision.
    Undone {
        /// Service.
        service: ServiceName,
        /// That revision.
        to_revision: u64,
    },
    /// Services were restarted.
    Restarted {
        /// Which.
        services: Vec<ServiceName>,
    },
}

/// How the rollout of one service of a revision ended, or stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `finished`, `unproved`, `superseded`, `paused`, `rolling_back`, `rolled_back`.
    pub state: String,
    /// Since when.
    pub at_ms: TimeMs,
    /// Why, for people; may be empty.
    pub why: String,
}

impl Outcome {
    /// Is it known to have failed? What was replaced before it came to an end is not, unless it was
    /// on its way back already.
    #[must_use]
    pub fn failed(&self) -> bool {
        match self.state.as_str() {
            "paused" | "rolling_back" | "rolled_back" => true,
            "superseded" => !self.why.is_empty(),
            _ => false,
        }
    }
}

/// One revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// The app as it was applied.
    pub app: App,
    /// How it came to be.
    #[serde(default)]
    pub origin: Origin,
    /// How it went, by service; services that it did not change are absent.
    #[serde(default)]
    pub outcomes: BTreeMap<ServiceName, Outcome>,
}

/// Rows sort by app, then by revision.
fn key(app: &AppName, revision: u64) -> Vec<u8> {
    format!("{app}/{revision:020}").into_bytes()
}

fn put(key: Vec<u8>, record: &RevisionRecord) -> Result<Change, StoreError> {
    let value = Some(encode(Table::Revisions, &key, record)?);
    Ok(Change {
        table: Table::Revisions,
        key,
        value,
    })
}

/// Changes that note a new revision and forget the oldest.
pub(super) fn added(app: &App, origin: Origin) -> Result<Vec<Change>, StoreError> {
    let record = RevisionRecord {
        app: app.clone(),
        origin,
        outcomes: BTreeMap::new(),
    };
    let mut changes = vec![put(key(&app.name, app.revision), &record)?];
    if let Some(old) = app.revision.checked_sub(REVISIONS_MAX) {
        changes.push(Change {
            table: Table::Revisions,
            key: key(&app.name, old),
            value: None,
        });
    }
    Ok(changes)
}

/// Changes that forget everything about an app that is kept under its name.
pub(super) fn forgotten(store: &dyn Store, app: &AppName) -> Result<Vec<Change>, StoreError> {
    let prefix = format!("{app}/").into_bytes();
    let mut changes = Vec::new();
    for table in [
        Table::Revisions,
        Table::Rollout,
        Table::Secrets,
        Table::Contents,
    ] {
        let rows = store.scan(table, &prefix, ROWS_MAX)?;
        let of_app = rows.into_iter().filter(|(key, _)| key.starts_with(&prefix));
        changes.extend(of_app.map(|(key, _)| Change {
            table,
            key,
            value: None,
        }));
    }
    Ok(changes)
}

/// Changes that note how rollouts went on, read from their events.
pub(super) fn went_on(store: &dyn Store, events: &[Event]) -> Result<Vec<Change>, StoreError> {
    let mut records: BTreeMap<Vec<u8>, RevisionRecord> = BTreeMap::new();
    for event in events {
        let EventKind::Rollout {
            service,
            revision,
            news,
        } = &event.kind
        else {
            continue;
        };
        let (state, why) = match news {
            RolloutNews::Finished { .. } => ("finished", String::new()),
            RolloutNews::Paused { why, cause } => ("paused", cause.with(why)),
            RolloutNews::RollsBack { why, .. } => ("rolling_back", why.to_string()),
            RolloutNews::RolledBack { .. } => ("rolled_back", String::new()),
            RolloutNews::Unproved { .. } => ("unproved", String::new()),
            RolloutNews::Superseded { .. } => ("superseded", String::new()),
            _ => continue,
        };
        let key = key(&service.app, *revision);
        if !records.contains_key(&key) {
            // A revision before the history began has no row.
            let Some(record) = store.get(Table::Revisions, &key)? else {
                continue;
            };
            records.insert(key.clone(), decode(Table::Revisions, &key, &record)?);
        }
        let Some(record) = records.get_mut(&key) else {
            continue;
        };
        let before = record.outcomes.get(&service.service);
        // The end of a way back, and what cuts it short, has the reason of its beginning.
        let why = match (why.is_empty(), before) {
            (true, Some(before)) if matches!(state, "rolled_back" | "superseded") => {
                before.why.clone()
            }
            _ => why,
        };
        let outcome = Outcome {
            state: state.to_owned(),
            at_ms: event.at_ms,
            why,
        };
        record.outcomes.insert(service.service.clone(), outcome);
    }
    records
        .into_iter()
        .map(|(key, record)| put(key, &record))
        .collect()
}

/// The kept revisions of an app, oldest first.
///
/// # Errors
/// [`StoreError`] if they cannot be read.
pub fn revisions(store: &dyn Store, app: &AppName) -> Result<Vec<RevisionRecord>, StoreError> {
    let prefix = format!("{app}/").into_bytes();
    let limit = usize::try_from(REVISIONS_MAX).unwrap_or(usize::MAX) + 1;
    store
        .scan(Table::Revisions, &prefix, limit)?
        .into_iter()
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(key, value)| decode(Table::Revisions, &key, &value))
        .collect()
}

/// Writes what an operator said about the rollouts of a service.
///
/// # Errors
/// As [`Store::write`].
pub fn put_rollout(
    repository: &mut Repository,
    service: &ServiceKey,
    control: &RolloutControl,
) -> Result<(), StoreError> {
    let key = service.to_string().into_bytes();
    let value = Some(encode(Table::Rollout, &key, control)?);
    let change = Change {
        table: Table::Rollout,
        key,
        value,
    };
    write_rows(repository, vec![change])
}

#[cfg(test)]
#[path = "revisions_tests.rs"]
mod tests;
