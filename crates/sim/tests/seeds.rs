//! A small number of seeds, each with its own cluster, users and faults.

#[test]
fn no_seed_breaks_an_invariant() {
    let sum = longshore_sim::cli::many(1, 100, 2, 3);
    let broken: Vec<String> = sum
        .broken
        .iter()
        .map(|outcome| {
            let (seed, what) = (outcome.seed, &outcome.violations);
            format!(
                "seed {seed}: {what:?}\nreplay: cargo run -p longshore-sim --release -- --seed {seed} -v\n{}",
                outcome.last.join("\n")
            )
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(
        sum.commits > 1_000 && sum.requests > 10_000,
        "nothing happened: {sum:?}"
    );
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
