//! Files that a container is given before it starts: secrets and configs. A spec says what they
//! are and names their contents by digest; the contents themselves go another way, and never into
//! a text that people or other programs read.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ContainerSpec;

/// Where secrets are unless their target says otherwise.
pub const SECRETS_DIRECTORY: &str = "/run/secrets";
/// Most files of one container.
pub const FILES_MAX: usize = 64;
/// Most bytes of one container's files.
pub const FILES_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of one secret, as Docker's.
pub const SECRET_BYTES_MAX: u64 = 500 << 10;
/// Most bytes of one config.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Most bytes of the contents that one app brings.
pub const APP_CONTENTS_BYTES_MAX: u64 = 8 << 20;
/// Most bytes of the contents that a cluster keeps.
pub const ALL_CONTENTS_BYTES_MAX: u64 = 64 << 20;
/// Longest path of a file inside a container.
pub const TARGET_BYTES_MAX: usize = 255;
/// Longest name of a secret or config.
pub const FILE_NAME_BYTES_MAX: usize = 128;
/// Most secrets that stand apart from apps.
pub const EXTERNAL_MAX: usize = 512;
/// Most bytes of them together.
pub const EXTERNAL_BYTES_MAX: u64 = 16 << 20;
const NAME_BYTES_MAX: usize = 255;
const MODE_MAX: u32 = 0o777;
/// What the kernel mounts over whatever is there.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What a file is for its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Not to be seen.
    Secret,
    /// Anything else.
    Config,
}

impl FileKind {
    /// Most bytes of one.
    #[must_use]
    pub fn bytes_max(self) -> u64 {
        match self {
            Self::Secret => SECRET_BYTES_MAX,
            Self::Config => CONFIG_BYTES_MAX,
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret",
            Self::Config => "config",
        })
    }
}

/// One file of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Secret or config.
    pub kind: FileKind,
    /// What it is called in the app's file; of a bind mount, its path there.
    pub name: String,
    /// Path inside the container.
    pub target: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
    /// Length of its contents.
    pub bytes: u64,
    /// Which contents.
    pub digest: ContentDigest,
    /// The secret that stands apart from apps whose contents these are (`external: true`). Until the
    /// controller has looked it up, `digest` and `bytes` are those of nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<String>,
}

/// Can a secret or config be called so? Letters, digits, `_`, `.` and `-`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    !name.is_empty() && name.len() <= FILE_NAME_BYTES_MAX && name.bytes().all(plain)
}

impl fmt::Display for FileSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.digest.short();
        write!(
            f,
            "{} {} ({} bytes, sha256:{short})",
            self.kind, self.name, self.bytes
        )
    }
}

/// SHA-256 of contents, 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentDigest(String);

/// It is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hexadecimal digits")]
pub struct NoDigest;

impl ContentDigest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The whole of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As much of it as people read.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContentDigest {
    type Err = NoDigest;
    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == 64 && text.bytes().all(is_hex) {
            true => Ok(Self(text.to_owned())),
            false => Err(NoDigest),
        }
    }
}

impl TryFrom<String> for ContentDigest {
    type Error = NoDigest;
    fn try_from(text: String) -> Result<Self, NoDigest> {
        text.parse()
    }
}

impl From<ContentDigest> for String {
    fn from(digest: ContentDigest) -> String {
        digest.0
    }
}

/// What is in a file. It is not shown by `Debug`, has no `Display` and is no part of what serde
/// writes; whoever needs it says so.
#[derive(Clone, PartialEq, Eq)]
pub struct FileContents(Arc<[u8]>);

impl FileContents {
    /// Keeps `bytes`.
    #[must_use]
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for a container, a message or the store.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

impl fmt::Debug for FileContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes of a file>", self.0.len())
    }
}

/// Contents by digest.
pub type ContentMap = BTreeMap<ContentDigest, FileContents>;

/// What is wrong with the files of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// Which of them; none: all together.
    pub index: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub help: &'static str,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

/// Is `path` below `directory`, or that itself?
fn is_in(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn tmpfs_path(entry: &str) -> &str {
    entry.split_once(':').map_or(entry, |(path, _)| path)
}

impl FileSpec {
    /// Is it where secrets are?
    #[must_use]
    pub fn is_in_secrets(&self) -> bool {
        is_in(&self.target, SECRETS_DIRECTORY)
    }

    fn fault(&self) -> Option<(String, &'static str)> {
        let (target, max) = (&self.target, self.kind.bytes_max());
        let mut parts = target.split('/').skip(1);
        let is_plain = target.starts_with('/')
            && target.len() <= TARGET_BYTES_MAX
            && !target.contains(char::is_control)
            && parts.all(|part| !matches!(part, "" | "." | ".."));
        let name_ok = !self.name.is_empty()
            && self.name.len() <= NAME_BYTES_MAX
            && !self.name.contains(char::is_control);
        if !name_ok {
            let message = format!("a {} has no name that can be shown", self.kind);
            return Some((message, "write 1 to 255 characters"));
        }
        if self.external.as_deref().is_some_and(|name| !is_name(name)) {
            let message = format!(
                "{} {} has an external name that is none",
                self.kind, self.name
            );
            return Some((message, "write letters, digits, _ . - (128 at most)"));
        }
        if !is_plain {
            let message = format!("target {target:?} is no path of a file in the container");
            let help = "write a path from / of at most 255 bytes, without . and .. and // in it";
            return Some((message, help));
        }
        if let Some(kernel) = KERNEL.into_iter().find(|path| is_in(target, path)) {
            let message = format!("target {target:?} is in {kernel}, which the kernel fills");
            return Some((message, "choose another target"));
        }
        if self.mode > MODE_MAX {
            let message = format!("mode {:o} is more than permissions", self.mode);
            return Some((message, "write 0400 to 0777"));
        }
        (self.bytes > max).then(|| {
            let (kind, name, bytes) = (self.kind, &self.name, self.bytes);
            let message = format!("{kind} {name} has {bytes} bytes; at most {max} are allowed");
            (message, "put it into the image, or into a volume")
        })
    }
}

impl ContainerSpec {
    /// Does the engine have to mount a volume where secrets are, since it could not write there or
    /// would hide what it wrote?
    #[must_use]
    pub fn has_secrets_volume(&self) -> bool {
        let hides = |entry: &String| is_in(SECRETS_DIRECTORY, tmpfs_path(entry));
        self.files.iter().any(FileSpec::is_in_secrets)
            && (self.read_only || self.tmpfs.iter().any(hides))
    }

    /// What is wrong with its files, if anything is.
    #[must_use]
    pub fn file_fault(&self) -> Option<FileFault> {
        let whole = |message, help| FileFault {
            index: None,
            message,
            help,
        };
        if self.files.len() > FILES_MAX {
            let message = format!(
                "{} secrets and configs; at most {FILES_MAX}",
                self.files.len()
            );
            return Some(whole(message, "put several values into one file"));
        }
        for (index, file) in self.files.iter().enumerate() {
            if let Some((message, help)) = file.fault().or_else(|| self.misplaced(index, file)) {
                let index = Some(index);
                return Some(FileFault {
                    index,
                    message,
                    help,
                });
            }
        }
        let bytes: u64 = self.files.iter().map(|file| file.bytes).sum();
        (bytes > FILES_BYTES_MAX).then(|| {
            let message = format!(
                "its secrets and configs have {bytes} bytes together; at most {FILES_BYTES_MAX} \
                 are allowed"
            );
            whole(message, "put large files into the image, or into a volume")
        })
    }

    fn misplaced(&self, index: usize, file: &FileSpec) -> Option<(String, &'static str)> {
        let target = &file.target;
        let mut before = self.files.iter().take(index);
        let other = before.find(|o| is_in(&o.target, target) || is_in(target, &o.target));
        if let Some(other) = other {
            let message = match other.target == *target {
                true => format!(
                    "{target:?} is the target of {} {}, too",
                    other.kind, other.name
                ),
                false => format!("{target:?} and {:?} cannot both be files", other.target),
            };
            return Some((message, "give each a target of its own"));
        }
        let mut mounts = self.mounts.iter();
        if let Some(mount) = mounts.find(|mount| is_in(target, &mount.target)) {
            let at = &mount.target;
            let message = format!("{target:?} is in what is mounted at {at:?}");
            return Some((message, "choose a target outside of volumes and binds"));
        }
        let in_secrets = file.is_in_secrets();
        let hides = |path: &&str| {
            let below_all =
                in_secrets && *path != SECRETS_DIRECTORY && !is_in(path, SECRETS_DIRECTORY);
            is_in(target, path) && !below_all
        };
        if let Some(path) = self.tmpfs.iter().map(|t| tmpfs_path(t)).find(hides) {
            let message = format!("{target:?} is in the tmpfs at {path:?}, which starts empty");
            return Some((message, "choose a target outside of tmpfs"));
        }
        (self.read_only && !in_secrets).then(|| {
            let message = format!("read_only: the engine can write no file to {target:?}");
            (
                message,
                "give it a target below /run/secrets, or drop read_only",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Mount;

    fn file(target: &str) -> FileSpec {
        FileSpec {
            kind: FileKind::Config,
            name: "app.conf".into(),
            target: target.into(),
            uid: 0,
            gid: 0,
            mode: 0o444,
            bytes: 3,
            digest: ContentDigest::of(b"abc"),
            external: None,
        }
    }

    fn fault(files: &[FileSpec], change: impl FnOnce(&mut ContainerSpec)) -> Option<String> {
        let mut spec = ContainerSpec {
            files: files.to_vec(),
            ..ContainerSpec::default()
        };
        change(&mut spec);
        spec.file_fault().map(|fault| fault.to_string())
    }

    #[test]
    fn hostile_targets_are_refused() {
        let long = format!("/{}", "a".repeat(255));
        let bad = [
            "",
            "/",
            "a",
            "../a",
            "/../a",
            "/a/../b",
            "/a/./b",
            "/a//b",
            "/a/",
            "/a\0b",
            "/a\nb",
            &long,
            "/proc/1/mem",
            "/sys/x",
            "/dev/sda",
        ];
        for target in bad {
            assert!(fault(&[file(target)], |_| ()).is_some(), "{target:?}");
        }
        for target in ["/a", "/a/..b", "/process", "/run/secrets/db_password"] {
            assert_eq!(fault(&[file(target)], |_| ()), None, "{target:?}");
        }
    }

    #[test]
    fn a_file_has_a_place_of_its_own() {
        let twice = fault(&[file("/a"), file("/a")], |_| ()).unwrap();
        assert!(
            twice.contains("is the target of config app.conf, too"),
            "{twice}"
        );
        assert!(fault(&[file("/a/b"), file("/a")], |_| ()).is_some());
        assert!(fault(&[file("/a"), file("/a/b")], |_| ()).is_some());
        assert_eq!(fault(&[file("/a"), file("/ab")], |_| ()), None);
        let mounted = |target: &str| {
            fault(&[file("/data/x")], |spec| {
                spec.mounts = vec![Mount {
                    target: target.into(),
                    ..Mount::default()
                }];
            })
        };
        assert!(mounted("/data/").is_some() && mounted("/data/x").is_some());
        assert_eq!(mounted("/dat"), None);
    }

    #[test]
    fn what_the_engine_cannot_write_or_would_hide_is_refused_but_for_secrets() {
        let read_only = |target: &str| fault(&[file(target)], |spec| spec.read_only = true);
        let said = read_only("/etc/a").unwrap();
        assert!(
            said.contains("below /run/secrets, or drop read_only"),
            "{said}"
        );
        assert_eq!(read_only("/run/secrets/a"), None);
        let tmpfs = |entry: &str, target: &str| {
            fault(&[file(target)], |spec| spec.tmpfs = vec![entry.into()])
        };
        assert!(tmpfs("/tmp:size=1m", "/tmp/a").is_some());
        assert!(tmpfs("/run", "/run/a").is_some());
        assert!(tmpfs("/run/secrets", "/run/secrets/a").is_some());
        assert_eq!(tmpfs("/run:size=1m", "/run/secrets/a"), None);
        let volume = |read_only: bool, tmpfs: &[&str], target: &str| {
            let spec = ContainerSpec {
                files: vec![file(target)],
                read_only,
                tmpfs: tmpfs.iter().map(|t| (*t).to_owned()).collect(),
                ..ContainerSpec::default()
            };
            spec.has_secrets_volume()
        };
        assert!(volume(true, &[], "/run/secrets/a") && volume(false, &["/run"], "/run/secrets/a"));
        assert!(!volume(false, &["/tmp"], "/run/secrets/a") && !volume(false, &["/run"], "/etc/a"));
    }

    #[test]
    fn lengths_counts_and_modes_have_limits() {
        let secret = |bytes: u64| FileSpec {
            kind: FileKind::Secret,
            bytes,
            ..file("/a")
        };
        assert_eq!(fault(&[secret(512_000)], |_| ()), None);
        let said = fault(&[secret(512_001)], |_| ()).unwrap();
        assert!(said.contains("at most 512000 are allowed"), "{said}");
        let large = |i: usize| FileSpec {
            bytes: CONFIG_BYTES_MAX,
            ..file(&format!("/{i}"))
        };
        let files: Vec<FileSpec> = (0..5).map(large).collect();
        assert_eq!(fault(&files[..4], |_| ()), None);
        assert!(fault(&files, |_| ()).unwrap().contains("together"));
        let many: Vec<FileSpec> = (0..65).map(|i| file(&format!("/{i}"))).collect();
        assert_eq!(fault(&many[..64], |_| ()), None);
        assert!(fault(&many, |_| ()).is_some());
        let mode = FileSpec {
            mode: 0o4755,
            ..file("/a")
        };
        assert!(fault(&[mode], |_| ()).is_some());
    }

    #[test]
    fn other_contents_are_another_template_and_none_change_nothing() {
        let plain = ContainerSpec::default();
        let json = serde_json::to_string(&plain).unwrap();
        assert!(!json.contains("files"), "templates keep their ids: {json}");
        let json = serde_json::to_string(&file("/a")).unwrap();
        assert!(
            !json.contains("external"),
            "templates keep their ids: {json}"
        );
        let with = |bytes: &[u8]| ContainerSpec {
            files: vec![FileSpec {
                digest: ContentDigest::of(bytes),
                ..file("/a")
            }],
            ..ContainerSpec::default()
        };
        assert_eq!(with(b"a").template_id(), with(b"a").template_id());
        assert_ne!(with(b"a").template_id(), with(b"b").template_id());
    }

    #[test]
    fn contents_are_not_shown() {
        let contents = FileContents::new(*b"hunter2");
        assert_eq!(format!("{contents:?}"), "<7 bytes of a file>");
    }
}
