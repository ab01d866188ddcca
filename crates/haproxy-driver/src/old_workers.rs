//! Workers of earlier configurations: each finishes what it has, from the list that it had.
//!
//! Their sessions count like the present worker's: a replica is stopped only when nobody has any of
//! its sessions. One that lives and does not say what it has is therefore never taken for idle.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use longshore_model::routes::ServerMode;
use tokio::time::Instant;

use crate::edge::Edge;
use crate::error::EdgeError;
use crate::name::{BackendName, parse_slot};
use crate::readout::{self, BACKEND_LINE, Load, StatLine};
use crate::slots::SlotNumber;
use crate::snapshot::add;
use crate::step::{Action, Step};

/// Old workers that are asked for their sessions; `mworker-max-reloads` keeps them fewer.
const OLD_WORKERS_MAX: usize = 16;
/// A worker that was silent is asked again after this long: each silence costs a deadline, in which
/// nothing else is done.
const SILENT_MS: u64 = 10_000;

/// Sessions by backend and address: slots may have other holders now, the address is the replica's.
pub(crate) type Loads = BTreeMap<(String, String), Load>;

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct OldWorker {
    /// What it had when it was last read; none: it never was.
    loads: Option<Loads>,
    /// What its backends have in all.
    sums: BTreeMap<String, Load>,
    /// Until then it is not asked again.
    silent_until: Option<Instant>,
}

/// What one of them has.
struct Answer {
    pid: u32,
    lines: Vec<StatLine>,
    /// See [`Edge::queues_of_leavers`].
    queues: BTreeMap<String, u32>,
}

impl Edge {
    /// Sessions that workers of earlier configurations still finish. A worker that is silent has
    /// what it had when it was last read.
    ///
    /// # Errors
    /// [`EdgeError::OldWorker`]: one lives and was never read.
    pub(crate) async fn old_workers_load(
        &mut self,
        problems: &mut Vec<String>,
    ) -> Result<Loads, EdgeError> {
        if let Err(error) = self.old_workers_stat().await {
            problems.push(format!("old workers are not known: {}", error.chain()));
        }
        let mut sum = Loads::new();
        for (&pid, worker) in &self.old_workers {
            let Some(loads) = &worker.loads else {
                return Err(EdgeError::OldWorker { pid });
            };
            if worker.silent_until.is_some() {
                problems.push(format!(
                    "old worker {pid} is silent: taken to have the sessions that it had"
                ));
            }
            for (at, load) in loads {
                let known = sum.entry(at.clone()).or_default();
                *known = add(*known, *load);
            }
        }
        Ok(sum)
    }

    /// What backends of earlier configurations have, as far as it is known.
    pub(crate) fn old_workers_sums(&self) -> BTreeMap<String, Load> {
        let mut sums = BTreeMap::<String, Load>::new();
        for (name, load) in self.old_workers.values().flat_map(|worker| &worker.sums) {
            let known = sums.entry(name.clone()).or_default();
            *known = add(*known, *load);
        }
        sums
    }

    /// The workers of earlier configurations that answer.
    async fn old_workers_stat(&mut self) -> Result<Vec<Answer>, EdgeError> {
        let processes = self.processes().await?;
        self.oldest_reloads = processes.oldest_reloads;
        let mut alive = processes.old_workers;
        alive.truncate(OLD_WORKERS_MAX);
        self.old_workers.retain(|pid, _| alive.contains(pid));
        let now = Instant::now();
        let mut read = Vec::new();
        for pid in alive {
            let known = self.old_workers.get(&pid);
            if known
                .and_then(|worker| worker.silent_until)
                .is_some_and(|until| now < until)
            {
                continue;
            }
            let answer = self.master.ask(&format!("@!{pid} show stat -1 6 -1")).await;
            // The head of the table must be there: other words are the master's own.
            let is_silent = matches!(answer, Err(EdgeError::Silent { .. }));
            match answer
                .ok()
                .filter(|text| text.trim_start().starts_with("# "))
            {
                Some(text) => {
                    let lines = readout::stat(&text);
                    let queues = self.queues_of_leavers(&lines);
                    let worker = OldWorker::read(&lines, &queues);
                    self.old_workers.insert(pid, worker);
                    read.push(Answer { pid, lines, queues });
                }
                None => self.note_unread(pid, is_silent).await,
            }
        }
        Ok(read)
    }

    /// It may end at any moment; then it has no sessions. One that is about to end is answered for by
    /// its master at once, in other words: that costs nothing, so it is asked again at the next look.
    async fn note_unread(&mut self, pid: u32, is_silent: bool) {
        let ended = |now: readout::Processes| !now.old_workers.contains(&pid);
        if self.processes().await.is_ok_and(ended) {
            self.old_workers.remove(&pid);
            return;
        }
        let worker = self.old_workers.entry(pid).or_default();
        if is_silent {
            worker.silent_until = Some(Instant::now() + Duration::from_millis(SILENT_MS));
        }
    }

    /// A worker of an earlier configuration answers one more request of each client that kept
    /// its connection, from the list that it had. What does not serve any more is drained there
    /// too, once nothing waits that nobody else there would serve.
    pub(crate) async fn drain_old_workers(&mut self) -> Result<(), EdgeError> {
        for Answer { pid, lines, queues } in self.old_workers_stat().await? {
            for line in &lines {
                let Some((backend, slot)) = place(line).filter(|_| !is_out(line)) else {
                    continue;
                };
                if !self.serves(&backend, &line.address) && !queues.contains_key(&line.proxy) {
                    let action = self.way_out(&backend);
                    let drain = Step {
                        backend,
                        slot,
                        action,
                    };
                    self.master
                        .ask(&format!("@!{pid} {}", drain.wire()))
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Requests that wait in backends of an old worker for servers of which none serves any more: a
    /// server that is drained takes nothing of what waits.
    fn queues_of_leavers(&self, lines: &[StatLine]) -> BTreeMap<String, u32> {
        let waits = |line: &&StatLine| line.server == BACKEND_LINE && line.load.queued > 0;
        let stays = |line: &StatLine| {
            let name = place(line).filter(|_| !is_out(line));
            name.is_some_and(|(name, _)| self.serves(&name, &line.address))
        };
        let queues = lines.iter().filter(waits).filter(|queue| {
            let mut servers = lines.iter().filter(|line| line.proxy == queue.proxy);
            !servers.any(stays)
        });
        queues
            .map(|queue| (queue.proxy.clone(), queue.load.queued))
            .collect()
    }

    /// A cookie would bring clients back to a draining server.
    fn way_out(&self, backend: &BackendName) -> Action {
        match self.intent.backends.get(backend) {
            Some(backend) if backend.sticky_cookie.is_some() => Action::Maint,
            _ => Action::Drain,
        }
    }

    fn serves(&self, backend: &BackendName, address: &str) -> bool {
        self.intent.backends.get(backend).is_some_and(|backend| {
            backend.servers.values().any(|server| {
                server.mode == ServerMode::Serve
                    && SocketAddr::new(server.address, server.port).to_string() == address
            })
        })
    }
}

/// The slot that a line is about; none for other servers and for sums.
fn place(line: &StatLine) -> Option<(BackendName, SlotNumber)> {
    let (service, port) = BackendName::parse(&line.proxy)?;
    Some((BackendName::of(&service, port), parse_slot(&line.server)?))
}

/// It takes no new requests.
fn is_out(line: &StatLine) -> bool {
    line.status.starts_with("MAINT") || line.status.starts_with("DRAIN")
}

impl OldWorker {
    /// `queues`: what waits for servers that leave, by backend.
    fn read(lines: &[StatLine], queues: &BTreeMap<String, u32>) -> Self {
        let mut loads = Loads::new();
        let mut sums = BTreeMap::<String, Load>::new();
        for line in lines {
            let sum = sums.entry(line.proxy.clone()).or_default();
            sum.queued = sum.queued.saturating_add(line.load.queued);
            if line.server == BACKEND_LINE {
                sum.sessions = sum.sessions.saturating_add(line.load.sessions);
            }
            let load = loads.entry((line.proxy.clone(), line.address.clone()));
            let load = load.or_default();
            *load = add(*load, line.load);
            if let Some(queued) = queues.get(&line.proxy).filter(|_| !is_out(line)) {
                load.queued = load.queued.saturating_add(*queued);
            }
        }
        Self {
            loads: Some(loads),
            sums,
            silent_until: None,
        }
    }
}
