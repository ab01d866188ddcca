//! The controller's process: the real cluster, fleet, store rows and reconcile halves, with the
//! simulation's clock and a disk that fails.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use controller::backups::Folder;
use controller::clock::Clock;
use controller::cluster::{Cluster, Parts};
use controller::config::Config;
use controller::fleet::{Command, Greeting, Outgoing, Session};
use controller::reconcile;
use longshore_identity::ca::ClusterCa;
use longshore_model::node::Capacity;
use longshore_model::{Memory, ReplicaId, ReplicaState, TimeMs};
use longshore_wire::NodeReport;

use crate::event::{Conn, ControllerEvent, Down, Event, HostNo, Up};
use crate::host::{CPU_MILLI, Host, MEMORY_BYTES};
use crate::store::{Disk, SimStore};
use crate::world::World;

/// Least time between two planning runs, and most; the real loop's.
const GAP_MS: u64 = 8;
const PERIOD_MS: u64 = 1_000;
const PING_MS: u64 = 1_000;

/// Where the controller is to die next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Before the next write takes effect.
    BeforeWrite,
    /// After it took effect, before anybody is told.
    AfterWrite,
    /// After the next commit, before anything is sent.
    BeforeExecute,
}

/// The controller, dead or alive.
pub struct Control {
    /// Its disk.
    pub store: Arc<SimStore>,
    /// Its process.
    pub process: Option<Process>,
    /// Number of the process.
    pub epoch: u32,
    /// Stopped until then.
    pub frozen_until: u64,
    /// Its wall clock is ahead of the simulation's by so much.
    pub ahead_ms: i64,
    /// Where it is to die next.
    pub crash: Option<CrashPoint>,
    /// Its clock at the last planning run of any process.
    pub decided_ms: TimeMs,
    /// Nonces of pings.
    nonce: u64,
}

/// The running process.
pub struct Process {
    /// The real thing.
    pub cluster: Arc<Cluster>,
    /// Carried from run to run.
    pub memory: Arc<Memory>,
    /// Live sessions.
    pub sessions: BTreeMap<Conn, (HostNo, Session)>,
    since_ms: Arc<AtomicU64>,
    started_at: u64,
    due: u64,
    last: u64,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            store: Arc::new(SimStore::default()),
            process: None,
            epoch: 0,
            frozen_until: 0,
            ahead_ms: 0,
            crash: None,
            decided_ms: 0,
            nonce: 0,
        }
    }
}

/// One authority for all simulations of this process: its keys reach no decision.
fn authority() -> Option<ClusterCa> {
    static PEM: OnceLock<Option<(String, String)>> = OnceLock::new();
    let pem = PEM.get_or_init(|| {
        let ca = ClusterCa::create("sim", SystemTime::UNIX_EPOCH).ok()?;
        Some((ca.cert_pem().to_owned(), ca.key_pem().to_string()))
    });
    let (cert, key) = pem.as_ref()?;
    ClusterCa::load("sim", cert, key).ok()
}

fn command(routes: bool) -> Command {
    match routes {
        true => Command::Routes,
        false => Command::Assignment,
    }
}

impl World {
    /// The running cluster.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.control.process.as_ref().map(|p| &p.cluster)
    }

    /// Lets the controller's clock show the present time.
    pub(crate) fn tell_time(&self) {
        if let Some(process) = &self.control.process {
            let since = self.now - process.started_at;
            process.since_ms.store(since, Ordering::Relaxed);
        }
    }

    pub(crate) fn controller_up(&mut self) {
        if self.control.process.is_some() {
            return;
        }
        let Some(ca) = authority() else {
            return self.violation("the authority cannot be made");
        };
        let since_ms = Arc::new(AtomicU64::new(0));
        let wall_ms =
            (self.scenario.wall_ms + self.now).saturating_add_signed(self.control.ahead_ms);
        let parts = Parts {
            seal: None,
            term: None,
            // None is made here.
            backups: Folder::new(PathBuf::new()),
            config: Config {
                planner: self.scenario.planner.clone(),
                ..Config::default()
            },
            ca,
            clock: Clock::told(wall_ms, Arc::clone(&since_ms)),
            port: 7_443,
        };
        match Cluster::open(self.control.store.clone(), parts) {
            Ok(cluster) => {
                self.control.epoch += 1;
                self.truth.outside.clear();
                self.truth.outside_bounds.clear();
                say!(self, "controller up, term {}", cluster.fence.term);
                self.mutations.reopened(&cluster.desired());
                self.control.process = Some(Process {
                    cluster,
                    memory: Arc::default(),
                    sessions: BTreeMap::new(),
                    since_ms,
                    started_at: self.now,
                    due: u64::MAX,
                    last: 0,
                });
                self.users_look();
                self.judge_mutations();
                self.judge_loaded();
                self.wake_controller();
            }
            Err(error) => {
                say!(self, "controller does not come up: {error}");
                self.queue.push(self.now + 1_000, Event::ControllerUp);
            }
        }
    }

    /// The process ends here and now; its supervisor starts it again after a while.
    pub(crate) fn controller_dies(&mut self, back_after_ms: u64) {
        if let Some(process) = self.control.process.take() {
            say!(self, "controller dies");
            for conn in process.sessions.keys() {
                self.send_down(*conn, Down::Close);
            }
            self.control.crash = None;
            self.control.frozen_until = 0;
            self.queue
                .push(self.now + back_after_ms, Event::ControllerUp);
        }
    }

    /// Ends the process if the store asked for it.
    pub(crate) fn controller_ends_if_fatal(&mut self) {
        let fatal = self
            .cluster()
            .is_some_and(|cluster| cluster.fatal.borrow().is_some());
        if fatal {
            let after_ms = self.dice.between(200, 2_000);
            self.controller_dies(after_ms);
        }
    }

    /// A planning run is due soon.
    pub(crate) fn wake_controller(&mut self) {
        let now = self.now;
        self.controller_due(now);
    }

    fn controller_due(&mut self, at_ms: u64) {
        let epoch = self.control.epoch;
        if let Some(process) = &mut self.control.process {
            let at_ms = at_ms.max(process.last + GAP_MS);
            if at_ms < process.due {
                process.due = at_ms;
                let run = ControllerEvent::Run(at_ms);
                self.queue.push(at_ms, Event::Controller(epoch, run));
            }
        }
    }

    pub(crate) fn controller(&mut self, epoch: u32, event: ControllerEvent) {
        if epoch != self.control.epoch || self.control.process.is_none() {
            return;
        }
        if self.control.frozen_until > self.now {
            let at_ms = self.control.frozen_until;
            return self.queue.push(at_ms, Event::Controller(epoch, event));
        }
        match event {
            ControllerEvent::Run(at_ms) => self.run_controller(at_ms),
            ControllerEvent::Ping(conn) => self.ping(conn),
        }
    }

    fn run_controller(&mut self, at_ms: u64) {
        let Some(process) = &mut self.control.process else {
            return;
        };
        if process.due != at_ms {
            return;
        }
        process.last = self.now;
        process.due = u64::MAX;
        self.runs += 1;
        let crash = self.control.crash;
        let disk = match crash {
            Some(CrashPoint::BeforeWrite) => Some(Disk::FailsBefore),
            Some(CrashPoint::AfterWrite) => Some(Disk::FailsAfter),
            _ => None,
        };
        if let Some(disk) = disk.filter(|_| self.control.store.disk() == Disk::Fine) {
            self.control.store.set(disk);
            self.control.crash = None;
        }
        let Some(process) = &mut self.control.process else {
            return;
        };
        let cluster = Arc::clone(&process.cluster);
        let now_ms = cluster.now_ms();
        self.control.decided_ms = now_ms;
        let before = cluster.view();
        let memory = std::mem::take(&mut process.memory);
        let kept = self.replans(at_ms).then(|| Arc::clone(&memory));
        let (next, observed) = reconcile::decide(&cluster, memory, now_ms);
        if let Some(process) = &mut self.control.process {
            process.memory = next.memory;
        }
        self.explain();
        self.pump();
        self.judge_run(&before, &observed, kept.as_ref());
        self.controller_ends_if_fatal();
        let committed = cluster.view().plan.version != before.plan.version;
        if committed && crash == Some(CrashPoint::BeforeExecute) {
            let after_ms = self.dice.between(200, 3_000);
            return self.controller_dies(after_ms);
        }
        if self.control.process.is_none() {
            return;
        }
        reconcile::execute(&cluster, &observed);
        self.pump();
        let timed = next.look_again_ms.map(|at| at.saturating_sub(now_ms));
        let wait_ms = timed.map_or(PERIOD_MS, |wait_ms| wait_ms.min(PERIOD_MS));
        self.controller_due(self.now + wait_ms);
    }

    /// What was decided, and why.
    fn explain(&self) {
        let Some(cluster) = self.cluster() else {
            return;
        };
        let view = cluster.view();
        let (plan, report) = (&view.plan, &view.report);
        let head = (report.events.first()).map(|_| {
            let (version, routes) = (plan.version, plan.routes_generation);
            format!("plan {version} routes {routes} {:?}", view.problem)
        });
        let events = report.events.iter().map(|event| format!("{event:?}"));
        self.trace.explain(head.into_iter().chain(events));
    }

    /// Planning again is compared for a part of the runs: it doubles their cost.
    fn replans(&self, at_ms: u64) -> bool {
        at_ms.is_multiple_of(4)
    }

    /// Sends what waits in the outboxes.
    pub(crate) fn pump(&mut self) {
        let Some(process) = &mut self.control.process else {
            return;
        };
        let fence = process.cluster.fence;
        let mut out = Vec::new();
        process.sessions.retain(|conn, (_, session)| {
            if session.ended.is_cancelled() {
                out.push((*conn, Down::Close));
                return false;
            }
            while let Some(next) = session.outbox.waiting() {
                match next {
                    Outgoing::Assignment(a) => out.push((*conn, Down::Assign(fence, a))),
                    Outgoing::Routes(r) => out.push((*conn, Down::Route(fence, r))),
                    // Apps of the simulation have none.
                    Outgoing::Certificates(_) | Outgoing::Names(_) | Outgoing::Stream(_) => {}
                }
            }
            true
        });
        for (conn, message) in out {
            self.send_down(conn, message);
        }
    }

    fn ping(&mut self, conn: Conn) {
        let Some(process) = &self.control.process else {
            return;
        };
        let Some((host, session)) = process.sessions.get(&conn) else {
            return;
        };
        self.control.nonce += 1;
        let nonce = self.control.nonce;
        let node = &self.hosts[*host].id;
        process.cluster.fleet.pinged(node, session.id, nonce);
        self.send_down(conn, Down::Ping(nonce));
        self.controller_later(PING_MS, ControllerEvent::Ping(conn));
    }

    fn controller_later(&mut self, after_ms: u64, event: ControllerEvent) {
        let event = Event::Controller(self.control.epoch, event);
        self.queue.push(self.now + after_ms, event);
    }

    /// A message has reached the controller's host.
    pub(crate) fn hear(&mut self, conn: Conn, message: Up) {
        if self.control.frozen_until > self.now && self.control.process.is_some() {
            let at_ms = self.control.frozen_until;
            return self.queue.push(at_ms, Event::ToController(conn, message));
        }
        let host = self.wires[&conn].host;
        let Some(process) = &mut self.control.process else {
            return self.send_down(conn, Down::Close);
        };
        let cluster = Arc::clone(&process.cluster);
        let now_ms = cluster.now_ms();
        let node = self.hosts[host].id.clone();
        if let Up::Hello = message {
            let desired = cluster.desired();
            let Some(known) = desired.nodes.get(&node) else {
                return self.send_down(conn, Down::Close);
            };
            let greeting = greeting(&self.hosts[host]);
            let edge = known.roles.edge;
            let session = cluster.fleet.connect(&node, edge, greeting, now_ms);
            process.sessions.insert(conn, (host, session));
            say!(self, "{node} connected");
            self.send_down(conn, Down::Welcome);
            self.controller_later(0, ControllerEvent::Ping(conn));
            return self.wake_controller();
        }
        let Some((_, session)) = process.sessions.get(&conn) else {
            if !matches!(message, Up::Close) {
                self.send_down(conn, Down::Close);
            }
            return;
        };
        let fleet = &cluster.fleet;
        let news = match message {
            Up::Hello => false,
            Up::Echo(nonce) => {
                fleet.echoed(&node, session.id, nonce, now_ms);
                false
            }
            Up::Node(report) => {
                self.truth.reported(healthy(&report));
                fleet.node_report(&node, session.id, *report, now_ms)
            }
            Up::Edge(report, read_at) => {
                self.truth.read_at.insert(host, read_at);
                fleet.edge_report(&node, session.id, *report, now_ms)
            }
            Up::Refused(routes, have_fence, have) => {
                if have_fence <= cluster.fence {
                    fleet.refused(&node, session.id, command(routes), have);
                }
                false
            }
            Up::Close => {
                say!(self, "{node} disconnected");
                let news = fleet.disconnect(&node, session.id);
                process.sessions.remove(&conn);
                news
            }
        };
        if news {
            self.wake_controller();
        }
    }
}

/// Replicas that a report calls healthy.
fn healthy(report: &NodeReport) -> impl Iterator<Item = ReplicaId> + '_ {
    let replicas = report.replicas.iter();
    let healthy = replicas.filter(|replica| replica.state == ReplicaState::Healthy);
    healthy.map(|replica| replica.id)
}

/// What every host has, and the volumes that this one's agent saw last.
#[must_use]
pub fn capacity(at: &Host) -> Capacity {
    Capacity {
        cpu_milli: CPU_MILLI,
        memory_bytes: MEMORY_BYTES,
        os: "linux".into(),
        arch: "amd64".into(),
        volumes: at.agent.volumes.as_ref().map(|(_, seen)| seen.clone()),
        ..Capacity::default()
    }
}

/// What an agent of the simulation says of itself.
fn greeting(at: &Host) -> Greeting {
    let book = &at.book;
    Greeting {
        capacity: capacity(at),
        assignment_generation: book.assignment.as_ref().map_or(0, |a| a.generation),
        routes_generation: book.routes.as_ref().map_or(0, |r| r.generation),
        agent_version: "sim".into(),
        engine_version: "sim".into(),
        // Its services reach each other by no name, and no command is run there.
        peer_port: 0,
        stdin_pieces: 0,
    }
}
