//! Files of the first and second version, and their keys.

use super::{Work, entry, key, map};
use crate::compose::node::{Node, Value};

/// Keys at the top of every file but those of version 1.
const TOP: [&str; 8] = [
    "version", "services", "volumes", "networks", "secrets", "configs", "name", "include",
];

/// Puts the services of a version 1 file under `services`, and drops `version`.
pub(super) fn form(work: &mut Work) {
    if let Some((key, node)) = work.tree.remove("version") {
        let was = format!("version: {}", node.as_text().unwrap_or_default());
        work.gone(key.place, was, "files of today have no version");
    }
    let place = work.tree.place;
    let top = super::keys(&work.tree);
    if top.iter().any(|name| TOP.contains(&name.as_str())) {
        return;
    }
    let Value::Map(entries) = &mut work.tree.value else {
        return;
    };
    let is_service = |node: &Node| node.get("image").is_some() || node.get("build").is_some();
    if !entries.iter().any(|(_, node)| is_service(node)) {
        return;
    }
    let (rest, services) = std::mem::take(entries)
        .into_iter()
        .partition(|(key, _)| key.name.starts_with("x-"));
    *entries = rest;
    entries.push((key("services", place), map(services, place)));
    let was = "a file of version 1";
    work.now(place, was, "services: …", "services stand below `services`");
}

/// Keys of services that are called otherwise today.
pub(super) fn each(work: &mut Work) {
    for name in work.service_names() {
        for step in [net, log, dockerfile, volume_driver] {
            step(work, &name);
        }
    }
}

fn net(work: &mut Work, name: &str) {
    let Some((key, node)) = work.service(name).and_then(|s| s.remove("net")) else {
        return;
    };
    let text = node.as_text().unwrap_or_default().to_owned();
    let was = format!("{name}.net: {text}");
    if text == "bridge" {
        let why = "every service has a network of its own accord";
        return work.gone(key.place, was, why);
    }
    let mode = match text.strip_prefix("container:") {
        // In version 1 it could be a service, too.
        Some(other) if work.service(other).is_some() => format!("service:{other}"),
        _ => text,
    };
    if let Some(service) = work.service(name)
        && let Some(entry) = entry(service, "network_mode", Value::Null, key.place)
    {
        *entry = Node::text(mode.clone(), node.place);
    }
    let now = format!("network_mode: {mode}");
    work.now(key.place, was, now, "its name since version 2");
}

fn log(work: &mut Work, name: &str) {
    for (old, new) in [("log_driver", "driver"), ("log_opt", "options")] {
        let Some((key, node)) = work.service(name).and_then(|s| s.remove(old)) else {
            continue;
        };
        let empty = Value::Map(Vec::new());
        if let Some(service) = work.service(name)
            && let Some(logging) = entry(service, "logging", empty, key.place)
            && let Some(entry) = entry(logging, new, Value::Null, key.place)
        {
            *entry = node;
        }
        let now = format!("logging.{new}");
        let was = format!("{name}.{old}");
        work.now(key.place, was, now, "its name since version 2");
    }
}

fn dockerfile(work: &mut Work, name: &str) {
    let Some((key, node)) = work.service(name).and_then(|s| s.remove("dockerfile")) else {
        return;
    };
    let file = node.as_text().unwrap_or_default().to_owned();
    if let Some(service) = work.service(name)
        && let Some(build) = service.get_mut("build")
    {
        if build.as_text().is_some() {
            let context = build.clone();
            let at = build.place;
            *build = map(vec![(super::key("context", at), context)], at);
        }
        if let Some(entry) = entry(build, "dockerfile", Value::Null, key.place) {
            *entry = node;
        }
    }
    let was = format!("{name}.dockerfile: {file}");
    let now = format!("build.dockerfile: {file}");
    work.now(key.place, was, now, "its place since version 2");
}

fn volume_driver(work: &mut Work, name: &str) {
    let Some((key, node)) = work.service(name).and_then(|s| s.remove("volume_driver")) else {
        return;
    };
    let driver = node.as_text().unwrap_or_default().to_owned();
    let path = format!("services.{name}.volume_driver");
    if driver == "local" {
        return work.gone(key.place, path, "that is what volumes have anyway");
    }
    let help = format!("say it of the volume: volumes: {{ NAME: {{ driver: {driver} }} }}");
    let why = "a driver belongs to a volume at the top of the file";
    work.refuse(key.place, &path, why, &help);
}
