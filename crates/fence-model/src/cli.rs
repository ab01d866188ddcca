//! `make fencing`: the whole fence must hold, and each part of it must be needed.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use stateright::{Checker, Model};

use crate::{Bounds, LAW, System, Weakness};

/// Checks the fence in every order of events, then shows for each of its parts what happens without.
#[derive(Debug, Parser)]
#[command(name = "longshore-fence-model", version)]
struct Args {
    /// Leaderships of each store.
    #[arg(long, default_value_t = 2)]
    terms: u64,
    /// Changes in all.
    #[arg(long, default_value_t = 2)]
    changes: u8,
    /// Leave out the cluster that is restored from a copy: room for more of the rest.
    #[arg(long)]
    no_restore: bool,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// What a check found.
#[derive(Debug)]
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Steps to the first breach.
    pub breach: Option<Vec<String>>,
    /// What had to be possible and was not.
    pub impossible: Vec<&'static str>,
}

/// Checks every state within the bounds; stops at the first breach.
#[must_use]
pub fn check(system: System, threads: usize) -> Found {
    let checker = system.checker().threads(threads).spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let breach = discoveries.remove(LAW).map(|path| {
        path.into_actions()
            .iter()
            .map(|a| format!("{a:?}"))
            .collect()
    });
    let names = system
        .properties()
        .into_iter()
        .map(|property| property.name);
    let impossible = names
        .filter(|name| *name != LAW && !discoveries.contains_key(name))
        .collect();
    Found {
        states: checker.unique_state_count(),
        breach,
        impossible,
    }
}

/// Bounds in which a breach is found soon.
#[must_use]
pub const fn bounds_of(weakness: Weakness) -> Bounds {
    match weakness {
        Weakness::NodesObeyAll | Weakness::ObeyedBeforeWritten => Bounds {
            terms_max: 2,
            changes_max: 1,
            restores: false,
        },
        Weakness::WritesUnguarded => Bounds {
            terms_max: 2,
            changes_max: 2,
            restores: false,
        },
        Weakness::RestoredAsTheSame => Bounds {
            terms_max: 1,
            changes_max: 2,
            restores: true,
        },
    }
}

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let bounds = Bounds {
        terms_max: args.terms,
        changes_max: args.changes,
        restores: !args.no_restore,
    };
    let start = Instant::now();
    let weakness = None;
    let whole = check(System { bounds, weakness }, args.threads);
    let said = match &whole.breach {
        None => "no breach".to_owned(),
        Some(steps) => format!("BROKEN by {}", steps.join(", ")),
    };
    let (states, took) = (whole.states, start.elapsed().as_secs_f64());
    println!("the whole fence: {states} states, {said} in {took:.1} s");
    for what in &whole.impossible {
        println!("  never happened: {what}");
    }
    let mut is_well = whole.breach.is_none() && whole.impossible.is_empty();
    for weakness in Weakness::ALL {
        let bounds = bounds_of(weakness);
        let weak = System {
            bounds,
            weakness: Some(weakness),
        };
        // One thread: the shortest way.
        let found = check(weak, 1);
        is_well &= found.breach.is_some();
        match found.breach {
            Some(steps) => println!("{weakness}: broken by {}", steps.join(", ")),
            None => println!("{weakness}: NOT found in {} states", found.states),
        }
    }
    println!("{}", if is_well { "passed" } else { "failed" });
    ExitCode::from(u8::from(!is_well))
}
