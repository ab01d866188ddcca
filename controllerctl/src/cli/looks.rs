//! Arguments of the verbs that look at things: `inspect`, `stats`, `top`, `proxy`, `doctor`, `system`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::{DiskArgs, PruneArgs, WatchArgs};
use crate::complete;

/// `inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Apps, services, replicas (web.3), nodes; KIND/NAME where that is not clear: node/web.
    #[arg(required = true, value_name = "TARGET", add = ArgValueCandidates::new(complete::everything))]
    pub targets: Vec<String>,
}

/// `stats`
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Apps, services or replicas (shop, web, web.3). Default: all.
    #[arg(add = ArgValueCandidates::new(complete::in_apps))]
    pub targets: Vec<String>,
    /// Once, and not again and again.
    #[arg(long)]
    pub no_stream: bool,
}

/// `top`
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print once what the screen would show.
    #[arg(long)]
    pub once: bool,
    /// Time between two looks.
    #[arg(long, default_value = "2s", value_parser = super::values::some_time, value_name = "TIME")]
    pub interval: Duration,
}

/// `proxy`
#[derive(Debug, Subcommand)]
pub enum ProxyCommand {
    /// Edges: whether their HAProxy runs what it should.
    Status(WatchArgs),
    /// Replicas behind the edges: whether each edge's check reaches them.
    Backends(BackendsArgs),
    /// Keep replicas out of the routes of all edges: no new requests, what they have goes on.
    Drain(ProxyDrainArgs),
    /// Let replicas take requests again.
    Ready(ProxyReadyArgs),
    /// Print the file that an edge's HAProxy was last loaded with, its secrets hidden.
    Config(ProxyConfigArgs),
}

/// `proxy drain`
#[derive(Debug, Args)]
pub struct ProxyDrainArgs {
    /// Replicas of one service: web.3, r17.
    #[arg(required = true, value_name = "REPLICA", add = ArgValueCandidates::new(complete::replicas))]
    pub replicas: Vec<String>,
    /// Why, for the others.
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub message: String,
    /// Even if nobody else of the service takes requests then.
    #[arg(long)]
    pub force: bool,
    /// Do not wait until their sessions are over.
    #[arg(short, long)]
    pub detach: bool,
    /// Give up waiting after this time; it goes on.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub wait_timeout: Duration,
}

/// `proxy ready`
#[derive(Debug, Args)]
pub struct ProxyReadyArgs {
    /// Replicas of one service: web.3, r17.
    #[arg(required = true, value_name = "REPLICA", add = ArgValueCandidates::new(complete::replicas))]
    pub replicas: Vec<String>,
}

/// `proxy config`
#[derive(Debug, Args)]
pub struct ProxyConfigArgs {
    /// Edge. Default: the only one.
    #[arg(add = ArgValueCandidates::new(complete::edges))]
    pub node: Option<String>,
    /// Print how what would be written now differs from it.
    #[arg(long)]
    pub diff: bool,
    /// Exit with 3 if it differs.
    #[arg(long, requires = "diff")]
    pub detailed_exitcode: bool,
}

/// `proxy backends`
#[derive(Debug, Args)]
pub struct BackendsArgs {
    /// Services. Default: all.
    #[arg(add = ArgValueCandidates::new(complete::services))]
    pub services: Vec<String>,
    /// Repaint.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Only these nodes.
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub node: Vec<String>,
}

/// `system`
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Versions, counts, and who is asking.
    Info,
    /// What takes room on nodes, and in the controller's store.
    Df(DiskArgs),
    /// Forget what nothing needs: images that the controller holds and no revision needs. Volumes
    /// stay.
    Prune(PruneArgs),
    /// Copy the whole cluster to a file, keys and secrets included; `controller restore` makes it anew.
    Backup(BackupArgs),
    /// List backups that the controller made by itself, on its machine.
    Backups,
    /// Write what status, why, events and the lists say to a file, for somebody who looks into a
    /// problem; without logs and secrets.
    SupportBundle(BundleArgs),
}

/// `system backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// File to write; it must not be there. `-`: standard output.
    pub file: PathBuf,
}

/// `system support-bundle`
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// File to write, a tar archive; it must not be there.
    #[arg(default_value = "longshore-support.tar")]
    pub file: PathBuf,
}

/// `man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory to write to; it is made if it is not there.
    pub directory: PathBuf,
}
