//! The keys of a service that the engine obeys by itself: they are checked here and handed on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use longshore_model::spec::{ContainerSpec, EngineOptions, LogSpec, Ulimit};

use super::super::problem::{Problems, did_you_mean};
use super::super::units;
use super::container::host_name;
use super::item::{Fields, Item};
use super::keys;

/// Most entries of one list or map, as the wire allows.
const ENTRIES_MAX: usize = 256;
/// Name servers and search domains that a resolver reads.
const DNS_MAX: usize = 32;

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn read(fields: &mut Fields<'_>, spec: &mut ContainerSpec, p: &mut Problems) {
    let e = &mut spec.engine;
    if let Some(item) = fields.take("ulimits") {
        e.ulimits = ulimits(&item, p);
    }
    e.log = fields.take("logging").and_then(|item| logging(&item, p));
    if let Some(item) = fields.take("extra_hosts") {
        e.extra_hosts = extra_hosts(&item, p);
    }
    names(fields, e, p);
    if let Some(item) = fields.take("shm_size") {
        e.shm_bytes = positive_bytes(&item, p).unwrap_or(0);
    }
    if let Some(item) = fields.take("group_add") {
        e.group_add = limited(&item, item.words(p), ENTRIES_MAX, p);
        if let Some(word) = e
            .group_add
            .iter()
            .find(|w| matches!(w.as_str(), "true" | "false"))
        {
            item.invalid(p, format!("{word} is no group; write its name or number"));
        }
    }
    let flag = |item: Option<Item<'_>>, p: &mut Problems| {
        item.and_then(|item| item.boolean(p)).unwrap_or(false)
    };
    e.stdin_open = flag(fields.take("stdin_open"), p);
    e.tty = flag(fields.take("tty"), p);
    if let Some(item) = fields.take("oom_score_adj")
        && let Some(score) = whole(&item, -1000, 1000, p)
    {
        e.oom_score_adj = i32::try_from(score).unwrap_or(0);
    }
    e.cpuset = fields.filled("cpuset").and_then(|item| cpuset(&item, p));
    if let Some(item) = fields.take("annotations") {
        let pairs = limited(&item, item.pairs(p), ENTRIES_MAX, p).into_iter();
        e.annotations = pairs
            .map(|(name, (value, _))| (name, value.unwrap_or_default()))
            .collect();
    }
    if let Some(item) = fields.filled("userns_mode") {
        e.host_userns = item.choice(p, &[("host", true)]).unwrap_or(false);
    }
    ipc(fields, spec, p);
    let e = &mut spec.engine;
    e.runtime = fields.filled("runtime").and_then(|item| runtime(&item, p));
    e.domainname = fields
        .filled("domainname")
        .and_then(|item| host_name(&item, p));
    if let Some(item) = fields.take("storage_opt") {
        e.storage_opt = storage(&item, p);
    }
    notes(fields, p);
}

/// What is read and changes nothing.
fn notes(fields: &mut Fields<'_>, p: &mut Problems) {
    if let Some(item) = fields.take("attach")
        && item.boolean(p).is_some()
    {
        ignored(
            &item,
            p,
            "`up` follows the rollout; `logs` shows the output",
        );
    }
    if let Some(item) = fields.take("oom_kill_disable")
        && item.boolean(p) == Some(true)
    {
        let reason = "engines with cgroup v2 ignore it; give a memory limit that is enough";
        item.unsupported(p, reason);
    }
}

/// A key that is understood and has no effect here.
pub(super) fn ignored(item: &Item<'_>, p: &mut Problems, reason: &str) {
    let message = format!("ignored: {reason}");
    p.warn("ignored", item.key, &item.path, message)
        .label("no effect")
        .file();
}

fn names(fields: &mut Fields<'_>, e: &mut EngineOptions, p: &mut Problems) {
    if let Some(item) = fields.filled("dns") {
        let servers = limited(&item, item.word_or_words(p), DNS_MAX, p);
        for server in &servers {
            if server.parse::<IpAddr>().is_err() {
                let message = format!("{server:?} is no address of a name server");
                item.invalid_help(p, message, "write for example: dns: [10.0.0.53]");
            }
        }
        e.dns = servers;
    }
    e.dns_search = fields
        .filled("dns_search")
        .map(|item| resolver_words(&item, item.word_or_words(p), p))
        .unwrap_or_default();
    e.dns_options = fields
        .take("dns_opt")
        .map(|item| resolver_words(&item, item.words(p), p))
        .unwrap_or_default();
}

/// Words of one line of `resolv.conf`.
fn resolver_words(item: &Item<'_>, words: Vec<String>, p: &mut Problems) -> Vec<String> {
    let words = limited(item, words, DNS_MAX, p);
    if let Some(bad) = words.iter().find(|word| word.contains(char::is_whitespace)) {
        item.invalid_help(p, format!("{bad:?} holds a space"), "write a list of words");
    }
    words
}

/// `host` is one of the privileges; other containers' cannot be named, for there may be several.
fn ipc(fields: &mut Fields<'_>, spec: &mut ContainerSpec, p: &mut Problems) {
    let Some(item) = fields.filled("ipc") else {
        return;
    };
    let words = ["host", "private", "shareable", "none"];
    match item.choice(p, &words.map(|word| (word, word))) {
        Some("host") => spec.privileges.host_ipc = true,
        mode => spec.engine.ipc = mode.map(str::to_owned),
    }
}

/// Something with at most so many entries; more is an error, and none are taken.
pub(super) fn limited<T: Default + IntoIterator>(
    item: &Item<'_>,
    list: T,
    most: usize,
    p: &mut Problems,
) -> T
where
    for<'a> &'a T: IntoIterator,
{
    let length = (&list).into_iter().count();
    if length <= most {
        return list;
    }
    item.invalid(p, format!("has {length} entries; at most {most}"));
    T::default()
}

/// A whole number that may be below 0.
pub(super) fn whole(item: &Item<'_>, least: i64, most: i64, p: &mut Problems) -> Option<i64> {
    let text = item.text(p)?;
    let number = text.trim().parse::<i64>().ok();
    let number = number.filter(|number| (least..=most).contains(number));
    if number.is_none() {
        let message = match most {
            i64::MAX => format!("{text:?} must be a whole number from {least}"),
            _ => format!("{text:?} must be a whole number from {least} to {most}"),
        };
        item.invalid(p, message);
    }
    number
}

pub(super) fn positive_bytes(item: &Item<'_>, p: &mut Problems) -> Option<u64> {
    let bytes = item.bytes(p)?;
    if bytes == 0 {
        item.invalid_help(
            p,
            "must be more than 0",
            "leave it away for the engine's own",
        );
        return None;
    }
    Some(bytes)
}

fn ulimits(item: &Item<'_>, p: &mut Problems) -> BTreeMap<String, Ulimit> {
    let mut limits = BTreeMap::new();
    for (key, item) in item.entries(p).unwrap_or_default() {
        if !ULIMITS.contains(&key.name.as_str()) {
            let message = format!("the kernel knows no limit {:?}", key.name);
            match keys::nearest(&key.name, ULIMITS) {
                Some(near) => item.invalid_help(p, message, did_you_mean(near)),
                None => item.invalid_help(p, message, "for example: nofile, nproc, memlock, core"),
            }
            continue;
        }
        let Some((soft, hard)) = ulimit(&item, p) else {
            continue;
        };
        let above = |soft, hard| hard != -1 && (soft == -1 || soft > hard);
        if above(soft, hard) {
            item.invalid(
                p,
                format!("soft is {soft}, more than hard, {hard} (-1: no limit)"),
            );
        }
        limits.insert(key.name.clone(), Ulimit { soft, hard });
    }
    limits
}

/// One number for both, or `soft` and `hard`.
fn ulimit(item: &Item<'_>, p: &mut Problems) -> Option<(i64, i64)> {
    if !item.is_map() {
        let limit = whole(item, -1, i64::MAX, p)?;
        return Some((limit, limit));
    }
    let mut fields = item.fields(p)?;
    let mut side = |name, p: &mut Problems| {
        let found: Option<Item<'_>> = fields.take(name);
        if found.is_none() {
            item.lacks(
                p,
                &[name],
                format!("has no {name}"),
                "write {soft: 1024, hard: 4096}, or one number for both",
            );
        }
        found.and_then(|item| whole(&item, -1, i64::MAX, p))
    };
    let (soft, hard) = (side("soft", p), side("hard", p));
    fields.finish(p, &[]);
    soft.zip(hard)
}

const LOCAL: &[&str] = &["max-size", "max-file", "compress"];
const TAGS: &[&str] = &["labels", "labels-regex", "env", "env-regex", "tag"];
/// How the engine hands lines to any driver.
const ANY: &[&str] = &["mode", "max-buffer-size"];

fn logging(item: &Item<'_>, p: &mut Problems) -> Option<LogSpec> {
    let mut fields = item.fields(p)?;
    let driver_item = fields.filled("driver");
    let named = driver_item.as_ref().and_then(|item| item.word(p));
    let mut options = BTreeMap::new();
    let given = fields.take("options");
    if let Some(item) = &given {
        for (name, (value, entry)) in limited(item, item.table(p), ENTRIES_MAX, p) {
            let value = value.unwrap_or_default();
            option(&entry, &name, &value, p);
            options.insert(name, value);
        }
    }
    fields.finish(p, &[]);
    if driver_item.is_some() && named.is_none() {
        return None;
    }
    let is_local = |name: &String| LOCAL.contains(&name.as_str()) || ANY.contains(&name.as_str());
    let driver = named.unwrap_or_else(|| {
        let local = options.keys().all(is_local);
        String::from(if local { "local" } else { "json-file" })
    });
    if driver_item.is_none() && options.is_empty() {
        return None;
    }
    let known: &[&[&str]] = match driver.as_str() {
        "local" => &[LOCAL, ANY],
        "json-file" => &[LOCAL, TAGS, ANY],
        "journald" => &[TAGS, ANY],
        "none" => &[ANY],
        _ => {
            elsewhere(&driver_item, &driver, p);
            return Some(LogSpec { driver, options });
        }
    };
    if driver == "none" {
        elsewhere(&driver_item, &driver, p);
    }
    let known: Vec<&str> = known.concat();
    for name in options
        .keys()
        .filter(|name| !known.contains(&name.as_str()))
    {
        let Some(at) = &given else { continue };
        let message = format!("log driver {driver} has no option {name:?}");
        let help = match keys::nearest(name, known.iter().copied()) {
            Some(near) => did_you_mean(near),
            None => format!("it has: {}", known.join(", ")),
        };
        at.at(name).invalid_help(p, message, help);
    }
    Some(LogSpec { driver, options })
}

/// The numbers of an option that every driver which has it reads alike.
fn option(entry: &Item<'_>, name: &str, value: &str, p: &mut Problems) {
    let fits = match name {
        "max-size" | "max-buffer-size" => units::bytes(value).is_ok_and(|bytes| bytes > 0),
        "max-file" => value.parse().is_ok_and(|files: u32| files > 0),
        "compress" => matches!(value, "true" | "false"),
        "mode" => matches!(value, "blocking" | "non-blocking"),
        _ => true,
    };
    if !fits {
        let example = match name {
            "max-size" | "max-buffer-size" => "10m",
            "max-file" => "3",
            "compress" => "true",
            _ => "non-blocking",
        };
        let message = format!("{name} cannot be {value:?}");
        entry.invalid_help(
            p,
            message,
            format!("write for example {name}: \"{example}\""),
        );
    }
}

fn elsewhere(item: &Option<Item<'_>>, driver: &str, p: &mut Problems) {
    let Some(item) = item else { return };
    let message = match driver {
        "none" => "nothing keeps the output: `controllerctl logs` will show none".to_owned(),
        _ => format!(
            "{driver} sends the output elsewhere: `controllerctl logs` shows only what the node's \
             engine still has of it"
        ),
    };
    p.warn("logs", item.place(), &item.path, message)
        .help("json-file, local and journald are read by `controllerctl logs`")
        .file();
}

/// `NAME:ADDRESS` or `NAME=ADDRESS` items, or `NAME: ADDRESS` entries, each with one address or a
/// list of them.
pub(super) fn extra_hosts(item: &Item<'_>, p: &mut Problems) -> Vec<String> {
    let mut hosts = Vec::new();
    if item.is_list() {
        for item in item.items(p) {
            let Some(text) = item.text(p) else { continue };
            match text.split_once(['=', ':']) {
                Some((name, address)) => hosts.extend(host(&item, name, address, p)),
                None => item.invalid_help(
                    p,
                    format!("{text:?} names no address"),
                    "write for example \"db:10.0.0.5\" or \"node:host-gateway\"",
                ),
            }
        }
    } else {
        for (key, item) in item.entries(p).unwrap_or_default() {
            for address in item.word_or_words(p) {
                hosts.extend(host(&item, &key.name, &address, p));
            }
        }
    }
    limited(item, hosts, ENTRIES_MAX, p)
}

fn host(item: &Item<'_>, name: &str, address: &str, p: &mut Problems) -> Option<String> {
    let (name, address) = (name.trim(), address.trim());
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let address = bare.unwrap_or(address);
    if name.is_empty() || name.contains(char::is_whitespace) {
        item.invalid(p, format!("{name:?} is no host name"));
        return None;
    }
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        let message = format!("{address:?} is no address");
        item.invalid_help(
            p,
            message,
            "write an IP address, or host-gateway for the node",
        );
        return None;
    }
    Some(format!("{name}:{address}"))
}

/// `0-3`, `0,2`: CPUs by number.
fn cpuset(item: &Item<'_>, p: &mut Problems) -> Option<String> {
    let text = item.word(p)?;
    let number = |text: &str| text.trim().parse::<u16>().ok();
    let fits = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first)
            .zip(number(last))
            .is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    };
    if text.len() <= 1024 && text.split(',').all(fits) {
        return Some(text);
    }
    let message = format!("{text:?} names no CPUs");
    item.invalid_help(p, message, "write their numbers: \"0-3\" or \"0,2\"");
    None
}

fn runtime(item: &Item<'_>, p: &mut Problems) -> Option<String> {
    let name = item.word(p)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.len() <= 128 && name.bytes().all(plain) {
        return Some(name);
    }
    item.invalid_help(
        p,
        format!("{name:?} is no name of a runtime"),
        "name one that the nodes' engines know, for example runsc",
    );
    None
}

fn storage(item: &Item<'_>, p: &mut Problems) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    for (name, (value, entry)) in item.table(p) {
        let value = value.unwrap_or_default();
        if name != "size" {
            let message = format!("the engine has no option {name:?} of a container's storage");
            entry.invalid_help(p, message, "it has: size");
        } else if units::bytes(&value).is_ok_and(|bytes| bytes > 0) {
            options.insert(name, value);
        } else {
            entry.invalid(p, format!("{value:?} is no size; write for example 10G"));
        }
    }
    options
}
