//! `make bench-handover`; docs/bench-handover.md says what it does and how to read it.

use std::process::ExitCode;

use longshore_lab::handover::{Settings, run};

fn main() -> ExitCode {
    match Settings::from_env() {
        Ok(settings) => run(&settings),
        Err(error) => {
            eprintln!("bench-handover: {error}");
            ExitCode::from(2)
        }
    }
}
