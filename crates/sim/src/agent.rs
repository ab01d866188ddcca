//! The agent's process: the real reconciler core and the real law of the ledger, with the
//! simulation's clock, engine and wires around them.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::ReplicaState;
use longshore_model::observe::EngineState;
use longshore_wire::{NodeReport, ReplicaReport};
use node_agent::edge::is_urgent;
use node_agent::ledger::Accepted;
use node_agent::reconcile::action::{Action, Done};
use node_agent::reconcile::{AgentMs, View};

use crate::edge::{Deed, Pass, Trouble};
use crate::event::{AgentEvent, Conn, Down, Effect, Event, HostNo, Up};
use crate::haproxy::Haproxy;
use crate::host::{Agent, Host, Samples};
use crate::scenario::Fault;
use crate::world::World;

/// The real loop's times.
const BUSY_LIST_MS: u64 = 1_000;
const IDLE_LIST_MS: u64 = 5_000;
const LIST_SPACING_MS: u64 = 20;
const FOLLOW_UPS_MS: [u64; 3] = [50, 250, 1_000];
const REPORT_MS: u64 = 1_000;
const SILENCE_MS: u64 = 10_000;
const EDGE_BUSY_MS: u64 = 100;
const EDGE_IDLE_MS: u64 = 1_000;

impl Host {
    /// The agent's clock.
    #[must_use]
    pub fn agent_ms(&self, now_ms: u64) -> AgentMs {
        self.agent.clock_ms + i64::try_from(now_ms).unwrap_or(i64::MAX)
    }
}

impl World {
    pub(crate) fn agent_later(&mut self, host: HostNo, after_ms: u64, event: AgentEvent) {
        let epoch = self.hosts[host].agent.epoch;
        self.queue
            .push(self.now + after_ms, Event::Agent(host, epoch, event));
    }

    /// The process starts: what is on disk is all that it knows.
    pub(crate) fn agent_up(&mut self, host: HostNo) {
        let lost = self.scenario.uses(Fault::LedgerLost) && self.dice.one_in(5);
        let slots_lost = self.scenario.uses(Fault::LedgerLost) && self.dice.one_in(8);
        let at = &mut self.hosts[host];
        if at.agent.up || !at.power {
            return;
        }
        if lost {
            at.book = node_agent::ledger::Book::default();
        }
        let driver = at.agent.driver.restarted(&at.haproxy, slots_lost);
        let clock_ms = -i64::try_from(self.now).unwrap_or(0);
        let epoch = at.agent.epoch + 1;
        at.agent = Agent::new(
            (&at.id, at.address),
            epoch,
            at.book.failed.clone(),
            clock_ms,
            driver,
        );
        at.agent.up = true;
        if let Some(assignment) = at.book.assignment.clone() {
            at.agent.core.keep(at.book.unclaimed.clone());
            at.agent.core.assign(&assignment);
        }
        say!(
            self,
            "{} agent up{}",
            self.hosts[host].id,
            if lost { " without its ledger" } else { "" }
        );
        self.truth.ledger_lost(host, lost);
        self.agent_pass(host);
        self.agent_later(host, 1, AgentEvent::Dial);
        self.agent_later(
            host,
            2,
            AgentEvent::Edge(self.hosts[host].agent.driver.look),
        );
    }

    /// The process ends here and now; containers and HAProxy go on.
    pub(crate) fn agent_dies(&mut self, host: HostNo, back_after_ms: u64) {
        let at = &mut self.hosts[host];
        if !at.agent.up {
            return;
        }
        at.agent.up = false;
        at.agent.epoch += 1;
        let (conn, power) = (at.agent.conn.take(), at.power);
        say!(self, "{} agent dies", self.hosts[host].id);
        if let Some(conn) = conn.filter(|_| power) {
            self.send_up(conn, Up::Close);
        }
        if power {
            self.queue
                .push(self.now + back_after_ms, Event::AgentUp(host));
        }
    }

    pub(crate) fn agent(&mut self, host: HostNo, epoch: u32, event: AgentEvent) {
        let agent = &mut self.hosts[host].agent;
        if agent.epoch != epoch || !agent.up {
            return;
        }
        if agent.frozen_until > self.now {
            let at_ms = agent.frozen_until;
            return self.queue.push(at_ms, Event::Agent(host, epoch, event));
        }
        let now_ms = self.hosts[host].agent_ms(self.now);
        let agent = &mut self.hosts[host].agent;
        match event {
            AgentEvent::Wake(wake) if wake != agent.wake => return,
            AgentEvent::Wake(_) => {}
            AgentEvent::Look => {
                agent.event_at = Some(self.now);
                agent.core.look();
            }
            AgentEvent::Done(done) => agent.core.done(*done, now_ms),
            AgentEvent::Listed(began, result) => {
                agent.listing = false;
                agent.core.listed(began, result, now_ms);
            }
            AgentEvent::Report(report) => return self.report(host, report),
            AgentEvent::Dial => return self.agent_dials(host),
            AgentEvent::Silence(conn) => return self.silence(host, conn),
            AgentEvent::Edge(look) => return self.edge_pass(host, look),
        }
        self.agent_pass(host);
    }

    /// One turn of the reconciler's loop.
    pub(crate) fn agent_pass(&mut self, host: HostNo) {
        if !self.hosts[host].worker {
            return;
        }
        let now_ms = self.hosts[host].agent_ms(self.now);
        for action in self.hosts[host].agent.core.plan(now_ms) {
            self.carry_out(host, action);
        }
        let now = self.now;
        let agent = &mut self.hosts[host].agent;
        let list_at = next_list(agent, now);
        let mut began = None;
        if !agent.listing && list_at <= now {
            agent.listing = true;
            agent.listed_at = Some(now);
            began = Some(agent.core.begin_listing());
        }
        let snapshot = agent.core.snapshot();
        let changed = snapshot != agent.snapshot;
        agent.snapshot = snapshot;
        let failed = agent.core.failed();
        if failed != agent.failed {
            agent.failed.clone_from(&failed);
            if !self.hosts[host].ledger_full {
                self.hosts[host].book.failed = failed;
            }
        }
        if let Some(began) = began {
            let after_ms = self.dice.between(2, 8);
            self.ask_engine(host, after_ms, Effect::List(began));
        }
        if changed {
            self.hosts[host].agent.node_lane.changed = true;
            self.report_soon(host);
        }
        let agent = &mut self.hosts[host].agent;
        let timed = agent.core.next_wake_ms(now_ms);
        let timed = timed.map(|at| now + u64::try_from(at - now_ms).unwrap_or(0));
        let listing = (!agent.listing).then(|| next_list(agent, now));
        agent.wake += 1;
        let wake = AgentEvent::Wake(agent.wake);
        if let Some(at_ms) = [timed, listing].into_iter().flatten().min() {
            self.agent_later(host, at_ms.saturating_sub(now).max(1), wake);
        }
    }

    fn carry_out(&mut self, host: HostNo, action: Action) {
        let (quick_ms, slow_ms) = (self.dice.between(1, 6), self.dice.between(20, 80));
        match action {
            Action::Launch { launch, existing } => match existing {
                None => self.ask_engine(host, slow_ms, Effect::Create(launch)),
                Some(id) => {
                    let start = Effect::Start(launch.replica.id, id);
                    self.ask_engine(host, slow_ms, start);
                }
            },
            Action::Pull { image } => {
                let after_ms = self.dice.between(100, 900);
                self.ask_engine(host, after_ms, Effect::Pull(image));
            }
            Action::Stop {
                replica,
                container,
                grace_ms,
                ..
            } => self.ask_engine(host, quick_ms, Effect::Stop(replica, container, grace_ms)),
            Action::Inspect { replica, container } => {
                self.ask_engine(host, quick_ms, Effect::Inspect(replica, container));
            }
            Action::Pause { replica, container } => {
                self.ask_engine(host, quick_ms, Effect::Pause(replica, container));
            }
            Action::Unpause { replica, container } => {
                self.ask_engine(host, quick_ms, Effect::Unpause(replica, container));
            }
            Action::Probe {
                replica,
                container,
                proof,
                ..
            }
            | Action::Recheck {
                replica,
                container,
                proof,
                ..
            } => {
                let asked = self.hosts[host].engine.containers.get(&container);
                let result = match asked.is_some_and(|c| c.listens(self.now)) {
                    true => Ok(()),
                    false => Err("connection refused".to_owned()),
                };
                let done = Done::Probed {
                    replica,
                    container,
                    proof,
                    result,
                };
                self.agent_later(host, quick_ms, AgentEvent::Done(Box::new(done)));
            }
        }
    }

    fn report_soon(&mut self, host: HostNo) {
        let now = self.now;
        let agent = &mut self.hosts[host].agent;
        agent.report += 1;
        let node_at = agent.node_lane.at();
        let at_ms = node_at.min(agent.edge_lane.at()).max(now);
        let report = AgentEvent::Report(agent.report);
        self.agent_later(host, at_ms - now, report);
    }

    fn report(&mut self, host: HostNo, report: u64) {
        if self.hosts[host].agent.report != report {
            return;
        }
        let now = self.now;
        let (edge, worker) = (self.hosts[host].edge, self.hosts[host].worker);
        let agent = &mut self.hosts[host].agent;
        let conn = agent.conn.filter(|_| agent.welcomed);
        if agent.node_lane.at() <= now {
            let regular = agent.node_lane.due <= now;
            agent.node_lane.last = Some(now);
            agent.node_lane.changed = false;
            if regular {
                agent.node_lane.due = now + REPORT_MS;
            }
            let settled = !worker || agent.snapshot.settled;
            if let Some(conn) = conn.filter(|_| settled) {
                let report = self.node_report(host, regular);
                self.send_up(conn, Up::Node(Box::new(report)));
            }
        }
        let agent = &mut self.hosts[host].agent;
        if !edge {
            agent.edge_lane.due = u64::MAX;
            agent.edge_lane.changed = false;
        } else if agent.edge_lane.at() <= now {
            agent.edge_lane.last = Some(now);
            agent.edge_lane.changed = false;
            agent.edge_lane.due = now + REPORT_MS;
            if let Some(conn) = conn {
                let mut report = agent.edge_report.clone();
                agent.edge_sent = Some(report.clone());
                report.stats_ago_ms = agent.edge_read_at.map(|at| now - at);
                let read_at = agent.edge_read_at.unwrap_or(0);
                self.send_up(conn, Up::Edge(Box::new(report), read_at));
            }
        }
        self.report_soon(host);
    }

    fn node_report(&mut self, host: HostNo, regular: bool) -> NodeReport {
        self.look_at_volumes(host);
        let now_ms = self.hosts[host].agent_ms(self.now);
        let views = self.hosts[host].agent.snapshot.replicas.clone();
        let mut replicas = Vec::with_capacity(views.len());
        for view in &views {
            self.judge_said(host, view);
            let milli = self.replica_milli(host, view, regular);
            let ago = |at: AgentMs| u64::try_from(now_ms - at).unwrap_or(0);
            replicas.push(ReplicaReport {
                id: view.id,
                state: view.state,
                reason: view.reason.clone(),
                container_id: view.container.clone(),
                started_ago_ms: view.started_ms.map(ago),
                healthy_ago_ms: view.healthy_ms.map(ago),
                restarts: view.restarts,
                memory_bytes: 1 << 20,
                memory_sample_bytes: regular.then_some(1 << 20),
                cpu_milli: milli,
                exit: view.exit,
                exposed: BTreeSet::new(),
            });
        }
        let load = self.hosts[host].load;
        let cpu_ratio = self.sample(host, load).filter(|_| regular);
        let snapshot = &self.hosts[host].agent.snapshot;
        NodeReport {
            assignment_generation: snapshot.generation,
            engine: snapshot.engine,
            cpu_ratio,
            memory_used_bytes: 1 << 30,
            replicas,
            images: snapshot.images.clone(),
            capacity: crate::control::capacity(&self.hosts[host]),
            problems: Vec::new(),
            advice: Vec::new(),
            time_ms: None,
            engine_version: String::new(),
        }
    }

    fn replica_milli(&mut self, host: HostNo, view: &View, regular: bool) -> Option<f64> {
        let runs = view.state >= ReplicaState::Starting && view.state < ReplicaState::Failed;
        if !regular || !runs || view.container.is_none() {
            return None;
        }
        let milli = 100.0 * self.replica_load;
        self.sample(host, milli)
    }

    /// A measurement, as this host's samples come out.
    fn sample(&mut self, host: HostNo, good: f64) -> Option<f64> {
        match self.hosts[host].samples {
            Samples::Good => Some(good),
            Samples::Missing => None,
            Samples::Bad => {
                self.dice
                    .pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -0.0])
            }
        }
    }

    fn agent_dials(&mut self, host: HostNo) {
        if self.hosts[host].agent.conn.is_some() {
            return;
        }
        let way = self.hosts[host].way;
        if way.up_cut || way.down_cut {
            let after_ms = self.dice.between(500, 7_000);
            return self.agent_later(host, after_ms, AgentEvent::Dial);
        }
        let conn = self.dial(host);
        let now = self.now;
        let agent = &mut self.hosts[host].agent;
        agent.conn = Some(conn);
        agent.welcomed = false;
        agent.heard_at = now;
        self.send_up(conn, Up::Hello);
        self.agent_later(host, SILENCE_MS, AgentEvent::Silence(conn));
    }

    fn silence(&mut self, host: HostNo, conn: Conn) {
        let agent = &self.hosts[host].agent;
        if agent.conn != Some(conn) {
            return;
        }
        let quiet_ms = self.now - agent.heard_at;
        if quiet_ms < SILENCE_MS {
            let after_ms = SILENCE_MS - quiet_ms;
            return self.agent_later(host, after_ms, AgentEvent::Silence(conn));
        }
        self.send_up(conn, Up::Close);
        self.session_over(host);
    }

    /// The agent's end is closed; it dials again after a wait with full jitter.
    pub(crate) fn session_over(&mut self, host: HostNo) {
        let now = self.now;
        let agent = &mut self.hosts[host].agent;
        agent.conn = None;
        if agent.welcomed && now - agent.session_at > 10_000 {
            agent.dials = 0;
        }
        agent.welcomed = false;
        let bound_ms = (100 << agent.dials.min(7)).min(10_000);
        agent.dials += 1;
        let wait_ms = self.dice.between(0, bound_ms);
        self.agent_later(host, wait_ms, AgentEvent::Dial);
    }

    /// A message has reached the agent's host.
    pub(crate) fn told(&mut self, conn: Conn, message: Down) {
        let host = self.wires[&conn].host;
        let agent = &mut self.hosts[host].agent;
        if !agent.up || agent.conn != Some(conn) {
            return;
        }
        if agent.frozen_until > self.now {
            let at_ms = agent.frozen_until;
            return self.queue.push(at_ms, Event::ToAgent(conn, message));
        }
        agent.heard_at = self.now;
        match message {
            Down::Welcome => {
                agent.welcomed = true;
                agent.session_at = self.now;
                agent.node_lane.changed = true;
                agent.node_lane.due = self.now;
                agent.edge_lane.due = self.now;
                self.report_soon(host);
            }
            Down::Ping(nonce) => self.send_up(conn, Up::Echo(nonce)),
            Down::Close => self.session_over(host),
            Down::Assign(..) | Down::Route(..) => self.command(host, &message),
        }
    }

    /// A command reaches the ledger.
    pub(crate) fn command(&mut self, host: HostNo, message: &Down) {
        self.keep_for_echo(host, message);
        let at = &mut self.hosts[host];
        let mut book = at.book.clone();
        let taken = match message {
            Down::Assign(fence, a) if at.worker => book.take_assignment(*fence, Arc::clone(a)),
            Down::Route(fence, r) if at.edge => book.take_routes(*fence, Arc::clone(r)),
            _ => return,
        };
        // What does not fit on the disk is not obeyed.
        let fits = !at.ledger_full || at.book == book;
        let (accepted, have) = match taken {
            Ok(accepted) if fits => (Some(accepted), 0),
            Ok(_) => (None, 0),
            Err(refusal) => (None, refusal.have_generation),
        };
        let Some(accepted) = accepted else {
            let (conn, fence) = (at.agent.conn, at.book.fence);
            say!(self, "{} refuses {}", self.hosts[host].id, word(message));
            if let Some(conn) = conn {
                let routes = matches!(message, Down::Route(..));
                self.send_up(conn, Up::Refused(routes, fence, have));
            }
            return;
        };
        self.judge_obeyed(host, message);
        let at = &mut self.hosts[host];
        at.book = book;
        if accepted == Accepted::Same {
            return;
        }
        say!(self, "{} obeys {}", self.hosts[host].id, word(message));
        if let Down::Assign(_, assignment) = message {
            let at = &mut self.hosts[host];
            at.agent.core.keep(at.book.unclaimed.clone());
            at.agent.core.assign(assignment);
            self.agent_pass(host);
        } else {
            let agent = &mut self.hosts[host].agent;
            agent.driver.look += 1;
            let look = AgentEvent::Edge(agent.driver.look);
            self.agent_later(host, 1, look);
        }
    }

    /// One turn of the edge role's loop.
    fn edge_pass(&mut self, host: HostNo, look: u64) {
        if !self.hosts[host].edge || self.hosts[host].agent.driver.look != look {
            return;
        }
        let dies = self.scenario.uses(Fault::AgentCrash) && !self.calm && self.dice.one_in(300);
        let dies_after = dies.then(|| self.dice.below(6));
        let mut driver = std::mem::take(&mut self.hosts[host].agent.driver);
        let mut haproxy: Haproxy = std::mem::take(&mut self.hosts[host].haproxy);
        let pid = haproxy.pid;
        let wanted = self.hosts[host].book.routes.clone();
        let now_ms = self.now;
        let answers = |address| self.answers(host, address);
        let mut pass = Pass {
            haproxy: &mut haproxy,
            now_ms,
            answers: &answers,
            dies_after,
            deeds: Vec::new(),
        };
        let result = driver.step(wanted.as_ref(), &mut pass);
        let deeds: Vec<Deed> = std::mem::take(&mut pass.deeds);
        // Each worker has checks of its own.
        let reloaded = haproxy.pid != pid;
        self.hosts[host].agent.driver = driver;
        self.hosts[host].haproxy = haproxy;
        if reloaded {
            self.next_checks(host);
        }
        self.judge_deeds(host, &deeds);
        let wait_ms = match result {
            Ok((report, busy)) => {
                self.hosts[host].agent.driver.failures = 0;
                self.judge_acknowledged(host, report.routes_generation);
                self.hosts[host].agent.edge_read_at = Some(self.now);
                self.edge_says(host, report);
                if busy { EDGE_BUSY_MS } else { EDGE_IDLE_MS }
            }
            Err(Trouble::Died) => {
                let after_ms = self.dice.between(500, 3_000);
                return self.agent_dies(host, after_ms);
            }
            Err(trouble) => {
                let driver = &mut self.hosts[host].agent.driver;
                driver.failed();
                let bound_ms = (100 << driver.failures.min(5)).min(2_000);
                let mut report = self.hosts[host].agent.edge_report.clone();
                report.problem = Some(format!("{trouble:?}"));
                report.servers.clear();
                self.edge_says(host, report);
                // An answer that does not come is waited for.
                let silent_ms = if trouble == Trouble::Silent { 2_000 } else { 0 };
                silent_ms + self.dice.between(100, bound_ms)
            }
        };
        let driver = &mut self.hosts[host].agent.driver;
        driver.look += 1;
        let look = AgentEvent::Edge(driver.look);
        self.agent_later(host, wait_ms, look);
    }

    fn edge_says(&mut self, host: HostNo, report: longshore_wire::EdgeReport) {
        let agent = &mut self.hosts[host].agent;
        let urgent = agent
            .edge_sent
            .as_ref()
            .is_none_or(|sent| is_urgent(sent, &report));
        agent.edge_report = report;
        if urgent && !agent.edge_lane.changed {
            agent.edge_lane.changed = true;
            self.report_soon(host);
        }
    }
}

fn next_list(agent: &Agent, now: u64) -> u64 {
    let Some(last) = agent.listed_at else {
        return now;
    };
    if agent.core.wants_list() {
        return last + LIST_SPACING_MS;
    }
    let idle = !agent.core.is_busy() && agent.snapshot.engine == EngineState::Ok;
    let regular = last + if idle { IDLE_LIST_MS } else { BUSY_LIST_MS };
    let follow_up = agent.event_at.and_then(|at| {
        let looks = FOLLOW_UPS_MS.into_iter().map(|after| at + after);
        looks.filter(|look| *look > last).min()
    });
    follow_up.map_or(regular, |look| look.min(regular))
}

fn word(message: &Down) -> String {
    match message {
        Down::Assign(fence, a) => format!("assignment {} of term {}", a.generation, fence.term),
        Down::Route(fence, r) => format!("routes {} of term {}", r.generation, fence.term),
        Down::Welcome | Down::Ping(_) | Down::Close => String::new(),
    }
}
