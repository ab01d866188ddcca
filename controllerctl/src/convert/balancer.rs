//! Services that were tutum/haproxy or dockercloud/haproxy: the edges do what they did.

use super::hosts::{self, Hosts};
use super::vars::{self, Var};
use super::{Work, certificates, entry, is_empty, map, ports, retain, settings, words};
use crate::compose::node::{Node, Value};
use crate::compose::source::Place;
use crate::compose::tame_name;

const IMAGES: [&str; 2] = ["tutum/haproxy", "dockercloud/haproxy"];
pub(super) const HTTPS: u16 = 443;
pub(super) const STATS: u16 = 1936;

/// A balancer of the old kind.
pub(super) struct Balancer {
    pub(super) name: String,
    place: Place,
    node: Node,
    vars: Vec<Var>,
    pub(super) fronts: Vec<Front>,
    /// Services behind it.
    behind: Vec<String>,
}

/// A port that it published.
#[derive(Debug, Clone)]
pub(super) struct Front {
    pub(super) place: Place,
    pub(super) text: String,
    /// On the host.
    pub(super) listen: u16,
    /// Inside.
    pub(super) port: u16,
    pub(super) used: bool,
}

/// A service behind a balancer.
pub(super) struct Behind {
    pub(super) name: String,
    pub(super) place: Place,
    /// The balancer's, then its own.
    vars: Vec<Var>,
    pub(super) hosts: Hosts,
}

/// Takes all of them out of the file.
pub(super) fn replace(work: &mut Work) {
    for name in work.service_names() {
        if work
            .service(&name)
            .is_some_and(|service| is_balancer(service))
        {
            one(work, &name);
        }
    }
}

fn is_balancer(service: &Node) -> bool {
    let image = service
        .get("image")
        .and_then(Node::as_text)
        .unwrap_or_default();
    let name = image.split('@').next().unwrap_or_default();
    let tagless = match name.rsplit_once(':') {
        Some((before, after)) if !after.contains('/') => before,
        _ => name,
    };
    let mut known = IMAGES.iter();
    known.any(|known| tagless == *known || tagless.ends_with(&format!("/{known}")))
}

fn one(work: &mut Work, name: &str) {
    let Some(services) = work.tree.get_mut("services") else {
        return;
    };
    let Some((key, node)) = services.remove(name) else {
        return;
    };
    let vars = vars::all(&node, name);
    let mut balancer = Balancer {
        name: name.to_owned(),
        place: key.place,
        fronts: Vec::new(),
        behind: Vec::new(),
        node,
        vars,
    };
    balancer.fronts = fronts(&balancer, work);
    balancer.behind = behind(&balancer, work);
    forget(work, name);
    if balancer.behind.is_empty() {
        let path = format!("services.{name}");
        let why = "the balancer names no service of this file that it serves";
        let help = format!("name them in the old file: services: {{ {name}: {{ links: [web] }} }}");
        return work.refuse(balancer.place, &path, why, &help);
    }
    let image = balancer
        .node
        .get("image")
        .and_then(Node::as_text)
        .unwrap_or_default();
    let was = format!("service {name} ({image})");
    let why = format!("the edges' HAProxy serves {}", balancer.behind.join(", "));
    work.gone(balancer.place, was, &why);
    keys_of(&balancer, work);
    let mut all: Vec<Behind> = Vec::new();
    for target in balancer.behind.clone() {
        all.extend(read(&balancer, &target, work));
    }
    one_for_all(&balancer, &all, work);
    let names_hosts = all.iter().any(Behind::has_hosts);
    for behind in &all {
        move_behind(&mut balancer, behind, names_hosts, work);
    }
    for front in balancer.fronts.iter().filter(|front| !front.used) {
        let why = match front.port {
            STATS => "statistics: controllerctl ls and ps show what HAProxy knows",
            HTTPS => "no certificate was named, so nobody answered there",
            _ => "no service behind the balancer answers there",
        };
        work.gone(front.place, format!("{name}.ports {}", front.text), why);
    }
}

/// Ports that it published.
fn fronts(balancer: &Balancer, work: &mut Work) -> Vec<Front> {
    let mut out = Vec::new();
    let Some(ports) = balancer.node.get("ports") else {
        return out;
    };
    let Value::List(items) = &ports.value else {
        return out;
    };
    for item in items {
        let front = match (&item.value, item.as_text()) {
            (Value::Map(_), _) => long(item),
            (_, Some(text)) => short(text, item.place),
            _ => None,
        };
        match front {
            Some(front) => out.push(front),
            None => {
                let path = format!("services.{}.ports", balancer.name);
                let why = "this is no single TCP port on all addresses";
                work.refuse(item.place, &path, why, "write \"80:80\"");
            }
        }
    }
    out
}

fn short(text: &str, place: Place) -> Option<Front> {
    let plain = text.strip_suffix("/tcp").unwrap_or(text);
    let (listen, port) = plain.split_once(':').unwrap_or((plain, plain));
    front(text, listen.parse().ok()?, port.parse().ok()?, place)
}

fn long(item: &Node) -> Option<Front> {
    let number = |name: &str| item.get(name)?.as_text()?.parse::<u16>().ok();
    let port = number("target")?;
    let listen = number("published").unwrap_or(port);
    front(&format!("{listen}:{port}"), listen, port, item.place)
}

fn front(text: &str, listen: u16, port: u16, place: Place) -> Option<Front> {
    let text = text.to_owned();
    let used = false;
    (listen > 0 && port > 0).then_some(Front {
        place,
        text,
        listen,
        port,
        used,
    })
}

/// Services that it serves: `links`, ADDITIONAL_SERVICES, else those that say SERVICE_PORTS.
fn behind(balancer: &Balancer, work: &mut Work) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let links = balancer.node.get("links").map(words).unwrap_or_default();
    let links = links.iter().map(|(text, place)| {
        let name = text.split(':').next().unwrap_or_default();
        (name.to_owned(), "links", *place)
    });
    let more = balancer
        .vars
        .iter()
        .filter(|v| v.name == "ADDITIONAL_SERVICES");
    let more = more.flat_map(|var| {
        let names = var
            .text()
            .split(',')
            .map(str::trim)
            .filter(|t| !t.is_empty());
        names.map(|text| {
            let name = text.rsplit(':').next().unwrap_or_default();
            // Services have today's names by now.
            (
                tame_name(name),
                "environment.ADDITIONAL_SERVICES",
                var.place,
            )
        })
    });
    for (name, key, place) in links.chain(more).collect::<Vec<_>>() {
        if work.service(&name).is_none() {
            let path = format!("services.{}.{key}", balancer.name);
            let why = format!("there is no service {name:?}");
            work.refuse(place, &path, &why, "name one of this file, or drop it");
        } else if !out.contains(&name) {
            out.push(name);
        }
    }
    if out.is_empty() {
        for name in work.service_names() {
            let vars = work.service(&name).map(|s| vars::all(s, &name));
            let said = vars
                .unwrap_or_default()
                .iter()
                .any(|v| v.name == "SERVICE_PORTS");
            if said {
                out.push(name);
            }
        }
    }
    out
}

/// Nobody waits for it or links to it any more.
fn forget(work: &mut Work, gone: &str) {
    for name in work.service_names() {
        for key in ["links", "depends_on"] {
            let Some(node) = work.service(&name).and_then(|s| s.get_mut(key)) else {
                continue;
            };
            let is_it = |text: &str| text.split(':').next() == Some(gone);
            let named: Vec<_> = words(node).into_iter().filter(|(t, _)| is_it(t)).collect();
            retain(node, |text| !is_it(text));
            if is_empty(node)
                && let Some(service) = work.service(&name)
            {
                service.remove(key);
            }
            for (text, place) in named {
                let was = format!("{name}.{key} {text}");
                let why = format!("{gone} is gone; a program that asks it must ask an edge now");
                work.look(place, was, None, &why);
            }
        }
    }
}

/// What else the balancer's entry says.
fn keys_of(balancer: &Balancer, work: &mut Work) {
    let Value::Map(entries) = &balancer.node.value else {
        return;
    };
    for (key, node) in entries {
        let was = format!("{}.{}", balancer.name, key.name);
        let why = match key.name.as_str() {
            "image" | "ports" | "environment" => continue,
            "links" | "depends_on" => "the ports move to the services",
            "volumes" if is_own_config(node) => {
                let path = format!("services.{was}");
                let why = "it brings a configuration of its own";
                let help = "say what it does by x-haproxy (docs/x-haproxy.md), and drop the volume";
                work.refuse(key.place, &path, why, help);
                continue;
            }
            "volumes" => "the edges need no engine, and certificates are secrets",
            _ => "it went with its service",
        };
        work.gone(key.place, was, why);
    }
}

fn is_own_config(volumes: &Node) -> bool {
    words(volumes).iter().any(|(text, _)| text.contains(".cfg"))
}

impl Behind {
    pub(super) fn var(&self, name: &str) -> Option<&Var> {
        self.vars.iter().rev().find(|var| var.name == name)
    }

    pub(super) fn has_hosts(&self) -> bool {
        self.var("VIRTUAL_HOST").is_some()
    }

    pub(super) fn numbers(&self, name: &str) -> Vec<u16> {
        let text = self.var(name).map(Var::text).unwrap_or_default();
        let ports = text
            .split(',')
            .map(|t| t.trim().split('/').next().unwrap_or_default());
        ports.filter_map(|text| text.parse().ok()).collect()
    }
}

/// What the balancer knew of a service: what it said of all of them, then what that one says.
fn read(balancer: &Balancer, target: &str, work: &mut Work) -> Option<Behind> {
    let own = vars::all(work.service(target)?, target);
    let own = own.into_iter().filter(|var| settings::is_ours(&var.name));
    let own: Vec<Var> = own.collect();
    for var in &own {
        if let Some(service) = work.service(target) {
            vars::remove(service, &var.name);
        }
    }
    let mut vars = balancer.vars.clone();
    vars.retain(|var| !own.iter().any(|own| own.name == var.name));
    vars.extend(own);
    vars.retain(|var| are_ports(var, work));
    let hosts = vars
        .iter()
        .rev()
        .find(|var| var.name == "VIRTUAL_HOST")
        .cloned();
    let hosts = match hosts {
        Some(var) => hosts::read(&var, work)?,
        None => Hosts::default(),
    };
    let place = super::place_of(&work.tree, &format!("services.{target}"));
    Some(Behind {
        name: target.to_owned(),
        place,
        vars,
        hosts,
    })
}

/// False for what should be ports and is not, which is refused.
fn are_ports(var: &Var, work: &mut Work) -> bool {
    const PORTS: [&str; 6] = [
        "BACKEND_PORT",
        "EXCLUDE_PORTS",
        "PORT",
        "SERVICE_PORTS",
        "STATS_PORT",
        "TCP_PORTS",
    ];
    let is_port = |text: &str| {
        let number = text.trim().split('/').next().unwrap_or_default();
        number.parse::<u16>().is_ok_and(|port| port > 0)
    };
    // One without a value is as one that is not there.
    let text = var.text();
    if !PORTS.contains(&var.name.as_str()) || text.is_empty() || text.split(',').all(is_port) {
        return true;
    }
    let why = format!("{text:?} is no list of ports");
    work.refuse(var.place, &var.path(), &why, "write numbers: 8000, 9000");
    false
}

/// Requests that name no host went to all services without one, in turn; a way in has one service.
fn one_for_all(balancer: &Balancer, all: &[Behind], work: &mut Work) {
    let nameless: Vec<&str> = all
        .iter()
        .filter(|behind| !behind.has_hosts() && behind.var("TCP_PORTS").is_none())
        .map(|behind| behind.name.as_str())
        .collect();
    if nameless.len() < 2 {
        return;
    }
    let path = format!("services.{}.links", balancer.name);
    let why = format!(
        "it spread the same requests over {}",
        nameless.join(" and ")
    );
    let help = "make one service of them with deploy.replicas, or tell them apart by VIRTUAL_HOST";
    work.refuse(balancer.place, &path, &why, help);
}

/// Ports, hosts, certificates and settings become the service's own.
fn move_behind(balancer: &mut Balancer, behind: &Behind, names_hosts: bool, work: &mut Work) {
    let mut x = map(Vec::new(), balancer.place);
    for var in &behind.vars {
        settings::apply(var, &mut x, work);
    }
    names(behind, &mut x, work);
    let has_tls = certificates::take(&balancer.node, behind, &mut x, work);
    if names_hosts && !behind.has_hosts() {
        let was = format!("{} without VIRTUAL_HOST", behind.name);
        let why = "it gets the requests that name no host of another service";
        work.look(behind.place, was, None, why);
    }
    ports::take(balancer, behind, has_tls, work);
    let Some(service) = work.service(&behind.name) else {
        return;
    };
    if !is_empty(&x)
        && let Some(entry) = entry(service, "x-haproxy", Value::Null, behind.place)
    {
        *entry = x;
    }
}

/// `VIRTUAL_HOST`
fn names(behind: &Behind, x: &mut Node, work: &mut Work) {
    let Some(var) = behind.var("VIRTUAL_HOST") else {
        return;
    };
    let mut now = Vec::new();
    let domains = &behind.hosts.domains;
    if !domains.is_empty()
        && let Some(entry) = entry(x, "domains", Value::Null, var.place)
    {
        let texts = domains
            .iter()
            .map(|name| Node::text(name.as_str(), var.place));
        *entry = Node::new(Value::List(texts.collect()), var.place);
        now.push(format!("x-haproxy.domains: {}", domains.join(", ")));
    }
    if let Some(path) = &behind.hosts.path
        && let Some(entry) = entry(x, "path", Value::Null, var.place)
    {
        *entry = Node::text(path.as_str(), var.place);
        now.push(format!("x-haproxy.path: {path}"));
    }
    match now.is_empty() {
        true => work.gone(var.place, var.was(), "all hosts are what no domains say"),
        false => work.now(
            var.place,
            var.was(),
            now.join(", "),
            "hosts that it is asked for by",
        ),
    }
}
