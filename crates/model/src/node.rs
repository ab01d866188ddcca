//! Machines.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::NodeId;

/// A machine with an agent, as the cluster knows it (not as it was last seen).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id: the name it joined under.
    pub id: NodeId,
    /// What it does.
    pub roles: Roles,
    /// Labels for constraints.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What operators want of it.
    pub availability: Availability,
    /// Address under which edges reach its replicas.
    pub address: IpAddr,
    /// When it joined.
    pub joined_ms: TimeMs,
    /// Why it is not active, in the operator's words, and when that was said.
    #[serde(default)]
    pub note: Option<AvailabilityNote>,
    /// How it is drained, while it is.
    #[serde(default)]
    pub drain: Option<DrainOrder>,
    /// When somebody last took it back (`uncordon`): losses of before are forgiven.
    #[serde(default, skip_serializing_if = "is_never")]
    pub uncordoned_ms: TimeMs,
    /// Volumes that were removed there, and when: homes of theirs that are older are over. At most
    /// [`REMOVED_VOLUMES_MAX`], the newest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed_volumes: BTreeMap<String, TimeMs>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_never(at_ms: &TimeMs) -> bool {
    *at_ms == 0
}

/// Most entries of [`Node::removed_volumes`]. The planner obeys one within seconds.
pub const REMOVED_VOLUMES_MAX: usize = 256;

impl Node {
    /// When its engine says that its copy of a volume was made, if it has one; not that which was
    /// removed since it said so.
    #[must_use]
    pub fn copy_ms(&self, volume: &str, capacity: &Capacity) -> Option<TimeMs> {
        let made_ms = *capacity.volumes.as_ref()?.get(volume)?;
        let removed_ms = self.removed_volumes.get(volume);
        removed_ms
            .is_none_or(|removed_ms| *removed_ms < made_ms)
            .then_some(made_ms)
    }

    /// Notes that a volume was removed there.
    pub fn volume_removed(&mut self, name: String, at_ms: TimeMs) {
        self.removed_volumes.insert(name, at_ms);
        while self.removed_volumes.len() > REMOVED_VOLUMES_MAX {
            let oldest = self.removed_volumes.iter().min_by_key(|(_, at_ms)| **at_ms);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            self.removed_volumes.remove(&oldest);
        }
    }
}

/// How a node is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOrder {
    /// When it was ordered.
    pub since_ms: TimeMs,
    /// Until then all its replicas shall have moved.
    pub deadline_ms: TimeMs,
    /// What is still there then is stopped, even if fewer replicas serve than should. Otherwise
    /// the drain goes on and says what it waits for.
    pub force: bool,
}

/// What a node does. At least one is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roles {
    /// Runs containers.
    pub worker: bool,
    /// Runs HAProxy.
    pub edge: bool,
}

/// What operators want of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Takes new replicas.
    #[default]
    Active,
    /// Keeps what it has, takes nothing new.
    Cordoned,
    /// Gives everything away.
    Draining,
}

/// Who changed the availability, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailabilityNote {
    /// When.
    pub at_ms: TimeMs,
    /// Operator.
    pub by: String,
    /// In their words; may be empty.
    pub message: String,
}

/// What a node has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// CPU, thousandths of a core.
    pub cpu_milli: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, …: the engine's word for it.
    pub arch: String,
    /// Labels of its engine (`labels` in `daemon.json`), for constraints on `engine.labels.*`.
    #[serde(default)]
    pub engine_labels: BTreeMap<String, String>,
    /// Its volumes that have a name, whoever made them, and when by the node's own clock; 0: not
    /// known. None: it does not say, or has more than [`VOLUMES_TOLD_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, TimeMs>>,
}

/// Most entries of [`Capacity::volumes`].
pub const VOLUMES_TOLD_MAX: usize = 512;

impl Capacity {
    /// The first of these volumes that the node says it does not have.
    pub fn lacks<'v>(&self, mut volumes: impl Iterator<Item = &'v str>) -> Option<&'v str> {
        let here = self.volumes.as_ref()?;
        volumes.find(|volume| !here.contains_key(*volume))
    }
}
