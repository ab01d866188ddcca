//! A small number of seeds, each with its own cluster, users and faults.

use longshore_sim::run::{Outcome, Sum};
use longshore_sim::scenario::FAMILIES;

/// Beyond the first hundred: what once found a mistake of the planner, its check or the
/// simulation itself. Whoever changes what a seed means starts a new list.
const FOUND: [u64; 106] = [
    281, 288, 373, 411, 463, 522, 543, 553, 555, 560, 622, 653, 857, 896, 913, 927, 1044, 1131,
    1221, 1229, 1314, 1372, 1485, 1601, 1782, 1858, 1914, 1919, 2627, 3151, 3243, 3298, 3316, 3930,
    4001, 4662, 4817, 4967, 5307, 5655, 6220, 6401, 7296, 7614, 9352, 9536, 1_000_051, 1_000_468,
    1_000_516, 1_000_583, 1_000_695, 1_000_914, 1_000_922, 1_001_347, 1_001_451, 1_001_674,
    1_001_770, 1_002_020, 1_002_111, 2_000_566, 3_000_057, 3_000_097, 3_000_127, 3_000_168,
    3_000_232, 3_000_305, 3_000_386, 3_000_400, 3_000_649, 3_000_655, 3_000_819, 3_001_329,
    3_001_330, 3_001_636, 3_002_060, 3_002_167, 3_002_270, 3_002_551, 3_003_204, 3_004_128,
    3_004_845, 3_005_671, 3_006_279, 3_006_734, 3_007_048, 3_008_683, 3_009_384, 4_008_221,
    4_008_250, 4_009_007, 4_009_046, 5_000_387, 4_000_066, 3_000_991, 6_000_033, 6_000_044,
    6_000_074, 6_000_318, 6_000_685, 7_000_002, 7_000_028, 7_000_243, 6_002_603, 7_003_846,
    8_000_261, 8_001_065,
];

#[test]
fn no_seed_breaks_an_invariant() {
    let mut sum = Sum::default();
    for (first, seeds) in FAMILIES
        .into_iter()
        .zip([50, 12, 12, 15, 15, 15, 15, 15, 15])
    {
        sum.merge(longshore_sim::cli::many(first, seeds, 2, 3));
    }
    none_is_broken(&sum);
    assert!(
        sum.commits > 1_000 && sum.requests > 10_000,
        "nothing happened: {sum:?}"
    );
}

#[test]
fn seeds_that_found_something_once_stay_whole() {
    let mut sum = Sum::default();
    for seed in FOUND {
        sum.add(longshore_sim::run::seed_checked(seed));
    }
    none_is_broken(&sum);
}

fn none_is_broken(sum: &Sum) {
    let broken: Vec<String> = sum
        .broken
        .iter()
        .map(|outcome: &Outcome| {
            let (seed, what) = (outcome.seed, &outcome.violations);
            format!(
                "seed {seed}: {what:?}\nreplay: cargo run -p longshore-sim --release -- --seed {seed} -v\n{}",
                outcome.last.join("\n")
            )
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_seed_repeats_itself() {
    let (first, second) = (
        longshore_sim::run::seed(7, false),
        longshore_sim::run::seed(7, false),
    );
    assert_eq!((first.hash, first.events), (second.hash, second.events));
    assert_ne!(first.hash, longshore_sim::run::seed(8, false).hash);
}
