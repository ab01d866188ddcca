//! The edge role: the driver's real decisions against the simulated HAProxy. What is retold here
//! is only the shell that the real driver has around them: sockets, files, reloads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use longshore_haproxy_driver::decide::{Decision, Worker, decide};
use longshore_haproxy_driver::intent::{EQUAL, Intent};
use longshore_haproxy_driver::name::BackendName;
use longshore_haproxy_driver::slots::{Holder, for_reload};
use longshore_haproxy_driver::snapshot::servers;
use longshore_haproxy_driver::versions::Version;
use longshore_haproxy_driver::{Action, Settings, SlotMap, Step};
use longshore_model::observe::{BackendObserved, ServerAdmin};
use longshore_model::routes::ServerMode;
use longshore_model::spec::RouteSpec;
use longshore_model::{ReplicaId, Routes, ServiceKey};
use longshore_wire::EdgeReport;

use crate::haproxy::{File, Haproxy, PARKED};

/// Looks within one step, as the driver.
const ROUNDS_MAX: usize = 8;

/// The driver's state. The slot map and HAProxy's file are on disk, the rest is lost with the
/// agent's process.
#[derive(Debug, Default)]
pub struct Driver {
    /// Which replica holds which slot; saved before commands are sent.
    pub slots: SlotMap,
    /// HAProxy takes `add server`.
    pub can_add: bool,
    /// Number of the look that is due.
    pub look: u64,
    /// Attempts that failed in a row.
    pub failures: u32,
    intent: Intent,
    acknowledged: u64,
    applied: Option<Arc<Routes>>,
    loaded: Option<BTreeMap<String, (ServiceKey, RouteSpec)>>,
    pid: u32,
    problems: Vec<String>,
}

/// Why a step ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// HAProxy does not run.
    Down,
    /// It does not answer.
    Silent,
    /// It does not take a command.
    NotTaken,
    /// The agent died in the middle.
    Died,
}

/// What a step did to HAProxy that somebody should judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A server takes requests from now on.
    Opened(SocketAddr, ReplicaId),
    /// A server was pointed elsewhere while it was not in maint.
    Moved(String),
}

/// One step of the edge role.
pub struct Pass<'a> {
    /// The process on this host.
    pub haproxy: &'a mut Haproxy,
    /// Now.
    pub now_ms: u64,
    /// Does something answer there?
    pub answers: &'a dyn Fn(SocketAddr) -> bool,
    /// Commands after which the agent dies.
    pub dies_after: Option<usize>,
    /// What was done.
    pub deeds: Vec<Deed>,
}

impl Driver {
    /// After a restart of the agent. A slot map that was lost is built again.
    #[must_use]
    pub fn restarted(&self, haproxy: &Haproxy, slots_lost: bool) -> Self {
        let slots = match slots_lost {
            false => self.slots.clone(),
            true => SlotMap {
                reload_owed: true,
                ..SlotMap::default()
            },
        };
        Self {
            loaded: (!slots.reload_owed).then(|| haproxy.file.structure.clone()),
            slots,
            can_add: self.can_add,
            look: self.look + 1,
            ..Self::default()
        }
    }

    /// Release of the HAProxy that it drives.
    fn release(&self) -> &'static str {
        if self.can_add { "2.6.12" } else { "2.4.22" }
    }

    /// Applies what is new, advances what is on its way, reads what is there. True: something is
    /// on its way.
    ///
    /// # Errors
    /// [`Trouble`]: try again later.
    pub fn step(
        &mut self,
        wanted: Option<&Arc<Routes>>,
        pass: &mut Pass<'_>,
    ) -> Result<(EdgeReport, bool), Trouble> {
        let Some(wanted) = wanted else {
            let busy = false;
            return self.read(pass).map(|report| (report, busy));
        };
        if self.applied.as_ref() != Some(wanted) {
            self.compile(wanted);
            #[cfg(feature = "mutants")]
            if longshore_model::mutant::is(longshore_model::Mutant::AckBeforeReadback) {
                self.acknowledged = self.intent.generation;
                self.applied = Some(Arc::clone(wanted));
                return self.read(pass).map(|report| (report, true));
            }
            self.converge(pass)?;
            self.acknowledged = self.intent.generation;
            self.applied = Some(Arc::clone(wanted));
        }
        let decision = self.converge(pass)?;
        let pending = decision.joining.len() + decision.leaving + decision.unplaced.len();
        Ok((self.read(pass)?, pending > 0))
    }

    /// It may be another process with another content when it is back.
    pub fn failed(&mut self) {
        self.applied = None;
        self.failures += 1;
    }

    fn compile(&mut self, routes: &Routes) {
        let names = self.slots.backends.keys();
        let served: BTreeSet<BackendName> = names
            .filter_map(|name| BackendName::parse(name))
            .map(|(service, port)| BackendName::of(&service, port))
            .collect();
        let reserved = Settings::default().reserved_ports();
        let (intent, errors) = Intent::compile(routes, &served, &reserved);
        self.problems = errors.iter().map(ToString::to_string).collect();
        self.intent = intent;
    }

    fn converge(&mut self, pass: &mut Pass<'_>) -> Result<Decision, Trouble> {
        let result = self.converge_now(pass);
        if result == Err(Trouble::Down) {
            self.prepare_start(pass);
        }
        result
    }

    /// HAProxy is down: its next start must find the present routes.
    fn prepare_start(&mut self, pass: &mut Pass<'_>) {
        let settings = Settings::default();
        let worker = Worker {
            running: None,
            version: None,
            vouched: &BTreeSet::new(),
            over: &BTreeSet::new(),
        };
        let decision = decide(&self.intent, &self.slots, worker, &settings);
        let mut slots = for_reload(&decision.slots, &settings);
        let file = self.render(&slots);
        if pass.haproxy.file != file {
            slots.reload_owed |= self.loaded.as_ref() != Some(&file.structure);
            self.slots = slots;
            pass.haproxy.file = file;
        }
    }

    fn converge_now(&mut self, pass: &mut Pass<'_>) -> Result<Decision, Trouble> {
        let mut decision = self.settle(pass)?;
        let file = self.render(&self.slots);
        let differs = self.loaded.as_ref() != Some(&file.structure);
        if self.slots.reload_owed || differs || !decision.reload.is_empty() {
            self.reload(pass);
            decision = self.settle(pass)?;
        }
        let file = self.render(&self.slots);
        if pass.haproxy.file != file {
            pass.haproxy.file = file;
        }
        self.drain_old(pass);
        Ok(decision)
    }

    fn reload(&mut self, pass: &mut Pass<'_>) {
        let mut slots = for_reload(&self.slots, &Settings::default());
        slots.reload_owed = false;
        let file = self.render(&slots);
        self.loaded = Some(file.structure.clone());
        pass.haproxy.file = file;
        pass.haproxy.start(pass.now_ms, true);
        self.pid = pass.haproxy.pid;
        self.slots = slots;
    }

    /// Workers of earlier configurations answer kept connections from the list that they had.
    fn drain_old(&self, pass: &mut Pass<'_>) {
        for (name, pool) in pass.haproxy.old.values_mut().flatten() {
            for server in pool.servers.values_mut() {
                let serves = self.intent.backends.iter().any(|(backend, intent)| {
                    backend.as_str() == name
                        && intent.servers.values().any(|s| {
                            s.mode == ServerMode::Serve
                                && SocketAddr::new(s.address, s.port) == server.address
                        })
                });
                if !serves && server.admin == ServerAdmin::Ready {
                    server.admin = ServerAdmin::Drain;
                }
            }
        }
    }

    fn settle(&mut self, pass: &mut Pass<'_>) -> Result<Decision, Trouble> {
        let mut sent: Vec<Step> = Vec::new();
        let mut vouched: Option<BTreeSet<(BackendName, ReplicaId)>> = None;
        for _ in 0..ROUNDS_MAX {
            self.look_at(pass)?;
            let running = pass.haproxy.look();
            let nobody = BTreeSet::new();
            let worker = Worker {
                running: Some(&running),
                version: Version::parse(self.release()),
                vouched: vouched.as_ref().unwrap_or(&nobody),
                // Nobody waits for servers there, so that nobody is let in again.
                over: &BTreeSet::new(),
            };
            let mut decision = decide(&self.intent, &self.slots, worker, &Settings::default());
            self.slots = decision.slots.clone();
            let out = |step: &Step| matches!(step.action, Action::Maint | Action::Park);
            if decision.steps.iter().any(|s| out(s) && sent.contains(s)) {
                return Err(Trouble::NotTaken);
            }
            decision.steps.retain(|step| !sent.contains(step));
            if !decision.steps.is_empty() {
                sent = std::mem::take(&mut decision.steps);
                self.send(&sent, pass)?;
            } else if vouched.is_none() && !decision.joining.is_empty() {
                let answered = self.probe(&decision.joining, pass);
                if answered.is_empty() {
                    return Ok(decision);
                }
                vouched = Some(answered);
            } else {
                return Ok(decision);
            }
        }
        Err(Trouble::NotTaken)
    }

    fn look_at(&mut self, pass: &Pass<'_>) -> Result<(), Trouble> {
        if !pass.haproxy.up {
            return Err(Trouble::Down);
        }
        if !pass.haproxy.answers(pass.now_ms) {
            return Err(Trouble::Silent);
        }
        if self.pid != 0 && self.pid != pass.haproxy.pid {
            self.loaded = Some(pass.haproxy.file.structure.clone());
        }
        self.pid = pass.haproxy.pid;
        Ok(())
    }

    fn send(&self, steps: &[Step], pass: &mut Pass<'_>) -> Result<(), Trouble> {
        for step in steps {
            if pass.dies_after == Some(0) {
                return Err(Trouble::Died);
            }
            pass.dies_after = pass.dies_after.map(|left| left - 1);
            if !pass.haproxy.command(step, pass.now_ms) {
                pass.deeds.push(Deed::Moved(step.wire()));
            }
            if step.action != Action::Ready {
                continue;
            }
            let pool = self.slots.backends.get(step.backend.as_str());
            let holder = pool.and_then(|pool| pool.get(&step.slot));
            let server = pass.haproxy.worker.get(step.backend.as_str());
            let server = server.and_then(|pool| pool.servers.get(&step.slot));
            if let (Some(Holder::Replica { id, .. }), Some(server)) = (holder, server) {
                pass.deeds.push(Deed::Opened(server.address, *id));
            }
        }
        Ok(())
    }

    fn probe(
        &self,
        joining: &BTreeSet<ReplicaId>,
        pass: &Pass<'_>,
    ) -> BTreeSet<(BackendName, ReplicaId)> {
        let backends = self.intent.backends.iter();
        let asked = backends.flat_map(|(name, backend)| {
            let servers = backend.servers.values();
            let joining = servers.filter(|s| joining.contains(&s.replica));
            let answers = joining.filter(|s| (pass.answers)(SocketAddr::new(s.address, s.port)));
            answers.map(move |s| (name.clone(), s.replica))
        });
        asked.collect()
    }

    fn render(&self, slots: &SlotMap) -> File {
        let mut file = File::default();
        for (name, backend) in &self.intent.backends {
            let structure = (backend.service.clone(), backend.route.clone());
            file.structure.insert(name.to_string(), structure);
            let pool = slots.backends.get(name.as_str());
            let servers = pool.into_iter().flatten().map(|(&slot, holder)| {
                let server = match holder {
                    Holder::Replica { id, .. } => backend.servers.get(id),
                    Holder::Leaving | Holder::Free => None,
                };
                let address = server.map_or(PARKED, |s| SocketAddr::new(s.address, s.port));
                let proven = matches!(holder, Holder::Replica { proven: true, .. });
                let enabled = proven && server.is_some_and(|s| s.mode == ServerMode::Serve);
                let weight = server.and_then(|server| backend.weight(server));
                (slot, (address, enabled, weight.unwrap_or(EQUAL)))
            });
            file.servers.insert(name.to_string(), servers.collect());
        }
        file
    }

    fn read(&mut self, pass: &Pass<'_>) -> Result<EdgeReport, Trouble> {
        self.look_at(pass)?;
        let haproxy = &*pass.haproxy;
        let check = Settings::default().check;
        let observed = servers(
            &self.intent,
            &self.slots,
            &check,
            &haproxy.look(),
            &haproxy.old_loads(),
            &BTreeSet::new(),
        );
        let mut backends: BTreeMap<ServiceKey, BackendObserved> = BTreeMap::new();
        for (name, pool) in &haproxy.worker {
            if let Some((service, _)) = BackendName::parse(name) {
                let sum = backends.entry(service).or_default();
                sum.requests_total += pool.requests;
                sum.errors_total += pool.errors;
                sum.rate += pool.rate(pass.now_ms);
                sum.queued += haproxy.waiting;
                let sessions = pool.servers.values().map(|s| s.sessions).sum::<u32>();
                sum.sessions += haproxy.waiting + sessions;
                sum.response_ms = sum.response_ms.max(pool.response_ms);
            }
        }
        Ok(EdgeReport {
            routes_generation: self.acknowledged,
            servers: observed,
            backends,
            stats_ago_ms: Some(0),
            problem: (!self.problems.is_empty()).then(|| self.problems.join("; ")),
            haproxy_version: self.release().into(),
            refused: BTreeMap::new(),
            sharers: BTreeMap::new(),
            certificates: None,
            repairs: Vec::new(),
        })
    }
}
