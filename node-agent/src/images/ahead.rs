//! Fetches images that this node may be asked for next, so that a replica only has to start: at low
//! priority, one at a time, and never beside what is wanted now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_model::{ImageRef, ReplicaState};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::ImageSource;
use crate::reconcile::Snapshot;
use crate::runtime::Runtime;

/// Between two looks at what the controller would have here.
const PERIOD: Duration = Duration::from_secs(30);
/// One that did not come is not tried again before.
const RETRY: Duration = Duration::from_secs(600);
/// Images taken from one answer.
const IMAGES_MAX: usize = 16;

/// What it works with.
pub struct Ahead<R> {
    /// Says what is wanted.
    pub source: Arc<dyn ImageSource>,
    /// The engine.
    pub runtime: Arc<R>,
    /// What is wanted now comes first.
    pub snapshots: watch::Receiver<Snapshot>,
    /// Images that are here by this; they are reported.
    pub here: watch::Sender<Vec<String>>,
}

impl<R: Runtime> Ahead<R> {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut failed = BTreeMap::new();
        let work = async {
            loop {
                // Not all nodes at once.
                sleep(PERIOD.mul_f64(rand::random_range(0.75..1.25))).await;
                self.look(&mut failed).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// A replica waits for its image.
    fn is_busy(&self) -> bool {
        let snapshot = self.snapshots.borrow();
        let mut replicas = snapshot.replicas.iter();
        replicas.any(|replica| replica.state == ReplicaState::Pulling)
    }

    /// One look, and what follows from it.
    pub(super) async fn look(&self, failed: &mut BTreeMap<ImageRef, Instant>) {
        let wanted = match self.source.ahead().await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::debug!(%error, "what images to fetch ahead is not known");
                return;
            }
        };
        failed.retain(|image, since| since.elapsed() < RETRY && wanted.contains(image));
        let mut here = Vec::new();
        for image in wanted.into_iter().take(IMAGES_MAX) {
            match self.runtime.has_image(&image).await {
                Ok(true) => here.push(image.to_string()),
                Ok(false) if failed.contains_key(&image) || self.is_busy() => {}
                Ok(false) => match self.runtime.pull(&image).await {
                    Ok(()) => {
                        tracing::info!(%image, "image fetched ahead");
                        here.push(image.to_string());
                    }
                    Err(error) => {
                        tracing::warn!(%image, %error, "an image does not come ahead");
                        failed.insert(image, Instant::now());
                    }
                },
                // The engine is away: the next look finds it.
                Err(_) => return,
            }
        }
        self.here.send_replace(here);
    }
}
