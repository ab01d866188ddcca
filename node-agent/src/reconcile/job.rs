//! Replicas of jobs: their container runs to its end once and is never started again here. Whether
//! another try is made, and where, is the controller's to say.

use longshore_model::ReplicaState;
use longshore_model::reason::FailReason;

use super::tracked::Tracked;
use crate::runtime::Inspection;

impl Tracked {
    /// Does it run once, until it ends?
    pub(super) fn is_job(&self) -> bool {
        let wanted = self.wanted.as_ref();
        wanted.is_some_and(|wanted| wanted.spec.job.is_some())
    }

    /// It has failed or completed here: nothing more becomes of it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, ReplicaState::Failed | ReplicaState::Completed)
    }

    /// The controller knows that it has ended: it is not started again, whatever became of its
    /// container and of what this agent remembers.
    pub(crate) fn has_ended(&self) -> bool {
        self.wanted.as_ref().is_some_and(|w| w.assigned.ended)
    }

    /// Its container has run to its end.
    pub(super) fn job_ended(&mut self, how: &Inspection) {
        match how.exit_code {
            0 => self.become_state(ReplicaState::Completed, None),
            code => self.fail(FailReason::Exited {
                code,
                oom: how.oom,
                last_line: how.last_line.clone(),
            }),
        }
    }
}
