//! `autoscale simulate`.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::FileArgs;
use crate::complete;

/// `autoscale simulate`
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Service: its recorded load, and its x-autoscale in the file.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub service: String,
    /// Compose files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Since: 24h, 12:04:10 (UTC), a date, RFC 3339 or Unix time. Default: all that is recorded.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}
