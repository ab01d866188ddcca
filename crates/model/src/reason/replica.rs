//! Why a replica fails or leaves.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ServiceKey};
use crate::refusal::Refusal;

/// Why a replica failed or is unhealthy, as its agent saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum FailReason {
    /// The image is not there and cannot be pulled.
    ImageMissing {
        /// Reference.
        image: String,
        /// The engine's words.
        detail: String,
    },
    /// The host port is in use by somebody else.
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The node's own policy file refuses an option.
    PolicyRefused {
        /// The option, as Compose writes it.
        option: String,
        /// How an administrator of the node would allow it.
        hint: String,
    },
    /// A volume that nobody makes for it is not on its node.
    VolumeMissing {
        /// As engines call it.
        volume: String,
        /// The node.
        node: NodeId,
    },
    /// The engine refused or failed.
    Engine {
        /// What was attempted.
        attempted: String,
        /// The engine's words.
        detail: String,
    },
    /// The container ended by itself more often than restarts are allowed.
    Exited {
        /// Its exit code.
        code: i64,
        /// Killed for memory.
        oom: bool,
        /// Last line that it wrote; may be empty.
        last_line: String,
    },
    /// It ran but never became healthy in time.
    NeverHealthy {
        /// Time allowed.
        after_ms: u64,
        /// What the check said last.
        detail: String,
    },
    /// Its health check fails now.
    CheckFails {
        /// What the check says.
        detail: String,
    },
    /// Somebody removed its container.
    Removed,
    /// Its node calls it healthy, but no edge reaches it, or some do not. No agent says this: it follows from what
    /// edges report.
    NotReached {
        /// For so long.
        after_ms: u64,
        /// Edges that do not, while others do and these reach older ones on its node; empty: none
        /// does.
        #[serde(default)]
        edges: Vec<NodeId>,
    },
}

/// Edges that do not reach a replica, in words: all of them where none is named.
struct EdgesOf<'a>(&'a [NodeId]);

/// Healthy replicas that edges do not reach, the first of them named.
pub(super) fn not_reached(
    f: &mut fmt::Formatter<'_>,
    replicas: u32,
    (slot, node): (u32, &NodeId),
    edges: &[NodeId],
) -> fmt::Result {
    let s = if replicas == 1 { " is" } else { "s are" };
    let of = EdgesOf(edges);
    write!(
        f,
        "{replicas} replica{s} healthy, but HAProxy's check fails on {of} (slot {slot} on {node}): \
         does it answer x-haproxy.check there, and can "
    )?;
    match edges.is_empty() {
        true => f.write_str("the edges connect to its node?"),
        false => write!(f, "{of} connect to its node? Other edges do"),
    }
}

impl fmt::Display for EdgesOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, others)) = self.0.split_last() else {
            return f.write_str("every edge");
        };
        for (at, edge) in others.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{edge}")?;
        }
        let and = if others.is_empty() { "" } else { " and " };
        write!(f, "{and}{last}")
    }
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ImageMissing { image, detail } => {
                write!(
                    f,
                    "image {image} is not on the node and cannot be pulled: {detail}"
                )
            }
            Self::PortTaken { port } => write!(f, "host port {port} is taken by another program"),
            Self::PolicyRefused { option, hint } => {
                write!(f, "the node's policy refuses {option}; {hint}")
            }
            Self::VolumeMissing { volume, node } => write!(
                f,
                "external volume {volume} is not on {node}: make it there (docker volume create \
                 {volume}), or drop external from the file"
            ),
            Self::Engine { attempted, detail } => write!(f, "{attempted}: {detail}"),
            Self::Exited { oom: true, .. } => f.write_str("out of memory: killed at its limit"),
            Self::Exited {
                code, last_line, ..
            } if last_line.is_empty() => {
                write!(f, "exited with code {code}")
            }
            Self::Exited {
                code, last_line, ..
            } => {
                write!(f, "exited with code {code}; last line: {last_line}")
            }
            Self::NeverHealthy { after_ms, detail } => {
                write!(f, "not healthy within {} s: {detail}", after_ms / 1000)
            }
            Self::CheckFails { detail } => write!(f, "health check fails: {detail}"),
            Self::Removed => f.write_str("its container was removed by hand"),
            Self::NotReached { after_ms, edges } => {
                let (of, seconds) = (EdgesOf(edges), after_ms / 1000);
                write!(
                    f,
                    "healthy on its node, but HAProxy's check of it failed on {of} for {seconds} s"
                )?;
                match edges.is_empty() {
                    true => Ok(()),
                    false => f.write_str(", where older ones on its node are reached"),
                }
            }
        }
    }
}

/// Why a replica leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum LeaveReason {
    /// Fewer are wanted.
    ScaleIn,
    /// A newer template took its place.
    Replaced,
    /// Its revision failed and is rolled back.
    RolledBack {
        /// App revision that failed.
        revision: u64,
        /// App revision that takes its place.
        to_revision: u64,
    },
    /// The rollout of its revision failed and is paused: what ran before goes on instead.
    RolloutFailed {
        /// App revision that failed.
        revision: u64,
    },
    /// A newer revision came before an older one's rollout was through, and as many as are wanted
    /// are there without it.
    Superseded {
        /// The newer app revision.
        by_revision: u64,
    },
    /// Its node may no longer run it (constraints, roles), and another took its place.
    Misplaced,
    /// Its node takes no replica of its service any more, which has one on each node that does:
    /// nothing takes its place.
    NodeUnfit {
        /// Why it does not.
        why: Refusal,
    },
    /// Its node is drained.
    NodeDrain,
    /// Its node was lost and it was replaced.
    NodeLost,
    /// It failed.
    Failed {
        /// Why.
        why: FailReason,
    },
    /// Its app or service is no longer wanted.
    Down,
    /// HAProxy cannot reach it although its node says that it is healthy.
    Unreachable,
    /// Its health check fails and enough others are there.
    Unhealthy,
    /// Its node's drain ran out of time and was to be forced.
    NodeDrainForced,
    /// Another one serves on a node that had less to carry.
    Rebalanced,
    /// It was a warm standby and is no longer wanted as one.
    Standby {
        /// Why.
        why: StandbyEnd,
    },
}

impl LeaveReason {
    /// Did another replica take its place, here or elsewhere, because of what it runs or where?
    #[must_use]
    pub fn is_exchange(&self) -> bool {
        matches!(
            self,
            Self::Replaced | Self::RolledBack { .. } | Self::Misplaced
        )
    }
}

/// Why a warm standby is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum StandbyEnd {
    /// Fewer are wanted.
    Fewer,
    /// It runs an older template.
    Outdated,
    /// Its room is needed by replicas that serve.
    Pressure {
        /// Of this service.
        service: ServiceKey,
    },
    /// Its node takes no replicas (any more).
    Node,
}

impl fmt::Display for StandbyEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fewer => f.write_str("fewer are wanted"),
            Self::Outdated => f.write_str("it runs an older template"),
            Self::Pressure { service } => write!(f, "{service} needs its room"),
            Self::Node => f.write_str("its node takes no replicas"),
        }
    }
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScaleIn => f.write_str("fewer replicas wanted"),
            Self::Replaced => f.write_str("replaced by another revision"),
            Self::RolledBack {
                revision,
                to_revision,
            } => write!(f, "revision {revision} is rolled back to {to_revision}"),
            Self::RolloutFailed { revision } => {
                write!(f, "the rollout of revision {revision} failed")
            }
            Self::Superseded { by_revision } => write!(f, "superseded by revision {by_revision}"),
            Self::Misplaced => f.write_str("its node no longer fits, replaced on another"),
            Self::NodeUnfit { why } => {
                write!(
                    f,
                    "its node takes no replica of its service any more: {why}"
                )
            }
            Self::NodeDrain => f.write_str("its node is drained"),
            Self::NodeLost => f.write_str("its node was lost"),
            Self::Failed { why } => write!(f, "failed: {why}"),
            Self::Down => f.write_str("its service was taken down"),
            Self::Unreachable => f.write_str("no edge can reach it"),
            Self::Unhealthy => {
                f.write_str("its health check fails, and others are there in its place")
            }
            Self::NodeDrainForced => f.write_str("its node's drain ran out of time (forced)"),
            Self::Rebalanced => f.write_str("moved to a node with less to carry"),
            Self::Standby { why } => write!(f, "no longer a warm standby: {why}"),
        }
    }
}
