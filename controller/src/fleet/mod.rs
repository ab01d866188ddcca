//! What is known of nodes and edges: their sessions, their last reports, their samples.
//!
//! The fleet only remembers; it decides nothing. Reports are whole, so that the newest one
//! replaces what was known, apart from measurements, which are kept in rings.

mod outbox;
mod rings;
mod streams;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_model::node::Capacity;
use longshore_model::observe::{EdgeObserved, ExternalObserved, NodeObserved, SessionObserved};
use longshore_model::replica::ReplicaState;
use longshore_model::{NodeId, Observed, ServiceKey, TimeMs};
use longshore_wire::{EdgeReport, NodeReport};
use tokio_util::sync::CancellationToken;

pub use outbox::{Command, Outbox, OutboxReader, Outgoing};
pub use rings::SAMPLES_MAX;
pub use streams::{StreamEvent, StreamGuard, StreamHub};

/// What an agent says of itself when its session begins.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// What it has.
    pub capacity: Capacity,
    /// Assignment that it holds.
    pub assignment_generation: u64,
    /// Routes that it holds.
    pub routes_generation: u64,
    /// Version of the agent.
    pub agent_version: String,
    /// Version of its engine.
    pub engine_version: String,
    /// Port on which other nodes' agents reach its replicas by name; 0: they cannot.
    pub peer_port: u16,
    /// Pieces of standard input that it takes ungranted; 0: it grants none.
    pub stdin_pieces: u32,
}

/// A live session, as the one who serves it holds it.
pub struct Session {
    /// Tells it from older and newer sessions of the same node.
    pub id: u64,
    /// Cancelled when a newer session takes its place or the node is removed.
    pub ended: CancellationToken,
    /// What is to be sent.
    pub outbox: OutboxReader,
}

/// A live session, as the executor sees it.
#[derive(Clone)]
pub struct Link {
    /// Its id.
    pub session: u64,
    /// Where its commands go.
    pub outbox: Outbox,
}

struct Live {
    id: u64,
    ended: CancellationToken,
    outbox: Outbox,
    nonce: u64,
}

#[derive(Default)]
struct Entry {
    node: Arc<NodeObserved>,
    edge: Option<Arc<EdgeObserved>>,
    live: Option<Live>,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<NodeId, Entry>,
    external: BTreeMap<ServiceKey, BTreeMap<String, ExternalObserved>>,
    sessions: u64,
    changes: u64,
}

/// All agents that were heard of since the start.
#[derive(Default)]
pub struct Fleet {
    inner: Mutex<Inner>,
    /// Log and exec streams through the sessions.
    pub streams: StreamHub,
}

impl Fleet {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Entries are replaced whole; a panic between two of them leaves each of them valid.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session; an older one of the same node ends.
    pub fn connect(
        &self,
        node: &NodeId,
        edge: bool,
        greeting: Greeting,
        now_ms: TimeMs,
    ) -> Session {
        let mut inner = self.inner();
        inner.sessions += 1;
        inner.changes += 1;
        let id = inner.sessions;
        let entry = inner.entries.entry(node.clone()).or_default();
        if let Some(old) = entry.live.take() {
            old.ended.cancel();
        }
        let (mut outbox, reader) = Outbox::new();
        outbox.stdin_pieces = greeting.stdin_pieces;
        let ended = CancellationToken::new();
        entry.live = Some(Live {
            id,
            ended: ended.clone(),
            outbox,
            nonce: 0,
        });
        // The handshake was a round trip.
        let session = SessionObserved {
            connected: true,
            last_echo_ms: now_ms,
            since_ms: now_ms,
        };
        let seen = Arc::make_mut(&mut entry.node);
        seen.session = session;
        learn_capacity(&mut seen.capacity, greeting.capacity);
        seen.assignment_generation = greeting.assignment_generation;
        seen.agent_version = greeting.agent_version;
        seen.engine_version = greeting.engine_version;
        seen.peer_port = greeting.peer_port;
        if edge {
            let edge = entry.edge.get_or_insert_default();
            Arc::make_mut(edge).session = session;
            // What its HAProxy runs is known with its first report, not before.
        } else {
            entry.edge = None;
        }
        Session {
            id,
            ended,
            outbox: reader,
        }
    }

    /// Ends a session. False: it was not the node's present one.
    pub fn disconnect(&self, node: &NodeId, session: u64) -> bool {
        let mut inner = self.inner();
        let Some(entry) = inner.entries.get_mut(node) else {
            return false;
        };
        if entry.live.as_ref().is_none_or(|live| live.id != session) {
            return false;
        }
        entry.live = None;
        Arc::make_mut(&mut entry.node).session.connected = false;
        if let Some(edge) = &mut entry.edge {
            Arc::make_mut(edge).session.connected = false;
        }
        inner.changes += 1;
        drop(inner);
        self.streams.close_node(node, "the node's session ended");
        true
    }

    /// Ends a node's session and forgets the node.
    pub fn forget(&self, node: &NodeId) {
        let mut inner = self.inner();
        inner.changes += 1;
        if let Some(Entry {
            live: Some(live), ..
        }) = inner.entries.remove(node)
        {
            live.ended.cancel();
        }
        drop(inner);
        self.streams.close_node(node, "the node was removed");
    }

    /// Notes the nonce that was just sent.
    pub fn pinged(&self, node: &NodeId, session: u64, nonce: u64) {
        self.with_live(node, session, |entry| {
            if let Some(live) = &mut entry.live {
                live.nonce = nonce;
            }
        });
    }

    /// A nonce came back. Only the last one counts: an older one proves nothing about now.
    pub fn echoed(&self, node: &NodeId, session: u64, nonce: u64, now_ms: TimeMs) {
        self.with_live(node, session, |entry| {
            if entry
                .live
                .as_ref()
                .is_some_and(|live| live.nonce == nonce && nonce != 0)
            {
                Arc::make_mut(&mut entry.node).session.last_echo_ms = now_ms;
                if let Some(edge) = &mut entry.edge {
                    Arc::make_mut(edge).session.last_echo_ms = now_ms;
                }
            }
        });
    }

    /// Takes a node's report. True: something else than samples changed.
    pub fn node_report(
        &self,
        node: &NodeId,
        session: u64,
        report: NodeReport,
        now_ms: TimeMs,
    ) -> bool {
        self.with_live(node, session, |entry| {
            merge_node(Arc::make_mut(&mut entry.node), report, now_ms)
        })
    }

    /// Takes an edge's report. True: something else than counters changed.
    pub fn edge_report(
        &self,
        node: &NodeId,
        session: u64,
        report: EdgeReport,
        now_ms: TimeMs,
    ) -> bool {
        self.with_live(node, session, |entry| {
            let Some(edge) = &mut entry.edge else {
                return false;
            };
            let edge = Arc::make_mut(edge);
            let states = edge.take_servers(&report.servers);
            let repaired = edge.take_repairs(report.repairs, now_ms);
            let changed = states
                || repaired
                || edge.routes_generation != report.routes_generation
                || edge.problem != report.problem
                || *edge.refused != report.refused
                || *edge.sharers != report.sharers
                || edge.certificates.as_deref() != report.certificates.as_ref()
                || edge.reported_ms == 0;
            edge.routes_generation = report.routes_generation;
            edge.reported_ms = now_ms;
            let age_ms = report.stats_ago_ms.unwrap_or(0);
            let read_ms = now_ms.saturating_sub(age_ms);
            rings::merge_backends(&mut edge.backends, report.backends, read_ms);
            edge.problem = report.problem;
            // Equal content stays shared with earlier snapshots.
            if *edge.refused != report.refused {
                edge.refused = Arc::new(report.refused);
            }
            if *edge.sharers != report.sharers {
                edge.sharers = Arc::new(report.sharers);
            }
            if edge.certificates.as_deref() != report.certificates.as_ref() {
                edge.certificates = report.certificates.map(Arc::new);
            }
            edge.haproxy_version = report.haproxy_version;
            changed
        })
    }

    /// An agent refused a command and keeps generation `have`; see [`Outbox::refused`].
    pub fn refused(&self, node: &NodeId, session: u64, what: Command, have: u64) {
        self.with_live(node, session, |entry| {
            if let Some(live) = &entry.live {
                live.outbox.refused(what, have);
            }
        });
    }

    fn with_live<T: Default>(
        &self,
        node: &NodeId,
        session: u64,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> T {
        let mut inner = self.inner();
        inner.changes += 1;
        match inner.entries.get_mut(node) {
            Some(entry) if entry.live.as_ref().is_some_and(|live| live.id == session) => {
                change(entry)
            }
            // The past session of a node has nothing more to say.
            _ => T::default(),
        }
    }

    /// Takes the answer of a query outside the cluster: its value, or why there is none.
    pub fn external(
        &self,
        service: &ServiceKey,
        query: &str,
        answer: Result<f64, String>,
        now_ms: TimeMs,
    ) {
        self.of_query(service, query, |seen| {
            rings::merge_external(seen, answer, now_ms);
        });
    }

    /// Takes why a query was not asked at all.
    pub fn external_not_asked(&self, service: &ServiceKey, query: &str, why: &str) {
        self.of_query(service, query, |seen| seen.problem = Some(why.to_owned()));
    }

    fn of_query(
        &self,
        service: &ServiceKey,
        query: &str,
        tell: impl FnOnce(&mut ExternalObserved),
    ) {
        let mut inner = self.inner();
        inner.changes += 1;
        let of_service = inner.external.entry(service.clone()).or_default();
        tell(of_service.entry(query.to_owned()).or_default());
    }

    /// Forgets the answers of queries that nobody asks any more.
    pub fn keep_external(&self, asked: impl Fn(&ServiceKey, &str) -> bool) {
        let mut inner = self.inner();
        for (service, queries) in &mut inner.external {
            queries.retain(|query, _| asked(service, query));
        }
        inner.external.retain(|_, queries| !queries.is_empty());
    }

    /// Everything that is known now.
    #[must_use]
    pub fn snapshot(&self) -> Observed {
        let inner = self.inner();
        let mut observed = Observed {
            external: inner.external.clone(),
            ..Observed::default()
        };
        for (id, entry) in &inner.entries {
            observed.nodes.insert(id.clone(), Arc::clone(&entry.node));
            if let Some(edge) = &entry.edge {
                observed.edges.insert(id.clone(), Arc::clone(edge));
            }
        }
        observed
    }

    /// Live sessions.
    #[must_use]
    pub fn links(&self) -> BTreeMap<NodeId, Link> {
        let link = |live: &Live| Link {
            session: live.id,
            outbox: live.outbox.clone(),
        };
        let inner = self.inner();
        inner
            .entries
            .iter()
            .filter_map(|(id, entry)| Some((id.clone(), link(entry.live.as_ref()?))))
            .collect()
    }

    /// Live session of one node.
    #[must_use]
    pub fn link(&self, node: &NodeId) -> Option<Link> {
        let inner = self.inner();
        let live = inner.entries.get(node)?.live.as_ref()?;
        Some(Link {
            session: live.id,
            outbox: live.outbox.clone(),
        })
    }

    /// Rises with everything that was heard.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.inner().changes
    }
}

/// What is the same stays shared with earlier snapshots: that nothing changed is seen at once.
fn learn_capacity(known: &mut Arc<Capacity>, told: Capacity) {
    if **known != told {
        *known = Arc::new(told);
    }
}

/// Puts a report into what is known; samples go into rings. What says the same as before stays
/// shared with earlier snapshots.
fn merge_node(node: &mut NodeObserved, report: NodeReport, now_ms: TimeMs) -> bool {
    let changed = node.reported_ms == 0
        || node.assignment_generation != report.assignment_generation
        || node.engine != report.engine
        || *node.capacity != report.capacity;
    node.assignment_generation = report.assignment_generation;
    node.engine = report.engine;
    learn_capacity(&mut node.capacity, report.capacity);
    if *node.images != report.images {
        node.images = Arc::new(report.images);
    }
    if *node.problems != report.problems {
        node.problems = Arc::new(report.problems);
    }
    if *node.advice != report.advice {
        node.advice = Arc::new(report.advice);
    }
    // An agent that came before its engine learns this later.
    if !report.engine_version.is_empty() && node.engine_version != report.engine_version {
        node.engine_version = report.engine_version;
    }
    node.reported_ms = now_ms;
    let samples = Arc::make_mut(&mut node.samples);
    let signed = |ms: TimeMs| i64::try_from(ms).unwrap_or(i64::MAX);
    let ahead = |time_ms| signed(time_ms).saturating_sub(signed(now_ms));
    samples.clock_ahead_ms = report.time_ms.map(ahead);
    samples.memory_used_bytes = report.memory_used_bytes;
    rings::push_sample(&mut samples.cpu_ratio, report.cpu_ratio, now_ms);
    let mut rings = std::mem::take(&mut samples.replicas);
    let mut states = BTreeMap::new();
    for replica in report.replicas {
        let mut status = replica.status(now_ms);
        // Ages jitter by the way they came; an incarnation starts once.
        let before = node.replicas.get(&replica.id);
        if let Some(before) = before.filter(|before| before.restarts == status.restarts) {
            status.started_ms = before.started_ms.or(status.started_ms);
            // After a pause its health is proven anew.
            let paused = |state| state == ReplicaState::Paused;
            if !paused(before.state) || paused(status.state) {
                status.healthy_ms = before.healthy_ms.or(status.healthy_ms);
            }
        }
        let mut ring = rings.remove(&replica.id).unwrap_or_default();
        ring.memory_bytes = replica.memory_bytes;
        rings::push_sample(&mut ring.cpu_milli, replica.cpu_milli, now_ms);
        let bytes = replica.memory_sample_bytes;
        rings::push_memory(&mut ring.memory_samples, bytes, now_ms);
        samples.replicas.insert(replica.id, ring);
        states.insert(replica.id, status);
    }
    let moved = *node.replicas != states;
    if moved {
        node.replicas = Arc::new(states);
    }
    changed || moved
}

/// Shared by everybody.
pub type SharedFleet = Arc<Fleet>;

#[cfg(test)]
mod tests;
