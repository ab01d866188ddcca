//! Which replica goes first when there are too many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use longshore_model::node::Availability;

use super::is_outdated;
use crate::draft::{Condition, Draft};

/// Order in which surplus replicas are given up: the smallest first.
pub(super) type Victim = (bool, u8, u8, Reverse<u32>, u32, Reverse<u64>, usize);

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
        let line = (entry.0, entry.1, entry.2, draft.rows[row].node);
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
        Condition::Failed(_) | Condition::Lost | Condition::Unhealthy => 0,
        Condition::Starting => 1,
        Condition::Unknown => 2,
        Condition::Healthy if !draft.serves(row) => 3,
        Condition::Healthy => 4,
    };
    let (node, here) = seen.node.map_or((0, 0), |number| {
        let slot = &draft.cluster.nodes[number];
        let rank = match slot.node.availability {
            Availability::Draining => 0,
            Availability::Cordoned => 1,
            Availability::Active if slot.fill_permille() > 1_000 => 2,
            Availability::Active => 3,
        };
        (rank, on_node[number])
    });
    (
        proven,
        state,
        node,
        Reverse(here),
        seen.sight.sessions,
        Reverse(seen.id.0),
        row,
    )
}
