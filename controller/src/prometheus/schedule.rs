//! When each query is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Longest wait after failures in a row.
const WAIT_CAP: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
struct Turn {
    at: Instant,
    failures: u32,
}

/// Turns of queries.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    turns: BTreeMap<String, Turn>,
}

impl Schedule {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            turns: BTreeMap::new(),
        }
    }

    /// Forgets queries that nobody wants any more.
    pub(super) fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.turns.retain(|query, _| wanted(query));
    }

    /// Those whose turn has come, the one that waits longest first. A new one is due at once.
    pub(super) fn due<'a>(
        &self,
        queries: impl Iterator<Item = &'a String>,
        now: Instant,
    ) -> Vec<String> {
        let turn = |query: &String| self.turns.get(query).map(|turn| turn.at);
        let mut due: Vec<(Option<Instant>, &String)> = queries
            .map(|query| (turn(query), query))
            .filter(|(at, _)| at.is_none_or(|at| at <= now))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, query)| query.clone()).collect()
    }

    /// Failures in a row, of all queries.
    #[cfg(test)]
    pub(super) fn failures(&self) -> u32 {
        self.turns.values().map(|turn| turn.failures).sum()
    }

    /// Sets the next turn: after the interval, or after failures a wait that doubles up to a cap,
    /// of which `share` (0 to 1) is taken beyond the interval.
    pub(super) fn asked(&mut self, query: &str, well: bool, now: Instant, share: f64) {
        let failures = match self.turns.get(query) {
            _ if well => 0,
            Some(turn) => turn.failures.saturating_add(1),
            None => 1,
        };
        let doubled = self.interval.saturating_mul(1 << failures.min(16)) - self.interval;
        let wait = self.interval + doubled.min(WAIT_CAP).mul_f64(share.clamp(0.0, 1.0));
        let at = now + wait;
        self.turns.insert(query.to_owned(), Turn { at, failures });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_up_to_a_cap_and_success_forgives_them() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Duration::from_secs(5));
        let (a, b) = ("a".to_owned(), "b".to_owned());
        assert_eq!(schedule.due([&b, &a].into_iter(), start), ["a", "b"]);
        schedule.asked("a", true, start, 1.0);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(schedule.due([&a, &b].into_iter(), at(4)), ["b"]);
        assert_eq!(schedule.due([&a, &b].into_iter(), at(5)), ["b", "a"]);
        for (failures, wait_s) in [(1, 10), (2, 20), (3, 40), (4, 65), (40, 65)] {
            for _ in 0..failures {
                schedule.asked("a", false, start, 1.0);
            }
            let due = |seconds| !schedule.due([&a].into_iter(), at(seconds)).is_empty();
            assert!(due(wait_s) && !due(wait_s - 1), "{failures} failures");
            schedule.asked("a", true, start, 1.0);
        }
        schedule.asked("a", false, start, 0.0);
        assert_eq!(schedule.due([&a].into_iter(), at(5)), ["a"]);
        schedule.keep(|query| query == "b");
        assert_eq!(schedule.due([&a].into_iter(), start), ["a"], "new again");
    }
}
