//! What an apply comes to: where new replicas would go as things are now, how many are exchanged, and
//! what that takes meanwhile. The planner itself says it, of an app that nobody has applied yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::plan::{Replica, ServicePlan};
use longshore_model::route::{RouteMode, RouteSpec};
use longshore_model::spec::{Resources, UpdateOrder};
use longshore_model::{
    App, AppName, Desired, Memory, NodeId, Observed, Plan, Reason, ReplicaId, ServiceKey,
    ServiceName, ServiceSpec,
};
use longshore_planner::{Outcome, PlanInput, PlannerConfig};
use longshore_proto::control::v1 as pb;

use super::apply::Services;
use super::beforehand::cpus;
use crate::cluster::Cluster;

/// Names and ways in that are said of a new service.
const SAID_MAX: usize = 16;

/// What becomes of each service of an app, and of all of them together.
pub(super) struct Forecast {
    services: BTreeMap<ServiceName, pb::ServiceForecast>,
    pub(super) placement: pb::PlanPlacement,
    /// Volumes of which one of several copies would be used from now on, a line each.
    pub(super) copies: Vec<String>,
}

/// What a forecast is made from.
struct Now<'a> {
    desired: &'a Desired,
    plan: &'a Arc<Plan>,
    observed: &'a Observed,
    config: &'a PlannerConfig,
    now_ms: u64,
    started_ms: u64,
}

/// Of those of `services` that are asked for, as an apply of all of them would leave the app.
/// `desired` is what holds besides.
pub(super) fn forecast(
    cluster: &Cluster,
    desired: &Desired,
    name: &AppName,
    services: &Services,
    is_asked: impl Fn(&ServiceName) -> bool,
) -> Forecast {
    let mut observed = cluster.fleet.snapshot();
    let is_there = |id: &NodeId| desired.nodes.contains_key(id);
    observed.nodes.retain(|id, _| is_there(id));
    observed.edges.retain(|id, _| is_there(id));
    let now = Now {
        desired,
        plan: &cluster.view().plan,
        observed: &observed,
        config: &cluster.config.planner,
        now_ms: cluster.now_ms(),
        started_ms: cluster.started_ms,
    };
    of(&now, name, services, is_asked)
}

fn of(
    now: &Now<'_>,
    name: &AppName,
    services: &Services,
    is_asked: impl Fn(&ServiceName) -> bool,
) -> Forecast {
    let outcome = applied(now, name, services);
    let gone = |key: &ServiceKey| key.app == *name && !services.contains_key(&key.service);
    let gone = now.plan.services.keys().filter(|key| gone(key));
    let names: BTreeSet<&ServiceName> = gone
        .map(|key| &key.service)
        .chain(services.keys())
        .filter(|name| is_asked(name))
        .collect();
    let mut placement = pb::PlanPlacement::default();
    let mut each = BTreeMap::new();
    let mut copies = Vec::new();
    for service in names {
        let key = ServiceKey::new(name.clone(), service.clone());
        let spec = services.get(service).map(|spec| &**spec);
        let before = now.desired.service(&key).map(|(_, spec)| &**spec);
        let said = one(now, &outcome, &key, before, spec);
        placement.created += said.created;
        placement.replaced += said.replaced;
        placement.removed += said.removed;
        if let Some(spec) = spec
            && said.order == START_FIRST
        {
            let (cpu_milli, memory_bytes) = most(&spec.container.resources);
            let extra = said.at_once;
            placement.peak_replicas += extra;
            placement.peak_cpu_milli += cpu_milli.saturating_mul(extra.into());
            placement.peak_memory_bytes += memory_bytes.saturating_mul(extra.into());
            placement.peak_unlimited |= cpu_milli == 0 || memory_bytes == 0;
        }
        each.insert(service.clone(), said);
        copies.extend(spec.into_iter().flat_map(|spec| {
            let said = chosen(now, &outcome.plan, spec);
            said.map(move |said| format!("{service}: {said}"))
        }));
    }
    Forecast {
        copies,
        services: each,
        placement,
    }
}

/// What the planner makes of it. Nobody waits for anybody: where things go is asked, not when.
fn applied(now: &Now<'_>, name: &AppName, services: &Services) -> Outcome {
    let mut desired = now.desired.clone();
    let present = desired.apps.get(name);
    let mut services = services.clone();
    for spec in services.values_mut() {
        if !spec.depends_on.is_empty() {
            Arc::make_mut(spec).depends_on.clear();
        }
    }
    let app = App {
        name: name.clone(),
        revision: present.map_or(1, |app| app.revision.saturating_add(1)),
        services,
        applied_ms: now.now_ms,
        applied_by: String::new(),
        numbers: present.map(|app| app.numbers.clone()).unwrap_or_default(),
    };
    desired.apps.insert(name.clone(), app);
    longshore_planner::plan(&PlanInput {
        now_ms: now.now_ms,
        started_ms: now.started_ms,
        desired: &Arc::new(desired),
        current: now.plan,
        memory: &Arc::<Memory>::default(),
        observed: now.observed,
        config: now.config,
    })
}

/// Volumes of a service that have no home yet, and more than one copy.
fn chosen<'n>(
    now: &'n Now<'_>,
    plan: &'n Plan,
    spec: &'n ServiceSpec,
) -> impl Iterator<Item = String> + 'n {
    spec.container.local_volumes().filter_map(|volume| {
        if now.plan.homes.contains_key(volume) {
            return None;
        }
        let home = &plan.homes.get(volume)?.node;
        let nodes = now.observed.nodes.iter().filter(|(id, seen)| {
            let node = now.desired.nodes.get(*id);
            node.is_some_and(|node| node.copy_ms(volume, &seen.capacity).is_some())
        });
        let others = nodes.map(|(id, _)| id).filter(|id| *id != home);
        let others: Vec<&str> = others.take(SAID_MAX).map(NodeId::as_str).collect();
        (!others.is_empty()).then(|| {
            format!(
                "of volume {volume} the copy on {home} is used, not that on {}; to use another one, \
                 first: controllerctl volume rm {volume} --node {home}",
                others.join(", ")
            )
        })
    })
}

const START_FIRST: &str = "start-first";
const STOP_FIRST: &str = "stop-first";

fn one(
    now: &Now<'_>,
    outcome: &Outcome,
    key: &ServiceKey,
    before: Option<&ServiceSpec>,
    spec: Option<&ServiceSpec>,
) -> pb::ServiceForecast {
    let had: BTreeSet<ReplicaId> = stays(now.plan, key).map(|replica| replica.id).collect();
    let there = count(had.len());
    let entry = outcome.plan.services.get(key);
    let Some((spec, entry)) = spec.zip(entry) else {
        return pb::ServiceForecast {
            before: there,
            removed: there,
            ..pb::ServiceForecast::default()
        };
    };
    let wanted = entry.target;
    let is_new_template = before.is_some_and(|before| before.container != spec.container);
    let replaced = match is_new_template {
        true => {
            // Some may run it already: those of before a rollout that did not come to its end.
            let to = spec.container.template_id();
            let others = stays(now.plan, key).filter(|replica| replica.template != to);
            count(others.count()).min(wanted)
        }
        false => 0,
    };
    let (order, at_once) = exchange(spec, entry, replaced);
    let created = wanted.saturating_sub(there);
    let new = stays(&outcome.plan, key).filter(|replica| !had.contains(&replica.id));
    let new: Vec<_> = new.collect();
    let mut by_node: BTreeMap<&NodeId, u32> = BTreeMap::new();
    // Of those that only follow others, the first batch says nothing of the next.
    for replica in new.iter().take(created as usize) {
        *by_node.entry(&replica.node).or_default() += 1;
    }
    let placed: u32 = by_node.values().sum();
    let unplaced = created.saturating_sub(placed);
    let report = outcome.report.services.get(key);
    let waits = report.map_or(&[][..], |report| &report.waits);
    let is_short = waits
        .iter()
        .any(|wait| matches!(wait, Reason::Unplaceable { .. }));
    let exchange_unplaced = replaced > 0 && is_short && count(new.len()) <= created;
    let is_said = unplaced > 0 || exchange_unplaced;
    let waits = waits.iter().filter(|_| is_said).map(ToString::to_string);
    let nodes = by_node.into_iter().map(|(node, replicas)| pb::NodeShare {
        node: node.to_string(),
        replicas,
    });
    pb::ServiceForecast {
        before: there,
        wanted,
        created,
        replaced,
        removed: there.saturating_sub(wanted),
        nodes: nodes.collect(),
        unplaced,
        waits: waits.collect(),
        order: order.into(),
        at_once,
        exchange_unplaced,
    }
}

/// Replicas that are there and count.
fn stays<'p>(plan: &'p Plan, key: &ServiceKey) -> impl Iterator<Item = &'p Arc<Replica>> {
    plan.replicas_of(key)
        .filter(|replica| replica.leaving.is_none() && !replica.rests())
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// In which order replicas are exchanged, and how many at a time; empty and 0: none are.
fn exchange(spec: &ServiceSpec, entry: &ServicePlan, replaced: u32) -> (&'static str, u32) {
    let batch = spec.update.batch(entry.target).min(replaced);
    let is_forced = entry
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.stop_first);
    match spec.update.order {
        _ if replaced == 0 => ("", 0),
        UpdateOrder::StopFirst => (STOP_FIRST, batch),
        // Only for want of room: one at a time.
        UpdateOrder::Auto if is_forced => (STOP_FIRST, 1),
        UpdateOrder::Auto | UpdateOrder::StartFirst => (START_FIRST, batch),
    }
}

/// The most that one replica may take: CPU in thousandths of a core and bytes of memory; 0: nothing
/// is said.
fn most(resources: &Resources) -> (u64, u64) {
    (
        resources.cpu_limit_milli.max(resources.cpu_reserved_milli),
        resources
            .memory_limit_bytes
            .max(resources.memory_reserved_bytes),
    )
}

impl Forecast {
    /// Does no replica stop? None is to be replaced, or there is no place for the one that would follow.
    pub(super) fn stands_still(&self, service: &ServiceName) -> bool {
        let said = self.services.get(service);
        said.is_some_and(|said| said.exchange_unplaced || said.replaced == 0)
    }

    /// Of one service.
    pub(super) fn take(&mut self, service: &ServiceName) -> Option<pb::ServiceForecast> {
        self.services.remove(service)
    }
}

/// What a new service is, a line each. Names of variables only: values may be secrets.
pub(super) fn described(spec: &ServiceSpec) -> Vec<String> {
    let container = &spec.container;
    let mut lines = vec![format!("image {}", container.image_ref())];
    lines.extend(spec.routes.iter().take(SAID_MAX).map(way_in));
    let fixed = container.fixed_ports.iter().take(SAID_MAX);
    lines.extend(fixed.map(|(inside, host)| format!("port {host} of its node -> {inside}")));
    if let Some(scaling) = &spec.autoscale {
        let (min, max) = (scaling.min, scaling.max);
        lines.push(format!("scales by load between {min} and {max}"));
    }
    let r = &container.resources;
    let limits = [
        ("limits", r.cpu_limit_milli, r.memory_limit_bytes),
        ("reserves", r.cpu_reserved_milli, r.memory_reserved_bytes),
    ];
    for (word, cpu_milli, memory_bytes) in limits {
        let cpu = (cpu_milli > 0).then(|| format!("{} CPU", cpus(cpu_milli)));
        let mib = memory_bytes.div_ceil(1 << 20);
        let memory = (memory_bytes > 0).then(|| format!("{mib} MiB"));
        let said: Vec<String> = cpu.into_iter().chain(memory).collect();
        if !said.is_empty() {
            lines.push(format!("{word} {}", said.join(", ")));
        }
    }
    let names: Vec<&str> = container.env.keys().map(String::as_str).collect();
    if !names.is_empty() {
        let more = names.len().saturating_sub(SAID_MAX);
        let names = names[..names.len().min(SAID_MAX)].join(", ");
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(format!("env {names}{more}"));
    }
    lines
}

fn way_in(route: &RouteSpec) -> String {
    let mode = match route.mode {
        RouteMode::Http => "http",
        RouteMode::Tcp => "tcp",
    };
    let hosts = route.domains.iter().take(SAID_MAX);
    let hosts: String = hosts.map(|host| format!(", {host}")).collect();
    let (port, inside) = (route.listen_port, route.container_port);
    format!("port {port} -> {inside} ({mode}{hosts})")
}
