//! Status and lists: the last report, joined with what was seen.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use longshore_model::observe::{CheckState, EdgeObserved};
use longshore_model::plan::{Replica, Traffic};
use longshore_model::report::{NodeState, ScaleReport, ServiceReport};
use longshore_model::spec::RouteMode;
use longshore_model::ways::refused_in_words;
use longshore_model::{
    AutoscaleMode, Desired, NodeId, Observed, Plan, ReplicaId, ReplicaState, ServiceKey,
    ServiceSpec,
};
use longshore_proto::control::v1 as pb;
use longshore_wire::{route_spec_to_pb, to_struct};
use tonic::Status;

use super::certificates::Scene;
use super::find::{self, Target};
use super::jobs;
use crate::cluster::{Cluster, View};
use crate::explain::Clock;

mod nodes;

pub(super) use nodes::nodes;

/// Words of a list of services.
const SERVICES_MAX: usize = 256;
/// Problems named in a status.
const PROBLEMS_MAX: usize = 200;

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The word of a state or a traffic, as JSON has it.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The cluster at a glance.
pub(super) fn status(cluster: &Cluster) -> pb::GetStatusResponse {
    let (view, desired) = (cluster.view(), cluster.desired());
    let observed = cluster.fleet.snapshot();
    let report = &view.report;
    let ready = report
        .nodes
        .values()
        .filter(|node| node.state == NodeState::Ready)
        .count();
    let until_ms = cluster.config.planner.observe_until(cluster.started_ms);
    pb::GetStatusResponse {
        cluster: cluster.meta.cluster.clone(),
        controller_version: env!("CARGO_PKG_VERSION").into(),
        term: cluster.fence.term,
        plan_version: view.plan.version,
        time_ms: cluster.now_ms(),
        started_ms: cluster.started_ms,
        nodes_ready: count(ready),
        nodes_total: count(desired.nodes.len()),
        services_total: count(desired.services().count()),
        replicas_wanted: report.services.values().map(|service| service.wanted).sum(),
        replicas_serving: report
            .services
            .values()
            .map(|service| service.serving)
            .sum(),
        problems: problems(cluster, &view, &observed),
        observing_until_ms: if cluster.now_ms() < until_ms {
            until_ms
        } else {
            0
        },
        edges: edges(&desired, &view.plan, &observed),
    }
}

fn problem(about: impl ToString, message: impl ToString) -> pb::Problem {
    pb::Problem {
        about: about.to_string(),
        message: message.to_string(),
        reason: None,
    }
}

/// The cluster first, then nodes, edges, services.
fn problems(cluster: &Cluster, view: &View, observed: &Observed) -> Vec<pb::Problem> {
    let mut list: Vec<pb::Problem> = Vec::new();
    let refused = cluster.refused_write();
    let refused = refused.filter(|text| view.problem.as_ref() != Some(text));
    list.extend(refused.map(|text| problem("", text)));
    list.extend(view.problem.iter().map(|text| problem("", text)));
    list.extend(cluster.store().strain().map(|text| problem("", text)));
    let backups = &cluster.backups;
    let backups = backups.problem(&cluster.config.backup, cluster.now_ms());
    list.extend(backups.map(|text| problem("", text)));
    for reason in &view.report.problems {
        list.push(pb::Problem {
            reason: Some(to_struct(reason)),
            ..problem("", reason)
        });
    }
    for (id, node) in view.report.nodes.iter() {
        if node.state == NodeState::Ready && node.reason.is_none() {
            continue;
        }
        let text = node
            .reason
            .as_ref()
            .map_or_else(|| absence(node.state).to_owned(), ToString::to_string);
        let reason = node.reason.as_ref().map(to_struct);
        list.push(pb::Problem {
            reason,
            ..problem(id, text)
        });
    }
    for (id, node) in &observed.nodes {
        list.extend(node.problems.iter().map(|text| problem(id, text)));
    }
    for (id, edge) in &observed.edges {
        list.extend(edge.problem.iter().map(|text| problem(id, text)));
    }
    let certificates = Scene::of(cluster).problems().into_iter();
    list.extend(certificates.map(|(service, text, reason)| pb::Problem {
        reason: reason.as_ref().map(to_struct),
        ..problem(service, text)
    }));
    for (key, service) in view.report.services.iter() {
        for reason in &service.waits {
            list.push(pb::Problem {
                reason: Some(to_struct(reason)),
                ..problem(key, reason)
            });
        }
    }
    list.truncate(PROBLEMS_MAX);
    list
}

/// Why a node that is not ready counts as it does.
pub(super) fn absence(state: NodeState) -> &'static str {
    match state {
        NodeState::Ready => "",
        NodeState::Unknown => "has not connected since the controller started",
        NodeState::Away => "not connected",
        NodeState::EngineDown => "its container engine does not answer",
        NodeState::RuntimeStuck => "runtime stuck: its container engine hangs",
        NodeState::Lost => "lost: its replicas are replaced",
    }
}

fn edges(desired: &Desired, plan: &Plan, observed: &Observed) -> Vec<pb::Edge> {
    let edges = desired.nodes.values().filter(|node| node.roles.edge);
    edges
        .map(|node| {
            let seen = observed.edges.get(&node.id);
            let seen = seen
                .map(|seen| EdgeObserved::clone(seen))
                .unwrap_or_default();
            pb::Edge {
                node: node.id.to_string(),
                connected: seen.session.connected,
                routes_generation: seen.routes_generation,
                routes_generation_wanted: plan.routes_generation,
                haproxy_version: seen.haproxy_version,
                problem: seen.problem.unwrap_or_default(),
            }
        })
        .collect()
}

/// All services by key: wanted ones, and those whose replicas still leave.
pub(super) fn services(cluster: &Cluster) -> Vec<pb::Service> {
    let (view, desired) = (cluster.view(), cluster.desired());
    let observed = cluster.fleet.snapshot();
    let edges: Vec<IpAddr> = desired
        .nodes
        .values()
        .filter(|n| n.roles.edge)
        .map(|n| n.address)
        .collect();
    let certificates = Scene::of(cluster);
    let now_ms = cluster.now_ms();
    let clock = Clock { now_ms };
    let mut list: BTreeMap<_, pb::Service> = BTreeMap::new();
    for (key, app, spec) in desired.services() {
        let report = view.report.services.get(&key).cloned().unwrap_or_default();
        let mut service = service(&key.to_string(), &report);
        describe(&mut service, spec, &edges);
        service.revision = app.revision;
        let entry = view.plan.services.get(&key);
        service.job = entry.and_then(|e| e.job.as_ref()).map(jobs::state);
        service.updated_ms = app.applied_ms;
        let gap = super::beforehand::gap(&view, &desired, &key, spec);
        service.gap = gap.unwrap_or_default();
        service.certificates = certificates.of_service(&key, spec);
        service.rollout = Some(super::rollout::state(
            &view, &desired, &observed, &key, clock,
        ));
        list.insert(key, service);
    }
    for (key, report) in view.report.services.iter() {
        let leaving = || service(&key.to_string(), report);
        list.entry(key.clone()).or_insert_with(leaving);
    }
    for (key, service) in &mut list {
        let report = view.report.services.get(key).map(|report| &**report);
        service.aside = count(aside(&desired, &view.plan, key));
        service.waits = super::leavers::waits(report, &view.plan, &observed, key, clock);
    }
    list.into_values().collect()
}

/// What each signal says and asks for.
pub(super) fn signal_values(scale: &ScaleReport) -> Vec<pb::SignalValue> {
    let signals = scale.signals.iter().map(|signal| pb::SignalValue {
        signal: signal.signal.clone(),
        value: signal.value,
        target: signal.target,
        recommendation: signal.recommendation,
        against: signal.against(),
    });
    signals.collect()
}

/// Replicas that stay, and that an operator keeps out of the routes.
fn aside(desired: &Desired, plan: &Plan, key: &ServiceKey) -> usize {
    let Some(aside) = desired.aside.get(key) else {
        return 0;
    };
    let stays = |r: &&Arc<Replica>| r.leaving.is_none() && aside.contains_key(&r.id);
    plan.replicas_of(key).filter(stays).count()
}

fn service(key: &str, report: &ServiceReport) -> pb::Service {
    let (app, name) = key.split_once('/').unwrap_or_default();
    pb::Service {
        key: key.to_owned(),
        app: app.to_owned(),
        name: name.to_owned(),
        wanted: report.wanted,
        planned: report.planned,
        healthy: report.healthy,
        serving: report.serving,
        leaving: report.leaving,
        outdated: report.outdated,
        misplaced: report.misplaced,
        autoscale: "fixed".into(),
        min: report.scale.min,
        max: report.scale.max,
        signals: signal_values(&report.scale),
        scale_reasons: report
            .scale
            .reasons
            .iter()
            .map(ToString::to_string)
            .collect(),
        ..pb::Service::default()
    }
}

fn describe(service: &mut pb::Service, spec: &ServiceSpec, edges: &[IpAddr]) {
    service.image.clone_from(&spec.container.image);
    let asks = spec.container.healthcheck.is_some() || spec.container.probe.is_some();
    service.unasked = spec.routes.is_empty() && !asks && spec.job.is_none();
    service.routes = spec.routes.iter().map(route_spec_to_pb).collect();
    if let Some(scaling) = &spec.autoscale {
        service.autoscale = match scaling.mode {
            AutoscaleMode::On => "on".into(),
            AutoscaleMode::DryRun => "dry_run".into(),
            AutoscaleMode::Approve => "approve".into(),
        };
        (service.min, service.max) = (scaling.min, scaling.max);
    }
    for route in &spec.routes {
        let scheme = match (route.mode, route.tls.is_empty()) {
            (RouteMode::Tcp, _) => "tcp",
            (RouteMode::Http, true) => "http",
            (RouteMode::Http, false) => "https",
        };
        for edge in edges {
            let at = std::net::SocketAddr::new(*edge, route.listen_port);
            service.urls.push(format!("{scheme}://{at}"));
        }
    }
}

/// Replicas of the named services, or all.
pub(super) fn replicas(cluster: &Cluster, words: &[String]) -> Result<Vec<pb::Replica>, Status> {
    if words.len() > SERVICES_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {SERVICES_MAX} services at a time"
        )));
    }
    let (view, desired) = (cluster.view(), cluster.desired());
    let targets = words
        .iter()
        .map(|word| find::with_apps(&desired, &view.plan, word))
        .collect::<Result<Vec<Target>, Status>>()?;
    let observed = cluster.fleet.snapshot();
    let mut list: Vec<&Replica> = view
        .plan
        .replicas()
        .map(|replica| &**replica)
        .filter(|replica| targets.is_empty() || targets.iter().any(|t| covers(t, replica)))
        .collect();
    list.sort_by(|a, b| (&a.service, a.slot, a.id).cmp(&(&b.service, b.slot, b.id)));
    Ok(list
        .into_iter()
        .map(|replica| {
            let node = view.report.nodes.get(&replica.node);
            let node = node.map_or(NodeState::Unknown, |report| report.state);
            let aside = desired.aside.get(&replica.service);
            let aside = aside.and_then(|aside| aside.get(&replica.id));
            let mut said = convert(replica, &view.plan, &observed, node);
            if let Some(aside) = aside {
                if said.reason.is_empty() {
                    said.reason = format!("kept out of the routes {aside}");
                }
                said.aside = Some(pb::SetAside {
                    since_ms: aside.at_ms,
                    by: aside.by.clone(),
                    why: aside.why.clone(),
                });
            }
            said
        })
        .collect())
}

/// Is the replica what a word means?
pub(super) fn covers(target: &Target, replica: &Replica) -> bool {
    match target {
        Target::App(name) => replica.service.app == *name,
        Target::Service(key) => replica.service == *key,
        Target::Replica(id) => replica.id == *id,
        Target::Node(id) => replica.node == *id,
    }
}

fn traffic_word(replica: &Replica, is_down: bool) -> &'static str {
    match replica.traffic {
        Traffic::Out => "out",
        Traffic::Serve if is_down => "down",
        Traffic::Serve => "serve",
        Traffic::Drain => "drain",
    }
}

fn convert(
    replica: &Replica,
    plan: &Plan,
    observed: &Observed,
    node_state: NodeState,
) -> pb::Replica {
    let node = observed.nodes.get(&replica.node);
    let seen = node
        .and_then(|node| node.replicas.get(&replica.id))
        .cloned();
    let samples = node.and_then(|node| node.samples.replicas.get(&replica.id));
    let heard = node_state.is_connected();
    let state = match (jobs::ended(replica), &seen) {
        (Some((state, _)), _) => word(&state),
        (None, _) if !heard => "unknown".into(),
        (None, Some(status)) => word(&status.state),
        (None, None) => word(&ReplicaState::Assigned),
    };
    let (checks, sessions) = checks(replica, observed);
    let is_down =
        replica.traffic == Traffic::Serve && is_shut_out(&replica.service, replica.id, observed);
    let reason = match seen.as_ref().and_then(|status| status.reason.as_ref()) {
        None if replica.ended.is_some() => jobs::ended(replica).and_then(|(_, said)| said),
        _ if node_state != NodeState::Ready => {
            Some(format!("{}: {}", replica.node, absence(node_state)))
        }
        None if is_down => shut_out(&replica.service, observed),
        // Reached, but not by every way in, or not through every edge.
        None if replica.traffic == Traffic::Serve => {
            refused_in_words(&observed.refused_by(&replica.service))
        }
        reason => reason.map(ToString::to_string),
    };
    let address = replica
        .ports
        .first()
        .map(|port| std::net::SocketAddr::new(replica.address, port.host_port).to_string());
    let leaving = replica
        .leaving
        .as_ref()
        .map(|leaving| leaving.reason.to_string());
    pb::Replica {
        id: replica.id.0,
        service: replica.service.to_string(),
        slot: replica.slot,
        name: replica.name(),
        node: replica.node.to_string(),
        image: plan
            .template(replica)
            .map(|t| t.image.clone())
            .unwrap_or_default(),
        revision: replica.revision,
        state,
        traffic: traffic_word(replica, is_down).into(),
        checks,
        sessions,
        reason: reason.unwrap_or_default(),
        leaving: leaving.unwrap_or_default(),
        container_id: seen
            .as_ref()
            .and_then(|s| s.container_id.clone())
            .unwrap_or_default(),
        address: address.unwrap_or_else(|| replica.address.to_string()),
        cpu_milli: samples
            .and_then(|s| s.cpu_milli.last())
            .map(|sample| sample.value),
        memory_bytes: samples.map_or(0, |s| s.memory_bytes),
        created_ms: replica.created_ms,
        started_ms: seen.as_ref().and_then(|s| s.started_ms),
        restarts: seen.as_ref().map_or(0, |s| s.restarts),
        aside: None,
    }
}

/// Every edge that says anything of it gives it no request: its check fails there, the edge cannot
/// serve its service, as where another program holds the port, or HAProxy does not answer.
pub(super) fn is_shut_out(service: &ServiceKey, replica: ReplicaId, observed: &Observed) -> bool {
    let mut told = false;
    for edge in observed.edges.values() {
        let server = edge.server(service, replica);
        match server.map(|server| server.check) {
            Some(CheckState::Down) => told = true,
            Some(_) => return false,
            None => told |= edge.keeps_out(service).is_some(),
        }
    }
    told
}

/// Edges whose check of a replica fails.
pub(super) fn blind_edges<'o>(
    service: &ServiceKey,
    replica: ReplicaId,
    observed: &'o Observed,
) -> Vec<&'o NodeId> {
    let is_blind = |seen: &EdgeObserved| {
        let server = seen.server(service, replica);
        server.is_some_and(|server| server.check == CheckState::Down)
    };
    let blind = observed.edges.iter().filter(|(_, seen)| is_blind(seen));
    blind.map(|(edge, _)| edge).collect()
}

/// Why no edge serves the replicas of a service, in an edge's words, where it has any.
fn shut_out(service: &ServiceKey, observed: &Observed) -> Option<String> {
    let mut edges = observed.edges.iter();
    edges.find_map(|(edge, seen)| {
        let why = seen.keeps_out(service)?;
        Some(format!("not reachable through {edge}: {why}"))
    })
}

/// Each edge's check of a replica, and its sessions in all of them.
fn checks(replica: &Replica, observed: &Observed) -> (HashMap<String, String>, u32) {
    let mut checks = HashMap::new();
    let mut sessions = 0;
    for (edge, at) in &observed.edges {
        if let Some(server) = at.server(&replica.service, replica.id) {
            let check = match server.check {
                CheckState::Up => "up",
                CheckState::Down => "down",
                CheckState::Unknown => "unknown",
            };
            checks.insert(edge.to_string(), check.to_owned());
            sessions += server.sessions;
        }
    }
    (checks, sessions)
}

#[cfg(test)]
mod tests;
