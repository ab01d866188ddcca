//! `why`, `events`, `autoscale`, `approve`.

use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use crate::complete;

/// `why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// App, service, replica (web.3, r17) or node (node/NAME); also one that is gone.
    #[arg(add = ArgValueCandidates::new(complete::everything))]
    pub target: String,
    /// As it was then: 10m (ago), 12:04:10 (UTC), a date, RFC 3339 or Unix time.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

/// `events`
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with new ones, also after the controller was away.
    #[arg(short, long)]
    pub follow: bool,
    /// Since: 10m, 12:04:10 (UTC), a date, RFC 3339 or Unix time.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only about this service or node.
    #[arg(long, value_name = "TARGET", add = ArgValueCandidates::new(complete::services))]
    pub about: Option<String>,
    /// Who asked for which change, and what became of it: calls of operators, the refused ones too.
    #[arg(long)]
    pub audit: bool,
    /// Only those with this type, service or node; several of one key: any of them.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    pub filter: Vec<(FilterKey, String)>,
}

/// What events can be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterKey {
    /// Their type.
    Type,
    /// A service, or all of an app.
    Service,
    /// A node.
    Node,
}

fn parse_filter(text: &str) -> Result<(FilterKey, String), String> {
    let known = "write type=, service= or node=, for example type=scaled";
    let (key, value) = text.split_once('=').ok_or(known)?;
    let key = match key {
        "type" => FilterKey::Type,
        "service" => FilterKey::Service,
        "node" => FilterKey::Node,
        _ => return Err(format!("there is no filter {key:?}; {known}")),
    };
    if value.is_empty() {
        return Err(format!("{text:?} names nothing; {known}"));
    }
    Ok((key, value.to_owned()))
}

/// `autoscale`
#[derive(Debug, Subcommand)]
pub enum AutoscaleCommand {
    /// List services that scale by load.
    Ls,
    /// Show one: bounds, signals, what operators said.
    Show(AutoscaleService),
    /// Print decisions about counts, the last ones last.
    History(HistoryArgs),
    /// Keep the count as it is; what would be done is still said.
    Pause(PauseArgs),
    /// Let it go on.
    Resume(AutoscaleService),
    /// Set bounds that hold instead of the file's.
    Set(BoundsArgs),
    /// Agree to the count that a service in approve mode asks for.
    Approve(ApproveArgs),
    /// Replay a service's recorded load against the x-autoscale of a file.
    Simulate(super::SimulateArgs),
}

/// A service.
#[derive(Debug, Args)]
pub struct AutoscaleService {
    /// Service.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub service: String,
}

/// `autoscale history`
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Service. Default: all.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub service: Option<String>,
    /// Since: 10m, 12:04:10 (UTC), a date, RFC 3339 or Unix time.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// The last so many.
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 50)]
    pub tail: u32,
    /// Only those that changed the count.
    #[arg(long)]
    pub changes: bool,
}

/// `autoscale pause`
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Service.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub service: String,
    /// For so long. Default: until it is resumed.
    #[arg(long = "for", value_name = "TIME", value_parser = super::values::some_time)]
    pub length: Option<Duration>,
}

/// `autoscale set`
#[derive(Debug, Args)]
pub struct BoundsArgs {
    /// Service.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub service: String,
    /// Never fewer.
    #[arg(long, value_name = "N", required_unless_present_any = ["max", "clear"])]
    pub min: Option<u32>,
    /// Never more.
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
    /// The file's bounds hold again.
    #[arg(long, conflicts_with_all = ["min", "max"])]
    pub clear: bool,
}

/// `approve`
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Service. With -i, default: all.
    #[arg(required_unless_present = "interactive", add = ArgValueCandidates::new(complete::services))]
    pub service: Option<String>,
    /// Refuse if it asks for another count by now.
    #[arg(long, value_name = "N")]
    pub count: Option<u32>,
    /// Wait for services that ask, and ask back each time: Enter agrees.
    #[arg(short, long, conflicts_with = "count")]
    pub interactive: bool,
}
