//! Waiting between two attempts: exponential, capped, with full jitter so that a thousand agents
//! do not come back in the same millisecond.

use std::time::Duration;

/// A series of waits.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    /// Waits of up to `first`, then twice that, and so on, never more than `cap`.
    #[must_use]
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap: cap.max(first),
            attempt: 0,
        }
    }

    /// The longest that the next wait may be.
    #[must_use]
    pub fn bound(&self) -> Duration {
        self.first
            .saturating_mul(1 << self.attempt.min(20))
            .min(self.cap)
    }

    /// The next wait: anything between zero and [`Self::bound`].
    pub fn next_wait(&mut self) -> Duration {
        let bound = self.bound();
        self.attempt = self.attempt.saturating_add(1);
        bound.mul_f64(rand::random_range(0.0..=1.0))
    }

    /// Starts again from `first`.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_never_pass_it() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut bounds = Vec::new();
        for _ in 0..9 {
            bounds.push(backoff.bound().as_millis());
            assert!(backoff.next_wait() <= Duration::from_secs(10));
        }
        assert_eq!(
            bounds,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        backoff.reset();
        assert_eq!(backoff.bound(), Duration::from_millis(100));
    }
}
