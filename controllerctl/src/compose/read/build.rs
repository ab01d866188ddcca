//! `build`: how the image of a service is made where the command runs.

use std::collections::BTreeMap;

use longshore_model::spec::Platform;

use super::super::build::{Build, Dockerfile};
use super::super::node::{Node, Value};
use super::super::problem::Problems;
use super::container::image_reference;
use super::engine::{extra_hosts, limited, positive_bytes};
use super::files::beside;
use super::item::{Fields, Item};
use super::{Shared, build_secrets, keys};

/// Most entries of one list or map.
const ENTRIES_MAX: usize = 256;
/// As much as the engine's client says.
const SHM_BYTES_MAX: u64 = 2_047 << 20;
/// Longest Dockerfile in a Compose file.
const INLINE_BYTES_MAX: usize = 1 << 20;

/// Reads `build` of a service; `platform` is the service's own.
pub(super) fn read(
    fields: &mut Fields<'_>,
    platform: Option<&Platform>,
    shared: &Shared<'_>,
    p: &mut Problems,
) -> Option<Build> {
    let always = fields.peek("pull_policy").filter(|item| {
        let text = item.node.as_text();
        text == Some("build")
    });
    let Some(item) = fields.take("build") else {
        if let Some(item) = always {
            let help = "say how: build: ., or write another pull_policy";
            item.invalid_help(p, "there is nothing to build", help);
        }
        return None;
    };
    let mut build = match item.is_map() {
        true => long(&item, shared, p)?,
        false => Build {
            context: context(&item, shared, p)?,
            ..Build::default()
        },
    };
    build.always = always.is_some();
    if let (Some(wanted), Some(built)) = (platform, &build.platform)
        && wanted != built
    {
        let message = format!("the service runs on {wanted}, and this is built for {built}");
        let help = "drop one of the two";
        item.at("platforms").invalid_help(p, message, help);
    }
    build.platform = build.platform.or_else(|| platform.cloned());
    Some(build)
}

fn long(item: &Item<'_>, shared: &Shared<'_>, p: &mut Problems) -> Option<Build> {
    let mut fields = item.fields(p)?;
    let mut build = Build::default();
    let named = fields.take("context");
    build.context = match &named {
        Some(item) => context(item, shared, p).unwrap_or_default(),
        None => beside(shared.here, ".").into(),
    };
    dockerfile(&mut fields, &mut build, p);
    build.args = pairs(fields.take("args"), Some(shared), p);
    build.labels = pairs(fields.take("labels"), None, p);
    build.target = fields.filled("target").and_then(|item| item.word(p));
    build.network = fields.filled("network").and_then(|item| item.word(p));
    let mut flag = |name, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        item.and_then(|item| item.boolean(p)).unwrap_or(false)
    };
    build.no_cache = flag("no_cache", p);
    build.pull = flag("pull", p);
    if let Some(item) = fields.take("extra_hosts") {
        let hosts = extra_hosts(&item, p);
        if hosts.len() > 1 {
            let reason =
                "a build is given one further name: keep one, or let a RUN step know the rest";
            item.unsupported(p, reason);
        }
        build.extra_host = hosts.into_iter().next();
    }
    if let Some(item) = fields.take("shm_size") {
        let is_part = |node: &Node| matches!(&node.value, Value::Scalar { text, plain: true } if text.contains('.'));
        if is_part(item.node) {
            item.invalid_help(p, "is no whole number of bytes", "write for example: 64m");
        }
        let bytes = positive_bytes(&item, p).unwrap_or(0);
        if bytes > SHM_BYTES_MAX {
            item.invalid_help(p, "is too much for a build", "at most 2047m");
        }
        build.shm_bytes = bytes.min(SHM_BYTES_MAX);
    }
    build.platform = fields.take("platforms").and_then(|item| one(&item, p));
    build.tags = references(fields.take("tags"), p);
    build.cache_from = references(fields.take("cache_from"), p);
    if let Some(item) = fields.take("ssh") {
        build.ssh = build_secrets::ssh(&item, p);
    }
    if let Some(item) = fields.take("secrets") {
        build.secrets = build_secrets::read(&item, shared, p);
    }
    fields.finish(p, keys::BUILD);
    Some(build)
}

/// The directory. What is fetched from elsewhere is another thing with each build.
fn context(item: &Item<'_>, shared: &Shared<'_>, p: &mut Problems) -> Option<std::path::PathBuf> {
    let text = item.word(p)?;
    if text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/") {
        let reason = "only directories are built from: clone it, and name where it is";
        item.unsupported(p, reason);
        return None;
    }
    let path = beside(shared.here, &text);
    Some(if path.is_empty() { "." } else { &path }.into())
}

fn dockerfile(fields: &mut Fields<'_>, build: &mut Build, p: &mut Problems) {
    let file = fields.filled("dockerfile");
    if let Some(name) = file.as_ref().and_then(|item| item.word(p)) {
        build.dockerfile = Dockerfile::File(name.into());
    }
    let Some(item) = fields.take("dockerfile_inline") else {
        return;
    };
    if file.is_some() {
        item.invalid_help(p, "there is dockerfile, too", "drop one of the two");
    }
    let Some(text) = item.word(p) else { return };
    if text.len() > INLINE_BYTES_MAX {
        let bytes = text.len();
        let message = format!("has {bytes} bytes; at most {INLINE_BYTES_MAX}");
        item.invalid_help(p, message, "put it into a file: dockerfile: NAME");
        return;
    }
    build.dockerfile = Dockerfile::Inline(text);
}

/// A name without a value takes it from where the command runs, if it is set there.
fn pairs(
    item: Option<Item<'_>>,
    shared: Option<&Shared<'_>>,
    p: &mut Problems,
) -> BTreeMap<String, String> {
    let Some(item) = item else {
        return BTreeMap::new();
    };
    let pairs = limited(&item, item.pairs(p), ENTRIES_MAX, p).into_iter();
    let value = |name: &str, value: Option<String>| match (value, shared) {
        (Some(value), _) => Some(value),
        (None, Some(shared)) => shared.variables.get(name).map(str::to_owned),
        (None, None) => Some(String::new()),
    };
    pairs
        .filter_map(|(name, (given, _))| Some((value(&name, given)?, name)))
        .map(|(value, name)| (name, value))
        .collect()
}

/// One platform: an image that is sent is of one.
fn one(item: &Item<'_>, p: &mut Problems) -> Option<Platform> {
    let words = item.words(p);
    let [word] = words.as_slice() else {
        if words.len() > 1 {
            let reason = "an image is built for one platform: keep one of them";
            item.unsupported(p, reason);
        }
        return None;
    };
    let platform = Platform::parse(word);
    if platform.is_none() {
        let message = format!("{word:?} is no platform");
        item.invalid_help(p, message, "write OS/ARCH: linux/arm64");
    }
    platform
}

fn references(item: Option<Item<'_>>, p: &mut Problems) -> Vec<String> {
    let Some(item) = item else { return Vec::new() };
    let items = limited(&item, item.items(p), ENTRIES_MAX, p);
    let names = items.iter().filter_map(|item| image_reference(item, p));
    names.collect()
}
