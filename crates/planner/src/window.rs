//! Windows of samples: what may be counted, what was dropped and why, and when that changes.

use std::collections::BTreeMap;

use longshore_model::TimeMs;
use longshore_model::observe::{BackendSample, Sample};
use longshore_model::report::{DropReason, Dropped};

/// The time that counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub now_ms: TimeMs,
    pub window_ms: u64,
    /// Samples before this time do not count, however long the window is.
    pub from_ms: TimeMs,
    /// A source whose newest sample is older has none.
    pub stale_ms: u64,
}

impl Span {
    /// Where it begins.
    pub(crate) fn start_ms(&self) -> TimeMs {
        let start_ms = self.now_ms.saturating_sub(self.window_ms);
        start_ms.max(self.from_ms)
    }

    /// Where it begins for a source whose newest sample is of `newest_ms`: that one is in while it
    /// is fresh.
    fn start_with(&self, newest_ms: Option<TimeMs>) -> TimeMs {
        let fresh_ms = self.now_ms.saturating_sub(self.stale_ms).max(self.from_ms);
        let newest_ms = newest_ms.filter(|at_ms| *at_ms >= fresh_ms);
        self.start_ms().min(newest_ms.unwrap_or(TimeMs::MAX))
    }
}

/// What the sources of a signal had to say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Sources with good samples.
    pub good: u32,
    /// Sources that should have some.
    pub all: u32,
    pub oldest_ms: Option<TimeMs>,
    pub newest_ms: Option<TimeMs>,
    /// The earliest time at which the same samples say something else.
    pub next_ms: Option<TimeMs>,
    dropped: BTreeMap<DropReason, (u32, Vec<String>)>,
}

/// Sums of the counters of one or more edges.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counts {
    /// Requests a second, summed over edges.
    pub rate: f64,
    pub requests: f64,
    pub errors: f64,
    /// Milliseconds that all requests took together.
    pub response_ms: f64,
}

impl Tally {
    /// At `at_ms` the answer may be another.
    pub(crate) fn changes_at(&mut self, at_ms: TimeMs, now_ms: TimeMs) {
        if at_ms > now_ms {
            self.next_ms = Some(self.next_ms.map_or(at_ms, |next| next.min(at_ms)));
        }
    }

    pub(crate) fn drop(&mut self, why: DropReason, source: impl ToString) {
        let (count, sources) = self.dropped.entry(why).or_default();
        *count = count.saturating_add(1);
        if sources.len() < Dropped::SOURCES_MAX {
            let source = source.to_string();
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
    }

    pub(crate) fn dropped(&self) -> Vec<Dropped> {
        let entry = |(why, (count, sources)): (&DropReason, &(u32, Vec<String>))| Dropped {
            why: *why,
            count: *count,
            sources: sources.clone(),
        };
        self.dropped.iter().map(entry).collect()
    }

    /// Notes good samples from `oldest_ms` to `newest_ms`.
    fn good(&mut self, span: &Span, oldest_ms: TimeMs, newest_ms: TimeMs) {
        self.good += 1;
        self.oldest_ms = Some(self.oldest_ms.map_or(oldest_ms, |old| old.min(oldest_ms)));
        self.newest_ms = Some(self.newest_ms.map_or(newest_ms, |new| new.max(newest_ms)));
        let leaves_ms = oldest_ms.saturating_add(span.window_ms);
        self.changes_at(leaves_ms.saturating_add(1), span.now_ms);
        let stale_ms = newest_ms.saturating_add(span.stale_ms);
        self.changes_at(stale_ms.saturating_add(1), span.now_ms);
    }

    /// The mean of one source's samples of the window; counts the source. NaN, infinite and
    /// negative samples are dropped, and so are those from the future: a clock jumped. Of a window
    /// that is shorter than the source's own pace the newest sample counts while it is fresh.
    pub(crate) fn mean(
        &mut self,
        samples: impl IntoIterator<Item = Sample, IntoIter: Clone>,
        span: &Span,
        source: impl ToString + Copy,
    ) -> Option<f64> {
        self.all += 1;
        let samples = samples.into_iter();
        let past = samples.clone().map(|sample| sample.at_ms);
        let newest = past.filter(|at_ms| *at_ms <= span.now_ms).max();
        let start_ms = span.start_with(newest);
        let (mut sum, mut count, mut seen) = (0.0, 0.0, false);
        let (mut oldest_ms, mut newest_ms) = (TimeMs::MAX, 0);
        for sample in samples {
            if sample.at_ms > span.now_ms {
                self.changes_at(sample.at_ms, span.now_ms);
                self.drop(DropReason::Future, source);
            } else if sample.at_ms >= start_ms {
                seen = true;
                if sample.value.is_finite() && sample.value >= 0.0 {
                    sum += sample.value;
                    count += 1.0;
                    oldest_ms = oldest_ms.min(sample.at_ms);
                    newest_ms = newest_ms.max(sample.at_ms);
                } else {
                    let leaves_ms = sample.at_ms.saturating_add(span.window_ms);
                    self.changes_at(leaves_ms.saturating_add(1), span.now_ms);
                    self.drop(DropReason::NotANumber, source);
                }
            }
        }
        let mean: f64 = sum / count;
        if count == 0.0 {
            if !seen {
                self.drop(DropReason::Silent, source);
            }
            return None;
        }
        if span.now_ms - newest_ms > span.stale_ms {
            self.drop(DropReason::Stale, source);
            return None;
        }
        // A sum of huge samples may overflow to infinity.
        if !mean.is_finite() {
            self.drop(DropReason::NotANumber, source);
            return None;
        }
        self.good(span, oldest_ms, newest_ms);
        Some(mean)
    }

    /// What one edge's counters rose by within the window; counts the edge. An interval in which a
    /// counter went back is dropped: the program that counts started again. Of a window that holds no
    /// whole interval the newest one counts while it is fresh.
    pub(crate) fn counts(
        &mut self,
        samples: &[BackendSample],
        span: &Span,
        source: impl ToString + Copy,
    ) -> Option<Counts> {
        self.all += 1;
        let mut counts = Counts::default();
        let (mut span_ms, mut oldest_ms, mut newest_ms) = (0_u64, TimeMs::MAX, 0);
        let mut last: Option<&BackendSample> = None;
        let start_ms = span.start_ms().min(newest_interval(samples, span));
        for sample in samples {
            if sample.at_ms > span.now_ms {
                self.changes_at(sample.at_ms, span.now_ms);
                self.drop(DropReason::Future, source);
                continue;
            }
            if sample.at_ms < start_ms {
                continue;
            }
            if let Some(last) = last.filter(|last| last.at_ms < sample.at_ms) {
                let requests = sample.requests_total.checked_sub(last.requests_total);
                let errors = sample.errors_total.checked_sub(last.errors_total);
                if let (Some(requests), Some(errors)) = (requests, errors) {
                    let requests = float(requests);
                    counts.requests += requests;
                    counts.errors += float(errors);
                    counts.response_ms += requests * f64::from(sample.response_ms);
                    span_ms = span_ms.saturating_add(sample.at_ms - last.at_ms);
                    oldest_ms = oldest_ms.min(last.at_ms);
                    newest_ms = newest_ms.max(sample.at_ms);
                } else {
                    self.drop(DropReason::WentBack, source);
                }
            }
            last = Some(sample);
        }
        if span_ms == 0 {
            self.drop(DropReason::Silent, source);
            return None;
        }
        if span.now_ms - newest_ms > span.stale_ms {
            self.drop(DropReason::Stale, source);
            return None;
        }
        self.good(span, oldest_ms, newest_ms);
        counts.rate = counts.requests * 1_000.0 / float(span_ms);
        Some(counts)
    }
}

/// Where the newest interval between two samples begins; never, if it is not fresh, or longer than
/// a sample is fresh: what an edge counted before it was silent says nothing of now.
fn newest_interval(samples: &[BackendSample], span: &Span) -> TimeMs {
    let counts = |at_ms: &TimeMs| (span.from_ms..=span.now_ms).contains(at_ms);
    let mut past = samples.iter().map(|sample| sample.at_ms).filter(counts);
    let newest_ms = past.next_back().unwrap_or_default();
    let begin_ms = past.rfind(|at_ms| *at_ms < newest_ms).unwrap_or_default();
    let fresh = span.now_ms - newest_ms <= span.stale_ms;
    match fresh && newest_ms - begin_ms <= span.stale_ms {
        true => begin_ms,
        false => TimeMs::MAX,
    }
}

/// Counts and sums of measurements need no more precision than a double has.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: Span = Span {
        now_ms: 10_000,
        window_ms: 5_000,
        from_ms: 0,
        stale_ms: 2_000,
    };

    fn at(at_ms: u64, value: f64) -> Sample {
        Sample { at_ms, value }
    }

    fn dropped(tally: &Tally) -> Vec<(DropReason, u32)> {
        let dropped = tally.dropped();
        dropped.iter().map(|d| (d.why, d.count)).collect()
    }

    #[test]
    fn bad_samples_are_dropped_and_counted() {
        let mut tally = Tally::default();
        let samples = [
            at(4_999, 99.0),
            at(6_000, 0.5),
            at(7_000, f64::NAN),
            at(8_000, f64::INFINITY),
            at(8_500, -1.0),
            at(9_000, 0.7),
            at(10_001, 9.0),
        ];
        let mean = tally.mean(samples, &SPAN, "node1").unwrap();
        assert!((mean - 0.6).abs() < 1e-9);
        let wanted = [(DropReason::NotANumber, 3), (DropReason::Future, 1)];
        assert_eq!(dropped(&tally), wanted);
        assert_eq!(
            (tally.oldest_ms, tally.newest_ms),
            (Some(6_000), Some(9_000))
        );
        assert_eq!(
            tally.next_ms,
            Some(10_001),
            "the one from the future comes first"
        );
    }

    #[test]
    fn the_answer_is_good_until_a_sample_leaves_or_grows_stale() {
        let mut tally = Tally::default();
        tally.mean([at(6_000, 0.5), at(9_900, 0.5)], &SPAN, "node1");
        assert_eq!(
            tally.next_ms,
            Some(11_001),
            "the first one leaves the window"
        );
        let mut tally = Tally::default();
        tally.mean([at(8_500, 0.5)], &SPAN, "node1");
        assert_eq!(tally.next_ms, Some(10_501), "the only one grows stale");
        let mut tally = Tally::default();
        assert_eq!(tally.mean([at(7_999, 0.5)], &SPAN, "node1"), None);
        assert_eq!(dropped(&tally), [(DropReason::Stale, 1)]);
        assert_eq!((tally.good, tally.all), (0, 1));
    }

    fn counter(at_ms: u64, requests_total: u64, errors_total: u64) -> BackendSample {
        BackendSample {
            at_ms,
            requests_total,
            errors_total,
            response_ms: 40,
            ..BackendSample::default()
        }
    }

    #[test]
    fn a_counter_that_goes_back_loses_that_interval_only() {
        let mut tally = Tally::default();
        let samples = [
            counter(6_000, 1_000, 10),
            counter(7_000, 1_100, 12),
            // HAProxy was reloaded.
            counter(8_000, 50, 0),
            counter(9_000, 150, 1),
        ];
        let counts = tally.counts(&samples, &SPAN, "edge1").unwrap();
        assert_eq!(
            (counts.requests, counts.errors, counts.rate),
            (200.0, 3.0, 100.0)
        );
        assert_eq!(counts.response_ms, 8_000.0);
        assert_eq!(dropped(&tally), [(DropReason::WentBack, 1)]);
    }

    #[test]
    fn one_reading_of_a_counter_is_no_rate() {
        let mut tally = Tally::default();
        let twice = [counter(9_000, 5, 0), counter(9_000, 7, 0)];
        assert_eq!(tally.counts(&twice, &SPAN, "edge1"), None);
        assert_eq!(dropped(&tally), [(DropReason::Silent, 1)]);
    }

    /// A source speaks once a second: a window that is as short has no sample most of the time.
    #[test]
    fn of_a_window_shorter_than_the_pace_the_newest_counts_while_it_is_fresh() {
        let short = Span {
            window_ms: 500,
            ..SPAN
        };
        let counters = [counter(8_000, 100, 0), counter(9_000, 150, 0)];
        for span in [
            short,
            Span {
                window_ms: 1_000,
                ..SPAN
            },
        ] {
            let mut tally = Tally::default();
            let used = tally.mean([at(8_000, 0.9), at(9_000, 0.2)], &span, "node1");
            assert_eq!((used, tally.good), (Some(0.2), 1));
            assert!(tally.next_ms.is_some_and(|at_ms| at_ms <= 11_001), "stale");
            let counts = tally.counts(&counters, &span, "edge1").unwrap();
            assert_eq!((counts.rate, counts.requests), (50.0, 50.0));
        }
        let later = Span {
            now_ms: 11_001,
            ..short
        };
        let mut tally = Tally::default();
        assert_eq!(tally.mean([at(9_000, 0.2)], &later, "node1"), None);
        assert_eq!(tally.counts(&counters, &later, "edge1"), None);
        // The edge was silent in between: what it counted then is not of now.
        let gap = [counter(6_000, 100, 0), counter(9_500, 150, 0)];
        assert_eq!(tally.counts(&gap, &short, "edge1"), None);
        assert_eq!(dropped(&tally), [(DropReason::Silent, 3)]);
    }

    proptest! {
        #[test]
        fn a_mean_is_a_number(
            samples in proptest::collection::vec((0..20_000_u64, any::<u64>()), 0..20),
        ) {
            let mut tally = Tally::default();
            let samples = samples.iter().map(|(at_ms, bits)| at(*at_ms, f64::from_bits(*bits)));
            if let Some(value) = tally.mean(samples, &SPAN, "node1") {
                prop_assert!(value.is_finite() && value >= 0.0);
            }
            prop_assert!(tally.next_ms.is_none_or(|next| next > SPAN.now_ms));
        }

        #[test]
        fn counts_are_numbers_whatever_the_counters_do(
            samples in proptest::collection::vec((0..20_000_u64, any::<u64>(), any::<u64>()), 0..20),
        ) {
            let mut tally = Tally::default();
            let samples: Vec<_> = samples.iter().map(|(t, r, e)| counter(*t, *r, *e)).collect();
            if let Some(counts) = tally.counts(&samples, &SPAN, "edge1") {
                for value in [counts.rate, counts.requests, counts.errors, counts.response_ms] {
                    prop_assert!(value.is_finite() && value >= 0.0);
                }
            }
        }
    }
}
