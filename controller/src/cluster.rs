//! The cluster as this controller holds it: what is wanted, what was planned, and the one lock
//! that every write goes through.
//!
//! Reads take a shared snapshot and never wait for the disk. A write changes the store first and
//! the snapshot only after it succeeded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use longshore_identity::ca::ClusterCa;
use longshore_identity::tls::TrustHolder;
use longshore_model::{
    DecisionRecord, Desired, Event, EventKind, NodeId, Plan, Recorded, Report, ServiceKey, TimeMs,
};
use longshore_planner::{Cache, Checker, Outcome, PlanInput, Violation};
use longshore_wire::Fence;
use tokio::sync::{Notify, broadcast, watch};

use crate::apart::Apart;
use crate::backups::{self, Folder};
use crate::clock::Clock;
use crate::config::Config;
use crate::contents::Contents;
use crate::fleet::Fleet;
use crate::guests::Guests;
use crate::history::{self, History};
use crate::images::{Board, Catalog};
use crate::operators::Operators;
use crate::reconcile::names::Directory;
use crate::reconcile::observe::Watch;
use crate::recording;
use crate::seal::Seal;
use crate::secrets::Secrets;
use crate::store::{
    Group, HistoryBatch, Loaded, Meta, RecordingBatch, Repository, Store, StoreError, StoredEvent,
    TokenRecord,
};

/// Events that may wait for one watcher; a slower one is told of a gap.
const EVENTS_WAITING_MAX: usize = 1_024;

/// Longest wait for a planning run after a write.
const PLANNED_PATIENCE: Duration = Duration::from_secs(2);

/// Result of the last planning run.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What operators wanted when it was made.
    pub desired: Arc<Desired>,
    /// The plan in force.
    pub plan: Arc<Plan>,
    /// What its run had to say.
    pub report: Arc<Report>,
    /// When it ran; 0: not yet.
    pub decided_ms: TimeMs,
    /// Why the last run could not be committed.
    pub problem: Option<String>,
}

/// What writes change, under one lock.
pub struct Ledger {
    /// The store.
    pub repository: Repository,
    /// Serials of each node's certificates.
    pub serials: BTreeMap<NodeId, Vec<String>>,
    /// Join tokens.
    pub tokens: Vec<TokenRecord>,
}

/// See the module.
pub struct Cluster {
    /// Name, addresses, generation.
    pub meta: Meta,
    /// Names of this controller that agents use, best first.
    pub advertise: Vec<String>,
    /// Port that it listens on.
    pub port: u16,
    /// Signs certificates.
    pub ca: ClusterCa,
    /// What the store's secrets are sealed with; none: they are not.
    pub seal: Option<Seal>,
    /// Whom the server lets in.
    pub trust: Arc<TrustHolder>,
    /// Settings.
    pub config: Config,
    /// The one clock.
    pub clock: Clock,
    /// When this term began.
    pub started_ms: TimeMs,
    /// (cluster generation, term) of every command.
    pub fence: Fence,
    /// Agents.
    pub fleet: Fleet,
    /// What runs once beside the plan.
    pub guests: Guests,
    /// Something may have to be planned or sent.
    pub wake: Notify,
    /// What services were like during the last day.
    pub recording: recording::Shared,
    /// How backups went.
    pub backups: backups::Shared,
    /// Where controllers are; empty: there is but this one.
    pub controllers: ArcSwap<Vec<String>>,
    /// Images may be needed no longer.
    pub sweep: Notify,
    /// Secrets apart from apps, and credentials for registries. Stored only inside of
    /// [`Self::change`].
    pub apart: ArcSwap<Apart>,
    /// Operators. Stored only inside of [`Self::change`].
    pub operators: watch::Sender<Arc<Operators>>,
    /// Set with the reason once the process must end.
    pub fatal: watch::Sender<Option<String>>,
    /// Set once the process ends in good order; long calls end then.
    pub stopping: tokio_util::sync::CancellationToken,
    /// What planning runs take over from each other; the loop's alone.
    planning: Mutex<Cache>,
    /// When the loop looked last; the loop's alone.
    watch: Mutex<Watch>,
    /// What the check of plans has found good; the loop's alone.
    checking: Mutex<Checker>,
    /// What nodes are told of services by name.
    naming: Mutex<Directory>,
    desired: ArcSwap<Desired>,
    secrets: ArcSwap<Secrets>,
    contents: ArcSwap<Contents>,
    images: ArcSwap<Catalog>,
    /// Images that nodes are to have before they need them.
    pub ahead: Board,
    view: ArcSwap<View>,
    planned: watch::Sender<()>,
    events: broadcast::Sender<Arc<StoredEvent>>,
    store: Arc<dyn Store>,
    /// Why the store took no write, until it takes one.
    refusal: ArcSwapOption<String>,
    history: Mutex<History>,
    ledger: Mutex<Ledger>,
}

/// What a cluster is made of.
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// Signs certificates.
    pub ca: ClusterCa,
    /// What the store's secrets are sealed with; none: they are not.
    pub seal: Option<Seal>,
    /// Where backups go.
    pub backups: Folder,
    /// The election's, if there are several controllers; else the next one.
    pub term: Option<u64>,
    /// The clock, running.
    pub clock: Clock,
    /// Port that the server listens on.
    pub port: u16,
}

fn advertised(config: &Config, meta: &Meta) -> Vec<String> {
    let own = config.advertise.clone();
    own.unwrap_or_else(|| meta.advertise.clone())
}

fn fence(meta: &Meta, term: u64) -> Fence {
    Fence {
        cluster_generation: meta.cluster_generation,
        term,
    }
}

impl Cluster {
    /// Opens `store`: raises the term, reads everything, records the start.
    ///
    /// # Errors
    /// [`StoreError`] if the store is damaged or cannot be written.
    pub fn open(store: Arc<dyn Store>, parts: Parts) -> Result<Arc<Self>, OpenError> {
        let (mut repository, loaded) = Repository::open_as(Arc::clone(&store), parts.term)?;
        let Loaded {
            meta,
            term,
            mut desired,
            serials,
            revoked,
            tokens,
            plan,
            secrets,
            contents,
            said,
            images,
            apart,
            operators,
        } = loaded;
        let secrets = Secrets::loaded(secrets);
        desired.certificates = Arc::clone(&secrets.shown);
        let started_ms = parts.clock.now_ms();
        let (at_ms, kind) = (started_ms, EventKind::ControllerStarted { term });
        repository.record(&[Event { at_ms, kind }])?;
        let trust = TrustHolder::new(parts.ca.cert_pem(), revoked.into_iter().collect())?;
        let view = View {
            plan: Arc::new(plan),
            ..View::default()
        };
        Ok(Arc::new(Self {
            history: Mutex::new(History::load(&*store, parts.config.history.clone())?),
            advertise: advertised(&parts.config, &meta),
            fence: fence(&meta, term),
            meta,
            port: parts.port,
            ca: parts.ca,
            seal: parts.seal,
            trust,
            config: parts.config,
            clock: parts.clock,
            started_ms,
            fleet: Fleet::default(),
            guests: Guests::default(),
            recording: recording::Shared::load(&*store),
            wake: Notify::new(),
            fatal: watch::Sender::new(None),
            stopping: tokio_util::sync::CancellationToken::new(),
            planning: Mutex::default(),
            watch: Mutex::new(Watch::new(started_ms)),
            checking: Mutex::default(),
            naming: Mutex::new(Directory::new(said)),
            desired: ArcSwap::from_pointee(desired),
            secrets: ArcSwap::from_pointee(secrets),
            contents: ArcSwap::from_pointee(Contents { all: contents }),
            images: ArcSwap::from_pointee(images),
            ahead: Board::default(),
            sweep: Notify::new(),
            backups: backups::Shared::new(parts.backups),
            controllers: ArcSwap::default(),
            apart: ArcSwap::from_pointee(apart),
            operators: watch::Sender::new(Arc::new(operators)),
            view: ArcSwap::from_pointee(view),
            planned: watch::Sender::new(()),
            events: broadcast::Sender::new(EVENTS_WAITING_MAX),
            store,
            refusal: ArcSwapOption::empty(),
            ledger: Mutex::new(Ledger {
                repository,
                serials,
                tokens,
            }),
        }))
    }

    /// What operators want, now.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        self.desired.load_full()
    }

    /// Secrets of all apps, now.
    #[must_use]
    pub fn secrets(&self) -> Arc<Secrets> {
        self.secrets.load_full()
    }

    /// Publishes secrets that were stored. Only inside of [`Self::change`], whose lock keeps
    /// writers apart.
    pub fn set_secrets(&self, secrets: Secrets) {
        self.secrets.store(Arc::new(secrets));
    }

    /// Contents of secrets and configs of all apps, now.
    #[must_use]
    pub fn contents(&self) -> Arc<Contents> {
        self.contents.load_full()
    }

    /// Publishes contents that were stored. As [`Self::set_secrets`].
    pub fn set_contents(&self, contents: Contents) {
        self.contents.store(Arc::new(contents));
    }

    /// Images that are held here, now.
    #[must_use]
    pub fn images(&self) -> Arc<Catalog> {
        self.images.load_full()
    }

    /// Publishes images that were stored. As [`Self::set_secrets`].
    pub fn set_images(&self, images: Catalog) {
        self.images.store(Arc::new(images));
    }

    /// What was planned last.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Replaces what was planned last.
    pub fn set_view(&self, view: View) {
        self.view.store(Arc::new(view));
        self.planned.send_replace(());
    }

    /// Waits until a planning run has seen what is desired now, so that who writes and then reads
    /// sees what came of it. Bounded: a loop that is stuck is shown by `status`, not by a hang.
    pub async fn planned(&self) {
        let mut runs = self.planned.subscribe();
        let seen = async {
            while !Arc::ptr_eq(&self.view().desired, &self.desired()) {
                if runs.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(PLANNED_PATIENCE, seen).await.is_err() {
            tracing::warn!("no planning run has seen the last change yet");
        }
    }

    /// Now, on the controller's clock.
    #[must_use]
    pub fn now_ms(&self) -> TimeMs {
        self.clock.now_ms()
    }

    /// New events as they happen.
    #[must_use]
    pub fn watch_events(&self) -> broadcast::Receiver<Arc<StoredEvent>> {
        self.events.subscribe()
    }

    /// Why the store refused the last write, if it did.
    #[must_use]
    pub fn refused_write(&self) -> Option<Arc<String>> {
        self.refusal.load_full()
    }

    /// The store, for reading what is not kept in memory.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Past events, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn past_events(&self) -> Result<Vec<StoredEvent>, StoreError> {
        let limit = usize::try_from(crate::store::EVENTS_MAX).unwrap_or(usize::MAX);
        Repository::events(&*self.store, 0, limit)
    }

    /// Plans with what the run before left. A run that panicked leaves nothing.
    pub(crate) fn plan(&self, input: &PlanInput<'_>) -> Outcome {
        let cache = self.planning.lock();
        let mut cache = cache.unwrap_or_else(PoisonError::into_inner);
        longshore_planner::plan_with(input, &mut cache)
    }

    /// When the loop looked last.
    pub(crate) fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks what [`Self::plan`] gave against what was found good before. A check that found
    /// something, or panicked, leaves nothing: the next one looks at everything.
    ///
    /// # Errors
    /// What the outcome breaks: it must not be committed.
    pub(crate) fn check(&self, input: &PlanInput<'_>, outcome: &Outcome) -> Result<(), Violation> {
        let checker = self.checking.lock();
        let mut checker = checker.unwrap_or_else(PoisonError::into_inner);
        checker.check(input, outcome)
    }

    /// Looks at what nodes are told of services by name.
    pub(crate) fn names<T>(&self, look: impl FnOnce(&mut Directory) -> T) -> T {
        let naming = self.naming.lock();
        look(&mut naming.unwrap_or_else(PoisonError::into_inner))
    }

    /// The lock that every write goes through.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // The store is changed first and by one batch; what a panic leaves behind is its state.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one write under the lock, publishes the desired state that it returns, tells the
    /// watchers of its events and wakes the loop. An error of the store that needs a restart ends
    /// the process.
    ///
    /// # Errors
    /// Whatever `write` says.
    pub fn change<T, E: From<StoreError>>(
        &self,
        write: impl FnOnce(&mut Ledger, &mut Desired) -> Result<(T, Vec<StoredEvent>), ChangeError<E>>,
    ) -> Result<T, E> {
        let mut ledger = self.ledger();
        let mut desired = Desired::clone(&self.desired.load());
        match write(&mut ledger, &mut desired) {
            Ok((value, events)) => {
                self.refusal.store(None);
                self.desired.store(Arc::new(desired));
                self.publish(events);
                drop(ledger);
                self.wake.notify_one();
                Ok(value)
            }
            Err(ChangeError::Store(error)) => {
                drop(ledger);
                self.store_failed(&error);
                Err(error.into())
            }
            Err(ChangeError::Refused(error)) => Err(error),
        }
    }

    /// Keeps what nodes said that names depend on. What the store does not take is tried again with
    /// the next run.
    pub(crate) fn keep_said(&self) {
        let Some((stored, next)) = self.names(|directory| directory.unsaved()) else {
            return;
        };
        let kept = self.ledger().repository.put_said(&stored, &next);
        match kept {
            Ok(()) => self.names(|directory| directory.saved(next)),
            Err(error) => self.store_failed(&error),
        }
    }

    /// Appends events.
    pub fn record(&self, kinds: Vec<EventKind>) {
        let at_ms = self.now_ms();
        let events: Vec<Event> = kinds
            .into_iter()
            .map(|kind| Event { at_ms, kind })
            .collect();
        let recorded = self.ledger().repository.record(&events);
        match recorded {
            Ok(stored) => self.publish(stored),
            Err(error) => self.store_failed(&error),
        }
    }

    /// Commits a plan with its events and the decisions that led to it. Where the store has no
    /// room for both, decisions wait.
    ///
    /// # Errors
    /// [`StoreError`]; a fatal one ends the process.
    pub fn commit(
        &self,
        current: &Plan,
        next: &Plan,
        events: &[Event],
        records: &[DecisionRecord],
    ) -> Result<(), StoreError> {
        let (now_ms, changed) = (self.now_ms(), next.version != current.version);
        let mut history = self.history();
        let taken = history.take(records);
        let prepared = match history.prepare(&*self.store, now_ms, changed) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.store_failed(&error);
                return Err(error);
            }
        };
        let mut ledger = self.ledger();
        let repository = &mut ledger.repository;
        let mut committed = repository.commit_plan(current, next, events, &prepared.batch);
        match &committed {
            Ok(_) => {
                if changed || !events.is_empty() || !prepared.batch.is_empty() {
                    self.refusal.store(None);
                }
                history.written(&prepared, now_ms);
            }
            Err(error @ StoreError::Full { .. }) if !prepared.batch.is_empty() => {
                self.store_failed(error);
                history.refused(now_ms);
                let none = HistoryBatch::default();
                committed = repository.commit_plan(current, next, events, &none);
            }
            Err(_) => {}
        }
        drop(ledger);
        if committed.is_err() {
            history.undo(taken);
        }
        drop(history);
        match committed {
            Ok(stored) => {
                self.publish(stored);
                Ok(())
            }
            Err(error) => {
                self.store_failed(&error);
                Err(error)
            }
        }
    }

    /// Writes what the history still holds back; called once, at the end.
    pub fn close_history(&self) {
        let now_ms = self.now_ms();
        let mut history = self.history();
        history.close();
        let written = history
            .prepare(&*self.store, now_ms, true)
            .and_then(|prepared| self.ledger().repository.write_history(&prepared.batch));
        if let Err(error) = written {
            self.store_failed(&error);
        }
    }

    /// Writes a part of the recordings.
    ///
    /// # Errors
    /// [`StoreError`]; a fatal one ends the process.
    pub fn write_recording(&self, batch: &RecordingBatch) -> Result<(), StoreError> {
        let written = self.ledger().repository.write_recording(batch);
        written.inspect_err(|error| self.store_failed(error))
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // What a panic leaves behind explains less, and decides nothing.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last `limit` decisions of each group that `wanted` names.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn decisions(
        &self,
        wanted: impl Fn(&Group) -> bool,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        let shelves = self.history().look(wanted);
        history::read(&*self.store, shelves, limit)
    }

    /// Services with a history, also those that are no longer there.
    #[must_use]
    pub fn remembered(&self) -> Vec<ServiceKey> {
        self.history().services().cloned().collect()
    }

    fn publish(&self, events: Vec<StoredEvent>) {
        for event in events {
            // No watcher is no failure.
            let _watchers = self.events.send(Arc::new(event));
        }
    }

    /// Ends the process, once: it must be started again.
    pub fn end(&self, why: &str) {
        let first = self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            fatal.get_or_insert_with(|| why.to_owned());
            first
        });
        if first {
            tracing::error!(why, "the controller ends and must be started again");
        }
    }

    /// Ends the process if it must; a conflict means that somebody else writes, or that a write
    /// thought lost was not.
    fn store_failed(&self, error: &StoreError) {
        let text = crate::chain(error);
        if error.is_fatal() || matches!(error, StoreError::Conflict { .. }) {
            self.end(&text);
        } else {
            tracing::warn!(error = text, "the store refused a write");
            self.refusal.store(Some(Arc::new(text)));
        }
    }
}

/// Why a change did not happen.
#[derive(Debug)]
pub enum ChangeError<E> {
    /// The store failed.
    Store(StoreError),
    /// The change itself was refused; nothing was written.
    Refused(E),
}

impl<E> From<StoreError> for ChangeError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Why a cluster cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its CA.
    #[error(transparent)]
    Pki(#[from] longshore_identity::PkiError),
}
