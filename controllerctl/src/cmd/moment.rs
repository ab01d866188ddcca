//! Moments as people write them, and as `why` and `events` print them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::millis;
use crate::failure::{Exit, Failure};

/// So far the clock that printed a time of day may be ahead of this one.
const AHEAD: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// `10m`, a time of day or date in UTC, RFC 3339 or Unix seconds, as milliseconds since the epoch.
pub(super) fn since_ms(text: &str) -> Result<u64, Failure> {
    moment_ms(text, SystemTime::now())
}

fn moment_ms(text: &str, now: SystemTime) -> Result<u64, Failure> {
    let ms = |time: SystemTime| millis(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    // Before lengths of time: a bare 0 is one as well.
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(seconds.saturating_mul(1000));
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(ms(now.checked_sub(ago).unwrap_or(UNIX_EPOCH)));
    }
    let written = text.strip_suffix("UTC").unwrap_or(text).trim();
    if let Some(time) = time_of_day(written, now) {
        return Ok(ms(time));
    }
    let date = match written.len() {
        10 => format!("{written} 00:00:00"),
        _ => written.to_owned(),
    };
    humantime::parse_rfc3339_weak(&date)
        .map(ms)
        .map_err(|error| {
            Failure::new(format!("{text:?} is no time"))
                .because(error)
                .exit(Exit::Usage)
                .hint("write 10m, 12:04:10 (UTC), 2026-11-21, 2026-11-21T12:00:00Z or Unix seconds")
        })
}

/// `12:04:10` or `12:04`: the last one that is not to come.
fn time_of_day(written: &str, now: SystemTime) -> Option<SystemTime> {
    let clock = match written.trim_end_matches('Z') {
        clock if clock.len() == 5 => format!("{clock}:00"),
        clock => clock.to_owned(),
    };
    let is_clock = clock.len() == 8 && clock.bytes().all(|b| b.is_ascii_digit() || b == b':');
    let today = humantime::format_rfc3339_seconds(now).to_string();
    let today = today.split('T').next()?;
    let time = humantime::parse_rfc3339_weak(&format!("{today} {clock}"));
    let time = time.ok().filter(|_| is_clock)?;
    let is_to_come = time > now + AHEAD;
    Some(if is_to_come { time - DAY } else { time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_the_last_one_in_utc() {
        let read = |text: &str| humantime::parse_rfc3339_weak(text).unwrap();
        let now = read("2026-11-22 12:00:00");
        for (text, wanted) in [
            ("11:59:58", "2026-11-22 11:59:58"),
            ("11:59", "2026-11-22 11:59:00"),
            ("11:59:58Z", "2026-11-22 11:59:58"),
            ("11:59:58 UTC", "2026-11-22 11:59:58"),
            // A clock that is ahead printed it.
            ("12:00:20", "2026-11-22 12:00:20"),
            ("12:04:10", "2026-11-21 12:04:10"),
            ("2026-11-20 12:04:10 UTC", "2026-11-20 12:04:10"),
            ("2026-11-20T12:04:10Z", "2026-11-20 12:04:10"),
            ("2026-11-20", "2026-11-20 00:00:00"),
            ("10m", "2026-11-22 11:50:00"),
        ] {
            let wanted = read(wanted).duration_since(UNIX_EPOCH).unwrap();
            assert_eq!(moment_ms(text, now).ok(), Some(millis(wanted)), "{text}");
        }
        for text in [
            "", "25:00:00", "12:60", "1:2:3:45", "noon", "12:04:1a", "é2:04",
        ] {
            let failure = moment_ms(text, now).unwrap_err();
            assert!(failure.message.contains("is no time"), "{failure}");
        }
    }
}
