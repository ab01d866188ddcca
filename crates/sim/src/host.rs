//! A machine: what of it survives what.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use longshore_model::reason::FailReason;
use longshore_model::{NodeId, ReplicaId};
use longshore_wire::EdgeReport;
use node_agent::ledger::Book;
use node_agent::policy::Policy;
use node_agent::reconcile::{AgentMs, Core, Place, Snapshot};

use crate::edge::Driver;
use crate::engine::Engine;
use crate::event::Conn;
use crate::haproxy::Haproxy;

/// CPU of each host, thousandths of a core.
pub const CPU_MILLI: u64 = 8_000;
/// Memory of each host.
pub const MEMORY_BYTES: u64 = 16 << 30;

/// One machine.
pub struct Host {
    /// Its node's id.
    pub id: NodeId,
    /// Its address.
    pub address: IpAddr,
    /// It runs containers.
    pub worker: bool,
    /// It runs HAProxy.
    pub edge: bool,
    /// It has power.
    pub power: bool,
    /// Counts its boots.
    pub boot: u32,
    /// Load by others, as a ratio of its CPU.
    pub load: f64,
    /// Its samples are like this.
    pub samples: Samples,
    /// What its agent has on disk.
    pub book: Book,
    /// The disk under the ledger is full.
    pub ledger_full: bool,
    /// Its agent.
    pub agent: Agent,
    /// Its engine.
    pub engine: Engine,
    /// Its HAProxy.
    pub haproxy: Haproxy,
    /// The way to the controller.
    pub way: Way,
}

/// How samples come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Samples {
    /// As they are.
    #[default]
    Good,
    /// As numbers that cannot be.
    Bad,
    /// Not at all.
    Missing,
}

/// The way between an agent and the controller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    /// Nothing gets to the controller.
    pub up_cut: bool,
    /// Nothing gets to the agent.
    pub down_cut: bool,
    /// Extra time for each message.
    pub slow_ms: u64,
}

/// The agent's process.
pub struct Agent {
    /// It runs.
    pub up: bool,
    /// Number of the process.
    pub epoch: u32,
    /// Stopped until then.
    pub frozen_until: u64,
    /// Its clock at the start of the simulation's.
    pub clock_ms: AgentMs,
    /// The real decisions.
    pub core: Core,
    /// What it would report.
    pub snapshot: Snapshot,
    /// Failures that are in the ledger.
    pub failed: BTreeMap<ReplicaId, FailReason>,
    /// A listing is under way.
    pub listing: bool,
    /// When the last one began.
    pub listed_at: Option<u64>,
    /// When the engine last said something.
    pub event_at: Option<u64>,
    /// Number of the look that is due.
    pub wake: u64,
    /// Its connection.
    pub conn: Option<Conn>,
    /// The controller has welcomed it.
    pub welcomed: bool,
    /// Last message of the controller.
    pub heard_at: u64,
    /// When the session began.
    pub session_at: u64,
    /// Attempts to dial in a row.
    pub dials: u32,
    /// Reports of the node.
    pub node_lane: Lane,
    /// Reports of the edge.
    pub edge_lane: Lane,
    /// Number of the report that is due.
    pub report: u64,
    /// What the edge role last said.
    pub edge_report: EdgeReport,
    /// When HAProxy said it.
    pub edge_read_at: Option<u64>,
    /// What of it was sent.
    pub edge_sent: Option<EdgeReport>,
    /// Volumes of its engine, and when it looked at them.
    pub volumes: Option<(u64, BTreeMap<String, u64>)>,
    /// The edge role.
    pub driver: Driver,
}

/// When reports go out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lane {
    /// The last one.
    pub last: Option<u64>,
    /// The next regular one.
    pub due: u64,
    /// Something changed since.
    pub changed: bool,
}

impl Lane {
    /// When the next one is due.
    #[must_use]
    pub fn at(&self) -> u64 {
        let soon = self.last.map_or(0, |last| last + 50);
        match self.changed {
            true => soon.min(self.due),
            false => self.due,
        }
    }
}

impl Host {
    /// A machine that was just installed.
    #[must_use]
    pub fn new(id: NodeId, number: u8, worker: bool, edge: bool) -> Self {
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
        let agent = Agent::new((&id, address), 0, BTreeMap::new(), 0, Driver::default());
        Self {
            id,
            address,
            worker,
            edge,
            power: true,
            boot: 0,
            load: 0.3,
            samples: Samples::Good,
            book: Book::default(),
            ledger_full: false,
            agent,
            engine: Engine::default(),
            haproxy: Haproxy::default(),
            way: Way::default(),
        }
    }
}

impl Agent {
    /// A process that just started.
    #[must_use]
    pub fn new(
        (node, address): (&NodeId, IpAddr),
        epoch: u32,
        failed: BTreeMap<ReplicaId, FailReason>,
        clock_ms: AgentMs,
        driver: Driver,
    ) -> Self {
        let place = Place {
            cluster: "sim".into(),
            node: node.clone(),
            address,
            policy: Policy::default(),
        };
        Self {
            up: false,
            epoch,
            frozen_until: 0,
            clock_ms,
            core: Core::new(place, failed.clone()),
            snapshot: Snapshot::default(),
            failed,
            listing: false,
            listed_at: None,
            event_at: None,
            wake: 0,
            conn: None,
            welcomed: false,
            heard_at: 0,
            session_at: 0,
            dials: 0,
            node_lane: Lane::default(),
            edge_lane: Lane::default(),
            report: 0,
            edge_report: EdgeReport::default(),
            edge_read_at: None,
            edge_sent: None,
            volumes: None,
            driver,
        }
    }
}
