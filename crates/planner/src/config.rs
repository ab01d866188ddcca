//! What an operator may tune in the planner. Every default is the figure of the design.

use serde::{Deserialize, Serialize};

use longshore_model::TimeMs;

/// When replicas move to even out the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebalanceMode {
    /// Never.
    Off,
    /// For a while after a node joined, came back, or was uncordoned.
    #[default]
    OnJoin,
    /// Always.
    Continuous,
}

/// Settings of the planner; all times in milliseconds. Missing fields take their default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlannerConfig {
    /// First host port that replicas may get (20000).
    pub port_min: u16,
    /// Last host port that replicas may get (29999).
    pub port_max: u16,
    /// A session without an echo for this long is gone (2,000).
    pub session_timeout_ms: u64,
    /// A node whose session is gone and of which no edge can tell is lost after this (10,000).
    pub single_witness_timeout_ms: u64,
    /// A node that edges still reach without its session is replaced, additively, after this
    /// (60,000).
    pub hold_while_serving_ms: u64,
    /// After a start nothing is scaled in by metrics, moved or declared lost for this long
    /// (60,000); a service's own metrics window prolongs it for that service.
    pub observe_ms: u64,
    /// Lost nodes above `outage_numerator / outage_denominator` of all workers are a partial
    /// outage (1).
    pub outage_numerator: u32,
    /// See [`Self::outage_numerator`] (3).
    pub outage_denominator: u32,
    /// Fewer nodes than this are never a partial outage (2).
    pub outage_nodes_min: u32,
    /// A node that fell silent so lately may still turn out to be part of an outage: until then
    /// no other node is declared lost if together they would be one (3,000: longer than HAProxy's
    /// checks need).
    pub outage_settle_ms: u64,
    /// The brake lets go once fewer than this share of the workers in per cent, or fewer than
    /// [`Self::outage_nodes_min`], were away for [`Self::outage_calm_ms`] (20).
    pub outage_calm_percent: u32,
    /// See [`Self::outage_calm_percent`] (60,000).
    pub outage_calm_ms: u64,
    /// A node that was lost a second time takes no new replicas until it has been back for this
    /// long (60,000); doubles with each further loss.
    pub flap_penalty_base_ms: u64,
    /// Longest such penalty (1,800,000).
    pub flap_penalty_cap_ms: u64,
    /// Back for this long, a node's losses are forgotten (3,600,000).
    pub flap_forget_ms: u64,
    /// So many times within [`Self::flap_forget_ms`] a node's replicas are replaced since it is
    /// lost; then it takes no new ones until the first of these is so long ago (3).
    pub flap_replacements_max: usize,
    /// An edge whose session is gone for longer counts as gone: it no longer holds up a drain
    /// (10,000).
    pub edge_lease_ms: u64,
    /// A node's or replica's last sample older than this counts as missing (5,000).
    pub sample_stale_ms: u64,
    /// An outside query's last answer older than this counts as missing (30,000).
    pub external_stale_ms: u64,
    /// Check results of an edge whose last report is older than this count as unknown (3,000).
    pub edge_report_stale_ms: u64,
    /// A replica that its node calls healthy but no edge reaches is replaced after this (5,000).
    pub unreachable_hold_ms: u64,
    /// A new replica that its node calls healthy but no edge reaches counts as failed in its
    /// rollout after this, on top of what its checks take (10,000).
    pub unreached_fail_ms: u64,
    /// A replica whose own check fails is replaced, additively, after this (30,000).
    pub unhealthy_hold_ms: u64,
    /// A replica that its connected node should know but does not list failed after this (10,000).
    pub missing_hold_ms: u64,
    /// Nodes lost longer ago than this no longer count as lost at once (60,000).
    pub outage_window_ms: u64,
    /// Past a drain's deadline, edges get this long to take the replica out (5,000).
    pub park_grace_ms: u64,
    /// Deadline of a node's drain where none is said (600,000).
    pub node_drain_ms: u64,
    /// When replicas move to even out the cluster (`on-join`; or `off`, `continuous`).
    pub rebalance: RebalanceMode,
    /// Most replicas on the move at once, in the whole cluster (2).
    pub rebalance_moves_max: u32,
    /// Least fall of the sum of squared counts of replicas that is worth a move (2: from a node
    /// that has two replicas more than another one).
    pub rebalance_gain_min: u32,
    /// How long replicas may move after a node began to take replicas, and after each move that
    /// this led to (300,000).
    pub rebalance_window_ms: u64,
    /// Time between two looks at the whole cluster (5,000).
    pub rebalance_period_ms: u64,
    /// Replicas of a service stay for so long after its count changed (60,000).
    pub rebalance_cooldown_ms: u64,
    /// Pause after the first failure of a service's new replicas; doubles with each (1,000).
    pub backoff_base_ms: u64,
    /// Longest pause between two tries (300,000).
    pub backoff_cap_ms: u64,
    /// Healthy for this long, a service's failures are forgotten (60,000).
    pub backoff_reset_ms: u64,
    /// Most recommendations remembered per service (1,024). Those that later ones outbid in both
    /// directions are dropped first.
    pub recommendations_max: usize,
    /// Most changes of a count remembered per service (64).
    pub changes_max: usize,
    /// Most nodes named in the refusals of an unplaceable replica (32).
    pub refusals_max: usize,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self {
            port_min: 20_000,
            port_max: 29_999,
            session_timeout_ms: 2_000,
            single_witness_timeout_ms: 10_000,
            hold_while_serving_ms: 60_000,
            observe_ms: 60_000,
            outage_numerator: 1,
            outage_denominator: 3,
            outage_nodes_min: 2,
            outage_settle_ms: 3_000,
            outage_calm_percent: 20,
            outage_calm_ms: 60_000,
            flap_penalty_base_ms: 60_000,
            flap_penalty_cap_ms: 1_800_000,
            flap_forget_ms: 3_600_000,
            flap_replacements_max: 3,
            edge_lease_ms: 10_000,
            sample_stale_ms: 5_000,
            external_stale_ms: 30_000,
            edge_report_stale_ms: 3_000,
            unreachable_hold_ms: 5_000,
            unreached_fail_ms: 10_000,
            unhealthy_hold_ms: 30_000,
            missing_hold_ms: 10_000,
            outage_window_ms: 60_000,
            park_grace_ms: 5_000,
            node_drain_ms: 600_000,
            rebalance: RebalanceMode::OnJoin,
            rebalance_moves_max: 2,
            rebalance_gain_min: 2,
            rebalance_window_ms: 300_000,
            rebalance_period_ms: 5_000,
            rebalance_cooldown_ms: 60_000,
            backoff_base_ms: 1_000,
            backoff_cap_ms: 300_000,
            backoff_reset_ms: 60_000,
            recommendations_max: 1_024,
            changes_max: 64,
            refusals_max: 32,
        }
    }
}

impl PlannerConfig {
    /// How long after `started_ms` destructive decisions wait.
    #[must_use]
    pub fn observe_until(&self, started_ms: TimeMs) -> TimeMs {
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::NoObserveWindow) {
            return started_ms;
        }
        started_ms.saturating_add(self.observe_ms)
    }

    /// How long a node must have been back after `losses` losses before it takes replicas: doubling,
    /// capped; nothing after the first one.
    #[must_use]
    pub fn flap_penalty_ms(&self, losses: u32) -> u64 {
        let Some(doublings) = losses.checked_sub(2) else {
            return 0;
        };
        self.flap_penalty_base_ms
            .saturating_mul(1_u64 << doublings.min(32))
            .min(self.flap_penalty_cap_ms)
    }

    /// Pause after `failures` failures in a row: doubling, capped.
    #[must_use]
    pub fn backoff_ms(&self, failures: u32) -> u64 {
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::NoBackoff) {
            return 0;
        }
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::FlatBackoff) {
            return self.backoff_base_ms;
        }
        let doublings = failures.saturating_sub(1).min(32);
        self.backoff_base_ms
            .saturating_mul(1_u64 << doublings)
            .min(self.backoff_cap_ms)
    }
}
