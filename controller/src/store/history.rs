//! Rows of the history of decisions: for each service and kind of decision, numbered records and
//! the *span* of numbers that are kept.
//!
//! Decisions explain; nothing is planned from them. So a row that cannot be read is left out with
//! a line in the log, and a write that finds no space gives way to the plan's.

use std::fmt;

use longshore_model::{DecisionKind, Recorded, ServiceKey};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::repository::{bad_key, read_all, write_rows};
use super::{Change, Repository, Store, StoreError, Table};

/// Whose decisions, of which kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Service.
    pub service: ServiceKey,
    /// Kind.
    pub kind: DecisionKind,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.service, self.kind.as_str())
    }
}

impl Group {
    fn read(text: &str) -> Option<Self> {
        let (service, kind) = text.split_once(' ')?;
        let kind = DecisionKind::ALL.into_iter().find(|k| k.as_str() == kind)?;
        Some(Self {
            service: service.parse().ok()?,
            kind,
        })
    }

    /// Key of one record: the group, a zero byte (no name has one), the number.
    fn key(&self, sequence: u64) -> Vec<u8> {
        let mut key = self.to_string().into_bytes();
        key.push(0);
        key.extend_from_slice(&sequence.to_be_bytes());
        key
    }
}

/// Numbers of the records that are kept: from `first` up to, not including, `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Span {
    /// The oldest.
    pub first: u64,
    /// The next to be given.
    pub next: u64,
}

impl Span {
    /// How many there are.
    #[must_use]
    pub fn len(self) -> u64 {
        self.next.saturating_sub(self.first)
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Changes of the history, for one write.
#[derive(Debug, Clone, Default)]
pub struct HistoryBatch {
    pub(super) changes: Vec<Change>,
}

impl HistoryBatch {
    /// Is there nothing to write?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Writes a record.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be encoded.
    pub fn put(
        &mut self,
        group: &Group,
        sequence: u64,
        recorded: &Recorded,
    ) -> Result<(), StoreError> {
        let key = group.key(sequence);
        let value = Some(encode(Table::Decisions, &key, recorded)?);
        self.changes.push(Change {
            table: Table::Decisions,
            key,
            value,
        });
        Ok(())
    }

    /// Forgets a record.
    pub fn remove(&mut self, group: &Group, sequence: u64) {
        self.changes.push(Change {
            table: Table::Decisions,
            key: group.key(sequence),
            value: None,
        });
    }

    /// Writes which numbers a group keeps; none: the group is forgotten.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be encoded.
    pub fn span(&mut self, group: &Group, span: Option<Span>) -> Result<(), StoreError> {
        let key = group.to_string().into_bytes();
        let value = span
            .map(|span| encode(Table::DecisionSpans, &key, &span))
            .transpose()?;
        self.changes.push(Change {
            table: Table::DecisionSpans,
            key,
            value,
        });
        Ok(())
    }
}

impl Repository {
    /// Writes a part of the history.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_history(&mut self, batch: &HistoryBatch) -> Result<(), StoreError> {
        write_rows(self, batch.changes.clone())
    }

    /// All groups with what they keep.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn spans(store: &dyn Store) -> Result<Vec<(Group, Span)>, StoreError> {
        let mut spans = Vec::new();
        read_all(store, Table::DecisionSpans, |key, span: Span| {
            let group =
                Group::read(key).ok_or_else(|| bad_key(Table::DecisionSpans, key.as_bytes()))?;
            spans.push((group, span));
            Ok(())
        })?;
        Ok(spans)
    }

    /// Records of a group from number `from` on, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn decisions(
        store: &dyn Store,
        group: &Group,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Recorded)>, StoreError> {
        let rows = store.scan(Table::Decisions, &group.key(from), limit)?;
        let prefix = group.key(0);
        let prefix = &prefix[..prefix.len() - size_of::<u64>()];
        let mut found = Vec::new();
        for (key, value) in rows {
            let Some(number) = key.strip_prefix(prefix) else {
                break;
            };
            let number = number
                .try_into()
                .map(u64::from_be_bytes)
                .map_err(|_| bad_key(Table::Decisions, &key))?;
            match decode(Table::Decisions, &key, &value) {
                Ok(recorded) => found.push((number, recorded)),
                Err(error) => {
                    tracing::warn!(%error, %group, number, "a decision record is left out");
                }
            }
        }
        Ok(found)
    }
}
