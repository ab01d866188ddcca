//! The controller's store on a disk that fails when told to.

use std::sync::{Mutex, PoisonError};

use controller::store::{Batch, MemStore, Row, Store, StoreError, Table};

/// How the next writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disk {
    /// Well.
    #[default]
    Fine,
    /// There is no space.
    Full,
    /// The next one fails and has changed nothing; the process ends.
    FailsBefore,
    /// The next one fails after it took effect; the process ends.
    FailsAfter,
}

/// Rows that survive the controller's process.
#[derive(Debug, Default)]
pub struct SimStore {
    rows: MemStore,
    disk: Mutex<Disk>,
}

impl SimStore {
    /// Says how the next writes go.
    pub fn set(&self, disk: Disk) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk;
    }

    /// How the next writes go.
    pub fn disk(&self) -> Disk {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed() -> StoreError {
    StoreError::Io {
        attempted: "writing",
        place: "the simulated disk".into(),
        source: "told to fail".into(),
    }
}

impl Store for SimStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows.scan(table, from, limit)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        match self.disk() {
            Disk::Fine => self.rows.write(batch),
            Disk::Full => Err(StoreError::Full {
                place: "the simulated disk".into(),
            }),
            Disk::FailsBefore => {
                self.set(Disk::Fine);
                Err(failed())
            }
            Disk::FailsAfter => {
                self.set(Disk::Fine);
                self.rows.write(batch)?;
                Err(failed())
            }
        }
    }
}
