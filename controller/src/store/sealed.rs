//! Secrets sealed at rest: a [`Store`] above another one that encrypts the rows of some tables.
//!
//! A sealed row is a record like any other (checksum first), so that whoever copies or checks rows needs
//! no key: `checksum | 0x01 | id of the key (8 bytes) | nonce (12) | ciphertext and tag`. What is encrypted
//! is the record as it was given. AES-256-GCM; table and key are authenticated with it, so that a
//! row in another place does not open. Nonces are random: 2^32 writes of secrets with one key are safe
//! (NIST SP 800-38D, 8.3), and no cluster comes near.
//!
//! Records of before begin with JSON, never with the mark; they are read as they are, and sealed when the
//! store is opened.

use std::sync::Arc;

use super::record::{checked, payload};
use super::{Batch, Change, Guard, Row, Store, StoreError, Table, readable};
use crate::seal::{NONCE_BYTES, SealKey};

/// First byte of what a sealed record holds. No JSON begins with it.
const MARK: u8 = 1;
/// Bytes of a key's id.
const ID_BYTES: usize = 8;
/// Rows that are sealed at a time when a store of before is opened.
const PAGE: usize = 64;

/// Tables whose rows are sealed.
const SEALED: [Table; 4] = [
    Table::Secrets,
    Table::Contents,
    Table::ApartSecrets,
    Table::Registries,
];

/// A store whose secrets are sealed.
pub struct SealedStore {
    inner: Arc<dyn Store>,
    key: SealKey,
}

impl SealedStore {
    /// Above `inner`. Rows that are not sealed yet are. `key` is asked whether rows are sealed already:
    /// only where none is may it be a new one.
    ///
    /// # Errors
    /// Those of `key`; [`StoreError::Sealed`] if rows are sealed with another one; as [`Store::write`].
    pub fn open<E: From<StoreError>>(
        inner: Arc<dyn Store>,
        key: impl FnOnce(bool) -> Result<SealKey, E>,
    ) -> Result<Self, E> {
        let key = key(is_sealed(&*inner)?)?;
        let store = Self { inner, key };
        for table in SEALED {
            store.seal_all(table)?;
        }
        Ok(store)
    }

    /// What it seals with.
    #[must_use]
    pub fn key(&self) -> &SealKey {
        &self.key
    }

    /// Seals what is not sealed in `table`, and finds out whether the key is the right one.
    fn seal_all(&self, table: Table) -> Result<(), StoreError> {
        let mut from = Vec::new();
        loop {
            let rows = self.inner.scan(table, &from, PAGE)?;
            let mut changes = Vec::new();
            for (key, value) in &rows {
                if sealed_part(table, key, value)?.is_none() {
                    changes.push(self.sealed(table, key, value)?);
                } else {
                    self.opened(table, key, value.clone())?;
                }
            }
            if !changes.is_empty() {
                let guards = Vec::new();
                self.inner.write(&Batch { guards, changes })?;
            }
            match rows.last() {
                // The first key that comes after it.
                Some((key, _)) if rows.len() == PAGE => from = [key.as_slice(), &[0]].concat(),
                _ => return Ok(()),
            }
        }
    }

    fn sealed(&self, table: Table, key: &[u8], value: &[u8]) -> Result<Change, StoreError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Io {
            attempted: "sealing a row",
            place: table.name().to_owned(),
            source,
        };
        let (nonce, text) = self
            .key
            .seal(&place(table, key), value)
            .map_err(|error| failed(Box::new(error)))?;
        let sealed = [&[MARK][..], &self.key.id(), &nonce, &text].concat();
        Ok(Change {
            table,
            key: key.to_vec(),
            value: Some(checked(table, key, &sealed)),
        })
    }

    fn opened(&self, table: Table, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let Some(sealed) = sealed_part(table, key, &value)? else {
            return Ok(value);
        };
        let damaged = |detail: &str| StoreError::Corrupt {
            place: format!("row {} of table {}", readable(key), table.name()),
            detail: detail.to_owned(),
        };
        let (id, rest) = sealed
            .split_first_chunk::<ID_BYTES>()
            .ok_or_else(|| damaged("it is too short"))?;
        let (nonce, text) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(|| damaged("it is too short"))?;
        if *id != self.key.id() {
            return Err(StoreError::Sealed {
                row: format!("row {} of table {}", readable(key), table.name()),
                with: readable_id(id),
                here: readable_id(&self.key.id()),
            });
        }
        self.key
            .open(&place(table, key), *nonce, text)
            .ok_or_else(|| damaged("its seal does not open: it was changed or moved"))
    }

    /// Guards look at rows as they are stored, and no two seals of the same value are the same.
    fn guard(&self, guard: &Guard) -> Result<Guard, StoreError> {
        let (table, key) = (guard.table, &guard.key);
        let stored = self.inner.get(table, key)?;
        let plain = match &stored {
            Some(value) => Some(self.opened(table, key, value.clone())?),
            None => None,
        };
        if plain != guard.expected {
            let (table, key) = (table.name(), readable(key));
            return Err(StoreError::Conflict { table, key });
        }
        Ok(Guard {
            expected: stored,
            ..guard.clone()
        })
    }
}

/// What is authenticated beside a row's contents.
fn place(table: Table, key: &[u8]) -> Vec<u8> {
    [table.name().as_bytes(), &[0], key].concat()
}

fn readable_id(id: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(id)
}

/// What follows the mark; none: the record is not sealed.
fn sealed_part<'v>(
    table: Table,
    key: &[u8],
    value: &'v [u8],
) -> Result<Option<&'v [u8]>, StoreError> {
    let payload = payload(table, key, value)?;
    Ok(payload.strip_prefix(&[MARK]))
}

/// Is there a sealed row?
fn is_sealed(store: &dyn Store) -> Result<bool, StoreError> {
    for table in SEALED {
        for (key, value) in store.scan(table, &[], 1)? {
            if sealed_part(table, &key, &value)?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

impl Store for SealedStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.inner.get(table, key)?;
        match value {
            Some(value) if SEALED.contains(&table) => self.opened(table, key, value).map(Some),
            other => Ok(other),
        }
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let rows = self.inner.scan(table, from, limit)?;
        if !SEALED.contains(&table) {
            return Ok(rows);
        }
        let opened = rows.into_iter().map(|(key, value)| {
            let value = self.opened(table, &key, value)?;
            Ok((key, value))
        });
        opened.collect()
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let is_sealed = |table| SEALED.contains(&table);
        let guards = batch.guards.iter();
        let changes = batch.changes.iter();
        if !guards.clone().any(|guard| is_sealed(guard.table))
            && !changes.clone().any(|change| is_sealed(change.table))
        {
            return self.inner.write(batch);
        }
        let guards = guards.map(|guard| match is_sealed(guard.table) {
            true => self.guard(guard),
            false => Ok(guard.clone()),
        });
        let changes = changes.map(|change| match &change.value {
            Some(value) if is_sealed(change.table) => self.sealed(change.table, &change.key, value),
            _ => Ok(change.clone()),
        });
        self.inner.write(&Batch {
            guards: guards.collect::<Result<_, _>>()?,
            changes: changes.collect::<Result<_, _>>()?,
        })
    }

    fn bytes(&self) -> Option<u64> {
        self.inner.bytes()
    }

    fn strain(&self) -> Option<String> {
        self.inner.strain()
    }

    fn stored(&self) -> Option<&dyn Store> {
        Some(&*self.inner)
    }
}

#[cfg(test)]
mod tests;
