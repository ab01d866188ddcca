//! The queue that never runs empty: looked at beside the load, and who got something of it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::edge;

/// Between two looks.
const PACE: Duration = Duration::from_millis(500);
/// Of so many looks one may find it empty: then it does stand.
const EMPTY_ONE_OF: u64 = 20;

/// What looks at HAProxy's queue found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Looks {
    /// All of them.
    pub(super) all: u64,
    /// Those that found it empty at one of the edges.
    pub(super) empty: u64,
}

/// Looks at it until it is told to end.
pub(super) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<Looks>,
}

impl Watch {
    /// Begins: the statistics of these hosts, for the backend with `port` in its name.
    pub(super) fn start(hosts: Vec<String>, stats_port: u16, port: u16) -> Self {
        let (stop, told) = channel();
        let thread = std::thread::spawn(move || {
            let mut looks = Looks::default();
            while told.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                let waiting = |host: &String| edge::queued(host, stats_port, port);
                // A page that did not come says nothing about the queue.
                let counts: Option<Vec<u64>> = hosts.iter().map(waiting).collect();
                if let Some(counts) = counts {
                    looks.all += 1;
                    looks.empty += u64::from(counts.contains(&0));
                }
            }
            looks
        });
        Self { stop, thread }
    }

    /// Ends.
    ///
    /// # Panics
    /// If its thread panicked.
    pub(super) fn finish(self) -> Looks {
        drop(self.stop);
        self.thread.join().expect("it ends")
    }
}

/// What a run showed of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueReport {
    pub(super) looks: Looks,
    /// Requests that each replica of the queue's service answered.
    pub(super) answered: Vec<u64>,
}

impl QueueReport {
    /// Replicas that got nothing, though somebody always waited.
    fn idle(&self) -> usize {
        self.answered.iter().filter(|count| **count == 0).count()
    }

    pub(super) fn is_good(&self) -> bool {
        let stands = self.looks.all > 0 && self.looks.empty * EMPTY_ONE_OF <= self.looks.all;
        stands && !self.answered.is_empty() && self.idle() == 0
    }

    /// One line.
    pub(super) fn text(&self) -> String {
        let mut sorted = self.answered.clone();
        sorted.sort_unstable();
        let at = |place: usize| sorted.get(place).copied().unwrap_or(0);
        format!(
            "queue: empty at {} of {} looks; its {} replicas answered {} to {} requests each \
             (median {}), {} of them none\n",
            self.looks.empty,
            self.looks.all,
            sorted.len(),
            at(0),
            at(sorted.len().saturating_sub(1)),
            at(sorted.len() / 2),
            self.idle()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_shows_something_if_it_stands_and_nobody_goes_without() {
        let good = QueueReport {
            looks: Looks { all: 40, empty: 2 },
            answered: vec![3, 1, 2],
        };
        assert!(good.is_good(), "{}", good.text());
        let spoiled = [
            ("a replica got nothing", good.looks, vec![3, 0, 2]),
            ("no replica is known", good.looks, vec![]),
            ("empty too often", Looks { all: 40, empty: 3 }, vec![1]),
            ("never looked at", Looks::default(), vec![1]),
        ];
        for (what, looks, answered) in spoiled {
            let report = QueueReport { looks, answered };
            assert!(!report.is_good(), "{what}: {}", report.text());
        }
    }
}
