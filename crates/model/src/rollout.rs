//! How one template of a service follows another: what the file asks for, where it is, what
//! operators said about it, why it stopped.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ReplicaId, ServiceName, TemplateId};
use crate::job::times_word;
use crate::reason::FailReason;
use crate::spec::ServiceSpec;
use crate::ways::{RefusedBy, refused_in_words};
use crate::{TimeMs, span};

/// The present or the last rollout of a service. It stays in the plan after its end, so that
/// `rollout status` can say how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// App revision that it goes to.
    pub revision: u64,
    /// Template that it goes to.
    pub to: TemplateId,
    /// Template that most replicas ran when it began; none: the service is new.
    #[serde(default)]
    pub from: Option<TemplateId>,
    /// App revision of `from`; 0 if there is none.
    #[serde(default)]
    pub from_revision: u64,
    /// Forward, or back to the last good revision.
    pub direction: Direction,
    /// When it began.
    pub started_ms: TimeMs,
    /// Where it is.
    pub phase: Phase,
    /// When it came to that phase.
    pub phase_ms: TimeMs,
    /// Batches begun.
    #[serde(default)]
    pub batches: u32,
    /// The last of them has not passed yet.
    #[serde(default)]
    pub open: bool,
    /// Replicas of `to` that may exist: those that were there, and those of all batches begun.
    #[serde(default)]
    pub allowed: u32,
    /// Of these, the ones whose batch has passed its monitoring.
    #[serde(default)]
    pub passed: u32,
    /// Since when all replicas of `to` have served; none while one does not.
    #[serde(default)]
    pub serving_since_ms: Option<TimeMs>,
    /// When the last batch passed; the next waits for `delay_ms` from here.
    #[serde(default)]
    pub passed_ms: Option<TimeMs>,
    /// This batch stops the old ones first.
    #[serde(default)]
    pub stop_first: bool,
    /// Replicas of `to` that failed before they had served for `monitor_ms`.
    #[serde(default)]
    pub failed: u32,
    /// What went wrong last.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    /// Why it waits for a person, if it failed.
    #[serde(default)]
    pub pause: PauseCause,
    /// `resume` of an operator that was obeyed last (its `at_ms`).
    #[serde(default)]
    pub resume_obeyed_ms: Option<TimeMs>,
}

/// Where a rollout goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To what the file asks for.
    Forward,
    /// Back to the last good revision, because the file's failed.
    Back,
}

/// Why a rollout that failed waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum PauseCause {
    /// Its file says so.
    #[default]
    Asked,
    /// Its file asks for a rollback, but no earlier revision ever served in full.
    NothingWorked,
    /// It was the way back.
    WayBack {
        /// To this app revision.
        to_revision: u64,
    },
}

impl PauseCause {
    /// What went wrong, and why that ends in a pause where the file does not ask for one.
    #[must_use]
    pub fn with(&self, why: &Trouble) -> String {
        match self {
            Self::Asked => why.to_string(),
            Self::NothingWorked => {
                format!("there is no earlier revision that worked to return to; {why}")
            }
            Self::WayBack { to_revision } => {
                format!("the way back to revision {to_revision} failed as well; {why}")
            }
        }
    }
}

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// It goes on.
    Running,
    /// It failed and goes nowhere until an operator or another revision decides.
    Failed,
    /// An operator holds it: the batch that runs is finished, no other begins.
    Held {
        /// Who.
        by: String,
    },
    /// All replicas run `to` and have been monitored.
    Done,
}

impl Rollout {
    /// Replicas may still be exchanged without anybody's word.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.phase == Phase::Running
    }

    /// One word for people and scripts: `running`, `rolling_back`, `paused`, `held`, `done`,
    /// `rolled_back`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (&self.phase, self.direction) {
            (Phase::Running, Direction::Forward) => "running",
            (Phase::Running, Direction::Back) => "rolling_back",
            (Phase::Failed, _) => "paused",
            (Phase::Held { .. }, _) => "held",
            (Phase::Done, Direction::Forward) => "done",
            (Phase::Done, Direction::Back) => "rolled_back",
        }
    }
}

/// The last revision of a service of which every replica served: what a rollback goes back to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Good {
    /// App revision.
    pub revision: u64,
    /// Its template.
    pub template: TemplateId,
    /// All that its file said of the service.
    pub spec: Arc<ServiceSpec>,
}

/// A spec that failed and was rolled back: as long as the file still asks for exactly this, the
/// last good one is run instead, and it is not tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// App revision that brought it.
    pub revision: u64,
    /// What failed.
    pub spec: Arc<ServiceSpec>,
    /// When it was given up.
    pub at_ms: TimeMs,
    /// Why.
    pub why: Trouble,
}

/// What makes a rollout fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "trouble", rename_all = "snake_case")]
pub enum Trouble {
    /// Too many new replicas failed.
    Replicas {
        /// How many, so far.
        failed: u32,
        /// How many may fail without consequence.
        tolerated: u32,
        /// The last one.
        replica: ReplicaId,
        /// Its slot.
        slot: u32,
        /// Its node.
        node: NodeId,
        /// Why it failed.
        last: FailReason,
    },
    /// A job that it waits for failed.
    Job {
        /// The job.
        service: ServiceName,
        /// Times that it was started.
        tries: u32,
        /// The replica that ended last, and its node.
        replica: Option<(ReplicaId, NodeId)>,
        /// Why that one failed.
        last: FailReason,
    },
    /// HAProxy sees more errors from the new replicas than from the old ones.
    Errors {
        /// Share of the new ones' answers that were 500 and above, thousandths.
        new_permille: u32,
        /// Of the old ones' answers, in the same time.
        old_permille: u32,
        /// Most that the new may be above the old.
        increase_permille_max: u32,
        /// Requests that the new ones answered.
        requests: u64,
    },
    /// HAProxy sees the new replicas answer more slowly than the old ones.
    Latency {
        /// Mean response time of the new ones, at least.
        new_ms: u32,
        /// Of the old ones, in the same time, at most.
        old_ms: u32,
        /// Most that the new may be of the old, thousandths (2000: twice).
        ratio_permille_max: u32,
        /// Requests that the new ones answered.
        requests: u64,
    },
}

/// Thousandths as a percentage with at most one digit: `2.5 %`.
fn percent(permille: u32) -> String {
    match permille % 10 {
        0 => format!("{} %", permille / 10),
        rest => format!("{}.{rest} %", permille / 10),
    }
}

/// Thousandths as a factor: `1.5`.
fn times(permille: u32) -> String {
    let text = format!("{}.{:03}", permille / 1_000, permille % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicas {
                failed,
                tolerated,
                replica,
                slot,
                node,
                last,
            } => {
                let s = if *failed == 1 { "" } else { "s" };
                write!(f, "{failed} new replica{s} failed ")?;
                write!(f, "(tolerated: {tolerated}), last slot {slot} ({replica}) ")?;
                write!(f, "on {node}: {last}")
            }
            Self::Job {
                service,
                tries,
                replica,
                last,
            } => {
                let times = times_word(*tries);
                write!(
                    f,
                    "{service}, which goes before it, failed (started {times}), last "
                )?;
                match replica {
                    Some((replica, node)) => write!(f, "{replica} on {node}: {last}"),
                    None => write!(f, "{last}"),
                }
            }
            Self::Errors {
                new_permille,
                old_permille,
                increase_permille_max,
                requests,
            } => write!(
                f,
                "HAProxy counts {} errors from the new replicas and {} from the old ones \
                 (at most {} more; {requests} requests)",
                percent(*new_permille),
                percent(*old_permille),
                percent(*increase_permille_max)
            ),
            Self::Latency {
                new_ms,
                old_ms,
                ratio_permille_max,
                requests,
            } => write!(
                f,
                "HAProxy measures at least {new_ms} ms from the new replicas and at most {old_ms} ms \
                 from the old ones (allowed are {} times as much; {requests} requests)",
                times(*ratio_permille_max)
            ),
        }
    }
}

/// News of a rollout, for the event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum RolloutNews {
    /// It began.
    Started {
        /// App revision that ran before; 0: the service is new.
        from_revision: u64,
    },
    /// A batch began.
    Batch {
        /// Its number, from 1.
        batch: u32,
        /// Replicas of the new template once it is through.
        new: u32,
        /// Replicas wanted.
        of: u32,
        /// The old ones stop first, because nothing has room for one more.
        stop_first: bool,
        /// On the way back: app revision that they return to; 0: forward.
        #[serde(default)]
        back_to: u64,
    },
    /// It failed and waits for a person.
    Paused {
        /// What went wrong.
        why: Trouble,
        /// Why that ends in a pause.
        #[serde(default)]
        cause: PauseCause,
    },
    /// A replica failed, and the file tolerates as many.
    Tolerates {
        /// How many so far, of how many.
        why: Trouble,
    },
    /// It failed by the file's own measure, and goes on because the file says so.
    Continues {
        /// What went wrong.
        why: Trouble,
    },
    /// It failed and goes back.
    RollsBack {
        /// To this app revision.
        to_revision: u64,
        /// Why.
        why: Trouble,
    },
    /// An operator holds it.
    Held {
        /// Who.
        by: String,
    },
    /// An operator let it go on.
    Resumed {
        /// Who.
        by: String,
    },
    /// Every replica is new and was monitored.
    Finished {
        /// From its start to here.
        after_ms: u64,
        /// Edges that did not serve the service as wanted then.
        #[serde(default, skip_serializing_if = "RefusedBy::is_empty")]
        refused_by: RefusedBy,
    },
    /// No replica is wanted, so nothing was exchanged and nothing proved: the first replicas that
    /// are wanted again are a rollout of their own.
    Unproved {
        /// App revision that a failure goes back to until then; 0: there is none.
        good_revision: u64,
    },
    /// Another revision was applied before it was through.
    Superseded {
        /// That app revision.
        by_revision: u64,
    },
    /// Every replica is of the last good revision again.
    RolledBack {
        /// That app revision.
        to_revision: u64,
    },
}

impl fmt::Display for RolloutNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { from_revision: 0 } => f.write_str("first rollout began"),
            Self::Started { from_revision } => {
                write!(f, "rollout began, from revision {from_revision}")
            }
            Self::Batch {
                batch,
                new,
                of,
                stop_first,
                back_to,
            } => {
                match back_to {
                    0 => write!(f, "batch {batch} began: {new} of {of} new")?,
                    back_to => write!(
                        f,
                        "batch {batch} of the way back began: {new} of {of} return to revision {back_to}"
                    )?,
                }
                match stop_first {
                    true => {
                        f.write_str("; no node has room for one more, so the old ones stop first")
                    }
                    false => Ok(()),
                }
            }
            Self::Paused { why, cause } => write!(f, "rollout paused: {}", cause.with(why)),
            Self::Tolerates { why } => write!(f, "rollout goes on: {why}"),
            Self::Continues { why } => write!(f, "rollout goes on in spite of failures: {why}"),
            Self::RollsBack { to_revision, why } => {
                write!(f, "rolling back to revision {to_revision}: {why}")
            }
            Self::Held { by } => write!(f, "rollout held by {by}"),
            Self::Resumed { by } => write!(f, "rollout resumed by {by}"),
            Self::Finished {
                after_ms,
                refused_by,
            } => {
                write!(f, "rollout finished after {}", span(*after_ms))?;
                match refused_in_words(refused_by) {
                    Some(said) => write!(f, ", but the service is {said}"),
                    None => Ok(()),
                }
            }
            Self::Unproved { good_revision } => {
                f.write_str("rollout over with no replica wanted, so the revision is unproved")?;
                match good_revision {
                    0 => Ok(()),
                    good => write!(f, "; a failure goes back to revision {good}"),
                }
            }
            Self::Superseded { by_revision } => {
                write!(f, "rollout superseded by revision {by_revision}")
            }
            Self::RolledBack { to_revision } => {
                write!(f, "rolled back to revision {to_revision}")
            }
        }
    }
}

/// What operators last said about the rollouts of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RolloutControl {
    /// Held: no further batch, of this or a later revision, until it is resumed.
    #[serde(default)]
    pub held: Option<Said>,
    /// Let go on, or tried again; obeyed once.
    #[serde(default)]
    pub resumed: Option<Said>,
}

/// Who said something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub at_ms: TimeMs,
    /// Who.
    pub by: String,
}
