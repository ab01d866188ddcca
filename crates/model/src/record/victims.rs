//! Which of too many replicas leave.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ReplicaId};

/// So many of those chosen in one run are noted: the first ones.
pub const CHOSEN_MAX: usize = 64;
/// So many of those that would have been next are noted beside them.
pub const NEXT_MAX: usize = 8;

/// The choice of which replicas leave where there are too many.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VictimRecord {
    /// Replicas too many.
    pub surplus: u32,
    /// Replicas among which was chosen.
    pub considered: u32,
    /// Replicas of the service that served before.
    pub serving: u32,
    /// Fewer may not serve.
    pub floor: u32,
    /// Those that leave, in the order of choice; the first [`CHOSEN_MAX`].
    pub chosen: Vec<ReplicaId>,
    /// All that were chosen, also those beyond the first.
    pub leaves: u32,
    /// Each of `chosen`, the one that the floor kept, and some of those that would have been next.
    pub candidates: Vec<Candidate>,
}

/// A replica that may leave, as it was before the choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its slot.
    pub slot: u32,
    /// Its node.
    pub node: NodeId,
    /// Where it stands: the lowest leaves first.
    pub rank: VictimRank,
    /// It serves.
    pub serves: bool,
    /// It may serve, although its node cannot tell.
    pub may_serve: bool,
}

/// Where a replica stands among those that may leave (design, victim choice). Lower leaves
/// earlier; each field decides where those before it are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VictimRank {
    /// Not of the template of a rollout that failed.
    pub proven: bool,
    /// How it is.
    pub state: VictimState,
    /// How its node is.
    pub node_state: VictimNode,
    /// Replicas of the service on its node: where there are more, one leaves earlier.
    pub on_node: Reverse<u32>,
    /// Sessions and waiting requests.
    pub sessions: u32,
    /// Its id: the newest leaves first.
    pub replica: Reverse<ReplicaId>,
}

/// How a replica is that may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VictimState {
    /// Failed, lost or not healthy.
    Broken,
    /// Not up yet.
    Starting,
    /// Its node cannot tell.
    Unknown,
    /// Healthy, and in no edge's list.
    Idle,
    /// It serves.
    Serving,
}

/// How the node of such a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VictimNode {
    /// It is emptied, or no longer there.
    Draining,
    /// It takes nothing new.
    Cordoned,
    /// More is reserved there than it has.
    Overfull,
    /// Nothing is wrong with it.
    Active,
}

impl VictimRecord {
    /// Makes the choice again. It must give [`VictimRecord::chosen`].
    #[must_use]
    pub fn recompute(&self) -> Vec<ReplicaId> {
        let mut left: Vec<&Candidate> = self.candidates.iter().collect();
        let of_node = left.iter().map(|c| (&c.node, c.rank.on_node.0));
        let mut on_node: BTreeMap<&NodeId, u32> = of_node.collect();
        let mut serving = self.serving;
        let mut chosen = Vec::new();
        let most = usize::try_from(self.surplus).unwrap_or(usize::MAX);
        while chosen.len() < most.min(CHOSEN_MAX) {
            let rank = |candidate: &Candidate| VictimRank {
                on_node: Reverse(on_node.get(&candidate.node).copied().unwrap_or(0)),
                ..candidate.rank
            };
            let first = left.iter().enumerate().min_by_key(|(_, c)| rank(c));
            let Some((at, candidate)) = first.map(|(at, c)| (at, *c)) else {
                break;
            };
            let after = serving.saturating_sub(candidate.serves.into());
            if (candidate.serves || candidate.may_serve) && after < self.floor {
                break;
            }
            serving = after;
            chosen.push(candidate.rank.replica.0);
            if let Some(here) = on_node.get_mut(&candidate.node) {
                *here = here.saturating_sub(1);
            }
            left.swap_remove(at);
        }
        chosen
    }

    /// Nobody leaves, as before.
    #[must_use]
    pub fn repeats(&self, before: &Self) -> bool {
        self.chosen.is_empty() && before.chosen.is_empty()
    }

    /// A replica among those that it notes.
    #[must_use]
    pub fn candidate(&self, replica: ReplicaId) -> Option<&Candidate> {
        let mut candidates = self.candidates.iter();
        candidates.find(|candidate| candidate.rank.replica.0 == replica)
    }
}
