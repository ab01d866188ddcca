//! Names of services: today's are names of hosts, too.

use std::collections::BTreeSet;

use longshore_model::ServiceName;

use super::{Work, words};
use crate::compose::node::{Node, Value};
use crate::compose::source::Place;
use crate::compose::tame_name;

/// Keys of services that name other services.
const NAMING: [&str; 3] = ["depends_on", "volumes_from", "extends"];

pub(super) fn rename(work: &mut Work) {
    let names = work.service_names();
    let mut taken: BTreeSet<String> = names.iter().cloned().collect();
    for old in &names {
        if ServiceName::new(old).is_ok() {
            continue;
        }
        let new = tame_name(old);
        let entry = work.services().into_iter().flatten();
        let mut entry = entry.filter(|(key, _)| key.name == *old);
        let place = entry
            .next()
            .map_or_else(Place::default, |(key, _)| key.place);
        if !taken.insert(new.clone()) {
            let why = format!("{old:?} is no name of a service today, and {new:?} is taken");
            let path = format!("services.{old}");
            work.refuse(place, &path, &why, "give it another name");
            continue;
        }
        for (key, service) in work.services().into_iter().flatten() {
            if key.name == *old {
                key.name.clone_from(&new);
            }
            // Who linked it goes on to know it by its old name.
            if let Some(links) = service.get_mut("links") {
                each_name(
                    links,
                    old,
                    &format!("{new}:{}", old.to_ascii_lowercase()),
                    &new,
                );
            }
            for naming in NAMING {
                if let Some(node) = service.get_mut(naming) {
                    each_name(node, old, &new, &new);
                }
            }
        }
        let why = format!(
            "names hold letters, digits, '-' and '_'; who linked it knows it as {old:?} still, others must say {new:?} now"
        );
        let was = format!("service {old}");
        work.look(place, was, Some(format!("service {new}")), &why);
    }
}

/// Puts the new name where the old one is: `alone` for `old`, a key and `extends.service`, `new` in
/// `old:alias`.
fn each_name(node: &mut Node, old: &str, alone: &str, new: &str) {
    let renamed = |text: &mut String| {
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) => (name.to_owned(), Some(rest.to_owned())),
            None => (text.clone(), None),
        };
        if name == old {
            *text = match rest {
                Some(rest) => format!("{new}:{rest}"),
                None => alone.to_owned(),
            };
        }
    };
    if words(node).is_empty() {
        return;
    }
    match &mut node.value {
        Value::Scalar { text, .. } => renamed(text),
        Value::List(items) => {
            for item in items {
                if let Value::Scalar { text, .. } = &mut item.value {
                    renamed(text);
                }
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                renamed(&mut key.name);
                if let (true, Value::Scalar { text, .. }) =
                    (key.name == "service", &mut value.value)
                {
                    renamed(text);
                }
            }
        }
        Value::Null => {}
    }
}
