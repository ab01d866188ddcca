//! `env_file` and `label_file` of services: what the files say becomes part of `environment` and
//! `labels`.

use std::path::Path;

use super::interpolate::Variables;
use super::merge;
use super::node::{INPUT_BYTES_MAX, Key, Node, Value};
use super::problem::{Problems, UNKNOWN_KEY, did_you_mean};
use super::read::keys::nearest;
use super::source::Place;
use super::{dotenv, files};

/// Most files of one service.
const FILES_MAX: usize = 64;

/// A key that names files, and the one that has what they say.
#[derive(Clone, Copy)]
struct Kind {
    key: &'static str,
    into: &'static str,
    /// A name alone has its value from where the command runs.
    takes_ours: bool,
}

const KINDS: [Kind; 2] = [
    Kind {
        key: "env_file",
        into: "environment",
        takes_ours: true,
    },
    Kind {
        key: "label_file",
        into: "labels",
        takes_ours: false,
    },
];

/// Reads the files of all services. `directory` is what their names start from.
pub(super) fn read(tree: &mut Node, directory: &Path, variables: &Variables, p: &mut Problems) {
    let Some(services) = tree.get_mut("services").and_then(Node::entries_mut) else {
        return;
    };
    for (key, service) in services {
        let path = format!("services.{}", key.name);
        for kind in KINDS {
            one(kind, (service, &path), (directory, variables), p);
        }
    }
}

fn one(
    kind: Kind,
    (service, path): (&mut Node, &str),
    from: (&Path, &Variables),
    p: &mut Problems,
) {
    let Some((_, files)) = service.remove(kind.key) else {
        return;
    };
    let files = entries(files, kind, &format!("{path}.{}", kind.key), p);
    let own = service.remove(kind.into);
    let place = own.as_ref().map(|(_, node)| node.place);
    let own = own.map(|(_, node)| merge::long_pairs(node));
    let (files, own) = match own.map(|node| node.value) {
        None | Some(Value::Null) => (files, Vec::new()),
        Some(Value::Map(own)) => (files, own),
        // The reader says what is wrong with it.
        Some(value) => {
            put(service, kind, Node::new(value, place.unwrap_or_default()));
            return;
        }
    };
    let all = together(kind, &files, own, from, p);
    let place = place.or_else(|| files.first().map(|file| file.place));
    let node = Node::new(Value::Map(all), place.unwrap_or_default());
    put(service, kind, node);
}

fn put(service: &mut Node, kind: Kind, pairs: Node) {
    let place = pairs.place;
    let name = kind.into.to_owned();
    if let Some(entries) = service.entries_mut() {
        entries.push((Key { name, place }, pairs));
    }
}

/// One entry of such a key.
struct EnvFile {
    name: String,
    is_required: bool,
    is_raw: bool,
    place: Place,
    path: String,
}

fn entries(node: Node, kind: Kind, path: &str, p: &mut Problems) -> Vec<EnvFile> {
    let items = match node.value {
        Value::List(items) => items,
        Value::Null => {
            p.error("empty", node.place, path, "there is nothing after the key")
                .help("write a value, or drop the key")
                .file();
            Vec::new()
        }
        value => vec![Node::new(value, node.place)],
    };
    if items.len() > FILES_MAX {
        let message = format!("{} files; at most {FILES_MAX}", items.len());
        p.error("invalid", node.place, path, message).file();
        return Vec::new();
    }
    items
        .iter()
        .filter_map(|item| entry(item, kind, path, p))
        .collect()
}

fn entry(item: &Node, kind: Kind, path: &str, p: &mut Problems) -> Option<EnvFile> {
    let mut file = EnvFile {
        name: String::new(),
        is_required: true,
        is_raw: false,
        place: item.place,
        path: path.to_owned(),
    };
    let mut wrong = |place, message: String, help: &str| {
        p.error("invalid", place, path, message).help(help).file();
    };
    match &item.value {
        Value::Scalar { text, .. } => file.name.clone_from(text),
        // Files of labels have no options.
        Value::Map(fields) if kind.takes_ours => {
            for (key, node) in fields {
                let text = node.as_text().unwrap_or_default();
                match (key.name.as_str(), text) {
                    ("path", _) => (file.name, file.place) = (text.to_owned(), node.place),
                    ("required", "true" | "yes" | "on") => file.is_required = true,
                    ("required", "false" | "no" | "off") => file.is_required = false,
                    ("format", "raw") => file.is_raw = true,
                    ("required", _) => {
                        let message = format!("{text:?} is neither true nor false");
                        wrong(node.place, message, "write required: false");
                    }
                    ("format", _) => {
                        let message = format!("{text:?} is no format");
                        wrong(node.place, message, "write format: raw, or leave it away");
                    }
                    (name, _) if name.starts_with("x-") => {}
                    (name, _) => {
                        let near = nearest(name, ["path", "required", "format"]);
                        let help =
                            near.map_or("only path, required and format".into(), did_you_mean);
                        let message = format!("unknown key `{name}`");
                        p.error(UNKNOWN_KEY, key.place, path, message)
                            .help(help)
                            .file();
                        return None;
                    }
                }
            }
        }
        _ => {}
    }
    if file.name.trim().is_empty() {
        wrong(
            item.place,
            "names no file".into(),
            &format!("write {}: ./app.env", kind.key),
        );
        return None;
    }
    Some(file)
}

/// What the files say, the later above the earlier, and what the service says itself above both.
fn together(
    kind: Kind,
    files: &[EnvFile],
    own: Vec<(Key, Node)>,
    (directory, variables): (&Path, &Variables),
    p: &mut Problems,
) -> Vec<(Key, Node)> {
    let mut known = variables.clone();
    let said = own.iter().filter_map(|(key, node)| {
        let text = node.as_text()?;
        Some((key.name.clone(), text.to_owned()))
    });
    known.add(said.collect::<Vec<_>>());
    let mut all: Vec<(Key, Node)> = Vec::new();
    for file in files {
        let place = file.place;
        for (name, value) in pairs(file, directory, &known, p).unwrap_or_default() {
            known.add([(name.clone(), value.clone())]);
            set(&mut all, Key { name, place }, Node::text(value, place));
        }
    }
    for (key, node) in own {
        let is_unset = matches!(node.value, Value::Null);
        let in_file = all.iter().any(|(other, _)| other.name == key.name);
        match (is_unset, variables.get(&key.name)) {
            (true, Some(value)) if kind.takes_ours => {
                let node = Node::text(value, node.place);
                set(&mut all, key, node);
            }
            // What a file says is better than nothing.
            (true, None) if in_file && kind.takes_ours => {}
            _ => set(&mut all, key, node),
        }
    }
    all
}

fn set(all: &mut Vec<(Key, Node)>, key: Key, node: Node) {
    match all.iter_mut().find(|(other, _)| other.name == key.name) {
        Some(entry) => *entry = (key, node),
        None => all.push((key, node)),
    }
}

fn pairs(
    file: &EnvFile,
    directory: &Path,
    known: &Variables,
    p: &mut Problems,
) -> Option<Vec<(String, String)>> {
    let name = directory.join(file.name.strip_prefix("./").unwrap_or(&file.name));
    if !file.is_required && !name.exists() {
        return None;
    }
    let shown = name.display();
    let mut wrong = |message: String, help: &str| {
        p.error("env_file", file.place, &file.path, message)
            .help(help)
            .file();
    };
    let text = match files::read_text(&name) {
        Ok(text) => text,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let help = "it is looked for beside the Compose file; one that may be missing: \
                        {path: …, required: false}";
            wrong(format!("{error}: {}", cause.unwrap_or_default()), help);
            return None;
        }
    };
    if text.len() > INPUT_BYTES_MAX {
        let message = format!("{shown} has more than {INPUT_BYTES_MAX} bytes");
        wrong(message, "give large values as files to the container");
        return None;
    }
    let read = match file.is_raw {
        true => dotenv::parse_raw(&text, known),
        false => dotenv::parse(&text, known),
    };
    let help = "one NAME=value a line; what shall stay as it is: {path: …, format: raw}";
    read.map_err(|fault| wrong(format!("{shown}:{}: {}", fault.line, fault.message), help))
        .ok()
}
