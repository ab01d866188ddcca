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
    /// Something is wrong with an entry, or it is left out, which was said.
    pub(super) is_partial: bool,
}

/// Ports one after the other, the last among them.
type Range = (u16, u16);

/// One entry, in either form.
struct Entry {
    listen: Option<Range>,
    /// As long as `listen`, if there is one.
    container: Range,
    protocol: Option<Protocol>,
    host: bool,
}

/// One port of an entry.
struct Port {
    listen: Option<u16>,
    container: u16,
    protocol: Option<Protocol>,
    /// `mode: host`: published on the node itself, not through the edges.
    host: bool,
}

impl Entry {
    /// None: the two ranges are not of one length, which is said.
    fn new(
        item: &Item<'_>,
        listen: Option<Range>,
        container: Range,
        p: &mut Problems,
    ) -> Option<Self> {
        let length = |(first, last): Range| last - first;
        if listen.is_some_and(|listen| length(listen) != length(container)) {
            let help = "write as many ports on one side as on the other: \"8080-8082:80-82\"";
            item.invalid_help(p, "the two ranges are not of one length", help);
            return None;
        }
        Some(Self {
            listen,
            container,
            protocol: None,
            host: false,
        })
    }

    fn ports(self) -> impl Iterator<Item = Port> {
        let (first, last) = self.container;
        (first..=last).map(move |container| Port {
            listen: self.listen.map(|(listen, _)| listen + (container - first)),
            container,
            protocol: self.protocol,
            host: self.host,
        })
    }
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
        let entry = match item.is_map() {
            true => long(&item, p),
            false => short(&item, p),
        };
        out.is_partial |= entry.is_none();
        for port in entry.into_iter().flat_map(Entry::ports) {
            publish(&item, port, haproxy, &mut out, p);
        }
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

fn publish(item: &Item<'_>, port: Port, haproxy: &Haproxy, out: &mut Ports, p: &mut Problems) {
    let Port {
        listen,
        container,
        protocol,
        host,
    } = port;
    if host {
        on_the_node(item, container, listen, out, p);
        return;
    }
    let listen_port = listen.unwrap_or_else(|| {
        let message = format!("no published port: the edges listen on {container}");
        p.warn("port_default", item.place(), &item.path, message)
            .file();
        container
    });
    let mut routes = out.routes.iter();
    if routes.any(|route| route.listen_port == listen_port) {
        item.invalid(p, format!("port {listen_port} is published twice"));
        return;
    }
    if protocol == Some(Protocol::Https) && !haproxy.has_tls() {
        let help = "name certificates: x-haproxy: { tls: [NAME] }";
        item.invalid_help(p, "app_protocol: https needs a certificate", help);
    }
    out.routes
        .push(haproxy.route(listen_port, container, protocol));
    add(&mut out.published, container);
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
        let range = item.text(p).and_then(|text| target(&item, text, p));
        for container in range.into_iter().flat_map(|(first, last)| first..=last) {
            add(&mut out.published, container);
        }
    }
}

fn add(ports: &mut Vec<u16>, port: u16) {
    if !ports.contains(&port) {
        ports.push(port);
    }
}

/// `8000`, `8080:8000`, `8080-8082:80-82`, with `/tcp` behind, with an address before.
fn short(item: &Item<'_>, p: &mut Problems) -> Option<Entry> {
    let text = item.text(p)?;
    let parts: Vec<&str> = text.rsplitn(3, ':').collect();
    let (container, listen) = match parts.as_slice() {
        [container] => (container, None),
        [container, listen] => (container, Some(listen)),
        [container, listen, host] => {
            if !is_all(host) {
                let help = format!("write \"{listen}:{container}\", and close it by a firewall");
                let help = help.replace("\":", "\"");
                item.unsupported_help(p, &on_address(host), help);
                return None;
            }
            (container, Some(listen).filter(|listen| !listen.is_empty()))
        }
        _ => return None,
    };
    let listen = match listen {
        Some(listen) => Some(range(item, listen, p)?),
        None => None,
    };
    let container = target(item, container, p)?;
    Entry::new(item, listen, container, p)
}

fn on_address(host: &str) -> String {
    format!("edges listen on all addresses, not on {host} alone")
}

const ONLY_TCP: &str = "only tcp goes through the edges";

/// Does it mean every address? That is where edges listen.
fn is_all(host: &str) -> bool {
    matches!(host, "0.0.0.0" | "::" | "[::]")
}

fn target(item: &Item<'_>, text: &str, p: &mut Problems) -> Option<Range> {
    match text.split_once('/') {
        None => range(item, text, p),
        Some((ports, "tcp")) => range(item, ports, p),
        Some((_, "udp" | "sctp")) => {
            item.unsupported(p, ONLY_TCP);
            None
        }
        Some((_, protocol)) => {
            item.invalid_help(p, format!("{protocol:?} is no protocol"), "write tcp");
            None
        }
    }
}

/// `8000`, or `8000-8002`: at most as many as a service may have.
fn range(item: &Item<'_>, text: &str, p: &mut Problems) -> Option<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(item, first, p)?, number(item, last, p)?);
    if last < first {
        item.invalid(p, format!("{text:?} ends before it begins"));
        return None;
    }
    if usize::from(last - first) >= PORTS_MAX {
        let help = "what needs so many has them on its node: network_mode: host";
        item.invalid_help(p, format!("{text:?}: more than {PORTS_MAX} ports"), help);
        return None;
    }
    Some((first, last))
}

fn number(item: &Item<'_>, text: &str, p: &mut Problems) -> Option<u16> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    if port.is_none() || text.starts_with('+') {
        item.invalid(p, format!("{text:?} is no port from 1 to 65535"));
        return None;
    }
    port
}

fn long(item: &Item<'_>, p: &mut Problems) -> Option<Entry> {
    let mut fields = item.fields(p)?;
    let container = fields.take("target").and_then(|i| i.number(p, 1, u16::MAX));
    let listen = fields.take("published");
    let listen = listen.and_then(|i| i.text(p).and_then(|text| range(&i, text, p)));
    let protocols = [("tcp", true), ("udp", false), ("sctp", false)];
    let is_tcp = fields.filled("protocol").map(|i| i.choice(p, &protocols));
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
    let address = fields.filled("host_ip").and_then(|i| i.text(p));
    let address = address.filter(|host| !is_all(host));
    fields.finish(p, &[]);
    // Without its address or protocol it would be another way in: all of it is left out.
    if let Some(host) = address {
        item.unsupported(p, &on_address(host));
        return None;
    }
    if is_tcp == Some(Some(false)) {
        item.unsupported(p, ONLY_TCP);
        return None;
    }
    if item.node.get("target").is_none() {
        item.lacks(
            p,
            &["target"],
            "has no target",
            "write target: PORT, the one inside",
        );
    }
    let container = container?;
    let entry = Entry::new(item, listen, (container, container), p)?;
    Some(Entry {
        protocol,
        host,
        ..entry
    })
}
