//! Nodes that come and go: each loss after the first makes the node wait longer, once it is back,
//! before it takes new replicas. What runs there goes on serving.
//!
//! A loss counts when the node is declared lost, with both witnesses and no brake: an agent that
//! restarts or a controller that is cut off is no flap. Losses are part of the plan, so that a
//! restart of the controller forgives none (docs/decisions/0075).

use longshore_model::EventKind;
use longshore_model::plan::Flaps;

use crate::PlannerConfig;
use crate::cluster::Flapping;
use crate::draft::Draft;

/// Counts losses and returns, forgets what is long ago, and holds back nodes that flap.
pub(crate) fn run(draft: &mut Draft<'_>) {
    count(draft);
    forget(draft);
    hold_back(draft);
}

/// What changed with this run: who was lost, and who is back.
fn count(draft: &mut Draft<'_>) {
    let (now_ms, config) = (draft.input.now_ms, draft.input.config);
    let before = &draft.input.current.lost;
    for id in draft.lost.keys().filter(|id| !before.contains_key(*id)) {
        let number = draft.cluster.number(id);
        let holds = number.is_some_and(|number| draft.cluster.held[number].replicas > 0);
        let flaps = draft.flaps.entry(id.clone()).or_default();
        flaps.losses = flaps.losses.saturating_add(1);
        flaps.back_ms = None;
        if holds {
            flaps.replaced_ms.push(now_ms);
            let over = flaps.replaced_ms.len();
            let over = over.saturating_sub(config.flap_replacements_max);
            flaps.replaced_ms.drain(..over);
        }
    }
    for id in before.keys().filter(|id| !draft.lost.contains_key(*id)) {
        let Some(flaps) = draft.flaps.get_mut(id) else {
            continue;
        };
        flaps.back_ms = Some(now_ms);
        let for_ms = until_ms(flaps, config).saturating_sub(now_ms);
        if for_ms > 0 {
            draft.report.events.push(EventKind::NodeFlaps {
                node: id.clone(),
                losses: flaps.losses,
                for_ms,
            });
        }
    }
}

/// What is long ago, was forgiven by whoever took the node back since, or is of a node that is none
/// any more. Times after now are from before the clock was put back.
fn forget(draft: &mut Draft<'_>) {
    let (now_ms, forget_ms) = (draft.input.now_ms, draft.input.config.flap_forget_ms);
    let nodes = &draft.input.desired.nodes;
    draft.flaps.retain(|id, flaps| {
        let Some(node) = nodes.get(id) else {
            return false;
        };
        let is_over = |back_ms: u64| {
            node.uncordoned_ms > back_ms || now_ms.saturating_sub(back_ms) >= forget_ms
        };
        !flaps.back_ms.is_some_and(is_over)
    });
    for flaps in draft.flaps.values_mut() {
        let times = flaps.replaced_ms.iter_mut().chain(&mut flaps.back_ms);
        times.for_each(|at_ms| *at_ms = (*at_ms).min(now_ms));
    }
}

/// From then on a node that is back takes replicas; 0: at once, or it is not back.
fn until_ms(flaps: &Flaps, config: &PlannerConfig) -> u64 {
    let penalty_ms = config.flap_penalty_ms(flaps.losses);
    let Some(back_ms) = flaps.back_ms.filter(|_| penalty_ms > 0) else {
        return 0;
    };
    let stable_ms = back_ms.saturating_add(penalty_ms);
    let first = flaps.replaced_ms.first();
    let first = first.filter(|_| flaps.replaced_ms.len() >= config.flap_replacements_max);
    first.map_or(stable_ms, |at_ms| {
        stable_ms.max(at_ms.saturating_add(config.flap_forget_ms))
    })
}

/// Marks the nodes that take nothing new for now. Where no other worker takes replicas, nobody is
/// held back: a place on a node that may go again is better than none.
fn hold_back(draft: &mut Draft<'_>) {
    let (now_ms, config) = (draft.input.now_ms, draft.input.config);
    let mut held_back: Vec<(usize, Flapping)> = Vec::new();
    for (id, flaps) in &draft.flaps {
        let until_ms = until_ms(flaps, config);
        let losses = flaps.losses;
        let number = draft.cluster.number(id).filter(|_| until_ms > now_ms);
        held_back.extend(number.map(|number| (number, Flapping { losses, until_ms })));
    }
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::NoPenalty) {
        return;
    }
    if held_back.is_empty() {
        return;
    }
    // Both are in order.
    let mut flapping = held_back.iter().map(|(number, _)| *number).peekable();
    let others = draft.cluster.nodes.iter().enumerate();
    let mut others = others.filter(|(number, _)| flapping.next_if_eq(number).is_none());
    if !others.any(|(_, slot)| slot.takes()) {
        return;
    }
    for (number, penalty) in held_back {
        draft.cluster.nodes[number].flapping = Some(penalty);
        // It may have been plain until now.
        draft.cluster.touch(number);
    }
}
