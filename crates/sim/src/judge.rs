//! Judges of what happens on the hosts: what agents obey, stop, start and open to requests.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use longshore_haproxy_driver::name::BackendName;
use longshore_model::ReplicaId;
use longshore_model::routes::{Backend, Server, ServerMode};
use node_agent::runtime::Condition;

use crate::edge::Deed;
use crate::engine::SimContainer;
use crate::event::{Down, HostNo};
use crate::haproxy::{PARKED, SimServer};
use crate::scenario::Fault;
use crate::world::World;

/// So often may a container that ends by itself be started within [`STARTS_WITHIN_MS`].
const STARTS_MAX: usize = 8;
const STARTS_WITHIN_MS: u64 = 10_000;

impl World {
    /// The invariants are broken: the first time is what counts.
    pub(crate) fn violation(&mut self, what: &str) {
        say!(self, "VIOLATION: {what}");
        self.violations.push(what.to_owned());
    }

    /// 6: a lower term or generation changes nothing, and neither does the same with other content.
    pub(crate) fn judge_obeyed(&mut self, host: HostNo, message: &Down) {
        let obeyed = self.truth.obeyed.entry(host).or_default();
        let (fence, was, now, other) = match message {
            Down::Assign(fence, a) => {
                let was = obeyed.assignment.replace(a.clone());
                let other = was.as_ref().is_some_and(|was| **was != **a);
                (*fence, was.map_or(0, |w| w.generation), a.generation, other)
            }
            Down::Route(fence, r) => {
                let was = obeyed.routes.replace(r.clone());
                let other = was.as_ref().is_some_and(|was| **was != **r);
                (*fence, was.map_or(0, |w| w.generation), r.generation, other)
            }
            Down::Welcome | Down::Ping(_) | Down::Close => return,
        };
        let lower = fence < obeyed.fence;
        obeyed.fence = obeyed.fence.max(fence);
        let id = self.hosts[host].id.clone();
        if lower {
            self.violation(&format!("{id} obeys an older leadership"));
        }
        if now < was || (now == was && other) {
            self.violation(&format!("{id} obeys generation {now} after {was}"));
        }
    }

    /// May this edge be passed over when this replica stops?
    #[must_use]
    pub fn pardoned(&self, replica: ReplicaId, edge: HostNo) -> bool {
        self.truth.lives.get(&replica).is_some_and(|life| {
            let dead = |reason: &longshore_model::reason::LeaveReason| {
                use longshore_model::reason::LeaveReason::{Failed, NodeLost};
                matches!(reason, Failed { .. } | NodeLost)
            };
            let gone = life.leaving.as_ref().is_some_and(|(why, _)| dead(why));
            gone || life.pardon.all || life.pardon.edges.contains(&edge)
        })
    }

    /// Third ledger and 2: a stop has a decision, and no edge still has what is stopped.
    pub(crate) fn judge_stop(&mut self, host: HostNo, replica: ReplicaId, container: &str) {
        let node = self.hosts[host].id.clone();
        let Some(life) = self.truth.lives.get(&replica) else {
            return self.violation(&format!("{node} stops {replica}, which was never planned"));
        };
        if life.planned && !life.stop && life.node == node {
            let what = format!("{node} stops {replica}, which is to run");
            return self.violation(&what);
        }
        let Some(container) = self.hosts[host].engine.containers.get(container) else {
            return;
        };
        if container.condition != Condition::Running {
            return;
        }
        let address = self.hosts[host].address;
        let addresses: Vec<SocketAddr> = container
            .ports
            .iter()
            .map(|port| SocketAddr::new(address, *port))
            .collect();
        if let Some(what) = self.in_the_way(replica, &addresses) {
            self.violation(&format!("{node} stops {replica} while {what}"));
        }
    }

    /// An edge that still sends requests to one of these addresses, or has sessions there.
    fn in_the_way(&self, replica: ReplicaId, addresses: &[SocketAddr]) -> Option<String> {
        // Somebody's hand may open a server that was drained; it is closed again, but not in time.
        if self.scenario.uses(Fault::HaproxyHand) && !self.calm {
            return None;
        }
        for (number, host) in self.hosts.iter().enumerate().filter(|(_, h)| h.edge) {
            if !host.haproxy.up || !host.power || self.pardoned(replica, number) {
                continue;
            }
            let old = host.haproxy.old.values().flatten();
            let pools = host.haproxy.worker.iter().chain(old);
            for server in pools.flat_map(|(_, pool)| pool.servers.values()) {
                if addresses.contains(&server.address) && (server.takes() || server.sessions > 0) {
                    let count = server.sessions;
                    return Some(format!(
                        "{} has {count} sessions there ({:?})",
                        host.id, server.admin
                    ));
                }
            }
        }
        None
    }

    /// 1: requests go only to a replica that is well, at its own address.
    pub(crate) fn judge_deeds(&mut self, edge: HostNo, deeds: &[Deed]) {
        for deed in deeds {
            let id = self.hosts[edge].id.clone();
            match deed {
                Deed::Moved(step) => {
                    self.violation(&format!("{id} re-addresses a server in use: {step}"));
                }
                Deed::Opened(address, replica) => {
                    let container = self
                        .host_at(*address)
                        .and_then(|host| self.hosts[host].engine.at_port(address.port()));
                    let wrong = match container {
                        Some(container)
                            if container.replica != *replica
                                && !self.succeeds(container, *replica) =>
                        {
                            Some(format!("{} lives there", container.replica))
                        }
                        Some(container) if !container.has_listened(self.now) => {
                            Some("it has never answered".to_owned())
                        }
                        // It may have gone a moment ago.
                        _ => None,
                    };
                    let to = self.host_at(*address);
                    let cut = to.and_then(|to| self.cuts.get(&(edge, to)));
                    // A check may have passed just before.
                    if cut.is_some_and(|since| since + 2_000 < self.now) {
                        self.violation(&format!("{id} opens {replica}, which it cannot reach"));
                    }
                    if !self.truth.was_reported(*replica) {
                        self.violation(&format!("{id} opens {replica}, never reported healthy"));
                    }
                    if let Some(wrong) = wrong {
                        self.violation(&format!("{id} opens {replica} at {address}: {wrong}"));
                    }
                }
            }
        }
    }

    /// Does the container have the fixed host port of its service after this replica? An edge that
    /// was without power serves what its file says until it is told: the same service, and its own
    /// checks say whether it is well.
    fn succeeds(&self, container: &SimContainer, replica: ReplicaId) -> bool {
        let service = self.users.of(&container.service);
        let fixed = service.is_some_and(|s| s.usual.policies.fixed_port.is_some());
        let life = self.truth.lives.get(&replica);
        fixed && life.is_some_and(|life| life.service == container.service)
    }

    /// What an edge says it serves is all that its worker points at: a slot that nobody holds is
    /// parked, or the address's next owner would get requests of another service. Workers of
    /// earlier configurations keep their list until their sessions are over.
    pub(crate) fn judge_acknowledged(&mut self, edge: HostNo, generation: u64) {
        let host = &self.hosts[edge];
        let obeyed = host.book.routes.as_ref();
        let Some(routes) = obeyed.filter(|routes| routes.generation == generation) else {
            return;
        };
        let mut wrong = None;
        for backend in &routes.backends {
            let name = BackendName::of(&backend.service, backend.route.listen_port);
            let servers = backend.servers.iter();
            let listed: BTreeSet<SocketAddr> = servers
                .map(|server| SocketAddr::new(server.address, server.port))
                .collect();
            let pool = host.haproxy.worker.get(name.as_str());
            let pool = pool.into_iter().flat_map(|pool| pool.servers.values());
            let mut addresses = pool.map(|server| server.address);
            let other = addresses.find(|at| *at != PARKED && !listed.contains(at));
            let fault = match other {
                Some(at) => Some(format!("points {name} at {at}, which is not in them")),
                None => self.undrained(edge, backend, &name),
            };
            wrong = wrong.or(fault);
        }
        if let Some(wrong) = wrong {
            let id = &host.id;
            let what = format!("{id} serves routes {generation} and {wrong}");
            self.violation(&what);
        }
    }

    /// A server that is to drain takes nothing new once another one of its backend serves. Until
    /// then it may have been let in, for what waits.
    fn undrained(&self, edge: HostNo, backend: &Backend, name: &BackendName) -> Option<String> {
        let pool = self.hosts[edge].haproxy.worker.get(name.as_str())?;
        let takes = |server: &&Server| {
            let at = SocketAddr::new(server.address, server.port);
            let mut there = pool.servers.values().filter(|there| there.address == at);
            there.any(SimServer::takes)
        };
        let of = |mode: ServerMode| backend.servers.iter().filter(move |s| s.mode == mode);
        of(ServerMode::Serve).find(takes)?;
        let open = of(ServerMode::Drain).find(takes)?;
        Some(format!(
            "sends new requests to {}, which is to drain",
            open.replica
        ))
    }

    /// 1: healthy is what has answered in this run.
    pub(crate) fn judge_said(&mut self, host: HostNo, view: &node_agent::reconcile::View) {
        let at = &self.hosts[host];
        let said = view.exit.map(|exit| exit.code);
        if said.is_some_and(|code| at.engine.ended.get(&view.id) != Some(&code)) {
            let (id, replica) = (at.id.clone(), view.id);
            self.violation(&format!(
                "{id} says of {replica} that it ended with {said:?}"
            ));
            return;
        }
        if view.state != longshore_model::ReplicaState::Healthy {
            return;
        }
        let container = view.container.as_ref();
        let container = container.and_then(|id| at.engine.containers.get(id));
        let wrong = container.is_some_and(|container| {
            let runs = container.condition == Condition::Running;
            // The word of its start is on its way.
            let told = self.now > container.started_at + 10;
            runs && told && !container.has_listened(self.now)
        });
        if wrong {
            let (id, replica) = (at.id.clone(), view.id);
            self.violation(&format!(
                "{id} calls {replica} healthy, which has never answered"
            ));
        }
    }

    /// A container that ends by itself is started again with waits in between.
    pub(crate) fn judge_start(&mut self, replica: ReplicaId) {
        let now = self.now;
        let starts = self.truth.starts.entry(replica).or_default();
        starts.retain(|at| at + STARTS_WITHIN_MS >= now);
        starts.push(now);
        if starts.len() > STARTS_MAX {
            self.violation(&format!("{replica} is started again without waits"));
        }
    }
}
