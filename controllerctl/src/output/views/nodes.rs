//! Nodes in `-o json`.

use std::collections::BTreeMap;

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::super::images::NodeImage;
use super::{filled, time};

/// `node ls`
#[derive(Debug, Serialize)]
pub struct Node {
    /// Its name, which is its id.
    pub name: String,
    /// ready, unknown, away, `engine_down`, `runtime_stuck`, lost
    pub state: String,
    /// active, cordoned, draining
    pub availability: String,
    /// worker, edge
    pub roles: Vec<String>,
    /// Address under which edges reach its replicas.
    pub address: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Replicas on it.
    pub replicas: u32,
    /// CPU in use, 0 to 1.
    pub cpu_ratio: Option<f64>,
    /// CPU, thousandths of a core.
    pub cpu_milli: u64,
    /// CPU reserved.
    pub cpu_reserved_milli: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Memory reserved.
    pub memory_reserved_bytes: u64,
    /// Version of its agent.
    pub agent_version: Option<String>,
    /// Version of its engine.
    pub engine_version: Option<String>,
    /// Last sign of life.
    pub last_seen: Option<String>,
    /// Why it is not active, in an operator's words.
    pub note: Option<String>,
    /// Why it is not ready, or takes no new replicas.
    pub reason: Option<String>,
    /// How its drain goes, while it is drained.
    pub drain: Option<Drain>,
    /// Labels of its engine.
    pub engine_labels: BTreeMap<String, String>,
    /// What does not work there.
    pub problems: Vec<String>,
    /// What works there and will hurt, in words with the way out.
    pub advice: Vec<String>,
    /// Images that it has or fetches before a replica needs them there.
    pub images_ahead: Vec<NodeImage>,
    /// Services that their data holds there, with the volume.
    pub held: Vec<String>,
}

/// How a node's drain goes.
#[derive(Debug, Serialize)]
pub struct Drain {
    /// When it was ordered.
    pub since: Option<String>,
    /// Until when all shall have moved.
    pub deadline: Option<String>,
    /// What is left then is stopped.
    pub force: bool,
    /// Replicas still there.
    pub left: u32,
    /// Of these, on their way out.
    pub leaving: u32,
    /// The deadline has passed.
    pub late: bool,
    /// What those wait for that cannot leave yet.
    pub waits: Vec<String>,
}

impl From<&pb::NodeDrain> for Drain {
    fn from(d: &pb::NodeDrain) -> Self {
        Self {
            since: time(d.since_ms),
            deadline: time(d.deadline_ms),
            force: d.force,
            left: d.left,
            leaving: d.leaving,
            late: d.late,
            waits: d.waits.clone(),
        }
    }
}

impl From<&pb::Node> for Node {
    fn from(n: &pb::Node) -> Self {
        Self {
            name: n.id.clone(),
            state: n.state.clone(),
            availability: n.availability.clone(),
            roles: n.roles.clone(),
            address: n.address.clone(),
            labels: n.labels.clone().into_iter().collect(),
            replicas: n.replicas,
            cpu_ratio: n.cpu_ratio.filter(|r| r.is_finite()),
            cpu_milli: n.cpu_milli,
            cpu_reserved_milli: n.cpu_reserved_milli,
            memory_bytes: n.memory_bytes,
            memory_used_bytes: n.memory_used_bytes,
            memory_reserved_bytes: n.memory_reserved_bytes,
            agent_version: filled(&n.agent_version),
            engine_version: filled(&n.engine_version),
            last_seen: time(n.last_seen_ms),
            note: filled(&n.note),
            reason: filled(&n.reason),
            drain: n.drain.as_ref().map(Drain::from),
            engine_labels: n.engine_labels.clone().into_iter().collect(),
            problems: n.problems.clone(),
            advice: n.advice.clone(),
            images_ahead: n.images_ahead.iter().map(NodeImage::from).collect(),
            held: n.held.clone(),
        }
    }
}
