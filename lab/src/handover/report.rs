//! What a run came to, in words and as a verdict.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Counters, QueueReport, Served};
use crate::kind::Kind;
use crate::traffic::{Failed, Failure, Tally, table};

/// Failures that are printed one by one.
const SHOWN_MAX: usize = 40;

/// Planned changes.
pub(super) struct PlannedReport {
    pub(super) name: &'static str,
    pub(super) has_haproxy: bool,
    pub(super) cycles: usize,
    pub(super) took: Duration,
    /// Every change came to its end.
    pub(super) complete: bool,
    pub(super) tally: Arc<Tally>,
    /// None: HAProxy was reloaded.
    pub(super) edge: Option<Counters>,
    pub(super) forced: Option<(u64, u64)>,
    /// Reloads that the system ordered.
    pub(super) reloads: Option<u64>,
    /// Replicas that told their ledgers.
    pub(super) replicas: usize,
    pub(super) served: BTreeMap<Kind, Served>,
    /// None: the load had no queue.
    pub(super) queue: Option<QueueReport>,
}

impl PlannedReport {
    pub(super) fn failed(&self) -> u64 {
        let failed = |kind| self.tally.counts(kind, false).failed;
        Kind::ALL.into_iter().map(failed).sum()
    }

    pub(super) fn is_good(&self) -> bool {
        self.complete
            && self.failed() == 0
            && self.edge.is_some()
            && self.differences().is_empty()
            && self.forced.is_none_or(|(_, forced)| forced == 0)
            && self.queue.as_ref().is_none_or(QueueReport::is_good)
    }

    /// Where two ledgers do not agree. HAProxy must have read what was written, and the replicas
    /// must have finished what was answered: no more (nothing was done twice), and no less.
    fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        let written: u64 = Kind::ALL.into_iter().map(|k| self.tally.http(k).0).sum();
        if let Some(read) = self.edge.map(|edge| edge.requests)
            && read != written
        {
            found.push(format!(
                "HAProxy read {read} requests, {written} were written"
            ));
        }
        for kind in Kind::ALL {
            let (_, answered) = self.tally.http(kind);
            let served = self.served.get(&kind).copied().unwrap_or_default();
            if (served.begun, served.finished) != (answered, answered) {
                found.push(format!(
                    "{}: {answered} answered, the replicas began {} and finished {}",
                    kind.name(),
                    served.begun,
                    served.finished
                ));
            }
            let echoes = self.tally.counts(kind, false).ok;
            if kind == Kind::WebSocket && served.echoes != echoes {
                let theirs = served.echoes;
                found.push(format!(
                    "{echoes} echoes came back, the replicas sent {theirs}"
                ));
            }
        }
        found
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "\n{}: {} cycles of planned changes in {:.0} s{}\n{}",
            self.name,
            self.cycles,
            self.took.as_secs_f64(),
            if self.complete { "" } else { ", broken off" },
            table(&self.tally, false)
        );
        match self.reloads {
            Some(reloads) => {
                let _ = writeln!(text, "HAProxy: {reloads} reloads, its counters began anew");
            }
            None if self.has_haproxy => edge_line(&mut text, self.edge),
            None => {}
        }
        if let Some((receipts, forced)) = self.forced {
            let _ = writeln!(text, "receipts: {receipts}, forced {forced}");
        }
        if let Some(queue) = &self.queue {
            text += &queue.text();
        }
        load_line(&mut text, &self.tally);
        let cut: u64 = self.served.values().map(|served| served.cut).sum();
        let _ = writeln!(
            text,
            "ledgers of {} replicas, {cut} requests cut",
            self.replicas
        );
        for difference in self.differences() {
            let _ = writeln!(text, "  not reconciled: {difference}");
        }
        if self.edge.is_some() && self.differences().is_empty() {
            let _ = writeln!(text, "  reconciled: generator, HAProxy and replicas agree");
        }
        failures(&mut text, &self.tally, false);
        text
    }
}

fn edge_line(text: &mut String, edge: Option<Counters>) {
    let _ = match edge {
        None => writeln!(text, "HAProxy: reloaded, its counters began anew"),
        Some(c) => writeln!(
            text,
            "HAProxy: {} requests, 0 reloads, {} retries, {} redispatches, {} connect errors, \
             {} response errors, {} answers of 500 and above",
            c.requests,
            c.retries,
            c.redispatches,
            c.connect_errors,
            c.response_errors,
            c.answers_5xx
        ),
    };
}

fn load_line(text: &mut String, tally: &Tally) {
    let (reconnects, not_begun) = (tally.reconnects(), tally.not_begun());
    let _ = writeln!(
        text,
        "generator: {reconnects} reconnects of kept connections, {not_begun} due but not begun"
    );
}

fn failures(text: &mut String, tally: &Tally, apart: bool) {
    let all = tally.failures();
    for failed in all.iter().filter(|f| f.apart == apart).take(SHOWN_MAX) {
        let _ = writeln!(text, "  {}", tally.line(failed));
    }
}

/// After a host's death its replicas must be out of every edge: two checks that fail, 500 ms apart,
/// and what a busy machine needs. The design's last failed request comes within it.
const KNOWN: Duration = Duration::from_secs(2);

/// A worker's death.
pub(super) struct Death {
    /// Just before its power was taken.
    pub(super) from: Instant,
    /// When nothing ran there any more.
    pub(super) gone: Instant,
    /// Host names of the replicas that died.
    pub(super) dead: Vec<String>,
}

/// Workers that lost their power.
pub(super) struct KillReport {
    pub(super) name: &'static str,
    pub(super) complete: bool,
    pub(super) deaths: Vec<Death>,
    pub(super) tally: Arc<Tally>,
    pub(super) edge: Option<Counters>,
}

/// Where a request was that failed around a worker's death. Only what the dead host had is excused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Where {
    /// In flight at the moment, and its answer had begun to come from the dead host.
    OnDeadHost,
    /// In flight at the moment; no head of an answer says where.
    InFlight,
    /// With nobody: it waited, or its connections were refused. Replicas elsewhere could have had
    /// it, whenever it began.
    Unsent,
    /// Begun after the moment, and sent over a connection to the dead host that was still open:
    /// nobody can know before the host has been silent for a while, and what was sent is never sent
    /// again.
    SentInVain,
    /// The same when the edges had to know.
    After,
    /// On a replica elsewhere.
    Elsewhere,
}

impl Where {
    fn is_excused(self) -> bool {
        matches!(self, Self::OnDeadHost | Self::InFlight | Self::SentInVain)
    }

    fn words(self) -> &'static str {
        match self {
            Self::OnDeadHost => "answered by the dead host, cut",
            Self::InFlight => "in flight at the death, unanswered",
            Self::Unsent => "sent to no replica",
            Self::SentInVain => "sent to the dead host before the edge knew",
            Self::After => "begun after the edge knew, and sent",
            Self::Elsewhere => "on replicas elsewhere",
        }
    }
}

impl KillReport {
    fn place(&self, failed: &Failed) -> Where {
        let mut before = self.deaths.iter().rev();
        let Some(death) = before.find(|death| death.from <= failed.ended) else {
            return Where::Elsewhere;
        };
        // By 503 HAProxy says that it made no connection; the app never does.
        let unsent = [
            Failure::Status(503),
            Failure::Connect,
            Failure::ConnectTimeout,
        ];
        match &failed.replica {
            Some(replica) if !death.dead.contains(replica) => Where::Elsewhere,
            Some(_) => Where::OnDeadHost,
            None if unsent.contains(&failed.failure) => Where::Unsent,
            None if failed.began <= death.gone => Where::InFlight,
            None if failed.began <= death.gone + KNOWN => Where::SentInVain,
            None => Where::After,
        }
    }

    fn places(&self) -> BTreeMap<Where, u64> {
        let mut places = BTreeMap::new();
        for failed in self.tally.failures().iter().filter(|f| f.apart) {
            *places.entry(self.place(failed)).or_default() += 1;
        }
        places
    }

    fn planned_failed(&self) -> u64 {
        let failed = |kind| self.tally.counts(kind, false).failed;
        Kind::ALL.into_iter().map(failed).sum()
    }

    pub(super) fn is_good(&self) -> bool {
        self.complete
            && self.planned_failed() == 0
            && self.places().into_keys().all(Where::is_excused)
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "\n{}: {} workers killed{}; requests in flight from a death to the recovery\n{}",
            self.name,
            self.deaths.len(),
            if self.complete { "" } else { ", broken off" },
            table(&self.tally, true)
        );
        for (place, count) in self.places() {
            let words = place.words();
            let _ = writeln!(text, "  failed, {words}: {count}");
        }
        let _ = writeln!(text, "between the deaths:");
        text += &table(&self.tally, false);
        edge_line(&mut text, self.edge);
        load_line(&mut text, &self.tally);
        failures(&mut text, &self.tally, false);
        let unexcused = self.tally.failures();
        for failed in unexcused
            .iter()
            .filter(|f| f.apart && !self.place(f).is_excused())
            .take(SHOWN_MAX)
        {
            let _ = writeln!(text, "  {}", self.tally.line(failed));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::queue::Looks;

    /// What is wrong, and how it comes about.
    type Spoiled = (&'static str, fn(&mut PlannedReport));

    /// One request of each kind, and three ledgers that agree on it.
    fn agreed() -> PlannedReport {
        let tally = Tally::default();
        let mut served = BTreeMap::new();
        for kind in Kind::ALL {
            tally.wrote(kind);
            tally.answered(kind);
            tally.count(kind, "1", Instant::now(), None, Ok(()));
            let one = Served {
                begun: 1,
                finished: 1,
                cut: 0,
                echoes: u64::from(kind == Kind::WebSocket),
            };
            served.insert(kind, one);
        }
        PlannedReport {
            name: "test",
            has_haproxy: true,
            cycles: 1,
            took: Duration::ZERO,
            complete: true,
            tally: Arc::new(tally),
            edge: Some(Counters {
                requests: Kind::ALL.len() as u64,
                ..Counters::default()
            }),
            forced: Some((1, 0)),
            reloads: None,
            replicas: 1,
            served,
            queue: Some(QueueReport {
                looks: Looks { all: 1, empty: 0 },
                answered: vec![1],
            }),
        }
    }

    #[test]
    fn a_run_is_good_only_if_nothing_failed_and_all_ledgers_agree() {
        assert!(agreed().is_good(), "{}", agreed().text());
        let spoiled: [Spoiled; 8] = [
            ("broken off", |r| r.complete = false),
            ("reloaded", |r| r.edge = None),
            ("forced", |r| r.forced = Some((1, 1))),
            ("HAProxy read more", |r| {
                r.edge.as_mut().unwrap().requests += 1;
            }),
            ("a newcomer got nothing of the queue", |r| {
                r.queue.as_mut().unwrap().answered.push(0);
            }),
            ("served twice", |r| {
                r.served.get_mut(&Kind::Slow).unwrap().begun += 1;
            }),
            ("an echo too few", |r| {
                r.served.get_mut(&Kind::WebSocket).unwrap().echoes = 0;
            }),
            ("a failure", |r| {
                let now = Instant::now();
                r.tally
                    .count(Kind::Slow, "2", now, None, Err(Failure::Reset));
            }),
        ];
        for (what, spoil) in spoiled {
            let mut report = agreed();
            spoil(&mut report);
            assert!(!report.is_good(), "{what}: {}", report.text());
        }
    }

    fn killed(from: Instant, gone: Instant, tally: Tally) -> KillReport {
        KillReport {
            name: "test",
            complete: true,
            deaths: vec![Death {
                from,
                gone,
                dead: vec!["bench.1".to_owned()],
            }],
            tally: Arc::new(tally),
            edge: None,
        }
    }

    #[test]
    fn a_death_excuses_what_was_on_the_dead_host_only() {
        let tally = Tally::default();
        let before = Instant::now();
        tally.open_window();
        let (from, gone) = (Instant::now(), Instant::now());
        let lost = Err(Failure::Truncated);
        tally.count(Kind::Slow, "1", before, Some("bench.1"), lost);
        tally.count(Kind::Slow, "2", before, None, lost);
        let mut good = killed(from, gone, tally);
        let expected = BTreeMap::from([(Where::OnDeadHost, 1), (Where::InFlight, 1)]);
        assert_eq!((good.places(), good.is_good()), (expected, true));
        good.deaths[0].dead.clear();
        assert!(!good.is_good(), "{}", good.text());

        let long_ago = gone.checked_sub(2 * KNOWN).unwrap();
        let later = gone + Duration::from_millis(1);
        let unsent = Err(Failure::Status(503));
        let of = [
            (gone, before, unsent, Where::Unsent),
            (gone, later, unsent, Where::Unsent),
            (gone, before, Err(Failure::Connect), Where::Unsent),
            (gone, later, Err(Failure::NoAnswer), Where::SentInVain),
            (long_ago, later, Err(Failure::NoAnswer), Where::After),
        ];
        for (gone, began, failure, place) in of {
            let tally = Tally::default();
            tally.open_window();
            // It ends no earlier than it began.
            while Instant::now() < later {
                std::hint::spin_loop();
            }
            tally.count(Kind::Queued, "1", began, None, failure);
            let report = killed(gone.min(from), gone, tally);
            assert_eq!(report.places(), BTreeMap::from([(place, 1)]), "{failure:?}");
            assert_eq!(report.is_good(), place == Where::SentInVain);
        }
    }
}
