//! Looks at HAProxy: what its worker runs, and what joining servers answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use longshore_model::ReplicaId;

use crate::converge::Outcome;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::intent::BackendIntent;
use crate::name::BackendName;
use crate::probe::{self, Question};
use crate::readout::{self, Running};
use crate::render::structure;

/// One look at the worker.
pub(crate) struct Seen {
    pub(crate) info: readout::Info,
    pub(crate) running: Running,
    pub(crate) stat: Vec<readout::StatLine>,
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
        self.via_master = seen.info.via_master;
        if self.via_master {
            let socket = self.admin.path.display();
            outcome
                .problems
                .push(format!("{socket} is gone; commands go through the master"));
        }
        if self.pid != 0 && self.pid != pid {
            outcome.repaired.push(format!(
                "HAProxy was restarted or reloaded by somebody else (worker {} is now {pid})",
                self.pid
            ));
            self.old_workers.entry(self.pid).or_default();
            // It was started from the file as it is on disk.
            self.loaded = self.written.as_deref().map(structure);
        }
        self.pid = pid;
    }

    /// Reads servers and statistics from a worker that is not stopping.
    pub(crate) async fn look(&self) -> Result<Seen, EdgeError> {
        let commands = [
            "show servers state".to_owned(),
            "show stat -1 6 -1".to_owned(),
        ];
        let (info, answers) = self.admin.talk(&commands).await?;
        let answer = |i: usize| answers.get(i).map_or("", String::as_str);
        let mut running = readout::servers_state(answer(0));
        let stat = readout::stat(answer(1));
        // The heads of both tables must be there; a HAProxy that has no backend yet has no rows.
        let readable = |i: usize| answer(i).lines().any(|line| line.starts_with("# "));
        if let Some(i) = (0..commands.len()).find(|&i| !readable(i)) {
            return Err(EdgeError::Answer {
                command: commands.get(i).cloned().unwrap_or_default(),
                why: answer(i).chars().take(200).collect(),
            });
        }
        running.set_loads(&stat);
        Ok(Seen {
            info,
            running,
            stat,
        })
    }
}
