//! Several `-f` files as one: mappings merge, lists grow, what is a whole is replaced.

use std::collections::BTreeSet;

use super::node::{Key, Node, Value};

/// Puts `over` on top of `base`.
#[must_use]
pub fn merge(base: Node, over: Node) -> Node {
    merge_at(&mut Vec::new(), base, over)
}

fn merge_at(path: &mut Vec<String>, base: Node, over: Node) -> Node {
    let (base, over) = if is_pairs(path) {
        (pairs_to_map(base), pairs_to_map(over))
    } else {
        (base, over)
    };
    let place = over.place;
    let value = match (base.value, over.value) {
        // A key with nothing after it does not take away what is there.
        (value, Value::Null) => value,
        (Value::Map(mut entries), Value::Map(others)) => {
            for (key, node) in others {
                match entries.iter().position(|(k, _)| k.name == key.name) {
                    Some(at) => {
                        path.push(key.name.clone());
                        let (_, old) = entries.remove(at);
                        let node = merge_at(path, old, node);
                        path.pop();
                        entries.insert(at, (key, node));
                    }
                    None => entries.push((key, node)),
                }
            }
            Value::Map(entries)
        }
        (Value::List(mut items), Value::List(others)) if !is_whole(path) => {
            let mut seen: BTreeSet<String> = items.iter().filter_map(scalar).collect();
            items.extend(
                others
                    .into_iter()
                    .filter(|n| scalar(n).is_none_or(|t| seen.insert(t))),
            );
            Value::List(items)
        }
        (_, value) => value,
    };
    Node { value, place }
}

fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// A command is one thing, not a list that grows.
fn is_whole(path: &[String]) -> bool {
    let Some(last) = path.last() else {
        return false;
    };
    matches!(last.as_str(), "command" | "entrypoint")
        || (last == "test" && path.iter().any(|part| part == "healthcheck"))
}

fn is_pairs(path: &[String]) -> bool {
    path.len() == 3
        && path[0] == "services"
        && matches!(path[2].as_str(), "environment" | "labels" | "sysctls")
}

fn pairs_to_map(node: Node) -> Node {
    let place = node.place;
    let Value::List(items) = node.value else {
        return node;
    };
    let entry = |item: Node| {
        let place = item.place;
        let text = scalar(&item).unwrap_or_default();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (
                name.to_owned(),
                Value::Scalar {
                    text: value.to_owned(),
                    plain: false,
                },
            ),
            None => (text, Value::Null),
        };
        (Key { name, place }, Node { value, place })
    };
    Node {
        value: Value::Map(items.into_iter().map(entry).collect()),
        place,
    }
}
