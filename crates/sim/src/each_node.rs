//! Services with one replica on each node, and the judges of where they are: seeds from six million
//! on.

use longshore_model::job::Job;
use longshore_model::node::Availability;
use longshore_model::observe::EngineState;
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::LeaveReason;
use longshore_model::{AutoscaleMode, NodeId, Plan, ServiceKey};

use crate::adapter::{self, Wish};
use crate::judge_plan::Commit;
use crate::policies::Policies;
use crate::users::Service;
use crate::world::World;

impl World {
    /// With what only these seeds have.
    pub(crate) fn enrich_global(&mut self, usual: Wish) -> Wish {
        let global = self.dice.one_in(2);
        if !global {
            return usual;
        }
        Wish {
            scaling: None,
            warm: 0,
            policies: Policies {
                global,
                mode: AutoscaleMode::On,
                shift: None,
                max_per_node: 0,
                packs: false,
                to_zero: false,
                gives_back: false,
                ..usual.policies
            },
            ..usual
        }
    }
}

fn staying(plan: &Plan, service: &Service, node: &NodeId) -> usize {
    let there = adapter::of_service(plan, &service.key);
    there
        .filter(|r| r.leaving.is_none() && r.node == *node)
        .count()
}

/// What is not as it must be while everybody acts: a drained node has one left, or a node that
/// takes the service has none although nothing is in the way.
pub(crate) fn off(world: &World, commit: &Commit<'_>, service: &Service) -> Option<String> {
    let wish = service.wish.as_ref().filter(|w| w.policies.global)?;
    let view = commit.cluster.view();
    view.desired.service(&service.key)?;
    commit.after.services.get(&service.key)?;
    let failing = adapter::failures(commit.after, &service.key).is_some();
    let waits = adapter::unplaceable(&view.report, &service.key);
    // Of the old one, while nobody follows yet, nothing stays.
    let exchanges = adapter::of_service(commit.after, &service.key)
        .any(|r| r.leaving.as_ref().is_some_and(|l| l.reason.is_exchange()));
    // Its first ones wait for the job that goes first, and go without one that fails.
    let job = adapter::job(commit.after, &service.key);
    let first = wish.job.is_some() && !job.is_some_and(Job::completed);
    let whole = !(failing || waits || exchanges || wish.impossible || first);
    // One that comes and goes gets it once it has stayed.
    let losses = |id: &NodeId| commit.after.flaps.get(id).map_or(0, |flaps| flaps.losses);
    let flaps = |id: &NodeId| losses(id) > 1;
    for (id, node) in view.desired.nodes.iter().filter(|(_, n)| n.roles.worker) {
        let seen = adapter::node_seen(commit.observed, id);
        let speaks = seen.is_some_and(|s| commit.alive(&s.session) && s.engine == EngineState::Ok);
        let count = staying(commit.after, service, id);
        match node.availability {
            Availability::Draining if speaks && count > 0 => {
                return Some(format!("{count} stay on {id}, which is drained"));
            }
            Availability::Active
                if speaks
                    && count == 0
                    && !flaps(id)
                    && whole
                    && !holds_port(commit, service, id)
                    && !world.rolled(commit, service) =>
            {
                return Some(format!("{id} has none"));
            }
            _ => {}
        }
    }
    None
}

/// Does one that is on its way out still hold the host port of the service on that node? Two
/// cannot have it, and its sessions have their time also where they are in the way of the next one
/// (taken away and asked for again, drained and opened again). It needs no word of the planner's:
/// what leaves is in the plan, and users are shown it with what keeps it.
fn holds_port(commit: &Commit<'_>, service: &Service, node: &NodeId) -> bool {
    let mut there = adapter::of_service(commit.after, &service.key);
    there.any(|replica| {
        let ports = adapter::fixed_ports(commit.after, replica);
        replica.leaving.is_some() && replica.node == *node && ports > 0
    })
}

impl World {
    /// Do its users ask for one on each node?
    pub(crate) fn is_global(&self, key: &ServiceKey) -> bool {
        let service = self.users.of(key);
        let wish = service.and_then(|service| service.wish.as_ref());
        wish.is_some_and(|wish| wish.policies.global)
    }

    /// Was what users ask for by now given up for an older revision? Whether that can be anywhere
    /// follows from what it says.
    fn rolled(&self, commit: &Commit<'_>, service: &Service) -> bool {
        adapter::rolled_back(commit.after, &service.key)
            || adapter::rollout_stopped(commit.after, &service.key)
    }
}

/// What leaves of such a service by choice makes way for one that is in the routes on the same
/// node, or its node takes it no longer: neither is a matter of how many others serve. Else it
/// stops first, and counts as elsewhere.
pub(crate) fn is_excused(
    world: &World,
    commit: &Commit<'_>,
    replica: &Replica,
    found: &mut Vec<String>,
) -> bool {
    if !world.is_global(&replica.service) {
        return false;
    }
    if replica
        .leaving
        .as_ref()
        .is_some_and(|l| l.reason == LeaveReason::NodeDrain)
    {
        let desired = &commit.cluster.view().desired;
        let node = desired.nodes.get(&replica.node);
        if node.is_some_and(|node| node.availability != Availability::Draining) {
            let (id, node) = (replica.id, &replica.node);
            found.push(format!("{id} leaves {node}, which is not drained"));
        }
        return true;
    }
    adapter::of_service(commit.after, &replica.service).any(|other| {
        other.node == replica.node && other.leaving.is_none() && other.traffic == Traffic::Serve
    })
}

/// After the calm: exactly one on each worker.
pub(crate) fn uneven(world: &World, plan: &Plan, service: &Service, wish: &Wish) -> Option<String> {
    if !wish.policies.global {
        return None;
    }
    let workers = world.hosts.iter().filter(|host| host.worker);
    let mut wrong = workers.filter_map(|host| {
        let count = staying(plan, service, &host.id);
        let of = &service.key;
        (count != 1).then(|| format!("{of}: {count} on {}", host.id))
    });
    wrong.next()
}
