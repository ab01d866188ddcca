//! What the images of an app are: resolved once per revision, where the controller holds them.

use std::sync::Arc;

use longshore_model::spec::PullPolicy;
use longshore_model::{AppName, ServiceSpec};
use tonic::Status;

use super::apply::Services;
use crate::cluster::Cluster;
use crate::images::Catalog;

/// Each service with the digest that its image's name means now, if it is held here. It can run
/// only where that image can, so its platform is the image's where the file names none.
pub(super) fn pinned(cluster: &Cluster, mut services: Services) -> Services {
    let catalog = cluster.images();
    let names: Vec<_> = services.keys().cloned().collect();
    for name in names {
        if let Some(spec) = services.get_mut(&name)
            && let Some(pinned) = pin(&catalog, spec)
        {
            *spec = Arc::new(pinned);
        }
    }
    services
}

/// None: it is as it should be.
fn pin(catalog: &Catalog, spec: &ServiceSpec) -> Option<ServiceSpec> {
    // What a node has by itself is not looked for elsewhere.
    let fetched = spec.container.pull_policy != PullPolicy::Never;
    let name = spec.container.image.parse().ok().filter(|_| fetched);
    let held = name.and_then(|name| catalog.resolve(&name));
    let digest = held.map(|(digest, _)| digest.clone());
    let platform = spec.container.platform.clone();
    let platform = platform.or_else(|| held.map(|(_, image)| image.platform.clone()));
    let is_so = spec.container.image_digest == digest && spec.container.platform == platform;
    (!is_so).then(|| {
        let mut pinned = spec.clone();
        pinned.container.image_digest = digest;
        pinned.container.platform = platform;
        pinned
    })
}

/// An older revision can be run only with what it ran.
pub(super) fn check_present(
    cluster: &Cluster,
    name: &AppName,
    services: &Services,
) -> Result<(), Status> {
    let catalog = cluster.images();
    for (service, spec) in services {
        if let Some(digest) = &spec.container.image_digest
            && !catalog.images.contains_key(digest)
        {
            return Err(Status::failed_precondition(format!(
                "{name}/{service}: image {} of that revision ({digest}) is not held any more; push \
                 it again (controllerctl image push) and apply a file that names it",
                spec.container.image
            )));
        }
    }
    Ok(())
}
