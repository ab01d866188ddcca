//! What a server's new requests took, from two of HAProxy's sliding means.
//!
//! HAProxy adds each response time to a sum. As long as the slot has had at most [`SAMPLES`]
//! requests nothing leaves it and the mean shown is sum / requests; from then on each addition
//! first takes 1 / [`SAMPLES`] of it away and the mean shown is sum / [`SAMPLES`]
//! (`swrate_add_dynamic` and `swrate_avg` of HAProxy's `freq_ctr.h`). The mean is shown in whole
//! milliseconds, rounded up, so that the sum is known within as many milliseconds as requests are
//! in it.

use longshore_model::observe::{ServerAnswers, ServerObserved};

/// Requests in HAProxy's sliding means: `TIME_STATS_SAMPLES` of its `defaults.h`, 2.4 to 3.5.
const SAMPLES: u64 = 512;

/// Response times of the requests between two looks, summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Times {
    /// Not less than this, in ms.
    pub least_ms: u64,
    /// Not more than this, in ms.
    pub most_ms: u64,
}

impl Times {
    /// What the requests that came after `base` took. Requests are counted as they come and timed
    /// as they end, so that some of those timed may have come before, and some are not timed yet.
    /// Counters of `now` must not be lower.
    pub(super) fn between(base: &ServerObserved, now: &ServerObserved) -> Self {
        let (before, after) = (base.answers, now.answers);
        let came = after.requests_total.saturating_sub(before.requests_total);
        if came == 0 {
            return Self::default();
        }
        let (open, still) = (u64::from(base.sessions), u64::from(now.sessions));
        let (fewest, most) = (came.saturating_sub(still).max(1), came.saturating_add(open));
        // Of these, those that ended while the slot had so few that nothing faded.
        let room = SAMPLES.saturating_sub(before.requests_total);
        let whole = match before.requests_total > SAMPLES {
            true => [0, 0],
            false => [room.saturating_sub(still), room.saturating_add(open)],
        };
        // Where fading sets in the answer bends; elsewhere it goes one way.
        let bends = whole.map(|whole| whole.clamp(fewest, most));
        let ended = [fewest, bends[0], bends[1], most];
        let corners = ended.map(|ended| whole.map(|whole| steady(before, after, ended, whole)));
        let corners = corners.as_flattened();
        let least = corners
            .iter()
            .map(|[least, _]| *least)
            .fold(f64::MAX, f64::min);
        let most = corners.iter().map(|[_, most]| *most).fold(0.0, f64::max);
        let all = |ms: f64| ms * to_f64(came);
        Self {
            least_ms: to_u64(all(least).floor()),
            most_ms: to_u64(all(most).ceil()),
        }
    }
}

/// The steady response time that requests must have had for one mean to become the other, if so
/// many `ended` and the first of them, `whole`, took nothing away: not less than the first, not
/// more than the second, in ms.
fn steady(before: ServerAnswers, after: ServerAnswers, ended: u64, whole: u64) -> [f64; 2] {
    let whole = whole.min(ended);
    // What the others left of the sum of before.
    let left = kept(ended - whole);
    // 1 ms each would have added so much.
    let unit = to_f64(whole) * left + to_f64(SAMPLES) * (1.0 - left);
    let [before_least, before_most] = sum(before);
    let [after_least, after_most] = sum(after);
    // Shares are rounded up: each may have taken 1 ms too much, and that faded as well.
    let lost = to_f64(SAMPLES) * (1.0 - left);
    [
        (after_least - before_most * left).max(0.0) / unit,
        (after_most - before_least * left + lost).max(0.0) / unit,
    ]
}

/// What is left of a sum after so many additions that each took its share away.
fn kept(additions: u64) -> f64 {
    let share = 1.0 - 1.0 / to_f64(SAMPLES);
    // After 40 times the window nothing is.
    share.powi(i32::try_from(additions.min(40 * SAMPLES)).unwrap_or(i32::MAX))
}

/// The sum behind a mean that was rounded up: more than the first, at most the second, in ms.
fn sum(answers: ServerAnswers) -> [f64; 2] {
    let window = answers.requests_total.min(SAMPLES);
    let most = u64::from(answers.response_ms) * window;
    [to_f64(most.saturating_sub(window)), to_f64(most)]
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_u64(ms: f64) -> u64 {
    ms as u64
}

#[allow(clippy::cast_precision_loss)]
fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use longshore_model::observe::{CheckState, ServerAdmin};
    use proptest::prelude::*;

    use super::*;

    /// One server as HAProxy counts it.
    #[derive(Default)]
    struct Slot {
        came: u64,
        open: u32,
        sum: u64,
    }

    impl Slot {
        fn comes(&mut self) {
            self.came += 1;
            self.open += 1;
        }

        fn ends(&mut self, ms: u64) {
            self.open -= 1;
            if self.came > SAMPLES {
                self.sum -= self.sum.div_ceil(SAMPLES);
            }
            self.sum += ms;
        }

        fn answers(&mut self, count: u64, ms: u64) {
            for _ in 0..count {
                self.comes();
                self.ends(ms);
            }
        }

        fn shown(&self) -> ServerObserved {
            let mean = self.sum.div_ceil(self.came.clamp(1, SAMPLES));
            ServerObserved {
                check: CheckState::Up,
                admin: ServerAdmin::Ready,
                sessions: self.open,
                queued: 0,
                answers: ServerAnswers {
                    requests_total: self.came,
                    errors_total: 0,
                    response_ms: u32::try_from(mean).unwrap(),
                },
            }
        }
    }

    proptest! {
        #[test]
        fn what_a_steady_replica_took_lies_within_the_bounds(
            (before, before_ms) in (0..3_000_u64, 0..2_000_u64),
            (open, requests, still) in (0..60_u32, 0..3_000_u64, 0..60_u32),
            ms in 0..2_000_u64,
        ) {
            let mut slot = Slot::default();
            slot.answers(before, before_ms);
            (0..open).for_each(|_| slot.comes());
            let base = slot.shown();
            (0..open).for_each(|_| slot.ends(ms));
            slot.answers(requests, ms);
            (0..still).for_each(|_| slot.comes());
            let times = Times::between(&base, &slot.shown());
            let truth = (requests + u64::from(still)) * ms;
            prop_assert!(times.least_ms <= truth, "{times:?}, really {truth}");
            // Those that are open have not said anything yet.
            prop_assert!(requests == 0 || times.most_ms >= truth, "{times:?}, really {truth}");
        }
    }

    #[test]
    fn a_quick_replica_is_not_blamed_for_the_slow_one_before_it() {
        let mut slot = Slot::default();
        slot.answers(5_000, 200);
        let base = slot.shown();
        slot.answers(100, 5);
        let now = slot.shown();
        assert!(now.answers.response_ms > 150, "HAProxy still shows {now:?}");
        let times = Times::between(&base, &now);
        assert!(times.least_ms / 100 <= 5, "{times:?}");
        assert!(times.most_ms / 100 <= 15, "{times:?}");
    }

    #[test]
    fn a_slow_replica_does_not_hide_behind_the_quick_one_before_it() {
        let mut slot = Slot::default();
        slot.answers(5_000, 5);
        let base = slot.shown();
        slot.answers(100, 200);
        let now = slot.shown();
        assert!(now.answers.response_ms < 50, "HAProxy itself shows {now:?}");
        let times = Times::between(&base, &now);
        assert!(times.least_ms / 100 >= 180, "{times:?}");
    }

    #[test]
    fn without_new_requests_nothing_is_known() {
        let mut slot = Slot::default();
        slot.answers(1, 100);
        assert_eq!(
            Times::between(&slot.shown(), &slot.shown()),
            Times::default()
        );
    }
}
