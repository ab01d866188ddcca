//! The store: a history of changes, and the writer row that guards each batch.

use crate::state::{Breach, Weakness};

/// One store. A restored cluster has another one than the cluster that it was copied from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store {
    /// Rises with a restore.
    pub cluster_generation: u64,
    /// The writer row: the leadership that opened it last, and its batches.
    pub writer: (u64, u8),
    /// Changes, in order.
    pub changes: Vec<u8>,
    /// Those of which somebody was told that they are kept.
    pub acknowledged: Vec<u8>,
}

impl Store {
    pub(crate) const fn new() -> Self {
        Self {
            cluster_generation: 1,
            writer: (0, 0),
            changes: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    /// A copy that holds the first `kept` changes, as another cluster. Leaderships are counted anew:
    /// the cluster's generation alone must tell them apart.
    pub(crate) fn restored(&self, kept: usize, weakness: Option<Weakness>) -> Self {
        let raised = u64::from(weakness != Some(Weakness::RestoredAsTheSame));
        let changes = self.changes[..kept].to_vec();
        let is_kept = |change: &u8| changes.contains(change);
        Self {
            cluster_generation: self.cluster_generation + raised,
            writer: (0, 0),
            acknowledged: self.acknowledged.iter().copied().filter(is_kept).collect(),
            changes,
        }
    }

    /// Writes the whole history, if the writer row is the expected one.
    pub(crate) fn write(
        &mut self,
        expected: (u64, u8),
        changes: Vec<u8>,
        weakness: Option<Weakness>,
    ) -> bool {
        if self.writer != expected && weakness != Some(Weakness::WritesUnguarded) {
            return false;
        }
        self.writer = (expected.0, expected.1 + 1);
        self.changes = changes;
        true
    }

    /// Is every acknowledged change there, once?
    pub(crate) fn breach(&self) -> Option<Breach> {
        let times = |change: &u8| self.changes.iter().filter(|c| *c == change).count();
        let is_kept = self.acknowledged.iter().all(|change| times(change) == 1);
        (!is_kept).then_some(Breach::AcknowledgedLost)
    }
}
