//! Observe: one snapshot of everything that a run may look at.

use std::sync::Arc;

use longshore_model::{Desired, Observed, Plan, TimeMs};

use crate::cluster::Cluster;

/// The snapshot.
pub(super) struct Seen {
    pub(super) now_ms: TimeMs,
    pub(super) desired: Arc<Desired>,
    pub(super) current: Arc<Plan>,
    pub(super) observed: Observed,
}

/// When this process looked last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    last_ms: TimeMs,
    since_ms: TimeMs,
}

impl Watch {
    /// Begins with the process.
    pub(crate) fn new(started_ms: TimeMs) -> Self {
        Self {
            last_ms: started_ms,
            since_ms: started_ms,
        }
    }

    /// Since when the process has looked without a break, as of its last run.
    pub(crate) fn since_ms(self) -> TimeMs {
        self.since_ms
    }

    /// A run begins: since when has the process looked without a break? Runs come each second. One
    /// that comes after a session's timeout was kept from coming (a stopped process, a machine that
    /// was suspended), and so was all that agents said meanwhile: it waits in sockets, unread.
    pub(crate) fn look(&mut self, now_ms: TimeMs, session_timeout_ms: u64) -> TimeMs {
        if now_ms.saturating_sub(self.last_ms) > session_timeout_ms {
            let away_ms = now_ms - self.last_ms;
            tracing::warn!(
                away_ms,
                "this process was stopped; silence counts from now on"
            );
            self.since_ms = now_ms;
        }
        self.last_ms = now_ms;
        self.since_ms
    }
}

/// Takes it. Removed nodes are left out: what they said last means nothing any more.
pub(super) fn observe(cluster: &Cluster, now_ms: TimeMs) -> Seen {
    let desired = cluster.desired();
    let mut observed = cluster.fleet.snapshot();
    observed
        .nodes
        .retain(|id, _| desired.nodes.contains_key(id));
    observed
        .edges
        .retain(|id, _| desired.nodes.contains_key(id));
    let timeout_ms = cluster.config.planner.session_timeout_ms;
    observed.watched_since_ms = cluster.watch().look(now_ms, timeout_ms);
    Seen {
        now_ms,
        desired,
        current: Arc::clone(&cluster.view().plan),
        observed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_run_ends_the_watch_and_a_usual_one_does_not() {
        let mut watch = Watch::new(1_000);
        assert_eq!(watch.look(2_000, 2_000), 1_000);
        assert_eq!(watch.look(4_000, 2_000), 1_000);
        assert_eq!(watch.look(6_001, 2_000), 6_001);
        assert_eq!(watch.look(7_000, 2_000), 6_001);
    }
}
