//! What a run may take over from the run before.
//!
//! Planning is a function of its input; the cache only remembers what that function gave. A
//! service that is *settled* (all its replicas as wanted, nothing waits, nothing is remembered)
//! and of whose inputs none changed gives the same entry, memory and report again and says
//! nothing, so that it is not loaded at all. Everything else is planned anew, in the same order
//! and by the same code as a run from scratch.
//!
//! What a settled service depends on: its spec, app revision and operators' words; its entry and
//! memory; the states of its replicas; what is known of the nodes that hold them (state,
//! availability, labels, capacity, seen by an edge or not); the states of its servers on each
//! edge, whether that edge can be believed and what it refuses; the brake, the observing time after
//! a start and the time that it registered with `look_again`. One that has a replica on each node
//! depends on what is known of every node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::observe::ServerState;
use longshore_model::plan::{Replica, ServicePlan};
use longshore_model::report::{NodeReport, ServiceReport};
use longshore_model::{
    Desired, Memory, NodeId, Plan, Reason, ReplicaId, ServiceKey, SharedMap, TimeMs,
};

use crate::cluster::{Before, Cluster, Held, Images, Noted};
use crate::config::PlannerConfig;
use crate::draft::{Draft, held};
use crate::{Outcome, PlanInput};

mod changes;

/// Number of a service in the cache; it keeps it as long as it is known.
type Known = usize;

/// Replicas of all services on one node, by id.
type Holders = Vec<(ReplicaId, Known)>;

/// Servers of one edge.
type Servers = Arc<BTreeMap<ServiceKey, Arc<BTreeMap<ReplicaId, ServerState>>>>;

/// What one edge cannot serve, and why.
type Refused = Arc<BTreeMap<ServiceKey, String>>;

/// What runs take over from each other. Empty at the start; [`crate::plan_with`] keeps it up to
/// date. Its size is that of the plan.
#[derive(Debug, Default)]
pub struct Cache {
    kept: Option<Kept>,
}

/// What the run before saw and gave.
#[derive(Debug)]
struct Kept {
    now_ms: TimeMs,
    started_ms: TimeMs,
    config: PlannerConfig,
    desired: Arc<Desired>,
    plan: Arc<Plan>,
    memory: Arc<Memory>,
    reports: Arc<SharedMap<ServiceKey, Arc<ServiceReport>>>,
    node_reports: Arc<SharedMap<NodeId, NodeReport>>,
    brake: bool,
    problems: Vec<Reason>,
    nodes: Vec<Noted>,
    held: Vec<Held>,
    /// By node: the replicas there.
    holders: Vec<Holders>,
    images: Option<Images>,
    has_zones: Option<bool>,
    edges: Vec<EdgeKept>,
    numbers: BTreeMap<ServiceKey, Known>,
    /// By number: which service it is or was.
    keys: Vec<ServiceKey>,
    /// By number: what its replicas added to their nodes.
    shares: Vec<Vec<Share>>,
    /// Services that have one replica on each node, and so depend on all of them.
    global: BTreeSet<Known>,
    /// By number: when to look again; 0: always, `TimeMs::MAX`: only after a change.
    dues: Vec<TimeMs>,
}

/// What one replica adds to its node besides its reservations.
#[derive(Debug, Clone, Copy)]
struct Share {
    id: ReplicaId,
    node: Option<usize>,
    up: u32,
    down: u32,
}

#[derive(Debug)]
struct EdgeKept {
    connected: bool,
    gone: bool,
    fresh: bool,
    servers: Option<Servers>,
    refused: Option<Refused>,
}

/// A run in which only some services are loaded.
pub(crate) struct Part {
    kept: Kept,
    loaded: Vec<bool>,
}

impl Cache {
    /// Begins a run: what the run before left, if this one may build on it.
    pub(crate) fn begin(&mut self, input: &PlanInput<'_>) -> Option<Part> {
        let kept = self.kept.take()?;
        let same = kept.started_ms == input.started_ms
            && kept.now_ms <= input.now_ms
            && kept.config == *input.config
            && kept.observing() == observing(input)
            // A look at the whole cluster needs all of it; what was said of the last one is in
            // the reports.
            && !crate::rebalance::due(input)
            && kept.memory.rebalance.stays == input.memory.rebalance.stays
            // Any service may have been held elsewhere by the homes of a plan that was not committed.
            && crate::finish::same_homes(&kept.plan.homes, &input.current.homes)
            && crate::finish::same_homes(&kept.plan.former_homes, &input.current.former_homes)
            && same_nodes(&kept.desired, input.desired);
        same.then(|| {
            let loaded = vec![false; kept.dues.len()];
            Part { kept, loaded }
        })
    }

    /// Ends a run: keeps what the next one may take over.
    pub(crate) fn end(&mut self, part: Option<Part>, draft: &mut Draft<'_>, outcome: &Outcome) {
        let mut kept = match part {
            Some(part) => part.kept,
            None => Kept::empty(&draft.input, draft.cluster.nodes.len()),
        };
        kept.keep_services(draft, outcome);
        kept.keep_cluster(draft);
        kept.now_ms = draft.input.now_ms;
        if !Arc::ptr_eq(&kept.desired, draft.input.desired) {
            kept.desired = Arc::clone(draft.input.desired);
        }
        kept.plan = Arc::clone(&outcome.plan);
        kept.memory = Arc::clone(&outcome.memory);
        kept.reports = Arc::clone(&outcome.report.services);
        kept.node_reports = Arc::clone(&outcome.report.nodes);
        kept.brake = draft.brake;
        kept.problems.clone_from(&outcome.report.problems);
        self.kept = Some(kept);
    }
}

/// Do both name the same nodes? Then these keep their numbers.
fn same_nodes(before: &Desired, now: &Desired) -> bool {
    let mut same = true;
    before
        .nodes
        .differing(&now.nodes, |_, _| true, |_| same = false);
    same
}

fn observing(input: &PlanInput<'_>) -> bool {
    input.now_ms < input.config.observe_until(input.started_ms)
}

impl Part {
    /// What the run before left of the nodes.
    pub(crate) fn before(&mut self, input: &PlanInput<'_>) -> Before<'_> {
        let kept = &mut self.kept;
        let memory = (&kept.memory, input.memory);
        Before {
            held: std::mem::take(&mut kept.held),
            images: kept.images.clone(),
            has_zones: kept.has_zones,
            same_desired: kept.desired.nodes.shares_all(&input.desired.nodes),
            same_states: Arc::ptr_eq(&memory.0.node_states, &memory.1.node_states),
            same_takers: Arc::ptr_eq(&memory.0.rebalance, &memory.1.rebalance),
            noted: &kept.nodes,
        }
    }

    /// Takes what a service held as the run before left it off its nodes: it is loaded now.
    fn unload(&mut self, cluster: &mut Cluster<'_>, service: Known, key: &ServiceKey) {
        let entry = self.kept.plan.services.get(key);
        for share in &self.kept.shares[service] {
            let Some(slot) = share.node.map(|number| cluster.held_mut(number)) else {
                continue;
            };
            slot.up = slot.up.saturating_sub(share.up);
            slot.down = slot.down.saturating_sub(share.down);
            let replica = entry.and_then(|entry| entry.replicas.get(&share.id));
            if let Some((entry, replica)) = entry.zip(replica) {
                let spec = entry.templates.get(&replica.template);
                let wants = spec.map(|spec| held(spec, replica));
                let wants = wants.unwrap_or_default();
                slot.release(wants, &replica.ports);
            }
        }
    }

    /// Reports of the run before.
    pub(crate) fn reports(&self) -> &Arc<SharedMap<ServiceKey, Arc<ServiceReport>>> {
        &self.kept.reports
    }

    /// Reports of the run before.
    pub(crate) fn node_reports(&self) -> &Arc<SharedMap<NodeId, NodeReport>> {
        &self.kept.node_reports
    }

    /// The earliest look that is due at a service that is not loaded.
    pub(crate) fn due_ms(&self) -> Option<TimeMs> {
        let dues = self.kept.dues.iter().zip(&self.loaded);
        let dues = dues.filter(|(due_ms, loaded)| !**loaded && **due_ms < TimeMs::MAX);
        dues.map(|(due_ms, _)| *due_ms).min()
    }
}

impl Kept {
    fn empty(input: &PlanInput<'_>, nodes: usize) -> Self {
        Self {
            now_ms: input.now_ms,
            started_ms: input.started_ms,
            config: input.config.clone(),
            desired: Arc::clone(input.desired),
            plan: Arc::clone(input.current),
            memory: Arc::clone(input.memory),
            reports: Arc::default(),
            node_reports: Arc::default(),
            brake: false,
            problems: Vec::new(),
            nodes: Vec::new(),
            held: Vec::new(),
            holders: vec![Vec::new(); nodes],
            images: None,
            has_zones: None,
            edges: Vec::new(),
            numbers: BTreeMap::new(),
            keys: Vec::new(),
            shares: Vec::new(),
            global: BTreeSet::new(),
            dues: Vec::new(),
        }
    }

    fn observing(&self) -> bool {
        self.now_ms < self.config.observe_until(self.started_ms)
    }

    /// Notes where the loaded services ended.
    fn keep_services(&mut self, draft: &Draft<'_>, outcome: &Outcome) {
        let fresh = self.numbers.is_empty();
        for slot in &draft.services {
            let entry = outcome.plan.services.get(&slot.key);
            let known = self.numbers.get(&slot.key).copied();
            if entry.is_none() && slot.spec.is_none() {
                if let Some(number) = known {
                    self.let_go(number, &[]);
                    self.numbers.remove(&slot.key);
                    self.global.remove(&number);
                    self.dues[number] = TimeMs::MAX;
                }
                continue;
            }
            let number = known.unwrap_or_else(|| {
                self.numbers.insert(slot.key.clone(), self.dues.len());
                self.keys.push(slot.key.clone());
                self.dues.push(0);
                self.shares.push(Vec::new());
                self.dues.len() - 1
            });
            match slot.spec.is_some_and(|spec| spec.is_global()) {
                true => self.global.insert(number),
                false => self.global.remove(&number),
            };
            let rows = slot.rows.iter().map(|&row| &draft.rows[row]);
            let rows = rows.filter(|row| row.replica().is_some());
            let shares: Vec<Share> = rows
                .map(|row| Share {
                    id: row.id,
                    node: row.node,
                    up: row.sight.up,
                    down: row.sight.down,
                })
                .collect();
            self.let_go(number, &shares);
            self.hold(number, &shares, fresh);
            self.shares[number] = shares;
            let report = outcome.report.services.get(&slot.key);
            let remembered = outcome.memory.services.contains_key(&slot.key);
            self.dues[number] = match entry.zip(report) {
                Some((entry, report)) if !remembered && is_settled(slot, entry, report) => {
                    slot.due_ms.unwrap_or(TimeMs::MAX)
                }
                _ => 0,
            };
        }
        if fresh {
            for holders in &mut self.holders {
                holders.sort_unstable();
            }
        }
    }

    /// Forgets on which nodes the service's replicas were, but for those that stay there.
    fn let_go(&mut self, number: Known, now: &[Share]) {
        for share in &self.shares[number] {
            let stays = now.binary_search_by_key(&share.id, |s| s.id).is_ok();
            if let Some(node) = share.node.filter(|_| !stays) {
                let held = &mut self.holders[node];
                if let Ok(at) = held.binary_search(&(share.id, number)) {
                    held.remove(at);
                }
            }
        }
    }

    fn hold(&mut self, number: Known, shares: &[Share], fresh: bool) {
        for share in shares {
            let Some(node) = share.node else { continue };
            let held = &mut self.holders[node];
            if fresh {
                held.push((share.id, number));
            } else if let Err(at) = held.binary_search(&(share.id, number)) {
                held.insert(at, (share.id, number));
            }
        }
    }

    /// Notes what the run made of nodes and edges.
    fn keep_cluster(&mut self, draft: &mut Draft<'_>) {
        let cluster = &mut draft.cluster;
        self.held = std::mem::take(&mut cluster.held);
        let note = |number: usize| Noted::of(&cluster.nodes[number], &self.held[number]);
        if self.nodes.is_empty() {
            self.nodes = (0..cluster.nodes.len()).map(note).collect();
        } else {
            for &number in cluster.touched() {
                self.nodes[number] = note(number);
            }
        }
        self.images = cluster.known_images().cloned();
        self.has_zones = cluster.known_zones();
        let edges = draft.cluster.edges.iter().zip(draft.cluster.fresh());
        self.edges = edges
            .map(|(edge, fresh)| EdgeKept {
                connected: edge.connected,
                gone: edge.gone,
                fresh: *fresh,
                servers: edge.seen.map(|seen| Arc::clone(&seen.servers)),
                refused: edge.seen.map(|seen| Arc::clone(&seen.refused)),
            })
            .collect();
    }
}

/// Is everything as it shall be, so that only a change or its registered time can alter it? What
/// measures, moves, waits or leaves is looked at in every run.
fn is_settled(
    slot: &crate::draft::ServiceSlot<'_>,
    entry: &ServicePlan,
    report: &ServiceReport,
) -> bool {
    let Some(spec) = slot.spec else { return false };
    let counts = [report.planned, report.healthy, report.serving];
    // What is kept for its log is there until it leaves.
    let replicas = entry.replicas.values();
    let is_kept = |r: &Replica| r.ended.is_some() && r.leaving.is_none();
    let measured = spec.autoscale.is_some() || crate::weights::apply(entry);
    !measured
        && counts.iter().all(|&count| count == report.wanted)
        && replicas.filter(|r| !is_kept(r)).count() == report.wanted as usize
        && report.outdated == 0
        && report.waits.is_empty()
        && entry.moves.is_empty()
        && entry.rollout.as_ref().is_none_or(|rollout| !rollout.runs())
}
