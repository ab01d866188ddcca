//! The words of Compose's second version for what `deploy` says today.

use longshore_model::spec::{ContainerSpec, EngineOptions, ModeFault};

use crate::output::bytes;

use super::super::problem::Problems;
use super::deploy::{self, Deploy, REPLICAS_MAX};
use super::engine::{ignored, whole};
use super::item::{Fields, Item};

/// The kernel's own where the file names a quota only.
const PERIOD_US: u64 = 100_000;

/// Reads them into what `deploy` has said, which may not say otherwise.
pub(super) fn read(
    fields: &mut Fields<'_>,
    spec: &mut ContainerSpec,
    deploy: &mut Deploy,
    p: &mut Problems,
) {
    if let Some(item) = fields.take("scale")
        && let Some(count) = item.number(p, 0, REPLICAS_MAX)
    {
        let said = deploy.replicas.filter(|said| *said != count);
        clash(&item, said.is_some(), "deploy.replicas", p);
        deploy::refuse(&item, deploy.mode, ModeFault::Replicas, p);
        deploy.replicas = Some(count);
    }
    cpus(fields, spec, p);
    memory(fields, spec, p);
    if let Some(item) = fields.take("pids_limit")
        && let Some(pids) = pids(&item, p)
    {
        let said = spec.engine.pids_max;
        let path = "deploy.resources.limits.pids";
        clash(&item, said != 0 && said != pids, path, p);
        spec.engine.pids_max = pids;
    }
    if let Some(item) = fields.take("cpu_shares")
        && whole(&item, 0, i64::MAX, p).is_some()
    {
        let reason = "a replica's weight follows from deploy.resources.reservations.cpus";
        ignored(&item, p, reason);
    }
    if let Some(item) = fields.take("mem_swappiness")
        && whole(&item, 0, 100, p).is_some()
    {
        ignored(&item, p, "engines with cgroup v2 have no such control");
    }
}

fn clash(item: &Item<'_>, clashes: bool, path: &str, p: &mut Problems) {
    if clashes {
        let help = "write it once";
        item.invalid_help(p, format!("{path} says otherwise"), help);
    }
}

/// What an older key says, where `deploy` says nothing else.
fn join(item: &Item<'_>, value: u64, to: &mut u64, path: &str, p: &mut Problems) {
    clash(item, *to != 0 && *to != value, path, p);
    *to = value;
}

/// `0` and `-1` are both no limit.
pub(super) fn pids(item: &Item<'_>, p: &mut Problems) -> Option<i64> {
    let pids = whole(item, -1, EngineOptions::PIDS_MOST, p)?;
    Some(if pids == 0 { -1 } else { pids })
}

fn cpus(fields: &mut Fields<'_>, spec: &mut ContainerSpec, p: &mut Problems) {
    let (whole, quota) = (fields.take("cpus"), fields.take("cpu_quota"));
    let period = fields.take("cpu_period").map(|item| {
        let period = microseconds(&item, p);
        if period.is_some_and(|us| !(1_000..=1_000_000).contains(&us)) {
            item.invalid(p, "must be from 1000 to 1000000 microseconds");
            return PERIOD_US;
        }
        period.unwrap_or(PERIOD_US)
    });
    if let (Some(_), Some(quota)) = (&whole, &quota) {
        quota.invalid_help(p, "cpus says how many, too", "keep cpus alone");
        return;
    }
    let milli = match (&whole, &quota) {
        (Some(item), _) => item.cpu_milli(p),
        (_, Some(item)) => microseconds(item, p).map(|quota| {
            let milli = quota.saturating_mul(1_000) / period.unwrap_or(PERIOD_US);
            milli.max(u64::from(quota > 0))
        }),
        _ => None,
    };
    let Some((item, milli)) = whole.or(quota).zip(milli) else {
        return;
    };
    let r = &mut spec.resources;
    let path = "deploy.resources.limits.cpus";
    join(&item, milli, &mut r.cpu_limit_milli, path, p);
    if milli > 0 && r.cpu_reserved_milli > milli {
        item.invalid(p, "is below deploy.resources.reservations.cpus");
    }
}

/// A number of microseconds, or a time with its unit. Below 0: no limit.
fn microseconds(item: &Item<'_>, p: &mut Problems) -> Option<u64> {
    let text = item.text(p)?.trim();
    if text == "-1" {
        return Some(0);
    }
    if let Ok(us) = text.parse::<u64>() {
        return Some(us);
    }
    item.duration_ms(p).map(|ms| ms.saturating_mul(1_000))
}

fn memory(fields: &mut Fields<'_>, spec: &mut ContainerSpec, p: &mut Problems) {
    let r = &mut spec.resources;
    let limit = fields.take("mem_limit");
    let reserved = fields.take("mem_reservation");
    if let Some(item) = &limit
        && let Some(bytes) = item.bytes(p)
    {
        let path = "deploy.resources.limits.memory";
        join(item, bytes, &mut r.memory_limit_bytes, path, p);
    }
    if let Some(item) = &reserved
        && let Some(bytes) = item.bytes(p)
    {
        let text = item.text(p).unwrap_or_default();
        if text.contains('.') && !text.contains(char::is_alphabetic) {
            item.invalid(p, format!("{text} is a share of a byte"));
        }
        let path = "deploy.resources.reservations.memory";
        join(item, bytes, &mut r.memory_reserved_bytes, path, p);
    }
    let over = r.memory_limit_bytes > 0 && r.memory_reserved_bytes > r.memory_limit_bytes;
    if let (true, Some(item)) = (over, reserved.as_ref().or(limit.as_ref())) {
        item.invalid(p, "the memory that is reserved is above the limit");
    }
    if let Some(item) = fields.take("memswap_limit") {
        swap(&item, spec, p);
    }
}

/// Memory and swap together.
fn swap(item: &Item<'_>, spec: &mut ContainerSpec, p: &mut Problems) {
    let Some(text) = item.text(p) else { return };
    let limit = spec.resources.memory_limit_bytes;
    let both = match text.trim() {
        "-1" => -1,
        _ => match item.bytes(p).map(i64::try_from) {
            Some(Ok(bytes)) => bytes,
            _ => return,
        },
    };
    if both != 0 && limit == 0 {
        let help = "memswap_limit is memory and swap together: set mem_limit as well";
        item.invalid_help(p, "there is no limit of memory", help);
    } else if both > 0 && both.unsigned_abs() < limit {
        let help = format!(
            "it is memory and swap together: write at least the limit of memory, {}",
            bytes(limit)
        );
        item.invalid_help(p, "is below the limit of memory", help);
    } else {
        spec.engine.memory_swap_bytes = both;
    }
}
