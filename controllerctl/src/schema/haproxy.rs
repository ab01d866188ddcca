//! `x-haproxy`.

use longshore_model::route::MAXCONN_MAX;

use super::Form::{Boolean, Choice, Decimal, Either, Map, Share, Text, Texts, Time, Whole};
use super::{Key, key};

pub(super) const KEY: Key = key(
    "x-haproxy",
    Map(KEYS, &[]),
    "How the edges treat a service; it holds for all its ways in (ports). docs/x-haproxy.md",
    &["{ domains: shop.example.com, balance: leastconn }"],
);

const KEYS: &[Key] = &[
    key(
        "mode",
        Choice(&["http", "tcp"]),
        "tcp: connections are balanced as they are. One port alone: app_protocol: tcp in ports.",
        &["tcp"],
    )
    .or("http"),
    key("domains", Texts, "Host names, 64 at most, no wildcards.", &["shop.example.com", "[a.example.com, b.example.com]"])
        .or("all"),
    key("path", Text, "Beginning of the paths, in whole segments: /api takes /api and /api/v1, not /apis.", &["/api"])
        .or("all"),
    key(
        "balance",
        Choice(&["roundrobin", "leastconn", "random", "source", "hash"]),
        "Who gets the next request. random: the better of two; source: by the client's address; hash: by \
         hash_header or the path.",
        &["leastconn"],
    )
    .or("roundrobin"),
    key("hash_header", Text, "With balance: hash, the header that decides.", &["X-User"]).or("the path"),
    key("sticky", Text, "Name of a cookie that keeps a client with its replica until that one leaves.", &["srv"])
        .or("none"),
    key("check", Map(CHECK, &[]), "What HAProxy and the node's agent ask of a replica.", &["{ path: /healthz, fall: 3 }"]),
    key(
        "maxconn_per_replica",
        Whole(0, MAXCONN_MAX as u64),
        "Requests at a time for one replica and edge; more wait in HAProxy, seen as queue. 0: no limit.",
        &["100"],
    )
    .or("64; tcp: no limit"),
    key("slowstart", Time, "A replica that comes in reaches its full share in this time.", &["10s"])
        .or("leastconn: 5s, else none"),
    key(
        "weights",
        Choice(&["equal", "load"]),
        "load: replicas on nodes with more free CPU get more of the traffic.",
        &["load"],
    )
    .or("equal"),
    key("timeouts", Map(TIMEOUTS, &[]), "How long HAProxy waits.", &["{ server: 60s }"]),
    key(
        "proxy_protocol",
        Choice(&["v1", "v2"]),
        "Replicas are told the client's address at the head of each connection, checks included; they must \
         expect it.",
        &["v2"],
    )
    .or("none"),
    key(
        "accept_proxy",
        Boolean,
        "Who connects to the edges tells the client's address so (another load balancer in front).",
        &["true"],
    )
    .or("false"),
    key("http2", Boolean, "Replicas speak HTTP/2 without TLS (gRPC).", &["true"]).or("false"),
    key("tls", Texts, "A secret of the file, or a list: certificates that the edges end TLS with.", &["shop-cert"])
        .or("none"),
    key("redirect_https", Boolean, "The other HTTP ports of the service answer 308, to the port with TLS.", &["true"])
        .or("false"),
    key(
        "hsts_max_age",
        Time,
        "On ports with TLS, clients are told to come over TLS alone for so long \
         (Strict-Transport-Security), two years at most; 0s ends it.",
        &["365d"],
    )
    .or("none"),
    key(
        "compression",
        Either(&Boolean, &Texts),
        "Answers of these media types are compressed with gzip for clients that take it; true: HTML, text, CSS, \
         JavaScript, JSON, XML and SVG.",
        &["true", "[text/html, application/json]"],
    )
    .or("false"),
    key("drain", Time, "How long a leaving replica may finish its sessions.", &["30s"]).or("30s"),
    key(
        "gate",
        Map(GATE, &[]),
        "What HAProxy must see of new replicas before a rollout goes on. docs/rollouts.md",
        &["{ max_error_ratio_increase: 1%, max_latency_ratio: 1.5 }"],
    )
    .or("none"),
];

const CHECK: &[Key] = &[
    key(
        "path",
        Text,
        "What is asked for; 200 to 399 is well.",
        &["/healthz"],
    )
    .or("a connection is enough"),
    key("interval", Time, "Between two checks.", &["500ms"]).or("500ms"),
    key("timeout", Time, "For the answer.", &["3s"]).or("3s"),
    key(
        "rise",
        Whole(1, 100),
        "Checks in a row that bring a replica back.",
        &["1"],
    )
    .or("1"),
    key(
        "fall",
        Whole(2, 100),
        "Failed checks in a row that take it out.",
        &["2"],
    )
    .or("2"),
    key(
        "start",
        Time,
        "The agent's patience with a starting replica.",
        &["60s"],
    )
    .or("60s"),
];

const TIMEOUTS: &[Key] = &[
    key("connect", Time, "For a connection to a replica.", &["1s"]).or("1s"),
    key(
        "server",
        Time,
        "For a replica's next bytes, and for a client's where it is longer.",
        &["60s"],
    )
    .or("60s"),
    key("queue", Time, "For a seat at a replica.", &["30s"]).or("30s"),
    key(
        "tunnel",
        Time,
        "Between bytes of a WebSocket or a TCP connection on which both sides have spoken.",
        &["1h"],
    )
    .or("1h"),
];

const GATE: &[Key] = &[
    key(
        "min_requests",
        Whole(1, 1_000_000_000),
        "Requests that new replicas must have had.",
        &["100"],
    )
    .or("50"),
    key(
        "max_error_ratio_increase",
        Share,
        "How much greater the share of errors of new replicas may be than that of old ones.",
        &["1%"],
    ),
    key(
        "max_latency_ratio",
        Decimal(GATE_RATIO_MAX),
        "How many times as long new replicas may take to answer as old ones; at least 1.",
        &["1.5"],
    ),
    key(
        "min_latency",
        Time,
        "Response times below this are always good enough.",
        &["10ms"],
    )
    .or("10ms"),
];

const GATE_RATIO_MAX: u64 = 1_000;
