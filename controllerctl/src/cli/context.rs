//! Arguments of `context create`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::complete;

/// `context create`, with the global `--server` as the controller's address.
#[derive(Debug, Args)]
pub struct CreateContextArgs {
    /// Its name.
    pub name: String,
    /// The cluster's CA: nobody else is trusted.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Own certificate.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// An operator's token instead of a certificate: a file, or - for stdin. The CA is the one that it names,
    /// unless --ca is given.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["cert", "key", "from", "token_command"])]
    pub token: Option<PathBuf>,
    /// A command that prints the token, run at each use without a shell: 'pass show longshore'.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["cert", "key", "from"])]
    pub token_command: Option<String>,
    /// Take what is not given from this context. Default: the one with the CA that is given, else the
    /// current one.
    #[arg(long, value_name = "CONTEXT", add = ArgValueCandidates::new(complete::contexts))]
    pub from: Option<String>,
    /// Replace another context of that name.
    #[arg(long)]
    pub force: bool,
}
