//! `.dockerignore`: what of a directory a build does not see.
//!
//! Patterns are Go's `filepath.Match` with `**`, from the root of the context; the last that fits a
//! path or one of the directories above it decides, `!` takes back in. Rules after
//! <https://docs.docker.com/build/concepts/context/#dockerignore-files>.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

/// Most patterns of one file.
const PATTERNS_MAX: usize = 10_000;

/// The patterns of one file.
#[derive(Debug, Default)]
pub struct Ignored {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    itself: GlobMatcher,
    is_exception: bool,
}

impl Ignored {
    /// Reads the text of a `.dockerignore`.
    ///
    /// # Errors
    /// The line, from 1, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut patterns = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (is_exception, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let clean = clean(line);
            if clean.is_empty() {
                continue;
            }
            if patterns.len() == PATTERNS_MAX {
                return Err((index + 1, format!("more than {PATTERNS_MAX} patterns")));
            }
            // Braces are letters there.
            let escaped = clean.replace('{', "\\{").replace('}', "\\}");
            let glob = GlobBuilder::new(&escaped).literal_separator(true).build();
            let glob = glob.map_err(|error| (index + 1, error.kind().to_string()))?;
            patterns.push(Pattern {
                itself: glob.compile_matcher(),
                is_exception,
            });
        }
        Ok(Self { patterns })
    }

    /// Is this path, from the root of the context, not seen?
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        let fits = |pattern: &Pattern| {
            let mut ways = path.ancestors().filter(|way| *way != Path::new(""));
            ways.any(|way| pattern.itself.is_match(way))
        };
        let last = self.patterns.iter().rev().find(|pattern| fits(pattern));
        last.is_some_and(|pattern| !pattern.is_exception)
    }

    /// Could something below a directory that is not seen be seen?
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_exception)
    }
}

/// `/a/./b/` is `a/b`, as Go cleans it.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_fits_decides() {
        // Patterns, what they hide, what they leave.
        let facts: &[(&str, &[&str], &[&str])] = &[
            ("*.md\n!README.md\n", &["a.md"], &["README.md", "docs/a.md"]),
            ("**/*.md", &["a.md", "docs/x/a.md"], &["a.mdx"]),
            ("target\n", &["target", "target/debug/x"], &["src/target"]),
            ("/target/\n", &["target", "target/x"], &["targets"]),
            ("dir\n!dir/keep\n", &["dir/a"], &["dir/keep", "dir/keep/b"]),
            ("*\n!src\n", &["a", "b/c"], &["src", "src/main.rs"]),
            ("# a\n\n  tmp?  \n", &["tmp1"], &["tmp", "tmp12"]),
            ("a[0-9]b\n[^x]z\n", &["a5b", "yz"], &["axb", "xz"]),
            ("a{b,c}", &["a{b,c}"], &["ab", "ac"]),
            ("./x/../y", &["y"], &["x"]),
            ("", &[], &["a"]),
        ];
        for (text, hidden, seen) in facts {
            let ignored = Ignored::parse(text).unwrap();
            for path in *hidden {
                assert!(ignored.has(Path::new(path)), "{text:?} shows {path}");
            }
            for path in *seen {
                assert!(!ignored.has(Path::new(path)), "{text:?} hides {path}");
            }
        }
        assert_eq!(Ignored::parse("a\n[b").unwrap_err().0, 2);
    }
}
