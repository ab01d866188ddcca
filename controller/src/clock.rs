//! The controller's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use longshore_model::TimeMs;
use tokio::time::Instant;

/// Wall time at the start plus monotonic time since: it never runs backwards and no jump of the
/// wall clock makes a node look lost.
#[derive(Debug, Clone)]
pub struct Clock {
    base_ms: TimeMs,
    since: Since,
}

/// Where the time since the start comes from.
#[derive(Debug, Clone)]
enum Since {
    Monotonic(Instant),
    Told(Arc<AtomicU64>),
}

impl Clock {
    /// Starts now, at wall time.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            base_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            since: Since::Monotonic(Instant::now()),
        }
    }

    /// Shows what somebody else counts: milliseconds since `base_ms`. For simulations.
    #[must_use]
    pub fn told(base_ms: TimeMs, since_ms: Arc<AtomicU64>) -> Self {
        Self {
            base_ms,
            since: Since::Told(since_ms),
        }
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> TimeMs {
        let since_ms = match &self.since {
            Since::Monotonic(start) => {
                u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
            }
            Since::Told(since_ms) => since_ms.load(Ordering::Relaxed),
        };
        self.base_ms.saturating_add(since_ms)
    }
}
