//! What which release of HAProxy can do: the verbs that the driver chooses between, and from which
//! release each is there and sound. docs/haproxy-versions.md has the whole matrix, with what is
//! deliberately not used.
//!
//! `del server` is no row: releases that distributions ship end the whole process on it, and slots
//! that are parked and addressed again need it nowhere.

/// A release: branch and number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Such as (2, 6).
    pub branch: (u32, u32),
    /// Number in the branch; 0 for what comes before the first one.
    pub patch: u32,
}

impl Version {
    /// Of a branch and a number in it.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            branch: (major, minor),
            patch,
        }
    }

    /// Reads what `show info` says, such as `2.6.12-1+deb12u4` or `3.5-dev5`; none for other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let release = text.split('-').next()?;
        let mut numbers = release.split('.').map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(Self::new(major, minor, patch))
    }
}

/// What the driver does where it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Give a slot another address and state: without it there is nothing to drive.
    DriveSlots,
    /// Grow a pool at run time.
    AddServer,
    /// Grow the pool of a way in that goes by a hash, at run time.
    AddServerByHash,
}

/// Where a verb is.
struct Row {
    verb: Verb,
    /// First branch that has it.
    since: (u32, u32),
    /// First sound release of each branch that was mended; branches between them never were, later
    /// ones began sound. Empty: sound from the first one on.
    mended: &'static [Version],
}

const ROWS: [Row; 3] = [
    Row {
        verb: Verb::DriveSlots,
        since: (2, 4),
        mended: &[],
    },
    // 2.4 has it as an experiment, without checks, and ends itself on `slowstart`.
    Row {
        verb: Verb::AddServer,
        since: (2, 6),
        mended: &[],
    },
    // 2.6.12: all servers added to a consistent hash stand at one place of its ring, so one of
    // them gets the keys of all, and the next reload moves the keys of half the servers. Later
    // ones had wrong keys and nodes, mended in the last of these.
    Row {
        verb: Verb::AddServerByHash,
        since: (3, 2),
        mended: &[Version::new(3, 2, 20), Version::new(3, 4, 1)],
    },
];

impl Verb {
    /// May it be used with this release? Of one that is not known nothing is expected that an old
    /// one might lack.
    #[must_use]
    pub fn is_in(self, version: Option<Version>) -> bool {
        let row = ROWS.iter().find(|row| row.verb == self);
        row.zip(version)
            .is_some_and(|(row, version)| row.holds(version))
    }
}

impl Row {
    fn holds(&self, version: Version) -> bool {
        if version.branch < self.since {
            return false;
        }
        let Some(last) = self.mended.last() else {
            return true;
        };
        let mended = self.mended.iter().find(|m| m.branch == version.branch);
        mended.map_or(version > *last, |mended| version >= *mended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The matrix, a line a release: text, slots, `add server`, `add server` by hash.
    const MATRIX: [(&str, bool, bool, bool); 17] = [
        ("2.2.9", false, false, false),
        ("2.4.0", true, false, false),
        ("2.4.29-0+deb11u1", true, false, false),
        ("2.6.0", true, true, false),
        ("2.6.12-1+deb12u4", true, true, false),
        ("2.6.18", true, true, false),
        ("2.8.16-0ubuntu0.24.04.2", true, true, false),
        ("3.0.11-1+deb13u3", true, true, false),
        ("3.2-dev5", true, true, false),
        ("3.2.19", true, true, false),
        ("3.2.20", true, true, true),
        ("3.2.26-1", true, true, true),
        ("3.3.12", true, true, false),
        ("3.4.0", true, true, false),
        ("3.4.7-1", true, true, true),
        ("3.5-dev5", true, true, true),
        ("10.0.1", true, true, true),
    ];

    #[test]
    fn the_matrix_says_what_is_used() {
        for (text, slots, add, add_by_hash) in MATRIX {
            let version = Version::parse(text);
            assert!(version.is_some(), "{text}");
            let said = [Verb::DriveSlots, Verb::AddServer, Verb::AddServerByHash]
                .map(|verb| verb.is_in(version));
            assert_eq!(said, [slots, add, add_by_hash], "{text}");
        }
    }

    #[test]
    fn of_an_unknown_release_nothing_is_expected() {
        for text in ["", "unknown", "2", "2.", "-2.6", "2.6x", "99999999999.1"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
        assert!(!Verb::AddServer.is_in(None));
    }
}
