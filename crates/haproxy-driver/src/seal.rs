//! The last line of the configuration file: by it a driver that starts anew knows whether somebody
//! else changed the file while no driver was there.
//!
//! It guards against hands, not against forgers: who can write the file can write the line.

use std::fmt::Write as _;

/// What the line begins with. To HAProxy it is a comment.
const LINE: &str = "# as the driver wrote it: ";
/// What a file of any driver begins with.
const HEAD: &str = "# Longshore: base ";

/// A file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// As a driver wrote it, without the line.
    Whole(String),
    /// As it is; somebody else changed it.
    Changed(String),
    /// As it is: of a driver that knew no such line, or somebody's own. Nobody can tell.
    Unknown(String),
}

/// The text as it goes to disk.
pub(crate) fn seal(mut text: String) -> String {
    let sum = sum(&text);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{LINE}{sum:016x}");
    text
}

/// What a file on disk is.
pub(crate) fn open(text: String) -> Found {
    let Some(at) = text.rfind(LINE) else {
        return match text.starts_with(HEAD) {
            true => Found::Unknown(text),
            false => Found::Changed(text),
        };
    };
    let (body, line) = text.split_at(at);
    match line == format!("{LINE}{:016x}\n", sum(body)) {
        true => Found::Whole(body.to_owned()),
        false => Found::Changed(text),
    }
}

/// Is it such a line?
pub(crate) fn is_line(line: &str) -> bool {
    line.starts_with(LINE)
}

/// FNV-1a.
fn sum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_changed_or_nobody_can_tell() {
        let text = format!("{HEAD}x\nglobal\n    maxconn 7\n");
        let sealed = seal(text.clone());
        assert_eq!(open(sealed.clone()), Found::Whole(text.clone()));
        for changed in [
            sealed.replace("maxconn 7", "maxconn 8"),
            format!("{sealed}# more\n"),
            sealed.trim_end().to_owned(),
            "garbage\n".to_owned(),
            String::new(),
        ] {
            assert_eq!(open(changed.clone()), Found::Changed(changed));
        }
        assert_eq!(open(text.clone()), Found::Unknown(text));
    }
}
