//! Verdicts on requests, and the counts of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kind::Kind;

/// Failures that are kept with their particulars; more are only counted.
const KEPT_MAX: usize = 2_000;

/// Why a request failed. The class names what the client saw, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// The connection broke while the request was written.
    NotWritten,
    /// Closed after the request was written, before any answer.
    NoAnswer,
    /// Reset after the request was written, before any answer.
    Reset,
    /// An answer that is no HTTP.
    BadHead,
    /// Another status than 200 (101 for a WebSocket).
    Status(u16),
    /// Closed in the middle of the body.
    Truncated,
    /// Reset in the middle of the body.
    CutOff,
    /// Whole, but not what was asked for.
    WrongBody,
    /// Not done in time.
    Timeout,
    /// A WebSocket ended though nobody had said goodbye.
    SocketLost,
}

impl Failure {
    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Connect => "connect".to_owned(),
            Self::ConnectTimeout => "connect-timeout".to_owned(),
            Self::NotWritten => "not-written".to_owned(),
            Self::NoAnswer => "no-answer".to_owned(),
            Self::Reset => "reset".to_owned(),
            Self::BadHead => "bad-head".to_owned(),
            Self::Status(status) => format!("status-{status}"),
            Self::Truncated => "truncated".to_owned(),
            Self::CutOff => "cut-off".to_owned(),
            Self::WrongBody => "wrong-body".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::SocketLost => "socket-lost".to_owned(),
        }
    }
}

/// A failed request.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Kind.
    pub kind: Kind,
    /// Its id, as sent.
    pub id: String,
    /// Why.
    pub failure: Failure,
    /// The replica that answered, if a head came back.
    pub replica: Option<String>,
    /// When it began.
    pub began: Instant,
    /// When it failed.
    pub ended: Instant,
    /// Did it overlap an unplanned event?
    pub apart: bool,
}

/// Counts of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Requests (echoes) that were begun.
    pub sent: u64,
    /// Those with a whole, right answer.
    pub ok: u64,
    /// All others.
    pub failed: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.failed += other.failed;
    }
}

#[derive(Default)]
struct Side {
    ok: [AtomicU64; Kind::ALL.len()],
    failed: [AtomicU64; Kind::ALL.len()],
}

/// All that happened, written by the generator's tasks.
pub struct Tally {
    start: Instant,
    planned: Side,
    apart: Side,
    /// HTTP requests written whole, handshakes of WebSockets included.
    written: [AtomicU64; Kind::ALL.len()],
    /// Whole answers to HTTP requests, handshakes included.
    answered: [AtomicU64; Kind::ALL.len()],
    reconnects: AtomicU64,
    held_back: AtomicU64,
    windows: Mutex<Vec<(Instant, Option<Instant>)>>,
    failures: Mutex<Vec<Failed>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            planned: Side::default(),
            apart: Side::default(),
            written: Default::default(),
            answered: Default::default(),
            reconnects: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
            windows: Mutex::default(),
            failures: Mutex::default(),
        }
    }
}

fn bump(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    /// From now until [`Tally::close_window`], requests in flight are counted apart.
    ///
    /// # Panics
    /// If another thread panicked.
    pub fn open_window(&self) {
        let mut windows = self.windows.lock().expect("not poisoned");
        windows.push((Instant::now(), None));
    }

    /// Ends the last window.
    ///
    /// # Panics
    /// If another thread panicked.
    pub fn close_window(&self) {
        let mut windows = self.windows.lock().expect("not poisoned");
        if let Some((_, end)) = windows.last_mut() {
            *end = Some(Instant::now());
        }
    }

    fn overlaps(&self, began: Instant, ended: Instant) -> bool {
        let windows = self.windows.lock().expect("not poisoned");
        let mut all = windows.iter();
        all.any(|(from, to)| *from <= ended && to.is_none_or(|to| began <= to))
    }

    pub(crate) fn wrote(&self, kind: Kind) {
        bump(&self.written[kind.index()]);
    }

    pub(crate) fn answered(&self, kind: Kind) {
        bump(&self.answered[kind.index()]);
    }

    pub(super) fn reconnected(&self) {
        bump(&self.reconnects);
    }

    pub(super) fn held_back(&self) {
        bump(&self.held_back);
    }

    pub(crate) fn count(
        &self,
        kind: Kind,
        id: &str,
        began: Instant,
        replica: Option<&str>,
        result: Result<(), Failure>,
    ) {
        let ended = Instant::now();
        let apart = self.overlaps(began, ended);
        let side = if apart { &self.apart } else { &self.planned };
        let Err(failure) = result else {
            return bump(&side.ok[kind.index()]);
        };
        bump(&side.failed[kind.index()]);
        let mut failures = self.failures.lock().expect("not poisoned");
        if failures.len() < KEPT_MAX {
            failures.push(Failed {
                kind,
                id: id.to_owned(),
                failure,
                replica: replica.map(str::to_owned),
                began,
                ended,
                apart,
            });
        }
    }

    /// Counts of a kind: outside of all windows, or those apart.
    #[must_use]
    pub fn counts(&self, kind: Kind, apart: bool) -> Counts {
        let side = if apart { &self.apart } else { &self.planned };
        let ok = side.ok[kind.index()].load(Ordering::Relaxed);
        let failed = side.failed[kind.index()].load(Ordering::Relaxed);
        Counts {
            sent: ok + failed,
            ok,
            failed,
        }
    }

    /// HTTP requests of a kind: (written whole, answered whole); handshakes for WebSockets.
    #[must_use]
    pub fn http(&self, kind: Kind) -> (u64, u64) {
        let read = |counts: &[AtomicU64]| counts[kind.index()].load(Ordering::Relaxed);
        (read(&self.written), read(&self.answered))
    }

    /// Kept connections that were found closed before a request was written on them.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// Requests that were due but not begun, because too many were in flight.
    #[must_use]
    pub fn not_begun(&self) -> u64 {
        self.held_back.load(Ordering::Relaxed)
    }

    /// The failures, the oldest first, 2,000 at most.
    ///
    /// # Panics
    /// If another thread panicked.
    #[must_use]
    pub fn failures(&self) -> Vec<Failed> {
        self.failures.lock().expect("not poisoned").clone()
    }

    /// Failures by kind and class.
    #[must_use]
    pub fn classes(&self, apart: bool) -> BTreeMap<(Kind, Failure), u64> {
        let mut classes = BTreeMap::new();
        for failed in self.failures().iter().filter(|f| f.apart == apart) {
            *classes.entry((failed.kind, failed.failure)).or_default() += 1;
        }
        classes
    }

    /// Time since the run began.
    #[must_use]
    pub fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// A failure as one line of JSON.
    #[must_use]
    pub fn line(&self, failed: &Failed) -> Value {
        let seconds = |at| self.since_start(at).as_secs_f64();
        json!({
            "kind": failed.kind.name(),
            "id": failed.id,
            "class": failed.failure.name(),
            "replica": failed.replica,
            "began_s": seconds(failed.began),
            "ended_s": seconds(failed.ended),
            "apart": failed.apart,
        })
    }
}
