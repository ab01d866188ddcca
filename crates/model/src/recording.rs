//! What was measured of a service over time, in points of [`RESOLUTION_MS`].
//!
//! A point holds totals over all replicas, so that it can be said what each of another number of
//! replicas would have had.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::autoscale::Signal;

/// Time between two points.
pub const RESOLUTION_MS: u64 = 10_000;
/// Points of 24 hours.
pub const POINTS_MAX: usize = 8_640;
/// Most queries outside the cluster that are recorded of one service.
pub const QUERIES_MAX: usize = 4;

/// What is recorded of every service, in the order of [`Point::loads`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// Thousandths of a core, of all replicas together.
    Cpu,
    /// Bytes, of all replicas together.
    Memory,
    /// Mean CPU ratio of the nodes that may run the service.
    NodeCpu,
    /// Requests a second.
    Requests,
    /// Requests that wait.
    Queue,
    /// Requests at work at a time.
    Concurrency,
    /// Mean response time in milliseconds.
    Latency,
    /// Errors a second.
    Errors,
}

impl Load {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Cpu,
        Self::Memory,
        Self::NodeCpu,
        Self::Requests,
        Self::Queue,
        Self::Concurrency,
        Self::Latency,
        Self::Errors,
    ];

    /// Its place in [`Point::loads`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// What a signal is read from; none: from outside the cluster.
    #[must_use]
    pub fn of(signal: &Signal) -> Option<Self> {
        Some(match signal {
            Signal::Cpu => Self::Cpu,
            Signal::Memory => Self::Memory,
            Signal::NodeCpu => Self::NodeCpu,
            Signal::Requests => Self::Requests,
            Signal::Queue => Self::Queue,
            Signal::Concurrency => Self::Concurrency,
            Signal::Latency => Self::Latency,
            Signal::Errors => Self::Errors,
            Signal::Prometheus(_) => return None,
        })
    }

    /// The signal's word in Compose files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::NodeCpu => "node_cpu",
            Self::Requests => "requests",
            Self::Queue => "queue",
            Self::Concurrency => "concurrency",
            Self::Latency => "latency",
            Self::Errors => "errors",
        }
    }
}

/// One point: means over the time since the one before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Point {
    /// Its end; a multiple of [`RESOLUTION_MS`].
    pub at_ms: TimeMs,
    /// Replicas wanted.
    pub wanted: u32,
    /// Healthy replicas that stay: those that shared the load.
    pub ready: u32,
    /// By [`Load::index`]; none: not measured. Never negative, always finite.
    pub loads: [Option<f64>; Load::ALL.len()],
    /// Answers from outside the cluster by query; at most [`QUERIES_MAX`].
    #[serde(default)]
    pub external: BTreeMap<String, f64>,
}

impl Point {
    /// One load.
    #[must_use]
    pub fn load(&self, load: Load) -> Option<f64> {
        self.loads[load.index()]
    }

    /// What a signal is made of, as a total; none: not measured then.
    #[must_use]
    pub fn signal(&self, signal: &Signal) -> Option<f64> {
        match (Load::of(signal), signal) {
            (Some(load), _) => self.load(load),
            (None, Signal::Prometheus(external)) => self.external.get(&external.query).copied(),
            (None, _) => None,
        }
    }
}
