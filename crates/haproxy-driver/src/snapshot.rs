//! What HAProxy really runs, in the controller's words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use longshore_model::observe::{
    BackendObserved, CheckState, ServerAdmin, ServerAnswers, ServerObserved, ServersByService,
};
use longshore_model::{ReplicaId, ServiceKey};

use longshore_model::routes::ServerMode;

use crate::edge::{Edge, EdgeSnapshot};
use crate::error::EdgeError;
use crate::intent::Intent;
use crate::look::Depth;
use crate::name::{BackendName, parse_slot};
use crate::old_workers::Loads;
use crate::readout::{BACKEND_LINE, Load, Running, RunningServer, StatLine};
use crate::settings::CheckSettings;
use crate::slots::{Holder, SlotMap, SlotNumber};
use crate::stranded::is_served;

impl Running {
    /// Fills in what the statistics say of each server.
    pub(crate) fn set_loads(&mut self, stat: &[StatLine]) {
        for line in stat {
            if line.server == BACKEND_LINE {
                self.queues.insert(line.proxy.clone(), line.load.queued);
                continue;
            }
            let server = parse_slot(&line.server)
                .and_then(|slot| self.backends.get_mut(&line.proxy)?.get_mut(&slot));
            if let Some(server) = server {
                server.load = Some(line.load);
                server.limit = line.limit;
                server.answers = ServerAnswers {
                    requests_total: line.requests_total.unwrap_or(line.sessions_total),
                    errors_total: line.errors_total.unwrap_or(line.connect_errors_total),
                    response_ms: line.response_ms,
                };
            }
        }
    }
}

impl Edge {
    /// Reads what HAProxy really runs.
    ///
    /// # Errors
    /// [`EdgeError::Down`], [`EdgeError::Silent`], [`EdgeError::Stopping`],
    /// [`EdgeError::Answer`], [`EdgeError::OldWorker`]; call again later.
    pub async fn read(&mut self) -> Result<EdgeSnapshot, EdgeError> {
        self.seen = None;
        self.report().await
    }

    /// What the last [`Edge::tick`] saw, once; else as [`Edge::read`]. It saw it after all that it
    /// and the calls before it had sent, but for servers that it let in last.
    ///
    /// # Errors
    /// As [`Edge::read`].
    pub async fn report(&mut self) -> Result<EdgeSnapshot, EdgeError> {
        let seen = match self.seen.take().filter(|seen| seen.stat.is_some()) {
            Some(seen) => seen,
            None => Arc::new(self.look(Depth::Loads).await?),
        };
        self.look_for_sharers().await;
        let mut problems = self.say_sharers();
        problems.extend(self.last_problems.iter().cloned());
        let old = self.old_workers_load(&mut problems).await?;
        let servers = servers(
            &self.intent,
            &self.slots,
            &self.settings.check,
            &seen.running,
            &old,
            &self.over,
        );
        self.note_over(&servers);
        Ok(EdgeSnapshot {
            routes_generation: self.acknowledged,
            servers,
            backends: backends(
                seen.stat.as_deref().unwrap_or_default(),
                &self.old_workers_sums(),
            ),
            haproxy_version: seen.info.version.clone(),
            pid: seen.info.pid,
            problems,
            refused: self.refused(),
            sharers: self.sharers(),
            certificates: self.certificates(),
        })
    }
}

impl Edge {
    /// Whoever was said to be drained is not let in again: its stop may be under way.
    fn note_over(&mut self, said: &ServersByService) {
        let servers = self.intent.backends.values();
        let servers = servers.flat_map(|backend| backend.servers.values());
        let drains = servers.filter(|server| server.mode == ServerMode::Drain);
        let drains: BTreeSet<ReplicaId> = drains.map(|server| server.replica).collect();
        self.over.retain(|id| drains.contains(id));
        let all = said.values().flatten();
        let over = all.filter(|(id, server)| drains.contains(id) && server.is_over());
        self.over.extend(over.map(|(id, _)| *id));
    }
}

/// What a worker has of each replica of the routes. `old`: what workers of earlier configurations
/// still finish, by backend and address. `over`: replicas that were said to be drained.
#[must_use]
pub fn servers(
    intent: &Intent,
    slots: &SlotMap,
    check: &CheckSettings,
    running: &Running,
    old: &Loads,
    over: &BTreeSet<ReplicaId>,
) -> ServersByService {
    let mut services = ServersByService::new();
    for (name, backend) in &intent.backends {
        let Some((service, _)) = BackendName::parse(name.as_str()) else {
            continue;
        };
        let servers = services.entry(service).or_default();
        let pool = slots.backends.get(name.as_str());
        // Whoever leaves last has all that waits before it, and is let in for it.
        let queue = running.queues.get(name.as_str()).copied().unwrap_or(0);
        let running = running.backends.get(name.as_str());
        let served = pool.zip(running);
        let served = served.is_some_and(|(pool, running)| is_served(backend, pool, running));
        let waiting = if served { 0 } else { queue };
        let slots = pool.into_iter().flatten();
        let held: BTreeMap<ReplicaId, (SlotNumber, bool)> = slots
            .filter_map(|(slot, holder)| match holder {
                Holder::Replica { id, proven } => Some((*id, (*slot, *proven))),
                Holder::Leaving | Holder::Free => None,
            })
            .collect();
        for server in backend.servers.values() {
            let slot = held.get(&server.replica).copied();
            let now = slot.and_then(|(slot, proven)| Some((running?.get(&slot)?, proven)));
            let check = backend.check_settings(check);
            let mut observed = now.map_or(ABSENT, |(now, proven)| observe(now, proven, &check));
            let address = SocketAddr::new(server.address, server.port).to_string();
            if server.mode == ServerMode::Drain && !over.contains(&server.replica) {
                observed.queued = observed.queued.saturating_add(waiting);
            }
            if let Some(load) = old.get(&(name.to_string(), address)) {
                observed.sessions = observed.sessions.saturating_add(load.sessions);
                observed.queued = observed.queued.saturating_add(load.queued);
            }
            servers
                .entry(server.replica)
                .and_modify(|sum| *sum = merge(*sum, observed))
                .or_insert(observed);
        }
    }
    services
}

impl EdgeSnapshot {
    /// What is said of one replica.
    #[must_use]
    pub fn server(&self, replica: ReplicaId) -> Option<ServerObserved> {
        let mut services = self.servers.values();
        services.find_map(|servers| servers.get(&replica).copied())
    }
}

/// A replica that has no server in the worker.
const ABSENT: ServerObserved = ServerObserved {
    check: CheckState::Unknown,
    admin: ServerAdmin::Maint,
    sessions: 0,
    queued: 0,
    answers: ServerAnswers {
        requests_total: 0,
        errors_total: 0,
        response_ms: 0,
    },
};

fn observe(now: &RunningServer, proven: bool, settings: &CheckSettings) -> ServerObserved {
    let top = settings.rise + settings.fall - 1;
    let check = if now.admin == ServerAdmin::Maint || !now.check_enabled {
        CheckState::Unknown
    } else if !now.up || now.check_health == 0 {
        CheckState::Down
    } else if proven || now.check_health == top {
        CheckState::Up
    } else {
        // It left maint as up without having been asked.
        CheckState::Unknown
    };
    let load = now.load.unwrap_or_default();
    ServerObserved {
        check,
        admin: now.admin,
        sessions: load.sessions,
        queued: load.queued,
        answers: now.answers,
    }
}

pub(crate) fn add(a: Load, b: Load) -> Load {
    Load {
        sessions: a.sessions.saturating_add(b.sessions),
        queued: a.queued.saturating_add(b.queued),
    }
}

/// One replica behind two ways in: it is as open as its most open server and as well as its
/// least well one.
fn merge(a: ServerObserved, b: ServerObserved) -> ServerObserved {
    let openness = |admin: ServerAdmin| match admin {
        ServerAdmin::Maint => 0,
        ServerAdmin::Drain => 1,
        ServerAdmin::Ready => 2,
    };
    let wellness = |check: CheckState| match check {
        CheckState::Down => 0,
        CheckState::Unknown => 1,
        CheckState::Up => 2,
    };
    ServerObserved {
        check: if wellness(a.check) <= wellness(b.check) {
            a.check
        } else {
            b.check
        },
        admin: if openness(a.admin) >= openness(b.admin) {
            a.admin
        } else {
            b.admin
        },
        sessions: a.sessions.saturating_add(b.sessions),
        queued: a.queued.saturating_add(b.queued),
        answers: ServerAnswers {
            requests_total: a
                .answers
                .requests_total
                .saturating_add(b.answers.requests_total),
            errors_total: a
                .answers
                .errors_total
                .saturating_add(b.answers.errors_total),
            // That of the busier way in.
            response_ms: match a.answers.requests_total >= b.answers.requests_total {
                true => a.answers.response_ms,
                false => b.answers.response_ms,
            },
        },
    }
}

/// What services have at an edge. `old`: what workers of earlier configurations still have, by backend.
fn backends(
    stat: &[StatLine],
    old: &BTreeMap<String, Load>,
) -> BTreeMap<ServiceKey, BackendObserved> {
    let mut sums: BTreeMap<_, BackendObserved> = BTreeMap::new();
    for (name, load) in old {
        if let Some((service, _)) = BackendName::parse(name) {
            let sum = sums.entry(service).or_default();
            sum.sessions = sum.sessions.saturating_add(load.sessions);
            sum.queued = sum.queued.saturating_add(load.queued);
        }
    }
    for line in stat {
        let Some((service, _)) = BackendName::parse(&line.proxy) else {
            continue;
        };
        let sum = sums.entry(service).or_default();
        // What a hash or a cookie makes wait for one server is not in the backend's own queue.
        sum.queued = sum.queued.saturating_add(line.load.queued);
        if line.server != BACKEND_LINE {
            continue;
        }
        // The mean of two ways in is that of the busier one: rates are what weighs it.
        if line.rate >= sum.rate || sum.response_ms == 0 {
            sum.response_ms = line.response_ms;
        }
        sum.rate = sum.rate.saturating_add(line.rate);
        sum.sessions = sum.sessions.saturating_add(line.load.sessions);
        // Over HTTP, too, each request is a session of its own here and counts as it comes.
        // `req_tot` counts answers: it stands still while a service chokes on its queue.
        sum.requests_total = sum.requests_total.saturating_add(line.sessions_total);
        sum.errors_total = sum.errors_total.saturating_add(errors(line));
    }
    sums
}

/// Requests that went wrong. HAProxy answers 502 to 504 itself where no server did, so over HTTP
/// its count of answers has those too; plain TCP has only broken connections.
fn errors(line: &StatLine) -> u64 {
    let broken = line
        .connect_errors_total
        .saturating_add(line.response_errors_total);
    line.errors_total.unwrap_or(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readout;

    const HEAD: &str =
        "# pxname,svname,qcur,scur,rate,stot,req_tot,hrsp_5xx,econ,eresp,rtime,type,\n";

    fn read(lines: &[&str]) -> BTreeMap<String, BackendObserved> {
        let text = format!("{HEAD}{}\n\n", lines.join("\n"));
        let seen = backends(&readout::stat(&text), &BTreeMap::new());
        seen.into_iter()
            .map(|(key, b)| (key.to_string(), b))
            .collect()
    }

    fn name(port: u16) -> String {
        BackendName::of(&"shop/web".parse().unwrap(), port).to_string()
    }

    #[test]
    fn two_ways_in_are_one_service() {
        let (web, api) = (name(80), name(81));
        let lines = [
            format!("{web},BACKEND,3,13,20,400,390,7,7,0,205,1,"),
            format!("{web},slot1,1,10,20,400,400,7,7,0,205,2,"),
            format!("{api},BACKEND,0,1,2,40,40,1,0,1,900,1,"),
        ];
        let seen = read(&lines.each_ref().map(String::as_str));
        let expected = BackendObserved {
            rate: 22,
            sessions: 14,
            queued: 4,
            requests_total: 440,
            errors_total: 8,
            response_ms: 205,
            ..BackendObserved::default()
        };
        assert_eq!(seen["shop/web"], expected);
    }

    #[test]
    fn plain_tcp_counts_connections_and_broken_ones() {
        let line = format!("{},BACKEND,0,5,3,77,,,2,3,0,1,", name(80));
        let seen = &read(&[&line])["shop/web"];
        assert_eq!((seen.requests_total, seen.errors_total), (77, 5));
    }

    #[test]
    fn numbers_that_make_no_sense_stay_in_their_type() {
        let most = u64::MAX;
        let (web, api) = (name(80), name(81));
        let line =
            |name| format!("{name},BACKEND,-1,99999999999,-5,{most},{most},{most},0,0,NaN,1,");
        let seen = &read(&[&line(web), &line(api)])["shop/web"];
        assert_eq!((seen.queued, seen.rate, seen.response_ms), (0, 0, 0));
        assert_eq!((seen.sessions, seen.requests_total), (u32::MAX, most));
    }
}
