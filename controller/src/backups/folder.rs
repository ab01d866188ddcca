//! The folder of backups: names, what is kept, what is good.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use longshore_model::TimeMs;

use crate::backup::{About, BackupError, verify};
use crate::files::{self, FileError};
use crate::seal::SealKey;

const PREFIX: &str = "backup-";
const SUFFIX: &str = ".tar";
/// What a file is called until it is whole.
const UNFINISHED: &str = ".new";
/// Backups that are kept however much they take: one may turn out to be damaged.
const KEPT_MIN: usize = 2;
/// Room that is left beside a new backup: the store must go on.
const RESERVE_BYTES: u64 = 64 << 20;

/// Why a backup is not there.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder cannot be read.
    #[error("cannot read the folder of backups, {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// No copy could be made.
    #[error("no copy of the cluster could be made")]
    Copy(#[source] BackupError),
    /// It is on the disk, and not as it was written.
    #[error("{} does not read back as it was written: its disk is not to be trusted", path.display())]
    Unlike {
        /// Which.
        path: PathBuf,
    },
    /// The disk is too full.
    #[error(
        "{} has room for {room_bytes} bytes and a backup takes {bytes}, with {RESERVE_BYTES} left \
         for the store; free some, or name another folder ([backup] dir in controller.toml)",
        path.display()
    )]
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// What there is.
        room_bytes: u64,
        /// What one takes.
        bytes: u64,
    },
}

/// One file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: PathBuf,
    /// Of when it is, by its name.
    pub time_ms: TimeMs,
    /// Length.
    pub bytes: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// So many.
    pub count: usize,
    /// And not more than these, apart from the newest two.
    pub bytes_max: u64,
}

/// A folder that only its owner can enter.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Of this path; nothing is done yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it, and removes what an earlier process left half done.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn prepare(&self) -> Result<(), FolderError> {
        files::private_dir(&self.0)?;
        for path in self.paths()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let made = name.strip_suffix(UNFINISHED);
            if made.is_some_and(|name| time_of(name).is_some()) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }

    fn paths(&self) -> Result<Vec<PathBuf>, FolderError> {
        let read = || -> io::Result<Vec<PathBuf>> {
            let entries = fs::read_dir(&self.0)?;
            entries.map(|entry| Ok(entry?.path())).collect()
        };
        read().map_err(|source| FolderError::Read {
            path: self.0.clone(),
            source,
        })
    }

    /// Its backups, oldest first. Files of other names are somebody else's. A folder that is not
    /// there has none.
    ///
    /// # Errors
    /// [`FolderError::Read`].
    pub fn entries(&self) -> Result<Vec<Entry>, FolderError> {
        if !self.0.exists() {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        for path in self.paths()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(time_ms) = time_of(&name) else {
                continue;
            };
            // One that was removed meanwhile is none.
            let Ok(found) = fs::metadata(&path) else {
                continue;
            };
            let bytes = found.len();
            entries.push(Entry {
                path,
                time_ms,
                bytes,
            });
        }
        entries.sort_by(|a, b| (a.time_ms, &a.path).cmp(&(b.time_ms, &b.path)));
        Ok(entries)
    }

    /// Writes a backup, reads it back from the disk and understands it; only then do older ones leave.
    ///
    /// # Errors
    /// [`FolderError`]; there is no such file then, and the others are as they were.
    pub fn add(
        &self,
        whole: &[u8],
        time_ms: TimeMs,
        key: Option<&SealKey>,
        keep: Keep,
    ) -> Result<Entry, FolderError> {
        let bytes = whole.len() as u64;
        self.check_room(bytes)?;
        let path = self.0.join(name_of(time_ms));
        files::write_private(&path, whole)?;
        let checked = self.check(&path, whole, key);
        if let Err(error) = checked {
            files::remove(&path)?;
            return Err(error);
        }
        self.prune(keep)?;
        Ok(Entry {
            path,
            time_ms,
            bytes,
        })
    }

    fn check(&self, path: &Path, whole: &[u8], key: Option<&SealKey>) -> Result<(), FolderError> {
        let back = fs::read(path).map_err(|source| FolderError::Read {
            path: self.0.clone(),
            source,
        })?;
        if back != whole {
            let path = path.to_owned();
            return Err(FolderError::Unlike { path });
        }
        verify(&back, key).map(drop).map_err(FolderError::Copy)
    }

    /// A folder that cannot be asked is tried.
    fn check_room(&self, bytes: u64) -> Result<(), FolderError> {
        let Ok(disk) = rustix::fs::statvfs(&self.0) else {
            return Ok(());
        };
        let room_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        match room_bytes < bytes.saturating_add(RESERVE_BYTES) {
            true => Err(FolderError::NoRoom {
                path: self.0.clone(),
                room_bytes,
                bytes,
            }),
            false => Ok(()),
        }
    }

    fn prune(&self, keep: Keep) -> Result<(), FolderError> {
        let entries = self.entries()?;
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for (left, entry) in (1..=entries.len()).rev().zip(&entries) {
            let too_many = left > keep.count.max(KEPT_MIN);
            if !too_many && (left <= KEPT_MIN || bytes <= keep.bytes_max) {
                break;
            }
            files::remove(&entry.path)?;
            bytes -= entry.bytes;
        }
        Ok(())
    }

    /// The newest one that is good, with what it says of itself. Damaged ones are passed over.
    ///
    /// # Errors
    /// [`FolderError::Read`].
    pub fn newest_good(
        &self,
        key: Option<&SealKey>,
    ) -> Result<Option<(Entry, About)>, FolderError> {
        let good = |entry: Entry| {
            let about = verify(&fs::read(&entry.path).ok()?, key).ok()?;
            Some((entry, about))
        };
        Ok(self.entries()?.into_iter().rev().find_map(good))
    }
}

/// `backup-20261124T125300.123Z.tar`: sorted by name is sorted by time.
fn name_of(time_ms: TimeMs) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(time_ms);
    let time = humantime::format_rfc3339_millis(time).to_string();
    format!("{PREFIX}{}{SUFFIX}", time.replace(['-', ':'], ""))
}

fn time_of(name: &str) -> Option<TimeMs> {
    let time = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let (date, clock) = time.split_once('T')?;
    let part = |text: &str, from: usize, to: usize| text.get(from..to).map(str::to_owned);
    let text = format!(
        "{}-{}-{}T{}:{}:{}",
        part(date, 0, 4)?,
        part(date, 4, 6)?,
        date.get(6..)?,
        part(clock, 0, 2)?,
        part(clock, 2, 4)?,
        clock.get(4..)?
    );
    let time = humantime::parse_rfc3339(&text).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    let time_ms = u64::try_from(since.as_millis()).ok()?;
    (name_of(time_ms) == name).then_some(time_ms)
}

#[cfg(test)]
mod tests;
