//! `volumes`, at the top and in a service.

use std::collections::BTreeMap;

use longshore_model::spec::{ContainerSpec, Mount, MountOptions};

use super::super::node::Value;
use super::super::problem::Problems;
use super::Shared;
use super::container::absolute;
use super::engine::{ignored, positive_bytes};
use super::files::Given;
use super::item::{Fields, Item};
use super::keys;

/// Most mounts of one container, as the wire allows.
const MOUNTS_MAX: usize = 128;

/// Most options or labels of one volume, as the wire allows.
const OPTIONS_MAX: usize = 64;
const LOCAL_OPTIONS: [&str; 4] = ["type", "device", "o", "size"];
const PROPAGATION: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// A volume that the file declares.
#[derive(Debug)]
pub(super) struct TopVolume {
    /// What the engine calls it.
    engine_name: String,
    /// What makes it.
    options: MountOptions,
}

/// Reads `volumes` at the top.
pub(super) fn top(
    item: Option<Item<'_>>,
    app: &str,
    p: &mut Problems,
) -> BTreeMap<String, TopVolume> {
    let mut volumes = BTreeMap::new();
    for (key, item) in item.and_then(|item| item.entries(p)).unwrap_or_default() {
        if !name_ok(&key.name) {
            item.invalid(p, format!("{:?} is no volume name", key.name));
            continue;
        }
        // As Compose names them, so that data of an app that moves here is found again.
        let mut engine_name = format!("{app}_{}", key.name);
        let mut options = MountOptions::default();
        if !matches!(item.node.value, Value::Null) {
            let Some(mut fields) = item.fields(p) else {
                continue;
            };
            options = top_options(&mut fields, p);
            let external = fields.take("external");
            // `external: { name: NAME }` is how older files say it.
            let older = external.as_ref().filter(|i| i.is_map());
            let mut inside = older.and_then(|i| i.fields(p));
            let older_name = inside.as_mut().and_then(|fields| fields.take("name"));
            if let Some(inside) = inside {
                inside.finish(p, &[]);
            }
            if external.is_some_and(|i| i.is_map() || i.boolean(p).unwrap_or(false)) {
                engine_name.clone_from(&key.name);
                let made = MountOptions {
                    shared: false,
                    ..options.clone()
                };
                if made != MountOptions::default() {
                    item.invalid_help(
                        p,
                        "is external, so it is there already and nothing makes it",
                        "drop driver, driver_opts and labels, or external",
                    );
                }
                options.external = true;
            }
            if let Some(i) = fields.filled("name").or(older_name)
                && let Some(name) = i.word(p)
            {
                if name_ok(&name) {
                    engine_name = name;
                } else {
                    i.invalid(p, format!("{name:?} is no volume name"));
                }
            }
            fields.finish(p, &[]);
        }
        let volume = TopVolume {
            engine_name,
            options,
        };
        volumes.insert(key.name.clone(), volume);
    }
    volumes
}

fn few<'a>(
    item: Option<Item<'a>>,
    is_table: bool,
    p: &mut Problems,
) -> BTreeMap<String, (Option<String>, Item<'a>)> {
    let Some(item) = item else {
        return BTreeMap::new();
    };
    let pairs = if is_table {
        item.table(p)
    } else {
        item.pairs(p)
    };
    if pairs.len() > OPTIONS_MAX {
        let message = format!("has {} entries; at most {OPTIONS_MAX}", pairs.len());
        item.invalid(p, message);
    }
    pairs
}

/// What makes the volume where a node does not have it.
fn top_options(fields: &mut Fields<'_>, p: &mut Problems) -> MountOptions {
    let mut options = MountOptions::default();
    if let Some(item) = fields.filled("driver")
        && let Some(name) = item.word(p)
    {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-/:".contains(&b);
        if name.len() > 255 || !name.bytes().all(plain) {
            item.invalid(p, format!("{name:?} is no name of a driver"));
        } else if name != "local" {
            options.driver = Some(name);
        }
    }
    for (name, (value, entry)) in few(fields.take("driver_opts"), true, p) {
        if options.is_local() && !LOCAL_OPTIONS.contains(&name.as_str()) {
            let message = format!("the local driver has no option {name:?}");
            entry.invalid_help(p, message, "it has: type, device, o and size");
        }
        options.driver_opts.insert(name, value.unwrap_or_default());
    }
    if let Some(item) = fields.take("x-shared") {
        options.shared = item.boolean(p).unwrap_or(false);
    }
    for (name, (value, entry)) in few(fields.take("labels"), false, p) {
        if name.starts_with("longshore.") {
            entry.invalid(p, "labels that begin with longshore. belong to Longshore");
        }
        options.labels.insert(name, value.unwrap_or_default());
    }
    options
}

fn name_ok(name: &str) -> bool {
    name.len() <= 128
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Reads `volumes` of a service into its mounts.
pub(super) fn service<'a>(
    item: &Item<'a>,
    shared: &Shared<'a>,
    (spec, given): (&mut ContainerSpec, &mut Given<'a>),
    p: &mut Problems,
) {
    let items = item.items(p);
    if items.len() > MOUNTS_MAX {
        item.invalid(
            p,
            format!("has {} volumes; at most {MOUNTS_MAX}", items.len()),
        );
        return;
    }
    for entry in items {
        if entry.is_map() {
            long(&entry, shared, (&mut *spec, &mut *given), p);
        } else if let Some(mount) = short(&entry, shared, given, p) {
            push(&entry, mount, spec, p);
        }
    }
}

fn push(item: &Item<'_>, mount: Mount, spec: &mut ContainerSpec, p: &mut Problems) {
    if spec.mounts.iter().any(|other| other.target == mount.target) {
        item.invalid(p, format!("{:?} is mounted twice", mount.target));
        return;
    }
    spec.mounts.push(mount);
}

/// `name:/path`, `/host:/path:ro`.
fn short<'a>(
    item: &Item<'a>,
    shared: &Shared<'a>,
    given: &mut Given<'a>,
    p: &mut Problems,
) -> Option<Mount> {
    let text = item.text(p)?;
    let mut parts = text.split(':');
    let source = parts.next().unwrap_or_default();
    let Some(target) = parts.next() else {
        item.invalid_help(
            p,
            format!("{text:?} has no name, so nobody would find its data again"),
            "name it (data:/path), or use tmpfs for data that may vanish",
        );
        return None;
    };
    if !target.starts_with('/') {
        item.invalid(p, format!("{target:?} must be a path from /"));
        return None;
    }
    let mut read_only = false;
    let mut options = MountOptions::default();
    for option in parts.next().unwrap_or_default().split(',') {
        match option {
            "ro" => read_only = true,
            // Docker Desktop's words; no meaning on Linux.
            "" | "rw" | "cached" | "delegated" | "consistent" => {}
            "z" | "Z" => selinux(item, p),
            "nocopy" => options.no_copy = true,
            mode if PROPAGATION.contains(&mode) => options.propagation = Some(mode.to_owned()),
            other => {
                item.invalid(
                    p,
                    format!(
                        "option {other:?} is not supported: only ro, rw, nocopy and propagation"
                    ),
                );
                return None;
            }
        }
    }
    if parts.next().is_some() {
        item.invalid(
            p,
            format!("{text:?} has too many parts; write source:/path:ro"),
        );
        return None;
    }
    if is_of_project(source) {
        bind(
            item,
            shared,
            given,
            (source, target),
            (read_only, &options),
            p,
        );
        return None;
    }
    let mut mount = mount(item, shared, source, target, None, p)?;
    mount.read_only = read_only;
    with_options(item, mount, options, p)
}

/// Engines that are told of mounts one by one cannot be asked to label them.
fn selinux(item: &Item<'_>, p: &mut Problems) {
    let message = "SELinux labels are not set: where nodes enforce them, label the path there";
    p.warn("selinux", item.place(), &item.path, message).file();
}

/// Is it on the machine where the file is, seen from there?
fn is_of_project(source: &str) -> bool {
    source.starts_with('.')
}

/// A file of the project: what a mount may say beside `ro` has no meaning for it.
fn bind<'a>(
    item: &Item<'a>,
    shared: &Shared<'a>,
    given: &mut Given<'a>,
    mount: (&str, &str),
    (read_only, options): (bool, &MountOptions),
    p: &mut Problems,
) {
    if options.no_copy || options.propagation.is_some() {
        item.invalid(
            p,
            "nocopy and propagation have no meaning for a file that is sent",
        );
        return;
    }
    given.bind(item, &shared.files, mount, read_only, p);
}

/// Each option belongs to one kind of mount: at the other the engine would refuse it.
fn with_options(
    item: &Item<'_>,
    mut mount: Mount,
    asked: MountOptions,
    p: &mut Problems,
) -> Option<Mount> {
    let foreign = match mount.bind {
        true => asked
            .no_copy
            .then_some("nocopy is for volumes, and this is a bind"),
        false => (asked.propagation.is_some() || asked.create_host_path)
            .then_some("propagation and create_host_path are for binds, and this is a volume"),
    };
    if let Some(message) = foreign {
        item.invalid(p, message);
        return None;
    }
    mount.options = MountOptions {
        propagation: asked.propagation,
        create_host_path: asked.create_host_path,
        no_copy: asked.no_copy,
        ..mount.options
    };
    Some(mount)
}

fn mount(
    item: &Item<'_>,
    shared: &Shared<'_>,
    source: &str,
    target: &str,
    bind: Option<bool>,
    p: &mut Problems,
) -> Option<Mount> {
    let path_like = source.starts_with(['/', '.', '~', '\\']);
    if bind.unwrap_or(path_like) {
        if !source.starts_with('/') || source.split('/').any(|part| part == "..") {
            item.invalid_help(
                p,
                format!("{source:?}: that path is on your machine, not on the nodes"),
                "bake the file into the image, or bind an absolute path that exists on the nodes",
            );
            return None;
        }
        let source = source.to_owned();
        return Some(Mount {
            source,
            target: target.to_owned(),
            bind: true,
            ..Mount::default()
        });
    }
    let Some(volume) = shared.volumes.get(source) else {
        let message = format!("volume {source:?} is not declared in the file's `volumes:`");
        let near = keys::nearest(source, shared.volumes.keys().map(String::as_str));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add at the top level: volumes: {{ {source}: {{}} }}"),
        };
        item.undefined(p, message, help);
        return None;
    };
    let source = volume.engine_name.clone();
    Some(Mount {
        source,
        target: target.to_owned(),
        options: volume.options.clone(),
        ..Mount::default()
    })
}

fn long<'a>(
    item: &Item<'a>,
    shared: &Shared<'a>,
    (spec, given): (&mut ContainerSpec, &mut Given<'a>),
    p: &mut Problems,
) {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Volume,
        Bind,
        Tmpfs,
    }
    let Some(mut fields) = item.fields(p) else {
        return;
    };
    let kinds = [
        ("volume", Some(Kind::Volume)),
        ("bind", Some(Kind::Bind)),
        ("tmpfs", Some(Kind::Tmpfs)),
        ("cluster", None),
        ("image", None),
        ("npipe", None),
    ];
    let kind = match fields.take("type") {
        None => Some(Kind::Volume),
        Some(item) => {
            let kind = item.choice(p, &kinds);
            if kind == Some(None) {
                item.unsupported(p, keys::MOUNTS);
                return;
            }
            kind.flatten()
        }
    };
    let source = fields.take("source").and_then(|i| i.word(p));
    let target = fields.take("target").and_then(|i| absolute(&i, p));
    let read_only = fields
        .take("read_only")
        .and_then(|i| i.boolean(p))
        .unwrap_or(false);
    let options = long_options(&mut fields, p);
    let tmpfs = fields.take("tmpfs").and_then(|item| tmpfs(&item, p));
    if let Some(i) = fields.take("consistency") {
        ignored(&i, p, "it has no meaning on Linux");
    }
    fields.finish(p, keys::VOLUME);
    let (Some(kind), Some(target)) = (kind, target) else {
        if item.node.get("target").is_none() {
            item.invalid(p, "has no target");
        }
        return;
    };
    match (kind, source) {
        (Kind::Tmpfs, _) if target.contains(':') => {
            item.invalid(p, format!("{target:?} holds a colon"));
        }
        (Kind::Tmpfs, _) => spec.tmpfs.push(match tmpfs.unwrap_or_default() {
            words if words.is_empty() => target,
            words => format!("{target}:{words}"),
        }),
        (_, None) => item.invalid(p, format!("the mount at {target:?} has no source")),
        (Kind::Bind, Some(source)) if !source.starts_with(['/', '~', '\\']) => {
            let mount = (source.as_str(), target.as_str());
            bind(item, shared, given, mount, (read_only, &options), p);
        }
        (kind, Some(source)) => {
            let bind = Some(kind == Kind::Bind);
            let found = mount(item, shared, &source, &target, bind, p);
            let found = found.and_then(|mount| with_options(item, mount, options, p));
            if let Some(mut mount) = found {
                mount.read_only = read_only;
                push(item, mount, spec, p);
            }
        }
    }
}

/// `bind` and `volume` of a mount.
fn long_options(fields: &mut Fields<'_>, p: &mut Problems) -> MountOptions {
    let mut options = MountOptions::default();
    if let Some(mut fields) = fields.take("bind").and_then(|item| item.fields(p)) {
        let modes = PROPAGATION.map(|mode| (mode, mode));
        let mode = fields.take("propagation").and_then(|i| i.choice(p, &modes));
        options.propagation = mode.map(str::to_owned);
        let create = fields.take("create_host_path");
        options.create_host_path = create.and_then(|i| i.boolean(p)).unwrap_or(false);
        if let Some(i) = fields.take("selinux")
            && i.choice(p, &[("z", ()), ("Z", ())]).is_some()
        {
            selinux(&i, p);
        }
        fields.finish(p, keys::BIND);
    }
    if let Some(mut fields) = fields.take("volume").and_then(|item| item.fields(p)) {
        let no_copy = fields.take("nocopy");
        options.no_copy = no_copy.and_then(|i| i.boolean(p)).unwrap_or(false);
        fields.finish(p, keys::VOLUME_OPTIONS);
    }
    options
}

/// `size` and `mode` in the words of the engine.
fn tmpfs(item: &Item<'_>, p: &mut Problems) -> Option<String> {
    let mut fields = item.fields(p)?;
    let mut words = Vec::new();
    if let Some(bytes) = fields.take("size").and_then(|i| positive_bytes(&i, p)) {
        words.push(format!("size={bytes}"));
    }
    if let Some(item) = fields.take("mode")
        && let Some(text) = item.text(p)
    {
        let digits = text.trim_start_matches("0o");
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o7777 => words.push(format!("mode={mode:o}")),
            _ => item.invalid_help(
                p,
                format!("{text:?} is no mode of a file"),
                "write octal digits, for example 1777",
            ),
        }
    }
    fields.finish(p, &[]);
    Some(words.join(","))
}
