//! Rows of replicas that operators keep out of the routes, by service.

use longshore_model::aside::AsideMap;
use longshore_model::{Event, ServiceKey};

use super::repository::{put, remove};
use super::{Repository, StoreError, StoredEvent, Table};

impl Repository {
    /// Writes which replicas of a service are kept out; none is no row.
    ///
    /// # Errors
    /// As [`super::Store::write`].
    pub fn put_aside(
        &mut self,
        key: &ServiceKey,
        aside: &AsideMap,
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |batch| {
            let row = key.to_string();
            batch.changes.push(match aside.is_empty() {
                true => remove(Table::Aside, row.as_bytes()),
                false => put(Table::Aside, row.as_bytes(), aside)?,
            });
            Ok(())
        })
    }
}
