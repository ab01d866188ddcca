//! What the fake knows, and how it is reached.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use longshore_identity::ca::ClusterCa;
use longshore_identity::tls::PeerInfo;
use longshore_identity::{Identity, OperatorRole};
use longshore_model::Reason;
use longshore_model::reason::FailReason;
use longshore_proto::control::v1 as pb;
use tonic::{Request, Status};

use super::NOW_MS;

/// What the fake knows.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) services: Vec<pb::Service>,
    pub(crate) problems: Vec<pb::Problem>,
    /// So many lists of nodes come before the first report of node1.
    pub(crate) late_reports: u32,
    /// Beside node1.
    pub(crate) nodes: Vec<pb::Node>,
    pub(crate) tokens: Vec<pb::TokenInfo>,
    /// Autoscalers cannot be listed.
    pub(crate) no_autoscale: bool,
    /// It does not know what came last.
    pub(crate) is_old: bool,
    /// Copies arrive cut.
    pub(crate) cuts_backups: bool,
    pub(crate) revision: u64,
    pub(crate) images: super::images::Images,
    pub(crate) apart: super::secrets::Apart,
    pub(crate) known: super::operators::Known,
    /// So many lists of services still show an app that was taken down.
    pub(crate) lingering: u32,
    /// Count and reason of an autoscaler that has the last word.
    pub(crate) overrules: Option<(u32, String)>,
    /// What somebody else leaves of all services right after the next change.
    pub(crate) meanwhile: Option<Vec<pb::Service>>,
    /// A volume that its engine does not let go.
    pub(crate) kept_volume: Option<String>,
    /// A volume that is external to shop/db.
    pub(crate) external_volume: Option<String>,
    /// Replicas that are kept out of the routes, app/service.slot.
    pub(crate) aside: Vec<String>,
    /// Sessions of those, one fewer with each list.
    pub(crate) sessions: u32,
    pub(crate) calls: Vec<String>,
    pub(crate) autoscale: pb::AutoscaleState,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<World>>);

/// A running fake and credentials for it.
pub(crate) struct Cluster {
    pub(crate) fake: Fake,
    pub(crate) address: SocketAddr,
    pub(crate) dir: tempfile::TempDir,
    pub(super) ca: ClusterCa,
    pub(super) _runtime: tokio::runtime::Runtime,
}

/// What counts and restarts come to; refused as an old controller does where it is one.
pub(super) fn planned(
    world: &World,
    request: &pb::PlanServicesRequest,
) -> Result<pb::PlanServicesResponse, Status> {
    if world.is_old {
        let message = "/longshore.control.v1.ControlService/PlanServices: nobody may call this";
        return Err(Status::permission_denied(message));
    }
    let counts = request.counts.iter().map(|c| (&c.service, Some(c.count)));
    let restarts = request.restart.iter().map(|service| (service, None));
    let mut plan = pb::PlanAppResponse {
        revision: world.revision,
        placement: Some(pb::PlanPlacement::default()),
        ..pb::PlanAppResponse::default()
    };
    for (word, count) in counts.chain(restarts) {
        let mut services = world.services.iter();
        let Some(service) = services.find(|s| s.name == *word || s.key == *word) else {
            let message = format!("there is no service {word:?}; did you mean hello?");
            return Err(Status::not_found(message));
        };
        let before = service.wanted;
        let wanted = count.unwrap_or(before);
        let replaced = if count.is_none() { before } else { 0 };
        let removed = before.saturating_sub(wanted);
        let forecast = pb::ServiceForecast {
            before,
            wanted,
            replaced,
            removed,
            order: "start-first".into(),
            at_once: 1,
            ..pb::ServiceForecast::default()
        };
        plan.changes.push(pb::Change {
            action: "change".into(),
            service: service.name.clone(),
            details: Vec::new(),
            forecast: Some(forecast),
        });
        if !service.gap.is_empty() {
            plan.warnings
                .push(format!("{}: {}", service.name, service.gap));
        }
        if let Some(placement) = &mut plan.placement {
            placement.replaced += replaced;
            placement.removed += removed;
        }
    }
    Ok(pb::PlanServicesResponse {
        apps: vec![pb::AppPlan {
            app: "hello".into(),
            plan: Some(plan),
        }],
    })
}

/// Is it a service, or one with a replica, that a word means?
pub(super) fn is_asked(service: &pb::Service, asked: &[String]) -> bool {
    asked.iter().any(|word| {
        let name = word
            .rsplit_once('.')
            .map_or(word.as_str(), |(name, _)| name);
        [&service.key, &service.name, &service.app].contains(&&name.to_owned())
    })
}

/// Is it a replica that a word means, or of what a word means?
pub(super) fn is_meant(replica: &pb::Replica, asked: &[String]) -> bool {
    let mut whole = asked.iter().filter(|word| !word.contains('.'));
    asked.contains(&replica.name)
        || whole.any(|word| {
            replica.service.split('/').any(|part| part == word) || *word == replica.service
        })
}

pub(crate) fn service(app: &str, name: &str, wanted: u32) -> pb::Service {
    pb::Service {
        key: format!("{app}/{name}"),
        app: app.into(),
        name: name.into(),
        image: "longshore/hello:1".into(),
        wanted,
        planned: wanted,
        healthy: wanted,
        serving: wanted,
        revision: 1,
        updated_ms: NOW_MS,
        autoscale: "on".into(),
        min: 1,
        max: 12,
        urls: vec!["http://10.0.0.1:8080".into()],
        routes: vec![pb_route()],
        ..pb::Service::default()
    }
}

fn pb_route() -> longshore_proto::spec::v1::RouteSpec {
    longshore_proto::spec::v1::RouteSpec {
        listen_port: 8080,
        container_port: 8000,
        ..Default::default()
    }
}

impl Fake {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// New replicas of a service fail from now on.
    pub(crate) fn backs_off(&self, service: &str) {
        let problem = problem(service, &backoff());
        self.world().problems.push(problem);
    }

    /// Somebody else's change comes right after this one.
    pub(super) fn somebody_else(&self) {
        let mut world = self.world();
        if let Some(services) = world.meanwhile.take() {
            world.services = services;
        }
    }

    pub(super) fn call(&self, name: &str) {
        self.world().calls.push(name.to_owned());
    }

    pub(super) fn needs<T>(request: &Request<T>, least: OperatorRole) -> Result<(), Status> {
        let peer = request.extensions().get::<PeerInfo>().unwrap();
        match &peer.identity {
            Some(Identity::Operator { role, .. }) if *role >= least => Ok(()),
            _ => Err(Status::permission_denied(format!(
                "this needs role {}",
                least.as_str()
            ))),
        }
    }
}

/// Two failed starts.
pub(super) fn backoff() -> Reason {
    Reason::Backoff {
        failures: 2,
        until_ms: NOW_MS,
        last: FailReason::Exited {
            code: 3,
            oom: false,
            last_line: "boom".into(),
        },
    }
}

pub(super) fn problem(about: &str, reason: &Reason) -> pb::Problem {
    pb::Problem {
        about: about.into(),
        message: reason.to_string(),
        reason: Some(longshore_wire::to_struct(reason)),
    }
}
