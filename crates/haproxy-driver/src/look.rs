//! Looks at HAProxy: what its worker runs, and what joining servers answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use longshore_model::ReplicaId;
use longshore_model::repair::RepairKind;
use longshore_model::routes::ServerMode;
use tokio::time::Instant;

use crate::converge::Outcome;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::intent::BackendIntent;
use crate::name::BackendName;
use crate::probe::{self, Question};
use crate::readout::{self, Running};
use crate::render::structure;
use crate::repairs::Repaired;
use crate::slots::Holder;

/// One look at the worker.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) info: readout::Info,
    pub(crate) running: Running,
    /// Statistics; none where they were not asked for.
    pub(crate) stat: Option<Vec<readout::StatLine>>,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Depth {
    #[default]
    /// Where servers point to and whether they take requests: what a change is verified by.
    States,
    /// Their sessions and counters as well, which cost HAProxy four times as much.
    Loads,
}

impl Edge {
    /// Asks the joining servers what HAProxy's check will ask them.
    pub(crate) async fn probe(
        &self,
        joining: &BTreeSet<ReplicaId>,
    ) -> BTreeSet<(BackendName, ReplicaId)> {
        if self.settings.probe_deadline_ms == 0 {
            return BTreeSet::new();
        }
        // Who expects another protocol is asked by HAProxy alone, which speaks it.
        let plain = |b: &&BackendIntent| b.route.proxy_protocol.is_none() && !b.route.http2;
        let backends = self.intent.backends.values().filter(plain);
        let questions = backends.flat_map(|backend| {
            let servers = backend
                .servers
                .values()
                .filter(|s| joining.contains(&s.replica));
            servers.map(|server| Question {
                key: (backend.name.clone(), server.replica),
                address: SocketAddr::new(server.address, server.port),
                check: backend.check.clone(),
            })
        });
        let deadline = Duration::from_millis(self.settings.probe_deadline_ms);
        probe::ask_all(questions.collect(), deadline).await
    }

    pub(crate) fn notice_pid(&mut self, seen: &Seen, outcome: &mut Outcome) {
        let pid = seen.info.pid;
        let was_via_master = std::mem::replace(&mut self.via_master, seen.info.via_master);
        if self.via_master {
            let socket = self.admin.path.display();
            if !was_via_master {
                let what = format!("{socket} is gone; commands go through the master");
                let socket = Repaired::new(RepairKind::Socket, what);
                outcome.repaired.push(socket);
            }
            outcome
                .problems
                .push(format!("{socket} is gone; commands go through the master"));
        }
        if self.pid != 0 && self.pid != pid {
            let what = format!(
                "HAProxy was restarted or reloaded by somebody else (worker {} is now {pid})",
                self.pid
            );
            let restarted = Repaired::new(RepairKind::Restarted, what);
            outcome.repaired.push(restarted);
            self.old_workers.entry(self.pid).or_default();
            // It was started from the file as it is on disk.
            let is_certain = !self.disk.is_uncertain(Instant::now());
            let written = self.written.as_deref().filter(|_| is_certain);
            self.loaded = written.map(structure);
        }
        self.pid = pid;
    }

    /// Reads servers and statistics from a worker that is not stopping.
    pub(crate) async fn look(&self, depth: Depth) -> Result<Seen, EdgeError> {
        let whole = depth == Depth::States || self.is_anybody_leaving();
        let seen = self.look_at(depth, whole).await?;
        // Somebody else took a server of a replica out: it has sessions all the same.
        if !whole && self.lacks_load(&seen.running) {
            return self.look_at(depth, true).await;
        }
        Ok(seen)
    }

    /// Servers in maint may have sessions while some slot's last holder leaves. Otherwise those are
    /// the parked ones, half of all lines.
    fn is_anybody_leaving(&self) -> bool {
        let holders = self.slots.backends.iter().flat_map(|(name, pool)| {
            let backend = self.intent.backends.get(name.as_str());
            pool.values().map(move |holder| (backend, holder))
        });
        let mut holders = holders;
        holders.any(|(backend, holder)| match holder {
            Holder::Free => false,
            Holder::Leaving => true,
            Holder::Replica { id, .. } => {
                let server = backend.and_then(|backend| backend.servers.get(id));
                server.is_none_or(|server| server.mode == ServerMode::Drain)
            }
        })
    }

    /// Is there a server of a replica without sessions and counters?
    fn lacks_load(&self, running: &Running) -> bool {
        self.slots.backends.iter().any(|(name, pool)| {
            let servers = running.backends.get(name);
            pool.iter().any(|(slot, holder)| {
                let server = servers.and_then(|servers| servers.get(slot));
                matches!(holder, Holder::Replica { .. }) && server.is_some_and(|s| s.load.is_none())
            })
        })
    }

    async fn look_at(&self, depth: Depth, whole: bool) -> Result<Seen, EdgeError> {
        let mut commands = vec!["show servers state".to_owned()];
        if depth == Depth::Loads {
            let only = if whole { "" } else { " no-maint" };
            commands.push(format!("show stat -1 7 -1{only}"));
        }
        let (info, answers) = self.admin.talk(&commands).await?;
        let answer = |i: usize| answers.get(i).map_or("", String::as_str);
        let mut running = readout::servers_state(answer(0));
        // The heads of both tables must be there; a HAProxy that has no backend yet has no rows.
        let readable = |i: usize| answer(i).lines().any(|line| line.starts_with("# "));
        if let Some(i) = (0..commands.len()).find(|&i| !readable(i)) {
            return Err(EdgeError::Answer {
                command: commands.get(i).cloned().unwrap_or_default(),
                why: answer(i).chars().take(200).collect(),
            });
        }
        let stat = (depth == Depth::Loads).then(|| readout::stat(answer(1)));
        if let Some(stat) = &stat {
            running.set_loads(stat);
        }
        Ok(Seen {
            info,
            running,
            stat,
        })
    }
}
