//! Synthetic clients. Each request ends as answered or failed; a failure needs a fault that
//! really reached it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use longshore_haproxy_driver::slots::Holder;
use longshore_model::ReplicaId;

use crate::engine::Image;
use crate::event::{End, Event, HostNo};
use crate::haproxy::{Haproxy, PARKED};
use crate::truth::Answered;
use crate::world::World;

/// Servers that HAProxy tries for one request.
const TRIES_MAX: usize = 4;
/// After a service was taken down or to nothing, so long nobody is promised an answer.
pub const PARDON_MS: u64 = 20_000;

/// Requests of one run.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Sent.
    pub sent: u64,
    /// Answered.
    pub ok: u64,
    /// Failed.
    pub failed: u64,
    open: BTreeMap<u64, Session>,
    /// Service and edge that have answered since the service was last up.
    answered: std::collections::BTreeSet<(usize, HostNo)>,
}

impl Traffic {
    /// Requests that are not over.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.len() as u64
    }

    /// A service that is not promised any more.
    pub fn forget(&mut self, service: usize) {
        self.answered.retain(|(of, _)| *of != service);
    }
}

#[derive(Debug, Clone)]
struct Session {
    edge: HostNo,
    pid: u32,
    backend: String,
    slot: u32,
    address: SocketAddr,
    began_at: u64,
    wrong: bool,
    /// See [`World::strays`].
    stray: bool,
}

impl World {
    pub(crate) fn request(&mut self) {
        let wait_ms = match self.scenario.policies {
            true => self.dice.between(self.pace_ms / 2, self.pace_ms * 3 / 2),
            false => self.dice.between(20, 250),
        };
        self.queue.push(self.now + wait_ms, Event::Request);
        let edges: Vec<HostNo> = (0..self.hosts.len())
            .filter(|h| self.hosts[*h].edge)
            .collect();
        let Some(edge) = self.dice.pick(&edges) else {
            return;
        };
        let service = self.dice.below(self.users.services.len());
        let Some(backend) = self.users.backend(service) else {
            return;
        };
        let haproxy = &mut self.hosts[edge].haproxy;
        if haproxy.up && !haproxy.answers(self.now) {
            // It waits in the socket until HAProxy goes on; it is sent then.
            return;
        }
        self.traffic.sent += 1;
        if !haproxy.up {
            return self.fails(service, edge, "HAProxy is down");
        }
        let Some(pool) = haproxy.worker.get_mut(&backend) else {
            return self.fails(service, edge, "no backend");
        };
        pool.asked(self.now);
        let turn = pool.turn;
        let mut open: Vec<(u32, SocketAddr)> = pool
            .servers
            .iter()
            .filter(|(_, server)| server.takes())
            .map(|(slot, server)| (*slot, server.address))
            .collect();
        open.sort_by_key(|(slot, _)| (*slot <= turn, *slot));
        let pid = haproxy.pid;
        let found = open
            .into_iter()
            .take(TRIES_MAX)
            .find(|(_, address)| self.answers(edge, *address));
        let Some((slot, address)) = found else {
            return self.fails(service, edge, "no server answers");
        };
        let image = self.image_at(address);
        let wrong = image == Some(Image::Wrong);
        let long_ms = self.lasts_ms(service, image);
        self.sessions += 1;
        let number = self.sessions;
        if let Some(pool) = self.hosts[edge].haproxy.worker.get_mut(&backend) {
            pool.turn = slot;
            if let Some(server) = pool.servers.get_mut(&slot) {
                server.sessions += 1;
                server.answers.requests_total += 1;
            }
        }
        let session = Session {
            stray: self.strays(edge, &backend, slot, address),
            edge,
            pid,
            backend,
            slot,
            address,
            began_at: self.now,
            wrong,
        };
        self.traffic.open.insert(number, session);
        if self.users.promised(service, self.now) {
            self.traffic.answered.insert((service, edge));
        }
        self.queue.push(self.now + long_ms, Event::Answered(number));
    }

    /// Does a request reach somebody by the place of another one? Where an edge was away past its
    /// lease, one that it still has in its list was stopped without it, and on the same host port
    /// its successor answers. The edge counts such a session for who it takes it to be, so that
    /// nobody knows of it when the successor stops.
    fn strays(&self, edge: HostNo, backend: &str, slot: u32, at: SocketAddr) -> bool {
        let pool = self.hosts[edge].agent.driver.slots.backends.get(backend);
        let Some(Holder::Replica { id, .. }) = pool.and_then(|pool| pool.get(&slot)) else {
            return false;
        };
        let host = self.host_at(at);
        let there = host.and_then(|host| self.hosts[host].engine.at_port(at.port()));
        there.is_some_and(|there| there.replica != *id) && self.pardoned(*id, edge)
    }

    /// How long a request takes.
    fn lasts_ms(&mut self, service: usize, image: Option<Image>) -> u64 {
        let wrong = image == Some(Image::Wrong);
        if !wrong && self.users.services[service].usual.policies.is_timed() {
            return self.timed_ms(image);
        }
        match self.dice.below(20) {
            _ if wrong => 5,
            // Its autoscalers come to rest with it.
            _ if self.calm && self.scenario.policies => self.dice.between(5, 200),
            0 => self.dice.between(3_000, 20_000),
            1..=5 => self.dice.between(200, 3_000),
            _ => self.dice.between(5, 200),
        }
    }

    pub(crate) fn answered(&mut self, number: u64) {
        if let Some(session) = self.traffic.open.remove(&number) {
            self.traffic.ok += 1;
            let haproxy = &mut self.hosts[session.edge].haproxy;
            if haproxy.pid == session.pid
                && let Some(pool) = haproxy.worker.get_mut(&session.backend)
            {
                let after_ms = self.now - session.began_at;
                pool.has_answered(session.slot, session.wrong, after_ms);
            }
            if self.scenario.policies {
                self.note_answer(&session);
            }
            self.let_go(&session);
        }
    }

    /// What listens there.
    fn image_at(&self, address: SocketAddr) -> Option<Image> {
        let container = self
            .host_at(address)
            .and_then(|host| self.hosts[host].engine.at_port(address.port()));
        container.map(|container| container.image)
    }

    /// For the judge of gates.
    fn note_answer(&mut self, session: &Session) {
        let at = session.address;
        let Some(host) = self.host_at(at) else { return };
        let container = self.hosts[host].engine.at_port(at.port());
        let Some(replica) = container.map(|container| container.replica) else {
            return;
        };
        self.truth.answered(Answered {
            began_at: session.began_at,
            at: self.now,
            edge: session.edge,
            pid: session.pid,
            replica,
            wrong: session.wrong,
        });
    }

    fn let_go(&mut self, session: &Session) {
        let haproxy = &mut self.hosts[session.edge].haproxy;
        let worker = match haproxy.pid == session.pid {
            true => Some(&mut haproxy.worker),
            false => haproxy.old.get_mut(&session.pid),
        };
        let pool = worker.and_then(|worker| worker.get_mut(&session.backend));
        if let Some(server) = pool.and_then(|pool| pool.servers.get_mut(&session.slot)) {
            server.sessions = server.sessions.saturating_sub(1);
        }
        let busy = |worker: &crate::haproxy::Worker| {
            let mut servers = worker.values().flat_map(|pool| pool.servers.values());
            servers.any(|server| server.sessions > 0)
        };
        haproxy.old.retain(|_, worker| busy(worker));
    }

    /// What was behind an address is gone: its sessions with it.
    pub(crate) fn cut_sessions(&mut self, address: SocketAddr, replica: ReplicaId, end: End) {
        let cut: Vec<u64> = self
            .traffic
            .open
            .iter()
            .filter(|(_, session)| session.address == address)
            .map(|(number, _)| *number)
            .collect();
        for number in cut {
            if let Some(session) = self.traffic.open.remove(&number) {
                self.let_go(&session);
                self.traffic.failed += 1;
                let told = end == End::Told && !self.pardoned(replica, session.edge);
                if told && !session.stray {
                    let edge = &self.hosts[session.edge].id;
                    let what = format!("a session through {edge} was cut: {replica} was stopped");
                    self.violation(&what);
                }
            }
        }
    }

    /// An edge's HAProxy is gone: its sessions with it.
    pub(crate) fn drop_edge_sessions(&mut self, edge: HostNo) {
        let before = self.traffic.open.len();
        self.traffic.open.retain(|_, session| session.edge != edge);
        self.traffic.failed += (before - self.traffic.open.len()) as u64;
        let haproxy: &mut Haproxy = &mut self.hosts[edge].haproxy;
        haproxy.old.clear();
        haproxy.worker.clear();
    }

    /// The way between an edge and a host is gone: the sessions over it with it.
    pub(crate) fn traffic_lost(&mut self, edge: HostNo, address: std::net::IpAddr) {
        let lost: Vec<u64> = self
            .traffic
            .open
            .iter()
            .filter(|(_, s)| s.edge == edge && s.address.ip() == address)
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            if let Some(session) = self.traffic.open.remove(&number) {
                self.let_go(&session);
                self.traffic.failed += 1;
            }
        }
    }

    fn fails(&mut self, service: usize, edge: HostNo, why: &str) {
        self.traffic.failed += 1;
        if let Some(backend) = self.users.backend(service)
            && let Some(pool) = self.hosts[edge].haproxy.worker.get_mut(&backend)
        {
            pool.errors += 1;
        }
        let expected = self.traffic.answered.contains(&(service, edge))
            && self.users.promised(service, self.now);
        if expected
            && !self.passed_over(service, edge)
            && (self.scenario.clean || self.quiet_for_ms() > 10_000)
        {
            let what = format!(
                "a request for {} through {} failed although no fault reached it: {why}",
                self.users.services[service].key, self.hosts[edge].id
            );
            self.violation(&what);
        }
    }

    /// May this edge's list be of no use without anybody's mistake?
    fn passed_over(&self, service: usize, edge: HostNo) -> bool {
        // One that was away past its lease is not waited for, and its list is old.
        let key = &self.users.services[service].key;
        let mut lives = self.truth.lives.values().filter(|l| l.service == *key);
        let now = self.now;
        let some_are = lives.any(|life| {
            // With the agents of an edge and of a node silent, one witness is left, and after its
            // timeout what runs there is given up; the edge hears of it when it is back. Where
            // nothing can follow, as nobody can run what the file asks for, that lasts.
            let over = |at: u64| {
                life.made_up_at
                    .is_some_and(|up| now >= up.max(at) + PARDON_MS)
            };
            let lost = life.lost_at.is_some_and(|at| !over(at));
            lost || life.pardon.edges.contains(&edge)
        });
        // One that nobody could tell anything until the sessions' time was over.
        let backend = self.users.backend(service);
        let pool = backend.and_then(|name| self.hosts[edge].haproxy.worker.get(&name));
        let servers = pool.into_iter().flat_map(|pool| pool.servers.values());
        let mut listed = servers.filter(|s| s.address != PARKED).peekable();
        let any = listed.peek().is_some();
        some_are || any && listed.all(|s| self.truth.given_up(s.address, edge))
    }
}
