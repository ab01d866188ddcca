//! Where replicas went, and why not elsewhere.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::NodeFacts;
use crate::id::{NodeId, ReplicaId};
use crate::reason::{Refusal, RefusalCount};
use crate::spec::{Constraint, Platform};

/// Replicas of one run whose choice is recorded one by one; the others follow the same scores.
pub const CHOICES_MAX: usize = 8;
/// Nodes named with what refused them; all are counted.
pub const REFUSALS_MAX: usize = 32;
/// Nodes that fitted, named with their scores; all are counted.
pub const SCORED_MAX: usize = 16;

/// One look for places for one service's new replicas.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PlacementRecord {
    /// What was asked for.
    pub asked: PlacementAsked,
    /// Names of the fields of every score here, the most important first. Scores are compared
    /// field by field, the smallest wins; see `most_wins`.
    pub fields: Vec<Cow<'static, str>>,
    /// Those of the fields in which the largest wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub most_wins: Vec<Cow<'static, str>>,
    /// All nodes as they were before the first replica was placed; none in a large cluster, where
    /// no look for places goes through all of them.
    #[serde(default)]
    pub all: Option<AllNodes>,
    /// The best nodes before the first replica was placed, best first: at most [`SCORED_MAX`], in
    /// a large cluster the chosen and the next.
    pub best: Vec<NodeScore>,
    /// Who went where, in order; at most [`CHOICES_MAX`].
    pub choices: Vec<Choice>,
    /// How many were placed.
    pub placed: u32,
    /// Where places ran short: all nodes, which then refuse, by kind of reason.
    pub refused: Vec<RefusalCount>,
    /// Some of them, node by node; at most [`REFUSALS_MAX`].
    pub refusals: Vec<(NodeId, Refusal)>,
    /// What that follows from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<Box<ShortLook>>,
}

/// A look for places that ran short.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ShortLook {
    /// What was asked for.
    pub asked: PlacementAsked,
    /// What the filters looked at once no node took one more; none in a large cluster.
    pub facts: Vec<NodeFacts>,
}

/// What was asked for, as far as it decides about places.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlacementAsked {
    /// Replicas.
    pub count: u32,
    /// CPU that each reserves, thousandths of a core.
    #[serde(default)]
    pub cpu_milli: u64,
    /// Memory that each reserves.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Host ports that each needs.
    #[serde(default)]
    pub ports: u32,
    /// Most replicas of the service on a node; 0: no limit.
    #[serde(default)]
    pub max_per_node: u32,
    /// What must hold for a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// What its image is for, where the file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Host ports that each needs and no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed_ports: Vec<u16>,
    /// Host ports that the cluster's range has.
    #[serde(default)]
    pub port_range: u32,
}

/// How many nodes fitted, and what the filters had against the others.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AllNodes {
    /// Nodes that fitted; the best of them are [`PlacementRecord::best`].
    pub fit: u32,
    /// The others, by kind of reason.
    pub refused: Vec<RefusalCount>,
    /// Some of them, node by node; at most [`REFUSALS_MAX`].
    pub refusals: Vec<(NodeId, Refusal)>,
    /// What the filters looked at, of every node.
    #[serde(default)]
    pub facts: Vec<NodeFacts>,
}

impl AllNodes {
    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.fit.saturating_add(total(&self.refused))
    }
}

fn total(counts: &[RefusalCount]) -> u32 {
    let nodes = counts.iter().map(|count| count.nodes);
    nodes.fold(0, u32::saturating_add)
}

/// A node and its score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeScore {
    /// Which node.
    pub node: NodeId,
    /// Its score, one number for each of [`PlacementRecord::fields`].
    pub score: Vec<u64>,
}

/// One replica's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Which replica.
    pub replica: ReplicaId,
    /// Its slot.
    pub slot: u32,
    /// Where it went, with the score at that moment.
    pub chosen: NodeScore,
    /// The next best node at that moment; none if no other node fitted. Its score is not worse
    /// than it really was.
    #[serde(default)]
    pub runner_up: Option<NodeScore>,
}

impl PlacementRecord {
    /// Which of two nodes comes first: field by field.
    #[must_use]
    pub fn order(&self, a: &NodeScore, b: &NodeScore) -> Ordering {
        let mut fields = a.score.iter().zip(&b.score).enumerate();
        let differs = fields.find(|(_, (a, b))| a != b);
        differs.map_or(Ordering::Equal, |(at, (a, b))| {
            let name = self.fields.get(at);
            match name.is_some_and(|name| self.most_wins.contains(name)) {
                true => b.cmp(a),
                false => a.cmp(b),
            }
        })
    }

    /// Makes the first choice again from the recorded scores; none if no node fitted.
    #[must_use]
    pub fn recompute(&self) -> Option<&NodeId> {
        let best = self.best.iter().min_by(|a, b| self.order(a, b));
        best.map(|best| &best.node)
    }

    /// Makes one choice again from its scores.
    #[must_use]
    pub fn recompute_choice<'c>(&self, choice: &'c Choice) -> &'c NodeId {
        match &choice.runner_up {
            Some(other) if self.order(other, &choice.chosen).is_lt() => &other.node,
            _ => &choice.chosen.node,
        }
    }

    /// Nodes refused in all.
    #[must_use]
    pub fn refused_total(&self) -> u32 {
        total(&self.refused)
    }

    /// Both found no place at all, for the same kinds of reasons.
    pub(super) fn repeats(&self, before: &Self) -> bool {
        self.placed == 0 && before.placed == 0 && self.refused == before.refused
    }
}
