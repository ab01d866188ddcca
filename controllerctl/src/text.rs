//! Text that came from elsewhere, made safe for a terminal.

/// True for characters that can move the cursor, recolour, retitle or reorder what a terminal
/// shows: C0 and C1 controls and the bidirectional overrides.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Strips escape sequences (CSI, OSC and their like) with what they carry, and every other unsafe
/// character but the tab.
#[must_use]
pub fn printable(text: &str) -> String {
    if !text.chars().any(is_unsafe) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_until(&mut rest, |c| ('\u{40}'..='\u{7e}').contains(&c)),
            '\u{90}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut rest),
            '\t' => out.push('\t'),
            c if is_unsafe(c) => {}
            c => out.push(c),
        }
    }
    out
}

fn skip_escape(rest: &mut std::str::Chars<'_>) {
    match rest.next() {
        Some('[') => skip_until(rest, |c| ('\u{40}'..='\u{7e}').contains(&c)),
        // OSC, DCS, SOS, PM and APC carry a string up to BEL or ST.
        Some(']' | 'P' | 'X' | '^' | '_') => skip_string(rest),
        // Intermediate bytes (charset selection) are followed by one final byte.
        Some('\u{20}'..='\u{2f}') => skip_until(rest, |c| ('\u{30}'..='\u{7e}').contains(&c)),
        _ => {}
    }
}

fn skip_until(rest: &mut std::str::Chars<'_>, last: impl Fn(char) -> bool) {
    for c in rest.by_ref() {
        if last(c) {
            return;
        }
    }
}

fn skip_string(rest: &mut std::str::Chars<'_>) {
    while let Some(c) = rest.next() {
        match c {
            '\u{07}' | '\u{9c}' => return,
            '\u{1b}' => {
                // ESC \ ends it; any other escape also ends the string on real terminals.
                rest.next();
                return;
            }
            _ => {}
        }
    }
}

/// `1 replica`, `2 replicas`.
#[must_use]
pub fn replicas(count: u32) -> String {
    match count {
        1 => "1 replica".into(),
        count => format!("{count} replicas"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_vanish_with_what_they_carry() {
        assert_eq!(printable("a\u{1b}[31mred\u{1b}[0m"), "ared");
        assert_eq!(printable("\u{1b}]0;owned\u{07}text"), "text");
        assert_eq!(printable("\u{1b}]8;;http://x\u{1b}\\link"), "link");
        assert_eq!(printable("\u{1b}(Bplain"), "plain");
        assert_eq!(printable("one\ttwo"), "one\ttwo");
        assert_eq!(printable("safe \u{202e}gnp.exe"), "safe gnp.exe");
        assert_eq!(printable("\u{9b}2Jx"), "x");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in "\\PC*|[\u{0}-\u{ff}]*|.*") {
            let shown = printable(&text);
            prop_assert!(shown.chars().all(|c| c == '\t' || !is_unsafe(c)));
            prop_assert_eq!(printable(&shown), shown.clone());
        }
    }
}
