//! What was seen: one snapshot, taken before a planning run.
//!
//! Snapshots share with each other what did not change between them. What changes at different
//! rates lies apart: states of replicas and servers from their samples and sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::repair::Repair;
use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::certificate::CertificatesObserved;
use crate::id::{NodeId, ReplicaId, ServiceKey};
use crate::node::Capacity;
use crate::replica::ReplicaStatus;
use crate::ways::RefusedBy;

/// Everything that was seen of nodes and edges.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// Nodes that were heard of since the controller started.
    pub nodes: BTreeMap<NodeId, Arc<NodeObserved>>,
    /// Edges that were heard of since the controller started.
    pub edges: BTreeMap<NodeId, Arc<EdgeObserved>>,
    /// What queries outside the cluster (Prometheus) answered, by the service that asks and by
    /// the text of the query.
    #[serde(default)]
    pub external: BTreeMap<ServiceKey, BTreeMap<String, ExternalObserved>>,
    /// Since when the controller has looked without a break; 0: since it started. Of what it did
    /// not hear while its process was stopped it knows nothing.
    #[serde(default)]
    pub watched_since_ms: TimeMs,
}

impl Observed {
    /// Edges that say that they cannot serve a service as wanted. Not those that are away: what they
    /// said may be long mended.
    #[must_use]
    pub fn refused_by(&self, service: &ServiceKey) -> RefusedBy {
        let edges = self.edges.iter().filter(|(_, seen)| seen.session.connected);
        let refused = edges.filter_map(|(edge, seen)| {
            let why = seen.refused.get(service)?;
            Some((edge.clone(), why.clone()))
        });
        refused.collect()
    }
}

/// What one query outside the cluster answered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ExternalObserved {
    /// Its values, oldest first, bounded by the observer; always finite. Shared: a snapshot
    /// copies nothing.
    pub samples: Arc<Vec<Sample>>,
    /// Why the last try gave no value, in words fit for people; none after a good one.
    #[serde(default)]
    pub problem: Option<String>,
    /// When it was asked last, whatever came of it; none: it was never asked.
    #[serde(default)]
    pub tried_ms: Option<TimeMs>,
}

/// Session of an agent with the controller. A round trip every second keeps it alive: the agent
/// echoes the controller's last nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionObserved {
    /// A stream is open now.
    pub connected: bool,
    /// When the last nonce came back.
    pub last_echo_ms: TimeMs,
    /// When the present or last session began.
    pub since_ms: TimeMs,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When, on the controller's clock.
    pub at_ms: TimeMs,
    /// The value; unit as said where it is used. May be NaN: readers must check.
    pub value: f64,
}

/// A measurement of CPU.
pub type CpuSample = Sample;

/// Mean of the samples in `[from_ms, now_ms]` that are numbers, if the newest of them is not
/// older than `stale_ms`. NaN, infinite and negative samples are skipped, and so are those from
/// the future (a clock that jumped).
#[must_use]
pub fn mean(samples: &[CpuSample], from_ms: TimeMs, now_ms: TimeMs, stale_ms: u64) -> Option<f64> {
    let (mut sum, mut count, mut newest) = (0.0, 0.0, 0);
    for sample in samples.iter().rev() {
        let inside = sample.at_ms >= from_ms && sample.at_ms <= now_ms;
        if inside && sample.value.is_finite() && sample.value >= 0.0 {
            sum += sample.value;
            count += 1.0;
            newest = newest.max(sample.at_ms);
        }
    }
    let fresh = count > 0.0 && now_ms - newest <= stale_ms;
    let mean: f64 = sum / count;
    // A sum of huge samples may overflow to infinity.
    (fresh && mean.is_finite()).then_some(mean)
}

/// State of a node's container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    /// It answers.
    #[default]
    Ok,
    /// It accepts calls and never answers.
    Stuck,
    /// It is not there.
    Down,
}

/// What was seen of one node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeObserved {
    /// Its session.
    pub session: SessionObserved,
    /// Its engine.
    pub engine: EngineState,
    /// What it has. Shared: the same `Arc` means that nothing changed.
    pub capacity: Arc<Capacity>,
    /// Generation of the assignment that it has accepted.
    pub assignment_generation: u64,
    /// When its last report came.
    pub reported_ms: TimeMs,
    /// Its replicas, by its last report. A replica missing here after the node accepted a
    /// generation that stops it is gone.
    pub replicas: Arc<BTreeMap<ReplicaId, ReplicaStatus>>,
    /// What it and its replicas use.
    #[serde(default)]
    pub samples: Arc<NodeSamples>,
    /// Images that it has, of those that current templates name.
    #[serde(default)]
    pub images: Arc<Vec<String>>,
    /// Version of its agent.
    #[serde(default)]
    pub agent_version: String,
    /// Version of its engine.
    #[serde(default)]
    pub engine_version: String,
    /// Port on which other nodes' agents reach its replicas by name; 0: they cannot.
    #[serde(default)]
    pub peer_port: u16,
    /// What does not work there, in words with the way out.
    #[serde(default)]
    pub problems: Arc<Vec<String>>,
    /// What works there and will hurt, in words with the way out.
    #[serde(default)]
    pub advice: Arc<Vec<String>>,
}

/// What a node and its replicas use: changes with every report.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeSamples {
    /// CPU use as a ratio of capacity, oldest first, bounded by the observer.
    pub cpu_ratio: Vec<CpuSample>,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Its replicas.
    pub replicas: BTreeMap<ReplicaId, ReplicaSamples>,
    /// So far its clock is ahead of the observer's, the way of its report included; none: it does
    /// not say. Nothing is decided by it.
    #[serde(default)]
    pub clock_ahead_ms: Option<i64>,
}

/// What one replica uses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReplicaSamples {
    /// Memory in use.
    #[serde(default)]
    pub memory_bytes: u64,
    /// The same, oldest first, bounded by the observer; bytes as a number.
    #[serde(default)]
    pub memory_samples: Arc<Vec<Sample>>,
    /// CPU use, oldest first; thousandths of a core as a number (`500.0` is half a core).
    #[serde(default)]
    pub cpu_milli: Vec<CpuSample>,
}

/// HAProxy's own opinion of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Checks pass.
    Up,
    /// Checks fail.
    Down,
    /// Not checked (yet).
    Unknown,
}

/// State of a server as HAProxy really has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerAdmin {
    /// It takes traffic.
    Ready,
    /// It finishes what it has.
    Drain,
    /// It is out.
    Maint,
}

/// One replica in one edge's HAProxy, summed over its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerObserved {
    /// HAProxy's health check.
    pub check: CheckState,
    /// Its administrative state.
    pub admin: ServerAdmin,
    /// Sessions on it now.
    pub sessions: u32,
    /// Requests that wait for it.
    pub queued: u32,
    /// What it has answered.
    #[serde(default)]
    pub answers: ServerAnswers,
}

/// What one server has answered. The counters restart with HAProxy and go on when a slot is given
/// to another replica: only differences mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerAnswers {
    /// Requests (or connections) in all, counted as they come.
    pub requests_total: u64,
    /// Answers of 500 and above (or failed connections).
    pub errors_total: u64,
    /// Mean response time of about the last 512 requests.
    pub response_ms: u32,
}

/// What one edge's HAProxy said of one service at one time, summed over its ways in. Counters
/// count since HAProxy's last start or reload: one that is lower than before began again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BackendSample {
    /// When, on the controller's clock.
    pub at_ms: TimeMs,
    /// Requests (or connections) in all.
    pub requests_total: u64,
    /// Answers of 500 and above, and requests that no server answered.
    pub errors_total: u64,
    /// Requests (or connections) that came in the last second, waiting ones included.
    pub rate: u32,
    /// Requests that servers work on, and those that wait.
    pub sessions: u32,
    /// Of these, those that wait for a server.
    pub queued: u32,
    /// Mean response time of about the last 512 requests: it stays when traffic ends.
    pub response_ms: u32,
}

/// One service in one edge's HAProxy; counters since HAProxy's start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BackendObserved {
    /// Requests (or connections) per second over the last second.
    pub rate: u32,
    /// Sessions, the queue included.
    pub sessions: u32,
    /// Requests that wait.
    pub queued: u32,
    /// Requests in all, counted as they come; restarts with HAProxy.
    pub requests_total: u64,
    /// Answers of 500 and above; restarts with HAProxy.
    pub errors_total: u64,
    /// Mean response time of about the last 512 requests.
    pub response_ms: u32,
    /// The same, second by second, oldest first, bounded by the observer. Shared: a snapshot
    /// copies nothing. Empty in what an edge reports.
    #[serde(default)]
    pub samples: Arc<Vec<BackendSample>>,
}

/// What was seen of one edge.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EdgeObserved {
    /// Its session.
    pub session: SessionObserved,
    /// Routes generation that its HAProxy was seen to run. Server states below were read after
    /// that generation was applied.
    pub routes_generation: u64,
    /// When its last report came.
    pub reported_ms: TimeMs,
    /// State of its servers, by service: replicas that have a server there.
    pub servers: Arc<BTreeMap<ServiceKey, Arc<BTreeMap<ReplicaId, ServerState>>>>,
    /// What these servers do now, by service. The same keys as `servers`.
    pub sessions: BTreeMap<ServiceKey, Arc<BTreeMap<ReplicaId, ServerSessions>>>,
    /// Services that have a backend there.
    pub backends: BTreeMap<ServiceKey, BackendObserved>,
    /// What is wrong with it, in its agent's words: HAProxy down, port taken, drift.
    #[serde(default)]
    pub problem: Option<String>,
    /// HAProxy's version.
    #[serde(default)]
    pub haproxy_version: String,
    /// Services that cannot be reached there as wanted, and why, in its agent's words with the
    /// way out.
    #[serde(default)]
    pub refused: Arc<BTreeMap<ServiceKey, String>>,
    /// Other programs that listen on ports of its HAProxy and get a part of its connections.
    #[serde(default)]
    pub sharers: Arc<PortsBySharer>,
    /// Certificates that its routes name; none: its agent is an older one, which does not say.
    #[serde(default)]
    pub certificates: Option<Arc<CertificatesObserved>>,
    /// What its agent mended last, oldest first, and when by the clock here.
    #[serde(default)]
    pub repairs: Arc<Vec<(TimeMs, Repair)>>,
}

/// Ports by the program that listens on them, too: `haproxy (pid 4242)`.
pub type PortsBySharer = BTreeMap<String, BTreeSet<u16>>;

/// State of a server: changes only when something happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// HAProxy's health check.
    pub check: CheckState,
    /// Its administrative state.
    pub admin: ServerAdmin,
}

/// What a server does: changes with every report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerSessions {
    /// Sessions on it now.
    pub sessions: u32,
    /// Requests that wait for it.
    pub queued: u32,
    /// What it has answered.
    #[serde(default)]
    pub answers: ServerAnswers,
}

/// Servers of an edge by service, as a report brings them.
pub type ServersByService = BTreeMap<ServiceKey, BTreeMap<ReplicaId, ServerObserved>>;

impl EdgeObserved {
    /// Why HAProxy does not answer there, in its agent's words; none while it lists its servers.
    #[must_use]
    pub fn silence(&self) -> Option<&str> {
        self.problem.as_deref().filter(|_| self.servers.is_empty())
    }

    /// Why the edge serves nobody of a service, in its own words, if it says so.
    #[must_use]
    pub fn keeps_out(&self, service: &ServiceKey) -> Option<&str> {
        let refused = self.refused.get(service).map(String::as_str);
        refused.or_else(|| self.silence())
    }

    /// A server with all that was seen of it.
    #[must_use]
    pub fn server(&self, service: &ServiceKey, replica: ReplicaId) -> Option<ServerObserved> {
        let state = self.servers.get(service)?.get(&replica)?;
        let load = self.sessions.get(service).and_then(|all| all.get(&replica));
        let load = load.copied().unwrap_or_default();
        Some(ServerObserved {
            check: state.check,
            admin: state.admin,
            sessions: load.sessions,
            queued: load.queued,
            answers: load.answers,
        })
    }

    /// Takes the repairs of a new report, with their ages. True: there are others than before.
    pub fn take_repairs(&mut self, repairs: Vec<(u64, Repair)>, now_ms: TimeMs) -> bool {
        let known = self.repairs.last().map(|(_, repair)| repair.number);
        if repairs.last().map(|(_, repair)| repair.number) == known {
            return false;
        }
        let at = |(ago_ms, repair)| (now_ms.saturating_sub(ago_ms), repair);
        self.repairs = Arc::new(repairs.into_iter().map(at).collect());
        true
    }

    /// Takes the servers of a new report. What says the same as before stays shared with earlier
    /// snapshots. True: a state changed, a server came or went, its first session began or its
    /// last one ended.
    pub fn take_servers(&mut self, report: &ServersByService) -> bool {
        let mut changed = !self.servers.keys().eq(report.keys());
        if changed {
            Arc::make_mut(&mut self.servers).retain(|key, _| report.contains_key(key));
            self.sessions.retain(|key, _| report.contains_key(key));
        }
        for (key, servers) in report {
            let states = servers.iter().map(|(id, server)| (*id, server.state()));
            let states: BTreeMap<ReplicaId, ServerState> = states.collect();
            if self.servers.get(key).is_none_or(|known| **known != states) {
                Arc::make_mut(&mut self.servers).insert(key.clone(), Arc::new(states));
                changed = true;
            }
            let loads = servers.iter().map(|(id, server)| (*id, server.load()));
            let loads: BTreeMap<ReplicaId, ServerSessions> = loads.collect();
            let known = self.sessions.get(key);
            if known.is_none_or(|known| **known != loads) {
                let idle = |all: &BTreeMap<_, ServerSessions>, id| {
                    all.get(id)
                        .is_none_or(|load| load.sessions == 0 && load.queued == 0)
                };
                changed |= known.is_some_and(|known| {
                    loads.keys().any(|id| idle(known, id) != idle(&loads, id))
                });
                self.sessions.insert(key.clone(), Arc::new(loads));
            }
        }
        changed
    }
}

impl ServerObserved {
    /// It has nothing to do and will get nothing.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.admin != ServerAdmin::Ready && self.sessions == 0 && self.queued == 0
    }

    /// Its state alone.
    #[must_use]
    pub fn state(&self) -> ServerState {
        ServerState {
            check: self.check,
            admin: self.admin,
        }
    }

    /// Its load alone.
    #[must_use]
    pub fn load(&self) -> ServerSessions {
        ServerSessions {
            sessions: self.sessions,
            queued: self.queued,
            answers: self.answers,
        }
    }
}
