//! What happened, with its reason: the stuff of `events`, `why` and the audit trail.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::VariantNames;

use crate::id::{AppName, NodeId, ReplicaId, ServiceKey};
use crate::reason::{FailReason, LeaveReason, Reason, ScaleCause};
use crate::receipt::{DrainReceipt, Exit, end_in_words};
use crate::rollout::RolloutNews;
use crate::{TimeMs, span};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at_ms: TimeMs,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, VariantNames)]
#[serde(tag = "type", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// An app was applied.
    AppApplied {
        /// App.
        app: AppName,
        /// Its new revision.
        revision: u64,
        /// By whom.
        by: String,
    },
    /// An app was taken down.
    AppDown {
        /// App.
        app: AppName,
        /// By whom.
        by: String,
    },
    /// A count changed.
    Scaled {
        /// Service.
        service: ServiceKey,
        /// Before.
        from: u32,
        /// After.
        to: u32,
        /// Why.
        cause: ScaleCause,
    },
    /// A replica got a place.
    Placed {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
    },
    /// A replica is in the routes: edges are told to send it requests.
    Serving {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// From its planning to here.
        after_ms: u64,
        /// It was there before: what it proves is not its first proof.
        #[serde(default)]
        again: bool,
        /// When its node started it.
        #[serde(default)]
        started_ms: Option<TimeMs>,
        /// When its node first found it healthy.
        #[serde(default)]
        healthy_ms: Option<TimeMs>,
    },
    /// A replica left the routes because it is not healthy.
    Unhealthy {
        /// Service.
        service: ServiceKey,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// Why, if its agent said.
        why: Option<FailReason>,
    },
    /// A replica begins to leave.
    Leaving {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// Why.
        why: LeaveReason,
    },
    /// A replica is drained and out of every route.
    Drained {
        /// Service.
        service: ServiceKey,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// From the drain to here.
        after_ms: u64,
        /// What each edge said.
        receipts: Vec<(NodeId, DrainReceipt)>,
    },
    /// A replica is gone.
    Gone {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// Why it left.
        why: LeaveReason,
        /// From the order to stop to here; none: nobody was told to stop it.
        #[serde(default)]
        after_ms: Option<u64>,
        /// How its container ended; none: its node did not say.
        #[serde(default)]
        exit: Option<Exit>,
        /// Its node was lost: nobody saw it end.
        #[serde(default)]
        lost: bool,
    },
    /// A replica failed.
    Failed {
        /// Service.
        service: ServiceKey,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// Why.
        why: FailReason,
    },
    /// A rollout went a step further, or stopped.
    Rollout {
        /// Service.
        service: ServiceKey,
        /// App revision that it goes to.
        revision: u64,
        /// What is new.
        #[serde(flatten)]
        news: RolloutNews,
    },
    /// Something waits; said once for each change of its reason.
    Waits {
        /// Service.
        service: ServiceKey,
        /// Why.
        why: Reason,
    },
    /// No edge refuses it any more.
    RoutedAgain {
        /// Service.
        service: ServiceKey,
        /// Ports of the edges that it is reached by.
        #[serde(default)]
        ports: Vec<u16>,
    },
    /// A node joined.
    NodeJoined {
        /// Node.
        node: NodeId,
    },
    /// A node's session began.
    NodeConnected {
        /// Node.
        node: NodeId,
    },
    /// A node's session ended.
    NodeAway {
        /// Node.
        node: NodeId,
    },
    /// A node was declared lost.
    NodeLost {
        /// Node.
        node: NodeId,
        /// The witnesses, in words.
        witnesses: String,
    },
    /// A lost node came back.
    NodeBack {
        /// Node.
        node: NodeId,
    },
    /// HAProxy does not answer on an edge.
    EdgeSilent {
        /// Node.
        node: NodeId,
        /// Why, in its agent's words.
        problem: String,
    },
    /// It answers again.
    EdgeAnswers {
        /// Node.
        node: NodeId,
    },
    /// An operator changed a node's availability.
    NodeAvailability {
        /// Node.
        node: NodeId,
        /// `active`, `cordoned` or `draining`.
        availability: String,
        /// By whom.
        by: String,
        /// In their words.
        message: String,
    },
    /// An operator stopped a service's autoscaler.
    AutoscalePaused {
        /// Service.
        service: ServiceKey,
        /// It goes on by itself then; none: when somebody says so.
        until_ms: Option<TimeMs>,
        /// By whom.
        by: String,
    },
    /// An operator let a service's autoscaler go on.
    AutoscaleResumed {
        /// Service.
        service: ServiceKey,
        /// By whom.
        by: String,
    },
    /// An operator set other bounds than the file's, or took them back (neither is set).
    AutoscaleBounds {
        /// Service.
        service: ServiceKey,
        /// Lower bound instead of the file's.
        min: Option<u32>,
        /// Upper bound instead of the file's.
        max: Option<u32>,
        /// By whom.
        by: String,
    },
    /// An operator approved a count that the autoscaler asked for.
    AutoscaleApproved {
        /// Service.
        service: ServiceKey,
        /// The count.
        count: u32,
        /// By whom.
        by: String,
    },
    /// Nothing is left on a node that was drained.
    NodeDrained {
        /// Node.
        node: NodeId,
        /// From the order to here.
        after_ms: u64,
    },
    /// A node's drain ran out of time and goes on.
    NodeDrainLate {
        /// Node.
        node: NodeId,
        /// Replicas left.
        left: u32,
        /// What is left is stopped now.
        force: bool,
    },
    /// A replica is moved to even out the cluster: its successor starts.
    Moving {
        /// Service.
        service: ServiceKey,
        /// The replica that will leave.
        replica: ReplicaId,
        /// Its node.
        node: NodeId,
        /// Its successor.
        successor: ReplicaId,
        /// The successor's node.
        to: NodeId,
    },
    /// A warm standby becomes a replica like the others.
    Woken {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
    },
    /// The controller started.
    ControllerStarted {
        /// Its leadership term.
        term: u64,
    },
}

impl EventKind {
    /// The service that it is about, if any.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceKey> {
        match self {
            Self::Scaled { service, .. }
            | Self::Placed { service, .. }
            | Self::Serving { service, .. }
            | Self::Unhealthy { service, .. }
            | Self::Leaving { service, .. }
            | Self::Drained { service, .. }
            | Self::Gone { service, .. }
            | Self::Failed { service, .. }
            | Self::Moving { service, .. }
            | Self::Woken { service, .. }
            | Self::Waits { service, .. }
            | Self::RoutedAgain { service, .. }
            | Self::AutoscalePaused { service, .. }
            | Self::AutoscaleResumed { service, .. }
            | Self::AutoscaleBounds { service, .. }
            | Self::AutoscaleApproved { service, .. }
            | Self::Rollout { service, .. } => Some(service),
            _ => None,
        }
    }

    /// The replica that it is about, if any.
    #[must_use]
    pub fn replica(&self) -> Option<ReplicaId> {
        match self {
            Self::Placed { replica, .. }
            | Self::Serving { replica, .. }
            | Self::Unhealthy { replica, .. }
            | Self::Leaving { replica, .. }
            | Self::Drained { replica, .. }
            | Self::Gone { replica, .. }
            | Self::Failed { replica, .. }
            | Self::Moving { replica, .. }
            | Self::Woken { replica, .. } => Some(*replica),
            _ => None,
        }
    }

    /// The slot of that replica, where it is said.
    #[must_use]
    pub fn slot(&self) -> Option<u32> {
        match self {
            Self::Placed { slot, .. }
            | Self::Serving { slot, .. }
            | Self::Leaving { slot, .. }
            | Self::Gone { slot, .. }
            | Self::Woken { slot, .. } => Some(*slot),
            _ => None,
        }
    }

    /// The node that it is about, if any.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Placed { node, .. }
            | Self::Serving { node, .. }
            | Self::Unhealthy { node, .. }
            | Self::Leaving { node, .. }
            | Self::Drained { node, .. }
            | Self::Gone { node, .. }
            | Self::Failed { node, .. }
            | Self::NodeJoined { node }
            | Self::NodeConnected { node }
            | Self::NodeAway { node }
            | Self::NodeLost { node, .. }
            | Self::NodeBack { node }
            | Self::EdgeSilent { node, .. }
            | Self::EdgeAnswers { node }
            | Self::NodeDrained { node, .. }
            | Self::NodeDrainLate { node, .. }
            | Self::Moving { node, .. }
            | Self::Woken { node, .. }
            | Self::NodeAvailability { node, .. } => Some(node),
            _ => None,
        }
    }
}

impl fmt::Display for EventKind {
    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each kind: a table, not logic"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppApplied { app, revision, by } => {
                write!(f, "{app}: revision {revision} applied by {by}")
            }
            Self::AppDown { app, by } => write!(f, "{app}: taken down by {by}"),
            Self::Scaled {
                service,
                from,
                to,
                cause,
            } => {
                write!(f, "{service}: {from} -> {to} ({cause})")
            }
            Self::Placed {
                service,
                slot,
                replica,
                node,
            } => {
                write!(f, "{service}.{slot} ({replica}) placed on {node}")
            }
            Self::Serving {
                service,
                slot,
                replica,
                node,
                after_ms,
                again,
                ..
            } => {
                write!(f, "{service}.{slot} ({replica}) on {node} is in the routes")?;
                match again {
                    true => f.write_str(" again"),
                    false => write!(f, ", {} after it was planned", span(*after_ms)),
                }
            }
            Self::Unhealthy {
                service,
                replica,
                node,
                why,
            } => {
                write!(f, "{service} {replica} on {node} left the routes")?;
                why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::Leaving {
                service,
                slot,
                replica,
                node,
                why,
            } => {
                write!(f, "{service}.{slot} ({replica}) leaves {node}: {why}")
            }
            Self::Drained {
                service,
                replica,
                node,
                after_ms,
                receipts,
            } => {
                write!(
                    f,
                    "{service} {replica} on {node} drained in {}",
                    span(*after_ms)
                )?;
                let mut receipts = receipts.iter();
                receipts.try_for_each(|(edge, receipt)| write!(f, "; {edge}: {receipt}"))
            }
            Self::Gone {
                service,
                slot,
                replica,
                node,
                why,
                exit,
                lost,
                ..
            } => {
                let end = end_in_words(*exit, *lost);
                write!(
                    f,
                    "{service}.{slot} ({replica}) gone from {node}: {why}; {end}"
                )
            }
            Self::Failed {
                service,
                replica,
                node,
                why,
            } => {
                write!(f, "{service} {replica} on {node} failed: {why}")
            }
            Self::Rollout {
                service,
                revision,
                news,
            } => write!(f, "{service} revision {revision}: {news}"),
            Self::Waits { service, why } => write!(f, "{service} waits: {why}"),
            Self::RoutedAgain { service, ports } => {
                write!(f, "{service}: no edge refuses to serve it any more")?;
                let ports = ports.iter().map(ToString::to_string);
                let ports = ports.collect::<Vec<_>>().join(", ");
                match ports.as_str() {
                    "" => Ok(()),
                    ports => write!(f, " (port {ports})"),
                }
            }
            Self::NodeJoined { node } => write!(f, "{node} joined"),
            Self::NodeConnected { node } => write!(f, "{node} connected"),
            Self::NodeAway { node } => write!(f, "{node} is not connected"),
            Self::NodeLost { node, witnesses } => write!(f, "{node} lost: {witnesses}"),
            Self::NodeBack { node } => write!(f, "{node} is back"),
            Self::EdgeSilent { node, problem } => {
                write!(f, "{node}: HAProxy does not answer: {problem}")
            }
            Self::EdgeAnswers { node } => write!(f, "{node}: HAProxy answers again"),
            Self::NodeAvailability {
                node,
                availability,
                by,
                message,
            } => {
                write!(f, "{node}: {availability} by {by}")?;
                if message.is_empty() {
                    Ok(())
                } else {
                    write!(f, " ({message})")
                }
            }
            Self::AutoscalePaused { service, by, .. } => {
                write!(f, "{service}: autoscaler paused by {by}")
            }
            Self::AutoscaleResumed { service, by } => {
                write!(f, "{service}: autoscaler resumed by {by}")
            }
            Self::AutoscaleBounds {
                service,
                min,
                max,
                by,
            } => {
                let word = |name: &str, value: &Option<u32>| match value {
                    Some(value) => format!(" {name} {value}"),
                    None => String::new(),
                };
                let said = word("min", min) + &word("max", max);
                if said.is_empty() {
                    write!(f, "{service}: the file's bounds hold again, by {by}")
                } else {
                    write!(f, "{service}: bounds set to{said} by {by}")
                }
            }
            Self::AutoscaleApproved { service, count, by } => {
                write!(f, "{service}: {count} approved by {by}")
            }
            Self::NodeDrained { node, after_ms } => {
                write!(f, "{node} is drained, after {}", span(*after_ms))
            }
            Self::NodeDrainLate { node, left, force } => {
                let then = if *force { "stopped now" } else { "it goes on" };
                write!(f, "{node}: drain past its deadline, {left} left; {then}")
            }
            Self::Moving {
                service,
                replica,
                node,
                successor,
                to,
            } => write!(
                f,
                "{service} {replica} moves from {node} to {to} as {successor}"
            ),
            Self::Woken {
                service,
                slot,
                replica,
                node,
            } => write!(
                f,
                "{service}.{slot} ({replica}) on {node} woken from standby"
            ),
            Self::ControllerStarted { term } => write!(f, "controller started, term {term}"),
        }
    }
}
