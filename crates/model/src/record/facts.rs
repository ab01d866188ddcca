//! What the filters looked at: what was asked of a node, and what is true of it.
//!
//! The planner filters by its own tables, which costs less; whether these facts give the same
//! answer is tested for every record of its tests.

use serde::{Deserialize, Serialize};

use super::PlacementAsked;
use crate::id::NodeId;
use crate::node::Availability;
use crate::reason::Refusal;
use crate::report::NodeState;
use crate::spec::Constraint;

/// What the filters know of one node at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Which node.
    pub node: NodeId,
    /// It runs containers.
    pub worker: bool,
    /// What operators want of it.
    pub availability: Availability,
    /// As the planner judges it.
    pub state: NodeState,
    /// Its capacity is known: it was seen.
    pub seen: bool,
    /// It comes and goes: the refusal that follows from that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flapping: Option<Refusal>,
    /// For each of [`PlacementAsked::constraints`] the values of its attribute there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Vec<String>>,
    /// Its operating system and architecture, where the image is for a certain platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<(String, String)>,
    /// The first volume whose data is elsewhere, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<(String, NodeId)>,
    /// The first volume that nobody makes for the service and that is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Replicas of the service there, of those that stay.
    pub of_service: u32,
    /// CPU, thousandths of a core.
    pub cpu_milli: u64,
    /// Of this, reserved.
    pub cpu_reserved_milli: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Of this, reserved.
    pub memory_reserved_bytes: u64,
    /// Of [`PlacementAsked::fixed_ports`], those in use there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<u16>,
    /// Host ports of the range that replicas hold there.
    pub ports_used: u32,
    /// The search for a host port found none: others than replicas hold what the range has left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_port: bool,
}

impl NodeFacts {
    /// Why the node cannot take one more replica of what is asked, if it cannot: the filters once
    /// more, in their order.
    #[must_use]
    pub fn refusal(&self, asked: &PlacementAsked) -> Option<Refusal> {
        let refused = self.state_refusal();
        let refused = refused.or_else(|| self.constraint_refusal(&asked.constraints));
        let refused = refused.or_else(|| self.platform_refusal(asked));
        let refused = refused.or_else(|| self.volume_refusal());
        refused.or_else(|| self.room_refusal(asked))
    }

    fn volume_refusal(&self) -> Option<Refusal> {
        let elsewhere = self.elsewhere.clone();
        let elsewhere = elsewhere.map(|(volume, home)| Refusal::VolumeElsewhere { volume, home });
        elsewhere.or_else(|| {
            let volume = self.missing.clone()?;
            Some(Refusal::VolumeMissing { volume })
        })
    }

    fn state_refusal(&self) -> Option<Refusal> {
        match (self.worker, self.availability, self.state) {
            (false, ..) => Some(Refusal::NotWorker),
            (_, Availability::Cordoned, _) => Some(Refusal::Cordoned),
            (_, Availability::Draining, _) => Some(Refusal::Draining),
            (.., NodeState::EngineDown) => Some(Refusal::EngineDown),
            (.., NodeState::RuntimeStuck) => Some(Refusal::RuntimeStuck),
            (.., NodeState::Ready) if self.flapping.is_some() => self.flapping.clone(),
            (.., NodeState::Ready) if self.seen && self.cpu_milli == 0 => Some(Refusal::NoCapacity),
            (.., NodeState::Ready) if self.seen => None,
            _ => Some(Refusal::Away),
        }
    }

    fn constraint_refusal(&self, constraints: &[Constraint]) -> Option<Refusal> {
        let all = constraints.iter().enumerate();
        let found = |number: usize| {
            let values = self.found.get(number).map_or(&[][..], Vec::as_slice);
            values.iter().map(String::as_str)
        };
        let mut broken = all.filter(|(number, constraint)| !constraint.holds(found(*number)));
        broken.next().map(|(number, constraint)| {
            Refusal::of_constraint(constraint, &found(number).collect::<Vec<_>>())
        })
    }

    fn platform_refusal(&self, asked: &PlacementAsked) -> Option<Refusal> {
        let platform = asked.platform.as_ref()?;
        let (os, arch) = self.platform.as_ref()?;
        (!platform.runs_on(os, arch)).then(|| Refusal::Platform {
            wanted: platform.to_string(),
            found: format!("{os}/{arch}"),
        })
    }

    fn room_refusal(&self, asked: &PlacementAsked) -> Option<Refusal> {
        let max = asked.max_per_node;
        if max > 0 && self.of_service >= max {
            return Some(Refusal::MaxPerNode { max });
        }
        let free_milli = self.cpu_milli.saturating_sub(self.cpu_reserved_milli);
        if asked.cpu_milli > free_milli {
            return Some(Refusal::Cpu {
                free_milli,
                asked_milli: asked.cpu_milli,
            });
        }
        let free_bytes = self.memory_bytes.saturating_sub(self.memory_reserved_bytes);
        if asked.memory_bytes > free_bytes {
            return Some(Refusal::Memory {
                free_bytes,
                asked_bytes: asked.memory_bytes,
            });
        }
        let taken = |port: &&u16| self.taken.contains(port);
        if let Some(&port) = asked.fixed_ports.iter().find(taken) {
            return Some(Refusal::HostPort { port });
        }
        let short = self.ports_used.saturating_add(asked.ports) > asked.port_range;
        (asked.ports > 0 && (short || self.no_port)).then_some(Refusal::Ports)
    }
}
