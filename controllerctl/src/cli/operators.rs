//! Arguments of `operator` and of `context join`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use crate::complete;

/// `operator`
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Let an operator in: prints the line with which they fetch a certificate, or a token.
    Add(OperatorAddArgs),
    /// List operators, what they may do and what they show for it.
    Ls,
    /// Give an operator another role, at once.
    Role(OperatorRoleArgs),
    /// Give an operator a new certificate or token in place of the present one.
    Rotate(OperatorRotateArgs),
    /// Remove operators: nothing of theirs is let in any more, and what they have open is cut.
    Rm(OperatorsArgs),
}

/// What an operator may do; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OperatorRole {
    /// Reads.
    Viewer,
    /// Applies, scales and stops apps.
    Deployer,
    /// Manages nodes, operators and tokens.
    Admin,
}

impl OperatorRole {
    /// As the API has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}

/// `operator add`
#[derive(Debug, Args)]
pub struct OperatorAddArgs {
    /// Their name: a-z, 0-9 and -.
    pub name: String,
    /// What they may do.
    #[arg(long, value_enum)]
    pub role: OperatorRole,
    /// A token instead of a certificate: for CI and other programs.
    #[arg(long)]
    pub token: bool,
    /// How long the line can be used (1h; at most 24h), or the token is good for (90d; at most 365d).
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub ttl: Option<Duration>,
}

/// `operator role`
#[derive(Debug, Args)]
pub struct OperatorRoleArgs {
    /// Whose.
    #[arg(add = ArgValueCandidates::new(complete::operators))]
    pub name: String,
    /// What they may do from now on.
    #[arg(value_enum)]
    pub role: OperatorRole,
}

/// `operator rotate`
#[derive(Debug, Args)]
pub struct OperatorRotateArgs {
    /// Whose.
    #[arg(add = ArgValueCandidates::new(complete::operators))]
    pub name: String,
    /// As for `operator add`.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub ttl: Option<Duration>,
    /// Refuse the present certificate now, and not once the new one is fetched. Tokens always end now.
    #[arg(long)]
    pub now: bool,
}

/// `operator rm`
#[derive(Debug, Args)]
pub struct OperatorsArgs {
    /// Which.
    #[arg(required = true, value_name = "NAME", add = ArgValueCandidates::new(complete::operators))]
    pub names: Vec<String>,
}

/// `context join`, with the global `--server` as the controller's address.
#[derive(Debug, Args)]
pub struct JoinContextArgs {
    /// What an admin's `operator add` printed; - reads it from stdin.
    #[arg(value_name = "INVITE|-")]
    pub invite: String,
    /// Name of the context. Default: the cluster's.
    #[arg(long, value_name = "CONTEXT")]
    pub name: Option<String>,
    /// Replace another context of that name.
    #[arg(long)]
    pub force: bool,
}
