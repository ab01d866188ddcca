//! Brings services and their replicas into a run.

use std::sync::Arc;

use longshore_model::plan::{ServicePlan, Traffic};
use longshore_model::report::ServiceReport;
use longshore_model::{App, ServiceKey, ServiceSpec, TemplateId};

use super::{Condition, Draft, Now, Row, ServiceSlot, held, same_spec};
use crate::PlanInput;
use crate::cluster::Cluster;

/// Most rows for which room is made before anything is known of the places there are.
const ROWS_AHEAD_MAX: usize = 1 << 20;

impl<'a> Draft<'a> {
    pub(super) fn load_all(&mut self) {
        let slots = service_slots(&self.input);
        // Those that are there, and those that are about to be placed.
        let known: usize = slots
            .iter()
            .filter_map(|slot| slot.before)
            .map(|before| before.replicas.len())
            .sum();
        let wanted = slots
            .iter()
            .filter(|slot| slot.before.is_none())
            .filter_map(|slot| slot.spec)
            .fold(0_usize, |sum, spec| {
                sum.saturating_add(spec.replicas as usize)
            });
        self.rows
            .reserve(known.saturating_add(wanted.min(ROWS_AHEAD_MAX)));
        self.services.reserve(slots.len());
        for slot in slots {
            self.add(slot);
        }
    }

    /// Loads more services.
    pub(crate) fn load(&mut self, keys: Vec<ServiceKey>) {
        let input = self.input;
        for key in keys {
            let found = input.desired.service(&key);
            let (app, spec) = (found.map(|found| found.0), found.map(|found| found.1));
            // One that is neither wanted nor planned any more is loaded to be forgotten.
            self.add(service_slot(&input, key, app, spec));
        }
    }

    fn add(&mut self, mut slot: ServiceSlot<'a>) {
        let number = self.services.len();
        add_rows(&mut self.cluster, number, &mut slot, &mut self.rows);
        self.services.push(slot);
    }

    /// Brings the loaded services into the order in which all of them are decided.
    pub(crate) fn in_order(&mut self) {
        self.services.sort_by(|a, b| a.key.cmp(&b.key));
        let rows = std::mem::take(&mut self.rows);
        let mut rows: Vec<Option<Row<'a>>> = rows.into_iter().map(Some).collect();
        for (number, slot) in self.services.iter_mut().enumerate() {
            for at in &mut slot.rows {
                if let Some(mut row) = rows[*at].take() {
                    row.service = number;
                    *at = self.rows.len();
                    self.rows.push(row);
                }
            }
        }
    }
}

fn service_slot<'a>(
    input: &PlanInput<'a>,
    key: ServiceKey,
    app: Option<&'a App>,
    spec: Option<&'a Arc<ServiceSpec>>,
) -> ServiceSlot<'a> {
    ServiceSlot {
        app,
        spec: spec.map(|spec| in_force(input, &key, spec)),
        rows: Vec::new(),
        template: None,
        waits: Vec::new(),
        short: None,
        report: ServiceReport::default(),
        due_ms: None,
        before: input.current.services.get(&key),
        after: None,
        memory_before: input.memory.services.get(&key),
        memory_after: None,
        key,
    }
}

/// What a service runs: what its file asks for, unless exactly that was rolled back.
fn in_force<'a>(
    input: &PlanInput<'a>,
    key: &ServiceKey,
    wanted: &'a Arc<ServiceSpec>,
) -> &'a Arc<ServiceSpec> {
    let before = input.current.services.get(key);
    let refused = before.and_then(|before| before.refused.as_ref());
    let refused = refused.filter(|refused| same_spec(&refused.spec, wanted));
    let good = before.and_then(|before| before.good.as_ref());
    refused.and(good).map_or(wanted, |good| &good.spec)
}

/// Every service that is desired or still in the plan, in key order.
fn service_slots<'a>(input: &PlanInput<'a>) -> Vec<ServiceSlot<'a>> {
    let mut services: Vec<_> = input
        .desired
        .services()
        .map(|(key, app, spec)| service_slot(input, key, Some(app), Some(spec)))
        .collect();
    let gone = input
        .current
        .services
        .keys()
        .filter(|key| input.desired.service(key).is_none());
    services.extend(gone.map(|key| service_slot(input, key.clone(), None, None)));
    services.sort_by(|a, b| a.key.cmp(&b.key));
    services
}

/// Adds the rows of a service and counts them against their nodes.
fn add_rows<'a>(
    cluster: &mut Cluster<'a>,
    service: usize,
    slot: &mut ServiceSlot<'a>,
    rows: &mut Vec<Row<'a>>,
) {
    let replicas = slot.before.map(|before| &before.replicas);
    for (&id, replica) in replicas.into_iter().flatten() {
        let node = cluster.number(&replica.node);
        let seen = node.and_then(|number| cluster.nodes[number].seen);
        let sight = cluster.sight(&slot.key, id);
        // What edges see counts whatever the plan says of the routes by now.
        if let Some(number) = node {
            let node = cluster.held_mut(number);
            let spec = slot.before.and_then(|b| b.templates.get(&replica.template));
            if let Some(spec) = spec {
                node.reserve(held(spec, replica), &replica.ports);
            }
            node.up += sight.up;
            node.down += sight.down;
        }
        slot.rows.push(rows.len());
        rows.push(Row {
            id,
            service,
            node,
            status: seen.and_then(|seen| seen.replicas.get(&id)),
            condition: Condition::Unknown,
            sight,
            was: replica.traffic,
            was_in: replica.traffic != Traffic::Out,
            before: Some(replica),
            now: Now::Same,
        });
    }
    slot.template = slot.spec.map(|spec| wanted_template(slot.before, spec));
}

/// Id of the template that the file asks for. Comparing with templates in use is much cheaper
/// than hashing, and in a quiet cluster the first one fits.
pub(crate) fn wanted_template(before: Option<&Arc<ServicePlan>>, spec: &ServiceSpec) -> TemplateId {
    let known = before.into_iter().flat_map(|before| &before.templates);
    let mut same = known.filter(|(_, known)| ***known == spec.container);
    same.next()
        .map_or_else(|| spec.container.template_id(), |(id, _)| id.clone())
}
