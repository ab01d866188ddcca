//! Chance, all of it from one seed: the same seed draws the same numbers in the same order.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// The only source of chance in a simulation.
#[derive(Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high.max(low))
    }

    /// An index below `count`; 0 for an empty list.
    pub fn below(&mut self, count: usize) -> usize {
        if count < 2 {
            return 0;
        }
        self.0.random_range(0..count)
    }

    /// True `permille` times in a thousand.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.0.random_range(0..1_000) < permille
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.0.random_range(0..n.max(1)) == 0
    }

    /// One of a list; none of an empty one.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        list.get(self.below(list.len())).copied()
    }
}
