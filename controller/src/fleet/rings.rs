//! Measurements over time, each in a ring of at most [`SAMPLES_MAX`]. Rings are shared with the
//! snapshots that were taken: a snapshot copies none, a new sample copies its own ring at most.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::observe::{BackendObserved, BackendSample, ExternalObserved, Sample};
use longshore_model::{ServiceKey, TimeMs};

/// Samples kept per node, replica, query, and per service on each edge.
pub const SAMPLES_MAX: usize = 128;
/// Memory samples kept per replica: it moves slowly, and a hundred thousand replicas have a ring
/// each.
const MEMORY_SAMPLES_MAX: usize = 64;
/// Least time between two of them. Every second report is kept; samples older than five seconds
/// count as stale.
const MEMORY_SPACING_MS: u64 = 1_800;
/// Counters are kept second by second: edges report more often while servers join and drain.
const BACKEND_SPACING_MS: u64 = 800;

fn push<T>(ring: &mut Vec<T>, max: usize, sample: T) {
    if ring.len() >= max {
        ring.remove(0);
    }
    ring.push(sample);
}

/// A value that was measured; none: it was not.
pub(super) fn push_sample(ring: &mut Vec<Sample>, value: Option<f64>, at_ms: TimeMs) {
    if let Some(value) = value {
        push(ring, SAMPLES_MAX, Sample { at_ms, value });
    }
}

/// Memory that was measured; none: it was not.
pub(super) fn push_memory(ring: &mut Arc<Vec<Sample>>, bytes: Option<u64>, at_ms: TimeMs) {
    let last_ms = ring.last().map(|sample| sample.at_ms);
    let is_due = last_ms.is_none_or(|last_ms| at_ms >= last_ms.saturating_add(MEMORY_SPACING_MS));
    if let Some(bytes) = bytes.filter(|_| is_due) {
        // Exact up to 8 PiB.
        #[allow(clippy::cast_precision_loss)]
        let value = bytes as f64;
        push(
            Arc::make_mut(ring),
            MEMORY_SAMPLES_MAX,
            Sample { at_ms, value },
        );
    }
}

/// Puts what an edge reports in the place of what was known; `read_ms` is when HAProxy said it. A
/// report that repeats old counters adds no sample: they would look like a service at rest.
pub(super) fn merge_backends(
    known: &mut BTreeMap<ServiceKey, BackendObserved>,
    reported: BTreeMap<ServiceKey, BackendObserved>,
    read_ms: TimeMs,
) {
    let mut before = std::mem::replace(known, reported);
    for (key, now) in known.iter_mut() {
        now.samples = before
            .remove(key)
            .map(|was| was.samples)
            .unwrap_or_default();
        let last_ms = now.samples.last().map(|sample| sample.at_ms);
        if last_ms.is_none_or(|last_ms| read_ms >= last_ms.saturating_add(BACKEND_SPACING_MS)) {
            let sample = BackendSample {
                at_ms: read_ms,
                requests_total: now.requests_total,
                errors_total: now.errors_total,
                rate: now.rate,
                sessions: now.sessions,
                queued: now.queued,
                response_ms: now.response_ms,
            };
            push(Arc::make_mut(&mut now.samples), SAMPLES_MAX, sample);
        }
    }
}

/// Takes in an answer. A value that is no number is a problem, not a sample.
pub(super) fn merge_external(
    seen: &mut ExternalObserved,
    answer: Result<f64, String>,
    at_ms: TimeMs,
) {
    seen.tried_ms = Some(at_ms);
    seen.problem = match answer {
        Ok(value) if value.is_finite() && value >= 0.0 => {
            push(
                Arc::make_mut(&mut seen.samples),
                SAMPLES_MAX,
                Sample { at_ms, value },
            );
            None
        }
        Ok(value) => Some(format!(
            "the answer is {value}, which is no load to scale by"
        )),
        Err(problem) => Some(problem),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ServiceKey {
        "shop/web".parse().unwrap()
    }

    fn counters(requests_total: u64) -> BTreeMap<ServiceKey, BackendObserved> {
        let seen = BackendObserved {
            requests_total,
            ..BackendObserved::default()
        };
        BTreeMap::from([(key(), seen)])
    }

    #[test]
    fn counters_become_a_ring_second_by_second() {
        let mut known = BTreeMap::new();
        for tenth in 0..3_000_u64 {
            merge_backends(&mut known, counters(tenth), 10_000 + tenth * 100);
        }
        let samples = &known[&key()].samples;
        assert_eq!(samples.len(), SAMPLES_MAX);
        let gaps = samples.windows(2).map(|w| w[1].at_ms - w[0].at_ms);
        assert!(
            gaps.clone().all(|gap| gap == BACKEND_SPACING_MS),
            "{:?}",
            gaps.max()
        );
        let last = samples.last().unwrap();
        assert_eq!(last.at_ms, 10_000 + last.requests_total * 100);
        assert_eq!(
            known[&key()].requests_total,
            2_999,
            "the present ones are the newest"
        );
    }

    #[test]
    fn old_counters_told_again_are_no_samples() {
        let mut known = BTreeMap::new();
        merge_backends(&mut known, counters(5), 10_000);
        for late_ms in 0..500 {
            // Its edge says "read 1 s ago, 2 s ago, …"; ways differ by some milliseconds.
            merge_backends(&mut known, counters(5), 10_000 + late_ms);
        }
        assert_eq!(known[&key()].samples.len(), 1);
        merge_backends(&mut known, BTreeMap::new(), 12_000);
        assert!(known.is_empty(), "a service that left takes its ring along");
    }

    #[test]
    fn a_snapshot_shares_the_ring_and_keeps_its_own_past() {
        let mut known = BTreeMap::new();
        merge_backends(&mut known, counters(1), 1_000);
        let snapshot = known.clone();
        assert!(Arc::ptr_eq(
            &snapshot[&key()].samples,
            &known[&key()].samples
        ));
        merge_backends(&mut known, counters(2), 2_000);
        assert_eq!(
            (snapshot[&key()].samples.len(), known[&key()].samples.len()),
            (1, 2)
        );
    }

    #[test]
    fn memory_is_kept_every_second_report() {
        let mut ring = Arc::default();
        push_memory(&mut ring, None, 0);
        assert!(ring.is_empty(), "what was not measured is no sample");
        for second in 0..300 {
            push_memory(&mut ring, Some(second), second * 1_000);
        }
        assert_eq!(ring.len(), MEMORY_SAMPLES_MAX);
        assert!(ring.windows(2).all(|w| w[1].at_ms - w[0].at_ms == 2_000));
        assert!(
            ring.iter()
                .all(|s| (s.value * 1_000.0 - s.at_ms as f64).abs() < 0.5)
        );
    }

    #[test]
    fn what_is_no_number_is_a_problem_and_no_sample() {
        let mut seen = ExternalObserved::default();
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.5] {
            merge_external(&mut seen, Ok(bad), 1);
            assert!(seen.samples.is_empty() && seen.problem.take().is_some());
        }
        merge_external(&mut seen, Err("connection refused".into()), 2);
        assert_eq!(seen.problem.as_deref(), Some("connection refused"));
        merge_external(&mut seen, Ok(3.5), 3);
        assert_eq!((seen.samples.len(), seen.problem), (1, None));
    }
}
