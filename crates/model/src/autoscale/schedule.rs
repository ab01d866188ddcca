//! When a schedule is in force: cron fields in a time zone, computed from given instants only. The
//! time zones are compiled in, so that every machine answers the same.
//!
//! What happens when clocks change is `croner`'s rule (that of Vixie cron): a fixed time that a
//! spring night skips happens at the first moment after the gap; one that an autumn night has
//! twice happens once, the first time. A length is real time: `12h` from 19:00 before an autumn
//! change ends at 06:00.

use std::sync::LazyLock;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};

use super::{Schedule, ScheduleEnd};
use crate::TimeMs;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Longest time that a schedule may be in force after one start: a week.
pub const SCHEDULE_MS_MAX: u64 = 7 * 86_400_000;

/// Longest cron text or name of a zone that is looked at, in bytes.
const TEXT_MAX: usize = 128;

/// Why a schedule makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The start or the end.
    #[error("{text:?} is no cron time: {why}")]
    Cron {
        /// As written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Cron fields that no day has.
    #[error("{text:?} never happens")]
    Never {
        /// As written.
        text: String,
    },
    /// A name that the time zone database does not have.
    #[error("{name:?} is no time zone")]
    TimeZone {
        /// As written.
        name: String,
    },
    /// A length of zero, or too long.
    #[error("lasts {ms} ms; it must be from 1m to 7d")]
    Length {
        /// As written.
        ms: u64,
    },
    /// It would end as it starts.
    #[error("ends when it starts")]
    Empty,
}

/// A schedule that was read.
#[derive(Debug, Clone)]
pub struct Calendar {
    start: Cron,
    end: End,
    zone: TimeZone,
}

#[derive(Debug, Clone)]
enum End {
    After(u64),
    At(Box<Cron>),
}

/// Is a schedule in force, and until when does that hold?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// It is.
    pub now: bool,
    /// The next time that this changes; none: never, as far as the calendar reaches.
    pub until_ms: Option<TimeMs>,
}

/// Names of all time zones, for suggestions.
pub fn time_zones() -> impl Iterator<Item = String> {
    ZONES.available().map(|name| name.to_string())
}

impl Schedule {
    /// Reads its fields.
    ///
    /// # Errors
    /// [`ScheduleError`] names what is wrong.
    pub fn calendar(&self) -> Result<Calendar, ScheduleError> {
        let zone = zone(&self.time_zone)?;
        let start = cron(&self.start)?;
        let end = match &self.end {
            ScheduleEnd::After(ms) if (60_000..=SCHEDULE_MS_MAX).contains(ms) => End::After(*ms),
            ScheduleEnd::After(ms) => return Err(ScheduleError::Length { ms: *ms }),
            ScheduleEnd::At(text) => {
                let end = cron(text)?;
                if end == start {
                    return Err(ScheduleError::Empty);
                }
                End::At(Box::new(end))
            }
        };
        Ok(Calendar { start, end, zone })
    }
}

/// A time zone by its IANA name.
fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let unknown = || ScheduleError::TimeZone {
        name: name.chars().take(TEXT_MAX).collect(),
    };
    if name.len() > TEXT_MAX {
        return Err(unknown());
    }
    ZONES.get(name).map_err(|_| unknown())
}

/// Five cron fields that happen at least once in the eight years from 2024 on (a 29 February is
/// at most eight years away).
fn cron(text: &str) -> Result<Cron, ScheduleError> {
    let shown: String = text.chars().take(TEXT_MAX).collect();
    let fault = |why: String| ScheduleError::Cron {
        text: shown.clone(),
        why,
    };
    if text.len() > TEXT_MAX {
        return Err(fault(format!("longer than {TEXT_MAX} bytes")));
    }
    if text.split_whitespace().count() != 5 {
        return Err(fault(
            "five fields are needed: minute, hour, day of month, month, day of week".into(),
        ));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let cron = parser
        .parse(text)
        .map_err(|error| fault(error.to_string()))?;
    let never = || ScheduleError::Never {
        text: shown.clone(),
    };
    let from = at(1_704_067_200_000, &TimeZone::UTC).ok_or_else(never)?;
    match cron.find_next_occurrence(&from, true) {
        Ok(first) if first.year() < 2032 => Ok(cron),
        _ => Err(never()),
    }
}

/// An instant in a zone, in whole seconds: cron knows nothing finer. None far outside of history.
fn at(ms: TimeMs, zone: &TimeZone) -> Option<Zoned> {
    let seconds = i64::try_from(ms / 1_000).ok()?;
    let instant = Timestamp::from_second(seconds).ok()?;
    Some(instant.to_zoned(zone.clone()))
}

fn ms(time: &Zoned) -> Option<TimeMs> {
    u64::try_from(time.timestamp().as_millisecond()).ok()
}

impl Calendar {
    /// Is it in force at `now_ms`, and until when does that hold?
    #[must_use]
    pub fn at(&self, now_ms: TimeMs) -> InForce {
        let Some(now) = at(now_ms, &self.zone) else {
            return InForce {
                now: false,
                until_ms: None,
            };
        };
        let before = |cron: &Cron| ms(&cron.find_previous_occurrence(&now, true).ok()?);
        let after = |cron: &Cron| ms(&cron.find_next_occurrence(&now, false).ok()?);
        let end_ms = before(&self.start).and_then(|start_ms| match &self.end {
            End::After(length) => {
                let end_ms = start_ms.saturating_add(*length);
                (end_ms > now_ms).then_some(Some(end_ms))
            }
            // Of a start and an end at the same moment the end holds.
            End::At(end) => before(end)
                .is_none_or(|end_ms| end_ms < start_ms)
                .then(|| after(end)),
        });
        match end_ms {
            Some(until_ms) => InForce {
                now: true,
                until_ms,
            },
            None => InForce {
                now: false,
                until_ms: after(&self.start),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(start: &str, end: ScheduleEnd, time_zone: &str) -> Schedule {
        Schedule {
            name: "test".into(),
            start: start.into(),
            end,
            time_zone: time_zone.into(),
            min: Some(1),
            max: None,
        }
    }

    fn hours(hours: u64) -> ScheduleEnd {
        ScheduleEnd::After(hours * 3_600_000)
    }

    /// `2026-03-29T01:00:00Z` and the like.
    fn utc(text: &str) -> TimeMs {
        let time: Timestamp = text.parse().unwrap();
        u64::try_from(time.as_millisecond()).unwrap()
    }

    fn spans(calendar: &Calendar, from: &str, count: usize) -> Vec<(bool, String)> {
        let mut now_ms = utc(from);
        let mut spans = Vec::new();
        for _ in 0..count {
            let in_force = calendar.at(now_ms);
            now_ms = in_force.until_ms.unwrap();
            let until = Timestamp::from_millisecond(i64::try_from(now_ms).unwrap());
            spans.push((in_force.now, until.unwrap().to_string()));
        }
        spans
    }

    #[test]
    fn office_hours_follow_the_local_clock_over_both_changes() {
        let office = schedule("0 7 * * MON-FRI", hours(12), "Europe/Brussels");
        let calendar = office.calendar().unwrap();
        // 27 March 2026 is a Friday before the spring change, 30 March the Monday after it.
        let wanted = [
            (true, "2026-03-27T18:00:00Z"),
            (false, "2026-03-30T05:00:00Z"),
            (true, "2026-03-30T17:00:00Z"),
        ];
        let wanted = wanted.map(|(now, text)| (now, text.to_owned()));
        assert_eq!(spans(&calendar, "2026-03-27T12:00:00Z", 3), wanted);
        // 23 October is the Friday before the autumn change.
        let wanted = [
            (true, "2026-10-23T17:00:00Z"),
            (false, "2026-10-26T06:00:00Z"),
        ];
        let wanted = wanted.map(|(now, text)| (now, text.to_owned()));
        assert_eq!(spans(&calendar, "2026-10-23T12:00:00Z", 2), wanted);
    }

    #[test]
    fn a_start_inside_the_spring_gap_happens_after_it() {
        let night = schedule("30 2 * * *", hours(1), "Europe/Brussels");
        // Clocks go from 02:00 to 03:00 at 01:00 UTC.
        let wanted = [
            (false, "2026-03-29T01:00:00Z"),
            (true, "2026-03-29T02:00:00Z"),
            (false, "2026-03-30T00:30:00Z"),
        ];
        let wanted = wanted.map(|(now, text)| (now, text.to_owned()));
        let calendar = night.calendar().unwrap();
        assert_eq!(spans(&calendar, "2026-03-29T00:30:00Z", 3), wanted);
    }

    #[test]
    fn a_start_that_an_autumn_night_has_twice_happens_once() {
        let night = schedule("30 2 * * *", hours(2), "Europe/Brussels");
        // Clocks go from 03:00 back to 02:00 at 01:00 UTC.
        let wanted = [
            (false, "2026-10-25T00:30:00Z"),
            (true, "2026-10-25T02:30:00Z"),
            (false, "2026-10-26T01:30:00Z"),
        ];
        let wanted = wanted.map(|(now, text)| (now, text.to_owned()));
        let calendar = night.calendar().unwrap();
        assert_eq!(spans(&calendar, "2026-10-25T00:00:00Z", 3), wanted);
    }

    #[test]
    fn an_end_by_the_clock_may_come_after_midnight() {
        let night = schedule("0 22 * * *", ScheduleEnd::At("0 6 * * *".into()), "UTC");
        let calendar = night.calendar().unwrap();
        let wanted = [
            (false, "2026-11-21T22:00:00Z"),
            (true, "2026-11-22T06:00:00Z"),
            (false, "2026-11-22T22:00:00Z"),
        ];
        let wanted = wanted.map(|(now, text)| (now, text.to_owned()));
        assert_eq!(spans(&calendar, "2026-11-21T08:00:00Z", 3), wanted);
        assert!(!calendar.at(utc("2026-11-22T06:00:00Z")).now);
        assert!(calendar.at(utc("2026-11-22T05:59:59.999Z")).now);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused =
            |start: &str, end, zone: &str| schedule(start, end, zone).calendar().unwrap_err();
        let cron = |error| matches!(error, ScheduleError::Cron { .. });
        for bad in [
            "",
            "* * * *",
            "0 0 7 * * *",
            "61 * * * *",
            "0 7 * * FOO",
            "@daily",
        ] {
            assert!(cron(refused(bad, hours(1), "UTC")), "{bad}");
        }
        assert!(cron(refused(&"1,".repeat(5_000), hours(1), "UTC")));
        let never = refused("0 0 30 2 *", hours(1), "UTC");
        assert_eq!(never.to_string(), "\"0 0 30 2 *\" never happens");
        assert!(schedule("0 0 29 2 *", hours(1), "UTC").calendar().is_ok());
        for zone in ["", "Europe/Brussel", "CEST", "../../etc/passwd"] {
            let error = refused("0 7 * * *", hours(1), zone);
            assert!(matches!(error, ScheduleError::TimeZone { .. }), "{zone}");
        }
        let length = refused("0 7 * * *", ScheduleEnd::After(0), "UTC");
        assert_eq!(length, ScheduleError::Length { ms: 0 });
        let same = refused("0 7 * * *", ScheduleEnd::At("0 7 * * *".into()), "UTC");
        assert_eq!(same, ScheduleError::Empty);
        assert!(time_zones().any(|zone| zone == "Europe/Brussels"));
    }

    #[test]
    fn absurd_clocks_are_no_panic() {
        let calendar = schedule("0 7 * * *", hours(1), "Europe/Brussels").calendar();
        let calendar = calendar.unwrap();
        for now_ms in [0, 1, u64::MAX, u64::MAX / 2, 253_402_300_799_999] {
            let in_force = calendar.at(now_ms);
            assert!(in_force.until_ms.is_none_or(|until| until > now_ms));
        }
    }

    proptest! {
        #[test]
        fn the_answer_holds_until_it_says(
            start in (0..60_u32, 0..24_u32),
            length in 1..200_u64,
            now_s in 1_700_000_000..1_900_000_000_u64,
        ) {
            let start = format!("{} {} * * *", start.0, start.1);
            let end = ScheduleEnd::After(length * 600_000);
            let calendar = schedule(&start, end, "America/New_York").calendar().unwrap();
            let now_ms = now_s * 1_000;
            let here = calendar.at(now_ms);
            let until_ms = here.until_ms.unwrap();
            prop_assert!(until_ms > now_ms);
            prop_assert_eq!(calendar.at(until_ms - 1).now, here.now);
            prop_assert_eq!(calendar.at(now_ms + (until_ms - now_ms) / 2).now, here.now);
        }
    }
}
