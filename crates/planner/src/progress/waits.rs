//! What a service waits for because of its rollout.

use longshore_model::Reason;
use longshore_model::rollout::{Direction, Phase};
use longshore_model::spec::UpdateOrder;

use super::{is_unproved, update};
use crate::draft::Draft;

/// Reasons that hold for as long as the rollout is where it is.
pub(crate) fn say_waits(draft: &mut Draft<'_>, service: usize) {
    let Some(entry) = draft.planned(service) else {
        return;
    };
    let Some(rollout) = &entry.rollout else {
        return;
    };
    let revision = rollout.revision;
    let mut reasons = Vec::new();
    match (&rollout.phase, &rollout.trouble, &entry.good) {
        (Phase::Failed, Some(why), _) => reasons.push(Reason::RolloutPaused {
            revision,
            why: why.clone(),
            cause: rollout.pause,
        }),
        (Phase::Held { by }, ..) => reasons.push(Reason::RolloutHeld {
            revision,
            by: by.clone(),
        }),
        (Phase::Done, _, Some(good)) if is_unproved(draft, service) => {
            reasons.push(Reason::Unproved {
                revision,
                good_revision: good.revision,
            });
        }
        _ => {}
    }
    if let (Some(refused), Some(good)) = (&entry.refused, &entry.good) {
        let back = rollout.direction == Direction::Back;
        reasons.push(Reason::RolledBack {
            revision: refused.revision,
            to_revision: good.revision,
            why: refused.why.clone(),
            going: back && rollout.phase != Phase::Done,
            stuck: back && rollout.phase == Phase::Failed,
        });
    }
    let silent = match rollout.runs() && rollout.from.is_some() {
        true => silent_edges(draft),
        false => Vec::new(),
    };
    let spec = draft.services[service].spec;
    if let Some(spec) = spec
        && rollout.open
        && rollout.stop_first
        && update(draft, service, spec).order == UpdateOrder::Auto
    {
        reasons.push(Reason::NoRoomToStartFirst {
            max_per_node: spec.placement.max_per_node,
        });
    }
    for reason in reasons {
        draft.wait(service, reason);
    }
    for reason in silent {
        draft.wait_first(service, reason);
    }
}

/// Edges that no batch can pass without: connected, and their HAProxy says nothing.
fn silent_edges(draft: &Draft<'_>) -> Vec<Reason> {
    let edges = draft.cluster.edges.iter().filter(|edge| edge.connected);
    let silent = edges.filter_map(|edge| {
        Some(Reason::WaitsForEdge {
            edge: edge.id.clone(),
            problem: edge.seen?.silence()?.to_owned(),
        })
    });
    silent.collect()
}
