//! Room on the store's disk that is set aside, so that a full disk can still be cleaned up (decision 0073).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Room that must be there to set it aside, as a multiple of it: it must not be what fills the disk.
const ROOM_TIMES: u64 = 2;
/// Bytes written at a time where a file system cannot allocate.
const PIECE_BYTES: usize = 1 << 20;

/// A file that takes room until the room is needed.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
    held: AtomicBool,
}

impl Ballast {
    /// A file of so many bytes; what an earlier process left is taken over if it is as long.
    #[must_use]
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        let there = std::fs::metadata(&path).is_ok_and(|file| file.len() == bytes);
        if !there {
            // Of another setting, or half made. What cannot be removed fails when it is made.
            let _left = std::fs::remove_file(&path);
        }
        Self {
            path,
            bytes,
            held: AtomicBool::new(there),
        }
    }

    /// Is the room set aside?
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// How much.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sets it aside where there is `room` for it.
    pub(super) fn hold(&self, room: u64) {
        if self.is_held() || room < self.bytes.saturating_mul(ROOM_TIMES) {
            return;
        }
        match self.make() {
            Ok(()) => {
                self.held.store(true, Ordering::Release);
                tracing::info!(bytes = self.bytes, "room is set aside for a full disk");
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "no room can be set aside");
                let _left = std::fs::remove_file(&self.path);
            }
        }
    }

    fn make(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => self.fill(&mut file)?,
            Err(error) => return Err(error.into()),
        }
        file.sync_all()
    }

    fn fill(&self, file: &mut File) -> io::Result<()> {
        let piece = vec![0; PIECE_BYTES];
        let mut left = self.bytes;
        while left > 0 {
            let length = usize::try_from(left)
                .unwrap_or(PIECE_BYTES)
                .min(PIECE_BYTES);
            let part = piece.get(..length).unwrap_or(&piece);
            file.write_all(part)?;
            left = left.saturating_sub(length as u64);
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn release(&self) {
        if !self.held.swap(false, Ordering::AcqRel) {
            return;
        }
        let removed = std::fs::remove_file(&self.path);
        let error = removed.err().map(|error| error.to_string());
        tracing::warn!(
            bytes = self.bytes,
            error,
            "the store's disk is full: the room that was set aside is given back"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_where_there_is_room_and_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        let length = || std::fs::metadata(&path).map(|file| file.len()).ok();
        let made = |bytes| Ballast::new(path.clone(), bytes);
        let ballast = made(4_096);
        ballast.hold(8_191);
        assert!(!ballast.is_held() && length().is_none());
        ballast.hold(8_192);
        assert!(ballast.is_held());
        assert_eq!(length(), Some(4_096));
        assert!(made(4_096).is_held());
        let other = made(5_000);
        assert!(!other.is_held() && length().is_none());
        other.hold(u64::MAX);
        other.release();
        other.release();
        assert!(length().is_none());
        // As on file systems that cannot allocate.
        let mut file = File::create(&path).unwrap();
        let odd = PIECE_BYTES as u64 + 7;
        Ballast::new(dir.path().join("other"), odd)
            .fill(&mut file)
            .unwrap();
        assert_eq!(length(), Some(odd));
    }
}
