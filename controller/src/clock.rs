//! The controller's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use longshore_model::TimeMs;
use tokio::time::Instant;

/// Wall time at the start plus monotonic time since: it never runs backwards and no jump of the
/// wall clock makes a node look lost.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base_ms: TimeMs,
    start: Instant,
}

impl Clock {
    /// Starts now, at wall time.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::starting_at(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
    }

    /// Starts now, at the given time.
    #[must_use]
    pub fn starting_at(base_ms: TimeMs) -> Self {
        Self {
            base_ms,
            start: Instant::now(),
        }
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> TimeMs {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.base_ms.saturating_add(since)
    }
}
