//! The command line.

use std::process::ExitCode;

use clap::Parser;

use crate::{run, seeds};

/// Controller and agents on a simulated network.
#[derive(Debug, Parser)]
struct Args {
    /// Runs this seed alone, in this process.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds, each in a process of its own; each tenth one twice.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Prints what happened.
    #[arg(long)]
    trace: bool,
    /// A seeded mistake, which must be found out (`crates/model/src/mutant.rs`).
    #[arg(long)]
    mutant: Option<String>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.seed {
        Some(seed) => run::one(seed, args.trace, args.mutant.as_deref()),
        None => seeds::all(args.from, args.seeds, args.mutant.as_deref()),
    };
    match done {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
