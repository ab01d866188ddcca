//! What an edge's agent found wrong with its HAProxy, and mended by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::span;

/// Repairs of one edge that are kept and reported; the newest ones.
pub const REPAIRS_MAX: usize = 16;
/// Characters of what a repair was about.
pub const REPAIR_CHARS_MAX: usize = 240;

/// What one look mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Rises with each repair of an edge, over starts of its agent as well.
    pub number: u64,
    /// The gravest of what was found.
    pub kind: RepairKind,
    /// What was found first, in words.
    pub what: String,
    /// Findings beside these.
    pub more: u32,
    /// How long HAProxy was away, where it was.
    pub away_ms: Option<u64>,
}

/// What was mended; graver ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairKind {
    /// A server, a port or a limit was not as it was left, and was put back.
    Changed,
    /// HAProxy's certificates were not those on disk.
    Certificates,
    /// A file was spoilt or removed, and was put back.
    File,
    /// The administration socket is lost: commands go another way, or it is back.
    Socket,
    /// HAProxy was restarted or reloaded by somebody else, and is in step.
    Restarted,
    /// HAProxy was down, is back and in step.
    Back,
    /// A worker hung and was replaced.
    Hung,
}

impl RepairKind {
    /// As it stands in events.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Changed => "HAProxy was changed by somebody else and put back",
            Self::Certificates => "HAProxy got its certificates again",
            Self::File => "files of HAProxy were put back",
            Self::Socket => "HAProxy lost its socket and is driven all the same",
            Self::Restarted => "HAProxy has another worker and is in step",
            Self::Back => "HAProxy was down, is back and in step",
            Self::Hung => "HAProxy hung and was replaced",
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.words())?;
        if let Some(away_ms) = self.away_ms {
            write!(f, " after {}", span(away_ms))?;
        }
        if !self.what.is_empty() {
            write!(f, ": {}", self.what)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::EdgeObserved;

    #[test]
    fn a_repair_says_what_it_was_and_how_many_more() {
        let mut repair = Repair {
            number: 1,
            kind: RepairKind::Changed,
            what: "be_web/slot1 (r1) was in maint".into(),
            more: 2,
            away_ms: None,
        };
        assert_eq!(
            repair.to_string(),
            "HAProxy was changed by somebody else and put back: be_web/slot1 (r1) was in maint; \
             and 2 more"
        );
        repair = Repair {
            kind: RepairKind::Back,
            what: String::new(),
            more: 0,
            away_ms: Some(3_200),
            ..repair
        };
        assert_eq!(
            repair.to_string(),
            "HAProxy was down, is back and in step after 3.2 s"
        );
    }

    #[test]
    fn the_times_of_a_report_that_brings_no_repair_stay() {
        let repair = |number| Repair {
            number,
            kind: RepairKind::File,
            what: String::new(),
            more: 0,
            away_ms: None,
        };
        let mut edge = EdgeObserved::default();
        assert!(edge.take_repairs(vec![(100, repair(7))], 1_000));
        assert!(!edge.take_repairs(vec![(1_050, repair(7))], 2_000));
        assert_eq!(*edge.repairs, [(900, repair(7))]);
        assert!(edge.take_repairs(vec![(2_000, repair(7)), (0, repair(8))], 3_000));
        assert_eq!(*edge.repairs, [(1_000, repair(7)), (3_000, repair(8))]);
    }
}
