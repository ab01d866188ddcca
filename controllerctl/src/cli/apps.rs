//! Arguments of the verbs that read Compose files.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use crate::complete;

/// `init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// File to write; it must not be there. Default: compose.yaml, beside the old file.
    pub file: Option<PathBuf>,
    /// Convert an older Compose file (version 1 or 2, links, tutum/haproxy, dockercloud/haproxy),
    /// and say what is changed and why.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Leave out what has no counterpart, and say so.
    #[arg(long, requires = "from")]
    pub ignore_unsupported: bool,
}

/// Compose files.
#[derive(Debug, Clone, Default, Args)]
pub struct FileArgs {
    /// Compose file, - for stdin; more than one are merged. Default: those of COMPOSE_FILE, or
    /// compose.yaml and compose.override.yaml and their like.
    #[arg(short, long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Name of the app. Default: `name:` in the file, else its directory.
    #[arg(short, long, value_name = "NAME")]
    pub project: Option<String>,
    /// File of variables; of several the later wins. Default: .env.
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Services of this profile, too; * for all. Default: COMPOSE_PROFILES.
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::profiles))]
    pub profile: Vec<String>,
    /// Leave out what is known and not supported, with a warning for each.
    #[arg(long)]
    pub ignore_unsupported: bool,
}

/// `up`
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Compose files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Do not follow the rollout.
    #[arg(short, long)]
    pub detach: bool,
    /// Give up following after this time; the rollout goes on.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub wait_timeout: Duration,
    /// Only say what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// So many replicas of a service, whatever the files say.
    #[arg(long, value_name = "SERVICE=N", value_parser = super::values::parse_count, add = ArgValueCandidates::new(complete::counts))]
    pub scale: Vec<(String, u32)>,
    /// Build all services that have `build`, even if their image is there.
    #[arg(long)]
    pub build: bool,
    /// Build and send nothing.
    #[arg(long, conflicts_with = "build")]
    pub no_build: bool,
    /// When nodes ask registries for images, as if the files said so of each service.
    #[arg(long, value_enum, value_name = "WHEN")]
    pub pull: Option<Pull>,
    /// Take away services that are not in the files any more: that is so without it, too.
    #[arg(long)]
    pub remove_orphans: bool,
    /// Replace all replicas, even of services that do not change.
    #[arg(long)]
    pub force_recreate: bool,
    /// Refuse if the present revision is another.
    #[arg(long, value_name = "N")]
    pub check_revision: Option<u64>,
    /// Only these services, and those that they wait for (depends_on); the others of the app stay as
    /// they are. Default: all.
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::in_files))]
    pub services: Vec<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    /// Before each start.
    Always,
    /// Where it is not there.
    Missing,
    /// Never: it must be there.
    Never,
}

/// `plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Compose files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Only these services, as `up SERVICE…` takes them. Default: all.
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::in_files))]
    pub services: Vec<String>,
    /// As if all replicas were replaced, as `up --force-recreate` does.
    #[arg(long)]
    pub force_recreate: bool,
    /// Exit with 3 if there are changes.
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// So many replicas of a service, whatever the files say.
    #[arg(long, value_name = "SERVICE=N", value_parser = super::values::parse_count, add = ArgValueCandidates::new(complete::counts))]
    pub scale: Vec<(String, u32)>,
}

/// `down`
#[derive(Debug, Args)]
pub struct DownArgs {
    /// App. Default: the one of the Compose file here.
    #[arg(add = ArgValueCandidates::new(complete::apps))]
    pub app: Option<String>,
    /// Remove its named volumes as well, with what is in them, once its replicas are gone.
    #[arg(long, conflicts_with = "detach")]
    pub volumes: bool,
    /// Not taken: how long containers are given to stop is `stop_grace_period` in the file.
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub timeout: Option<String>,
    /// Do not wait until nothing is left.
    #[arg(short, long)]
    pub detach: bool,
    /// Give up waiting after this time; it goes on.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub wait_timeout: Duration,
}

/// `explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Key with the way to it: services.x-autoscale.metrics, or from the extension on.
    #[arg(add = ArgValueCompleter::new(complete::keys))]
    pub key: String,
}

/// `config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Compose files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Report what becomes of each key, instead of the file.
    #[arg(long)]
    pub check: bool,
    /// Only the names of the services.
    #[arg(long, conflicts_with_all = ["check", "images"])]
    pub services: bool,
    /// Only the images, each once.
    #[arg(long, conflicts_with = "check")]
    pub images: bool,
}
