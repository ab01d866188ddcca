//! Weights by measured load: how much of a service's traffic each of its replicas gets.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::{NodeId, ReplicaId};
use crate::route::{Balance, RouteSpec};

/// Most that a replica weighs. It is what all weigh while they are equal.
pub const WEIGHT_MAX: u8 = 100;
/// Least that a replica weighs: a weight is no drain.
pub const WEIGHT_MIN: u8 = 10;
/// Most by which a weight goes down at once.
pub const WEIGHT_FALL_MAX: u8 = 50;
/// Most by which a weight comes up at once: slower than down, as trust is.
pub const WEIGHT_RISE_MAX: u8 = 10;
/// Between two changes of weights in the whole cluster.
pub const WEIGHT_PERIOD_MS: u64 = 5_000;

/// How much of a way in's traffic each replica gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// As much as any other.
    #[default]
    Equal,
    /// By what is free on its node, as measured.
    Load,
}

impl Weights {
    /// The rule that [`Self::move_keys`] breaks.
    pub(crate) const MOVE_KEYS: &str = "load needs balance: roundrobin, leastconn or random; with source and hash each change \
         would take clients from their replica";

    /// Would each change take clients from their replica?
    pub(crate) fn move_keys(route: &RouteSpec) -> bool {
        let by_keys = matches!(route.balance, Balance::Source | Balance::Hash);
        route.weights == Self::Load && by_keys
    }
}

/// The weights of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Weighed {
    /// When load last changed them.
    pub changed_ms: TimeMs,
    /// Of each replica in the routes.
    pub weights: BTreeMap<ReplicaId, u8>,
}

impl Weighed {
    /// A replica's weight behind a way in; none where all are equal by the file.
    #[must_use]
    pub fn of(weighed: Option<&Self>, route: &RouteSpec, replica: ReplicaId) -> Option<u8> {
        let known = weighed.and_then(|weighed| weighed.weights.get(&replica).copied());
        match route.weights {
            Weights::Equal => None,
            // What was stored may be anything.
            Weights::Load => Some(known.unwrap_or(WEIGHT_MAX).clamp(WEIGHT_MIN, WEIGHT_MAX)),
        }
    }
}

/// One replica's weight and what it follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightLook {
    /// The replica.
    pub replica: ReplicaId,
    /// Its place in the service.
    pub slot: u32,
    /// Its node.
    pub node: NodeId,
    /// What it weighs from now on.
    pub weight: u8,
    /// What it should weigh by the measurements.
    pub target: u8,
    /// CPU of its node that was free lately, in per cent; none: nobody knows.
    pub free_percent: Option<u8>,
    /// Age of the newest measurement.
    pub age_ms: u64,
    /// Why it weighs that.
    pub rule: WeightRule,
}

/// Why a replica weighs what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightRule {
    /// There is nothing to compare it with.
    Alone,
    /// No replica is off by enough to be worth a change.
    Steady,
    /// It is off, but weights changed a moment ago.
    Waits,
    /// It weighs what it should.
    Follows,
    /// It goes down by as much as is allowed at once.
    Falls,
    /// It comes up by as much as is allowed at once.
    Rises,
    /// It has the least weight: less would be a drain.
    Least,
    /// Its node was not measured lately: it keeps its weight.
    Keeps,
    /// Its node was not measured for long: it comes back to what the others weigh.
    Evens,
}

impl WeightRule {
    /// Is it on its way to another weight?
    #[must_use]
    pub fn moves(self) -> bool {
        matches!(self, Self::Waits | Self::Falls | Self::Rises)
    }
}

impl fmt::Display for WeightRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alone => "there is nothing to compare it with",
            Self::Steady => "none is off by enough for a change",
            Self::Waits => "weights changed a moment ago",
            Self::Follows => "as measured",
            Self::Falls => "goes down no faster than this",
            Self::Rises => "comes up no faster than this",
            Self::Least => "the least there is",
            Self::Keeps => "not measured lately: as it was",
            Self::Evens => "not measured for long: back to what the others have",
        })
    }
}

impl fmt::Display for WeightLook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight {} of {WEIGHT_MAX}", self.weight)?;
        if self.rule.moves() {
            write!(f, " on its way to {}", self.target)?;
        }
        write!(f, ": {}", self.node)?;
        match self.free_percent {
            Some(percent) => {
                let seconds = self.age_ms / 1_000;
                write!(f, " has {percent} % of its CPU free ({seconds} s ago)")?;
            }
            None => f.write_str(" is not measured")?,
        }
        write!(f, "; {}", self.rule)
    }
}
