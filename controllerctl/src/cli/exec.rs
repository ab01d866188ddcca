//! Arguments of `exec` and `run`.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::complete;

/// `exec`
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Hand on what comes in.
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// User inside the container.
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Variable for the command.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Directory inside the container.
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Service (its first replica) or replica (web.3).
    #[arg(add = ArgValueCandidates::new(complete::targets))]
    pub target: String,
    /// Command and arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Hand on what comes in.
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Remove it afterwards: that is so without it, too.
    #[arg(long)]
    pub rm: bool,
    /// Variable, beside those of the service.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// User inside the container.
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Directory inside the container.
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Program instead of the image's and the service's; their command is left out then.
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Service.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub service: String,
    /// Command and arguments. Default: the service's.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}
