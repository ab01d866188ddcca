//! Reasons as data. Each `Display` is one line for people; JSON carries the fields.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::{NodeId, ReplicaId, ServiceKey};
pub use crate::refusal::{Refusal, RefusalCount};
use crate::report::{BoundReport, BoundSource, measured};
use crate::rollout::Trouble;

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
            Self::Replaced => f.write_str("replaced by a newer revision"),
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

/// Why a count changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum ScaleCause {
    /// First count, from the file.
    Initial,
    /// A person.
    Manual {
        /// Who.
        by: String,
    },
    /// A signal.
    Metric {
        /// Its name.
        signal: String,
        /// Its value over the window.
        value: f64,
        /// Its target or threshold.
        target: f64,
        /// What limited the step, if anything.
        limited_by: Option<String>,
    },
    /// The file's new bounds, or a fixed count that changed in the file.
    Bounds {
        /// Lower bound.
        min: u32,
        /// Upper bound.
        max: u32,
    },
    /// The service was taken down.
    Down,
    /// A schedule's bounds moved it.
    Schedule {
        /// The schedule that set the bound.
        name: String,
        /// Lower bound in force.
        min: u32,
        /// Upper bound in force.
        max: u32,
    },
    /// Bounds set by an operator moved it.
    Override {
        /// By whom.
        by: String,
        /// Lower bound in force.
        min: u32,
        /// Upper bound in force.
        max: u32,
    },
    /// An operator agreed to a proposal.
    Approved {
        /// Who.
        by: String,
        /// Why it was proposed.
        why: Box<ScaleCause>,
    },
}

impl fmt::Display for ScaleCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initial => f.write_str("first count, from the file"),
            Self::Manual { by } => write!(f, "set by {by}"),
            Self::Metric {
                signal,
                value,
                target,
                limited_by,
            } => {
                let (value, target) = (measured(signal, *value), measured(signal, *target));
                write!(f, "{signal} {value} of target {target}")?;
                match limited_by {
                    Some(limit) => write!(f, "; limited by {limit}"),
                    None => Ok(()),
                }
            }
            Self::Bounds { min, max } => write!(f, "bounds {min}..{max}"),
            Self::Down => f.write_str("taken down"),
            Self::Schedule { name, min, max } => {
                write!(f, "schedule {name:?}: bounds {min}..{max}")
            }
            Self::Override { by, min, max } => write!(f, "bounds {min}..{max} set by {by}"),
            Self::Approved { by, why } => write!(f, "approved by {by}: {why}"),
        }
    }
}

/// Why the planner does nothing, or waits, about something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Nothing to do: the signal is inside the tolerance of its target.
    InsideTolerance,
    /// The controller has not yet watched for one full window.
    Observing {
        /// When it will have.
        until_ms: TimeMs,
    },
    /// A stabilisation window holds an earlier recommendation.
    Stabilizing {
        /// That recommendation.
        recommendation: u32,
        /// When it leaves the window.
        until_ms: TimeMs,
    },
    /// Samples are missing, stale or not numbers.
    MissingSamples {
        /// Signal.
        signal: String,
        /// Sources with good samples.
        good: u32,
        /// Sources in all.
        all: u32,
    },
    /// At the policy's lower bound.
    AtMin,
    /// At the policy's upper bound.
    AtMax,
    /// A rate policy allows no more in its period.
    RateLimited {
        /// When the next step is allowed.
        until_ms: TimeMs,
    },
    /// A person holds the count.
    Held {
        /// Until when; none: until it is changed.
        until_ms: Option<TimeMs>,
    },
    /// The policy only says what it would do.
    DryRun {
        /// What it would do.
        would_be: u32,
    },
    /// No autoscaling is configured.
    Fixed,
    /// More are asked for than any service may have.
    CountLimit {
        /// What is asked for.
        asked: u32,
        /// What any service may have.
        most: u32,
    },
    /// A rollout runs; the count waits for it.
    RolloutRuns,
    /// The autoscaler is paused.
    Paused {
        /// By whom.
        by: String,
        /// Until when; none: until it is resumed.
        until_ms: Option<TimeMs>,
    },
    /// The count went the other way less than a stabilisation window ago.
    Turned {
        /// When it may turn.
        until_ms: TimeMs,
    },
    /// Nobody asked often enough for the signal to have a value.
    Idle {
        /// Signal.
        signal: String,
    },
    /// The service cannot have the signal: no limit or reservation, or no route.
    Undefined {
        /// Signal.
        signal: String,
    },
    /// A change waits for consent.
    AwaitsApproval {
        /// Count proposed.
        count: u32,
        /// Since when.
        since_ms: TimeMs,
    },
    /// An approval was not used.
    ApprovalUnused {
        /// Count that was agreed to.
        approved: u32,
        /// It is too old; else it is for another count than the one proposed.
        stale: bool,
    },
    /// Bounds other than the file's are in force.
    BoundsFrom {
        /// Which and whose.
        bound: BoundReport,
    },
    /// No node can take the replica.
    Unplaceable {
        /// Node by node, the first of them.
        refusals: Vec<(NodeId, Refusal)>,
        /// All of them by kind, most frequent first, bounded by the planner.
        #[serde(default)]
        counts: Vec<RefusalCount>,
        /// Nodes that were asked.
        #[serde(default)]
        nodes: u32,
    },
    /// Failed before; the next try comes later.
    Backoff {
        /// Failures so far.
        failures: u32,
        /// Next try.
        until_ms: TimeMs,
        /// The last failure.
        last: FailReason,
    },
    /// Too many nodes went away at once; nothing is evicted.
    PartialOutage {
        /// Nodes away.
        away: u32,
        /// Nodes in all.
        all: u32,
    },
    /// A node is away but HAProxy still reaches its replicas.
    UnknownButServing {
        /// The node.
        node: NodeId,
    },
    /// Health checks fail, but taking these replicas out would leave less than half of the
    /// service in the routes; HAProxy's own checks decide.
    KeptInRoutes {
        /// How many are kept.
        replicas: u32,
    },
    /// A replacement must be serving first.
    WaitsForReplacement {
        /// The replica that waits.
        replica: ReplicaId,
    },
    /// Its rollout failed and waits for a person; what served before goes on serving.
    RolloutPaused {
        /// App revision that it goes to.
        revision: u64,
        /// Why.
        why: Trouble,
    },
    /// An operator holds its rollout.
    RolloutHeld {
        /// App revision that it goes to.
        revision: u64,
        /// Who.
        by: String,
    },
    /// What the file asks for failed; the last good revision runs instead.
    RolledBack {
        /// App revision that failed.
        revision: u64,
        /// App revision that runs.
        to_revision: u64,
        /// Why.
        why: Trouble,
    },
    /// A batch serves and is watched before the next one begins.
    RolloutMonitors {
        /// Until when.
        until_ms: TimeMs,
    },
    /// The pause between two batches.
    RolloutDelays {
        /// Until when.
        until_ms: TimeMs,
    },
    /// No node has room for one more replica of the service, so the old ones stop first.
    NoRoomToStartFirst {
        /// `max_replicas_per_node`; 0: a fixed host port is in the way.
        max_per_node: u32,
    },
    /// Written by another version, which knew a reason that this one does not: what was stored or
    /// sent with it is read all the same.
    #[serde(other)]
    Foreign,
}

impl fmt::Display for Reason {
    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each kind: a table, not logic"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsideTolerance => f.write_str("inside tolerance"),
            Self::Observing { .. } => {
                f.write_str("the controller has not yet watched for a full window")
            }
            Self::Stabilizing { recommendation, .. } => write!(
                f,
                "held: a recommendation of {recommendation} is inside the stabilization window"
            ),
            Self::MissingSamples { signal, good, all } => {
                write!(f, "holding: {good} of {all} report {signal}")
            }
            Self::AtMin => f.write_str("at min"),
            Self::AtMax => f.write_str("at max"),
            Self::RateLimited { .. } => f.write_str("limited by a rate policy"),
            Self::Held { .. } => f.write_str("held by an operator"),
            Self::DryRun { would_be } => write!(f, "dry run: would be {would_be}"),
            Self::Fixed => f.write_str("no autoscaling configured"),
            Self::CountLimit { asked, most } => {
                write!(f, "{asked} are asked for; a service may have {most}")
            }
            Self::RolloutRuns => f.write_str("a rollout runs"),
            Self::Unplaceable {
                refusals,
                counts,
                nodes,
            } => {
                let all = (*nodes as usize).max(refusals.len());
                write!(f, "0 of {all} nodes fit")?;
                for (n, count) in counts.iter().enumerate() {
                    let sign = if n == 0 { ": " } else { ", " };
                    write!(f, "{sign}{}", count.kind.of_nodes(count.nodes))?;
                }
                Ok(())
            }
            Self::Paused { by, .. } => write!(f, "paused by {by}"),
            Self::Turned { .. } => {
                f.write_str("held: the count went the other way within the stabilization window")
            }
            Self::Idle { signal } => write!(f, "{signal}: too few requests to say anything"),
            Self::Undefined { signal } => write!(
                f,
                "{signal} cannot be measured: it needs a limit or reservation, or a route"
            ),
            Self::AwaitsApproval { count, .. } => write!(f, "would be {count}: waits for approval"),
            Self::ApprovalUnused {
                approved,
                stale: true,
            } => write!(f, "the approval of {approved} is too old"),
            Self::ApprovalUnused { approved, .. } => write!(
                f,
                "the approval of {approved} is for another count than the one proposed"
            ),
            Self::BoundsFrom { bound } => {
                let (side, count) = (if bound.upper { "max" } else { "min" }, bound.count);
                match &bound.source {
                    BoundSource::File => write!(f, "the file sets {side} {count}"),
                    BoundSource::Schedule { name } => {
                        write!(f, "schedule {name:?} sets {side} {count}")
                    }
                    BoundSource::Override { by } => write!(f, "{by} set {side} {count}"),
                }
            }
            Self::Backoff { failures, last, .. } => {
                write!(
                    f,
                    "failed {failures} times, waits before the next try: {last}"
                )
            }
            Self::PartialOutage { away: 0, .. } => f.write_str(
                "all nodes are back from an outage; until that lasts, nothing is evicted",
            ),
            Self::PartialOutage { away, all } => {
                write!(
                    f,
                    "partial outage: {away} of {all} nodes away at once, nothing is evicted"
                )
            }
            Self::UnknownButServing { node } => {
                write!(
                    f,
                    "{node} is not connected but HAProxy still reaches its replicas"
                )
            }
            Self::KeptInRoutes { replicas } => write!(
                f,
                "{replicas} replicas fail their health check and stay in the routes, or less \
                 than half of the service would be left there"
            ),
            Self::WaitsForReplacement { replica } => {
                write!(f, "{replica} waits until its replacement serves")
            }
            Self::Foreign => f.write_str("a reason that this version does not know"),
            Self::RolloutPaused { revision, why } => {
                write!(f, "rollout of revision {revision} is paused: {why}")
            }
            Self::RolloutHeld { revision, by } => {
                write!(f, "rollout of revision {revision} is held by {by}")
            }
            Self::RolledBack {
                revision,
                to_revision,
                why,
            } => write!(
                f,
                "revision {revision} was rolled back to {to_revision}: {why}"
            ),
            Self::RolloutMonitors { .. } => f.write_str("the new replicas are being monitored"),
            Self::RolloutDelays { .. } => f.write_str("pause between two batches"),
            Self::NoRoomToStartFirst { max_per_node: 0 } => f.write_str(
                "one at a time, the old one stops first: a fixed host port leaves no node room \
                 for one more",
            ),
            Self::NoRoomToStartFirst { max_per_node } => write!(
                f,
                "one at a time, the old one stops first: max_replicas_per_node {max_per_node} \
                 leaves no node room for one more"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventKind;

    /// A history outlives the versions that wrote it: `quarantined` was such a reason.
    #[test]
    fn a_reason_of_another_version_is_read() {
        let old = r#"{"reason":"quarantined","detail":"the new template failed 3 times"}"#;
        assert_eq!(
            serde_json::from_str::<Reason>(old).unwrap(),
            Reason::Foreign
        );
        let waits = EventKind::Waits {
            service: "app/web".parse().unwrap(),
            why: Reason::Fixed,
        };
        let json = serde_json::to_string(&waits).unwrap();
        let json = json.replace(r#"{"reason":"fixed"}"#, old);
        assert!(json.contains("quarantined"), "{json}");
        let read: EventKind = serde_json::from_str(&json).unwrap();
        let why = Reason::Foreign;
        assert!(matches!(read, EventKind::Waits { why: w, .. } if w == why));
    }
}
