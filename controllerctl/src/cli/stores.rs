//! Arguments of the verbs about what is kept: `secret`, `volume`, `system df`.

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

/// `system df`
#[derive(Debug, Args)]
pub struct DiskArgs {
    /// Only these nodes.
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub node: Vec<String>,
}

/// `volume`
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// List them: where they are, and who has them.
    Ls(VolumeLsArgs),
    /// All that is known of volumes, as YAML.
    Inspect(VolumeInspectArgs),
    /// Remove volumes that nobody uses, with what is in them.
    Rm(VolumeRmArgs),
}

/// `volume ls`
#[derive(Debug, Args)]
pub struct VolumeLsArgs {
    /// Apps. Default: all.
    #[arg(value_name = "APP", add = ArgValueCandidates::new(complete::apps))]
    pub apps: Vec<String>,
    /// Only on these nodes.
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub node: Vec<String>,
}

/// `volume inspect`
#[derive(Debug, Args)]
pub struct VolumeInspectArgs {
    /// Volumes.
    #[arg(required = true, value_name = "VOLUME", add = ArgValueCandidates::new(complete::volumes))]
    pub volumes: Vec<String>,
    /// Only on these nodes.
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub node: Vec<String>,
}

/// `volume rm`
#[derive(Debug, Args)]
pub struct VolumeRmArgs {
    /// Volumes.
    #[arg(required = true, value_name = "VOLUME", add = ArgValueCandidates::new(complete::volumes))]
    pub volumes: Vec<String>,
    /// On these nodes. Without it, on the only node that has it.
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub node: Vec<String>,
}
