//! Judges of what is given back for want of samples, of how many share a node (seeds from four
//! million on), and of what a node gets that comes and goes.

use longshore_model::observe::{EngineState, NodeObserved};
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::LeaveReason;
use longshore_model::{Availability, Node, NodeId, ServiceKey};

use crate::adapter;
use crate::judge_plan::Commit;
use crate::world::World;

/// On silence only what does not serve may be given back, and nothing while the controller watches.
pub(crate) fn judge_given_back(
    world: &World,
    commit: &Commit<'_>,
    key: &ServiceKey,
    is: u32,
    found: &mut Vec<String>,
) {
    // One that starts again after a crash may still be in the routes.
    let served = |was: &&Replica| {
        was.leaving.is_none() && was.traffic == Traffic::Serve && world.serves(was)
    };
    // What went out of the routes with this very run for another reason did not serve.
    let goes_on = |was: &&Replica| {
        let now = adapter::replica(commit.after, was.id);
        now.is_some_and(|now| match &now.leaving {
            None => now.traffic == Traffic::Serve,
            Some(leaving) => leaving.reason == LeaveReason::ScaleIn,
        })
    };
    let before = adapter::of_service(commit.before, key);
    let serving = before.filter(served).filter(goes_on).count();
    if (is as usize) < serving {
        found.push(format!(
            "{key}: {serving} serve, {is} are left for want of samples"
        ));
    }
    if commit.observing() {
        found.push(format!("{key}: given back while observing"));
    }
}

impl World {
    /// 8: what is new makes no more on its node than its file allows. Standbys take places too.
    pub(crate) fn judge_crowding(
        &self,
        commit: &Commit<'_>,
        fresh: &[&Replica],
        found: &mut Vec<String>,
    ) {
        for new in fresh {
            let service = self.users.of(&new.service);
            let most = service.map_or(0, |service| service.usual.policies.max_per_node);
            let there = adapter::of_service(commit.after, &new.service)
                .filter(|other| other.node == new.node && other.leaving.is_none())
                .count();
            if most > 0 && there > most as usize {
                found.push(format!(
                    "{}: {there} on {}, {most} may be",
                    new.service, new.node
                ));
            }
        }
    }

    /// A node that was lost again and again gets nothing new until it has stayed; only where no other
    /// node takes any, it does.
    pub(crate) fn judge_flapping(
        &mut self,
        commit: &Commit<'_>,
        fresh: &[&Replica],
        found: &mut Vec<String>,
    ) {
        let (now_ms, config) = (commit.now_ms, &commit.cluster.config.planner);
        let (was, is) = (&commit.before.lost, &commit.after.lost);
        let losses = &mut self.truth.losses;
        for node in is.keys().filter(|node| !was.contains_key(*node)) {
            let entry = losses.entry(node.clone()).or_default();
            *entry = (entry.0 + 1, None);
        }
        for node in was.keys().filter(|node| !is.contains_key(*node)) {
            if let Some((_, back_ms)) = losses.get_mut(node) {
                *back_ms = Some(now_ms);
            }
        }
        // Its return was committed by a process that died before it could say so.
        losses.retain(|node, (_, back_ms)| back_ms.is_some() || is.contains_key(node));
        let stayed = |back_ms: u64, for_ms: u64| now_ms.saturating_sub(back_ms) >= for_ms;
        losses.retain(|_, (_, back_ms)| {
            *back_ms = back_ms.map(|back_ms| back_ms.min(now_ms));
            back_ms.is_none_or(|back_ms| !stayed(back_ms, config.flap_forget_ms))
        });
        let penalty_ms = |losses: u32| match losses {
            0 | 1 => 0,
            2 => config.flap_penalty_base_ms,
            3 => 2 * config.flap_penalty_base_ms,
            _ => config
                .flap_penalty_cap_ms
                .min(4 * config.flap_penalty_base_ms),
        };
        let held_back = |node: &NodeId| {
            losses.get(node).is_some_and(|(losses, back_ms)| {
                back_ms.is_some_and(|back_ms| !stayed(back_ms, penalty_ms(*losses)))
            })
        };
        let desired = &commit.cluster.view().desired;
        let takes = |node: &Node| {
            let seen = adapter::node_seen(commit.observed, &node.id);
            let speaks =
                |seen: &NodeObserved| commit.alive(&seen.session) && seen.engine == EngineState::Ok;
            let open = node.roles.worker && node.availability == Availability::Active;
            open && seen.is_some_and(speaks)
        };
        let mut others = desired.nodes.values().filter(|node| !held_back(&node.id));
        if !others.any(takes) {
            return;
        }
        for new in fresh.iter().filter(|new| held_back(&new.node)) {
            found.push(format!("{} is placed on {}, which flaps", new.id, new.node));
        }
    }
}
