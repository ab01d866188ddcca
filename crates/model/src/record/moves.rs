//! Whether a replica moves to another node to even out the cluster.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ReplicaId};
use crate::report::Stay;

/// So many nodes of each side are noted: the fullest to give, the emptiest to take.
pub const SEATS_MAX: usize = 16;
/// So many replicas of the giving node are noted: those that fewest sessions would miss.
pub const MOVABLE_MAX: usize = 16;

/// One look at a service while the cluster is evened out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MoveRecord {
    /// A move must lower the first number that it changes by so much.
    pub gain_min: u32,
    /// Nodes that could give a replica: for each kind of node the fullest.
    pub from: Vec<Seat>,
    /// Nodes that could take one: for each kind of node the emptiest.
    pub to: Vec<Seat>,
    /// Replicas that may leave the best giver.
    pub movable: Vec<Movable>,
    /// The move that was begun.
    pub moved: Option<Moved>,
    /// Why none was; none: one was.
    pub stays: Option<Stay>,
}

/// A node as seen by one service, before the move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// What is there.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Replicas on a node and on those like it. The more, the sooner one leaves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Replicas of the service under the node's value of each spread label.
    pub zones: Vec<u32>,
    /// Replicas of the service on the node.
    pub here: u32,
    /// Replicas of all services on the node.
    pub total: u32,
    /// Which value that is: nodes with the same number have the same one.
    pub values: Vec<usize>,
}

/// A replica that may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movable {
    /// Which.
    pub replica: ReplicaId,
    /// Its sessions and waiting requests.
    pub sessions: u32,
}

/// A move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// It leaves once its successor serves.
    pub replica: ReplicaId,
    /// From here.
    pub from: NodeId,
    /// The one that was placed for it.
    pub successor: ReplicaId,
    /// There.
    pub to: NodeId,
}

impl Tally {
    /// What a move from here to there changes in the sums of squared counts, field by field and
    /// halved: each spread label, the service's nodes, all nodes.
    #[must_use]
    pub fn change(&self, to: &Self) -> Vec<i64> {
        let labels = self.zones.iter().zip(&to.zones);
        let values = self.values.iter().zip(&to.values);
        labels
            .zip(values)
            .map(|((a, b), (x, y))| if x == y { 0 } else { step(*a, *b) })
            .chain([step(self.here, to.here), step(self.total, to.total)])
            .collect()
    }
}

/// `(after² - before²) / 2` of both ends together.
fn step(from: u32, to: u32) -> i64 {
    i64::from(to) - i64::from(from) + 1
}

/// Does the first field that changes fall by at least `gain_min`?
#[must_use]
pub fn is_worth(change: &[i64], gain_min: u32) -> bool {
    let first = change.iter().find(|field| **field != 0);
    first.is_some_and(|field| field.saturating_mul(2) <= -i64::from(gain_min))
}

impl MoveRecord {
    /// Makes the choice again: from where, to where, which replica. It must give what
    /// [`MoveRecord::moved`] says.
    #[must_use]
    pub fn recompute(&self) -> Option<(&NodeId, &NodeId, ReplicaId)> {
        let pairs = self.from.iter();
        let pairs = pairs.flat_map(|a| self.to.iter().map(move |b| (a, b)));
        let (change, from, to) = pairs
            .filter(|(a, b)| a.node != b.node)
            .map(|(a, b)| (a.tally.change(&b.tally), &a.node, &b.node))
            .min()?;
        let movable = self.movable.iter();
        let first = movable.min_by_key(|m| (m.sessions, Reverse(m.replica)))?;
        is_worth(&change, self.gain_min).then_some((from, to, first.replica))
    }

    /// Nothing moves, for the same kind of reason as before.
    #[must_use]
    pub fn repeats(&self, before: &Self) -> bool {
        let kind = |record: &Self| record.stays.as_ref().map(std::mem::discriminant);
        kind(self).is_some() && kind(self) == kind(before)
    }
}
