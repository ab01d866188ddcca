//! What the specification says about single keys when files are merged.

use std::collections::BTreeMap;

use super::super::node::{Key, Node, Value};

/// How one key is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Mappings by key, lists one after the other.
    Plain,
    /// One thing, not a list that grows.
    Whole,
    /// `[A=1]` is `{A: 1}`.
    Pairs,
    /// `[a]` is `{a:}`.
    Names,
    /// `[a]` is `{a: {condition: service_started}}`.
    Dependencies,
    /// `a` is `[a]`.
    Words,
    /// `{a: 1}` is `[a=1]`.
    Hosts,
    /// `./dir` is `{context: ./dir}`.
    Build,
    /// By key, unless the driver is another.
    Logging,
}

/// The rule of the key at `path`.
pub(super) fn rule(path: &[String]) -> Rule {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["services", _, rest @ ..] => service(rest),
        ["networks" | "volumes" | "secrets" | "configs", _, "labels"] => Rule::Pairs,
        _ => Rule::Plain,
    }
}

fn service(path: &[&str]) -> Rule {
    match path {
        ["command" | "entrypoint"] | ["healthcheck", "test"] => Rule::Whole,
        ["environment" | "labels" | "annotations" | "sysctls"]
        | ["build", "args" | "labels" | "additional_contexts"]
        | ["deploy", "labels"] => Rule::Pairs,
        ["networks" | "models"] => Rule::Names,
        ["depends_on"] => Rule::Dependencies,
        ["dns" | "dns_search" | "env_file" | "label_file" | "tmpfs"] => Rule::Words,
        ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Hosts,
        ["build"] => Rule::Build,
        ["logging"] => Rule::Logging,
        _ => Rule::Plain,
    }
}

/// May one form replace another? Our own extensions and a few keys have a short and a long form.
pub(super) fn is_free(path: &[String]) -> bool {
    let ours = path.iter().any(|part| part.starts_with("x-"));
    let part = |at: usize| path.get(at).map(String::as_str);
    ours || match part(2) {
        Some("gpus" | "extends") => true,
        // One number for both limits, or a mapping.
        Some("ulimits") => path.len() > 3,
        _ => false,
    }
}

impl Rule {
    /// The form in which the key is merged.
    pub(super) fn long(self, mut node: Node) -> Node {
        let place = node.place;
        node.value = match (self, node.value) {
            (Self::Pairs, Value::List(items)) => once(items.into_iter().map(pair)),
            (Self::Names, Value::List(items)) => {
                let none = |place| Node::new(Value::Null, place);
                once(items.iter().map(|item| named(item, none)))
            }
            (Self::Dependencies, Value::List(items)) => {
                let started = |place| {
                    let key = Key {
                        name: "condition".into(),
                        place,
                    };
                    let value = Node::text("service_started", place);
                    Node::new(Value::Map(vec![(key, value)]), place)
                };
                once(items.iter().map(|item| named(item, started)))
            }
            (Self::Words, value @ (Value::Scalar { .. } | Value::Map(_))) => {
                Value::List(vec![Node::new(value, place)])
            }
            (Self::Hosts, Value::Map(entries)) => {
                Value::List(entries.into_iter().flat_map(host).collect())
            }
            (Self::Build, Value::Scalar { text, .. }) => {
                let name = "context".into();
                Value::Map(vec![(Key { name, place }, Node::text(text, place))])
            }
            (_, value) => value,
        };
        node
    }
}

/// A mapping of a list: what comes later replaces what is there.
fn once(pairs: impl Iterator<Item = (Key, Node)>) -> Value {
    let mut entries: Vec<(Key, Node)> = Vec::new();
    let mut at = BTreeMap::new();
    for (key, node) in pairs {
        let index = *at.entry(key.name.clone()).or_insert(entries.len());
        match entries.get_mut(index) {
            Some(old) => *old = (key, node),
            None => entries.push((key, node)),
        }
    }
    Value::Map(entries)
}

fn pair(item: Node) -> (Key, Node) {
    let place = item.place;
    let text = item.as_text().unwrap_or_default();
    let (name, mut value) = match text.split_once('=') {
        Some((name, value)) => (name, Node::text(value, place)),
        None => (text, Node::new(Value::Null, place)),
    };
    value.mark = item.mark;
    let name = name.to_owned();
    (Key { name, place }, value)
}

fn named(item: &Node, value: impl Fn(super::super::source::Place) -> Node) -> (Key, Node) {
    let place = item.place;
    let name = item.as_text().unwrap_or_default().to_owned();
    (Key { name, place }, value(place))
}

/// A host may have several addresses.
fn host((key, node): (Key, Node)) -> Vec<Node> {
    let of = |node: &Node| {
        let address = node.as_text().unwrap_or_default();
        Node::text(format!("{}={address}", key.name), node.place)
    };
    match &node.value {
        Value::List(items) => items.iter().map(of).collect(),
        _ => vec![of(&node)],
    }
}

type Identity = fn(&Node) -> Option<String>;

/// By what an entry of the list at `path` replaces another.
pub(super) fn identity(path: &[String]) -> Option<Identity> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let ["services", _, rest @ ..] = path.as_slice() else {
        return None;
    };
    match rest {
        ["volumes" | "devices"] => Some(target),
        ["ports"] => Some(port),
        ["secrets"] => Some(|node| granted(node, "/run/secrets/")),
        ["configs"] => Some(|node| granted(node, "/")),
        ["env_file"] => Some(|node| text(node.get("path").unwrap_or(node))),
        [
            "cap_add"
            | "cap_drop"
            | "device_cgroup_rules"
            | "dns"
            | "dns_opt"
            | "dns_search"
            | "expose"
            | "external_links"
            | "extra_hosts"
            | "group_add"
            | "links"
            | "profiles"
            | "security_opt"
            | "tmpfs",
        ]
        | ["networks", _, "aliases" | "link_local_ips"]
        | ["build", "tags" | "platforms" | "extra_hosts"] => Some(text),
        _ => None,
    }
}

fn text(node: &Node) -> Option<String> {
    node.as_text().map(str::to_owned)
}

/// Where a volume or device is inside of the container.
fn target(node: &Node) -> Option<String> {
    let target = match node.as_text() {
        Some(short) => short.split(':').nth(1).unwrap_or(short),
        None => node.get("target")?.as_text()?,
    };
    Some(target.trim_end_matches('/').to_owned())
}

/// A secret or config by the file that it becomes.
fn granted(node: &Node, directory: &str) -> Option<String> {
    let target = node.get("target").or_else(|| node.get("source"));
    let target = target.unwrap_or(node).as_text()?;
    Some(match target.starts_with('/') {
        true => target.to_owned(),
        false => format!("{directory}{target}"),
    })
}

/// Address, published port, port inside and protocol, each as written.
fn port(node: &Node) -> Option<String> {
    let of = |name: &str| node.get(name).and_then(Node::as_text).unwrap_or_default();
    let (host, published, target, protocol) = match node.as_text() {
        Some(short) => {
            let (rest, protocol) = short.rsplit_once('/').unwrap_or((short, ""));
            let (rest, target) = rest.rsplit_once(':').unwrap_or(("", rest));
            let (host, published) = rest.rsplit_once(':').unwrap_or(("", rest));
            (host, published, target, protocol)
        }
        None => (of("host_ip"), of("published"), of("target"), of("protocol")),
    };
    let or = |text: &str, default: &str| match text.is_empty() {
        true => default.to_owned(),
        false => text.to_owned(),
    };
    let host = or(host, "0.0.0.0");
    Some(format!(
        "{host}:{published}:{target}/{}",
        or(protocol, "tcp")
    ))
}
