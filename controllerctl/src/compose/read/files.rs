//! `secrets` and `configs`, at the top and in a service, and small files of the project that a
//! service binds: all become files that its containers are given.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use longshore_model::spec::file::{
    CONFIG_BYTES_MAX, FILE_NAME_BYTES_MAX, SECRETS_DIRECTORY, is_name,
};
use longshore_model::spec::{
    ContainerSpec, ContentDigest, ContentMap, FileContents, FileKind, FileSpec,
};

use super::super::Here;
use super::super::interpolate::Variables;
use super::super::problem::{BIND_CONFIG, Problems, did_you_mean};
use super::super::source::Place;
use super::item::{Fields, Item};
use super::keys;

/// For everybody in the container, as Compose's own.
const MODE: u32 = 0o444;

/// Where the contents of a secret or config are.
pub(super) enum Source<'a> {
    /// In a file.
    File(Item<'a>, String),
    /// In the file itself, or in a variable.
    Text(Item<'a>, String),
    /// Apart from the app, in the controller, under this name.
    External(String),
}

/// One that the file declares.
pub(super) struct Top<'a> {
    pub(super) item: Item<'a>,
    pub(super) key: Place,
    /// None: what is wrong was said.
    pub(super) source: Option<Source<'a>>,
}

/// What services used of them, and what was read for that.
#[derive(Default)]
struct Used {
    read: BTreeMap<(FileKind, String), Option<FileContents>>,
    contents: ContentMap,
    /// Secrets that builds are given; they stay here.
    built: BTreeSet<String>,
}

/// All that the file declares.
pub(super) struct Files<'a> {
    here: &'a Here,
    tops: BTreeMap<(FileKind, String), Top<'a>>,
    used: RefCell<Used>,
}

/// The files of a container, and the entries that they come from.
#[derive(Default)]
pub(super) struct Given<'a> {
    files: Vec<FileSpec>,
    items: Vec<Item<'a>>,
}

fn section(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Secret => "secrets",
        FileKind::Config => "configs",
    }
}

/// Reads `secrets` and `configs` at the top.
pub(super) fn top<'a>(
    fields: &mut Fields<'a>,
    here: &'a Here,
    variables: &Variables,
    p: &mut Problems,
) -> Files<'a> {
    let mut tops = BTreeMap::new();
    for kind in [FileKind::Secret, FileKind::Config] {
        let section = fields.take(section(kind));
        let entries = section.and_then(|item| item.entries(p));
        for (key, item) in entries.unwrap_or_default() {
            if !is_name(&key.name) {
                let message = format!("{:?} is no name of a {kind}", key.name);
                let help = format!("write letters, digits, _ . - ({FILE_NAME_BYTES_MAX} at most)");
                p.error("name", key.place, &item.path, message)
                    .help(help)
                    .file();
                continue;
            }
            let top = Top {
                source: source(&item, (kind, &key.name), here, variables, p),
                key: key.place,
                item,
            };
            tops.insert((kind, key.name.clone()), top);
        }
    }
    Files {
        here,
        tops,
        used: RefCell::default(),
    }
}

fn source<'a>(
    item: &Item<'a>,
    (kind, name): (FileKind, &str),
    here: &Here,
    variables: &Variables,
    p: &mut Problems,
) -> Option<Source<'a>> {
    let errors_before = p.errors();
    let mut fields = item.fields(p)?;
    if kind == FileKind::Secret
        && let Some(is) = fields.take("external")
        && (is.is_map() || is.boolean(p)?)
    {
        return external(name, &is, fields, p);
    }
    let file = fields.take("file");
    let variable = fields.take("environment");
    let content = match kind {
        FileKind::Secret => None,
        FileKind::Config => fields.take("content"),
    };
    fields.finish(p, keys::TOP_FILE);
    match (file, variable, content) {
        (Some(item), None, None) => {
            let path = item.word(p)?;
            let path = beside(here, &path);
            Some(Source::File(item, path))
        }
        (None, Some(item), None) => {
            let name = item.word(p)?;
            match variables.get(&name) {
                Some(text) => Some(Source::Text(item, text.to_owned())),
                None => {
                    item.invalid(p, format!("the variable {name} is not set"));
                    None
                }
            }
        }
        (None, None, Some(item)) => {
            let text = item.text(p)?.to_owned();
            Some(Source::Text(item, text))
        }
        // What is wrong with its other keys is said.
        (None, None, None) if p.errors() > errors_before || p.ignores_unsupported() => None,
        _ => {
            let (one_of, help) = match kind {
                FileKind::Secret => (
                    "file, environment",
                    "write for example: password: { file: ./password.txt }",
                ),
                FileKind::Config => (
                    "file, environment, content",
                    "write for example: app.conf: { file: ./app.conf }",
                ),
            };
            item.invalid_help(p, format!("must have one of: {one_of}"), help);
            None
        }
    }
}

/// `external: true`, and `name` where it has another one there; `external: { name: NAME }` is how
/// older files say it.
fn external<'a>(
    name: &str,
    is: &Item<'a>,
    mut fields: Fields<'a>,
    p: &mut Problems,
) -> Option<Source<'a>> {
    let mut named = fields.take("name");
    if is.is_map() {
        let mut inside = is.fields(p)?;
        named = inside.take("name").or(named);
        inside.finish(p, &[]);
    }
    for key in ["file", "environment"] {
        if let Some(item) = fields.take(key) {
            item.invalid(p, "an external secret has its contents in the controller");
        }
    }
    fields.finish(p, keys::TOP_FILE);
    let name = match &named {
        None => name.to_owned(),
        Some(item) => item.word(p)?,
    };
    if !is_name(&name) {
        let message = format!("{name:?} is no name of a secret");
        let help = format!("write letters, digits, _ . - ({FILE_NAME_BYTES_MAX} at most)");
        named.as_ref().unwrap_or(is).invalid_help(p, message, help);
        return None;
    }
    Some(Source::External(name))
}

/// A path of the file as this process finds it.
pub(super) fn beside(here: &Here, path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    match here.directory == Path::new(".") {
        true => path.to_owned(),
        false => here.directory.join(path).display().to_string(),
    }
}

/// At most a little more than `bytes_max` of a regular file, and its permissions: the length is
/// judged with the rest.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> Result<(Vec<u8>, u32), String> {
    let words = |error: std::io::Error| error.to_string();
    // Before it is opened: a pipe would be waited for.
    let metadata = std::fs::metadata(path).map_err(words)?;
    if !metadata.is_file() {
        let what = match metadata.is_dir() {
            true => "it is a directory",
            false => "it is no regular file",
        };
        return Err(what.to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(words)?;
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(words)?;
    Ok((bytes, metadata.permissions().mode()))
}

fn too_long(item: &Item<'_>, what: impl Display, max: u64, p: &mut Problems) {
    let message = format!("{what} is longer than {max} bytes");
    item.invalid_help(p, message, "put it into the image, or into a volume");
}

impl<'a> Files<'a> {
    /// What `look` reads counts as not read.
    pub(super) fn aside(&self, look: impl FnOnce()) {
        let used = self.used.take();
        look();
        self.used.replace(used);
    }

    /// Those of a kind, by name.
    pub(super) fn tops(&self, kind: FileKind) -> impl Iterator<Item = (&str, &Top<'a>)> {
        let of_kind = self.tops.iter().filter(move |((of, _), _)| *of == kind);
        of_kind.map(|((_, name), top)| (name.as_str(), top))
    }

    fn is_used(&self, kind: FileKind, name: &str) -> bool {
        let key = (kind, name.to_owned());
        let used = self.used.borrow();
        let is_built = kind == FileKind::Secret && used.built.contains(name);
        is_built || used.read.contains_key(&key)
    }

    /// A secret for a build; it is read when that runs.
    pub(super) fn for_build(&self, name: &str) -> Option<&Top<'a>> {
        self.used.borrow_mut().built.insert(name.to_owned());
        self.tops.get(&(FileKind::Secret, name.to_owned()))
    }

    /// What no service names is not read; `elsewhere`: secrets that are used in another way.
    pub(super) fn unused(&self, elsewhere: &BTreeSet<String>, p: &mut Problems) {
        for ((kind, name), top) in &self.tops {
            let is_elsewhere = *kind == FileKind::Secret && elsewhere.contains(name);
            if !is_elsewhere && !self.is_used(*kind, name) {
                let message = "no service uses it, so it is not sent";
                p.warn("file_unused", top.key, &top.item.path, message)
                    .file();
            }
        }
    }

    /// Everything that services use.
    pub(super) fn into_contents(self) -> ContentMap {
        self.used.into_inner().contents
    }

    /// Its contents, read once.
    fn contents(&self, kind: FileKind, name: &str, p: &mut Problems) -> Option<FileContents> {
        let key = (kind, name.to_owned());
        if let Some(read) = self.used.borrow().read.get(&key) {
            return read.clone();
        }
        let read = self.tops.get(&key).and_then(|top| {
            let max = kind.bytes_max();
            let (item, bytes) = match top.source.as_ref()? {
                // The controller has them.
                Source::External(_) => return Some(FileContents::new([])),
                Source::Text(item, text) => (item, text.clone().into_bytes()),
                Source::File(item, path) => match read_file(Path::new(path), max) {
                    Ok((bytes, _)) => (item, bytes),
                    Err(error) => {
                        item.invalid(p, format!("cannot read {path}: {error}"));
                        return None;
                    }
                },
            };
            if bytes.len() as u64 > max {
                too_long(item, format!("{kind} {name}"), max, p);
                return None;
            }
            Some(FileContents::new(bytes))
        });
        self.used.borrow_mut().read.insert(key, read.clone());
        read
    }

    /// As whom the controller has it, if it stands apart from the app.
    fn external(&self, kind: FileKind, name: &str) -> Option<String> {
        match self.tops.get(&(kind, name.to_owned()))?.source.as_ref()? {
            Source::External(name) => Some(name.clone()),
            _ => None,
        }
    }

    fn keep(&self, contents: FileContents) -> (ContentDigest, u64) {
        let (digest, bytes) = (ContentDigest::of(contents.expose()), contents.bytes());
        let mut used = self.used.borrow_mut();
        used.contents.insert(digest.clone(), contents);
        (digest, bytes)
    }

    fn undefined(&self, item: &Item<'_>, kind: FileKind, name: &str, p: &mut Problems) {
        let message = format!("there is no {kind} `{name}` in the file");
        let help = match keys::nearest(name, self.tops(kind).map(|(name, _)| name)) {
            Some(near) => did_you_mean(near),
            None => {
                let section = section(kind);
                format!("add at the top: {section}: {{ {name}: {{ file: ./{name} }} }}")
            }
        };
        item.undefined(p, message, help);
    }
}

impl<'a> Given<'a> {
    /// Reads `secrets` and `configs` of a service.
    pub(super) fn take(&mut self, fields: &mut Fields<'a>, files: &Files<'a>, p: &mut Problems) {
        for kind in [FileKind::Secret, FileKind::Config] {
            let items = fields.take(section(kind)).map(|item| item.items(p));
            for item in items.unwrap_or_default() {
                if let Some(file) = one(&item, kind, files, p) {
                    self.push(item, file);
                }
            }
        }
    }

    fn push(&mut self, item: Item<'a>, file: FileSpec) {
        self.files.push(file);
        self.items.push(item);
    }

    /// Takes in a file of the project that a service binds.
    pub(super) fn bind(
        &mut self,
        item: &Item<'a>,
        files: &Files<'a>,
        (source, target): (&str, &str),
        read_only: bool,
        p: &mut Problems,
    ) {
        if !read_only {
            let message = format!("{source:?}: that path is on your machine, not on the nodes");
            let help = "with :ro (read_only) a file is sent as a config; for directories and files \
                        that are written to, name a volume, bake them into the image, or bind an \
                        absolute path that exists on the nodes";
            item.invalid_help(p, message, help);
            return;
        }
        let path = beside(files.here, source);
        let (bytes, mode) = match read_file(Path::new(&path), CONFIG_BYTES_MAX) {
            Ok(read) => read,
            Err(error) => {
                let message = format!("cannot read {source}: {error}");
                let help = "single files of your machine are sent as configs: name each file, bake \
                            directories into the image, or bind an absolute path that exists on the \
                            nodes";
                item.invalid_help(p, message, help);
                return;
            }
        };
        if bytes.len() as u64 > CONFIG_BYTES_MAX {
            return too_long(item, source, CONFIG_BYTES_MAX, p);
        }
        let (digest, bytes) = files.keep(FileContents::new(bytes));
        let message = format!("bind mount {source} ({bytes} bytes) will be sent as a config");
        p.warn(BIND_CONFIG, item.place(), &item.path, message)
            .file();
        let file = FileSpec {
            kind: FileKind::Config,
            name: source.to_owned(),
            target: target.to_owned(),
            uid: 0,
            gid: 0,
            // What is to be run stays so.
            mode: MODE | mode & 0o111,
            bytes,
            digest,
            external: None,
        };
        self.push(item.clone(), file);
    }

    /// Gives the files to the container once everything else of it is known.
    pub(super) fn finish(mut self, service: &Item<'_>, spec: &mut ContainerSpec, p: &mut Problems) {
        loop {
            spec.files.clone_from(&self.files);
            let Some(fault) = spec.file_fault() else {
                return;
            };
            let Some(index) = fault.index else {
                service.invalid_help(p, fault.message, fault.help);
                return;
            };
            self.files.remove(index);
            let item = self.items.remove(index);
            item.invalid_help(p, fault.message, fault.help);
        }
    }
}

/// `NAME`, or `{source, target, uid, gid, mode}`.
fn one(item: &Item<'_>, kind: FileKind, files: &Files<'_>, p: &mut Problems) -> Option<FileSpec> {
    let (mut uid, mut gid, mut mode, mut target) = (0, 0, MODE, None);
    let name = match item.is_map() {
        false => item.word(p),
        true => {
            let mut fields = item.fields(p)?;
            let source = fields.take("source");
            if source.is_none() {
                let message = format!("names no {kind}");
                let help = format!("write source: NAME, as in `{}` at the top", section(kind));
                item.invalid_help(p, message, help);
            }
            let name = source.and_then(|item| item.word(p));
            target = fields.take("target").and_then(|item| item.word(p));
            uid = fields.take("uid").and_then(|i| owner(&i, p)).unwrap_or(uid);
            gid = fields.take("gid").and_then(|i| owner(&i, p)).unwrap_or(gid);
            let said = fields.take("mode");
            mode = said.and_then(|i| permissions(&i, p)).unwrap_or(mode);
            fields.finish(p, &[]);
            name
        }
    }?;
    if !files.tops.contains_key(&(kind, name.clone())) {
        files.undefined(item, kind, &name, p);
        return None;
    }
    let directory = match kind {
        FileKind::Secret => SECRETS_DIRECTORY,
        FileKind::Config => "",
    };
    let target = target.unwrap_or_else(|| name.clone());
    let target = match target.starts_with('/') {
        true => target,
        false => format!("{directory}/{target}"),
    };
    let contents = files.contents(kind, &name, p)?;
    let external = files.external(kind, &name);
    let (digest, bytes) = match &external {
        Some(_) => (ContentDigest::of(contents.expose()), 0),
        None => files.keep(contents),
    };
    Some(FileSpec {
        kind,
        name,
        target,
        uid,
        gid,
        mode,
        bytes,
        digest,
        external,
    })
}

fn owner(item: &Item<'_>, p: &mut Problems) -> Option<u32> {
    let text = item.text(p)?;
    let number = text.parse().ok();
    if number.is_none() {
        let message = format!("{text:?} is no number of a user or group");
        let help = "names are known only inside of the image: write the number, in quotes";
        item.invalid_help(p, message, help);
    }
    number
}

/// Octal digits. A number without a leading 0 would be a decimal one in YAML.
fn permissions(item: &Item<'_>, p: &mut Problems) -> Option<u32> {
    let text = item.text(p)?;
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
    let mode = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
    let mode = mode.filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let message = format!("{text:?} is no mode of a file");
        item.invalid_help(
            p,
            message,
            "write octal digits with a 0 before them, as 0440",
        );
    }
    mode
}
