//! What differs between two specs of a service, a line for each field.

use std::collections::BTreeSet;

use longshore_model::ServiceSpec;
use serde_json::{Map, Value};

/// Lines of differences said of one service.
const DETAILS_MAX: usize = 64;
/// Longest list that is said as a whole, in characters.
const WHOLE_CHARS_MAX: usize = 120;
/// Longest text of an item that came or went, in characters.
const ITEM_CHARS_MAX: usize = 160;
/// Fields that tell the items of a list apart, as people name them: ways in by their port, mounts by
/// their place, schedules by their name.
const KEYS: [&str; 3] = ["listen_port", "target", "name"];

/// `field: old -> new`, one line each.
pub(super) fn differences(old: &ServiceSpec, new: &ServiceSpec) -> Vec<String> {
    let mut hidden = Vec::new();
    let mut json = |spec: &ServiceSpec| {
        let mut json = serde_json::to_value(spec).unwrap_or(Value::Null);
        hide("", &mut json, &mut hidden);
        // Templates by their hashes tell nobody anything.
        if let Some(container) = json.get_mut("container").and_then(Value::as_object_mut) {
            container.remove("job");
        }
        json
    };
    let runs = (&old.container.job, &new.container.job);
    let (old, new) = (json(old), json(new));
    let mut lines = Vec::new();
    compare("", &old, &new, &mut lines);
    if let (Some(was), Some(now)) = runs
        && was != now
    {
        lines.push("runs again: a service that waits for it changes".to_owned());
    }
    if lines.len() > DETAILS_MAX {
        let more = lines.len() - (DETAILS_MAX - 1);
        lines.truncate(DETAILS_MAX - 1);
        lines.push(format!("{more} more differences"));
    }
    lines
}

/// Options of log and volume drivers may be passwords: which of them are the same is enough.
fn hide(path: &str, value: &mut Value, hidden: &mut Vec<Value>) {
    let is_secret = path.ends_with(".log.options") || path.ends_with(".driver_opts");
    match value {
        Value::Object(fields) => {
            if path.ends_with(".files") {
                shorten(fields);
            }
            for (name, value) in fields {
                if is_secret {
                    let known = hidden.iter().position(|known| known == value);
                    let number = known.unwrap_or(hidden.len());
                    if known.is_none() {
                        hidden.push(value.clone());
                    }
                    *value = format!("(hidden {})", number + 1).into();
                } else {
                    hide(&format!("{path}.{name}"), value, hidden);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(path, item, hidden)),
        _ => {}
    }
}

/// A secret or config as people read it.
fn shorten(file: &mut Map<String, Value>) {
    if let Some(digest) = file.get("digest").and_then(Value::as_str) {
        let short = digest.get(..12).unwrap_or_default();
        let short = format!("sha256:{short}");
        file.insert("digest".to_owned(), short.into());
    }
    if let Some(mode) = file.get("mode").and_then(Value::as_u64) {
        file.insert("mode".to_owned(), format!("{mode:04o}").into());
    }
}

fn compare(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(a), Value::Object(b)) => objects(path, a, b, lines),
        (Value::Array(a), Value::Array(b)) => lists(path, a, b, lines),
        (old, new) => lines.push(format!("{path}: {old} -> {new}")),
    }
}

fn objects(path: &str, a: &Map<String, Value>, b: &Map<String, Value>, lines: &mut Vec<String>) {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys {
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        let (old, new) = (a.get(key), b.get(key));
        // Values of the environment may be secrets: which one changed is enough.
        if path.starts_with("container.env.") && old != new {
            lines.push(format!("{path}: changed"));
        } else {
            let (old, new) = (old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null));
            compare(&path, old, new, lines);
        }
    }
}

/// Items by what tells them apart, else each with the one in its place.
fn lists(path: &str, a: &[Value], b: &[Value], lines: &mut Vec<String>) {
    let key = KEYS.iter().find(|key| names(a, key) && names(b, key));
    if let Some(key) = key {
        return named(path, key, a, b, lines);
    }
    let is_plain = |list: &[Value]| {
        list.iter()
            .all(|item| !item.is_object() && !item.is_array())
    };
    let (old, new) = (Value::from(a), Value::from(b));
    let chars = [&old, &new].map(|list| list.to_string().chars().count());
    match is_plain(a) && is_plain(b) {
        true if chars.iter().all(|chars| *chars <= WHOLE_CHARS_MAX) => {
            lines.push(format!("{path}: {old} -> {new}"));
        }
        true if is_set(a) && is_set(b) => members(path, a, b, lines),
        _ => places(path, a, b, lines),
    }
}

/// Does this field tell the items of a list apart?
fn names(list: &[Value], key: &str) -> bool {
    let name = |item: &Value| Some(item.as_object()?.get(key)?.to_string());
    let names: Option<BTreeSet<String>> = list.iter().map(name).collect();
    names.is_some_and(|names| names.len() == list.len())
}

/// Is each item there once?
fn is_set(list: &[Value]) -> bool {
    let items: BTreeSet<String> = list.iter().map(ToString::to_string).collect();
    items.len() == list.len()
}

fn named(path: &str, key: &str, a: &[Value], b: &[Value], lines: &mut Vec<String>) {
    let name = |item: &Value| match &item[key] {
        Value::String(name) => name.clone(),
        name => name.to_string(),
    };
    let of = |list: &[Value], item: &Value| {
        let mut list = list.iter();
        list.find(|other| other[key] == item[key]).cloned()
    };
    for old in a {
        let path = format!("{path}[{}]", name(old));
        match of(b, old) {
            Some(new) => compare(&path, old, &new, lines),
            None => lines.push(format!("{path}: removed")),
        }
    }
    for new in b.iter().filter(|new| of(a, new).is_none()) {
        let said = item(new, Some(key));
        lines.push(format!("{path}[{}]: added {said}", name(new)));
    }
    let order = |list: &[Value], others: &[Value]| -> Vec<String> {
        let both = list.iter().filter(|item| of(others, item).is_some());
        both.map(name).collect()
    };
    if order(a, b) != order(b, a) {
        lines.push(format!("{path}: in another order"));
    }
}

/// Words that came and went.
fn members(path: &str, a: &[Value], b: &[Value], lines: &mut Vec<String>) {
    let before = lines.len();
    for (word, list, others) in [("removed", a, b), ("added", b, a)] {
        let gone = list.iter().filter(|item| !others.contains(item));
        lines.extend(gone.map(|gone| format!("{path}: {word} {}", item(gone, None))));
    }
    if lines.len() == before {
        lines.push(format!("{path}: in another order"));
    }
}

fn places(path: &str, a: &[Value], b: &[Value], lines: &mut Vec<String>) {
    for place in 0..a.len().max(b.len()) {
        let path = format!("{path}[{place}]");
        match (a.get(place), b.get(place)) {
            (Some(old), Some(new)) => compare(&path, old, new, lines),
            (Some(old), None) => lines.push(format!("{path}: removed {}", item(old, None))),
            (None, new) => {
                let said = new.map(|new| item(new, None)).unwrap_or_default();
                lines.push(format!("{path}: added {said}"));
            }
        }
    }
}

/// What an item says beside its name and what is so by itself, not without end.
fn item(value: &Value, key: Option<&str>) -> String {
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        // Of those in which nothing is said either.
        Value::Object(fields) => fields.values().any(|field| *field != 0),
    };
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.retain(|name, field| Some(name.as_str()) != key && says(field));
    }
    let text = value.to_string();
    match text.chars().count() > ITEM_CHARS_MAX {
        true => text.chars().take(ITEM_CHARS_MAX).chain(['…']).collect(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use longshore_model::route::{Balance, RouteSpec};
    use longshore_model::spec::Mount;

    use super::*;
    use crate::testing::service_spec;

    fn mount(source: &str, target: &str) -> Mount {
        Mount {
            source: source.into(),
            target: target.into(),
            ..Mount::default()
        }
    }

    #[test]
    fn a_route_is_named_by_its_port_and_a_mount_by_its_place() {
        let mut old = service_spec();
        old.routes.push(RouteSpec::new(8391, 8080));
        old.routes.push(RouteSpec::new(81, 8080));
        old.container.mounts = vec![mount("a", "/a"), mount("b", "/b")];
        let mut new = old.clone();
        new.routes.remove(2);
        new.routes[1].balance = Balance::Random;
        new.routes[1].timeouts.server_ms = 7_000;
        new.routes.insert(0, RouteSpec::new(443, 8080));
        new.routes[0].tls = vec!["cert".into()];
        new.container.mounts.reverse();
        new.container.mounts[0].source = "c".into();
        let said = [
            r#"container.mounts[/b].source: "b" -> "c""#,
            "container.mounts: in another order",
            r#"routes[8391].balance: "roundrobin" -> "random""#,
            "routes[8391].timeouts.server_ms: 0 -> 7000",
            "routes[81]: removed",
            r#"routes[443]: added {"balance":"roundrobin","container_port":8080,"mode":"http","tls":["cert"],"weights":"equal"}"#,
        ];
        let lines = differences(&old, &new);
        assert_eq!(lines, said);
        assert!(differences(&old, &old).is_empty());
    }

    #[test]
    fn a_long_list_is_said_by_what_came_and_went() {
        let mut old = service_spec();
        let names = (0..40).map(|n| format!("host{n}.shop.example.com"));
        old.routes[0].domains = names.collect();
        let mut new = old.clone();
        new.routes[0].domains[3] = "other.example.com".into();
        let said = [
            r#"routes[80].domains: removed "host3.shop.example.com""#,
            r#"routes[80].domains: added "other.example.com""#,
        ];
        assert_eq!(differences(&old, &new), said);
        new.routes[0].domains = old.routes[0].domains.iter().rev().cloned().collect();
        let said = ["routes[80].domains: in another order"];
        assert_eq!(differences(&old, &new), said);
        // A short one as a whole.
        old.routes[0].domains.truncate(1);
        new.routes[0].domains.clear();
        let said = [r#"routes[80].domains: ["host0.shop.example.com"] -> []"#];
        assert_eq!(differences(&old, &new), said);
    }

    #[test]
    fn a_list_without_names_is_compared_place_by_place_and_no_line_is_endless() {
        let mut old = service_spec();
        let mut new = service_spec();
        old.container.command = Some(vec!["x".repeat(500), "same".into()]);
        new.container.command = Some(vec!["x".repeat(500), "same".into(), "y".repeat(500)]);
        let lines = differences(&old, &new);
        let cut = "y".repeat(ITEM_CHARS_MAX - 1);
        assert_eq!(lines, [format!("container.command: added \"{cut}…")]);
        // One that repeats a word has places only.
        new.container.command = Some(vec!["x".repeat(500), "x".repeat(500)]);
        let place = "container.command[1]: \"same\" -> ";
        let lines = differences(&old, &new);
        assert!(
            matches!(&lines[..], [line] if line.starts_with(place)),
            "{lines:?}"
        );
        // Two ways in with one port are told apart by nothing.
        old.routes = vec![RouteSpec::new(80, 1), RouteSpec::new(80, 2)];
        new.routes = vec![RouteSpec::new(80, 1), RouteSpec::new(80, 3)];
        new.container.command.clone_from(&old.container.command);
        let said = ["routes[1].container_port: 2 -> 3"];
        assert_eq!(differences(&old, &new), said);
    }

    #[test]
    fn lines_are_bounded_and_values_of_the_environment_are_not_said() {
        let (mut old, mut new) = (service_spec(), service_spec());
        old.container.env = [("KEY".to_owned(), "old secret".to_owned())].into();
        new.container.env = [("KEY".to_owned(), "new secret".to_owned())].into();
        assert_eq!(differences(&old, &new), ["container.env.KEY: changed"]);
        for port in 1_000..1_100 {
            new.routes.push(RouteSpec::new(port, 8080));
        }
        let lines = differences(&old, &new);
        assert_eq!(lines.len(), DETAILS_MAX);
        assert_eq!(lines.last().unwrap(), "38 more differences");
    }

    #[test]
    fn options_of_drivers_are_not_said() {
        let mut old = service_spec();
        let log = |token: &str| {
            Some(longshore_model::spec::LogSpec {
                driver: "splunk".into(),
                options: [("splunk-token".to_owned(), token.to_owned())].into(),
            })
        };
        let without = old.clone();
        old.container.engine.log = log("swordfish");
        let mut new = old.clone();
        new.container.engine.log = log("mackerel");
        let said = differences(&old, &new);
        assert_eq!(
            said,
            [r#"container.engine.log.options.splunk-token: "(hidden 1)" -> "(hidden 2)""#]
        );
        let added = differences(&without, &new).join("; ");
        assert!(!added.contains("mackerel"), "{added}");
        assert!(differences(&new, &new).is_empty());
    }
}
