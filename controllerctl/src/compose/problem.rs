//! What is wrong with a Compose file, where, and what to do about it.

use std::collections::BTreeSet;
use std::fmt;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity,
    SourceCode,
};

use super::node::Node;
use super::source::{Place, Source};
use crate::text::printable;

/// Most errors kept of one run: all that is wrong with a file, not the first of it.
pub const ERRORS_MAX: usize = 2_000;

/// Most warnings kept of one run.
pub const WARNINGS_MAX: usize = 500;

/// Most findings that are drawn with an excerpt; what is beyond has one line each.
const DRAWN_MAX: usize = 200;

/// Longest message.
const MESSAGE_CHARS_MAX: usize = 300;

/// Code of a key that nobody knows.
pub const UNKNOWN_KEY: &str = "unknown_key";

/// Code of a key that is known and does nothing here.
pub const NOT_SUPPORTED: &str = "not_supported";

/// Code of a file of the project that is sent in place of a bind.
pub const BIND_CONFIG: &str = "bind_config";

/// Code of a value of another type than the key has.
pub const WRONG_TYPE: &str = "type";

/// The way out of a word that is nearly another.
#[must_use]
pub fn did_you_mean(near: &str) -> String {
    format!("did you mean `{near}`?")
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The file is not taken.
    Error,
    /// The file is taken; somebody should know.
    Warning,
}

/// One finding in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub level: Level,
    /// Stable word for it: `unknown_key`.
    pub code: &'static str,
    /// Where in the document: `services.web.deploy`; empty at the top.
    pub path: String,
    /// What is wrong, without the path.
    pub message: String,
    /// Few words under the excerpt.
    pub label: String,
    /// The way out.
    pub help: Option<String>,
    /// Where in the file.
    pub place: Place,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Findings in the order in which they were made.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    errors: usize,
    warnings: usize,
    ignores_unsupported: bool,
    /// A file was not read: what is not there may be in it.
    is_partial: bool,
    /// Services whose base was not read.
    without_base: BTreeSet<String>,
    /// What other files have instead of it, as it cannot be merged: its way, and what was there.
    clashes: Vec<(Vec<String>, Node)>,
}

impl Problems {
    /// None so far. With `ignores_unsupported`, what is known and not supported is a warning.
    #[must_use]
    pub fn new(ignores_unsupported: bool) -> Self {
        Self {
            ignores_unsupported,
            ..Self::default()
        }
    }

    /// Is what is not supported only left out?
    #[must_use]
    pub fn ignores_unsupported(&self) -> bool {
        self.ignores_unsupported
    }

    /// A file was not read.
    pub fn lacks_file(&mut self) {
        self.is_partial = true;
    }

    /// What a service extends was not read.
    pub fn lacks_base(&mut self, service: &str) {
        self.without_base.insert(format!("services.{service}"));
    }

    /// May what is not there be in a file that was not read?
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// The same of what is at `path`.
    #[must_use]
    pub fn is_partial_at(&self, path: &str) -> bool {
        let service = path.match_indices('.').nth(1);
        let service = service.and_then(|(end, _)| path.get(..end)).unwrap_or(path);
        self.is_partial || self.without_base.contains(service)
    }

    /// Keeps what could not be merged.
    pub fn clash(&mut self, path: &[String], base: Node) {
        self.clashes.push((path.to_vec(), base));
    }

    /// What could not be merged, once.
    pub fn take_clashes(&mut self) -> Vec<(Vec<String>, Node)> {
        std::mem::take(&mut self.clashes)
    }

    /// Keeps one more, up to [`ERRORS_MAX`] and [`WARNINGS_MAX`]; all of them are counted.
    pub fn push(&mut self, mut problem: Problem) {
        // A message quotes the file; a file must not make it endless.
        if let Some((at, _)) = problem.message.char_indices().nth(MESSAGE_CHARS_MAX) {
            problem.message.truncate(at);
            problem.message.push('…');
        }
        let (count, most) = match problem.level {
            Level::Error => (&mut self.errors, ERRORS_MAX),
            Level::Warning => (&mut self.warnings, WARNINGS_MAX),
        };
        *count += 1;
        if *count <= most {
            self.list.push(problem);
        }
    }

    /// Starts an error; see [`Draft`].
    pub fn error(
        &mut self,
        code: &'static str,
        place: Place,
        path: &str,
        message: impl Into<String>,
    ) -> Draft<'_> {
        self.draft(Level::Error, code, place, path, message.into())
    }

    /// Starts a warning; see [`Draft`].
    pub fn warn(
        &mut self,
        code: &'static str,
        place: Place,
        path: &str,
        message: impl Into<String>,
    ) -> Draft<'_> {
        self.draft(Level::Warning, code, place, path, message.into())
    }

    fn draft(
        &mut self,
        level: Level,
        code: &'static str,
        place: Place,
        path: &str,
        message: String,
    ) -> Draft<'_> {
        let label = String::from("here");
        let problem = Problem {
            level,
            code,
            path: path.to_owned(),
            message,
            label,
            help: None,
            place,
        };
        Draft {
            problems: self,
            problem: Some(problem),
        }
    }

    /// How many errors there are; warnings do not count.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Is one of these keys what an unknown key of the mapping at `path` was surely meant to be?
    #[must_use]
    pub fn misspelt(&self, path: &str, keys: &[&str]) -> bool {
        let mut unknown = self.list.iter();
        unknown.any(|p| {
            let help = p.help.as_deref().unwrap_or_default();
            let of_these = keys.iter().any(|key| help == did_you_mean(key));
            p.code == UNKNOWN_KEY && p.path == path && of_these
        })
    }

    /// Is something of this kind said of the key at `path`?
    #[must_use]
    pub fn says(&self, code: &str, path: &str) -> bool {
        let mut list = self.list.iter();
        list.any(|p| p.code == code && p.path == path)
    }

    /// Is there an error at `path` or below it?
    #[must_use]
    pub fn has_errors_at(&self, path: &str) -> bool {
        let mut errors = self.list.iter().filter(|p| p.level == Level::Error);
        errors.any(|p| {
            let rest = p.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// All findings, by place in the files, each once.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Problem> {
        let key = |p: &Problem| (p.place, p.path.clone(), p.message.clone());
        let mut seen = BTreeSet::new();
        self.list.retain(|p| seen.insert(key(p)));
        self.list
            .sort_by(|a, b| (a.place, &a.path).cmp(&(b.place, &b.path)));
        // What a variable would have been is not wrong once more, nor what is of another type.
        let first =
            |p: &Problem| matches!(p.code, "interpolation" | "variable_missing" | WRONG_TYPE);
        let places: Vec<Place> = self
            .list
            .iter()
            .filter(|p| first(p))
            .map(|p| p.place)
            .collect();
        self.list.retain(|p| first(p) || !places.contains(&p.place));
        let dropped = |count: usize, most: usize| count.saturating_sub(most);
        let dropped = dropped(self.errors, ERRORS_MAX) + dropped(self.warnings, WARNINGS_MAX);
        if dropped > 0
            && let Some(last) = self.list.last_mut()
        {
            last.message
                .push_str(&format!(" (and {dropped} more findings)"));
        }
        self.list
    }
}

/// A finding that is filed when it goes out of scope, after label and help were said.
#[must_use = "say label or help, or end the statement"]
pub struct Draft<'a> {
    problems: &'a mut Problems,
    problem: Option<Problem>,
}

impl Draft<'_> {
    /// Few words under the excerpt.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(problem) = &mut self.problem {
            problem.label = label.into();
        }
        self
    }

    /// The way out.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        if let Some(problem) = &mut self.problem {
            problem.help = Some(help.into());
        }
        self
    }

    /// The end of the statement.
    pub fn file(self) {}
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(problem) = self.problem.take() {
            self.problems.push(problem);
        }
    }
}

/// A problem together with the text that it points into, as miette draws it.
#[derive(Debug)]
struct Drawn<'a> {
    problem: &'a Problem,
    code: NamedSource<String>,
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.problem.to_string()))
    }
}

impl std::error::Error for Drawn<'_> {}

impl Diagnostic for Drawn<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("compose::{}", self.problem.code)))
    }

    fn severity(&self) -> Option<Severity> {
        Some(match self.problem.level {
            Level::Error => Severity::Error,
            Level::Warning => Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.problem.help.as_deref()?;
        Some(Box::new(printable(help)))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.problem.place;
        let label = printable(&self.problem.label);
        let span = LabeledSpan::new(Some(label), place.offset, place.bytes);
        Some(Box::new(std::iter::once(span)))
    }
}

/// Longer lines are not drawn: nobody reads them, and the library that draws cannot count so far.
const LINE_BYTES_MAX: usize = 4_096;

/// Draws findings with excerpts, for people.
#[must_use]
pub fn draw(problems: &[Problem], sources: &[Source], colour: bool) -> String {
    let theme = if colour {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_links(false)
        .with_width(100)
        .with_context_lines(1);
    let mut out = String::new();
    for (index, problem) in problems.iter().enumerate() {
        let Some(source) = sources.get(problem.place.file) else {
            continue;
        };
        let is_wide = source.text.lines().any(|line| line.len() > LINE_BYTES_MAX);
        if index >= DRAWN_MAX || is_wide {
            let (line, column) = source.line_column(problem.place.offset);
            let name = printable(&source.name);
            out.push_str(&format!("{name}:{line}:{column}: {problem}\n"));
            continue;
        }
        // One byte for one byte, so that the places stay right.
        let text = mask_controls(&source.text);
        let code = NamedSource::new(printable(&source.name), text).with_language("yaml");
        let drawn = Drawn { problem, code };
        if handler.render_report(&mut out, &drawn).is_err() {
            out.push_str(&format!("{}\n", printable(&problem.to_string())));
        }
        out.push('\n');
    }
    out
}

/// Replaces control characters by question marks of the same length in bytes; keeps line ends.
fn mask_controls(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let bad = crate::text::is_unsafe(c) && !matches!(c, '\n' | '\r' | '\t');
            let (shown, times) = if bad { ('?', c.len_utf8()) } else { (c, 1) };
            std::iter::repeat_n(shown, times)
        })
        .collect()
}
