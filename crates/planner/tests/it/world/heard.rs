//! What is noted of what was heard.

use longshore_model::observe::{CpuSample, SessionObserved};

/// A session begins, lives or is gone.
pub(super) fn connect(session: &mut SessionObserved, connected: bool, now: u64) {
    if connected && !session.connected {
        session.since_ms = now;
    }
    session.connected = connected;
    if connected {
        session.last_echo_ms = now;
    }
}

/// One more sample.
pub(super) fn push(ring: &mut Vec<CpuSample>, at_ms: u64, value: f64) {
    ring.push(CpuSample { at_ms, value });
    let from = ring.len().saturating_sub(60);
    ring.drain(..from);
}
