//! `ports` and `x-haproxy`: ways in.

use longshore_model::route::{
    Balance, CheckTimes, ProxyProtocol, RouteMode, RouteSpec, Timeouts, Weights,
};

use crate::compose::{faults, web};
use crate::compose_env::{directory, load_with, refused, taken};

#[test]
fn ports_become_routes_and_published_container_ports() {
    let spec = web(
        "    ports:\n      - \"8080:8000\"\n      - { target: 9000, published: 90, app_protocol: tcp }\n    \
         expose: [\"9100\", 8000]\n    x-haproxy: { domains: [Shop.example.com], balance: leastconn, \
         maxconn_per_replica: 10, drain: 5s, check: { path: /up, interval: 1s, fall: 2 } }\n",
    );
    assert_eq!(spec.container.ports, [8000, 9000, 9100]);
    let (http, tcp) = (&spec.routes[0], &spec.routes[1]);
    assert_eq!((http.listen_port, http.container_port), (8080, 8000));
    assert_eq!(
        (http.balance, http.maxconn_per_replica),
        (Balance::Leastconn, 10)
    );
    assert_eq!(http.domains, ["shop.example.com"]);
    assert_eq!(
        (tcp.mode, tcp.check_path.as_deref()),
        (RouteMode::Tcp, None)
    );
    let probe = spec.container.probe.unwrap();
    assert_eq!(
        (probe.port, probe.interval_ms, probe.retries),
        (8000, 1_000, 2)
    );
    assert_eq!(probe.path.as_deref(), Some("/up"));
    assert_eq!(spec.drain_ms, 5_000);
}

#[test]
fn all_of_x_haproxy_reaches_the_way_in() {
    let spec = web(
        "    ports: [\"80:80\", { target: 81, published: 81, app_protocol: tcp }]\n    x-haproxy:\n      \
         path: /api\n      balance: hash\n      hash_header: X-Tenant\n      sticky: SHOP\n      \
         check: { path: /up, interval: 2s, timeout: 900ms, rise: 2, fall: 3 }\n      slowstart: 10s\n      \
         timeouts: { connect: 1s, server: 90s, queue: 5s, tunnel: 2h }\n      proxy_protocol: v2\n      \
         accept_proxy: true\n      http2: true\n      compression: [text/html]\n",
    );
    let [http, tcp] = spec.routes.as_slice() else {
        panic!("{:?}", spec.routes)
    };
    let expected = RouteSpec {
        path: Some("/api".into()),
        balance: Balance::Hash,
        hash_header: Some("X-Tenant".into()),
        sticky_cookie: Some("SHOP".into()),
        check_path: Some("/up".into()),
        check: CheckTimes {
            interval_ms: 2_000,
            rise: 2,
            fall: 3,
            timeout_ms: 900,
        },
        maxconn_per_replica: 64,
        slowstart_ms: 10_000,
        timeouts: Timeouts {
            connect_ms: 1_000,
            server_ms: 90_000,
            queue_ms: 5_000,
            tunnel_ms: 7_200_000,
        },
        proxy_protocol: Some(ProxyProtocol::V2),
        accept_proxy: true,
        http2: true,
        compression: vec!["text/html".into()],
        ..RouteSpec::new(80, 80)
    };
    assert_eq!(*http, expected);
    let expected = RouteSpec {
        listen_port: 81,
        container_port: 81,
        maxconn_per_replica: 0,
        ..expected.as_tcp()
    };
    assert_eq!(*tcp, expected);
    // The agent does not speak what the replicas expect: a connection must do.
    assert_eq!(spec.container.probe.unwrap().path, None);
}

#[test]
fn a_service_without_ports_may_say_how_long_its_replicas_finish() {
    let spec = web("    x-haproxy: { drain: 2m, x-why: jobs }\n");
    assert_eq!((spec.drain_ms, spec.routes.len()), (120_000, 0));
}

#[test]
fn answers_are_compressed_and_tell_of_tls_where_the_file_says_so() {
    let of = |haproxy: &str| {
        let spec = web(&format!(
            "    ports: [\"80:80\"]\n    x-haproxy: {haproxy}\n"
        ));
        spec.routes[0].clone()
    };
    let html = |route: &RouteSpec| route.compression.iter().any(|media| media == "text/html");
    assert!(html(&of("{ compression: true }")));
    assert_eq!(of("{ compression: false }").compression.len(), 0);
    assert_eq!(of("{ compression: text/css }").compression, ["text/css"]);
    for (haproxy, why) in [
        ("{ compression: [html] }", "is no media type"),
        ("{ compression: true, mode: tcp }", "needs mode http"),
        ("{ hsts_max_age: 365d }", "no port ends it"),
        ("{ hsts_max_age: 800d }", "two years"),
        ("{ hsts_max_age: 9 }", "has no unit"),
    ] {
        let said = faults(&format!(
            "    ports: [\"80:80\"]\n    x-haproxy: {haproxy}\n"
        ));
        assert!(said.contains(why), "{haproxy}: {said}");
    }
}

#[test]
fn leastconn_starts_slowly_where_the_file_is_silent() {
    let of = |haproxy: &str| {
        let spec = web(&format!(
            "    ports: [\"80:80\"]\n    x-haproxy: {haproxy}\n"
        ));
        (spec.routes[0].slowstart_ms, spec.routes[0].path.clone())
    };
    assert_eq!(of("{ balance: leastconn, path: / }"), (5_000, None));
    assert_eq!(of("{ balance: leastconn, slowstart: 0s }").0, 0);
    assert_eq!(of("{ balance: random }").0, 0);
}

#[test]
fn weights_go_by_load_where_the_file_says_so() {
    let of = |haproxy: &str| {
        let file = format!(
            "    ports: [\"80:80\", {{ target: 81, published: 81, app_protocol: tcp }}]\n    x-haproxy: {haproxy}\n"
        );
        web(&file)
            .routes
            .iter()
            .map(|route| route.weights)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("{ weights: load }"), [Weights::Load; 2]);
    assert_eq!(
        of("{ weights: load, balance: leastconn }"),
        [Weights::Load; 2]
    );
    assert_eq!(of("{ weights: equal, balance: hash }"), [Weights::Equal; 2]);
    assert_eq!(of("{}"), [Weights::Equal; 2]);
}

#[test]
fn requests_at_a_time_are_limited_where_the_file_is_silent() {
    let ports = "    ports: [\"80:80\", { target: 81, published: 81, app_protocol: tcp }]\n";
    let limits = |more: &str| {
        let spec = web(&format!("{ports}{more}"));
        spec.routes
            .iter()
            .map(|r| r.maxconn_per_replica)
            .collect::<Vec<_>>()
    };
    // Without a limit there is no queue to see, and the app's own one keeps health checks out.
    assert_eq!(limits(""), [64, 0]);
    assert_eq!(
        limits("    x-haproxy: { maxconn_per_replica: 0 }\n"),
        [0, 0]
    );
    assert_eq!(
        limits("    x-haproxy: { maxconn_per_replica: 9 }\n"),
        [9, 9]
    );
}

#[test]
fn a_word_that_breaks_a_rule_is_refused_with_the_rule() {
    for (body, wanted) in [
        ("    x-haproxy: { path: /api/ }\n", "/api/"),
        (
            "    x-haproxy: { hash_header: X-A }\n",
            "balance: hash only",
        ),
        ("    x-haproxy: { sticky: \"a;b\" }\n", "letters, digits"),
        ("    x-haproxy: { check: { fall: 1 } }\n", "from 2 to 100"),
        (
            "    x-haproxy: { check: { interval: 2m } }\n",
            "from 10 to 60000",
        ),
        (
            "    x-haproxy: { timeouts: { client: 1s } }\n",
            "write server",
        ),
        (
            "    x-haproxy: { mode: tcp, http2: true }\n",
            "needs mode http",
        ),
        (
            "    x-haproxy: { weights: load, balance: hash }\n",
            "load needs balance: roundrobin, leastconn or random",
        ),
        ("    x-haproxy: { weights: cpu }\n", "equal"),
        (
            "    x-haproxy: { domains: [\"-a.org\"] }\n",
            "is no host name",
        ),
    ] {
        let text = faults(body);
        assert!(text.contains(wanted), "{body}\n{text}");
    }
}

/// `--ignore-unsupported` leaves out what it says it leaves out, and nothing else.
#[test]
fn ports_that_are_not_supported_are_left_out_whole() {
    let file = "services:\n  web:\n    image: a\n    ports: [\"127.0.0.1:81:80\", \"53:53/udp\", \"82:80\"]\n  long:\n    \
                image: a\n    ports:\n      - { target: 80, published: 91, host_ip: 127.0.0.1 }\n      \
                - { target: 53, published: 53, protocol: udp }\n      - { target: 80, published: 92 }\n  none:\n    \
                image: a\n    ports: [\"53:53/udp\"]\n    x-haproxy: { path: /a }\n";
    let dir = directory(&[("compose.yaml", file)]);
    let said = refused(load_with(dir.path(), &[], |_| {}));
    assert_eq!(said.matches("compose::not_supported").count(), 5, "{said}");
    assert!(
        said.contains("\"81:80\"") && !said.contains("8080:8000"),
        "{said}"
    );
    let loaded = taken(load_with(dir.path(), &[], |r| r.ignore_unsupported = true));
    let ports = |name: &str| -> Vec<u16> {
        let mut services = loaded.services.iter();
        let (_, spec) = services.find(|(n, _)| n.as_str() == name).unwrap();
        spec.routes.iter().map(|route| route.listen_port).collect()
    };
    assert_eq!(
        (ports("web"), ports("long"), ports("none")),
        (vec![82], vec![92], vec![])
    );
    let tree = serde_json::to_value(&loaded.tree).unwrap();
    assert_eq!(
        tree["services"]["web"]["ports"],
        serde_json::json!(["82:80"])
    );
    let long = serde_json::json!([{ "target": 80, "published": 92 }]);
    assert_eq!(tree["services"]["long"]["ports"], long);
}
