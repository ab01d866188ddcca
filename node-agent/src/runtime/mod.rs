//! The container engine, as the rest of the agent sees it.
//!
//! # Guarantees
//! Every call ends within its deadline. Errors are sorted by what the caller does about them.
//!
//! # Assumptions
//! A container carries its replica's id as a label; the engine keeps that over restarts.

pub mod archive;
pub mod create;
pub mod disk;
pub mod docker;
mod docker_disk;
mod docker_runs;
#[cfg(any(test, feature = "simulated"))]
#[allow(missing_docs, clippy::unwrap_used)]
pub mod fake;
mod held;
mod pull;
#[cfg(test)]
mod real_pull_tests;
#[cfg(test)]
mod real_runs_tests;
#[cfg(test)]
mod real_tests;
pub mod runs;
#[cfg(any(test, feature = "simulated"))]
#[allow(missing_docs, clippy::unwrap_used)]
pub mod runs_fake;
pub mod terminal;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
pub use held::Held;
use longshore_model::plan::AssignedReplica;
use longshore_model::spec::{FileContents, FileSpec};
use longshore_model::{ContainerSpec, ImageRef, ReplicaId};
use tokio::io::AsyncWrite;

/// The engine's id of a container.
pub type ContainerId = String;

/// Most ports of one container that are told.
pub const EXPOSED_MAX: usize = 32;

/// What a container does, as the engine lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Frozen: its processes are there and get no CPU. The engine does not check its health
    /// meanwhile and keeps the verdict from before.
    Paused,
    /// Ended.
    Exited,
}

/// Result of the engine's own health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecHealth {
    /// No verdict yet.
    Starting,
    /// Passed.
    Healthy,
    /// Failed as often as allowed.
    Unhealthy,
}

/// One of our containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: ContainerId,
    /// From its label.
    pub replica: ReplicaId,
    /// What it does.
    pub condition: Condition,
    /// The engine's own check, if it has one.
    pub health: Option<ExecHealth>,
    /// Its address on this host's bridge; none: it has none, or does not run.
    pub address: Option<IpAddr>,
    /// TCP ports that it says it listens on: its image's and its file's, at most
    /// [`EXPOSED_MAX`]. Empty unless it runs.
    pub exposed: BTreeSet<u16>,
}

/// Details of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// It runs.
    pub running: bool,
    /// How long the present or last run has lasted.
    pub ran_ms: u64,
    /// Since it ended; none: it runs, or never did.
    pub ended_ago_ms: Option<u64>,
    /// How it ended.
    pub exit_code: i64,
    /// It was killed for memory.
    pub oom: bool,
    /// Last line that it wrote, if it has ended; printable, at most 200 characters.
    pub last_line: String,
}

/// What the engine is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineInfo {
    /// Its version.
    pub version: String,
    /// Its word for the system: `linux`.
    pub os: String,
    /// Its word for the processor.
    pub arch: String,
    /// Its labels (`labels` in `daemon.json`), within the limits of a report.
    pub labels: BTreeMap<String, String>,
    /// Containers survive its restart.
    pub live_restore: bool,
    /// Where it keeps images and containers.
    pub root: PathBuf,
    /// How much of the disk there is free; none: not known.
    pub disk_free_percent: Option<u8>,
    /// Its volumes that have a name, and when they were made; none: not known.
    pub volumes: Option<BTreeMap<String, u64>>,
    /// Why images of the controller are loaded whole, with the way out; none: they are pulled by
    /// layers.
    pub loads_images: Option<String>,
}

/// Everything that makes one container.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Name of the cluster, for labels.
    pub cluster: Arc<str>,
    /// The replica.
    pub replica: AssignedReplica,
    /// What it runs.
    pub spec: Arc<ContainerSpec>,
    /// Names of services that it shall know.
    pub hosts: BTreeMap<String, Ipv4Addr>,
    /// Its secrets and configs, where they are not in its container yet.
    pub files: Vec<(FileSpec, FileContents)>,
    /// Publish on IPv6 as well as the node's address is one.
    pub ipv6: bool,
}

/// What the caller does about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The engine is not there: wait for it.
    Down,
    /// It accepted the call and did not answer in time: wait for it, then look what it did.
    Stuck,
    /// No such container.
    NotFound,
    /// The image is not on the node.
    ImageAbsent,
    /// A volume that nobody makes for it is not on the node.
    VolumeAbsent(String),
    /// Somebody has the host port.
    PortTaken(u16),
    /// The name is taken: a container of this replica exists already.
    NameTaken,
    /// Anything else that the engine said.
    Refused,
}

impl RuntimeError {
    /// An external volume is not here.
    fn volume_absent(volume: &str) -> Self {
        let way_out =
            format!("make it (docker volume create {volume}), or drop external from the file");
        Self {
            kind: ErrorKind::VolumeAbsent(volume.to_owned()),
            attempted: format!("looking for external volume {volume}"),
            detail: format!("it is not on this node: {way_out}"),
        }
    }
}

/// A call to the engine failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{attempted}: {detail}")]
pub struct RuntimeError {
    /// What to do about it.
    pub kind: ErrorKind,
    /// What was attempted.
    pub attempted: String,
    /// The engine's words.
    pub detail: String,
}

/// Which stream of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output (or the only one, with a terminal).
    Stdout,
    /// Standard error.
    Stderr,
}

/// Output of a container or a command.
pub type Output = Pin<Box<dyn Stream<Item = Result<(Channel, Vec<u8>), RuntimeError>> + Send>>;

/// What of the logs is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Go on with new lines.
    pub follow: bool,
    /// Lines from the end; none: all.
    pub tail: Option<u32>,
    /// Seconds since the epoch; 0: no bound.
    pub since_s: u64,
    /// Each line begins with its time.
    pub timestamps: bool,
}

/// A command to run inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOptions {
    /// Command and arguments.
    pub command: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// With standard input.
    pub stdin: bool,
    /// `user[:group]`; empty: the container's.
    pub user: String,
    /// Working directory; empty: the container's.
    pub working_dir: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Of its terminal.
    pub size: Option<terminal::Size>,
}

/// A command that runs, or a container that was attached to.
pub struct ExecRun {
    /// The engine's id of it.
    pub id: String,
    /// What it writes.
    pub output: Output,
    /// What it reads.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// Calls of the engine that the agent makes.
pub trait Runtime: runs::Runs + disk::Disk + terminal::Terminals {
    /// What the engine is. Deadline 5 s.
    fn info(&self) -> impl Future<Output = Result<EngineInfo, RuntimeError>> + Send;

    /// All containers of this cluster, also those that ended. Deadline 5 s.
    fn list(&self) -> impl Future<Output = Result<Vec<Container>, RuntimeError>> + Send;

    /// Details of one. Deadline 5 s.
    fn inspect(&self, id: &str) -> impl Future<Output = Result<Inspection, RuntimeError>> + Send;

    /// Makes a container. Deadline 30 s.
    fn create(
        &self,
        launch: &Launch,
    ) -> impl Future<Output = Result<ContainerId, RuntimeError>> + Send;

    /// Puts its secrets and configs into a container that was never started. Again is the same.
    /// Deadline 30 s.
    fn put_files(
        &self,
        id: &str,
        launch: &Launch,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Starts one. Deadline 30 s.
    fn start(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Freezes all its processes; one that is frozen already is no error. Deadline 30 s.
    fn pause(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Lets them go on; one that is not frozen is no error. Deadline 30 s.
    fn unpause(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Signal, grace (none: as it was made), kill. Deadline: the grace and 30 s.
    fn stop(
        &self,
        id: &str,
        grace_ms: Option<u64>,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Removes one, running or not, with its anonymous volumes. Deadline 30 s.
    fn remove(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Fetches an image: from the controller if it holds it, else from its registry. Ends when
    /// nothing moved for 60 s.
    fn pull(&self, image: &ImageRef) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Is an image here? Deadline 5 s.
    fn has_image(
        &self,
        image: &ImageRef,
    ) -> impl Future<Output = Result<bool, RuntimeError>> + Send;

    /// Returns when something happened to one of our containers, or fails when the engine can no
    /// longer tell.
    fn watch(&self, changed: &tokio::sync::Notify) -> impl Future<Output = RuntimeError> + Send;

    /// What a container wrote.
    fn logs(
        &self,
        id: &str,
        options: &LogOptions,
    ) -> impl Future<Output = Result<Output, RuntimeError>> + Send;

    /// Runs a command inside a container.
    fn exec(
        &self,
        id: &str,
        options: &ExecOptions,
    ) -> impl Future<Output = Result<ExecRun, RuntimeError>> + Send;

    /// Exit code of a command that has ended.
    fn exec_exit_code(
        &self,
        exec: &str,
    ) -> impl Future<Output = Result<Option<i64>, RuntimeError>> + Send;
}
