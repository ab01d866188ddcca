//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    longshore_fence_model::cli::main()
}
