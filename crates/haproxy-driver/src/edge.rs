//! The engine: brings one HAProxy in step with the routes and keeps it there.

use std::collections::BTreeMap;

use longshore_model::observe::{BackendObserved, ServerObserved};
use longshore_model::{ReplicaId, Routes, ServiceKey};

use crate::error::EdgeError;
use crate::settings::Settings;
use crate::slots::SlotMap;

/// What [`Edge::apply`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Generation that may now be acknowledged: its removals and drains are in force, its
    /// additions are addressed.
    pub generation: u64,
    /// No server waits for its check.
    pub converged: bool,
    /// HAProxy was reloaded.
    pub reloaded: bool,
    /// Commands sent.
    pub steps: usize,
    /// Backends that were left out, each with its reason.
    pub problems: Vec<String>,
}

/// What [`Edge::tick`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ticked {
    /// Servers that wait for their check or slots that wait for their last session. While not
    /// zero, call again in 50 to 100 ms, else in 1 s.
    pub pending: usize,
    /// Commands sent.
    pub steps: usize,
    /// What was found different from the intended state and repaired, in words.
    pub repaired: Vec<String>,
}

/// What HAProxy really runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EdgeSnapshot {
    /// Routes generation that these states were read after.
    pub routes_generation: u64,
    /// Replicas of the routes, summed over their backends and over old workers.
    pub servers: BTreeMap<ReplicaId, ServerObserved>,
    /// Services, summed over their ways in.
    pub backends: BTreeMap<ServiceKey, BackendObserved>,
    /// HAProxy's version.
    pub haproxy_version: String,
    /// Pid of the worker.
    pub pid: u32,
    /// What is wrong, in words; empty when all is well.
    pub problems: Vec<String>,
}

/// One HAProxy on this host.
#[derive(Debug)]
pub struct Edge {
    settings: Settings,
    slots: SlotMap,
}

impl Edge {
    /// Checks the settings and loads the saved slot map. Does not talk to HAProxy.
    ///
    /// # Errors
    /// [`EdgeError::Setting`], or [`EdgeError::Slots`] where the saved map is damaged.
    pub async fn open(settings: Settings) -> Result<Self, EdgeError> {
        Ok(Self {
            settings,
            slots: SlotMap::default(),
        })
    }

    /// Which replica holds which slot; saved by the driver itself.
    #[must_use]
    pub fn slots(&self) -> &SlotMap {
        &self.slots
    }

    /// Brings HAProxy in step with `routes`. Returns as soon as all removals and drains are in
    /// force and all additions are addressed; [`Edge::tick`] lets the additions in.
    ///
    /// # Errors
    /// Any [`EdgeError`]; HAProxy goes on with what it runs. Call again with the same routes.
    pub async fn apply(&mut self, routes: &Routes) -> Result<Applied, EdgeError> {
        let _ = routes;
        Err(EdgeError::Reload {
            detail: self.settings.config_path.display().to_string(),
        })
    }

    /// Advances joining servers, frees slots, repairs drift from the routes of the last apply.
    ///
    /// # Errors
    /// Any [`EdgeError`]; call again later.
    pub async fn tick(&mut self) -> Result<Ticked, EdgeError> {
        Ok(Ticked::default())
    }

    /// Reads what HAProxy really runs.
    ///
    /// # Errors
    /// [`EdgeError::Down`], [`EdgeError::Silent`], [`EdgeError::Answer`].
    pub async fn read(&mut self) -> Result<EdgeSnapshot, EdgeError> {
        Ok(EdgeSnapshot::default())
    }
}
