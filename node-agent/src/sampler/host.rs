//! Use and capacity of the host. A host that is itself a container has its own group at the root
//! of the tree that it sees: its use and its limits are there, not in `/proc`.

use std::path::{Path, PathBuf};

use super::Roots;
use super::cgroup::{Counter, cpu_counter};

/// The kernel's clock ticks per second in `/proc/stat`: fixed on Linux since 2.6.
const TICK_US: u64 = 10_000;
/// A limit above this is none: version 1 says "no limit" with a number near 2^63.
const MEMORY_LIMIT_MAX: u64 = 1 << 60;

#[derive(Debug)]
enum CpuSource {
    Group(Counter),
    Proc(PathBuf),
}

#[derive(Debug)]
pub(super) struct Host {
    cpu: CpuSource,
    cpu_milli: u64,
    last_us: Option<u64>,
    memory: Option<(Counter, u64)>,
    meminfo: PathBuf,
}

impl Host {
    pub(super) fn open(roots: &Roots) -> Self {
        let stat = roots.proc.join("stat");
        let group = &roots.cgroup;
        let cpu = cpu_counter(group, &group.join("cpuacct"))
            .map_or_else(|| CpuSource::Proc(stat.clone()), CpuSource::Group);
        let cores_milli = cores(&stat).max(1) * 1000;
        let quota_milli = quota_milli(group).unwrap_or(u64::MAX);
        Self {
            cpu,
            cpu_milli: quota_milli.min(cores_milli).max(1),
            last_us: None,
            memory: memory_limit(group),
            meminfo: roots.proc.join("meminfo"),
        }
    }

    pub(super) fn cpu_milli(&self) -> u64 {
        self.cpu_milli
    }

    pub(super) fn cpu_ratio(&mut self, elapsed_us: Option<u64>) -> Option<f64> {
        let now_us = match &self.cpu {
            CpuSource::Group(counter) => counter.read(),
            CpuSource::Proc(stat) => proc_busy_us(stat),
        }?;
        let last_us = self.last_us.replace(now_us)?;
        let used_us = now_us.saturating_sub(last_us) as f64;
        Some(used_us * 1000.0 / (elapsed_us? as f64 * self.cpu_milli as f64))
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let total = meminfo(&self.meminfo, "MemTotal:").unwrap_or(0);
        match self.memory {
            Some((_, limit)) if total == 0 => limit,
            Some((_, limit)) => limit.min(total),
            None => total,
        }
    }

    pub(super) fn memory_used_bytes(&self) -> u64 {
        if let Some(used) = self.memory.as_ref().and_then(|(counter, _)| counter.read()) {
            return used;
        }
        let value = |key| meminfo(&self.meminfo, key).unwrap_or(0);
        value("MemTotal:").saturating_sub(value("MemAvailable:"))
    }
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Thousandths of a core that the own group may use, if it is limited.
fn quota_milli(root: &Path) -> Option<u64> {
    let (quota, period) = match read(&root.join("cpu.max")) {
        Some(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => {
            let cpu = root.join("cpu");
            (
                read(&cpu.join("cpu.cfs_quota_us"))?,
                read(&cpu.join("cpu.cfs_period_us"))?,
            )
        }
    };
    // "max" and -1 mean: no limit.
    let quota: u64 = quota.trim().parse().ok()?;
    let period: u64 = period.trim().parse().ok().filter(|period| *period > 0)?;
    Some(quota.saturating_mul(1000) / period)
}

fn memory_limit(root: &Path) -> Option<(Counter, u64)> {
    let limit = |path: PathBuf| {
        let bytes = read(&path)?.trim().parse::<u64>().ok()?;
        (bytes < MEMORY_LIMIT_MAX).then_some(bytes)
    };
    if let Some(bytes) = limit(root.join("memory.max")) {
        return Some((Counter::open(&root.join("memory.current"), None, 1)?, bytes));
    }
    let v1 = root.join("memory");
    let bytes = limit(v1.join("memory.limit_in_bytes"))?;
    Some((
        Counter::open(&v1.join("memory.usage_in_bytes"), None, 1)?,
        bytes,
    ))
}

fn cores(stat: &Path) -> u64 {
    let text = read(stat).unwrap_or_default();
    let numbered = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    text.lines().filter(numbered).count() as u64
}

/// Busy time of all cores: everything but idle and waiting for disks. Guests are in user already.
fn proc_busy_us(stat: &Path) -> Option<u64> {
    let text = read(stat)?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let busy: u64 = ticks
        .iter()
        .take(8)
        .enumerate()
        .filter(|(i, _)| *i != 3 && *i != 4)
        .map(|(_, t)| t)
        .sum();
    (ticks.len() >= 5).then_some(busy * TICK_US)
}

fn meminfo(path: &Path, key: &str) -> Option<u64> {
    let text = read(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = value.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}
