//! What the reconciler tells others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use longshore_model::observe::EngineState;
use longshore_model::reason::FailReason;
use longshore_model::receipt::Exit;
use longshore_model::{ReplicaId, ReplicaState};

use super::super::AgentMs;
use super::super::tracked::Tracked;
use super::Core;
use crate::ledger::Kept;
use crate::runtime::ContainerId;

/// Longest wait for the first health answers after a start of the agent.
const SETTLE_MS_MAX: i64 = 2_000;
/// Most images in a report.
const IMAGES_MAX: usize = 256;

/// One replica, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Which.
    pub id: ReplicaId,
    /// Its state.
    pub state: ReplicaState,
    /// Why it failed or is unhealthy.
    pub reason: Option<FailReason>,
    /// The engine's id of its container.
    pub container: Option<ContainerId>,
    /// Start of the present incarnation, on the agent's clock.
    pub started_ms: Option<AgentMs>,
    /// First healthy in the present incarnation.
    pub healthy_ms: Option<AgentMs>,
    /// Times that it was started again.
    pub restarts: u32,
    /// How it ended, once it is gone.
    pub exit: Option<Exit>,
    /// Where its container is reached from this host.
    pub address: Option<IpAddr>,
    /// TCP ports that its container says it listens on.
    pub exposed: BTreeSet<u16>,
}

/// Everything that a report says about containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// What is here is known well enough to speak of it.
    pub settled: bool,
    /// Generation that the states below are about.
    pub generation: u64,
    /// The engine.
    pub engine: EngineState,
    /// Replicas, in id order.
    pub replicas: Vec<View>,
    /// Images that are here, of those that the assignment names.
    pub images: Vec<String>,
    /// What nobody knows since the cluster was restored, in words with the way out.
    pub unclaimed: Vec<String>,
    /// CPU that these reserve, thousandths of a core, and memory.
    pub unclaimed_reserved: (u64, u64),
}

impl Core {
    /// Replicas that have failed for good.
    #[must_use]
    pub fn failed(&self) -> BTreeMap<ReplicaId, FailReason> {
        let failed = self
            .replicas
            .iter()
            .filter(|(_, t)| t.state == ReplicaState::Failed);
        failed
            .filter_map(|(id, tracked)| Some((*id, tracked.reason.clone()?)))
            .collect()
    }

    /// What is reported.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let replicas = self
            .replicas
            .iter()
            .filter_map(|(id, t)| self.view(*id, t))
            .collect();
        let images = self
            .images_wanted
            .intersection(&self.images)
            .take(IMAGES_MAX);
        Snapshot {
            settled: self.settled,
            generation: self.generation,
            // What ended while the engine was away is not to be taken for running once it is back.
            engine: match self.engine {
                EngineState::Ok => self.back_from.unwrap_or(EngineState::Ok),
                away => away,
            },
            replicas,
            unclaimed: self.unclaimed_words(),
            unclaimed_reserved: self.unclaimed_reserved(),
            images: images.map(ToString::to_string).collect(),
        }
    }

    fn unclaimed_words(&self) -> Vec<String> {
        let words = |(id, kept): (&ReplicaId, &Kept)| {
            let container = self.replicas.get(id).and_then(|t| t.container.as_deref());
            let (service, slot) = (&kept.assigned.service, kept.assigned.slot);
            format!(
                "unclaimed: {id} ({service}.{slot}) runs on since the cluster was restored from a copy \
                 that does not know it; it gets no requests. If it is not needed, on this node: \
                 docker rm -f {}",
                container.unwrap_or("(not listed yet)")
            )
        };
        self.unclaimed.iter().map(words).collect()
    }

    fn unclaimed_reserved(&self) -> (u64, u64) {
        let kept = self.unclaimed.values().map(|kept| kept.spec.resources);
        kept.fold((0, 0), |(cpu_milli, memory_bytes), each| {
            (
                cpu_milli.saturating_add(each.cpu_reserved_milli),
                memory_bytes.saturating_add(each.memory_reserved_bytes),
            )
        })
    }

    /// After a start of the agent a replica that serves must not look as if it were starting:
    /// nothing is said before its health was asked for once.
    pub(super) fn is_settled(&self, now_ms: AgentMs) -> bool {
        let Some(since_ms) = self.first_listed_ms else {
            return self.engine != EngineState::Ok;
        };
        let address = self.place.address;
        let asked = |tracked: &Tracked| !tracked.is_running() || tracked.health_known(address);
        now_ms - since_ms >= SETTLE_MS_MAX || self.replicas.values().all(asked)
    }

    fn view(&self, id: ReplicaId, tracked: &Tracked) -> Option<View> {
        if tracked.unknown_since_ms.is_some() || tracked.unclaimed {
            return None;
        }
        let mut state = tracked.state;
        if tracked.runs().is_none() {
            let remains = tracked.container.is_some()
                || tracked.op.is_some()
                || (tracked.wanted.is_some() && self.first_listed_ms.is_none());
            if !remains && state != ReplicaState::Gone {
                return None;
            }
            // Failed stays failed until it is gone.
            if state.may_become(ReplicaState::Stopping) {
                state = ReplicaState::Stopping;
            }
        }
        Some(View {
            id,
            state,
            reason: tracked.reason.clone(),
            container: tracked.container.clone(),
            started_ms: tracked.started_ms,
            healthy_ms: tracked.healthy_ms,
            restarts: tracked.restarts,
            exit: tracked.exit,
            address: tracked.address,
            exposed: tracked.exposed.clone(),
        })
    }
}
