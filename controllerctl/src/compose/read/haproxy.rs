//! `x-haproxy`: how the edges treat a service.

use longshore_model::route::{
    Balance, CheckTimes, MAXCONN_MAX, ProxyProtocol, RouteMode, RouteSpec, Timeouts, Weights,
};
use longshore_model::spec::GateSpec;

use super::super::problem::Problems;
use super::item::{Fields, Item};
use super::{keys, update};

const DRAIN_MS: u64 = 30_000;
/// Requests at a time for one replica, where a file is silent (docs/decisions/0008).
const MAXCONN_PER_REPLICA: u32 = 64;
/// Slow start with `leastconn`, where a file is silent: a newcomer has the fewest connections, so
/// without one it would get every new request at once (docs/decisions/0033).
const LEASTCONN_SLOWSTART_MS: u64 = 5_000;

/// `x-haproxy`, defaults filled in.
#[derive(Debug, Clone)]
pub(super) struct Haproxy {
    /// A way in without its ports.
    route: RouteSpec,
    /// Requests at a time; none: the default of the mode.
    maxconn_per_replica: Option<u32>,
    pub(super) check: Check,
    pub(super) drain_ms: u64,
    pub(super) gate: Option<GateSpec>,
    /// Plain ports send to the one with TLS.
    redirects: bool,
}

/// What a port says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Https,
    Tcp,
}

/// What [`compression`] takes for `true`: images and archives are compressed already, and what comes
/// bit by bit (`text/event-stream`) must not wait.
const COMPRESSED: [&str; 8] = [
    "text/html",
    "text/plain",
    "text/css",
    "text/javascript",
    "application/javascript",
    "application/json",
    "application/xml",
    "image/svg+xml",
];

/// The port that ends TLS without more ado.
const HTTPS_PORT: u16 = 443;

impl Haproxy {
    /// A way in through a port of the edges; `protocol`: what the port says of itself.
    pub(super) fn route(
        &self,
        listen_port: u16,
        container_port: u16,
        protocol: Option<Protocol>,
    ) -> RouteSpec {
        let mode = match protocol {
            None => self.route.mode,
            Some(Protocol::Tcp) => RouteMode::Tcp,
            Some(Protocol::Http | Protocol::Https) => RouteMode::Http,
        };
        let ends_tls = match protocol {
            None => listen_port == HTTPS_PORT,
            Some(protocol) => protocol == Protocol::Https,
        };
        // Plain TCP connections last, so only the file can know how many are right.
        let maxconn = self.maxconn_per_replica.unwrap_or(match mode {
            RouteMode::Http => MAXCONN_PER_REPLICA,
            RouteMode::Tcp => 0,
        });
        let route = RouteSpec {
            listen_port,
            container_port,
            mode,
            maxconn_per_replica: maxconn,
            tls: match ends_tls {
                true => self.route.tls.clone(),
                false => Vec::new(),
            },
            ..self.route.clone()
        };
        match mode {
            RouteMode::Http => route,
            RouteMode::Tcp => route.as_tcp(),
        }
    }

    /// Has TLS an end here, if somewhere?
    pub(super) fn has_tls(&self) -> bool {
        !self.route.tls.is_empty()
    }

    /// Sends requests of plain ports to the one with TLS, where the file says so, and says what
    /// does not fit together.
    pub(super) fn join_tls(&self, item: &Item<'_>, routes: &mut [RouteSpec], p: &mut Problems) {
        let mut with_tls = routes.iter().filter(|route| !route.tls.is_empty());
        let first = with_tls.next().map(|route| route.listen_port);
        let others = with_tls.map(|route| route.listen_port);
        let to = others
            .chain(first)
            .find(|port| *port == HTTPS_PORT)
            .or(first);
        if self.has_tls() && self.route.mode == RouteMode::Http && to.is_none() {
            let help = "publish 443 (ports: [\"443:8000\"]), or say of another port app_protocol: \
                        https";
            let message = "no published port ends TLS";
            item.at("tls").invalid_help(p, message, help);
        }
        if self.route.hsts_max_age_s.is_some() && !self.has_tls() {
            let help = "name certificates: tls: [NAME]";
            let message = "clients can be told only over TLS, and no port ends it";
            item.at("hsts_max_age").invalid_help(p, message, help);
        }
        if !self.redirects {
            return;
        }
        let Some(to) = to else {
            if !self.has_tls() {
                let help = "name certificates: tls: [NAME]";
                let message = "there is no port with TLS to send requests to";
                item.at("redirect_https").invalid_help(p, message, help);
            }
            return;
        };
        for route in routes {
            if route.tls.is_empty() && route.mode == RouteMode::Http {
                route.redirect_port = to;
            }
        }
    }

    /// The agent can ask a replica over HTTP/1.1 without more ado.
    pub(super) fn is_plain(&self) -> bool {
        self.route.proxy_protocol.is_none() && !self.route.http2
    }
}

/// `x-haproxy.check`, as the agent's probe takes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Check {
    pub(super) path: Option<String>,
    pub(super) interval_ms: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) fall: Option<u32>,
    pub(super) start_ms: Option<u64>,
}

pub(super) fn read(item: Option<Item<'_>>, p: &mut Problems) -> Haproxy {
    let mut out = Haproxy {
        route: RouteSpec::default(),
        maxconn_per_replica: None,
        check: Check::default(),
        drain_ms: DRAIN_MS,
        gate: None,
        redirects: false,
    };
    let Some(item) = item else { return out };
    let Some(mut fields) = item.fields(p) else {
        return out;
    };
    let route = &mut out.route;
    let modes = [("http", RouteMode::Http), ("tcp", RouteMode::Tcp)];
    let mode = fields.take("mode").and_then(|i| i.choice(p, &modes));
    route.mode = mode.unwrap_or_default();
    if let Some(item) = fields.take("domains") {
        let names = item.word_or_words(p);
        route.domains = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    }
    // All paths is what no path says.
    let path = fields.take("path").and_then(|i| i.word(p));
    route.path = path.filter(|path| path != "/");
    let balance = fields.take("balance").and_then(|i| i.choice(p, &BALANCES));
    route.balance = balance.unwrap_or_default();
    route.hash_header = fields.take("hash_header").and_then(|i| i.word(p));
    route.sticky_cookie = fields.take("sticky").and_then(|i| i.word(p));
    if let Some(item) = fields.take("check") {
        out.check = check(&item, route, p);
    }
    out.maxconn_per_replica = fields
        .take("maxconn_per_replica")
        .and_then(|i| i.number(p, 0, MAXCONN_MAX));
    let slowstart_ms = fields.take("slowstart").and_then(|i| i.duration_ms(p));
    route.slowstart_ms = slowstart_ms.unwrap_or(match route.balance {
        Balance::Leastconn => LEASTCONN_SLOWSTART_MS,
        _ => 0,
    });
    if let Some(item) = fields.take("timeouts") {
        route.timeouts = timeouts(&item, p);
    }
    kinds(&mut fields, route, p);
    let mut flag = |name, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        item.and_then(|item| item.boolean(p)).unwrap_or(false)
    };
    route.accept_proxy = flag("accept_proxy", p);
    route.http2 = flag("http2", p);
    out.redirects = flag("redirect_https", p);
    answers(&mut fields, route, p);
    route.tls = tls(fields.take("tls"), p);
    if let Some(ms) = fields.take("drain").and_then(|i| i.duration_ms(p)) {
        out.drain_ms = ms;
    }
    let tcp = out.route.mode == RouteMode::Tcp;
    out.gate = fields
        .take("gate")
        .and_then(|item| update::gate(&item, tcp, p));
    fields.finish(p, keys::HAPROXY);
    for problem in out.route.problems() {
        let place = problem
            .field
            .split('.')
            .fold(item.clone(), |at, name| at.at(name));
        place.invalid(p, problem.rule);
    }
    out
}

/// What is done to answers.
fn answers(fields: &mut Fields<'_>, route: &mut RouteSpec, p: &mut Problems) {
    if let Some(item) = fields.take("compression") {
        route.compression = compression(&item, p);
    }
    let age_ms = fields.take("hsts_max_age");
    let age_ms = age_ms.and_then(|i| i.long_duration_ms(p));
    route.hsts_max_age_s = age_ms.map(|ms| u32::try_from(ms / 1_000).unwrap_or(u32::MAX));
}

/// `proxy_protocol` and `weights`.
fn kinds(fields: &mut Fields<'_>, route: &mut RouteSpec, p: &mut Problems) {
    let versions = [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
    let version = fields.take("proxy_protocol");
    route.proxy_protocol = version.and_then(|i| i.choice(p, &versions));
    let kinds = [("equal", Weights::Equal), ("load", Weights::Load)];
    let weights = fields.take("weights").and_then(|i| i.choice(p, &kinds));
    route.weights = weights.unwrap_or_default();
}

/// `true`: what is text on most pages; else media types.
fn compression(item: &Item<'_>, p: &mut Problems) -> Vec<String> {
    match item.node.as_text() {
        Some("true") => COMPRESSED.map(str::to_owned).to_vec(),
        Some("false") => Vec::new(),
        _ => item.word_or_words(p),
    }
}

/// Names of secrets.
fn tls(item: Option<Item<'_>>, p: &mut Problems) -> Vec<String> {
    let Some(item) = item else {
        return Vec::new();
    };
    let names = item.word_or_words(p);
    if names.is_empty() {
        item.invalid(p, "names no secret");
    }
    names
}

const BALANCES: [(&str, Balance); 5] = [
    ("roundrobin", Balance::Roundrobin),
    ("leastconn", Balance::Leastconn),
    ("random", Balance::Random),
    ("source", Balance::Source),
    ("hash", Balance::Hash),
];

/// What the edge asks a replica, and what its agent does.
fn check(item: &Item<'_>, route: &mut RouteSpec, p: &mut Problems) -> Check {
    let Some(mut fields) = item.fields(p) else {
        return Check::default();
    };
    let path = fields.take("path").and_then(|item| item.word(p));
    let mut time = |name, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        item.and_then(|item| item.span_ms(p))
    };
    let interval_ms = time("interval", p);
    let timeout_ms = time("timeout", p);
    let start_ms = fields.take("start").and_then(|i| i.duration_ms(p));
    let rise = fields.take("rise").and_then(|i| i.number(p, 1, 100));
    let fall = fields.take("fall").and_then(|i| i.number(p, 2, 100));
    fields.finish(p, keys::HAPROXY_CHECK);
    let ms = |ms: Option<u64>| ms.map_or(0, |ms| u32::try_from(ms).unwrap_or(u32::MAX));
    route.check_path.clone_from(&path);
    route.check = CheckTimes {
        interval_ms: ms(interval_ms),
        rise: rise.unwrap_or_default(),
        fall: fall.unwrap_or_default(),
        timeout_ms: ms(timeout_ms),
    };
    Check {
        path,
        interval_ms,
        timeout_ms,
        fall,
        start_ms,
    }
}

fn timeouts(item: &Item<'_>, p: &mut Problems) -> Timeouts {
    let Some(mut fields) = item.fields(p) else {
        return Timeouts::default();
    };
    let mut time = |name| {
        let item: Option<Item<'_>> = fields.take(name);
        item.and_then(|item| item.span_ms(p)).unwrap_or_default()
    };
    let times = Timeouts {
        connect_ms: time("connect"),
        server_ms: time("server"),
        queue_ms: time("queue"),
        tunnel_ms: time("tunnel"),
    };
    fields.finish(p, keys::HAPROXY_TIMEOUTS);
    times
}
