//! What a policy would have done with a load that was recorded.
//!
//! The recorded totals are given to [`crate::plan`], the very planner of the controller's loop, in a
//! cluster that is made up for it: each replica gets its equal share of CPU, memory and requests.
//!
//! # Assumptions
//! - The total load is what it was, whatever the count. Signals that a count does not divide
//!   (latency, errors, the nodes' CPU) are replayed as they were: nobody measured them with
//!   another count.
//! - A new replica is healthy at the next point. What operators said (holds, pauses, bounds,
//!   approvals) is not replayed, nor are nodes that were full or lost.
//!
//! # Caveats
//! It decides at each point, every ten seconds; the loop decides every second.

mod world;

use longshore_model::autoscale::{Metric, Signal, TargetKind};
use longshore_model::reason::ScaleCause;
use longshore_model::recording::{Load, Point};
use longshore_model::{AutoscaleSpec, ServiceKey, ServiceSpec, TimeMs};

use crate::config::PlannerConfig;
use world::World;

/// One point of a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When.
    pub at_ms: TimeMs,
    /// Replicas that were wanted.
    pub was: u32,
    /// Replicas that the policy would have wanted.
    pub would: u32,
    /// Why that changed here; none: it did not.
    pub cause: Option<ScaleCause>,
    /// Load by target, of the signal that was furthest above its target: as it was, and as it would
    /// have been. 1: at its target. None: nothing was measured.
    pub was_ratio: Option<f64>,
    /// See [`Self::was_ratio`].
    pub would_ratio: Option<f64>,
}

/// Signals of a policy of which `points` have nothing.
#[must_use]
pub fn unrecorded<'p>(policy: &'p AutoscaleSpec, points: &[Point]) -> Vec<&'p Signal> {
    let targets = policy.metrics.iter().map(|metric| &metric.signal);
    let signals = targets.chain(policy.steps.iter().map(|rule| &rule.signal));
    let mut missing: Vec<&Signal> = signals
        .filter(|signal| points.iter().all(|point| point.signal(signal).is_none()))
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// Replays points, oldest first, against a service as a file has it. One step for each point; none
/// where the service has no policy. Signals of which nothing is recorded are left out of the policy:
/// missing, they would only keep the count up.
#[must_use]
pub fn replay(
    key: &ServiceKey,
    spec: &ServiceSpec,
    points: &[Point],
    config: &PlannerConfig,
) -> Vec<Step> {
    let (Some(policy), Some(first)) = (&spec.autoscale, points.first()) else {
        return Vec::new();
    };
    let missing = unrecorded(policy, points);
    let Some(mut world) = World::new(key, spec, &missing, first, config) else {
        return Vec::new();
    };
    let step = |point: &Point| {
        let before = world.target();
        world.pass(point);
        let (would, ready) = (world.target(), world.ready());
        let cause = world.last_cause().filter(|_| would != before);
        Step {
            at_ms: point.at_ms,
            was: point.wanted,
            would,
            cause,
            was_ratio: ratio(spec, policy, point, point.ready),
            would_ratio: ratio(spec, policy, point, ready),
        }
    };
    points.iter().map(step).collect()
}

/// How far the signal that is furthest above its target is from it, if `ready` replicas share the
/// load.
fn ratio(spec: &ServiceSpec, policy: &AutoscaleSpec, point: &Point, ready: u32) -> Option<f64> {
    let ratios = policy.metrics.iter().filter_map(|metric| {
        let value = value(spec, metric, point, ready)?;
        (metric.target > 0.0).then(|| value / metric.target)
    });
    ratios.max_by(f64::total_cmp)
}

fn value(spec: &ServiceSpec, metric: &Metric, point: &Point, ready: u32) -> Option<f64> {
    let total = point.signal(&metric.signal)?;
    let shared = || (ready > 0).then(|| total / f64::from(ready));
    let value = match &metric.signal {
        Signal::Cpu | Signal::Memory => shared()? / whole(spec, &metric.signal)?,
        Signal::Errors => {
            let requests = point.load(Load::Requests)?.max(total);
            if requests <= 0.0 {
                return None;
            }
            total / requests
        }
        _ => total,
    };
    Some(match metric.kind {
        TargetKind::AverageValue => value / f64::from(ready.max(1)),
        TargetKind::Utilization | TargetKind::Value => value,
    })
}

/// What CPU and memory of a replica are a share of: its limit, else its reservation.
fn whole(spec: &ServiceSpec, signal: &Signal) -> Option<f64> {
    let resources = spec.container.resources;
    let (limit, reserved) = match signal {
        Signal::Memory => (
            resources.memory_limit_bytes,
            resources.memory_reserved_bytes,
        ),
        _ => (resources.cpu_limit_milli, resources.cpu_reserved_milli),
    };
    let whole = if limit > 0 { limit } else { reserved };
    (whole > 0).then(|| crate::window::float(whole))
}
