//! The directory that a build sees, as an archive that is made while it is sent.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

use super::ignored::Ignored;
use crate::compose::build::{Build, Dockerfile};

/// Most files and directories: somebody's whole disk is no context.
const ENTRIES_MAX: usize = 500_000;
/// Largest Dockerfile or `.dockerignore`.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// One part of the archive; with [`PARTS_MAX`] all that is held of it.
const PART_BYTES: usize = 64 << 10;
const PARTS_MAX: usize = 8;
/// How a Dockerfile is called that is not among what the build sees.
const INJECTED: &str = ".longshore.dockerfile";

/// Why nothing can be built from a directory.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// It is not there, or is none.
    #[error("there is no directory {} to build from", .0.display())]
    NoDirectory(PathBuf),
    /// The steps are not there.
    #[error("there is no Dockerfile {}", .0.display())]
    NoDockerfile(PathBuf),
    /// A file says no.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file of text that is none, or too long.
    #[error("{}: {why}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// More than [`ENTRIES_MAX`].
    #[error("{} holds more than {ENTRIES_MAX} files; name what the build does not need in .dockerignore", .0.display())]
    TooMany(PathBuf),
}

/// What is built from, looked at and not yet read.
#[derive(Debug)]
pub struct Context {
    directory: PathBuf,
    ignored: Ignored,
    /// Files that are not in the directory as they are sent: name and contents.
    injected: Vec<(&'static str, Vec<u8>)>,
    /// Name of the Dockerfile within the archive.
    pub dockerfile: String,
    /// Its text.
    pub steps: String,
}

impl Context {
    /// Looks at what `build` names.
    ///
    /// # Errors
    /// [`ContextError`]
    pub fn new(build: &Build) -> Result<Self, ContextError> {
        let directory = build.context.clone();
        if !directory.is_dir() {
            return Err(ContextError::NoDirectory(directory));
        }
        let path = directory.join(".dockerignore");
        let patterns = match path.is_file() {
            true => Some(text(&path)?),
            false => None,
        };
        let ignored = Ignored::parse(patterns.as_deref().unwrap_or_default());
        let ignored = ignored.map_err(|(line, why)| ContextError::Text {
            path,
            why: format!("line {line}: {why}"),
        })?;
        let mut context = Self {
            directory,
            ignored,
            injected: Vec::new(),
            dockerfile: INJECTED.into(),
            steps: String::new(),
        };
        match &build.dockerfile {
            Dockerfile::Inline(steps) => context.steps.clone_from(steps),
            Dockerfile::File(name) => {
                let path = context.directory.join(name);
                if !path.is_file() {
                    return Err(ContextError::NoDockerfile(path));
                }
                context.steps = text(&path)?;
                let within = within(name);
                let is_sent = |name: &PathBuf| !context.ignored.has(name);
                if let Some(name) = within.filter(is_sent) {
                    context.dockerfile = name.display().to_string();
                    return Ok(context);
                }
            }
        }
        // The engine takes such files away again once it has read them.
        let mut hidden = patterns.clone().unwrap_or_default();
        hidden.push_str(&format!("\n{INJECTED}\n"));
        if patterns.is_none() {
            hidden.push_str(".dockerignore\n");
        }
        let steps = context.steps.clone().into_bytes();
        context.injected = vec![(INJECTED, steps), (".dockerignore", hidden.into_bytes())];
        Ok(context)
    }

    /// Starts to read: the parts of the archive, in order.
    #[must_use]
    pub fn archive(self) -> (String, mpsc::Receiver<io::Result<Bytes>>) {
        let (parts, receiver) = mpsc::channel(PARTS_MAX);
        let dockerfile = self.dockerfile.clone();
        tokio::task::spawn_blocking(move || {
            let sender = Parts(parts.clone());
            if let Err(error) = self.write(BufWriter::with_capacity(PART_BYTES, sender)) {
                // Nobody is told if nobody reads.
                let _ = parts.blocking_send(Err(io::Error::other(error)));
            }
        });
        (dockerfile, receiver)
    }

    /// Writes the whole archive.
    ///
    /// # Errors
    /// [`ContextError`] of the first file that cannot be read.
    pub fn write(&self, out: impl Write) -> Result<(), ContextError> {
        let mut archive = Builder::new(out);
        let fault = |source| ContextError::Io {
            path: self.directory.clone(),
            source,
        };
        for (name, contents) in &self.injected {
            let mut header = header(0o644, 0);
            header.set_size(contents.len() as u64);
            archive
                .append_data(&mut header, name, contents.as_slice())
                .map_err(fault)?;
        }
        let mut entries = 0;
        self.below(Path::new(""), &mut archive, &mut entries)?;
        let mut out = archive.into_inner().map_err(fault)?;
        out.flush().map_err(fault)
    }

    /// What is in one directory, by name, so that the same files make the same archive.
    fn below<W: Write>(
        &self,
        at: &Path,
        archive: &mut Builder<W>,
        entries: &mut usize,
    ) -> Result<(), ContextError> {
        let directory = self.directory.join(at);
        let fault = |source| ContextError::Io {
            path: directory.clone(),
            source,
        };
        let names = fs::read_dir(&directory).map_err(fault)?;
        let names = names.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names: Vec<_> = names.collect::<Result<_, _>>().map_err(fault)?;
        names.sort();
        for name in names {
            *entries += 1;
            if *entries > ENTRIES_MAX {
                return Err(ContextError::TooMany(self.directory.clone()));
            }
            let way = at.join(&name);
            let is_injected = self.injected.iter().any(|(name, _)| Path::new(name) == way);
            if is_injected {
                continue;
            }
            let path = self.directory.join(&way);
            let fault = |source| ContextError::Io {
                path: path.clone(),
                source,
            };
            let found = fs::symlink_metadata(&path).map_err(fault)?;
            let is_ignored = self.ignored.has(&way);
            if !is_ignored {
                append(archive, &way, &path, &found).map_err(fault)?;
            }
            if found.is_dir() && (!is_ignored || self.ignored.has_exceptions()) {
                self.below(&way, archive, entries)?;
            }
        }
        Ok(())
    }
}

/// One file, with the rights that it has and as root's: who owns it here means nothing there.
fn append<W: Write>(
    archive: &mut Builder<W>,
    way: &Path,
    path: &Path,
    found: &Metadata,
) -> io::Result<()> {
    let kind = found.file_type();
    let mtime_s = u64::try_from(found.mtime()).unwrap_or(0);
    let mut header = header(found.mode() & 0o7777, mtime_s);
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return archive.append_link(&mut header, way, fs::read_link(path)?);
    }
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return archive.append_data(&mut header, way, io::empty());
    }
    if !kind.is_file() {
        // Sockets and pipes are no files of an image.
        return Ok(());
    }
    let file = File::open(path)?;
    header.set_size(found.len());
    let mut exactly = Exactly {
        file: file.take(found.len()),
        left: found.len(),
    };
    archive.append_data(&mut header, way, &mut exactly)
}

/// Of something without contents, root's.
fn header(mode: u32, mtime_s: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_mtime(mtime_s);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// A file that grew shorter meanwhile would shift all that follows.
struct Exactly {
    file: io::Take<File>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.left -= bytes as u64;
        if bytes == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        Ok(bytes)
    }
}

/// The name within the context. None: it is outside.
fn within(name: &Path) -> Option<PathBuf> {
    use std::path::Component::{CurDir, Normal, ParentDir};
    let mut way = PathBuf::new();
    for part in name.components() {
        match part {
            Normal(part) => way.push(part),
            CurDir => {}
            ParentDir if way.pop() => {}
            _ => return None,
        }
    }
    Some(way)
}

fn text(path: &Path) -> Result<String, ContextError> {
    let io = |source| ContextError::Io {
        path: path.to_owned(),
        source,
    };
    let why = |why: &str| ContextError::Text {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(why("is longer than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| why("is no text"))
}

/// Hands parts on to somebody who waits for them.
struct Parts(mpsc::Sender<io::Result<Bytes>>);

impl Write for Parts {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(part)))
            .map_err(gone)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Each entry: kind, mode, contents or target.
    fn sent(build: &Build) -> BTreeMap<String, (EntryType, u32, String)> {
        let mut bytes = Vec::new();
        Context::new(build).unwrap().write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = |entry: io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let (kind, mode) = (entry.header().entry_type(), entry.header().mode().unwrap());
            assert_eq!(entry.header().uid().unwrap(), 0);
            let mut text = String::new();
            match entry.link_name().unwrap() {
                Some(target) => text = target.display().to_string(),
                None => drop(entry.read_to_string(&mut text).unwrap()),
            }
            (name, (kind, mode, text))
        };
        archive.entries().unwrap().map(entry).collect()
    }

    fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, Build) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let context = directory.path().to_owned();
        let build = Build {
            context,
            ..Build::default()
        };
        (directory, build)
    }

    #[test]
    fn files_links_and_modes_are_sent_as_they_are() {
        let long = format!("{}/{}/x", "d".repeat(90), "e".repeat(90));
        let (dir, build) =
            directory(&[("Dockerfile", "FROM a\n"), ("bin/run", "#!"), (&long, "l")]);
        let run = dir.path().join("bin/run");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        symlink("bin/run", dir.path().join("link")).unwrap();
        symlink("/nowhere", dir.path().join("broken")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
        let sent = sent(&build);
        assert_eq!(sent["bin/run"], (EntryType::Regular, 0o755, "#!".into()));
        let link = |target: &str| (EntryType::Symlink, sent["link"].1, target.to_owned());
        assert_eq!(sent["link"], link("bin/run"));
        assert_eq!(sent["broken"], link("/nowhere"));
        assert_eq!(sent[&long].2, "l");
        assert!(!sent.contains_key("sock") && sent.contains_key("Dockerfile"));
        assert!(!sent.contains_key(INJECTED) && !sent.contains_key(".dockerignore"));
    }

    #[test]
    fn what_dockerignore_names_is_not_sent_and_the_dockerfile_is_anyway() {
        let files = [
            (
                ".dockerignore",
                "Dockerfile\nnode_modules\n!node_modules/keep\n",
            ),
            ("Dockerfile", "FROM a\n"),
            ("node_modules/a/b", "x"),
            ("node_modules/keep", "k"),
        ];
        let (_dir, build) = directory(&files);
        let sent = sent(&build);
        let names: Vec<&str> = sent.keys().map(String::as_str).collect();
        assert_eq!(names, [".dockerignore", INJECTED, "node_modules/keep"]);
        assert_eq!(sent[INJECTED].2, "FROM a\n");
        assert!(
            sent[".dockerignore"]
                .2
                .ends_with("\n.longshore.dockerfile\n")
        );
    }

    #[test]
    fn steps_in_the_compose_file_or_elsewhere_are_sent_along() {
        let (dir, mut build) = directory(&[("app/a", "x"), ("Dockerfile.app", "FROM b\n")]);
        build.context = dir.path().join("app");
        build.dockerfile = Dockerfile::File("../Dockerfile.app".into());
        assert_eq!(sent(&build)[INJECTED].2, "FROM b\n");
        build.dockerfile = Dockerfile::Inline("FROM c\n".into());
        let sent = sent(&build);
        assert_eq!(sent[INJECTED].2, "FROM c\n");
        assert!(sent[".dockerignore"].2.contains(".dockerignore\n"));
    }

    #[test]
    fn what_is_not_there_is_said_with_its_path() {
        let (dir, mut build) = directory(&[("a", "x"), (".dockerignore", "x\n[a\n")]);
        let said = |build: &Build| Context::new(build).unwrap_err().to_string();
        assert!(
            said(&build).contains(".dockerignore: line 2"),
            "{}",
            said(&build)
        );
        fs::remove_file(dir.path().join(".dockerignore")).unwrap();
        assert!(
            said(&build).contains("there is no Dockerfile /"),
            "{}",
            said(&build)
        );
        build.context = dir.path().join("none");
        assert!(
            said(&build).contains("none to build from"),
            "{}",
            said(&build)
        );
    }
}
