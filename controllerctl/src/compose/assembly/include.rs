//! `include`: what other files describe, with a directory and variables of their own.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::merge::long_pairs;
use super::super::node::{Key, Node, Value};
use super::super::source::{Place, Source};
use super::super::{files, merge, paths};
use super::{Assembly, DEPTH_MAX, File, Scope, words};

/// Sections whose entries have a name.
const SECTIONS: [&str; 6] = [
    "services", "volumes", "networks", "secrets", "configs", "models",
];
/// What is not taken over.
const OWN: [&str; 2] = ["name", "version"];
const PATH: &str = "include";

impl Assembly {
    /// Takes in what the file includes.
    pub(super) fn include(&mut self, tree: &mut Node, scope: &Scope, trail: &[PathBuf]) {
        let Some((_, include)) = tree.remove("include") else {
            return;
        };
        let items = match include.value {
            Value::List(items) => items,
            _ => {
                let help = "write for example: include: [other/compose.yaml]";
                self.fault(include.place, "must be a list of files".into(), help);
                return;
            }
        };
        for item in &items {
            if let Some(included) = self.included(item, scope, trail) {
                self.import(tree, included);
            }
        }
    }

    fn fault(&mut self, place: Place, message: String, help: &str) {
        self.problems.lacks_file();
        self.problems
            .error("include", place, PATH, message)
            .help(help)
            .file();
    }

    /// The tree of one entry; its relative names start from where those of the including file do.
    fn included(&mut self, item: &Node, scope: &Scope, trail: &[PathBuf]) -> Option<Node> {
        self.known(item, &["path", "project_directory", "env_file"], PATH);
        let names = words(item.get("path").unwrap_or(item));
        let Some((first, place)) = names.first() else {
            let help = "write for example: include: [other/compose.yaml]";
            self.fault(item.place, "names no file".into(), help);
            return None;
        };
        if trail.len() >= DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} files include one another");
            self.fault(*place, message, "shorten the chain");
            return None;
        }
        let first = Path::new(first.strip_prefix("./").unwrap_or(first));
        let below = match item.get("project_directory").and_then(Node::as_text) {
            Some(directory) => Path::new(directory.strip_prefix("./").unwrap_or(directory)),
            None => first.parent().unwrap_or(Path::new("")),
        };
        let mut trail = trail.to_owned();
        let before = trail.len();
        let mut opened: Vec<Rc<File>> = Vec::new();
        for (name, place) in names {
            let path = scope
                .directory
                .join(name.strip_prefix("./").unwrap_or(name));
            let canonical = path.canonicalize().unwrap_or_else(|_| path.clone());
            let above = trail.iter().take(before);
            if let Some(start) = above.clone().position(|p| *p == canonical) {
                let circle = above.skip(start).chain([&canonical]);
                let circle: Vec<String> = circle.map(|path| self.file_name(path)).collect();
                let message = format!("files include each other: {}", circle.join(" -> "));
                let help = "move what they share into a third one";
                self.fault(place, message, help);
                return None;
            }
            let Some(file) = self.open(&path, place, PATH) else {
                self.problems.lacks_file();
                return None;
            };
            opened.push(file);
            trail.push(canonical);
        }
        let directory = scope.directory.join(below);
        let mut variables = scope.variables.clone();
        let env_files = env_files(item, &scope.directory, &directory);
        if let Err(error) = files::add_env_files(&env_files, &mut variables) {
            let cause = std::error::Error::source(&error).map(|e| format!(": {e}"));
            let message = format!("{error}{}", cause.unwrap_or_default());
            self.fault(item.place, message, "one NAME=value a line");
        }
        let inside = self.new_scope(directory, variables);
        let mut tree = merge::settle(self.project(&opened, &inside, &trail)?);
        environment(&mut tree, &inside);
        paths::rebase(&mut tree, below);
        Some(tree)
    }

    /// What the user would call it.
    fn file_name(&self, canonical: &Path) -> String {
        let file = self.files.get(canonical);
        let source: Option<&Source> = file.and_then(|file| self.sources.get(file.index));
        source.map_or_else(|| canonical.display().to_string(), |s| s.name.clone())
    }

    /// Adds what was included to the file that includes it. The same twice is there once;
    /// anything else of one name is an error.
    fn import(&mut self, tree: &mut Node, included: Node) {
        let Value::Map(sections) = included.value else {
            let help = "it must be a Compose file";
            self.fault(included.place, "must be a mapping".into(), help);
            return;
        };
        let Value::Map(entries) = &mut tree.value else {
            return;
        };
        for (section, node) in sections {
            let name = section.name.as_str();
            if OWN.contains(&name) || name.starts_with("x-") || matches!(node.value, Value::Null) {
                continue;
            }
            let Some(at) = entries.iter().position(|(key, _)| key.name == name) else {
                entries.push((section, node));
                continue;
            };
            let (is_section, present) = (SECTIONS.contains(&name), &mut entries[at].1);
            if matches!(present.value, Value::Null) {
                *present = node;
            } else if let (Value::Map(present), Value::Map(more), true) =
                (&mut present.value, node.value, is_section)
            {
                self.section(name, present, more);
            }
        }
    }

    fn section(&mut self, section: &str, present: &mut Vec<(Key, Node)>, more: Vec<(Key, Node)>) {
        for (key, node) in more {
            let Some((other, old)) = present.iter().find(|(other, _)| other.name == key.name)
            else {
                present.push((key, node));
                continue;
            };
            if is_same(old, &node) {
                continue;
            }
            let path = format!("{section}.{}", key.name);
            let message = format!(
                "is in two files, here and in {}: what is included cannot be changed here",
                self.shown(key.place)
            );
            let help = "change it in a file on top: include: [{ path: [that.yaml, changes.yaml] }]";
            self.problems
                .error("include", other.place, &path, message)
                .help(help)
                .file();
        }
    }
}

/// `env_file` of the entry, else `.env` where the included project is.
fn env_files(item: &Node, from: &Path, directory: &Path) -> Vec<PathBuf> {
    match item.get("env_file") {
        Some(node) => {
            let names = words(node).into_iter().map(|(name, _)| name);
            let names = names.filter(|name| *name != "/dev/null");
            names.map(|name| from.join(name)).collect()
        }
        None => {
            let file = Some(directory.join(".env"));
            file.filter(|path| path.is_file()).into_iter().collect()
        }
    }
}

/// Variables without a value take it from where the included project is.
fn environment(tree: &mut Node, scope: &Scope) {
    let services = tree.get_mut("services").and_then(Node::entries_mut);
    for (_, service) in services.into_iter().flatten() {
        let Some(node) = service.get_mut("environment") else {
            continue;
        };
        let empty = Node::new(Value::Null, node.place);
        *node = long_pairs(std::mem::replace(node, empty));
        for (key, value) in node.entries_mut().into_iter().flatten() {
            let known = scope.variables.get(&key.name);
            if let (Value::Null, Some(known)) = (&value.value, known) {
                *value = Node::text(known, value.place);
            }
        }
    }
}

/// The same, wherever it stands.
fn is_same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Null, Value::Null) => true,
        (Value::Scalar { text: a, .. }, Value::Scalar { text: b, .. }) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            let find = |name: &str| b.iter().find(|(key, _)| key.name == name);
            let mut pairs = a.iter();
            let all = pairs.all(|(k, a)| find(&k.name).is_some_and(|(_, b)| is_same(a, b)));
            a.len() == b.len() && all
        }
        _ => false,
    }
}
