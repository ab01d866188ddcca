//! Variables of a service, in both forms of `environment`.

use crate::compose::node::{Node, Value};
use crate::compose::source::Place;

/// A variable and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Var {
    pub(super) name: String,
    /// None: it is taken from where the command runs.
    pub(super) value: Option<String>,
    pub(super) place: Place,
    /// The service that has it.
    pub(super) of: String,
}

impl Var {
    /// Its value, empty if it has none.
    pub(super) fn text(&self) -> &str {
        self.value.as_deref().unwrap_or_default().trim()
    }

    /// Which it was, for a change that drops it: its value may be a password.
    pub(super) fn named(&self) -> String {
        format!("{}.{}", self.of, self.name)
    }

    /// What it was, for a change.
    pub(super) fn was(&self) -> String {
        format!("{}.{}={}", self.of, self.name, self.text())
    }

    /// Where it was, for a problem.
    pub(super) fn path(&self) -> String {
        format!("services.{}.environment.{}", self.of, self.name)
    }
}

/// All variables of a service.
pub(super) fn all(service: &Node, of: &str) -> Vec<Var> {
    let var = |name: &str, value: Option<&str>, place| Var {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        place,
        of: of.to_owned(),
    };
    match service.get("environment").map(|node| &node.value) {
        Some(Value::List(items)) => items
            .iter()
            .filter_map(|item| {
                let text = item.as_text()?;
                Some(match text.split_once('=') {
                    Some((name, value)) => var(name, Some(value), item.place),
                    None => var(text, None, item.place),
                })
            })
            .collect(),
        Some(Value::Map(entries)) => entries
            .iter()
            .map(|(key, node)| var(&key.name, node.as_text(), key.place))
            .collect(),
        _ => Vec::new(),
    }
}

/// Takes a variable out; an `environment` without any goes with it.
pub(super) fn remove(service: &mut Node, name: &str) {
    let Some(environment) = service.get_mut("environment") else {
        return;
    };
    let is_it = |entry: &str| entry.split('=').next() == Some(name);
    super::retain(environment, |entry| !is_it(entry));
    if super::is_empty(environment) {
        service.remove("environment");
    }
}
