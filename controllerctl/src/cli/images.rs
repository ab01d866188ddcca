//! Arguments of the verbs for images.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::FileArgs;
use crate::complete;

/// `image`
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Send images of the engine here to the controller; only layers that it lacks.
    Push(PushArgs),
    /// List the images that the controller holds.
    Ls,
    /// Forget images; what replicas run or may be taken back to stays.
    Rm(RemoveImagesArgs),
    /// Forget what no revision needs.
    Prune(PruneArgs),
}

/// `image push`, `push`
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Images, by the names that they have in the engine here.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Have these nodes fetch it at once, before anything runs it there.
    #[arg(long = "node", value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub nodes: Vec<String>,
    /// Of an image of several platforms, this one: linux/arm64.
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
}

/// `image rm`
#[derive(Debug, Args)]
pub struct RemoveImagesArgs {
    /// shop/web:1, or shop/web@sha256:…
    #[arg(required = true, value_name = "IMAGE", add = ArgValueCandidates::new(complete::images))]
    pub images: Vec<String>,
}

/// `image prune`
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Newest tags of each repository that stay. Default: 5.
    #[arg(long, value_name = "N")]
    pub keep: Option<u32>,
    /// Only say what would go.
    #[arg(long)]
    pub dry_run: bool,
}

/// `build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Services. Default: all that have `build`.
    pub services: Vec<String>,
    /// Compose files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Send what is built to the controller.
    #[arg(long)]
    pub push: bool,
    /// Do each step anew.
    #[arg(long)]
    pub no_cache: bool,
    /// Ask for newer base images.
    #[arg(long)]
    pub pull: bool,
}
