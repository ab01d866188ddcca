//! Use of CPU and memory, read from the kernel's own files: microseconds per container, where the
//! engine's statistics take a second each.

mod cgroup;
mod host;

use std::collections::HashMap;
use std::path::PathBuf;

use longshore_model::node::Capacity;
use tokio::time::Instant;

use self::cgroup::Meter;
use self::host::Host;
use crate::runtime::EngineInfo;

/// Where the kernel's trees are; others in tests.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/sys/fs/cgroup`
    pub cgroup: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            cgroup: "/sys/fs/cgroup".into(),
            proc: "/proc".into(),
        }
    }
}

/// Use since the last sample.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// CPU of the host as a ratio of its capacity; none if it could not be read.
    pub cpu_ratio: Option<f64>,
    /// Memory in use on the host.
    pub memory_used_bytes: u64,
    /// By container.
    pub containers: HashMap<String, Use>,
}

/// Use of one container.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Use {
    /// Thousandths of a core; none at the first sample.
    pub cpu_milli: Option<f64>,
    /// Memory without file pages that the kernel may drop at any time, as `docker stats` counts
    /// it; none if it could not be read.
    pub memory_bytes: Option<u64>,
}

/// Reads use; keeps descriptors open.
#[derive(Debug)]
pub struct Sampler {
    roots: Roots,
    host: Host,
    containers: HashMap<String, Meter>,
    last: Option<Instant>,
}

impl Sampler {
    /// Looks at what the kernel offers.
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        let host = Host::open(&roots);
        Self {
            roots,
            host,
            containers: HashMap::new(),
            last: None,
        }
    }

    /// What this host has: the limits of its own cgroup, else the machine's.
    #[must_use]
    pub fn capacity(&self, engine: &EngineInfo) -> Capacity {
        Capacity {
            cpu_milli: self.host.cpu_milli(),
            memory_bytes: self.host.memory_bytes(),
            // Known before the engine has answered: the agent runs on nothing else.
            os: if engine.os.is_empty() {
                "linux".into()
            } else {
                engine.os.clone()
            },
            arch: engine.arch.clone(),
            engine_labels: engine.labels.clone(),
            volumes: engine.volumes.clone(),
        }
    }

    /// Reads everything; `ids` are the containers that run now.
    pub fn sample<'a>(&mut self, ids: impl Iterator<Item = &'a str>, now: Instant) -> Sample {
        let elapsed_us = self.last.replace(now).map(|last| (now - last).as_micros());
        let elapsed_us = elapsed_us
            .and_then(|us| u64::try_from(us).ok())
            .filter(|us| *us > 0);
        let mut before = std::mem::take(&mut self.containers);
        let mut containers = HashMap::new();
        for id in ids {
            let meter = before
                .remove(id)
                .or_else(|| Meter::open(&self.roots.cgroup, id));
            let Some(mut meter) = meter else { continue };
            // A container that ended takes its files along: it is found anew if it is restarted.
            let Some(seen) = meter.read(elapsed_us) else {
                continue;
            };
            containers.insert(id.to_owned(), seen);
            self.containers.insert(id.to_owned(), meter);
        }
        Sample {
            cpu_ratio: self.host.cpu_ratio(elapsed_us),
            memory_used_bytes: self.host.memory_used_bytes(),
            containers,
        }
    }
}

#[cfg(test)]
mod tests;
