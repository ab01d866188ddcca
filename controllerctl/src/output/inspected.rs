//! `inspect`: whole objects.

use std::collections::BTreeMap;

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::views::{Edge, Node, Replica, Service, Status};

/// All that the controller says at one time.
#[derive(Debug)]
pub struct World {
    /// The cluster.
    pub status: pb::GetStatusResponse,
    /// Nodes.
    pub nodes: Vec<pb::Node>,
    /// Services.
    pub services: Vec<pb::Service>,
    /// Replicas.
    pub replicas: Vec<pb::Replica>,
}

/// One thing, and what belongs to it.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inspected<'w> {
    /// An app.
    App {
        /// Its name.
        name: &'w str,
        /// The last that was applied.
        revision: u64,
        /// Its services.
        services: Vec<Service>,
        /// Their replicas.
        replicas: Vec<Replica>,
    },
    /// A service.
    Service {
        /// Itself.
        #[serde(flatten)]
        service: Box<Service>,
        /// Ways in.
        routes: Vec<Route>,
        /// How each edge stands to each certificate.
        certificates: Vec<Certificate>,
        /// That nobody serves while replicas are exchanged, and why.
        gap: Option<String>,
        /// Its replicas.
        replicas: Vec<Replica>,
    },
    /// A replica.
    Replica {
        /// Itself.
        #[serde(flatten)]
        replica: Box<Replica>,
    },
    /// A node.
    Node {
        /// Itself.
        #[serde(flatten)]
        node: Box<Node>,
        /// Its HAProxy, if it is an edge.
        edge: Option<Edge>,
        /// What is wrong with it.
        problems: Vec<String>,
        /// Replicas on it, by name.
        runs: BTreeMap<String, String>,
    },
}

/// A way in.
#[derive(Debug, Serialize)]
pub struct Route {
    /// Port of the edges.
    pub listen_port: u32,
    /// Port of the replicas.
    pub container_port: u32,
    /// http, tcp
    pub mode: &'static str,
    /// Host names; none: all.
    pub domains: Vec<String>,
    /// Beginning of the paths; none: all.
    pub path: Option<String>,
    /// Path that checks ask for; none: a connection.
    pub check_path: Option<String>,
    /// Certificates; none: no TLS.
    pub tls: Vec<String>,
    /// Port that requests are sent to instead.
    pub redirect_port: Option<u32>,
    /// Requests at a time for each replica; 0: no limit.
    pub maxconn_per_replica: u32,
}

/// A certificate at an edge.
#[derive(Debug, Serialize)]
pub struct Certificate {
    /// The secret's name.
    pub name: String,
    /// Edge.
    pub edge: String,
    /// served, waits, refused, lacks, away, silent, untold
    pub state: String,
    /// Why not served.
    pub why: Option<String>,
}

impl From<&longshore_proto::spec::v1::RouteSpec> for Route {
    fn from(r: &longshore_proto::spec::v1::RouteSpec) -> Self {
        let mode = match r.mode() {
            longshore_proto::spec::v1::RouteMode::Tcp => "tcp",
            _ => "http",
        };
        Self {
            listen_port: r.listen_port,
            container_port: r.container_port,
            mode,
            domains: r.domains.clone(),
            path: r.path.clone(),
            check_path: r.check_path.clone(),
            tls: r.tls.clone(),
            redirect_port: (r.redirect_port != 0).then_some(r.redirect_port),
            maxconn_per_replica: r.maxconn_per_replica,
        }
    }
}

impl Inspected<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::App { name, .. } => (*name).to_owned(),
            Self::Service { service, .. } => service.key.clone(),
            Self::Replica { replica } => replica.name.clone(),
            Self::Node { node, .. } => node.name.clone(),
        }
    }

    /// KIND/NAME: what no other thing is called.
    #[must_use]
    pub fn full_name(&self) -> String {
        let kind = match self {
            Self::App { .. } => "app",
            Self::Service { .. } => "service",
            Self::Replica { replica } => return format!("replica/{}", replica.id),
            Self::Node { .. } => "node",
        };
        format!("{kind}/{}", self.name())
    }
}

impl World {
    /// All that `target` can mean.
    #[must_use]
    pub fn find(&self, target: &str) -> Vec<Inspected<'_>> {
        let (kind, name) = match target.split_once('/') {
            Some((kind @ ("app" | "service" | "replica" | "node" | "edge"), name)) => (kind, name),
            _ => ("", target),
        };
        let is = |wanted: &str| kind.is_empty() || kind == wanted;
        let mut found = Vec::new();
        if is("app") {
            found.extend(self.app(name));
        }
        if is("service") {
            let named = self
                .services
                .iter()
                .filter(|s| s.name == name || s.key == name);
            found.extend(named.map(|service| self.service(service)));
        }
        if is("replica") {
            let named = self.replicas.iter().filter(|r| {
                let full = format!("{}.{}", r.service, r.slot);
                r.name == name || full == name || format!("r{}", r.id) == name
            });
            found.extend(named.map(|r| Inspected::Replica {
                replica: Box::new(Replica::from(r)),
            }));
        }
        if is("node") || kind == "edge" {
            let named = self.nodes.iter().filter(|n| n.id == name);
            found.extend(named.map(|node| self.node(node)));
        }
        // An app and its only service often have one name: the service has more to say.
        if found.len() == 2
            && kind.is_empty()
            && matches!(&found[..], [Inspected::App { name, services, .. }, Inspected::Service { service, .. }]
                if services.len() == 1 && service.app == *name)
        {
            found.remove(0);
        }
        found
    }

    fn app(&self, name: &str) -> Option<Inspected<'_>> {
        let of = |s: &&pb::Service| s.app == name;
        let first = self.services.iter().find(of)?;
        let services = self.services.iter().filter(of);
        let replicas = self.replicas.iter().filter(|r| {
            let app = r.service.split('/').next().unwrap_or_default();
            app == name
        });
        Some(Inspected::App {
            name: &first.app,
            revision: services.clone().map(|s| s.revision).max().unwrap_or(0),
            services: services.map(Service::from).collect(),
            replicas: replicas.map(Replica::from).collect(),
        })
    }

    fn service(&self, s: &pb::Service) -> Inspected<'_> {
        let replicas = self.replicas.iter().filter(|r| r.service == s.key);
        let certificate = |c: &pb::ServiceCertificate| Certificate {
            name: c.name.clone(),
            edge: c.edge.clone(),
            state: c.state.clone(),
            why: (!c.why.is_empty()).then(|| c.why.clone()),
        };
        Inspected::Service {
            service: Box::new(Service::from(s)),
            routes: s.routes.iter().map(Route::from).collect(),
            certificates: s.certificates.iter().map(certificate).collect(),
            gap: (!s.gap.is_empty()).then(|| s.gap.clone()),
            replicas: replicas.map(Replica::from).collect(),
        }
    }

    fn node(&self, n: &pb::Node) -> Inspected<'_> {
        let status = Status::new("", &self.status);
        let edge = status.edges.into_iter().find(|edge| edge.node == n.id);
        let problems = status.problems.into_iter();
        let problems = problems.filter(|p| p.about.as_deref() == Some(n.id.as_str()));
        let runs = self.replicas.iter().filter(|r| r.node == n.id);
        Inspected::Node {
            node: Box::new(Node::from(n)),
            edge,
            problems: problems.map(|p| p.message).collect(),
            runs: runs
                .map(|r| (format!("{}.{}", r.service, r.slot), r.state.clone()))
                .collect(),
        }
    }

    /// The name that was probably meant.
    #[must_use]
    pub fn nearest(&self, target: &str) -> Option<&str> {
        let services = self
            .services
            .iter()
            .flat_map(|s| [s.name.as_str(), s.app.as_str()]);
        let replicas = self.replicas.iter().map(|r| r.name.as_str());
        let nodes = self.nodes.iter().map(|n| n.id.as_str());
        services
            .chain(replicas)
            .chain(nodes)
            .map(|name| (strsim::jaro_winkler(target, name), name))
            .filter(|(score, _)| *score >= 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name)
    }
}
