//! The snapshot, indexed once: nodes, edges and replicas by number, so that no later stage looks
//! anything up by name.

use std::cell::OnceCell;

use longshore_model::node::Node;
use longshore_model::observe::{
    CheckState, EdgeObserved, NodeObserved, ServerAdmin, SessionObserved,
};
use longshore_model::plan::PortBinding;
use longshore_model::report::NodeState;
use longshore_model::spec::{Resources, ZONE_LABEL};
use longshore_model::{NodeId, ReplicaId, ServiceKey, TimeMs};

use crate::PlanInput;
use crate::place::pool::Pools;

/// Samples of this long make up a node's measured headroom.
const HEADROOM_WINDOW_MS: u64 = 10_000;

/// One node.
#[derive(Debug)]
pub(crate) struct NodeSlot<'a> {
    pub id: &'a NodeId,
    pub node: &'a Node,
    pub seen: Option<&'a NodeObserved>,
    /// It has acknowledged the assignment in force.
    pub acked: bool,
    pub state: NodeState,
    /// Not sure that it serves: replacements may be added, nothing of it leaves.
    pub doubted: bool,
    /// Both witnesses call it gone, but the brake is on.
    pub braked: bool,
    pub cpu_reserved_milli: u64,
    pub memory_reserved_bytes: u64,
    /// Replicas on it, the leaving ones included.
    pub replicas: u32,
    /// Host ports held by these, in order.
    pub ports: Vec<u16>,
    /// Host ports that strangers hold, as failed replicas told; found out when first asked.
    pub strange_ports: OnceCell<Vec<u16>>,
    /// Mean CPU ratio of the last seconds; found out when first asked.
    cpu_ratio: OnceCell<Option<f64>>,
    /// Edges cannot reach a replica there although the node calls it healthy.
    pub unreachable: bool,
    /// Its assignment's content changed in this run.
    pub dirty: bool,
    pub up: u32,
    pub down: u32,
}

impl NodeSlot<'_> {
    /// Counts one replica against the node.
    pub(crate) fn reserve(&mut self, wants: Resources, ports: &[PortBinding]) {
        self.replicas += 1;
        self.cpu_reserved_milli = self
            .cpu_reserved_milli
            .saturating_add(wants.cpu_reserved_milli);
        self.memory_reserved_bytes = self
            .memory_reserved_bytes
            .saturating_add(wants.memory_reserved_bytes);
        for port in ports {
            let (Ok(at) | Err(at)) = self.ports.binary_search(&port.host_port);
            self.ports.insert(at, port.host_port);
        }
    }

    /// Gives back what [`Self::reserve`] took.
    pub(crate) fn release(&mut self, wants: Resources, ports: &[PortBinding]) {
        self.replicas = self.replicas.saturating_sub(1);
        self.cpu_reserved_milli = self
            .cpu_reserved_milli
            .saturating_sub(wants.cpu_reserved_milli);
        self.memory_reserved_bytes = self
            .memory_reserved_bytes
            .saturating_sub(wants.memory_reserved_bytes);
        for port in ports {
            if let Ok(at) = self.ports.binary_search(&port.host_port) {
                self.ports.remove(at);
            }
        }
    }

    /// Mean CPU ratio of the last seconds, if there are samples.
    pub(crate) fn cpu_ratio(&self, input: &PlanInput<'_>) -> Option<f64> {
        *self.cpu_ratio.get_or_init(|| {
            crate::load::mean(
                &self.seen?.samples.cpu_ratio,
                input.now_ms.saturating_sub(HEADROOM_WINDOW_MS),
                input.now_ms,
                input.config.sample_stale_ms,
            )
        })
    }

    /// Does a replica there hold the host port?
    pub(crate) fn holds(&self, port: u16) -> bool {
        self.ports.binary_search(&port).is_ok()
    }

    /// Reserved share of the scarcer resource, per mille.
    pub(crate) fn fill_permille(&self) -> u32 {
        let Some(seen) = self.seen else { return 1_000 };
        let share = |used: u64, all: u64| {
            let permille = used.saturating_mul(1_000) / all.max(1);
            u32::try_from(permille).unwrap_or(u32::MAX)
        };
        share(self.cpu_reserved_milli, seen.capacity.cpu_milli).max(share(
            self.memory_reserved_bytes,
            seen.capacity.memory_bytes,
        ))
    }
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
}

impl EdgeSlot<'_> {
    /// Does it say that a replica which it was told to drain has no session there? An edge that
    /// does not list the replica (its HAProxy does not answer, its agent has not looked yet) says
    /// nothing, unless it cannot serve the service at all.
    pub(crate) fn is_empty_of(&self, service: &ServiceKey, replica: ReplicaId) -> bool {
        self.seen.is_some_and(|seen| {
            let listed = seen.server(service, replica).is_some();
            let refused = seen.refused.contains_key(service);
            (listed || refused) && self.sessions(service, replica) == 0
        })
    }
}

/// What all edges together see of one replica.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sight {
    /// Fresh edges whose check passes.
    pub up: u32,
    /// Fresh edges whose check fails.
    pub down: u32,
    /// Of these, the ones that would send it requests.
    pub down_ready: u32,
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
    pub(crate) fn new(input: &PlanInput<'a>) -> Self {
        let mut seen = Cursor::new(&input.observed.nodes);
        let mut generations = Cursor::new(&*input.current.generations);
        let mut nodes: Vec<NodeSlot<'a>> = Vec::with_capacity(input.desired.nodes.len());
        let mut edges: Vec<EdgeSlot<'a>> = Vec::new();
        for (id, node) in &input.desired.nodes {
            let seen = seen.get(id).map(|seen| &**seen);
            let generation = generations.get(id).copied().unwrap_or(0);
            nodes.push(slot((id, node), seen, generation));
            if node.roles.edge {
                edges.push(edge(input, id));
            }
        }
        let fresh = edges
            .iter()
            .map(|edge| {
                let age = edge
                    .seen
                    .map(|seen| input.now_ms.saturating_sub(seen.reported_ms));
                edge.connected && age.is_some_and(|age| age <= input.config.edge_report_stale_ms)
            })
            .collect();
        Self {
            nodes,
            has_zones: OnceCell::new(),
            edges,
            unreachable: Vec::new(),
            pools: Pools::default(),
            fresh,
        }
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
                sight.down += u32::from(down);
                sight.down_ready += u32::from(down && server.admin == ServerAdmin::Ready);
            }
            let takes = server.admin == ServerAdmin::Ready && server.check != CheckState::Down;
            routing += u32::from(edge.connected && takes);
            last_routing += u32::from(takes);
        }
        sight.routed = connected > 0 && routing == connected;
        sight.last_routed = sight.routed || (connected == 0 && last_routing > 0);
        sight
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
        while self.rest.next_if(|(known, _)| *known < id).is_some() {}
        let found = self.rest.next_if(|(known, _)| *known == id)?;
        Some(found.1)
    }
}

fn slot<'a>(
    (id, node): (&'a NodeId, &'a Node),
    seen: Option<&'a NodeObserved>,
    generation: u64,
) -> NodeSlot<'a> {
    NodeSlot {
        id,
        node,
        seen,
        acked: seen.is_some_and(|seen| seen.assignment_generation >= generation),
        state: NodeState::Unknown,
        doubted: false,
        braked: false,
        cpu_reserved_milli: 0,
        memory_reserved_bytes: 0,
        replicas: 0,
        ports: Vec::new(),
        strange_ports: OnceCell::new(),
        cpu_ratio: OnceCell::new(),
        unreachable: false,
        dirty: false,
        up: 0,
        down: 0,
    }
}

fn edge<'a>(input: &PlanInput<'a>, id: &'a NodeId) -> EdgeSlot<'a> {
    let seen = input.observed.edges.get(id).map(|seen| &**seen);
    let contact = seen
        .map_or(0, |seen| contact_ms(&seen.session))
        .max(input.listens_since_ms());
    let connected = seen
        .is_some_and(|seen| alive(&seen.session, input.now_ms, input.config.session_timeout_ms));
    let gone = !connected && input.now_ms.saturating_sub(contact) > input.config.edge_lease_ms;
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
