//! The plan in the making. Every change of it goes through here, so that generations rise exactly
//! when content differs.

use std::sync::Arc;

use longshore_model::plan::{Leaving, Replica, ScaleChange, ServicePlan, Traffic};
use longshore_model::reason::{FailReason, LeaveReason, ScaleCause};
use longshore_model::replica::{ReplicaState, ReplicaStatus};
use longshore_model::report::NodeState;
use longshore_model::{
    App, EventKind, Memory, Plan, Reason, ReplicaId, Report, ServiceKey, ServiceSpec, TemplateId,
    TimeMs,
};

use crate::PlanInput;
use crate::cluster::{Cluster, Sight};

/// How a replica is, all witnesses considered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// Its node says so, now.
    Healthy,
    /// Not there yet.
    Starting,
    /// Its check fails now.
    Unhealthy,
    /// It will not run.
    Failed(FailReason),
    /// Its node cannot say.
    Unknown,
    /// Its node is lost or was removed.
    Lost,
}

/// One replica of the run.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub id: ReplicaId,
    /// Number of its service.
    pub service: usize,
    /// Number of its node; none if the node was removed from the cluster.
    pub node: Option<usize>,
    pub status: Option<&'a ReplicaStatus>,
    pub condition: Condition,
    pub sight: Sight,
    /// Its part in the routes when this run began.
    pub was: Traffic,
    /// It was in the routes then.
    pub was_in: bool,
}

/// One service of the run.
#[derive(Debug)]
pub(crate) struct ServiceSlot<'a> {
    pub key: ServiceKey,
    /// None once the service is no longer desired.
    pub app: Option<&'a App>,
    pub spec: Option<&'a Arc<ServiceSpec>>,
    /// Its replicas, the leaving ones included, in id order.
    pub rows: Vec<usize>,
    /// Template that its replicas shall have.
    pub template: Option<TemplateId>,
    pub waits: Vec<Reason>,
}

/// The working state of one run.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub input: PlanInput<'a>,
    pub plan: Plan,
    pub memory: Memory,
    pub report: Report,
    pub cluster: Cluster<'a>,
    pub services: Vec<ServiceSlot<'a>>,
    pub rows: Vec<Row<'a>>,
    /// Too many nodes at once: nothing is evicted.
    pub brake: bool,
    /// The ways in changed in this run.
    pub routes_dirty: bool,
    /// Replicas that began to leave in this run.
    pub leaving_now: Vec<usize>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(input: &PlanInput<'a>) -> Self {
        let mut cluster = Cluster::new(input);
        let mut services = service_slots(input);
        let rows = rows(input, &mut cluster, &mut services);
        for slot in &mut services {
            slot.template = slot
                .spec
                .map(|spec| wanted_template(input, slot, &rows, spec));
        }
        Self {
            input: *input,
            plan: input.current.clone(),
            memory: input.memory.clone(),
            report: Report::default(),
            cluster,
            services,
            rows,
            brake: false,
            routes_dirty: false,
            leaving_now: Vec::new(),
        }
    }

    /// The service's entry in the plan.
    pub(crate) fn entry(&mut self, service: usize) -> &mut ServicePlan {
        self.plan
            .services
            .entry(self.services[service].key.clone())
            .or_default()
    }

    /// The replica of a row, while the plan has it.
    pub(crate) fn replica(&self, row: usize) -> Option<&Replica> {
        self.plan.replicas.get(&self.rows[row].id)
    }

    /// Rows of a service whose replicas do not leave.
    pub(crate) fn active(&self, service: usize) -> Vec<usize> {
        let rows = self.services[service].rows.iter().copied();
        rows.filter(|&row| self.replica(row).is_some_and(|r| r.leaving.is_none()))
            .collect()
    }

    /// By node number: does it hold replicas of the service? The leaving ones count: they use CPU
    /// as well.
    pub(crate) fn hosts(&self, service: usize) -> Vec<bool> {
        let mut hosts = vec![false; self.cluster.nodes.len()];
        let rows = self.services[service].rows.iter();
        for &row in rows.filter(|&&row| self.replica(row).is_some()) {
            if let Some(number) = self.rows[row].node {
                hosts[number] = true;
            }
        }
        hosts
    }

    /// Did the replica carry load until now? One that begins to leave in this very run did.
    pub(crate) fn carried_load(&self, replica: &Replica) -> bool {
        replica
            .leaving
            .as_ref()
            .is_none_or(|leaving| leaving.since_ms == self.input.now_ms)
    }

    /// Is the replica's node lost, or no longer of the cluster?
    pub(crate) fn on_lost_node(&self, row: usize) -> bool {
        match self.rows[row].node {
            None => true,
            Some(number) => self.cluster.nodes[number].state == NodeState::Lost,
        }
    }

    /// Does a route of its service lead to a port that the replica publishes? The routes of the
    /// plan in force count as well: edges may still serve them.
    pub(crate) fn publishes_route(&self, replica: &Replica) -> bool {
        leads(&self.plan, replica) || leads(self.input.current, replica)
    }

    /// Does a route of its service, as wanted now, lead to the replica?
    pub(crate) fn has_route(&self, replica: &Replica) -> bool {
        leads(&self.plan, replica)
    }

    /// Healthy and reached through every connected edge: what may be counted on when another
    /// replica is given up.
    pub(crate) fn serves(&self, row: usize) -> bool {
        let Some(replica) = self.replica(row) else {
            return false;
        };
        let seen = &self.rows[row];
        let said_healthy = seen
            .status
            .is_some_and(|s| s.state == ReplicaState::Healthy);
        let healthy = match seen.condition {
            Condition::Healthy => true,
            Condition::Unknown => seen.sight.up > 0 || (said_healthy && seen.sight.down == 0),
            _ => false,
        };
        let through_edges =
            self.cluster.edges.is_empty() || seen.sight.routed || !self.has_route(replica);
        healthy && through_edges && replica.traffic == Traffic::Serve && replica.leaving.is_none()
    }

    /// Changes the count of a service and remembers why.
    pub(crate) fn change_target(&mut self, service: usize, to: u32, cause: ScaleCause) {
        let at_ms = self.input.now_ms;
        let changes_max = self.input.config.changes_max;
        let entry = self.entry(service);
        let change = ScaleChange {
            at_ms,
            from: entry.target,
            to,
            cause: cause.clone(),
        };
        let from = entry.target;
        entry.target = to;
        entry.last_change = Some(change.clone());
        entry.changes.push(change);
        let surplus = entry.changes.len().saturating_sub(changes_max);
        entry.changes.drain(..surplus);
        let service = self.services[service].key.clone();
        self.report.events.push(EventKind::Scaled {
            service,
            from,
            to,
            cause,
        });
    }

    /// Changes a replica's part in the routes.
    pub(crate) fn set_traffic(&mut self, row: usize, traffic: Traffic) {
        if let Some(replica) = self.plan.replicas.get_mut(&self.rows[row].id) {
            replica.traffic = traffic;
        }
    }

    /// Generation of the routes if they change in this run.
    pub(crate) fn next_routes(&self) -> u64 {
        self.input.current.routes_generation + 1
    }

    /// A replica begins to leave: drained if it serves, taken out at once if nothing answers.
    pub(crate) fn leave(&mut self, row: usize, reason: LeaveReason) {
        let Some(replica) = self.replica(row) else {
            return;
        };
        let routed = self.publishes_route(replica);
        let slot = replica.slot;
        // One that came in only in this run goes out again unseen: no edge has heard of it.
        let serving = replica.traffic != Traffic::Out && self.rows[row].was_in;
        let dead = crate::handover::is_dead(&reason);
        let drains = routed && serving && !dead;
        self.set_traffic(row, if drains { Traffic::Drain } else { Traffic::Out });
        let next = self.next_routes();
        let (drain_generation, park_generation) = match (routed, drains) {
            (false, _) => (0, 0),
            (true, true) => (next, 0),
            (true, false) if self.rows[row].was_in => (0, next),
            // Out already, but an edge may not have heard of that yet.
            (true, false) => (0, self.input.current.routes_generation),
        };
        let drain_ms = if dead {
            0
        } else {
            self.drain_ms(self.rows[row].service)
        };
        let since_ms = self.input.now_ms;
        let leaving = Leaving {
            reason: reason.clone(),
            since_ms,
            deadline_ms: since_ms.saturating_add(drain_ms),
            drain_generation,
            park_generation,
            receipts: std::collections::BTreeMap::new(),
            stop_generation: 0,
        };
        let id = self.rows[row].id;
        if let Some(replica) = self.plan.replicas.get_mut(&id) {
            replica.leaving = Some(leaving);
            let (service, node) = (replica.service.clone(), replica.node.clone());
            let event = EventKind::Leaving {
                service,
                slot,
                replica: id,
                node,
                why: reason,
            };
            self.report.events.push(event);
        }
        self.leaving_now.push(row);
    }

    fn drain_ms(&self, service: usize) -> u64 {
        let key = &self.services[service].key;
        self.plan
            .services
            .get(key)
            .map_or(0, |entry| entry.drain_ms)
    }

    /// Its node's assignment changed content.
    pub(crate) fn touch_node(&mut self, row: usize) {
        if let Some(number) = self.rows[row].node {
            self.cluster.nodes[number].dirty = true;
        }
    }

    /// Does what edges must serve differ from the plan in force?
    pub(crate) fn routes_changed(&self) -> bool {
        self.routes_dirty
            || self.rows.iter().any(|row| {
                let now = self.plan.replicas.get(&row.id);
                let differs = row.was != now.map_or(Traffic::Out, |replica| replica.traffic);
                differs
                    && now
                        .or_else(|| self.input.current.replicas.get(&row.id))
                        .is_some_and(|replica| self.publishes_route(replica))
            })
    }

    /// The plan forgets a replica that is gone.
    pub(crate) fn forget(&mut self, row: usize) {
        let Some(replica) = self.plan.replicas.remove(&self.rows[row].id) else {
            return;
        };
        self.touch_node(row);
        if self.rows[row].node.is_none() {
            // The node was removed from the cluster; should it join again, it must not find this
            // generation with other content.
            let now = self
                .input
                .current
                .generations
                .get(&replica.node)
                .copied()
                .unwrap_or(0);
            self.plan.generations.insert(replica.node.clone(), now + 1);
        }
        if let Some(number) = self.rows[row].node {
            let wants = self
                .plan
                .templates
                .get(&replica.template)
                .map(|t| t.resources);
            let wants = wants.unwrap_or_default();
            let slot = &mut self.cluster.nodes[number];
            slot.replicas = slot.replicas.saturating_sub(1);
            slot.cpu_reserved_milli = slot
                .cpu_reserved_milli
                .saturating_sub(wants.cpu_reserved_milli);
            slot.memory_reserved_bytes = slot
                .memory_reserved_bytes
                .saturating_sub(wants.memory_reserved_bytes);
            slot.ports
                .retain(|port| replica.ports.iter().all(|p| p.host_port != *port));
        }
        if let Some(leaving) = replica.leaving {
            let Replica {
                service,
                slot,
                id,
                node,
                ..
            } = replica;
            let why = leaving.reason;
            self.report.events.push(EventKind::Gone {
                service,
                slot,
                replica: id,
                node,
                why,
            });
        }
    }

    /// A later look is due at `at_ms`, unless that is past.
    pub(crate) fn look_again(&mut self, at_ms: TimeMs) {
        if at_ms > self.input.now_ms {
            let sooner = self
                .report
                .look_again_ms
                .map_or(at_ms, |now| now.min(at_ms));
            self.report.look_again_ms = Some(sooner);
        }
    }

    /// Something of this service waits.
    pub(crate) fn wait(&mut self, service: usize, reason: Reason) {
        if !self.services[service].waits.contains(&reason) {
            self.services[service].waits.push(reason);
        }
    }
}

/// Does a route of the replica's service lead to a port that it publishes?
fn leads(plan: &Plan, replica: &Replica) -> bool {
    plan.services
        .get(&replica.service)
        .is_some_and(|service: &ServicePlan| {
            service.routes.iter().any(|route| {
                replica
                    .ports
                    .iter()
                    .any(|port| port.container_port == route.container_port)
            })
        })
}

/// Every service that is desired or still in the plan, in key order.
fn service_slots<'a>(input: &PlanInput<'a>) -> Vec<ServiceSlot<'a>> {
    let new = |key, app, spec| ServiceSlot {
        key,
        app,
        spec,
        rows: Vec::new(),
        template: None,
        waits: Vec::new(),
    };
    let mut services: Vec<_> = input
        .desired
        .services()
        .map(|(key, app, spec)| new(key, Some(app), Some(spec)))
        .collect();
    let gone = input
        .current
        .services
        .keys()
        .filter(|key| input.desired.service(key).is_none());
    services.extend(gone.map(|key| new(key.clone(), None, None)));
    services.sort_by(|a, b| a.key.cmp(&b.key));
    services
}

fn rows<'a>(
    input: &PlanInput<'a>,
    cluster: &mut Cluster<'a>,
    services: &mut [ServiceSlot<'a>],
) -> Vec<Row<'a>> {
    let mut rows = Vec::with_capacity(input.current.replicas.len());
    let mut service = 0;
    for (&id, replica) in &input.current.replicas {
        // Neighbours are mostly of one service.
        if services
            .get(service)
            .is_none_or(|slot| slot.key != replica.service)
        {
            let found = services.binary_search_by(|slot| slot.key.cmp(&replica.service));
            let Ok(number) = found else {
                continue;
            };
            service = number;
        }
        let node = cluster.number(&replica.node);
        let seen = node.and_then(|number| cluster.nodes[number].seen);
        let sight = cluster.sight(id);
        let was_in = replica.traffic != Traffic::Out;
        // What edges see counts whatever the plan says of the routes by now.
        if let Some(number) = node {
            let slot = &mut cluster.nodes[number];
            if let Some(spec) = input.current.templates.get(&replica.template) {
                slot.reserve(spec.resources, &replica.ports);
            }
            slot.up += sight.up;
            slot.down += sight.down;
        }
        services[service].rows.push(rows.len());
        rows.push(Row {
            id,
            service,
            node,
            status: seen.and_then(|seen| seen.replicas.get(&id)),
            condition: Condition::Unknown,
            sight,
            was: replica.traffic,
            was_in,
        });
    }
    rows
}

/// Id of the template that the file asks for. Comparing with templates in use is much cheaper
/// than hashing, and in a quiet cluster the first one fits.
fn wanted_template(
    input: &PlanInput<'_>,
    slot: &ServiceSlot<'_>,
    rows: &[Row<'_>],
    spec: &ServiceSpec,
) -> TemplateId {
    let mut tried: Vec<&TemplateId> = Vec::new();
    for &row in slot.rows.iter().rev() {
        let Some(replica) = input.current.replicas.get(&rows[row].id) else {
            continue;
        };
        if tried.contains(&&replica.template) {
            continue;
        }
        let known = input.current.templates.get(&replica.template);
        if known.is_some_and(|known| **known == spec.container) {
            return replica.template.clone();
        }
        tried.push(&replica.template);
    }
    spec.container.template_id()
}
