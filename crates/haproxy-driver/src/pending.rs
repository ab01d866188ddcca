//! When a change of structure may be loaded: not too often, and ever less often while it fails.

use std::time::Duration;

use tokio::time::Instant;

/// First and longest pause after a reload that failed, where something else is to be loaded.
const RETRY_MS: (u64, u64) = (1_000, 30_000);
/// Longest pause before the same is tried again. While a new process cannot have its ports, HAProxy
/// pauses the old one for about 2 s: each attempt may cost everybody's new connections.
const SAME_AGAIN_MS: u64 = 600_000;

/// Reloads that an old worker with connections lives through before the next ones come more slowly.
const RELOADS_FREE: u32 = 2;
/// Longest pause for the sake of old workers.
const OLD_WORKERS_MS_MAX: u64 = 60_000;

/// Pause after a reload while the oldest worker that still has connections has lived through so many.
/// HAProxy ends it at the tenth (`mworker-max-reloads`), whatever it is at; so they come ever more
/// slowly, and the tenth is not there before `hard-stop-after` is nearly over.
pub(crate) fn spacing_ms(base_ms: u64, oldest_reloads: u32) -> u64 {
    let doublings = oldest_reloads.saturating_sub(RELOADS_FREE).min(10);
    let longest = OLD_WORKERS_MS_MAX.max(base_ms);
    base_ms.saturating_mul(1 << doublings).min(longest)
}

/// What may be done about a reload that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    /// The last one was a moment ago: what else comes until then goes along.
    Spaced,
    /// The last one failed.
    BackedOff,
}

/// Reloads of this driver.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    last: Option<Instant>,
    failures: u32,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    structure: String,
    why: String,
}

impl Reloads {
    /// May `structure` be loaded now?
    pub(crate) fn due(&self, structure: &str, now: Instant, spacing_ms: u64) -> Due {
        let Some(last) = self.last else {
            return Due::Now;
        };
        let (pause_ms, wait) = match &self.failed {
            None => (spacing_ms, Due::Spaced),
            Some(failed) => {
                let is_same = failed.structure == structure;
                (self.pause_ms(is_same), Due::BackedOff)
            }
        };
        match now < last + Duration::from_millis(pause_ms) {
            true => wait,
            false => Due::Now,
        }
    }

    fn pause_ms(&self, is_same: bool) -> u64 {
        let (first, longest) = RETRY_MS;
        let doublings = self.failures.saturating_sub(1).min(10);
        let longest = if is_same { SAME_AGAIN_MS } else { longest };
        first.saturating_mul(1 << doublings).min(longest)
    }

    /// A reload succeeded.
    pub(crate) fn done(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// A reload with `structure` failed.
    pub(crate) fn failed(&mut self, structure: String, why: String, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
        self.failed = Some(Failed { structure, why });
    }

    /// Nothing is due any more.
    pub(crate) fn settled(&mut self) {
        *self = Self {
            last: self.last,
            ..Self::default()
        };
    }

    /// Why the last one failed, until one succeeds or none is due.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_ref().map(|failed| failed.why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_at_once_and_the_next_wait_for_each_other() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut reloads = Reloads::default();
        assert_eq!(reloads.due("a", at(0), 2_000), Due::Now);
        reloads.done(at(0));
        assert_eq!(reloads.due("b", at(1_999), 2_000), Due::Spaced);
        assert_eq!(reloads.due("b", at(2_000), 2_000), Due::Now);
        reloads.settled();
        assert_eq!(reloads.due("b", at(1_999), 2_000), Due::Spaced);
    }

    #[test]
    fn ten_reloads_take_as_long_as_an_old_worker_may_live() {
        let pauses: Vec<u64> = (0..10).map(|old| spacing_ms(2_000, old)).collect();
        assert_eq!(pauses[..5], [2_000, 2_000, 2_000, 4_000, 8_000]);
        assert!(pauses.iter().sum::<u64>() > 240_000, "{pauses:?}");
        assert_eq!(spacing_ms(2_000, u32::MAX), OLD_WORKERS_MS_MAX);
        assert_eq!(spacing_ms(90_000, 5), 90_000);
    }

    /// Pauses between attempts in an hour that all fail, in seconds.
    fn pauses(wanted: impl Fn(u64) -> String) -> Vec<u64> {
        let start = Instant::now();
        let (mut attempts, mut reloads) = (Vec::new(), Reloads::default());
        for s in 0..3_600 {
            let now = start + Duration::from_secs(s);
            if reloads.due(&wanted(s), now, 0) == Due::Now {
                attempts.push(s);
                reloads.failed(wanted(s), "no".to_owned(), now);
            }
        }
        attempts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn the_same_is_tried_ever_less_often() {
        let same = pauses(|_| "a".to_owned());
        assert_eq!(
            same,
            [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600]
        );
    }

    #[test]
    fn something_else_waits_for_half_a_minute_at_most() {
        let pauses = pauses(|s| s.to_string());
        assert_eq!(pauses[..5], [1, 2, 4, 8, 16]);
        assert!(pauses[5..].iter().all(|s| *s == 30), "{pauses:?}");
    }

    #[test]
    fn a_reload_that_is_not_needed_any_more_is_forgotten() {
        let (now, mut reloads) = (Instant::now(), Reloads::default());
        reloads.failed("a".to_owned(), "no".to_owned(), now);
        assert_eq!(reloads.due("a", now, 0), Due::BackedOff);
        assert_eq!(reloads.failure(), Some("no"));
        reloads.settled();
        assert_eq!(
            (reloads.due("a", now, 0), reloads.failure()),
            (Due::Now, None)
        );
    }
}
