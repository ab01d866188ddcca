//! Arguments of `wait`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use crate::complete;

/// `wait`
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// App, service, replica (web.3) or node; KIND/NAME where that is not clear: node/web.
    #[arg(add = ArgValueCandidates::new(complete::everything))]
    pub target: String,
    /// What must hold; not all of it makes sense of each target.
    #[arg(long = "for", value_enum, value_name = "STATE")]
    pub state: WaitState,
    /// Give up after this time.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub timeout: Duration,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitState {
    /// App, service: as many serve as are wanted, where they may, none outdated, none leaving.
    Stable,
    /// As many are healthy as are wanted; a node: ready, and nothing on it fails.
    Healthy,
    /// Containers run, healthy or not; a node: ready.
    Running,
    /// Replica: out of the routes, on its way out, without sessions; node: cordoned or drained, nothing left there.
    Drained,
    /// It is gone.
    Deleted,
}

impl WaitState {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Healthy => "healthy",
            Self::Running => "running",
            Self::Drained => "drained",
            Self::Deleted => "deleted",
        }
    }
}
