//! The engine: brings one HAProxy in step with the routes and keeps it there.
//!
//! # Guarantees
//! - A generation is acknowledged only after its removals and drains were read back.
//! - The file on disk always passes `haproxy -c` and names only servers that have proven
//!   themselves as enabled: a HAProxy restarted or reloaded by somebody else comes up right.
//! - A failed reload leaves the old worker and the old structure; membership goes on, and the file
//!   names the servers of now.
//! - Files that somebody else changed are placed again (`disk`).
//! - A way in that HAProxy does not take costs its own service only.
//! - Servers that serve leave by a drain, or dead: a list that would empty a service otherwise is
//!   not obeyed (`guard`).
//!
//! # Assumptions
//! - One `Edge` drives one HAProxy.
//!
//! # Caveats
//! - A HAProxy that is down is not started: its supervisor does that. The files are kept current
//!   and whole meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_model::certificate::CertificatesObserved;
use longshore_model::observe::{BackendObserved, PortsBySharer, ServersByService};
use longshore_model::repair::Repair;
use longshore_model::{ReplicaId, Routes, ServiceKey};
use tokio::time::Instant;

use crate::certificates::CertificateFiles;
use crate::converge::Waits;
use crate::disk::Disk;
use crate::error::EdgeError;
use crate::files;
use crate::guard::Kept;
use crate::held::KeptDown;
use crate::intent::Intent;
use crate::look::Seen;
use crate::old_workers::OldWorker;
use crate::pending::Reloads;
use crate::quarantine::Quarantine;
use crate::render::{check_settings, render, structure};
use crate::repairs::{Repaired, Repairs};
use crate::seal::{self, Found};
use crate::settings::Settings;
use crate::sharers::Sharers;
use crate::slots::SlotMap;
use crate::socket::{AdminSocket, MasterSocket};

/// What [`Edge::apply`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Generation that may now be acknowledged: its removals and drains are in force, its
    /// additions are addressed, but for services that [`Edge::refused`] names. It stays at the one
    /// before for the moment that a removed way in waits for a reload that follows another one.
    pub generation: u64,
    /// No server waits for its check.
    pub converged: bool,
    /// HAProxy was reloaded.
    pub reloaded: bool,
    /// Commands sent.
    pub steps: usize,
    /// Servers without a slot and other troubles; services that were left out are in
    /// [`Edge::refused`].
    pub problems: Vec<String>,
}

/// What [`Edge::tick`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ticked {
    /// Servers that wait for their check and slots that wait for their last session. While not
    /// zero, call again in 50 to 100 ms (later, where it stays so for long), else in 1 s.
    pub pending: usize,
    /// Commands sent.
    pub steps: usize,
    /// HAProxy was reloaded.
    pub reloaded: bool,
    /// What was found different from the intended state and repaired, in words.
    pub repaired: Vec<Repaired>,
}

/// What HAProxy really runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EdgeSnapshot {
    /// Routes generation that these states were read after.
    pub routes_generation: u64,
    /// Replicas of the routes, summed over their backends and over old workers.
    pub servers: ServersByService,
    /// Services, summed over their ways in.
    pub backends: BTreeMap<ServiceKey, BackendObserved>,
    /// HAProxy's version.
    pub haproxy_version: String,
    /// Pid of the worker.
    pub pid: u32,
    /// What is wrong with HAProxy itself, in words; empty when all is well. Services that it
    /// cannot serve are in `refused`.
    pub problems: Vec<String>,
    /// Services that cannot be reached here as wanted, and why; also among the problems.
    pub refused: BTreeMap<ServiceKey, String>,
    /// Other programs that listen on ports of this HAProxy and get a part of its connections, with
    /// these ports; also among the problems.
    pub sharers: PortsBySharer,
    /// Certificates that the routes name.
    pub certificates: CertificatesObserved,
}

/// One HAProxy on this host.
#[derive(Debug)]
pub struct Edge {
    pub(crate) settings: Arc<Settings>,
    pub(crate) admin: AdminSocket,
    pub(crate) master: MasterSocket,
    pub(crate) slots: SlotMap,
    /// The routes without what breaks a rule and without ports that other programs hold.
    pub(crate) wanted: Intent,
    /// What of it is served: without what HAProxy does not take, or with that as it was before.
    pub(crate) intent: Arc<Intent>,
    pub(crate) quarantine: Quarantine,
    pub(crate) certificates: CertificateFiles,
    pub(crate) acknowledged: u64,
    /// Text of the file on disk.
    pub(crate) written: Option<String>,
    pub(crate) written_at: Option<Instant>,
    pub(crate) disk: Disk,
    /// Structure that the worker was started with; none where that is not certain.
    pub(crate) loaded: Option<String>,
    /// Workers of earlier configurations by pid, when they were last looked for.
    pub(crate) old_workers: BTreeMap<u32, OldWorker>,
    /// Reloads that the oldest of them has lived through.
    pub(crate) oldest_reloads: u32,
    /// Pid of the worker that was last seen.
    pub(crate) pid: u32,
    /// The routes of the last apply.
    pub(crate) routes: Option<Routes>,
    /// What is obeyed instead, while they would empty what serves.
    pub(crate) kept: Option<Kept>,
    /// Services that were left out, in whole or in part, and why; without the quarantine's.
    pub(crate) refused: BTreeMap<ServiceKey, String>,
    /// Services that wait for a reload that fails.
    pub(crate) waiting: BTreeMap<ServiceKey, String>,
    /// What went wrong last, until it goes right.
    pub(crate) last_problems: Vec<String>,
    pub(crate) reloads: Reloads,
    /// Attempts to bring a lost administration socket back.
    pub(crate) renewals: Reloads,
    /// Commands go through the master: the worker's socket is lost.
    pub(crate) via_master: bool,
    /// When ports that other programs hold are asked for again.
    pub(crate) look_again: Option<Instant>,
    pub(crate) kept_down: KeptDown,
    /// Replicas that leave and were said to have nothing left to do: they may be stopped at any moment.
    pub(crate) over: BTreeSet<ReplicaId>,
    /// Since when a reload waits for somebody who serves what waits in HAProxy.
    pub(crate) stranded_since: Option<Instant>,
    /// HAProxy is down, and haproxy has taken the file that it will start from, with all that this names.
    pub(crate) is_start_checked: bool,
    /// Other programs that listen on its ports.
    pub(crate) sharers: Sharers,
    pub(crate) repairs: Repairs,
    /// The last look, until something is changed or it was used.
    pub(crate) seen: Option<Arc<Seen>>,
}

/// Reads the saved map. A damaged one (power was lost) is built again from what HAProxy runs.
fn saved_slots(text: &str, settings: &Settings) -> SlotMap {
    serde_json::from_str(text).unwrap_or_else(|error| {
        let path = settings.slots_path.display();
        tracing::warn!(%path, %error, "the slot map is damaged; built again from what runs");
        SlotMap {
            reload_owed: true,
            ..SlotMap::default()
        }
    })
}

/// Reads the file that an earlier driver left.
fn saved_config(
    settings: &Settings,
    is_first: bool,
    disk: &mut Disk,
) -> Result<Option<String>, EdgeError> {
    let path = &settings.config_path;
    let found = files::read(path)?.map(seal::open);
    // Before the first routes it may be anybody's.
    if !is_first && matches!(found, None | Some(Found::Changed(_))) {
        disk.was_changed(path);
    }
    match found {
        None => Ok(None),
        Some(Found::Whole(text)) => Ok(Some(text)),
        Some(Found::Changed(text)) => {
            disk.config_is_strange();
            Ok(Some(text))
        }
        Some(Found::Unknown(text)) => {
            files::replace_now(path, &seal::seal(text.clone()))?;
            Ok(Some(text))
        }
    }
}

impl Edge {
    ///
    /// # Errors
    /// [`EdgeError::Setting`], [`EdgeError::File`], [`EdgeError::Binary`] where haproxy is not installed.
    pub async fn open(settings: Settings) -> Result<Self, EdgeError> {
        check_settings(&settings)?;
        let saved = files::read(&settings.slots_path)?;
        let is_first = saved.is_none();
        let slots = saved.map_or_else(SlotMap::default, |text| saved_slots(&text, &settings));
        let mut disk = Disk::default();
        let written = saved_config(&settings, is_first, &mut disk)?;
        let certain = !slots.reload_owed;
        let loaded = written.as_deref().filter(|_| certain).map(structure);
        let deadline = Duration::from_millis(settings.socket_deadline_ms);
        let master = MasterSocket {
            path: settings.master_socket.clone(),
            deadline,
        };
        let mut edge = Self {
            admin: AdminSocket {
                path: settings.admin_socket.clone(),
                deadline,
                master: master.clone(),
            },
            master,
            slots,
            wanted: Intent::default(),
            intent: Arc::default(),
            quarantine: Quarantine::default(),
            certificates: CertificateFiles::open(&settings)?,
            acknowledged: 0,
            written,
            written_at: None,
            disk,
            loaded,
            old_workers: BTreeMap::new(),
            oldest_reloads: 0,
            pid: 0,
            routes: None,
            kept: None,
            refused: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_problems: Vec::new(),
            reloads: Reloads::default(),
            renewals: Reloads::default(),
            via_master: false,
            look_again: None,
            kept_down: KeptDown::default(),
            over: BTreeSet::new(),
            stranded_since: None,
            is_start_checked: false,
            sharers: Sharers::default(),
            repairs: Repairs::default(),
            seen: None,
            settings: Arc::new(settings),
        };
        if edge.written.is_none() {
            edge.empty_state_file().await?;
            let text = render(&edge.intent, &SlotMap::default(), &edge.settings);
            edge.write_config(text).await?;
            edge.loaded = edge.written.as_deref().map(structure);
        }
        Ok(edge)
    }

    /// Which replica holds which slot; saved by the driver itself at `slots_path`.
    #[must_use]
    pub fn slots(&self) -> &SlotMap {
        &self.slots
    }

    /// The last things that were found other than they should be and mended, oldest first. What an
    /// `apply` finds of servers is the change that it brings, and no repair.
    #[must_use]
    pub fn repairs(&self) -> Vec<(Instant, Repair)> {
        self.repairs.kept()
    }

    /// Brings HAProxy in step with `routes`. Returns as soon as all removals and drains are in
    /// force and all additions are addressed; [`Edge::tick`] lets the additions in.
    ///
    /// # Errors
    /// Any [`EdgeError`]; HAProxy goes on with what it runs. Call again with the same routes.
    pub async fn apply(&mut self, routes: &Routes) -> Result<Applied, EdgeError> {
        self.routes = Some(routes.clone());
        self.prepare_certificates(true).await;
        self.guard().await;
        self.compile();
        self.write_lists().await;
        let outcome = self.converge_or_prepare(true).await?;
        let decision = &outcome.decision;
        Ok(Applied {
            generation: self.acknowledged,
            converged: decision.joining.is_empty()
                && decision.unplaced.is_empty()
                && self.kept.is_none()
                && outcome.waits == Waits::No,
            reloaded: outcome.reloaded,
            steps: outcome.steps,
            problems: outcome.problems,
        })
    }

    /// Advances joining servers, frees slots, repairs drift from the routes of the last apply.
    /// Does nothing before the first apply.
    ///
    /// # Errors
    /// Any [`EdgeError`]; call again later.
    pub async fn tick(&mut self) -> Result<Ticked, EdgeError> {
        if self.routes.is_none() {
            return Ok(Ticked::default());
        }
        let may_differ = self.prepare_certificates(false).await;
        // A port that was taken may be free now.
        let looks_again = self.look_again.is_some_and(|at| Instant::now() >= at);
        let is_kept = self.kept.is_some();
        if is_kept {
            self.guard().await;
        }
        if is_kept || may_differ || looks_again {
            self.compile();
        }
        self.write_lists().await;
        let outcome = self.converge_or_prepare(false).await?;
        Ok(Ticked {
            pending: outcome.decision.joining.len()
                + outcome.decision.leaving
                + outcome.decision.finishing
                + outcome.decision.unplaced.len()
                + usize::from(outcome.waits == Waits::Spaced)
                + usize::from(self.kept.is_some()),
            steps: outcome.steps,
            reloaded: outcome.reloaded,
            repaired: outcome.repaired,
        })
    }

    pub(crate) async fn save_slots(&mut self, slots: SlotMap) -> Result<(), EdgeError> {
        if slots == self.slots {
            return Ok(());
        }
        let path = &self.settings.slots_path;
        let text = serde_json::to_string(&slots).map_err(|source| EdgeError::Slots {
            path: path.clone(),
            source,
        })?;
        files::replace_lazily(path, text).await?;
        self.slots = slots;
        Ok(())
    }

    /// Checks a new file with haproxy itself and puts it in place.
    pub(crate) async fn write_config(&mut self, text: String) -> Result<(), EdgeError> {
        self.check_config(&text).await?;
        self.commit_config(text).await
    }

    /// Puts the draft that was checked in place.
    pub(crate) async fn commit_config(&mut self, text: String) -> Result<(), EdgeError> {
        files::commit_draft(&self.settings.config_path).await?;
        self.note_written(text);
        Ok(())
    }

    /// As [`Edge::write_config`], but for the note of it.
    pub(crate) async fn put_config(&self, text: &str) -> Result<(), EdgeError> {
        self.check_config(text).await?;
        files::commit_draft(&self.settings.config_path).await
    }

    pub(crate) fn note_written(&mut self, text: String) {
        self.disk.config_is_ours();
        self.written = Some(text);
        self.written_at = Some(Instant::now());
    }

    /// Writes the draft of the file and asks haproxy about it.
    pub(crate) async fn check_config(&self, text: &str) -> Result<(), EdgeError> {
        let sealed = seal::seal(text.to_owned());
        let draft = files::write_draft(&self.settings.config_path, sealed).await?;
        let deadline = Duration::from_millis(self.settings.check_deadline_ms);
        files::check(&self.settings.binary, &draft, deadline).await
    }
}
