//! How far a log was read, so that a reader that comes back gets the rest and nothing twice.
//!
//! Lines carry the engine's time. Several may carry the same one, so a position is a time and the
//! number of lines read that have it. A log is ordered: the engine stamps lines as it takes them.

/// A position in one stream of one replica's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogPosition {
    /// Time of the last line read, nanoseconds since the epoch; 0: nothing was read.
    pub time_ns: u64,
    /// Lines read that have this time.
    pub lines: u32,
}

impl LogPosition {
    /// Takes note of a line that was read. One without a time leaves the position as it is.
    pub fn note(&mut self, time_ns: u64) {
        if time_ns == 0 {
            return;
        }
        if time_ns == self.time_ns {
            self.lines = self.lines.saturating_add(1);
        } else {
            *self = Self { time_ns, lines: 1 };
        }
    }
}

/// Lets through what comes after a position.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogResume {
    from: LogPosition,
    again: u32,
    /// How far it was read by now.
    pub at: LogPosition,
}

impl LogResume {
    /// Everything after `from`.
    #[must_use]
    pub fn after(from: LogPosition) -> Self {
        Self {
            from,
            again: 0,
            at: from,
        }
    }

    /// Is this line new? Lines come in the order in which they were written.
    pub fn is_new(&mut self, time_ns: u64) -> bool {
        if time_ns > 0 && time_ns < self.from.time_ns {
            return false;
        }
        if time_ns > 0 && time_ns == self.from.time_ns && self.again < self.from.lines {
            self.again += 1;
            return false;
        }
        self.at.note(time_ns);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whoever_comes_back_reads_the_rest_and_nothing_twice(
            steps in prop::collection::vec(0_u64..3, 1..40),
            cuts in prop::collection::vec(0_usize..12, 0..6),
        ) {
            // Times that stand still now and then, as the engine's may.
            let mut now = 7;
            let log: Vec<u64> = steps.iter().map(|step| { now += step; now }).collect();
            let (mut read, mut at) = (Vec::new(), LogPosition::default());
            for length in cuts.into_iter().chain([log.len()]) {
                let mut resume = LogResume::after(at);
                let fresh: Vec<u64> =
                    log.iter().copied().filter(|time| resume.is_new(*time)).collect();
                // The connection broke after so many lines.
                for time in fresh.into_iter().take(length) {
                    at.note(time);
                    read.push(time);
                }
            }
            prop_assert_eq!(read, log);
        }
    }

    #[test]
    fn a_line_without_a_time_is_always_new() {
        let mut resume = LogResume::after(LogPosition {
            time_ns: 9,
            lines: 1,
        });
        assert!(resume.is_new(0) && resume.is_new(0));
        assert!(!resume.is_new(9) && resume.is_new(9));
        assert_eq!(resume.at.lines, 2);
    }
}
