//! The history of decisions as this process keeps it: which records are stored, and the streak
//! of each service and kind that still goes on.
//!
//! # Guarantees
//! - A decision that changes something is written in the batch that commits its plan; one that
//!   does not, within a second. How long a streak has lasted is written every few minutes: a
//!   crash may lose that, never a decision.
//! - The history is bounded by service and kind, in all, and by age.
//! - A full store costs history, not plans: what cannot be written waits, bounded; the oldest of
//!   it is given up, and that is said once.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::{DecisionKind, DecisionRecord, Recorded, ServiceKey, TimeMs};
use serde::Deserialize;

use crate::store::{Group, HistoryBatch, Repository, Span, Store, StoreError};

/// At most this often a batch without a plan.
const FLUSH_GAP_MS: u64 = 1_000;
/// A streak that goes on is written again after this time.
const STREAK_WRITE_MS: u64 = 300_000;
/// Records of one batch.
const BATCH_MAX: usize = 1_000;
/// Ended streaks that may wait for the store.
const WAITING_MAX: usize = 10_000;
/// Records of one group that one batch forgets for their age.
const FORGET_MAX: u64 = 16;
/// Groups looked at each second for streaks and records that are old.
const SWEEP_MAX: usize = 256;
/// Records that one list may read.
const READ_MAX: usize = 20_000;

const DAY_MS: u64 = 86_400_000;

/// Settings of the history.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// Decision records kept of each service: a half on its count, a quarter on places, the
    /// others on who leaves and how.
    pub records_per_service: u64,
    /// Decision records kept in all.
    pub records_total: u64,
    /// Days that a record is kept.
    pub keep_days: u64,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            records_per_service: 512,
            records_total: 200_000,
            keep_days: 7,
        }
    }
}

impl HistoryConfig {
    /// Records kept of one kind; at least the last one.
    #[must_use]
    pub fn share(&self, kind: DecisionKind) -> u64 {
        let share = match kind {
            DecisionKind::Scale => self.records_per_service / 2,
            DecisionKind::Placement | DecisionKind::Drain | DecisionKind::Rollout => {
                self.records_per_service / 8
            }
            DecisionKind::Victims | DecisionKind::Move => self.records_per_service / 16,
        };
        share.max(1)
    }
}

/// What a run changed, as it was before.
#[derive(Debug)]
pub struct Taken {
    groups: BTreeMap<Group, (u64, Option<Open>)>,
    total: u64,
    waiting: usize,
}

/// The last streak of a group.
#[derive(Debug, Clone)]
struct Open {
    sequence: u64,
    recorded: Recorded,
    /// When it was written last; none: never.
    written_ms: Option<TimeMs>,
    /// It grew since.
    dirty: bool,
}

impl Open {
    fn due(&self, now_ms: TimeMs) -> bool {
        match self.written_ms {
            None => true,
            Some(at_ms) => self.dirty && now_ms.saturating_sub(at_ms) >= STREAK_WRITE_MS,
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    span: Span,
    open: Option<Open>,
    /// Number of the oldest record and when it ended, once it was read.
    oldest: Option<(u64, TimeMs)>,
}

/// See the module.
#[derive(Debug)]
pub struct History {
    config: HistoryConfig,
    groups: BTreeMap<Group, Kept>,
    total: u64,
    /// Streaks that ended and are not stored.
    waiting: Vec<(Group, u64, Recorded)>,
    /// Groups with a streak that was never written.
    fresh: BTreeSet<Group>,
    written_ms: TimeMs,
    /// When the store had no room last.
    refused_ms: Option<TimeMs>,
    /// Where the search for old records goes on.
    swept: Option<Group>,
    given_up: u64,
}

/// What one write holds, to be marked as written.
#[derive(Debug, Default)]
pub struct Prepared {
    /// The rows.
    pub batch: HistoryBatch,
    waiting: usize,
    open: Vec<(Group, u64)>,
    spans: Vec<(Group, u64)>,
}

impl History {
    /// Reads what is stored.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn load(store: &dyn Store, config: HistoryConfig) -> Result<Self, StoreError> {
        let mut history = Self {
            config,
            groups: BTreeMap::new(),
            total: 0,
            waiting: Vec::new(),
            fresh: BTreeSet::new(),
            written_ms: 0,
            refused_ms: None,
            swept: None,
            given_up: 0,
        };
        for (group, span) in Repository::spans(store)? {
            history.total += span.len();
            let kept = Kept {
                span,
                ..Kept::default()
            };
            history.groups.insert(group, kept);
        }
        Ok(history)
    }

    /// Takes in what a planning run decided. Gives back how it was before, for [`Self::undo`].
    pub fn take(&mut self, records: &[DecisionRecord]) -> Taken {
        let mut before = Taken {
            groups: BTreeMap::new(),
            total: self.total,
            waiting: self.waiting.len(),
        };
        for record in records {
            let group = Group {
                service: record.service.clone(),
                kind: record.decision.kind(),
            };
            let kept = self.groups.entry(group.clone()).or_default();
            before
                .groups
                .entry(group.clone())
                .or_insert_with(|| (kept.span.next, kept.open.clone()));
            let record = match &mut kept.open {
                Some(open) => match open.recorded.extend(record.clone()) {
                    Ok(()) => {
                        open.dirty = true;
                        continue;
                    }
                    Err(record) => record,
                },
                None => record.clone(),
            };
            let next = Open {
                sequence: kept.span.next,
                recorded: Recorded::new(record),
                written_ms: None,
                dirty: false,
            };
            kept.span.next += 1;
            self.total += 1;
            self.fresh.insert(group.clone());
            if let Some(ended) = kept.open.replace(next)
                && (ended.dirty || ended.written_ms.is_none())
            {
                self.waiting.push((group, ended.sequence, ended.recorded));
            }
        }
        before
    }

    /// Forgets a run that came to nothing: its plan could not be stored.
    pub fn undo(&mut self, taken: Taken) {
        self.total = taken.total;
        self.waiting.truncate(taken.waiting);
        for (group, (next, open)) in taken.groups {
            if open.as_ref().is_none_or(|open| open.written_ms.is_some()) {
                self.fresh.remove(&group);
            }
            if let Some(kept) = self.groups.get_mut(&group) {
                (kept.span.next, kept.open) = (next, open);
                if kept.span.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
    }

    /// Gives up the oldest of what waits for a store without room.
    fn trim(&mut self) {
        let over = self.waiting.len().saturating_sub(WAITING_MAX);
        if over > 0 {
            if self.given_up == 0 {
                tracing::warn!("the store takes no history; the oldest that waits is given up");
            }
            self.given_up += over as u64;
            self.waiting.drain(..over);
        }
    }

    /// What is to be written now; nothing if it was a moment ago, unless `with_plan`.
    ///
    /// # Errors
    /// [`StoreError`] if a record cannot be encoded or the oldest cannot be read.
    pub fn prepare(
        &mut self,
        store: &dyn Store,
        now_ms: TimeMs,
        with_plan: bool,
    ) -> Result<Prepared, StoreError> {
        let mut prepared = Prepared::default();
        let gap = now_ms.saturating_sub(self.written_ms);
        if gap < FLUSH_GAP_MS && !(with_plan && self.refused_ms.is_none()) {
            return Ok(prepared);
        }
        // True: a record of the group is written.
        let mut touched: BTreeMap<Group, bool> = BTreeMap::new();
        for (group, sequence, recorded) in self.waiting.iter().take(BATCH_MAX) {
            prepared.waiting += 1;
            // It may have been pushed out while it waited.
            if self
                .groups
                .get(group)
                .is_some_and(|kept| *sequence >= kept.span.first)
            {
                prepared.batch.put(group, *sequence, recorded)?;
                touched.insert(group.clone(), true);
            }
        }
        let swept = if gap < FLUSH_GAP_MS {
            Vec::new()
        } else {
            self.sweep()
        };
        let fresh = self.fresh.iter().take(BATCH_MAX).cloned();
        for group in fresh.chain(swept) {
            let open = self.groups.get(&group).and_then(|kept| kept.open.as_ref());
            let due = open.filter(|open| open.due(now_ms));
            if let Some(open) = due {
                prepared.batch.put(&group, open.sequence, &open.recorded)?;
                prepared.open.push((group.clone(), open.sequence));
            }
            *touched.entry(group).or_default() |= due.is_some();
        }
        for (group, wrote) in touched {
            self.forget(store, now_ms, &group, wrote, &mut prepared)?;
        }
        Ok(prepared)
    }

    /// The groups after those that were swept last.
    fn sweep(&mut self) -> Vec<Group> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = self.swept.take().map_or(Unbounded, Excluded);
        let groups = self.groups.range((from, Unbounded)).take(SWEEP_MAX);
        let groups: Vec<Group> = groups.map(|(group, _)| group.clone()).collect();
        if groups.len() == SWEEP_MAX {
            self.swept = groups.last().cloned();
        }
        groups
    }

    /// Drops what a group has too many of, and what is too old; never its last streak.
    fn forget(
        &mut self,
        store: &dyn Store,
        now_ms: TimeMs,
        group: &Group,
        wrote: bool,
        prepared: &mut Prepared,
    ) -> Result<(), StoreError> {
        let Some(kept) = self.groups.get_mut(group) else {
            return Ok(());
        };
        let span = kept.span;
        let share = self.config.share(group.kind);
        let mut first = span.first.max(span.next.saturating_sub(share));
        if first == span.first && wrote && self.total > self.config.records_total && span.len() > 1
        {
            first += 1;
        }
        let old_ms = now_ms.saturating_sub(self.config.keep_days.saturating_mul(DAY_MS));
        for _ in 0..FORGET_MAX {
            let last = kept.open.as_ref().map_or(span.next, |open| open.sequence);
            if first >= last {
                break;
            }
            let known = kept.oldest.filter(|(number, _)| *number == first);
            let ended_ms = match known {
                Some((_, ended_ms)) => ended_ms,
                None => Repository::decisions(store, group, first, 1)?
                    .first()
                    .filter(|(number, _)| *number == first)
                    // Not written yet, or not to be read: its turn comes by number.
                    .map_or(now_ms, |(_, oldest)| oldest.last_ms),
            };
            if ended_ms >= old_ms {
                kept.oldest = Some((first, ended_ms));
                break;
            }
            first += 1;
        }
        for number in span.first..first {
            prepared.batch.remove(group, number);
        }
        if wrote || first != span.first {
            let after = Some(Span { first, ..span }).filter(|span| !span.is_empty());
            prepared.batch.span(group, after)?;
            prepared.spans.push((group.clone(), first));
        }
        Ok(())
    }

    /// Marks a write as done.
    pub fn written(&mut self, prepared: &Prepared, now_ms: TimeMs) {
        if prepared.batch.is_empty() {
            return;
        }
        self.written_ms = now_ms;
        self.refused_ms = None;
        self.waiting
            .drain(..prepared.waiting.min(self.waiting.len()));
        for (group, sequence) in &prepared.open {
            self.fresh.remove(group);
            let open = self
                .groups
                .get_mut(group)
                .and_then(|kept| kept.open.as_mut());
            if let Some(open) = open.filter(|open| open.sequence == *sequence) {
                open.written_ms = Some(now_ms);
                open.dirty = false;
            }
        }
        for (group, first) in &prepared.spans {
            let Some(kept) = self.groups.get_mut(group) else {
                continue;
            };
            self.total -= first - kept.span.first;
            kept.span.first = *first;
            if kept.span.is_empty() {
                self.groups.remove(group);
            }
        }
        if self.given_up > 0 {
            let records = self.given_up;
            tracing::warn!(
                records,
                "history is written again; so many records were given up"
            );
            self.given_up = 0;
        }
    }

    /// A write failed for want of space: the next try comes later.
    pub fn refused(&mut self, now_ms: TimeMs) {
        self.written_ms = now_ms;
        self.refused_ms = Some(now_ms);
        self.trim();
    }

    /// Makes every streak due: the process ends.
    pub fn close(&mut self) {
        self.written_ms = 0;
        for (group, kept) in &mut self.groups {
            if let Some(open) = kept.open.as_mut().filter(|open| open.dirty) {
                open.written_ms = None;
                self.fresh.insert(group.clone());
            }
        }
    }

    /// Services of which something is kept.
    pub fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        let mut last = None;
        self.groups
            .keys()
            .map(|group| &group.service)
            .filter(move |service| last.replace(*service) != Some(*service))
    }

    /// What [`read`] needs to know of the groups that `wanted` names, without the disk.
    pub fn look(&self, wanted: impl Fn(&Group) -> bool) -> Vec<Shelf> {
        self.groups
            .iter()
            .filter(|(group, _)| wanted(group))
            .map(|(group, kept)| {
                let waits = self.waiting.iter().filter(|(of, ..)| of == group);
                let waits = waits.map(|(_, number, recorded)| (*number, recorded.clone()));
                let open = kept.open.iter().map(|o| (o.sequence, o.recorded.clone()));
                Shelf {
                    fresh: waits.chain(open).collect(),
                    group: group.clone(),
                    span: kept.span,
                }
            })
            .collect()
    }
}

/// Where the records of a group are: in the store, and the newest of them here.
#[derive(Debug)]
pub struct Shelf {
    group: Group,
    span: Span,
    fresh: BTreeMap<u64, Recorded>,
}

/// The last `limit` records of each of the shelves, the oldest first by group.
///
/// # Errors
/// [`StoreError`] if they cannot be read.
pub fn read(
    store: &dyn Store,
    shelves: Vec<Shelf>,
    limit: usize,
) -> Result<Vec<Recorded>, StoreError> {
    let each = limit.min((READ_MAX / shelves.len().max(1)).max(1));
    let mut all = Vec::new();
    for shelf in shelves {
        let from = shelf
            .span
            .first
            .max(shelf.span.next.saturating_sub(each as u64));
        let mut rows: BTreeMap<u64, Recorded> =
            Repository::decisions(store, &shelf.group, from, each)?
                .into_iter()
                .filter(|(number, _)| *number < shelf.span.next)
                .collect();
        rows.extend(
            shelf
                .fresh
                .into_iter()
                .filter(|(number, _)| *number >= from),
        );
        all.extend(rows.into_values());
    }
    Ok(all)
}
