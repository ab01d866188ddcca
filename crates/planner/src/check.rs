//! An independent look at an outcome before it is committed: the design's invariants, by their
//! own logic. Nothing here calls the stages, so that one mistake cannot hide in both.
//!
//! [`check`] looks at everything. A [`Checker`] remembers what it has found good and looks only at
//! services of which the plan or what was seen differs since; what it remembers it finds out by
//! itself, too. Both run the same rules, over more or fewer services.

use std::cell::OnceCell;
use std::sync::Arc;

use longshore_model::observe::{EdgeObserved, EngineState, SessionObserved};
use longshore_model::plan::{Replica, ServicePlan};
use longshore_model::replica::ReplicaState;
use longshore_model::{NodeId, Plan, ServiceKey};

use self::ledger::Ledger;
use crate::{Outcome, PlanInput};

mod each_node;
mod homes;
mod jobs;
mod ledger;
mod nodes;
mod places;
mod replicas;
mod scope;
mod services;
mod terms;
mod versions;
mod weights;

/// Within so long every service is looked at again, whatever is remembered: a few in each check.
const AGAIN_EVERY_MS: u64 = 600_000;

/// An invariant that the outcome breaks. Its number is the design's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant}: {detail}")]
pub struct Violation {
    /// Number of the invariant.
    pub invariant: u8,
    /// Which replica, node or service breaks it, and how.
    pub detail: String,
}

type Verdict = Result<(), Violation>;

fn demand(holds: bool, invariant: u8, detail: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            detail: detail(),
        })
    }
}

/// Looks whether `outcome` may follow `input.current`.
///
/// # Errors
/// The first [`Violation`] found. The outcome must then not be committed.
pub fn check(input: &PlanInput<'_>, outcome: &Outcome) -> Result<(), Violation> {
    Checker::default().check(input, outcome)
}

/// Checks one outcome after the other. Empty at the start; its size is that of the plan.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    ledger: Option<Ledger>,
}

impl Checker {
    /// Finds what [`check`] finds, at the cost of the services that changed or of which something
    /// else was seen than before, besides a look at every node. Everything is looked at in the
    /// first run, after a violation, and when plans or settings come from elsewhere; the services
    /// that nothing changes have their turns, a few in each check, all within ten minutes.
    ///
    /// # Errors
    /// The first [`Violation`] found. The outcome must then not be committed.
    pub fn check(&mut self, input: &PlanInput<'_>, outcome: &Outcome) -> Result<(), Violation> {
        let ledger = self.ledger.take().filter(|ledger| ledger.goes_on(input));
        let all = ledger.is_none();
        let mut ledger = ledger.unwrap_or_else(|| Ledger::new(input));
        let known = Arc::clone(ledger.plan());
        let mut view = View {
            input,
            outcome,
            known: &known,
            pairs: match all {
                true => scope::everything(input, outcome),
                false => scope::touched(&mut ledger, &known, input, outcome),
            },
            edges: OnceCell::new(),
        };
        view.pairs.sort_by_key(|pair| pair.key);
        versions::rise_with_content(&view)?;
        for pair in &view.pairs {
            let sick = replicas::go_their_way(&view, pair)?;
            services::keep_serving(&view, pair, sick)?;
            places::moves(&view, pair)?;
            homes::hold(&view, pair)?;
            weights::stay_in_bounds(&view, pair)?;
            jobs::run_once(&view, pair)?;
        }
        replicas::ids_are_used_once(&view, all)?;
        services::patience(&view)?;
        services::brake(&view)?;
        nodes::hold_what_they_can(&view, &mut ledger)?;
        ledger.keep(input, outcome);
        self.ledger = Some(ledger);
        Ok(())
    }
}

/// One service before and after.
#[derive(Debug, Clone, Copy)]
struct Pair<'a> {
    key: &'a ServiceKey,
    old: Option<&'a Arc<ServicePlan>>,
    new: Option<&'a Arc<ServicePlan>>,
}

impl<'a> Pair<'a> {
    /// Nothing changed in it.
    fn same(&self) -> bool {
        match (self.old, self.new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        }
    }

    fn before(&self) -> impl Iterator<Item = &'a Arc<Replica>> + use<'a> {
        self.old.into_iter().flat_map(|old| old.replicas.values())
    }

    fn after(&self) -> impl Iterator<Item = &'a Arc<Replica>> + use<'a> {
        self.new.into_iter().flat_map(|new| new.replicas.values())
    }

    /// The same replica in the plan in force.
    fn was(&self, replica: &Replica) -> Option<&'a Arc<Replica>> {
        self.old?.replicas.get(&replica.id)
    }

    /// The same replica in the next plan.
    fn now(&self, replica: &Replica) -> Option<&'a Arc<Replica>> {
        self.new?.replicas.get(&replica.id)
    }
}

/// One edge of the cluster, as far as the check asks.
#[derive(Debug)]
struct Edge<'a> {
    seen: Option<&'a EdgeObserved>,
    connected: bool,
    /// It still holds things up: heard of within its lease.
    live: bool,
}

/// What a check looks at.
struct View<'a> {
    input: &'a PlanInput<'a>,
    outcome: &'a Outcome,
    /// The plan that was found good last; an empty one if none was.
    known: &'a Plan,
    /// In key order. Services that are not here are as they were, and so is what was seen of them.
    pairs: Vec<Pair<'a>>,
    edges: OnceCell<Vec<Edge<'a>>>,
}

impl<'a> View<'a> {
    /// Services whose entry is not the one in force.
    fn changed(&self) -> impl Iterator<Item = &Pair<'a>> {
        self.pairs.iter().filter(|pair| !pair.same())
    }

    fn edges(&self) -> &[Edge<'a>] {
        self.edges.get_or_init(|| {
            let nodes = self.input.desired.nodes.iter();
            let edges = nodes.filter(|(_, node)| node.roles.edge);
            edges.map(|(id, _)| edge(self.input, id)).collect()
        })
    }

    fn live_edges(&self) -> impl Iterator<Item = &Edge<'a>> {
        self.edges().iter().filter(|edge| edge.live)
    }

    fn lost(&self, replica: &Replica) -> bool {
        self.outcome.plan.lost.contains_key(&replica.node)
    }

    /// Its node is lost or no longer of the cluster.
    fn on_dead_node(&self, replica: &Replica) -> bool {
        self.lost(replica) || !self.input.desired.nodes.contains_key(&replica.node)
    }

    /// The controller still watches.
    fn watches(&self) -> bool {
        let until_ms = self.input.started_ms;
        self.input.now_ms < until_ms.saturating_add(self.input.config.observe_ms)
    }
}

fn edge<'a>(input: &PlanInput<'a>, id: &NodeId) -> Edge<'a> {
    let seen = input.observed.edges.get(id).map(|edge| &**edge);
    let session = seen.map(|edge| edge.session).unwrap_or_default();
    let contact_ms = session.last_echo_ms.max(session.since_ms);
    let connected = session_ok(input, &session);
    let watched_ms = input.started_ms.max(input.observed.watched_since_ms);
    let silent_ms = input.now_ms.saturating_sub(contact_ms.max(watched_ms));
    Edge {
        seen,
        connected,
        live: connected || silent_ms <= input.config.edge_lease_ms,
    }
}

fn session_ok(input: &PlanInput<'_>, session: &SessionObserved) -> bool {
    let contact = session.last_echo_ms.max(session.since_ms);
    session.connected && input.now_ms.saturating_sub(contact) <= input.config.session_timeout_ms
}

/// What a connected node with a working engine says of its replica.
fn heard(input: &PlanInput<'_>, replica: &Replica) -> Option<ReplicaState> {
    let seen = input.observed.nodes.get(&replica.node)?;
    let speaks = session_ok(input, &seen.session) && seen.engine == EngineState::Ok;
    let status = seen.replicas.get(&replica.id).filter(|_| speaks)?;
    Some(status.state)
}

/// Does a route of the service lead to the replica?
fn leads(service: Option<&Arc<ServicePlan>>, replica: &Replica) -> bool {
    service.is_some_and(|service| {
        service.routes.iter().any(|route| {
            let mut ports = replica.ports.iter();
            ports.any(|port| port.container_port == route.container_port)
        })
    })
}
