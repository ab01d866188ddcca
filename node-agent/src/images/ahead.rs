//! Fetches images that this node may be asked for next, so that a replica only has to start: at low
//! priority, one at a time, and never beside what is wanted now: that breaks off what comes ahead,
//! and layers that are whole by then stay in the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_model::ReplicaState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{ImageSource, Seen, Stage, Wanted};
use crate::reconcile::Snapshot;
use crate::runtime::Runtime;

/// Between two questions what the controller would have here, and how long it may wait with the
/// answer while there is nothing new.
const PERIOD: Duration = Duration::from_secs(20);
/// One that did not come is not tried again before.
const RETRY: Duration = Duration::from_secs(600);
/// Images taken from one answer.
const IMAGES_MAX: usize = 32;
/// Longest part of an engine's words that is told.
const DETAIL_CHARS_MAX: usize = 300;

const BUSY: &str = "a replica here waits for its image";
const TURN: &str = "another image comes before it";

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

/// What it remembers.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) seen: Vec<Seen>,
    failed: BTreeMap<Wanted, (Instant, String)>,
}

fn is_busy(snapshot: &Snapshot) -> bool {
    let mut replicas = snapshot.replicas.iter();
    replicas.any(|replica| replica.state == ReplicaState::Pulling)
}

impl<R: Runtime> Ahead<R> {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut memory = Memory::default();
        let work = async {
            loop {
                // Not all nodes at once.
                let next = Instant::now() + PERIOD.mul_f64(rand::random_range(0.75..1.25));
                let is_news = self.look(&mut memory).await;
                // What is new is told at once.
                if !is_news {
                    sleep_until(next).await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// One look, and what follows from it. Did anything change here?
    pub(super) async fn look(&self, memory: &mut Memory) -> bool {
        let wanted = match self.source.ahead(&memory.seen, PERIOD).await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::debug!(%error, "what images to fetch ahead is not known");
                return false;
            }
        };
        let before = std::mem::take(&mut memory.seen);
        memory
            .failed
            .retain(|image, (since, _)| since.elapsed() < RETRY && wanted.contains(image));
        for wanted in wanted.into_iter().take(IMAGES_MAX) {
            let stage = match self.runtime.has_image(&wanted.image).await {
                Ok(true) => Stage::Here,
                Ok(false) => match memory.failed.get(&wanted) {
                    Some((_, why)) => Stage::Failed(why.clone()),
                    None => Stage::Waiting(TURN),
                },
                // The engine is away: the next look finds it.
                Err(_) => {
                    memory.seen = before;
                    return false;
                }
            };
            memory.seen.push(Seen { wanted, stage });
        }
        for index in 0..memory.seen.len() {
            self.turn(memory, index).await;
        }
        let here = memory.seen.iter().filter(|seen| seen.stage == Stage::Here);
        let here = here.map(|seen| seen.wanted.image.to_string()).collect();
        self.here.send_replace(here);
        memory.seen != before
    }

    /// Fetches one that waits, if nothing else is waited for.
    async fn turn(&self, memory: &mut Memory, index: usize) {
        let Some(seen) = memory.seen.get_mut(index) else {
            return;
        };
        if !matches!(seen.stage, Stage::Waiting(_)) {
            return;
        }
        let wanted = seen.wanted.clone();
        if is_busy(&self.snapshots.borrow()) {
            seen.stage = Stage::Waiting(BUSY);
            return;
        }
        seen.stage = Stage::Fetching;
        // People look on; what comes back is asked for in its time.
        if let Err(error) = self.source.ahead(&memory.seen, Duration::ZERO).await {
            tracing::debug!(%error, "that an image is fetched cannot be told");
        }
        let mut snapshots = self.snapshots.clone();
        let stage = tokio::select! {
            pulled = self.runtime.pull(&wanted.image) => match pulled {
                Ok(()) => {
                    tracing::info!(image = %wanted.image, "image fetched ahead");
                    Stage::Here
                }
                Err(error) => {
                    tracing::warn!(image = %wanted.image, %error, "an image does not come ahead");
                    let why: String = error.to_string().chars().take(DETAIL_CHARS_MAX).collect();
                    memory.failed.insert(wanted, (Instant::now(), why.clone()));
                    Stage::Failed(why)
                }
            },
            Ok(_) = snapshots.wait_for(is_busy) => Stage::Waiting(BUSY),
        };
        if let Some(seen) = memory.seen.get_mut(index) {
            seen.stage = stage;
        }
    }
}
