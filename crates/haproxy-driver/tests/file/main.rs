//! The rendered file: read back, it says what was meant; hostile words never get into it; and
//! HAProxy accepts it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Helpers are outside of `#[test]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use longshore_haproxy_driver::name::StatsUri;
use longshore_haproxy_driver::render::{render, structure, with_servers};
use longshore_haproxy_driver::slots::Holder;
use longshore_haproxy_driver::{Intent, Settings, SlotMap, StatsPage};
use longshore_model::route::{
    Balance, CheckTimes, ProxyProtocol, RouteMode, RouteSpec, TIMEOUT_MS_MAX, Timeouts,
};
use longshore_model::routes::{Backend, Routes, Server, ServerMode};
use longshore_model::{ReplicaId, ServiceKey};
use proptest::prelude::*;

use crate::common::{compile, first_slots, sections, settings};
use crate::random::any_backend;

mod bytes;
mod common;
mod random;
mod readback;

fn backend(service: &str, port: u16, domains: &[&str]) -> Backend {
    Backend {
        service: service.parse().unwrap(),
        route: RouteSpec {
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            check_path: Some("/healthz".to_owned()),
            ..RouteSpec::new(port, 80)
        },
        servers: Vec::new(),
        holds: false,
    }
}

#[test]
fn each_rule_that_is_broken_names_service_and_field() {
    let broken = |change: fn(&mut Backend), expected: &str| {
        let mut bad = backend("shop/web", 80, &[]);
        change(&mut bad);
        let (intent, errors) = compile(vec![backend("blog/web", 81, &[]), bad]);
        assert_eq!(intent.backends.len(), 1, "the good one must stay");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains(expected), "{}", errors[0]);
        assert!(errors[0].to_string().contains("shop/web"), "{}", errors[0]);
    };
    broken(
        |b| b.route.domains = vec!["a\n  stats admin".to_owned()],
        "domains",
    );
    broken(
        |b| b.route.domains = vec!["a.example".to_owned(); 65],
        "65 names",
    );
    broken(
        |b| b.route.check_path = Some("/a b".to_owned()),
        "check.path",
    );
    broken(
        |b| b.route.check_path = Some("/a\nserver evil".to_owned()),
        "check.path",
    );
    broken(|b| b.route.listen_port = 0, "listen_port");
    broken(|b| b.route.listen_port = 8404, "statistics");
    broken(
        |b| b.route.maxconn_per_replica = u32::MAX,
        "maxconn_per_replica",
    );
    broken(
        |b| {
            b.route.mode = RouteMode::Tcp;
            b.route.domains = vec!["a".to_owned()];
        },
        "needs mode http",
    );
    broken(
        |b| {
            b.servers.push(Server {
                replica: ReplicaId(1),
                address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                port: 1,
                mode: ServerMode::Serve,
                weight: None,
            });
        },
        "r1 has no usable address",
    );
}

#[test]
fn of_two_that_want_the_same_the_one_that_serves_keeps_it() {
    let both = vec![
        backend("a/new", 80, &["x.org"]),
        backend("z/old", 80, &["y.org", "x.org"]),
    ];
    let (intent, errors) = compile(both.clone());
    assert_eq!(
        intent.backends.values().next().unwrap().service.to_string(),
        "a/new"
    );
    assert_eq!(
        errors[0].to_string(),
        "z/old: port 80 is served by a/new already (both take the host name x.org)"
    );
    let served = intent_name("z/old", 80);
    let routes = Routes {
        generation: 1,
        backends: both,
        ..Routes::default()
    };
    let (intent, errors) = Intent::compile(&routes, &served, &[8404]);
    assert_eq!(
        intent.backends.values().next().unwrap().service.to_string(),
        "z/old"
    );
    assert!(
        errors[0]
            .to_string()
            .contains("a/new: port 80 is served by z/old"),
        "{}",
        errors[0]
    );
    let (_, errors) = compile(vec![backend("a/b", 80, &[]), backend("c/d", 80, &[])]);
    assert!(
        errors[0].to_string().contains("both take all host names"),
        "{}",
        errors[0]
    );
    let mut tcp = backend("e/f", 80, &[]);
    tcp.route.mode = RouteMode::Tcp;
    let (_, errors) = compile(vec![backend("a/b", 80, &["x.org"]), tcp]);
    assert!(errors[0].to_string().contains("plain TCP"), "{}", errors[0]);
}

fn intent_name(service: &str, port: u16) -> BTreeSet<longshore_haproxy_driver::name::BackendName> {
    let key: ServiceKey = service.parse().unwrap();
    BTreeSet::from([longshore_haproxy_driver::name::BackendName::of(&key, port)])
}

#[test]
fn only_a_proven_server_that_serves_is_enabled_in_the_file() {
    let mut web = backend("shop/web", 80, &[]);
    for (id, mode) in [
        (1, ServerMode::Serve),
        (2, ServerMode::Serve),
        (3, ServerMode::Drain),
    ] {
        let address = "10.0.0.9".parse().unwrap();
        web.servers.push(Server {
            replica: ReplicaId(id),
            address,
            port: 8000 + id as u16,
            mode,
            weight: None,
        });
    }
    let (intent, _) = compile(vec![web]);
    let held = |id, proven| Holder::Replica {
        id: ReplicaId(id),
        proven,
    };
    let pool = BTreeMap::from([
        (1, held(1, true)),
        (2, held(2, false)),
        (3, held(3, true)),
        (4, Holder::Free),
    ]);
    let slots = SlotMap {
        backends: BTreeMap::from([("be_shop_web_80".to_owned(), pool)]),
        reload_owed: false,
        loaded: BTreeMap::new(),
    };
    let file = render(&intent, &slots, &settings());
    let servers: Vec<_> = sections(&file)["backend be_shop_web_80"]
        .iter()
        .filter(|line| line.starts_with("server "))
        .cloned()
        .collect();
    assert_eq!(
        servers,
        [
            "server slot1 10.0.0.9:8001 check",
            "server slot2 10.0.0.9:8002 check disabled",
            "server slot3 10.0.0.9:8003 check disabled",
            "server slot4 127.0.0.1:1 check disabled",
        ]
    );
    assert!(!structure(&file).contains("server slot"));
}

fn also(port: u16) -> Option<StatsPage> {
    let uri = StatsUri::new("/haproxy?stats").unwrap();
    Some(StatsPage { port, uri })
}

#[test]
fn a_further_statistics_page_is_a_place_of_plain_words_and_no_services_port() {
    let uris = ["/", "/haproxy?stats", "/a.b/c-d_e"];
    assert!(uris.iter().all(|uri| StatsUri::new(uri).is_some()));
    for bad in [
        "",
        "haproxy?stats",
        "/a b",
        "/a?",
        "/a?b?c",
        "/a;csv",
        "/a\nstats admin if TRUE",
        "/%[src]",
    ] {
        assert_eq!(StatsUri::new(bad), None, "{bad:?} was taken");
    }
    let settings = Settings {
        stats_also: also(5050),
        ..settings()
    };
    assert_eq!(settings.reserved_ports(), [settings.stats_port, 5050]);
    let service = backend("shop/web", 5050, &[]);
    let routes = Routes {
        generation: 1,
        backends: vec![service],
        closed: Default::default(),
    };
    let (_, errors) = Intent::compile(&routes, &BTreeSet::new(), &settings.reserved_ports());
    assert!(errors[0].to_string().contains("statistics"), "{errors:?}");
}

#[test]
fn no_setting_can_become_syntax() {
    let refused = |change: fn(&mut Settings), field: &str| {
        let mut settings = settings();
        change(&mut settings);
        let error = longshore_haproxy_driver::render::check_settings(&settings).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    };
    refused(|s| s.admin_socket = "/run/a b".into(), "admin_socket");
    refused(|s| s.state_path = "relative".into(), "state_path");
    refused(|s| s.process.chroot = Some("/a\nb".into()), "chroot");
    refused(|s| s.process.user = Some("a\n".to_owned()), "user");
    refused(|s| s.stats_also = also(0), "stats_also");
    refused(|s| s.stats_also = also(s.stats_port), "stats_also");
    refused(|s| s.check.fall = 1, "fall");
    refused(|s| s.check.inter_ms = 0, "intervals");
    assert!(longshore_haproxy_driver::render::check_settings(&Settings::default()).is_ok());
}

/// Each directive of the unit as often as it is given, in order.
fn directives<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let prefix = format!("{name}=");
    unit.lines()
        .filter_map(|line| line.strip_prefix(prefix.as_str()))
        .collect()
}

#[test]
fn the_unit_starts_haproxy_again_within_a_second_and_reloads_only_what_passes() {
    let unit = include_str!("../../../../packaging/systemd/longshore-haproxy.service");
    assert_eq!(directives(unit, "Restart"), ["always"]);
    assert_eq!(directives(unit, "RestartSec"), ["100ms"]);
    // Without this the supervisor gives up on a HAProxy that crashes often.
    assert_eq!(directives(unit, "StartLimitIntervalSec"), ["0"]);
    let config = Settings::default().config_path;
    let config = config.to_str().unwrap();
    let reload = directives(unit, "ExecReload");
    assert_eq!(reload.len(), 2, "{reload:?}");
    assert!(reload[0].contains("haproxy -c -q -f") && reload[0].ends_with(config));
    assert_eq!(reload[1], "/bin/kill -USR2 $MAINPID");
    let start = directives(unit, "ExecStart");
    let master = Settings::default().master_socket;
    assert!(start[0].contains(&format!("-Ws -S {}", master.display())));
    assert!(start[0].ends_with(config));
}

fn haproxy_accepts(file: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("haproxy.cfg");
    std::fs::write(&path, file).unwrap();
    let run = std::process::Command::new("haproxy")
        .arg("-c")
        .arg("-f")
        .arg(&path)
        .output();
    let output = run.expect("install haproxy (apt-get install haproxy)");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}\n{file}");
    // The state file of another host's path is the one thing that may be missing here.
    let warned = words
        .lines()
        .find(|l| l.contains("[WARNING]") && !l.contains("state file"));
    assert_eq!(warned, None, "{file}");
}

/// All that a way in may say beyond the rest.
fn with_all_words(route: &mut RouteSpec) {
    route.check = CheckTimes {
        interval_ms: 2_000,
        rise: 2,
        fall: 3,
        timeout_ms: 900,
    };
    route.slowstart_ms = 5_000;
    route.timeouts = Timeouts {
        connect_ms: 1,
        server_ms: 90_000,
        queue_ms: 3,
        tunnel_ms: TIMEOUT_MS_MAX,
    };
    route.accept_proxy = true;
    if route.mode == RouteMode::Tcp {
        route.proxy_protocol = Some(ProxyProtocol::V1);
        return;
    }
    route.proxy_protocol = Some(ProxyProtocol::V2);
    route.path = Some("/a/b-c._~d".to_owned());
    route.redirect_port = 8443;
    route.sticky_cookie = Some("A_b-1".to_owned());
    if route.balance == Balance::Hash && route.check_path.is_some() {
        route.hash_header = Some("X-Tenant".to_owned());
    }
    route.http2 = route.check_path.is_none();
    route.compression = vec!["text/html".to_owned(), "image/svg+xml".to_owned()];
    route.hsts_max_age_s = Some(31_536_000);
}

#[test]
fn haproxy_accepts_every_kind_of_backend_without_a_warning() {
    let mut all = Vec::new();
    let balances = [
        Balance::Roundrobin,
        Balance::Leastconn,
        Balance::Random,
        Balance::Source,
        Balance::Hash,
    ];
    for (i, balance) in balances.into_iter().enumerate() {
        let modes = [RouteMode::Http, RouteMode::Tcp];
        for mode in modes
            .into_iter()
            .take(if balance == Balance::Hash { 1 } else { 2 })
        {
            for check_path in [None, Some("/a/b_c.d~e-f=g&h?i+j:k@l,m".to_owned())] {
                let port = 1000 + all.len() as u16 / 2;
                let mut one = backend(&format!("app{i}/web"), port, &[]);
                let server = Server {
                    replica: ReplicaId(1),
                    address: if i % 2 == 0 {
                        "10.0.0.1".parse().unwrap()
                    } else {
                        "fd00::1".parse().unwrap()
                    },
                    port: 31_000,
                    mode: ServerMode::Serve,
                    weight: None,
                };
                one.servers.push(server);
                one.route.balance = balance;
                one.route.mode = mode;
                one.route.check_path = check_path;
                one.route.maxconn_per_replica = i as u32 * 10;
                all.push(one.clone());
                one.service = format!("app{i}/all").parse().unwrap();
                one.route.listen_port += 500;
                with_all_words(&mut one.route);
                all.push(one);
            }
        }
    }
    let long = "a".repeat(63);
    let name = format!("{long}.{long}.{long}.example");
    all.push(backend(
        &format!("{long}/{long}"),
        2000,
        &[&name, "b.example"],
    ));
    let (intent, errors) = compile(all);
    assert!(errors.is_empty(), "{errors:?}");
    haproxy_accepts(&render(&intent, &first_slots(&intent), &settings()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn servers_change_in_a_file_and_nothing_else(
        backends in prop::collection::vec(any_backend(), 0..6),
        others in prop::collection::vec(any::<bool>(), 6),
        left_out in 0usize..6,
    ) {
        let (intent, _) = compile(backends);
        let slots = first_slots(&intent);
        let file = render(&intent, &slots, &settings());
        let mut now = slots.clone();
        for (pool, proven) in now.backends.values_mut().zip(others) {
            for holder in pool.values_mut() {
                *holder = match holder {
                    Holder::Replica { id, .. } if proven => Holder::Replica { id: *id, proven },
                    _ => Holder::Free,
                };
            }
        }
        prop_assert_eq!(with_servers(&file, &intent, &now), render(&intent, &now, &settings()));
        // Who is not in the intent keeps its lines.
        let mut fewer = intent.clone();
        let name = intent.backends.keys().nth(left_out).cloned();
        if let Some(name) = name {
            fewer.backends.remove(&name);
            let pool = slots.backends.get(name.as_str()).cloned();
            now.backends.remove(name.as_str());
            let kept = with_servers(&file, &fewer, &now);
            now.backends.extend(pool.map(|pool| (name.to_string(), pool)));
            prop_assert_eq!(kept, render(&intent, &now, &settings()));
        }
    }

    #[test]
    fn read_back_the_file_says_what_was_meant(backends in prop::collection::vec(any_backend(), 0..8)) {
        readback::holds(backends);
    }

    #[test]
    fn whatever_bytes_ask_for_the_file_says_what_was_meant(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        readback::holds(bytes::backends(&bytes));
    }
}
