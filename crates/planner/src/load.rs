//! Load: windowed means of samples that can be trusted, and how many sources had any.

use longshore_model::node::Availability;
pub(crate) use longshore_model::observe::mean;
use longshore_model::replica::{ReplicaState, ReplicaStatus};
use longshore_model::report::NodeState;
use longshore_model::{AutoscaleSpec, TimeMs};

use crate::draft::Draft;
use crate::place::constraint_refusal;

/// A signal over its window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Reading {
    /// Mean over the good sources.
    pub value: Option<f64>,
    /// Sources with good samples.
    pub good: u32,
    /// Sources that should have some.
    pub all: u32,
    /// The signal cannot exist for this service: CPU without limit or reservation.
    pub undefined: bool,
}

impl Reading {
    /// Enough sources to take capacity away: at least 80 %.
    pub(crate) fn complete(&self) -> bool {
        self.good > 0 && u64::from(self.good) * 100 >= u64::from(self.all) * 80
    }
}

/// Mean CPU ratio of the nodes that may host the service, or that host it although they may not
/// take more.
pub(crate) fn node_cpu(draft: &Draft<'_>, service: usize, policy: &AutoscaleSpec) -> Reading {
    let input = draft.input;
    let slot = &draft.services[service];
    let Some(spec) = slot.spec else {
        return Reading::default();
    };
    let hosts = draft.hosts(service);
    let from_ms = input.now_ms.saturating_sub(policy.window_ms);
    let (mut sum, mut reading) = (0.0, Reading::default());
    for (number, node) in draft.cluster.nodes.iter().enumerate() {
        let may = node.node.roles.worker
            && constraint_refusal(node, &spec.placement.constraints).is_none();
        let takes_part = node.node.availability == Availability::Active || hosts[number];
        let there = !matches!(node.state, NodeState::Lost | NodeState::Unknown);
        if !(may && takes_part && there) {
            continue;
        }
        reading.all += 1;
        if node.state != NodeState::Ready {
            continue;
        }
        let samples = node.seen.map_or(&[][..], |seen| &seen.samples.cpu_ratio);
        if let Some(value) = mean(samples, from_ms, input.now_ms, input.config.sample_stale_ms) {
            sum += value;
            reading.good += 1;
        }
    }
    reading.value = (reading.good > 0).then(|| sum / f64::from(reading.good));
    reading
}

/// Mean CPU of the service's warmed-up healthy replicas, as a ratio of limit, else reservation.
pub(crate) fn replica_cpu(draft: &Draft<'_>, service: usize, policy: &AutoscaleSpec) -> Reading {
    let input = draft.input;
    let (mut sum, mut reading) = (0.0, Reading::default());
    for &row in &draft.services[service].rows {
        let Some(replica) = draft.replica(row) else {
            continue;
        };
        if !draft.carried_load(replica) {
            continue;
        }
        let Some(resources) = draft.runs(row).map(|t| t.resources) else {
            continue;
        };
        let scale = if resources.cpu_limit_milli > 0 {
            resources.cpu_limit_milli
        } else {
            resources.cpu_reserved_milli
        };
        if scale == 0 {
            reading.undefined = true;
            continue;
        }
        let Some(status) = draft.rows[row]
            .status
            .filter(|s| s.state == ReplicaState::Healthy)
        else {
            continue;
        };
        let warm_ms = warm_since(status, replica.created_ms).saturating_add(policy.warmup_ms);
        if warm_ms > input.now_ms {
            continue;
        }
        reading.all += 1;
        let from_ms = input.now_ms.saturating_sub(policy.window_ms).max(warm_ms);
        let stale_ms = input.config.sample_stale_ms;
        if let Some(milli) = mean(draft.cpu_milli(row), from_ms, input.now_ms, stale_ms) {
            // A ratio of limits needs no more precision than f64 has.
            #[allow(clippy::cast_precision_loss)]
            let scale = scale as f64;
            sum += milli / scale;
            reading.good += 1;
        }
    }
    reading.value = (reading.good > 0).then(|| sum / f64::from(reading.good));
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
/// every sample of the window. Only these can stand for what the value means.
pub(crate) fn seasoned(draft: &Draft<'_>, service: usize, policy: &AutoscaleSpec) -> u32 {
    let now_ms = draft.input.now_ms;
    let season_ms = policy.warmup_ms.max(policy.window_ms);
    let seasoned = draft.services[service].rows.iter().filter(|&&row| {
        let Some(replica) = draft.replica(row) else {
            return false;
        };
        let Some(status) = draft.rows[row].status else {
            return false;
        };
        draft.carried_load(replica)
            && status.state == ReplicaState::Healthy
            && warm_since(status, replica.created_ms).saturating_add(season_ms) <= now_ms
    });
    u32::try_from(seasoned.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_model::observe::CpuSample;
    use proptest::prelude::*;

    fn at(at_ms: u64, value: f64) -> CpuSample {
        CpuSample { at_ms, value }
    }

    #[test]
    fn one_bad_sample_is_discarded() {
        let samples = [
            at(1, 0.5),
            at(2, f64::NAN),
            at(3, f64::INFINITY),
            at(4, -1.0),
            at(5, 0.7),
        ];
        assert_eq!(
            mean(&samples, 0, 6, 5).map(|v| (v * 10.0).round()),
            Some(6.0)
        );
    }

    #[test]
    fn stale_samples_are_no_samples() {
        assert_eq!(mean(&[at(1, 0.5)], 0, 7, 5), None);
        assert_eq!(mean(&[at(1, 0.5)], 0, 6, 5), Some(0.5));
        assert_eq!(mean(&[at(9, 0.5)], 0, 6, 5), None, "from the future");
    }

    proptest! {
        #[test]
        fn a_mean_is_a_number(bits in proptest::collection::vec(any::<u64>(), 0..20)) {
            let samples: Vec<_> = bits.iter().map(|b| at(5, f64::from_bits(*b))).collect();
            if let Some(value) = mean(&samples, 0, 6, 5) {
                prop_assert!(value.is_finite() && value >= 0.0);
            }
        }
    }
}
