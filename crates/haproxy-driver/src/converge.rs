//! One convergence: looks, decides, sends, reloads where structure differs, writes the file.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_model::repair::RepairKind;
use tokio::time::Instant;

use crate::decide::{Decision, Worker, decide};
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::held::taken_ports;
use crate::look::{Depth, Seen};
use crate::repairs::Repaired;
use crate::slots::SlotMap;
use crate::socket::COMMANDS_MAX;
use crate::step::{Action, Step};
use crate::versions::{Verb, Version};

/// Looks at HAProxy within one call before it is given up for this time.
const ROUNDS_MAX: usize = 8;
/// Rounds after which servers that are let in are left to the next call: while many join, some pass
/// their check at each look, and there is no rest until all have.
const ROUNDS_OPENING: usize = 3;
/// While more than these join, servers that passed their check are let in without a look of their
/// own, which the next call has anyway, and a call that is no `apply` writes the file once a second.
const JOINING_MANY: usize = 64;
/// Between two files while many join.
const WRITE_SPACING: Duration = Duration::from_secs(1);
/// From so many commands on, the file is checked while HAProxy works them off.
const STEPS_MANY: usize = 256;
/// Before commands are sent a second time: what HAProxy 3.0 has answered, a busy one does only then.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Answers of HAProxy that an error quotes.
const COMPLAINTS_MAX: usize = 5;

/// What one convergence did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) decision: Decision,
    pub(crate) steps: usize,
    pub(crate) reloaded: bool,
    pub(crate) repaired: Vec<Repaired>,
    pub(crate) problems: Vec<String>,
    /// What only a reload puts back, in words.
    pub(crate) lost: Vec<Repaired>,
    pub(crate) waits: Waits,
    /// How much is looked at.
    pub(crate) depth: Depth,
}

/// Does a change of structure wait?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Waits {
    #[default]
    No,
    /// For a moment: the last reload has only just been.
    Spaced,
    /// HAProxy does not take it.
    Failing,
}

/// The last commands and what HAProxy said to them.
#[derive(Debug, Default)]
struct Sent {
    steps: HashSet<Step>,
    /// Some were sent a second time. HAProxy 3.0 answers before it has set an address, so the first
    /// look after it may still show the old one.
    is_again: bool,
    complaints: Vec<String>,
}

impl Sent {
    /// Commands that follow twice from reading back what they should have changed were not taken.
    /// Removals that are not taken fail the whole; an addition must not hold up the others.
    fn refuse_repetition(
        &mut self,
        decision: &mut Decision,
        outcome: &mut Outcome,
    ) -> Result<(), EdgeError> {
        let again: Vec<&Step> = decision
            .steps
            .iter()
            .filter(|step| self.steps.contains(*step))
            .collect();
        let Some(first) = again.first() else {
            return Ok(());
        };
        if !std::mem::replace(&mut self.is_again, true) {
            return Ok(());
        }
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
    pub(crate) async fn converge_or_prepare(
        &mut self,
        by_apply: bool,
    ) -> Result<Outcome, EdgeError> {
        let mut result = self.converge(by_apply).await;
        if matches!(&result, Err(EdgeError::Silent { socket, .. }) if *socket == self.admin.path) {
            result = self.rescue(result, by_apply).await;
        }
        match &mut result {
            Ok(outcome) => {
                outcome.repaired.extend(self.disk.take_unsaid());
                self.last_problems.clone_from(&outcome.problems);
                self.note_repairs(&outcome.repaired, by_apply);
            }
            Err(error) => self.last_problems = vec![error.to_string()],
        }
        // Silence is not death: a worker that hangs still has its sessions, and its slots with them.
        if matches!(&result, Err(EdgeError::Down { socket, .. }) if *socket == self.admin.path) {
            if self.pid != 0 {
                self.repairs.is_down(Instant::now());
            }
            self.mend_files_while_down().await;
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
            let mended = self.disk.take_unsaid();
            self.say_mended_while_down(mended);
            if let Some(ports) = held {
                let held = EdgeError::Held { ports };
                self.last_problems = vec![held.to_string()];
                return Err(held);
            }
        } else {
            self.kept_down.lasts(false, Instant::now());
            self.is_start_checked = false;
        }
        result
    }

    /// Silence is not death, but a worker that hangs is replaced.
    async fn rescue(
        &mut self,
        silent: Result<Outcome, EdgeError>,
        by_apply: bool,
    ) -> Result<Outcome, EdgeError> {
        match self.replace_hung().await {
            Ok(None) => silent,
            Ok(Some(said)) => {
                let mut outcome = self.converge(by_apply).await?;
                let hung = Repaired::new(RepairKind::Hung, said);
                outcome.repaired.insert(0, hung);
                outcome.reloaded = true;
                Ok(outcome)
            }
            Err(error) => {
                tracing::warn!(
                    error = error.chain(),
                    "a worker that hangs could not be replaced"
                );
                silent
            }
        }
    }

    /// Keeps what was mended. What `tick` mends its caller logs.
    fn note_repairs(&mut self, repaired: &[Repaired], by_apply: bool) {
        // What an `apply` finds of servers is the change that it brings.
        let is_told = |found: &&Repaired| !by_apply || found.kind > RepairKind::Certificates;
        let told: Vec<Repaired> = repaired.iter().filter(is_told).cloned().collect();
        for repaired in told.iter().filter(|_| by_apply) {
            tracing::warn!(%repaired, "HAProxy had drifted");
        }
        self.repairs.note(&told, Instant::now());
    }

    /// HAProxy is down: its next start must find the present routes. It may be down for a file that
    /// is as it was written and names one that is not, so it is asked once whatever was written.
    async fn prepare_start(&mut self) -> Result<(), EdgeError> {
        let draft = self.draft(true).await;
        if self.is_start_checked && self.written.as_ref() == Some(&draft.text) {
            return Ok(());
        }
        let Some(mut draft) = self.admitted(true, &BTreeMap::new()).await? else {
            return Ok(());
        };
        // It may be starting from the old file at this moment: then a reload sets it right.
        draft.slots.reload_owed |= self.loaded.as_ref() != Some(&draft.structure);
        draft.slots.loaded = self.ways_in();
        self.save_slots(draft.slots).await?;
        self.commit_config(draft.text).await?;
        self.is_start_checked = true;
        Ok(())
    }

    async fn converge(&mut self, by_apply: bool) -> Result<Outcome, EdgeError> {
        let mut outcome = Outcome {
            depth: match by_apply && !self.intent.queues_matter() {
                true => Depth::States,
                false => Depth::Loads,
            },
            ..Outcome::default()
        };
        let mut seen = self.settle(&mut outcome).await?;
        seen = self.restore(seen, &mut outcome).await?;
        let mut draft = self.present().await;
        if self.is_reload_due(&draft, &outcome) {
            seen = self
                .try_reload(&draft.structure, seen, &mut outcome)
                .await?;
            draft = self.present().await;
        }
        self.keep_within_files(&seen.info, &mut outcome).await;
        self.seen = (outcome.depth == Depth::Loads).then(|| Arc::clone(&seen));
        outcome.waits = self.waits(&draft, &outcome);
        let text = match outcome.waits {
            Waits::No => draft.text,
            Waits::Spaced | Waits::Failing => self.with_servers().await,
        };
        let may_wait = !by_apply && outcome.decision.joining.len() > JOINING_MANY;
        let is_recent = |at: Instant| at.elapsed() < WRITE_SPACING;
        if self.written.as_ref() != Some(&text)
            && !(may_wait && self.written_at.is_some_and(is_recent))
        {
            match self.write_config(text.clone()).await {
                Err(EdgeError::Refused { output }) if self.place_again(&output).await => {
                    self.write_config(text).await?;
                }
                other => other?,
            }
        }
        if outcome.waits == Waits::No {
            self.reloads.settled();
            if !self.via_master {
                self.renewals.settled();
            } else if !by_apply && let Err(error) = self.renew_socket(&mut outcome).await {
                let why = error.chain();
                outcome
                    .problems
                    .push(format!("the lost socket could not be renewed: {why}"));
            }
            let loaded = self.ways_in();
            if self.slots.loaded != loaded {
                let slots = self.slots.clone();
                self.save_slots(SlotMap { loaded, ..slots }).await?;
            }
        }
        self.say_waiting(&seen.running, &mut outcome);
        self.converge_certificates_too(&mut outcome).await;
        if outcome.waits != Waits::Spaced || !self.retired_serve(&seen.running) {
            self.acknowledged = self.intent.generation;
        }
        if (by_apply || !self.old_workers.is_empty())
            && let Err(error) = self.drain_old_workers().await
        {
            outcome
                .problems
                .push(format!("old workers may serve an old list: {error}"));
        }
        let unplaced = outcome.decision.unplaced.iter();
        let said = unplaced.map(|id| format!("{id} has no slot in HAProxy"));
        outcome.problems.extend(said);
        Ok(outcome)
    }

    /// What goes wrong with certificates holds up nothing else.
    async fn converge_certificates_too(&mut self, outcome: &mut Outcome) {
        let mut result = self.converge_certificates(outcome).await;
        if result.is_ok() && outcome.waits == Waits::No {
            result = self.collect_certificates().await;
        }
        if let Err(error) = result {
            outcome.problems.push(error.chain());
        }
        outcome.problems.extend(self.certificates.trouble.clone());
    }

    /// Looks, decides and sends until there is nothing left to send.
    pub(crate) async fn settle(&mut self, outcome: &mut Outcome) -> Result<Arc<Seen>, EdgeError> {
        let driven = self.driven();
        let mut sent = Sent::default();
        let mut vouched = None;
        for round in 1..=ROUNDS_MAX {
            let seen = self.look_once(outcome.depth).await?;
            let is_new = self.pid != seen.info.pid;
            self.mend_files(is_new, outcome).await;
            self.notice_pid(&seen, outcome);
            let version = Version::parse(&seen.info.version);
            if version.is_some() && !Verb::DriveSlots.is_in(version) {
                let version = seen.info.version.clone();
                return Err(EdgeError::TooOld { version });
            }
            let nobody = BTreeSet::new();
            let worker = Worker {
                running: Some(&seen.running),
                version,
                vouched: vouched.as_ref().unwrap_or(&nobody),
                over: &self.over,
            };
            let mut decision = decide(&driven, &self.slots, worker, &self.settings);
            self.save_slots(decision.slots.clone()).await?;
            let drift = std::mem::take(&mut decision.drift).into_iter();
            let changed = drift.map(|what| Repaired::new(RepairKind::Changed, what));
            outcome.repaired.extend(changed);
            let was_again = sent.is_again;
            sent.refuse_repetition(&mut decision, outcome)?;
            if sent.is_again && !was_again {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            let steps = std::mem::take(&mut decision.steps);
            outcome.decision = decision;
            if !steps.is_empty() {
                outcome.steps += steps.len();
                sent.complaints = self.send_and_write(&steps, &outcome.decision).await?;
                let only_opens = steps.iter().all(|step| step.action.opens());
                let many = outcome.decision.joining.len() > JOINING_MANY;
                if only_opens && (many || round > ROUNDS_OPENING) {
                    return Ok(seen);
                }
                sent.steps = steps.into_iter().collect();
            } else if vouched.is_none() && !outcome.decision.joining.is_empty() {
                vouched = Some(self.probe(&outcome.decision.joining).await);
                if vouched.as_ref().is_some_and(BTreeSet::is_empty) {
                    return Ok(seen);
                }
            } else {
                return Ok(seen);
            }
        }
        Err(EdgeError::NotTaken {
            detail: format!("no rest after {ROUNDS_MAX} rounds"),
        })
    }

    /// The look that `guard` had a moment ago, or one of its own.
    async fn look_once(&mut self, depth: Depth) -> Result<Arc<Seen>, EdgeError> {
        match self.seen.take().filter(|_| depth == Depth::States) {
            Some(seen) => Ok(seen),
            None => self.look(depth).await.map(Arc::new),
        }
    }

    /// Sends commands. Where they are many, the file that they lead to is checked and put in place
    /// at the same time: it names nobody as enabled who was not when it was decided.
    async fn send_and_write(
        &mut self,
        steps: &[Step],
        decision: &Decision,
    ) -> Result<Vec<String>, EdgeError> {
        if steps.len() < STEPS_MANY || !decision.reload.is_empty() || self.slots.reload_owed {
            return self.send(steps).await;
        }
        let draft = self.present().await;
        let is_loaded = self.loaded.as_ref() == Some(&draft.structure);
        if !is_loaded || self.written.as_ref() == Some(&draft.text) {
            return self.send(steps).await;
        }
        let (said, written) = tokio::join!(self.send(steps), self.put_config(&draft.text));
        // What fails is tried again after the last look, and said then.
        if written.is_ok() {
            self.note_written(draft.text);
        }
        said
    }

    /// Sends commands; gives what HAProxy said to them beyond success.
    pub(crate) async fn send(&self, steps: &[Step]) -> Result<Vec<String>, EdgeError> {
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
}

#[cfg(test)]
mod tests {
    use longshore_model::ServiceKey;

    use super::*;
    use crate::name::BackendName;

    fn step(action: Action) -> Step {
        let service: ServiceKey = "shop/web".parse().unwrap();
        Step {
            backend: BackendName::of(&service, 80),
            slot: 1,
            action,
        }
    }

    /// What each of three looks after the same commands says.
    fn looks(action: &Action) -> Vec<Result<(usize, usize), EdgeError>> {
        let mut sent = Sent {
            complaints: vec!["no".to_owned()],
            ..Sent::default()
        };
        let look = |_| {
            let mut outcome = Outcome::default();
            let mut decision = Decision {
                steps: vec![step(action.clone())],
                ..Decision::default()
            };
            sent.refuse_repetition(&mut decision, &mut outcome)?;
            sent.steps = decision.steps.iter().cloned().collect();
            Ok((decision.steps.len(), outcome.problems.len()))
        };
        (0..3).map(look).collect()
    }

    #[test]
    fn what_is_not_taken_is_sent_once_more_before_it_is_given_up() {
        let taken_out = looks(&Action::Park);
        assert!(matches!(taken_out[..2], [Ok((1, 0)), Ok((1, 0))]));
        let Err(EdgeError::NotTaken { detail }) = &taken_out[2] else {
            panic!("{taken_out:?}");
        };
        assert!(detail.ends_with("(no)"), "{detail}");
        let let_in = looks(&Action::Ready);
        assert!(matches!(let_in[..], [Ok((1, 0)), Ok((1, 0)), Ok((0, 1))]));
    }
}
