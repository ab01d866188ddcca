//! A container engine that is slow, full, away, stuck, or forgets its containers.

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::{ReplicaId, ServiceKey};
use node_agent::runtime::{
    Condition, Container, ErrorKind, ExecHealth, Inspection, Launch, RuntimeError,
};

use crate::event::End;

/// An engine.
#[derive(Debug, Default)]
pub struct Engine {
    /// How it answers.
    pub mood: Mood,
    /// Everything takes so many times as long; 0 is as 1.
    pub slow: u64,
    /// No space for new containers.
    pub full: bool,
    /// Images that are here.
    pub images: BTreeSet<String>,
    /// The registry is away.
    pub registry_away: bool,
    /// Ports of foreign programs.
    pub taken: BTreeSet<u16>,
    /// By id.
    pub containers: BTreeMap<String, SimContainer>,
    /// Volumes that are here, and when they were made.
    pub volumes: BTreeMap<String, u64>,
    /// Exit codes of what was removed after it had run.
    pub ended: BTreeMap<ReplicaId, i64>,
    made: u64,
}

/// How an engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// It is not there.
    Down,
    /// It takes calls, does them or not, and says nothing.
    Stuck,
}

/// What an image does when it runs; part of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Listens after so many milliseconds.
    Good(u64),
    /// Ends by itself after so many milliseconds.
    Crashes(u64),
    /// Ends with 0 after so many milliseconds.
    Ends(u64),
    /// Never listens.
    Deaf,
    /// Listens at once and answers with errors.
    Wrong,
    /// Listens at once and takes its time.
    Slow,
    /// Listens at once, to its own node only.
    Shy,
}

impl Image {
    /// Reads a name: `good-400`, `crash-300`, `job-300`, `deaf`, `wrong`, `slow`, `shy`, each followed by `:anything`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let kind = name.split(':').next().unwrap_or_default();
        let (word, number) = kind.split_once('-').unwrap_or((kind, "0"));
        let ms = number.parse().unwrap_or(0);
        match word {
            "crash" => Self::Crashes(ms),
            "job" => Self::Ends(ms),
            "deaf" => Self::Deaf,
            "wrong" => Self::Wrong,
            "slow" => Self::Slow,
            "shy" => Self::Shy,
            _ => Self::Good(ms),
        }
    }

    /// So long after its start it listens.
    #[must_use]
    pub fn listens_after_ms(self) -> Option<u64> {
        match self {
            Self::Good(after_ms) => Some(after_ms),
            Self::Wrong | Self::Slow | Self::Shy => Some(20),
            Self::Crashes(_) | Self::Ends(_) | Self::Deaf => None,
        }
    }
}

/// One container, as it really is.
#[derive(Debug, Clone)]
pub struct SimContainer {
    /// Of its label.
    pub replica: ReplicaId,
    /// Of its label.
    pub service: ServiceKey,
    /// Host ports.
    pub ports: Vec<u16>,
    /// The volume that it writes to.
    pub volume: Option<String>,
    /// What it runs.
    pub image: Image,
    /// What it does.
    pub condition: Condition,
    /// Counts its runs.
    pub run: u32,
    /// When the present or last run began.
    pub started_at: u64,
    /// How long the last run was.
    pub ran_ms: u64,
    /// How the last run ended.
    pub end: End,
    /// When it ended.
    pub ended_at: u64,
    /// Exit code after a stop.
    pub code: i64,
    /// It does not answer until then.
    pub sick_until: u64,
    /// It was told to stop.
    pub told: bool,
    /// Time between signal and kill.
    pub grace_ms: u64,
}

impl SimContainer {
    /// Are its processes there?
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.condition, Condition::Running | Condition::Paused)
    }

    /// So long after its start it is as well as it will be. Without a port there is nothing that
    /// anybody could ask it: it is well as long as it runs, which is all that an agent can say of a
    /// job, whether that will end with 0 or not.
    fn well_after_ms(&self) -> Option<u64> {
        match self.ports.is_empty() {
            true => Some(0),
            false => self.image.listens_after_ms(),
        }
    }

    /// Has it been ready to answer in this run?
    #[must_use]
    pub fn has_listened(&self, now_ms: u64) -> bool {
        let Some(after_ms) = self.well_after_ms() else {
            return false;
        };
        self.condition == Condition::Running && now_ms >= self.started_at + after_ms
    }

    /// Would it answer a request now?
    #[must_use]
    pub fn listens(&self, now_ms: u64) -> bool {
        let Some(after_ms) = self.well_after_ms() else {
            return false;
        };
        self.condition == Condition::Running
            && !self.told
            && now_ms >= self.started_at + after_ms
            && now_ms >= self.sick_until
    }
}

/// An error of a kind.
#[must_use]
pub fn refusal(kind: ErrorKind, attempted: &str) -> RuntimeError {
    let detail = format!("{kind:?}");
    RuntimeError {
        kind,
        attempted: attempted.to_owned(),
        detail,
    }
}

impl Engine {
    /// How long a call takes that normally takes so long.
    #[must_use]
    pub fn takes(&self, ms: u64) -> u64 {
        ms * self.slow.max(1)
    }

    /// Makes a container.
    ///
    /// # Errors
    /// As an engine would.
    pub fn create(&mut self, launch: &Launch, at_ms: u64) -> Result<String, RuntimeError> {
        if self.full {
            return Err(refusal(ErrorKind::Refused, "create"));
        }
        if !self.images.contains(&launch.spec.image) {
            return Err(refusal(ErrorKind::ImageAbsent, "create"));
        }
        let id = launch.replica.id;
        if self.containers.values().any(|c| c.replica == id) {
            return Err(refusal(ErrorKind::NameTaken, "create"));
        }
        self.made += 1;
        let name = format!("c{:05}", self.made);
        let volume = launch.spec.mounts.first().map(|m| m.source.clone());
        if let Some(volume) = &volume {
            self.volumes.entry(volume.clone()).or_insert(at_ms);
        }
        let container = SimContainer {
            replica: id,
            service: launch.replica.service.clone(),
            ports: launch.replica.ports.iter().map(|p| p.host_port).collect(),
            volume,
            image: Image::of(&launch.spec.image),
            condition: Condition::Created,
            run: 0,
            started_at: 0,
            ran_ms: 0,
            end: End::Crash,
            ended_at: 0,
            code: 0,
            sick_until: 0,
            told: false,
            grace_ms: launch.spec.stop_grace_ms,
        };
        self.containers.insert(name.clone(), container);
        Ok(name)
    }

    /// Starts one; gives the number of its run.
    ///
    /// # Errors
    /// As an engine would.
    pub fn start(&mut self, id: &str, now_ms: u64) -> Result<u32, RuntimeError> {
        let Some(container) = self.containers.get(id) else {
            return Err(refusal(ErrorKind::NotFound, "start"));
        };
        if container.condition == Condition::Running {
            return Ok(container.run);
        }
        let mine = container.ports.clone();
        let others = self
            .containers
            .iter()
            .filter(|(other, c)| other.as_str() != id && c.runs());
        let held: BTreeSet<u16> = others.flat_map(|(_, c)| c.ports.iter().copied()).collect();
        if let Some(port) = mine
            .iter()
            .find(|port| held.contains(port) || self.taken.contains(port))
        {
            return Err(refusal(ErrorKind::PortTaken(*port), "start"));
        }
        let Some(container) = self.containers.get_mut(id) else {
            return Err(refusal(ErrorKind::NotFound, "start"));
        };
        container.condition = Condition::Running;
        container.run += 1;
        container.started_at = now_ms;
        container.told = false;
        Ok(container.run)
    }

    /// Freezes one or lets it go on.
    ///
    /// # Errors
    /// As an engine would.
    pub fn turn(&mut self, id: &str, from: Condition, to: Condition) -> Result<(), RuntimeError> {
        match self.containers.get_mut(id) {
            None => Err(refusal(ErrorKind::NotFound, "pause")),
            Some(container) if container.condition == from => {
                container.condition = to;
                Ok(())
            }
            Some(_) => Err(refusal(ErrorKind::Refused, "pause")),
        }
    }

    /// What a listing says.
    #[must_use]
    pub fn list(&self) -> Vec<Container> {
        let one = |(id, c): (&String, &SimContainer)| Container {
            id: id.clone(),
            replica: c.replica,
            condition: c.condition,
            health: None::<ExecHealth>,
            address: None,
            exposed: BTreeSet::new(),
        };
        self.containers.iter().map(one).collect()
    }

    /// How one is.
    ///
    /// # Errors
    /// As an engine would.
    pub fn inspect(&self, id: &str, now_ms: u64) -> Result<Inspection, RuntimeError> {
        let container = self
            .containers
            .get(id)
            .ok_or_else(|| refusal(ErrorKind::NotFound, "inspect"))?;
        let running = container.runs();
        Ok(Inspection {
            running,
            ran_ms: match running {
                true => now_ms - container.started_at,
                false => container.ran_ms,
            },
            ended_ago_ms: (container.condition == Condition::Exited)
                .then(|| now_ms.saturating_sub(container.ended_at)),
            exit_code: match container.end {
                End::Told => container.code,
                End::Done => 0,
                End::Host => 137,
                End::Crash | End::Oom => 1,
            },
            oom: container.end == End::Oom,
            last_line: String::new(),
        })
    }

    /// The container that holds a port now, if one runs there.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Option<&SimContainer> {
        self.containers
            .values()
            .find(|c| c.runs() && c.ports.contains(&port))
    }
}
