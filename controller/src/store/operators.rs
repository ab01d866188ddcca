//! Operators, by name. They are read at the start and kept in memory.

use longshore_model::Event;

use super::repository::{Repository, bad_key, put, read_all, read_one, remove};
use super::{Batch, Change, Guard, Store, StoreError, StoredEvent, Table};
use crate::operators::{OperatorRecord, Operators};

/// The first version of the rows with operators.
const SINCE_SCHEMA: u32 = 4;

impl Repository {
    /// Writes one (none: removes them), with certificates that are refused from then on.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn put_operator(
        &mut self,
        name: &str,
        operator: Option<&OperatorRecord>,
        revoked: &[String],
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |batch| {
            batch.changes.push(match operator {
                Some(operator) => row(operator)?,
                None => remove(Table::Operators, name.as_bytes()),
            });
            for serial in revoked {
                let key = serial.as_bytes();
                batch.changes.push(put(Table::Revoked, key, serial)?);
            }
            Ok(())
        })
    }
}

impl Repository {
    /// Lets an operator in while no controller runs, in place of one of that name.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn admit(store: &dyn Store, operator: &OperatorRecord) -> Result<(), StoreError> {
        let (table, key) = (Table::Operators, operator.name.as_bytes());
        let before: Option<OperatorRecord> = read_one(store, table, key)?;
        let mut changes = vec![row(operator)?];
        for serial in before.iter().flat_map(|before| &before.serials) {
            changes.push(put(Table::Revoked, serial.as_bytes(), serial)?);
        }
        let expected = store.get(table, key)?;
        let guards = vec![Guard {
            table,
            key: key.to_vec(),
            expected,
        }];
        store.write(&Batch { guards, changes })
    }
}

pub(super) fn row(operator: &OperatorRecord) -> Result<Change, StoreError> {
    put(Table::Operators, operator.name.as_bytes(), operator)
}

/// A cluster of before had one, of whom nothing was written.
pub(super) fn migrate(
    from_schema: u32,
    operators: &mut Operators,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    // One who was let in by hand in between stays as they are.
    if from_schema < SINCE_SCHEMA && !operators.0.contains_key(OperatorRecord::FIRST) {
        let admin = OperatorRecord::of_before();
        changes.push(row(&admin)?);
        operators.0.insert(admin.name.clone(), admin);
    }
    Ok(())
}

/// All of them.
pub(super) fn load(store: &dyn Store) -> Result<Operators, StoreError> {
    let mut operators = Operators::default();
    read_all(store, Table::Operators, |key, record: OperatorRecord| {
        if key != record.name {
            return Err(bad_key(Table::Operators, key.as_bytes()));
        }
        operators.0.insert(record.name.clone(), record);
        Ok(())
    })?;
    Ok(operators)
}
