//! What each replica may become: ids, the routes, the way out.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::observe::CheckState;
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::LeaveReason;
use longshore_model::replica::ReplicaState;
use longshore_model::{ReplicaId, ServiceKey};

use super::{Pair, Verdict, View, Violation, demand, heard, leads, places};

/// 9: ids are used once. A replica that was planned before has its id by right: `identities`
/// finds it under the same service.
pub(super) fn ids_are_used_once(view: &View<'_>, all: bool) -> Verdict {
    let (old, new) = (view.input.current, &view.outcome.plan);
    let rises = new.next_replica >= old.next_replica;
    demand(rises, 9, || format!("next id fell to {}", new.next_replica))?;
    let mut ids: Vec<ReplicaId> = Vec::new();
    for pair in &view.pairs {
        let fresh = pair.after().filter(|now| all || pair.was(now).is_none());
        ids.extend(fresh.map(|now| now.id));
    }
    ids.sort_unstable();
    let twice = ids.windows(2).find(|pair| pair[0] == pair[1]);
    demand(twice.is_none(), 9, || format!("{twice:?} in two services"))
}

/// All rules about the replicas of one service. Gives the first one that stays in the routes
/// although its health is in doubt.
pub(super) fn go_their_way<'a>(
    view: &View<'a>,
    pair: &Pair<'a>,
) -> Result<Option<&'a Replica>, Violation> {
    identities(view, pair)?;
    let mut sick = None;
    for now in pair.after() {
        let was = pair.was(now);
        let heard = served_only_if_healthy(view, was, now)?;
        let stays = now.leaving.is_none() && now.traffic == Traffic::Serve;
        let doubt = [ReplicaState::Unhealthy, ReplicaState::Starting];
        if sick.is_none() && stays && heard.is_some_and(|state| doubt.contains(&state)) {
            sick = Some(&**now);
        }
        way_out(view, pair, was, now)?;
        places::standby(view, was, now)?;
    }
    let gone = pair.before().filter(|was| pair.now(was).is_none());
    for was in gone {
        removed_only_if_gone(view, was)?;
    }
    Ok(sick)
}

/// Ids are used once; what a replica is never changes; leaving and stop are never taken back.
fn identities(view: &View<'_>, pair: &Pair<'_>) -> Verdict {
    let (old, new) = (view.input.current, &view.outcome.plan);
    let Some(service) = pair.new else {
        return Ok(());
    };
    let mut slots: BTreeSet<u32> = BTreeSet::new();
    for (id, now) in &service.replicas {
        demand(now.service == *pair.key, 9, || of_another(*id, pair.key))?;
        let known = service.templates.contains_key(&now.template);
        demand(known && now.id == *id, 9, || {
            format!("{id} has no template")
        })?;
        let unique = now.leaving.is_some() || slots.insert(now.slot);
        demand(unique, 9, || {
            format!("{id}: slot {} of {} twice", now.slot, now.service)
        })?;
        let Some(was) = pair.was(now) else {
            let fresh = id.0 >= old.next_replica && id.0 < new.next_replica;
            demand(fresh, 9, || format!("id {id} used again"))?;
            let quiet = now.traffic == Traffic::Out && now.leaving.is_none() && !now.stop;
            demand(quiet, 9, || format!("{id} is born with a past"))?;
            continue;
        };
        if Arc::ptr_eq(was, now) {
            continue;
        }
        let same = now.service == was.service
            && now.node == was.node
            && now.slot == was.slot
            && now.template == was.template
            && now.ports == was.ports
            && now.created_ms == was.created_ms
            && now.address == was.address;
        demand(same, 9, || format!("{id} became another"))?;
        let kept = match (&was.leaving, &now.leaving) {
            // Where the clock was put back, it leaves since now.
            (Some(was), Some(now)) => {
                let since_ms = was.since_ms.min(view.input.now_ms);
                was.reason == now.reason && since_ms == now.since_ms
            }
            (was, _) => was.is_none(),
        };
        demand(kept && (now.stop || !was.stop), 9, || {
            format!("{id} was called back")
        })?;
    }
    Ok(())
}

fn of_another(id: ReplicaId, key: &ServiceKey) -> String {
    format!("{id} of {key} says that it is of another service")
}

/// 1: into the routes only when reported healthy; not left there when known not to be. Gives what
/// its node says of one that is in a route.
fn served_only_if_healthy(
    view: &View<'_>,
    was: Option<&Arc<Replica>>,
    now: &Replica,
) -> Result<Option<ReplicaState>, Violation> {
    let was = was.map_or(Traffic::Out, |was| was.traffic);
    let stays = now.leaving.is_none();
    if now.traffic == Traffic::Out && (was == Traffic::Out || !stays) {
        return Ok(None);
    }
    let heard = heard(view.input, now);
    let aside = stays && is_aside(view, now);
    let fine = match (was, now.traffic) {
        // Sessions that nobody counts would be cut when it stops.
        (_, Traffic::Out) => false,
        // One in doubt may stay in need: see `sick_ones_stay_only_in_need`.
        (_, Traffic::Serve) if aside => false,
        (Traffic::Serve, Traffic::Serve) => match heard {
            None | Some(ReplicaState::Healthy | ReplicaState::Unhealthy) => true,
            Some(ReplicaState::Starting) => is_proven_anew(view, now),
            Some(_) => false,
        },
        (_, Traffic::Serve) => heard == Some(ReplicaState::Healthy) && stays,
        (Traffic::Serve, Traffic::Drain) => {
            !stays || aside || heard.is_some_and(|state| state != ReplicaState::Healthy)
        }
        (Traffic::Drain, Traffic::Drain) => !stays || aside || heard != Some(ReplicaState::Healthy),
        (Traffic::Out, Traffic::Drain) => false,
    };
    demand(fine, 1, || {
        format!("{}: {was:?} -> {:?}, heard {heard:?}", now.id, now.traffic)
    })?;
    Ok(heard)
}

/// Does an operator keep it out of the routes?
fn is_aside(view: &View<'_>, replica: &Replica) -> bool {
    let aside = view.input.desired.aside.get(&replica.service);
    aside.is_some_and(|aside| aside.contains_key(&replica.id))
}

/// Its agent says nothing of a start after it was in the routes, and an edge reaches it.
fn is_proven_anew(view: &View<'_>, replica: &Replica) -> bool {
    let node = view.input.observed.nodes.get(&replica.node);
    let status = node.and_then(|seen| seen.replicas.get(&replica.id));
    let began = status.is_some_and(|status| status.reason.is_some());
    let mut edges = view.edges().iter().filter_map(|edge| edge.seen);
    let reached = edges.any(|seen| {
        let server = seen.server(&replica.service, replica.id);
        server.is_some_and(|server| server.check == CheckState::Up)
    });
    !began && reached
}

fn edges_run(view: &View<'_>, generation: u64) -> bool {
    let mut edges = view.live_edges();
    edges.all(|edge| {
        edge.seen
            .is_some_and(|seen| seen.routes_generation >= generation)
    })
}

fn no_sessions(view: &View<'_>, replica: &Replica) -> bool {
    view.live_edges().all(|edge| {
        let server = edge
            .seen
            .and_then(|seen| seen.server(&replica.service, replica.id));
        let refused = edge
            .seen
            .is_some_and(|seen| seen.refused.contains_key(&replica.service));
        // Who does not list it says nothing of its sessions.
        server.map_or(refused, |server| server.is_over())
    })
}

/// Did it leave because nothing answers there any more?
pub(super) fn dead(reason: &LeaveReason) -> bool {
    matches!(reason, LeaveReason::Failed { .. } | LeaveReason::NodeLost)
}

/// 2: parked only when drained, stopped only when parked; both without waiting past the deadline.
fn way_out(
    view: &View<'_>,
    pair: &Pair<'_>,
    was: Option<&Arc<Replica>>,
    now: &Arc<Replica>,
) -> Verdict {
    let Some(leaving) = &now.leaving else {
        return demand(!now.stop, 2, || format!("{} stops without leaving", now.id));
    };
    if was.is_some_and(|was| Arc::ptr_eq(was, now)) {
        return Ok(());
    }
    let input = view.input;
    let was_in = was.is_some_and(|was| was.traffic != Traffic::Out && leads(pair.old, was));
    let late = input.now_ms >= leaving.deadline_ms;
    if was_in && now.traffic == Traffic::Out && !dead(&leaving.reason) {
        let was_draining = was.is_some_and(|was| was.traffic == Traffic::Drain);
        let drained =
            was_draining && edges_run(view, leaving.drain_generation) && no_sessions(view, now);
        let sick = heard(input, now).is_some_and(|state| state != ReplicaState::Healthy);
        let lost = view.on_dead_node(now);
        let forgiven = late || sick || lost || view.live_edges().next().is_none();
        let fine = drained || forgiven;
        demand(fine, 2, || format!("{} parked with sessions", now.id))?;
    }
    if now.stop && was.is_some_and(|was| !was.stop) {
        demand(now.traffic == Traffic::Out, 2, || {
            format!("{} stops in traffic", now.id)
        })?;
        let too_late = leaving
            .deadline_ms
            .saturating_add(input.config.park_grace_ms);
        let parked = !leads(pair.old, now) || edges_run(view, leaving.park_generation);
        let fine = parked || input.now_ms >= too_late;
        demand(fine, 2, || {
            format!("{} stops before every edge is without it", now.id)
        })?;
        let has_park = !was_in || leaving.park_generation > input.current.routes_generation;
        demand(has_park, 2, || format!("{} was never parked", now.id))?;
    }
    Ok(())
}

/// 2: forgotten only when its node said so, or is lost.
fn removed_only_if_gone(view: &View<'_>, was: &Replica) -> Verdict {
    if view.on_dead_node(was) {
        return Ok(());
    }
    let stop_generation = was
        .leaving
        .as_ref()
        .map_or(0, |leaving| leaving.stop_generation);
    let seen = view.input.observed.nodes.get(&was.node);
    let gone = seen.is_some_and(|seen| {
        let listed = seen.replicas.get(&was.id).map(|status| status.state);
        seen.assignment_generation >= stop_generation
            && listed.is_none_or(|state| state == ReplicaState::Gone)
    });
    demand(was.stop && gone, 2, || {
        format!("{} forgotten while it may run", was.id)
    })
}
