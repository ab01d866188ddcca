//! `depends_on`: whom a service waits for.

use std::collections::BTreeMap;

use longshore_model::ServiceName;
use longshore_model::depends::{DEPENDS_MAX, Fault, Until, faults};
use longshore_model::networks::Services;

use super::super::problem::{Problems, did_you_mean};
use super::item::{Fields, Item};
use super::{job, keys};

const CONDITIONS: [(&str, Until); 3] = [
    ("service_started", Until::Started),
    ("service_healthy", Until::Healthy),
    (job::COMPLETED, Until::Completed),
];

/// Reads `depends_on`. A link is one, too.
pub(super) fn read(
    fields: &mut Fields<'_>,
    links: &BTreeMap<String, ServiceName>,
    p: &mut Problems,
) -> BTreeMap<ServiceName, Until> {
    let mut on: BTreeMap<ServiceName, Until> = BTreeMap::new();
    if let Some(item) = fields.take("depends_on") {
        if item.is_map() {
            for (key, entry) in item.entries(p).unwrap_or_default() {
                let name = service(&key.name, &entry, p);
                on.extend(name.zip(entry_of(&entry, p)));
            }
        } else {
            for entry in item.items(p) {
                let name = entry.word(p).and_then(|name| service(&name, &entry, p));
                on.extend(name.map(|name| (name, Until::Started)));
            }
        }
        if on.len() > DEPENDS_MAX {
            let message = format!("{} services; at most {DEPENDS_MAX}", on.len());
            item.invalid(p, message);
        }
    }
    for to in links.values() {
        on.entry(to.clone()).or_insert(Until::Started);
    }
    on
}

fn service(name: &str, at: &Item<'_>, p: &mut Problems) -> Option<ServiceName> {
    let name = ServiceName::new(name).map_err(|error| at.invalid(p, error.to_string()));
    name.ok()
}

/// What is waited for; nothing where it may be missing.
fn entry_of(entry: &Item<'_>, p: &mut Problems) -> Option<Until> {
    let mut fields = entry.fields(p)?;
    let condition = match fields.take("condition") {
        Some(item) => item.choice(p, &CONDITIONS),
        None => {
            let help = "add for example: condition: service_healthy";
            entry.lacks(p, &["condition"], "says no condition", help);
            None
        }
    };
    if let Some(item) = fields.take("restart")
        && item.boolean(p) == Some(true)
    {
        let message = "nothing follows from it: the name leads to whatever runs then";
        item.note(p, "restart", message);
    }
    let required = fields.take("required");
    fields.finish(p, &[]);
    if let Some(item) = required
        && item.boolean(p) == Some(false)
    {
        item.note(p, "optional", "it is not waited for");
        return None;
    }
    condition
}

/// What can be said once all services are known.
pub(super) fn check(
    services: &Services,
    items: &BTreeMap<ServiceName, Item<'_>>,
    p: &mut Problems,
) {
    for fault in faults(services) {
        let Some(item) = items.get(fault.at()) else {
            continue;
        };
        // A link to nobody has its own words.
        let at = match item.has("depends_on") {
            true => item.at("depends_on"),
            false if matches!(fault, Fault::OnNobody { .. }) => continue,
            false => item.at("links"),
        };
        let text = fault.to_string();
        let text = text
            .split_once(": ")
            .map_or(text.as_str(), |(_, text)| text);
        match &fault {
            // One that could not be read, or was left out, has its own words.
            Fault::OnNobody { on, .. }
                if items.contains_key(on) || p.says("profiles", &at.path) => {}
            Fault::OnNobody { on, .. } => {
                let names = items.keys().map(ServiceName::as_str);
                let near = keys::nearest(on.as_str(), names);
                let help = near.map_or_else(|| "drop it, or add the service".into(), did_you_mean);
                at.undefined(p, text, help);
            }
            Fault::Circle { .. } => {
                at.invalid_help(p, text, "one of them must start without the others");
            }
        }
    }
}
