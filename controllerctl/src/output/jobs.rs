//! How jobs stand, as `-o json` promises it.

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::views::time;

/// A service that runs once until it ends.
#[derive(Debug, Serialize)]
pub struct Job {
    /// runs, completed, failed
    pub state: String,
    /// App revision that asked for this run first.
    pub revision: u64,
    /// Containers that ended otherwise than with 0.
    pub tries: u32,
    /// Of the last one that ended.
    pub exit_code: Option<i64>,
    /// When it ended.
    pub ended: Option<String>,
    /// Where the last one that ended ran.
    pub node: Option<String>,
    /// Why the last one failed.
    pub why: Option<String>,
}

impl From<&pb::ServiceJob> for Job {
    fn from(job: &pb::ServiceJob) -> Self {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            state: job.state.clone(),
            revision: job.revision,
            tries: job.tries,
            exit_code: job.exit_code,
            ended: time(job.ended_ms),
            node: filled(&job.node),
            why: filled(&job.why),
        }
    }
}
