//! Where replicas went, and why not elsewhere.

use longshore_model::ServiceKey;
use longshore_model::record::{Choice, PlacementRecord};

/// Choices and refusals shown.
const CHOICES_SHOWN: usize = 3;
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
    let counts: Vec<String> = record
        .refused
        .iter()
        .map(|count| count.kind.of_nodes(count.nodes))
        .collect();
    format!("0 of {all} nodes fit: {}", counts.join(", "))
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
    if record.refused_total() > 0 {
        let all = record.refused_total();
        let counts: Vec<String> = record
            .refused
            .iter()
            .map(|count| count.kind.of_nodes(count.nodes))
            .collect();
        lines.push(format!(
            "  then 0 of {all} nodes fit: {}",
            counts.join(", ")
        ));
    }
    for (node, refusal) in record.refusals.iter().take(REFUSALS_SHOWN) {
        lines.push(format!("    {node}  {refusal}"));
    }
    lines
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
