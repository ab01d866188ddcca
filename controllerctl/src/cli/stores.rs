//! Arguments of the verbs about what is kept: `secret`.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::WatchArgs;
use crate::complete;

/// `secret`
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// List them, without their contents.
    Ls(SecretLsArgs),
}

/// `secret ls`
#[derive(Debug, Args)]
pub struct SecretLsArgs {
    /// Apps. Default: all.
    #[arg(value_name = "APP", add = ArgValueCandidates::new(complete::apps))]
    pub apps: Vec<String>,
    /// Repaint.
    #[command(flatten)]
    pub watch: WatchArgs,
}
