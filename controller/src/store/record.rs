//! How a value becomes a record: `crc32(table, key, payload) ‖ payload`, the payload in JSON.
//!
//! The checksum covers table and key too, so that a record found in the wrong place is as bad as
//! a damaged one. JSON, because fields can be added and an operator can read a copy.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StoreError, Table, readable};

const CHECKSUM_BYTES: usize = 4;

fn checksum(table: Table, key: &[u8], payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.name().as_bytes());
    hasher.update(&[0]);
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize().to_be_bytes()
}

fn corrupt(table: Table, key: &[u8], detail: impl Into<String>) -> StoreError {
    let place = format!("row {} of table {}", readable(key), table.name());
    StoreError::Corrupt {
        place,
        detail: detail.into(),
    }
}

/// A value as a record.
pub(super) fn encode<T: Serialize>(
    table: Table,
    key: &[u8],
    value: &T,
) -> Result<Vec<u8>, StoreError> {
    let payload = serde_json::to_vec(value).map_err(|source| StoreError::Io {
        attempted: "encoding a record",
        place: table.name().to_owned(),
        source: Box::new(source),
    })?;
    Ok(checked(table, key, &payload))
}

/// A payload with its checksum.
pub(super) fn checked(table: Table, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut record = checksum(table, key, payload).to_vec();
    record.extend_from_slice(payload);
    record
}

/// A record as a value, after its checksum was verified.
pub(super) fn decode<T: DeserializeOwned>(
    table: Table,
    key: &[u8],
    record: &[u8],
) -> Result<T, StoreError> {
    let payload = payload(table, key, record)?;
    serde_json::from_slice(payload).map_err(|error| corrupt(table, key, error.to_string()))
}

/// What a record holds, after its checksum was verified.
///
/// # Errors
/// [`StoreError::Corrupt`] names its row.
pub fn payload<'r>(table: Table, key: &[u8], record: &'r [u8]) -> Result<&'r [u8], StoreError> {
    let Some((sum, payload)) = record.split_first_chunk::<CHECKSUM_BYTES>() else {
        return Err(corrupt(table, key, "it is too short"));
    };
    if *sum != checksum(table, key, payload) {
        return Err(corrupt(table, key, "its checksum does not match"));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_flipped_bit_is_never_a_value(text in ".{0,40}", at in 0usize..400, bit in 0u8..8) {
            let mut record = encode(Table::Apps, b"a", &text).unwrap();
            let at = at % record.len();
            record[at] ^= 1 << bit;
            prop_assert!(decode::<String>(Table::Apps, b"a", &record).is_err());
        }

        #[test]
        fn a_record_counts_only_in_its_place(text in ".{0,40}") {
            let record = encode(Table::Apps, b"a", &text).unwrap();
            prop_assert_eq!(decode::<String>(Table::Apps, b"a", &record).unwrap(), text);
            prop_assert!(decode::<String>(Table::Apps, b"b", &record).is_err());
            prop_assert!(decode::<String>(Table::Nodes, b"a", &record).is_err());
        }
    }
}
