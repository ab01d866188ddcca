//! HAProxy as the driver's study measured it: slots that are addressed in maint, checks, workers
//! that finish their sessions after a reload, and a start from the file.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use longshore_haproxy_driver::readout::{Load, Running, RunningServer};
use longshore_haproxy_driver::slots::SlotNumber;
use longshore_haproxy_driver::{Action, CheckSettings, Step};
use longshore_model::ServiceKey;
use longshore_model::observe::{ServerAdmin, ServerAnswers};
use longshore_model::spec::RouteSpec;

/// A free slot's address.
pub const PARKED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// One HAProxy: master, workers, and the file on its disk.
#[derive(Debug, Default)]
pub struct Haproxy {
    /// It runs.
    pub up: bool,
    /// Stopped until then.
    pub frozen_until: u64,
    /// Pid of the worker.
    pub pid: u32,
    /// What the worker runs.
    pub worker: Worker,
    /// Workers of earlier configurations that still have sessions, by pid.
    pub old: BTreeMap<u32, Worker>,
    /// Requests that wait in each backend's queue.
    pub waiting: u32,
    /// What it would start from.
    pub file: File,
}

/// Backends of a worker.
pub type Worker = BTreeMap<String, Pool>;

/// One backend of a worker.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    /// Servers.
    pub servers: BTreeMap<SlotNumber, SimServer>,
    /// Whom round robin asked last.
    pub turn: SlotNumber,
    /// Requests so far.
    pub requests: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Mean response time of the last few.
    pub response_ms: u32,
    /// When those of the last second came.
    pub recent: Vec<u64>,
}

impl Pool {
    /// A request has come.
    pub fn asked(&mut self, now_ms: u64) {
        self.requests += 1;
        self.recent.retain(|at| at + 1_000 > now_ms);
        self.recent.push(now_ms);
    }

    /// Requests of the last second.
    #[must_use]
    pub fn rate(&self, now_ms: u64) -> u32 {
        let recent = self.recent.iter().filter(|at| *at + 1_000 > now_ms);
        u32::try_from(recent.count()).unwrap_or(u32::MAX)
    }

    /// An answer has come from a server, after so long.
    pub fn has_answered(&mut self, slot: SlotNumber, wrong: bool, after_ms: u64) {
        let after_ms = u32::try_from(after_ms).unwrap_or(u32::MAX);
        self.errors += u64::from(wrong);
        self.response_ms = moved(self.response_ms, after_ms);
        if let Some(server) = self.servers.get_mut(&slot) {
            server.answers.errors_total += u64::from(wrong);
            server.timed(after_ms);
        }
    }
}

/// A mean that follows the last few: shortened as all waits are.
fn moved(mean_ms: u32, next_ms: u32) -> u32 {
    (mean_ms - mean_ms / 8).saturating_add(next_ms / 8)
}

/// One server.
#[derive(Debug, Clone, Copy)]
pub struct SimServer {
    /// Where it points to.
    pub address: SocketAddr,
    /// Its state.
    pub admin: ServerAdmin,
    /// Count of its check.
    pub health: u32,
    /// Since when it is not 0.
    pub up_at: u64,
    /// Checks run.
    pub checked: bool,
    /// Its part of the traffic.
    pub weight: u32,
    /// Next check.
    pub check_at: u64,
    /// Sessions on it.
    pub sessions: u32,
    /// What it has answered since the worker's start, but for the response time.
    pub answers: ServerAnswers,
    /// Response times in HAProxy's sliding sum.
    pub sum_ms: u64,
}

/// Requests in a server's mean response time, as in HAProxy.
const SAMPLES: u64 = 512;

impl SimServer {
    /// Adds a response time as HAProxy does: once the slot had many requests, each takes its share
    /// of the sum away.
    fn timed(&mut self, after_ms: u32) {
        if self.answers.requests_total > SAMPLES {
            self.sum_ms -= self.sum_ms.div_ceil(SAMPLES);
        }
        self.sum_ms += u64::from(after_ms);
    }

    /// What the statistics show.
    fn shown(&self) -> ServerAnswers {
        let requests = self.answers.requests_total.clamp(1, SAMPLES);
        let mean = self.sum_ms.div_ceil(requests);
        ServerAnswers {
            response_ms: u32::try_from(mean).unwrap_or(u32::MAX),
            ..self.answers
        }
    }

    /// HAProxy sends it new requests.
    #[must_use]
    pub fn takes(&self) -> bool {
        self.admin == ServerAdmin::Ready && self.health > 0
    }
}

/// The file: what needs a reload, and the servers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct File {
    /// By backend: its ways in, without servers.
    pub structure: BTreeMap<String, (ServiceKey, RouteSpec)>,
    /// By backend and slot: address, whether it starts enabled, and its weight.
    pub servers: BTreeMap<String, BTreeMap<SlotNumber, (SocketAddr, bool, u32)>>,
}

impl Haproxy {
    /// Does its socket answer?
    #[must_use]
    pub fn answers(&self, now_ms: u64) -> bool {
        self.up && now_ms >= self.frozen_until
    }

    /// `show servers state` and `show stat`.
    #[must_use]
    pub fn look(&self) -> Running {
        let server = |server: &SimServer| RunningServer {
            address: Some(server.address.ip()),
            port: server.address.port(),
            admin: server.admin,
            up: server.admin != ServerAdmin::Maint && server.health > 0,
            check_health: server.health,
            check_enabled: server.checked,
            check_configured: true,
            check_port: 0,
            check_address: None,
            limit: None,
            weight: server.weight,
            load: Some(Load {
                sessions: server.sessions,
                queued: 0,
            }),
            line: String::new(),
            answers: server.shown(),
        };
        let backends = self.worker.iter().map(|(name, pool)| {
            let servers = pool.servers.iter();
            let servers = servers.map(|(slot, now)| (*slot, server(now))).collect();
            (name.clone(), servers)
        });
        // Its servers have seats for everybody.
        let queues = self.worker.keys().map(|name| (name.clone(), 0));
        Running {
            backends: backends.collect(),
            queues: queues.collect(),
            ..Running::default()
        }
    }

    /// Sessions that old workers finish, by backend and address.
    #[must_use]
    pub fn old_loads(&self) -> BTreeMap<(String, String), Load> {
        let mut loads: BTreeMap<(String, String), Load> = BTreeMap::new();
        for (name, pool) in self.old.values().flatten() {
            for server in pool.servers.values().filter(|s| s.sessions > 0) {
                let at = (name.clone(), server.address.to_string());
                loads.entry(at).or_default().sessions += server.sessions;
            }
        }
        loads
    }

    /// Takes one command. False: it points a server that is not in maint somewhere else.
    pub fn command(&mut self, step: &Step, now_ms: u64) -> bool {
        let check = CheckSettings::default();
        let Some(pool) = self.worker.get_mut(step.backend.as_str()) else {
            return true;
        };
        if let Action::AddServer { at, .. } = step.action {
            pool.servers.entry(step.slot).or_insert(SimServer {
                address: at,
                admin: ServerAdmin::Maint,
                health: 0,
                up_at: now_ms,
                checked: false,
                weight: 1,
                check_at: now_ms,
                sessions: 0,
                answers: ServerAnswers::default(),
                sum_ms: 0,
            });
            return true;
        }
        let Some(server) = pool.servers.get_mut(&step.slot) else {
            return true;
        };
        let leaves_maint = server.admin == ServerAdmin::Maint;
        match &step.action {
            // Nothing waits in this HAProxy.
            Action::AddServer { .. }
            | Action::Pull { .. }
            | Action::CheckAtPort
            | Action::CheckAtAddress
            | Action::Limit(_)
            | Action::Expel { .. } => {}
            Action::SetAddr { address, port } => {
                server.address = SocketAddr::new(*address, *port);
                return leaves_maint;
            }
            Action::Park => {
                server.address = PARKED;
                return leaves_maint;
            }
            Action::EnableHealth => server.checked = true,
            Action::Weight(weight) => server.weight = *weight,
            Action::Maint => (server.admin, server.health) = (ServerAdmin::Maint, 0),
            Action::Drain | Action::Ready => {
                if leaves_maint {
                    (server.health, server.up_at) = (check.rise, now_ms);
                    server.check_at = now_ms + u64::from(check.inter_ms);
                }
                server.admin = match step.action {
                    Action::Ready => ServerAdmin::Ready,
                    _ => ServerAdmin::Drain,
                };
            }
        }
        true
    }

    /// The result of one check.
    pub fn checked(server: &mut SimServer, passed: bool, now_ms: u64) {
        let check = CheckSettings::default();
        let top = check.rise + check.fall - 1;
        if server.health == 0 {
            server.up_at = now_ms;
        }
        server.health = match (passed, server.health) {
            (true, _) => top,
            (false, health) if health > check.rise => health - 1,
            (false, _) => 0,
        };
        let settled = server.health == 0 || server.health == top;
        let wait_ms = match settled {
            true => check.inter_ms,
            false => check.fastinter_ms,
        };
        server.check_at = now_ms + u64::from(wait_ms);
    }

    /// A new worker from the file. `reload`: the old one finishes its sessions and leaves its
    /// view of who is well; else nothing is left of it.
    pub fn start(&mut self, now_ms: u64, reload: bool) {
        let check = CheckSettings::default();
        let old = std::mem::take(&mut self.worker);
        for (name, servers) in &self.file.servers {
            let mut pool = Pool::default();
            for (&slot, &(address, enabled, weight)) in servers {
                // The state file tells who is down as well.
                let was = old.get(name).and_then(|pool| {
                    let known = |s: &&SimServer| s.admin != ServerAdmin::Maint;
                    let mut same = pool.servers.values().filter(known);
                    same.find(|s| s.address == address)
                });
                let health = match (enabled, was, reload) {
                    (false, _, _) => 0,
                    (true, Some(was), true) => was.health,
                    // A cold start believes the file until the first check.
                    (true, _, _) => check.rise,
                };
                let admin = match enabled {
                    true => ServerAdmin::Ready,
                    false => ServerAdmin::Maint,
                };
                pool.servers.insert(
                    slot,
                    SimServer {
                        address,
                        admin,
                        health,
                        up_at: was.map_or(now_ms, |was| was.up_at),
                        checked: true,
                        weight,
                        check_at: now_ms + u64::from(check.fastinter_ms),
                        sessions: 0,
                        answers: ServerAnswers::default(),
                        sum_ms: 0,
                    },
                );
            }
            self.worker.insert(name.clone(), pool);
        }
        let busy = |worker: &Worker| {
            let mut servers = worker.values().flat_map(|pool| pool.servers.values());
            servers.any(|server| server.sessions > 0)
        };
        if reload && busy(&old) {
            self.old.insert(self.pid, old);
        }
        self.pid += 1;
        self.up = true;
    }
}
