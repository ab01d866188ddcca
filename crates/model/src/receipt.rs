//! What is known of the end of a replica: what the edges said when it left the routes, and how its
//! container ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::span;

/// What one edge said about a replica that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DrainReceipt {
    /// Sessions when the edge first acknowledged the drain.
    pub sessions_at_drain: u32,
    /// Sessions at the edge's last report before the replica left the routes: the last that is
    /// known of them. Those that are left go on until they end or the replica is stopped.
    pub sessions_at_park: u32,
    /// From the drain to the first report that showed zero sessions.
    #[serde(default)]
    pub zero_after_ms: Option<u64>,
    /// The deadline passed, or the edge was gone.
    pub forced: bool,
    /// The edge could not be asked.
    pub edge_gone: bool,
}

impl fmt::Display for DrainReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = |count: u32| match count {
            1 => "1 session".to_owned(),
            many => format!("{many} sessions"),
        };
        let (before, left) = (self.sessions_at_drain, self.sessions_at_park);
        match (before, left, self.zero_after_ms) {
            (0, 0, _) => f.write_str("no session")?,
            (_, 0, Some(ms)) => write!(f, "{}, none after {}", sessions(before), span(ms))?,
            (_, 0, None) => write!(f, "{}, then none", sessions(before))?,
            (_, left, _) => {
                let (before, left) = (sessions(before), sessions(left));
                write!(
                    f,
                    "{before}, {left} when it left the routes: cut by the stop"
                )?;
            }
        }
        match (self.edge_gone, self.forced) {
            (true, _) => f.write_str(" (edge away: as last heard)"),
            (false, true) => f.write_str(" (forced)"),
            (false, false) => Ok(()),
        }
    }
}

/// How a container ended that was told to stop, by its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code; 137 and 143 are no errors here: ended by SIGKILL and SIGTERM.
    pub code: i64,
    /// From its stop signal to its end; none: it had ended before.
    #[serde(default)]
    pub after_ms: Option<u64>,
    /// It did not end by itself.
    #[serde(default)]
    pub killed: Option<Killed>,
}

/// Why a container was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Killed {
    /// Its grace was over.
    Grace,
    /// It wanted more memory than it may have.
    Memory,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code;
        match (self.killed, self.after_ms.map(span)) {
            (Some(Killed::Grace), Some(after)) => write!(f, "killed after its grace of {after}"),
            (Some(Killed::Grace), None) => f.write_str("killed after its grace"),
            (Some(Killed::Memory), Some(after)) => {
                write!(f, "killed for its memory, {after} after its stop signal")
            }
            (Some(Killed::Memory), None) => {
                f.write_str("killed for its memory before it was told to stop")
            }
            (None, Some(after)) => {
                write!(f, "exited with code {code}, {after} after its stop signal")
            }
            (None, None) => write!(f, "exited with code {code} before it was told to stop"),
        }
    }
}

/// What is said of the end of a replica that is gone.
#[must_use]
pub fn end_in_words(exit: Option<Exit>, lost: bool) -> String {
    match exit {
        Some(exit) => exit.to_string(),
        None if lost => "its node was lost: nobody saw it end".to_owned(),
        None => "its node did not say how it ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_said_as_it_was() {
        let exit = |code, after_ms, killed| {
            let exit = Exit {
                code,
                after_ms,
                killed,
            };
            end_in_words(Some(exit), false)
        };
        let said = [
            exit(0, Some(1_234), None),
            exit(143, Some(5), None),
            exit(137, Some(10_060), Some(Killed::Grace)),
            exit(137, Some(400), Some(Killed::Memory)),
            exit(1, None, None),
            exit(137, None, Some(Killed::Memory)),
            end_in_words(None, true),
            end_in_words(None, false),
        ];
        let words = [
            "exited with code 0, 1.2 s after its stop signal",
            "exited with code 143, 0.0 s after its stop signal",
            "killed after its grace of 10 s",
            "killed for its memory, 0.4 s after its stop signal",
            "exited with code 1 before it was told to stop",
            "killed for its memory before it was told to stop",
            "its node was lost: nobody saw it end",
            "its node did not say how it ended",
        ];
        assert_eq!(said, words);
    }

    #[test]
    fn a_receipt_says_what_was_cut() {
        let receipt = DrainReceipt {
            sessions_at_drain: 12,
            zero_after_ms: Some(2_000),
            ..DrainReceipt::default()
        };
        assert_eq!(receipt.to_string(), "12 sessions, none after 2.0 s");
        let forced = DrainReceipt {
            sessions_at_park: 1,
            zero_after_ms: None,
            forced: true,
            ..receipt
        };
        let words = "12 sessions, 1 session when it left the routes: cut by the stop (forced)";
        assert_eq!(forced.to_string(), words);
        let away = DrainReceipt {
            edge_gone: true,
            ..forced
        };
        assert!(away.to_string().ends_with("(edge away: as last heard)"));
        assert_eq!(DrainReceipt::default().to_string(), "no session");
    }
}
