//! What operators say to the autoscaler of one service, beside its file.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// Operators' words about one service's autoscaler. They outlive a new revision of the app.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AutoscaleControl {
    /// Hands off.
    #[serde(default)]
    pub paused: Option<Pause>,
    /// Last consent to a proposal, for services that ask first.
    #[serde(default)]
    pub approved: Option<Approval>,
    /// Bounds instead of the file's and its schedules'.
    #[serde(default)]
    pub bounds: Option<BoundsOverride>,
}

/// The count stays as it is; what would be done is still computed and said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when.
    pub since_ms: TimeMs,
    /// Until when; none: until it is resumed.
    #[serde(default)]
    pub until_ms: Option<TimeMs>,
    /// By whom.
    pub by: String,
}

/// Consent to one proposal. It is obeyed once, and only while it is fresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The proposed count that was agreed to.
    pub count: u32,
    /// When.
    pub at_ms: TimeMs,
    /// By whom.
    pub by: String,
}

impl Approval {
    /// An approval older than this is not obeyed: what it agreed to was another load.
    pub const FRESH_MS: u64 = 15 * 60_000;
}

/// Bounds set by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundsOverride {
    /// Never fewer; none: as the file says.
    #[serde(default)]
    pub min: Option<u32>,
    /// Never more; none: as the file says.
    #[serde(default)]
    pub max: Option<u32>,
    /// When they were set.
    pub at_ms: TimeMs,
    /// By whom.
    pub by: String,
}
