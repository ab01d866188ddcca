//! What a replica has done, by kind.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::kind::Kind;

/// Counts of one kind.
#[derive(Debug, Default)]
pub struct Entry {
    begun: AtomicU64,
    finished: AtomicU64,
    cut: AtomicU64,
    echoes: AtomicU64,
}

/// Counts of all kinds. Health checks are not in it.
#[derive(Debug, Default)]
pub struct Ledger([Entry; Kind::ALL.len()]);

/// A request in hand. Dropped without [`InHand::finish`] it counts as cut.
pub(super) struct InHand<'a> {
    entry: &'a Entry,
    finished: bool,
}

impl Ledger {
    pub(super) fn begin(&self, kind: Kind) -> InHand<'_> {
        let entry = &self.0[kind.index()];
        entry.begun.fetch_add(1, Ordering::Relaxed);
        InHand {
            entry,
            finished: false,
        }
    }

    /// One line: `{"replica":…,"kinds":{"slow":{"begun":3,"finished":3,"cut":0,"echoes":0}}}`.
    /// At the end of the process (`last`) what is still in flight is cut with it; before,
    /// begun = finished + cut + in flight.
    #[must_use]
    pub fn to_json(&self, replica: &str, last: bool) -> Value {
        let kinds: serde_json::Map<String, Value> = Kind::ALL
            .into_iter()
            .map(|kind| {
                let entry = &self.0[kind.index()];
                let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
                // In this order: what ends meanwhile is not missing from what began.
                let (cut, finished) = (read(&entry.cut), read(&entry.finished));
                let begun = read(&entry.begun);
                let counts = json!({
                    "begun": begun,
                    "finished": finished,
                    "cut": if last { begun - finished } else { cut },
                    "echoes": read(&entry.echoes),
                });
                (kind.name().to_owned(), counts)
            })
            .collect();
        json!({ "replica": replica, "kinds": kinds })
    }
}

impl InHand<'_> {
    /// An echo went back.
    pub(super) fn echoed(&self) {
        self.entry.echoes.fetch_add(1, Ordering::Relaxed);
    }

    /// The whole answer was written.
    pub(super) fn finish(mut self) {
        self.finished = true;
        self.entry.finished.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.entry.cut.fetch_add(1, Ordering::Relaxed);
        }
    }
}
