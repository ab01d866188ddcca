//! Names of signals, as engines read them (`moby/sys/signal`).

/// Those of Linux without `SIG`, but for the real-time ones.
const NAMES: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "UNUSED", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];
/// Largest number of a signal.
const NUMBER_MAX: u8 = 64;

/// Does it name a signal that a container can be stopped by: `SIGTERM`, `term`, `15`,
/// `SIGRTMIN+3`?
#[must_use]
pub fn is_signal(text: &str) -> bool {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text
            .parse()
            .is_ok_and(|n: u8| (1..=NUMBER_MAX).contains(&n));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let step = |rest: &str, sign: char, most: u8| {
        let number = rest.strip_prefix(sign);
        let number = number.filter(|n| !n.starts_with(['0', '+']));
        number.is_some_and(|n| n.parse().is_ok_and(|n: u8| n <= most))
    };
    let real_time = |word: &str, sign: char, most: u8| {
        let rest = name.strip_prefix(word);
        rest.is_some_and(|rest| rest.is_empty() || step(rest, sign, most))
    };
    NAMES.contains(&name) || real_time("RTMIN", '+', 15) || real_time("RTMAX", '-', 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for good in [
            "SIGTERM", "term", "Quit", "1", "64", "SIGRTMIN", "rtmin+15", "RTMAX-14",
        ] {
            assert!(is_signal(good), "{good}");
        }
        for bad in [
            "",
            "0",
            "65",
            "-1",
            "+9",
            "SIGFOO",
            "SIG",
            "SIGSIGTERM",
            "RTMIN+16",
            "RTMIN-1",
            "RTMAX-15",
            "RTMIN+0",
            "RTMIN+",
            "TERM ",
            "9999999999",
        ] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
