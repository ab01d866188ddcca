//! What a case showed, and whether that is what it must be.

use std::time::{Duration, Instant};

use super::cases::{Bound, Case};
use crate::handover::Counters;
use crate::kind::Kind;
use crate::traffic::Tally;

/// The ledger of requests.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Requests {
    /// With an answer of any kind, or none.
    pub(super) sent: u64,
    /// Without the expected one.
    pub(super) failed: u64,
    /// When the last one that failed began, after the fault; one that was in flight then: 0.
    pub(super) last_failed: Option<Duration>,
    /// How they failed, most frequent first.
    pub(super) classes: Vec<String>,
}

impl Requests {
    pub(super) fn of(tally: &Tally, struck: Option<Instant>) -> Self {
        let counts = Kind::ALL.map(|kind| tally.counts(kind, false));
        let failures = tally.failures();
        let last = failures.iter().map(|failed| failed.began).max();
        let mut classes: Vec<(u64, String)> = tally
            .classes(false)
            .into_iter()
            .map(|((kind, failure), count)| (count, format!("{} {}", kind.name(), failure.name())))
            .collect();
        classes.sort_by(|a, b| b.cmp(a));
        let classes = classes.into_iter().take(4);
        Self {
            sent: counts.iter().map(|counts| counts.sent).sum(),
            failed: counts.iter().map(|counts| counts.failed).sum(),
            last_failed: last
                .zip(struck)
                .map(|(last, from)| last.saturating_duration_since(from)),
            classes: classes
                .map(|(count, what)| format!("{count} {what}"))
                .collect(),
        }
    }
}

/// What a case showed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) requests: Requests,
    /// From the fault, or what the case says, until all was well.
    pub(super) recovered: Option<Duration>,
    /// What else is worth a word.
    pub(super) notes: Vec<String>,
    /// What is wrong; empty: the case is as it must be.
    pub(super) complaints: Vec<String>,
}

impl Outcome {
    /// Compares with what the case allows; HAProxy's own count of requests, where it has one from
    /// beginning to end, with the generator's.
    pub(super) fn judge(
        &mut self,
        case: &Case,
        before: Option<&Counters>,
        after: Option<&Counters>,
        tally: &Tally,
    ) {
        let Requests {
            sent,
            failed,
            last_failed,
            ..
        } = &self.requests;
        if *sent == 0 {
            self.complaints.push("no request was sent".to_owned());
        }
        match case.failed {
            Bound::None if *failed > 0 => self.complaints.push(format!("{failed} failed")),
            Bound::Within(most) if last_failed.is_some_and(|last| last > most) => {
                let most = most.as_secs_f64();
                self.complaints
                    .push(format!("failed later than {most:.1} s"));
            }
            _ => {}
        }
        if let Some((most, took)) = case.recovers_within.zip(self.recovered)
            && took > most
        {
            let most = most.as_secs_f64();
            self.complaints
                .push(format!("took longer than {most:.0} s"));
        }
        let counted = before.zip(after).and_then(|(b, a)| a.since(b));
        let written: u64 = Kind::ALL.map(|kind| tally.http(kind).0).iter().sum();
        match counted {
            Some(counted) if *failed == 0 && counted.requests != written => {
                let said = format!("HAProxy counts {} of {written} requests", counted.requests);
                self.complaints.push(said);
            }
            _ => {}
        }
    }

    /// One line.
    pub(super) fn line(&self, case: &Case) -> String {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let verdict = if self.complaints.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        let Requests { sent, failed, .. } = self.requests;
        let mut parts = vec![format!("{failed} of {sent} requests failed")];
        if let Some(last) = self.requests.last_failed {
            let classes = self.requests.classes.join(", ");
            parts.push(format!(
                "the last began {} after ({classes})",
                seconds(last)
            ));
        }
        parts.extend(
            self.recovered
                .map(|took| format!("{} {}", case.well, seconds(took))),
        );
        parts.extend(self.notes.iter().cloned());
        parts.extend(self.complaints.iter().map(|text| format!("WRONG: {text}")));
        format!(
            "{:>2} {:<34} {verdict:<6} {}",
            case.number,
            case.name,
            parts.join("; ")
        )
    }
}
