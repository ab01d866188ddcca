//! The store in etcd, for several controllers of which one leads.
//!
//! - **Only the leader writes.** Each transaction carries the election's guard: once another one
//!   leads, it changes nothing, whatever clocks say. Nobody else reads here, either.
//! - **Writes form a chain.** Each one puts its own mark into one row, and is made only upon the
//!   mark before. So a write is made once however often it is sent, none is made after a later one,
//!   and after a lost answer the mark says what happened ([`step`]).
//! - **What is too large for one transaction** of etcd goes through a journal ([`journal`]).
//!
//! Methods block. The calls run on threads of their own, so that a caller that blocks a thread of
//! another runtime holds up nothing that it waits for.

mod calls;
mod compaction;
mod journal;
mod keys;
mod pack;
mod step;

#[cfg(test)]
mod random;
#[cfg(test)]
pub(super) mod rig;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use longshore_etcd::{EtcdError, Leadership, Op, Range, Refusal, Rows, Settings, Span};

use self::calls::Calls;
use self::journal::Pending;
use self::keys::Keys;
use self::step::{Chain, Sender};
use super::{Batch, Change, Guard, Row, Store, StoreError, Table};

/// Rows asked for at a time, at first: fewer if their values are large.
const PAGE: usize = 1_000;
/// How often a read of several pages begins anew because etcd was compacted meanwhile.
const RESTARTS_MAX: u32 = 3;

/// The rows of one cluster in etcd.
///
/// Locks are taken in the order of the fields.
pub struct EtcdStore {
    chain: Mutex<Chain>,
    /// Readers hold it while they read; a large batch, from when it counts until its rows are there.
    pending: RwLock<Pending>,
    calls: Calls,
    keys: Keys,
    leadership: Leadership,
    sender: Sender,
    place: String,
    #[cfg(test)]
    steps_left: std::sync::atomic::AtomicUsize,
}

impl EtcdStore {
    /// Opens the rows below `prefix`, such as `/longshore/lab`, for the time of a leadership, and
    /// finishes what an earlier leader had begun. Calls wait as long as `settings` say, and no
    /// longer than the leadership lasts. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Deposed`], [`StoreError::Away`], or what [`Store::write`] says.
    pub fn open(
        settings: Settings,
        prefix: &str,
        leadership: Leadership,
    ) -> Result<Self, StoreError> {
        let place = format!("etcd ({})", settings.endpoints().join(", "));
        let patience = settings.patience;
        let calls = Calls::new(settings)?;
        let keys = Keys::new(prefix);
        let sender = Sender {
            client: calls.client(),
            leadership: leadership.clone(),
            mark_key: keys.mark(),
            patience,
            place: place.clone(),
        };
        let store = Self {
            chain: Mutex::new(Chain::unknown()),
            pending: RwLock::new(None),
            calls,
            keys,
            leadership,
            sender,
            place,
            #[cfg(test)]
            steps_left: std::sync::atomic::AtomicUsize::new(usize::MAX),
        };
        store.take_over()?;
        Ok(store)
    }

    /// Where the row is that says what cluster there is.
    #[must_use]
    pub fn meta_key(prefix: &str) -> Vec<u8> {
        Keys::new(prefix).row(Table::Meta, super::repository::META)
    }

    /// Writes its own mark, after which nothing that was sent before can be made, and then looks
    /// what earlier writers left.
    fn take_over(&self) -> Result<(), StoreError> {
        let mut chain = self.chain();
        let mark = self.read_row(self.keys.mark())?;
        *chain = Chain::after(mark.map_or(0, |row| row.mod_revision))?;
        self.step(&mut chain, &[], Vec::new())?;
        let mut pending = self.pending_mut();
        *pending = self.left_over(&mut chain)?;
        if chain.stray {
            self.tidy_up(&mut chain)?;
        }
        self.settle(&mut chain, &mut pending)
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        // A step counts before it is sent: nothing is half done in it.
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending_mut(&self) -> RwLockWriteGuard<'_, Pending> {
        self.pending.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one transaction of the chain.
    fn step(&self, chain: &mut Chain, guards: &[Guard], ops: Vec<Op>) -> Result<(), StoreError> {
        #[cfg(test)]
        self.crash_if_told()?;
        let step = chain.next(&self.keys, guards, ops, self.leadership.term());
        let made = self.calls.wait(self.sender.clone().make(step))?;
        if let Some(revision) = chain.made(made?) {
            self.forget_before(revision);
        }
        Ok(())
    }

    /// Without waiting. What fails is made up for by the next time.
    fn forget_before(&self, revision: u64) {
        let client = self.calls.client();
        self.calls.start(async move {
            match client.compact(revision).await {
                Err(error) if error.refusal() != Some(&Refusal::Compacted) => {
                    tracing::warn!(%error, "etcd grows until its past can be forgotten");
                }
                _ => tracing::debug!(revision, "etcd may forget what was before"),
            }
        });
    }

    fn is_unsettled(&self) -> bool {
        let pending = self.pending.read();
        pending.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits until no large batch is half applied, and keeps it so.
    fn settled(&self) -> Result<RwLockReadGuard<'_, Pending>, StoreError> {
        loop {
            let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
            if pending.is_none() {
                return Ok(pending);
            }
            drop(pending);
            let mut chain = self.chain();
            self.settle(&mut chain, &mut self.pending_mut())?;
        }
    }

    fn read_row(&self, key: Vec<u8>) -> Result<Option<longshore_etcd::Row>, StoreError> {
        let client = self.calls.client();
        let read = async move { client.range(Range::of(Span::key(key))).await };
        let rows = self.read("a read", read)?;
        Ok(rows.rows.into_iter().next())
    }

    /// Reads; what it found counts only if this one led all the while.
    fn read<T: Send + 'static>(
        &self,
        attempted: &'static str,
        read: impl Future<Output = Result<T, EtcdError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let found = self.calls.wait(read)?;
        match self.leadership.is_valid(Instant::now()) {
            true => found.map_err(|error| step::failed(attempted, &self.place, error)),
            false => Err(step::lapsed()),
        }
    }

    fn write_all(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut chain = self.chain();
        if self.is_unsettled() {
            self.settle(&mut chain, &mut self.pending_mut())?;
        }
        pack::check_guards(&self.keys, &batch.guards)?;
        let changes = pack::fold(&batch.changes);
        pack::check_rows(&self.keys, &changes)?;
        if pack::is_small(&self.keys, &batch.guards, &changes) {
            let ops = changes.iter().map(|change| self.keys.op(change)).collect();
            return self.step(&mut chain, &batch.guards, ops);
        }
        self.write_large(&mut chain, &batch.guards, &changes)
    }

    #[cfg(test)]
    fn crash_if_told(&self) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering::SeqCst;
        let less = |left: usize| left.checked_sub(1);
        match self.steps_left.fetch_update(SeqCst, SeqCst, less) {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Io {
                attempted: "a write after the crash",
                place: self.place.clone(),
                source: "crashed".into(),
            }),
        }
    }
}

impl Store for EtcdStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let _settled = self.settled()?;
        let row = self.read_row(self.keys.row(table, key))?;
        Ok(row.map(|row| row.value))
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let _settled = self.settled()?;
        let (start, end) = (self.keys.row(table, from), self.keys.end(table));
        let own = self.keys.row(table, b"").len();
        let pages = read_pages(self.calls.client(), start, end, limit);
        let rows = self.read("a read", pages)?;
        let bare =
            |row: longshore_etcd::Row| (row.key.get(own..).unwrap_or(&[]).to_vec(), row.value);
        Ok(rows.into_iter().map(bare).collect())
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.write_all(batch)
    }

    fn bytes(&self) -> Option<u64> {
        let client = self.calls.client();
        let status = self.calls.wait(async move { client.status().await });
        Some(status.ok()?.ok()?.database_bytes)
    }
}

/// Rows from `start` to before `end`, at most `limit`, all as of one revision.
async fn read_pages(
    client: longshore_etcd::Client,
    start: Vec<u8>,
    end: Vec<u8>,
    limit: usize,
) -> Result<Vec<longshore_etcd::Row>, EtcdError> {
    let (mut all, mut page, mut restarts) = (Vec::<longshore_etcd::Row>::new(), PAGE, 0);
    let mut revision = None;
    while all.len() < limit {
        let from = match all.last() {
            Some(row) => [row.key.as_slice(), &[0]].concat(),
            None => start.clone(),
        };
        let rows = u32::try_from(page.min(limit - all.len())).unwrap_or(u32::MAX);
        let mut range = Range::of(Span::between(from, end.clone())).limit(rows);
        if let Some(revision) = revision {
            range = range.at(revision);
        }
        let found: Rows = match client.range(range).await {
            Ok(found) => found,
            Err(EtcdError::AnswerTooLarge { .. }) if page > 1 => {
                page /= 2;
                continue;
            }
            Err(error)
                if error.refusal() == Some(&Refusal::Compacted) && restarts < RESTARTS_MAX =>
            {
                restarts += 1;
                (all, revision) = (Vec::new(), None);
                continue;
            }
            Err(error) => return Err(error),
        };
        revision.get_or_insert(found.revision);
        let cut = found.is_cut();
        all.extend(found.rows);
        if !cut {
            break;
        }
    }
    Ok(all)
}

/// A change of which only the last of its row is left.
type Folded<'b> = Vec<&'b Change>;
