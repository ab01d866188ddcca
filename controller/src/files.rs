//! Files that hold secrets: 0600 in a 0700 directory, whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// Failure of a file operation.
#[derive(Debug, thiserror::Error)]
#[error("{attempted} {}", path.display())]
pub struct FileError {
    attempted: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed<'a>(attempted: &'static str, path: &'a Path) -> impl Fn(io::Error) -> FileError + 'a {
    move |source| FileError {
        attempted,
        path: path.to_owned(),
        source,
    }
}

/// Makes a directory that only its owner can enter; one that is there is made so.
///
/// # Errors
/// [`FileError`] names it.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    let make = failed("cannot make directory", path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(&make)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(make)
}

/// Writes a file of mode 0600 in one step: temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
/// [`FileError`] names it; the old content, if any, is still there then.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(failed("cannot write", path))
}

/// Makes durable what is called how in a folder.
///
/// # Errors
/// [`FileError`] names it.
pub fn sync_folder(path: &Path) -> Result<(), FileError> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(failed("cannot sync", path))
}

/// Reads a text file.
///
/// # Errors
/// [`FileError`] names it.
pub fn read(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(failed("cannot read", path))
}

/// Reads a secret; refuses a file that others can read.
///
/// # Errors
/// [`FileError`] names it and the way out.
pub fn read_private(path: &Path) -> Result<String, FileError> {
    let mode = std::fs::metadata(path)
        .map_err(failed("cannot read", path))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        let why = format!(
            "its mode is {:o}, others can read it; chmod 600 it",
            mode & 0o777
        );
        return Err(failed("refusing to use", path)(io::Error::other(why)));
    }
    read(path)
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// [`FileError`] names it.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Locks a file for this process's life.
///
/// # Errors
/// [`FileError`] if another process holds it.
pub fn lock(path: &Path) -> Result<File, FileError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("cannot open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let why = io::Error::other("another controller uses this data directory");
            Err(failed("cannot lock", path)(why))
        }
        Err(std::fs::TryLockError::Error(source)) => Err(failed("cannot lock", path)(source)),
    }
}

/// Gives the files of a directory to whom the directory belongs, so that what an administrator makes
/// there can be used by the service's user. Nothing happens to files that are its owner's already.
///
/// # Errors
/// [`FileError`] names the first file that could not be given away.
pub fn give_to_owner(dir: &Path) -> Result<(), FileError> {
    let read = failed("cannot read", dir);
    let owner = std::fs::metadata(dir).map_err(&read)?;
    for entry in std::fs::read_dir(dir).map_err(&read)? {
        let path = entry.map_err(&read)?.path();
        let found = std::fs::symlink_metadata(&path).map_err(failed("cannot read", &path))?;
        let is_given = (found.uid(), found.gid()) == (owner.uid(), owner.gid());
        if found.is_file() && !is_given {
            let cannot = failed("cannot give to the directory's owner", &path);
            lchown(&path, Some(owner.uid()), Some(owner.gid())).map_err(cannot)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_those_of_whom_the_directory_belongs_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        std::fs::write(&path, "").unwrap();
        give_to_owner(dir.path()).unwrap();
        // Who is not root can give nothing away.
        if std::fs::metadata(&path).unwrap().uid() == 0 {
            lchown(dir.path(), Some(4_242), Some(4_243)).unwrap();
            give_to_owner(dir.path()).unwrap();
            let found = std::fs::metadata(&path).unwrap();
            assert_eq!((found.uid(), found.gid()), (4_242, 4_243));
        }
    }

    #[test]
    fn secrets_are_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read_private(&path).unwrap(), "two");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_private(&path).is_err());
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_lock_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap();
        assert!(lock(&path).is_err());
        drop(held);
        assert!(lock(&path).is_ok());
    }
}
