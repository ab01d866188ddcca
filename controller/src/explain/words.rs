//! Times, spans and reasons in words.

use std::time::{Duration, UNIX_EPOCH};

pub(super) use longshore_model::span;
use longshore_model::{Reason, TimeMs};

const DAY_MS: u64 = 86_400_000;
/// The formatter knows years up to 9999; a clock beyond is no clock.
const TIME_MS_MAX: u64 = 253_402_300_799_000;

/// The moment from which people look.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// That moment.
    pub now_ms: TimeMs,
}

impl Clock {
    /// Time of day in UTC, with the date if it is another day.
    #[must_use]
    pub fn at(self, ms: TimeMs) -> String {
        let time = UNIX_EPOCH + Duration::from_millis(ms.min(TIME_MS_MAX));
        let text = humantime::format_rfc3339_seconds(time).to_string();
        let (date, time) = text.split_once('T').unwrap_or(("", &text));
        let time = time.trim_end_matches('Z');
        if ms / DAY_MS == self.now_ms / DAY_MS {
            time.to_owned()
        } else {
            format!("{date} {time}")
        }
    }

    /// ` until 12:18:40`, if it is still to come.
    #[must_use]
    pub fn until(self, ms: Option<TimeMs>) -> String {
        match ms {
            Some(ms) if ms > self.now_ms => format!(" until {}", self.at(ms)),
            _ => String::new(),
        }
    }
}

/// `1 replica`, `2 replicas`.
#[must_use]
pub(super) fn counted(count: impl Into<u64>, one: &str) -> String {
    match count.into() {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    }
}

/// A reason with its end, where it has one that is still to come.
#[must_use]
pub(super) fn reason(reason: &Reason, clock: Clock) -> String {
    match reason {
        // What failed has the last word, in words of its own.
        Reason::Backoff { until_ms, .. } if *until_ms > clock.now_ms => {
            format!("{reason} (next try at {})", clock.at(*until_ms))
        }
        _ => format!("{reason}{}", clock.until(until_ms(reason))),
    }
}

fn until_ms(reason: &Reason) -> Option<TimeMs> {
    match reason {
        Reason::Observing { until_ms }
        | Reason::Stabilizing { until_ms, .. }
        | Reason::RateLimited { until_ms }
        | Reason::Turned { until_ms } => Some(*until_ms),
        Reason::Held { until_ms } | Reason::Paused { until_ms, .. } => *until_ms,
        Reason::BoundsFrom { bound } => bound.until_ms,
        _ => None,
    }
}
