//! `volumes`, at the top and in a service.

use std::collections::BTreeMap;

use longshore_model::spec::{ContainerSpec, Mount};

use super::super::node::Value;
use super::super::problem::Problems;
use super::Shared;
use super::container::absolute;
use super::item::Item;
use super::keys;

/// Most mounts of one container, as the wire allows.
const MOUNTS_MAX: usize = 128;

/// A volume that the file declares.
#[derive(Debug)]
pub(super) struct TopVolume {
    /// What the engine calls it.
    engine_name: String,
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
        if !matches!(item.node.value, Value::Null) {
            let Some(mut fields) = item.fields(p) else {
                continue;
            };
            if let Some(i) = fields.take("driver")
                && i.text(p) != Some("local")
            {
                i.invalid(p, "only the local driver is supported");
            }
            if fields
                .take("external")
                .and_then(|i| i.boolean(p))
                .unwrap_or(false)
            {
                engine_name.clone_from(&key.name);
            }
            if let Some(i) = fields.take("name")
                && let Some(name) = i.word(p)
            {
                if name_ok(&name) {
                    engine_name = name;
                } else {
                    i.invalid(p, format!("{name:?} is no volume name"));
                }
            }
            fields.finish(p, keys::TOP_VOLUME);
        }
        volumes.insert(key.name.clone(), TopVolume { engine_name });
    }
    volumes
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
pub(super) fn service(
    item: &Item<'_>,
    shared: &Shared<'_>,
    spec: &mut ContainerSpec,
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
            long(&entry, shared, spec, p);
        } else if let Some(mount) = short(&entry, shared, p) {
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
fn short(item: &Item<'_>, shared: &Shared<'_>, p: &mut Problems) -> Option<Mount> {
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
    for option in parts.next().unwrap_or_default().split(',') {
        match option {
            "ro" => read_only = true,
            // Docker Desktop's words; no meaning on Linux.
            "" | "rw" | "cached" | "delegated" | "consistent" => {}
            other => {
                item.invalid(
                    p,
                    format!("option {other:?} is not supported: only ro and rw"),
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
    mount(item, shared, source, target, read_only, None, p)
}

fn mount(
    item: &Item<'_>,
    shared: &Shared<'_>,
    source: &str,
    target: &str,
    read_only: bool,
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
            read_only,
            bind: true,
        });
    }
    let Some(volume) = shared.volumes.get(source) else {
        let message = format!("volume {source:?} is not declared in the file's `volumes:`");
        let near = keys::nearest(source, shared.volumes.keys().map(String::as_str));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add at the top level: volumes: {{ {source}: {{}} }}"),
        };
        item.invalid_help(p, message, help);
        return None;
    };
    let source = volume.engine_name.clone();
    Some(Mount {
        source,
        target: target.to_owned(),
        read_only,
        bind: false,
    })
}

fn long(item: &Item<'_>, shared: &Shared<'_>, spec: &mut ContainerSpec, p: &mut Problems) {
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
        ("volume", Kind::Volume),
        ("bind", Kind::Bind),
        ("tmpfs", Kind::Tmpfs),
    ];
    let kind = fields
        .take("type")
        .map_or(Some(Kind::Volume), |i| i.choice(p, &kinds));
    let source = fields.take("source").and_then(|i| i.word(p));
    let target = fields.take("target").and_then(|i| absolute(&i, p));
    let read_only = fields
        .take("read_only")
        .and_then(|i| i.boolean(p))
        .unwrap_or(false);
    fields.finish(p, keys::VOLUME);
    let (Some(kind), Some(target)) = (kind, target) else {
        if item.node.get("target").is_none() {
            item.invalid(p, "has no target");
        }
        return;
    };
    match (kind, source) {
        (Kind::Tmpfs, _) => spec.tmpfs.push(target),
        (_, None) => item.invalid(p, format!("the mount at {target:?} has no source")),
        (kind, Some(source)) => {
            let bind = Some(kind == Kind::Bind);
            if let Some(mount) = mount(item, shared, &source, &target, read_only, bind, p) {
                push(item, mount, spec, p);
            }
        }
    }
}
