//! A fault while it lasts: when it began, what ends it, when all was well again.

use std::time::{Duration, Instant};

use crate::fault;

/// What a case does, and when.
#[derive(Debug, Default)]
pub(super) struct Strike {
    struck: Option<Instant>,
    since: Option<Instant>,
    recovered: Option<Duration>,
    undo: Vec<Vec<String>>,
    notes: Vec<String>,
    touched: Vec<String>,
}

impl Strike {
    /// One of `lab/fault.sh`'s faults, which `undo` ends, if anything does; with the first the case's
    /// clock starts.
    pub(super) fn fault(&mut self, args: &[&str], undo: &[&str]) {
        self.begin();
        if !undo.is_empty() {
            self.undo.push(undo.iter().map(|&s| s.to_owned()).collect());
        }
        fault(args);
    }

    /// The clock starts, if it has not.
    pub(super) fn begin(&mut self) {
        let struck = *self.struck.get_or_insert_with(Instant::now);
        self.since.get_or_insert(struck);
    }

    /// The recovery counts from now: the fault is over.
    pub(super) fn is_over(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Ends all faults that have not ended, the last first.
    pub(super) fn undo(&mut self) {
        while let Some(args) = self.undo.pop() {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            fault(&args);
        }
    }

    /// All is well again, as far as the case is concerned.
    pub(super) fn is_well(&mut self) {
        self.recovered = self.since.map(|since| since.elapsed());
    }

    /// Something worth a word in the case's line.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// The containers of this host may end with it.
    pub(super) fn touches(&mut self, host: &str) {
        self.touched.push(host.to_owned());
    }

    /// When the first fault came.
    pub(super) fn struck(&self) -> Option<Instant> {
        self.struck
    }

    pub(super) fn recovered(&self) -> Option<Duration> {
        self.recovered
    }

    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    pub(super) fn touched(&self) -> &[String] {
        &self.touched
    }
}
