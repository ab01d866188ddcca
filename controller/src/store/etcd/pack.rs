//! What fits into one transaction. Pure.

use std::collections::BTreeMap;

use longshore_etcd::limits::{TXN_BYTES_MAX, TXN_OPS_MAX};

use super::Folded;
use super::keys::Keys;
use crate::store::{Change, Guard, StoreError, Table, readable};

/// Changes in a transaction: the mark goes with them.
pub(super) const OPS_MAX: usize = TXN_OPS_MAX - 1;
/// Guards of a batch: on failure each is read, and the leader's key and the mark with them.
const GUARDS_MAX: usize = TXN_OPS_MAX - 2;
/// Bytes of changes and guards in a transaction; the rest is for the mark and the election's guard.
pub(super) const BYTES_MAX: usize = TXN_BYTES_MAX - (16 << 10);
/// What surrounds a key and a value: tags and lengths of three nested messages.
const AROUND_BYTES: usize = 48;

fn bytes(keys: &Keys, table: Table, key: &[u8], value: Option<&Vec<u8>>) -> usize {
    // A guard's row is asked for as well if it fails.
    let key = keys.row(table, key).len();
    2 * (key + AROUND_BYTES) + value.map_or(0, Vec::len)
}

fn bytes_of(keys: &Keys, change: &Change) -> usize {
    bytes(keys, change.table, &change.key, change.value.as_ref())
}

fn bytes_of_guards(keys: &Keys, guards: &[Guard]) -> usize {
    let each = |guard: &Guard| bytes(keys, guard.table, &guard.key, guard.expected.as_ref());
    guards.iter().map(each).sum()
}

/// The last change of each row: etcd refuses two in one transaction.
pub(super) fn fold<'b>(changes: &'b [Change]) -> Folded<'b> {
    let row = |change: &'b Change| {
        let Change { table, key, .. } = change;
        ((*table, key.as_slice()), change)
    };
    let last: BTreeMap<(Table, &[u8]), &Change> = changes.iter().map(row).collect();
    last.into_values().collect()
}

/// # Errors
/// [`StoreError::TooLarge`] if the guards alone are more than etcd takes.
pub(super) fn check_guards(keys: &Keys, guards: &[Guard]) -> Result<(), StoreError> {
    refuse_above(GUARDS_MAX, guards.len(), "guards of one write")?;
    refuse_above(
        BYTES_MAX,
        bytes_of_guards(keys, guards),
        "bytes of one write's guards",
    )
}

/// # Errors
/// [`StoreError::TooLarge`] names the row.
pub(super) fn check_rows(keys: &Keys, changes: &Folded<'_>) -> Result<(), StoreError> {
    changes.iter().try_for_each(|change| {
        let (table, key) = (change.table.name(), readable(&change.key));
        let what = format!("bytes of row {key} of {table}");
        refuse_above(BYTES_MAX, bytes_of(keys, change), &what)
    })
}

pub(super) fn refuse_above(max: usize, size: usize, what: &str) -> Result<(), StoreError> {
    match size > max {
        true => Err(StoreError::TooLarge {
            what: what.to_owned(),
            size,
            max,
        }),
        false => Ok(()),
    }
}

/// Does all of it go into one transaction?
pub(super) fn is_small(keys: &Keys, guards: &[Guard], changes: &Folded<'_>) -> bool {
    let bytes: usize = changes.iter().map(|change| bytes_of(keys, change)).sum();
    changes.len() <= OPS_MAX && bytes + bytes_of_guards(keys, guards) <= BYTES_MAX
}

/// Parts that go into one transaction each. No row is larger than that (`check_rows`).
pub(super) fn parts<'c>(keys: &Keys, changes: &'c [Change]) -> Vec<&'c [Change]> {
    let mut parts = Vec::new();
    let (mut from, mut sum) = (0, 0);
    for (n, change) in changes.iter().enumerate() {
        let bytes = bytes_of(keys, change);
        if n > from && (n - from == OPS_MAX || sum + bytes > BYTES_MAX) {
            parts.extend(changes.get(from..n));
            (from, sum) = (n, 0);
        }
        sum += bytes;
    }
    parts.extend(changes.get(from..).filter(|rest| !rest.is_empty()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change(key: String, bytes: usize) -> Change {
        Change {
            table: Table::Contents,
            key: key.into_bytes(),
            value: Some(vec![0; bytes]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn parts_are_all_of_it_in_order_and_fit(
            sizes in prop::collection::vec(prop_oneof![3 => 0usize..100, 1 => 0usize..1_400_000], 0..300),
        ) {
            let keys = Keys::new("/longshore/lab");
            let sizes = sizes.into_iter().enumerate();
            let changes: Vec<Change> = sizes.map(|(n, bytes)| change(n.to_string(), bytes)).collect();
            let parts = parts(&keys, &changes);
            prop_assert!(parts.concat() == changes);
            for part in parts {
                prop_assert!(!part.is_empty() && is_small(&keys, &[], &part.iter().collect()));
            }
        }
    }
}
