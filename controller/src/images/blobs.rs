//! Blobs on the disk: whole and of the right digest, or not there.
//!
//! # Guarantees
//! - A file under `blobs/sha256` was hashed while it was written, and was durable before it got its
//!   name. What a crash leaves is under `uploads` and removed at the next start.
//! - [`Blobs::collect`] removes nothing that is leased: [`Blobs::lease`] and it exclude each other.
//!
//! # Limits
//! Size of one blob, of all together, and a share of the disk that stays free: see [`ImagesConfig`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_model::image::ZSTD_WINDOW_LOG_MAX;
use longshore_model::{ImageDigest, TimeMs};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// What somebody asked about or sent is not collected for so long.
const LEASE_MS: u64 = 3_600_000;
/// Blobs that may be leased at the same time.
const LEASES_MAX: usize = 16_384;

/// How much may be kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagesConfig {
    /// Largest layer, uncompressed.
    pub blob_bytes_max: u64,
    /// All of them together.
    pub stored_bytes_max: u64,
    /// Share of the disk that uploads leave free.
    pub disk_free_percent_min: u8,
    /// Uploads at the same time; more wait.
    pub uploads_max: usize,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            blob_bytes_max: 16 << 30,
            stored_bytes_max: 256 << 30,
            disk_free_percent_min: 10,
            uploads_max: 8,
        }
    }
}

/// Why a blob is not taken or given.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is too large.
    #[error("blob {digest} has {bytes} bytes; at most {max} are allowed (images.blob_bytes_max)")]
    TooLarge {
        /// Which.
        digest: ImageDigest,
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// All together are.
    #[error(
        "the controller keeps {stored} bytes of images and may keep {max}: {bytes} more do not \
         fit; free some (controllerctl image prune), or raise images.stored_bytes_max"
    )]
    Full {
        /// Kept or on their way.
        stored: u64,
        /// Asked for.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The disk.
    #[error(
        "{bytes} bytes would leave less than {percent} % of the controller's disk free ({free} \
         bytes are); free some (controllerctl image prune), or lower images.disk_free_percent_min"
    )]
    Disk {
        /// Asked for.
        bytes: u64,
        /// Free now.
        free: u64,
        /// The limit.
        percent: u8,
    },
    /// It is another one than was said.
    #[error("the bytes sent as {digest} are {found}: nothing was kept, send them again")]
    Digest {
        /// Said.
        digest: ImageDigest,
        /// Sent.
        found: ImageDigest,
    },
    /// It is shorter or longer than was said.
    #[error("blob {digest}: {said} bytes were announced and {found} came; nothing was kept")]
    Size {
        /// Which.
        digest: ImageDigest,
        /// Said.
        said: u64,
        /// Sent, so far.
        found: u64,
    },
    /// Its compression.
    #[error("blob {digest} is no zstd stream that can be read (windows of at most 8 MiB)")]
    Encoding {
        /// Which.
        digest: ImageDigest,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not here.
    #[error("blob {0} is not held here")]
    Absent(ImageDigest),
    /// Too many are named by pushes that have not ended.
    #[error("{LEASES_MAX} blobs are named by pushes of the last hour; try again later")]
    Leases,
    /// The disk said no.
    #[error("{attempted} failed on {}", path.display())]
    Io {
        /// What was attempted.
        attempted: &'static str,
        /// On which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

fn failed(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io {
        attempted,
        path,
        source,
    }
}

/// How an upload is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// zstd.
    Zstd,
}

/// What is kept, and what may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Blobs.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Limit of these.
    pub bytes_max: u64,
    /// Free on the disk.
    pub free_bytes: u64,
}

/// Free and all bytes of the disk.
type Room = Box<dyn Fn() -> io::Result<(u64, u64)> + Send + Sync>;

#[derive(Default)]
struct State {
    sizes: BTreeMap<ImageDigest, u64>,
    bytes: u64,
    /// Announced by uploads that have not ended.
    reserved: u64,
    /// Until when.
    leases: BTreeMap<ImageDigest, TimeMs>,
    uploads: u64,
}

/// See the module.
pub struct Blobs {
    folder: PathBuf,
    uploads: PathBuf,
    limits: ImagesConfig,
    room: Room,
    state: Mutex<State>,
}

impl Blobs {
    /// Opens or makes the folders, removes what uploads left, and counts the rest.
    ///
    /// # Errors
    /// [`BlobError::Io`] names the file.
    pub fn open(folder: &Path, limits: ImagesConfig) -> Result<Self, BlobError> {
        let disk = folder.to_owned();
        let room = move || {
            let disk = rustix::fs::statvfs(&disk)?;
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            Ok((bytes(disk.f_bavail), bytes(disk.f_blocks)))
        };
        Self::with_room(folder, limits, Box::new(room))
    }

    /// As [`Self::open`], on a disk that has `room`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_room(folder: &Path, limits: ImagesConfig, room: Room) -> Result<Self, BlobError> {
        let blobs = Self {
            folder: folder.join("blobs/sha256"),
            uploads: folder.join("uploads"),
            limits,
            room,
            state: Mutex::default(),
        };
        for folder in [folder, &blobs.folder, &blobs.uploads] {
            crate::files::private_dir(folder)
                .map_err(|error| failed("making the folder", folder)(io::Error::other(error)))?;
        }
        for left in entries(&blobs.uploads)? {
            fs::remove_file(&left).map_err(failed("removing an unfinished upload", &left))?;
        }
        let mut state = State::default();
        for path in entries(&blobs.folder)? {
            let name = path.file_name().and_then(|name| name.to_str());
            let digest = name.and_then(|hex| format!("sha256:{hex}").parse().ok());
            // Somebody else's file is left alone.
            let Some(digest) = digest else { continue };
            let bytes = fs::metadata(&path)
                .map_err(failed("looking at", &path))?
                .len();
            state.bytes += bytes;
            state.sizes.insert(digest, bytes);
        }
        *blobs.state() = state;
        Ok(blobs)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counts are changed after the disk was; a panic in between is found at the next start.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, digest: &ImageDigest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Its size; none: it is not here.
    #[must_use]
    pub fn bytes_of(&self, digest: &ImageDigest) -> Option<u64> {
        self.state().sizes.get(digest).copied()
    }

    /// Keeps what is here of `digests` for an hour, and says which are not.
    ///
    /// # Errors
    /// [`BlobError::Leases`] where too many are named.
    pub fn lease(
        &self,
        digests: &[ImageDigest],
        now_ms: TimeMs,
    ) -> Result<Vec<ImageDigest>, BlobError> {
        let mut state = self.state();
        state.leases.retain(|_, until_ms| *until_ms > now_ms);
        if state.leases.len() + digests.len() > LEASES_MAX {
            return Err(BlobError::Leases);
        }
        let mut missing = BTreeSet::new();
        let mut said = Vec::new();
        for digest in digests {
            state.leases.insert(digest.clone(), now_ms + LEASE_MS);
            if !state.sizes.contains_key(digest) && missing.insert(digest) {
                said.push(digest.clone());
            }
        }
        Ok(said)
    }

    /// What is leased now.
    #[must_use]
    pub fn leased(&self, now_ms: TimeMs) -> BTreeSet<ImageDigest> {
        let state = self.state();
        let leases = state.leases.iter().filter(|(_, until)| **until > now_ms);
        leases.map(|(digest, _)| digest.clone()).collect()
    }

    /// Begins to take a blob of `bytes` bytes. Its place is reserved until the upload ends.
    ///
    /// # Errors
    /// [`BlobError`] where a limit does not let it in.
    pub fn begin(
        self: &Arc<Self>,
        digest: ImageDigest,
        bytes: u64,
        encoding: Encoding,
    ) -> Result<Upload, BlobError> {
        let max = self.limits.blob_bytes_max;
        if bytes > max {
            return Err(BlobError::TooLarge { digest, bytes, max });
        }
        let number = self.reserve(bytes)?;
        let reservation = Reservation {
            blobs: Arc::clone(self),
            bytes,
            path: self.uploads.join(number.to_string()),
        };
        let path = &reservation.path;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(failed("making an upload", path))?;
        let sink = Sink {
            file,
            hash: Sha256::new(),
            left: bytes,
            over: false,
        };
        let writer = match encoding {
            Encoding::Identity => Writer::Identity(sink),
            Encoding::Zstd => {
                let made = zstd::stream::write::Decoder::new(sink).and_then(|mut decoder| {
                    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                    Ok(decoder)
                });
                Writer::Zstd(made.map_err(failed("making a decoder", path))?)
            }
        };
        Ok(Upload {
            reservation,
            digest,
            writer,
        })
    }

    fn reserve(&self, bytes: u64) -> Result<u64, BlobError> {
        let mut state = self.state();
        let stored = state.bytes.saturating_add(state.reserved);
        let max = self.limits.stored_bytes_max;
        if stored.saturating_add(bytes) > max {
            return Err(BlobError::Full { stored, bytes, max });
        }
        let percent = self.limits.disk_free_percent_min;
        // A disk that cannot be asked is tried.
        if let Ok((free, all)) = (self.room)() {
            let free = free.saturating_sub(state.reserved);
            let least = all / 100 * u64::from(percent);
            if free.saturating_sub(bytes) < least {
                return Err(BlobError::Disk {
                    bytes,
                    free,
                    percent,
                });
            }
        }
        state.reserved = state.reserved.saturating_add(bytes);
        state.uploads += 1;
        Ok(state.uploads)
    }

    /// A blob, to be read.
    ///
    /// # Errors
    /// [`BlobError::Absent`] if it is not here.
    pub fn open_blob(&self, digest: &ImageDigest) -> Result<(File, u64), BlobError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::Absent(digest.clone()));
            }
            opened => opened.map_err(failed("opening", &path))?,
        };
        let bytes = file.metadata().map_err(failed("looking at", &path))?.len();
        Ok((file, bytes))
    }

    /// A blob of at most `max` bytes, whole.
    ///
    /// # Errors
    /// [`BlobError`] if it is not here, or larger.
    pub fn read(&self, digest: &ImageDigest, max: u64) -> Result<Vec<u8>, BlobError> {
        let (file, bytes) = self.open_blob(digest)?;
        if bytes > max {
            let digest = digest.clone();
            return Err(BlobError::TooLarge { digest, bytes, max });
        }
        let mut content = Vec::new();
        file.take(max)
            .read_to_end(&mut content)
            .map_err(failed("reading", &self.path(digest)))?;
        Ok(content)
    }

    /// Blobs that are neither in `needed` nor leased, and their bytes.
    #[must_use]
    pub fn unneeded(&self, needed: &BTreeSet<&ImageDigest>, now_ms: TimeMs) -> (usize, u64) {
        let state = self.state();
        let gone = state
            .sizes
            .iter()
            .filter(|(digest, _)| !needed.contains(digest) && !is_leased(&state, digest, now_ms));
        gone.fold((0, 0), |(blobs, bytes), (_, more)| {
            (blobs + 1, bytes + more)
        })
    }

    /// Removes blobs that are neither in `needed` nor leased; says how many, and their bytes.
    ///
    /// # Errors
    /// [`BlobError::Io`] at the first that cannot be removed.
    pub fn collect(
        &self,
        needed: &BTreeSet<&ImageDigest>,
        now_ms: TimeMs,
    ) -> Result<(usize, u64), BlobError> {
        let all: Vec<ImageDigest> = self.state().sizes.keys().cloned().collect();
        let mut removed = (0, 0);
        for digest in all.iter().filter(|digest| !needed.contains(digest)) {
            // One at a time: pushes go on meanwhile.
            let mut state = self.state();
            if is_leased(&state, digest, now_ms) {
                continue;
            }
            let path = self.path(digest);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("removing", &path)(error));
                }
                _ => {}
            }
            let bytes = state.sizes.remove(digest).unwrap_or_default();
            state.bytes = state.bytes.saturating_sub(bytes);
            removed = (removed.0 + 1, removed.1 + bytes);
        }
        Ok(removed)
    }

    /// What is kept.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let free = (self.room)().map_or(0, |(free, _)| free);
        let state = self.state();
        Usage {
            blobs: state.sizes.len(),
            bytes: state.bytes,
            bytes_max: self.limits.stored_bytes_max,
            free_bytes: free,
        }
    }
}

fn is_leased(state: &State, digest: &ImageDigest, now_ms: TimeMs) -> bool {
    state
        .leases
        .get(digest)
        .is_some_and(|until| *until > now_ms)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, BlobError> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<io::Result<Vec<_>>>()
    });
    listed.map_err(failed("listing", folder))
}

/// The place of an upload: given back, and its file removed, whatever becomes of it.
struct Reservation {
    blobs: Arc<Blobs>,
    bytes: u64,
    path: PathBuf,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Gone already where the upload ended well; what is left otherwise goes at the next start.
        drop(fs::remove_file(&self.path));
        let mut state = self.blobs.state();
        state.reserved = state.reserved.saturating_sub(self.bytes);
    }
}

/// Where bytes go that were decoded.
struct Sink {
    file: File,
    hash: Sha256,
    left: u64,
    /// More came than was announced.
    over: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            self.over = true;
            return Err(io::Error::other("more bytes than announced"));
        };
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.left = left;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Writer {
    Identity(Sink),
    Zstd(zstd::stream::write::Decoder<'static, Sink>),
}

impl Writer {
    fn sink(&self) -> &Sink {
        match self {
            Self::Identity(sink) => sink,
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }
}

/// A blob on its way in. Dropped before [`Self::finish`] it leaves nothing.
pub struct Upload {
    reservation: Reservation,
    digest: ImageDigest,
    writer: Writer,
}

impl Upload {
    /// Takes a piece, as encoded.
    ///
    /// # Errors
    /// [`BlobError`]; the upload is of no more use then.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        let written = match &mut self.writer {
            Writer::Identity(sink) => sink.write_all(piece),
            Writer::Zstd(decoder) => decoder.write_all(piece),
        };
        written.map_err(|source| self.fault(source))
    }

    fn fault(&self, source: io::Error) -> BlobError {
        let digest = self.digest.clone();
        if self.writer.sink().over {
            let (said, found) = (self.reservation.bytes, self.reservation.bytes + 1);
            return BlobError::Size {
                digest,
                said,
                found,
            };
        }
        // The file says what the disk lacks; all else is the stream's own fault.
        match (&self.writer, source.raw_os_error()) {
            (Writer::Zstd(_), None) => BlobError::Encoding { digest, source },
            _ => failed("writing", &self.reservation.path)(source),
        }
    }

    /// Checks it and gives it its name, durably.
    ///
    /// # Errors
    /// [`BlobError`] if it is not what was announced; nothing is kept then.
    pub fn finish(mut self) -> Result<(), BlobError> {
        if let Writer::Zstd(decoder) = &mut self.writer
            && let Err(source) = decoder.do_finish()
        {
            return Err(self.fault(source));
        }
        let sink = self.writer.sink();
        if sink.left > 0 {
            let said = self.reservation.bytes;
            return Err(BlobError::Size {
                digest: self.digest,
                said,
                found: said - sink.left,
            });
        }
        let found = ImageDigest::from_sha256(&sink.hash.clone().finalize());
        if found != self.digest {
            let digest = self.digest;
            return Err(BlobError::Digest { digest, found });
        }
        let blobs = &self.reservation.blobs;
        let (from, to) = (&self.reservation.path, blobs.path(&self.digest));
        sink.file.sync_all().map_err(failed("keeping", from))?;
        let mut state = blobs.state();
        fs::rename(from, &to).map_err(failed("naming", &to))?;
        let folder = &blobs.folder;
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(failed("keeping", folder))?;
        let bytes = self.reservation.bytes;
        if state.sizes.insert(self.digest.clone(), bytes).is_none() {
            state.bytes += bytes;
        }
        Ok(())
    }
}
