//! What each replica is like, and from that its part in the routes.

use longshore_model::plan::Traffic;
use longshore_model::reason::FailReason;
use longshore_model::replica::{ReplicaState, ReplicaStatus};
use longshore_model::report::NodeState;
use longshore_model::{EventKind, ReplicaId, TimeMs};
use std::collections::BTreeMap;

use crate::draft::{Condition, Draft};

/// Judges every replica that does not leave, and puts it into the routes or takes it out.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for row in 0..draft.rows.len() {
        draft.rows[row].condition = condition(draft, row);
        let active = draft.replica(row).is_some_and(|r| r.leaving.is_none());
        if active {
            route(draft, row);
        }
        remember(draft, row, active);
    }
    let replicas = &draft.input.current.replicas;
    let known = |map: &mut BTreeMap<ReplicaId, TimeMs>| {
        map.retain(|id, _| replicas.contains_key(id));
    };
    known(&mut draft.memory.missing_since_ms);
    known(&mut draft.memory.unhealthy_since_ms);
    known(&mut draft.memory.unreachable_since_ms);
}

fn condition(draft: &mut Draft<'_>, row: usize) -> Condition {
    if draft.on_lost_node(row) {
        return Condition::Lost;
    }
    let Some(number) = draft.rows[row].node else {
        return Condition::Lost;
    };
    let node = &draft.cluster.nodes[number];
    if node.state != NodeState::Ready {
        return Condition::Unknown;
    }
    let (id, status) = (draft.rows[row].id, draft.rows[row].status);
    let acked = node.acked;
    if status.is_some() || !acked {
        draft.memory.missing_since_ms.remove(&id);
    }
    match status {
        Some(status) => reported(status),
        None if acked => missing(draft, row),
        None => not_known(draft, row),
    }
}

/// As the node says it.
fn reported(status: &ReplicaStatus) -> Condition {
    match status.state {
        // A paused one serves nobody until its health was proven anew.
        ReplicaState::Assigned
        | ReplicaState::Pulling
        | ReplicaState::Starting
        | ReplicaState::Paused => Condition::Starting,
        ReplicaState::Healthy => Condition::Healthy,
        ReplicaState::Unhealthy => Condition::Unhealthy,
        ReplicaState::Stopping | ReplicaState::Gone => {
            Condition::Failed(status.reason.clone().unwrap_or(FailReason::Removed))
        }
        ReplicaState::Failed => {
            Condition::Failed(status.reason.clone().unwrap_or(FailReason::Removed))
        }
    }
}

/// The node knows the assignment and does not list the replica. An agent that just started may
/// still be adopting what runs, so this is believed only after a hold.
fn missing(draft: &mut Draft<'_>, row: usize) -> Condition {
    let (now_ms, hold_ms) = (draft.input.now_ms, draft.input.config.missing_hold_ms);
    let id = draft.rows[row].id;
    let leaves = draft.replica(row).is_none_or(|r| r.leaving.is_some());
    if leaves {
        return not_known(draft, row);
    }
    let since_ms = *draft.memory.missing_since_ms.entry(id).or_insert(now_ms);
    draft.look_again(since_ms.saturating_add(hold_ms));
    if now_ms.saturating_sub(since_ms) >= hold_ms {
        Condition::Failed(FailReason::Removed)
    } else {
        not_known(draft, row)
    }
}

fn not_known(draft: &Draft<'_>, row: usize) -> Condition {
    if draft.rows[row].was_in {
        Condition::Unknown
    } else {
        Condition::Starting
    }
}

/// Healthy: in. Known not to be: out. Unknown: as it was, HAProxy's own checks decide.
fn route(draft: &mut Draft<'_>, row: usize) {
    let Some(replica) = draft.replica(row) else {
        return;
    };
    let now_in = replica.traffic;
    match &draft.rows[row].condition {
        Condition::Healthy if now_in == Traffic::Serve => {}
        Condition::Healthy => draft.set_traffic(row, Traffic::Serve),
        Condition::Starting | Condition::Unhealthy if now_in != Traffic::Out => {
            let why = draft.rows[row]
                .status
                .and_then(|status| status.reason.clone());
            draft.report.events.push(EventKind::Unhealthy {
                service: replica.service.clone(),
                replica: replica.id,
                node: replica.node.clone(),
                why,
            });
            draft.set_traffic(row, Traffic::Out);
        }
        // Failed and lost ones leave; that takes them out.
        _ => {}
    }
}

/// Keeps the clocks of the holds.
fn remember(draft: &mut Draft<'_>, row: usize, active: bool) {
    let (id, now_ms) = (draft.rows[row].id, draft.input.now_ms);
    let seen = &draft.rows[row];
    let sick = active && seen.condition == Condition::Unhealthy;
    let node_up = seen.node.is_some_and(|number| {
        let state = draft.cluster.nodes[number].state;
        matches!(state, NodeState::Ready | NodeState::EngineDown)
    });
    let alive = matches!(seen.condition, Condition::Healthy | Condition::Unknown);
    let cut_off =
        active && node_up && alive && seen.was_in && seen.sight.up == 0 && seen.sight.down > 0;
    let holds = [
        (sick, draft.input.config.unhealthy_hold_ms),
        (cut_off, draft.input.config.unreachable_hold_ms),
    ];
    for (kind, (holds, hold_ms)) in holds.into_iter().enumerate() {
        let map = match kind {
            0 => &mut draft.memory.unhealthy_since_ms,
            _ => &mut draft.memory.unreachable_since_ms,
        };
        if holds {
            let since_ms = *map.entry(id).or_insert(now_ms);
            draft.look_again(since_ms.saturating_add(hold_ms));
        } else {
            map.remove(&id);
        }
    }
    if cut_off && let Some(number) = draft.rows[row].node {
        draft.cluster.nodes[number].unreachable = true;
    }
}
