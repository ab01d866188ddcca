//! Load: each signal over its window, from samples that can be trusted, and how many sources had
//! any.

pub(crate) use longshore_model::observe::mean;

use longshore_model::autoscale::{ExternalQuery, Signal};
use longshore_model::node::Availability;
use longshore_model::observe::BackendSample;
use longshore_model::replica::{ReplicaState, ReplicaStatus};
use longshore_model::report::{DropReason, NodeState, Trust};
use longshore_model::{AutoscaleSpec, TimeMs};

use crate::draft::Draft;
use crate::place::constraint_refusal;
use crate::window::{Counts, Span, Tally, float};

/// A signal over its window.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Mean over the good sources; of what edges and Prometheus count, the sum.
    pub value: Option<f64>,
    pub tally: Tally,
    /// The signal cannot exist for this service.
    pub undefined: bool,
    /// Everything was seen, and it is too little to say anything.
    pub idle: bool,
    /// What its source said instead of a value.
    pub problem: Option<String>,
    /// When its source was asked last.
    pub tried_ms: Option<TimeMs>,
    /// When its source last gave a value.
    pub answered_ms: Option<TimeMs>,
}

impl Reading {
    /// How far it can be trusted: of nodes and replicas 80 % must have good samples, of edges all,
    /// since each has its own part of the load, and a source outside must have answered when it was
    /// asked last.
    pub(crate) fn trust(&self, signal: &Signal) -> Trust {
        let (good, all) = (u64::from(self.tally.good), u64::from(self.tally.all));
        let least = if signal.of_edges() { 100 } else { 80 };
        #[cfg(feature = "mutants")]
        let least =
            match longshore_model::mutant::is(longshore_model::Mutant::ScaleInWithoutSamples) {
                true => 0,
                false => least,
            };
        match (self.undefined, good) {
            (true, _) => Trust::Undefined,
            (false, 0) => Trust::Missing,
            _ if good * 100 < all * least => Trust::Partial,
            // What it said last is not what it says now.
            _ if self.problem.is_some() => Trust::Partial,
            _ if self.idle => Trust::Idle,
            _ => Trust::Good,
        }
    }
}

/// Reads a signal.
pub(crate) fn read(
    draft: &Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    signal: &Signal,
) -> Reading {
    match signal {
        Signal::NodeCpu => node_cpu(draft, service, policy),
        Signal::Cpu | Signal::Memory => share(draft, service, policy, signal),
        Signal::Queue | Signal::Concurrency => at_a_time(draft, service, policy, signal),
        Signal::Requests | Signal::Latency | Signal::Errors => {
            counted(draft, service, policy, signal)
        }
        Signal::Prometheus(query) => external(draft, service, policy, query),
    }
}

fn span(draft: &Draft<'_>, policy: &AutoscaleSpec) -> Span {
    Span {
        now_ms: draft.input.now_ms,
        window_ms: policy.window_ms,
        from_ms: 0,
        stale_ms: draft.input.config.sample_stale_ms,
    }
}

/// Mean CPU ratio of the nodes that may host the service, or that host it although they may not
/// take more.
fn node_cpu(draft: &Draft<'_>, service: usize, policy: &AutoscaleSpec) -> Reading {
    let slot = &draft.services[service];
    let (mut sum, mut reading) = (0.0, Reading::default());
    let Some(spec) = slot.spec else {
        return reading;
    };
    let (hosts, span) = (draft.hosts(service), span(draft, policy));
    for (number, node) in draft.cluster.nodes.iter().enumerate() {
        let may = node.node.roles.worker
            && constraint_refusal(node, &spec.placement.constraints).is_none();
        let takes_part = node.node.availability == Availability::Active || hosts[number];
        let there = !matches!(node.state, NodeState::Lost | NodeState::Unknown);
        if !(may && takes_part && there) {
            continue;
        }
        if node.state != NodeState::Ready {
            reading.tally.all += 1;
            reading.tally.drop(DropReason::Silent, node.id);
            continue;
        }
        let samples = node.seen.map_or(&[][..], |seen| &seen.samples.cpu_ratio);
        let value = reading.tally.mean(samples.iter().copied(), &span, node.id);
        sum += value.unwrap_or(0.0);
    }
    reading.value = mean_of(sum, reading.tally.good);
    reading
}

fn mean_of(sum: f64, good: u32) -> Option<f64> {
    let mean = sum / f64::from(good);
    (good > 0 && mean.is_finite()).then_some(mean)
}

/// Mean CPU or memory of the service's warmed-up healthy replicas, as a ratio of limit, else
/// reservation.
fn share(draft: &Draft<'_>, service: usize, policy: &AutoscaleSpec, signal: &Signal) -> Reading {
    let (mut sum, mut reading) = (0.0, Reading::default());
    for &row in &draft.services[service].rows {
        let Some(replica) = draft.carrier(row) else {
            continue;
        };
        let Some(resources) = draft.runs(row).map(|template| template.resources) else {
            continue;
        };
        let (limit, reserved) = match signal {
            Signal::Memory => (
                resources.memory_limit_bytes,
                resources.memory_reserved_bytes,
            ),
            _ => (resources.cpu_limit_milli, resources.cpu_reserved_milli),
        };
        let whole = if limit > 0 { limit } else { reserved };
        if whole == 0 {
            reading.undefined = true;
            continue;
        }
        let status = draft.rows[row].status;
        let Some(status) = status.filter(|s| s.state == ReplicaState::Healthy) else {
            continue;
        };
        let warm_ms = warm_since(status, replica.created_ms).saturating_add(policy.warmup_ms);
        if warm_ms > draft.input.now_ms {
            reading.tally.changes_at(warm_ms, draft.input.now_ms);
            reading.tally.drop(DropReason::Warming, replica.id);
            continue;
        }
        let span = Span {
            from_ms: warm_ms,
            ..span(draft, policy)
        };
        let samples = match signal {
            Signal::Memory => draft.memory_samples(row),
            _ => draft.cpu_milli(row),
        };
        let used = reading
            .tally
            .mean(samples.iter().copied(), &span, replica.id);
        sum += used.unwrap_or(0.0) / float(whole);
    }
    reading.value = mean_of(sum, reading.tally.good);
    reading
}

/// The service's ring of each edge. Each edge of the cluster counts, connected or not: one that is
/// cut off from us may well serve.
fn rings<'a>(
    draft: &'a Draft<'_>,
    service: usize,
) -> impl Iterator<Item = (&'a str, &'a [BackendSample])> {
    let key = &draft.services[service].key;
    draft.cluster.edges.iter().map(move |edge| {
        let backend = edge.seen.and_then(|seen| seen.backends.get(key));
        let samples = backend.map_or(&[][..], |backend| &backend.samples);
        (edge.id.as_str(), samples)
    })
}

fn unrouted(draft: &Draft<'_>, service: usize) -> bool {
    let spec = draft.services[service].spec;
    spec.is_none_or(|spec| spec.routes.is_empty())
}

/// What waits or works at a time: means over the window, summed over edges.
fn at_a_time(
    draft: &Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    signal: &Signal,
) -> Reading {
    let span = span(draft, policy);
    let (mut sum, mut reading) = (0.0, Reading::default());
    reading.undefined = unrouted(draft, service);
    for (edge, samples) in rings(draft, service) {
        let value = |sample: &BackendSample| {
            let queued = f64::from(sample.queued);
            let at_work = f64::from(sample.sessions) - queued;
            // Little's law: requests at work are their rate times the time that each takes.
            let by_time = f64::from(sample.rate) * f64::from(sample.response_ms) / 1_000.0;
            longshore_model::observe::Sample {
                at_ms: sample.at_ms,
                value: match signal {
                    Signal::Queue => queued,
                    _ => at_work.max(by_time).max(0.0),
                },
            }
        };
        let mean = reading.tally.mean(samples.iter().map(value), &span, edge);
        sum += mean.unwrap_or(0.0);
    }
    #[cfg(feature = "mutants")]
    take_for_zero(&mut reading);
    reading.value = (reading.tally.good > 0).then_some(sum);
    reading
}

/// With a seeded mistake: an edge without samples has nothing to do.
#[cfg(feature = "mutants")]
fn take_for_zero(reading: &mut Reading) {
    if longshore_model::mutant::is(longshore_model::Mutant::MissingIsZero) {
        reading.tally.good = reading.tally.all;
    }
}

/// What counters rose by: requests a second, the mean response time, the share of errors.
fn counted(draft: &Draft<'_>, service: usize, policy: &AutoscaleSpec, signal: &Signal) -> Reading {
    let span = span(draft, policy);
    let (mut sums, mut reading) = (Counts::default(), Reading::default());
    reading.undefined = unrouted(draft, service);
    for (edge, samples) in rings(draft, service) {
        let counts = reading.tally.counts(samples, &span, edge);
        let counts = counts.unwrap_or_default();
        sums.rate += counts.rate;
        sums.requests += counts.requests;
        sums.errors += counts.errors;
        sums.response_ms += counts.response_ms;
    }
    #[cfg(feature = "mutants")]
    take_for_zero(&mut reading);
    // Requests that no server answered are errors and may not be counted as answered.
    let asked = sums.requests.max(sums.errors);
    let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    let (value, of) = match signal {
        Signal::Latency => (ratio(sums.response_ms, sums.requests), Some(sums.requests)),
        Signal::Errors => (ratio(sums.errors, asked), Some(asked)),
        _ => (Some(sums.rate), None),
    };
    reading.idle = of.is_some_and(|of| of < float(AutoscaleSpec::REQUESTS_MIN));
    reading.value = value.filter(|value| value.is_finite() && reading.tally.good > 0);
    reading
}

/// A number from outside. It is asked for less often than others are measured, and is fresh for
/// longer.
fn external(
    draft: &Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    query: &ExternalQuery,
) -> Reading {
    let key = &draft.services[service].key;
    let answers = draft.input.observed.external.get(key);
    let seen = answers.and_then(|answers| answers.get(&query.query));
    let samples = seen.map_or(&[][..], |seen| &seen.samples);
    let mut reading = Reading {
        problem: seen.and_then(|seen| seen.problem.clone()),
        tried_ms: seen.and_then(|seen| seen.tried_ms),
        answered_ms: samples.last().map(|sample| sample.at_ms),
        ..Reading::default()
    };
    let span = Span {
        stale_ms: draft.input.config.external_stale_ms,
        ..span(draft, policy)
    };
    #[cfg(feature = "mutants")]
    let span = match longshore_model::mutant::is(longshore_model::Mutant::StaleIsFresh) {
        true => Span {
            stale_ms: u64::MAX,
            ..span
        },
        false => span,
    };
    // How the source is called in the record: there is only one.
    reading.value = reading
        .tally
        .mean(samples.iter().copied(), &span, "prometheus");
    reading
}

/// Since when the present incarnation runs.
fn warm_since(status: &ReplicaStatus, created_ms: TimeMs) -> TimeMs {
    status
        .healthy_ms
        .or(status.started_ms)
        .unwrap_or(created_ms)
}

/// Replicas that have carried load for a whole window: healthy, past their warm-up, and seen by
/// every sample of the window. Only these can stand for what the value means. Also the next time
/// at which one more is.
pub(crate) fn seasoned(
    draft: &Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
) -> (u32, Option<TimeMs>) {
    let now_ms = draft.input.now_ms;
    let season_ms = policy.warmup_ms.max(policy.window_ms);
    let (mut seasoned, mut next_ms): (u32, Option<TimeMs>) = (0, None);
    for &row in &draft.services[service].rows {
        let (Some(replica), Some(status)) = (draft.carrier(row), draft.rows[row].status) else {
            continue;
        };
        if status.state != ReplicaState::Healthy {
            continue;
        }
        let at_ms = warm_since(status, replica.created_ms).saturating_add(season_ms);
        if at_ms <= now_ms {
            seasoned = seasoned.saturating_add(1);
        } else {
            next_ms = Some(next_ms.map_or(at_ms, |next| next.min(at_ms)));
        }
    }
    (seasoned, next_ms)
}
