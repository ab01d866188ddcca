//! Rows of recorded measurements: chunks of points by service and their first time.
//!
//! Nothing is planned from them: a row that cannot be read is left out with a line in the log.

use data_encoding::BASE64;
use longshore_model::{ServiceKey, TimeMs};
use serde::{Deserialize, Serialize};

use super::repository::{bad_key, put, read_all, remove, write_rows};
use super::{Change, Repository, Store, StoreError, Table};

#[derive(Serialize, Deserialize)]
struct Row {
    base64: String,
}

/// Chunks that are written, and those that are forgotten.
#[derive(Debug, Clone, Default)]
pub struct RecordingBatch {
    pub(crate) changes: Vec<Change>,
}

fn key(service: &ServiceKey, start_ms: TimeMs) -> String {
    format!("{service} {start_ms:020}")
}

impl RecordingBatch {
    /// Is there nothing to write?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Writes a chunk.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be encoded.
    pub fn put(
        &mut self,
        service: &ServiceKey,
        start_ms: TimeMs,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let row = Row {
            base64: BASE64.encode(bytes),
        };
        let key = key(service, start_ms);
        self.changes
            .push(put(Table::Recordings, key.as_bytes(), &row)?);
        Ok(())
    }

    /// Forgets a chunk.
    pub fn remove(&mut self, service: &ServiceKey, start_ms: TimeMs) {
        let key = key(service, start_ms);
        self.changes.push(remove(Table::Recordings, key.as_bytes()));
    }
}

impl Repository {
    /// Writes a part of the recording.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_recording(&mut self, batch: &RecordingBatch) -> Result<(), StoreError> {
        write_rows(self, batch.changes.clone())
    }

    /// All chunks, by service and time.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn recordings(store: &dyn Store) -> Result<Vec<(ServiceKey, Vec<u8>)>, StoreError> {
        let mut all = Vec::new();
        read_all(store, Table::Recordings, |key, row: Row| {
            let bad = || bad_key(Table::Recordings, key.as_bytes());
            let (service, _) = key.split_once(' ').ok_or_else(bad)?;
            let service = service.parse().map_err(|_| bad())?;
            let bytes = BASE64.decode(row.base64.as_bytes()).map_err(|_| bad())?;
            all.push((service, bytes));
            Ok(())
        })?;
        Ok(all)
    }
}
