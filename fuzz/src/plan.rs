//! Drives the law of bad input (`tests/it/hostile`) by coverage: what the fuzzer finds interesting
//! becomes two states of a cluster, and the planner must answer both.

#![no_main]
// Helpers of tests fail a test by a panic, too.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, unused_imports)]

use libfuzzer_sys::fuzz_target;

use hostile::state::{decode, survives};

#[path = "../../crates/planner/tests/it/hostile/mod.rs"]
mod hostile;
#[path = "../../crates/planner/tests/it/world/mod.rs"]
mod world;

fuzz_target!(|input: &[u8]| {
    let Some((nth, bytes)) = input.split_first() else {
        return;
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let nth = usize::from(*nth);
    if let (Some(first), Some(second)) = (decode(nth, first), decode(nth, second)) {
        survives(&first, &second);
    }
});
