//! Where replicas went, and why not elsewhere.

use longshore_model::reason::{Refusal, RefusalCount};
use longshore_model::record::{AllNodes, Choice, PlacementRecord};
use longshore_model::{NodeId, ServiceKey};

/// Choices, nodes that fitted and refusals shown.
const CHOICES_SHOWN: usize = 3;
const FITTED_SHOWN: usize = 4;
const REFUSALS_SHOWN: usize = 4;

/// The look for places in one line.
#[must_use]
pub(super) fn summary(service: &ServiceKey, record: &PlacementRecord) -> String {
    let asked = record.asked.count;
    if record.placed == 0 {
        return format!("no place: {}", why(record));
    }
    let mut went: Vec<String> = record
        .choices
        .iter()
        .take(CHOICES_SHOWN)
        .map(|c| format!("{}.{} on {}", service.service, c.slot, c.chosen.node))
        .collect();
    let more = (record.placed as usize).saturating_sub(went.len());
    if more > 0 {
        went.push(format!("{more} more"));
    }
    let went = went.join(", ");
    match asked > record.placed {
        true => format!(
            "{} of {asked} placed: {went}; {}",
            record.placed,
            why(record)
        ),
        false => went,
    }
}

fn why(record: &PlacementRecord) -> String {
    let all = record.refused_total();
    format!("0 of {all} nodes fit: {}", by_kind(&record.refused))
}

fn by_kind(counts: &[RefusalCount]) -> String {
    let counts = counts.iter().map(|count| count.kind.of_nodes(count.nodes));
    counts.collect::<Vec<_>>().join(", ")
}

/// Who went where and why there, who was refused.
#[must_use]
pub(super) fn lines(service: &ServiceKey, record: &PlacementRecord) -> Vec<String> {
    let mut lines = Vec::new();
    for choice in record.choices.iter().take(CHOICES_SHOWN) {
        let name = format!("{}.{} ({})", service.service, choice.slot, choice.replica);
        lines.push(format!("  {name} -> {}", chosen(record, choice)));
    }
    let more = (record.placed as usize).saturating_sub(CHOICES_SHOWN);
    if more > 0 {
        lines.push(format!("  … {more} more"));
    }
    if let Some(all) = &record.all {
        lines.push(format!("  {}", fitted(record, all)));
    }
    // Whoever refused before refuses after as well.
    let before = record.all.iter().flat_map(|all| &all.refusals);
    if record.refused_total() == 0 {
        lines.extend(refusals(before));
        return lines;
    }
    lines.push(format!("  then {}", why(record)));
    lines.extend(refusals(record.refusals.iter()));
    lines
}

/// `first 2 of 4 nodes fitted: node3, node1; not: 1 is cordoned, 1 is down`
fn fitted(record: &PlacementRecord, all: &AllNodes) -> String {
    let best = record.best.iter().take(FITTED_SHOWN);
    let mut names: Vec<String> = best.map(|best| best.node.to_string()).collect();
    let more = (all.fit as usize).saturating_sub(names.len());
    if more > 0 {
        names.push(format!("{more} more"));
    }
    let (nodes, names) = (all.nodes(), names.join(", "));
    let fitted = format!("first {} of {nodes} nodes fitted: {names}", all.fit);
    match all.refused.is_empty() {
        true => fitted,
        false => format!("{fitted}; not: {}", by_kind(&all.refused)),
    }
}

fn refusals<'r>(
    refusals: impl Iterator<Item = &'r (NodeId, Refusal)>,
) -> impl Iterator<Item = String> {
    let shown = refusals.take(REFUSALS_SHOWN);
    shown.map(|(node, refusal)| format!("    {node}  {refusal}"))
}

/// `node3, before node1: replicas of the service there 0, not 1`
#[must_use]
pub(super) fn chosen(record: &PlacementRecord, choice: &Choice) -> String {
    let node = &choice.chosen.node;
    let Some(other) = &choice.runner_up else {
        return format!("{node}, the only one that fits");
    };
    let at = choice
        .chosen
        .score
        .iter()
        .zip(&other.score)
        .position(|(chosen, other)| chosen != other);
    let field = at.and_then(|at| {
        let name = record.fields.get(at)?;
        let (mine, theirs) = (choice.chosen.score[at], other.score[at]);
        Some(format!("{name} {mine}, not {theirs}"))
    });
    match field {
        Some(field) => format!("{node}, before {}: {field}", other.node),
        None => format!("{node}, before {}: all else equal, by name", other.node),
    }
}
