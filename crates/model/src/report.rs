//! What a planning run has to say beside its plan: states, reasons, what happened.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use scale::{
    BoundReport, BoundSource, Clamp, ClampRule, Direction, DropReason, Dropped, Proposal, RateLook,
    ScaleReport, SignalReport, SignalRule, Trust, measured,
};

use crate::TimeMs;
use crate::event::EventKind;
use crate::id::{NodeId, ServiceKey, ServiceName};
use crate::reason::{Reason, RefusalCount};
use crate::record::DecisionRecord;
use crate::shared::SharedMap;
use crate::weight::WeightLook;

mod scale;

/// Result of one planning run for people.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Services, one each.
    pub services: Arc<SharedMap<ServiceKey, Arc<ServiceReport>>>,
    /// Nodes, one each.
    pub nodes: Arc<SharedMap<NodeId, NodeReport>>,
    /// Changes that this run decided or saw, in order. They become the event log.
    pub events: Vec<EventKind>,
    /// What this run decided, and what it decided not to change, each with its inputs. They become
    /// the history that `why` reads.
    #[serde(default)]
    pub records: Vec<DecisionRecord>,
    /// Reasons that concern the whole cluster (a partial outage).
    pub problems: Vec<Reason>,
    /// When to look again at the latest, if something is timed.
    pub look_again_ms: Option<TimeMs>,
}

/// What a run says of one service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Replicas wanted.
    pub wanted: u32,
    /// Replicas planned that do not leave.
    pub planned: u32,
    /// Of these, healthy as reported.
    pub healthy: u32,
    /// Of these, in the routes (equals `healthy` for a service without routes).
    pub serving: u32,
    /// Replicas on their way out.
    pub leaving: u32,
    /// Replicas of an older template.
    pub outdated: u32,
    /// Replicas of the wanted template whose node does not fit the service any more.
    #[serde(default)]
    pub misplaced: u32,
    /// How the count was decided.
    pub scale: ScaleReport,
    /// Why it is not as wanted.
    pub waits: Vec<Reason>,
    /// Replicas on the move to even out the cluster, and why there are no more.
    #[serde(default)]
    pub rebalance: RebalanceReport,
    /// Its warm standbys.
    #[serde(default)]
    pub warm: WarmReport,
    /// Its replicas' weights, if they go by load.
    #[serde(default)]
    pub weights: Vec<WeightLook>,
}

/// What a run says of evening out one service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RebalanceReport {
    /// Replicas on the move.
    pub moving: u32,
    /// Why no (further) one moves; none: nothing to say, it was not looked at.
    #[serde(default)]
    pub stays: Option<Stay>,
}

/// Why no replica of a service is moved to even out the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stay", rename_all = "snake_case")]
pub enum Stay {
    /// No move would gain enough: it is as even as it can be.
    Even,
    /// Rebalancing is off.
    Off,
    /// The file keeps its replicas where they are.
    OptedOut,
    /// It has one replica on each node: there is nothing to even out.
    EachNode,
    /// It is packed, not spread.
    Binpack,
    /// It stops old replicas before it starts new ones: a move would interrupt it.
    StopFirst,
    /// No node became ready lately.
    NoNodeJoined,
    /// The controller has not yet watched for a full window.
    Observing {
        /// When it will have.
        until_ms: TimeMs,
    },
    /// Nodes are away, or may be.
    Doubt,
    /// A rollout runs.
    RolloutRuns,
    /// Not all its replicas serve.
    NotSettled,
    /// Its count changed, or its replicas came, lately.
    Cooldown {
        /// Until then.
        until_ms: TimeMs,
    },
    /// As many replicas as allowed are on the move in the cluster.
    MovesAtOnce {
        /// The bound.
        max: u32,
    },
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Even => f.write_str("no move would gain enough"),
            Self::Off => f.write_str("rebalancing is off"),
            Self::OptedOut => f.write_str("its file says x-rebalance: false"),
            Self::EachNode => f.write_str("it has one on each node"),
            Self::Binpack => f.write_str("it is packed, not spread"),
            Self::StopFirst => f.write_str("it stops first: a move would interrupt it"),
            Self::NoNodeJoined => f.write_str("no node became ready lately"),
            Self::Observing { .. } => {
                f.write_str("the controller has not yet watched for a full window")
            }
            Self::Doubt => f.write_str("nodes are away or in doubt"),
            Self::RolloutRuns => f.write_str("a rollout runs"),
            Self::NotSettled => f.write_str("not all its replicas serve"),
            Self::Cooldown { .. } => f.write_str("its count changed or its replicas came lately"),
            Self::MovesAtOnce { max } => write!(f, "{max} replicas are on the move already"),
        }
    }
}

/// What a run says of a service's warm standbys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WarmReport {
    /// Wanted.
    pub wanted: u32,
    /// Planned.
    pub planned: u32,
    /// Of these, proven healthy and paused.
    pub ready: u32,
    /// Why there are fewer than wanted.
    #[serde(default)]
    pub waits: Option<WarmWait>,
}

/// Why warm standbys are missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "wait", rename_all = "snake_case")]
pub enum WarmWait {
    /// The replicas that serve come first, and they are not all there.
    ServiceFirst,
    /// A rollout runs: standbys of the new template come after it.
    RolloutRuns,
    /// The job that goes before the service has not completed.
    Job {
        /// The job.
        service: ServiceName,
    },
    /// New replicas fail.
    Backoff {
        /// Next try.
        until_ms: TimeMs,
    },
    /// Other services' replicas find no room.
    Pressure,
    /// Nobody knows yet whether it can be trusted: too many nodes are away.
    Outage,
    /// No node can take one.
    Unplaceable {
        /// All nodes by kind of refusal.
        counts: Vec<RefusalCount>,
    },
}

impl fmt::Display for WarmWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceFirst => f.write_str("its serving replicas come first"),
            Self::RolloutRuns => f.write_str("a rollout runs"),
            Self::Job { service } => write!(f, "{service}, which goes first, has not completed"),
            Self::Backoff { .. } => f.write_str("new replicas fail; the next try comes later"),
            Self::Pressure => f.write_str("serving replicas of other services need the room"),
            Self::Outage => f.write_str("too many nodes are away"),
            Self::Unplaceable { counts } => {
                f.write_str("no node can take one")?;
                for (n, count) in counts.iter().enumerate() {
                    let sign = if n == 0 { ": " } else { ", " };
                    write!(f, "{sign}{}", count.kind.of_nodes(count.nodes))?;
                }
                Ok(())
            }
        }
    }
}

/// What a run says of one node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its state.
    pub state: NodeState,
    /// Replicas planned on it.
    pub replicas: u32,
    /// CPU reserved, thousandths of a core.
    pub cpu_reserved_milli: u64,
    /// Memory reserved.
    pub memory_reserved_bytes: u64,
    /// Why it is not ready.
    pub reason: Option<Reason>,
    /// How its drain goes, while it is drained.
    #[serde(default)]
    pub drain: Option<DrainReport>,
}

/// How a node's drain goes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DrainReport {
    /// Replicas still there, those that finish their sessions included. 0: drained.
    pub left: u32,
    /// Of these, on their way out.
    pub leaving: u32,
    /// The deadline has passed.
    pub late: bool,
    /// What those wait for that cannot leave yet, by service; bounded by the planner.
    pub waits: Vec<(ServiceKey, Reason)>,
}

/// State of a node as the planner judges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Connected.
    Ready,
    /// Not connected since the controller started; nothing known.
    #[default]
    Unknown,
    /// Session gone, HAProxy still reaches its replicas (or nobody can say yet).
    Away,
    /// Connected, its engine is not there.
    EngineDown,
    /// Connected, its engine takes calls and does not answer: what runs there goes on.
    RuntimeStuck,
    /// Declared lost: its replicas are replaced.
    Lost,
}

impl NodeState {
    /// Does the node itself speak with the controller, whatever its engine does?
    #[must_use]
    pub fn is_connected(self) -> bool {
        matches!(self, Self::Ready | Self::EngineDown | Self::RuntimeStuck)
    }

    /// It is connected, and its engine does not work.
    #[must_use]
    pub fn lacks_engine(self) -> bool {
        matches!(self, Self::EngineDown | Self::RuntimeStuck)
    }
}
