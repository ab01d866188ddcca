//! What cluster a store holds.

use super::record::decode;
use super::repository::{META, Repository, read_one};
use super::rows::{Meta, SCHEMA, SCHEMA_READ_MIN};
use super::{Store, StoreError, Table};

impl Repository {
    /// Key of the row of [`Table::Meta`] that says what cluster there is.
    pub const META_ROW: &[u8] = META;

    /// What cluster a store holds.
    ///
    /// # Errors
    /// [`StoreError::Empty`] if none, [`StoreError::Schema`] if it is of another version.
    pub fn meta(store: &dyn Store) -> Result<Meta, StoreError> {
        let meta: Meta = read_one(store, Table::Meta, META)?.ok_or_else(|| StoreError::Empty {
            place: "the store".into(),
        })?;
        known(meta)
    }

    /// What cluster a store holds, from the record that says so.
    ///
    /// # Errors
    /// As [`Self::meta`].
    pub fn read_meta(record: &[u8]) -> Result<Meta, StoreError> {
        known(decode(Table::Meta, META, record)?)
    }
}

/// A cluster of a schema that is known here.
fn known(meta: Meta) -> Result<Meta, StoreError> {
    match (SCHEMA_READ_MIN..=SCHEMA).contains(&meta.schema) {
        true => Ok(meta),
        false => Err(StoreError::Schema {
            found: meta.schema,
            known: SCHEMA,
        }),
    }
}
