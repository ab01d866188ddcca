//! What a replica waits for before its container is made or started.

use longshore_model::reason::FailReason;
use longshore_model::spec::FileSpec;
use longshore_model::{ContainerSpec, ReplicaId};

use super::Tracked;

/// A container that nobody wants, and the volumes that it may write to; none: nobody knows which.
pub(crate) type Writer = (ReplicaId, Option<Vec<String>>);

impl Tracked {
    /// It cannot be made before the controller has sent what is in a file.
    pub(crate) fn lacks(&mut self, file: &FileSpec) {
        let detail = format!("the controller has not sent what is in {file} yet");
        let attempted = "making the container".to_owned();
        self.reason = Some(FailReason::Engine { attempted, detail });
    }

    /// Does a container still run that may write to one of its volumes? Says so.
    pub(crate) fn waits_for_a_writer(&mut self, spec: &ContainerSpec, writers: &[Writer]) -> bool {
        let found = spec.written_volumes().find_map(|volume| {
            let writes = |of: &&Writer| match &of.1 {
                Some(volumes) => volumes.iter().any(|other| other == volume),
                None => true,
            };
            Some((volume, writers.iter().find(writes)?.0))
        });
        let Some((volume, writer)) = found else {
            return false;
        };
        let detail =
            format!("{writer} still runs here and may write to volume {volume}: it stops first");
        let attempted = "starting the container".to_owned();
        self.reason = Some(FailReason::Engine { attempted, detail });
        true
    }
}
