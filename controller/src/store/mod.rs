//! What must survive a crash.
//!
//! A [`Store`] is a small set of tables of bytes with one atomic, durable, guarded write. What the
//! rows mean is known by [`Repository`] alone, so that a second engine needs no more than this
//! trait and the law tests.
//!
//! # Guarantees
//! - [`Store::write`] applies all of a [`Batch`] or nothing, and is durable once it returns.
//! - A batch whose guard does not hold changes nothing and says so.
//! - Each record carries a checksum over its table, key and value; a record that was damaged or
//!   moved is an error, never a value.
//!
//! # Failure
//! Every error of a write but those that surely changed nothing ([`StoreError::is_fatal`]) is fatal to the process: an engine that
//! failed once must be reopened and checked, never asked again.

mod apart;
mod aside;
mod ballast;
mod contents;
mod control;
mod copies;
mod etcd;
mod history;
mod images;
mod mem;
mod meta;
mod operators;
mod plan;
mod record;
mod recordings;
mod redb;
mod repository;
mod revisions;
mod rows;
mod said;
mod sealed;
mod secrets;

#[cfg(test)]
mod laws;

pub use self::ballast::Ballast;
pub use self::contents::ContentChanges;
pub use self::etcd::EtcdStore;
pub use self::history::{Group, HistoryBatch, Span};
pub use self::mem::MemStore;
pub use self::record::payload;
pub use self::recordings::RecordingBatch;
pub use self::redb::RedbStore;
pub use self::repository::{EVENTS_MAX, Repository};
pub use self::revisions::{
    Origin, Outcome as RevisionOutcome, REVISIONS_MAX, RevisionRecord, put_rollout, revisions,
};
pub use self::rows::{JoinGrant, Loaded, Meta, NodeRecord, StoredEvent, TokenRecord};
pub use self::said::Said;
pub use self::sealed::SealedStore;
pub use self::secrets::SecretChanges;

/// A table of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Schema, cluster, fence.
    Meta,
    /// Apps by name.
    Apps,
    /// Nodes by id.
    Nodes,
    /// Serials of certificates that are refused.
    Revoked,
    /// Manual counts by service.
    Manual,
    /// Join tokens by the hash of their secret.
    Tokens,
    /// The plan without the rows below: one row.
    Plan,
    /// Services of the plan, with their templates.
    PlanServices,
    /// Replicas of the plan.
    PlanReplicas,
    /// Assignment generations of the plan, by node.
    PlanGenerations,
    /// Templates of the plan, as schema 1 kept them; empty since.
    PlanTemplates,
    /// Events by sequence number.
    Events,
    /// What operators told autoscalers, by service.
    Autoscale,
    /// Decision records by service, kind and number.
    Decisions,
    /// Which numbers of decision records are kept, by service and kind.
    DecisionSpans,
    /// What operators said of rollouts, by service.
    Rollout,
    /// Replicas that operators keep out of the routes, by service.
    Aside,
    /// Past revisions by app and number.
    Revisions,
    /// Secrets by app and name.
    Secrets,
    /// Contents of secrets and configs by app and digest.
    Contents,
    /// What nodes said last that names depend on, by node and by service.
    Said,
    /// Images by the digest of their manifest.
    Images,
    /// What names of images mean.
    ImageTags,
    /// Secrets that stand apart from apps, by name.
    ApartSecrets,
    /// Credentials for registries, by host.
    Registries,
    /// Measurements of the last day, by service and time.
    Recordings,
    /// Operators by name.
    Operators,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Meta,
        Self::Apps,
        Self::Nodes,
        Self::Revoked,
        Self::Manual,
        Self::Tokens,
        Self::Plan,
        Self::PlanServices,
        Self::PlanReplicas,
        Self::PlanGenerations,
        Self::PlanTemplates,
        Self::Events,
        Self::Autoscale,
        Self::Decisions,
        Self::DecisionSpans,
        Self::Rollout,
        Self::Aside,
        Self::Revisions,
        Self::Secrets,
        Self::Contents,
        Self::Said,
        Self::Images,
        Self::ImageTags,
        Self::ApartSecrets,
        Self::Registries,
        Self::Recordings,
        Self::Operators,
    ];

    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Apps => "apps",
            Self::Nodes => "nodes",
            Self::Revoked => "revoked",
            Self::Manual => "manual",
            Self::Tokens => "tokens",
            Self::Plan => "plan",
            Self::PlanServices => "plan_services",
            Self::PlanReplicas => "plan_replicas",
            Self::PlanGenerations => "plan_generations",
            Self::PlanTemplates => "plan_templates",
            Self::Events => "events",
            Self::Autoscale => "autoscale",
            Self::Decisions => "decisions",
            Self::DecisionSpans => "decision_spans",
            Self::Rollout => "rollout",
            Self::Aside => "aside",
            Self::Revisions => "revisions",
            Self::Secrets => "secrets",
            Self::Contents => "contents",
            Self::Said => "said",
            Self::Images => "images",
            Self::ImageTags => "image_tags",
            Self::ApartSecrets => "apart_secrets",
            Self::Registries => "registries",
            Self::Recordings => "recordings",
            Self::Operators => "operators",
        }
    }
}

/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// One change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub table: Table,
    /// Which row.
    pub key: Vec<u8>,
    /// New value; none removes it.
    pub value: Option<Vec<u8>>,
}

/// A row that must be as expected, or the batch does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Where.
    pub table: Table,
    /// Which row.
    pub key: Vec<u8>,
    /// Its value; none: it must not be there.
    pub expected: Option<Vec<u8>>,
}

/// Changes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// What must hold.
    pub guards: Vec<Guard>,
    /// What changes, in order.
    pub changes: Vec<Change>,
}

/// Failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A guard did not hold: somebody else wrote first.
    #[error("store: row {key} of {table} is not as expected, nothing was changed")]
    Conflict {
        /// Table of the guard.
        table: &'static str,
        /// Its key, readable.
        key: String,
    },
    /// No space. Nothing was changed, nothing acknowledged is lost.
    #[error("store: disk full, nothing was changed; free space on {place} and retry")]
    Full {
        /// Directory or device.
        place: String,
    },
    /// More than the engine takes at once, and it would not take it later. Nothing was changed.
    #[error("store: {size} {what}, and the engine takes {max}; nothing was changed")]
    TooLarge {
        /// Of what there is too much.
        what: String,
        /// How much.
        size: usize,
        /// The most that is taken.
        max: usize,
    },
    /// The engine is not to be reached. Nothing was changed.
    #[error("store: {attempted} found no answer from {place}; nothing was changed, try again")]
    Away {
        /// What was attempted.
        attempted: &'static str,
        /// Where it was looked for.
        place: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another controller writes from now on.
    #[error("store: this controller leads no more ({why}) and must write nothing")]
    Deposed {
        /// What is known of who does.
        why: String,
    },
    /// Damaged data.
    #[error(
        "store: {place} is damaged ({detail}); stop the controller and restore the newest good \
         copy of the file. Nodes and edges go on meanwhile"
    )]
    Corrupt {
        /// File, or table and key.
        place: String,
        /// What was found.
        detail: String,
    },
    /// Sealed with a key that is not here.
    #[error(
        "store: {row} is sealed with key {with}, and the key here is {here}; give the controller the \
         key of before"
    )]
    Sealed {
        /// Table and key of the row.
        row: String,
        /// Id of its key.
        with: String,
        /// Id of the key that is used.
        here: String,
    },
    /// A file of a newer or unknown schema.
    #[error("store: schema {found} is not known to this version (it knows {known})")]
    Schema {
        /// In the file.
        found: u32,
        /// In this program.
        known: u32,
    },
    /// No cluster in it.
    #[error("store: {place} holds no cluster; run `controller init` first")]
    Empty {
        /// File.
        place: String,
    },
    /// Anything else that the engine or the disk said.
    #[error("store: {attempted} failed on {place}")]
    Io {
        /// What was attempted.
        attempted: &'static str,
        /// File.
        place: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Must the process end and start again?
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::Conflict { .. } | Self::Full { .. } | Self::TooLarge { .. } | Self::Away { .. }
        )
    }
}

/// Tables of bytes; see the module for what it guarantees.
pub trait Store: Send + Sync + 'static {
    /// One row.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Rows from `from` on, in key order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError>;

    /// All of the batch, durably, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a guard does not hold, [`StoreError::Full`] without space,
    /// [`StoreError::TooLarge`], [`StoreError::Away`]; all others are fatal.
    fn write(&self, batch: &Batch) -> Result<(), StoreError>;

    /// What it takes on its disk; none: not known.
    fn bytes(&self) -> Option<u64> {
        None
    }

    /// What makes it refuse some writes, in words; none: it takes all.
    fn strain(&self) -> Option<String> {
        None
    }

    /// The store beneath, whose rows are as they are stored; none: this one's are.
    fn stored(&self) -> Option<&dyn Store> {
        None
    }
}

/// A key for messages.
fn readable(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => text.to_owned(),
        _ => key.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
