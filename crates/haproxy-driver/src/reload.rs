//! Reload through the master: only where structure changes.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_model::spec::RouteSpec;
use tokio::time::Instant;

use crate::admit::Draft;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::files;
use crate::name::BackendName;
use crate::quarantine::blamed;
use crate::readout::{self, Processes, Running, state_line_enabled};
use crate::seal::seal;
use crate::slots::Holder;

/// Between two looks for the new worker. A reload takes about 45 ms.
const POLL_MS: u64 = 10;
/// Questions to a master that does not listen, that far apart, before it is taken for gone.
const MASTER_TRIES: usize = 20;
/// A state file with no states: only its version.
pub(crate) const EMPTY_STATE: &str = "1\n";

impl Edge {
    /// Puts the file for the present intent in place and lets HAProxy load it. False: there is
    /// nothing to load but what HAProxy does not take.
    pub(crate) async fn reload(
        &mut self,
        running: &Running,
        wants_load: &BTreeMap<BackendName, &'static str>,
    ) -> Result<bool, EdgeError> {
        let Some(draft) = self.admitted(false, wants_load).await? else {
            return Ok(false);
        };
        let states = self.state_file(running);
        self.load_draft(draft, states).await.map(|()| true)
    }

    /// Gives the draft its name and lets HAProxy load it. Where it does not, the old file is back
    /// and the reload stays owed: what the worker has is not certain.
    pub(crate) async fn load_draft(
        &mut self,
        draft: Draft,
        states: String,
    ) -> Result<(), EdgeError> {
        self.seen = None;
        let before = self.processes_of_present_master().await?;
        let last_good = self.written.clone();
        let mut owed = self.slots.clone();
        owed.reload_owed = true;
        self.save_slots(owed).await?;
        files::replace(&self.settings.state_path, states).await?;
        files::commit_draft(&self.settings.config_path).await?;
        self.written = Some(draft.text);
        self.disk.config_is_ours();

        let result = self.load(&before).await;
        self.empty_state_file().await?;
        match result {
            Ok(pid) => {
                self.pid = pid;
                for pid in before.workers {
                    self.old_workers.entry(pid).or_default();
                }
                // Until it is read: an old worker may be gone by then.
                self.oldest_reloads = self.oldest_reloads.saturating_add(1);
                self.loaded = Some(draft.structure);
                let mut slots = draft.slots;
                slots.reload_owed = false;
                slots.loaded = self.ways_in();
                self.save_slots(slots).await
            }
            Err(error) => {
                if let Some(text) = last_good {
                    files::replace(&self.settings.config_path, seal(text.clone())).await?;
                    self.written = Some(text);
                }
                if let EdgeError::Reload { detail } = &error {
                    self.blame_start(detail);
                }
                Err(error)
            }
        }
    }

    /// HAProxy passed the check and could not start: whose port or backend its words name is held
    /// back. What it had before is not to blame.
    fn blame_start(&mut self, words: &str) {
        let file = self.written.clone().unwrap_or_default();
        let named = blamed(&file, words);
        let suspects = self.suspects(false).into_iter();
        let culprits: Vec<_> = suspects.filter(|name| named.contains(name)).collect();
        self.hold(&culprits, words);
    }

    /// The intent's ways in by backend name.
    pub(crate) fn ways_in(&self) -> BTreeMap<String, RouteSpec> {
        let backends = self.intent.backends.iter();
        let ways = backends.map(|(name, backend)| (name.to_string(), backend.route.clone()));
        ways.collect()
    }

    /// A state file without states: HAProxy warns where there is none, and one with old states
    /// would bring them back at a cold start.
    pub(crate) async fn empty_state_file(&self) -> Result<(), EdgeError> {
        files::replace(&self.settings.state_path, EMPTY_STATE.to_owned()).await
    }

    /// States of the servers that are let in now, so that one that is down does not start as up and
    /// that not all are checked at once. The others, and those not proven, are left out: the
    /// file has them disabled, and the next decision takes them from there.
    pub(crate) fn state_file(&self, running: &Running) -> String {
        if running.header.is_empty() {
            return EMPTY_STATE.to_owned();
        }
        let mut text = running.header.clone();
        for (name, pool) in &self.slots.backends {
            let intent = BackendName::parse(name)
                .map(|(service, port)| BackendName::of(&service, port))
                .and_then(|name| self.intent.backends.get(&name));
            let (Some(intent), Some(servers)) = (intent, running.backends.get(name)) else {
                continue;
            };
            for (slot, holder) in pool {
                let Holder::Replica { id, proven: true } = holder else {
                    continue;
                };
                let server = intent.servers.get(id);
                if !server.is_some_and(|server| intent.lets_in(server)) {
                    continue;
                }
                let line = servers.get(slot).map(|server| server.line.as_str());
                if let Some(line) = line.and_then(|l| state_line_enabled(&running.header, l)) {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
        text
    }

    pub(crate) async fn processes(&self) -> Result<Processes, EdgeError> {
        let text = self.master.ask("show proc").await?;
        let processes = readout::processes(&text);
        if processes.workers.is_empty() && processes.old_workers.is_empty() {
            return Err(EdgeError::Answer {
                command: "show proc".to_owned(),
                why: "no worker in it".to_owned(),
            });
        }
        Ok(processes)
    }

    /// A master replaces itself by a new program when it starts and when it reloads, and nobody
    /// answers in between.
    async fn processes_of_present_master(&self) -> Result<Processes, EdgeError> {
        for _ in 1..MASTER_TRIES {
            match self.processes().await {
                Err(EdgeError::Down { .. }) => {
                    tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
                }
                other => return other,
            }
        }
        self.processes().await
    }

    /// Asks for the reload and waits for a worker that was not there before; gives its pid.
    async fn load(&self, before: &Processes) -> Result<u32, EdgeError> {
        let started = Instant::now();
        let deadline = Duration::from_millis(self.settings.reload_deadline_ms);
        // Up to 2.6 the master replaces itself at once and says nothing, or breaks the connection
        // while it does; later ones answer when all is over.
        let said = self.master.ask("reload").await.unwrap_or_default();
        if said.contains("Success=0") {
            return Err(EdgeError::Reload {
                detail: files::alerts(&said),
            });
        }
        let mut seen = String::from("the master did not answer");
        while started.elapsed() < deadline {
            if let Ok(now) = self.processes().await {
                if now.failed_reloads > before.failed_reloads {
                    return Err(EdgeError::Reload {
                        detail: self.why_not().await,
                    });
                }
                let known =
                    |pid: &u32| before.workers.contains(pid) || before.old_workers.contains(pid);
                if let Some(pid) = now.workers.iter().find(|pid| !known(pid)) {
                    match self.admin.talk(&[]).await {
                        Ok((info, _)) if info.pid == *pid => return Ok(*pid),
                        Ok((info, _)) => seen = format!("the socket belongs to {}", info.pid),
                        Err(error) => seen = error.to_string(),
                    }
                } else {
                    seen = "no new worker".to_owned();
                }
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
        Err(EdgeError::Reload {
            detail: format!("not over after {deadline:?}: {seen}"),
        })
    }

    /// What the master remembers of its failed start.
    async fn why_not(&self) -> String {
        let logs = self
            .master
            .ask("show startup-logs")
            .await
            .unwrap_or_default();
        let alerts = if logs.contains("[ALERT]") {
            files::alerts(&logs)
        } else {
            String::new()
        };
        if alerts.is_empty() {
            "haproxy passed the check but could not start; its own log says why".to_owned()
        } else {
            alerts
        }
    }
}
