//! What `plan -o json` promises. As [`super::views`].

use std::collections::BTreeMap;

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::images::PlannedBuild;

/// `plan`
#[derive(Debug, Serialize)]
pub struct Plan {
    /// App.
    pub app: String,
    /// Revision that it was compared with; 0: new.
    pub revision: u64,
    /// True if an apply would change anything.
    pub changed: bool,
    /// Service by service.
    pub changes: Vec<Change>,
    /// Certificate by certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Counts of `--scale` for services that are there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scale: Vec<PlannedCount>,
    /// Images that are built or sent before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub builds: Vec<PlannedBuild>,
    /// What it comes to; none: the controller is an older one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

/// A count that is set once the app is applied.
#[derive(Debug, Serialize)]
pub struct PlannedCount {
    /// app/service
    pub service: String,
    /// Replicas.
    pub count: u32,
}

/// A change of one certificate.
#[derive(Debug, Serialize)]
pub struct Secret {
    /// add, renew, remove, same
    pub action: String,
    /// Its name in the file.
    pub name: String,
}

/// A change of one service.
#[derive(Debug, Serialize)]
pub struct Change {
    /// add, change, remove, same
    pub action: String,
    /// Service.
    pub service: String,
    /// field: old -> new; of a new service, what it is.
    pub details: Vec<String>,
    /// What becomes of its replicas; none: the controller is an older one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
}

/// What becomes of a service's replicas, as things are now.
#[derive(Debug, Serialize)]
pub struct Forecast {
    /// Replicas that are there.
    pub before: u32,
    /// Replicas that are wanted afterwards.
    pub wanted: u32,
    /// Replicas that come.
    pub created: u32,
    /// Replicas that are exchanged for ones of the new spec.
    pub replaced: u32,
    /// Replicas that go.
    pub removed: u32,
    /// Where those that come would go: replicas by node.
    pub nodes: BTreeMap<String, u32>,
    /// How many of those find no place.
    pub unplaced: u32,
    /// What wants a place waits for this.
    pub waits: Vec<String>,
    /// start-first, stop-first; none: nothing is exchanged.
    pub order: Option<String>,
    /// Replicas exchanged at a time.
    pub at_once: u32,
    /// Nobody finds a place to follow those that are exchanged; `waits` says why.
    pub exchange_unplaced: bool,
}

/// What the whole app comes to.
#[derive(Debug, Serialize)]
pub struct Placement {
    /// Replicas that come.
    pub created: u32,
    /// Replicas that are exchanged.
    pub replaced: u32,
    /// Replicas that go.
    pub removed: u32,
    /// Replicas that run at most beyond those that stay, while others are exchanged.
    pub peak_replicas: u32,
    /// CPU that these may take, thousandths of a core.
    pub peak_cpu_milli: u64,
    /// Memory that these may take.
    pub peak_memory_bytes: u64,
    /// Some of them have no limit: they may take more.
    pub peak_unlimited: bool,
}

impl Plan {
    /// With counts that are set as well.
    pub fn add_counts(&mut self, counts: &[(String, u32)]) {
        self.changed |= !counts.is_empty();
        let count = |(service, count): &(String, u32)| PlannedCount {
            service: service.clone(),
            count: *count,
        };
        self.scale.extend(counts.iter().map(count));
    }

    /// Images that are built or sent before.
    pub fn add_builds(&mut self, builds: Vec<PlannedBuild>) {
        self.changed |= !builds.is_empty();
        self.builds.extend(builds);
    }

    /// From the API.
    #[must_use]
    pub fn new(app: &str, plan: &pb::PlanAppResponse) -> Self {
        let change = |c: &pb::Change| Change {
            action: c.action.clone(),
            service: c.service.clone(),
            details: c.details.clone(),
            forecast: c.forecast.as_ref().map(Forecast::from),
        };
        let secret = |s: &pb::SecretChange| Secret {
            action: s.action.clone(),
            name: s.name.clone(),
        };
        Self {
            app: app.to_owned(),
            revision: plan.revision,
            changed: plan.changes.iter().any(|c| c.action != "same")
                || plan.secrets.iter().any(|s| s.action != "same"),
            secrets: plan.secrets.iter().map(secret).collect(),
            changes: plan.changes.iter().map(change).collect(),
            scale: Vec::new(),
            builds: Vec::new(),
            placement: plan.placement.as_ref().map(Placement::from),
            warnings: plan.warnings.clone(),
        }
    }
}

impl From<&pb::ServiceForecast> for Forecast {
    fn from(f: &pb::ServiceForecast) -> Self {
        let nodes = f.nodes.iter();
        Self {
            before: f.before,
            wanted: f.wanted,
            created: f.created,
            replaced: f.replaced,
            removed: f.removed,
            nodes: nodes.map(|n| (n.node.clone(), n.replicas)).collect(),
            unplaced: f.unplaced,
            waits: f.waits.clone(),
            order: (!f.order.is_empty()).then(|| f.order.clone()),
            at_once: f.at_once,
            exchange_unplaced: f.exchange_unplaced,
        }
    }
}

impl From<&pb::PlanPlacement> for Placement {
    fn from(p: &pb::PlanPlacement) -> Self {
        Self {
            created: p.created,
            replaced: p.replaced,
            removed: p.removed,
            peak_replicas: p.peak_replicas,
            peak_cpu_milli: p.peak_cpu_milli,
            peak_memory_bytes: p.peak_memory_bytes,
            peak_unlimited: p.peak_unlimited,
        }
    }
}
