//! An engine in memory that fails on request.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use longshore_model::{ImageRef, ReplicaId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::runs_fake::FakeRun;
use super::{
    Condition, Container, ContainerId, EngineInfo, ErrorKind, ExecHealth, ExecOptions, ExecRun,
    Inspection, Launch, LogOptions, Output, Runtime, RuntimeError,
};

/// Where every container that runs is.
pub const FAKE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 5));

#[derive(Debug, Clone)]
pub struct FakeContainer {
    pub replica: ReplicaId,
    pub condition: Condition,
    pub health: Option<ExecHealth>,
    pub inspection: Inspection,
    pub starts: u32,
    pub ended_at: Option<Instant>,
    /// Files that were put into it, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Default)]
pub struct State {
    pub containers: BTreeMap<ContainerId, FakeContainer>,
    pub images: Vec<String>,
    /// Names that the containers made so far were told.
    pub hosts: Vec<BTreeMap<String, Ipv4Addr>>,
    /// Every call fails so.
    pub away: Option<ErrorKind>,
    /// The next creations fail so.
    pub create_errors: VecDeque<ErrorKind>,
    /// The next files are not taken so.
    pub file_errors: VecDeque<ErrorKind>,
    /// The next starts fail so.
    pub start_errors: VecDeque<ErrorKind>,
    /// The next pauses fail so.
    pub pause_errors: VecDeque<ErrorKind>,
    /// The next unpauses fail so.
    pub unpause_errors: VecDeque<ErrorKind>,
    /// Stops of containers that were frozen: their processes saw no signal.
    pub stopped_frozen: u32,
    /// How the next commands inside containers end; none: with 7.
    pub exec_codes: VecDeque<i64>,
    /// What commands write instead of their own; none: theirs.
    pub exec_writes: Option<String>,
    /// Commands that ran inside containers.
    pub execs: Vec<Vec<String>>,
    pub stop_grace_ms: Vec<Option<u64>>,
    /// After how long the next stops end their containers, and how; none: at once, with 0.
    pub stops: VecDeque<(u64, Inspection)>,
    /// The next inspections fail so.
    pub inspect_errors: VecDeque<ErrorKind>,
    /// The next removals fail so.
    pub remove_errors: VecDeque<ErrorKind>,
    pub starting: usize,
    pub starting_peak: usize,
    pub pulls: u32,
    /// Containers of runs, by id: the run, and the files that were put into it.
    pub runs: BTreeMap<ContainerId, FakeRun>,
    /// The next sizes of terminals are not taken so; and those that were.
    pub resize_errors: VecDeque<ErrorKind>,
    pub resizes: Vec<(super::terminal::Terminal, super::terminal::Size)>,
    /// Named volumes of apps.
    pub volumes: Vec<super::disk::VolumeUse>,
    /// What the next start of a run is refused with.
    pub run_refused: Option<String>,
    pub next: u64,
}

/// Calls take simulated time: a start 200 ms, as the real one.
#[derive(Debug, Default)]
pub struct FakeRuntime {
    state: Mutex<State>,
    pub changed: Notify,
}

impl FakeRuntime {
    pub fn with_images(images: &[&str]) -> Self {
        let fake = Self::default();
        fake.state().images = images.iter().map(|image| (*image).to_owned()).collect();
        fake
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a container there as if it had always been.
    pub fn put(&self, replica: u64, condition: Condition) -> ContainerId {
        let mut state = self.state();
        state.next += 1;
        let id = format!("{:064x}", state.next);
        let inspection = Inspection {
            running: matches!(condition, Condition::Running | Condition::Paused),
            ran_ms: 3_600_000,
            ..Inspection::default()
        };
        let container = FakeContainer {
            replica: ReplicaId(replica),
            condition,
            health: None,
            inspection,
            starts: 0,
            ended_at: None,
            files: BTreeMap::new(),
        };
        state.containers.insert(id.clone(), container);
        id
    }

    /// Ends all containers of a replica.
    pub fn crash(&self, replica: u64, how: &Inspection) {
        for container in self.state().containers.values_mut() {
            if container.replica == ReplicaId(replica) {
                container.condition = Condition::Exited;
                container.inspection = how.clone();
                container.ended_at = Some(Instant::now());
            }
        }
    }

    /// The engine says that something happened before its listing shows it.
    pub fn announce(&self) {
        self.changed.notify_one();
    }

    /// Somebody removes them by hand.
    pub fn remove_by_hand(&self, replica: u64) {
        self.state()
            .containers
            .retain(|_, c| c.replica != ReplicaId(replica));
        self.changed.notify_one();
    }

    pub fn running(&self) -> Vec<u64> {
        let state = self.state();
        let running = state
            .containers
            .values()
            .filter(|c| c.condition == Condition::Running);
        let mut ids: Vec<u64> = running.map(|c| c.replica.0).collect();
        ids.sort_unstable();
        ids
    }

    /// Freezes or thaws by another hand, or as a restart of the engine does.
    pub fn set_condition(&self, replica: u64, condition: Condition) {
        for container in self.state().containers.values_mut() {
            if container.replica == ReplicaId(replica) {
                container.condition = condition;
            }
        }
        self.changed.notify_one();
    }

    pub fn condition(&self, replica: u64) -> Option<Condition> {
        let state = self.state();
        let mut all = state.containers.values();
        let found = all.find(|c| c.replica == ReplicaId(replica));
        found.map(|c| c.condition)
    }

    /// Waits a little, fails as asked, or goes from one condition to the other.
    async fn freeze(
        &self,
        id: &str,
        errors: fn(&mut State) -> &mut VecDeque<ErrorKind>,
        (from, to): (Condition, Condition),
    ) -> Result<(), RuntimeError> {
        drop(self.check()?);
        sleep(Duration::from_millis(20)).await;
        let mut state = self.check()?;
        if let Some(kind) = errors(&mut state).pop_front() {
            return Err(error(kind));
        }
        let Some(container) = state.containers.get_mut(id) else {
            return Err(error(ErrorKind::NotFound));
        };
        if container.condition == from {
            container.condition = to;
        } else if container.condition != to {
            return Err(error(ErrorKind::Refused));
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn check(&self) -> Result<MutexGuard<'_, State>, RuntimeError> {
        let state = self.state();
        match &state.away {
            Some(kind) => Err(error(kind.clone())),
            None => Ok(state),
        }
    }
}

pub(super) fn error(kind: ErrorKind) -> RuntimeError {
    RuntimeError {
        kind,
        attempted: "doing as asked".into(),
        detail: "the test said no".into(),
    }
}

impl Runtime for FakeRuntime {
    async fn info(&self) -> Result<EngineInfo, RuntimeError> {
        self.check().map(|_| EngineInfo::default())
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        let state = self.check()?;
        let container = |(id, c): (&ContainerId, &FakeContainer)| Container {
            id: id.clone(),
            replica: c.replica,
            condition: c.condition,
            health: c.health,
            address: (c.condition == Condition::Running).then_some(FAKE_ADDRESS),
            exposed: [6379].into(),
        };
        Ok(state.containers.iter().map(container).collect())
    }

    async fn inspect(&self, id: &str) -> Result<Inspection, RuntimeError> {
        let mut state = self.check()?;
        if let Some(kind) = state.inspect_errors.pop_front() {
            return Err(error(kind));
        }
        let container = state
            .containers
            .get(id)
            .ok_or_else(|| error(ErrorKind::NotFound))?;
        let ago = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Inspection {
            ended_ago_ms: container.ended_at.map(ago),
            ..container.inspection.clone()
        })
    }

    async fn create(&self, launch: &Launch) -> Result<ContainerId, RuntimeError> {
        {
            let mut state = self.check()?;
            if let Some(kind) = state.create_errors.pop_front() {
                return Err(error(kind));
            }
            if !state.images.contains(&launch.spec.image_ref().to_string()) {
                return Err(error(ErrorKind::ImageAbsent));
            }
            if state
                .containers
                .values()
                .any(|c| c.replica == launch.replica.id)
            {
                return Err(error(ErrorKind::NameTaken));
            }
            state.hosts.push(launch.hosts.clone());
        }
        Ok(self.put(launch.replica.id.0, Condition::Created))
    }

    async fn put_files(&self, id: &str, launch: &Launch) -> Result<(), RuntimeError> {
        let mut state = self.check()?;
        if let Some(kind) = state.file_errors.pop_front() {
            return Err(error(kind));
        }
        if let Some(run) = state.runs.get_mut(id) {
            let files = launch.files.iter();
            run.files = files.map(|(file, _)| file.target.clone()).collect();
            return Ok(());
        }
        let Some(container) = state.containers.get_mut(id) else {
            return Err(error(ErrorKind::NotFound));
        };
        if container.condition != Condition::Created {
            return Err(error(ErrorKind::Refused));
        }
        let files = launch.files.iter();
        let files = files.map(|(file, bytes)| (file.target.clone(), bytes.expose().to_vec()));
        container.files.extend(files);
        Ok(())
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        {
            let mut state = self.check()?;
            state.starting += 1;
            state.starting_peak = state.starting_peak.max(state.starting);
        }
        sleep(Duration::from_millis(200)).await;
        let mut state = self.state();
        state.starting -= 1;
        if let Some(kind) = state
            .away
            .clone()
            .or_else(|| state.start_errors.pop_front())
        {
            return Err(error(kind));
        }
        if state.runs.contains_key(id) {
            let refused = state.run_refused.take();
            return refused.map_or(Ok(()), |detail| {
                let error = error(ErrorKind::Refused);
                Err(RuntimeError { detail, ..error })
            });
        }
        let Some(container) = state.containers.get_mut(id) else {
            return Err(error(ErrorKind::NotFound));
        };
        container.condition = Condition::Running;
        container.inspection.running = true;
        container.ended_at = None;
        container.starts += 1;
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    async fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        let step = (Condition::Running, Condition::Paused);
        self.freeze(id, |state| &mut state.pause_errors, step).await
    }

    async fn unpause(&self, id: &str) -> Result<(), RuntimeError> {
        let step = (Condition::Paused, Condition::Running);
        self.freeze(id, |state| &mut state.unpause_errors, step)
            .await
    }

    async fn stop(&self, id: &str, grace_ms: Option<u64>) -> Result<(), RuntimeError> {
        let (after_ms, how) = {
            let mut state = self.check()?;
            state.stop_grace_ms.push(grace_ms);
            state.stops.pop_front().unwrap_or_default()
        };
        if after_ms > 0 {
            sleep(Duration::from_millis(after_ms)).await;
        }
        let mut state = self.check()?;
        let container = state
            .containers
            .get_mut(id)
            .ok_or_else(|| error(ErrorKind::NotFound))?;
        let frozen = container.condition == Condition::Paused;
        if matches!(container.condition, Condition::Running | Condition::Paused) {
            container.inspection = how;
            container.ended_at = Some(Instant::now());
            container.condition = Condition::Exited;
        }
        state.stopped_frozen += u32::from(frozen);
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let mut state = self.check()?;
        if let Some(kind) = state.remove_errors.pop_front() {
            return Err(error(kind));
        }
        let run = state.runs.remove(id).map(|_| ());
        let gone = state.containers.remove(id).map(|_| ());
        gone.or(run).ok_or_else(|| error(ErrorKind::NotFound))
    }

    async fn pull(&self, image: &ImageRef) -> Result<(), RuntimeError> {
        self.check()?.pulls += 1;
        if image.name.starts_with("slow") {
            std::future::pending::<()>().await;
        }
        let mut state = self.check()?;
        if image.name.starts_with("nowhere") {
            return Err(error(ErrorKind::Refused));
        }
        state.images.push(image.to_string());
        Ok(())
    }

    async fn has_image(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        Ok(self.check()?.images.contains(&image.to_string()))
    }

    async fn watch(&self, changed: &Notify) -> RuntimeError {
        loop {
            self.changed.notified().await;
            changed.notify_one();
        }
    }

    async fn logs(&self, id: &str, _: &LogOptions) -> Result<Output, RuntimeError> {
        let known = self.check()?.containers.contains_key(id);
        if !known {
            return Err(error(ErrorKind::NotFound));
        }
        let line = (
            super::Channel::Stdout,
            b"hello from the container\n".to_vec(),
        );
        Ok(Box::pin(futures_util::stream::iter([Ok(line)])))
    }

    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<ExecRun, RuntimeError> {
        let mut state = self.check()?;
        let container = state.containers.get(id);
        if container.is_some_and(|c| c.condition == Condition::Paused) {
            return Err(error(ErrorKind::Refused));
        }
        state.execs.push(options.command.clone());
        let wrote = state.exec_writes.clone().map(String::into_bytes);
        let wrote = wrote.unwrap_or_else(|| vec![b'x'; 100_000]);
        drop(state);
        let line = (super::Channel::Stderr, wrote);
        Ok(ExecRun {
            id: "exec".into(),
            output: Box::pin(futures_util::stream::iter([Ok(line)])),
            input: Box::pin(tokio::io::sink()),
        })
    }

    async fn exec_exit_code(&self, _: &str) -> Result<Option<i64>, RuntimeError> {
        Ok(Some(self.check()?.exec_codes.pop_front().unwrap_or(7)))
    }
}
