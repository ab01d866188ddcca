//! Faults: which, where, how long, and their end.

use std::sync::Arc;

use crate::control::CrashPoint;
use crate::engine::Mood;
use crate::event::{Down, End, Event, HostNo};
use crate::host::Samples;
use crate::scenario::Fault;
use crate::store::Disk;
use crate::world::World;
use longshore_model::observe::ServerAdmin;

/// So often a host comes and goes.
const FLAPS: u32 = 4;
/// Commands that may be said again.
const ECHOES_MAX: usize = 64;

impl World {
    /// A fault, and another one later.
    pub(crate) fn inject(&mut self) {
        if self.calm {
            return;
        }
        let wait_ms = self.dice.between(100, 2 * self.scenario.fault_every_ms);
        self.queue.push(self.now + wait_ms, Event::Inject);
        let faults = self.scenario.faults.clone();
        let Some(fault) = self.dice.pick(&faults) else {
            return;
        };
        let host = self.dice.below(self.hosts.len());
        let other = self.dice.below(self.hosts.len());
        let for_ms = match self.dice.below(3) {
            0 => self.dice.between(50, 1_500),
            1 => self.dice.between(1_000, 6_000),
            _ => self.dice.between(4_000, 25_000),
        };
        say!(
            self,
            "fault {fault:?} at {} for {for_ms} ms",
            self.hosts[host].id
        );
        self.strike(fault, host, other, for_ms);
        self.queue
            .push(self.now + for_ms, Event::Heal(fault, host, other));
    }

    fn strike(&mut self, fault: Fault, host: HostNo, other: HostNo, for_ms: u64) {
        let until = self.now + for_ms.min(15_000);
        match fault {
            Fault::ControllerCrash => self.controller_fault(for_ms),
            Fault::ControllerFreeze if self.control.process.is_some() => {
                self.control.frozen_until = until;
            }
            Fault::ControllerFreeze => {}
            Fault::ControllerClock => {
                let jump = i64::try_from(self.dice.between(0, 7_200_000)).unwrap_or(0);
                self.control.ahead_ms = jump - 3_600_000;
            }
            Fault::StoreFull => self.control.store.set(Disk::Full),
            Fault::StoreFails => {
                let after = self.dice.one_in(2);
                let how = if after {
                    Disk::FailsAfter
                } else {
                    Disk::FailsBefore
                };
                self.control.store.set(how);
            }
            Fault::AgentCrash | Fault::LedgerLost => self.agent_dies(host, for_ms.min(8_000)),
            Fault::AgentFreeze => self.hosts[host].agent.frozen_until = until,
            Fault::AgentClock => {
                let jump = self.dice.between(1, 60_000);
                self.hosts[host].agent.clock_ms += i64::try_from(jump).unwrap_or(0);
            }
            Fault::LedgerFull => self.hosts[host].ledger_full = true,
            Fault::HostPower => self.power_lost(host, for_ms),
            Fault::Flap => self.flap(host, FLAPS),
            Fault::EngineDown
            | Fault::EngineStuck
            | Fault::EngineSlow
            | Fault::EngineRestart
            | Fault::EngineFull
            | Fault::ImageGone
            | Fault::PortTaken => self.engine_fault(fault, host),
            Fault::ContainerCrash
            | Fault::ContainerOom
            | Fault::ContainerSick
            | Fault::ContainerRemoved => self.container_fault(fault, host, until),
            Fault::ControlCut => {
                let shape = self.dice.below(3);
                let way = &mut self.hosts[host].way;
                way.up_cut |= shape != 1;
                way.down_cut |= shape != 0;
            }
            Fault::ControlReset => self.reset(host),
            Fault::ControlSlow => self.hosts[host].way.slow_ms = self.dice.between(20, 1_500),
            Fault::StaleCommand => self.say_again(host),
            Fault::DataCut => {
                self.cuts.entry((host, other)).or_insert(self.now);
                self.cut_way(host, other);
            }
            Fault::HaproxyCrash
            | Fault::HaproxyFreeze
            | Fault::HaproxyReload
            | Fault::HaproxyHand => self.haproxy_fault(fault, host, until),
            Fault::SamplesBad => self.hosts[host].samples = Samples::Bad,
            Fault::SamplesMissing => self.hosts[host].samples = Samples::Missing,
        }
    }

    fn engine_fault(&mut self, fault: Fault, host: HostNo) {
        match fault {
            Fault::EngineDown => {
                self.hosts[host].engine.mood = Mood::Down;
                self.events_end(host);
            }
            Fault::EngineStuck => self.hosts[host].engine.mood = Mood::Stuck,
            Fault::EngineSlow => self.hosts[host].engine.slow = self.dice.between(2, 20),
            Fault::EngineRestart => {
                self.hosts[host].engine.mood = Mood::Down;
                self.end_all(host);
                self.events_end(host);
            }
            Fault::EngineFull => self.hosts[host].engine.full = true,
            Fault::ImageGone => {
                self.hosts[host].engine.images.clear();
                self.hosts[host].engine.registry_away = true;
            }
            Fault::PortTaken => {
                let config = &self.scenario.planner;
                let (low, high) = (config.port_min.into(), config.port_max.into());
                let port = self.dice.between(low, high);
                let port = u16::try_from(port).unwrap_or(config.port_min);
                self.hosts[host].engine.taken.insert(port);
            }
            _ => {}
        }
    }

    /// The engine's stream of events breaks: its agent looks what is there.
    fn events_end(&mut self, host: HostNo) {
        self.agent_later(host, 2, crate::event::AgentEvent::Look);
    }

    fn controller_fault(&mut self, for_ms: u64) {
        self.control.crash = match self.dice.below(4) {
            0 => {
                let back_after_ms = for_ms.clamp(200, 12_000);
                return self.controller_dies(back_after_ms);
            }
            1 => Some(CrashPoint::BeforeWrite),
            2 => Some(CrashPoint::AfterWrite),
            _ => Some(CrashPoint::BeforeExecute),
        };
    }

    fn power_lost(&mut self, host: HostNo, for_ms: u64) {
        if !self.hosts[host].power {
            return;
        }
        self.hosts[host].power = false;
        self.hosts[host].boot += 1;
        self.end_all(host);
        self.agent_dies(host, 0);
        self.hosts[host].haproxy.up = false;
        self.drop_edge_sessions(host);
        let back_after_ms = for_ms.max(3_000);
        self.queue
            .push(self.now + back_after_ms, Event::HostUp(host));
    }

    /// A host loses its power, soon has it again, and so on.
    pub(crate) fn flap(&mut self, host: HostNo, left: u32) {
        if self.calm || left == 0 {
            return;
        }
        let off_ms = self.dice.between(6_000, 12_000);
        let on_ms = self.dice.between(4_000, 7_000);
        self.power_lost(host, off_ms);
        let next = Event::Flap(host, left - 1);
        self.queue.push(self.now + off_ms + on_ms, next);
    }

    /// A host has power again: engine, agent and HAProxy start.
    pub(crate) fn host_up(&mut self, host: HostNo) {
        if self.hosts[host].power {
            return;
        }
        say!(self, "{} has power", self.hosts[host].id);
        self.hosts[host].power = true;
        let wait_ms = self.dice.between(100, 2_000);
        self.queue.push(self.now + wait_ms, Event::AgentUp(host));
        if self.hosts[host].edge {
            let wait_ms = self.dice.between(100, 1_500);
            self.queue.push(self.now + wait_ms, Event::HaproxyUp(host));
        }
    }

    fn end_all(&mut self, host: HostNo) {
        let running: Vec<(String, u32)> = self.hosts[host]
            .engine
            .containers
            .iter()
            .filter(|(_, c)| c.runs())
            .map(|(id, c)| (id.clone(), c.run))
            .collect();
        for (id, run) in running {
            self.exit(host, &id, run, End::Host);
        }
    }

    fn container_fault(&mut self, fault: Fault, host: HostNo, until: u64) {
        let containers = &self.hosts[host].engine.containers;
        let running = containers.iter().filter(|(_, c)| c.runs() && !c.told);
        let running: Vec<(String, u32)> = running.map(|(id, c)| (id.clone(), c.run)).collect();
        let chosen = self.dice.below(running.len());
        let Some((id, run)) = running.get(chosen) else {
            return;
        };
        match fault {
            Fault::ContainerSick => {
                if let Some(container) = self.hosts[host].engine.containers.get_mut(id) {
                    container.sick_until = until;
                }
            }
            Fault::ContainerOom => self.exit(host, id, *run, End::Oom),
            Fault::ContainerRemoved => {
                self.exit(host, id, *run, End::Crash);
                self.hosts[host].engine.containers.remove(id);
            }
            _ => self.exit(host, id, *run, End::Crash),
        }
    }

    fn cut_way(&mut self, edge: HostNo, to: HostNo) {
        let address = self.hosts[to].address;
        self.traffic_lost(edge, address);
    }

    fn reset(&mut self, host: HostNo) {
        let Some(conn) = self.hosts[host].agent.conn else {
            return;
        };
        self.send_up(conn, crate::event::Up::Close);
        if self.hosts[host].agent.up {
            self.session_over(host);
        }
    }

    /// Keeps a command, so that it may be said again.
    pub(crate) fn keep_for_echo(&mut self, host: HostNo, message: &Down) {
        if !self.scenario.uses(Fault::StaleCommand) || self.echoes.len() >= ECHOES_MAX {
            return;
        }
        let copy = match message {
            Down::Assign(fence, a) => Down::Assign(*fence, Arc::clone(a)),
            Down::Route(fence, r) => Down::Route(*fence, Arc::clone(r)),
            Down::Welcome | Down::Ping(_) | Down::Close => return,
        };
        self.echoes.push((host, copy));
    }

    fn say_again(&mut self, host: HostNo) {
        if !self.hosts[host].agent.up || self.truth.has_lost_ledger(host) {
            return;
        }
        let of_host: Vec<usize> = (0..self.echoes.len())
            .filter(|n| self.echoes[*n].0 == host)
            .collect();
        if let Some(number) = self.dice.pick(&of_host) {
            let (_, message) = self.echoes[number].clone();
            self.command(host, &message);
        }
    }

    fn haproxy_fault(&mut self, fault: Fault, host: HostNo, until: u64) {
        if !self.hosts[host].edge || !self.hosts[host].power || !self.hosts[host].haproxy.up {
            return;
        }
        match fault {
            Fault::HaproxyCrash => {
                self.hosts[host].haproxy.up = false;
                self.drop_edge_sessions(host);
                let wait_ms = self.dice.between(200, 1_500);
                self.queue.push(self.now + wait_ms, Event::HaproxyUp(host));
            }
            Fault::HaproxyFreeze => self.hosts[host].haproxy.frozen_until = until,
            Fault::HaproxyReload => {
                let now = self.now;
                self.hosts[host].haproxy.start(now, true);
                self.next_checks(host);
            }
            _ => {
                let admin =
                    self.dice
                        .pick(&[ServerAdmin::Ready, ServerAdmin::Drain, ServerAdmin::Maint]);
                let worker = &self.hosts[host].haproxy.worker;
                let count = worker.values().map(|pool| pool.servers.len()).sum();
                let chosen = self.dice.below(count);
                let worker = &mut self.hosts[host].haproxy.worker;
                let mut servers = worker.values_mut().flat_map(|p| p.servers.values_mut());
                if let (Some(server), Some(admin)) = (servers.nth(chosen), admin) {
                    if server.admin == ServerAdmin::Maint && admin != ServerAdmin::Maint {
                        server.health = 1;
                    }
                    if admin == ServerAdmin::Maint {
                        server.health = 0;
                    }
                    server.admin = admin;
                }
            }
        }
    }

    /// HAProxy's supervisor starts it.
    pub(crate) fn haproxy_up(&mut self, host: HostNo) {
        let at = &mut self.hosts[host];
        if at.haproxy.up || !at.power {
            return;
        }
        at.haproxy.frozen_until = 0;
        at.haproxy.start(self.now, false);
        say!(self, "{} HAProxy up", self.hosts[host].id);
        self.next_checks(host);
    }

    /// A fault is over.
    pub(crate) fn heal(&mut self, fault: Fault, host: HostNo, other: HostNo) {
        let at = &mut self.hosts[host];
        match fault {
            Fault::StoreFull if self.control.store.disk() == Disk::Full => {
                self.control.store.set(Disk::Fine);
            }
            Fault::LedgerFull => at.ledger_full = false,
            Fault::EngineDown | Fault::EngineStuck | Fault::EngineRestart => {
                at.engine.mood = Mood::Well;
                self.engine_says(host);
            }
            Fault::EngineSlow => at.engine.slow = 1,
            Fault::EngineFull => at.engine.full = false,
            Fault::ImageGone => at.engine.registry_away = false,
            Fault::PortTaken => at.engine.taken.clear(),
            Fault::ControlCut => {
                (at.way.up_cut, at.way.down_cut) = (false, false);
                self.release(host);
            }
            Fault::ControlSlow => at.way.slow_ms = 0,
            Fault::DataCut => {
                self.cuts.remove(&(host, other));
            }
            Fault::SamplesBad | Fault::SamplesMissing => at.samples = Samples::Good,
            _ => {}
        }
    }

    /// All faults are over.
    pub(crate) fn heal_all(&mut self) {
        for host in 0..self.hosts.len() {
            for fault in Fault::ALL {
                self.heal(fault, host, host);
            }
            let now = self.now;
            let at = &mut self.hosts[host];
            at.agent.frozen_until = at.agent.frozen_until.min(now);
            at.haproxy.frozen_until = at.haproxy.frozen_until.min(now);
            for container in at.engine.containers.values_mut() {
                container.sick_until = container.sick_until.min(now);
            }
            self.host_up(host);
        }
        self.cuts.clear();
        self.control.store.set(Disk::Fine);
        self.control.crash = None;
        self.control.frozen_until = self.control.frozen_until.min(self.now);
    }
}
