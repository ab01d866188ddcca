//! How people talk to Longshore: a client of the controller's API, and nothing else, but for images,
//! which the engine here builds and hands over. It holds no state but the file of contexts, and it
//! never talks to nodes.
//!
//! Data goes to stdout, everything else to stderr. Exit codes are in [`failure`].

pub mod certificate;
pub mod cli;
pub mod client;
mod cmd;
pub mod complete;
pub mod compose;
pub mod context;
pub mod convert;
pub mod doctor;
pub mod engine;
pub mod failure;
pub mod output;
pub mod progress;
pub mod schema;
pub mod text;

use std::process::ExitCode;

use clap::Parser;

use failure::{Exit, Failure};

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    complete::answer();
    let cli = cli::Cli::parse();
    if cli.global.verbose > 0 {
        let level = if cli.global.verbose > 1 {
            tracing::Level::DEBUG
        } else {
            tracing::Level::INFO
        };
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(std::io::stderr)
            .init();
    }
    let colour = output::Printer::new(&cli.global).colour_err;
    let exit = match start(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            output::note(failure.render(colour).trim_end());
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

fn start(cli: cli::Cli) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start").because(error))?;
    let exit = runtime.block_on(cmd::run(cli));
    // A read from the terminal cannot be taken back; do not wait for it.
    runtime.shutdown_background();
    exit
}
