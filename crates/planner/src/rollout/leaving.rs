//! The words with which a replica leaves: what it was given up for decides when it may go, what
//! the rollout does meanwhile decides what is said.

use std::collections::BTreeSet;

use longshore_model::reason::LeaveReason;
use longshore_model::rollout::Direction;

use crate::draft::{Condition, Draft};
use crate::failures::is_outdated;
use crate::progress;

/// Why one that was to be replaced leaves; `unfollowed`: there are enough without it.
pub(super) fn of(
    draft: &Draft<'_>,
    row: usize,
    reason: LeaveReason,
    unfollowed: bool,
    stopped: bool,
) -> LeaveReason {
    match reason {
        LeaveReason::Failed { .. } => reason,
        _ if unfollowed => superseded(draft, row),
        LeaveReason::Replaced => replaced(draft, row, stopped),
        other => other,
    }
}

/// Why one of more than are wanted leaves.
pub(super) fn surplus(draft: &Draft<'_>, row: usize, stopped: bool) -> LeaveReason {
    let service = draft.rows[row].service;
    if draft.rows[row].condition == Condition::Unhealthy {
        return LeaveReason::Unhealthy;
    }
    match progress::of(draft, service) {
        // It is there besides the old ones that go on.
        Some(rollout) if stopped && !is_outdated(draft, service, row) => {
            LeaveReason::RolloutFailed {
                revision: rollout.revision,
            }
        }
        _ => LeaveReason::ScaleIn,
    }
}

/// Another template takes its place, or another node.
fn replaced(draft: &Draft<'_>, row: usize, stopped: bool) -> LeaveReason {
    let service = draft.rows[row].service;
    if stopped || !is_outdated(draft, service, row) {
        return LeaveReason::Misplaced;
    }
    let entry = draft.planned(service);
    let refused = entry.and_then(|entry| entry.refused.as_ref());
    let good = entry.and_then(|entry| entry.good.as_ref());
    let runs = draft.runs(row).map(|template| &**template);
    match (refused, good) {
        (Some(refused), Some(good)) if runs == Some(&refused.spec.container) => {
            LeaveReason::RolledBack {
                revision: refused.revision,
                to_revision: good.revision,
            }
        }
        _ => LeaveReason::Replaced,
    }
}

/// All that are there shall be replaced, and they are more than are wanted: because fewer are
/// wanted, or because a rollout that had not ended left replicas of two templates.
fn superseded(draft: &Draft<'_>, row: usize) -> LeaveReason {
    let service = draft.rows[row].service;
    let rollout = progress::of(draft, service);
    let Some(rollout) = rollout.filter(|rollout| rollout.direction == Direction::Forward) else {
        return LeaveReason::ScaleIn;
    };
    let last = draft.planned(service).and_then(|e| e.last_change.as_ref());
    let fewer = last.is_some_and(|last| last.to < last.from && last.at_ms >= rollout.started_ms);
    let active = draft.active(service);
    let templates = active.iter().filter_map(|&row| draft.replica(row));
    let templates: BTreeSet<_> = templates.map(|replica| &replica.template).collect();
    match !fewer && templates.len() > 1 && is_outdated(draft, service, row) {
        true => LeaveReason::Superseded {
            by_revision: rollout.revision,
        },
        false => LeaveReason::ScaleIn,
    }
}
