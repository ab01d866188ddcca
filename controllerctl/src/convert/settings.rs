//! Variables of tutum/haproxy and dockercloud/haproxy, as keys of `x-haproxy`.

use super::vars::Var;
use super::{Work, entry, lines, plain};
use crate::compose::node::{Node, Value};
use crate::compose::units;

/// What becomes of a variable that no key stands for.
enum Fate {
    /// It told the old balancer something that is of no use now: why.
    Gone(&'static str),
    /// It did something that nothing does here: why, and the way out.
    Refused(&'static str, &'static str),
}

const OWN: &str = "the edges' HAProxy is set up by Longshore";
const ENGINE: &str = "the edges need no engine to learn who serves";
const RAW: &str = "lines of HAProxy's own are not taken over";
pub(super) const RAW_HELP: &str =
    "see docs/x-haproxy.md for the key that does the same, and drop the variable";

/// Variables of the balancer and of services behind it, by name.
const FATES: &[(&str, Fate)] = &[
    ("DOCKER_CERT_PATH", Fate::Gone(ENGINE)),
    ("DOCKER_HOST", Fate::Gone(ENGINE)),
    ("DOCKER_TLS_VERIFY", Fate::Gone(ENGINE)),
    (
        "EXCLUDE_BASIC_AUTH",
        Fate::Gone("there is no password to except it from"),
    ),
    (
        "MAXCONN",
        Fate::Gone(
            "it was a limit of the whole HAProxy; edges have their own, and x-haproxy.maxconn_per_replica \
             says how many requests a replica gets at a time",
        ),
    ),
    (
        "MONITOR_PORT",
        Fate::Gone("controllerctl status says how edges are"),
    ),
    (
        "MONITOR_URI",
        Fate::Gone("controllerctl status says how edges are"),
    ),
    ("NBPROC", Fate::Gone(OWN)),
    ("RELOAD_TIMEOUT", Fate::Gone(OWN)),
    ("RSYSLOG_DESTINATION", Fate::Gone(OWN)),
    (
        "SKIP_FORWARDED_PROTO",
        Fate::Refused(
            "the edges always set X-Forwarded-Proto anew",
            "tell clients' addresses by x-haproxy.accept_proxy, and drop the variable",
        ),
    ),
    (
        "STATS_AUTH",
        Fate::Gone("controllerctl ls and ps show what HAProxy knows"),
    ),
    (
        "STATS_PASS",
        Fate::Gone("controllerctl ls and ps show what HAProxy knows"),
    ),
    (
        "STATS_PORT",
        Fate::Gone("controllerctl ls and ps show what HAProxy knows"),
    ),
    (
        "STATS_USER",
        Fate::Gone("controllerctl ls and ps show what HAProxy knows"),
    ),
    (
        "VIRTUAL_HOST_WEIGHT",
        Fate::Gone("named hosts come before all others, and longer paths before shorter ones"),
    ),
    (
        "APPSESSION",
        Fate::Refused(
            "HAProxy has no appsession any more",
            "COOKIE=SRV insert indirect nocache keeps a client with its replica",
        ),
    ),
    (
        "CA_CERT",
        Fate::Refused(
            "clients are not asked for certificates",
            "let the program ask: x-haproxy: { mode: tcp }",
        ),
    ),
    (
        "CA_CERT_FILE",
        Fate::Refused(
            "clients are not asked for certificates",
            "let the program ask: x-haproxy: { mode: tcp }",
        ),
    ),
    (
        "HTTP_BASIC_AUTH",
        Fate::Refused(
            "the edges ask for no password",
            "let the program ask, and drop the variable",
        ),
    ),
    (
        "HTTP_BASIC_AUTH_SECURE",
        Fate::Refused(
            "the edges ask for no password",
            "let the program ask, and drop the variable",
        ),
    ),
    (
        "EXTRA_SSL_CERTS",
        Fate::Refused(
            "certificates are files here",
            "put each into a file and name it in secrets and x-haproxy.tls (docs/x-haproxy.md)",
        ),
    ),
];

/// Variables that are read elsewhere: names, ports, certificates.
const ELSEWHERE: [&str; 5] = [
    "CERT_FOLDER",
    "DEFAULT_SSL_CERT",
    "FORCE_SSL",
    "SSL_CERT",
    "VIRTUAL_HOST",
];

/// Variables that say which ports go where.
const PORTS: [&str; 7] = [
    "ADDITIONAL_SERVICES",
    "BACKEND_PORT",
    "EXCLUDE_PORTS",
    "FRONTEND_PORT",
    "PORT",
    "SERVICE_PORTS",
    "TCP_PORTS",
];

/// Beginnings of names that carry lines of HAProxy's own.
const RAW_NAMES: [&str; 4] = ["EXTRA_", "ADDITIONAL_BACKEND", "SSL_BIND_", "OPTION_"];

/// Does a service's variable belong to the balancer?
pub(super) fn is_ours(name: &str) -> bool {
    // A program has a PORT and a MODE of its own.
    const ITS_OWN: [&str; 8] = [
        "PORT",
        "MODE",
        "OPTION",
        "TIMEOUT",
        "MAXCONN",
        "CA_CERT",
        "DOCKER_HOST",
        "SSL_CERT_FILE",
    ];
    if ITS_OWN.contains(&name) || name.starts_with("STATS_") || name.starts_with("DOCKER_") {
        return false;
    }
    ELSEWHERE.contains(&name)
        || PORTS.contains(&name)
        || FATES.iter().any(|(known, _)| *known == name)
        || RAW_NAMES.iter().any(|raw| name.starts_with(raw))
        || READ.iter().any(|(known, _)| *known == name)
}

type Read = fn(&Var, &mut Node, &mut Work);

/// Variables that keys of `x-haproxy` stand for.
const READ: [(&str, Read); 9] = [
    ("BALANCE", balance),
    ("COOKIE", cookie),
    ("GZIP_COMPRESSION_TYPE", compression),
    ("HEALTH_CHECK", health_check),
    ("HSTS_MAX_AGE", hsts),
    ("HTTP_CHECK", http_check),
    ("MODE", mode),
    ("OPTION", option),
    ("TIMEOUT", timeout),
];

/// Says what becomes of a variable, in `x` where a key stands for it.
pub(super) fn apply(var: &Var, x: &mut Node, work: &mut Work) {
    let name = var.name.as_str();
    if ELSEWHERE.contains(&name) {
        return;
    }
    if PORTS.contains(&name) {
        return work.gone(var.place, var.was(), "ports of the services say it now");
    }
    if let Some((_, read)) = READ.iter().find(|(known, _)| *known == name) {
        if var.text().contains('$') {
            let why = "its value is a variable, so nobody knows it yet";
            return work.refuse(var.place, &var.path(), why, "write the value");
        }
        return read(var, x, work);
    }
    match FATES.iter().find(|(known, _)| *known == name) {
        Some((_, Fate::Gone(why))) => work.gone(var.place, var.named(), why),
        Some((_, Fate::Refused(why, help))) => work.refuse(var.place, &var.path(), why, help),
        None if lines::is_known(name) => lines::apply(var, x, work),
        None if RAW_NAMES.iter().any(|raw| name.starts_with(raw)) => {
            work.refuse(var.place, &var.path(), RAW, RAW_HELP);
        }
        None => work.gone(
            var.place,
            var.named(),
            "the balancer is gone, and nobody else reads it",
        ),
    }
}

/// Sets `x-haproxy.PATH`.
pub(super) fn set(var: &Var, path: &str, node: Node, x: &mut Node, work: &mut Work) {
    let shown = node.as_text().unwrap_or_default().to_owned();
    let mut at = x;
    let mut steps = path.split('.').peekable();
    while let Some(step) = steps.next() {
        let empty = match steps.peek() {
            Some(_) => Value::Map(Vec::new()),
            None => Value::Null,
        };
        let Some(next) = entry(at, step, empty, var.place) else {
            return;
        };
        at = next;
    }
    *at = node;
    let now = format!("x-haproxy.{path}: {shown}");
    work.now(
        var.place,
        var.was(),
        now,
        "a key of x-haproxy stands for it",
    );
}

fn set_text(var: &Var, path: &str, text: &str, x: &mut Node, work: &mut Work) {
    set(var, path, Node::text(text, var.place), x, work);
}

pub(super) fn balance(var: &Var, x: &mut Node, work: &mut Work) {
    let text = var.text();
    if let Some(header) = text.strip_prefix("hdr(").and_then(|t| t.strip_suffix(')')) {
        set_text(var, "balance", "hash", x, work);
        return set_text(var, "hash_header", header, x, work);
    }
    let word = match text {
        "roundrobin" | "leastconn" | "source" | "random" => text,
        "static-rr" => "roundrobin",
        "uri" => "hash",
        _ => {
            let why = format!("there is no balance {text:?}");
            let help = "write roundrobin, leastconn, source, uri or hdr(NAME)";
            return work.refuse(var.place, &var.path(), &why, help);
        }
    };
    set_text(var, "balance", word, x, work);
}

pub(super) fn cookie(var: &Var, x: &mut Node, work: &mut Work) {
    let mut words = var.text().split_whitespace();
    let name = words.next().unwrap_or_default().to_owned();
    let rest: Vec<&str> = words.collect();
    let is_known = |word: &&str| {
        matches!(
            *word,
            "insert" | "indirect" | "nocache" | "httponly" | "secure"
        )
    };
    if name.is_empty() || !rest.iter().all(is_known) || !rest.contains(&"insert") {
        let why = "only a cookie that HAProxy inserts keeps clients with their replicas";
        let help = "write NAME insert indirect nocache";
        return work.refuse(var.place, &var.path(), why, help);
    }
    set_text(var, "sticky", &name, x, work);
}

/// `check inter 2000 rise 2 fall 3`
fn health_check(var: &Var, x: &mut Node, work: &mut Work) {
    let mut words = var.text().split_whitespace().peekable();
    words.next_if_eq(&"check");
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_default();
        let number = value.parse::<u32>().ok();
        match (word, number) {
            ("inter", _) if time(value).is_some() => {
                let text = time(value).unwrap_or_default();
                set_text(var, "check.interval", &text, x, work);
            }
            ("rise", Some(count)) => set(var, "check.rise", plain(count, var.place), x, work),
            ("fall", Some(count)) if count >= 2 => {
                set(var, "check.fall", plain(count, var.place), x, work);
            }
            ("fall", Some(_)) => {
                let now = Some("x-haproxy.check.fall: 2".to_owned());
                let why = "one failed check takes no replica out: 2 is the least";
                work.look(var.place, var.was(), now, why);
            }
            _ => {
                let why = format!("{word:?} with {value:?} is no check that is known here");
                let help = "write check inter 2000 rise 2 fall 3";
                return work.refuse(var.place, &var.path(), &why, help);
            }
        }
    }
}

/// HAProxy's times are milliseconds where no unit says otherwise.
fn time(text: &str) -> Option<String> {
    match text.parse::<u64>() {
        Ok(ms) if ms % 1_000 == 0 => Some(format!("{}s", ms / 1_000)),
        Ok(ms) => Some(format!("{ms}ms")),
        Err(_) => units::duration_ms(text).ok().map(|_| text.to_owned()),
    }
}

/// `GET /health HTTP/1.1\r\nHost:\ www`, `/health`
pub(super) fn http_check(var: &Var, x: &mut Node, work: &mut Work) {
    let text = var.text();
    let mut words = text.split(|c: char| c.is_whitespace() || c == '\\');
    let first = words.next().unwrap_or_default();
    let (method, path) = match first.starts_with('/') {
        true => ("OPTIONS", first),
        false => (first, words.next().unwrap_or_default()),
    };
    if !path.starts_with('/') {
        let why = "`*` asks for no path: a connection is the check, and x-haproxy.check.path asks";
        return work.look(var.place, var.was(), None, why);
    }
    set_text(var, "check.path", path, x, work);
    if method != "GET" || text.contains("Host:") {
        let why = "the check is a GET with the replica's address as Host; 200 to 399 is well";
        let now = Some(format!("x-haproxy.check.path: {path}"));
        work.look(var.place, var.was(), now, why);
    }
}

/// `text/html text/css`
pub(super) fn compression(var: &Var, x: &mut Node, work: &mut Work) {
    let words = var.text().to_ascii_lowercase();
    let words = words.split([' ', ',']).filter(|word| !word.is_empty());
    let items = words.map(|word| Node::text(word, var.place));
    let list = Node::new(Value::List(items.collect()), var.place);
    set(var, "compression", list, x, work);
}

/// Seconds.
pub(super) fn hsts(var: &Var, x: &mut Node, work: &mut Work) {
    match var.text().parse::<u32>() {
        Ok(age_s) => {
            let text = format!("{age_s}s");
            set(var, "hsts_max_age", Node::text(text, var.place), x, work);
        }
        Err(_) => {
            let why = format!("{:?} is no number of seconds", var.text());
            work.refuse(var.place, &var.path(), &why, "write 31536000");
        }
    }
}

fn mode(var: &Var, x: &mut Node, work: &mut Work) {
    match var.text() {
        "tcp" => set_text(var, "mode", "tcp", x, work),
        "http" => work.gone(var.place, var.was(), "that is what x-haproxy has anyway"),
        "swarm" => work.gone(var.place, var.was(), "who serves is known here"),
        text => {
            let why = format!("there is no mode {text:?}");
            work.refuse(var.place, &var.path(), &why, "write http or tcp");
        }
    }
}

pub(super) fn option(var: &Var, _: &mut Node, work: &mut Work) {
    // What the edges do anyway, and what only tells how HAProxy logs.
    const ANYWAY: [&str; 9] = [
        "redispatch",
        "forwardfor",
        "http-keep-alive",
        "http-server-close",
        "httplog",
        "tcplog",
        "dontlognull",
        "log-health-checks",
        "abortonclose",
    ];
    let mut words = var.text().split(',').map(str::trim);
    let foreign = words.find(|word| !word.is_empty() && !ANYWAY.contains(word));
    match foreign.map(str::to_owned) {
        None => work.gone(
            var.place,
            var.was(),
            "the edges do so, or log their own way",
        ),
        Some(word) => {
            let why = format!("option {word:?} has no key");
            work.refuse(var.place, &var.path(), &why, RAW_HELP);
        }
    }
}

/// `connect 5000, client 50000, server 50000`
pub(super) fn timeout(var: &Var, x: &mut Node, work: &mut Work) {
    for text in var.text().split(',').map(str::trim) {
        let (word, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let Some(value) = time(value.trim()) else {
            let why = format!("{text:?} is no time limit");
            return work.refuse(
                var.place,
                &var.path(),
                &why,
                "write connect 5000, server 50000",
            );
        };
        match word {
            "connect" | "server" | "queue" | "tunnel" => {
                set_text(var, &format!("timeouts.{word}"), &value, x, work);
            }
            "check" => set_text(var, "check.timeout", &value, x, work),
            "client" => {
                let why = "a client may be silent for as long as a replica may: timeouts.server";
                work.gone(var.place, format!("{}.TIMEOUT {text}", var.of), why);
            }
            _ => {
                let why = format!("there is no limit {word:?}");
                let help = "the edges know connect, server, queue, tunnel and check";
                work.refuse(var.place, &var.path(), &why, help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_unit_are_milliseconds() {
        let all = [("2000", "2s"), ("500", "500ms"), ("5s", "5s"), ("1m", "1m")];
        for (text, wanted) in all {
            assert_eq!(time(text).as_deref(), Some(wanted), "{text}");
        }
        assert!(time("x").is_none() && time("").is_none());
    }
}
