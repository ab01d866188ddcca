//! Several files as one: mappings merge, lists grow, what is a whole is replaced.

mod rules;

use super::node::{Key, Mark, Node, Value};
use super::problem::Problems;
use rules::{Rule, identity, rule};

/// Puts `over` on top of `base`. Marks stay, for what is put below later: see [`settle`].
#[must_use]
pub fn merge(base: Node, over: Node, problems: &mut Problems) -> Node {
    merge_at(&mut Vec::new(), base, over, problems)
}

/// As [`merge`], for one service.
#[must_use]
pub fn merge_service(name: &str, base: Node, over: Node, problems: &mut Problems) -> Node {
    let mut path = vec!["services".to_owned(), name.to_owned()];
    merge_at(&mut path, base, over, problems)
}

/// What marks leave when there is nothing more to put below them.
#[must_use]
pub fn settle(mut node: Node) -> Node {
    if node.mark == Some(Mark::Reset) {
        node.value = Value::Null;
    }
    node.mark = None;
    let stays = |node: &Node| node.mark != Some(Mark::Reset);
    node.value = match node.value {
        Value::List(items) => {
            let items = items.into_iter().filter(stays);
            Value::List(items.map(settle).collect())
        }
        Value::Map(entries) => {
            let entries = entries.into_iter().filter(|(_, node)| stays(node));
            Value::Map(entries.map(|(key, node)| (key, settle(node))).collect())
        }
        value => value,
    };
    node
}

fn merge_at(path: &mut Vec<String>, base: Node, over: Node, problems: &mut Problems) -> Node {
    if over.mark.is_some() {
        return over;
    }
    let rule = rule(path);
    let (mut base, over) = (rule.long(base), rule.long(over));
    if base.mark == Some(Mark::Reset) {
        base.value = Value::Null;
    }
    let (place, base_place) = (over.place, base.place);
    let value = match (base.value, over.value) {
        // A key with nothing after it does not take away what is there.
        (value, Value::Null) => value,
        (_, value) if rule == Rule::Whole => value,
        (Value::Map(entries), Value::Map(others)) => {
            if rule == Rule::Logging && is_other_driver(&entries, &others) {
                Value::Map(others)
            } else {
                map(path, entries, others, problems)
            }
        }
        (Value::List(items), Value::List(others)) => Value::List(list(path, items, others)),
        (base @ (Value::List(_) | Value::Map(_)), value) if !rules::is_free(path) => {
            let base = Node::new(base, base_place);
            let before = base.kind();
            problems.clash(path, base);
            let now = Node::new(value.clone(), place).kind();
            let help = "write it as the other file does, or begin the value with !override";
            let message = format!("cannot be merged: {now} here, {before} in the file below");
            problems
                .error("merge", place, &path.join("."), message)
                .help(help)
                .file();
            value
        }
        (_, value) => value,
    };
    Node::new(value, place)
}

fn map(
    path: &mut Vec<String>,
    mut entries: Vec<(Key, Node)>,
    others: Vec<(Key, Node)>,
    problems: &mut Problems,
) -> Value {
    for (key, node) in others {
        match entries.iter_mut().find(|(k, _)| k.name == key.name) {
            Some(entry) => {
                path.push(key.name.clone());
                let empty = Node::new(Value::Null, entry.1.place);
                let old = std::mem::replace(&mut entry.1, empty);
                *entry = (key, merge_at(path, old, node, problems));
                path.pop();
            }
            None => entries.push((key, node)),
        }
    }
    Value::Map(entries)
}

/// Appends, and puts what is there already under the same identity in its place.
fn list(path: &[String], mut items: Vec<Node>, others: Vec<Node>) -> Vec<Node> {
    let Some(identity) = identity(path) else {
        items.extend(others);
        return items;
    };
    let mut at = std::collections::BTreeMap::new();
    let all = std::mem::take(&mut items).into_iter().chain(others);
    for item in all {
        match identity(&item) {
            Some(id) => {
                let index = *at.entry(id).or_insert(items.len());
                match items.get_mut(index) {
                    Some(old) => *old = item,
                    None => items.push(item),
                }
            }
            None => items.push(item),
        }
    }
    items
}

/// Options of one driver mean nothing to another.
fn is_other_driver(entries: &[(Key, Node)], others: &[(Key, Node)]) -> bool {
    let driver = |entries: &[(Key, Node)]| {
        let entry = entries.iter().find(|(key, _)| key.name == "driver");
        entry.and_then(|(_, node)| node.as_text().map(str::to_owned))
    };
    matches!((driver(entries), driver(others)), (Some(a), Some(b)) if a != b)
}

/// `[A=1]` as `{A: 1}`; anything else as it is.
#[must_use]
pub fn long_pairs(node: Node) -> Node {
    Rule::Pairs.long(node)
}
