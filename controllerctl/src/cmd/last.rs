//! The last lines of each replica, of those up to a moment.

use std::collections::{BTreeMap, VecDeque};

use longshore_proto::control::v1 as pb;

use crate::failure::{Exit, Failure};

/// Lines of one replica that are kept meanwhile.
const LINES_MAX: u32 = 100_000;

/// See the module.
pub(super) struct Last {
    lines: usize,
    of: BTreeMap<u64, VecDeque<pb::LogsResponse>>,
}

impl Last {
    /// So many of each.
    ///
    /// # Errors
    /// More than are kept.
    pub(super) fn new(lines: u32) -> Result<Self, Failure> {
        if lines > LINES_MAX {
            let message = format!("-n {lines} with --until: at most {LINES_MAX}");
            return Err(Failure::new(message).exit(Exit::Usage).hint("-n all"));
        }
        Ok(Self {
            lines: lines as usize,
            of: BTreeMap::new(),
        })
    }

    pub(super) fn put(&mut self, line: pb::LogsResponse) {
        let of = self.of.entry(line.replica_id).or_default();
        of.push_back(line);
        if of.len() > self.lines {
            of.pop_front();
        }
    }

    /// All of them, the oldest first.
    pub(super) fn into_lines(self) -> Vec<pb::LogsResponse> {
        let mut lines: Vec<_> = self.of.into_values().flatten().collect();
        lines.sort_by_key(|line| line.time_ns);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_each_replica_come_in_the_order_of_their_times() {
        let line = |replica_id, time_ns| pb::LogsResponse {
            replica_id,
            time_ns,
            ..pb::LogsResponse::default()
        };
        let mut last = Last::new(2).unwrap();
        for (replica, time_ns) in [(1, 1), (1, 4), (2, 2), (1, 6), (2, 5), (2, 7)] {
            last.put(line(replica, time_ns));
        }
        let times: Vec<u64> = last.into_lines().iter().map(|line| line.time_ns).collect();
        assert_eq!(times, [4, 5, 6, 7]);
        let mut none = Last::new(0).unwrap();
        none.put(line(1, 1));
        assert!(none.into_lines().is_empty());
        assert!(Last::new(LINES_MAX + 1).is_err());
    }
}
