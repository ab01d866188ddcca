//! `links`: today services of an app know each other by name, and one waits for another by
//! `depends_on`.

use super::{Work, is_empty, key, map, retain, words};
use crate::compose::node::{Node, Value};
use crate::compose::source::Place;

/// Keeps of `links` what gives a name of its own; what is left of the others is that one service
/// starts after another.
pub(super) fn replace(work: &mut Work) {
    for name in work.service_names() {
        let links = work.service(&name).and_then(|s| s.get_mut("links"));
        let Some(links) = links else { continue };
        let all = words(links);
        retain(links, gives_a_name);
        for (link, place) in all {
            one(work, &name, &link, place);
        }
        if let Some(service) = work.service(&name)
            && service.get("links").is_some_and(is_empty)
        {
            service.remove("links");
        }
    }
}

/// `db:database` does, `db` and `db:db` do not.
fn gives_a_name(link: &str) -> bool {
    link.split_once(':').is_some_and(|(to, alias)| to != alias)
}

fn one(work: &mut Work, name: &str, link: &str, place: Place) {
    let to = link.split(':').next().unwrap_or(link);
    if work.service(to).is_none() {
        let path = format!("services.{name}.links");
        let why = format!("there is no service {to:?}");
        return work.refuse(place, &path, &why, "name one of this file, or drop it");
    }
    // One with a name of its own is waited for as well.
    if gives_a_name(link) {
        return;
    }
    if let Some(service) = work.service(name) {
        wait(service, to, place);
    }
    let was = format!("{name}.links {link}");
    let now = format!("{name}.depends_on {to}");
    let why = "services of an app know each other by name; it starts once that one runs";
    work.now(place, was, now, why);
}

/// Adds to `depends_on`, in the form that it has.
fn wait(service: &mut Node, on: &str, place: Place) {
    let text = Node::text(on, place);
    if let Some(node) = service.get_mut("depends_on") {
        let is_said = words(node).iter().any(|(name, _)| name == on);
        match &mut node.value {
            _ if is_said => {}
            Value::List(items) => items.push(text),
            Value::Map(entries) => {
                let started = Node::text("service_started", place);
                let condition = map(vec![(key("condition", place), started)], place);
                entries.push((key(on, place), condition));
            }
            // The reader says what is wrong with it.
            Value::Null | Value::Scalar { .. } => {}
        }
        return;
    }
    let Some(entries) = service.entries_mut() else {
        return;
    };
    let at = entries.iter().position(|(key, _)| key.name == "links");
    let list = Node::new(Value::List(vec![text]), place);
    entries.insert(
        at.unwrap_or(entries.len()),
        (key("depends_on", place), list),
    );
}
