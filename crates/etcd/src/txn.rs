//! Transactions: compare, then write or read, all or nothing.

use std::fmt;

use prost::Message;

use crate::error::EtcdError;
use crate::limits::{TXN_BYTES_MAX, TXN_OPS_MAX};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::rows::{LeaseId, Range, Rows, Span, signed, unsigned};

/// What must be true of a key for a transaction to go its first way.
#[derive(Clone, PartialEq)]
pub struct Compare(pb::Compare);

impl Compare {
    fn new(key: Vec<u8>, target: CompareTarget, union: TargetUnion) -> Self {
        Self(pb::Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key,
            target_union: Some(union),
        })
    }

    /// There is no such key.
    pub fn absent(key: impl Into<Vec<u8>>) -> Self {
        Self::created_at(key, 0)
    }

    /// There is such a key.
    pub fn present(key: impl Into<Vec<u8>>) -> Self {
        let mut compare = Self::absent(key);
        compare.0.result = CompareResult::NotEqual.into();
        compare
    }

    /// The key came to be at this revision, and was not deleted since.
    pub fn created_at(key: impl Into<Vec<u8>>, revision: u64) -> Self {
        let union = TargetUnion::CreateRevision(signed(revision));
        Self::new(key.into(), CompareTarget::Create, union)
    }

    /// The key was last written at this revision; 0: there is none.
    pub fn modified_at(key: impl Into<Vec<u8>>, revision: u64) -> Self {
        let union = TargetUnion::ModRevision(signed(revision));
        Self::new(key.into(), CompareTarget::Mod, union)
    }

    /// The key was written so many times since it came to be.
    pub fn version(key: impl Into<Vec<u8>>, version: u64) -> Self {
        let union = TargetUnion::Version(signed(version));
        Self::new(key.into(), CompareTarget::Version, union)
    }

    /// The key has this value.
    pub fn value(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::new(
            key.into(),
            CompareTarget::Value,
            TargetUnion::Value(value.into()),
        )
    }

    /// The key goes with this lease.
    pub fn lease(key: impl Into<Vec<u8>>, lease: LeaseId) -> Self {
        Self::new(
            key.into(),
            CompareTarget::Lease,
            TargetUnion::Lease(lease.0),
        )
    }
}

impl fmt::Debug for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.0.key.escape_ascii();
        write!(f, "Compare({:?} of {key})", self.0.target())
    }
}

/// One thing that a transaction does. Debug shows values' lengths only.
#[derive(Clone, PartialEq)]
pub enum Op {
    /// Writes a row.
    Put {
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
        /// The lease that it goes with.
        lease: Option<LeaseId>,
    },
    /// Deletes rows.
    Delete(Span),
    /// Reads rows.
    Get(Range),
}

impl Op {
    /// Writes a row that stays.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        }
    }

    /// Writes a row that goes with a lease.
    pub fn put_with(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, lease: LeaseId) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
            lease: Some(lease),
        }
    }

    fn request(self) -> pb::RequestOp {
        use pb::request_op::Request;
        let request = match self {
            Self::Put { key, value, lease } => Request::RequestPut(pb::PutRequest {
                key,
                value,
                lease: lease.map_or(0, |lease| lease.0),
            }),
            Self::Delete(span) => Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: span.key,
                range_end: span.end,
            }),
            Self::Get(range) => Request::RequestRange(range.request()),
        };
        pb::RequestOp {
            request: Some(request),
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value, .. } => {
                write!(f, "Put({}, {} bytes)", key.escape_ascii(), value.len())
            }
            Self::Delete(span) => write!(f, "Delete({span})"),
            Self::Get(range) => write!(f, "Get({})", range.span),
        }
    }
}

/// If all of `when` is true, does all of `then`, else all of `otherwise`; each in one step that
/// nobody sees half of. A key may be written once only.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Txn {
    when: Vec<Compare>,
    then: Vec<Op>,
    otherwise: Vec<Op>,
}

impl Txn {
    /// Does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what must be true.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.when.push(compare);
        self
    }

    /// Adds what is done if all is true.
    #[must_use]
    pub fn then(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }

    /// Adds what is done if something is not true.
    #[must_use]
    pub fn otherwise(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    /// Does it change anything, whichever way it goes?
    pub(crate) fn writes(&self) -> bool {
        let ops = || self.then.iter().chain(&self.otherwise);
        ops().any(|op| !matches!(op, Op::Get(_)))
    }

    /// In words, for errors.
    pub(crate) fn attempted(&self) -> String {
        let first = self.then.iter().chain(&self.otherwise).next();
        match (first, self.then.len()) {
            (Some(op), 0 | 1) => format!("transaction {op:?}"),
            (Some(op), n) => format!("transaction {op:?} and {} more", n - 1),
            (None, _) => "transaction of nothing".to_owned(),
        }
    }

    /// As it goes over the wire, if etcd would take it.
    ///
    /// # Errors
    /// [`EtcdError::TooLarge`] above [`TXN_OPS_MAX`] entries in a list or [`TXN_BYTES_MAX`] bytes.
    pub(crate) fn request(self) -> Result<pb::TxnRequest, EtcdError> {
        let attempted = self.attempted();
        let refuse = |what, size, max| match size > max {
            true => Err(EtcdError::TooLarge {
                attempted: attempted.clone(),
                what,
                size,
                max,
            }),
            false => Ok(()),
        };
        refuse("comparisons", self.when.len(), TXN_OPS_MAX)?;
        let ops = self.then.len().max(self.otherwise.len());
        refuse("operations", ops, TXN_OPS_MAX)?;
        let request = pb::TxnRequest {
            compare: self.when.into_iter().map(|compare| compare.0).collect(),
            success: self.then.into_iter().map(Op::request).collect(),
            failure: self.otherwise.into_iter().map(Op::request).collect(),
        };
        refuse("bytes", request.encoded_len(), TXN_BYTES_MAX)?;
        Ok(request)
    }
}

/// What one operation gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Written.
    Put,
    /// Deleted: so many rows.
    Deleted(u64),
    /// Read.
    Got(Rows),
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnReply {
    /// Was all of `when` true?
    pub succeeded: bool,
    /// The store's revision after it; that of the rows that it wrote, if it wrote any.
    pub revision: u64,
    /// Of `then` or `otherwise`, in their order.
    pub replies: Vec<Reply>,
}

impl TxnReply {
    pub(crate) fn new(answer: pb::TxnResponse, revision: u64) -> Option<Self> {
        use pb::response_op::Response;
        let mut replies = Vec::with_capacity(answer.responses.len());
        for response in answer.responses {
            replies.push(match response.response? {
                Response::ResponsePut(_) => Reply::Put,
                Response::ResponseDeleteRange(deleted) => Reply::Deleted(unsigned(deleted.deleted)),
                Response::ResponseRange(rows) => Reply::Got(Rows::new(rows, revision)),
            });
        }
        Some(Self {
            succeeded: answer.succeeded,
            revision,
            replies,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(txn: Txn) -> (&'static str, usize, usize) {
        match txn.request().unwrap_err() {
            EtcdError::TooLarge {
                what, size, max, ..
            } => (what, size, max),
            other => panic!("{other}"),
        }
    }

    fn puts(n: usize) -> Txn {
        (0..n).fold(Txn::new(), |txn, n| txn.then(Op::put(n.to_string(), "")))
    }

    #[test]
    fn each_list_may_be_as_long_as_etcd_takes() {
        assert!(puts(TXN_OPS_MAX).request().is_ok());
        assert_eq!(refused(puts(129)), ("operations", 129, 128));
        let compares = |n| (0..n).fold(Txn::new(), |txn, _| txn.when(Compare::absent("k")));
        assert!(compares(128).request().is_ok());
        assert_eq!(refused(compares(129)), ("comparisons", 129, 128));
        let mut other = puts(129);
        std::mem::swap(&mut other.then, &mut other.otherwise);
        assert_eq!(refused(other), ("operations", 129, 128));
    }

    #[test]
    fn only_what_writes_may_have_been_done() {
        let get = || Op::Get(Range::of(Span::key("k")));
        assert!(!Txn::new().then(get()).otherwise(get()).writes());
        assert!(
            Txn::new()
                .then(get())
                .otherwise(Op::Delete(Span::key("k")))
                .writes()
        );
    }

    #[test]
    fn values_are_not_shown() {
        let txn = Txn::new()
            .when(Compare::value("k", "hunter1"))
            .then(Op::put("k", "hunter2"));
        let shown = format!("{txn:?} {}", txn.attempted());
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
