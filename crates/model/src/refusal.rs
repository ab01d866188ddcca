//! Why nodes cannot take a replica: one by one, and counted.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::NodeId;
use crate::spec::Constraint;

/// Why one node cannot take a replica.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// It runs no containers.
    NotWorker,
    /// It is cordoned.
    Cordoned,
    /// It is being drained.
    Draining,
    /// It is not connected, or lost.
    Away,
    /// Its engine is not there.
    EngineDown,
    /// Its engine takes calls and does not answer.
    RuntimeStuck,
    /// It was lost several times lately, and has not yet been back for long enough.
    Flapping {
        /// How often it was lost.
        losses: u32,
        /// From then on it takes replicas, if it stays.
        until_ms: TimeMs,
    },
    /// Its engine says that it has no CPU.
    NoCapacity,
    /// A constraint does not hold.
    Constraint {
        /// As written in the file.
        constraint: String,
        /// What the node has instead.
        found: String,
    },
    /// It has as many replicas of the service as allowed.
    MaxPerNode {
        /// The limit.
        max: u32,
    },
    /// Its CPU is reserved.
    Cpu {
        /// What is left, thousandths of a core.
        free_milli: u64,
        /// What was asked for.
        asked_milli: u64,
    },
    /// Its memory is reserved.
    Memory {
        /// What is left.
        free_bytes: u64,
        /// What was asked for.
        asked_bytes: u64,
    },
    /// No host port is left in the range.
    Ports,
    /// The one host port that the replica needs is in use there.
    HostPort {
        /// The port.
        port: u16,
    },
    /// The data of a volume is on another node.
    VolumeElsewhere {
        /// As engines call it.
        volume: String,
        /// Where it is.
        home: NodeId,
    },
    /// A volume that nobody makes for its service is not there.
    VolumeMissing {
        /// As engines call it.
        volume: String,
    },
    /// The image is for another platform.
    Platform {
        /// Of the image.
        wanted: String,
        /// Of the node.
        found: String,
    },
}

/// That none of `all` nodes fits, and why, by kind.
pub(crate) fn nobody_fits(
    f: &mut fmt::Formatter<'_>,
    all: usize,
    counts: &[RefusalCount],
) -> fmt::Result {
    write!(f, "0 of {all} nodes fit")?;
    for (n, count) in counts.iter().enumerate() {
        let sign = if n == 0 { ": " } else { ", " };
        write!(f, "{sign}{}", count.kind.of_nodes(count.nodes))?;
    }
    Ok(())
}

/// Why the node that has a volume's data takes no replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeRefusal {
    /// As engines call it.
    pub volume: String,
    /// Its home.
    pub node: NodeId,
    /// What speaks against that.
    pub why: Refusal,
}

impl fmt::Display for HomeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volume, node, why } = self;
        write!(f, "its volume {volume} is on {node}, ")?;
        match why {
            Refusal::Draining | Refusal::Cordoned => {
                let is = match why {
                    Refusal::Draining => "drained",
                    _ => "cordoned",
                };
                write!(
                    f,
                    "which is {is}: controllerctl node uncordon {node}; or, to give its data up: \
                     controllerctl volume rm {volume} --node {node}"
                )
            }
            Refusal::Away => write!(
                f,
                "which is not connected: it waits for that node; or, to give its data up: \
                 controllerctl node rm {node} --force"
            ),
            Refusal::VolumeElsewhere {
                volume: other,
                home,
            } => write!(
                f,
                "and its volume {other} on {home}: no node has both; to give one up: \
                 controllerctl volume rm {volume} --node {node}, or controllerctl volume rm \
                 {other} --node {home}"
            ),
            why => write!(f, "and that node takes none: {why}"),
        }
    }
}

/// How many nodes refuse for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalCount {
    /// The reason, without what differs from node to node (see [`Refusal::kind`]).
    pub kind: Refusal,
    /// Nodes.
    pub nodes: u32,
}

impl Refusal {
    /// A constraint that does not hold where its attribute has these values.
    #[must_use]
    pub fn of_constraint(constraint: &Constraint, found: &[&str]) -> Self {
        Self::Constraint {
            constraint: constraint.to_string(),
            found: match found {
                [] | [""] => format!("no {}", constraint.attribute),
                values => values.join(", "),
            },
        }
    }

    /// The reason without what differs from node to node: what is free, what was found. Equal
    /// kinds are counted together.
    #[must_use]
    pub fn kind(&self) -> Self {
        let mut kind = self.clone();
        match &mut kind {
            Self::Constraint { found, .. } | Self::Platform { found, .. } => found.clear(),
            Self::Cpu { free_milli, .. } => *free_milli = 0,
            Self::Memory { free_bytes, .. } => *free_bytes = 0,
            Self::Flapping { losses, until_ms } => (*losses, *until_ms) = (0, 0),
            _ => {}
        }
        kind
    }

    /// Are both of one kind? As `self.kind() == other.kind()`, without a copy.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Constraint { constraint: a, .. }, Self::Constraint { constraint: b, .. }) => {
                a == b
            }
            (Self::Cpu { asked_milli: a, .. }, Self::Cpu { asked_milli: b, .. }) => a == b,
            (Self::Memory { asked_bytes: a, .. }, Self::Memory { asked_bytes: b, .. }) => a == b,
            (Self::MaxPerNode { max: a }, Self::MaxPerNode { max: b }) => a == b,
            (Self::HostPort { port: a, .. }, Self::HostPort { port: b, .. }) => a == b,
            (Self::Platform { wanted: a, .. }, Self::Platform { wanted: b, .. }) => a == b,
            (Self::VolumeElsewhere { .. }, Self::VolumeElsewhere { .. })
            | (Self::VolumeMissing { .. }, Self::VolumeMissing { .. }) => self == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// What `nodes` nodes of this kind have in common, as the end of a sentence whose subject is
    /// their number: `2 lack 512 MiB of memory`.
    #[must_use]
    pub fn of_nodes(&self, nodes: u32) -> String {
        const MIB: u64 = 1 << 20;
        let one = nodes == 1;
        let (are, lack, have, run) = match one {
            true => ("is", "lacks", "has", "runs"),
            false => ("are", "lack", "have", "run"),
        };
        match self {
            Self::NotWorker => format!("{nodes} {run} no containers"),
            Self::Cordoned => format!("{nodes} {are} cordoned"),
            Self::Draining => format!("{nodes} {are} draining"),
            Self::Away => format!("{nodes} {are} not connected"),
            Self::EngineDown => format!("{nodes} {lack} a working engine"),
            Self::RuntimeStuck => format!("{nodes} {have} a stuck container engine"),
            Self::Flapping { .. } => format!("{nodes} came and went too often lately"),
            Self::NoCapacity => format!("{nodes} {have} no cpu at all"),
            Self::Constraint { constraint, .. } => {
                let label = |text: &str| text.replace("node.labels.", "label ");
                match (constraint.split_once(" == "), constraint.split_once(" != ")) {
                    (Some((key, value)), _) => format!("{nodes} {lack} {}={value}", label(key)),
                    (_, Some((key, value))) => format!("{nodes} {have} {}={value}", label(key)),
                    _ => format!("{nodes} {lack} {constraint}"),
                }
            }
            Self::MaxPerNode { max } => format!("{nodes} {have} {max} already, the most allowed"),
            Self::Cpu { asked_milli, .. } => format!("{nodes} {lack} {asked_milli}m of cpu"),
            Self::Memory { asked_bytes, .. } => {
                format!("{nodes} {lack} {} MiB of memory", asked_bytes.div_ceil(MIB))
            }
            Self::Ports => format!("{nodes} {lack} a free host port"),
            Self::HostPort { port } => format!("{nodes} {have} port {port} in use"),
            Self::VolumeElsewhere { volume, home } => {
                format!("{nodes} {lack} the data of volume {volume}, which is on {home}")
            }
            Self::VolumeMissing { volume } => format!(
                "{nodes} {lack} external volume {volume} (make it on one: docker volume create \
                 {volume}; or drop external from the file)"
            ),
            Self::Platform { wanted, .. } => format!("{nodes} {are} not {wanted}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        match self {
            Self::NotWorker => f.write_str("runs no containers (edge only)"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Draining => f.write_str("draining"),
            Self::Away => f.write_str("not connected"),
            Self::EngineDown => f.write_str("its container engine does not answer"),
            Self::RuntimeStuck => f.write_str("runtime stuck: its container engine hangs"),
            Self::Flapping { losses, .. } => write!(
                f,
                "flapping: it was lost {losses} times lately, and takes replicas again once it \
                 has stayed long enough"
            ),
            Self::NoCapacity => f.write_str("its container engine says that it has no cpu"),
            Self::Constraint { constraint, found } => {
                write!(f, "constraint {constraint} does not hold ({found})")
            }
            Self::MaxPerNode { max } => {
                let replicas = if *max == 1 { "replica" } else { "replicas" };
                write!(
                    f,
                    "has {max} {replicas} of the service, the most allowed per node"
                )
            }
            Self::Cpu {
                free_milli,
                asked_milli,
            } => write!(
                f,
                "cpu: {free_milli}m free of reservations, {asked_milli}m asked for"
            ),
            Self::Memory {
                free_bytes,
                asked_bytes,
            } => write!(
                f,
                "memory: {} MiB free of reservations, {} MiB asked for",
                free_bytes / MIB,
                asked_bytes / MIB
            ),
            Self::Ports => f.write_str("no host port left in the range"),
            Self::HostPort { port } => write!(f, "host port {port} is in use"),
            Self::VolumeElsewhere { volume, home } => {
                write!(f, "the data of volume {volume} is on {home}")
            }
            Self::VolumeMissing { volume } => {
                write!(f, "external volume {volume} is not there")
            }
            Self::Platform { wanted, found } => {
                write!(f, "the image is for {wanted}, the node is {found}")
            }
        }
    }
}

impl RefusalCount {
    /// Counts refusals by kind: the most frequent first, at most `kinds_max` of them.
    #[must_use]
    pub fn of<'r>(refusals: impl IntoIterator<Item = &'r Refusal>, kinds_max: usize) -> Vec<Self> {
        let mut kinds: BTreeMap<Refusal, u32> = BTreeMap::new();
        for refusal in refusals {
            *kinds.entry(refusal.kind()).or_default() += 1;
        }
        let mut counts: Vec<Self> = kinds
            .into_iter()
            .map(|(kind, nodes)| Self { kind, nodes })
            .collect();
        counts.sort_by_key(|count| Reverse(count.nodes));
        counts.truncate(kinds_max);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_what_they_have_in_common() {
        let memory = |free_bytes| Refusal::Memory {
            free_bytes,
            asked_bytes: 512 << 20,
        };
        let ssd = Refusal::Constraint {
            constraint: "node.labels.ssd == true".into(),
            found: "no node.labels.ssd".into(),
        };
        let counts = RefusalCount::of(&[ssd, memory(1), memory(2)], 8);
        let said: Vec<String> = counts.iter().map(|c| c.kind.of_nodes(c.nodes)).collect();
        assert_eq!(said, ["2 lack 512 MiB of memory", "1 lacks label ssd=true"]);
        assert_eq!(RefusalCount::of(&[memory(1), Refusal::Away], 1).len(), 1);
    }
}
