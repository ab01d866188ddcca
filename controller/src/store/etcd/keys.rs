//! Where things are in etcd: `<prefix>/row/<table>/<key>`, `<prefix>/mark`, `<prefix>/journal` and
//! `<prefix>/journal/<n>`. Values of rows are the records as they are, with their checksums.

use longshore_etcd::{Op, Span};

use crate::store::{Change, Table};

#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// Without a slash at its end.
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/').to_owned();
        Self { prefix }
    }

    /// The row that each write changes.
    pub(super) fn mark(&self) -> Vec<u8> {
        format!("{}/mark", self.prefix).into_bytes()
    }

    /// Says that there is a journal.
    pub(super) fn journal(&self) -> Vec<u8> {
        format!("{}/journal", self.prefix).into_bytes()
    }

    /// All of a journal's parts.
    pub(super) fn chunks(&self) -> Vec<u8> {
        format!("{}/journal/", self.prefix).into_bytes()
    }

    /// Where they end.
    pub(super) fn chunks_end(&self) -> Vec<u8> {
        format!("{}/journal0", self.prefix).into_bytes()
    }

    pub(super) fn chunk(&self, n: usize) -> Vec<u8> {
        format!("{}/journal/{n:08}", self.prefix).into_bytes()
    }

    pub(super) fn row(&self, table: Table, key: &[u8]) -> Vec<u8> {
        let mut row = format!("{}/row/{}/", self.prefix, table.name()).into_bytes();
        row.extend_from_slice(key);
        row
    }

    /// Where the rows of a table end: `0` follows upon `/`.
    pub(super) fn end(&self, table: Table) -> Vec<u8> {
        format!("{}/row/{}0", self.prefix, table.name()).into_bytes()
    }

    pub(super) fn op(&self, change: &Change) -> Op {
        let row = self.row(change.table, &change.key);
        match &change.value {
            Some(value) => Op::put(row, value.clone()),
            None => Op::Delete(Span::key(row)),
        }
    }
}
