//! What the check knows of standbys, moves and forced drains.

use std::sync::Arc;

use longshore_model::ServiceSpec;
use longshore_model::observe::CheckState;
use longshore_model::plan::{Move, Replica, Traffic};
use longshore_model::reason::LeaveReason;

use super::services::counts_as_serving;
use super::{Pair, Verdict, View, demand};

/// Standbys serve nobody, nothing becomes one, and one that goes on is proven anew.
pub(super) fn standby(view: &View<'_>, was: Option<&Arc<Replica>>, now: &Replica) -> Verdict {
    let id = now.id;
    demand(!now.paused || now.traffic == Traffic::Out, 1, || {
        format!("{id} is paused and in a route")
    })?;
    let became = now.paused && was.is_some_and(|was| !was.paused);
    demand(!became, 1, || format!("{id} became a standby"))?;
    let Some(was) = was else { return Ok(()) };
    let forgot = was.paused && !now.paused && now.woken.is_none();
    demand(!forgot, 1, || format!("{id} goes on unproven"))?;
    let proven = was.woken.is_some() && now.woken.is_none();
    let heard = || {
        let seen = view.input.observed.nodes.get(&now.node);
        was.woken.is_none_or(|woken| {
            seen.is_some_and(|seen| seen.assignment_generation >= woken.generation)
        })
    };
    demand(!proven || heard(), 1, || {
        format!("{id} is proven by what its node said before it went on")
    })?;
    let enters = was.traffic == Traffic::Out && now.traffic == Traffic::Serve;
    demand(!enters || now.woken.is_none(), 1, || {
        format!("{id} serves before it is proven anew")
    })
}

/// Does it leave because its node's drain ran out of time?
pub(super) fn is_forced(replica: &Replica) -> bool {
    let leaving = replica.leaving.as_ref();
    leaving.is_some_and(|l| l.reason == LeaveReason::NodeDrainForced)
}

/// Is it a new one of a rollout, given up since no edge reaches it? Its successor may have to wait,
/// as after a crash.
pub(super) fn is_shut_out(view: &View<'_>, pair: &Pair<'_>, replica: &Replica) -> bool {
    let leaving = replica.leaving.as_ref();
    let rollout = pair.old.and_then(|service| service.rollout.as_ref());
    let is_new = rollout.is_some_and(|rollout| rollout.to == replica.template);
    let mut checks = view.edges().iter().filter_map(|edge| {
        let server = edge.seen?.server(&replica.service, replica.id)?;
        Some(server.check)
    });
    is_new
        && leaving.is_some_and(|l| l.reason == LeaveReason::Unreachable)
        && !checks.any(|check| check == CheckState::Up)
}

/// Those that leave because their node's drain was to be forced at its deadline, which has passed.
pub(super) fn forced(
    view: &View<'_>,
    spec: &ServiceSpec,
    given: &[&Replica],
) -> Result<usize, super::Violation> {
    let input = view.input;
    let forced = given.iter().filter(|replica| is_forced(replica));
    for replica in forced.clone() {
        let node = input.desired.nodes.get(&replica.node);
        let order = node.and_then(|node| node.drain);
        let may = order.is_some_and(|order| {
            // Ordered before the clock was put back: its time began at the latest with the start.
            let old = order.since_ms > input.now_ms;
            let begun_ms = if old {
                input.started_ms
            } else {
                order.since_ms
            };
            let within_ms = order.deadline_ms.saturating_sub(order.since_ms);
            // What its data holds there has nowhere to go.
            let held = super::homes::is_home(view, spec, &replica.node);
            order.force && (held || input.now_ms >= begun_ms.saturating_add(within_ms))
        });
        demand(may, 3, || {
            format!("{} is forced out without an order", replica.id)
        })?;
    }
    Ok(forced.count())
}

/// Replicas on the move in the whole plan.
fn on_the_way(plan: &longshore_model::Plan) -> usize {
    let planned: usize = plan.services.values().map(|s| s.moves.len()).sum();
    planned + plan.replicas().filter(|r| is_moved(r)).count()
}

fn is_moved(replica: &Replica) -> bool {
    let leaving = replica.leaving.as_ref();
    leaving.is_some_and(|l| l.reason == LeaveReason::Rebalanced)
}

/// No more replicas move at once than allowed, none begins while the controller watches, and none
/// leaves before its successor serves.
pub(super) fn moves(view: &View<'_>, pair: &Pair<'_>) -> Verdict {
    if pair.same() {
        return Ok(());
    }
    let (key, input) = (pair.key, view.input);
    let new = |m: &&Move| pair.old.is_none_or(|old| !old.moves.contains(m));
    let begun = pair
        .new
        .and_then(|service| service.moves.iter().find(|m| new(m)));
    if let Some(begun) = begun {
        demand(!view.watches(), 4, || {
            format!("{} moves while the controller still watches", begun.replica)
        })?;
        let most = input.config.rebalance_moves_max;
        let now = on_the_way(&view.outcome.plan);
        demand(now <= most as usize, 3, || {
            format!("{key}: {now} replicas move at once, at most {most} may")
        })?;
    }
    for now in pair.after().filter(|now| is_moved(now)) {
        let Some(was) = pair.was(now).filter(|was| was.leaving.is_none()) else {
            continue;
        };
        let successor = pair.old.and_then(|planned| {
            let of = planned.moves.iter().find(|m| m.replica == was.id)?;
            pair.new?.replicas.get(&of.successor)
        });
        let served = successor.is_some_and(|s| counts_as_serving(view, pair, s, true));
        demand(served, 3, || {
            format!("{} moves before its successor serves", now.id)
        })?;
    }
    Ok(())
}
