//! The world: everything there is, and the loop that lets it happen.

use std::collections::BTreeMap;

use controller::store::{Meta, Repository};
use longshore_model::NodeId;

use crate::calm::Calm;
use crate::control::Control;
use crate::dice::Dice;
use crate::event::{Conn, Down, Event, HostNo};
use crate::haproxy::Haproxy;
use crate::host::Host;
use crate::mutations::Mutations;
use crate::policies::Outside;
use crate::queue::Queue;
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::traffic::Traffic;
use crate::truth::Truth;
use crate::users::Users;
use crate::wire::{Held, Wire};

/// A run that needs more events than this does not end by itself: that is a violation too.
const EVENTS_MAX: u64 = 3_000_000;
/// Between two rounds of checks by an idle HAProxy.
const CHECKS_MS: u64 = 100;

/// One simulated cluster.
pub struct World {
    /// What this seed is.
    pub scenario: Scenario,
    /// Milliseconds since the beginning.
    pub now: u64,
    /// What happened.
    pub trace: Trace,
    /// What is broken.
    pub violations: Vec<String>,
    /// Events so far.
    pub events: u64,
    /// Planning runs so far.
    pub runs: u64,
    /// Plans committed so far.
    pub commits: u64,
    /// Requests.
    pub traffic: Traffic,
    /// Writes of users.
    pub mutations: Mutations,
    /// The calm phase.
    pub rest: Calm,
    pub(crate) dice: Dice,
    pub(crate) queue: Queue<Event>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) control: Control,
    pub(crate) users: Users,
    pub(crate) truth: Truth,
    pub(crate) wires: BTreeMap<Conn, Wire>,
    pub(crate) held: Vec<Held>,
    pub(crate) conns: u64,
    pub(crate) sessions: u64,
    pub(crate) cuts: BTreeMap<(HostNo, HostNo), u64>,
    pub(crate) echoes: Vec<(HostNo, Down)>,
    pub(crate) replica_load: f64,
    pub(crate) outside: Outside,
    pub(crate) waiting: f64,
    pub(crate) pace_ms: u64,
    pub(crate) calm: bool,
    pub(crate) put_right: bool,
}

impl World {
    /// A cluster that was just installed.
    #[must_use]
    pub fn new(seed: u64, print: bool) -> Self {
        let mut dice = Dice::new(seed);
        let scenario = Scenario::new(seed, &mut dice);
        let mut world = Self {
            scenario,
            now: 0,
            trace: Trace::new(print),
            violations: Vec::new(),
            events: 0,
            runs: 0,
            commits: 0,
            traffic: Traffic::default(),
            mutations: Mutations::default(),
            rest: Calm::default(),
            dice,
            queue: Queue::default(),
            hosts: Vec::new(),
            control: Control::default(),
            users: Users::default(),
            truth: Truth::default(),
            wires: BTreeMap::new(),
            held: Vec::new(),
            conns: 0,
            sessions: 0,
            cuts: BTreeMap::new(),
            echoes: Vec::new(),
            replica_load: crate::users::TARGET,
            outside: Outside::Well,
            waiting: 1.0,
            pace_ms: 120,
            calm: false,
            put_right: false,
        };
        world.install();
        world
    }

    fn install(&mut self) {
        let scenario = self.scenario.clone();
        say!(self, "seed {} {scenario:?}", scenario.seed);
        let workers = (1..=scenario.workers).map(|n| (format!("w{n}"), true, false));
        let both = self.dice.one_in(4);
        let edges = (1..=scenario.edges).map(|n| (format!("e{n}"), both && n == 1, true));
        for (number, (name, worker, edge)) in workers.chain(edges).enumerate() {
            let number = u8::try_from(number + 1).unwrap_or(u8::MAX);
            if let Ok(id) = NodeId::new(name) {
                let mut host = Host::new(id, number, worker, edge);
                host.agent.driver.can_add = self.dice.one_in(2);
                self.hosts.push(host);
            }
        }
        let meta = Meta::new("sim".into(), "0.0.0.0:7443".into(), Vec::new());
        if let Err(error) = Repository::create(&*self.control.store, &meta) {
            self.violation(&format!("no cluster: {error}"));
        }
        self.invent_services();
        self.controller_up();
        for host in 0..self.hosts.len() {
            self.join(host);
            if self.hosts[host].edge {
                self.haproxy_up(host);
            }
            let wait_ms = self.dice.between(1, 300);
            self.queue.push(wait_ms, Event::AgentUp(host));
        }
        let chaos_ms = self.scenario.chaos_ms;
        let first_ms = self.dice.between(10, 12_000);
        self.queue.push(50, Event::User);
        self.queue.push(first_ms, Event::Inject);
        self.queue.push(500, Event::Load);
        self.queue.push(1_000, Event::Request);
        self.queue.push(chaos_ms, Event::Calm);
        if self.scenario.policies {
            self.queue.push(700, Event::Ask);
        }
    }

    /// Lets everything happen until the cluster is at rest or an invariant is broken.
    pub fn run(&mut self) {
        while self.violations.is_empty() && !self.rest.over {
            let Some((at_ms, event)) = self.queue.pop() else {
                return self.violation("nothing happens any more");
            };
            self.now = at_ms;
            self.events += 1;
            if self.events > EVENTS_MAX {
                return self.violation("too many events");
            }
            self.tell_time();
            self.happen(event);
        }
        self.last_judgement();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ControllerUp => self.controller_up(),
            Event::Controller(epoch, event) => self.controller(epoch, event),
            Event::ToController(conn, message) => self.arrive_up(conn, message),
            Event::ToAgent(conn, message) => self.arrive_down(conn, message),
            Event::AgentUp(host) => self.agent_up(host),
            Event::Agent(host, epoch, event) => self.agent(host, epoch, event),
            Event::HostUp(host) => self.host_up(host),
            Event::Engine(host, boot, epoch, effect) => self.engine(host, boot, epoch, effect),
            Event::Exit(host, id, run, end) => self.exit(host, &id, run, end),
            Event::Checks(host, pid) => self.checks(host, pid),
            Event::HaproxyUp(host) => self.haproxy_up(host),
            Event::Request => self.request(),
            Event::Answered(number) => self.answered(number),
            Event::Inject => self.inject(),
            Event::Flap(host, left) => self.flap(host, left),
            Event::Heal(fault, host, other) => self.heal(fault, host, other),
            Event::User => self.user(),
            Event::Load => self.load(),
            Event::Ask => self.ask_outside(),
            Event::Calm => self.begin_calm(),
            Event::Watch => self.watch(),
        }
    }

    fn last_judgement(&mut self) {
        let Traffic {
            sent, ok, failed, ..
        } = self.traffic;
        let open = self.traffic.open();
        if sent != ok + failed + open {
            self.violation(&format!(
                "{sent} requests, {ok} answered, {failed} failed, {open} open"
            ));
        }
        self.judge_mutations();
        say!(
            self,
            "end: {} events, {sent} requests, {failed} failed",
            self.events
        );
    }

    /// First ledger.
    pub(crate) fn judge_mutations(&mut self) {
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        if let Some(wrong) = self.mutations.shown(&cluster.desired()) {
            self.violation(&wrong);
        }
    }

    pub(crate) fn next_checks(&mut self, host: HostNo) {
        let pid = self.hosts[host].haproxy.pid;
        self.queue
            .push(self.now + CHECKS_MS, Event::Checks(host, pid));
    }

    /// HAProxy asks those of its servers whose time has come.
    fn checks(&mut self, host: HostNo, pid: u32) {
        if self.hosts[host].haproxy.pid != pid || !self.hosts[host].haproxy.up {
            return;
        }
        let now = self.now;
        let until = self.hosts[host].haproxy.frozen_until;
        if until > now {
            return self.queue.push(until, Event::Checks(host, pid));
        }
        let mut worker = std::mem::take(&mut self.hosts[host].haproxy.worker);
        for server in worker.values_mut().flat_map(|p| p.servers.values_mut()) {
            let asked = server.checked
                && server.admin != longshore_model::observe::ServerAdmin::Maint
                && server.check_at <= now;
            if asked {
                let passed = self.answers(host, server.address);
                Haproxy::checked(server, passed, now);
            }
        }
        self.hosts[host].haproxy.worker = worker;
        self.next_checks(host);
    }
}
