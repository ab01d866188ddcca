//! Proof that the judges see: each seeded mistake must be found.

use std::time::Instant;

use longshore_model::mutant::{Mutant, switch};

use crate::cli::many;
use crate::run::{self, Outcome};
use crate::scenario::{
    FLAPS_FROM, GLOBAL_FROM, JOBS_FROM, LIMITS_FROM, PAUSES_FROM, POLICIES_FROM, REACH_FROM,
    RICH_FROM, VOLUMES_FROM,
};

/// Switches the mistake of that name on. False: there is none.
#[must_use]
pub fn switch_on(name: &str) -> bool {
    let found = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
    switch(found.copied());
    found.is_some()
}

/// Runs seeds for each mistake until one of them finds it; one line each. False: one survived.
#[must_use]
pub fn all_are_caught(from: u64, seeds: u64, jobs: usize) -> bool {
    let mut survivors = 0;
    for mutant in Mutant::ALL {
        let began = Instant::now();
        // What only rich seeds use, only they can find.
        let first = match mutant {
            Mutant::ForcedAtOnce => RICH_FROM + from,
            Mutant::PauseIgnored => PAUSES_FROM + from,
            Mutant::DryRunActs
            | Mutant::ApprovalNotAsked
            | Mutant::ApprovalObeyedTwice
            | Mutant::ScheduleIgnored
            | Mutant::GateIgnored
            | Mutant::MissingIsZero
            | Mutant::StaleIsFresh
            | Mutant::HoldIgnored
            | Mutant::PauseIsForEver
            | Mutant::FixedPortTwice => POLICIES_FROM + from,
            Mutant::NeverWakes
            | Mutant::OverrideIgnored
            | Mutant::GivesBackServing
            | Mutant::NodeCrowded => LIMITS_FROM + from,
            Mutant::UnreachedIsWaitedFor => REACH_FROM + from,
            Mutant::GlobalOutstaysDrain | Mutant::GlobalMissesNewcomers => GLOBAL_FROM + from,
            Mutant::VolumeHasNoHome | Mutant::VolumeWrittenTwice => VOLUMES_FROM + from,
            Mutant::NoPenalty => FLAPS_FROM + from,
            Mutant::JobNotAwaited | Mutant::JobRunsAgain => JOBS_FROM + from,
            _ => from,
        };
        let found = find(*mutant, first, seeds, jobs);
        let seconds = began.elapsed().as_secs_f64();
        match found {
            Some(outcome) => {
                let what = outcome.violations.first().map_or("", String::as_str);
                let (name, seed) = (mutant.name(), outcome.seed);
                println!("{name:<24} caught by seed {seed:<7} in {seconds:>6.1} s: {what:.110}");
            }
            None => {
                survivors += 1;
                println!(
                    "{:<24} SURVIVED {seeds} seeds in {seconds:.1} s",
                    mutant.name()
                );
            }
        }
    }
    switch(None);
    println!("mutants {} survivors {survivors}", Mutant::ALL.len());
    survivors == 0
}

/// The first seed found that breaks with the mistake and not without it.
fn find(mutant: Mutant, mut from: u64, seeds: u64, jobs: usize) -> Option<Outcome> {
    let end = from + seeds;
    while from < end {
        switch(Some(mutant));
        let sum = many(from, end - from, jobs, 1);
        let broken = sum.broken.into_iter().next()?;
        switch(None);
        if run::seed(broken.seed, false).violations.is_empty() {
            return Some(broken);
        }
        from = broken.seed + 1;
    }
    None
}
