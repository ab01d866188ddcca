//! `init --from`: an older Compose file as one of today.
//!
//! The tree of the old file is changed step by step, and each step says what it changed, where and
//! why. What has no counterpart is refused: nothing is lost in silence. What comes out is read
//! once more by the reader of all Compose files before anybody gets it.

mod balancer;
mod certificates;
mod hosts;
mod lines;
mod links;
mod names;
mod old;
mod ports;
mod settings;
mod vars;

use std::path::{Path, PathBuf};

use crate::compose::node::{self, Key, Node, Value};
use crate::compose::problem::{Problem, Problems};
use crate::compose::source::{Place, Source};

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it was.
    pub place: Place,
    /// What was there: `lb.ports "80:80"`.
    pub was: String,
    /// What is there now; none: nothing.
    pub now: Option<String>,
    /// Why.
    pub why: String,
    /// Somebody should see whether it is right.
    pub look: bool,
}

/// What became of a file.
#[derive(Debug)]
pub struct Converted {
    /// The new file.
    pub tree: Node,
    /// What is not as it was, by place.
    pub changes: Vec<Change>,
}

/// What the steps share.
#[derive(Debug)]
pub(crate) struct Work {
    tree: Node,
    changes: Vec<Change>,
    problems: Problems,
    /// What has no counterpart is left out.
    drops: bool,
    /// Relative names start from it.
    directory: PathBuf,
}

/// Converts a file that stands in `directory`. With `drops`, what has no counterpart is left out, and said.
///
/// # Errors
/// Everything that has no counterpart, with its place.
pub fn convert(source: &Source, directory: &Path, drops: bool) -> Result<Converted, Vec<Problem>> {
    let tree = node::parse(source, 0).map_err(|problem| vec![*problem])?;
    let mut work = Work {
        tree,
        changes: Vec::new(),
        problems: Problems::default(),
        drops,
        directory: directory.to_owned(),
    };
    old::form(&mut work);
    old::each(&mut work);
    names::rename(&mut work);
    balancer::replace(&mut work);
    links::replace(&mut work);
    if work.problems.errors() > 0 {
        return Err(work.problems.into_sorted());
    }
    let Work {
        tree, mut changes, ..
    } = work;
    // What a balancer said of several services is said once.
    changes.sort_by(|a, b| (a.place, &a.was, &a.now).cmp(&(b.place, &b.was, &b.now)));
    changes.dedup();
    Ok(Converted { tree, changes })
}

impl Work {
    /// Something is another now.
    fn now(&mut self, place: Place, was: impl Into<String>, now: impl Into<String>, why: &str) {
        self.change(place, was.into(), Some(now.into()), why, false);
    }

    /// Something is gone, and is not missed.
    fn gone(&mut self, place: Place, was: impl Into<String>, why: &str) {
        self.change(place, was.into(), None, why, false);
    }

    /// Something is guessed, or not quite the same.
    fn look(&mut self, place: Place, was: impl Into<String>, now: Option<String>, why: &str) {
        self.change(place, was.into(), now, why, true);
    }

    fn change(&mut self, place: Place, was: String, now: Option<String>, why: &str, look: bool) {
        let why = why.to_owned();
        self.changes.push(Change {
            place,
            was,
            now,
            why,
            look,
        });
    }

    /// All that was changed from the `from`th on is to be looked at.
    fn look_since(&mut self, from: usize) {
        for change in self.changes.iter_mut().skip(from) {
            change.look = true;
        }
    }

    /// Something has no counterpart.
    fn refuse(&mut self, place: Place, path: &str, why: &str, help: &str) {
        if self.drops {
            let why = format!("left out, no counterpart: {why}; {help}");
            return self.look(place, path, None, &why);
        }
        let draft = self.problems.error("no_counterpart", place, path, why);
        draft.label("has no counterpart").help(help).file();
    }

    /// The services.
    fn services(&mut self) -> Option<&mut Vec<(Key, Node)>> {
        self.tree.get_mut("services")?.entries_mut()
    }

    fn service(&mut self, name: &str) -> Option<&mut Node> {
        self.tree.get_mut("services")?.get_mut(name)
    }

    fn service_names(&self) -> Vec<String> {
        self.tree.get("services").map(keys).unwrap_or_default()
    }
}

/// The keys of a mapping.
fn keys(node: &Node) -> Vec<String> {
    match &node.value {
        Value::Map(entries) => entries.iter().map(|(key, _)| key.name.clone()).collect(),
        _ => Vec::new(),
    }
}

/// The texts of a list, or the keys of a mapping, or the one text, each with its place.
fn words(node: &Node) -> Vec<(String, Place)> {
    let text = |node: &Node| Some((node.as_text()?.to_owned(), node.place));
    match &node.value {
        Value::List(items) => items.iter().filter_map(text).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, _)| (key.name.clone(), key.place))
            .collect(),
        Value::Scalar { .. } => text(node).into_iter().collect(),
        Value::Null => Vec::new(),
    }
}

/// Takes those entries out of a list or mapping whose text or key does not pass.
fn retain(node: &mut Node, keep: impl Fn(&str) -> bool) {
    match &mut node.value {
        Value::List(items) => items.retain(|item| item.as_text().is_none_or(&keep)),
        Value::Map(entries) => entries.retain(|(key, _)| keep(&key.name)),
        _ => {}
    }
}

/// Is nothing in it?
fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Null => true,
        Value::Scalar { .. } => false,
    }
}

/// A key of ours, at the place of what it stands for.
fn key(name: &str, place: Place) -> Key {
    let name = name.to_owned();
    Key { name, place }
}

fn map(entries: Vec<(Key, Node)>, place: Place) -> Node {
    Node::new(Value::Map(entries), place)
}

/// A number, or true or false, as YAML has it.
fn plain(text: impl ToString, place: Place) -> Node {
    let text = text.to_string();
    Node::new(Value::Scalar { text, plain: true }, place)
}

/// The entry `name`, made as `empty` if it is not there.
fn entry<'n>(node: &'n mut Node, name: &str, empty: Value, place: Place) -> Option<&'n mut Node> {
    if matches!(node.value, Value::Null) {
        node.value = Value::Map(Vec::new());
    }
    let entries = node.entries_mut()?;
    let at = match entries.iter().position(|(key, _)| key.name == name) {
        Some(at) => at,
        None => {
            entries.push((key(name, place), Node::new(empty, place)));
            entries.len() - 1
        }
    };
    entries.get_mut(at).map(|(_, node)| node)
}

/// The place of `path` in the tree, or of what is nearest above it.
#[must_use]
pub fn place_of(tree: &Node, path: &str) -> Place {
    let mut at = (tree, tree.place);
    for step in path.split('.') {
        let (name, index) = match step.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (step, None),
        };
        let Value::Map(entries) = &at.0.value else {
            return at.1;
        };
        let Some((key, node)) = entries.iter().find(|(key, _)| key.name == name) else {
            return at.1;
        };
        at = (node, key.place);
        if let (Some(index), Value::List(items)) = (index, &node.value) {
            let Some(item) = items.get(index) else {
                return at.1;
            };
            at = (item, item.place);
        }
    }
    at.1
}
