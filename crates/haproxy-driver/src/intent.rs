//! Routes, checked and turned into what HAProxy must serve.
//!
//! A backend that breaks a rule is left out and said so; it never keeps the others from being
//! served. Where two services want the same thing, the one that is served already keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::route::{
    Balance, CheckTimes, Clash, RouteMode, RouteProblem, RouteSpec, Weights,
};
use longshore_model::routes::{Backend, Routes, Server, ServerMode};
use longshore_model::weight::{WEIGHT_MAX, WEIGHT_MIN};
use longshore_model::{ReplicaId, SecretKey, SecretName, ServiceKey};

use crate::name::{BackendName, CertificateName, CheckPath, Domain, MediaType, PathPrefix, Token};
use crate::settings::CheckSettings;

/// Why a backend was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// A word or a number of the way in that breaks a rule.
    #[error("{service}: {problem}")]
    Rule {
        /// The service.
        service: ServiceKey,
        /// The field and the rule.
        problem: RouteProblem,
    },
    /// A port that cannot be listened on.
    #[error("{service}: listen_port: {port} cannot be used ({why})")]
    Port {
        /// The service.
        service: ServiceKey,
        /// The port.
        port: u16,
        /// Why.
        why: &'static str,
    },
    /// Two services on one port that cannot share it.
    #[error("{service}: port {port} is served by {holder} already ({why})")]
    Conflict {
        /// The service that was left out.
        service: ServiceKey,
        /// The one that keeps the port.
        holder: ServiceKey,
        /// The port.
        port: u16,
        /// What they both want.
        why: Clash,
    },
    /// The same service and port twice, or one replica twice in it.
    #[error("{service}: port {port} names {what} twice")]
    Twice {
        /// The service.
        service: ServiceKey,
        /// The port.
        port: u16,
        /// What.
        what: String,
    },
    /// None of its certificates can be used.
    #[error("{service}: {why}")]
    Certificate {
        /// The service.
        service: ServiceKey,
        /// Which, and why not.
        why: String,
    },
    /// A server that cannot be reached.
    #[error("{service}: replica {replica} has no usable address ({address}:{port})")]
    Server {
        /// The service.
        service: ServiceKey,
        /// The replica.
        replica: ReplicaId,
        /// Its address as given.
        address: std::net::IpAddr,
        /// Its port as given.
        port: u16,
    },
}

/// How HAProxy asks a server whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A connection is enough.
    Connect,
    /// GET must answer 200 to 399.
    Http {
        /// What is asked for.
        path: CheckPath,
        /// Host header.
        host: Domain,
    },
}

impl RouteError {
    /// The service that is left out.
    #[must_use]
    pub fn service(&self) -> &ServiceKey {
        match self {
            Self::Rule { service, .. }
            | Self::Port { service, .. }
            | Self::Conflict { service, .. }
            | Self::Twice { service, .. }
            | Self::Certificate { service, .. }
            | Self::Server { service, .. } => service,
        }
    }

    /// The field and the rule, without the service.
    #[must_use]
    pub fn rule(&self) -> String {
        let text = self.to_string();
        let rule = text.strip_prefix(&format!("{}: ", self.service()));
        rule.unwrap_or(&text).to_owned()
    }
}

/// Weight of a server of which nothing is said.
pub const EQUAL: u32 = 1;

/// One backend that passed all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendIntent {
    /// Its name in HAProxy.
    pub name: BackendName,
    /// Whose it is.
    pub service: ServiceKey,
    /// The way in as it was asked for, without the container's port, which HAProxy never sees.
    pub route: RouteSpec,
    /// Port of its frontend.
    pub listen_port: u16,
    /// HTTP or TCP.
    pub mode: RouteMode,
    /// Host names; empty means: all that nobody else named.
    pub domains: Vec<Domain>,
    /// Beginning of its paths; none: all that nobody else named.
    pub path: Option<PathPrefix>,
    /// Header that a hash goes by.
    pub hash_header: Option<Token>,
    /// Cookie that keeps a client with its replica.
    pub sticky_cookie: Option<Token>,
    /// Media types that are compressed.
    pub compression: Vec<MediaType>,
    /// Certificates that can be used; empty: no TLS.
    pub tls: BTreeSet<CertificateName>,
    /// Health check.
    pub check: Check,
    /// Its servers by replica.
    pub servers: BTreeMap<ReplicaId, Server>,
    /// Those that leave stay in: see [`Backend::holds`].
    pub holds: bool,
}

impl BackendIntent {
    /// What a server weighs in HAProxy; none: the file does not say, so that it weighs
    /// [`EQUAL`]. Random balancing keeps an entry per unit of weight, so that its units are coarse.
    #[must_use]
    pub fn weight(&self, server: &Server) -> Option<u32> {
        let weight = server.weight.unwrap_or(WEIGHT_MAX);
        match (self.route.weights, self.route.balance) {
            (Weights::Equal, _) => None,
            (Weights::Load, Balance::Random) => Some(weight.div_ceil(10).into()),
            (Weights::Load, _) => Some(weight.into()),
        }
    }

    /// May a server that has proven itself take new requests? Those that leave do while something waits
    /// for them at some edge and nobody follows.
    #[must_use]
    pub fn lets_in(&self, server: &Server) -> bool {
        match server.mode {
            ServerMode::Serve => true,
            ServerMode::Drain => self.holds,
        }
    }

    /// How its servers are checked: as the edge does, but for what the way in says.
    #[must_use]
    pub fn check_settings(&self, edge: &CheckSettings) -> CheckSettings {
        let of = |own: u32, edge: u32| if own == 0 { edge } else { own };
        let CheckTimes {
            interval_ms,
            rise,
            fall,
            timeout_ms,
        } = self.route.check;
        let inter_ms = of(interval_ms, edge.inter_ms);
        CheckSettings {
            inter_ms,
            // On its way up or down it is never asked less often than else.
            fastinter_ms: edge.fastinter_ms.min(inter_ms),
            downinter_ms: of(interval_ms, edge.downinter_ms),
            rise: of(rise, edge.rise),
            fall: of(fall, edge.fall),
            timeout_ms: of(timeout_ms, edge.timeout_ms),
        }
    }
}

/// All that HAProxy must serve.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intent {
    /// Generation of the routes.
    pub generation: u64,
    /// Backends by name.
    pub backends: BTreeMap<BackendName, BackendIntent>,
    /// Certificates that cannot be used, and why.
    pub lacking: Arc<BTreeMap<CertificateName, String>>,
}

/// Certificates of a port's services; the first one is for clients that name no host.
#[must_use]
pub fn certificates<'b>(
    backends: impl IntoIterator<Item = &'b BackendIntent>,
) -> BTreeSet<&'b CertificateName> {
    backends.into_iter().flat_map(|b| &b.tls).collect()
}

impl Intent {
    /// Does what waits in HAProxy decide something? Where all servers of a backend leave, nobody else
    /// takes it.
    pub(crate) fn queues_matter(&self) -> bool {
        let leaves = |server: &Server| server.mode == ServerMode::Drain;
        let mut backends = self.backends.values().map(|backend| &backend.servers);
        backends.any(|servers| !servers.is_empty() && servers.values().all(leaves))
    }

    /// Checks `routes`. Backends named in `served` come first, so that a newcomer never takes a
    /// port or a host name from one that serves. `reserved_ports` are those of the statistics.
    #[must_use]
    pub fn compile(
        routes: &Routes,
        served: &BTreeSet<BackendName>,
        reserved_ports: &[u16],
    ) -> (Self, Vec<RouteError>) {
        Self::compile_lacking(routes, served, reserved_ports, Arc::default())
    }

    /// The same where some certificates cannot be used: a way in is served with the others, and
    /// not at all without any.
    #[must_use]
    pub fn compile_lacking(
        routes: &Routes,
        served: &BTreeSet<BackendName>,
        reserved_ports: &[u16],
        lacking: Arc<BTreeMap<CertificateName, String>>,
    ) -> (Self, Vec<RouteError>) {
        let mut intent = Self {
            generation: routes.generation,
            backends: BTreeMap::new(),
            lacking,
        };
        let mut errors = Vec::new();
        let is_served =
            |b: &&Backend| served.contains(&BackendName::of(&b.service, b.route.listen_port));
        let (first, second): (Vec<_>, Vec<_>) = routes.backends.iter().partition(is_served);
        for backend in first.into_iter().chain(second) {
            if let Err(error) = intent.admit(backend, reserved_ports) {
                errors.push(error);
            }
        }
        (intent, errors)
    }

    /// Takes one more backend.
    ///
    /// # Errors
    /// [`RouteError`]: it breaks a rule, or wants what another one has.
    pub fn admit(&mut self, backend: &Backend, reserved_ports: &[u16]) -> Result<(), RouteError> {
        let mut backend = check_backend(backend, reserved_ports)?;
        self.equip(&mut backend)?;
        check_conflicts(self, &backend)?;
        self.backends.insert(backend.name.clone(), backend);
        Ok(())
    }

    /// Leaves the certificates that cannot be used out.
    fn equip(&self, backend: &mut BackendIntent) -> Result<(), RouteError> {
        let why = backend
            .tls
            .iter()
            .find_map(|name| self.lacking.get(name).cloned());
        let (service, lacking) = (backend.service.clone(), &self.lacking);
        backend.tls.retain(|name| !lacking.contains_key(name));
        match why {
            Some(why) if backend.tls.is_empty() => Err(RouteError::Certificate { service, why }),
            _ => Ok(()),
        }
    }

    /// Takes a backend of a file that is loaded already: no other one stands against it. One that
    /// breaks a rule is not ours.
    pub(crate) fn keep(&mut self, backend: &Backend) {
        if let Ok(backend) = check_backend(backend, &[]) {
            self.backends.insert(backend.name.clone(), backend);
        }
    }

    /// Ports that frontends listen on, each with its backends in name order.
    #[must_use]
    pub fn frontends(&self) -> BTreeMap<u16, Vec<&BackendIntent>> {
        let mut ports: BTreeMap<u16, Vec<&BackendIntent>> = BTreeMap::new();
        for backend in self.backends.values() {
            ports.entry(backend.listen_port).or_default().push(backend);
        }
        ports
    }
}

fn check_port(service: &ServiceKey, port: u16, reserved_ports: &[u16]) -> Result<(), RouteError> {
    let why = match port {
        0 => "zero",
        port if reserved_ports.contains(&port) => "statistics page",
        _ => return Ok(()),
    };
    Err(RouteError::Port {
        service: service.clone(),
        port,
        why,
    })
}

fn check_backend(backend: &Backend, reserved_ports: &[u16]) -> Result<BackendIntent, RouteError> {
    let service = backend.service.clone();
    let route = &backend.route;
    let port = route.listen_port;
    check_port(&service, port, reserved_ports)?;
    let broken = |problem| RouteError::Rule {
        service: service.clone(),
        problem,
    };
    if let Some(problem) = route.problems().into_iter().next() {
        return Err(broken(problem));
    }
    // The rules above hold for each of these words; they are asked once more, one by one, so that
    // nothing reaches the file or a socket by a way that passed them by.
    let word = |field, text: &str| {
        let rule = format!("{text:?} cannot stand in HAProxy's file");
        broken(RouteProblem { field, rule })
    };
    let domain = |text: &String| Domain::new(text).ok_or_else(|| word("domains", text));
    let token = |field, text: &Option<String>| {
        let made = text
            .as_ref()
            .map(|text| Token::new(text).ok_or_else(|| word(field, text)));
        made.transpose()
    };
    let certificate =
        |text: &String| certificate_name(&service, text).ok_or_else(|| word("tls", text));
    let domains = route
        .domains
        .iter()
        .map(domain)
        .collect::<Result<Vec<_>, _>>()?;
    let path = route.path.as_ref();
    let path = path.map(|text| PathPrefix::new(text).ok_or_else(|| word("path", text)));
    let check = match &route.check_path {
        None => Check::Connect,
        Some(text) => {
            let bad = || word("check.path", text);
            let path = CheckPath::new(text).ok_or_else(bad)?;
            let local = || Domain::new("localhost").ok_or_else(bad);
            let host = domains.first().cloned().map_or_else(local, Ok)?;
            Check::Http { path, host }
        }
    };
    Ok(BackendIntent {
        name: BackendName::of(&service, port),
        route: RouteSpec {
            container_port: 0,
            ..route.clone()
        },
        listen_port: port,
        mode: route.mode,
        domains,
        path: path.transpose()?,
        hash_header: token("hash_header", &route.hash_header)?,
        sticky_cookie: token("sticky", &route.sticky_cookie)?,
        compression: route
            .compression
            .iter()
            .map(|text| MediaType::new(text).ok_or_else(|| word("compression", text)))
            .collect::<Result<_, _>>()?,
        tls: route
            .tls
            .iter()
            .map(certificate)
            .collect::<Result<_, _>>()?,
        check,
        servers: check_servers(backend)?,
        holds: backend.holds,
        service,
    })
}

/// The certificate that a service calls so: secrets are its app's.
pub(crate) fn certificate_name(service: &ServiceKey, text: &str) -> Option<CertificateName> {
    let name = SecretName::new(text).ok()?;
    Some(CertificateName::of(&SecretKey::new(
        service.app.clone(),
        name,
    )))
}

fn check_servers(backend: &Backend) -> Result<BTreeMap<ReplicaId, Server>, RouteError> {
    let mut servers = BTreeMap::new();
    for server in &backend.servers {
        let address = server.address;
        if server.port == 0 || address.is_unspecified() || address.is_multicast() {
            return Err(RouteError::Server {
                service: backend.service.clone(),
                replica: server.replica,
                address,
                port: server.port,
            });
        }
        // Nobody drains by a weight.
        if let Some(weight) = server.weight
            && !(WEIGHT_MIN..=WEIGHT_MAX).contains(&weight)
        {
            let rule = format!(
                "{} weighs {weight}, not {WEIGHT_MIN} to {WEIGHT_MAX}",
                server.replica
            );
            return Err(RouteError::Rule {
                service: backend.service.clone(),
                problem: RouteProblem {
                    field: "weights",
                    rule,
                },
            });
        }
        if servers.insert(server.replica, server.clone()).is_some() {
            return Err(RouteError::Twice {
                service: backend.service.clone(),
                port: backend.route.listen_port,
                what: server.replica.to_string(),
            });
        }
    }
    Ok(servers)
}

fn check_conflicts(intent: &Intent, new: &BackendIntent) -> Result<(), RouteError> {
    let port = new.listen_port;
    if intent.backends.contains_key(&new.name) {
        return Err(RouteError::Twice {
            service: new.service.clone(),
            port,
            what: "the same way in".to_owned(),
        });
    }
    let clash = |holder: &BackendIntent| {
        Some(RouteError::Conflict {
            service: new.service.clone(),
            holder: holder.service.clone(),
            port,
            why: new.route.clash(&holder.route)?,
        })
    };
    intent.backends.values().find_map(clash).map_or(Ok(()), Err)
}
