//! Rows of what operators told autoscalers.

use longshore_model::autoscale::AutoscaleControl;
use longshore_model::{Event, ServiceKey};

use super::repository::{put, remove};
use super::{Repository, StoreError, StoredEvent, Table};

impl Repository {
    /// Writes what a service's autoscaler was told; nothing said is no row.
    ///
    /// # Errors
    /// As [`super::Store::write`].
    pub fn put_autoscale(
        &mut self,
        key: &ServiceKey,
        control: &AutoscaleControl,
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |batch| {
            let row = key.to_string();
            batch
                .changes
                .push(match *control == AutoscaleControl::default() {
                    true => remove(Table::Autoscale, row.as_bytes()),
                    false => put(Table::Autoscale, row.as_bytes(), control)?,
                });
            Ok(())
        })
    }
}
