//! `x-haproxy`: how the edges treat a service.

use longshore_model::spec::{Balance, GateSpec, RouteMode};

use super::super::problem::Problems;
use super::item::Item;
use super::{keys, update};

const DRAIN_MS: u64 = 30_000;
/// Requests at a time for one replica, where a file is silent (docs/decisions/0008).
const MAXCONN_PER_REPLICA: u32 = 64;
/// Most host names of one route, as the wire allows.
const DOMAINS_MAX: usize = 64;

/// `x-haproxy`, defaults filled in.
#[derive(Debug, Clone)]
pub(super) struct Haproxy {
    pub(super) domains: Vec<String>,
    pub(super) balance: Balance,
    pub(super) check: Option<Check>,
    /// Requests at a time; none: the default of the mode.
    maxconn_per_replica: Option<u32>,
    pub(super) drain_ms: u64,
    pub(super) mode: RouteMode,
    pub(super) gate: Option<GateSpec>,
}

impl Haproxy {
    /// Requests at a time for one replica; 0: no limit. Plain TCP connections last, so only the
    /// file can know how many are right.
    pub(super) fn maxconn_of(&self, mode: RouteMode) -> u32 {
        self.maxconn_per_replica.unwrap_or(match mode {
            RouteMode::Http => MAXCONN_PER_REPLICA,
            RouteMode::Tcp => 0,
        })
    }
}

/// `x-haproxy.check`.
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
        domains: Vec::new(),
        balance: Balance::default(),
        check: None,
        maxconn_per_replica: None,
        drain_ms: DRAIN_MS,
        mode: RouteMode::default(),
        gate: None,
    };
    let Some(mut fields) = item.and_then(|item| item.fields(p)) else {
        return out;
    };
    if let Some(item) = fields.take("mode") {
        let modes = [("http", RouteMode::Http), ("tcp", RouteMode::Tcp)];
        out.mode = item.choice(p, &modes).unwrap_or_default();
    }
    if let Some(item) = fields.take("domains") {
        out.domains = domains(&item, p);
        if out.mode == RouteMode::Tcp {
            item.invalid(p, "host names need mode http");
        }
    }
    if let Some(item) = fields.take("balance") {
        let choices = [
            ("roundrobin", Balance::Roundrobin),
            ("leastconn", Balance::Leastconn),
            ("random", Balance::Random),
            ("source", Balance::Source),
        ];
        out.balance = item.choice(p, &choices).unwrap_or_default();
    }
    out.check = fields.take("check").and_then(|item| check(&item, p));
    out.maxconn_per_replica = fields
        .take("maxconn_per_replica")
        .and_then(|i| i.number(p, 0, 1_000_000));
    if let Some(ms) = fields.take("drain").and_then(|i| i.duration_ms(p)) {
        out.drain_ms = ms;
    }
    let tcp = out.mode == RouteMode::Tcp;
    out.gate = fields
        .take("gate")
        .and_then(|item| update::gate(&item, tcp, p));
    fields.finish(p, keys::HAPROXY);
    out
}

fn check(item: &Item<'_>, p: &mut Problems) -> Option<Check> {
    let mut fields = item.fields(p)?;
    let path = fields.take("path").and_then(|item| {
        let path = item.word(p)?;
        // The path becomes part of HAProxy's configuration: only what a URL may hold, unquoted.
        let ok = path.starts_with('/')
            && path.len() <= 512
            && path
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/-._~%?=&+,:@".contains(&b));
        if !ok {
            item.invalid(p, format!("{path:?} is no HTTP path; write /healthz"));
        }
        ok.then_some(path)
    });
    let mut time = |name, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        item.and_then(|item| item.duration_ms(p))
    };
    let interval_ms = time("interval", p);
    let timeout_ms = time("timeout", p);
    let start_ms = time("start", p);
    let fall = fields.take("fall").and_then(|i| i.number(p, 1, 100));
    fields.finish(p, keys::HAPROXY_CHECK);
    Some(Check {
        path,
        interval_ms,
        timeout_ms,
        fall,
        start_ms,
    })
}

fn domains(item: &Item<'_>, p: &mut Problems) -> Vec<String> {
    let names = item.word_or_words(p);
    if names.len() > DOMAINS_MAX {
        item.invalid(
            p,
            format!("has {} names; at most {DOMAINS_MAX}", names.len()),
        );
    }
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let mut good = Vec::new();
    for name in names {
        let lower = name.to_ascii_lowercase();
        if lower.len() <= 253 && lower.split('.').all(label) {
            good.push(lower);
        } else {
            item.invalid(p, format!("{name:?} is no host name"));
        }
    }
    good
}
