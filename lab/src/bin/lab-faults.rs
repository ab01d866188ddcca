//! `make faults`; docs/faults.md says what it does and how to read it.

use std::process::ExitCode;

use longshore_lab::faults::{Settings, run};

fn main() -> ExitCode {
    match Settings::from_env() {
        Ok(settings) => run(&settings),
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::from(2)
        }
    }
}
