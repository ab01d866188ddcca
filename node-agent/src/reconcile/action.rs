//! What the reconciler wants done, and what came of it. Steps are data; `mod.rs` carries them out.

use longshore_model::ReplicaId;

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
        /// Reference.
        image: String,
    },
    /// Signal, grace, kill, remove.
    Stop {
        /// Whose.
        replica: ReplicaId,
        /// Which.
        container: ContainerId,
        /// Grace; none: as it was made.
        grace_ms: Option<u64>,
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
        /// What to ask.
        target: Target,
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
        /// Reference.
        image: String,
        /// Outcome.
        result: Result<(), RuntimeError>,
    },
    /// It is gone, or not.
    Stopped {
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
        /// In words if it did not pass.
        result: Result<(), String>,
    },
}
