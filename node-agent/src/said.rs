//! The agent's own last lines, kept in memory, so that operators can read them from afar.
//!
//! # Guarantees
//! - At most [`LINES_MAX`] lines and [`BYTES_MAX`] bytes of them; the oldest make way.
//! - Of what is logged at `info` and above, whatever goes to the journal besides. Debug lines of
//!   libraries, in which bytes of the wire may be, never get here.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Lines kept.
pub const LINES_MAX: usize = 2_000;
/// Bytes of text kept.
pub const BYTES_MAX: usize = 256 << 10;
/// Longest line; the rest of it is left out.
pub const LINE_BYTES_MAX: usize = 4 << 10;
/// Ends a line that was cut.
const CUT: &str = " …";

/// Something that the agent said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Rises by one with each line, from 1.
    pub sequence: u64,
    /// By this machine's clock.
    pub time_ms: u64,
    /// `error`, `warn` or `info`.
    pub level: &'static str,
    /// Message and fields, without time and level.
    pub text: String,
}

/// What to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only lines after this one.
    pub after: u64,
    /// Only the last so many.
    pub tail: Option<usize>,
    /// Only lines of this time and later.
    pub since_ms: u64,
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
}

/// See the module. Clones share the lines.
#[derive(Clone)]
pub struct Said {
    ring: Arc<Mutex<Ring>>,
    last: Arc<watch::Sender<u64>>,
    start: u64,
}

impl Default for Said {
    fn default() -> Self {
        Self::new()
    }
}

impl Said {
    /// Nothing was said yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ring: Arc::default(),
            last: Arc::new(watch::Sender::new(0)),
            start: now_ms(),
        }
    }

    /// Tells starts of the agent apart.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The newest line's number, as it rises.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Whatever panicked meanwhile, lines are whole.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines, oldest first.
    #[must_use]
    pub fn read(&self, wanted: &Wanted) -> Vec<Line> {
        let ring = self.ring();
        let from = |line: &&Line| line.sequence > wanted.after && line.time_ms >= wanted.since_ms;
        let newest_first = ring.lines.iter().rev().filter(from);
        let mut lines: Vec<Line> = match wanted.tail {
            Some(tail) => newest_first.take(tail).cloned().collect(),
            None => newest_first.cloned().collect(),
        };
        lines.reverse();
        lines
    }

    fn keep(&self, level: &'static str, text: &str) {
        let mut text = text.trim_end().replace('\n', " ");
        if text.len() > LINE_BYTES_MAX {
            text.truncate(text.floor_char_boundary(LINE_BYTES_MAX - CUT.len()));
            text.push_str(CUT);
        }
        let mut ring = self.ring();
        let sequence = ring.lines.back().map_or(1, |line| line.sequence + 1);
        ring.bytes += text.len();
        let time_ms = now_ms();
        ring.lines.push_back(Line {
            sequence,
            time_ms,
            level,
            text,
        });
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            let Some(oldest) = ring.lines.pop_front() else {
                break;
            };
            ring.bytes -= oldest.text.len();
        }
        drop(ring);
        self.last.send_replace(sequence);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Takes in one event of the log.
pub struct Event<'s> {
    said: &'s Said,
    level: &'static str,
    bytes: Vec<u8>,
}

impl io::Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes);
        self.said.keep(self.level, &text);
    }
}

impl<'s> MakeWriter<'s> for Said {
    type Writer = Event<'s>;

    fn make_writer(&'s self) -> Event<'s> {
        Event {
            said: self,
            level: "info",
            bytes: Vec::new(),
        }
    }

    fn make_writer_for(&'s self, meta: &Metadata<'_>) -> Event<'s> {
        let level = match *meta.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => "info",
        };
        Event {
            said: self,
            level,
            bytes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn what_is_logged_is_kept_with_its_level_and_debug_lines_are_not() {
        let said = Said::new();
        let log = tracing_subscriber::registry().with(crate::cli::kept(said.clone()));
        tracing::subscriber::with_default(log, || {
            tracing::info!(node = "a", "agent starts");
            tracing::debug!("bytes of the wire");
            tracing::info!(target: "h2::client", "a library talks");
            tracing::error!("two\nlines");
        });
        let lines = said.read(&Wanted::default());
        let seen: Vec<_> = lines
            .iter()
            .map(|line| (line.sequence, line.level, line.text.as_str()))
            .collect();
        let expected = [
            (1, "info", "agent starts node=\"a\""),
            (2, "error", "two lines"),
        ];
        assert_eq!(seen, expected);
        assert!(lines[0].time_ms >= said.start());
        assert_eq!(*said.newest().borrow(), 2);
    }

    #[test]
    fn the_oldest_lines_make_way_and_long_ones_are_cut() {
        let said = Said::new();
        for number in 0..LINES_MAX + 10 {
            said.keep("info", &number.to_string());
        }
        let lines = said.read(&Wanted::default());
        assert_eq!((lines.len(), lines[0].sequence), (LINES_MAX, 11));
        for _ in 0..LINES_MAX {
            said.keep("warn", &"ü".repeat(LINE_BYTES_MAX));
        }
        let lines = said.read(&Wanted::default());
        let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
        assert!(bytes <= BYTES_MAX && bytes > BYTES_MAX - LINE_BYTES_MAX);
        assert!(
            lines
                .iter()
                .all(|l| l.text.len() <= LINE_BYTES_MAX && l.text.ends_with(CUT))
        );
    }

    #[test]
    fn readers_say_from_where_and_how_much() {
        let said = Said::new();
        for word in ["a", "b", "c", "d"] {
            said.keep("info", word);
        }
        let read = |wanted: Wanted| {
            let lines = said.read(&wanted);
            lines.into_iter().map(|line| line.text).collect::<String>()
        };
        let all = Wanted::default();
        assert_eq!(
            read(Wanted {
                tail: Some(2),
                ..all
            }),
            "cd"
        );
        assert_eq!(read(Wanted { after: 1, ..all }), "bcd");
        assert_eq!(
            read(Wanted {
                since_ms: u64::MAX,
                ..all
            }),
            ""
        );
        assert_eq!(
            read(Wanted {
                tail: Some(0),
                ..all
            }),
            ""
        );
    }
}
