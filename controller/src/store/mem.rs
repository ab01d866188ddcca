//! The store in memory: for tests, and the plainest statement of the laws.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Batch, Row, Store, StoreError, Table, readable};

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Rows by table and key.
#[derive(Debug, Default)]
pub struct MemStore {
    rows: Mutex<Rows>,
}

impl MemStore {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Every write below is whole before it is visible, so a poisoned lock guards good data.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows().get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        Ok(self
            .rows()
            .range((table, from.to_vec())..)
            .take_while(|((at, _), _)| *at == table)
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut rows = self.rows();
        for guard in &batch.guards {
            if rows.get(&(guard.table, guard.key.clone())) != guard.expected.as_ref() {
                let (table, key) = (guard.table.name(), readable(&guard.key));
                return Err(StoreError::Conflict { table, key });
            }
        }
        for change in &batch.changes {
            let at = (change.table, change.key.clone());
            match &change.value {
                Some(value) => rows.insert(at, value.clone()),
                None => rows.remove(&at),
            };
        }
        Ok(())
    }
}
