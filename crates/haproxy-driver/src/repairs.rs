//! What was found other than it should be and mended, kept until it was told.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::time::{SystemTime, UNIX_EPOCH};

use longshore_model::repair::{REPAIR_CHARS_MAX, REPAIRS_MAX, Repair, RepairKind};
use tokio::time::Instant;

/// One thing that was mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What it was.
    pub kind: RepairKind,
    /// In words, with names.
    pub what: String,
}

impl Repaired {
    pub(crate) fn new(kind: RepairKind, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { kind, what }
    }
}

impl Deref for Repaired {
    type Target = str;

    fn deref(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl PartialEq<String> for Repaired {
    fn eq(&self, other: &String) -> bool {
        self.what == *other
    }
}

/// The last repairs.
#[derive(Debug)]
pub(crate) struct Repairs {
    last: u64,
    kept: VecDeque<(Instant, Repair)>,
    down_since: Option<Instant>,
}

impl Default for Repairs {
    /// Numbers begin with the time, so that they rise over starts of this program.
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = since.map_or(0, |since| since.as_millis());
        Self {
            last: u64::try_from(ms).unwrap_or(0),
            kept: VecDeque::new(),
            down_since: None,
        }
    }
}

impl Repairs {
    /// HAProxy, which was there before, is down.
    pub(crate) fn is_down(&mut self, now: Instant) {
        self.down_since.get_or_insert(now);
    }

    /// What one look mended while HAProxy is down.
    pub(crate) fn note_down(&mut self, found: &[Repaired], now: Instant) {
        self.keep(found, None, now);
    }

    /// What one look at a HAProxy that answers mended.
    pub(crate) fn note(&mut self, found: &[Repaired], now: Instant) {
        let away = self.down_since.take();
        let away_ms = away.map(|since| {
            let away = now.saturating_duration_since(since).as_millis();
            u64::try_from(away).unwrap_or(u64::MAX)
        });
        self.keep(found, away_ms, now);
    }

    fn keep(&mut self, found: &[Repaired], away_ms: Option<u64>, now: Instant) {
        let back = away_ms.map(|_| RepairKind::Back);
        let Some(kind) = found.iter().map(|found| found.kind).chain(back).max() else {
            return;
        };
        let mut what = String::new();
        let mut named = 0;
        for found in found {
            let between = if what.is_empty() { "" } else { "; " };
            let next: String = found.what.chars().take(REPAIR_CHARS_MAX).collect();
            if what.chars().count() + between.len() + next.chars().count() > REPAIR_CHARS_MAX {
                break;
            }
            what.push_str(between);
            what.push_str(&next);
            named += 1;
        }
        self.last = self.last.saturating_add(1);
        let repair = Repair {
            number: self.last,
            kind,
            what,
            more: u32::try_from(found.len() - named).unwrap_or(u32::MAX),
            away_ms,
        };
        self.kept.push_back((now, repair));
        while self.kept.len() > REPAIRS_MAX {
            self.kept.pop_front();
        }
    }

    pub(crate) fn kept(&self) -> Vec<(Instant, Repair)> {
        self.kept.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn changed(n: usize) -> Vec<Repaired> {
        let what = |i| format!("be_shop_web_80/slot{i} (r{i}) was in maint");
        let changed = |i| Repaired::new(RepairKind::Changed, what(i));
        (0..n).map(changed).collect()
    }

    #[test]
    fn many_findings_of_one_look_are_one_repair_with_the_first_names() {
        let mut repairs = Repairs::default();
        let first = repairs.last;
        let now = Instant::now();
        repairs.note(&[], now);
        assert!(repairs.kept().is_empty());
        let mut found = changed(1_000);
        found.push(Repaired::new(RepairKind::File, "/etc/x was removed"));
        repairs.note(&found, now);
        let (_, repair) = &repairs.kept()[0];
        assert_eq!((repair.number, repair.kind), (first + 1, RepairKind::File));
        assert!(repair.what.starts_with("be_shop_web_80/slot0 (r0)"));
        assert!(repair.what.chars().count() <= REPAIR_CHARS_MAX);
        let named = u32::try_from(repair.what.split("; ").count()).unwrap();
        assert_eq!(repair.more + named, 1_001);
        for _ in 0..40 {
            repairs.note(&changed(1), now);
        }
        let numbers: Vec<u64> = repairs.kept().iter().map(|(_, r)| r.number).collect();
        assert_eq!(numbers, (first + 26..=first + 41).collect::<Vec<_>>());
    }

    #[test]
    fn the_time_that_haproxy_was_down_is_said_once() {
        let mut repairs = Repairs::default();
        let now = Instant::now();
        repairs.is_down(now);
        repairs.is_down(now + Duration::from_secs(1));
        repairs.note_down(&changed(1), now + Duration::from_secs(1));
        repairs.note(&[], now + Duration::from_secs(3));
        repairs.note(&[], now + Duration::from_secs(4));
        let kept = repairs.kept().into_iter();
        let said: Vec<_> = kept.map(|(_, r)| (r.kind, r.away_ms)).collect();
        let back = (RepairKind::Back, Some(3_000));
        assert_eq!(said, [(RepairKind::Changed, None), back]);
    }
}
