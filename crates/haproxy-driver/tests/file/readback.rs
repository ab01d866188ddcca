//! A reader of its own for what the driver writes: ways in come back from the file as they were
//! meant, and each request goes where the model says.

use std::collections::{BTreeMap, BTreeSet};

use longshore_haproxy_driver::Intent;
use longshore_haproxy_driver::intent::BackendIntent;
use longshore_haproxy_driver::render::{listen_ports, render};
use longshore_model::route::{Balance, CheckTimes, ProxyProtocol, RouteMode, RouteSpec, Timeouts};
use longshore_model::routes::ServerMode;
use proptest::prelude::*;

use crate::random::any_backend;
use crate::{compile, first_slots, sections, settings};

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
        accept_proxy: after(front, "bind ").unwrap().ends_with(" accept-proxy"),
        http2: option(options, "proto") == Some("h2"),
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

fn servers_are_right(read: &Sections, meant: &BackendIntent) -> Result<(), TestCaseError> {
    let lines = &read[&format!("backend {}", meant.name)];
    let points: BTreeSet<&str> = lines
        .iter()
        .filter(|line| line.starts_with("server "))
        .filter_map(|line| line.split(' ').nth(2))
        .filter(|at| *at != "127.0.0.1:1")
        .collect();
    let meant: BTreeSet<String> = meant
        .servers
        .values()
        .filter(|s| s.mode == ServerMode::Serve)
        .map(|s| format!("{}:{}", s.address, s.port))
        .filter(|at| at != "127.0.0.1:1")
        .collect();
    prop_assert_eq!(points, meant.iter().map(String::as_str).collect());
    Ok(())
}

/// The whole file, as bytes: nothing in it but what was meant.
fn is_clean(file: &str, intent: &Intent) -> Result<Sections, TestCaseError> {
    let plain = |b: u8| b == b'\n' || (b' '..=b'~').contains(&b);
    prop_assert!(file.bytes().all(plain));
    let filled =
        |line: &str| line.starts_with('#') || !line.contains("@\n") && !line.contains(" @");
    prop_assert!(file.lines().all(filled), "a word was not filled in");
    let read = sections(file);
    let ports: Vec<u16> = intent.frontends().into_keys().collect();
    prop_assert_eq!(listen_ports(file), ports.clone());
    let ours = read.keys().filter(|title| title.starts_with("backend be_"));
    let ours = ours.count();
    prop_assert_eq!(ours, intent.backends.len());
    prop_assert_eq!(read.len(), 4 + ports.len() + ours);
    Ok(read)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn read_back_the_file_says_what_was_meant(backends in prop::collection::vec(any_backend(), 0..8)) {
        let count = backends.len();
        let (intent, errors) = compile(backends);
        prop_assert_eq!(intent.backends.len() + errors.len(), count);
        let file = render(&intent, &first_slots(&intent), &settings());
        let read = is_clean(&file, &intent)?;
        for meant in intent.backends.values() {
            prop_assert_eq!(read_route(&read, meant), as_read(meant));
            servers_are_right(&read, meant)?;
        }
        for (port, backends) in intent.frontends() {
            let front = &read[&format!("frontend fe_{port}")];
            for host in ["a.org", "b.org", "c.org", "else.org", ""] {
                for path in ["/", "/a", "/a/", "/ab", "/a/b", "/a/bb/x", "/b", "/b/a", "/bb/ab", "/c"] {
                    let (found, meant) = (reaches(front, host, path), meant_for(&backends, host, path));
                    prop_assert_eq!(found, meant, "{}{} on port {}", host, path, port);
                }
            }
        }
    }
}
