//! The plan in the making. Every change of it goes through here, so that generations rise exactly
//! when content differs, and what does not change stays shared with the plan in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::memory::{DrainSaid, RebalanceMemory, ServiceMemory};
use longshore_model::observe::PortsBySharer;
use longshore_model::plan::{
    Flaps, FormerHomes, Homes, Leaving, Replica, ScaleChange, ServicePlan, Traffic,
};
use longshore_model::reason::{FailReason, LeaveReason, ScaleCause};
use longshore_model::record::ShortLook;
use longshore_model::replica::{ReplicaState, ReplicaStatus};
use longshore_model::report::{NodeState, ServiceReport};
use longshore_model::{
    App, ContainerSpec, EventKind, NodeId, Reason, ReplicaId, Report, ServiceKey, ServiceSpec,
    TemplateId, TimeMs,
};

mod held;
mod loading;
mod samples;

pub(crate) use held::{held, held_new};
pub(crate) use loading::wanted_template;

use crate::PlanInput;
use crate::cache::Part;
use crate::cluster::{Cluster, Sight};

/// What is remembered of a service of which nothing is remembered.
static NOTHING: ServiceMemory = ServiceMemory {
    recommendations: Vec::new(),
    proposed: None,
    unreachable_since_ms: BTreeMap::new(),
    reached_in_part_since_ms: BTreeMap::new(),
    missing_since_ms: BTreeMap::new(),
    unhealthy_since_ms: BTreeMap::new(),
    failed_on: BTreeMap::new(),
    said: std::collections::BTreeSet::new(),
    gate: None,
};

/// How a replica is, all witnesses considered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// Its node says so, now.
    Healthy,
    /// Not there yet.
    Starting,
    /// Its check fails now.
    Unhealthy,
    /// Its job has ended with 0.
    Completed,
    /// It will not run.
    Failed(FailReason),
    /// Its node cannot say.
    Unknown,
    /// Its node is lost or was removed.
    Lost,
}

/// What this run made of a replica.
#[derive(Debug)]
pub(crate) enum Now {
    /// As in the plan in force.
    Same,
    /// Changed or new.
    Other(Arc<Replica>),
    /// Forgotten.
    Gone,
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
    /// As the plan in force has it; none if this run made it.
    pub before: Option<&'a Arc<Replica>>,
    pub now: Now,
}

impl Row<'_> {
    /// The replica, while the plan has it.
    pub(crate) fn replica(&self) -> Option<&Arc<Replica>> {
        match &self.now {
            Now::Same => self.before,
            Now::Other(replica) => Some(replica),
            Now::Gone => None,
        }
    }

    /// For a change; only what is changed is copied.
    fn replica_mut(&mut self) -> Option<&mut Replica> {
        if matches!(self.now, Now::Same) {
            self.now = Now::Other(Arc::clone(self.before?));
        }
        match &mut self.now {
            Now::Other(replica) => Some(Arc::make_mut(replica)),
            Now::Same | Now::Gone => None,
        }
    }

    /// Does the next plan differ from the one in force here?
    pub(crate) fn changed(&self) -> bool {
        match &self.now {
            Now::Same => false,
            Now::Other(replica) => self.before != Some(replica),
            Now::Gone => true,
        }
    }
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
    /// What the last look for places that ran short was made of.
    pub short: Option<Box<ShortLook>>,
    /// What is said of it.
    pub report: ServiceReport,
    /// When to look at it again.
    pub due_ms: Option<TimeMs>,
    /// As the plan in force has it.
    pub before: Option<&'a Arc<ServicePlan>>,
    /// As this run decides, without the replicas: they are in the rows. None: as before.
    pub after: Option<ServicePlan>,
    pub memory_before: Option<&'a Arc<ServiceMemory>>,
    pub memory_after: Option<ServiceMemory>,
}

impl ServiceSlot<'_> {
    /// Is anything remembered of it?
    pub(crate) fn has_memory(&self) -> bool {
        self.memory_before.is_some() || self.memory_after.is_some()
    }
}

/// The working state of one run.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub input: PlanInput<'a>,
    pub report: Report,
    pub cluster: Cluster<'a>,
    pub services: Vec<ServiceSlot<'a>>,
    pub rows: Vec<Row<'a>>,
    /// Too many nodes at once: nothing is evicted.
    pub brake: bool,
    /// When the brake was last needed, while it is on.
    pub braked_ms: Option<TimeMs>,
    /// The ways in changed in this run.
    pub routes_dirty: bool,
    /// Replicas that began to leave in this run.
    pub leaving_now: Vec<usize>,
    /// Next replica id.
    pub next_replica: u64,
    /// Lost nodes of the next plan.
    pub lost: BTreeMap<NodeId, TimeMs>,
    /// Comings and goings of nodes, of the next plan.
    pub flaps: BTreeMap<NodeId, Flaps>,
    /// Homes of volumes of the next plan, and former ones.
    pub homes: Arc<Homes>,
    pub former_homes: Arc<FormerHomes>,
    /// State of each node as last said.
    pub node_states: Arc<BTreeMap<NodeId, NodeState>>,
    /// Edges of which it was said that HAProxy does not answer.
    pub edges_silent: Arc<BTreeSet<NodeId>>,
    /// Other programs on edges' ports, as last said in an event.
    pub edges_shared: Arc<BTreeMap<NodeId, Arc<PortsBySharer>>>,
    /// What was said of certificates.
    pub certificates: Arc<longshore_model::certificate::CertificatesSaid>,
    /// Last repairs of edges that were said.
    pub edges_repaired: Arc<BTreeMap<NodeId, u64>>,
    /// What is known for evening out the cluster.
    pub rebalance: Arc<RebalanceMemory>,
    /// What was said of drains.
    pub drains: Arc<BTreeMap<NodeId, DrainSaid>>,
    /// When to look at the whole cluster again.
    pub due_ms: Option<TimeMs>,
    /// Nodes outside of the cluster whose assignment changed.
    pub strangers: Vec<NodeId>,
}

impl<'a> Draft<'a> {
    /// Loads every service, or those of which something changed.
    pub(crate) fn new(input: &PlanInput<'a>, part: Option<&mut Part>) -> Self {
        let mut part = part;
        let before = part.as_mut().map(|part| part.before(input));
        let mut cluster = Cluster::new(input, before);
        let keys = part.map(|part| part.changed(input, &mut cluster));
        let mut draft = Self {
            input: *input,
            report: Report::default(),
            cluster,
            services: Vec::new(),
            rows: Vec::new(),
            brake: false,
            braked_ms: None,
            routes_dirty: false,
            leaving_now: Vec::new(),
            next_replica: input.current.next_replica,
            lost: input.current.lost.clone(),
            flaps: input.current.flaps.clone(),
            homes: Arc::clone(&input.current.homes),
            former_homes: Arc::clone(&input.current.former_homes),
            node_states: Arc::clone(&input.memory.node_states),
            edges_silent: Arc::clone(&input.memory.edges_silent),
            edges_shared: Arc::clone(&input.memory.edges_shared),
            certificates: Arc::clone(&input.memory.certificates),
            edges_repaired: Arc::clone(&input.memory.edges_repaired),
            rebalance: Arc::clone(&input.memory.rebalance),
            drains: Arc::clone(&input.memory.drains),
            due_ms: None,
            strangers: Vec::new(),
        };
        match keys {
            Some(keys) => draft.load(keys),
            None => draft.load_all(),
        }
        draft
    }

    /// The service's decision for a change; its replicas are in the rows.
    pub(crate) fn entry(&mut self, service: usize) -> &mut ServicePlan {
        let slot = &mut self.services[service];
        let before = slot.before;
        slot.after
            .get_or_insert_with(|| before.map(|b| b.without_replicas()).unwrap_or_default())
    }

    /// The service's decision, if the plan has one; its replicas are in the rows.
    pub(crate) fn planned(&self, service: usize) -> Option<&ServicePlan> {
        let slot = &self.services[service];
        slot.after.as_ref().or(slot.before.map(|before| &**before))
    }

    /// The service runs what its file asks for, from here on.
    pub(crate) fn use_desired(&mut self, service: usize) {
        let slot = &mut self.services[service];
        if let Some((_, spec)) = self.input.desired.service(&slot.key) {
            slot.spec = Some(spec);
            slot.template = Some(loading::wanted_template(slot.before, spec));
        }
    }

    /// Can the service go back to its last good revision in this run?
    pub(crate) fn has_good(&self, service: usize) -> bool {
        let before = self.services[service].before;
        before.is_some_and(|before| before.good.is_some())
    }

    /// The service runs its last good revision, from here on.
    pub(crate) fn use_good(&mut self, service: usize) {
        let slot = &mut self.services[service];
        let before = slot.before.map(|before| &**before);
        if let Some(good) = before.and_then(|before| before.good.as_ref()) {
            slot.spec = Some(&good.spec);
            slot.template = Some(good.template.clone());
        }
    }

    /// Replicas wanted of the service.
    pub(crate) fn target(&self, service: usize) -> u32 {
        self.planned(service).map_or(0, |entry| entry.target)
    }

    /// What is remembered of the service.
    pub(crate) fn memory(&self, service: usize) -> &ServiceMemory {
        let slot = &self.services[service];
        let before = slot.memory_before.map_or(&NOTHING, |before| before);
        slot.memory_after.as_ref().unwrap_or(before)
    }

    /// The same for a change.
    pub(crate) fn memory_mut(&mut self, service: usize) -> &mut ServiceMemory {
        let slot = &mut self.services[service];
        let before = slot.memory_before;
        slot.memory_after
            .get_or_insert_with(|| before.map(|b| (**b).clone()).unwrap_or_default())
    }

    /// What a template of the service asks for.
    pub(crate) fn template(&self, service: usize, id: &TemplateId) -> Option<&Arc<ContainerSpec>> {
        self.planned(service)?.templates.get(id)
    }

    /// What the replica of a row runs.
    pub(crate) fn runs(&self, row: usize) -> Option<&Arc<ContainerSpec>> {
        let replica = self.replica(row)?;
        self.template(self.rows[row].service, &replica.template)
    }

    /// The replica of a row, while the plan has it.
    pub(crate) fn replica(&self, row: usize) -> Option<&Replica> {
        self.rows[row].replica().map(|replica| &**replica)
    }

    /// The same for a change.
    pub(crate) fn replica_mut(&mut self, row: usize) -> Option<&mut Replica> {
        self.rows[row].replica_mut()
    }

    /// Rows of a service whose replicas do not leave, without those that rest.
    pub(crate) fn active(&self, service: usize) -> Vec<usize> {
        let mut rows = self.staying(service);
        rows.retain(|&row| self.replica(row).is_some_and(|r| !r.rests()));
        rows
    }

    /// The same with those that rest.
    pub(crate) fn staying(&self, service: usize) -> Vec<usize> {
        let rows = &self.services[service].rows;
        let mut staying = Vec::with_capacity(rows.len());
        let stays = |&row: &usize| self.replica(row).is_some_and(|r| r.leaving.is_none());
        staying.extend(rows.iter().copied().filter(stays));
        staying
    }

    /// By node number: does it hold replicas of the service? The leaving ones count: they use CPU
    /// as well.
    pub(crate) fn hosts(&self, service: usize) -> Vec<bool> {
        let mut hosts = vec![false; self.cluster.nodes.len()];
        let rows = self.services[service].rows.iter();
        for &row in rows.filter(|&&row| self.replica(row).is_some_and(|r| !r.rests())) {
            if let Some(number) = self.rows[row].node {
                hosts[number] = true;
            }
        }
        hosts
    }

    /// The row's replica if it carried load until now. One that begins to leave in this very run
    /// did; one on a lost node did not, and this run may still forget it.
    pub(crate) fn carrier(&self, row: usize) -> Option<&Replica> {
        let replica = self.replica(row).filter(|_| !self.on_lost_node(row))?;
        let leaving = replica.leaving.as_ref();
        let stays = leaving.is_none_or(|leaving| leaving.since_ms == self.input.now_ms);
        stays.then_some(replica)
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
    pub(crate) fn publishes_route(&self, service: usize, replica: &Replica) -> bool {
        let before = self.services[service].before;
        self.has_route(service, replica) || before.is_some_and(|b| b.leads_to(replica))
    }

    /// Does a route of its service, as wanted now, lead to the replica?
    pub(crate) fn has_route(&self, service: usize, replica: &Replica) -> bool {
        let entry = self.planned(service);
        entry.is_some_and(|entry| entry.leads_to(replica))
    }

    /// Healthy and reached through every connected edge: what may be counted on when another
    /// replica is given up. Where its node cannot speak, an edge must: without a way in nobody
    /// knows, and then it is neither counted on nor taken for dead.
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
            Condition::Unknown => seen.sight.up > 0 || (said_healthy && seen.sight.routed),
            _ => false,
        };
        let through_edges = self.cluster.edges.is_empty()
            || seen.sight.routed
            || !self.has_route(seen.service, replica);
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
        let same = self.replica(row).is_none_or(|r| r.traffic == traffic);
        if !same && let Some(replica) = self.replica_mut(row) {
            replica.traffic = traffic;
        }
    }

    /// Generation of the routes if they change in this run.
    pub(crate) fn next_routes(&self) -> u64 {
        self.input.current.routes_generation.saturating_add(1)
    }

    /// A replica begins to leave: drained if it serves, taken out at once if nothing answers.
    pub(crate) fn leave(&mut self, row: usize, reason: LeaveReason) {
        let Some(replica) = self.replica(row) else {
            return;
        };
        let routed = self.publishes_route(self.rows[row].service, replica);
        let slot = replica.slot;
        // One that came in only in this run goes out again unseen: no edge has heard of it.
        let serving = replica.traffic != Traffic::Out && self.rows[row].was_in;
        let dead = crate::handover::is_dead(&reason);
        let drains = routed && serving && !dead;
        #[cfg(feature = "mutants")]
        let drains =
            drains && !longshore_model::mutant::is(longshore_model::Mutant::StopBeforeDrain);
        self.set_traffic(row, if drains { Traffic::Drain } else { Traffic::Out });
        let next = self.next_routes();
        let (drain_generation, park_generation) = match (routed, drains) {
            (false, _) => (0, 0),
            // Taken out earlier, it drains since then.
            (true, true) if self.rows[row].was == Traffic::Drain => {
                (self.input.current.routes_generation, 0)
            }
            (true, true) => (next, 0),
            (true, false) if self.rows[row].was_in => (0, next),
            // Out already, but an edge may not have heard of that yet.
            (true, false) => (0, self.input.current.routes_generation),
        };
        let drain_ms = if dead {
            0
        } else {
            let entry = self.planned(self.rows[row].service);
            entry.map_or(0, |entry| entry.drain_ms)
        };
        #[cfg(feature = "mutants")]
        let drain_ms = match longshore_model::mutant::is(longshore_model::Mutant::DrainDeadlineZero)
        {
            true => 0,
            false => drain_ms,
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
            stop_ms: 0,
        };
        let id = self.rows[row].id;
        if let Some(replica) = self.replica_mut(row) {
            replica.leaving = Some(Box::new(leaving));
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

    /// Its node's assignment changed content.
    pub(crate) fn touch_node(&mut self, row: usize) {
        if let Some(number) = self.rows[row].node {
            self.cluster.touch(number);
            self.cluster.nodes[number].dirty = true;
        }
    }

    /// Does what edges must serve differ from the plan in force?
    pub(crate) fn routes_changed(&self) -> bool {
        let differs = |row: &Row<'_>| {
            let now = row.replica();
            row.was != now.map_or(Traffic::Out, |replica| replica.traffic)
                && now
                    .or(row.before)
                    .is_some_and(|replica| self.publishes_route(row.service, replica))
        };
        self.routes_dirty || self.rows.iter().any(differs)
    }

    /// The plan forgets a replica that is gone.
    pub(crate) fn forget(&mut self, row: usize) {
        let Some(replica) = self.rows[row].replica().cloned() else {
            return;
        };
        let wants = self.runs(row).map(|spec| held(spec, &replica));
        self.rows[row].now = Now::Gone;
        self.touch_node(row);
        if let Some(number) = self.rows[row].node {
            let slot = self.cluster.held_mut(number);
            slot.release(wants.unwrap_or_default(), &replica.ports);
            let sight = self.rows[row].sight;
            slot.up = slot.up.saturating_sub(sight.up);
            slot.down = slot.down.saturating_sub(sight.down);
            self.cluster.pools.clear();
        } else {
            // The node was removed from the cluster; should it join again, it must not find this
            // generation with other content.
            self.strangers.push(replica.node.clone());
        }
        let event = crate::record::gone(self, row, &replica);
        self.report.events.extend(event);
    }

    /// A later look at the service is due at `at_ms`, unless that is past. Whatever may be decided
    /// otherwise only because time passes must say so here: until then, and unless something that
    /// the service depends on changes, it is not looked at.
    pub(crate) fn look_again(&mut self, service: usize, at_ms: TimeMs) {
        if at_ms > self.input.now_ms {
            let due_ms = &mut self.services[service].due_ms;
            *due_ms = Some(due_ms.map_or(at_ms, |now| now.min(at_ms)));
        }
    }

    /// The same for what concerns the whole cluster.
    pub(crate) fn look_again_all(&mut self, at_ms: TimeMs) {
        if at_ms > self.input.now_ms {
            self.due_ms = Some(self.due_ms.map_or(at_ms, |now| now.min(at_ms)));
        }
    }

    /// The service waits, and this is why it waits for what it said before.
    pub(crate) fn wait_first(&mut self, service: usize, reason: Reason) {
        if !self.services[service].waits.contains(&reason) {
            self.services[service].waits.insert(0, reason);
        }
    }

    /// Something of this service waits.
    pub(crate) fn wait(&mut self, service: usize, reason: Reason) {
        if !self.services[service].waits.contains(&reason) {
            self.services[service].waits.push(reason);
        }
    }
}

/// Equal? The same `Arc` mostly says so at once.
pub(crate) fn same_spec(a: &Arc<ServiceSpec>, b: &Arc<ServiceSpec>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
