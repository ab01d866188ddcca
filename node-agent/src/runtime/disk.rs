//! What takes room, and named volumes: what the engine is asked about them.

use std::collections::BTreeMap;

use longshore_model::ContainerSpec;
#[cfg(doc)]
use longshore_model::node::VOLUMES_TOLD_MAX;

use super::RuntimeError;

/// Most named volumes that are told.
pub const VOLUMES_MAX: usize = 4_096;
/// Most users of one volume that are told.
pub const USERS_MAX: usize = 256;

/// How much of one kind there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// How many.
    pub count: u32,
    /// In use.
    pub active: u32,
    /// Together; none: the engine does not say.
    pub bytes: Option<u64>,
    /// That a prune would give back.
    pub reclaimable_bytes: Option<u64>,
}

/// A named volume of an app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeUse {
    /// Its name on the engine.
    pub name: String,
    /// The app that it was made for; empty: it was there before.
    pub app: String,
    /// What keeps it.
    pub driver: String,
    /// When it was made, as the engine says it; empty: not known.
    pub created: String,
    /// Containers that have it: `app/service.slot`, or `app/service (run ID)`.
    pub used_by: Vec<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// Images.
    pub images: Option<Share>,
    /// What containers wrote.
    pub containers: Option<Share>,
    /// Volumes, also those that are nobody's here.
    pub volumes: Option<Share>,
    /// Of builds.
    pub build_cache: Option<Share>,
    /// By name.
    pub named: Vec<VolumeUse>,
}

/// Calls of the engine about what takes room.
pub trait Disk: Send + Sync + 'static {
    /// What there is; `sizes`: also how large; `also`: volumes of these names, whoever made them.
    /// Deadlines 5 s and 12 s.
    fn disk(
        &self,
        sizes: bool,
        also: &[String],
    ) -> impl Future<Output = Result<DiskUse, RuntimeError>> + Send;

    /// Is there a volume of that name, whoever made it? Deadline 5 s.
    fn has_volume(&self, name: &str) -> impl Future<Output = Result<bool, RuntimeError>> + Send;

    /// Volumes that have a name, whoever made them, and when, in ms since the epoch (0: not known).
    /// None: there are more than [`VOLUMES_TOLD_MAX`]. Deadline 5 s.
    fn volumes(
        &self,
    ) -> impl Future<Output = Result<Option<BTreeMap<String, u64>>, RuntimeError>> + Send;

    /// Removes a named volume of an app that no container uses; `named`: an app's file names it, so
    /// it may go whoever made it. Deadline 30 s.
    fn remove_volume(
        &self,
        name: &str,
        named: bool,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;
}

/// Looks for the volumes that the engine would make, empty, although nobody asked it to.
///
/// # Errors
/// [`super::ErrorKind::VolumeAbsent`] with the first one that is not there; what the engine said.
pub async fn look_for_external<R: Disk>(
    runtime: &R,
    spec: &ContainerSpec,
) -> Result<(), RuntimeError> {
    for volume in spec.external_volumes() {
        if !runtime.has_volume(volume).await? {
            return Err(RuntimeError::volume_absent(volume));
        }
    }
    Ok(())
}
