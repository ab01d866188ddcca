//! What services were like during the last day, for `autoscale simulate` and for charts.
//!
//! # Guarantees
//! - One point each ten seconds of every service, of the last 24 hours.
//! - All recordings together take at most [`BYTES_MAX`]: then the oldest ten minutes of all
//!   services make way.
//! - They are stored once a minute: a crash loses a minute at most. A store without room costs
//!   points, never plans; nothing is planned from them.

pub mod codec;
mod measure;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_model::recording::{POINTS_MAX, Point, RESOLUTION_MS};
use longshore_model::{ServiceKey, TimeMs};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::store::{RecordingBatch, Repository, Store, StoreError};
use codec::Chunk;

/// Of all services together.
pub const BYTES_MAX: usize = 64 << 20;
/// Points that are older are forgotten.
const KEEP_MS: u64 = POINTS_MAX as u64 * RESOLUTION_MS;
/// Looks whether a point is due.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two writes.
const WRITE_MS: u64 = 60_000;
/// Chunks of one write.
const BATCH_MAX: usize = 1_000;

/// Recordings of all services. See the module.
#[derive(Debug, Default)]
pub struct Recording {
    services: BTreeMap<ServiceKey, VecDeque<Chunk>>,
    bytes: usize,
    /// Chunks that the store does not have as they are, by their first time.
    unsaved: BTreeSet<(ServiceKey, TimeMs)>,
}

impl Recording {
    /// What is stored; damaged parts are left out.
    #[must_use]
    pub fn load(store: &dyn Store) -> Self {
        let mut recording = Self::default();
        let rows = Repository::recordings(store).unwrap_or_else(|error| {
            tracing::warn!(error = crate::chain(&error), "recordings begin anew");
            Vec::new()
        });
        for (service, bytes) in rows {
            let chunks = recording.services.entry(service.clone()).or_default();
            let after = chunks.back().map_or(0, Chunk::end_ms);
            match Chunk::from_bytes(&bytes).filter(|chunk| chunk.start_ms() > after) {
                Some(chunk) => {
                    recording.bytes += chunk.size();
                    chunks.push_back(chunk);
                }
                None => tracing::warn!(%service, "a damaged part of a recording is left out"),
            }
        }
        recording.services.retain(|_, chunks| !chunks.is_empty());
        recording
    }

    /// Takes a point. One that is not newer than the last is left out: the clock was put back.
    pub fn push(&mut self, service: &ServiceKey, point: &Point) {
        let chunks = self.services.entry(service.clone()).or_default();
        if chunks
            .back()
            .is_some_and(|last| last.end_ms() >= point.at_ms)
        {
            return;
        }
        let before = chunks.back().map_or(0, Chunk::size);
        let grown = chunks.back_mut().is_some_and(|last| last.push(point));
        if !grown {
            chunks.push_back(Chunk::begin(point));
        }
        let Some(last) = chunks.back() else { return };
        let added = last.size().saturating_sub(if grown { before } else { 0 });
        self.bytes = self.bytes.saturating_add(added);
        self.unsaved.insert((service.clone(), last.start_ms()));
    }

    /// Forgets what is too old, or too much.
    fn trim(&mut self, now_ms: TimeMs, bytes_max: usize) {
        let from_ms = now_ms.saturating_sub(KEEP_MS);
        let old = |chunks: &VecDeque<Chunk>| chunks.front().is_some_and(|c| c.end_ms() < from_ms);
        let services: Vec<ServiceKey> = self.services.keys().cloned().collect();
        for service in services {
            while self.services.get(&service).is_some_and(old) {
                self.forget(&service);
            }
        }
        while self.bytes > bytes_max {
            let first = |(key, chunks): (&ServiceKey, &VecDeque<Chunk>)| {
                Some((chunks.front()?.start_ms(), key.clone()))
            };
            let Some((_, service)) = self.services.iter().filter_map(first).min() else {
                return;
            };
            self.forget(&service);
        }
    }

    /// Forgets the oldest chunk of a service.
    fn forget(&mut self, service: &ServiceKey) {
        let Some(chunks) = self.services.get_mut(service) else {
            return;
        };
        if let Some(chunk) = chunks.pop_front() {
            self.bytes = self.bytes.saturating_sub(chunk.size());
            self.unsaved.insert((service.clone(), chunk.start_ms()));
        }
        if chunks.is_empty() {
            self.services.remove(service);
        }
    }

    /// What is to be written now, and which chunks that are: to be given back if they are not.
    fn take_unsaved(&mut self) -> Result<(RecordingBatch, Vec<(ServiceKey, TimeMs)>), StoreError> {
        let mut batch = RecordingBatch::default();
        let names: Vec<_> = self.unsaved.iter().take(BATCH_MAX).cloned().collect();
        for (service, start_ms) in &names {
            let mut chunks = self.services.get(service).into_iter().flatten();
            match chunks.find(|chunk| chunk.start_ms() == *start_ms) {
                Some(chunk) => batch.put(service, *start_ms, &chunk.to_bytes())?,
                None => batch.remove(service, *start_ms),
            }
        }
        for name in &names {
            self.unsaved.remove(name);
        }
        Ok((batch, names))
    }

    /// Points of a service from `from_ms` up to and with `to_ms`, oldest first.
    #[must_use]
    pub fn points(&self, service: &ServiceKey, from_ms: TimeMs, to_ms: TimeMs) -> Vec<Point> {
        let chunks = self.services.get(service).into_iter().flatten();
        let inside = chunks.filter(|c| c.end_ms() >= from_ms && c.start_ms() <= to_ms);
        let points = inside.flat_map(Chunk::points);
        points
            .filter(|point| (from_ms..=to_ms).contains(&point.at_ms))
            .collect()
    }

    /// Services of which there is a recording.
    pub fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services.keys()
    }
}

/// Shared between the recorder and those who read.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Recording>);

impl Shared {
    /// Begins with what is stored.
    #[must_use]
    pub fn load(store: &dyn Store) -> Self {
        Self(Mutex::new(Recording::load(store)))
    }

    /// Locks it, for a short time.
    pub fn lock(&self) -> MutexGuard<'_, Recording> {
        // What a panic leaves behind are whole points.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records until `stop`, then writes what is not stored yet.
pub async fn run(cluster: Arc<Cluster>, stop: CancellationToken) {
    let (mut last_ms, mut written_ms) = (0, cluster.now_ms());
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => break,
        }
        let now_ms = cluster.now_ms();
        let at_ms = now_ms - now_ms % RESOLUTION_MS;
        // The first one would be of a time in which nobody looked.
        if last_ms != 0 && at_ms != last_ms {
            take(&cluster, at_ms, now_ms);
        }
        last_ms = at_ms;
        if now_ms.abs_diff(written_ms) >= WRITE_MS {
            written_ms = now_ms;
            write(&cluster).await;
        }
    }
    write(&cluster).await;
}

/// One point of each service, as it is now.
#[must_use]
pub fn look(cluster: &Cluster, at_ms: TimeMs, now_ms: TimeMs) -> Vec<(ServiceKey, Point)> {
    let (view, observed) = (cluster.view(), cluster.fleet.snapshot());
    let seen = measure::Seen {
        observed: &observed,
        report: &view.report,
        at_ms,
        now_ms,
    };
    let policy = |key: &ServiceKey| view.desired.service(key)?.1.autoscale.clone();
    let points = measure::points(&view.plan, policy, &seen);
    points.map(|(key, point)| (key.clone(), point)).collect()
}

/// Records one point of each service.
pub fn take(cluster: &Cluster, at_ms: TimeMs, now_ms: TimeMs) {
    let points = look(cluster, at_ms, now_ms);
    let mut recording = cluster.recording.lock();
    for (key, point) in &points {
        recording.push(key, point);
    }
    recording.trim(now_ms, BYTES_MAX);
}

async fn write(cluster: &Arc<Cluster>) {
    let cluster = Arc::clone(cluster);
    // It waits for the disk.
    let written = tokio::task::spawn_blocking(move || {
        loop {
            let (batch, names) = cluster.recording.lock().take_unsaved()?;
            if batch.is_empty() {
                return Ok(());
            }
            if let Err(error) = cluster.write_recording(&batch) {
                cluster.recording.lock().unsaved.extend(names);
                return Err(error);
            }
        }
    });
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err::<(), StoreError>(error)) => {
            tracing::debug!(%error, "recordings wait for the store");
        }
        Err(error) => tracing::error!(%error, "writing recordings failed"),
    }
}

#[cfg(test)]
mod tests;
