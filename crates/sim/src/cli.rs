//! `longshore-sim`: seeds in, violations out.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;

use crate::run::{self, Outcome, Sum};
use crate::scenario::shares;

/// Broken seeds that are shown with their last lines.
const SHOWN_MAX: usize = 3;

/// Simulates whole clusters under faults and checks the design's invariants after every event.
#[derive(Debug, Parser)]
#[command(name = "longshore-sim", version)]
struct Args {
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first one; without it, each family of seeds has its share.
    #[arg(long)]
    from: Option<u64>,
    /// Threads; each seed runs in one.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Stop after so many broken seeds.
    #[arg(long, default_value_t = 20)]
    broken_max: usize,
    /// Print the trace.
    #[arg(short, long)]
    verbose: bool,
    /// Switch a seeded mistake on, by its name.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutant: Option<String>,
    /// Show for each seeded mistake that one of the seeds finds it.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    all_mutants: bool,
}

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "mutants")]
    if args.all_mutants {
        return code(crate::mutants::all_are_caught(
            args.from.unwrap_or(1),
            args.seeds,
            args.jobs,
        ));
    }
    #[cfg(feature = "mutants")]
    if let Some(name) = &args.mutant
        && !crate::mutants::switch_on(name)
    {
        eprintln!("no mutant is called {name}");
        return ExitCode::FAILURE;
    }
    if let Some(seed) = args.seed {
        let outcome = run::seed(seed, args.verbose);
        show(&outcome, !args.verbose);
        println!(
            "seed {seed}: {} events, trace {:016x}",
            outcome.events, outcome.hash
        );
        return code(outcome.violations.is_empty());
    }
    let began = Instant::now();
    let mut sum = Sum::default();
    for (from, seeds) in shares(args.from, args.seeds) {
        let broken_max = args.broken_max.saturating_sub(sum.broken.len());
        if broken_max > 0 {
            sum.merge(many(from, seeds, args.jobs, broken_max));
        }
    }
    for (number, outcome) in sum.broken.iter().enumerate() {
        show(outcome, number < SHOWN_MAX);
    }
    println!(
        "seeds {} events {} plans {} commits {} requests {} failed {} writes {} rest_max {:.1} s \
         violations {} seconds {:.1}",
        sum.seeds,
        sum.events,
        sum.runs,
        sum.commits,
        sum.requests,
        sum.failed,
        sum.writes,
        seconds(sum.rest_ms_max),
        sum.broken.len(),
        began.elapsed().as_secs_f64(),
    );
    code(sum.broken.is_empty())
}

fn code(good: bool) -> ExitCode {
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

/// Runs seeds in several threads. The sum does not depend on their number, unless it stops early.
#[must_use]
pub fn many(from: u64, seeds: u64, jobs: usize, broken_max: usize) -> Sum {
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let outcome = run::seed_checked(seed);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.add(outcome);
                    if sum.broken.len() >= broken_max {
                        next.store(from + seeds, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.broken.sort_by_key(|outcome| outcome.seed);
    sum
}

fn show(outcome: &Outcome, lines: bool) {
    if outcome.violations.is_empty() {
        return;
    }
    let seed = outcome.seed;
    if lines {
        for line in &outcome.last {
            println!("{line}");
        }
    }
    for what in &outcome.violations {
        println!("seed {seed}: {what}");
    }
    println!("replay: cargo run -p longshore-sim --release -- --seed {seed} -v");
}
