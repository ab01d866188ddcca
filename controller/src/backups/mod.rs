//! Backups that the controller makes by itself: one an hour, each verified after it was written
//! (decision 0072).

mod folder;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_model::TimeMs;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

pub use self::folder::{Entry, Folder, FolderError, Keep};

use crate::backup::backup;
use crate::cluster::Cluster;
use crate::init::DataDir;

/// The first one after a start waits so long: a controller that does not stay up needs none.
const SETTLE: Duration = Duration::from_secs(20);
/// The pause after a first failure; it doubles with each one, up to the period.
const RETRY: Duration = Duration::from_secs(60);
/// Backups so late are a problem that `status` names, in periods.
const LATE_PERIODS: u64 = 2;

/// `[backup]` of `controller.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupsConfig {
    /// One in so many minutes; 0: none.
    pub every_minutes: u64,
    /// So many are kept.
    pub keep: usize,
    /// And not more than this, apart from the newest two.
    pub mib_max: u64,
    /// Where, instead of `backups` in the data directory; best on another disk.
    pub dir: Option<PathBuf>,
}

impl Default for BackupsConfig {
    fn default() -> Self {
        Self {
            every_minutes: 60,
            keep: 24,
            mib_max: 4_096,
            dir: None,
        }
    }
}

impl BackupsConfig {
    /// Where they are.
    #[must_use]
    pub fn folder(&self, data: &DataDir) -> Folder {
        Folder::new(self.dir.clone().unwrap_or_else(|| data.backups()))
    }

    fn period(&self) -> Duration {
        Duration::from_secs(self.every_minutes.saturating_mul(60))
    }

    fn keep(&self) -> Keep {
        Keep {
            count: self.keep,
            bytes_max: self.mib_max.saturating_mul(1 << 20),
        }
    }
}

/// How it went, to be shown.
#[derive(Debug, Clone, Default)]
struct Record {
    /// Of when the newest one is that was found good, or that an earlier process left.
    newest_ms: Option<TimeMs>,
    /// Since when none could be made, and why.
    failing: Option<(TimeMs, String)>,
}

/// Where backups are, and how they went.
#[derive(Debug)]
pub struct Shared {
    folder: Folder,
    record: Mutex<Record>,
}

impl Shared {
    /// In this folder; nothing is done yet.
    #[must_use]
    pub fn new(folder: Folder) -> Self {
        let record = Mutex::default();
        Self { folder, record }
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // It is only shown, and each change of it is one step.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last one could not be made.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        Some(self.record().failing.as_ref()?.1.clone())
    }

    /// What operators must know: backups cannot be made.
    #[must_use]
    pub fn problem(&self, config: &BackupsConfig, now_ms: TimeMs) -> Option<String> {
        let record = self.record().clone();
        let (since_ms, why) = record.failing?;
        let period_ms = u64::try_from(config.period().as_millis()).unwrap_or(u64::MAX);
        let newest_ms = record.newest_ms.unwrap_or(since_ms);
        let late = now_ms.saturating_sub(newest_ms) > period_ms.saturating_mul(LATE_PERIODS);
        let last = match record.newest_ms {
            None => "there is none".to_owned(),
            Some(newest_ms) => {
                let minutes = now_ms.saturating_sub(newest_ms) / 60_000;
                let age = humantime::format_duration(Duration::from_secs(minutes * 60));
                format!("the newest is {age} old")
            }
        };
        // What is tried again and may go well is said once it matters.
        (late || record.newest_ms.is_none())
            .then(|| format!("no backup of the cluster can be made, and {last}: {why}"))
    }
}

/// Makes backups until `stop`.
pub async fn run(cluster: Arc<Cluster>, stop: CancellationToken) {
    let config = cluster.config.backup.clone();
    if config.every_minutes == 0 {
        return;
    }
    let mut pause = first(&cluster).max(SETTLE);
    let mut retry = RETRY;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        let from = Arc::clone(&cluster);
        let made = tokio::task::spawn_blocking(move || make(&from)).await;
        let failure = match made {
            Ok(Ok(entry)) => {
                cluster.backups.record().newest_ms = Some(entry.time_ms);
                let file = entry.path.display();
                tracing::info!(%file, bytes = entry.bytes, "the cluster is backed up");
                None
            }
            Ok(Err(error)) => Some(crate::chain(&error)),
            Err(error) => Some(format!("it failed inside: {error}")),
        };
        let now_ms = cluster.now_ms();
        let mut record = cluster.backups.record();
        match failure {
            None => {
                record.failing = None;
                (pause, retry) = (config.period(), RETRY);
            }
            Some(why) => {
                tracing::error!(error = why, "no backup of the cluster");
                let since_ms = record
                    .failing
                    .take()
                    .map_or(now_ms, |(since_ms, _)| since_ms);
                record.failing = Some((since_ms, why));
                pause = jittered(retry.min(config.period()));
                retry = retry.saturating_mul(2);
            }
        }
    }
}

/// How long the first one waits: those of an earlier process count.
fn first(cluster: &Cluster) -> Duration {
    let newest_ms = match cluster.backups.folder.entries() {
        Ok(entries) => entries.last().map(|entry| entry.time_ms),
        // Making one says it again.
        Err(_) => None,
    };
    let now_ms = cluster.now_ms();
    // One of the future is of another clock.
    let newest_ms = newest_ms.filter(|newest_ms| *newest_ms <= now_ms);
    cluster.backups.record().newest_ms = newest_ms;
    let age = newest_ms.map(|newest_ms| Duration::from_millis(now_ms - newest_ms));
    let period = cluster.config.backup.period();
    age.map_or(Duration::ZERO, |age| period.saturating_sub(age))
}

/// Between half and all of it.
fn jittered(pause: Duration) -> Duration {
    let drawn = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + pause.mul_f64(f64::from(drawn) / f64::from(u32::MAX) / 2.0)
}

/// Makes one now.
///
/// # Errors
/// [`FolderError`].
pub fn make(cluster: &Cluster) -> Result<Entry, FolderError> {
    let folder = &cluster.backups.folder;
    folder.prepare()?;
    let whole = backup(cluster).map_err(FolderError::Copy)?;
    let key = cluster.seal.as_ref().map(|seal| &seal.key);
    let keep = cluster.config.backup.keep();
    folder.add(&whole, cluster.now_ms(), key, keep)
}

#[cfg(test)]
mod tests;
