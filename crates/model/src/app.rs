//! What the cluster is asked to be: everything that operators wrote, nothing that was observed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::aside::AsideMap;
use crate::autoscale::AutoscaleControl;
use crate::certificate::CertificateWanted;
use crate::id::{AppName, NodeId, ServiceKey, ServiceName};
use crate::node::Node;
use crate::rollout::RolloutControl;
use crate::secret::SecretKey;
use crate::shared::SharedMap;
use crate::spec::ServiceSpec;

/// One Compose file, applied under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// Counts applies; 1 is the first.
    pub revision: u64,
    /// Its services.
    pub services: SharedMap<ServiceName, Arc<ServiceSpec>>,
    /// When this revision was applied.
    pub applied_ms: TimeMs,
    /// By whom.
    pub applied_by: String,
    /// Numbers of its services' addresses ([`crate::names::address`]), those of services that it no
    /// longer has included.
    #[serde(default)]
    pub numbers: BTreeMap<ServiceName, u16>,
}

/// `controllerctl scale`: a count set by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualScale {
    /// Replicas wanted.
    pub count: u32,
    /// When it was said. The planner obeys it once; later the autoscaler goes on from there.
    pub at_ms: TimeMs,
    /// Until then the autoscaler keeps its hands off.
    #[serde(default)]
    pub hold_until_ms: Option<TimeMs>,
    /// By whom.
    pub by: String,
}

/// The desired state of the cluster. What is long in it is shared between copies: whoever writes
/// it copies and changes one, while others still read the one before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Desired {
    /// Apps by name.
    pub apps: SharedMap<AppName, App>,
    /// Nodes by id.
    pub nodes: SharedMap<NodeId, Node>,
    /// Last manual count of each service.
    pub manual: BTreeMap<ServiceKey, ManualScale>,
    /// What operators say to autoscalers, by service.
    #[serde(default)]
    pub autoscale: BTreeMap<ServiceKey, AutoscaleControl>,
    /// What operators said about rollouts.
    #[serde(default)]
    pub rollout: BTreeMap<ServiceKey, RolloutControl>,
    /// Replicas that operators keep out of the routes.
    #[serde(default)]
    pub aside: BTreeMap<ServiceKey, AsideMap>,
    /// Certificates that edges shall serve.
    #[serde(default)]
    pub certificates: Arc<BTreeMap<SecretKey, CertificateWanted>>,
}

impl Desired {
    /// The spec of a service, with its app.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<(&App, &Arc<ServiceSpec>)> {
        let app = self.apps.get(&key.app)?;
        Some((app, app.services.get(&key.service)?))
    }

    /// All services in key order.
    pub fn services(&self) -> impl Iterator<Item = (ServiceKey, &App, &Arc<ServiceSpec>)> {
        // By the keys of the maps, as `service` looks: whatever stands in the values.
        self.apps.iter().flat_map(|(of, app)| {
            let services = app.services.iter();
            services.map(move |(name, spec)| (ServiceKey::new(of.clone(), name.clone()), app, spec))
        })
    }
}
