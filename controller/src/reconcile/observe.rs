//! Observe: one snapshot of everything that a run may look at.

use std::sync::Arc;

use longshore_model::{Desired, Observed, Plan, TimeMs};

use crate::cluster::Cluster;

/// The snapshot.
pub(super) struct Seen {
    pub(super) now_ms: TimeMs,
    pub(super) desired: Arc<Desired>,
    pub(super) current: Arc<Plan>,
    pub(super) observed: Observed,
}

/// Takes it. Removed nodes are left out: what they said last means nothing any more.
pub(super) fn observe(cluster: &Cluster, now_ms: TimeMs) -> Seen {
    let desired = cluster.desired();
    let mut observed = cluster.fleet.snapshot();
    observed
        .nodes
        .retain(|id, _| desired.nodes.contains_key(id));
    observed
        .edges
        .retain(|id, _| desired.nodes.contains_key(id));
    Seen {
        now_ms,
        desired,
        current: Arc::clone(&cluster.view().plan),
        observed,
    }
}
