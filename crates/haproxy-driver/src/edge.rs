//! The engine: brings one HAProxy in step with the routes and keeps it there.
//!
//! # Guarantees
//! - A generation is acknowledged only after its removals and drains were read back.
//! - The file on disk always passes `haproxy -c` and names only servers that have proven
//!   themselves as enabled: a HAProxy restarted or reloaded by somebody else comes up right.
//! - A failed reload leaves the old worker and the old file.
//!
//! # Assumptions
//! - Nobody else writes the configuration file, and one `Edge` drives one HAProxy.
//!
//! # Caveats
//! - A HAProxy that is down is not started: its supervisor does that. The file is kept current
//!   meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use longshore_model::observe::{BackendObserved, ServersByService};
use longshore_model::{ReplicaId, Routes, ServiceKey};
use tokio::time::Instant;

use crate::decide::{Decision, Worker, decide, for_reload};
use crate::error::EdgeError;
use crate::files;
use crate::held::{KeptDown, taken_ports};
use crate::intent::Intent;
use crate::name::BackendName;
use crate::probe::{self, Question};
use crate::readout::{self, Capabilities, Running};
use crate::render::{check_settings, render, structure};
use crate::settings::Settings;
use crate::slots::SlotMap;
use crate::socket::{AdminSocket, COMMANDS_MAX, MasterSocket};
use crate::step::{Action, Step};

/// Looks at HAProxy within one call before it is given up for this time.
const ROUNDS_MAX: usize = 8;
/// Answers of HAProxy that an error quotes.
const COMPLAINTS_MAX: usize = 5;
/// First and longest pause between two attempts of a reload that `tick` makes by itself.
const RETRY_MS: (u64, u64) = (1_000, 30_000);

/// What [`Edge::apply`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Generation that may now be acknowledged: its removals and drains are in force, its
    /// additions are addressed.
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
    pub repaired: Vec<String>,
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
}

/// One HAProxy on this host.
#[derive(Debug)]
pub struct Edge {
    pub(crate) settings: Settings,
    pub(crate) admin: AdminSocket,
    pub(crate) master: MasterSocket,
    pub(crate) slots: SlotMap,
    pub(crate) intent: Intent,
    pub(crate) acknowledged: u64,
    /// Text of the file on disk.
    pub(crate) written: Option<String>,
    /// Structure that the worker was started with; none where that is not certain.
    pub(crate) loaded: Option<String>,
    /// Workers of earlier configurations, when they were last looked for.
    pub(crate) old_workers: Vec<u32>,
    /// Pid of the worker that was last seen.
    pub(crate) pid: u32,
    pub(crate) routes: Option<Routes>,
    /// Services that were left out, in whole or in part, and why.
    pub(crate) refused: BTreeMap<ServiceKey, String>,
    /// What went wrong last, until it goes right.
    pub(crate) last_problems: Vec<String>,
    pub(crate) retry: Retry,
    /// When ports that other programs hold are asked for again.
    pub(crate) look_again: Option<Instant>,
    pub(crate) kept_down: KeptDown,
}

/// When `tick` may try again what failed.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    failures: u32,
    not_before: Option<Instant>,
}

impl Retry {
    pub(crate) fn failed(&mut self) {
        let (first, longest) = RETRY_MS;
        let pause_ms = first
            .saturating_mul(1 << self.failures.min(10))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + Duration::from_millis(pause_ms));
    }

    fn is_due(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }
}

/// One look at the worker.
pub(crate) struct Seen {
    pub(crate) info: readout::Info,
    pub(crate) running: Running,
    pub(crate) stat: Vec<readout::StatLine>,
}

/// What one convergence did.
#[derive(Debug, Default)]
struct Outcome {
    decision: Decision,
    steps: usize,
    reloaded: bool,
    repaired: Vec<String>,
    problems: Vec<String>,
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

/// The last commands and what HAProxy said to them.
#[derive(Debug, Default)]
struct Sent {
    steps: Vec<Step>,
    complaints: Vec<String>,
}

impl Sent {
    /// Commands that follow from reading back what they should have changed were not taken.
    /// Removals that are not taken fail the whole; an addition must not hold up the others.
    fn refuse_repetition(
        &mut self,
        decision: &mut Decision,
        outcome: &mut Outcome,
    ) -> Result<(), EdgeError> {
        let again: Vec<&Step> = decision
            .steps
            .iter()
            .filter(|step| self.steps.contains(step))
            .collect();
        let Some(first) = again.first() else {
            return Ok(());
        };
        self.complaints.truncate(COMPLAINTS_MAX);
        let detail = format!("{} ({})", first.wire(), self.complaints.join("; "));
        if again
            .iter()
            .any(|step| matches!(step.action, Action::Maint | Action::Park))
        {
            return Err(EdgeError::NotTaken { detail });
        }
        outcome
            .problems
            .push(format!("HAProxy does not take: {detail}"));
        decision.steps.retain(|step| !self.steps.contains(step));
        Ok(())
    }
}

impl Edge {
    /// Checks the settings, loads the saved slot map, and writes a first file where there is
    /// none, so that HAProxy can be started. Does not talk to HAProxy.
    ///
    /// # Errors
    /// [`EdgeError::Setting`], [`EdgeError::File`], [`EdgeError::Binary`] where haproxy is not installed.
    pub async fn open(settings: Settings) -> Result<Self, EdgeError> {
        check_settings(&settings)?;
        let slots = match files::read(&settings.slots_path)? {
            None => SlotMap::default(),
            Some(text) => saved_slots(&text, &settings),
        };
        let written = files::read(&settings.config_path)?;
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
            intent: Intent::default(),
            acknowledged: 0,
            written,
            loaded,
            old_workers: Vec::new(),
            pid: 0,
            routes: None,
            refused: BTreeMap::new(),
            last_problems: Vec::new(),
            retry: Retry::default(),
            look_again: None,
            kept_down: KeptDown::default(),
            settings,
        };
        if edge.written.is_none() {
            edge.empty_state_file()?;
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

    /// Brings HAProxy in step with `routes`. Returns as soon as all removals and drains are in
    /// force and all additions are addressed; [`Edge::tick`] lets the additions in.
    ///
    /// # Errors
    /// Any [`EdgeError`]; HAProxy goes on with what it runs. Call again with the same routes.
    pub async fn apply(&mut self, routes: &Routes) -> Result<Applied, EdgeError> {
        self.routes = Some(routes.clone());
        self.compile();
        let outcome = self.converge_or_prepare(true).await?;
        self.acknowledged = self.intent.generation;
        Ok(Applied {
            generation: self.acknowledged,
            converged: outcome.decision.joining.is_empty() && outcome.decision.unplaced.is_empty(),
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
        if self.look_again.is_some_and(|at| Instant::now() >= at) {
            // A port that was taken may be free now.
            self.compile();
        }
        let outcome = self.converge_or_prepare(false).await?;
        Ok(Ticked {
            pending: outcome.decision.joining.len()
                + outcome.decision.leaving
                + outcome.decision.unplaced.len(),
            steps: outcome.steps,
            reloaded: outcome.reloaded,
            repaired: outcome.repaired,
        })
    }

    async fn converge_or_prepare(&mut self, by_apply: bool) -> Result<Outcome, EdgeError> {
        let result = self.converge(by_apply).await;
        match &result {
            Ok(outcome) => self.last_problems.clone_from(&outcome.problems),
            Err(error) => self.last_problems = vec![error.to_string()],
        }
        // Silence is not death: a worker that hangs still has its sessions, and its slots with them.
        if matches!(&result, Err(EdgeError::Down { socket, .. }) if *socket == self.admin.path) {
            let taken = taken_ports(&self.intent, self.settings.bind_address);
            let gone = self.admin.is_gone().await;
            let held = self.kept_down_by(&taken);
            if self
                .kept_down
                .lasts(gone && !taken.is_empty(), Instant::now())
            {
                // Better without these ports than not at all.
                self.leave_out(&taken);
            } else {
                self.note_taken(&taken);
            }
            self.prepare_start().await?;
            if let Some(ports) = held {
                let held = EdgeError::Held { ports };
                self.last_problems = vec![held.to_string()];
                return Err(held);
            }
        } else {
            self.kept_down.lasts(false, Instant::now());
        }
        result
    }

    /// HAProxy is down: its next start must find the present routes.
    async fn prepare_start(&mut self) -> Result<(), EdgeError> {
        let worker = Worker {
            running: None,
            can_add: false,
            vouched: &BTreeSet::new(),
        };
        let decision = decide(&self.intent, &self.slots, worker, &self.settings);
        let mut slots = for_reload(&decision.slots, &self.settings);
        let text = render(&self.intent, &slots, &self.settings);
        if self.written.as_ref() == Some(&text) {
            return Ok(());
        }
        // It may be starting from the old file at this moment: then a reload sets it right.
        slots.reload_owed |= self.loaded.as_ref() != Some(&structure(&text));
        self.save_slots(slots)?;
        self.write_config(text).await
    }

    async fn converge(&mut self, by_apply: bool) -> Result<Outcome, EdgeError> {
        let mut outcome = Outcome::default();
        let mut running = self.settle(&mut outcome).await?;
        let text = render(&self.intent, &self.slots, &self.settings);
        let structure_differs = self.loaded.as_ref() != Some(&structure(&text));
        let needs_reload =
            self.slots.reload_owed || structure_differs || !outcome.decision.reload.is_empty();
        if needs_reload {
            if !by_apply && !self.retry.is_due() {
                outcome
                    .problems
                    .push("a reload is due and was put off after a failure".to_owned());
                return Ok(outcome);
            }
            if let Err(error) = self.reload(&running).await {
                self.retry.failed();
                return Err(error);
            }
            outcome.reloaded = true;
            running = self.settle(&mut outcome).await?;
            if let Some(reason) = outcome.decision.reload.first() {
                self.retry.failed();
                return Err(EdgeError::Reload {
                    detail: format!("after it, {reason}"),
                });
            }
            drop(running);
        }
        let text = render(&self.intent, &self.slots, &self.settings);
        if self.written.as_ref() != Some(&text) {
            self.write_config(text).await?;
        }
        self.retry = Retry::default();
        if (by_apply || !self.old_workers.is_empty())
            && let Err(error) = self.drain_old_workers().await
        {
            outcome
                .problems
                .push(format!("old workers may serve an old list: {error}"));
        }
        for id in &outcome.decision.unplaced {
            outcome
                .problems
                .push(format!("{id} has no slot in HAProxy"));
        }
        Ok(outcome)
    }

    /// Looks, decides and sends until there is nothing left to send.
    async fn settle(&mut self, outcome: &mut Outcome) -> Result<Running, EdgeError> {
        let mut sent = Sent::default();
        let mut vouched = None;
        for _ in 0..ROUNDS_MAX {
            let seen = self.look().await?;
            self.notice_pid(&seen, outcome);
            let capabilities = Capabilities::of(&seen.info.version);
            if capabilities.too_old {
                return Err(EdgeError::TooOld {
                    version: seen.info.version,
                });
            }
            let nobody = BTreeSet::new();
            let worker = Worker {
                running: Some(&seen.running),
                can_add: capabilities.add_server,
                vouched: vouched.as_ref().unwrap_or(&nobody),
            };
            let mut decision = decide(&self.intent, &self.slots, worker, &self.settings);
            self.save_slots(decision.slots.clone())?;
            outcome.repaired.append(&mut decision.drift);
            sent.refuse_repetition(&mut decision, outcome)?;
            let steps = std::mem::take(&mut decision.steps);
            outcome.decision = decision;
            if !steps.is_empty() {
                outcome.steps += steps.len();
                sent.complaints = self.send(&steps).await?;
                sent.steps = steps;
            } else if vouched.is_none() && !outcome.decision.joining.is_empty() {
                vouched = Some(self.probe(&outcome.decision.joining).await);
                if vouched.as_ref().is_some_and(BTreeSet::is_empty) {
                    return Ok(seen.running);
                }
            } else {
                return Ok(seen.running);
            }
        }
        Err(EdgeError::NotTaken {
            detail: format!("no rest after {ROUNDS_MAX} rounds"),
        })
    }

    /// Asks the joining servers what HAProxy's check will ask them.
    async fn probe(&self, joining: &BTreeSet<ReplicaId>) -> BTreeSet<(BackendName, ReplicaId)> {
        if self.settings.probe_deadline_ms == 0 {
            return BTreeSet::new();
        }
        let questions = self.intent.backends.values().flat_map(|backend| {
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

    fn notice_pid(&mut self, seen: &Seen, outcome: &mut Outcome) {
        let pid = seen.info.pid;
        if seen.info.via_master {
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
            self.old_workers.push(self.pid);
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

    /// Sends commands; gives what HAProxy said to them beyond success.
    async fn send(&self, steps: &[Step]) -> Result<Vec<String>, EdgeError> {
        let mut complaints = Vec::new();
        for batch in steps.chunks(COMMANDS_MAX) {
            let lines: Vec<String> = batch.iter().map(Step::wire).collect();
            for line in &lines {
                tracing::debug!(command = %line, "to haproxy");
            }
            let (_, answers) = self.admin.talk(&lines).await?;
            complaints.extend(
                answers
                    .iter()
                    .map(|a| a.trim().to_owned())
                    .filter(|a| !a.is_empty()),
            );
        }
        Ok(complaints)
    }

    pub(crate) fn save_slots(&mut self, slots: SlotMap) -> Result<(), EdgeError> {
        if slots == self.slots {
            return Ok(());
        }
        let path = &self.settings.slots_path;
        let text = serde_json::to_string_pretty(&slots).map_err(|source| EdgeError::Slots {
            path: path.clone(),
            source,
        })?;
        files::replace_lazily(path, &text)?;
        self.slots = slots;
        Ok(())
    }

    /// Checks a new file with haproxy itself and puts it in place.
    pub(crate) async fn write_config(&mut self, text: String) -> Result<(), EdgeError> {
        self.check_config(&text).await?;
        files::commit_draft(&self.settings.config_path)?;
        self.written = Some(text);
        Ok(())
    }

    /// Writes the draft of the file and asks haproxy about it.
    pub(crate) async fn check_config(&self, text: &str) -> Result<(), EdgeError> {
        let draft = files::write_draft(&self.settings.config_path, text)?;
        let deadline = Duration::from_millis(self.settings.check_deadline_ms);
        files::check(&self.settings.binary, &draft, deadline).await
    }
}
