//! The snapshot, indexed once: nodes, edges and replicas by number, so that no later stage looks
//! anything up by name.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::observe::{CheckState, EdgeObserved, ServerAdmin, SessionObserved};
use longshore_model::spec::ZONE_LABEL;
use longshore_model::ways::RefusedBy;
use longshore_model::{NodeId, ReplicaId, ServiceKey, SharedMap, TimeMs};

use crate::place::pool::Pools;
use crate::{PlanInput, PlannerConfig};

use nodes::Duties;
pub(crate) use nodes::{Flapping, Held, NodeSlot, Noted, same_arc};

mod nodes;

/// Images that any node has.
pub(crate) type Images = Arc<BTreeSet<String>>;

/// What the run before left of the nodes; they are the same ones.
pub(crate) struct Before<'k> {
    pub noted: &'k [Noted],
    pub held: Vec<Held>,
    pub images: Option<Images>,
    pub has_zones: Option<bool>,
    /// What operators want of the nodes is the same as well.
    pub same_desired: bool,
    /// The states that were noted are those of the input's memory.
    pub same_states: bool,
    /// So are those that took replicas.
    pub same_takers: bool,
}

/// One edge.
#[derive(Debug)]
pub(crate) struct EdgeSlot<'a> {
    pub id: &'a NodeId,
    pub seen: Option<&'a EdgeObserved>,
    /// Its session is alive.
    pub connected: bool,
    /// Its lease has run out: it no longer holds anything up.
    pub gone: bool,
}

impl EdgeSlot<'_> {
    /// Has its HAProxy been seen to run `generation` or a later one?
    pub(crate) fn runs(&self, generation: u64) -> bool {
        self.seen
            .is_some_and(|seen| seen.routes_generation >= generation)
    }

    /// Sessions and waiting requests of a replica there.
    pub(crate) fn sessions(&self, service: &ServiceKey, replica: ReplicaId) -> u32 {
        let sessions = self.seen.and_then(|seen| seen.sessions.get(service));
        let server = sessions.and_then(|sessions| sessions.get(&replica));
        server.map_or(0, |server| server.sessions.saturating_add(server.queued))
    }

    /// Requests that wait for a replica there.
    pub(crate) fn queued(&self, service: &ServiceKey, replica: ReplicaId) -> u32 {
        let sessions = self.seen.and_then(|seen| seen.sessions.get(service));
        let server = sessions.and_then(|sessions| sessions.get(&replica));
        server.map_or(0, |server| server.queued)
    }
}

impl Cluster<'_> {
    /// Edges that say that they cannot serve a service as wanted, be it by one of its ways in.
    pub(crate) fn refused_by(&self, service: &ServiceKey) -> RefusedBy {
        let edges = self.edges.iter().filter(|edge| edge.connected);
        let refused = edges.filter_map(|edge| {
            let why = edge.seen?.refused.get(service)?;
            Some((edge.id.clone(), why.clone()))
        });
        refused.collect()
    }
}

impl EdgeSlot<'_> {
    /// Does it say that a replica which it was told to drain has no session there, and gets none? An
    /// edge that does not list the replica (its HAProxy does not answer, its agent has not looked yet)
    /// says nothing, unless it cannot serve the service at all; and one may let a replica in on until
    /// what waits for it is served.
    pub(crate) fn is_empty_of(&self, service: &ServiceKey, replica: ReplicaId) -> bool {
        self.seen.is_some_and(|seen| {
            let refused = seen.refused.contains_key(service);
            let server = seen.server(service, replica);
            server.map_or(refused, |server| server.is_over())
        })
    }
}

/// What all edges together see of one replica.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sight {
    /// Fresh edges whose check passes.
    pub up: u32,
    /// Fresh edges that would send it requests, and whose check fails. Not those that drain it: what
    /// was taken out may well have ended, and what the plan asks of the routes by now has no say here,
    /// so that this run and the next read the same.
    pub down: u32,
    /// Fresh edges that drain it, and whose check fails.
    pub down_drained: u32,
    /// Of those, the ones that run the routes in force. An edge lets a new server in only once its
    /// check passes: of one that shall serve this says that it fails.
    pub kept_out: u32,
    /// Sessions and waiting requests over all edges.
    pub sessions: u32,
    /// Every connected edge (and at least one) sends it requests.
    pub routed: bool,
    /// As [`Self::routed`]; where no edge is connected, by the last word of those that are away.
    pub last_routed: bool,
}

/// The indexed snapshot.
#[derive(Debug)]
pub(crate) struct Cluster<'a> {
    /// In id order: the number doubles as the last tie-break.
    pub nodes: Vec<NodeSlot<'a>>,
    /// By number: what replicas take of each.
    pub held: Vec<Held>,
    /// Nodes of which this run may say something else than the one before.
    touched: Vec<usize>,
    /// Nodes whose session is gone, in order.
    pub silent: Vec<usize>,
    /// Nodes that are drained, in order.
    pub draining: Vec<usize>,
    pub workers: u32,
    /// [`NodeSlot::was`] has the states that the input's memory has.
    pub same_states: bool,
    /// [`NodeSlot::took`] has the nodes that the input's memory calls takers.
    pub same_takers: bool,
    /// Found out when first asked.
    images: OnceCell<Images>,
    generations: &'a SharedMap<NodeId, u64>,
    /// Of the routes in force.
    routes_generation: u64,
    /// Workers are in at least two zones; found out when first asked.
    has_zones: OnceCell<bool>,
    pub edges: Vec<EdgeSlot<'a>>,
    /// Nodes that are [`NodeSlot::unreachable`].
    pub unreachable: Vec<usize>,
    /// Candidates that services share.
    pub pools: Pools,
    /// Which edges have check results worth reading.
    fresh: Vec<bool>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(input: &PlanInput<'a>, before: Option<Before<'_>>) -> Self {
        let mut seen = Cursor::new(&input.observed.nodes);
        let noted = before.as_ref().map_or(&[][..], |before| before.noted);
        let same_desired = before.as_ref().is_some_and(|before| before.same_desired);
        let count = input.desired.nodes.len();
        let mut cluster = Self {
            nodes: Vec::with_capacity(count),
            held: Vec::new(),
            touched: Vec::new(),
            silent: Vec::new(),
            draining: Vec::new(),
            workers: 0,
            same_states: before.as_ref().is_some_and(|before| before.same_states),
            same_takers: before.as_ref().is_some_and(|before| before.same_takers),
            images: OnceCell::new(),
            generations: &input.current.generations,
            routes_generation: input.current.routes_generation,
            has_zones: OnceCell::new(),
            edges: Vec::new(),
            unreachable: Vec::new(),
            pools: Pools::default(),
            fresh: Vec::new(),
        };
        let mut same_images = true;
        for (number, (id, node)) in input.desired.nodes.iter().enumerate() {
            let seen = seen.get(id).map(|seen| &**seen);
            let noted = noted.get(number);
            let duties = match noted.filter(|_| same_desired) {
                Some(noted) => noted.duties,
                None => Duties::of(node),
            };
            let slot = NodeSlot::new(input, (id, node), seen, noted);
            cluster.workers += u32::from(duties.worker);
            if duties.draining {
                cluster.draining.push(number);
            }
            if duties.edge {
                cluster.edges.push(edge(input, id));
            }
            if slot.touched {
                cluster.touched.push(number);
                if !slot.state.is_connected() {
                    cluster.silent.push(number);
                }
                let images = seen.map(|seen| &seen.images);
                same_images &= noted.is_some_and(|noted| same_arc(noted.images.as_ref(), images));
            }
            cluster.nodes.push(slot);
        }
        if let Some(before) = before {
            cluster.held = before.held;
            if let Some(has_zones) = before.has_zones.filter(|_| same_desired) {
                let _first = cluster.has_zones.set(has_zones);
            }
            if let Some(images) = before.images.filter(|_| same_images) {
                let _first = cluster.images.set(images);
            }
        }
        cluster.held.resize_with(count, Held::default);
        for &number in &cluster.touched {
            let capacity = cluster.nodes[number].seen.map(|seen| &*seen.capacity);
            cluster.held[number].has(capacity);
        }
        cluster.fresh = cluster
            .edges
            .iter()
            .map(|edge| is_fresh(input, edge))
            .collect();
        cluster
    }

    /// The run may say something else of the node than the one before.
    pub(crate) fn touch(&mut self, number: usize) {
        if !self.nodes[number].touched {
            self.nodes[number].touched = true;
            self.touched.push(number);
        }
    }

    /// What replicas take of a node, for a change.
    pub(crate) fn held_mut(&mut self, number: usize) -> &mut Held {
        self.touch(number);
        &mut self.held[number]
    }

    /// Nodes that are touched, each once, in no order.
    pub(crate) fn touched(&self) -> &[usize] {
        &self.touched
    }

    /// Has the node acknowledged the assignment in force?
    pub(crate) fn acked(&self, number: usize) -> bool {
        let slot = &self.nodes[number];
        if let Some(known) = slot.acked.get() {
            return known;
        }
        let generation = self.generations.get(slot.id).copied().unwrap_or(0);
        let acked = slot
            .seen
            .is_some_and(|seen| seen.assignment_generation >= generation);
        slot.acked.set(Some(acked));
        acked
    }

    /// Images that any node has.
    pub(crate) fn images(&self) -> &Images {
        self.images.get_or_init(|| {
            let seen = self.nodes.iter().filter_map(|slot| slot.seen);
            Arc::new(seen.flat_map(|seen| seen.images.iter().cloned()).collect())
        })
    }

    /// The same, if anybody asked.
    pub(crate) fn known_images(&self) -> Option<&Images> {
        self.images.get()
    }

    /// As [`Self::has_zones`], if anybody asked.
    pub(crate) fn known_zones(&self) -> Option<bool> {
        self.has_zones.get().copied()
    }

    /// Are workers in at least two zones?
    pub(crate) fn has_zones(&self) -> bool {
        *self.has_zones.get_or_init(|| has_zones(&self.nodes))
    }

    /// Edges cannot reach a replica there.
    pub(crate) fn mark_unreachable(&mut self, number: usize) {
        if !self.nodes[number].unreachable {
            self.nodes[number].unreachable = true;
            self.unreachable.push(number);
        }
    }

    /// By edge: are its check results worth reading?
    pub(crate) fn fresh(&self) -> &[bool] {
        &self.fresh
    }

    /// The number of a node, if it is of the cluster.
    pub(crate) fn number(&self, id: &NodeId) -> Option<usize> {
        self.nodes.binary_search_by(|slot| slot.id.cmp(id)).ok()
    }

    /// Adds up what the edges see of a replica.
    pub(crate) fn sight(&self, service: &ServiceKey, replica: ReplicaId) -> Sight {
        let mut sight = Sight::default();
        let (mut connected, mut routing, mut last_routing) = (0_u32, 0_u32, 0_u32);
        for (edge, fresh) in self.edges.iter().zip(&self.fresh) {
            connected += u32::from(edge.connected);
            let servers = edge.seen.and_then(|seen| seen.servers.get(service));
            let Some(server) = servers.and_then(|servers| servers.get(&replica)) else {
                continue;
            };
            let sessions = edge.sessions(service, replica);
            sight.sessions = sight.sessions.saturating_add(sessions);
            if *fresh && server.admin != ServerAdmin::Maint {
                sight.up += u32::from(server.check == CheckState::Up);
                let down = server.check == CheckState::Down;
                sight.down += u32::from(down && server.admin == ServerAdmin::Ready);
                let drains = down && server.admin == ServerAdmin::Drain;
                sight.down_drained += u32::from(drains);
                sight.kept_out += u32::from(drains && edge.runs(self.routes_generation));
            }
            let takes = server.admin == ServerAdmin::Ready && server.check != CheckState::Down;
            routing += u32::from(edge.connected && takes);
            last_routing += u32::from(takes);
        }
        sight.routed = connected > 0 && routing == connected;
        sight.last_routed = sight.routed || (connected == 0 && last_routing > 0);
        sight
    }

    /// By edge, for those whose word counts: does its check of the replica pass?
    pub(crate) fn checks(
        &self,
        service: &ServiceKey,
        replica: ReplicaId,
    ) -> impl Iterator<Item = (&'a NodeId, bool)> {
        let edges = self.edges.iter().zip(&self.fresh);
        edges
            .filter(|(_, fresh)| **fresh)
            .filter_map(move |(edge, _)| {
                let server = edge.seen?.servers.get(service)?.get(&replica)?;
                let says = server.admin != ServerAdmin::Maint;
                match server.check {
                    CheckState::Up if says => Some((edge.id, true)),
                    CheckState::Down if says => Some((edge.id, false)),
                    _ => None,
                }
            })
    }

    /// Have all edges that still count been seen to run `generation`?
    pub(crate) fn all_run(&self, generation: u64) -> bool {
        self.edges
            .iter()
            .all(|edge| edge.gone || edge.runs(generation))
    }
}

fn has_zones(nodes: &[NodeSlot<'_>]) -> bool {
    let workers = nodes.iter().filter(|slot| slot.node.roles.worker);
    let mut zones = workers.filter_map(|slot| slot.node.labels.get(ZONE_LABEL));
    let first = zones.next();
    zones.any(|zone| Some(zone) != first)
}

/// Last sign of life of a session: an echo, or its beginning.
pub(crate) fn contact_ms(session: &SessionObserved) -> TimeMs {
    session.last_echo_ms.max(session.since_ms)
}

/// Whether an edge is there, as planning runs count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgePresence {
    /// Its session is alive: open, and answering.
    pub connected: bool,
    /// Its lease has run out: it no longer holds anything up.
    pub gone: bool,
}

impl EdgePresence {
    /// Of one edge. `listens_since_ms`: silence counts from here on.
    #[must_use]
    pub fn of(
        seen: Option<&EdgeObserved>,
        now_ms: TimeMs,
        listens_since_ms: TimeMs,
        config: &PlannerConfig,
    ) -> Self {
        let contact = seen.map_or(0, |seen| contact_ms(&seen.session));
        let silent_ms = now_ms.saturating_sub(contact.max(listens_since_ms));
        let connected =
            seen.is_some_and(|seen| alive(&seen.session, now_ms, config.session_timeout_ms));
        Self {
            connected,
            gone: !connected && silent_ms > config.edge_lease_ms,
        }
    }
}

/// Is the session open and answering?
pub(crate) fn alive(session: &SessionObserved, now_ms: TimeMs, timeout_ms: u64) -> bool {
    session.connected && now_ms.saturating_sub(contact_ms(session)) <= timeout_ms
}

/// Walks through a map beside another one in the same order, so that nothing is looked up.
pub(crate) struct Cursor<I: Iterator> {
    rest: std::iter::Peekable<I>,
}

impl<'a, V: 'a, I: Iterator<Item = (&'a NodeId, &'a V)>> Cursor<I> {
    /// Entries in the order of their ids.
    pub(crate) fn new(entries: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            rest: entries.into_iter().peekable(),
        }
    }

    /// The value of `id`; ids are asked for in ascending order.
    pub(crate) fn get(&mut self, id: &NodeId) -> Option<&'a V> {
        loop {
            let (known, value) = *self.rest.peek()?;
            let order = known.cmp(id);
            if order == Ordering::Greater {
                return None;
            }
            self.rest.next();
            if order == Ordering::Equal {
                return Some(value);
            }
        }
    }
}

fn edge<'a>(input: &PlanInput<'a>, id: &'a NodeId) -> EdgeSlot<'a> {
    let seen = input.observed.edges.get(id).map(|seen| &**seen);
    let presence = EdgePresence::of(seen, input.now_ms, input.listens_since_ms(), input.config);
    let EdgePresence { connected, gone } = presence;
    #[cfg(feature = "mutants")]
    let gone = gone
        || (!connected && longshore_model::mutant::is(longshore_model::Mutant::EdgeLeaseIgnored));
    EdgeSlot {
        id,
        seen,
        connected,
        gone,
    }
}

/// Are the edge's check results worth reading?
fn is_fresh(input: &PlanInput<'_>, edge: &EdgeSlot<'_>) -> bool {
    let age = edge
        .seen
        .map(|seen| input.now_ms.saturating_sub(seen.reported_ms));
    edge.connected && age.is_some_and(|age| age <= input.config.edge_report_stale_ms)
}
