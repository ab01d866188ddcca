//! What is allowed, and worth a word before it begins: what will wait, and what nobody serves
//! meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::networks::names_seen;
use longshore_model::node::{Availability, Capacity};
use longshore_model::spec::{Resources, UpdateOrder};
use longshore_model::{
    App, AppName, Desired, Plan, ServiceKey, ServiceName, ServiceSpec, SharedMap,
};

use crate::cluster::{Cluster, View};

/// Names shown that replicas do not know.
const NAMES_SHOWN: usize = 8;

/// What is allowed but will wait, and what an exchange of replicas costs, unless none comes of it.
pub(super) fn warnings(
    cluster: &Cluster,
    name: &AppName,
    services: &SharedMap<ServiceName, Arc<ServiceSpec>>,
    before: Option<&App>,
    stands_still: impl Fn(&ServiceName) -> bool,
) -> Vec<String> {
    let (desired, view) = (cluster.desired(), cluster.view());
    let observed = cluster.fleet.snapshot();
    let workers = desired.nodes.values().filter(|node| node.roles.worker);
    let capacities: Vec<&Capacity> = workers
        .filter_map(|node| observed.nodes.get(&node.id))
        .map(|seen| &*seen.capacity)
        .collect();
    if capacities.is_empty() {
        return vec!["no worker has connected yet: every replica will wait".into()];
    }
    let mut lines = Vec::new();
    for (service, spec) in services {
        // One on each node asks no node for more than one.
        let count = match spec.is_global() {
            true => 1,
            false => spec.replicas,
        };
        let lack = lack(&spec.container.resources, count, &capacities);
        lines.extend(lack.map(|lack| format!("{service}: {lack}")));
        let old = before.and_then(|app| app.services.get(service));
        if old.is_some_and(|old| old.container != spec.container) {
            let key = ServiceKey::new(name.clone(), service.clone());
            let gap = gap(&view, &desired, &key, spec);
            let gap = gap
                .or_else(|| order(spec))
                .filter(|_| !stands_still(service));
            lines.extend(gap.map(|gap| format!("{service}: {gap}")));
        }
    }
    lines.extend(unnamed(services, before));
    if services.values().any(|spec| !spec.routes.is_empty()) && observed.edges.is_empty() {
        lines.push("no edge has connected yet: nothing will be reachable from outside".into());
    }
    lines
}

/// What to compare the `next` services of an app with: one that failed and was rolled back runs what
/// was good before it. And what is to be said of such ones, a line each.
pub(super) fn as_it_runs(
    plan: &Plan,
    desired: &Arc<Desired>,
    name: &AppName,
    next: &SharedMap<ServiceName, Arc<ServiceSpec>>,
) -> (Arc<Desired>, Vec<String>) {
    let (mut runs, mut lines) = (Arc::clone(desired), Vec::new());
    for (service, spec) in next {
        let key = ServiceKey::new(name.clone(), service.clone());
        let planned = plan.services.get(&key);
        let back = planned.and_then(|planned| planned.refused.as_ref().zip(planned.good.as_ref()));
        let (Some((refused, good)), Some((_, asked))) = (back, desired.service(&key)) else {
            continue;
        };
        let failed = format!(
            "{service}: revision {} failed and was rolled back ({})",
            refused.revision, refused.why
        );
        if asked == spec {
            lines.push(format!(
                "{failed}, and this is the same: revision {} stays; to try again all the same: \
                 controllerctl rollout resume {key}",
                good.revision
            ));
            continue;
        }
        lines.push(format!(
            "{failed}: compared with revision {}, which runs",
            good.revision
        ));
        if let Some(app) = Arc::make_mut(&mut runs).apps.get_mut(name) {
            app.services.insert(service.clone(), Arc::clone(&good.spec));
        }
    }
    (runs, lines)
}

/// Names that replicas which stay do not know: a container learns names when it is made.
fn unnamed(
    services: &SharedMap<ServiceName, Arc<ServiceSpec>>,
    before: Option<&App>,
) -> Option<String> {
    let before = before?;
    let (mut news, mut those) = (BTreeSet::new(), Vec::new());
    for (service, spec) in services {
        let old = before.services.get(service);
        if spec.job.is_some() || old.is_none_or(|old| old.container != spec.container) {
            continue;
        }
        let knew = names_seen(&before.services, service);
        let mut sees = names_seen(services, service);
        sees.retain(|name, to| knew.get(name) != Some(to));
        if !sees.is_empty() {
            those.push(format!("{}/{service}", before.name));
        }
        news.extend(sees.into_keys());
    }
    let names: Vec<String> = news.into_iter().take(NAMES_SHOWN).collect();
    (!names.is_empty()).then(|| {
        format!(
            "replicas of {} that run already do not learn what is new among the names ({}); where they \
             need it: controllerctl restart {}",
            those.join(", "),
            names.join(", "),
            those.join(" ")
        )
    })
}

/// Reservations that no worker has, or not all workers together.
fn lack(asked: &Resources, replicas: u32, capacities: &[&Capacity]) -> Option<String> {
    let (cpu, memory) = (asked.cpu_reserved_milli, asked.memory_reserved_bytes);
    let most_cpu = capacities.iter().map(|has| has.cpu_milli).max()?;
    let most_memory = capacities.iter().map(|has| has.memory_bytes).max()?;
    let one = capacities.len() == 1;
    let most = match one {
        true => "the only worker has",
        false => "the largest worker has",
    };
    if cpu > most_cpu {
        return Some(format!(
            "a replica reserves {} CPUs, {most} {}; all will wait",
            cpus(cpu),
            cpus(most_cpu)
        ));
    }
    if memory > most_memory {
        return Some(format!(
            "a replica reserves {} MiB, {most} {} MiB; all will wait",
            memory.div_ceil(1 << 20),
            most_memory >> 20
        ));
    }
    let sum = |of: fn(&Capacity) -> u64| {
        let each = capacities.iter().map(|has| of(has));
        each.fold(0, u64::saturating_add)
    };
    let count = u64::from(replicas);
    let over = cpu.saturating_mul(count) > sum(|has| has.cpu_milli)
        || memory.saturating_mul(count) > sum(|has| has.memory_bytes);
    let reserve = match count {
        1 => "1 replica reserves".to_owned(),
        count => format!("{count} replicas reserve"),
    };
    let have = match one {
        true => "the only worker has".to_owned(),
        false => format!("all {} workers have", capacities.len()),
    };
    over.then(|| format!("{reserve} more than {have}; some will wait"))
}

/// Thousandths as `2` or `0.5`.
pub(super) fn cpus(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What a volume of one node makes of the order in which replicas are exchanged.
fn order(spec: &ServiceSpec) -> Option<String> {
    let volume = spec.container.written_volume()?;
    match spec.update.order {
        UpdateOrder::StartFirst => Some(format!(
            "order: start-first: while one replica follows another, both write to volume {volume}"
        )),
        UpdateOrder::Auto => Some(format!(
            "stop-first, one at a time: the data of volume {volume} is written by one replica at a \
             time"
        )),
        UpdateOrder::StopFirst => None,
    }
}

/// That nobody serves while the replicas of a service are exchanged, and why; none: somebody does,
/// or there is nobody to begin with.
pub(super) fn gap(
    view: &View,
    desired: &Desired,
    key: &ServiceKey,
    spec: &ServiceSpec,
) -> Option<String> {
    let planned = view.plan.services.get(key)?;
    let target = planned.target;
    let there = view.plan.replicas_of(key);
    if spec.job.is_some() || target == 0 || there.filter(|r| r.leaving.is_none()).count() == 0 {
        return None;
    }
    let update = spec.exchange(false);
    let by_volume = spec.sole_writer_of();
    let by_volume = by_volume.filter(|_| spec.update.order == UpdateOrder::Auto);
    let writers;
    let (why, way_out) = match update.order {
        UpdateOrder::StartFirst => return None,
        UpdateOrder::StopFirst if update.batch(target) < target => return None,
        UpdateOrder::StopFirst if by_volume.is_some() => {
            let volume = by_volume.unwrap_or_default();
            writers = format!(
                "stop-first: the data of volume {volume} is written by one replica at a time"
            );
            (
                writers.as_str(),
                "order: start-first, where two may write at once,",
            )
        }
        UpdateOrder::StopFirst => ("order: stop-first", "order: start-first"),
        // Stops first only for want of room, one at a time.
        UpdateOrder::Auto if target > 1 => return None,
        UpdateOrder::Auto => (tight(desired, spec)?, "a second replica"),
    };
    let who = match target {
        1 => "its only replica stops before the new one serves".to_owned(),
        all => format!("all {all} replicas stop before the new ones serve"),
    };
    let meanwhile = match spec.routes.is_empty() {
        true => "nothing of it runs",
        false => "requests wait or fail",
    };
    Some(format!(
        "{who} ({why}): {meanwhile} meanwhile; {way_out} avoids that"
    ))
}

/// What leaves no node room for one more beside a single replica.
fn tight(desired: &Desired, spec: &ServiceSpec) -> Option<&'static str> {
    let takes = |availability| availability == Availability::Active;
    let workers = desired.nodes.values();
    let workers = workers.filter(|node| node.roles.worker && takes(node.availability));
    let lone = workers.count() <= 1;
    match (
        spec.container.fixed_ports.is_empty(),
        spec.placement.max_per_node,
        lone,
    ) {
        (false, ..) if spec.is_global() => Some("a fixed host port, and one on each node"),
        (false, _, true) => Some("a fixed host port and one worker"),
        (false, _, false) => Some("a fixed host port, unless another node has it free"),
        (true, 1, true) => Some("max_replicas_per_node: 1 and one worker"),
        (true, 1, false) => Some("max_replicas_per_node: 1, unless another node has room"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use longshore_model::plan::ServicePlan;
    use longshore_model::rollout::{Good, Refused, Trouble};

    use super::*;

    #[test]
    fn what_was_rolled_back_is_compared_with_what_runs() {
        let spec = |image: &str| {
            let mut spec = crate::testing::service_spec();
            spec.container.image = image.into();
            Arc::new(spec)
        };
        let key: ServiceKey = "shop/web".parse().unwrap();
        let app = App {
            name: key.app.clone(),
            revision: 2,
            services: [(key.service.clone(), spec("web:2"))].into_iter().collect(),
            applied_ms: 0,
            applied_by: String::new(),
            numbers: [].into(),
        };
        let mut desired = Desired::default();
        desired.apps.insert(key.app.clone(), app);
        let desired = Arc::new(desired);
        let good = Good {
            revision: 1,
            template: spec("web:1").container.template_id(),
            spec: spec("web:1"),
        };
        let refused = Refused {
            revision: 2,
            spec: spec("web:2"),
            at_ms: 5,
            why: Trouble::Latency {
                new_ms: 90,
                old_ms: 9,
                ratio_permille_max: 2_000,
                requests: 500,
            },
        };
        let mut planned = ServicePlan {
            good: Some(good),
            refused: Some(refused),
            ..ServicePlan::default()
        };
        let compared = |planned: &ServicePlan, image: &str| {
            let mut plan = Plan::default();
            plan.services.insert(key.clone(), Arc::new(planned.clone()));
            let next = [(key.service.clone(), spec(image))].into_iter().collect();
            let (runs, lines) = as_it_runs(&plan, &desired, &key.app, &next);
            let runs = runs.service(&key).unwrap().1.container.image.clone();
            (runs, lines.join("; "))
        };
        let (runs, said) = compared(&planned, "web:3");
        assert_eq!(runs, "web:1");
        assert!(
            said.ends_with("compared with revision 1, which runs"),
            "{said}"
        );
        let (runs, said) = compared(&planned, "web:2");
        assert_eq!(
            runs, "web:2",
            "the same as what is asked for: nothing changes"
        );
        assert!(
            said.contains("controllerctl rollout resume shop/web"),
            "{said}"
        );
        planned.refused = None;
        assert_eq!(compared(&planned, "web:3"), ("web:2".into(), String::new()));
    }
}
