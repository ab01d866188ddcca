//! A way in: what of the traffic at the edges is whose, and how HAProxy treats it.
//!
//! The rules of its words are here once: the file's reader, the controller's API and the driver
//! ask the same functions, so that nothing passes one border and is refused at the next.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::SecretName;
pub use crate::weight::Weights;

/// Most host names of one route.
pub const DOMAINS_MAX: usize = 64;
/// Most certificates of one route.
pub const TLS_MAX: usize = 16;
/// Longest host name in bytes (RFC 1035).
const DOMAIN_BYTES_MAX: usize = 253;
/// Longest label of a host name in bytes (RFC 1035).
const LABEL_BYTES_MAX: usize = 63;
/// Longest path, of a route or of a check, in bytes.
const PATH_BYTES_MAX: usize = 255;
/// Longest name of a header or a cookie in bytes.
const TOKEN_BYTES_MAX: usize = 64;
/// Most requests at a time that a route may allow one replica.
pub const MAXCONN_MAX: u32 = 1_000_000;
/// Most media types of one route that are compressed.
pub const COMPRESSION_MAX: usize = 32;
/// Longest time for which clients are told to come over TLS alone: two years, the most that lists
/// of browsers ask for.
pub const HSTS_MAX_AGE_S_MAX: u32 = 63_072_000;
/// Longest slow start.
pub const SLOWSTART_MS_MAX: u64 = 3_600_000;
/// Longest time that HAProxy waits for anything, as it keeps times (31 bits of milliseconds, and
/// a day is already long).
pub const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// One way in: a port of every edge, balanced over the replicas' container port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteSpec {
    /// Port that the edges listen on.
    pub listen_port: u16,
    /// Container port that takes the traffic.
    pub container_port: u16,
    /// HTTP or plain TCP.
    #[serde(default)]
    pub mode: RouteMode,
    /// Host names served; empty means: all.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Beginning of the paths served, in whole segments: `/api` takes `/api` and `/api/v1`, not
    /// `/apis`. None: all.
    #[serde(default)]
    pub path: Option<String>,
    /// Balance algorithm.
    #[serde(default)]
    pub balance: Balance,
    /// Header that [`Balance::Hash`] goes by; none: the path.
    #[serde(default)]
    pub hash_header: Option<String>,
    /// Cookie that keeps a client with the replica that it had; none: each request is balanced.
    #[serde(default)]
    pub sticky_cookie: Option<String>,
    /// HTTP path of HAProxy's own check; a TCP connection is enough when absent.
    #[serde(default)]
    pub check_path: Option<String>,
    /// How HAProxy checks, where it is not as the edge does by itself.
    #[serde(default)]
    pub check: CheckTimes,
    /// Most requests at a time for one replica; 0 means: no limit.
    #[serde(default)]
    pub maxconn_per_replica: u32,
    /// A replica that comes in takes this long to reach its full share; 0: at once.
    #[serde(default)]
    pub slowstart_ms: u64,
    /// How long HAProxy waits, where it is not as the edge does by itself.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// HAProxy tells replicas the client's address by this protocol, at the head of each
    /// connection. They must expect it.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Who connects to the edges tells the client's address so: another load balancer in front.
    #[serde(default)]
    pub accept_proxy: bool,
    /// Replicas speak HTTP/2 without TLS (gRPC).
    #[serde(default)]
    pub http2: bool,
    /// The edges end TLS on this port, with these secrets of the app as certificates; empty: no
    /// TLS.
    #[serde(default)]
    pub tls: Vec<String>,
    /// Requests are not served here but sent to this port of the edges, over TLS; 0: served.
    #[serde(default)]
    pub redirect_port: u16,
    /// How much of the traffic each replica gets.
    #[serde(default)]
    pub weights: Weights,
    /// Media types of answers that the edges compress for clients that take gzip; empty: none.
    #[serde(default)]
    pub compression: Vec<String>,
    /// Clients are told to come over TLS alone for so long (RFC 6797), on ports that end TLS; 0 ends
    /// it. None: they are told nothing.
    #[serde(default)]
    pub hsts_max_age_s: Option<u32>,
}

/// HTTP or plain TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteMode {
    /// Requests are balanced.
    #[default]
    Http,
    /// Connections are balanced.
    Tcp,
}

/// Balance algorithm: only those that allow servers to come and go at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    #[default]
    Roundrobin,
    /// Fewest connections.
    Leastconn,
    /// Random, the better of two.
    Random,
    /// By client address, consistent hash.
    Source,
    /// By path or by a header, consistent hash.
    Hash,
}

/// Version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// Times of HAProxy's check; 0: the edge's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckTimes {
    /// Between two checks.
    #[serde(default)]
    pub interval_ms: u32,
    /// Passed checks in a row that bring a server back.
    #[serde(default)]
    pub rise: u32,
    /// Failed checks in a row that take a server out; at least 2 (a server that was never asked
    /// cannot be told from a proven one with 1).
    #[serde(default)]
    pub fall: u32,
    /// Time for the answer, once connected.
    #[serde(default)]
    pub timeout_ms: u32,
}

/// How long HAProxy waits; 0: as long as the edge does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timeouts {
    /// For a connection to a replica.
    #[serde(default)]
    pub connect_ms: u64,
    /// For a replica's next bytes.
    #[serde(default)]
    pub server_ms: u64,
    /// For a seat at a replica ([`RouteSpec::maxconn_per_replica`]).
    #[serde(default)]
    pub queue_ms: u64,
    /// Between bytes of a WebSocket or a TCP connection on which both sides have spoken.
    #[serde(default)]
    pub tunnel_ms: u64,
}

/// What breaks a rule in a way in: the field as the Compose file and the wire call it, and the
/// rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct RouteProblem {
    /// Field of the way in.
    pub field: &'static str,
    /// The rule, with the value as given.
    pub rule: String,
}

/// What two ways in on one port both want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clash {
    /// Plain TCP has neither host names nor paths.
    PlainTcp,
    /// One expects the PROXY protocol from those who connect, the other does not.
    AcceptProxy,
    /// One takes TLS, the other does not.
    Tls,
    /// The same requests: of this host name, or of all, at this path.
    Requests {
        /// Host name; none: all that nobody else named.
        domain: Option<String>,
        /// Path; none: all that nobody else named.
        path: Option<String>,
    },
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (domain, path) = match self {
            Self::PlainTcp => return f.write_str("a plain TCP port cannot be shared"),
            Self::AcceptProxy => {
                return f.write_str("accept_proxy must be the same for all services of a port");
            }
            Self::Tls => return f.write_str("a port takes TLS for all its services or for none"),
            Self::Requests { domain, path } => (domain, path),
        };
        match domain {
            None => f.write_str("both take all host names")?,
            Some(domain) => write!(f, "both take the host name {domain}")?,
        }
        path.as_ref().map_or(Ok(()), |path| write!(f, " at {path}"))
    }
}

impl RouteSpec {
    /// HTTP from a port of the edges to a port of the replicas, all else as the edges do by
    /// themselves.
    #[must_use]
    pub fn new(listen_port: u16, container_port: u16) -> Self {
        Self {
            listen_port,
            container_port,
            ..Self::default()
        }
    }

    /// The same as plain TCP, without what goes by requests.
    #[must_use]
    pub fn as_tcp(self) -> Self {
        Self {
            mode: RouteMode::Tcp,
            domains: Vec::new(),
            path: None,
            balance: match self.balance {
                Balance::Hash => Balance::default(),
                other => other,
            },
            hash_header: None,
            sticky_cookie: None,
            check_path: None,
            http2: false,
            tls: Vec::new(),
            redirect_port: 0,
            compression: Vec::new(),
            hsts_max_age_s: None,
            ..self
        }
    }

    /// What both want, if they are on one port and cannot share it.
    #[must_use]
    pub fn clash(&self, other: &Self) -> Option<Clash> {
        if self.listen_port != other.listen_port {
            return None;
        }
        if self.mode == RouteMode::Tcp || other.mode == RouteMode::Tcp {
            return Some(Clash::PlainTcp);
        }
        if self.accept_proxy != other.accept_proxy {
            return Some(Clash::AcceptProxy);
        }
        if self.tls.is_empty() != other.tls.is_empty() {
            return Some(Clash::Tls);
        }
        if self.path != other.path {
            return None;
        }
        let requests = |domain: Option<&String>| Clash::Requests {
            domain: domain.cloned(),
            path: self.path.clone(),
        };
        if self.domains.is_empty() && other.domains.is_empty() {
            return Some(requests(None));
        }
        let both = self.domains.iter().find(|d| other.domains.contains(*d));
        both.map(|domain| requests(Some(domain)))
    }

    /// All that breaks a rule.
    #[must_use]
    pub fn problems(&self) -> Vec<RouteProblem> {
        let mut found = Found(Vec::new());
        found.words(self);
        found.numbers(self);
        found.tls(self);
        if self.mode == RouteMode::Tcp {
            found.only_http(self);
        }
        found.0
    }
}

struct Found(Vec<RouteProblem>);

impl Found {
    fn unless(&mut self, is_well: bool, field: &'static str, rule: impl FnOnce() -> String) {
        if !is_well {
            let rule = rule();
            self.0.push(RouteProblem { field, rule });
        }
    }

    fn words(&mut self, route: &RouteSpec) {
        let count = route.domains.len();
        self.unless(count <= DOMAINS_MAX, "domains", || {
            format!("{count} names; at most {DOMAINS_MAX} are allowed")
        });
        for domain in route.domains.iter().filter(|domain| !is_domain(domain)) {
            self.unless(false, "domains", || {
                format!("{domain:?} is no host name in lower case (no wildcards)")
            });
        }
        let path = route.path.as_deref();
        self.unless(path.is_none_or(is_prefix), "path", || {
            format!(
                "{:?} must start with / and hold only letters, digits and -._~/, and no empty \
                 part at its end",
                path.unwrap_or_default()
            )
        });
        let path = route.check_path.as_deref();
        self.unless(path.is_none_or(is_check_path), "check.path", || {
            let path = path.unwrap_or_default();
            format!("{path:?} must start with / and hold only plain characters")
        });
        for (field, word) in [
            ("hash_header", &route.hash_header),
            ("sticky", &route.sticky_cookie),
        ] {
            let word = word.as_deref();
            self.unless(word.is_none_or(is_token), field, || {
                let word = word.unwrap_or_default();
                format!("{word:?} must be a name of letters, digits, - and _")
            });
        }
        self.unless(
            route.hash_header.is_none() || route.balance == Balance::Hash,
            "hash_header",
            || "has a meaning with balance: hash only".to_owned(),
        );
        let count = route.compression.len();
        self.unless(count <= COMPRESSION_MAX, "compression", || {
            format!("{count} media types; at most {COMPRESSION_MAX} are allowed")
        });
        for media in route.compression.iter().filter(|m| !is_media_type(m)) {
            self.unless(false, "compression", || {
                format!("{media:?} is no media type in lower case, as text/html")
            });
        }
        self.unless(!Weights::move_keys(route), "weights", || {
            Weights::MOVE_KEYS.to_owned()
        });
    }

    fn numbers(&mut self, route: &RouteSpec) {
        let maxconn = route.maxconn_per_replica;
        self.unless(maxconn <= MAXCONN_MAX, "maxconn_per_replica", || {
            format!("{maxconn} is above {MAXCONN_MAX}")
        });
        let age_s = route.hsts_max_age_s.unwrap_or(0);
        self.unless(age_s <= HSTS_MAX_AGE_S_MAX, "hsts_max_age", || {
            format!("{age_s} s is above {HSTS_MAX_AGE_S_MAX}, two years")
        });
        let slowstart_ms = route.slowstart_ms;
        self.unless(slowstart_ms <= SLOWSTART_MS_MAX, "slowstart", || {
            format!("{slowstart_ms} ms is above {SLOWSTART_MS_MAX}")
        });
        let times = &route.timeouts;
        for (field, ms) in [
            ("timeouts.connect", times.connect_ms),
            ("timeouts.server", times.server_ms),
            ("timeouts.queue", times.queue_ms),
            ("timeouts.tunnel", times.tunnel_ms),
        ] {
            self.unless(ms <= TIMEOUT_MS_MAX, field, || {
                format!("{ms} ms is above {TIMEOUT_MS_MAX}")
            });
        }
        let check = &route.check;
        let interval_ms = check.interval_ms;
        let fits = interval_ms == 0 || (10..=60_000).contains(&interval_ms);
        self.unless(fits, "check.interval", || {
            format!("{interval_ms} ms is not from 10 to 60000")
        });
        let timeout_ms = check.timeout_ms;
        let fits = timeout_ms == 0 || (10..=60_000).contains(&timeout_ms);
        self.unless(fits, "check.timeout", || {
            format!("{timeout_ms} ms is not from 10 to 60000")
        });
        self.unless(check.rise <= 100, "check.rise", || {
            format!("{} is not from 1 to 100", check.rise)
        });
        let fits = check.fall == 0 || (2..=100).contains(&check.fall);
        self.unless(fits, "check.fall", || {
            format!("{} is not from 2 to 100", check.fall)
        });
    }

    fn tls(&mut self, route: &RouteSpec) {
        let count = route.tls.len();
        self.unless(count <= TLS_MAX, "tls", || {
            format!("{count} certificates; at most {TLS_MAX} are allowed")
        });
        for name in &route.tls {
            if let Err(error) = SecretName::new(name) {
                self.unless(false, "tls", || error.to_string());
            }
        }
        let to = route.redirect_port;
        let is_there = to == 0 || route.tls.is_empty() && to != route.listen_port;
        self.unless(is_there, "redirect_https", || {
            format!("port {to} cannot be reached from itself or from another port with TLS")
        });
    }

    /// Plain TCP has no requests, so nothing can go by what they hold.
    fn only_http(&mut self, route: &RouteSpec) {
        for (field, is_set) in [
            ("domains", !route.domains.is_empty()),
            ("path", route.path.is_some()),
            ("sticky", route.sticky_cookie.is_some()),
            ("http2", route.http2),
            ("tls", !route.tls.is_empty()),
            ("redirect_https", route.redirect_port != 0),
            ("compression", !route.compression.is_empty()),
            ("hsts_max_age", route.hsts_max_age_s.is_some()),
            ("balance", route.balance == Balance::Hash),
        ] {
            self.unless(!is_set, field, || match field {
                "balance" => "hash needs mode http".to_owned(),
                _ => "needs mode http".to_owned(),
            });
        }
    }
}

/// A DNS name in lower case, without wildcard or trailing dot.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= DOMAIN_BYTES_MAX && text.split('.').all(label_ok)
}

/// `/` and segments of unreserved characters (RFC 3986), without an empty one: `/` alone is all
/// paths, which is said by leaving the path out.
#[must_use]
pub fn is_prefix(text: &str) -> bool {
    let segment_ok = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    text.len() <= PATH_BYTES_MAX
        && text
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(segment_ok))
}

/// `/` followed by bytes that mean nothing to HAProxy's parser.
#[must_use]
pub fn is_check_path(text: &str) -> bool {
    let byte_ok = |b: u8| b.is_ascii_alphanumeric() || b"/_.~-=&?+:@,".contains(&b);
    text.starts_with('/') && text.len() <= PATH_BYTES_MAX && text.bytes().all(byte_ok)
}

/// Name of a header or a cookie.
#[must_use]
pub fn is_token(text: &str) -> bool {
    let byte_ok = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let first_ok = text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    first_ok && text.len() <= TOKEN_BYTES_MAX && text.bytes().all(byte_ok)
}

/// `text/html`: two names of lower-case letters, digits and `.+-`, the first a letter or digit.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    let name_ok = |name: &str| {
        let first = name.as_bytes().first();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        first.is_some_and(|b| plain(*b)) && name.bytes().all(|b| plain(b) || b".+-".contains(&b))
    };
    let parts = text.split_once('/');
    text.len() <= TOKEN_BYTES_MAX && parts.is_some_and(|(a, b)| name_ok(a) && name_ok(b))
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
