//! What the reconciler wants done, and what came of it. Steps are data; `mod.rs` carries them out.

use longshore_model::spec::ExecCheck;
use longshore_model::{ImageRef, ReplicaId};

use crate::probe::Target;
use crate::runtime::{ContainerId, Inspection, Launch, RuntimeError};

/// One step.
#[derive(Debug, Clone)]
pub enum Action {
    /// Make (unless it exists) and start a container.
    Launch {
        /// Everything that makes it.
        launch: Box<Launch>,
        /// Its container, if it was made before.
        existing: Option<ContainerId>,
    },
    /// Fetch an image.
    Pull {
        /// Which.
        image: ImageRef,
    },
    /// Signal, grace, kill, remove.
    Stop {
        /// Whose.
        replica: ReplicaId,
        /// Which.
        container: ContainerId,
        /// Grace; none: as it was made.
        grace_ms: Option<u64>,
        /// It is frozen: its processes must go on to see the signal.
        frozen: bool,
    },
    /// Freeze it: warm standby.
    Pause {
        /// Whose.
        replica: ReplicaId,
        /// Which.
        container: ContainerId,
    },
    /// Let it go on.
    Unpause {
        /// Whose.
        replica: ReplicaId,
        /// Which.
        container: ContainerId,
    },
    /// Learn how it ended, or since when it runs.
    Inspect {
        /// Whose.
        replica: ReplicaId,
        /// Which.
        container: ContainerId,
    },
    /// Ask it for its health.
    Probe {
        /// Whose.
        replica: ReplicaId,
        /// Which container was asked: an answer for another one means nothing.
        container: ContainerId,
        /// Which proof of health it is for: an answer from before a pause means nothing after it.
        proof: u64,
        /// What to ask.
        target: Target,
    },
    /// Run its health command now. The engine's verdict is from before the pause, and its next one
    /// may be minutes away. Answered by [`Done::Probed`].
    Recheck {
        /// Whose.
        replica: ReplicaId,
        /// Which.
        container: ContainerId,
        /// As in [`Action::Probe`].
        proof: u64,
        /// The command and its deadline.
        check: ExecCheck,
    },
}

/// What came of a step.
#[derive(Debug, Clone)]
pub enum Done {
    /// It runs.
    Launched {
        /// Whose.
        replica: ReplicaId,
        /// Which.
        container: ContainerId,
    },
    /// It does not.
    LaunchFailed {
        /// Whose.
        replica: ReplicaId,
        /// Made but not started.
        container: Option<ContainerId>,
        /// Why.
        error: RuntimeError,
    },
    /// An image is there, or not.
    Pulled {
        /// Which.
        image: ImageRef,
        /// Outcome.
        result: Result<(), RuntimeError>,
    },
    /// It is gone, or not.
    Stopped {
        /// Whose.
        replica: ReplicaId,
        /// Outcome: how it ended, if that could be seen before it was removed.
        result: Result<Option<Inspection>, RuntimeError>,
    },
    /// It is frozen, or not.
    Paused {
        /// Whose.
        replica: ReplicaId,
        /// Outcome.
        result: Result<(), RuntimeError>,
    },
    /// It goes on, or not.
    Unpaused {
        /// Whose.
        replica: ReplicaId,
        /// Outcome.
        result: Result<(), RuntimeError>,
    },
    /// Its details.
    Inspected {
        /// Whose.
        replica: ReplicaId,
        /// Outcome.
        result: Result<Inspection, RuntimeError>,
    },
    /// Its health.
    Probed {
        /// Whose.
        replica: ReplicaId,
        /// Which.
        container: ContainerId,
        /// For which proof it was asked.
        proof: u64,
        /// In words if it did not pass.
        result: Result<(), String>,
    },
}
