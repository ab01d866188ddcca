//! `make examples`: runs the READMEs of examples, all or those that are named, against the lab.

use std::process::ExitCode;

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    match longshore_lab::readme::examples(&names) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
