//! The rows of the store that are not the model's.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use longshore_model::spec::FileContents;
use longshore_model::{Desired, Event, Node, NodeId, Plan, SecretKey, SecretText, TimeMs};
use serde::{Deserialize, Serialize};

use super::Said;
use crate::apart::Apart;
use crate::contents::ContentKey;
use crate::images::Catalog;
use crate::operators::Operators;

/// Version of the rows that this program reads and writes: 2 has rows for each service of the plan, 3 has sealed secrets, 4
/// has operators.
pub(super) const SCHEMA: u32 = 4;
/// The oldest version that it reads, and brings to [`SCHEMA`] when it opens the store.
pub(super) const SCHEMA_READ_MIN: u32 = 1;

/// What the cluster is; written once by `init`, apart from its generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of the rows.
    pub schema: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Rises on restore and migration.
    pub cluster_generation: u64,
    /// `address:port` that the controller listens on.
    pub listen: String,
    /// Names and addresses under which agents and operators reach it.
    pub advertise: Vec<String>,
}

impl Meta {
    /// Of a new cluster.
    #[must_use]
    pub fn new(cluster: String, listen: String, advertise: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            cluster,
            cluster_generation: 1,
            listen,
            advertise,
        }
    }
}

/// A node with what only the controller needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node.
    pub node: Node,
    /// Serials of its certificates that may still be valid, oldest first.
    pub serials: Vec<String>,
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGrant {
    /// As a worker.
    pub worker: bool,
    /// As an edge.
    pub edge: bool,
    /// Only under this name.
    pub node_name: Option<NodeId>,
    /// Only from there.
    #[serde(default)]
    pub from: Option<IpNet>,
}

/// A join token; its secret is known only as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Public part.
    pub id: String,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// What it allows.
    pub grant: JoinGrant,
    /// Not after this time.
    pub expires_ms: TimeMs,
    /// Who made it.
    pub by: String,
    /// Who used it.
    pub used_by: Option<NodeId>,
    /// SHA-256 of the public key that it was used with. Whoever holds that key may repeat the
    /// join: the answer may have been lost.
    #[serde(default)]
    pub used_key: Option<[u8; 32]>,
}

/// An event and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Rises by one with each event, for ever.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// Everything that the controller keeps in memory.
#[derive(Debug)]
pub struct Loaded {
    /// The cluster.
    pub meta: Meta,
    /// Term of this start: one more than the last, already stored.
    pub term: u64,
    /// Apps, nodes and manual counts.
    pub desired: Desired,
    /// Serials of each node.
    pub serials: BTreeMap<NodeId, Vec<String>>,
    /// Refused serials.
    pub revoked: BTreeSet<String>,
    /// Join tokens.
    pub tokens: Vec<TokenRecord>,
    /// The plan in force.
    pub plan: Plan,
    /// Secrets of all apps.
    pub secrets: BTreeMap<SecretKey, SecretText>,
    /// Contents of secrets and configs of all apps.
    pub contents: BTreeMap<ContentKey, FileContents>,
    /// What nodes said last.
    pub said: Said,
    /// Images that are held here.
    pub images: Catalog,
    /// Secrets apart from apps, and credentials for registries.
    pub apart: Apart,
    /// Operators.
    pub operators: Operators,
}
