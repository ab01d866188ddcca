//! The ledger of changes: what the controller acknowledged is there, once; what it did not is there
//! or is not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{ctl, ctl_json, until};

/// Between two changes.
const PACE: Duration = Duration::from_millis(500);
/// How the names of the secrets that are made begin.
const PREFIX: &str = "faults-";

/// What became of the changes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Acknowledged.
    pub(super) acked: BTreeSet<String>,
    /// Nobody knows.
    pub(super) unknown: BTreeSet<String>,
}

/// Makes a secret after the other until it is told to end.
pub(super) struct Changes {
    stop: Sender<()>,
    thread: JoinHandle<Ledger>,
}

impl Changes {
    /// Begins.
    pub(super) fn start() -> Self {
        let (stop, told) = channel();
        let thread = std::thread::spawn(move || {
            let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
            file.write_all(b"nothing secret").expect("room for it");
            let path = file.path().display().to_string();
            let mut ledger = Ledger::default();
            let mut number = 0;
            while told.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                number += 1;
                let name = format!("{PREFIX}{number}");
                let said = ctl(&["secret", "create", &name, &path]);
                match said.code {
                    Some(0) => ledger.acked.insert(name),
                    _ => ledger.unknown.insert(name),
                };
            }
            ledger
        });
        Self { stop, thread }
    }

    /// Ends, and says what is wrong. What was made is removed.
    ///
    /// # Panics
    /// If its thread panicked.
    pub(super) fn finish(self) -> Vec<String> {
        drop(self.stop);
        let ledger = self.thread.join().expect("it ends");
        let (kept, made) = (kept(), made());
        let complaints = compare(&ledger, &kept, &made);
        if !kept.is_empty() {
            let names: Vec<&str> = kept.iter().map(String::as_str).collect();
            until("what was made is removed", Duration::from_secs(60), || {
                let said = ctl(&[&["secret", "rm", "-y"][..], &names].concat());
                match said.code {
                    Some(0) => Ok(()),
                    _ => Err(said),
                }
            });
        }
        complaints
    }
}

/// Those that are there.
fn kept() -> BTreeSet<String> {
    let list = ctl_json(&["secret", "ls"]);
    let all = list.as_array().cloned().unwrap_or_default();
    let names = all.iter().filter_map(|secret| secret["name"].as_str());
    let ours = names.filter(|name| name.starts_with(PREFIX));
    ours.map(str::to_owned).collect()
}

/// How often each that is there was made, by the events since it was removed last.
fn made() -> BTreeMap<String, usize> {
    let events = ctl_json(&["events"]);
    let mut made = BTreeMap::new();
    for event in events.as_array().cloned().unwrap_or_default() {
        let detail = &event["detail"];
        let Some(name) = detail["name"].as_str() else {
            continue;
        };
        match detail["act"].as_str() {
            Some("created") => *made.entry(name.to_owned()).or_default() += 1,
            Some("removed") => {
                made.remove(name);
            }
            _ => {}
        }
    }
    made.into_iter()
        .filter(|(name, _): &(String, usize)| name.starts_with(PREFIX))
        .collect()
}

/// What is wrong.
pub(super) fn compare(
    ledger: &Ledger,
    kept: &BTreeSet<String>,
    made: &BTreeMap<String, usize>,
) -> Vec<String> {
    let lost: Vec<_> = ledger.acked.difference(kept).cloned().collect();
    let known: BTreeSet<_> = ledger.acked.union(&ledger.unknown).cloned().collect();
    let strange: Vec<_> = kept.difference(&known).cloned().collect();
    let twice = made.iter().filter(|(_, times)| **times > 1);
    let twice: Vec<_> = twice.map(|(name, _)| name.clone()).collect();
    [
        ("acknowledged changes lost", lost),
        ("changes that nobody made", strange),
        ("changes made twice", twice),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| format!("{what}: {}", names.join(", ")))
    .collect()
}
