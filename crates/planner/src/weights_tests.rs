use proptest::prelude::*;

use super::*;

const FRESH_MS: u64 = 1_000;

fn seat(weight: u8, free: f64) -> Seat {
    Seat {
        weight,
        free: Some(free),
        cpu_milli: 2_000.0,
        age_ms: FRESH_MS,
    }
}

fn unmeasured(weight: u8, age_ms: u64) -> Seat {
    Seat {
        weight,
        free: None,
        cpu_milli: 0.0,
        age_ms,
    }
}

fn weights(seats: &[Seat], due: bool) -> Vec<u8> {
    next(seats, due).iter().map(|turn| turn.weight).collect()
}

/// Nodes with one replica each, whose load follows their part of the traffic.
#[derive(Debug, Clone)]
struct World {
    /// Cores of each node, and what others use of them.
    nodes: Vec<(f64, f64)>,
    /// Cores that the whole traffic takes.
    traffic: f64,
    /// Part of a change of the weights that traffic has followed by the next look; long
    /// connections stay where they are.
    follows: f64,
    weights: Vec<u8>,
    shares: Vec<f64>,
}

impl World {
    fn new(nodes: Vec<(f64, f64)>, load: f64, follows: f64) -> Self {
        let free: f64 = nodes.iter().map(|(cores, hog)| cores - hog).sum();
        let count = nodes.iter().map(|_| 1.0).sum::<f64>();
        Self {
            traffic: free * load,
            follows,
            weights: vec![WEIGHT_MAX; nodes.len()],
            shares: vec![1.0 / count; nodes.len()],
            nodes,
        }
    }

    fn free(&self) -> Vec<f64> {
        let nodes = self.nodes.iter().zip(&self.shares);
        let free = nodes.map(|((cores, hog), share)| 1.0 - (hog + share * self.traffic) / cores);
        free.map(|free| free.clamp(0.0, 1.0)).collect()
    }

    /// One period. True: a weight changed.
    fn step(&mut self) -> bool {
        let free = self.free().into_iter().zip(&self.nodes);
        let seats = self.weights.iter().zip(free);
        let seats = seats.map(|(weight, (free, (cores, _)))| Seat {
            cpu_milli: cores * 1_000.0,
            ..seat(*weight, free)
        });
        let seats: Vec<Seat> = seats.collect();
        let before = std::mem::replace(&mut self.weights, weights(&seats, true));
        let sum: f64 = self.weights.iter().copied().map(f64::from).sum();
        for (share, weight) in self.shares.iter_mut().zip(&self.weights) {
            *share += (f64::from(*weight) / sum - *share) * self.follows;
        }
        before != self.weights
    }
}

fn any_world() -> impl Strategy<Value = World> {
    let node = (
        1.0..4.0_f64,
        prop_oneof![2 => Just(0.0), 1 => 0.1..0.95_f64],
    );
    let nodes = prop::collection::vec(node.prop_map(|(cores, hog)| (cores, cores * hog)), 2..=10);
    (nodes, 0.02..0.98_f64, 0.5..=1.0_f64).prop_map(|(nodes, load, f)| World::new(nodes, load, f))
}

fn any_seat() -> impl Strategy<Value = Seat> {
    let free = prop_oneof![3 => (0.0..=1.0_f64).prop_map(Some), 1 => Just(None)];
    let cpu_milli = prop_oneof![Just(0.0), 100.0..64_000.0_f64];
    (WEIGHT_MIN..=WEIGHT_MAX, free, cpu_milli, 0..60_000_u64).prop_map(
        |(weight, free, cpu_milli, age_ms)| Seat {
            weight,
            free,
            cpu_milli,
            age_ms,
        },
    )
}

proptest! {
    /// Traffic shifts, the load that it shifts comes to rest, and so do the weights.
    #[test]
    fn the_loop_comes_to_rest(mut world in any_world()) {
        for _ in 0..40 {
            world.step();
        }
        let settled = world.weights.clone();
        for _ in 0..40 {
            prop_assert!(!world.step(), "{settled:?} -> {world:?}");
        }
    }

    /// On nodes of one size a weight never goes up and down and up again on its way to rest.
    #[test]
    fn nothing_swings_on_the_way(
        hogs in prop::collection::vec(prop_oneof![2 => Just(0.0), 1 => 0.1..0.95_f64], 2..=10),
        load in 0.02..0.98_f64,
    ) {
        let nodes = hogs.iter().map(|hog| (1.0, *hog)).collect();
        let mut world = World::new(nodes, load, 1.0);
        let mut turns = vec![(0, 0_i16); world.weights.len()];
        for _ in 0..40 {
            let before = world.weights.clone();
            world.step();
            for ((turns, was), now) in turns.iter_mut().zip(before).zip(&world.weights) {
                let way = (i16::from(*now) - i16::from(was)).signum();
                if way != 0 && turns.1 != way {
                    *turns = (turns.0 + 1, way);
                }
            }
        }
        prop_assert!(turns.iter().all(|(count, _)| *count <= 2), "{turns:?} {world:?}");
    }

    #[test]
    fn bounded_in_value_and_in_speed(
        seats in prop::collection::vec(any_seat(), 0..12), due in any::<bool>(),
    ) {
        let turns = next(&seats, due);
        prop_assert_eq!(&turns, &next(&seats, due));
        prop_assert_eq!(turns.len(), seats.len());
        for (turn, seat) in turns.iter().zip(&seats) {
            prop_assert!((WEIGHT_MIN..=WEIGHT_MAX).contains(&turn.weight));
            prop_assert!(turn.weight >= seat.weight.saturating_sub(WEIGHT_FALL_MAX));
            prop_assert!(turn.weight <= seat.weight + WEIGHT_RISE_MAX);
            prop_assert!(due || turn.weight == seat.weight);
            prop_assert!(turn.rule != WeightRule::Waits || turn.weight == seat.weight);
        }
    }

    #[test]
    fn weights_follow_what_is_free(
        seats in prop::collection::vec((WEIGHT_MIN..=WEIGHT_MAX, 0.0..=1.0_f64), 2..12),
    ) {
        let seats: Vec<Seat> = seats.iter().map(|(weight, free)| seat(*weight, *free)).collect();
        let now = weights(&seats, true);
        for (a, x) in seats.iter().zip(&now) {
            for (b, y) in seats.iter().zip(&now) {
                let ahead = a.weight >= b.weight && a.free >= b.free;
                prop_assert!(!ahead || x >= y, "{a:?} {x}, {b:?} {y}");
            }
        }
    }

    #[test]
    fn without_measurements_all_become_equal(
        weights in prop::collection::vec(WEIGHT_MIN..=WEIGHT_MAX, 1..12),
    ) {
        let young: Vec<Seat> = weights.iter().map(|w| unmeasured(*w, KEEP_MS)).collect();
        prop_assert_eq!(super::tests::weights(&young, true), weights.clone());
        let mut now = weights;
        for _ in 0..20 {
            let old: Vec<Seat> = now.iter().map(|w| unmeasured(*w, KEEP_MS + 1)).collect();
            now = super::tests::weights(&old, true);
        }
        prop_assert!(now.iter().all(|weight| *weight == now[0]), "{now:?}");
    }

    #[test]
    fn what_is_equal_stays_equal(count in 1..12_usize, free in 0.0..=1.0_f64) {
        let seats = vec![seat(WEIGHT_MAX, free); count];
        prop_assert_eq!(weights(&seats, true), vec![WEIGHT_MAX; count]);
    }
}

#[test]
fn a_hog_takes_traffic_off_its_node_within_one_period() {
    let mut world = World::new(vec![(2.0, 0.0); 3], 0.4, 1.0);
    assert!(!world.step());
    world.nodes[1].1 = 1.9;
    assert!(world.step());
    assert_eq!(world.weights, [100, 50, 100]);
    for _ in 0..20 {
        world.step();
    }
    assert!(world.weights[1] <= 15, "{:?}", world.weights);
    // Trust comes back slower than it went.
    world.nodes[1].1 = 0.0;
    let before = world.weights[1];
    world.step();
    assert_eq!(world.weights[1], before + WEIGHT_RISE_MAX);
    for _ in 0..20 {
        world.step();
    }
    assert!(world.weights[1] >= 90, "{:?}", world.weights);
}

#[test]
fn little_differences_are_no_reason() {
    let turns = next(&[seat(100, 0.5), seat(100, 0.45), seat(100, 0.42)], true);
    assert!(
        turns
            .iter()
            .all(|turn| (turn.weight, turn.rule) == (100, WeightRule::Steady))
    );
    let alone = next(&[seat(30, 0.1), unmeasured(70, 0)], true);
    assert_eq!((alone[0].weight, alone[0].rule), (30, WeightRule::Alone));
    assert_eq!((alone[1].weight, alone[1].rule), (70, WeightRule::Keeps));
    // A lost measurement says nothing against the node: it ends where the others are.
    let lost = next(
        &[seat(100, 0.8), seat(100, 0.8), unmeasured(20, KEEP_MS + 1)],
        true,
    );
    assert_eq!((lost[2].weight, lost[2].target), (30, 100));
    // Nobody has anything free: there is nothing to choose.
    let full = next(&[seat(100, 0.0), seat(40, 0.0)], true);
    assert_eq!((full[0].weight, full[1].weight), (100, 40));
}
