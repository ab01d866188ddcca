//! Load of all kinds but the queue's on one address: `lab-load IP:PORT [SECONDS]`, 30 s if not said.
//! Loopback and the lab's hosts only. Exit code 1 if a request failed.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a tool for the lab: a panic is its answer

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use longshore_lab::kind::Kind;
use longshore_lab::traffic::{Plan, Tally, Target, run};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seconds = args.get(1).map_or(Ok(30), |text| text.parse::<u64>());
    let (Some(target), Ok(seconds @ 1..=14_400)) = (args.first(), seconds) else {
        eprintln!("usage: lab-load IP:PORT [SECONDS, 14400 at most]");
        return ExitCode::from(2);
    };
    let target = match Target::parse(target, &longshore_lab::net()) {
        Ok(target) => target,
        Err(error) => {
            eprintln!("lab-load: {error}");
            return ExitCode::from(2);
        }
    };
    let plan = Plan {
        time_max: Duration::from_secs(seconds),
        ..Plan::standard(target)
    };
    let tally = Arc::new(Tally::default());
    run(plan, Arc::clone(&tally), CancellationToken::new()).await;
    print!("{}", longshore_lab::traffic::table(&tally, false));
    let failed = Kind::ALL
        .into_iter()
        .any(|kind| tally.counts(kind, false).failed > 0);
    ExitCode::from(u8::from(failed))
}
