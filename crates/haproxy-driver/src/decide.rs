//! Decides, from what is wanted and what HAProxy really runs, what is to be done next.
//!
//! Pure: no socket, no clock, no file. Every call looks at the whole and gives the next commands;
//! it is called again after they were sent, until it asks for nothing. A state that somebody else
//! made (a hand on the socket, a foreign reload, a restart) is therefore repaired like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use longshore_model::ReplicaId;
use longshore_model::observe::ServerAdmin;
use longshore_model::route::Balance;
use longshore_model::routes::{Server, ServerMode};

use crate::intent::{BackendIntent, EQUAL, Intent};
use crate::name::{BackendName, slot_name};
use crate::readout::{Load, Running, RunningServer};
use crate::render::{PARKED, server_options};
use crate::settings::Settings;
use crate::slots::{Holder, SlotMap, SlotNumber, next_slot, pool_size};
use crate::step::{Action, Step};
use crate::stranded::is_served;
use crate::versions::{Verb, Version};

/// Why a backend with a server that was made without a check is loaded anew.
pub(crate) const UNCHECKED: &str = "has a server without a check";

/// What follows from one look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Commands, in the order to send them.
    pub steps: Vec<Step>,
    /// The slot map to save before they are sent.
    pub slots: SlotMap,
    /// Replicas that are addressed but not proven yet.
    pub joining: BTreeSet<ReplicaId>,
    /// Slots whose last sessions are not over.
    pub leaving: usize,
    /// Servers that are to be drained once what waits for them is served.
    pub finishing: usize,
    /// Replicas that should serve and found no slot: only a reload with a larger pool helps, and
    /// not beyond the limit.
    pub unplaced: BTreeSet<ReplicaId>,
    /// Backends that need a reload beyond a change of the file's structure, and why.
    pub reload: BTreeMap<BackendName, &'static str>,
    /// What was found other than it was left, in words.
    pub drift: Vec<String>,
}

/// The worker and its abilities, as far as decisions need them.
#[derive(Debug, Clone, Copy)]
pub struct Worker<'a> {
    /// What it runs; none while HAProxy is down.
    pub running: Option<&'a Running>,
    /// Its release, where it is known.
    pub version: Option<Version>,
    /// Joining servers that answered this host's own probe a moment ago.
    pub vouched: &'a BTreeSet<(BackendName, ReplicaId)>,
    /// Replicas that were said to be drained: they may be stopped at any moment.
    pub over: &'a BTreeSet<ReplicaId>,
}

static NONE: BTreeSet<ReplicaId> = BTreeSet::new();
static NOBODY: BTreeSet<(BackendName, ReplicaId)> = BTreeSet::new();

impl Worker<'static> {
    /// HAProxy is down.
    pub const GONE: Self = Self {
        running: None,
        version: None,
        vouched: &NOBODY,
        over: &NONE,
    };
}

/// Decides the next commands.
#[must_use]
pub fn decide(
    intent: &Intent,
    slots: &SlotMap,
    worker: Worker<'_>,
    settings: &Settings,
) -> Decision {
    let mut out = Decision {
        slots: SlotMap {
            backends: BTreeMap::new(),
            reload_owed: slots.reload_owed,
            loaded: slots.loaded.clone(),
        },
        ..Decision::default()
    };
    let none = BTreeMap::new();
    for (name, backend) in &intent.backends {
        let running = worker.running.and_then(|r| r.backends.get(name.as_str()));
        if running.is_none() {
            out.reload.insert(name.clone(), "is not loaded");
        }
        let loaded_route = slots.loaded.get(name.as_str());
        let mut look = Look {
            backend,
            running: running.unwrap_or(&none),
            queued: worker
                .running
                .and_then(|r| r.queues.get(name.as_str()).copied()),
            loaded: running.is_some(),
            slots: slots
                .backends
                .get(name.as_str())
                .cloned()
                .unwrap_or_default(),
            can_add: can_add(backend, worker.version),
            limit: loaded_route.unwrap_or(&backend.route).maxconn_per_replica,
            vouched: worker.vouched,
            over: worker.over,
            served: false,
            settings,
            out: &mut out,
        };
        look.adopt();
        look.served = is_served(backend, &look.slots, look.running);
        look.vacate();
        look.assign();
        look.restore();
        look.act();
        let slots = look.slots;
        out.slots.backends.insert(name.to_string(), slots);
    }
    expel(intent, worker, &mut out);
    out.steps.sort_by_key(|step| order(&step.action));
    out
}

/// Servers that somebody else made get requests like any other. They stay in maint: to delete one
/// ends the whole process on releases that distributions ship.
fn expel(intent: &Intent, worker: Worker<'_>, out: &mut Decision) {
    let strangers = worker.running.map_or(&[][..], |running| &running.strangers);
    for (backend, server) in strangers {
        let mut names = intent.backends.keys();
        let Some(name) = names.find(|name| name.as_str() == backend) else {
            continue;
        };
        out.drift
            .push(format!("{name}/{server} was added by somebody else"));
        let server = server.clone();
        out.steps.push(Step {
            backend: name.clone(),
            slot: 0,
            action: Action::Expel { server },
        });
    }
}

/// Does a pool of this backend grow at run time?
fn can_add(backend: &BackendIntent, version: Option<Version>) -> bool {
    let verb = match backend.route.balance {
        Balance::Source | Balance::Hash => Verb::AddServerByHash,
        Balance::Roundrobin | Balance::Leastconn | Balance::Random => Verb::AddServer,
    };
    verb.is_in(version)
}

/// Servers come in before others go out; a slot's own commands keep their order because the
/// sort is stable and all of its actions that depend on each other share a class.
fn order(action: &Action) -> u8 {
    match action {
        Action::Ready | Action::Pull { .. } => 0,
        _ => 1,
    }
}

struct Look<'a> {
    backend: &'a BackendIntent,
    running: &'a BTreeMap<SlotNumber, RunningServer>,
    /// Requests that wait for any server of the backend, where that was read.
    queued: Option<u32>,
    loaded: bool,
    slots: BTreeMap<SlotNumber, Holder>,
    can_add: bool,
    /// Requests that a server takes at a time in what HAProxy has loaded; 0 without a limit.
    limit: u32,
    vouched: &'a BTreeSet<(BackendName, ReplicaId)>,
    over: &'a BTreeSet<ReplicaId>,
    /// Does one that is to serve take requests?
    served: bool,
    settings: &'a Settings,
    out: &'a mut Decision,
}

impl Look<'_> {
    /// Slots that HAProxy has and the map lacks (the map was lost, or somebody added servers).
    fn adopt(&mut self) {
        let mut held: BTreeSet<ReplicaId> = self.held().collect();
        for (&slot, server) in self.running {
            if self.slots.contains_key(&slot) {
                continue;
            }
            let owner = self
                .backend
                .servers
                .values()
                .find(|s| !held.contains(&s.replica) && points_at(server, s));
            held.extend(owner.map(|owner| owner.replica));
            let holder = match owner {
                Some(owner) => Holder::Replica {
                    id: owner.replica,
                    proven: server.admin == ServerAdmin::Ready && owner.mode == ServerMode::Serve,
                },
                None => Holder::Leaving,
            };
            self.slots.insert(slot, holder);
        }
    }

    fn held(&self) -> impl Iterator<Item = ReplicaId> {
        self.slots.values().filter_map(|holder| match holder {
            Holder::Replica { id, .. } => Some(*id),
            Holder::Leaving | Holder::Free => None,
        })
    }

    /// Takes slots from replicas that are not routed any more, and frees those whose last
    /// session was seen to be over after maint.
    fn vacate(&mut self) {
        for (slot, holder) in &mut self.slots {
            match holder {
                Holder::Replica { id, proven } => match self.backend.servers.get(id) {
                    None => *holder = Holder::Leaving,
                    // The last ones may be let in once more, also by a worker that starts.
                    Some(server) if server.mode == ServerMode::Drain => {
                        *proven &= !self.served && !self.over.contains(id);
                    }
                    Some(_) => {}
                },
                Holder::Leaving => {
                    let over = match self.running.get(slot) {
                        Some(server) => is_parked(server) && server.load.is_some_and(Load::is_idle),
                        // A worker that does not have the slot has no session on it.
                        None => true,
                    };
                    if over {
                        *holder = Holder::Free;
                    }
                }
                Holder::Free => {}
            }
        }
    }

    /// Gives each replica that should serve a slot.
    fn assign(&mut self) {
        let held: BTreeSet<ReplicaId> = self.held().collect();
        let backend = self.backend;
        let waiting = backend
            .servers
            .values()
            .filter(|s| s.mode == ServerMode::Serve && !held.contains(&s.replica));
        let slots = self.slots.iter();
        let free = slots.filter(|(_, holder)| **holder == Holder::Free);
        let free: Vec<SlotNumber> = free.map(|(slot, _)| *slot).collect();
        let mut free = free.into_iter();
        for server in waiting {
            let id = server.replica;
            let slot = free.next().or_else(|| self.grow(id));
            if let Some(slot) = slot {
                self.slots
                    .insert(slot, Holder::Replica { id, proven: false });
            } else {
                self.out.unplaced.insert(id);
            }
        }
        if !self.loaded {
            self.fill_pool();
        }
    }

    fn grow(&mut self, id: ReplicaId) -> Option<SlotNumber> {
        if self.slots.len() >= self.settings.slots_max as usize {
            let name = &self.backend.name;
            self.out
                .drift
                .push(format!("{name} has no slot for {id}: the limit is reached"));
            return None;
        }
        Some(next_slot(&self.slots))
    }

    /// A pool that is written anew has room for as many again.
    fn fill_pool(&mut self) {
        let used = self.held().count();
        let size = pool_size(used, self.settings);
        while self.slots.len() < size {
            self.slots.insert(next_slot(&self.slots), Holder::Free);
        }
    }

    /// What stays with a slot, whoever holds it.
    fn restore(&mut self) {
        for (&slot, now) in self.running {
            let mut was = Vec::new();
            if now.check_port != 0 && now.check_port != now.port {
                was.push(("was checked at another port", Action::CheckAtPort));
            }
            if now.check_address.is_some() {
                was.push(("was checked at another address", Action::CheckAtAddress));
            }
            if now.limit.is_some_and(|limit| limit != self.limit) {
                was.push(("had another limit", Action::Limit(self.limit)));
            }
            for (what, action) in was {
                let server = format!("{}/{}", self.backend.name, slot_name(slot));
                self.out.drift.push(match self.slots.get(&slot) {
                    Some(Holder::Replica { id, .. }) => format!("{server} ({id}) {what}"),
                    Some(Holder::Leaving | Holder::Free) | None => format!("{server} {what}"),
                });
                self.step(slot, action);
            }
            if !now.check_configured {
                // HAProxy checks it at no time, so it would never prove itself.
                let name = self.backend.name.clone();
                self.out.reload.insert(name, UNCHECKED);
            }
        }
    }

    fn act(&mut self) {
        if !self.loaded {
            self.count_joining();
            return;
        }
        let slots: Vec<(SlotNumber, Holder)> = self.slots.iter().map(|(s, h)| (*s, *h)).collect();
        for (slot, holder) in slots {
            let server = match holder {
                Holder::Replica { id, .. } => self.backend.servers.get(&id),
                Holder::Leaving | Holder::Free => None,
            };
            match (holder, server) {
                (Holder::Replica { id, proven }, Some(server))
                    if server.mode == ServerMode::Serve =>
                {
                    let proven = self.serve(slot, server, proven);
                    self.slots.insert(slot, Holder::Replica { id, proven });
                    if !proven {
                        self.out.joining.insert(id);
                    }
                }
                (Holder::Replica { proven, .. }, Some(server)) => {
                    if !self.finishes(slot, server, proven) {
                        self.drain(slot);
                    }
                }
                _ => self.park(slot, holder),
            }
        }
    }

    fn count_joining(&mut self) {
        for holder in self.slots.values() {
            match holder {
                Holder::Replica { id, proven: false } => {
                    if self
                        .backend
                        .servers
                        .get(id)
                        .is_some_and(|s| s.mode == ServerMode::Serve)
                    {
                        self.out.joining.insert(*id);
                    }
                }
                Holder::Leaving => self.out.leaving += 1,
                Holder::Replica { .. } | Holder::Free => {}
            }
        }
    }

    /// Recipe A: address in maint, drain, checks pass, ready. Returns whether it has proven itself.
    fn serve(&mut self, slot: SlotNumber, server: &Server, proven: bool) -> bool {
        let Some(now) = self.running.get(&slot) else {
            if self.can_add {
                self.drifted(proven, slot, server, "was lost");
                self.add(slot, server);
            } else {
                // Said at each look: the one that gave it the slot may have had other things to
                // do before the reload.
                let name = self.backend.name.clone();
                self.out.reload.insert(name, "needs a larger pool");
            }
            return false;
        };
        let weight = self.backend.weight(server).unwrap_or(EQUAL);
        if now.weight != weight {
            // An `apply` says nothing of drift: what it finds is the change that it brings.
            self.drifted(proven, slot, server, "had another weight");
            self.step(slot, Action::Weight(weight));
        }
        // What proved a newcomer may have been somebody else's answer.
        let asks_others = !proven && now.is_checked_elsewhere();
        if !points_at(now, server) || asks_others {
            self.drifted(proven, slot, server, "had another address");
            if now.admin != ServerAdmin::Maint {
                self.step(slot, Action::Maint);
            }
            self.join(slot, server, now.check_enabled);
            return false;
        }
        if !now.check_enabled {
            self.drifted(proven, slot, server, "was not checked");
            self.step(slot, Action::EnableHealth);
        }
        match now.admin {
            ServerAdmin::Ready => true,
            ServerAdmin::Maint => {
                self.drifted(proven, slot, server, "was in maint");
                self.step(slot, Action::Drain);
                false
            }
            ServerAdmin::Drain => {
                let check = self.backend.check_settings(&self.settings.check);
                // Leaving maint sets the count to `rise`; only a passed check lifts it to the
                // top. The check's own result is no proof: it may be the last tenant's.
                // Where it was not asked yet, this host's own probe of a moment ago counts.
                let asker = (self.backend.name.clone(), server.replica);
                let passed = now.check_health == check.rise + check.fall - 1
                    || self.vouched.contains(&asker);
                #[cfg(feature = "mutants")]
                let passed =
                    passed || longshore_model::mutant::is(longshore_model::Mutant::OpensUnchecked);
                if passed && now.up && now.check_enabled {
                    self.drifted(proven, slot, server, "was in drain");
                    self.open(slot);
                }
                false
            }
        }
    }

    fn add(&mut self, slot: SlotNumber, server: &Server) {
        // One that is added with its address gets no cookie on 2.6, and clients lose theirs.
        let sticky = self.backend.sticky_cookie.is_some();
        let at = match sticky {
            true => PARKED,
            false => SocketAddr::new(server.address, server.port),
        };
        let options = server_options(self.backend, self.settings);
        self.step(slot, Action::AddServer { at, options });
        if let Some(weight) = self.backend.weight(server) {
            self.step(slot, Action::Weight(weight));
        }
        if sticky {
            self.join(slot, server, false);
        } else {
            self.step(slot, Action::EnableHealth);
            self.step(slot, Action::Drain);
        }
    }

    fn join(&mut self, slot: SlotNumber, server: &Server, check_enabled: bool) {
        self.step(
            slot,
            Action::SetAddr {
                address: server.address,
                port: server.port,
            },
        );
        if !check_enabled {
            self.step(slot, Action::EnableHealth);
        }
        self.step(slot, Action::Drain);
    }

    /// A server that is drained takes nothing of what waits for any server of its backend, and some
    /// releases answer that with 503 as soon as no server is left. Where nobody else takes requests yet,
    /// those that leave serve it first, also what waits at another edge for them; one that was drained a
    /// moment before a request had to wait is let in once more.
    fn finishes(&mut self, slot: SlotNumber, server: &Server, proven: bool) -> bool {
        let now = self.running.get(&slot);
        // A hash or a cookie makes requests wait for this very server.
        let its_own = now.and_then(|now| now.load).unwrap_or_default().queued;
        // What was not read changes nothing.
        let nobody_waits = self.queued == Some(0) && its_own == 0 && !self.backend.holds;
        let is_there = now.is_some_and(|now| now.up && points_at(now, server));
        if self.served || nobody_waits || !is_there || self.over.contains(&server.replica) {
            return false;
        }
        self.out.finishing += 1;
        let is_out = now.is_some_and(|now| now.admin != ServerAdmin::Ready);
        if is_out && proven && (self.queued.is_some() || self.backend.holds) {
            self.open(slot);
        }
        true
    }

    fn open(&mut self, slot: SlotNumber) {
        self.step(slot, Action::Ready);
        if self.limit > 0 {
            let maxconn = self.limit;
            self.step(slot, Action::Pull { maxconn });
        }
    }

    /// First half of recipe B. A server in maint takes nothing new either and keeps its sessions,
    /// so it is left there; and where a cookie would bring clients back to a draining one for ever,
    /// maint is what ends that.
    fn drain(&mut self, slot: SlotNumber) {
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::DrainIgnored) {
            return;
        }
        let sticky = self.backend.sticky_cookie.is_some();
        match self.running.get(&slot).map(|now| now.admin) {
            Some(ServerAdmin::Ready | ServerAdmin::Drain) if sticky => {
                self.step(slot, Action::Maint);
            }
            Some(ServerAdmin::Ready) => self.step(slot, Action::Drain),
            Some(ServerAdmin::Drain | ServerAdmin::Maint) | None => {}
        }
    }

    /// Second half of recipe B: maint, and only then another address.
    fn park(&mut self, slot: SlotNumber, holder: Holder) {
        if holder == Holder::Leaving {
            self.out.leaving += 1;
        }
        let Some(now) = self.running.get(&slot) else {
            return;
        };
        if is_parked(now) {
            return;
        }
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::ParkIgnored) {
            return;
        }
        if holder == Holder::Free {
            let name = &self.backend.name;
            self.out.drift.push(format!(
                "{name}/{} was in use, but nobody holds it",
                slot_name(slot)
            ));
            self.slots.insert(slot, Holder::Leaving);
        }
        if now.admin != ServerAdmin::Maint {
            self.step(slot, Action::Maint);
        }
        self.step(slot, Action::Park);
    }

    fn drifted(&mut self, proven: bool, slot: SlotNumber, server: &Server, what: &str) {
        if proven {
            let (name, id) = (&self.backend.name, server.replica);
            self.out
                .drift
                .push(format!("{name}/{} ({id}) {what}", slot_name(slot)));
        }
    }

    fn step(&mut self, slot: SlotNumber, action: Action) {
        let backend: BackendName = self.backend.name.clone();
        self.out.steps.push(Step {
            backend,
            slot,
            action,
        });
    }
}

pub(crate) fn points_at(now: &RunningServer, server: &Server) -> bool {
    now.address == Some(server.address) && now.port == server.port
}

fn is_parked(now: &RunningServer) -> bool {
    now.admin == ServerAdmin::Maint && now.address == Some(PARKED.ip()) && now.port == PARKED.port()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
