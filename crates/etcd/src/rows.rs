//! Keys, spans of keys, and what etcd holds at them.

use std::fmt;

use crate::pb::etcdserverpb as pb;
use crate::pb::mvccpb;

/// A lease, by etcd's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub(crate) i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One key, or all from `key` to before `end`.
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    pub(crate) key: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

impl Span {
    /// This key only.
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            end: Vec::new(),
        }
    }

    /// All keys that start with `prefix`; all there are if it is empty.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let key: Vec<u8> = prefix.into();
        let mut end = key.clone();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                return Self { key, end };
            }
        }
        // Nothing sorts after all that start with 0xff…: to the end, which etcd writes so.
        let key = if key.is_empty() { vec![0] } else { key };
        Self { key, end: vec![0] }
    }

    /// All keys from `key` on, to before `end`.
    pub fn between(key: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            end: end.into(),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key.escape_ascii())?;
        match self.end.is_empty() {
            true => Ok(()),
            false => f.write_str("…"),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({self})")
    }
}

/// A key, its value, and when it was written. Debug shows the value's length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Vec<u8>,
    /// The value; empty where only keys were asked for.
    pub value: Vec<u8>,
    /// The revision at which the key came to be; it stays until the key is deleted.
    pub create_revision: u64,
    /// The revision of the last write.
    pub mod_revision: u64,
    /// How many writes since the key came to be.
    pub version: u64,
    /// The lease that the key goes with.
    pub lease: Option<LeaseId>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, bytes) = (self.key.escape_ascii(), self.value.len());
        write!(
            f,
            "Row({key}, {bytes} bytes, written at {})",
            self.mod_revision
        )
    }
}

impl From<mvccpb::KeyValue> for Row {
    fn from(kv: mvccpb::KeyValue) -> Self {
        Self {
            key: kv.key,
            value: kv.value,
            create_revision: unsigned(kv.create_revision),
            mod_revision: unsigned(kv.mod_revision),
            version: unsigned(kv.version),
            lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
        }
    }
}

/// What a range asks for. Always linearizable: what is read is at least as new as all that was
/// written before the question, whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub(crate) span: Span,
    pub(crate) limit: u32,
    pub(crate) revision: u64,
    pub(crate) keys_only: bool,
}

impl Range {
    /// All rows of a span, in the order of their keys.
    #[must_use]
    pub fn of(span: Span) -> Self {
        Self {
            span,
            limit: 0,
            revision: 0,
            keys_only: false,
        }
    }

    /// At most so many rows; 0: all.
    #[must_use]
    pub fn limit(mut self, rows: u32) -> Self {
        self.limit = rows;
        self
    }

    /// As they were at a revision.
    #[must_use]
    pub fn at(mut self, revision: u64) -> Self {
        self.revision = revision;
        self
    }

    /// Without their values.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    pub(crate) fn request(&self) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.span.key.clone(),
            range_end: self.span.end.clone(),
            limit: i64::from(self.limit),
            revision: signed(self.revision),
            keys_only: self.keys_only,
            count_only: false,
        }
    }
}

/// Rows, as of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// In the order of their keys.
    pub rows: Vec<Row>,
    /// How many there are in the span, also those beyond the limit.
    pub count: u64,
    /// The store's revision when they were read.
    pub revision: u64,
}

impl Rows {
    pub(crate) fn new(answer: pb::RangeResponse, revision: u64) -> Self {
        Self {
            rows: answer.kvs.into_iter().map(Row::from).collect(),
            count: unsigned(answer.count),
            revision,
        }
    }

    /// Are there more than these?
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.count > self.rows.len() as u64
    }
}

/// etcd counts in signed numbers that are never negative.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Numbers that never came from etcd compare with none of its own.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        let end = |prefix: &[u8]| Span::prefix(prefix).end;
        assert_eq!(end(b"/a/"), b"/a0");
        assert_eq!(end(b"a\xff"), b"b");
        assert_eq!(end(b"\xff\xff"), b"\0");
        assert_eq!(Span::prefix(b"".as_slice()), Span::between(*b"\0", *b"\0"));
    }

    #[test]
    fn values_are_not_shown() {
        let row = Row {
            key: b"k".to_vec(),
            value: b"hunter2".to_vec(),
            create_revision: 1,
            mod_revision: 2,
            version: 3,
            lease: None,
        };
        assert_eq!(format!("{row:?}"), "Row(k, 7 bytes, written at 2)");
    }
}
