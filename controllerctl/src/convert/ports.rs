//! Ports of an old balancer, as ports of the services behind it.

use super::balancer::{Balancer, Behind, Front, HTTPS, STATS};
use super::{Work, entry, key, map, plain, words};
use crate::compose::node::{Node, Value};
use crate::compose::source::Place;

/// Where nobody says what a container listens on.
const GUESS: u16 = 80;

/// Gives a service the ports through which the balancer was asked for it.
pub(super) fn take(balancer: &mut Balancer, behind: &Behind, has_tls: bool, work: &mut Work) {
    let tcp = tcp_ports(behind, work);
    let name = balancer.name.clone();
    let stats = behind
        .numbers("STATS_PORT")
        .first()
        .copied()
        .unwrap_or(STATS);
    let mut container = None;
    let fronts = balancer.fronts.iter_mut();
    for front in fronts.filter(|front| front.port != stats) {
        let was = format!("{name}.ports {}", front.text);
        if tcp.contains(&front.port) {
            front.used = true;
            let now = format!(
                "services.{}.ports {}:{} (tcp)",
                behind.name, front.listen, front.port
            );
            work.now(
                front.place,
                was,
                now,
                "TCP_PORTS: connections, not requests",
            );
            publish(behind, long(front, front.port, "tcp"), work);
            continue;
        }
        if !is_asked(front, behind, has_tls) {
            continue;
        }
        let port = match container {
            Some(port) => port,
            None => match container_port(behind, &tcp, front, work) {
                Some(port) => *container.insert(port),
                None => return,
            },
        };
        front.used = true;
        let now = format!("services.{}.ports {}:{port}", behind.name, front.listen);
        work.now(front.place, was, now, "the edges listen there");
        let is_tls = front.port == HTTPS && has_tls;
        // 443 ends TLS without more ado, all others do not.
        let node = match (is_tls, front.listen == HTTPS) {
            (true, false) => long(front, port, "https"),
            (false, true) if has_tls => long(front, port, "http"),
            _ => Node::text(format!("{}:{port}", front.listen), front.place),
        };
        publish(behind, node, work);
    }
}

fn is_asked(front: &Front, behind: &Behind, has_tls: bool) -> bool {
    let is_tls = front.port == HTTPS;
    if is_tls && !has_tls {
        return false;
    }
    let fronts = &behind.hosts.fronts;
    fronts.is_empty() || fronts.contains(&front.port) || is_tls
}

/// `TCP_PORTS`
fn tcp_ports(behind: &Behind, work: &mut Work) -> Vec<u16> {
    if let Some(var) = behind.var("TCP_PORTS")
        && var.text().contains("/ssl")
    {
        let why = "TLS of plain connections does not end at the edges";
        let help = "let the program end it, and drop /ssl";
        work.refuse(var.place, &var.path(), why, help);
    }
    behind.numbers("TCP_PORTS")
}

/// What the containers listen on for requests.
fn container_port(behind: &Behind, tcp: &[u16], front: &Front, work: &mut Work) -> Option<u16> {
    let mut said: Vec<u16> = Vec::new();
    for name in ["SERVICE_PORTS", "BACKEND_PORT", "PORT"] {
        said.extend(behind.numbers(name));
    }
    if said.is_empty()
        && let Some(service) = work.service(&behind.name)
    {
        said.extend(inside(service, "expose"));
        said.extend(inside(service, "ports"));
    }
    let excluded = behind.numbers("EXCLUDE_PORTS");
    said.retain(|port| !excluded.contains(port) && !tcp.contains(port));
    said.sort_unstable();
    said.dedup();
    match said.as_slice() {
        [port] => Some(*port),
        [] => {
            let was = format!("{} names no port", behind.name);
            let now = format!("services.{}.ports {}:{GUESS}", behind.name, front.listen);
            let why = "the old balancer read it from the image (docker image inspect says it): if it is \
                       not 80, put it in";
            work.look(behind.place, was, Some(now), why);
            Some(GUESS)
        }
        many => {
            let path = format!("services.{}", behind.name);
            let many: Vec<String> = many.iter().map(u16::to_string).collect();
            let why = format!("requests could go to its ports {}", many.join(", "));
            let help =
                "name the one for requests in the old file: environment: [SERVICE_PORTS=8000]";
            work.refuse(behind.place, &path, &why, help);
            None
        }
    }
}

/// Container ports that a service names under `name`.
fn inside(service: &Node, name: &str) -> Vec<u16> {
    let Some(node) = service.get(name) else {
        return Vec::new();
    };
    let short = words(node);
    let short = short.iter().filter_map(|(text, _)| container_of(text));
    let long = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => &[],
    };
    let long = long
        .iter()
        .filter_map(|item| item.get("target")?.as_text()?.parse().ok());
    short.chain(long).collect()
}

/// `8000` of `8000`, `80:8000`, `127.0.0.1:80:8000/tcp`.
fn container_of(text: &str) -> Option<u16> {
    let text = text.strip_suffix("/tcp").unwrap_or(text);
    text.rsplit(':').next()?.parse().ok()
}

/// Adds an entry. A port that went to any free port of the host has a way in now.
fn publish(behind: &Behind, node: Node, work: &mut Work) {
    let port = match node.as_text() {
        Some(text) => container_of(text),
        None => node.get("target").and_then(|n| n.as_text()?.parse().ok()),
    };
    let Some(service) = work.service(&behind.name) else {
        return;
    };
    let mut any: Vec<(String, Place)> = Vec::new();
    if let Some(ports) = entry(service, "ports", Value::List(Vec::new()), behind.place)
        && let Value::List(items) = &mut ports.value
    {
        items.retain(|item| {
            let text = item.as_text().unwrap_or(":");
            let is_any = !text.contains(':') && container_of(text) == port;
            if is_any {
                any.push((text.to_owned(), item.place));
            }
            !is_any
        });
        items.push(node);
    }
    for (text, place) in any {
        let was = format!("{}.ports {text}", behind.name);
        work.gone(place, was, "it has the balancer's port now");
    }
}

fn long(front: &Front, port: u16, protocol: &str) -> Node {
    let at = front.place;
    let entries = vec![
        (key("target", at), plain(port, at)),
        (
            key("published", at),
            Node::text(front.listen.to_string(), at),
        ),
        (key("app_protocol", at), Node::text(protocol, at)),
    ];
    map(entries, at)
}
