//! Removes what nothing needs: when asked, and after each apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::ContainerSpec;
use tokio_util::sync::CancellationToken;

use super::{Blobs, Catalog, CatalogChanges, KEEP_TAGS, KeptKind, Needs, Verdicts, judge};
use crate::cluster::{ChangeError, Cluster};
use crate::store::{StoreError, revisions};

/// What one run did or would do.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// What was known before.
    pub before: Arc<Catalog>,
    /// What became of each image.
    pub verdicts: Verdicts,
    /// Blobs removed.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What apps, their kept revisions and what runs need of the images.
///
/// # Errors
/// [`StoreError`] if revisions cannot be read.
pub fn needs(cluster: &Cluster) -> Result<Needs, StoreError> {
    let mut needs = Needs::default();
    let (desired, store) = (cluster.desired(), cluster.store());
    let mut named = |spec: &ContainerSpec, kind, by: String| {
        if let Some(digest) = &spec.image_digest {
            needs.add(digest, kind, by);
        }
    };
    for app in desired.apps.values() {
        for record in revisions(&*store, &app.name)? {
            for (service, spec) in &record.app.services {
                let by = format!("{}/{service}@{}", app.name, record.app.revision);
                named(&spec.container, KeptKind::Revision, by);
            }
        }
        for (service, spec) in &app.services {
            let by = format!("{}/{service}@{}", app.name, app.revision);
            named(&spec.container, KeptKind::Revision, by);
        }
    }
    for (key, service) in &cluster.view().plan.services {
        for template in service.templates.values() {
            named(template, KeptKind::Running, key.to_string());
        }
        if let Some(good) = &service.good {
            named(&good.spec.container, KeptKind::Running, key.to_string());
        }
    }
    Ok(needs)
}

/// Removes what nothing needs; with `dry`, only says what would go. Blocks on the disk.
///
/// # Errors
/// Whatever the store says; blobs that cannot be removed are logged and found the next time.
pub fn prune<E: From<StoreError>>(
    cluster: &Cluster,
    blobs: &Blobs,
    keep: usize,
    dry: bool,
) -> Result<Swept, E> {
    let now_ms = cluster.now_ms();
    let look = |cluster: &Cluster| -> Result<(Arc<Catalog>, Verdicts), StoreError> {
        let catalog = cluster.images();
        let verdicts = judge(&catalog, &needs(cluster)?, &blobs.leased(now_ms), keep);
        Ok((catalog, verdicts))
    };
    if dry {
        let (before, verdicts) = look(cluster)?;
        let after = before.with(&changes(&verdicts));
        let (blobs, bytes) = blobs.unneeded(&after.blobs(), now_ms);
        return Ok(Swept {
            before,
            verdicts,
            blobs,
            bytes,
        });
    }
    // Under the lock of all writes: no apply and no push comes between the look and the change.
    let (before, verdicts) = cluster.change(|ledger, _| {
        let (before, verdicts) = look(cluster).map_err(ChangeError::Store)?;
        let changes = changes(&verdicts);
        let put = ledger.repository.put_images(&changes);
        put.map_err(ChangeError::<E>::Store)?;
        cluster.set_images(before.with(&changes));
        Ok(((before, verdicts), Vec::new()))
    })?;
    // A push that was recorded meanwhile leased its blobs before.
    let catalog = cluster.images();
    let (blobs, bytes) = blobs
        .collect(&catalog.blobs(), now_ms)
        .unwrap_or_else(|error| {
            tracing::error!(error = crate::chain(&error), "images are not removed whole");
            (0, 0)
        });
    for digest in &verdicts.removed {
        let repository = before.images.get(digest).map(|image| &image.repository);
        tracing::info!(%digest, ?repository, "an image that nothing needs was removed");
    }
    Ok(Swept {
        before,
        verdicts,
        blobs,
        bytes,
    })
}

fn changes(verdicts: &Verdicts) -> CatalogChanges {
    let images = verdicts.removed.iter().map(|digest| (digest.clone(), None));
    let names = verdicts.names.iter().map(|name| (name.clone(), None));
    CatalogChanges {
        images: images.collect::<BTreeMap<_, _>>(),
        tags: names.collect(),
    }
}

/// Prunes after each apply, until `stop`.
pub async fn run(cluster: Arc<Cluster>, blobs: Arc<Blobs>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = cluster.sweep.notified() => {}
            () = stop.cancelled() => return,
        }
        let (cluster, blobs) = (Arc::clone(&cluster), Arc::clone(&blobs));
        let work = move || prune::<StoreError>(&cluster, &blobs, KEEP_TAGS, false);
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(_)) => {}
            // The store has said so itself.
            Ok(Err(error)) => tracing::warn!(error = crate::chain(&error), "images are not pruned"),
            Err(error) => tracing::error!(%error, "a look at the images failed"),
        }
    }
}
