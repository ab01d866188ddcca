//! One point of each service, from what nodes and edges said since the last one.

use longshore_model::autoscale::Signal;
use longshore_model::autoscale::TargetKind;
use longshore_model::observe::{BackendSample, EdgeObserved, mean};
use longshore_model::plan::ServicePlan;
use longshore_model::recording::{Load, Point, QUERIES_MAX, RESOLUTION_MS};
use longshore_model::report::{ServiceReport, SignalRule};
use longshore_model::{AutoscaleSpec, Observed, Plan, ReplicaState, Report, ServiceKey, TimeMs};

/// What a point is made from.
pub(super) struct Seen<'s> {
    pub observed: &'s Observed,
    pub report: &'s Report,
    /// A multiple of the resolution.
    pub at_ms: TimeMs,
    pub now_ms: TimeMs,
}

/// Points of all services of the plan.
pub(super) fn points<'p>(
    plan: &'p Plan,
    policy: impl Fn(&ServiceKey) -> Option<AutoscaleSpec> + 'p,
    seen: &'p Seen<'p>,
) -> impl Iterator<Item = (&'p ServiceKey, Point)> {
    plan.services.iter().map(move |(key, service)| {
        let mut point = of_replicas(service, seen);
        of_edges(key, service, seen, &mut point);
        if let (Some(policy), Some(report)) = (policy(key), seen.report.services.get(key)) {
            of_policy(&policy, report, &mut point);
        }
        (key, point)
    })
}

fn of_replicas(service: &ServicePlan, seen: &Seen<'_>) -> Point {
    let mut point = Point {
        at_ms: seen.at_ms,
        wanted: service.target,
        ..Point::default()
    };
    let (now_ms, from_ms) = (seen.now_ms, seen.now_ms.saturating_sub(RESOLUTION_MS));
    let mut sums = [(0.0, 0_u32); 2];
    let stay = |replica: &&std::sync::Arc<longshore_model::Replica>| {
        replica.leaving.is_none() && !replica.paused
    };
    for replica in service.replicas.values().filter(stay) {
        let Some(node) = seen.observed.nodes.get(&replica.node) else {
            continue;
        };
        let status = node.replicas.get(&replica.id);
        if status.is_none_or(|status| status.state != ReplicaState::Healthy) {
            continue;
        }
        point.ready = point.ready.saturating_add(1);
        let Some(samples) = node.samples.replicas.get(&replica.id) else {
            continue;
        };
        let rings = [&samples.cpu_milli, samples.memory_samples.as_ref()];
        for (ring, (sum, count)) in rings.into_iter().zip(&mut sums) {
            if let Some(value) = mean(ring, from_ms, now_ms, RESOLUTION_MS) {
                *sum += value;
                *count += 1;
            }
        }
    }
    // Those that were not measured had as much as the others.
    let total = |(sum, count): (f64, u32)| {
        (count > 0).then(|| sum / f64::from(count) * f64::from(point.ready))
    };
    let [cpu, memory] = sums.map(total);
    point.loads[Load::Cpu.index()] = cpu;
    point.loads[Load::Memory.index()] = memory;
    point
}

/// Counters of one edge since the last point.
#[derive(Default)]
struct Counted {
    requests: f64,
    errors: f64,
    response_ms: f64,
    span_ms: f64,
    queue: f64,
    concurrency: f64,
    samples: f64,
}

fn of_edges(key: &ServiceKey, service: &ServicePlan, seen: &Seen<'_>, point: &mut Point) {
    if service.routes.is_empty() {
        return;
    }
    let connected = |edge: &&std::sync::Arc<EdgeObserved>| edge.session.connected;
    let (mut sums, mut any) = (Counted::default(), false);
    let (mut rate, mut errors) = (0.0, 0.0);
    for edge in seen.observed.edges.values().filter(connected) {
        let Some(backend) = edge.backends.get(key) else {
            continue;
        };
        let counted = counted(&backend.samples, seen.now_ms);
        if counted.span_ms <= 0.0 || counted.samples <= 0.0 {
            continue;
        }
        any = true;
        rate += counted.requests * 1_000.0 / counted.span_ms;
        errors += counted.errors * 1_000.0 / counted.span_ms;
        sums.requests += counted.requests;
        sums.response_ms += counted.response_ms;
        sums.queue += counted.queue / counted.samples;
        sums.concurrency += counted.concurrency / counted.samples;
    }
    if !any {
        return;
    }
    let mut put = |load: Load, value: f64| point.loads[load.index()] = Some(value);
    put(Load::Requests, rate);
    put(Load::Errors, errors);
    put(Load::Queue, sums.queue);
    put(Load::Concurrency, sums.concurrency);
    if sums.requests > 0.0 {
        put(Load::Latency, sums.response_ms / sums.requests);
    }
}

fn counted(samples: &[BackendSample], now_ms: TimeMs) -> Counted {
    let from_ms = now_ms.saturating_sub(RESOLUTION_MS);
    let mut counted = Counted::default();
    let inside = |sample: &&BackendSample| sample.at_ms > from_ms && sample.at_ms <= now_ms;
    for sample in samples.iter().filter(inside) {
        let queued = f64::from(sample.queued);
        let by_time = f64::from(sample.rate) * f64::from(sample.response_ms) / 1_000.0;
        counted.queue += queued;
        counted.concurrency += (f64::from(sample.sessions) - queued).max(by_time).max(0.0);
        counted.samples += 1.0;
    }
    for pair in samples.windows(2) {
        let [before, after] = pair else { continue };
        if !inside(&after) || after.at_ms <= before.at_ms {
            continue;
        }
        let requests = after.requests_total.checked_sub(before.requests_total);
        let errors = after.errors_total.checked_sub(before.errors_total);
        // A counter that went back began anew.
        let (Some(requests), Some(errors)) = (requests, errors) else {
            continue;
        };
        counted.requests += float(requests);
        counted.errors += float(errors);
        counted.response_ms += float(requests) * f64::from(after.response_ms);
        counted.span_ms += float(after.at_ms - before.at_ms);
    }
    counted
}

/// What only the policy in force asks for: the nodes' CPU and numbers from outside, as its last
/// decision saw them.
fn of_policy(policy: &AutoscaleSpec, report: &ServiceReport, point: &mut Point) {
    let targets = policy.metrics.iter().map(|metric| &metric.signal);
    for signal in targets.chain(policy.steps.iter().map(|rule| &rule.signal)) {
        let name = signal.to_string();
        let found = report.scale.signals.iter().find(|s| s.signal == name);
        let Some((found, value)) = found.and_then(|s| Some((s, s.value?))) else {
            continue;
        };
        let shared = matches!(
            found.rule,
            SignalRule::Target {
                kind: TargetKind::AverageValue,
                ..
            }
        );
        let by = if shared {
            f64::from(report.scale.current.max(1))
        } else {
            1.0
        };
        match signal {
            Signal::NodeCpu => point.loads[Load::NodeCpu.index()] = Some(value * by),
            Signal::Prometheus(external) if point.external.len() < QUERIES_MAX => {
                point.external.insert(external.query.clone(), value * by);
            }
            _ => {}
        }
    }
}

/// Counts and times of measurements need no more precision than a double has.
#[allow(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}
