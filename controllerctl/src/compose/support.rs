//! What becomes of each key that a file uses.

use std::collections::BTreeMap;

use super::node::{Key, Node, Value};
use super::problem::{Level, NOT_SUPPORTED, Problem, UNKNOWN_KEY};
use super::read::keys::SERVICE;
use super::source::Place;

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It does what it says.
    Supported,
    /// It does, if something else is so.
    Conditional,
    /// It is left out, as asked for.
    Dropped,
    /// The file is not taken with it.
    Refused,
}

/// One key that a file uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `services.web.ports`
    pub key: String,
    /// What becomes of it.
    pub status: Status,
    /// Why, or on which condition.
    pub reason: Option<String>,
}

/// Keys whose mappings hold names of the user's own.
const FREE: [&str; 13] = [
    "additional_contexts",
    "annotations",
    "args",
    "depends_on",
    "driver_opts",
    "environment",
    "extra_hosts",
    "labels",
    "logging",
    "options",
    "storage_opt",
    "sysctls",
    "ulimits",
];

const POLICY: &str = "each node's own policy must allow it";

/// Keys of a service that hold under a condition, whatever their value.
const CONDITIONS: &[(&str, &str)] = &[
    ("annotations", POLICY),
    (
        "build",
        "there must be an engine where the command runs, or the controller holds the image",
    ),
    ("cap_add", POLICY),
    ("devices", POLICY),
    ("hostname", "for one replica only"),
    (
        "depends_on",
        "it holds for the first start; what once ran in full comes back at once; a job goes before \
         each new template",
    ),
    ("ipc", POLICY),
    ("network_mode", POLICY),
    ("pid", POLICY),
    ("platform", "there must be nodes of it"),
    ("privileged", POLICY),
    (
        "restart",
        "what ends is always started again, unless it is a job",
    ),
    ("runtime", POLICY),
    ("security_opt", POLICY),
    ("storage_opt", "the node's engine must be able to"),
    ("sysctls", POLICY),
    ("userns_mode", POLICY),
    (
        "volumes",
        "a named volume is local to its node, a path must exist on the nodes, a small file of the \
         project is sent where it is bound read-only",
    ),
];

/// One row for each key that the tree uses, in the order of the file.
pub(super) fn table(tree: &Node, problems: &[Problem]) -> Vec<Row> {
    let mut places: BTreeMap<Place, Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        places.entry(problem.place).or_default().push(problem);
    }
    let mut table = Table {
        problems,
        places,
        rows: Vec::new(),
    };
    table.below(tree, "");
    table.rows
}

struct Table<'p> {
    problems: &'p [Problem],
    places: BTreeMap<Place, Vec<&'p Problem>>,
    rows: Vec<Row>,
}

impl Table<'_> {
    fn below(&mut self, node: &Node, path: &str) {
        let Value::Map(entries) = &node.value else {
            return;
        };
        for (key, node) in entries {
            self.key(key, node, path);
        }
    }

    fn key(&mut self, key: &Key, node: &Node, above: &str) {
        let path = match above.is_empty() {
            true => key.name.clone(),
            false => format!("{above}.{}", key.name),
        };
        let is_free = FREE.contains(&key.name.as_str());
        let has_keys = matches!(&node.value, Value::Map(entries) if !entries.is_empty());
        let is_ours = super::read::keys::belongs(&key.name).is_some();
        if key.name.starts_with("x-") && !is_ours && self.at(key, &path, false).is_none() {
            return;
        }
        let goes_down = has_keys && !is_free;
        match self.at(key, &path, !goes_down) {
            Some((status, reason)) => {
                let is_end = status >= Status::Dropped;
                let reason = Some(reason);
                let row = |key| Row {
                    key,
                    status,
                    reason,
                };
                self.rows.push(row(path.clone()));
                if goes_down && !is_end {
                    self.below(node, &path);
                }
            }
            None if goes_down => self.below(node, &path),
            None => {
                let condition = condition(&path);
                let status = match condition {
                    Some(_) => Status::Conditional,
                    None => Status::Supported,
                };
                let reason = condition.map(str::to_owned);
                self.rows.push(Row {
                    key: path,
                    status,
                    reason,
                });
            }
        }
    }

    /// The worst that is said about a key; with `all`, about what is below it, too.
    fn at(&self, key: &Key, path: &str, all: bool) -> Option<(Status, String)> {
        let here = self.places.get(&key.place).into_iter().flatten().copied();
        // Such a problem names the mapping that holds the key.
        let here = here.filter(|p| p.code == UNKNOWN_KEY);
        let below = self.problems.iter().filter(|p| {
            let rest = p.path.strip_prefix(path);
            let is_below = rest.is_some_and(|rest| all && rest.starts_with(['.', '[']));
            p.code != UNKNOWN_KEY && (is_below || rest == Some(""))
        });
        let found = here.chain(below).map(|problem| {
            let status = match (problem.level, problem.code) {
                (Level::Error, _) => Status::Refused,
                (Level::Warning, NOT_SUPPORTED) => Status::Dropped,
                (Level::Warning, _) => Status::Conditional,
            };
            (status, problem.message.clone())
        });
        found.max_by_key(|(status, _)| *status)
    }
}

/// What is so of a key of a service whatever stands there, if anything is: a word and why.
#[must_use]
pub fn of_service(name: &str) -> Option<(&'static str, &'static str)> {
    let of = |list: &'static [(&'static str, &'static str)]| {
        list.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, why)| *why)
    };
    let condition = of(CONDITIONS).map(|why| ("with a condition", why));
    condition.or_else(|| of(SERVICE).map(|why| ("not supported", why)))
}

/// Keys of a service of which [`of_service`] knows something.
pub fn service_keys() -> impl Iterator<Item = &'static str> {
    CONDITIONS.iter().chain(SERVICE).map(|(key, _)| *key)
}

fn condition(path: &str) -> Option<&'static str> {
    let mut parts = path.split('.');
    let (section, _, key) = (parts.next()?, parts.next()?, parts.next()?);
    if section != "services" || parts.next().is_some() {
        return None;
    }
    let found = CONDITIONS.iter().find(|(name, _)| *name == key);
    found.map(|(_, condition)| *condition)
}
