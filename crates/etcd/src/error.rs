//! What can go wrong, and above all: whether a write may have been made.

use std::fmt;

use tonic::{Code, Status};

/// Whether what was asked for was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Surely not: it may be asked for again.
    NotApplied,
    /// Perhaps: read back before asking again.
    Unknown,
}

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// More than etcd takes; nothing was sent.
    #[error("{attempted}: {size} {what}, and etcd takes {max}; write it in parts")]
    TooLarge {
        /// What was to be done.
        attempted: String,
        /// What there is too much of.
        what: &'static str,
        /// How much of it.
        size: usize,
        /// The most that is taken.
        max: usize,
    },
    /// What was asked for is more than an answer may hold.
    #[error("{attempted}: the answer is larger than {max} bytes; ask for fewer rows at a time")]
    AnswerTooLarge {
        /// What was to be done.
        attempted: String,
        /// The most that is taken.
        max: usize,
    },
    /// No endpoint could be held on to; nothing was sent.
    #[error("{attempted}: no endpoint of etcd is of use: {tried}")]
    NoEndpoint {
        /// What was to be done.
        attempted: String,
        /// Which were tried, and what was wrong with each.
        tried: Tried,
    },
    /// etcd refused; nothing was changed, but see [`Refusal::NoSpace`].
    #[error("{attempted}: etcd at {endpoint} refused: {refusal}")]
    Refused {
        /// What was to be done.
        attempted: String,
        /// By whom.
        endpoint: String,
        /// Why.
        refusal: Refusal,
    },
    /// A question got no answer; there was nothing to change.
    #[error("{attempted}: no answer from etcd at {endpoint}: {silence}")]
    Unanswered {
        /// What was to be done.
        attempted: String,
        /// Who was asked.
        endpoint: String,
        /// What came instead.
        #[source]
        silence: Silence,
    },
    /// A write got no answer: it may have been made, or be made yet.
    #[error("{attempted}: no answer from etcd at {endpoint}: {silence}; it may have been done")]
    Unknown {
        /// What was to be done.
        attempted: String,
        /// Who was asked.
        endpoint: String,
        /// What came instead.
        #[source]
        silence: Silence,
    },
}

impl EtcdError {
    /// Whether what was asked for may have been done all the same.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unknown { .. }
            | Self::Refused {
                refusal: Refusal::NoSpace,
                ..
            } => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }

    /// Why etcd refused, if it did.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

/// What came instead of an answer.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// Nothing, in the time that a call may take.
    #[error("nothing within {ms} ms")]
    Deadline {
        /// That time.
        ms: u128,
    },
    /// The connection broke, or etcd gave up on it.
    #[error("{}", in_words(.0))]
    Broken(Box<Status>),
    /// An answer that lacks what each answer has.
    #[error("an answer that cannot be read: {0}")]
    Odd(&'static str),
}

/// The message, and the innermost cause, which tonic keeps out of it.
fn in_words(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    let mut last = None;
    while let Some(error) = cause {
        last = Some(error.to_string());
        cause = error.source();
    }
    match last {
        Some(last) if last != status.message() => format!("{} ({last})", status.message()),
        _ => status.message().to_owned(),
    }
}

/// Why etcd refused. Nothing was changed, but for [`Refusal::NoSpace`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The space quota is used up (its alarm NOSPACE): only reads and deletions are taken. The
    /// write that uses it up is *made*, and then refused in these words (`quotaApplierV3` in
    /// etcd's `apply.go`: members' files differ in size, so none may leave out what others do).
    /// It is not made later: one look tells.
    #[error(
        "its space quota is used up: compact and defragment it (etcdctl compact, etcdctl defrag), \
         or raise --quota-backend-bytes, then etcdctl alarm disarm"
    )]
    NoSpace,
    /// The lease is over, or never was.
    #[error("the lease is over")]
    LeaseGone,
    /// The asked-for revision is gone.
    #[error("that revision has been compacted away; read the present one")]
    Compacted,
    /// It has no leader, or has lost touch with it.
    #[error("it has no leader: is a majority of its members running?")]
    NoLeader,
    /// It is a learner and serves nobody yet.
    #[error("it is a learner: name voting members only")]
    Learner,
    /// It belongs to another cluster than before.
    #[error("it is of cluster {found:016x}, and the one in use is {wanted:016x}")]
    OtherCluster {
        /// The cluster it is of.
        found: u64,
        /// The cluster in use.
        wanted: u64,
    },
    /// It has too much to do.
    #[error("it has more requests than it can take; try again")]
    Busy,
    /// Whoever asks may not.
    #[error("not allowed ({0}): does the client certificate belong to a user with rights here?")]
    Denied(String),
    /// It found damage in its data.
    #[error("it found damaged data (its alarm CORRUPT): restore the member, see etcd's manual")]
    Corrupt,
    /// Anything else that it does not do, in its words.
    #[error("{0}")]
    Invalid(String),
}

impl Refusal {
    /// What etcd says when it has surely not done what was asked; none if it may have. Its words
    /// are those of `api/v3rpc/rpctypes/error.go`, by which its own client tells errors apart.
    pub(crate) fn of(status: &Status) -> Option<Self> {
        let message = status.message();
        Some(match message {
            "etcdserver: mvcc: database space exceeded" => Self::NoSpace,
            "etcdserver: requested lease not found" => Self::LeaseGone,
            "etcdserver: mvcc: required revision has been compacted" => Self::Compacted,
            "etcdserver: no leader" => Self::NoLeader,
            "etcdserver: too many requests" => Self::Busy,
            "etcdserver: corrupt cluster" => Self::Corrupt,
            "etcdserver: rpc not supported for learner" => Self::Learner,
            _ => match status.code() {
                Code::PermissionDenied | Code::Unauthenticated => Self::Denied(message.to_owned()),
                Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::NotFound
                | Code::Unimplemented
                    if message.starts_with("etcdserver: ") || message.starts_with("unknown ") =>
                {
                    Self::Invalid(message.to_owned())
                }
                Code::OutOfRange if message.starts_with("etcdserver: ") => {
                    Self::Invalid(message.to_owned())
                }
                _ => return None,
            },
        })
    }

    /// Is another endpoint likely to say something else?
    pub(crate) fn is_of_the_endpoint(&self) -> bool {
        matches!(
            self,
            Self::NoLeader | Self::Learner | Self::OtherCluster { .. } | Self::Corrupt
        )
    }
}

/// The endpoints that were tried, and what was wrong with each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried(pub Vec<(String, String)>);

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none has answered yet");
        }
        for (n, (endpoint, why)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "; " };
            write!(f, "{comma}{endpoint}: {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_change_nothing_is_a_refusal() {
        let of = |code, message: &str| Refusal::of(&Status::new(code, message));
        let full = "etcdserver: mvcc: database space exceeded";
        assert_eq!(of(Code::ResourceExhausted, full), Some(Refusal::NoSpace));
        assert_eq!(
            of(Code::NotFound, "etcdserver: requested lease not found"),
            Some(Refusal::LeaseGone)
        );
        let refused = EtcdError::Refused {
            attempted: String::new(),
            endpoint: String::new(),
            refusal: Refusal::NoSpace,
        };
        assert_eq!(refused.outcome(), Outcome::Unknown);
        for (code, message) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unknown, "transport error"),
            (Code::Cancelled, "connection closed"),
            (
                Code::ResourceExhausted,
                "grpc: trying to send message larger than max",
            ),
            (Code::DeadlineExceeded, "context deadline exceeded"),
            // A proxy's word, not etcd's.
            (Code::NotFound, "no route"),
        ] {
            assert_eq!(of(code, message), None, "{message}");
        }
    }
}
