//! `ports` and `expose`: the ways in.

use std::collections::BTreeMap;

use longshore_model::spec::RouteSpec;

use super::super::problem::Problems;
use super::haproxy::{Haproxy, Protocol};
use super::item::Item;

/// Most routes and published ports of one service, as the wire allows.
const PORTS_MAX: usize = 32;

/// What a service publishes.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// Ports of the edges.
    pub(super) routes: Vec<RouteSpec>,
    /// Container ports published on the node.
    pub(super) published: Vec<u16>,
    /// Of these, those with one certain host port, by container port.
    pub(super) fixed: BTreeMap<u16, u16>,
}

/// One entry, in either form.
struct Port {
    listen: Option<u16>,
    container: u16,
    protocol: Option<Protocol>,
    /// `mode: host`: published on the node itself, not through the edges.
    host: bool,
}

pub(super) fn read(
    ports: Option<Item<'_>>,
    expose: Option<Item<'_>>,
    haproxy: &Haproxy,
    p: &mut Problems,
) -> Ports {
    let mut out = Ports::default();
    for item in ports
        .iter()
        .flat_map(|item| item.items(p))
        .collect::<Vec<_>>()
    {
        let port = if item.is_map() {
            long(&item, p)
        } else {
            short(&item, p)
        };
        let Some(Port {
            listen,
            container,
            protocol,
            host,
        }) = port
        else {
            continue;
        };
        if host {
            on_the_node(&item, container, listen, &mut out, p);
            continue;
        }
        let listen_port = listen.unwrap_or_else(|| {
            let message = format!("no published port: the edges listen on {container}");
            p.warn("port_default", item.place(), &item.path, message)
                .file();
            container
        });
        if out
            .routes
            .iter()
            .any(|route| route.listen_port == listen_port)
        {
            item.invalid(p, format!("port {listen_port} is published twice"));
            continue;
        }
        if protocol == Some(Protocol::Https) && !haproxy.has_tls() {
            let help = "name certificates: x-haproxy: { tls: [NAME] }";
            item.invalid_help(p, "app_protocol: https needs a certificate", help);
        }
        out.routes
            .push(haproxy.route(listen_port, container, protocol));
        add(&mut out.published, container);
    }
    exposed(expose.as_ref(), &mut out, p);
    if out.published.len() > PORTS_MAX || out.routes.len() > PORTS_MAX {
        let item = ports.or(expose);
        if let Some(item) = item {
            item.invalid(p, format!("more than {PORTS_MAX} ports"));
        }
    }
    out
}

/// `mode: host`: a port of the node itself, the same for every replica if it is named.
fn on_the_node(
    item: &Item<'_>,
    container: u16,
    host_port: Option<u16>,
    out: &mut Ports,
    p: &mut Problems,
) {
    add(&mut out.published, container);
    let Some(host_port) = host_port else { return };
    if out.fixed.values().any(|taken| *taken == host_port) {
        item.invalid(p, format!("host port {host_port} is published twice"));
    } else if out.fixed.insert(container, host_port).is_some() {
        item.invalid(p, format!("container port {container} has two host ports"));
    }
}

/// `expose` publishes container ports on the node without a way in through the edges.
fn exposed(expose: Option<&Item<'_>>, out: &mut Ports, p: &mut Problems) {
    let Some(expose) = expose else { return };
    for item in expose.items(p) {
        if let Some(container) = item.text(p).and_then(|text| target(&item, text, p)) {
            add(&mut out.published, container);
        }
    }
}

fn add(ports: &mut Vec<u16>, port: u16) {
    if !ports.contains(&port) {
        ports.push(port);
    }
}

/// `8000`, `8080:8000`, with `/tcp` behind.
fn short(item: &Item<'_>, p: &mut Problems) -> Option<Port> {
    let text = item.text(p)?;
    let parts: Vec<&str> = text.rsplitn(3, ':').collect();
    match parts.as_slice() {
        [container] => Some(Port {
            listen: None,
            container: target(item, container, p)?,
            protocol: None,
            host: false,
        }),
        [container, listen] => {
            let listen = number(item, listen, p)?;
            let container = target(item, container, p)?;
            Some(Port {
                listen: Some(listen),
                container,
                protocol: None,
                host: false,
            })
        }
        _ => {
            let message = format!("{text:?}: an address is not supported: edges listen on all");
            item.invalid_help(p, message, "write \"8080:8000\"");
            None
        }
    }
}

fn target(item: &Item<'_>, text: &str, p: &mut Problems) -> Option<u16> {
    match text.split_once('/') {
        None => number(item, text, p),
        Some((port, "tcp")) => number(item, port, p),
        Some((_, protocol)) => {
            item.invalid(
                p,
                format!("protocol {protocol:?} is not supported: only tcp"),
            );
            None
        }
    }
}

fn number(item: &Item<'_>, text: &str, p: &mut Problems) -> Option<u16> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    if port.is_none() || text.starts_with('+') {
        if text.contains('-') {
            item.invalid(
                p,
                format!("{text:?}: ranges are not supported: list single ports"),
            );
        } else {
            item.invalid(p, format!("{text:?} is no port from 1 to 65535"));
        }
        return None;
    }
    port
}

fn long(item: &Item<'_>, p: &mut Problems) -> Option<Port> {
    let mut fields = item.fields(p)?;
    let container = fields.take("target").and_then(|i| i.number(p, 1, u16::MAX));
    let listen = fields.take("published");
    let listen = listen.and_then(|i| i.text(p).and_then(|text| number(&i, text, p)));
    if let Some(i) = fields.take("protocol") {
        i.choice(p, &[("tcp", ())]);
    }
    let host = fields
        .take("mode")
        .and_then(|i| i.choice(p, &[("ingress", false), ("host", true)]))
        .unwrap_or(false);
    let protocols = [
        ("http", Protocol::Http),
        ("https", Protocol::Https),
        ("tcp", Protocol::Tcp),
    ];
    let protocol = fields
        .take("app_protocol")
        .and_then(|i| i.choice(p, &protocols));
    fields.take("name");
    let reasons = [("host_ip", "edges listen on all addresses")];
    fields.finish(p, &reasons);
    if item.node.get("target").is_none() {
        item.invalid(p, "has no target");
    }
    Some(Port {
        listen,
        container: container?,
        protocol,
        host,
    })
}
