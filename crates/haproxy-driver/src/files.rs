//! Files: whole or not at all, and on disk before they count. All but the reading at the start is
//! done off the runtime's thread.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_model::SecretText;
use tokio::process::Command;

use crate::blocking::blocking;
use crate::error::EdgeError;

/// Most bytes of haproxy's own words that an error carries.
const OUTPUT_BYTES_MAX: usize = 2_000;

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EdgeError {
    let path = path.to_owned();
    move |source| EdgeError::File { what, path, source }
}

/// The name that a file has until it is whole.
pub(crate) fn draft_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Reads a file; none where it does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<String>, EdgeError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Names of the files in a directory, at most so many; none where it does not exist.
pub(crate) fn names(dir: &Path, max: usize) -> Result<Vec<String>, EdgeError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", dir)(error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.take(max).collect())
}

/// Writes the draft of a file that only its owner may read, in a directory that only its owner
/// may look into.
pub(crate) async fn write_secret_draft(
    path: &Path,
    text: SecretText,
) -> Result<PathBuf, EdgeError> {
    let path = path.to_owned();
    blocking(move || {
        if let Some(dir) = path.parent() {
            let mut builder = std::fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(dir);
            made.map_err(failed("create", dir))?;
        }
        let draft = draft_path(&path);
        // One that a crash left may be open to others.
        let _ = std::fs::remove_file(&draft);
        let mut options = std::fs::File::options();
        let opened = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft);
        let mut file = opened.map_err(failed("create", &draft))?;
        file.write_all(text.expose().as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &draft))?;
        Ok(draft)
    })
    .await
}

/// Removes a file that may not be there.
pub(crate) async fn remove(path: &Path) -> Result<(), EdgeError> {
    let path = path.to_owned();
    blocking(move || remove_now(&path)).await
}

/// As [`remove`], on this thread.
pub(crate) fn remove_now(path: &Path) -> Result<(), EdgeError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Replaces a file as a whole.
pub(crate) async fn replace(path: &Path, text: String) -> Result<(), EdgeError> {
    let path = path.to_owned();
    blocking(move || replace_now(&path, &text)).await
}

/// As [`replace`], on this thread.
pub(crate) fn replace_now(path: &Path, text: &str) -> Result<(), EdgeError> {
    draft_now(path, text)?;
    commit_now(path)
}

/// Writes the draft of a file and makes sure that it is on disk.
pub(crate) async fn write_draft(path: &Path, text: String) -> Result<PathBuf, EdgeError> {
    let path = path.to_owned();
    blocking(move || draft_now(&path, &text)).await
}

fn draft_now(path: &Path, text: &str) -> Result<PathBuf, EdgeError> {
    let draft = draft_path(path);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed("create", dir))?;
    }
    let mut file = std::fs::File::create(&draft).map_err(failed("create", &draft))?;
    file.write_all(text.as_bytes())
        .map_err(failed("write", &draft))?;
    file.sync_all().map_err(failed("write", &draft))?;
    Ok(draft)
}

/// Gives the draft its name.
pub(crate) async fn commit_draft(path: &Path) -> Result<(), EdgeError> {
    let path = path.to_owned();
    blocking(move || commit_now(&path)).await
}

fn commit_now(path: &Path) -> Result<(), EdgeError> {
    std::fs::rename(draft_path(path), path).map_err(failed("replace", path))?;
    if let Some(dir) = path.parent() {
        let dir_file = std::fs::File::open(dir).map_err(failed("open", dir))?;
        dir_file.sync_all().map_err(failed("sync", dir))?;
    }
    Ok(())
}

/// Replaces a file as a whole without waiting for the disk: it is for the next process, not for
/// the next power-up.
pub(crate) async fn replace_lazily(path: &Path, text: String) -> Result<(), EdgeError> {
    let path = path.to_owned();
    blocking(move || {
        let draft = draft_path(&path);
        std::fs::write(&draft, text).map_err(failed("write", &draft))?;
        std::fs::rename(&draft, &path).map_err(failed("replace", &path))
    })
    .await
}

/// Asks `haproxy -c` about a file. No shell is involved.
pub(crate) async fn check(
    binary: &Path,
    config: &Path,
    deadline: Duration,
) -> Result<(), EdgeError> {
    let run = Command::new(binary)
        // Without `-q`: it would also hide what is wrong.
        .args(["-c", "-f"])
        .arg(config)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(deadline, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => {
            return Err(EdgeError::Binary {
                binary: binary.to_owned(),
                source,
            });
        }
        Err(_) => {
            let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            return Err(EdgeError::CheckSilent { deadline_ms });
        }
    };
    if output.status.success() {
        return Ok(());
    }
    Err(EdgeError::Refused {
        output: alerts(&String::from_utf8_lossy(&output.stderr)),
    })
}

/// The lines of haproxy's words that say what is wrong, shortened. From 3.0 on what an alert is about
/// comes on lines of its own, indented.
pub(crate) fn alerts(text: &str) -> String {
    let mut is_alert = false;
    let says = |line: &&str| {
        is_alert = line.contains("[ALERT]") || (is_alert && line.starts_with(' '));
        is_alert
    };
    let alerts: Vec<&str> = text.lines().filter(says).collect();
    let chosen = if alerts.is_empty() {
        text.lines().collect()
    } else {
        alerts
    };
    let mut out = String::new();
    for line in chosen {
        if out.len() + line.len() > OUTPUT_BYTES_MAX {
            break;
        }
        if !out.is_empty() {
            out.push_str("; ");
        }
        out.extend(line.trim().chars().filter(|c| !c.is_control()));
    }
    out
}
