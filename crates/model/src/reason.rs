//! Reasons as data. Each `Display` is one line for people; JSON carries the fields.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ReplicaId, SecretName, ServiceName};
pub use crate::refusal::{HomeRefusal, Refusal, RefusalCount};
use crate::report::{BoundReport, measured};
use crate::rollout::{PauseCause, Trouble};
use crate::{TimeMs, aside::Aside, depends::Until};
pub use each_node::EachNode;
pub use replica::{FailReason, LeaveReason, StandbyEnd};

mod each_node;
mod replica;
mod words;

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
    /// The nodes that take the service are others by now: it has one replica on each.
    Nodes,
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
            Self::Nodes => f.write_str("one on each node that takes it"),
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
    /// Nothing to do: there are as many as are asked for.
    AsAsked,
    /// The signal is over its target, but too few replicas have carried that load long enough to
    /// tell how many more would do.
    Unseasoned {
        /// Replicas that are past warm-up and window.
        carriers: u32,
        /// Of so many.
        replicas: u32,
    },
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
    /// It has one replica on each node that takes it.
    EachNode(EachNode),
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
        /// The node that has the data of its volume, and why that one takes none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        home: Option<Box<HomeRefusal>>,
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
    /// A node was lost several times lately; it takes no new replicas until it has stayed for long
    /// enough. What runs there goes on.
    Flapping {
        /// The node.
        node: NodeId,
        /// How often it was lost.
        losses: u32,
        /// From then on it takes replicas, if it stays.
        until_ms: TimeMs,
    },
    /// A node is away but HAProxy still reaches its replicas.
    UnknownButServing {
        /// The node.
        node: NodeId,
    },
    /// Health checks fail, or are to be passed anew since an agent lost its memory, but taking
    /// these replicas out would leave less than half of the service in the routes; HAProxy's own
    /// checks decide.
    KeptInRoutes {
        /// How many are kept.
        replicas: u32,
        /// Of these, those whose check does not fail: their agent began anew.
        #[serde(default)]
        unproven: u32,
    },
    /// An operator keeps a replica out of the routes.
    SetAside {
        /// Its slot.
        slot: u32,
        /// Whose word, and why.
        said: Aside,
    },
    /// A replacement must be serving first.
    WaitsForReplacement {
        /// The replica that waits.
        replica: ReplicaId,
    },
    /// A job runs once at a time.
    WaitsForEnd {
        /// The replica whose end it waits for.
        replica: ReplicaId,
    },
    /// Its rollout failed and waits for a person; what served before goes on serving.
    RolloutPaused {
        /// App revision that it goes to.
        revision: u64,
        /// What went wrong.
        why: Trouble,
        /// Why that ends in a pause.
        #[serde(default)]
        cause: PauseCause,
    },
    /// No replica of the revision was ever proved: none is wanted. What failed replicas go back to
    /// is an older one until then.
    Unproved {
        /// App revision that is wanted.
        revision: u64,
        /// App revision that last served in full.
        good_revision: u64,
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
        /// Not all replicas are of it again.
        #[serde(default)]
        going: bool,
        /// The way back failed as well: nothing goes on by itself.
        #[serde(default)]
        stuck: bool,
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
    /// An edge cannot serve the service as wanted.
    NotRouted {
        /// The edge.
        edge: NodeId,
        /// Why, in its agent's words, with the way out.
        detail: String,
    },
    /// An edge's HAProxy does not take a new certificate and serves the one before.
    CertificateRefused {
        /// The edge.
        edge: NodeId,
        /// Secret of the app.
        secret: SecretName,
        /// Why, in HAProxy's words as far as it says.
        why: String,
    },
    /// Replicas are healthy as their nodes say, and no edge reaches them, or some edges do not.
    NotReached {
        /// How many.
        replicas: u32,
        /// Slot of the first one.
        slot: u32,
        /// Its node.
        node: NodeId,
        /// Since when.
        since_ms: TimeMs,
        /// Edges that do not while others do; empty: none does.
        #[serde(default)]
        edges: Vec<NodeId>,
    },
    /// A rollout waits for an edge whose HAProxy does not answer: what it serves nobody knows.
    WaitsForEdge {
        /// The edge.
        edge: NodeId,
        /// What is wrong, in its agent's words.
        problem: String,
    },
    /// Its first start waits for another service of its app.
    WaitsForService {
        /// The other one.
        service: ServiceName,
        /// What it must be.
        until: Until,
    },
    /// A job failed, and is not tried again by itself.
    JobFailed {
        /// Times that it was started.
        tries: u32,
        /// Why the last try failed.
        last: FailReason,
    },
    /// Written by another version, which knew a reason that this one does not: what was stored or
    /// sent with it is read all the same.
    #[serde(other)]
    Foreign,
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
