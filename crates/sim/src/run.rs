//! Runs of seeds and what they add up to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::world::World;

/// Each so-manieth seed is run twice and compared.
const TWICE_EVERY: u64 = 10;

/// One seed's run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Events.
    pub events: u64,
    /// Planning runs.
    pub runs: u64,
    /// Plans committed.
    pub commits: u64,
    /// Requests sent, and failed.
    pub requests: (u64, u64),
    /// Writes acknowledged.
    pub writes: u64,
    /// From calm to rest.
    pub rest_ms: u64,
    /// Hash of the trace.
    pub hash: u64,
    /// What is broken.
    pub violations: Vec<String>,
    /// The last lines of the trace.
    pub last: Vec<String>,
}

/// Runs a seed.
#[must_use]
pub fn seed(seed: u64, print: bool) -> Outcome {
    let mut world = World::new(seed, print);
    // A panic of the real code is a finding like any other.
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if ran.is_err() {
        world.violations.push("a panic".to_owned());
    }
    Outcome {
        seed,
        events: world.events,
        runs: world.runs,
        commits: world.commits,
        requests: (world.traffic.sent, world.traffic.failed),
        writes: world.mutations.acked,
        rest_ms: world.rest.took_ms,
        hash: world.trace.hash(),
        violations: world.violations,
        last: world.trace.last(),
    }
}

/// Runs a seed, some of them twice: another trace is a violation.
#[must_use]
pub fn seed_checked(number: u64) -> Outcome {
    let mut outcome = seed(number, false);
    if number.is_multiple_of(TWICE_EVERY) && seed(number, false).hash != outcome.hash {
        outcome
            .violations
            .push("the same seed gives another trace".to_owned());
    }
    outcome
}

/// Many seeds.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    /// Seeds run.
    pub seeds: u64,
    /// Events.
    pub events: u64,
    /// Planning runs.
    pub runs: u64,
    /// Plans committed.
    pub commits: u64,
    /// Requests sent.
    pub requests: u64,
    /// Of these, failed; a fault reached each of them.
    pub failed: u64,
    /// Writes acknowledged.
    pub writes: u64,
    /// Longest time from calm to rest.
    pub rest_ms_max: u64,
    /// Seeds with a violation.
    pub broken: Vec<Outcome>,
}

impl Sum {
    /// Adds those of another family.
    pub fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.runs += other.runs;
        self.commits += other.commits;
        self.requests += other.requests;
        self.failed += other.failed;
        self.writes += other.writes;
        self.rest_ms_max = self.rest_ms_max.max(other.rest_ms_max);
        self.broken.extend(other.broken);
    }

    /// Adds one.
    pub fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.runs += outcome.runs;
        self.commits += outcome.commits;
        self.requests += outcome.requests.0;
        self.failed += outcome.requests.1;
        self.writes += outcome.writes;
        self.rest_ms_max = self.rest_ms_max.max(outcome.rest_ms);
        if !outcome.violations.is_empty() {
            self.broken.push(outcome);
        }
    }
}
