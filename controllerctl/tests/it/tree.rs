//! The command tree itself.

use clap::{CommandFactory, Parser};
use controllerctl::cli::{Cli, Command};

#[test]
fn the_tree_has_no_contradictions() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_says_what_it_does() {
    fn walk(command: &clap::Command) {
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{} has no help", sub.get_name());
            walk(sub);
        }
    }
    walk(&Cli::command());
}

#[test]
fn flags_of_the_command_stay_with_the_command() {
    let cli = Cli::parse_from([
        "controllerctl",
        "exec",
        "-i",
        "web.2",
        "ls",
        "-l",
        "-o",
        "x",
    ]);
    let Command::Exec(exec) = cli.command else {
        panic!("not exec")
    };
    assert_eq!((exec.interactive, exec.target.as_str()), (true, "web.2"));
    assert_eq!(exec.command, ["ls", "-l", "-o", "x"]);
}
