//! What the specification asks of values before it is known what they mean: something after each
//! key, texts where only texts are allowed, each entry of a list once.

use std::collections::BTreeSet;

use super::super::node::{Node, Value};
use super::super::problem::{Problems, WRONG_TYPE};
use super::super::source::Place;
use super::item::Item;

/// A step into a list.
const ITEM: &str = "[]";

/// Says what is wrong anywhere in a document. What our own extensions hold is judged where they
/// are read.
pub(super) fn check(root: &Item<'_>, p: &mut Problems) {
    visit(root, &mut Vec::new(), p);
}

/// The same for one service that is no part of the document; of numbers and truth values, too, which
/// the readers of other services judge.
pub(super) fn service(item: &Item<'_>, p: &mut Problems) {
    const FLAGS: [&str; 7] = [
        "attach",
        "init",
        "oom_kill_disable",
        "privileged",
        "read_only",
        "stdin_open",
        "tty",
    ];
    const NUMBERS: [&str; 11] = [
        "cpu_period",
        "cpu_quota",
        "cpu_shares",
        "cpus",
        "mem_limit",
        "mem_reservation",
        "mem_swappiness",
        "memswap_limit",
        "oom_score_adj",
        "pids_limit",
        "shm_size",
    ];
    visit(item, &mut vec!["services", "NAME"], p);
    let Value::Map(entries) = &item.node.value else {
        return;
    };
    for (key, node) in entries {
        let Value::Scalar { text, plain: true } = &node.value else {
            continue;
        };
        let name = key.name.as_str();
        let is_other = match is_truth(text) {
            true => NUMBERS.contains(&name),
            false => FLAGS.contains(&name),
        };
        if is_other {
            let message = format!("{text} is of another kind than the specification has here");
            quoted(&item.child(key, node), text, message, p);
        }
    }
}

fn visit<'a>(item: &Item<'a>, way: &mut Vec<&'a str>, p: &mut Problems) {
    match &item.node.value {
        Value::Null if wants_value(way) => {
            p.error(
                "empty",
                item.key,
                &item.path,
                "there is nothing after the key",
            )
            .help("write a value, or drop the key")
            .file();
        }
        Value::Scalar { text, plain: true } if wants_time(way) => {
            let (message, help) = match text.parse::<f64>() {
                Ok(_) => (format!("{text} has no unit"), format!("write {text}s")),
                Err(_) => (format!("{text} is no time"), "write for example 30s".into()),
            };
            p.error(WRONG_TYPE, item.place(), &item.path, message)
                .help(help)
                .file();
        }
        Value::Scalar { text, plain: true } if wants_text(way) => {
            let message = format!("must be a text, and {text} is a number or a truth value");
            quoted(item, text, message, p);
        }
        Value::Scalar { text, plain: true } if wants_no_truth(way) && is_truth(text) => {
            let message = format!("must be a text or a number, and {text} is a truth value");
            quoted(item, text, message, p);
        }
        Value::Null | Value::Scalar { .. } => {}
        Value::List(items) => {
            if wants_once(way) {
                once(item, items, p);
            }
            for (index, node) in items.iter().enumerate() {
                let item = Item {
                    node,
                    path: format!("{}[{index}]", item.path),
                    key: node.place,
                };
                way.push(ITEM);
                visit(&item, way, p);
                way.pop();
            }
        }
        Value::Map(entries) => {
            for (key, node) in entries {
                if !key.name.starts_with("x-") {
                    way.push(&key.name);
                    visit(&item.child(key, node), way, p);
                    way.pop();
                }
            }
        }
    }
}

fn quoted(item: &Item<'_>, text: &str, message: String, p: &mut Problems) {
    p.error(WRONG_TYPE, item.place(), &item.path, message)
        .help(format!("put it into quotes: \"{text}\""))
        .file();
}

/// What YAML reads as one.
fn is_truth(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "false")
}

/// Texts and numbers are taken there.
fn wants_no_truth(way: &[&str]) -> bool {
    matches!(
        way,
        ["services", _, "logging", "options", _]
            | ["volumes" | "networks", _, "driver_opts", _]
            | ["services", _, "networks", _, "driver_opts", _]
    )
}

fn once(item: &Item<'_>, items: &[Node], p: &mut Problems) {
    let mut seen = BTreeSet::new();
    let texts = items
        .iter()
        .filter_map(|node| Some((node.as_text()?, node.place)));
    let twice: Vec<(&str, Place)> = texts.filter(|(text, _)| !seen.insert(*text)).collect();
    for (text, place) in twice {
        let message = format!("{text:?} is there twice");
        p.error("twice", place, &item.path, message)
            .help("keep one of them")
            .file();
    }
}

/// May the key at the end of the way not be left without a value?
fn wants_value(way: &[&str]) -> bool {
    match way {
        [] | [_] | ["secrets" | "configs", _] => true,
        ["services", _] => false,
        ["volumes" | "networks", _] => false,
        [_, _, "labels", _] => false,
        [
            "services",
            _,
            "command" | "entrypoint" | "deploy" | "develop" | "pid",
        ] => false,
        [
            "services",
            _,
            "annotations" | "environment" | "networks" | "sysctls",
            name,
        ] => *name == ITEM,
        [
            "services",
            _,
            "build",
            "args" | "labels" | "additional_contexts" | "ssh",
            name,
        ] => *name == ITEM,
        ["services", _, "deploy", "labels", _] | ["services", _, "logging", "options", _] => false,
        // Not read any further.
        ["services", _, "gpus" | "post_start" | "pre_stop", _, ..] => false,
        _ => true,
    }
}

/// A time, which is a text.
fn wants_time(way: &[&str]) -> bool {
    let ["services", _, way @ ..] = way else {
        return false;
    };
    matches!(
        way,
        ["stop_grace_period"]
            | [
                "healthcheck",
                "interval" | "start_interval" | "start_period" | "timeout"
            ]
            | [
                "deploy",
                "update_config" | "rollback_config",
                "delay" | "monitor"
            ]
            | ["deploy", "restart_policy", "delay" | "window"]
    )
}

fn wants_text(way: &[&str]) -> bool {
    match way {
        ["name" | "version"]
        | [
            "volumes" | "networks" | "secrets" | "configs",
            _,
            "name" | "file" | "environment" | "driver" | "content",
        ]
        | ["volumes" | "networks", _, "labels", ITEM]
        | [
            "volumes" | "networks" | "secrets" | "configs",
            _,
            "external",
            "name",
        ] => true,
        ["services", _, "build", rest @ ..] => of_build_wants_text(rest),
        ["services", _, rest @ ..] => of_service_wants_text(rest),
        _ => false,
    }
}

fn of_service_wants_text(way: &[&str]) -> bool {
    matches!(
        way,
        ["command"
            | "container_name"
            | "cpuset"
            | "dns_search"
            | "domainname"
            | "entrypoint"
            | "hostname"
            | "image"
            | "platform"
            | "restart"
            | "runtime"
            | "stop_signal"
            | "user"
            | "working_dir"]
            | [
                "annotations"
                    | "cap_add"
                    | "cap_drop"
                    | "command"
                    | "depends_on"
                    | "devices"
                    | "dns_opt"
                    | "dns_search"
                    | "entrypoint"
                    | "environment"
                    | "labels"
                    | "links"
                    | "networks"
                    | "profiles"
                    | "security_opt"
                    | "sysctls"
                    | "tmpfs",
                ITEM
            ]
            | ["networks", _, "aliases", ITEM]
            | ["devices", ITEM, "source" | "target" | "permissions"]
            | ["secrets" | "configs", ITEM]
            | [
                "secrets" | "configs",
                ITEM,
                "source" | "target" | "uid" | "gid"
            ]
            | ["deploy", "labels", ITEM]
            | ["logging", "driver"]
            | ["healthcheck", "test"]
            | ["healthcheck", "test", ITEM]
            | ["deploy", "resources", "limits" | "reservations", "memory"]
    )
}

fn of_build_wants_text(way: &[&str]) -> bool {
    matches!(
        way,
        [] | ["context" | "dockerfile" | "dockerfile_inline" | "network" | "target"]
            | [
                "args" | "cache_from" | "extra_hosts" | "labels" | "platforms" | "ssh" | "tags",
                ITEM
            ]
    )
}

fn wants_once(way: &[&str]) -> bool {
    const KEYS: [&str; 23] = [
        "annotations",
        "cap_add",
        "cap_drop",
        "depends_on",
        "device_cgroup_rules",
        "devices",
        "dns",
        "dns_opt",
        "dns_search",
        "environment",
        "expose",
        "external_links",
        "extra_hosts",
        "group_add",
        "labels",
        "links",
        "networks",
        "ports",
        "profiles",
        "security_opt",
        "sysctls",
        "tmpfs",
        "volumes",
    ];
    match way {
        ["services", _, key] => KEYS.contains(key),
        ["services", _, "networks", _, "aliases"] => true,
        ["services", _, "build", "args" | "labels" | "extra_hosts"] => true,
        ["services", _, "deploy", "labels"] | ["volumes" | "networks", _, "labels"] => true,
        _ => false,
    }
}
