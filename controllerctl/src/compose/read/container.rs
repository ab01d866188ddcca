//! The keys of a service that describe its container.

use std::collections::BTreeMap;

use longshore_model::image;
use longshore_model::spec::{
    ContainerSpec, EngineOptions, Platform, Privileges, PullPolicy, is_signal,
};

use super::super::problem::{Problems, did_you_mean};
use super::engine::limited;
use super::item::{Fields, Item};
use super::{Shared, engine, keys};

const STOP_GRACE_MS: u64 = 10_000;
/// Most words or entries that the wire takes of one kind.
pub(super) const TMPFS_MAX: usize = 64;
/// Most words that the wire takes of each privilege.
const PRIVILEGES_MAX: usize = 64;
/// Most words of a command, as the wire allows.
const COMMAND_WORDS_MAX: usize = 256;

pub(super) fn read(
    fields: &mut Fields<'_>,
    shared: &Shared<'_>,
    p: &mut Problems,
) -> ContainerSpec {
    let mut spec = ContainerSpec {
        stop_grace_ms: STOP_GRACE_MS,
        ..ContainerSpec::default()
    };
    if let Some(item) = fields.filled("image")
        && let Some(image) = image_reference(&item, p)
    {
        spec.image = image;
    }
    spec.entrypoint = fields.take("entrypoint").and_then(|item| command(&item, p));
    spec.command = fields.take("command").and_then(|item| command(&item, p));
    if let Some(item) = fields.take("environment") {
        spec.env = environment(&item, shared, p);
    }
    if let Some(item) = fields.take("labels") {
        spec.labels = labels(&item, p);
    }
    spec.user = fields.filled("user").and_then(|item| item.word(p));
    spec.working_dir = fields
        .filled("working_dir")
        .and_then(|item| absolute(&item, p));
    let hostname = fields.filled("hostname");
    spec.hostname = hostname.and_then(|item| host_name(&item, p));
    let flag = |item: Option<Item<'_>>, p: &mut Problems| {
        item.and_then(|item| item.boolean(p)).unwrap_or(false)
    };
    spec.init = flag(fields.take("init"), p);
    spec.read_only = flag(fields.take("read_only"), p);
    if let Some(item) = fields.take("tmpfs") {
        spec.tmpfs = tmpfs(&item, p);
    }
    if let Some(ms) = fields
        .take("stop_grace_period")
        .and_then(|item| item.duration_ms(p))
    {
        spec.stop_grace_ms = ms;
    }
    let stop_signal = fields.filled("stop_signal");
    spec.stop_signal = stop_signal.and_then(|item| signal(&item, p));
    if let Some(item) = fields.take("pull_policy") {
        spec.pull_policy = pull_policy(&item, p);
    }
    if let Some(item) = fields.filled("platform")
        && let Some(text) = item.text(p)
    {
        spec.platform = Platform::parse(text);
        if spec.platform.is_none() {
            let message = format!("{text:?} is no platform");
            item.invalid_help(p, message, "write OS/ARCH: linux/arm64");
        }
    }
    spec.privileges = privileges(fields, p);
    engine::read(fields, &mut spec, p);
    spec
}

/// A command of at most so many words as the API takes.
pub(super) fn command(item: &Item<'_>, p: &mut Problems) -> Option<Vec<String>> {
    let words = item.command(p)?;
    let count = words.len();
    let words = limited(item, words, COMMAND_WORDS_MAX, p);
    (words.len() == count).then_some(words)
}

/// The name of an image.
pub(super) fn image_reference(item: &Item<'_>, p: &mut Problems) -> Option<String> {
    let name = item.word(p)?;
    match image::check_reference(&name) {
        Ok(()) => Some(name),
        Err(error) => {
            let help = "write NAME:TAG, as in nginx:1.29 or registry.example.com:5000/shop/web:1";
            item.invalid_help(p, format!("{name:?} {error}"), help);
            None
        }
    }
}

/// A name without a value takes it from where the command runs, as in Compose.
fn environment(item: &Item<'_>, shared: &Shared<'_>, p: &mut Problems) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, (value, entry)) in item.pairs(p) {
        if name.contains('=') {
            let help = "write NAME: value, or NAME=value in a list";
            entry.invalid_help(p, "a name holds no =", help);
            continue;
        }
        match value.or_else(|| shared.variables.get(&name).map(str::to_owned)) {
            Some(value) => {
                env.insert(name, value);
            }
            None => p
                .warn(
                    "variable_unset",
                    entry.key,
                    &entry.path,
                    "has no value, and none is set here",
                )
                .help(format!("write {name}: \"\" for an empty one"))
                .file(),
        }
    }
    env
}

fn labels(item: &Item<'_>, p: &mut Problems) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, (value, entry)) in item.pairs(p) {
        if name.starts_with("longshore.") {
            entry.invalid(p, "labels that begin with longshore. belong to Longshore");
        } else {
            labels.insert(name, value.unwrap_or_default());
        }
    }
    labels
}

/// A path inside the container.
pub(super) fn absolute(item: &Item<'_>, p: &mut Problems) -> Option<String> {
    let path = item.word(p)?;
    if path.starts_with('/') {
        return Some(path);
    }
    item.invalid(p, format!("{path:?} must be a path from /"));
    None
}

pub(super) fn host_name(item: &Item<'_>, p: &mut Problems) -> Option<String> {
    let name = item.word(p)?;
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Some(name);
    }
    item.invalid(p, format!("{name:?} is no host name"));
    None
}

fn tmpfs(item: &Item<'_>, p: &mut Problems) -> Vec<String> {
    let paths = item.word_or_words(p);
    if paths.len() > TMPFS_MAX {
        item.invalid(p, format!("has {} paths; at most {TMPFS_MAX}", paths.len()));
    }
    for path in &paths {
        let (target, words) = path.split_once(':').unwrap_or((path, ""));
        let mut words = words.split(',').filter(|word| !word.is_empty());
        if !target.starts_with('/') {
            item.invalid(p, format!("{target:?} must be a path from /"));
        } else if let Some(word) = words.find(|word| !EngineOptions::is_tmpfs_word(word)) {
            item.invalid_help(
                p,
                format!("{path:?}: option {word:?} is not supported"),
                "size=64m, mode=1777, uid=1000, gid=1000, noexec, nosuid and nodev are",
            );
        }
    }
    paths
}

/// Those that programs are stopped by.
const SIGNALS: [&str; 7] = [
    "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH",
];

fn signal(item: &Item<'_>, p: &mut Problems) -> Option<String> {
    let signal = item.word(p)?;
    if !is_signal(&signal) {
        let near = keys::nearest(&signal, SIGNALS);
        let help = near.map_or_else(|| "write for example SIGTERM".into(), did_you_mean);
        item.invalid_help(p, format!("{signal:?} is no signal"), help);
        return None;
    }
    Some(signal)
}

fn pull_policy(item: &Item<'_>, p: &mut Problems) -> PullPolicy {
    const DAYS: &str = "images are pulled when a replica starts: write always, or name another tag";
    let choices = [
        ("missing", PullPolicy::Missing),
        ("if_not_present", PullPolicy::Missing),
        ("always", PullPolicy::Always),
        ("never", PullPolicy::Never),
        // Built each time; nodes get what was built.
        ("build", PullPolicy::Missing),
    ];
    let text = item.node.as_text().unwrap_or_default();
    if ["daily", "weekly", "refresh"].contains(&text) || text.starts_with("every_") {
        item.unsupported(p, DAYS);
        return PullPolicy::default();
    }
    item.choice(p, &choices).unwrap_or_default()
}

/// Options that open the host. They are taken here; each node's own policy decides.
fn privileges(fields: &mut Fields<'_>, p: &mut Problems) -> Privileges {
    let mut privileges = Privileges::default();
    let mut list = |name, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        item.map(|item| limited(&item, item.words(p), PRIVILEGES_MAX, p))
            .unwrap_or_default()
    };
    privileges.cap_add = list("cap_add", p);
    privileges.cap_drop = list("cap_drop", p);
    privileges.security_opt = list("security_opt", p);
    if let Some(item) = fields.take("devices") {
        privileges.devices = devices(&item, p);
    }
    if let Some(item) = fields.take("privileged") {
        privileges.privileged = item.boolean(p).unwrap_or(false);
    }
    if let Some(item) = fields.take("sysctls") {
        let pairs = limited(&item, item.pairs(p), PRIVILEGES_MAX, p).into_iter();
        privileges.sysctls = pairs
            .map(|(k, (v, _))| (k, v.unwrap_or_default()))
            .collect();
    }
    if let Some(item) = fields.filled("pid") {
        privileges.host_pid = item.choice(p, &[("host", true)]).unwrap_or(false);
    }
    if let Some(item) = fields.filled("network_mode")
        && let Some(mode) = item.word(p)
    {
        privileges.host_network = network_mode(&item, &mode, p);
    }
    privileges
}

/// `/dev/a`, `/dev/a:/dev/b:rw`, or `{source, target, permissions}`.
fn devices(list: &Item<'_>, p: &mut Problems) -> Vec<String> {
    let mut devices = Vec::new();
    for item in limited(list, list.items(p), PRIVILEGES_MAX, p) {
        let text = match item.is_map() {
            true => device(&item, p),
            false => item.word(p),
        };
        let Some(text) = text else { continue };
        let parts: Vec<&str> = text.split(':').collect();
        let allows = |word: &str| !word.is_empty() && word.bytes().all(|b| b"rwm".contains(&b));
        match parts.as_slice() {
            [_, _, word] if !allows(word) => {
                let message = format!("{word:?} are no permissions");
                item.invalid_help(p, message, "write some of r, w and m");
            }
            [_] | [_, _] | [_, _, _] => devices.push(text),
            _ => item.invalid_help(
                p,
                format!("{text:?} has too many parts"),
                "write /dev/host:/dev/inside:rwm",
            ),
        }
    }
    devices
}

/// The short form of a long one.
fn device(item: &Item<'_>, p: &mut Problems) -> Option<String> {
    let mut fields = item.fields(p)?;
    let mut part = |name, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.filled(name);
        let text = item.as_ref().and_then(|item| item.word(p))?;
        if text.contains(':') {
            item?.invalid(p, format!("{text:?} holds a colon"));
            return None;
        }
        Some(text)
    };
    let (source, target) = (part("source", p), part("target", p));
    let permissions = part("permissions", p);
    fields.finish(p, &[]);
    let Some(source) = source else {
        if !item.has("source") {
            item.lacks(p, &["source"], "has no source", "write source: /dev/NAME");
        }
        return None;
    };
    let target = target.unwrap_or_else(|| source.clone());
    Some(match permissions {
        Some(permissions) => format!("{source}:{target}:{permissions}"),
        None => format!("{source}:{target}"),
    })
}

/// Is it the host's network?
fn network_mode(item: &Item<'_>, mode: &str, p: &mut Problems) -> bool {
    match mode.split_once(':').map_or(mode, |(kind, _)| kind) {
        "host" if mode == "host" => return true,
        "bridge" | "default" if !mode.contains(':') => {}
        "none" => item.unsupported(p, "containers are on the bridge of their node's engine"),
        "service" | "container" => item.unsupported(
            p,
            "replicas have network devices of their own: reach the other by its name",
        ),
        _ => item.invalid_help(
            p,
            format!("{mode:?} is no network mode"),
            "write host, or name networks",
        ),
    }
    false
}
