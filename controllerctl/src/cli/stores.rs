//! Arguments of the verbs about what is kept: `secret`, `registry`, `volume`, `system df`.

use clap::{Args, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use super::WatchArgs;
use crate::complete;

/// `secret`
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Keep a secret apart from apps: files name it with `external: true`.
    Create(SecretCreateArgs),
    /// List them, without their contents.
    Ls(SecretLsArgs),
    /// All that may be known of secrets, as YAML. Never their contents.
    Inspect(SecretsArgs),
    /// Remove secrets that stand apart from apps, and that no service has.
    Rm(SecretsArgs),
}

/// `secret create`
#[derive(Debug, Args)]
pub struct SecretCreateArgs {
    /// Its name: letters, digits, _ . -
    pub name: String,
    /// What is in it: a file, or - for stdin. Without it, it is typed and not shown, or read from
    /// stdin where that is no terminal.
    #[arg(value_name = "FILE|-", value_hint = ValueHint::FilePath)]
    pub file: Option<String>,
    /// Do not ask before another content takes the place of the present one.
    #[arg(long)]
    pub replace: bool,
}

/// `secret inspect`, `secret rm`
#[derive(Debug, Args)]
pub struct SecretsArgs {
    /// Secrets; those of apps are APP/NAME.
    #[arg(required = true, value_name = "SECRET", add = ArgValueCandidates::new(complete::secrets))]
    pub secrets: Vec<String>,
}

/// `registry`
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Keep credentials with which nodes pull images of a registry.
    Login(RegistryLoginArgs),
    /// List registries that there are credentials for. Never passwords.
    Ls,
    /// Remove credentials.
    Logout(RegistryLogoutArgs),
}

/// `registry login`
#[derive(Debug, Args)]
pub struct RegistryLoginArgs {
    /// The registry, as images name it.
    #[arg(value_name = "SERVER", default_value = "docker.io", add = ArgValueCandidates::new(complete::registries))]
    pub registry: String,
    /// As whom.
    #[arg(short, long, value_name = "USER")]
    pub user: String,
    /// Read the password or token from stdin. Without it, it is typed and not shown.
    #[arg(long)]
    pub password_stdin: bool,
}

/// `registry logout`
#[derive(Debug, Args)]
pub struct RegistryLogoutArgs {
    /// Registries.
    #[arg(required = true, value_name = "SERVER", add = ArgValueCandidates::new(complete::registries))]
    pub servers: Vec<String>,
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
