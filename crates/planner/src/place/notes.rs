//! What a look for places leaves for the history: all nodes, filtered and scored, as they were
//! before it; in a large cluster scores of the chosen and of the next best node only, so that it
//! costs nothing beside the placing itself. Who refuses where places ran short is added at the end
//! of the run (see [`crate::record::places`]).

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use longshore_model::reason::{Refusal, RefusalCount};
use longshore_model::record::{
    AllNodes, CHOICES_MAX, Choice, NodeFacts, NodeScore, PlacementAsked, PlacementRecord,
    REFUSALS_MAX, SCORED_MAX, ShortLook,
};
use longshore_model::spec::PlacementPolicy;
use longshore_model::{Decision, DecisionRecord};

use super::{Board, Order, Score, filter, refusal, score};
use crate::draft::Draft;
use crate::record::note;

/// Most nodes of which each is noted. In a larger cluster a look at every node would cost more
/// than the placing.
const ALL_NODES_MAX: usize = 64;
/// The field of a score of which most wins where nodes are packed.
const REPLICAS: &str = "replicas there";

/// All nodes at one moment, filtered and scored.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Who fits, best first.
    fit: Vec<Score>,
    /// Who does not: its position in id order and why.
    refused: Vec<(usize, Refusal)>,
    /// What the filters looked at, in id order.
    facts: Vec<NodeFacts>,
    /// The fullest nodes come first.
    packs: bool,
}

/// Filters and scores all nodes before anything is placed; none in a large cluster.
pub(super) fn look(draft: &Draft<'_>, board: &Board<'_>) -> Option<Look> {
    let nodes = &draft.cluster.nodes;
    if nodes.len() > ALL_NODES_MAX {
        return None;
    }
    let (mut fit, mut refused) = (Vec::new(), Vec::new());
    for (number, slot) in nodes.iter().enumerate() {
        match refusal(slot, board, number, draft) {
            Some(refusal) => refused.push((number, refusal)),
            None => fit.push(score(draft, board, number)),
        }
    }
    fit.sort_unstable();
    let facts = facts(draft, board);
    Some(Look {
        fit,
        refused,
        facts,
        packs: packs(board),
    })
}

/// Do the fullest nodes come first?
fn packs(board: &Board<'_>) -> bool {
    board.placement.policy == PlacementPolicy::Binpack
}

/// What the filters look at, of all nodes; nothing in a large cluster.
fn facts(draft: &Draft<'_>, board: &Board<'_>) -> Vec<NodeFacts> {
    let nodes = &draft.cluster.nodes;
    let few = nodes.len() <= ALL_NODES_MAX;
    let each = nodes.iter().enumerate().filter(|_| few);
    each.map(|(number, slot)| filter::facts(slot, board, number, draft))
        .collect()
}

/// Places ran short: what was asked for, and what the filters looked at.
pub(super) fn short(draft: &Draft<'_>, order: &Order<'_>, board: &Board<'_>) -> ShortLook {
    ShortLook {
        asked: asked(draft, order, board),
        facts: facts(draft, board),
    }
}

impl Look {
    /// For the history. A node that came before the first one chosen had no host port left after
    /// all, which only the search for one finds out.
    fn noted(&self, draft: &Draft<'_>, chosen: &Score) -> (AllNodes, Vec<NodeScore>) {
        let full = self.fit.iter().take_while(|score| *score < chosen).count();
        let (full, fit) = self.fit.split_at(full);
        let mut facts = self.facts.clone();
        for score in full {
            if let Some(facts) = facts.get_mut(score.number) {
                facts.no_port = true;
            }
        }
        let full = full.iter().map(|score| (score.number, Refusal::Ports));
        let refused: Vec<_> = self.refused.iter().cloned().chain(full).collect();
        let name = |number: usize| draft.cluster.nodes[number].id.clone();
        let counts = RefusalCount::of(refused.iter().map(|(_, refusal)| refusal), REFUSALS_MAX);
        let all = AllNodes {
            fit: u32::try_from(fit.len()).unwrap_or(u32::MAX),
            refused: counts,
            refusals: refused
                .into_iter()
                .take(REFUSALS_MAX)
                .map(|(number, refusal)| (name(number), refusal))
                .collect(),
            facts,
        };
        let best = fit.iter().take(SCORED_MAX);
        let best = best.map(|score| named(draft, self.packs, score));
        (all, best.collect())
    }
}

/// Does the history still ask what was next best? It keeps the first choices only.
pub(super) fn wants_next(draft: &Draft<'_>, order: &Order<'_>) -> bool {
    let key = &draft.services[order.service].key;
    let last = draft.report.records.last();
    !last
        .filter(|last| last.service == *key)
        .is_some_and(|last| match &last.decision {
            Decision::Placement(record) => record.choices.len() >= CHOICES_MAX,
            _ => false,
        })
}

/// Notes one that was placed, with what was next best at that moment.
pub(super) fn chosen(
    draft: &mut Draft<'_>,
    order: &Order<'_>,
    board: &Board<'_>,
    row: usize,
    score: &Score,
    next: Option<&Reverse<Score>>,
) {
    let key = &draft.services[order.service].key;
    let last = draft.report.records.last_mut();
    if let Some(DecisionRecord {
        decision: Decision::Placement(record),
        ..
    }) = last.filter(|last| last.service == *key)
        && record.choices.len() >= CHOICES_MAX
        && let Some(record) = Arc::get_mut(record)
    {
        record.placed += 1;
        return;
    }
    let Some((id, slot)) = draft.replica(row).map(|replica| (replica.id, replica.slot)) else {
        return;
    };
    let choice = Choice {
        replica: id,
        slot,
        chosen: named(draft, packs(board), score),
        runner_up: next.map(|Reverse(next)| named(draft, packs(board), next)),
    };
    let key = &draft.services[order.service].key;
    let last = draft.report.records.last_mut();
    let last = last.filter(|last| last.service == *key);
    if let Some(DecisionRecord {
        decision: Decision::Placement(record),
        ..
    }) = last
        && let Some(record) = Arc::get_mut(record)
    {
        record.placed += 1;
        if record.choices.len() < CHOICES_MAX {
            record.choices.push(choice);
        }
        return;
    }
    let (all, best) = match board.look.as_ref().map(|look| look.noted(draft, score)) {
        Some((all, best)) => (Some(all), best),
        None => {
            let both = [Some(&choice.chosen), choice.runner_up.as_ref()];
            (None, both.into_iter().flatten().cloned().collect())
        }
    };
    let record = PlacementRecord {
        asked: asked(draft, order, board),
        fields: fields(board),
        most_wins: match packs(board) {
            true => vec![REPLICAS.into()],
            false => Vec::new(),
        },
        all,
        best,
        choices: vec![choice],
        placed: 1,
        ..PlacementRecord::default()
    };
    note(draft, order.service, Decision::Placement(Arc::new(record)));
}

fn asked(draft: &Draft<'_>, order: &Order<'_>, board: &Board<'_>) -> PlacementAsked {
    let each = &board.container;
    let config = draft.input.config;
    let range = config.port_min..=config.port_max;
    PlacementAsked {
        count: order.count,
        cpu_milli: each.resources.cpu_reserved_milli,
        memory_bytes: each.resources.memory_reserved_bytes,
        ports: u32::try_from(each.ports.len()).unwrap_or(u32::MAX),
        max_per_node: board.placement.max_per_node,
        constraints: board.placement.constraints.clone(),
        platform: each.platform.clone(),
        fixed_ports: each.fixed_ports.values().copied().collect(),
        port_range: u32::try_from(range.len()).unwrap_or(u32::MAX),
    }
}

/// Names of a score's fields, in the order of [`Score`].
fn fields(board: &Board<'_>) -> Vec<Cow<'static, str>> {
    let labels = board
        .placement
        .spread_labels
        .iter()
        .map(|label| Cow::Owned(format!("replicas of the service under its {label}")));
    let mut names: Vec<Cow<'static, str>> = vec!["failed there or unreachable lately".into()];
    names.extend(labels.take(board.labels.len()));
    // A spread that the file does not name.
    while names.len() < board.labels.len() + 1 {
        names.push("replicas of the service in its zone".into());
    }
    let others = [
        "free share, per mille",
        "replicas of the service there",
        REPLICAS,
        "reserved share, per mille",
        "cpu in use, tenths",
        "image must be pulled",
        "place by name",
    ];
    names.extend(others.map(Cow::Borrowed));
    names
}

/// As numbers for people: a score holds some upside down, so that the smallest wins.
fn named(draft: &Draft<'_>, packs: bool, score: &Score) -> NodeScore {
    let replicas = match packs {
        true => u32::MAX - score.replicas,
        false => score.replicas,
    };
    let mut numbers = vec![u64::from(score.suspect)];
    numbers.extend(score.spread.iter().map(|count| u64::from(*count)));
    numbers.extend([
        u64::from(score.free_permille),
        u64::from(score.of_service),
        u64::from(replicas),
        u64::from(score.fill_permille),
        u64::from(score.cpu_tenths),
        u64::from(score.image_absent),
        score.number as u64,
    ]);
    NodeScore {
        node: draft.cluster.nodes[score.number].id.clone(),
        score: numbers,
    }
}
