//! A reader of its own for what the driver writes: ways in come back from the file as they were
//! meant, each request goes where the model says, and no line says anything else. The fuzzer drives
//! the same law, so nothing here knows of proptest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use longshore_haproxy_driver::decide::{Worker, decide};
use longshore_haproxy_driver::intent::BackendIntent;
use longshore_haproxy_driver::readout::Running;
use longshore_haproxy_driver::render::{listen_ports, render};
use longshore_haproxy_driver::versions::Version;
use longshore_haproxy_driver::{Intent, SlotMap};
use longshore_model::route::{
    Balance, CheckTimes, ProxyProtocol, RouteMode, RouteSpec, Timeouts, Weights,
};
use longshore_model::routes::{Backend, Server, ServerMode};

use crate::common::{compile, first_slots, sections, settings};

type Sections = BTreeMap<String, Vec<String>>;

/// The rest of the one line that begins so.
fn after<'a>(lines: &'a [String], beginning: &str) -> Option<&'a str> {
    let mut found = lines.iter().filter_map(|line| line.strip_prefix(beginning));
    let first = found.next();
    assert_eq!(found.next(), None, "{beginning} twice");
    first
}

/// A condition of a rule: host name, path, and whether the path is a beginning.
#[derive(Debug, Default, Clone, PartialEq)]
struct Rule {
    backend: String,
    host: Option<String>,
    path: Option<(String, bool)>,
}

fn rules(front: &[String]) -> Vec<Rule> {
    let lines = front
        .iter()
        .filter_map(|line| line.strip_prefix("use_backend "));
    let rule = |line: &str| {
        let (backend, conditions) = line.split_once(" if ").unwrap();
        let mut rule = Rule {
            backend: backend.to_owned(),
            ..Rule::default()
        };
        for condition in conditions.split("} ") {
            let condition = condition.trim_matches(|c| " {}".contains(c));
            let words: Vec<&str> = condition.split(' ').collect();
            match words.as_slice() {
                ["req.hdr(host),field(1,:),lower", "-m", "str", host] => {
                    rule.host = Some((*host).to_owned());
                }
                ["path", "-m", "str", path] => rule.path = Some(((*path).to_owned(), false)),
                ["path", "-m", "beg", path] => rule.path = Some(((*path).to_owned(), true)),
                other => panic!("{other:?}"),
            }
        }
        rule
    };
    lines.map(rule).collect()
}

/// Whom a request reaches by the file.
fn reaches(front: &[String], host: &str, path: &str) -> String {
    let holds = |rule: &&Rule| {
        let host_ok = rule.host.as_deref().is_none_or(|wanted| wanted == host);
        let path_ok = rule
            .path
            .as_ref()
            .is_none_or(|(wanted, begins)| match begins {
                true => path.starts_with(wanted.as_str()),
                false => path == wanted,
            });
        host_ok && path_ok
    };
    let rules = rules(front);
    let found = rules.iter().find(holds).map(|rule| rule.backend.clone());
    found.unwrap_or_else(|| after(front, "default_backend ").unwrap().to_owned())
}

/// Whom it is meant for: named host names win over all, longer paths over shorter ones.
fn meant_for(backends: &[&BackendIntent], host: &str, path: &str) -> String {
    let fit = |b: &&&BackendIntent| {
        let route = &b.route;
        let host_ok = route.domains.is_empty() || route.domains.iter().any(|d| d == host);
        let path_ok = route.path.as_deref().is_none_or(|prefix| {
            path == prefix
                || path
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('/'))
        });
        host_ok && path_ok
    };
    let exactness = |b: &&&BackendIntent| {
        let path = b.route.path.as_deref().map_or(0, str::len);
        (!b.route.domains.is_empty(), path)
    };
    let best = backends.iter().filter(fit).max_by_key(exactness);
    best.map_or("longshore_no_service".to_owned(), |b| b.name.to_string())
}

/// What follows a word in a line of options.
fn option<'a>(options: &'a str, name: &str) -> Option<&'a str> {
    let mut words = options.split(' ');
    words.find(|word| *word == name)?;
    words.next()
}

/// Refused connections count in all ways in alike.
fn refusals_count(options: &str) {
    for (name, meant) in [
        ("observe", "layer4"),
        ("error-limit", "3"),
        ("on-error", "sudden-death"),
    ] {
        assert_eq!(option(options, name), Some(meant), "{options}");
    }
}

fn ms(text: Option<&str>) -> u64 {
    text.map_or(0, |text| text.strip_suffix("ms").unwrap().parse().unwrap())
}

fn count(text: Option<&str>) -> u32 {
    text.map_or(0, |text| text.parse().unwrap())
}

fn read_balance(lines: &[String]) -> (Balance, Option<String>) {
    let read = match after(lines, "balance ").unwrap() {
        "roundrobin" => (Balance::Roundrobin, None),
        "leastconn" => (Balance::Leastconn, None),
        "random(2)" => (Balance::Random, None),
        "source" => (Balance::Source, None),
        "uri" => (Balance::Hash, None),
        other => {
            let header = other.strip_prefix("hdr(").unwrap();
            let header = header.strip_suffix(')').unwrap();
            (Balance::Hash, Some(header.to_owned()))
        }
    };
    let is_hash = matches!(read.0, Balance::Source | Balance::Hash);
    let consistent = after(lines, "hash-type ") == Some("consistent");
    assert_eq!(is_hash, consistent, "{lines:?}");
    read
}

/// Where requests are sent to over TLS.
fn redirect_port(lines: &[String]) -> u16 {
    let beginning = "http-request redirect code 308 location https://%[req.hdr(host),host_only]";
    after(lines, beginning).map_or(0, |rest| {
        let port = rest.strip_suffix("%[pathq]").unwrap();
        port.strip_prefix(':')
            .map_or(443, |port| port.parse().unwrap())
    })
}

/// The words of a port that ends TLS: all certificates of its services are in its list, and the
/// first of them by name is for clients that name no host.
fn tls_is_right(bind: &str, port: u16, backends: &[&BackendIntent]) {
    let app = |b: &BackendIntent| b.service.app.to_string();
    let names = backends.iter().flat_map(|b| {
        let secrets = b.route.tls.iter();
        secrets.map(move |secret| format!("{}_{secret}", app(b)))
    });
    let names: BTreeSet<String> = names.collect();
    let words = bind.split_once(" ssl ").map(|(_, words)| words);
    let Some(first) = names.first() else {
        return assert_eq!(words, None, "{bind}");
    };
    let dir = settings().certificates_path.display().to_string();
    let meant = format!("crt {dir}/{first}.pem crt-list {dir}/fe_{port}.list alpn h2,http/1.1");
    assert_eq!(words, Some(meant.as_str()));
}

/// A way in as the file says it; its times of checks are those in force.
fn read_route(read: &Sections, meant: &BackendIntent) -> RouteSpec {
    let lines = &read[&format!("backend {}", meant.name)];
    let front = &read[&format!("frontend fe_{}", meant.listen_port)];
    let name = meant.name.to_string();
    let rules: Vec<Rule> = rules(front)
        .into_iter()
        .filter(|r| r.backend == name)
        .collect();
    let hosts: BTreeSet<String> = rules.iter().filter_map(|r| r.host.clone()).collect();
    let paths = rules.iter().filter_map(|r| r.path.clone());
    let exact: BTreeSet<String> = paths
        .filter(|(_, begins)| !begins)
        .map(|(p, _)| p)
        .collect();
    assert!(exact.len() <= 1, "{exact:?}");
    let (balance, hash_header) = read_balance(lines);
    let options = after(lines, "default-server ").unwrap();
    let check = after(lines, "http-check send meth GET uri ");
    let cookie = after(lines, "cookie ");
    refusals_count(options);
    let timeout = |what: &str| ms(after(lines, &format!("timeout {what} ")));
    RouteSpec {
        listen_port: meant.listen_port,
        container_port: 0,
        mode: match after(lines, "mode ").unwrap() {
            "http" => RouteMode::Http,
            "tcp" => RouteMode::Tcp,
            other => panic!("{other}"),
        },
        domains: hosts.into_iter().collect(),
        path: exact.into_iter().next(),
        balance,
        hash_header,
        sticky_cookie: cookie.map(|line| line.split(' ').next().unwrap().to_owned()),
        check_path: check.map(|line| line.split(' ').next().unwrap().to_owned()),
        check: CheckTimes {
            interval_ms: ms(option(options, "inter")).try_into().unwrap(),
            rise: count(option(options, "rise")),
            fall: count(option(options, "fall")),
            timeout_ms: timeout("check").try_into().unwrap(),
        },
        maxconn_per_replica: count(option(options, "maxconn")),
        slowstart_ms: ms(option(options, "slowstart")),
        timeouts: Timeouts {
            connect_ms: timeout("connect"),
            server_ms: timeout("server"),
            queue_ms: timeout("queue"),
            tunnel_ms: timeout("tunnel"),
        },
        proxy_protocol: match (
            options.contains(" send-proxy "),
            options.contains(" send-proxy-v2 "),
        ) {
            (false, false) => None,
            (true, false) => Some(ProxyProtocol::V1),
            (false, true) => Some(ProxyProtocol::V2),
            (true, true) => panic!("{options}"),
        },
        accept_proxy: after(front, "bind ").unwrap().contains(" accept-proxy"),
        http2: option(options, "proto") == Some("h2"),
        // Whose they are is a port's matter.
        tls: match after(front, "bind ").unwrap().contains(" ssl ") {
            true => meant.route.tls.clone(),
            false => Vec::new(),
        },
        redirect_port: redirect_port(lines),
        // Said server by server.
        weights: meant.route.weights,
        compression: compression(lines),
        hsts_max_age_s: hsts(lines, meant),
    }
}

fn compression(lines: &[String]) -> Vec<String> {
    let algorithm = after(lines, "compression algo ");
    let types = after(lines, "compression type ");
    assert_eq!(algorithm, types.map(|_| "gzip"));
    let types = types.into_iter().flat_map(|types| types.split(' '));
    types.map(str::to_owned).collect()
}

/// Nobody says it over plain HTTP.
fn hsts(lines: &[String], meant: &BackendIntent) -> Option<u32> {
    let said = after(
        lines,
        "http-response set-header Strict-Transport-Security max-age=",
    );
    let said = said.map(|age| age.parse().unwrap());
    match meant.route.tls.is_empty() {
        true => {
            assert_eq!(said, None);
            meant.route.hsts_max_age_s
        }
        false => said,
    }
}

fn as_read(meant: &BackendIntent) -> RouteSpec {
    let in_force = meant.check_settings(&settings().check);
    let mut domains = meant.route.domains.clone();
    domains.sort();
    domains.dedup();
    RouteSpec {
        domains,
        check: CheckTimes {
            interval_ms: in_force.inter_ms,
            rise: in_force.rise,
            fall: in_force.fall,
            timeout_ms: meant.route.check.timeout_ms,
        },
        ..meant.route.clone()
    }
}

/// Each server's line is whole, and together they point where they should.
fn servers_are_right(read: &Sections, meant: &BackendIntent) {
    let lines = &read[&format!("backend {}", meant.name)];
    let mut points = BTreeSet::new();
    let servers = lines.iter().filter_map(|line| line.strip_prefix("server "));
    for (nth, line) in servers.enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let (name, at, weight) = match words.as_slice() {
            [name, at, "check", "disabled"] => (name, at, None),
            [name, at, "check", "weight", weight, "disabled"] => (name, at, Some(*weight)),
            _ => panic!("nobody has proven anything, but: {line}"),
        };
        let same = meant
            .servers
            .values()
            .filter(|server| self::at(server) == *at);
        let mut weights = same.map(|server| weight_of(&meant.route, server));
        assert!(
            *at == "127.0.0.1:1" || weights.any(|meant| meant.as_deref() == weight),
            "{line}"
        );
        assert_eq!(*name, format!("slot{}", nth + 1));
        if *at != "127.0.0.1:1" {
            assert!(points.insert((*at).to_owned()) || is_shared(meant, at));
        }
    }
    let meant = meant.servers.values();
    let meant = meant.filter(|s| s.mode == ServerMode::Serve).map(at);
    let meant: BTreeSet<String> = meant.filter(|at| at != "127.0.0.1:1").collect();
    assert_eq!(points, meant);
}

fn weight_of(route: &RouteSpec, server: &Server) -> Option<String> {
    let of_100 = server.weight.unwrap_or(100);
    match (route.weights, route.balance) {
        (Weights::Equal, _) => None,
        (Weights::Load, Balance::Random) => Some(of_100.div_ceil(10).to_string()),
        (Weights::Load, _) => Some(of_100.to_string()),
    }
}

fn at(server: &Server) -> String {
    SocketAddr::new(server.address, server.port).to_string()
}

fn is_shared(meant: &BackendIntent, address: &str) -> bool {
    let same = meant.servers.values().filter(|s| at(s) == address);
    same.count() > 1
}

/// Every line of a backend is one that its way in asks for.
fn nothing_else(read: &Sections, meant: &BackendIntent) {
    const ONCE: [&str; 17] = [
        "compression algo gzip",
        "compression type ",
        "http-response set-header Strict-Transport-Security max-age=",
        "http-request redirect code 308 location https://%[req.hdr(host),host_only]",
        "mode ",
        "balance ",
        "hash-type consistent",
        "cookie ",
        "dynamic-cookie-key ",
        "timeout connect ",
        "timeout server ",
        "timeout queue ",
        "timeout tunnel ",
        "timeout check ",
        "http-check send meth GET uri ",
        "http-check expect status 200-399",
        "default-server ",
    ];
    let lines = &read[&format!("backend {}", meant.name)];
    let mut seen = BTreeSet::new();
    for line in lines.iter().filter(|line| !line.starts_with("server ")) {
        let what = ONCE.iter().find(|known| line.starts_with(**known));
        let what = what
            .copied()
            .or((line == "option httpchk").then_some("option"));
        let what = what.unwrap_or_else(|| panic!("{line}"));
        assert!(seen.insert(what), "twice: {line}");
        let most = match what {
            "cookie " => 8,
            "http-request redirect code 308 location https://%[req.hdr(host),host_only]" => 6,
            "http-check send meth GET uri " => 11,
            "default-server " => 25,
            "compression type " => 34,
            _ => 4,
        };
        assert!(line.split(' ').count() <= most, "{line}");
    }
    assert_eq!(seen.contains("option"), meant.route.check_path.is_some());
    if let Some(check) = after(lines, "http-check send meth GET uri ") {
        let host = meant
            .route
            .domains
            .first()
            .map_or("localhost", String::as_str);
        assert!(check.ends_with(&format!(" hdr Host {host}")), "{check}");
    }
    if let Some(key) = after(lines, "dynamic-cookie-key ") {
        assert_eq!(key, meant.name.as_str());
    }
}

/// Every line of a frontend is known, and its rules lead to its own backends.
fn front_is_right(read: &Sections, port: u16, backends: &[&BackendIntent]) {
    let front = &read[&format!("frontend fe_{port}")];
    let names: BTreeSet<&str> = backends.iter().map(|b| b.name.as_str()).collect();
    let is_ours = |name: &str| names.contains(name) || name == "longshore_no_service";
    for line in front {
        let (first, rest) = line.split_once(' ').unwrap();
        let target = rest.split(' ').next().unwrap();
        match first {
            "bind" => {
                assert_eq!(target, format!("0.0.0.0:{port}"));
                tls_is_right(rest, port, backends);
            }
            "mode" => assert!(backends.iter().all(|b| mode(b) == rest), "{line}"),
            "timeout" => assert!(
                rest.starts_with("client ") && rest.ends_with("ms"),
                "{line}"
            ),
            "option" => assert_eq!(rest, "forwardfor"),
            "http-request" => {
                assert!(rest.starts_with("set-header X-Forwarded-"), "{line}");
                if let Some(proto) = rest.strip_prefix("set-header X-Forwarded-Proto ") {
                    let tls = backends.iter().all(|b| !b.route.tls.is_empty());
                    assert_eq!(proto, if tls { "https" } else { "http" });
                }
            }
            "use_backend" | "default_backend" => assert!(is_ours(target), "{line}"),
            _ => panic!("{line}"),
        }
    }
    for host in ["a.org", "b.org", "c.org", "else.org", ""] {
        for path in [
            "/", "/a", "/a/", "/ab", "/a/b", "/a/bb/x", "/b", "/b/a", "/bb/ab", "/c",
        ] {
            let (found, meant) = (reaches(front, host, path), meant_for(backends, host, path));
            assert_eq!(found, meant, "{host}{path} on port {port}");
        }
    }
}

fn mode(backend: &BackendIntent) -> &'static str {
    match backend.route.mode {
        RouteMode::Http => "http",
        RouteMode::Tcp => "tcp",
    }
}

/// The whole file, as bytes: nothing in it but what was meant.
fn is_clean(file: &str, intent: &Intent) -> Sections {
    let plain = |b: u8| b == b'\n' || (b' '..=b'~').contains(&b);
    assert!(file.bytes().all(plain));
    let filled =
        |line: &str| line.starts_with('#') || !line.contains("@\n") && !line.contains(" @");
    assert!(file.lines().all(filled), "a word was not filled in");
    let read = sections(file);
    let ports: Vec<u16> = intent.frontends().into_keys().collect();
    assert_eq!(listen_ports(file), ports);
    let ours = read.keys().filter(|title| title.starts_with("backend be_"));
    let ours = ours.count();
    assert_eq!(ours, intent.backends.len());
    assert_eq!(read.len(), 4 + ports.len() + ours);
    read
}

/// Commands that bring the servers into a HAProxy with full pools: one line each, of the known
/// verbs, about this backend.
fn commands_are_clean(intent: &Intent) {
    let pools = intent.backends.keys();
    let running = Running {
        backends: pools
            .map(|name| (name.to_string(), BTreeMap::new()))
            .collect(),
        ..Running::default()
    };
    let worker = Worker {
        running: Some(&running),
        version: Some(Version::new(3, 2, 26)),
        vouched: &BTreeSet::new(),
        over: &BTreeSet::new(),
    };
    for step in decide(intent, &SlotMap::default(), worker, &settings()).steps {
        let line = step.wire();
        let verbs = ["add server ", "set server ", "enable health "];
        let rest = verbs.iter().find_map(|verb| line.strip_prefix(verb));
        let rest = rest.unwrap_or_else(|| panic!("{line}"));
        assert!(
            rest.starts_with(&format!("{}/slot", step.backend)),
            "{line}"
        );
        let plain = |b: u8| b.is_ascii_alphanumeric() || b" ./:_-[]".contains(&b);
        assert!(line.bytes().all(plain), "{line}");
    }
}

/// The law: whatever is asked for, the file says what was meant of it and nothing else.
pub(crate) fn holds(backends: Vec<Backend>) {
    let count = backends.len();
    let (intent, errors) = compile(backends);
    assert_eq!(intent.backends.len() + errors.len(), count);
    let file = render(&intent, &first_slots(&intent), &settings());
    let read = is_clean(&file, &intent);
    for meant in intent.backends.values() {
        assert_eq!(read_route(&read, meant), as_read(meant));
        servers_are_right(&read, meant);
        nothing_else(&read, meant);
    }
    for (port, backends) in intent.frontends() {
        front_is_right(&read, port, &backends);
    }
    commands_are_clean(&intent);
}
