//! When a replica that left was told to stop, and on whose word.

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::{NodeId, ReplicaId};
use crate::reason::LeaveReason;
use crate::receipt::DrainReceipt;

/// The decision that a replica which left may be stopped: every edge that still counts runs
/// without it, or the time for that is up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainRecord {
    /// Which replica.
    pub replica: ReplicaId,
    /// Its slot.
    pub slot: u32,
    /// Its node.
    pub node: NodeId,
    /// Why it left.
    pub why: LeaveReason,
    /// When it began to leave.
    pub since_ms: TimeMs,
    /// When this was decided.
    pub at_ms: TimeMs,
    /// After this it is stopped without the edges' word.
    pub late_ms: TimeMs,
    /// Routes generation that no longer has it.
    pub park_generation: u64,
    /// Every edge.
    pub edges: Vec<EdgeAnswer>,
}

/// What one edge had said by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeAnswer {
    /// Which edge.
    pub edge: NodeId,
    /// Routes generation that its HAProxy was seen to run.
    pub runs_generation: u64,
    /// Its lease had run out: it no longer counts.
    pub gone: bool,
    /// What it said of the replica's sessions; none if it never had it.
    #[serde(default)]
    pub receipt: Option<DrainReceipt>,
}

impl DrainRecord {
    /// Makes the decision again: may it be stopped?
    #[must_use]
    pub fn recompute(&self) -> bool {
        self.at_ms >= self.late_ms
            || self
                .edges
                .iter()
                .all(|edge| edge.gone || edge.runs_generation >= self.park_generation)
    }

    /// Was it stopped although an edge still had sessions, or could not be asked?
    #[must_use]
    pub fn forced(&self) -> bool {
        self.edges.iter().any(|edge| {
            let unasked = !edge.gone && edge.runs_generation < self.park_generation;
            unasked || edge.receipt.is_some_and(|receipt| receipt.forced)
        })
    }
}
