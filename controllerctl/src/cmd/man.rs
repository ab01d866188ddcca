//! `man`: the pages of all commands, for packages. The one of the program has the exit codes.

use clap::CommandFactory;

use crate::cli::{Cli, ManArgs};
use crate::failure::{EXIT_CODES, Exit, Failure};
use crate::output::note;

pub(super) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let directory = &args.directory;
    let failed = |error: std::io::Error| {
        let message = format!("cannot write pages to {}", directory.display());
        Failure::new(message).because(error)
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let command = Cli::command().after_long_help(EXIT_CODES);
    clap_mangen::generate_to(command, directory).map_err(failed)?;
    let shown = directory.display();
    note(&format!(
        "wrote them; to read: man -l {shown}/controllerctl.1"
    ));
    Ok(Exit::Done)
}
