//! Replicas that an operator keeps out of the routes: edges send them nothing new until somebody says
//! otherwise. They stay counted, and nothing is wrong with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::id::ReplicaId;

/// Longest reason that an operator gives, in characters.
pub const WHY_CHARS_MAX: usize = 256;

/// An operator's word about one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Since when.
    pub at_ms: TimeMs,
    /// By whom.
    pub by: String,
    /// Why, in their words; may be empty.
    #[serde(default)]
    pub why: String,
}

/// Those of one service.
pub type AsideMap = BTreeMap<ReplicaId, Aside>;

impl Aside {
    /// For the replica in that slot, with the way out.
    #[must_use]
    pub fn of_slot(&self, slot: u32) -> String {
        format!(
            "slot {slot} gets nothing new from the edges, {self} (controllerctl proxy ready ends that)"
        )
    }
}

/// `by ana: disk swap`
impl std::fmt::Display for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.why.as_str() {
            "" => write!(f, "by {}", self.by),
            why => write!(f, "by {}: {why}", self.by),
        }
    }
}
