//! Ways in from bytes: what the fuzzer finds interesting becomes a list of them. Each field takes
//! one of its usual values, or raw bytes.

use std::net::IpAddr;

use longshore_model::ReplicaId;
use longshore_model::route::{
    Balance, CheckTimes, ProxyProtocol, RouteMode, RouteSpec, Timeouts, Weights,
};
use longshore_model::routes::{Backend, Server, ServerMode};

/// Longest list of ways in, and of anything in one.
const LIST_MAX: u8 = 8;

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.byte() % (LIST_MAX + 1);
        (0..count).map(|_| one(self)).collect()
    }

    /// Seldom, since most combinations break some rule.
    fn flag(&mut self) -> bool {
        self.byte() % 4 == 3
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// Nothing, small, or of any size.
    fn number(&mut self) -> u64 {
        match self.byte() {
            0..180 => 0,
            small @ 180..248 => u64::from(small - 170),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    fn small(&mut self) -> u32 {
        self.number() as u32
    }

    /// One of the usual words, or one of any characters.
    fn word(&mut self, usual: &[&str]) -> String {
        let choice = usize::from(self.byte());
        if choice < 160 {
            return usual[choice % usual.len()].to_owned();
        }
        let begin = if self.flag() { usual[0] } else { "" };
        let raw: Vec<u8> = (0..self.byte() % 24).map(|_| self.byte()).collect();
        format!("{begin}{}", String::from_utf8_lossy(&raw))
    }

    fn maybe(&mut self, usual: &[&str]) -> Option<String> {
        self.flag().then(|| self.word(usual))
    }

    fn server(&mut self) -> Server {
        let address = match self.flag() {
            false => IpAddr::from(std::array::from_fn::<u8, 4, _>(|_| self.byte())),
            true => IpAddr::from(std::array::from_fn::<u8, 16, _>(|_| self.byte())),
        };
        Server {
            replica: ReplicaId(self.byte().into()),
            address,
            port: u16::from_le_bytes([self.byte(), self.byte()]),
            mode: self.pick(&[ServerMode::Serve, ServerMode::Drain]),
            weight: self.pick(&[
                None,
                None,
                Some(10),
                Some(55),
                Some(100),
                Some(0),
                Some(255),
            ]),
        }
    }

    fn route(&mut self) -> RouteSpec {
        const BALANCES: [Balance; 5] = [
            Balance::Roundrobin,
            Balance::Leastconn,
            Balance::Random,
            Balance::Source,
            Balance::Hash,
        ];
        // Without a rest, so that fields of tomorrow are not forgotten.
        RouteSpec {
            listen_port: self.pick(&[80, 80, 80, 81, 81, 443, 0, 8404]),
            container_port: 80,
            mode: self.pick(&[RouteMode::Http, RouteMode::Http, RouteMode::Tcp]),
            domains: self.list(|b| b.word(&["a.org", "b.org", "c.org", "*.d.org", "A.org"])),
            path: self.maybe(&["/a", "/a/b", "/b", "/"]),
            balance: self.pick(&BALANCES),
            hash_header: self.maybe(&["X-Tenant", "host"]),
            sticky_cookie: self.maybe(&["SHOP", "a_b-c"]),
            check_path: self.maybe(&["/ok", "/healthz?x=1"]),
            check: CheckTimes {
                interval_ms: self.small(),
                rise: self.small(),
                fall: self.small(),
                timeout_ms: self.small(),
            },
            maxconn_per_replica: self.small(),
            slowstart_ms: self.number(),
            timeouts: Timeouts {
                connect_ms: self.number(),
                server_ms: self.number(),
                queue_ms: self.number(),
                tunnel_ms: self.number(),
            },
            proxy_protocol: self.pick(&[None, Some(ProxyProtocol::V1), Some(ProxyProtocol::V2)]),
            accept_proxy: self.flag(),
            http2: self.flag(),
            tls: self.list(|b| b.word(&["a-cert", "b-cert", "a-cert-2", "../x", "A"])),
            redirect_port: self.pick(&[0, 0, 0, 443, 8443]),
            weights: self.pick(&[Weights::Equal, Weights::Equal, Weights::Load]),
            compression: self.list(|b| b.word(&["text/html", "image/svg+xml", "a b/c", "A/b"])),
            hsts_max_age_s: self.pick(&[None, None, Some(0), Some(31_536_000), Some(u32::MAX)]),
        }
    }
}

/// Ways in; a service's name is of the model's own type, which refuses what breaks its rule.
pub(crate) fn backends(bytes: &[u8]) -> Vec<Backend> {
    let mut bytes = Bytes(bytes);
    let backends = bytes.list(|b| {
        let name = b.word(&["a/web", "b/web", "a/api", "a-b/c-d"]);
        let service = name.parse().ok();
        let (route, servers) = (b.route(), b.list(Bytes::server));
        service.map(|service| Backend {
            service,
            route,
            servers,
            holds: false,
        })
    });
    backends.into_iter().flatten().collect()
}
