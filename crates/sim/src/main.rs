//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    longshore_sim::cli::main()
}
