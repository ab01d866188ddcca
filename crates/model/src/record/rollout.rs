//! How far a rollout may go.

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::ServiceName;
use crate::rollout::{Direction, Trouble};
use crate::update::{GateSpec, UpdateSpec};
use crate::ways::RefusedBy;

/// One look at a rollout that is not over: what it goes by, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// When.
    pub at_ms: TimeMs,
    /// App revision that it goes to.
    pub revision: u64,
    /// Forward, or back to the last good revision.
    pub direction: Direction,
    /// Where it stood.
    pub stage: RolloutStage,
    /// There is nothing to go back to: no other template runs, and none ever served in full.
    pub is_first: bool,
    /// What the file asks for.
    pub terms: UpdateSpec,
    /// Replicas wanted.
    pub target: u32,
    /// Staying replicas of the new template.
    pub new: u32,
    /// Of these, serving.
    pub serving: u32,
    /// Staying replicas of other templates.
    pub old: u32,
    /// Batches begun.
    pub batches: u32,
    /// The last of them has not passed yet.
    pub open: bool,
    /// Replicas of the new template that may exist.
    pub allowed: u32,
    /// Since when all replicas of the new template have served.
    pub serving_since_ms: Option<TimeMs>,
    /// When the last batch passed.
    pub passed_ms: Option<TimeMs>,
    /// Nothing has room to start one before another stops; looked at only where that matters.
    pub no_room: bool,
    /// Replicas of the new template that failed, with the last failure.
    pub failed: u32,
    /// The last failure.
    pub trouble: Option<Trouble>,
    /// What just went wrong: the question is whether it goes on in spite of that.
    #[serde(default)]
    pub setback: Option<Setback>,
    /// HAProxy's numbers, where the file has a gate.
    pub gate: Option<GateLook>,
    /// A job that it waits for; none: it waits for none, or is past that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobLook>,
    /// Edges that do not serve the service as wanted, where its replicas are reached by another way
    /// in. Nothing follows from it: no other replica would mend that.
    #[serde(default, skip_serializing_if = "RefusedBy::is_empty")]
    pub refused_by: RefusedBy,
    /// What follows.
    pub answer: RolloutAnswer,
}

/// A job without whose end no replica of the new template may start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobLook {
    /// The job.
    pub service: ServiceName,
    /// How it failed; none: it is to run, or runs.
    #[serde(default)]
    pub failed: Option<Trouble>,
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStage {
    /// It goes on.
    Running,
    /// An operator holds it.
    Held,
    /// It was over, and old replicas came back.
    Done,
}

/// What just went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setback {
    /// A new replica failed.
    Replica,
    /// HAProxy's numbers are worse than the file tolerates.
    Gate,
}

/// HAProxy's numbers of both sides since all the new replicas serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateLook {
    /// What the file tolerates.
    pub spec: GateSpec,
    /// Since when the numbers count; none: it is not known, and they begin anew.
    pub since_ms: Option<TimeMs>,
    /// The new replicas.
    pub new: GateSide,
    /// The old ones.
    pub old: GateSide,
}

/// What one side answered since the gate began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GateSide {
    /// Requests.
    pub requests: u64,
    /// Of these, answered with 500 or above, or not at all.
    pub errors: u64,
    /// Their response times took at least so many ms in all: HAProxy shows rounded means.
    #[serde(default)]
    pub least_ms: u64,
    /// And at most so many.
    #[serde(default)]
    pub most_ms: u64,
}

/// What follows from a look at a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum RolloutAnswer {
    /// It fails; what then follows is the file's `failure_action`.
    Fails {
        /// Why.
        why: Trouble,
    },
    /// It goes on in spite of what just went wrong: the file tolerates as much, or asks for it.
    GoesOn {
        /// What went wrong.
        why: Trouble,
    },
    /// Old replicas that came back are replaced as well.
    Reopens,
    /// All replicas of the new template serve: their monitoring begins.
    Watches,
    /// One of them serves no longer: the monitoring will begin anew.
    Interrupted,
    /// Not all replicas of the new template serve yet.
    WaitsForReplicas,
    /// A job must complete before a replica of the new template may start.
    WaitsForJob {
        /// The job.
        service: ServiceName,
    },
    /// The batch is watched.
    Monitors {
        /// Until when.
        until_ms: TimeMs,
    },
    /// The batch has been watched for long enough.
    Passes,
    /// The pause between two batches lasts.
    Delays {
        /// Until when.
        until_ms: TimeMs,
    },
    /// An operator holds it: no other batch begins.
    Holds,
    /// The next batch begins.
    Opens {
        /// Its number, from 1.
        batch: u32,
        /// Replicas of the new template that may exist from now on.
        allowed: u32,
        /// The old ones stop first.
        stop_first: bool,
    },
    /// Every replica is new and was watched.
    Finishes,
}

impl RolloutAnswer {
    /// The rollout stays where it is.
    #[must_use]
    pub fn stays(&self) -> bool {
        matches!(
            self,
            Self::WaitsForReplicas
                | Self::WaitsForJob { .. }
                | Self::Monitors { .. }
                | Self::Delays { .. }
                | Self::Holds
        )
    }
}

impl RolloutRecord {
    /// Replicas of the new template that shall be there by now.
    #[must_use]
    pub fn expected(&self) -> u32 {
        match self.old {
            0 => self.target,
            _ => self.allowed.min(self.target),
        }
    }

    /// The same rollout stays where it is for the same reason, as before.
    #[must_use]
    pub fn repeats(&self, before: &Self) -> bool {
        let same = std::mem::discriminant(&self.answer) == std::mem::discriminant(&before.answer);
        let alike = (self.revision, self.direction, self.batches)
            == (before.revision, before.direction, before.batches);
        same && alike && self.answer.stays()
    }
}
