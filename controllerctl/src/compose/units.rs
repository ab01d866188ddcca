//! Sizes, times, shares and cores as Compose files write them.

/// Longest time that most keys take: one day.
pub const DURATION_MS_MAX: u64 = 86_400_000;

/// Above that a double is no exact count of bytes, and no machine has it.
const BYTES_MAX: u64 = 1 << 53;

/// `128M`, `1.5gb`, `512k`, `64b`, `1048576`: bytes, each prefix 1024 times the one before.
///
/// # Errors
/// Words for a message.
pub fn bytes(text: &str) -> Result<u64, String> {
    let form = || format!("{text:?} is no size; write 128M, 1.5g or a number of bytes");
    let text_lower = text.trim().to_ascii_lowercase();
    let digits = text_lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text_lower[digits.len()..];
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(form()),
    };
    let factor = 1u64 << shift;
    let digits = digits.trim_end();
    if let Ok(whole) = digits.parse::<u64>() {
        let bytes = whole.checked_mul(factor);
        return bytes
            .filter(|bytes| *bytes < BYTES_MAX)
            .ok_or_else(|| format!("{text:?} is more than any machine has"));
    }
    let share = decimal(digits).ok_or_else(form)?;
    #[allow(clippy::cast_precision_loss)]
    let (value, most) = (share * factor as f64, BYTES_MAX as f64);
    if value >= most {
        return Err(format!("{text:?} is more than any machine has"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(value.round() as u64)
}

/// `1m30s`, `10s`, `500ms`, `2h`: milliseconds, at most a day.
///
/// # Errors
/// Words for a message.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    match long_duration_ms(text)? {
        ms if ms > DURATION_MS_MAX => Err(format!("{text:?} is longer than a day")),
        ms => Ok(ms),
    }
}

/// The same, and days: `365d`.
///
/// # Errors
/// Words for a message.
pub fn long_duration_ms(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(0);
    }
    if let Ok(number) = text.parse::<f64>() {
        return Err(format!("{text:?} has no unit; write {number}s for seconds"));
    }
    let ms = match humantime::parse_duration(text) {
        Ok(duration) => u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        // Compose, and Go beneath it, also know fractions: `1.5s`.
        Err(_) => fractional_ms(text)
            .ok_or_else(|| format!("{text:?} is no time; write 500ms, 10s or 1m30s"))?,
    };
    Ok(ms)
}

fn fractional_ms(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let unit = rest[number..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |bytes| number + bytes);
        let factor = match &rest[number..unit] {
            "us" | "µs" => 0.001,
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        total += decimal(&rest[..number])? * factor;
        rest = &rest[unit..];
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (total.is_finite() && total < 1e15).then_some(total.round() as u64)
}

/// `60%` or `0.6`: a ratio above zero.
///
/// # Errors
/// Words for a message.
pub fn ratio(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let form = || format!("{text:?} is no share; write 60%");
    let value = match text.strip_suffix('%') {
        Some(percent) => decimal(percent.trim()).ok_or_else(form)? / 100.0,
        None => {
            let value = decimal(text).ok_or_else(form)?;
            if value > 1.0 {
                return Err(format!("{text:?} has no unit; write {text}%"));
            }
            value
        }
    };
    if value > 0.0 && value <= 100.0 {
        Ok(value)
    } else {
        Err(format!("{text:?} must be above 0 and at most 10000%"))
    }
}

/// `2%` or `0.02`: a share from nothing to all.
///
/// # Errors
/// Words for a message.
pub fn share(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let form = || format!("{text:?} is no share; write 2% or 0.02");
    let value = match text.strip_suffix('%') {
        Some(percent) => decimal(percent.trim()).ok_or_else(form)? / 100.0,
        None => decimal(text).ok_or_else(form)?,
    };
    if value <= 1.0 {
        Ok(value)
    } else {
        Err(format!("{text:?} must be from 0 to 100%"))
    }
}

/// `100/s`, `6000/m`, `0.5/s`: so many a second, above zero.
///
/// # Errors
/// Words for a message.
pub fn per_second(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let form = || format!("{text:?} is no rate; write 100/s");
    let (number, seconds) = match text.split_once('/') {
        Some((number, "s")) => (number, 1.0),
        Some((number, "m" | "min")) => (number, 60.0),
        Some((number, "h")) => (number, 3_600.0),
        Some(_) => return Err(form()),
        None if decimal(text).is_some() => {
            return Err(format!("{text:?} has no unit; write {text}/s"));
        }
        None => return Err(form()),
    };
    let value = decimal(number.trim()).ok_or_else(form)? / seconds;
    above_zero(text, value)
}

/// `40`, `0.5`: a number above zero.
///
/// # Errors
/// Words for a message.
pub fn amount(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let value = decimal(text).ok_or_else(|| format!("{text:?} is no number; write 40 or 0.5"))?;
    above_zero(text, value)
}

fn above_zero(text: &str, value: f64) -> Result<f64, String> {
    match value > 0.0 && value.is_finite() {
        true => Ok(value),
        false => Err(format!("{text:?} must be above 0")),
    }
}

/// `0.5`, `2`: thousandths of a core.
///
/// # Errors
/// Words for a message.
pub fn cpu_milli(text: &str) -> Result<u64, String> {
    let form = || format!("{text:?} is no number of cores; write \"0.5\" or \"2\"");
    let cores = decimal(text.trim()).ok_or_else(form)?;
    if cores > 65_536.0 {
        return Err(format!("{text:?} is more cores than any node has"));
    }
    let milli = (cores * 1000.0).round();
    if milli < 1.0 && cores > 0.0 {
        return Err(format!("{text:?} is less than a thousandth of a core"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(milli as u64)
}

/// Digits with at most one dot: what `f64` reads beyond that (`inf`, `1e9`, `-1`) is no amount.
fn decimal(text: &str) -> Option<f64> {
    let ok = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.bytes().any(|b| b.is_ascii_digit());
    if ok {
        text.parse().ok().filter(|v: &f64| v.is_finite())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_based_on_1024() {
        let facts = [
            ("128M", 128 << 20),
            ("1.5gb", 3 << 29),
            ("64k", 64 << 10),
            ("1048576", 1 << 20),
            ("10b", 10),
            ("1 GiB", 1 << 30),
        ];
        for (text, wanted) in facts {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        for bad in [
            "",
            "M",
            "-1",
            "1x",
            "1e9",
            "inf",
            "99999999999999999999g",
            "18014398509481984k",
            "9000000g",
        ] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_take_compose_and_go_forms() {
        let facts = [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("1h5m30s20ms", 3_930_020),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, wanted) in facts {
            assert_eq!(duration_ms(text), Ok(wanted), "{text}");
        }
        assert!(duration_ms("10").unwrap_err().contains("10s"));
        for bad in ["", "x", "-1s", "1y", "25h", "1e3s"] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_and_cores() {
        assert_eq!(ratio("60%"), Ok(0.6));
        assert_eq!(ratio("0.6"), Ok(0.6));
        assert!(ratio("60").unwrap_err().contains("60%"));
        assert!(ratio("0%").is_err());
        assert_eq!(
            (share("2%"), share("0.02"), share("0")),
            (Ok(0.02), Ok(0.02), Ok(0.0))
        );
        assert!(share("2").is_err() && share("101%").is_err() && share("-1%").is_err());
        assert_eq!(per_second("100/s"), Ok(100.0));
        assert_eq!(per_second("30/m"), Ok(0.5));
        assert!(per_second("100").unwrap_err().contains("100/s"));
        assert_eq!(amount("0.5"), Ok(0.5));
        for bad in ["0/s", "-1/s", "1/d", "/s", "NaN/s", "inf/s", "1e9/s"] {
            assert!(per_second(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "NaN", "inf", "", "5%"] {
            assert!(amount(bad).is_err(), "{bad}");
        }
        assert_eq!(cpu_milli("0.50"), Ok(500));
        assert_eq!(cpu_milli("2"), Ok(2_000));
        assert!(cpu_milli("0.0001").is_err());
        assert!(cpu_milli("NaN").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in ".{0,30}|[0-9.]{0,25}[a-zA-Z%µ]{0,3}") {
            let _ = (bytes(&text), duration_ms(&text), ratio(&text), cpu_milli(&text));
            let _ = (per_second(&text), amount(&text));
        }

        #[test]
        fn whole_megabytes_are_exact(n in 0u64..1_000_000) {
            prop_assert_eq!(bytes(&format!("{n}M")), Ok(n << 20));
            prop_assert_eq!(bytes(&format!("{n}.0m")), Ok(n << 20));
        }
    }
}
