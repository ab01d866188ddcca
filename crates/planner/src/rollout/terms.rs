//! What a rollout allows for now.

use longshore_model::ServiceSpec;
use longshore_model::reason::LeaveReason;
use longshore_model::rollout::Phase;
use longshore_model::spec::{UpdateOrder, UpdateSpec};

use super::old_template;
use crate::draft::Draft;
use crate::{jobs, place, progress};

/// What a rollout allows for now.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) update: UpdateSpec,
    /// Replicas of the new template that may exist.
    pub(super) allowed: u32,
    /// Of these, the ones whose batch has passed.
    pub(super) passed: u32,
    /// Old ones stop before new ones start.
    pub(super) stop_first: bool,
    /// No two that follow each other may write to its volume at once.
    pub(super) sole_writer: bool,
    /// Old ones stay beside their successors until the batch has passed.
    pub(super) gated: bool,
    /// It failed: the old template is what the service shall run.
    pub(super) stopped: bool,
    /// An operator holds it.
    pub(super) held: bool,
    /// Stop-first: so many fit on the nodes at all. More may be wanted.
    fit: u32,
}

impl Terms {
    pub(super) fn of(draft: &Draft<'_>, service: usize, spec: &ServiceSpec) -> Self {
        let update = progress::update(draft, service, spec);
        let rollout = progress::of(draft, service);
        let going = rollout.filter(|r| matches!(r.phase, Phase::Running | Phase::Held { .. }));
        let held = going.is_some_and(|rollout| !rollout.runs());
        // With no old one left and none known there is nothing to go back to.
        let stopped = progress::stopped(draft, service) && old_template(draft, service).is_some();
        let tight = place::is_tight(spec);
        let forced = update.order == UpdateOrder::Auto
            && tight
            && going.is_some_and(|rollout| rollout.open && rollout.stop_first);
        let stop_first = match update.order {
            UpdateOrder::StopFirst => true,
            UpdateOrder::StartFirst => false,
            // The file may have changed since the batch began.
            UpdateOrder::Auto => forced,
        };
        Self {
            // Nothing is exchanged before the job that goes first has completed.
            allowed: match (jobs::awaited(draft, service), going) {
                (Some(_), _) => 0,
                (None, Some(rollout)) => rollout.allowed,
                (None, None) => u32::MAX,
            },
            passed: rollout.map_or(u32::MAX, |rollout| rollout.passed),
            stop_first,
            sole_writer: update.order == UpdateOrder::StopFirst
                && spec.container.written_volume().is_some(),
            gated: spec.gate.is_some() && going.is_some_and(|rollout| rollout.from.is_some()),
            stopped,
            held,
            fit: match stop_first && tight {
                true => place::fit(draft, service),
                false => u32::MAX,
            },
            update,
        }
    }

    /// Does one that is to be replaced for this reason stop first? Of a volume's sole writers
    /// whatever has a place to come back to.
    pub(super) fn swaps(&self, reason: &LeaveReason, followed: bool) -> bool {
        self.stop_first
            && match reason {
                LeaveReason::Replaced => !self.stopped,
                _ => self.sole_writer && followed,
            }
    }

    /// Replicas exchanged at a time.
    pub(super) fn batch(&self, target: u32) -> u32 {
        match self.stop_first && self.update.order == UpdateOrder::Auto {
            true => 1,
            false => self.update.batch(target),
        }
    }

    /// Healthy routed replicas that a change must leave.
    pub(super) fn floor(&self, target: u32) -> u32 {
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::FloorIgnored) {
            return 0;
        }
        let away = self.update.max_unavailable;
        match self.stop_first {
            // It means to go without the ones being replaced, all of them if there is one.
            true => {
                let fit = target.min(self.fit);
                fit.saturating_sub(away.max(self.batch(target)).max(1))
            }
            false => self.floor_without_place(target),
        }
    }

    /// The same for one that another one follows, or cannot.
    pub(super) fn floor_for(&self, target: u32, followed: bool) -> u32 {
        match followed {
            true => self.floor(target),
            // As many stop at once as the file says, but only ones that somebody follows.
            false if self.stop_first => target,
            false => self.floor_without_place(target),
        }
    }

    /// Beside its successor none stops that need not.
    fn floor_without_place(&self, target: u32) -> u32 {
        let away = self.update.max_unavailable;
        target.saturating_sub(away).max(1).min(target)
    }
}
