//! From the node tree to services: everything that is wrong is collected, nothing is guessed.

mod autoscale;
mod build;
mod build_secrets;
mod container;
mod depends;
mod deploy;
mod engine;
mod files;
pub(super) mod fragments;
mod haproxy;
mod health;
mod item;
mod job;
pub(super) mod keys;
mod limits;
mod networks;
mod placement;
mod ports;
mod secrets;
mod service;
mod shape;
mod update;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::spec::{ContentMap, RouteSpec};
use longshore_model::{SecretName, SecretText, ServiceName, ServiceSpec};

use super::Here;
use super::build::Build;
use super::interpolate::Variables;
use super::node::{Key, Node, Value};
use super::problem::{Level, Problems, UNKNOWN_KEY, WRONG_TYPE};
use super::source::Place;
use files::Files;
use item::{Item, join};
use networks::Networks;
use volumes::TopVolume;

/// Most services of one app, as the wire allows.
const SERVICES_MAX: usize = 256;

/// What a document asks for.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// `name`, if it has one.
    pub(super) name: Option<String>,
    /// `x-context`, if it has one.
    pub(super) context: Option<String>,
    /// The services, of those with errors what could be read.
    pub(super) services: BTreeMap<ServiceName, ServiceSpec>,
    /// How images of theirs are built.
    pub(super) builds: BTreeMap<ServiceName, Build>,
    /// Certificates that they name.
    pub(super) secrets: BTreeMap<SecretName, SecretText>,
    /// Contents of the files that their containers are given.
    pub(super) contents: ContentMap,
}

/// What all services of a file share.
struct Shared<'a> {
    app: &'a str,
    here: &'a Here,
    variables: &'a Variables,
    volumes: BTreeMap<String, TopVolume>,
    networks: Networks<'a>,
    files: Files<'a>,
    /// Services whose end others wait for.
    awaited: BTreeSet<String>,
}

/// Reads a whole document. `app` is the app's name, which named volumes carry; `left_out` are
/// services that nobody asked for.
pub(super) fn document(
    (node, left_out): (&Node, &[(Key, Node)]),
    app: &str,
    (here, variables): (&Here, &Variables),
    p: &mut Problems,
) -> Document {
    let mut document = Document::default();
    let root = Item::root(node);
    if matches!(node.value, Value::Null) {
        p.error("empty", node.place, "", "the file is empty")
            .help("controllerctl init writes one to start from")
            .file();
        return document;
    }
    shape::check(&root, p);
    let Some(mut fields) = root.fields(p) else {
        return document;
    };
    if let Some(item) = fields.take("version")
        && item.text(p).is_some()
    {
        p.warn("obsolete", item.key, &item.path, "obsolete; it is ignored")
            .label("drop it")
            .file();
    }
    document.name = fields.take("name").and_then(|item| item.word(p));
    document.context = fields.take("x-context").and_then(|item| item.word(p));
    let networks = networks::top(fields.take("networks"), p);
    let volumes = volumes::top(fields.take("volumes"), app, p);
    // What it names is here already.
    fields.take("include");
    let files = files::top(&mut fields, here, variables, p);
    let services = fields.take("services");
    if services.is_none() {
        v1_or_missing(node, p);
        return document;
    }
    fields.finish(p, keys::TOP);
    let shared = Shared {
        app,
        here,
        variables,
        volumes,
        networks,
        files,
        awaited: job::awaited(node.get("services")),
    };
    let Some(entries) = services.and_then(|item| service_entries(&item, p)) else {
        return document;
    };
    if entries.is_empty() && !p.is_partial() {
        root.invalid(p, "there are no services");
    }
    each(entries, &shared, &mut document, p);
    shapes(left_out, &shared, p);
    let files = (&shared.files, here.now);
    document.secrets = secrets::read(&root, &document.services, files, p);
    document.contents = shared.files.into_contents();
    document
}

/// None: they are none, or too many, which is said.
fn service_entries<'a>(item: &Item<'a>, p: &mut Problems) -> Option<Vec<(&'a Key, Item<'a>)>> {
    if let Value::Map(entries) = &item.node.value
        && entries.len() > SERVICES_MAX
    {
        let message = format!("{} services; at most {SERVICES_MAX}", entries.len());
        item.invalid_help(p, message, "make several apps of them");
        return None;
    }
    item.entries(p)
}

/// Says what the specification has against services that are left out. What they mean is not
/// looked at: files that they name may be missing.
fn shapes<'a>(left_out: &'a [(Key, Node)], shared: &Shared<'a>, p: &mut Problems) {
    const CODES: [&str; 5] = ["empty", "misplaced_key", "twice", WRONG_TYPE, UNKNOWN_KEY];
    let mut all = Problems::new(true);
    shared.files.aside(|| {
        for (key, node) in left_out {
            let item = Item {
                node,
                path: join("services", &key.name),
                key: key.place,
            };
            shape::service(&item, &mut all);
            service::read(&item, shared, &mut all);
        }
    });
    let wrong = all.into_sorted().into_iter();
    wrong
        .filter(|problem| CODES.contains(&problem.code) && problem.level == Level::Error)
        .for_each(|problem| p.push(problem));
}

/// Reads the services, and what can be said once all of them are known.
fn each<'a>(
    entries: Vec<(&'a Key, Item<'a>)>,
    shared: &Shared<'a>,
    document: &mut Document,
    p: &mut Problems,
) {
    let (mut listeners, mut items) = (Vec::new(), BTreeMap::new());
    for (key, item) in entries {
        let name = match ServiceName::new(key.name.as_str()) {
            Ok(name) => Some(name),
            Err(error) => {
                let help = format!(
                    "rename it, for example to `{}`",
                    super::tame_name(&key.name)
                );
                p.error("name", key.place, &item.path, error.to_string())
                    .help(help)
                    .file();
                None
            }
        };
        let spec = service::read(&item, shared, p);
        let Some(name) = name else { continue };
        if let Some((spec, build)) = spec {
            listeners.push((name.clone(), item.key));
            document
                .builds
                .extend(build.map(|build| (name.clone(), build)));
            document.services.insert(name.clone(), spec);
        }
        items.insert(name, item);
    }
    let services = document.services.iter();
    let services = services
        .map(|(name, spec)| (name.clone(), Arc::new(spec.clone())))
        .collect();
    networks::check(&shared.networks, &services, &items, p);
    depends::check(&services, &items, p);
    container_names(&items, p);
    port_clashes(document, &listeners, p);
}

/// A file without `services:` is a v1 file if its entries look like services.
fn v1_or_missing(node: &Node, p: &mut Problems) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    let old = entries
        .iter()
        .find(|(_, n)| n.get("image").is_some() || n.get("build").is_some());
    match old {
        None if p.is_partial() => {}
        Some((key, _)) => p
            .error(
                "v1",
                key.place,
                "",
                "this is a Compose file of version 1: it has no `services:`",
            )
            .label("this is a service")
            .help("put `services:` above and indent the rest")
            .file(),
        None => {
            p.error(
                "no_services",
                node.place,
                "",
                "there is no `services:` in the file",
            )
            .file();
        }
    }
}

/// No two services have one `container_name`: a file with that is a mistake, here as in Compose.
fn container_names(items: &BTreeMap<ServiceName, Item<'_>>, p: &mut Problems) {
    let mut taken: BTreeMap<&str, &ServiceName> = BTreeMap::new();
    for (service, item) in items {
        let name = item.node.get("container_name").and_then(Node::as_text);
        let Some(name) = name else { continue };
        if let Some(other) = taken.insert(name, service) {
            let message = format!("service `{other}` has the container_name {name:?}, too");
            let help = "give each its own, or drop both";
            item.at("container_name").invalid_help(p, message, help);
        }
    }
}

/// Two services cannot have the same way in.
fn port_clashes(document: &Document, listeners: &[(ServiceName, Place)], p: &mut Problems) {
    let mut taken: Vec<(&ServiceName, &RouteSpec)> = Vec::new();
    // What would tell them apart may be in what could not be read.
    let wrong: BTreeSet<&ServiceName> = listeners
        .iter()
        .map(|(name, _)| name)
        .filter(|name| p.has_errors_at(&join("services", &format!("{name}.x-haproxy"))))
        .collect();
    for (name, place) in listeners.iter().filter(|(name, _)| !wrong.contains(name)) {
        let Some(spec) = document.services.get(name) else {
            continue;
        };
        for route in &spec.routes {
            let others = taken.iter().filter(|(other, _)| *other != name);
            let clash = others.filter_map(|(other, taken)| Some((other, route.clash(taken)?)));
            if let Some((other, clash)) = clash.into_iter().next() {
                let path = join("services", name.as_str());
                let port = route.listen_port;
                let message =
                    format!("port {port} is already taken by service `{other}` ({clash})");
                let help = "publish another port, or tell HTTP services apart by \
                            x-haproxy.domains or x-haproxy.path";
                p.error("port_clash", *place, &path, message)
                    .help(help)
                    .file();
            }
            taken.push((name, route));
        }
    }
}
