//! What a run knows of each node: what was seen of it, what its replicas hold there, and what the
//! run before noted of it. A run walks over all nodes once and finds out which of them it must
//! look at again: those are *touched*. What later stages say of the others is what was said before.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::node::{Availability, Capacity, Node};
use longshore_model::observe::{EngineState, NodeObserved};
use longshore_model::plan::PortBinding;
use longshore_model::reason::{FailReason, Refusal};
use longshore_model::replica::ReplicaState;
use longshore_model::report::NodeState;
use longshore_model::spec::Resources;
use longshore_model::{NodeId, ReplicaId, ReplicaStatus, TimeMs};

use super::alive;
use crate::PlanInput;

/// Samples of this long make up a node's measured headroom.
const HEADROOM_WINDOW_MS: u64 = 10_000;

/// What the services that look at a node can tell it by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    pub state: NodeState,
    pub doubted: bool,
    pub braked: bool,
    pub reached: bool,
    pub flapping: bool,
}

impl Look {
    const UNKNOWN: Self = Self {
        state: NodeState::Unknown,
        doubted: false,
        braked: false,
        reached: false,
        flapping: false,
    };

    /// Nothing is to be said of such a node, and it stays so until it falls silent.
    fn is_plain(&self) -> bool {
        self.state == NodeState::Ready && !self.doubted && !self.braked && !self.flapping
    }
}

/// What operators want of a node, as far as each run asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Duties {
    pub worker: bool,
    pub edge: bool,
    pub draining: bool,
}

impl Duties {
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            worker: node.roles.worker,
            edge: node.roles.edge,
            draining: node.availability == Availability::Draining,
        }
    }
}

/// What a run notes of a node for the next one.
#[derive(Debug)]
pub(crate) struct Noted {
    pub look: Look,
    pub took: bool,
    pub duties: Duties,
    pub capacity: Option<Arc<Capacity>>,
    pub replicas: Option<Arc<BTreeMap<ReplicaId, ReplicaStatus>>>,
    pub images: Option<Arc<Vec<String>>>,
    strange: Option<bool>,
}

impl Noted {
    pub(crate) fn of(slot: &NodeSlot<'_>, held: &Held) -> Self {
        let seen = slot.seen;
        Self {
            look: slot.look(held),
            took: slot.takes(),
            duties: Duties::of(slot.node),
            capacity: seen.map(|seen| Arc::clone(&seen.capacity)),
            replicas: seen.map(|seen| Arc::clone(&seen.replicas)),
            images: seen.map(|seen| Arc::clone(&seen.images)),
            strange: slot.strange.get(),
        }
    }

    /// Is what was seen the same?
    fn is_same(&self, seen: Option<&NodeObserved>) -> bool {
        same_arc(self.replicas.as_ref(), seen.map(|seen| &seen.replicas))
            && same_arc(self.capacity.as_ref(), seen.map(|seen| &seen.capacity))
            && same_arc(self.images.as_ref(), seen.map(|seen| &seen.images))
    }
}

pub(crate) fn same_arc<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// The penalty of a node that comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flapping {
    /// How often it was lost.
    pub losses: u32,
    /// From then on it takes replicas.
    pub until_ms: TimeMs,
}

impl Flapping {
    pub(crate) fn refusal(self) -> Refusal {
        let Self { losses, until_ms } = self;
        Refusal::Flapping { losses, until_ms }
    }
}

/// One node.
#[derive(Debug)]
pub(crate) struct NodeSlot<'a> {
    pub id: &'a NodeId,
    pub node: &'a Node,
    pub seen: Option<&'a NodeObserved>,
    pub state: NodeState,
    /// Not sure that it serves: replacements may be added, nothing of it leaves.
    pub doubted: bool,
    /// Both witnesses call it gone, but the brake is on.
    pub braked: bool,
    /// It comes and goes, and takes no new replicas until then.
    pub flapping: Option<Flapping>,
    /// Edges cannot reach a replica there although the node calls it healthy.
    pub unreachable: bool,
    /// Its assignment's content changed in this run.
    pub dirty: bool,
    /// As the run before left it.
    pub was: Look,
    /// Did it take replicas then?
    pub took: bool,
    pub(super) touched: bool,
    /// Has it acknowledged the assignment in force? Found out when first asked.
    pub(super) acked: Cell<Option<bool>>,
    /// Do strangers hold host ports there, as failed replicas told? Found out when first asked.
    strange: Cell<Option<bool>>,
    /// Mean CPU use of the last seconds, in tenths; found out when first asked.
    cpu_tenths: Cell<Option<u32>>,
}

impl<'a> NodeSlot<'a> {
    pub(super) fn new(
        input: &PlanInput<'a>,
        (id, node): (&'a NodeId, &'a Node),
        seen: Option<&'a NodeObserved>,
        noted: Option<&Noted>,
    ) -> Self {
        let state = session_state(input, seen);
        let was = noted.map_or(Look::UNKNOWN, |noted| noted.look);
        let same = noted.is_some_and(|noted| noted.is_same(seen));
        Self {
            id,
            node,
            seen,
            state,
            doubted: state.lacks_engine(),
            braked: false,
            flapping: None,
            unreachable: false,
            dirty: false,
            was,
            took: noted.is_some_and(|noted| noted.took),
            touched: !(same && was.is_plain() && state == NodeState::Ready),
            acked: Cell::new(None),
            strange: Cell::new(noted.filter(|_| same).and_then(|noted| noted.strange)),
            cpu_tenths: Cell::new(None),
        }
    }

    /// What services can tell it by now.
    pub(crate) fn look(&self, held: &Held) -> Look {
        Look {
            state: self.state,
            doubted: self.doubted,
            braked: self.braked,
            reached: held.up > 0,
            flapping: self.flapping.is_some(),
        }
    }

    /// Is it there for new replicas?
    pub(crate) fn takes(&self) -> bool {
        self.node.roles.worker
            && self.node.availability == Availability::Active
            && self.state == NodeState::Ready
            && self.flapping.is_none()
    }

    /// Mean CPU use of the last seconds in tenths of the capacity; 0 without samples.
    pub(crate) fn cpu_tenths(&self, input: &PlanInput<'_>) -> u32 {
        if let Some(known) = self.cpu_tenths.get() {
            return known;
        }
        let mean = self.seen.and_then(|seen| {
            crate::load::mean(
                &seen.samples.cpu_ratio,
                input.now_ms.saturating_sub(HEADROOM_WINDOW_MS),
                input.now_ms,
                input.config.sample_stale_ms,
            )
        });
        let tenths = (mean.unwrap_or(0.0).clamp(0.0, 10.0) * 10.0).floor();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let tenths = tenths as u32;
        self.cpu_tenths.set(Some(tenths));
        tenths
    }

    /// Does a stranger hold the host port, as failed replicas told?
    pub(crate) fn taken_by_stranger(&self, port: u16) -> bool {
        self.has_strangers() && self.strange_ports().any(|taken| taken == port)
    }

    /// Does a stranger hold any?
    pub(crate) fn has_strangers(&self) -> bool {
        if let Some(known) = self.strange.get() {
            return known;
        }
        let found = self.strange_ports().next().is_some();
        self.strange.set(Some(found));
        found
    }

    /// What is gone says nothing any more: the plan forgets it in this very run, and the next one
    /// must not find more room than this one did.
    fn strange_ports(&self) -> impl Iterator<Item = u16> {
        let seen = self.seen.into_iter();
        let statuses = seen.flat_map(|seen| seen.replicas.values());
        let there = statuses.filter(|status| status.state != ReplicaState::Gone);
        there.filter_map(|status| match status.reason {
            Some(FailReason::PortTaken { port }) => Some(port),
            _ => None,
        })
    }
}

fn session_state(input: &PlanInput<'_>, seen: Option<&NodeObserved>) -> NodeState {
    let Some(seen) = seen else {
        return NodeState::Unknown;
    };
    if !alive(&seen.session, input.now_ms, input.config.session_timeout_ms) {
        return NodeState::Away;
    }
    match seen.engine {
        EngineState::Ok => NodeState::Ready,
        EngineState::Stuck => NodeState::RuntimeStuck,
        EngineState::Down => NodeState::EngineDown,
    }
}

/// What replicas take of a node; handed from run to run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub cpu_reserved_milli: u64,
    pub memory_reserved_bytes: u64,
    /// What the node has, as last seen.
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    /// It was seen.
    known: bool,
    /// Replicas on it, the leaving ones included.
    pub replicas: u32,
    /// Reserved share of the scarcer resource, per mille.
    pub fill_permille: u32,
    /// Edges that reach replicas there, summed over these.
    pub up: u32,
    /// Edges that do not.
    pub down: u32,
    /// Host ports held by these, in order.
    pub ports: Vec<u16>,
}

impl Held {
    /// What the node has, as seen now.
    pub(super) fn has(&mut self, capacity: Option<&Capacity>) {
        self.known = capacity.is_some();
        (self.cpu_milli, self.memory_bytes) =
            capacity.map_or((0, 0), |c| (c.cpu_milli, c.memory_bytes));
        self.fill();
    }

    fn fill(&mut self) {
        if !self.known {
            self.fill_permille = 1_000;
            return;
        }
        let share = |used: u64, all: u64| {
            let permille = used.saturating_mul(1_000) / all.max(1);
            u32::try_from(permille).unwrap_or(u32::MAX)
        };
        self.fill_permille = share(self.cpu_reserved_milli, self.cpu_milli)
            .max(share(self.memory_reserved_bytes, self.memory_bytes));
    }

    /// Counts one replica against the node.
    pub(crate) fn reserve(&mut self, wants: Resources, ports: &[PortBinding]) {
        self.replicas += 1;
        self.reserve_cpu(wants.cpu_reserved_milli);
        self.memory_reserved_bytes = self
            .memory_reserved_bytes
            .saturating_add(wants.memory_reserved_bytes);
        for port in ports {
            let (Ok(at) | Err(at)) = self.ports.binary_search(&port.host_port);
            self.ports.insert(at, port.host_port);
        }
        self.fill();
    }

    /// Counts CPU against the node that a replica did not hold so far.
    pub(crate) fn reserve_cpu(&mut self, cpu_milli: u64) {
        self.cpu_reserved_milli = self.cpu_reserved_milli.saturating_add(cpu_milli);
        self.fill();
    }

    /// A replica stays on the node and holds nothing of it any more.
    pub(crate) fn give_back(&mut self, wants: Resources) {
        self.release(wants, &[]);
        self.replicas += 1;
        self.fill();
    }

    /// Gives back what [`Self::reserve`] took.
    pub(crate) fn release(&mut self, wants: Resources, ports: &[PortBinding]) {
        self.replicas = self.replicas.saturating_sub(1);
        self.cpu_reserved_milli = self
            .cpu_reserved_milli
            .saturating_sub(wants.cpu_reserved_milli);
        self.memory_reserved_bytes = self
            .memory_reserved_bytes
            .saturating_sub(wants.memory_reserved_bytes);
        for port in ports {
            if let Ok(at) = self.ports.binary_search(&port.host_port) {
                self.ports.remove(at);
            }
        }
        self.fill();
    }

    /// Does a replica there hold the host port?
    pub(crate) fn holds(&self, port: u16) -> bool {
        self.ports.binary_search(&port).is_ok()
    }

    /// How many ports from this one on are held, one after the other?
    pub(crate) fn run_from(&self, port: u16) -> u16 {
        let Ok(at) = self.ports.binary_search(&port) else {
            return 0;
        };
        let rest = self.ports[at..].iter().zip(port..=u16::MAX);
        let run = rest.take_while(|(held, port)| *held == port).count();
        u16::try_from(run).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The ports of a run are held, and the one after it is not.
        #[test]
        fn a_run_ends_before_the_first_free_port(
            held in proptest::collection::btree_set(u16::MAX - 40..=u16::MAX, 0..40),
            from in u16::MAX - 41..=u16::MAX,
        ) {
            let node = Held { ports: held.iter().copied().collect(), ..Held::default() };
            let free = (from..=u16::MAX).find(|port| !held.contains(port));
            let run = free.map_or(u32::from(u16::MAX - from) + 1, |free| u32::from(free - from));
            prop_assert_eq!(u32::from(node.run_from(from)), run);
        }
    }
}
