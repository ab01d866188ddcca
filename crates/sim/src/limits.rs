//! What takes counts and gates to their limits: services that may have nothing, that give back on
//! silence, gates that look at the response time, and bounds that users set; and what files say of
//! windows, of places, and of failures that a rollout bears. Seeds from four million on.

use std::collections::BTreeMap;

use longshore_model::autoscale::{AutoscaleControl, BoundsOverride};
use longshore_model::spec::GateSpec;

use crate::adapter::{RACK, Wish};
use crate::engine::Image;
use crate::event::HostNo;
use crate::policies::Policies;
use crate::world::World;

/// What a slow one takes for a request, and the others at most.
const SLOW_MS: u64 = 600;
const QUICK_MS: u64 = 20;
/// Requests a second for each service in the calm phase: of one replica's worth, and never so few
/// that one which wakes for them would fall asleep again.
const CALM_RATE: u64 = 3;

impl World {
    /// With what only these seeds have.
    pub(crate) fn enrich_limits(&mut self, usual: Wish) -> Wish {
        let wakes = usual.scaling.as_ref();
        let wakes = wakes.is_some_and(|(signal, _)| signal.wakes());
        let (falls, gives_back) = (self.dice.one_in(2), self.dice.one_in(3));
        let timed = usual.policies.gate.is_some() && self.dice.one_in(2);
        let gate = usual.policies.gate.clone().map(|gate| GateSpec {
            latency_permille_max: timed.then_some(2_000),
            // What is quick need not be as quick as an error.
            latency_ms_min: if timed {
                2 * u32::try_from(QUICK_MS).unwrap_or(0)
            } else {
                0
            },
            ..gate
        });
        let window_ms = Some(self.dice.between(1, 10) * 1_000);
        let crowds = usual.policies.fixed_port.is_none() && self.dice.one_in(4);
        let most = u32::try_from(self.dice.between(1, 3)).unwrap_or(1);
        let bears = [None, None, Some(0), Some(300), Some(600)];
        Wish {
            // Its batches are watched for longer.
            parallelism: usual.parallelism.max(if timed { 3 } else { 1 }),
            policies: Policies {
                gate,
                to_zero: wakes && falls,
                gives_back,
                window_ms,
                max_per_node: if crowds { most } else { 0 },
                packs: self.dice.one_in(5),
                racks: self.dice.one_in(4),
                failure_permille_max: self.dice.pick(&bears).flatten(),
                ..usual.policies
            },
            ..usual
        }
    }

    /// Labels of a node: some seeds have racks, some a single one for all.
    pub(crate) fn labels(&self, host: HostNo) -> BTreeMap<String, String> {
        let rack = |racks: usize| (RACK.to_owned(), format!("r{}", host % racks));
        self.scenario.racks.map(rack).into_iter().collect()
    }

    /// The load after the storm: also none from outside.
    pub(crate) fn calm_limits(&mut self) {
        let services = self.scenario.services as u64;
        self.pace_ms = 1_000 / (CALM_RATE * services.max(1));
        if self.dice.one_in(3) {
            self.waiting = 0.0;
        }
    }

    /// How long a request takes where a gate looks at it.
    pub(crate) fn timed_ms(&mut self, image: Option<Image>) -> u64 {
        match image {
            Some(Image::Slow) => SLOW_MS,
            _ => self.dice.between(5, QUICK_MS),
        }
    }

    /// A user sets bounds, or gives them up, as the controller's door allows it.
    pub(crate) fn set_bounds(&mut self, service: usize) {
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        let key = self.users.services[service].key.clone();
        let policies = &self.users.services[service].usual.policies;
        let low = self.dice.between(u64::from(!policies.to_zero), 4);
        let high = low.max(1) + self.dice.between(0, 3);
        let [low, high] = [low, high].map(|count| u32::try_from(count).unwrap_or(1));
        let (min, max) = match self.dice.below(5) {
            0 => (None, None),
            1 => (Some(low), None),
            2 => (None, Some(high)),
            _ => (Some(low), Some(high)),
        };
        let said = min.or(max).map(|_| BoundsOverride {
            min,
            max,
            at_ms: cluster.now_ms(),
            by: "sim".into(),
        });
        let known = cluster.desired().autoscale.get(&key).cloned();
        let control = AutoscaleControl {
            bounds: said,
            ..known.unwrap_or_default()
        };
        if self.tell_autoscaler(&key, &control) {
            say!(self, "user bounds {key}: {min:?} {max:?}");
        }
    }
}
