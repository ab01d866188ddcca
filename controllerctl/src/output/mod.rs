//! Everything that goes to stdout.

pub mod aside;
pub mod backups;
pub mod disk;
pub mod explained;
pub mod images;
pub mod inspected;
pub mod jobs;
pub mod operators;
pub mod outcome;
pub mod planned;
pub mod rollouts;
pub mod rows;
pub mod secrets;
pub mod simulated;
pub mod template;
pub mod tokens;
pub mod usage;
pub mod views;

use std::io::{IsTerminal, Write};

use comfy_table::{Cell, Table, TableStyle};
use serde::Serialize;

use crate::cli::{Color, Format, Global, Progress};
use crate::failure::Failure;
use crate::text::printable;
use template::Template;

/// How this run prints.
#[derive(Debug, Clone)]
pub struct Printer {
    /// Form of the data.
    pub format: Format,
    /// Colours on stdout.
    pub colour: bool,
    /// Colours on stderr.
    pub colour_err: bool,
    /// Form of the progress, `Auto` resolved.
    pub progress: Progress,
    /// stdout is a terminal.
    pub terminal: bool,
    /// Say more.
    pub verbose: bool,
    template: Option<Template>,
}

/// A line of a table.
pub trait Row: Serialize {
    /// Titles of the columns.
    fn titles(wide: bool) -> Vec<&'static str>;
    /// The cells, as many as titles. `now_ms` is what ages count from.
    fn cells(&self, wide: bool, now_ms: u64) -> Vec<Shown>;
    /// Its name, for `-o name`.
    fn name(&self) -> String;
}

/// A cell: text and a tone.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Text.
    pub text: String,
    /// How it feels.
    pub tone: Tone,
}

/// How a cell feels. The text says the same without colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// As wanted.
    Good,
    /// On its way, or worth a look.
    Busy,
    /// Wrong.
    Bad,
}

impl Default for Shown {
    fn default() -> Self {
        Self::new("", Tone::Plain)
    }
}

impl<T: ToString> From<T> for Shown {
    fn from(text: T) -> Self {
        Self {
            text: text.to_string(),
            tone: Tone::Plain,
        }
    }
}

impl Shown {
    /// With a tone.
    pub fn new(text: impl ToString, tone: Tone) -> Self {
        Self {
            text: text.to_string(),
            tone,
        }
    }
}

impl Printer {
    /// From the flags and the streams.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let choice = match global.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        let never = anstream::ColorChoice::Never;
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let progress = match global.progress {
            Progress::Auto if global.quiet => Progress::Quiet,
            Progress::Auto if err.is_terminal() && !dumb => Progress::Tty,
            Progress::Auto => Progress::Plain,
            other => other,
        };
        Self {
            format: match (global.quiet, &global.template) {
                (true, _) => Format::Name,
                (false, Some(_)) => Format::Template,
                (false, None) => global.output,
            },
            template: global.template.as_deref().map(Template::new),
            colour: anstream::AutoStream::choice(&out) != never,
            colour_err: anstream::AutoStream::choice(&err) != never,
            progress,
            terminal: out.is_terminal() && !dumb,
            verbose: global.verbose > 0,
        }
    }

    /// Says what is wrong with the template, before anything is done.
    ///
    /// # Errors
    /// Exit 2.
    pub fn check(&self) -> Result<(), Failure> {
        self.template.as_ref().map_or(Ok(()), Template::check)
    }

    /// One document through the template. One that does not fit ends the program: what it would
    /// print is neither what was asked for nor nothing.
    #[must_use]
    pub fn templated(&self, document: &impl Serialize) -> String {
        let Some(template) = &self.template else {
            return String::new();
        };
        template.render(document).unwrap_or_else(|failure| {
            note(failure.render(self.colour_err).trim_end());
            std::process::exit(failure.exit.code().into())
        })
    }

    /// A list in the form that was asked for.
    #[must_use]
    pub fn list<R: Row>(&self, rows: &[R], now_ms: u64) -> String {
        match self.format {
            Format::Json => json(&rows),
            Format::Jsonl => rows.iter().map(jsonl).collect(),
            Format::Yaml => yaml(&rows),
            Format::Template => rows.iter().map(|row| self.templated(row)).collect(),
            Format::Name => rows
                .iter()
                .map(|row| printable(&row.name()) + "\n")
                .collect(),
            Format::Table | Format::Wide => self.table(rows, now_ms),
        }
    }

    /// A form that ends with its one document.
    #[must_use]
    pub fn prints_one_document(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// One document: `people` is its form for people.
    #[must_use]
    pub fn document(&self, value: &impl Serialize, people: impl FnOnce() -> String) -> String {
        match self.format {
            Format::Json => json(value),
            Format::Jsonl => jsonl(value),
            Format::Yaml => yaml(value),
            Format::Template => self.templated(value),
            _ => people(),
        }
    }

    fn table<R: Row>(&self, rows: &[R], now_ms: u64) -> String {
        let wide = self.format == Format::Wide;
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        table.force_no_tty();
        if self.colour {
            table.enforce_styling();
        }
        table.set_header(R::titles(wide));
        for row in rows {
            let cells = row.cells(wide, now_ms);
            table.add_row(
                cells
                    .into_iter()
                    .map(|shown| self.cell(&shown))
                    .collect::<Vec<_>>(),
            );
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt() + "\n"
    }

    fn cell(&self, shown: &Shown) -> Cell {
        let text = printable(&shown.text);
        let cell = Cell::new(if text.is_empty() {
            "-".to_owned()
        } else {
            text
        });
        match shown.tone {
            Tone::Good => cell.fg(comfy_table::Color::Green),
            Tone::Busy => cell.fg(comfy_table::Color::Yellow),
            Tone::Bad => cell.fg(comfy_table::Color::Red),
            Tone::Plain => cell,
        }
    }
}

/// An indented document.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// The same as YAML.
pub fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).unwrap_or_default()
}

/// A document on one line.
pub fn jsonl(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// Writes data. A reader that went away (`| head`) ends the program as if all was said.
///
/// # Errors
/// Any other failure of stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            std::process::exit(0);
        }
        other => Ok(other?),
    }
}

/// Writes a line of hints or progress to stderr.
pub fn note(text: &str) {
    // Nobody is left to be told that stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `3s`, `5m`, `2h`, `4d`: how long ago.
#[must_use]
pub fn age(then_ms: u64, now_ms: u64) -> String {
    if then_ms == 0 {
        return "-".into();
    }
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `25 MiB`
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;
    if bytes >= 10 * GIB {
        format!("{} GiB", bytes / GIB)
    } else if bytes >= GIB {
        format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
    } else {
        format!("{} MiB", bytes.div_ceil(MIB))
    }
}

/// `40.3 MB`, as docker writes sizes of images.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((word, unit)) => {
            let tenths = bytes / (unit / 10);
            format!("{}.{} {word}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// The wall clock, for the ages of a table.
#[must_use]
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok()
        .and_then(|d| u64::try_from(d.as_millis()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_stay_short() {
        assert_eq!(age(1_000, 43_000), "42s");
        assert_eq!(age(1, 600_001), "10m");
        assert_eq!(age(1, 7_200_001), "2h");
        assert_eq!(age(1, 10 * 86_400_001), "10d");
        assert_eq!(age(0, 5), "-");
        assert_eq!(
            age(9, 5),
            "0s",
            "a clock that is a little behind is no error"
        );
        assert_eq!(bytes(25 << 20), "25 MiB");
        assert_eq!(bytes(3_800 << 20), "3.7 GiB");
        assert_eq!(bytes(64 << 30), "64 GiB");
        assert_eq!(size(40_390_000), "40.3 MB");
        assert_eq!((size(999), size(1_000)), ("999 B".into(), "1.0 kB".into()));
        assert_eq!(size(12_000_000_000), "12.0 GB");
    }
}
