//! What happened, as lines and as one hash: two runs of a seed must have the same.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write};

/// Lines that are kept for a failure.
const LINES_MAX: usize = 60;
/// FNV-1a, 64 bit: start and factor.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0000_0100_0000_01b3);

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    last: VecDeque<String>,
    line: String,
    print: bool,
}

impl Trace {
    /// Empty. `print`: each line goes to standard output as it comes.
    #[must_use]
    pub fn new(print: bool) -> Self {
        Self {
            hash: FNV.0,
            last: VecDeque::with_capacity(LINES_MAX),
            line: String::new(),
            print,
        }
    }

    /// Adds a line.
    pub fn say(&mut self, now_ms: u64, what: Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = write!(
            self.line,
            "{:>7}.{:03} {what}",
            now_ms / 1_000,
            now_ms % 1_000
        );
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV.1);
        }
        if self.print {
            println!("{}", self.line);
        }
        let mut line = match self.last.len() {
            LINES_MAX => self.last.pop_front().unwrap_or_default(),
            _ => String::new(),
        };
        line.clone_from(&self.line);
        self.last.push_back(line);
    }

    /// What explains the lines before, for a person who reads along; it is no part of the hash.
    pub fn explain(&self, what: impl Iterator<Item = String>) {
        if self.print {
            what.for_each(|line| println!("            | {line}"));
        }
    }

    /// Hash of all lines so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    #[must_use]
    pub fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
