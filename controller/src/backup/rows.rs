//! All rows of a store, as they stand.

use crate::store::{Batch, Change, MemStore, Store, StoreError, Table, payload};

/// Rows read or written at a time.
const PAGE: usize = 1_000;

/// Rows with their tables.
#[derive(PartialEq, Eq)]
pub(crate) struct Rows(Vec<(Table, Vec<u8>, Vec<u8>)>);

impl Rows {
    /// All of a store.
    pub(crate) fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let mut rows = Vec::new();
        for table in Table::ALL {
            let mut from = Vec::new();
            loop {
                let page = store.scan(table, &from, PAGE)?;
                let last = page.len() < PAGE;
                if let Some((key, _)) = page.last() {
                    // The first key that comes after it.
                    from = [key.as_slice(), &[0]].concat();
                }
                rows.extend(page.into_iter().map(|(key, value)| (table, key, value)));
                if last {
                    break;
                }
            }
        }
        Ok(Self(rows))
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut encoded = Vec::new();
        for (table, key, value) in &self.0 {
            for part in [table.name().as_bytes(), key, value] {
                // A row is far below 4 GiB: messages bound it.
                let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
                encoded.extend(length.to_be_bytes());
                encoded.extend(part);
            }
        }
        encoded
    }

    /// # Errors
    /// In words.
    pub(crate) fn decode(mut encoded: &[u8]) -> Result<Self, String> {
        let mut rows = Vec::new();
        while !encoded.is_empty() {
            let mut part = || {
                let cut = "it ends within a row";
                let (length, rest) = encoded.split_first_chunk::<4>().ok_or(cut)?;
                let length = u32::from_be_bytes(*length) as usize;
                let (part, rest) = rest.split_at_checked(length).ok_or(cut)?;
                encoded = rest;
                Ok::<_, String>(part.to_vec())
            };
            let name = String::from_utf8_lossy(&part()?).into_owned();
            let table = Table::ALL.into_iter().find(|table| table.name() == name);
            let table = table.ok_or_else(|| format!("table {name:?} is not known here"))?;
            rows.push((table, part()?, part()?));
        }
        Ok(Self(rows))
    }

    /// All but those of one table.
    pub(crate) fn without(&self, table: Table) -> Self {
        let rows = self.0.iter().filter(|(of, ..)| *of != table);
        Self(rows.cloned().collect())
    }

    /// Those of one table.
    pub(crate) fn only(&self, table: Table) -> Self {
        let rows = self.0.iter().filter(|(of, ..)| *of == table);
        Self(rows.cloned().collect())
    }

    /// Removes them from where they came from.
    pub(crate) fn remove_from(&self, store: &dyn Store) -> Result<(), StoreError> {
        for page in self.0.chunks(PAGE) {
            let changes = page.iter().map(|(table, key, _)| Change {
                table: *table,
                key: key.clone(),
                value: None,
            });
            store.write(&Batch {
                guards: Vec::new(),
                changes: changes.collect(),
            })?;
        }
        Ok(())
    }

    /// Each record is what was written in its place.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let mut rows = self.0.iter();
        rows.try_for_each(|(table, key, record)| payload(*table, key, record).map(drop))
    }

    /// In a store of its own.
    pub(crate) fn in_memory(&self) -> Result<MemStore, StoreError> {
        let store = MemStore::default();
        self.write_to(&store)?;
        Ok(store)
    }

    /// Into an empty store.
    pub(crate) fn write_to(&self, store: &dyn Store) -> Result<(), StoreError> {
        for page in self.0.chunks(PAGE) {
            let changes = page.iter().map(|(table, key, value)| Change {
                table: *table,
                key: key.clone(),
                value: Some(value.clone()),
            });
            store.write(&Batch {
                guards: Vec::new(),
                changes: changes.collect(),
            })?;
        }
        Ok(())
    }
}
