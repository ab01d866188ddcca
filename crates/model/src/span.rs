//! Lengths of time in words.

/// A length of time with at most two units: `0.4 s`, `42 s`, `9 min 56 s`, `3 h`, `4 d 2 h`.
#[must_use]
pub fn span(ms: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    if ms < 10_000 {
        return format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
    }
    let seconds = ms / 1_000;
    let (big, of_big, small, of_small) = match seconds {
        0..MINUTE => return format!("{seconds} s"),
        MINUTE..HOUR => ("min", MINUTE, "s", 1),
        HOUR..DAY => ("h", HOUR, "min", MINUTE),
        _ => ("d", DAY, "h", HOUR),
    };
    match seconds % of_big / of_small {
        0 => format!("{} {big}", seconds / of_big),
        rest => format!("{} {big} {rest} {small}", seconds / of_big),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn a_length_of_time_has_two_units_at_most() {
        for (ms, words) in [
            (0, "0.0 s"),
            (950, "0.9 s"),
            (9_999, "9.9 s"),
            (42_000, "42 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (596_470, "9 min 56 s"),
            (3_600_000, "1 h"),
            (11_100_000, "3 h 5 min"),
            (86_399_999, "23 h 59 min"),
            (180_000_000, "2 d 2 h"),
            (u64::MAX, "213503982334 d 14 h"),
        ] {
            assert_eq!(span(ms), words);
        }
    }
}
