//! Files that survive a power cut: temporary file, fsync, rename, fsync of the directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file or directory could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub struct FileError {
    /// What was attempted.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Names the attempt and the path beside the cause.
    pub fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { what, path, source }
    }
}

/// Makes a directory that only its owner may enter, parents included.
///
/// # Errors
/// [`FileError`] names the directory.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::at("create the directory", path))
}

/// Replaces `path` whole: a reader sees the old or the new content, also after a power cut.
///
/// # Errors
/// [`FileError`]; the old content stays then.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = path.with_extension("new");
    let written = write_synced(&temporary, bytes, mode)
        .map_err(FileError::at("write", &temporary))
        .and_then(|()| fs::rename(&temporary, path).map_err(FileError::at("replace", path)));
    if written.is_err() {
        // The half-written file is of no use to anybody; failing to remove it changes nothing.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(FileError::at("sync", dir))
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a text file; `None` where there is none.
///
/// # Errors
/// [`FileError`] for anything but a missing file.
pub fn read_optional(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::at("read", path)(error)),
    }
}
