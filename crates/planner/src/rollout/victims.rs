//! Which replica goes first when there are too many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use longshore_model::Decision;
use longshore_model::node::Availability;
use longshore_model::record::{
    CHOSEN_MAX, Candidate, NEXT_MAX, VictimNode, VictimRank, VictimRecord, VictimState,
};

use super::is_outdated;
use crate::draft::{Condition, Draft};
use crate::record::note;

/// Order in which surplus replicas are given up, the smallest first; with the row.
pub(super) type Victim = (VictimRank, usize);

/// The first of each line, smallest on top, with the number of its line.
pub(super) type Heads = BinaryHeap<Reverse<(Victim, usize)>>;

/// Those on the same node and of the same rank stand in one line, the first one last: only the
/// first of each line compete, so that one that leaves touches no more than its node's lines.
pub(super) fn victims(
    draft: &Draft<'_>,
    keep: &[usize],
    on_node: &[u32],
    stopped: bool,
) -> (Vec<Vec<Victim>>, Heads) {
    let mut lines: BTreeMap<_, Vec<Victim>> = BTreeMap::new();
    for &row in keep {
        let entry = victim(draft, row, on_node, stopped);
        let rank = &entry.0;
        let node = draft.rows[row].node;
        let line = (rank.proven, rank.state, rank.node_state, node);
        lines.entry(line).or_default().push(entry);
    }
    let mut lines: Vec<Vec<Victim>> = lines.into_values().collect();
    let mut heads = Heads::new();
    for (number, line) in lines.iter_mut().enumerate() {
        line.sort_unstable_by_key(|entry| Reverse(*entry));
        heads.extend(line.pop().map(|first| Reverse((first, number))));
    }
    (lines, heads)
}

/// Where a replica stands among those that may go.
pub(super) fn victim(draft: &Draft<'_>, row: usize, on_node: &[u32], stopped: bool) -> Victim {
    // Of a rollout that failed, what is new goes first.
    let proven = !stopped || is_outdated(draft, draft.rows[row].service, row);
    let seen = &draft.rows[row];
    let state = match seen.condition {
        Condition::Failed(_) | Condition::Completed | Condition::Lost | Condition::Unhealthy => {
            VictimState::Broken
        }
        Condition::Starting => VictimState::Starting,
        Condition::Unknown => VictimState::Unknown,
        Condition::Healthy if !draft.serves(row) => VictimState::Idle,
        Condition::Healthy => VictimState::Serving,
    };
    let (node_state, here) = seen.node.map_or((VictimNode::Draining, 0), |number| {
        let (slot, held) = (&draft.cluster.nodes[number], &draft.cluster.held[number]);
        let node_state = match slot.node.availability {
            Availability::Draining => VictimNode::Draining,
            Availability::Cordoned => VictimNode::Cordoned,
            Availability::Active if held.fill_permille > 1_000 => VictimNode::Overfull,
            Availability::Active => VictimNode::Active,
        };
        (node_state, on_node[number])
    });
    let rank = VictimRank {
        proven,
        state,
        node_state,
        on_node: Reverse(here),
        sessions: seen.sight.sessions,
        replica: Reverse(seen.id),
    };
    (rank, row)
}

/// The choice while it is made, for the history.
pub(super) struct Choice {
    record: VictimRecord,
    /// Replicas of the service on each node before the choice.
    on_node: Vec<u32>,
    stopped: bool,
}

impl Choice {
    pub(super) fn new(record: VictimRecord, on_node: &[u32], stopped: bool) -> Self {
        Self {
            record,
            on_node: on_node.to_vec(),
            stopped,
        }
    }

    /// It is looked at: it leaves, or the floor keeps it.
    pub(super) fn consider(&mut self, draft: &Draft<'_>, row: usize) {
        if self.record.chosen.len() >= CHOSEN_MAX {
            return;
        }
        let candidate = self.candidate(draft, row);
        self.record.candidates.extend(candidate);
    }

    /// It leaves.
    pub(super) fn leaves(&mut self, draft: &Draft<'_>, row: usize) {
        self.record.leaves += 1;
        if self.record.chosen.len() < CHOSEN_MAX {
            self.record.chosen.push(draft.rows[row].id);
        }
    }

    /// Notes it with those that would have been next.
    pub(super) fn end(mut self, draft: &mut Draft<'_>, service: usize, mut next: Heads) {
        for _ in 0..NEXT_MAX {
            let Some(Reverse(((_, row), _))) = next.pop() else {
                break;
            };
            let candidate = self.candidate(draft, row);
            self.record.candidates.extend(candidate);
        }
        note(draft, service, Decision::Victims(Arc::new(self.record)));
    }

    fn candidate(&self, draft: &Draft<'_>, row: usize) -> Option<Candidate> {
        let replica = draft.replica(row)?;
        Some(Candidate {
            slot: replica.slot,
            node: replica.node.clone(),
            rank: victim(draft, row, &self.on_node, self.stopped).0,
            serves: draft.serves(row),
            may_serve: super::in_doubt(draft, row),
        })
    }
}
