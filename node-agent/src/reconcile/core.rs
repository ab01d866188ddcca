//! The decisions of the reconciler, without clock, engine or task: what is wanted and what is
//! there go in, steps come out. Level-triggered: every decision follows from the whole state.

mod steps;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use longshore_model::observe::EngineState;
use longshore_model::plan::AssignedReplica;
use longshore_model::reason::FailReason;
use longshore_model::spec::{ContentMap, PullPolicy};
use longshore_model::{Assignment, ImageRef, Names, NodeId, ReplicaId, ReplicaState};

pub use self::view::{Snapshot, View};
use super::AgentMs;
use super::action::Done;
use super::tracked::{Tracked, Wanted};
use crate::ledger::Unclaimed;
use crate::mesh::Local;
use crate::policy::Policy;
use crate::runtime::{Condition, Container, ContainerId, ErrorKind, Inspection, RuntimeError};

/// A failed stop is tried again after this.
const STOP_RETRY_MS: i64 = 1_000;

/// What this node is and may.
#[derive(Debug, Clone)]
pub struct Place {
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// The node's own name.
    pub node: NodeId,
    /// The node's own address.
    pub address: IpAddr,
    /// What containers may ask of it.
    pub policy: Policy,
}

/// The state.
pub struct Core {
    place: Place,
    /// Somebody said what shall run here: what was never named may be swept.
    told: bool,
    generation: u64,
    images_wanted: BTreeSet<ImageRef>,
    names: Arc<Names>,
    contents: Arc<ContentMap>,
    replicas: BTreeMap<ReplicaId, Tracked>,
    /// Nobody knows them since the cluster was restored; see [`Tracked::unclaimed`].
    unclaimed: Unclaimed,
    /// Of these, those that turned out to be gone.
    forgotten: Vec<ReplicaId>,
    images: BTreeSet<ImageRef>,
    pulls: BTreeSet<ImageRef>,
    engine: EngineState,
    /// What the engine was until it answered again, while not all that ended meanwhile is known.
    back_from: Option<EngineState>,
    first_listed_ms: Option<AgentMs>,
    /// Counts changes by own hand; see [`Tracked::touched`].
    hand: u64,
    wants_list: bool,
    /// See [`Self::is_settled`]; once true it stays.
    settled: bool,
}

impl Core {
    /// Knows nothing yet. `failed`: replicas that failed before the agent restarted.
    #[must_use]
    pub fn new(place: Place, failed: BTreeMap<ReplicaId, FailReason>) -> Self {
        let remembered = |(id, reason)| {
            let mut tracked = Tracked::new();
            tracked.fail(reason);
            (id, tracked)
        };
        Self {
            place,
            told: false,
            generation: 0,
            images_wanted: BTreeSet::new(),
            names: Arc::default(),
            contents: Arc::default(),
            replicas: failed.into_iter().map(remembered).collect(),
            unclaimed: Unclaimed::new(),
            forgotten: Vec::new(),
            images: BTreeSet::new(),
            pulls: BTreeSet::new(),
            engine: EngineState::Ok,
            back_from: None,
            first_listed_ms: None,
            hand: 0,
            wants_list: true,
            settled: false,
        }
    }

    /// Takes in what the ledger keeps although no assignment names it; before the assignment.
    pub fn keep(&mut self, unclaimed: Unclaimed) {
        self.unclaimed.extend(unclaimed);
    }

    /// What was kept and is gone since this was last asked.
    pub fn take_forgotten(&mut self) -> Vec<ReplicaId> {
        std::mem::take(&mut self.forgotten)
    }

    /// What is kept is as if it had been told to stop, but is not stopped: nothing starts it, and who
    /// writes to the same volume waits for its end.
    fn hold_unclaimed(&mut self) {
        for (id, kept) in &self.unclaimed {
            let tracked = self.replicas.entry(*id).or_insert_with(Tracked::new);
            let assigned = AssignedReplica {
                stop: true,
                ..kept.assigned.clone()
            };
            let spec = Arc::clone(&kept.spec);
            tracked.wanted = Some(Wanted { assigned, spec });
            tracked.unclaimed = true;
            tracked.unknown_since_ms = None;
        }
    }

    /// Takes in an assignment that the ledger has accepted.
    pub fn assign(&mut self, assignment: &Assignment) {
        self.told = true;
        self.generation = assignment.generation;
        self.images_wanted = assignment
            .templates
            .values()
            .map(|spec| spec.image_ref())
            .collect();
        let mut named = BTreeSet::new();
        for assigned in &assignment.replicas {
            let Some(spec) = assignment.templates.get(&assigned.template) else {
                continue;
            };
            named.insert(assigned.id);
            let tracked = self
                .replicas
                .entry(assigned.id)
                .or_insert_with(Tracked::new);
            tracked.unknown_since_ms = None;
            tracked.unclaimed = false;
            if tracked.state == ReplicaState::Gone && !assigned.stop {
                // Somebody who knows nothing of its end wants it: it begins anew.
                *tracked = Tracked::new();
            }
            let (assigned, spec) = (assigned.clone(), Arc::clone(spec));
            tracked.wanted = Some(Wanted { assigned, spec });
        }
        self.unclaimed.retain(|id, _| !named.contains(id));
        for (id, tracked) in &mut self.replicas {
            let kept = self.unclaimed.contains_key(id);
            if !kept && !named.contains(id) && tracked.wanted.take().is_some() {
                // It was named before and is not any more: that is as good as an order to stop.
                tracked.unknown_since_ms = None;
            }
        }
        self.hold_unclaimed();
    }

    /// Takes in what containers reach by name, and for how long those who do may finish.
    pub fn name(&mut self, names: Arc<Names>) {
        self.names = names;
    }

    /// Takes in the contents of secrets and configs that are here.
    pub fn hold(&mut self, contents: Arc<ContentMap>) {
        self.contents = contents;
    }

    /// What the doors of this node's replicas must be now: told to them before the connections of
    /// [`Self::connected`] are read.
    #[must_use]
    pub fn locals(&self) -> BTreeMap<ReplicaId, Local> {
        let host = self.place.address;
        let local = |(id, tracked): (&ReplicaId, &Tracked)| Some((*id, tracked.local(host)?));
        self.replicas.iter().filter_map(local).collect()
    }

    /// Takes in how many connections by name each replica has; one that is not named has none.
    pub fn connected(&mut self, counts: &BTreeMap<ReplicaId, u32>) {
        for (id, tracked) in &mut self.replicas {
            tracked.connections = counts.get(id).copied().unwrap_or(0);
        }
    }

    /// A listing that begins now speaks only of replicas that are not changed meanwhile.
    #[must_use]
    pub fn begin_listing(&mut self) -> u64 {
        self.wants_list = false;
        self.hand
    }

    /// Takes in a listing, or why there is none. Nothing is stopped for want of an answer.
    pub fn listed(
        &mut self,
        began: u64,
        result: Result<Vec<Container>, RuntimeError>,
        now_ms: AgentMs,
    ) {
        let containers = match result {
            Ok(containers) => containers,
            Err(error) => {
                self.engine_failed(&error.kind);
                self.settle(now_ms);
                return;
            }
        };
        let was = std::mem::replace(&mut self.engine, EngineState::Ok);
        self.back_from = Some(was)
            .filter(|was| *was != EngineState::Ok)
            .or(self.back_from);
        self.first_listed_ms.get_or_insert(now_ms);
        let mut present = BTreeSet::new();
        for container in &containers {
            // A twin would carry the same label; the first one is kept, the other is found again
            // once that is gone.
            if !present.insert(container.replica) {
                continue;
            }
            let unknown = !self.replicas.contains_key(&container.replica);
            let tracked = self
                .replicas
                .entry(container.replica)
                .or_insert_with(Tracked::new);
            if unknown {
                tracked.unknown_since_ms = Some(now_ms);
            }
            if tracked.op.is_none() && tracked.touched <= began {
                tracked.see(container, now_ms);
            }
        }
        for (id, tracked) in &mut self.replicas {
            let current = tracked.op.is_none() && tracked.touched <= began;
            if current && tracked.container.is_some() && !present.contains(id) {
                tracked.vanished(now_ms);
            }
        }
        self.forget_gone(&present);
        self.settle(now_ms);
    }

    /// Somebody removed what was kept: that was the decision.
    fn forget_gone(&mut self, present: &BTreeSet<ReplicaId>) {
        let kept = self.unclaimed.keys();
        let busy = |id| self.replicas.get(id).is_some_and(|t| t.op.is_some());
        let gone = kept.filter(|id| !present.contains(id) && !busy(id));
        for id in gone.copied().collect::<Vec<_>>() {
            self.unclaimed.remove(&id);
            self.replicas.remove(&id);
            self.forgotten.push(id);
        }
    }

    fn engine_failed(&mut self, kind: &ErrorKind) -> bool {
        self.engine = match kind {
            ErrorKind::Down => EngineState::Down,
            ErrorKind::Stuck => EngineState::Stuck,
            _ => return false,
        };
        self.wants_list = true;
        true
    }

    /// Takes in what came of a step.
    pub fn done(&mut self, done: Done, now_ms: AgentMs) {
        self.hand += 1;
        match done {
            Done::Launched { replica, container } => {
                let image = self.finish(replica, |tracked| {
                    let ran_before = tracked.exit_known || tracked.started_ms.is_some();
                    tracked.restarts += u32::from(ran_before);
                    tracked.container = Some(container);
                    tracked.begin_incarnation(Some(now_ms), now_ms);
                    tracked.launched();
                });
                self.images.extend(image);
            }
            Done::LaunchFailed {
                replica,
                container,
                error,
            } => {
                self.launch_failed(replica, container, &error, now_ms);
            }
            Done::Pulled { image, result } => self.pulled(&image, result),
            Done::Stopped { replica, result } => self.stopped(replica, result, now_ms),
            Done::Paused { replica, result } => self.froze(replica, result, true, now_ms),
            Done::Unpaused { replica, result } => self.froze(replica, result, false, now_ms),
            Done::Inspected { replica, result } => self.inspected(replica, result, now_ms),
            Done::Probed {
                replica,
                container,
                proof,
                result,
            } => {
                // An answer for an earlier proof of health says nothing about this one.
                let tracked = self.replicas.get_mut(&replica);
                if let Some(tracked) = tracked.filter(|tracked| tracked.proof == proof) {
                    if tracked.container.as_ref() == Some(&container) {
                        tracked.probed(result, now_ms);
                    } else {
                        tracked.probing.in_flight = false;
                    }
                }
            }
        }
        self.settle(now_ms);
    }

    fn stopped(
        &mut self,
        replica: ReplicaId,
        result: Result<Option<Inspection>, RuntimeError>,
        now_ms: AgentMs,
    ) {
        let result = match result {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            other => other,
        };
        let failed = result.as_ref().err().map(|error| error.kind.clone());
        self.finish(replica, |tracked| match result {
            Ok(ended) => tracked.stopped(ended.as_ref(), now_ms),
            Err(_) => {
                tracked.stop_failed = true;
                tracked.retry_at_ms = now_ms + STOP_RETRY_MS;
            }
        });
        if let Some(kind) = failed {
            self.engine_failed(&kind);
        }
    }

    /// Ends the step of a replica and changes it; gives its image.
    fn finish(&mut self, id: ReplicaId, change: impl FnOnce(&mut Tracked)) -> Option<ImageRef> {
        let tracked = self.replicas.get_mut(&id)?;
        tracked.op = None;
        tracked.touched = self.hand;
        change(tracked);
        tracked
            .wanted
            .as_ref()
            .map(|wanted| wanted.spec.image_ref())
    }

    fn launch_failed(
        &mut self,
        replica: ReplicaId,
        container: Option<ContainerId>,
        error: &RuntimeError,
        now_ms: AgentMs,
    ) {
        let away = self.engine_failed(&error.kind);
        self.wants_list = true;
        let mut absent = None;
        let node = self.place.node.clone();
        self.finish(replica, |tracked| {
            if container.is_some() && tracked.container != container {
                tracked.condition = Condition::Created;
                tracked.container = container;
            }
            let Some(spec) = tracked
                .wanted
                .as_ref()
                .map(|wanted| Arc::clone(&wanted.spec))
            else {
                return;
            };
            match &error.kind {
                // The listing will tell what was really done.
                _ if away => {}
                ErrorKind::NotFound => tracked.container = None,
                ErrorKind::VolumeAbsent(volume) => {
                    let volume = volume.clone();
                    tracked.fail(FailReason::VolumeMissing { volume, node });
                }
                ErrorKind::PortTaken(port) => {
                    let first = tracked
                        .wanted
                        .as_ref()
                        .and_then(|w| w.assigned.ports.first());
                    let port = if *port == 0 {
                        first.map_or(0, |p| p.host_port)
                    } else {
                        *port
                    };
                    tracked.fail(FailReason::PortTaken { port });
                }
                ErrorKind::ImageAbsent if spec.pull_policy == PullPolicy::Never => {
                    let detail = "its pull policy is never".to_owned();
                    let image = spec.image.clone();
                    tracked.fail(FailReason::ImageMissing { image, detail });
                }
                ErrorKind::ImageAbsent => {
                    tracked.needs_image = true;
                    absent = Some(spec.image_ref());
                }
                _ => tracked.refused(&error.attempted, &error.detail, now_ms),
            }
        });
        if let Some(image) = absent {
            self.images.remove(&image);
        }
    }

    fn pulled(&mut self, image: &ImageRef, result: Result<(), RuntimeError>) {
        self.pulls.remove(image);
        let error = match result {
            Ok(()) => {
                self.images.insert(image.clone());
                None
            }
            // The engine went away meanwhile: the pull is tried again when it is back. A pull
            // without progress is no sign of that; the registry is away.
            Err(error) if error.kind == ErrorKind::Down => {
                self.engine_failed(&error.kind);
                return;
            }
            Err(error) => Some(error),
        };
        for tracked in self
            .replicas
            .values_mut()
            .filter(|tracked| tracked.needs_image)
        {
            if tracked
                .wanted
                .as_ref()
                .is_none_or(|wanted| wanted.spec.image_ref() != *image)
            {
                continue;
            }
            tracked.needs_image = false;
            if let Some(error) = &error {
                let (image, detail) = (image.name.clone(), error.detail.clone());
                tracked.fail(FailReason::ImageMissing { image, detail });
            }
        }
    }

    /// Takes in what came of a pause or its end.
    fn froze(
        &mut self,
        replica: ReplicaId,
        result: Result<(), RuntimeError>,
        frozen: bool,
        now_ms: AgentMs,
    ) {
        let error = result.err();
        let away = error.as_ref().is_some_and(|e| self.engine_failed(&e.kind));
        self.wants_list |= error.is_some();
        self.finish(replica, |tracked| match &error {
            None if frozen => tracked.frozen(),
            None => tracked.thawed(now_ms),
            // The listing will tell what was really done.
            Some(_) if away => {}
            Some(error) if error.kind == ErrorKind::NotFound => {}
            Some(error) => tracked.refused(&error.attempted, &error.detail, now_ms),
        });
    }

    fn inspected(
        &mut self,
        replica: ReplicaId,
        result: Result<Inspection, RuntimeError>,
        now_ms: AgentMs,
    ) {
        self.wants_list |= result.is_err();
        let failed = result.as_ref().err().map(|error| error.kind.clone());
        self.finish(replica, |tracked| match result {
            Ok(inspection) if inspection.running => {
                let ran_ms = i64::try_from(inspection.ran_ms).unwrap_or(0);
                tracked.started_ms = Some(now_ms - ran_ms);
            }
            Ok(inspection) => tracked.crashed(&inspection, now_ms),
            Err(_) => tracked.retry_at_ms = now_ms + STOP_RETRY_MS,
        });
        if let Some(kind) = failed {
            self.engine_failed(&kind);
        }
    }

    /// Judges everything that runs and forgets what is gone.
    fn settle(&mut self, now_ms: AgentMs) {
        let address = self.place.address;
        for tracked in self.replicas.values_mut() {
            tracked.judge(address, now_ms);
        }
        self.settled = self.settled || self.is_settled(now_ms);
        if !self.replicas.values().any(Tracked::end_is_unknown) {
            self.back_from = None;
        }
        let listed = self.first_listed_ms.is_some();
        self.replicas.retain(|_, tracked| {
            !listed
                || tracked.wanted.is_some()
                || tracked.container.is_some()
                || tracked.op.is_some()
        });
    }

    /// The containers shall be listed now, not at the next round.
    #[must_use]
    pub fn wants_list(&self) -> bool {
        self.wants_list && self.engine == EngineState::Ok
    }

    /// Something happened on the engine: list soon.
    pub fn look(&mut self) {
        self.wants_list = true;
    }

    /// Something is on its way: look more often.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.engine != EngineState::Ok
            || self.replicas.values().any(|tracked| {
                tracked.op.is_some()
                    || (tracked.runs().is_some()
                        && tracked.state < ReplicaState::Healthy
                        && !tracked.has_ended())
                    || (tracked.runs().is_none() && tracked.container.is_some())
                    || tracked.freeze_due().is_some()
            })
    }
}
