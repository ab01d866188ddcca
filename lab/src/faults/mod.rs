//! `make faults`: programs, links and hosts of the lab fail one after the other while requests come,
//! and four ledgers say what that cost (docs/faults.md).

mod app;
mod cases;
mod changes;
mod containers;
mod lists;
mod outcome;
mod settings;
mod strike;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use crate::handover::{self, Counters, Running};
use crate::traffic::{Plan, Target};
use crate::{controllers, ctl, edges, restore};
use cases::Case;
use changes::Changes;
use containers::Containers;
use outcome::{Outcome, Requests};
pub use settings::Settings;
use strike::Strike;

/// Load before a fault, and after all is mended.
const CALM: Duration = Duration::from_secs(2);

/// Runs what the settings ask for. 1: a case is not what it must be.
#[must_use]
pub fn run(settings: &Settings) -> ExitCode {
    // The demo app scales by CPU use, of which there will be some.
    ctl(&["down", "hello", "-y"]);
    app::deploy();
    let mut failed = 0;
    for round in 1..=settings.rounds {
        if settings.rounds > 1 {
            println!("round {round} of {}", settings.rounds);
        }
        for case in cases::ALL.iter().filter(|case| settings.has(case.number)) {
            if cases::OF_SEVERAL.contains(&case.number) && controllers().len() == 1 {
                println!(
                    "{:2} {:<36} not run: it needs CONTROLLERS=3 make lab",
                    case.number, case.name
                );
                continue;
            }
            let outcome = one(case);
            println!("{}", outcome.line(case));
            failed += usize::from(!outcome.complaints.is_empty());
        }
    }
    app::down();
    restore();
    match failed {
        0 => println!("passed"),
        count => println!("failed: {count}"),
    }
    ExitCode::from(u8::from(failed > 0))
}

/// One case under load, and its ledgers.
fn one(case: &Case) -> Outcome {
    let mut outcome = Outcome::default();
    let prepared = quietly(|| {
        app::spread();
        (case.before)();
        (Containers::look(), edge_counters())
    });
    let (before, counters) = match prepared {
        Ok(prepared) => prepared,
        Err(why) => {
            outcome.complaints.push(format!("before it: {why}"));
            outcome.complaints.extend(quietly(app::mend).err());
            return outcome;
        }
    };
    let changes = Changes::start();
    let load = Running::start(plans());
    std::thread::sleep(CALM);
    let mut strike = Strike::default();
    let ran = quietly(|| (case.run)(&mut strike));
    outcome.complaints.extend(ran.err());
    // What the case left undone, if it broke off.
    strike.undo();
    outcome.complaints.extend(quietly(app::mend).err());
    // Nothing more is to change from here on.
    outcome.complaints.extend(quietly(lists::agree).err());
    std::thread::sleep(CALM);
    let tally = load.finish();
    outcome.requests = Requests::of(&tally, strike.struck());
    outcome.recovered = strike.recovered();
    outcome.notes = strike.take_notes();
    let after = edge_counters();
    outcome.judge(case, counters.as_ref(), after.as_ref(), &tally);
    outcome.complaints.extend(changes.finish());
    match quietly(|| before.compare(case.allowed, strike.touched())) {
        Ok(complaints) => outcome.complaints.extend(complaints),
        Err(why) => outcome.complaints.push(why),
    }
    outcome
}

/// What panicked, in words.
fn quietly<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let first = text.unwrap_or("it panicked").lines().next();
        first.unwrap_or_default().to_owned()
    })
}

/// Short requests on kept and on new connections, and some of a second, at every edge.
fn plans() -> Vec<Plan> {
    let edges = edges();
    let targets = edges.iter().map(|(name, host)| {
        let target = Target::parse(&format!("{host}:{}", app::PORT), &crate::net());
        (*name, target.expect("one of the lab's hosts"))
    });
    let mut plans = Plan::shared_by(targets.collect());
    for plan in &mut plans {
        plan.slow_ms = 1_000;
        plan.download_rate = 0.0;
        plan.sockets = 0;
        plan.time_max = Duration::from_secs(900);
        plan.requests_max = 200_000;
    }
    plans
}

fn edge_counters() -> Option<Counters> {
    let edges = edges().into_iter();
    edges
        .map(|(_, host)| {
            quietly(|| handover::edge_counters(&host, app::STATS_PORT, app::PORT)).ok()
        })
        .reduce(|all, one| Some(all? + one?))
        .flatten()
}
