//! Weights by measured load: whose node has more CPU free gets more of the service's traffic.
//!
//! A loop that watches what it moves: traffic that goes elsewhere frees the node that it left.
//! Going all the way to what the free shares say would swing for ever on a busy cluster, so that a
//! step is as large as the mean free share: where a tenth is free, a tenth of the way. With `s` the
//! replica's share of the traffic, `free` its node's and `n` replicas, that is
//! `s + mean(free) * (free / sum(free) - s)`, or `s * (1 - mean(free)) + free / n`; it ends where
//! shares are as what would be free without this service, and does not swing if load follows
//! traffic (docs/decisions/0041). Where nodes differ in size, steps are smaller ([`pace`]).

use longshore_model::plan::{Replica, ServicePlan, Traffic};
use longshore_model::route::Weights;
use longshore_model::weight::{
    WEIGHT_FALL_MAX, WEIGHT_MAX, WEIGHT_MIN, WEIGHT_PERIOD_MS, WEIGHT_RISE_MAX, WeightLook,
    WeightRule,
};
use longshore_model::{ReplicaId, TimeMs};

use crate::draft::Draft;
use crate::load;
use crate::window::float;

/// Time over which free CPU is averaged: shorter than the time between two changes, so that each
/// one sees only what the last one led to.
const WINDOW_MS: u64 = 4_000;
/// For so long a replica whose node is not measured keeps its weight.
const KEEP_MS: u64 = 30_000;
/// Off by more than this share of its traffic, a replica is worth a change.
const OFF: f64 = 0.1;
/// Below this the highest weight is too coarse: whole numbers say too little.
const COARSE: u8 = 50;
/// Nodes that differ by more than this are too different for one pace.
const PACE_MIN: f64 = 0.1;

/// One replica, as far as its weight goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seat {
    /// What it weighs.
    pub weight: u8,
    /// Free share of its node's CPU, 0 to 1; none: not measured lately.
    pub free: Option<f64>,
    /// CPU of its node; 0: not known.
    pub cpu_milli: f64,
    /// Age of the newest measurement.
    pub age_ms: u64,
}

/// What follows for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// What it should weigh.
    pub target: u8,
    /// What it weighs from now on.
    pub weight: u8,
    pub rule: WeightRule,
}

/// Does the service have a way in whose weights go by load?
pub(crate) fn apply(entry: &ServicePlan) -> bool {
    entry
        .routes
        .iter()
        .any(|route| route.weights == Weights::Load)
}

/// Gives each service that asks for it its weights.
pub(crate) fn run(draft: &mut Draft<'_>) {
    let services = 0..draft.services.len();
    let last = services.clone().filter_map(|service| {
        let weighed = draft.planned(service)?.weights.as_ref()?;
        Some(weighed.changed_ms)
    });
    // One period for all: each change is a new list for every edge.
    let due_ms = last
        .max()
        .map_or(0, |ms| ms.saturating_add(WEIGHT_PERIOD_MS));
    for service in services {
        let Some(entry) = draft.planned(service) else {
            continue;
        };
        match (apply(entry), &entry.weights) {
            (true, _) => weigh(draft, service, due_ms),
            (false, Some(_)) => draft.entry(service).weights = None,
            (false, None) => {}
        }
    }
}

fn weigh(draft: &mut Draft<'_>, service: usize, due_ms: TimeMs) {
    let now_ms = draft.input.now_ms;
    let Some(entry) = draft.planned(service) else {
        return;
    };
    let before = entry.weights.clone().unwrap_or_default();
    let weight_of = |id: ReplicaId| {
        before
            .weights
            .get(&id)
            .map(|w| (*w).clamp(WEIGHT_MIN, WEIGHT_MAX))
    };
    let routed = draft.services[service].rows.iter().copied();
    let routed = routed.filter(|&row| draft.replica(row).is_some_and(|r| is_routed(entry, r)));
    let (serving, draining): (Vec<usize>, Vec<usize>) = routed.partition(|&row| {
        draft
            .replica(row)
            .is_some_and(|r| r.traffic == Traffic::Serve)
    });
    let known: Vec<u8> = serving
        .iter()
        .filter_map(|&row| weight_of(draft.rows[row].id))
        .collect();
    // One that comes in begins as the mean of the others.
    let mean = mean(&known).unwrap_or(WEIGHT_MAX);
    let weights = serving
        .iter()
        .map(|&row| (row, weight_of(draft.rows[row].id)));
    let seats: Vec<Seat> = weights
        .map(|(row, weight)| seat(draft, row, weight.unwrap_or(mean)))
        .collect();
    let turns = next(&seats, now_ms >= due_ms);
    let looks = serving.iter().zip(&seats).zip(&turns);
    let looks: Vec<WeightLook> = looks
        .filter_map(|((&row, seat), turn)| Some(look(draft.replica(row)?, seat, turn)))
        .collect();
    let mut next = before.clone();
    next.weights = draining
        .iter()
        .map(|&row| draft.rows[row].id)
        .map(|id| (id, weight_of(id).unwrap_or(WEIGHT_MAX)))
        .chain(looks.iter().map(|look| (look.replica, look.weight)))
        .collect();
    let changes = seats
        .iter()
        .zip(&turns)
        .any(|(seat, turn)| seat.weight != turn.weight);
    if changes {
        next.changed_ms = now_ms;
        // A replica that came in only now is a change of the routes in itself.
        draft.routes_dirty = true;
    }
    let equal = next.weights.values().all(|weight| *weight == WEIGHT_MAX);
    let none = draft
        .planned(service)
        .is_none_or(|entry| entry.weights.is_none());
    if next != before && !(none && equal) {
        draft.entry(service).weights = Some(next);
    }
    if turns.iter().any(|turn| turn.rule == WeightRule::Waits) {
        draft.look_again(service, due_ms);
    }
    draft.services[service].report.weights = looks;
}

/// Is it in a way in whose weights go by load?
fn is_routed(entry: &ServicePlan, replica: &Replica) -> bool {
    let mut routes = entry.routes.iter();
    replica.traffic != Traffic::Out
        && routes.any(|route| {
            let mut ports = replica.ports.iter();
            route.weights == Weights::Load
                && ports.any(|port| port.container_port == route.container_port)
        })
}

/// A row's replica: what was free on its node over the last seconds, and how old that is.
fn seat(draft: &Draft<'_>, row: usize, weight: u8) -> Seat {
    let now_ms = draft.input.now_ms;
    let unheard_ms = now_ms.saturating_sub(draft.input.listens_since_ms());
    let node = draft.rows[row].node;
    let seen = node.and_then(|number| draft.cluster.nodes[number].seen);
    let samples = seen.map_or(&[][..], |seen| &seen.samples.cpu_ratio);
    let past = samples.iter().map(|sample| sample.at_ms);
    let newest_ms = past.filter(|at_ms| *at_ms <= now_ms).max();
    let stale_ms = draft.input.config.sample_stale_ms;
    let used = load::mean(samples, now_ms.saturating_sub(WINDOW_MS), now_ms, stale_ms);
    Seat {
        weight,
        free: used.map(|used| (1.0 - used).clamp(0.0, 1.0)),
        cpu_milli: seen.map_or(0.0, |seen| float(seen.capacity.cpu_milli)),
        age_ms: newest_ms.map_or(unheard_ms, |at_ms| (now_ms - at_ms).min(unheard_ms)),
    }
}

fn look(replica: &Replica, seat: &Seat, turn: &Turn) -> WeightLook {
    WeightLook {
        replica: replica.id,
        slot: replica.slot,
        node: replica.node.clone(),
        weight: turn.weight,
        target: turn.target,
        free_percent: seat.free.map(|free| whole(free * 100.0)),
        age_ms: seat.age_ms,
        rule: turn.rule,
    }
}

/// What all replicas of a service weigh next. Not `due`: nothing changes, but it is said what will.
pub(crate) fn next(seats: &[Seat], due: bool) -> Vec<Turn> {
    let course = Course::of(seats);
    let all: Vec<u8> = seats.iter().map(|seat| seat.weight).collect();
    let sure: Vec<u8> = seats
        .iter()
        .filter(|s| s.free.is_some())
        .map(|s| s.weight)
        .collect();
    let mean = mean(&sure).or(mean(&all)).unwrap_or(WEIGHT_MAX);
    let turn = |seat: &Seat| {
        let weight = seat.weight;
        let stays = |target, rule| Turn {
            target,
            weight,
            rule,
        };
        let turn = match (seat.free, &course) {
            (None, _) if seat.age_ms <= KEEP_MS => return stays(weight, WeightRule::Keeps),
            (None, _) => Turn {
                target: mean,
                weight: mean.clamp(
                    weight.saturating_sub(WEIGHT_RISE_MAX),
                    weight.saturating_add(WEIGHT_RISE_MAX),
                ),
                rule: WeightRule::Evens,
            },
            (Some(_), None) => return stays(weight, WeightRule::Alone),
            (Some(free), Some(course)) => {
                let target = course.target(weight, free);
                if !course.is_off {
                    return stays(target, WeightRule::Steady);
                }
                step(weight, target)
            }
        };
        match due || turn.weight == weight {
            true => turn,
            false => stays(turn.target, WeightRule::Waits),
        }
    };
    seats.iter().map(turn).collect()
}

/// Where the measured replicas of a service are to go.
struct Course {
    count: f64,
    /// Sum of their weights.
    weights: f64,
    mean_free: f64,
    /// Part of a step that is taken: the same traffic is more to a small node than to the mean one.
    pace: f64,
    /// The largest share that one of them shall have.
    top: f64,
    is_off: bool,
}

impl Course {
    /// Of the measured replicas; none where there is nothing to compare.
    fn of(seats: &[Seat]) -> Option<Self> {
        let measured = || seats.iter().filter_map(|seat| Some((seat, seat.free?)));
        let count: f64 = measured().map(|_| 1.0).sum();
        if count < 2.0 {
            return None;
        }
        let weights = measured().map(|(seat, _)| f64::from(seat.weight));
        let (sum, highest) = (weights.clone().sum(), weights.fold(0.0, f64::max));
        let mut course = Self {
            count,
            weights: sum,
            mean_free: measured().map(|(_, free)| free).sum::<f64>() / count,
            pace: pace(seats),
            top: 0.0,
            is_off: highest < f64::from(COARSE),
        };
        for (seat, free) in measured() {
            let (now, next) = (
                f64::from(seat.weight) / sum,
                course.share(seat.weight, free),
            );
            // One that has the least cannot be helped further.
            let can_move = seat.weight > WEIGHT_MIN || next > now;
            course.is_off |= can_move && (next - now).abs() > now * OFF;
            course.top = course.top.max(next);
        }
        Some(course)
    }

    /// Its next share of the traffic of all measured ones.
    fn share(&self, weight: u8, free: f64) -> f64 {
        let stays = 1.0 - self.mean_free * self.pace;
        f64::from(weight) / self.weights * stays + self.pace * free / self.count
    }

    /// Its weight by that, the largest at the top of the scale.
    fn target(&self, weight: u8, free: f64) -> u8 {
        let share = self.share(weight, free) / self.top;
        whole(share * f64::from(WEIGHT_MAX)).clamp(WEIGHT_MIN, WEIGHT_MAX)
    }
}

/// The smallest node's CPU as a part of the mean; 1 where nodes are alike, or unknown.
fn pace(seats: &[Seat]) -> f64 {
    let known = || {
        seats
            .iter()
            .map(|seat| seat.cpu_milli)
            .filter(|milli| *milli > 0.0)
    };
    let (count, sum): (f64, f64) = (known().map(|_| 1.0).sum(), known().sum());
    let least = known().fold(f64::INFINITY, f64::min);
    let pace = least * count / sum;
    if pace.is_finite() {
        pace.clamp(PACE_MIN, 1.0)
    } else {
        1.0
    }
}

/// Towards a target, as far as is allowed at once.
fn step(weight: u8, target: u8) -> Turn {
    let lowest = weight.saturating_sub(WEIGHT_FALL_MAX);
    let next = target.clamp(lowest, weight.saturating_add(WEIGHT_RISE_MAX));
    let rule = match next {
        WEIGHT_MIN => WeightRule::Least,
        _ if next == target => WeightRule::Follows,
        _ if next < weight => WeightRule::Falls,
        _ => WeightRule::Rises,
    };
    Turn {
        target,
        weight: next,
        rule,
    }
}

fn mean(weights: &[u8]) -> Option<u8> {
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    let count: f64 = weights.iter().map(|_| 1.0).sum();
    (count > 0.0).then(|| whole(sum / count))
}

/// The nearest whole number; what is none becomes 0.
fn whole(value: f64) -> u8 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = value.round().clamp(0.0, 255.0) as u8;
    whole
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
