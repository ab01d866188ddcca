//! What replicas hold of their nodes.

use longshore_model::ContainerSpec;
use longshore_model::plan::Replica;
use longshore_model::spec::Resources;

/// What a replica holds of its node: a standby no CPU, what is left of a job nothing.
pub(crate) fn held(spec: &ContainerSpec, replica: &Replica) -> Resources {
    match replica.ended {
        Some(_) => Resources::default(),
        None => held_new(spec, replica.paused),
    }
}

/// The same of one that is about to be made.
pub(crate) fn held_new(spec: &ContainerSpec, standby: bool) -> Resources {
    let mut held = spec.resources;
    if standby {
        held.cpu_reserved_milli = 0;
    }
    held
}
