//! Replicas of services that have one on each node: where they go is given, room or not is left.

use longshore_model::reason::{Refusal, RefusalCount};
use longshore_model::{NodeId, Reason};

use super::filter::refusal;
use super::{Order, add, board, free_slots, take_away};
use crate::draft::Draft;

/// Places one replica on each of the nodes, in that order; returns the rows of those that were
/// placed, and the other nodes with what is in the way there.
pub(crate) fn place_each(
    draft: &mut Draft<'_>,
    order: &Order<'_>,
    nodes: &[usize],
) -> (Vec<usize>, Vec<(usize, Refusal)>) {
    let (mut placed, mut refused) = (Vec::new(), Vec::new());
    let Some(board) = board(draft, order).filter(|_| !nodes.is_empty()) else {
        return (placed, refused);
    };
    let wanted = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let mut slots = free_slots(draft, order.service, wanted);
    for &number in nodes {
        if let Some(why) = refusal(&draft.cluster.nodes[number], &board, number, draft) {
            refused.push((number, why));
            continue;
        }
        let Some(slot) = slots.pop() else { break };
        match add(draft, order, &board, number, slot, false) {
            Some(row) => placed.push(row),
            None => {
                slots.push(slot);
                refused.push((number, Refusal::Ports));
            }
        }
    }
    (placed, refused)
}

/// Would the node of the row's replica take one of the order if that one were gone? Says what
/// else is in the way.
pub(crate) fn takes_after(
    draft: &mut Draft<'_>,
    order: &Order<'_>,
    row: usize,
) -> Result<(), Refusal> {
    let (Some(mut board), Some(number)) = (board(draft, order), draft.rows[row].node) else {
        return Err(Refusal::Away);
    };
    let as_it_is = draft.cluster.held[number].clone();
    take_away(draft, &mut board, order, number, row);
    let refused = refusal(&draft.cluster.nodes[number], &board, number, draft);
    draft.cluster.held[number] = as_it_is;
    refused.map_or(Ok(()), Err)
}

/// The service waits for room on these nodes; nowhere else would do.
pub(crate) fn say_no_room(draft: &mut Draft<'_>, service: usize, refused: &[(usize, Refusal)]) {
    if refused.is_empty() {
        return;
    }
    let most = draft.input.config.refusals_max;
    let named = |(number, why): &(usize, Refusal)| -> (NodeId, Refusal) {
        (draft.cluster.nodes[*number].id.clone(), why.clone())
    };
    let reason = Reason::Unplaceable {
        home: None,
        refusals: refused.iter().take(most).map(named).collect(),
        counts: RefusalCount::of(refused.iter().map(|(_, why)| why), most),
        nodes: u32::try_from(refused.len()).unwrap_or(u32::MAX),
    };
    draft.wait(service, reason);
}
