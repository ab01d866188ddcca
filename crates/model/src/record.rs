//! Decision records: what was decided about a service, from which inputs, and why.
//!
//! A record alone suffices to make its decision again: nothing else of that moment has to be
//! known. Decisions not to change anything leave records as well; while they repeat for the same
//! reasons they share one, with a count (see [`Recorded`]).

mod drain;
mod facts;
mod moves;
mod placement;
mod rollout;
mod victims;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::ServiceKey;
use crate::report::ScaleReport;

pub use drain::{DrainRecord, EdgeAnswer};
pub use facts::NodeFacts;
pub use moves::{MOVABLE_MAX, Movable, MoveRecord, Moved, SEATS_MAX, Seat, Tally, is_worth};
pub use placement::{
    AllNodes, CHOICES_MAX, Choice, NodeScore, PlacementAsked, PlacementRecord, REFUSALS_MAX,
    SCORED_MAX, ShortLook,
};
pub use rollout::{
    GateLook, GateSide, JobLook, RolloutAnswer, RolloutRecord, RolloutStage, Setback,
};
pub use victims::{
    CHOSEN_MAX, Candidate, NEXT_MAX, VictimNode, VictimRank, VictimRecord, VictimState,
};

/// One decision about one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// When.
    pub at_ms: TimeMs,
    /// About which service.
    pub service: ServiceKey,
    /// Version of the plan that it led to, or that stayed.
    pub plan_version: u64,
    /// What was decided, from what.
    pub decision: Decision,
}

/// What was decided, from what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Decision {
    /// How many replicas.
    Scale(Arc<ScaleReport>),
    /// Where they go.
    Placement(Arc<PlacementRecord>),
    /// That one which left may be stopped.
    Drain(Arc<DrainRecord>),
    /// Which of too many leave.
    Victims(Arc<VictimRecord>),
    /// How far a rollout goes.
    Rollout(Arc<RolloutRecord>),
    /// Whether a replica moves to another node.
    Move(Arc<MoveRecord>),
}

/// Kinds of decisions; each has a share of a service's history, so that many of one kind do not
/// push out the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// How many replicas.
    Scale,
    /// Where they go.
    Placement,
    /// That one which left may be stopped.
    Drain,
    /// Which of too many leave.
    Victims,
    /// How far a rollout goes.
    Rollout,
    /// Whether a replica moves to another node.
    Move,
}

impl DecisionKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Scale,
        Self::Placement,
        Self::Drain,
        Self::Victims,
        Self::Rollout,
        Self::Move,
    ];

    /// The word of the API and of stored keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Placement => "placement",
            Self::Drain => "drain",
            Self::Victims => "victims",
            Self::Rollout => "rollout",
            Self::Move => "move",
        }
    }
}

impl Decision {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> DecisionKind {
        match self {
            Self::Scale(_) => DecisionKind::Scale,
            Self::Placement(_) => DecisionKind::Placement,
            Self::Drain(_) => DecisionKind::Drain,
            Self::Victims(_) => DecisionKind::Victims,
            Self::Rollout(_) => DecisionKind::Rollout,
            Self::Move(_) => DecisionKind::Move,
        }
    }

    /// Is this the same answer as `other` for the same kinds of reasons, and is the answer that
    /// nothing changes? Numbers that drift (a load, an age, a time until) do not count.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scale(now), Self::Scale(before)) => now.repeats(before),
            (Self::Placement(now), Self::Placement(before)) => now.repeats(before),
            (Self::Victims(now), Self::Victims(before)) => now.repeats(before),
            (Self::Rollout(now), Self::Rollout(before)) => now.repeats(before),
            (Self::Move(now), Self::Move(before)) => now.repeats(before),
            _ => false,
        }
    }
}

/// A record with its place in the history. A decision that repeats is kept once: the newest in
/// full, with how often and since when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When it was decided first.
    pub first_ms: TimeMs,
    /// When it was decided last.
    pub last_ms: TimeMs,
    /// How often in a row.
    pub count: u64,
    /// The last of them.
    pub record: DecisionRecord,
}

impl Recorded {
    /// The first of its kind.
    #[must_use]
    pub fn new(record: DecisionRecord) -> Self {
        Self {
            first_ms: record.at_ms,
            last_ms: record.at_ms,
            count: 1,
            record,
        }
    }

    /// Takes in a record that repeats this one; gives it back if it does not.
    ///
    /// # Errors
    /// The record itself, if it says something else and needs a place of its own.
    pub fn extend(&mut self, record: DecisionRecord) -> Result<(), DecisionRecord> {
        if !record.decision.repeats(&self.record.decision) {
            return Err(record);
        }
        self.last_ms = self.last_ms.max(record.at_ms);
        self.count += 1;
        self.record = record;
        Ok(())
    }
}
