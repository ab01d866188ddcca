//! Secrets and configs as the archives that the engine unpacks into a container before it starts.
//! Pure.

use longshore_model::ContainerSpec;
use longshore_model::spec::file::SECRETS_DIRECTORY;
use longshore_model::spec::{FileContents, FileSpec};

/// Headers and contents are filled up to multiples of this.
pub const BLOCK: usize = 512;
/// Longest name that fits into a header.
const NAME_BYTES: usize = 100;
/// GNU tar's: a name that is longer comes before as an entry of its own.
const LONG_NAME: &str = "././@LongLink";
const MAGIC: &[u8; 8] = b"ustar  \0";
const REGULAR: u8 = b'0';
const LONG: u8 = b'L';

/// An archive, and the directory of the container that it is unpacked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// From `/`.
    pub directory: &'static str,
    /// Tar.
    pub tar: Vec<u8>,
}

/// At most two: the engine writes to a volume only where the archive's own directory is in it.
#[must_use]
pub fn archives(spec: &ContainerSpec, files: &[(FileSpec, FileContents)]) -> Vec<Archive> {
    let has_volume = spec.has_secrets_volume();
    let (in_volume, others): (Vec<_>, Vec<_>) = files
        .iter()
        .partition(|(file, _)| has_volume && file.is_in_secrets());
    [(SECRETS_DIRECTORY, in_volume), ("/", others)]
        .into_iter()
        .filter(|(_, files)| !files.is_empty())
        .map(|(directory, files)| Archive {
            directory,
            tar: tar(directory, &files),
        })
        .collect()
}

/// Directories have no entries: those that are there keep their owners and permissions, and the
/// engine makes the others for everybody to read (0755).
fn tar(directory: &str, files: &[&(FileSpec, FileContents)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (file, contents) in files {
        let name = file.target.strip_prefix(directory);
        let name = name.unwrap_or(&file.target).trim_start_matches('/');
        if name.len() > NAME_BYTES {
            let text = [name.as_bytes(), b"\0"].concat();
            entry(&mut tar, LONG_NAME, LONG, (0, 0, 0), &text);
        }
        let owner = (file.uid, file.gid, file.mode);
        entry(&mut tar, name, REGULAR, owner, contents.expose());
    }
    // The end: two empty blocks.
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

fn entry(
    tar: &mut Vec<u8>,
    name: &str,
    kind: u8,
    (uid, gid, mode): (u32, u32, u32),
    contents: &[u8],
) {
    let header = header_of(name, kind, (uid, gid, mode), contents.len() as u64);
    tar.extend_from_slice(&header);
    tar.extend_from_slice(contents);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

/// The header of a file of `bytes` bytes that everybody may read.
#[must_use]
pub fn header(name: &str, bytes: u64) -> [u8; BLOCK] {
    header_of(name, REGULAR, (0, 0, 0o644), bytes)
}

fn header_of(name: &str, kind: u8, (uid, gid, mode): (u32, u32, u32), bytes: u64) -> [u8; BLOCK] {
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    let short = &name.as_bytes()[..name.len().min(NAME_BYTES)];
    put(0, short);
    put(100, &number(mode));
    put(108, &number(uid));
    put(116, &number(gid));
    put(124, &size(bytes));
    // Times are those of 1970, so that equal files are equal.
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, MAGIC);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Eleven octal digits (8 GiB), or as GNU tar writes larger ones: a set first bit, then binary.
fn size(bytes: u64) -> [u8; 12] {
    let mut field = [0_u8; 12];
    if bytes < 1 << 33 {
        field[..11].copy_from_slice(format!("{bytes:011o}").as_bytes());
    } else {
        field[0] = 0x80;
        field[4..].copy_from_slice(&bytes.to_be_bytes());
    }
    field
}

/// Seven octal digits, or as GNU tar writes larger ones: a set first bit, then binary.
fn number(value: u32) -> [u8; 8] {
    let mut field = [0_u8; 8];
    if value < 1 << 21 {
        field[..7].copy_from_slice(format!("{value:07o}").as_bytes());
    } else {
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
    field
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::{file, spec};

    #[test]
    fn gnu_tar_reads_what_is_written() {
        let deep = format!("/{}/{}", "d".repeat(80), "n".repeat(80));
        let mut files = vec![
            (
                file("/run/secrets/pw", b"hunter2"),
                FileContents::new(*b"hunter2"),
            ),
            (file(&deep, &[7; 513]), FileContents::new([7; 513])),
            (file("/etc/empty", b""), FileContents::new([])),
        ];
        files[0].0.uid = 1_000_000_000;
        files[0].0.mode = 0o400;
        let all = archives(&spec("a"), &files);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].directory, all[0].tar.len() % BLOCK), ("/", 0));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, &all[0].tar).unwrap();
        let run = |arguments: &[&str]| {
            let mut tar = Command::new("tar");
            tar.args(arguments).arg("-f").arg(&path);
            let out = tar.current_dir(dir.path()).output().unwrap();
            assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
            String::from_utf8(out.stdout).unwrap()
        };
        let listed = run(&["--numeric-owner", "-tv"]);
        let lines: Vec<_> = listed.lines().collect();
        assert!(lines[0].starts_with("-r-------- 1000000000/0 "), "{listed}");
        assert!(lines[0].ends_with(" run/secrets/pw"), "{listed}");
        assert!(lines[1].starts_with("-r--r--r-- 0/0 "), "{listed}");
        assert!(lines[1].ends_with(&deep[1..]), "{listed}");
        assert_eq!(lines.len(), 3, "{listed}");
        run(&["--no-same-owner", "-x"]);
        let read = |target: &str| std::fs::read(dir.path().join(&target[1..])).unwrap();
        assert_eq!(read("/run/secrets/pw"), b"hunter2");
        assert_eq!(read(&deep), [7; 513]);
        assert_eq!(read("/etc/empty"), b"");
    }

    #[test]
    fn what_is_in_a_volume_has_an_archive_of_its_own() {
        let files = ["/run/secrets/a", "/etc/b"].map(|t| (file(t, b"x"), FileContents::new(*b"x")));
        let mut spec = spec("a");
        spec.files = files.iter().map(|(file, _)| file.clone()).collect();
        spec.tmpfs = vec!["/run".into()];
        let all = archives(&spec, &files);
        let directories: Vec<_> = all.iter().map(|archive| archive.directory).collect();
        assert_eq!(directories, ["/run/secrets", "/"]);
        assert!(all[0].tar.starts_with(b"a\0") && all[1].tar.starts_with(b"etc/b\0"));
    }
}
