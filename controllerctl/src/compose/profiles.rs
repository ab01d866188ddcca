//! `profiles`: services that are there only when somebody asks for them.

use std::collections::BTreeSet;

use super::Wants;
use super::node::{Key, Node, Value};
use super::problem::{Problems, did_you_mean};
use super::read::keys::nearest;

/// Most profiles of one service.
const PROFILES_MAX: usize = 64;

/// A service whose profiles are not wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The service.
    pub service: String,
    /// Its profiles.
    pub profiles: Vec<String>,
}

/// Takes out services of profiles that are not wanted; `*` wants all, and a service that is named is
/// wanted without its profiles. What is taken out is returned as it stood, too.
pub(super) fn select(
    tree: &mut Node,
    wants: &Wants,
    p: &mut Problems,
) -> (Vec<LeftOut>, Vec<(Key, Node)>) {
    let wanted = &wants.profiles;
    let Some(services) = tree.get_mut("services").and_then(Node::entries_mut) else {
        return (Vec::new(), Vec::new());
    };
    let mut all = BTreeSet::new();
    let (mut left_out, mut out) = (Vec::new(), Vec::new());
    for (key, service) in std::mem::take(services) {
        let profiles = profiles(&service, &key.name, p);
        let is_wanted = |profile: &String| wanted.iter().any(|w| w == profile || w == "*");
        let is_named = wants.services.contains(&key.name);
        let stays = profiles.is_empty() || is_named || profiles.iter().any(is_wanted);
        all.extend(profiles.iter().cloned());
        if stays {
            services.push((key, service));
        } else {
            let name = key.name.clone();
            left_out.push(LeftOut {
                service: name,
                profiles,
            });
            out.push((key, service));
        }
    }
    let is_empty = services.is_empty();
    for (key, service) in services.iter() {
        dependencies(&key.name, service, &left_out, p);
    }
    let place = tree.get("services").map(|node| node.place);
    let place = place.unwrap_or_default();
    if is_empty && !left_out.is_empty() {
        p.error("profiles", place, "services", "all are left out")
            .help(format!(
                "ask for a profile of them: --profile {}",
                list(&all)
            ))
            .file();
    }
    for profile in wanted.iter().filter(|w| *w != "*" && !all.contains(*w)) {
        let near = nearest(profile, all.iter().map(String::as_str));
        let help = near.map_or_else(|| "drop it".into(), did_you_mean);
        let message = format!("no service has the profile {profile:?}");
        p.warn("profiles", place, "services", message)
            .help(help)
            .file();
    }
    (left_out, out)
}

fn list(profiles: &BTreeSet<String>) -> String {
    let profiles: Vec<&str> = profiles.iter().map(String::as_str).collect();
    profiles.join(", --profile ")
}

fn profiles(service: &Node, name: &str, p: &mut Problems) -> Vec<String> {
    let Some(node) = service.get("profiles") else {
        return Vec::new();
    };
    let path = format!("services.{name}.profiles");
    let items = match &node.value {
        Value::Null => return Vec::new(),
        Value::List(items) if items.len() <= PROFILES_MAX => items,
        _ => {
            let message = format!("must be a list of at most {PROFILES_MAX} names");
            p.error("type", node.place, &path, message)
                .help("write for example: profiles: [debug]")
                .file();
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for item in items {
        let text = item.as_text().unwrap_or_default();
        let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts && text.chars().all(good) {
            names.push(text.to_owned());
        } else {
            let message = format!("{text:?} is no name of a profile");
            p.error("name", item.place, &path, message)
                .help("letters, digits, '.', '_' and '-', the first a letter or digit")
                .file();
        }
    }
    names
}

/// A service that is there cannot wait for one that is not.
fn dependencies(name: &str, service: &Node, left_out: &[LeftOut], p: &mut Problems) {
    let Some(node) = service.get("depends_on") else {
        return;
    };
    let needed: Vec<(&str, _)> = match &node.value {
        Value::List(items) => {
            let items = items.iter();
            items
                .filter_map(|i| Some((i.as_text()?, i.place)))
                .collect()
        }
        Value::Map(entries) => {
            let is_required = |node: &Node| {
                let required = node.get("required").and_then(Node::as_text);
                required != Some("false")
            };
            let entries = entries.iter().filter(|(_, node)| is_required(node));
            entries.map(|(k, _)| (k.name.as_str(), k.place)).collect()
        }
        _ => Vec::new(),
    };
    for (other, place) in needed {
        let Some(out) = left_out.iter().find(|out| out.service == other) else {
            continue;
        };
        let profiles = out.profiles.iter().cloned().collect();
        let path = format!("services.{name}.depends_on");
        let message = format!("service `{other}` is left out: nobody asked for a profile of it");
        p.error("profiles", place, &path, message)
            .help(format!("add --profile {}", list(&profiles)))
            .file();
    }
}
