//! What the judges remember: the life of every replica that was ever committed, what agents were
//! seen to obey, and what was ever reported.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use longshore_model::plan::Traffic;
use longshore_model::reason::LeaveReason;
use longshore_model::{
    Assignment, NodeId, Plan, Replica, ReplicaId, Routes, ServiceKey, TemplateId,
};
use longshore_wire::Fence;

use crate::adapter;
use crate::event::HostNo;

/// One replica, from its first commit on.
#[derive(Debug, Clone)]
pub struct Life {
    /// Its service.
    pub service: ServiceKey,
    /// Its node.
    pub node: NodeId,
    /// What it runs.
    pub template: TemplateId,
    /// The plan in force has it.
    pub planned: bool,
    /// A committed plan told its node to stop it.
    pub stop: bool,
    /// Its part in the routes.
    pub traffic: Traffic,
    /// Why it leaves, and by when its sessions must be over.
    pub leaving: Option<(LeaveReason, u64)>,
    /// Since when it has been given up as failed.
    pub failed_ms: Option<u64>,
    /// By then it was: a clock that is put back later does not take that back.
    pub over: bool,
    /// Edges that nobody waits for when it stops.
    pub pardon: Pardon,
    /// When its node was last called lost.
    pub lost_at: Option<u64>,
    /// When another one of its service was first in the routes after that.
    pub made_up_at: Option<u64>,
    /// Where it answers.
    pub addresses: Vec<SocketAddr>,
}

/// Whom a stop need not wait for.
#[derive(Debug, Clone, Default)]
pub struct Pardon {
    /// Nobody: it is dead, or its time is over.
    pub all: bool,
    /// Edges whose lease was over.
    pub edges: BTreeSet<HostNo>,
}

impl Life {
    /// Of a replica that is new in a plan.
    #[must_use]
    pub fn new(replica: &Replica) -> Self {
        Self {
            service: replica.service.clone(),
            node: replica.node.clone(),
            template: replica.template.clone(),
            planned: true,
            stop: false,
            traffic: Traffic::Out,
            leaving: None,
            failed_ms: None,
            over: false,
            pardon: Pardon::default(),
            lost_at: None,
            made_up_at: None,
            addresses: replica
                .ports
                .iter()
                .map(|port| SocketAddr::new(replica.address, port.host_port))
                .collect(),
        }
    }
}

/// The last commands that one agent obeyed.
#[derive(Debug, Clone, Default)]
pub struct Obeyed {
    /// Highest fence.
    pub fence: Fence,
    /// Last assignment.
    pub assignment: Option<Arc<Assignment>>,
    /// Last routes.
    pub routes: Option<Arc<Routes>>,
}

/// What is tried: a template of a service; of one on each node, there.
pub type Tried = (ServiceKey, TemplateId, Option<NodeId>);

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    /// Every replica that was ever committed.
    pub lives: BTreeMap<ReplicaId, Life>,
    /// What agents obeyed.
    pub obeyed: BTreeMap<HostNo, Obeyed>,
    /// When replicas of a template were planned.
    pub planned_at: BTreeMap<Tried, Vec<u64>>,
    /// Starts of each replica's container.
    pub starts: BTreeMap<ReplicaId, Vec<u64>>,
    /// Replicas that the controller has ever heard to be healthy.
    healthy: BTreeSet<ReplicaId>,
    lost_ledgers: BTreeSet<HostNo>,
    /// When the controller last heard a number from outside, since its start.
    pub outside: BTreeMap<ServiceKey, u64>,
    /// When each edge's HAProxy said what the controller last heard of it.
    pub read_at: BTreeMap<HostNo, u64>,
    /// Since when counts have been where they may not be.
    pub outside_bounds: BTreeMap<ServiceKey, u64>,
    /// Words of users that a count has followed.
    pub followed: BTreeSet<(ServiceKey, Word, u64)>,
    /// Batches that gates watch.
    pub watches: BTreeMap<ServiceKey, Watch>,
    /// Runs of jobs of which a container has ended with 0.
    pub jobs_done: BTreeSet<(ServiceKey, TemplateId)>,
    /// Where the data of volumes is: where a container with it started first.
    pub volumes: BTreeMap<String, HostNo>,
    /// Hosts that are no nodes of the cluster: what runs there is nobody's.
    pub left: BTreeSet<HostNo>,
    /// What was answered of late.
    pub answers: VecDeque<Answered>,
    /// Nodes that were lost: how often since they last stayed for long, and since when they are
    /// back by the controller's clock.
    pub losses: BTreeMap<NodeId, (u32, Option<u64>)>,
}

/// What a user said of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Scale to it.
    Scale,
    /// Yes.
    Agree,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// When it was asked for.
    pub began_at: u64,
    /// When it was over.
    pub at: u64,
    /// Through which edge, and which process there.
    pub edge: HostNo,
    /// Its worker.
    pub pid: u32,
    /// By whom.
    pub replica: ReplicaId,
    /// With an error.
    pub wrong: bool,
}

/// A batch that a gate watches.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Since when all new ones serve, by the controller's clock.
    pub since_ms: u64,
    /// The same, by the simulation's.
    pub since_at: u64,
    /// Whose counters were known then: edge, its worker, replica.
    pub known: BTreeSet<(HostNo, u32, ReplicaId)>,
}

/// Answers are remembered for so long.
const ANSWERS_MS: u64 = 30_000;

impl Truth {
    /// A request was answered.
    pub fn answered(&mut self, answer: Answered) {
        let old = |first: &Answered| first.at + ANSWERS_MS < answer.at;
        while self.answers.front().is_some_and(old) {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
    }

    /// The container of a job's replica has ended with 0.
    pub fn done(&mut self, replica: ReplicaId) {
        if let Some(life) = self.lives.get(&replica) {
            let run = (life.service.clone(), life.template.clone());
            self.jobs_done.insert(run);
        }
    }

    /// The controller hears of healthy replicas.
    pub fn reported(&mut self, healthy: impl Iterator<Item = ReplicaId>) {
        self.healthy.extend(healthy);
    }

    /// A plan has come into force: what is lost is made up for once another one serves.
    pub fn make_up(&mut self, plan: &Plan, now: u64) {
        let lost = self.lives.values_mut();
        for life in lost.filter(|life| life.lost_at.is_some() && life.made_up_at.is_none()) {
            let serves = adapter::of_service(plan, &life.service)
                .any(|replica| replica.leaving.is_none() && replica.traffic == Traffic::Serve);
            life.made_up_at = serves.then_some(now);
        }
    }

    /// Is it given up, and does nobody wait for this edge, whose list may still have it?
    #[must_use]
    pub fn given_up(&self, at: SocketAddr, edge: HostNo) -> bool {
        let mut lives = self.lives.values().rev();
        let newest = lives.find(|life| life.addresses.contains(&at));
        newest.is_some_and(|life| {
            let pardoned = life.pardon.all || life.pardon.edges.contains(&edge);
            pardoned && (life.stop || !life.planned)
        })
    }

    /// Was it ever heard to be healthy?
    #[must_use]
    pub fn was_reported(&self, id: ReplicaId) -> bool {
        self.healthy.contains(&id)
    }

    /// An agent started, with or without its ledger: without it, nobody can hold it to its past.
    pub fn ledger_lost(&mut self, host: HostNo, lost: bool) {
        if lost {
            self.obeyed.remove(&host);
            self.lost_ledgers.insert(host);
        }
    }

    /// Has this agent ever lost its ledger?
    #[must_use]
    pub fn has_lost_ledger(&self, host: HostNo) -> bool {
        self.lost_ledgers.contains(&host)
    }
}
