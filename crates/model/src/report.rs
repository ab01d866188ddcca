//! What a planning run has to say beside its plan: states, reasons, what happened.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::event::EventKind;
use crate::id::{NodeId, ServiceKey};
use crate::reason::Reason;
use crate::record::DecisionRecord;

/// Result of one planning run for people.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Services, one each.
    pub services: BTreeMap<ServiceKey, ServiceReport>,
    /// Nodes, one each.
    pub nodes: BTreeMap<NodeId, NodeReport>,
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
    /// How the count was decided.
    pub scale: ScaleReport,
    /// Why it is not as wanted.
    pub waits: Vec<Reason>,
}

/// How a count was decided.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScaleReport {
    /// Each signal, its value, its target, what it asks for.
    pub signals: Vec<SignalReport>,
    /// Highest recommendation, before windows and policies.
    pub recommendation: Option<u32>,
    /// Why the count is what it is.
    pub reasons: Vec<Reason>,
    /// Lower bound in force.
    pub min: u32,
    /// Upper bound in force.
    pub max: u32,
}

impl ScaleReport {
    /// Is this the same answer as `before`, for the same kinds of reasons?
    #[must_use]
    pub fn repeats(&self, before: &Self) -> bool {
        let kinds = |report: &Self| -> Vec<_> {
            report.reasons.iter().map(std::mem::discriminant).collect()
        };
        (self.recommendation, self.min, self.max) == (before.recommendation, before.min, before.max)
            && kinds(self) == kinds(before)
    }
}

/// One signal of a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalReport {
    /// Its name.
    pub signal: String,
    /// Mean over the window; none without good samples.
    pub value: Option<f64>,
    /// Target or matched threshold.
    pub target: f64,
    /// What it asks for.
    pub recommendation: Option<u32>,
    /// Sources with good samples.
    pub good: u32,
    /// Sources in all.
    pub all: u32,
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
    /// Mean CPU ratio over the last seconds.
    pub cpu_ratio: Option<f64>,
    /// Why it is not ready.
    pub reason: Option<Reason>,
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
    /// Connected, its engine does not answer.
    EngineDown,
    /// Declared lost: its replicas are replaced.
    Lost,
}
