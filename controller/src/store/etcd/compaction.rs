//! When etcd is to forget what rows were before. Pure.
//!
//! etcd keeps each version of each row until somebody says that it need not; it is full some day
//! if nobody does. The leader does, as it writes: without writes there is nothing to forget.

use std::time::{Duration, Instant};

/// What was before is kept for this long at least, and twice as long at most, while there are
/// writes. Kubernetes' API server does the same (`--etcd-compaction-interval`, 5 minutes).
/// Nothing here reads the past for longer than one scan takes.
const KEEP: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Compaction {
    keep: Duration,
    marked: Option<(Instant, u64)>,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            keep: KEEP,
            marked: None,
        }
    }
}

impl Compaction {
    #[cfg(test)]
    pub(super) fn keeping(keep: Duration) -> Self {
        Self { keep, marked: None }
    }

    /// After a write at `revision`: before which one the past may be forgotten now, if at all.
    pub(super) fn written(&mut self, now: Instant, revision: u64) -> Option<u64> {
        match self.marked {
            Some((at, _)) if now.saturating_duration_since(at) < self.keep => None,
            marked => {
                self.marked = Some((now, revision));
                marked.map(|(_, revision)| revision)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_kept_for_five_minutes_at_least() {
        let begun = Instant::now();
        let mut compaction = Compaction::default();
        // A write each minute, at revisions 10, 11, 12…
        let at = |minute: u64| begun + Duration::from_secs(60 * minute);
        let forgotten: Vec<(u64, u64)> = (0..=20)
            .filter_map(|minute| Some((minute, compaction.written(at(minute), 10 + minute)?)))
            .collect();
        assert_eq!(forgotten, [(5, 10), (10, 15), (15, 20), (20, 25)]);
    }
}
