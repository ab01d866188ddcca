//! A worker that hangs, and a worker whose administration socket is lost.
//!
//! Both have a master that answers, so both are mended by reloads through it.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::repair::RepairKind;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::admit::Draft;
use crate::blocking::blocking;
use crate::converge::Outcome;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::files;
use crate::look::Depth;
use crate::pending::Due;
use crate::readout::{Processes, Running};
use crate::reload::EMPTY_STATE;
use crate::repairs::Repaired;
use crate::settings::Settings;
use crate::slots::for_reload;

/// The name under which the socket's renewals are counted.
const SOCKET: &str = "administration socket";

impl Edge {
    /// The worker has been silent for one deadline. Where it is for another one and its master
    /// answers, a new worker takes over from the file, without the states that nobody can ask for.
    /// What was done, in words; none where there was no reason to.
    ///
    /// # Errors
    /// Any [`EdgeError`] of a reload.
    pub(crate) async fn replace_hung(&mut self) -> Result<Option<String>, EdgeError> {
        if !matches!(self.admin.talk(&[]).await, Err(EdgeError::Silent { .. })) {
            return Ok(None);
        }
        let before = self.processes().await?;
        let wanted = self.draft(true).await.structure;
        if self.reloads.due(&wanted, Instant::now(), 0) != Due::Now {
            return Ok(None);
        }
        let loaded = self.load_without_states().await;
        if let Err(error) = loaded {
            self.reloads.failed(wanted, error.chain(), Instant::now());
            return Err(error);
        }
        self.reloads.done(Instant::now());
        let mut said = Vec::new();
        for pid in before.workers {
            said.push(self.end_hung(pid).await);
        }
        Ok(Some(said.join("; ")))
    }

    async fn load_without_states(&mut self) -> Result<(), EdgeError> {
        match self.admitted(true, &BTreeMap::new()).await? {
            Some(draft) => self.load_draft(draft, EMPTY_STATE.to_owned()).await,
            None => Ok(()),
        }
    }

    /// Ends a worker that has been replaced and still does not answer: it cannot let go of its
    /// listening sockets, and the kernel would go on giving it a share of the new connections.
    async fn end_hung(&self, pid: u32) -> String {
        let said = format!("HAProxy's worker {pid} hung and was replaced");
        if self.master.ask(&format!("@!{pid} show info")).await.is_ok() {
            return said;
        }
        let is_old = |now: Processes| now.old_workers.contains(&pid);
        if !self.processes().await.is_ok_and(is_old) {
            return said;
        }
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let killed = raw.map(|pid| kill_process(pid, Signal::KILL));
        match killed {
            Some(Ok(())) => format!("{said} and ended"),
            _ => format!(
                "{said}, but could not be ended: end it by hand, it still takes connections"
            ),
        }
    }

    /// A reload hands listening sockets on, so it does not bring a lost one back. Two do: one with
    /// the socket elsewhere, one with it in its place.
    ///
    /// # Errors
    /// Any [`EdgeError`] of a reload.
    pub(crate) async fn renew_socket(&mut self, outcome: &mut Outcome) -> Result<(), EdgeError> {
        let now = Instant::now();
        if self.renewals.due(SOCKET, now, 0) != Due::Now {
            return Ok(());
        }
        // Until a look through the socket says otherwise.
        self.renewals.failed(SOCKET.to_owned(), String::new(), now);
        let elsewhere = Settings {
            admin_socket: files::draft_path(&self.settings.admin_socket),
            ..Settings::clone(&self.settings)
        };
        let path = elsewhere.admin_socket.clone();
        for settings in [Arc::new(elsewhere), Arc::clone(&self.settings)] {
            let seen = self.look(Depth::States).await?;
            self.reload_with(settings, &seen.running).await?;
        }
        // A worker that is still finishing its requests needs it no more.
        let _ = blocking(move || std::fs::remove_file(path)).await;
        self.reloads.done(Instant::now());
        outcome.reloaded = true;
        let socket = self.admin.path.display();
        outcome.repaired.push(Repaired::new(
            RepairKind::Socket,
            format!("{socket} was lost and is back"),
        ));
        Ok(())
    }

    async fn reload_with(
        &mut self,
        settings: Arc<Settings>,
        running: &Running,
    ) -> Result<(), EdgeError> {
        let (intent, slots) = (Arc::clone(&self.intent), self.slots.clone());
        let make = move || Draft::of(&intent, for_reload(&slots, &settings), &settings);
        let draft = blocking(make).await;
        self.check_config(&draft.text).await?;
        let states = self.state_file(running);
        self.load_draft(draft, states).await
    }
}
