//! Replicas as nodes see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::ReplicaId;
use crate::reason::FailReason;
use crate::receipt::Exit;

/// Observed state of a replica; only ever moves down this list, or to `failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// The node knows of it.
    Assigned,
    /// Its image is on the way.
    Pulling,
    /// Its container runs, its health is not proven yet.
    Starting,
    /// Its health check passed in this incarnation (or it has none and runs).
    Healthy,
    /// It was healthy and its check now fails; it may become healthy again.
    Unhealthy,
    /// Warm standby: its health was proven, then its container was paused. It takes memory, no
    /// CPU and no requests; it starts anew from `Starting` when it is wanted.
    Paused,
    /// It is a job's, and its container has ended with 0.
    Completed,
    /// It was told to stop and is finishing.
    Stopping,
    /// Its container is gone.
    Gone,
    /// It will not run; the reason is beside it.
    Failed,
}

impl ReplicaState {
    /// May this follow `self`? Health goes back and forth, everything else only forward.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use ReplicaState::{Completed, Failed, Gone, Healthy, Paused, Starting, Unhealthy};
        match (self, next) {
            (Gone, next) => next == Gone,
            (Completed, Failed) => false,
            (Failed, next) => matches!(next, Failed | Gone),
            (_, Failed) => true,
            // The agent restarts a crashed container in place: a new incarnation is starting.
            // So it is after a pause: health before it proves nothing about now.
            (Healthy | Unhealthy | Paused, Starting) | (Unhealthy, Healthy) => true,
            (Paused, Healthy | Unhealthy) => false,
            (now, next) => next >= now,
        }
    }
}

/// What a node reports about one replica. What it uses changes with every report and lies apart,
/// in [`crate::observe::ReplicaSamples`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Which.
    pub id: ReplicaId,
    /// Its state.
    pub state: ReplicaState,
    /// Why it failed or is unhealthy.
    #[serde(default)]
    pub reason: Option<FailReason>,
    /// The engine's id of its container.
    #[serde(default)]
    pub container_id: Option<String>,
    /// When the present incarnation started.
    #[serde(default)]
    pub started_ms: Option<TimeMs>,
    /// When the present incarnation was first healthy.
    #[serde(default)]
    pub healthy_ms: Option<TimeMs>,
    /// Times that the agent restarted it.
    #[serde(default)]
    pub restarts: u32,
    /// How it ended, once it is gone; none: that is not known.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// TCP ports that its image says it listens on; none: it says none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<Arc<BTreeSet<u16>>>,
}

#[cfg(test)]
mod tests {
    use super::ReplicaState::{Gone, Healthy, Paused, Starting, Stopping, Unhealthy};

    #[test]
    fn a_paused_one_proves_its_health_anew() {
        assert!(Starting.may_become(Paused) && Healthy.may_become(Paused));
        assert!(Paused.may_become(Starting));
        assert!(!Paused.may_become(Healthy) && !Paused.may_become(Unhealthy));
        assert!(Paused.may_become(Stopping) && !Gone.may_become(Paused));
    }
}
