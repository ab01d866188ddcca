//! etcd, for what several controllers share.
//!
//! - One endpoint at a time, the first of all to show that it is in touch with a majority; left
//!   when it errs or is silent for longer than a call may last (`race`, `finder`). Balancers that
//!   spread calls over endpoints do not put out one that is frozen.
//! - Each call has a deadline, and its error says whether the write may have been made
//!   ([`EtcdError::outcome`]). No write is made twice by itself.
//! - What etcd would refuse for its size is refused before it is sent (`limits`).
//! - Watches are hints to read (`hints`); leases are no locks (`lease`).
//! - The leader is whoever made the election's key ([`Client::campaign`]); what is decided is apart
//!   from what is done, and every write of a leader carries its guard (`election`).
//!
//! Deliberately absent: stale (serializable) reads, users with passwords (client certificates
//! name the user), several endpoints at once, following state by watches.

mod client;
mod election;
mod error;
mod finder;
mod hints;
mod lease;
pub mod limits;
mod pb;
mod race;
mod rows;
mod settings;
mod txn;

pub use client::{Client, EndpointStatus, Member};
pub use election::{Candidate, CandidateError, Election, End, Leader, Leadership, Standing};
pub use error::{EtcdError, Outcome, Refusal, Silence, Tried};
pub use hints::Hints;
pub use lease::{Lease, TimeToLive};
pub use rows::{LeaseId, Range, Row, Rows, Span};
pub use settings::{Credentials, Settings, SettingsError};
pub use txn::{Compare, Op, Reply, Txn, TxnReply};
