//! The plan as rows: its head, one row per service, per replica and per node's generation. Plans
//! share what did not change, so that a commit looks only into services whose `Arc` differs.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::plan::{Flaps, FormerHomes, Homes, Replica, ServicePlan};
use longshore_model::{ContainerSpec, NodeId, Plan, ReplicaId, ServiceKey, TemplateId, TimeMs};
use serde::{Deserialize, Serialize};

use super::record::encode;
use super::repository::{bad_key, put, read_all, read_one, remove};
use super::{Change, Guard, Store, StoreError, Table};

const PLAN: &[u8] = b"plan";

/// The plan without what has rows of its own.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Head {
    version: u64,
    parent: u64,
    next_replica: u64,
    routes_generation: u64,
    #[serde(default)]
    lost: BTreeMap<NodeId, TimeMs>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    flaps: BTreeMap<NodeId, Flaps>,
    /// Left out when there are none, as before there were any.
    #[serde(default, skip_serializing_if = "is_empty")]
    homes: Arc<Homes>,
    #[serde(default, skip_serializing_if = "is_empty")]
    former_homes: Arc<FormerHomes>,
    /// Schema 1 kept them here.
    #[serde(default, skip_serializing)]
    generations: BTreeMap<NodeId, u64>,
}

fn is_empty<K, V>(map: &Arc<BTreeMap<K, V>>) -> bool {
    map.is_empty()
}

fn head(plan: &Plan) -> Head {
    Head {
        version: plan.version,
        parent: plan.parent,
        next_replica: plan.next_replica,
        routes_generation: plan.routes_generation,
        lost: plan.lost.clone(),
        flaps: plan.flaps.clone(),
        homes: Arc::clone(&plan.homes),
        former_homes: Arc::clone(&plan.former_homes),
        generations: BTreeMap::new(),
    }
}

/// Holds while the stored plan is `current`.
pub(super) fn guard(current: &Plan) -> Result<Guard, StoreError> {
    let expected = match current.version {
        0 => None,
        _ => Some(encode(Table::Plan, PLAN, &head(current))?),
    };
    Ok(Guard {
        table: Table::Plan,
        key: PLAN.to_vec(),
        expected,
    })
}

/// Rows that turn `current` into `next`.
pub(super) fn diff(
    current: &Plan,
    next: &Plan,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    changes.push(put(Table::Plan, PLAN, &head(next))?);
    let none = ServicePlan::default();
    let mut services = Vec::new();
    let (before, now) = (&current.services, &next.services);
    before.differing(now, Arc::ptr_eq, |key| services.push(key));
    for key in services {
        let before = before.get(key).map(|before| &**before);
        if let Some(service) = now.get(key) {
            diff_service(key, before, service, changes)?;
        } else if let Some(before) = before {
            changes.push(remove(Table::PlanServices, key.to_string().as_bytes()));
            diff_replicas(before, &none, changes)?;
        }
    }
    let mut nodes = Vec::new();
    let (before, now) = (&current.generations, &next.generations);
    before.differing(now, PartialEq::eq, |node| nodes.push(node));
    for node in nodes {
        let key = node.as_str().as_bytes();
        changes.push(match now.get(node) {
            Some(generation) => put(Table::PlanGenerations, key, generation)?,
            None => remove(Table::PlanGenerations, key),
        });
    }
    Ok(())
}

fn diff_service(
    key: &ServiceKey,
    before: Option<&ServicePlan>,
    service: &ServicePlan,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    let decision = service.without_replicas();
    if before.is_none_or(|before| before.without_replicas() != decision) {
        let key = key.to_string();
        changes.push(put(Table::PlanServices, key.as_bytes(), &decision)?);
    }
    let none = ServicePlan::default();
    diff_replicas(before.unwrap_or(&none), service, changes)
}

fn diff_replicas(
    before: &ServicePlan,
    service: &ServicePlan,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    for (id, replica) in &service.replicas {
        let known = before.replicas.get(id);
        let same = known.is_some_and(|known| Arc::ptr_eq(known, replica) || known == replica);
        if !same {
            let key = id.to_string();
            changes.push(put(Table::PlanReplicas, key.as_bytes(), &**replica)?);
        }
    }
    let gone = before.replicas.keys();
    let gone = gone.filter(|id| !service.replicas.contains_key(id));
    changes.extend(gone.map(|id| remove(Table::PlanReplicas, id.to_string().as_bytes())));
    Ok(())
}

/// Rows of a plan that was read from an older schema.
pub(super) fn rewrite(
    store: &dyn Store,
    plan: &Plan,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    if plan.version > 0 {
        changes.push(put(Table::Plan, PLAN, &head(plan))?);
    }
    for (key, service) in &plan.services {
        let (key, decision) = (key.to_string(), service.without_replicas());
        changes.push(put(Table::PlanServices, key.as_bytes(), &decision)?);
    }
    for (node, generation) in plan.generations.iter() {
        let key = node.as_str().as_bytes();
        changes.push(put(Table::PlanGenerations, key, generation)?);
    }
    read_all(store, Table::PlanTemplates, |key, _: ContainerSpec| {
        changes.push(remove(Table::PlanTemplates, key.as_bytes()));
        Ok(())
    })
}

/// Reads the plan, whichever schema wrote it.
pub(super) fn load(store: &dyn Store) -> Result<Plan, StoreError> {
    let head: Head = read_one(store, Table::Plan, PLAN)?.unwrap_or_default();
    let mut generations = head.generations;
    read_all(store, Table::PlanGenerations, |key, generation: u64| {
        let node = NodeId::new(key).map_err(|_| bad_key(Table::PlanGenerations, key.as_bytes()))?;
        generations.insert(node, generation);
        Ok(())
    })?;
    let mut services: BTreeMap<ServiceKey, ServicePlan> = BTreeMap::new();
    read_all(store, Table::PlanServices, |key, service: ServicePlan| {
        let key = key
            .parse()
            .map_err(|_| bad_key(Table::PlanServices, key.as_bytes()))?;
        services.insert(key, service);
        Ok(())
    })?;
    let mut templates: BTreeMap<TemplateId, Arc<ContainerSpec>> = BTreeMap::new();
    read_all(store, Table::PlanTemplates, |key, spec| {
        let key =
            TemplateId::new(key).map_err(|_| bad_key(Table::PlanTemplates, key.as_bytes()))?;
        templates.insert(key, spec);
        Ok(())
    })?;
    read_all(store, Table::PlanReplicas, |key, replica: Replica| {
        let id: ReplicaId = key
            .parse()
            .map_err(|_| bad_key(Table::PlanReplicas, key.as_bytes()))?;
        let service = services.entry(replica.service.clone()).or_default();
        if let Some(spec) = templates.get(&replica.template) {
            let known = service.templates.entry(replica.template.clone());
            known.or_insert_with(|| Arc::clone(spec));
        }
        service.replicas.insert(id, Arc::new(replica));
        Ok(())
    })?;
    let services = services.into_iter();
    Ok(Plan {
        version: head.version,
        parent: head.parent,
        next_replica: head.next_replica,
        services: services
            .map(|(key, service)| (key, Arc::new(service)))
            .collect(),
        generations: Arc::new(generations.into()),
        routes_generation: head.routes_generation,
        lost: head.lost,
        flaps: head.flaps,
        homes: head.homes,
        former_homes: head.former_homes,
    })
}
