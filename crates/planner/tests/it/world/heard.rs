//! What is noted of what was heard.

use longshore_model::observe::{CpuSample, SessionObserved};
use longshore_model::receipt::Exit;
use longshore_model::{ReplicaId, ReplicaState, ReplicaStatus};

/// How containers end.
pub(super) const ENDS_WELL: Exit = Exit {
    code: 0,
    after_ms: Some(400),
    killed: None,
};

/// Does it answer a check? One that its agent only proves anew goes on doing so.
pub(super) fn answers(status: &ReplicaStatus) -> bool {
    match status.state {
        ReplicaState::Starting => status.healthy_ms.is_some(),
        state => state == ReplicaState::Healthy,
    }
}

/// One that is told to stop takes a step. False: nothing is left of it.
pub(super) fn ends(status: &mut ReplicaStatus, exit: Option<Exit>) -> bool {
    match (status.state, exit) {
        (ReplicaState::Gone, _) => {}
        (ReplicaState::Stopping, None) => return false,
        (ReplicaState::Stopping, _) => (status.state, status.exit) = (ReplicaState::Gone, exit),
        _ => status.state = ReplicaState::Stopping,
    }
    true
}

/// A session begins, lives or is gone.
pub(super) fn connect(session: &mut SessionObserved, connected: bool, now: u64) {
    if connected && !session.connected {
        session.since_ms = now;
    }
    session.connected = connected;
    if connected {
        session.last_echo_ms = now;
    }
}

/// One more sample.
pub(super) fn push(ring: &mut Vec<CpuSample>, at_ms: u64, value: f64) {
    ring.push(CpuSample { at_ms, value });
    let from = ring.len().saturating_sub(60);
    ring.drain(..from);
}

/// A container that its node has only just heard of.
pub(super) fn status(id: ReplicaId, now: u64) -> ReplicaStatus {
    ReplicaStatus {
        id,
        state: ReplicaState::Assigned,
        reason: None,
        container_id: None,
        started_ms: Some(now),
        healthy_ms: None,
        restarts: 0,
        exit: None,
        exposed: None,
    }
}
