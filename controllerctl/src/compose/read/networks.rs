//! `networks` and `links`: which services see which, and by which names. There is no overlay
//! network: what only an interface of its own could do is refused.

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::ServiceName;
use longshore_model::networks::{
    ALIASES_MAX, DEFAULT, Fault, LINKS_MAX, NETWORKS_MAX, Services, faults, is_alias, is_network,
    share,
};

use super::super::node::Value;
use super::super::problem::{Problems, did_you_mean};
use super::item::{Fields, Item};
use super::keys;

/// The networks of a file.
pub(super) struct Networks<'a> {
    names: BTreeSet<String>,
    item: Option<Item<'a>>,
}

/// Whom a service sees.
#[derive(Default)]
pub(super) struct Sight {
    pub(super) networks: BTreeMap<String, BTreeSet<String>>,
    pub(super) links: BTreeMap<String, ServiceName>,
}

/// Reads `networks` at the top.
pub(super) fn top<'a>(item: Option<Item<'a>>, p: &mut Problems) -> Networks<'a> {
    let mut names = BTreeSet::from([DEFAULT.to_owned()]);
    let entries = item.as_ref().and_then(|item| item.entries(p));
    for (key, network) in entries.unwrap_or_default() {
        if !is_network(&key.name) {
            let message = format!("{:?} is no name of a network", key.name);
            network.invalid_help(p, message, "write letters, digits, _ . -");
        }
        names.insert(key.name.clone());
        if !matches!(network.node.value, Value::Null) {
            options(&network, p);
        }
    }
    Networks { names, item }
}

fn options(network: &Item<'_>, p: &mut Problems) {
    let Some(mut fields) = network.fields(p) else {
        return;
    };
    if let Some(item) = fields.take("driver")
        && let Some(driver) = item.text(p)
    {
        match driver {
            "" | "default" | "bridge" | "overlay" => item.note(
                p,
                "driver",
                "nothing follows from it: services see each other on all nodes, by name",
            ),
            _ => item.unsupported(p, "containers are on the bridge of their node's engine"),
        }
    }
    if let Some(item) = fields.take("driver_opts") {
        for (name, (_, entry)) in item.table(p) {
            match name.as_str() {
                "encrypted" => entry.note(
                    p,
                    "driver",
                    "nothing follows from it: what goes from node to node is always encrypted",
                ),
                _ => entry.unsupported(p, "there is no network device to set this of"),
            }
        }
    }
    if let Some(item) = fields.filled("name")
        && item.word(p).is_some()
    {
        let message = "no engine has a network of this name, and other apps do not share it";
        item.note(p, "network_name", message);
    }
    if let Some(item) = fields.take("attachable")
        && item.boolean(p) == Some(true)
    {
        let message = "only services of this app are on it: `docker run --network` is not";
        item.note(p, "attachable", message);
    }
    if let Some(item) = fields.take("labels")
        && !item.pairs(p).is_empty()
    {
        item.note(
            p,
            "labels",
            "nothing bears them: no engine has this network",
        );
    }
    refused(&mut fields, p);
    fields.finish(p, &[]);
}

/// What would be a lie if it were taken.
fn refused(fields: &mut Fields<'_>, p: &mut Problems) {
    let mut flag = |name, bad, reason, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        let Some(item) = item else { return };
        if item.boolean(p) == Some(bad) {
            item.unsupported(p, reason);
        }
    };
    let internal = "containers reach whatever their node reaches; close it at the node's firewall";
    flag("internal", true, internal, p);
    flag("enable_ipv6", true, "names lead to IPv4 addresses", p);
    flag("enable_ipv4", false, "names lead to IPv4 addresses", p);
    if let Some(item) = fields.take("external") {
        let is_external = match item.is_map() {
            true => true,
            false => item.boolean(p) == Some(true),
        };
        if is_external {
            item.unsupported(
                p,
                "services see those of their own app: put them into one app, or reach the others \
                 by their published port",
            );
        }
    }
    if let Some(item) = fields.take("ipam") {
        ipam(&item, p);
    }
}

/// Without addresses it asks for nothing.
fn ipam(item: &Item<'_>, p: &mut Problems) {
    let Some(mut fields) = item.fields(p) else {
        return;
    };
    let driver = fields.take("driver").and_then(|item| item.text(p));
    let mut asks = driver.is_some_and(|driver| !["", "default"].contains(&driver));
    for block in fields.take("config").map_or_else(Vec::new, |i| i.items(p)) {
        let Some(mut block) = block.fields(p) else {
            continue;
        };
        for name in ["subnet", "ip_range", "gateway"] {
            asks |= block.take(name).is_some_and(|item| item.text(p).is_some());
        }
        let others = block.take("aux_addresses");
        asks |= others.is_some_and(|item| !item.table(p).is_empty());
        block.finish(p, &[]);
    }
    let options = fields.take("options");
    asks |= options.is_some_and(|item| !item.table(p).is_empty());
    fields.finish(p, &[]);
    if asks {
        item.unsupported(p, "the engine of each node gives its containers addresses");
    }
}

/// Reads `networks` and `links` of a service.
pub(super) fn service(fields: &mut Fields<'_>, known: &Networks<'_>, p: &mut Problems) -> Sight {
    let mut sight = Sight::default();
    if let Some(item) = fields.take("networks") {
        sight.networks = attachments(&item, known, p);
        if fields.has("network_mode") && !sight.networks.is_empty() {
            let message = "network_mode and networks cannot stand side by side";
            item.invalid_help(p, message, "keep one of the two");
        }
    }
    if let Some(item) = fields.take("links") {
        sight.links = links(&item, p);
    }
    sight
}

fn attachments(
    item: &Item<'_>,
    known: &Networks<'_>,
    p: &mut Problems,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut networks = BTreeMap::new();
    let mut add = |name: String, at: &Item<'_>, aliases, p: &mut Problems| {
        if !known.names.contains(&name) {
            let message = format!("network {name:?} is not described in this file");
            let near = keys::nearest(&name, known.names.iter().map(String::as_str));
            let help = match near {
                Some(near) => did_you_mean(near),
                None => format!("add at the top of the file: networks: {{ {name}: {{}} }}"),
            };
            at.undefined(p, message, help);
        }
        networks.insert(name, aliases);
    };
    if item.is_map() {
        for (key, network) in item.entries(p).unwrap_or_default() {
            let aliases = attachment(&network, p);
            add(key.name.clone(), &network, aliases, p);
        }
    } else {
        for entry in item.items(p) {
            if let Some(name) = entry.word(p) {
                add(name, &entry, BTreeSet::new(), p);
            }
        }
    }
    let aliases: usize = networks.values().map(BTreeSet::len).sum();
    if networks.len() > NETWORKS_MAX || aliases > ALIASES_MAX {
        let message = format!(
            "{} networks with {aliases} aliases; at most {NETWORKS_MAX} with {ALIASES_MAX}",
            networks.len()
        );
        item.invalid(p, message);
    }
    networks
}

/// What a service says of one of its networks: its further names there.
fn attachment(network: &Item<'_>, p: &mut Problems) -> BTreeSet<String> {
    let mut aliases = BTreeSet::new();
    if matches!(network.node.value, Value::Null) {
        return aliases;
    }
    let Some(mut fields) = network.fields(p) else {
        return aliases;
    };
    if let Some(item) = fields.take("aliases") {
        for entry in item.items(p) {
            aliases.extend(host(&entry, p));
        }
    }
    for name in ["priority", "gw_priority"] {
        let Some(item) = fields.take(name) else {
            continue;
        };
        match item.text(p).map(str::parse::<f64>) {
            Some(Err(_)) => item.invalid(p, "must be a number"),
            _ => item.note(
                p,
                "priority",
                "nothing follows from it: there is one network device",
            ),
        }
    }
    fields.finish(p, keys::ATTACHMENT);
    aliases
}

/// A name that resolvers find.
fn host(item: &Item<'_>, p: &mut Problems) -> Option<String> {
    let name = item.word(p)?.to_ascii_lowercase();
    if is_alias(&name) {
        return Some(name);
    }
    let help = "write letters, digits, - and _, with dots between";
    item.invalid_help(p, format!("{name:?} is no name of a host"), help);
    None
}

/// `SERVICE` or `SERVICE:ALIAS`.
fn links(item: &Item<'_>, p: &mut Problems) -> BTreeMap<String, ServiceName> {
    let mut links = BTreeMap::new();
    for entry in item.items(p) {
        let Some(text) = entry.word(p) else { continue };
        let (to, alias) = text.split_once(':').unwrap_or((&text, &text));
        let alias = alias.to_ascii_lowercase();
        match ServiceName::new(to) {
            Err(error) => entry.invalid(p, error.to_string()),
            Ok(_) if !is_alias(&alias) => {
                let help = "write SERVICE or SERVICE:NAME, for example db:store";
                entry.invalid_help(p, format!("{alias:?} is no name of a host"), help);
            }
            Ok(to) => {
                if let Some(other) = links.insert(alias.clone(), to.clone())
                    && other != to
                {
                    let message = format!("{alias:?} is the name of {other} and of {to}");
                    entry.invalid_help(p, message, "one name leads to one service");
                }
            }
        }
    }
    if links.len() > LINKS_MAX {
        let message = format!("{} links; at most {LINKS_MAX}", links.len());
        item.invalid(p, message);
    }
    links
}

/// What can be said once all services are known.
pub(super) fn check(
    known: &Networks<'_>,
    services: &Services,
    items: &BTreeMap<ServiceName, Item<'_>>,
    p: &mut Problems,
) {
    for fault in faults(services) {
        let (at, key) = fault.at();
        let Some(item) = items.get(at) else { continue };
        // One that could not be read has its own words.
        let is_unread = |to| items.contains_key(to) || p.is_partial();
        if matches!(&fault, Fault::LinkToNobody { to, .. } if is_unread(to)) {
            continue;
        }
        // Whoever is on which networks: it may be another thing once they are read.
        let has_wrong_networks = |name| p.has_errors_at(&format!("services.{name}.networks"));
        let is_wrong = fault.services().into_iter().any(has_wrong_networks);
        if is_wrong && !matches!(&fault, Fault::LinkToNobody { .. }) {
            continue;
        }
        let text = fault.to_string();
        let text = text
            .split_once(": ")
            .map_or(text.as_str(), |(_, text)| text);
        item.at(key).invalid(p, text);
    }
    let mut all = services.values();
    let apart = all.any(|a| services.values().any(|b| !share(a, b)));
    if let (Some(item), true) = (&known.item, apart) {
        let message = "they say who knows whose name; they keep nobody from an address";
        item.note(p, "networks", message);
    }
}
