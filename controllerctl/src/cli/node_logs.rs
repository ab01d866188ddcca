//! `node logs`.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::Tail;
use crate::complete;

/// `node logs`
#[derive(Debug, Args)]
pub struct NodeLogsArgs {
    /// Node.
    #[arg(add = ArgValueCandidates::new(complete::nodes))]
    pub node: String,
    /// Go on with new lines.
    #[arg(short, long)]
    pub follow: bool,
    /// Last so many lines, or all that are kept. Default: 100, with --since all.
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<Tail>,
    /// Since: 10m, 12:04:10 (UTC), a date, RFC 3339 or Unix time.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}
