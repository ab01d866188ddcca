//! What the check knows of standbys, moves and forced drains.

use std::sync::Arc;

use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::LeaveReason;

use super::{Verdict, counts_as_serving, demand, same_in};
use crate::{Outcome, PlanInput};

/// Standbys serve nobody, nothing becomes one, and one that goes on is proven anew.
pub(super) fn standbys(input: &PlanInput<'_>, outcome: &Outcome) -> Verdict {
    for now in outcome.plan.replicas() {
        let (id, was) = (now.id, same_in(input.current, now));
        demand(!now.paused || now.traffic == Traffic::Out, 1, || {
            format!("{id} is paused and in a route")
        })?;
        let became = now.paused && was.is_some_and(|was| !was.paused);
        demand(!became, 1, || format!("{id} became a standby"))?;
        let Some(was) = was else { continue };
        let forgot = was.paused && !now.paused && now.woken.is_none();
        demand(!forgot, 1, || format!("{id} goes on unproven"))?;
        let proven = was.woken.is_some() && now.woken.is_none();
        let seen = input.observed.nodes.get(&now.node);
        let heard = was.woken.is_none_or(|woken| {
            seen.is_some_and(|seen| seen.assignment_generation >= woken.generation)
        });
        demand(!proven || heard, 1, || {
            format!("{id} is proven by what its node said before it went on")
        })?;
        let enters = was.traffic == Traffic::Out && now.traffic == Traffic::Serve;
        demand(!enters || now.woken.is_none(), 1, || {
            format!("{id} serves before it is proven anew")
        })?;
    }
    Ok(())
}

/// Does it leave because its node's drain ran out of time?
pub(super) fn is_forced(replica: &Replica) -> bool {
    let leaving = replica.leaving.as_ref();
    leaving.is_some_and(|l| l.reason == LeaveReason::NodeDrainForced)
}

/// Those that leave because their node's drain was to be forced at its deadline, which has passed.
pub(super) fn forced(input: &PlanInput<'_>, given: &[&Replica]) -> Result<usize, super::Violation> {
    let forced = given.iter().filter(|replica| is_forced(replica));
    for replica in forced.clone() {
        let node = input.desired.nodes.get(&replica.node);
        let order = node.and_then(|node| node.drain);
        let may = order.is_some_and(|order| order.force && input.now_ms >= order.deadline_ms);
        demand(may, 3, || {
            format!("{} is forced out without an order", replica.id)
        })?;
    }
    Ok(forced.count())
}

/// No more replicas move at once than allowed, none begins while the controller watches, and none
/// leaves before its successor serves.
pub(super) fn moves(input: &PlanInput<'_>, outcome: &Outcome) -> Verdict {
    let on_the_way = |plan: &longshore_model::Plan| {
        let planned: usize = plan.services.values().map(|s| s.moves.len()).sum();
        let leaves = |r: &&Arc<Replica>| {
            let leaving = r.leaving.as_ref();
            leaving.is_some_and(|l| l.reason == LeaveReason::Rebalanced)
        };
        planned + plan.replicas().filter(leaves).count()
    };
    for (key, service) in &outcome.plan.services {
        let before = input.current.services.get(key);
        let new = |m: &&longshore_model::plan::Move| {
            before.is_none_or(|before| !before.moves.contains(m))
        };
        let Some(begun) = service.moves.iter().find(new) else {
            continue;
        };
        let watching = input.now_ms < input.started_ms.saturating_add(input.config.observe_ms);
        demand(!watching, 4, || {
            format!("{} moves while the controller still watches", begun.replica)
        })?;
        let (most, now) = (input.config.rebalance_moves_max, on_the_way(&outcome.plan));
        demand(now <= most as usize, 3, || {
            format!("{key}: {now} replicas move at once, at most {most} may")
        })?;
    }
    for now in outcome.plan.replicas() {
        let moved = now
            .leaving
            .as_ref()
            .filter(|l| l.reason == LeaveReason::Rebalanced);
        let was = same_in(input.current, now).filter(|was| was.leaving.is_none());
        let (Some(_), Some(was)) = (moved, was) else {
            continue;
        };
        let service = outcome.plan.services.get(&now.service);
        let planned = input.current.services.get(&now.service);
        let successor = planned.and_then(|planned| {
            let of = planned.moves.iter().find(|m| m.replica == was.id)?;
            service?.replicas.get(&of.successor)
        });
        let lost = |r: &Replica| outcome.plan.lost.contains_key(&r.node);
        let served = successor.is_some_and(|s| counts_as_serving(input, outcome, lost(s), s));
        demand(served, 3, || {
            format!("{} moves before its successor serves", now.id)
        })?;
    }
    Ok(())
}
