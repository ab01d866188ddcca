//! What planning runs carry from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::certificate::CertificatesSaid;
use crate::id::{NodeId, ReplicaId, ServiceKey, TemplateId};
use crate::observe::{PortsBySharer, ServerObserved};
use crate::report::{NodeState, Stay};
use crate::shared::SharedMap;

/// What planning runs carry from one to the next without committing it: it is rebuilt after a
/// start, while nothing is scaled in, moved or declared lost.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// What is remembered of each service; none if there is nothing.
    pub services: SharedMap<ServiceKey, Arc<ServiceMemory>>,
    /// State of each node as last said in an event.
    #[serde(default)]
    pub node_states: Arc<BTreeMap<NodeId, NodeState>>,
    /// Edges of which an event said that HAProxy does not answer there.
    #[serde(default)]
    pub edges_silent: Arc<BTreeSet<NodeId>>,
    /// Other programs on edges' ports, as last said in an event.
    #[serde(default)]
    pub edges_shared: Arc<BTreeMap<NodeId, Arc<PortsBySharer>>>,
    /// What was last said of certificates.
    #[serde(default)]
    pub certificates: Arc<CertificatesSaid>,
    /// Number of each edge's last repair that was looked at for events.
    #[serde(default)]
    pub edges_repaired: Arc<BTreeMap<NodeId, u64>>,
    /// When too many nodes were away at once, as long as the brake is on.
    #[serde(default)]
    pub braked_ms: Option<TimeMs>,
    /// What is known for evening out the cluster.
    #[serde(default)]
    pub rebalance: Arc<RebalanceMemory>,
    /// What was last said of the drains of nodes.
    #[serde(default)]
    pub drains: Arc<BTreeMap<NodeId, DrainSaid>>,
}

/// What is known for evening out the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RebalanceMemory {
    /// Nodes that took replicas when they were last looked at.
    pub takers: BTreeSet<NodeId>,
    /// Until then replicas may move because a node joined.
    pub until_ms: TimeMs,
    /// Next look.
    pub due_ms: TimeMs,
    /// Why services' replicas stay, by the last look.
    pub stays: BTreeMap<ServiceKey, Stay>,
}

/// What was last said of a node's drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainSaid {
    /// It runs.
    Runs,
    /// Its deadline has passed.
    Late,
    /// Nothing is left.
    Done,
}

/// What is remembered of one service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceMemory {
    /// Its recommendations, oldest first, bounded by the planner.
    #[serde(default)]
    pub recommendations: Vec<Recommendation>,
    /// Count that waits for consent, and since when.
    #[serde(default)]
    pub proposed: Option<Recommendation>,
    /// Since when edges have not reached a replica that its node calls healthy.
    #[serde(default)]
    pub unreachable_since_ms: BTreeMap<ReplicaId, TimeMs>,
    /// Since when some edges have not reached such a replica while others do.
    #[serde(default)]
    pub reached_in_part_since_ms: BTreeMap<ReplicaId, TimeMs>,
    /// Since when a connected node has not listed a replica that it must know.
    #[serde(default)]
    pub missing_since_ms: BTreeMap<ReplicaId, TimeMs>,
    /// Since when a replica's own check has failed.
    #[serde(default)]
    pub unhealthy_since_ms: BTreeMap<ReplicaId, TimeMs>,
    /// Nodes on which its replicas failed lately; others are preferred for the same template.
    #[serde(default)]
    pub failed_on: BTreeMap<NodeId, FailedOn>,
    /// Kinds of waits as last said in an event.
    #[serde(default)]
    pub said: BTreeSet<String>,
    /// What HAProxy had counted when the gate of its batch began to look.
    #[serde(default)]
    pub gate: Option<GateMemory>,
}

/// The last failure on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedOn {
    /// When.
    pub at_ms: TimeMs,
    /// What failed: another template may do well there.
    pub template: TemplateId,
}

/// Where the gate of one service's batch began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GateMemory {
    /// When.
    pub since_ms: TimeMs,
    /// What HAProxy showed then, by edge and replica.
    pub base: BTreeMap<NodeId, BTreeMap<ReplicaId, ServerObserved>>,
}

/// What the metrics asked for at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// When.
    pub at_ms: TimeMs,
    /// How many.
    pub count: u32,
}
