//! What counts and restarts come to before anybody says yes: as `plan` says it of an app.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::{AppName, Desired, ServiceKey, ServiceName, ServiceSpec};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::apply::SERVICES_MAX;
use super::{beforehand, forecast, rollout, scale};
use crate::cluster::Cluster;

/// What would become of the services that are named, app by app. Refuses what would be refused.
pub(super) fn plan(
    cluster: &Cluster,
    request: &pb::PlanServicesRequest,
) -> Result<pb::PlanServicesResponse, Status> {
    if request.counts.len() > SERVICES_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {SERVICES_MAX} services at a time"
        )));
    }
    let mut desired = Desired::clone(&cluster.desired());
    let restarted = rollout::restarted(cluster, &desired, &request.restart)?;
    let mut asked: BTreeMap<AppName, BTreeSet<ServiceName>> = BTreeMap::new();
    let mut ask = |key: &ServiceKey| {
        let of_app = asked.entry(key.app.clone()).or_default();
        of_app.insert(key.service.clone());
    };
    restarted.keys().for_each(&mut ask);
    for count in &request.counts {
        let word = (count.service.as_str(), count.count, count.hold_ms);
        let key = scale::may(&desired, &cluster.view().plan, word)?;
        ask(&key);
        let manual = scale::manual(count.count, count.hold_ms, cluster.now_ms(), "");
        desired.manual.insert(key, manual);
    }
    let each = asked.iter();
    let each = each.filter_map(|(app, names)| one(cluster, &desired, (app, names), &restarted));
    Ok(pb::PlanServicesResponse {
        apps: each.collect(),
    })
}

/// What becomes of some services of one app.
fn one(
    cluster: &Cluster,
    desired: &Desired,
    (name, asked): (&AppName, &BTreeSet<ServiceName>),
    restarted: &BTreeMap<ServiceKey, Arc<ServiceSpec>>,
) -> Option<pb::AppPlan> {
    let app = desired.apps.get(name)?;
    let mut services = app.services.clone();
    let (view, mut warnings) = (cluster.view(), Vec::new());
    for (key, spec) in restarted.iter().filter(|(key, _)| key.app == *name) {
        let gap = beforehand::gap(&view, desired, key, spec);
        warnings.extend(gap.map(|gap| format!("{}: {gap}", key.service)));
        services.insert(key.service.clone(), Arc::clone(spec));
    }
    let is_asked = |service: &ServiceName| asked.contains(service);
    let mut forecast = forecast::forecast(cluster, desired, name, &services, is_asked);
    let change = |service: &ServiceName| {
        let forecast = forecast.take(service);
        let same = |f: &pb::ServiceForecast| f.replaced == 0 && f.before == f.wanted;
        let is_same = forecast.as_ref().is_some_and(same);
        pb::Change {
            action: if is_same { "same" } else { "change" }.into(),
            service: service.to_string(),
            details: Vec::new(),
            forecast,
        }
    };
    let plan = pb::PlanAppResponse {
        revision: app.revision,
        changes: asked.iter().map(change).collect(),
        warnings,
        secrets: Vec::new(),
        placement: Some(forecast.placement),
    };
    Some(pb::AppPlan {
        app: name.to_string(),
        plan: Some(plan),
    })
}
