//! Names of files in a file of another directory: they start from there, whoever names it.

use std::path::{Component, Path};

use super::node::{Node, Value};

/// Lets all relative names of files in the tree start from where `directory` starts from.
pub(super) fn rebase(tree: &mut Node, directory: &Path) {
    for name in ["configs", "secrets"] {
        each(tree.get_mut(name), |item| {
            at(item.get_mut("file"), directory);
        });
    }
    each(tree.get_mut("volumes"), |item| {
        let options = item.get_mut("driver_opts");
        dotted(options.and_then(|o| o.get_mut("device")), directory);
    });
    each(tree.get_mut("services"), |service| {
        rebase_service(service, directory);
    });
}

/// The same for one service.
pub(super) fn rebase_service(service: &mut Node, directory: &Path) {
    for name in ["env_file", "label_file"] {
        match service.get_mut(name) {
            Some(Node {
                value: Value::List(items),
                ..
            }) => items.iter_mut().for_each(|item| env_file(item, directory)),
            Some(node) => env_file(node, directory),
            None => {}
        }
    }
    if let Some(build) = service.get_mut("build") {
        match &build.value {
            Value::Scalar { .. } => context(Some(build), directory),
            _ => context(build.get_mut("context"), directory),
        }
    }
    if let Some(Node {
        value: Value::List(items),
        ..
    }) = service.get_mut("volumes")
    {
        items.iter_mut().for_each(|item| volume(item, directory));
    }
}

fn each(section: Option<&mut Node>, mut change: impl FnMut(&mut Node)) {
    for (_, item) in section.and_then(Node::entries_mut).into_iter().flatten() {
        change(item);
    }
}

fn env_file(item: &mut Node, directory: &Path) {
    match &item.value {
        Value::Scalar { .. } => at(Some(item), directory),
        _ => at(item.get_mut("path"), directory),
    }
}

/// What a build starts from may be a repository, too.
fn context(node: Option<&mut Node>, directory: &Path) {
    let is_remote = |text: &str| text.contains("://") || text.starts_with("git@");
    if let Some(node) = node
        && node.as_text().is_some_and(|text| !is_remote(text))
    {
        at(Some(node), directory);
    }
}

fn volume(item: &mut Node, directory: &Path) {
    if let Value::Scalar { text, .. } = &mut item.value {
        if text.starts_with('.') {
            let (source, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            *text = joined(directory, source) + rest;
        }
    } else if item.get("type").and_then(Node::as_text) == Some("bind") {
        at(item.get_mut("source"), directory);
    }
}

/// A name that may be something else unless it begins with a dot.
fn dotted(node: Option<&mut Node>, directory: &Path) {
    if let Some(node) = node
        && node.as_text().is_some_and(|text| text.starts_with('.'))
    {
        at(Some(node), directory);
    }
}

fn at(node: Option<&mut Node>, directory: &Path) {
    if let Some(Node {
        value: Value::Scalar { text, .. },
        ..
    }) = node
        && !text.is_empty()
    {
        *text = joined(directory, text);
    }
}

/// `./directory/text`; what starts from `/` or somebody's home stays.
fn joined(directory: &Path, text: &str) -> String {
    if text.starts_with(['/', '~']) {
        return text.to_owned();
    }
    let path = directory.join(text);
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let path: std::path::PathBuf = parts.collect();
    let shown = path.display().to_string();
    match path.is_absolute() || shown.starts_with("..") {
        true => shown,
        false => format!("./{shown}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_start_from_the_other_directory() {
        let facts = [
            ("sub", "./a", "./sub/a"),
            ("sub", "a", "./sub/a"),
            ("sub", ".", "./sub"),
            ("sub", "../a", "./sub/../a"),
            ("../up", "a", "../up/a"),
            (".", "./a", "./a"),
            ("/abs", "./a", "/abs/a"),
            ("sub", "/a", "/a"),
            ("sub", "~/a", "~/a"),
        ];
        for (directory, text, wanted) in facts {
            assert_eq!(joined(Path::new(directory), text), wanted);
        }
    }
}
