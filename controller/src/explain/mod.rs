//! Recorded decisions in words: the cause first, then inputs, clamps, nodes, steps. Pure: what was
//! recorded goes in, lines for people come out.

mod moves;
mod node;
mod placement;
mod placing;
mod replica;
mod rollout;
mod scale;
mod service;
mod victims;
mod words;

#[cfg(test)]
mod tests;

pub use node::{NodeStory, NodeThen, Seen, node, node_then};
pub use replica::{LET_IN, ReplicaStory, finishes_until, replica};
pub use service::{ServiceStory, service, slot};
pub use words::Clock;

use longshore_model::report::ScaleReport;
use longshore_model::{Decision, DecisionRecord};

/// What a count is mostly due to now, in one line; none: nobody decided it.
#[must_use]
pub fn cause(report: &ScaleReport) -> Option<String> {
    scale::cause(report)
}

/// A record in one line.
#[must_use]
pub fn summary(record: &DecisionRecord) -> String {
    match &record.decision {
        Decision::Scale(report) => scale::summary(report),
        Decision::Placement(placement) => placement::summary(&record.service, placement),
        Decision::Drain(drain) => {
            let name = &record.service.service;
            let forced = if drain.forced() { ", forced" } else { "" };
            format!(
                "{name}.{} ({}) on {} may stop, {} after it began to leave{forced}: {}",
                drain.slot,
                drain.replica,
                drain.node,
                words::span(drain.at_ms.saturating_sub(drain.since_ms)),
                drain.why
            )
        }
        Decision::Victims(victims) => victims::summary(&record.service, victims),
        Decision::Rollout(look) => rollout::summary(look),
        Decision::Move(look) => moves::summary(&record.service, look),
    }
}
