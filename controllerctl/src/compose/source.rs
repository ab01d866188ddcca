//! The text of a Compose file and places in it.

use std::path::Path;

/// One file as it was read; its bytes are what every [`Place`] counts in.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name for messages: the path as the user gave it.
    pub name: String,
    /// Its text, without a byte order mark.
    pub text: String,
}

impl Source {
    /// Wraps a text that is already in memory. A byte order mark is dropped.
    #[must_use]
    pub fn new(name: impl Into<String>, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        Self {
            name: name.into(),
            text,
        }
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    #[must_use]
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |rest| rest.chars().count())
            + 1;
        (line, column)
    }

    /// The directory that relative names in the file start from.
    #[must_use]
    pub fn directory(path: &Path) -> &Path {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }
}

/// A stretch of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Index of the file among those that were read.
    pub file: usize,
    /// First byte.
    pub offset: usize,
    /// Bytes; may be 0.
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_newlines() {
        let source = Source::new("f", "\u{feff}a: é\r\nb: x\n");
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_column(source.text.find('x').unwrap()), (2, 4));
        // Inside the two bytes of é, and far past the end.
        assert_eq!(source.line_column(4), (1, 4));
        assert_eq!(source.line_column(9_999), (3, 1));
    }
}
