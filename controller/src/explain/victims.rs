//! Which of too many replicas leave, in words.

use std::fmt::Write as _;

use longshore_model::ServiceKey;
use longshore_model::record::{Candidate, VictimNode, VictimRecord, VictimState};

use super::words::counted;

/// Names in one line.
const NAMED_MAX: usize = 5;

/// The choice in one line.
#[must_use]
pub(super) fn summary(service: &ServiceKey, record: &VictimRecord) -> String {
    let name = &service.service;
    let all = record.considered;
    if record.chosen.is_empty() {
        return format!(
            "{name}: {} of {all} too many, but {} serve and at least {} must",
            record.surplus, record.serving, record.floor
        );
    }
    let chosen = record.chosen.iter().take(NAMED_MAX);
    let named = chosen.map(|id| match record.candidate(*id) {
        Some(candidate) => format!("{name}.{} ({id})", candidate.slot),
        None => id.to_string(),
    });
    let mut line = format!(
        "{name}: {} of {all} leave: {}",
        record.leaves,
        named.collect::<Vec<_>>().join(", ")
    );
    if record.chosen.len() > NAMED_MAX {
        line.push_str(", …");
    }
    line
}

/// Why one of them was chosen before others.
#[must_use]
pub(super) fn chosen(record: &VictimRecord, candidate: &Candidate) -> String {
    let rank = &candidate.rank;
    let mut words = Vec::new();
    if !rank.proven {
        words.push("of a rollout that failed".to_owned());
    }
    words.push(match rank.state {
        VictimState::Broken => "not healthy".to_owned(),
        VictimState::Starting => "not up yet".to_owned(),
        VictimState::Unknown => "its node cannot tell".to_owned(),
        VictimState::Idle => "in no edge's list".to_owned(),
        VictimState::Serving => counted(rank.sessions, "session"),
    });
    words.push(match rank.node_state {
        VictimNode::Draining => "a node that is emptied".to_owned(),
        VictimNode::Cordoned => "a cordoned node".to_owned(),
        VictimNode::Overfull => "an overfull node".to_owned(),
        VictimNode::Active => format!("{} of the service there", rank.on_node.0),
    });
    let mut line = format!("chosen of {}: {}", record.considered, words.join(", "));
    let mut next = record.candidates.iter();
    let next = next.find(|other| !record.chosen.contains(&other.rank.replica.0));
    if let Some(next) = next {
        let _infallible = write!(line, "; next would be {}", next.rank.replica.0);
    }
    line
}
