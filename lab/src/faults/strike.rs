//! A fault while it lasts: when it began, what ends it, when all was well again.

use std::time::{Duration, Instant};

use crate::fault;

/// What a case does, and when.
#[derive(Debug, Default)]
pub(super) struct Strike {
    began: Option<Instant>,
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
        self.began.get_or_insert_with(Instant::now);
    }

    /// The clock starts anew: what matters comes now.
    pub(super) fn begin_again(&mut self) {
        self.began = Some(Instant::now());
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
        self.recovered = self.began.map(|began| began.elapsed());
    }

    /// Something worth a word in the case's line.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// The containers of this host may end with it.
    pub(super) fn touches(&mut self, host: &str) {
        self.touched.push(host.to_owned());
    }

    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    pub(super) fn recovered(&self) -> Option<Duration> {
        self.recovered
    }

    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    pub(super) fn touched(&self) -> Vec<String> {
        self.touched.clone()
    }
}
