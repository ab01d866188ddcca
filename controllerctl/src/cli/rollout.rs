//! Arguments of `rollout …` and `restart`.

use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::WatchArgs;
use crate::complete;

/// `rollout`
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Show the present or last rollout of services.
    Status(RolloutStatusArgs),
    /// List past revisions of a service, newest first, and how they ended.
    History(ServiceArgs),
    /// Apply an older revision of a service as a new one.
    Undo(UndoArgs),
    /// Let no further batch begin, of this or a later revision.
    Pause(ServiceArgs),
    /// Go on after a pause, or try again after a failure or a rollback.
    Resume(ServiceArgs),
}

/// `rollout status`
#[derive(Debug, Args)]
pub struct RolloutStatusArgs {
    /// Services. Default: all.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub services: Vec<String>,
    /// Repaint.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// One service.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// Service.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub service: String,
}

/// `rollout undo`
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// Service.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub service: String,
    /// Revision to go back to; see `rollout history`. Default: the one before.
    #[arg(long, value_name = "N")]
    pub to_revision: Option<u64>,
    /// Do not follow it.
    #[arg(short, long)]
    pub detach: bool,
    /// Give up following after this time; it goes on.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub wait_timeout: Duration,
}

/// `restart`
#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Services of one app.
    #[arg(required = true, add = ArgValueCandidates::new(complete::services))]
    pub services: Vec<String>,
    /// Do not follow it.
    #[arg(short, long)]
    pub detach: bool,
    /// Give up following after this time; it goes on.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub wait_timeout: Duration,
}
