//! What a file says of rollouts.

use serde::{Deserialize, Serialize};

/// How one template follows another: `deploy.update_config` and `deploy.rollback_config` of the
/// Compose Specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateSpec {
    /// Replicas replaced at the same time; 0: all at once.
    pub parallelism: u32,
    /// Pause between two batches.
    #[serde(default)]
    pub delay_ms: u64,
    /// Start the new one first, or stop the old one first.
    #[serde(default)]
    pub order: UpdateOrder,
    /// Replicas that may be missing during a change; 0 keeps the full count.
    #[serde(default)]
    pub max_unavailable: u32,
    /// How long all new replicas must have served before their batch passes.
    #[serde(default = "monitor_ms_default")]
    pub monitor_ms: u64,
    /// What a failed rollout does.
    #[serde(default)]
    pub failure_action: FailureAction,
    /// Share of the replicas that may fail, thousandths; none: one may, the second is too much
    /// (one may be bad luck with its node).
    #[serde(default)]
    pub failure_permille_max: Option<u32>,
}

/// Default of [`UpdateSpec::monitor_ms`], as Swarm's.
const MONITOR_MS: u64 = 5_000;

fn monitor_ms_default() -> u64 {
    MONITOR_MS
}

impl Default for UpdateSpec {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay_ms: 0,
            order: UpdateOrder::Auto,
            max_unavailable: 0,
            monitor_ms: MONITOR_MS,
            failure_action: FailureAction::Pause,
            failure_permille_max: None,
        }
    }
}

impl UpdateSpec {
    /// Replicas of one batch of a service of `target`.
    #[must_use]
    pub fn batch(&self, target: u32) -> u32 {
        match self.parallelism {
            0 => target.max(1),
            some => some,
        }
    }

    /// Failed replicas that a rollout of `target` bears.
    #[must_use]
    pub fn tolerated(&self, target: u32) -> u32 {
        match self.failure_permille_max {
            None => 1,
            Some(permille) => {
                let share = u64::from(target) * u64::from(permille) / 1000;
                u32::try_from(share).unwrap_or(u32::MAX)
            }
        }
    }
}

/// Order of a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateOrder {
    /// Start-first, but stop-first and one at a time where `max_replicas_per_node` leaves no node
    /// room for one more.
    #[default]
    Auto,
    /// New healthy and routed before the old one drains.
    StartFirst,
    /// Old one gone before the new one starts.
    StopFirst,
}

/// What a failed rollout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// Stops; what serves goes on serving.
    #[default]
    Pause,
    /// Goes on trying, with growing pauses.
    Continue,
    /// Goes back to the last good revision.
    Rollback,
}

/// `x-haproxy.gate`: HAProxy's own numbers of the new replicas against the old ones', both over
/// the time since all new ones of the batch serve. Until the batch has passed, the old ones that
/// it replaces stay, so that there is something to compare with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSpec {
    /// Requests that the new ones and the old ones must each have answered before their numbers
    /// count; with fewer the gate has no opinion, and the batch passes after `monitor_ms`.
    pub requests_min: u64,
    /// Most that the share of answers of 500 and above may rise, thousandths; none: not looked at.
    #[serde(default)]
    pub error_increase_permille_max: Option<u32>,
    /// Most that the mean response time may be of the old one, thousandths (2000: twice); none:
    /// not looked at.
    #[serde(default)]
    pub latency_permille_max: Option<u32>,
    /// Response times up to this are fine whatever the old ones' were.
    #[serde(default)]
    pub latency_ms_min: u32,
}
