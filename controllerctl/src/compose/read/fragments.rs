//! Our extensions at the top of a file: fragments for YAML's anchors, or mistakes.

use std::collections::BTreeSet;

use super::super::node::{Key, Node, Value};
use super::super::problem::Problems;
use super::super::source::Place;
use super::keys;

/// Warns of extensions of ours at the top of one file that no alias there refers to: nothing would
/// follow from them. What an alias stands for is in the tree with the place of its anchor.
pub(in super::super) fn unused(file: &Node, p: &mut Problems) {
    let Value::Map(entries) = &file.value else {
        return;
    };
    for (number, (key, node)) in entries.iter().enumerate() {
        let name = key.name.as_str();
        let Some(at) = keys::belongs(name).filter(|_| name != "x-context") else {
            continue;
        };
        let mut own = BTreeSet::new();
        places(node, &mut |place| {
            own.insert(place);
            false
        });
        let others = entries.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != number);
        let is_used = is_empty(node)
            || others.any(|(_, (_, other))| places(other, &mut |place| own.contains(&place)));
        if !is_used {
            warn(key, at, p);
        }
    }
}

/// An alias to nothing leaves no trace in the tree.
fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Map(entries) => entries.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Scalar { .. } => false,
    }
}

/// Visits the places of a node and of all below it, until one is what is looked for.
fn places(node: &Node, is_wanted: &mut impl FnMut(Place) -> bool) -> bool {
    is_wanted(node.place)
        || match &node.value {
            Value::Map(entries) => {
                let mut entries = entries.iter();
                entries.any(|(key, node)| is_wanted(key.place) || places(node, is_wanted))
            }
            Value::List(items) => items.iter().any(|item| places(item, is_wanted)),
            Value::Null | Value::Scalar { .. } => false,
        }
}

fn warn(key: &Key, at: &str, p: &mut Problems) {
    let name = &key.name;
    let short = name.trim_start_matches("x-");
    p.warn(
        "misplaced_key",
        key.place,
        name,
        "not read at the top of a file, and no alias refers to it",
    )
    .label("nothing follows from it")
    .help(format!(
        "it belongs to {at}; to share it, name it `{name}: &{short}` here and write \
         `{name}: *{short}` there"
    ))
    .file();
}
