//! Counters of one control group, version 1 and 2.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Use;

/// A counter file that stays open: half a microsecond per reading.
#[derive(Debug)]
pub(super) struct Counter {
    file: File,
    /// Prefix of the line with the value; none: the file is the value.
    key: Option<&'static str>,
    /// Units per microsecond (or per byte).
    divisor: u64,
}

impl Counter {
    pub(super) fn open(path: &Path, key: Option<&'static str>, divisor: u64) -> Option<Self> {
        let counter = Self {
            file: File::open(path).ok()?,
            key,
            divisor,
        };
        counter.read().is_some().then_some(counter)
    }

    pub(super) fn read(&self) -> Option<u64> {
        let mut bytes = [0; 4096];
        let count = self.file.read_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(bytes.get(..count)?).ok()?;
        let value = match self.key {
            None => text.trim(),
            Some(key) => text.lines().find_map(|line| {
                line.strip_prefix(key)
                    .and_then(|rest| rest.strip_prefix(' '))
            })?,
        };
        Some(value.trim().parse::<u64>().ok()? / self.divisor)
    }
}

/// CPU time in microseconds: version 2, else version 1 (nanoseconds).
pub(super) fn cpu_counter(v2: &Path, v1: &Path) -> Option<Counter> {
    Counter::open(&v2.join("cpu.stat"), Some("usage_usec"), 1)
        .or_else(|| Counter::open(&v1.join("cpuacct.usage"), None, 1_000))
}

/// Counters of one container.
#[derive(Debug)]
pub(super) struct Meter {
    cpu: Counter,
    memory: Option<Counter>,
    /// File pages that were not used lately: they are given back under pressure.
    inactive: Option<Counter>,
    last_us: Option<u64>,
}

impl Meter {
    /// Finds the group that the engine made, under either of its drivers.
    pub(super) fn open(root: &Path, id: &str) -> Option<Self> {
        let plain = |c: u8| c.is_ascii_hexdigit();
        if id.is_empty() || !id.bytes().all(plain) {
            return None;
        }
        let groups = [
            format!("docker/{id}"),
            format!("system.slice/docker-{id}.scope"),
        ];
        groups.iter().find_map(|group| {
            let v1 = root.join("cpuacct").join(group);
            let cpu = cpu_counter(&root.join(group), &v1)?;
            let (v2, v1) = (root.join(group), root.join("memory").join(group));
            let memory = Counter::open(&v2.join("memory.current"), None, 1)
                .or_else(|| Counter::open(&v1.join("memory.usage_in_bytes"), None, 1));
            let inactive = Counter::open(&v2.join("memory.stat"), Some("inactive_file"), 1)
                .or_else(|| Counter::open(&v1.join("memory.stat"), Some("total_inactive_file"), 1));
            Some(Self {
                cpu,
                memory,
                inactive,
                last_us: None,
            })
        })
    }

    pub(super) fn read(&mut self, elapsed_us: Option<u64>) -> Option<Use> {
        let now_us = self.cpu.read()?;
        let last_us = self.last_us.replace(now_us);
        let cpu_milli = last_us.zip(elapsed_us).map(|(last_us, elapsed_us)| {
            now_us.saturating_sub(last_us) as f64 * 1000.0 / elapsed_us as f64
        });
        let inactive = self.inactive.as_ref().and_then(Counter::read).unwrap_or(0);
        let memory_bytes = self.memory.as_ref().and_then(Counter::read);
        let memory_bytes = memory_bytes.map(|used| used.saturating_sub(inactive));
        Some(Use {
            cpu_milli,
            memory_bytes,
        })
    }
}
