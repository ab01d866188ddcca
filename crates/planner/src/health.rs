//! What each replica is like, and from that its part in the routes.

use longshore_model::memory::ServiceMemory;
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::FailReason;
use longshore_model::replica::{ReplicaState, ReplicaStatus};
use longshore_model::report::NodeState;
use longshore_model::{EventKind, Reason, ReplicaId, TimeMs};
use std::collections::BTreeMap;

use crate::draft::{Condition, Draft};

/// Most replicas of a service that are named as kept out.
const ASIDE_NAMED_MAX: usize = 8;

/// Judges every replica that does not leave, and puts it into the routes or takes it out.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        for at in 0..draft.services[service].rows.len() {
            let row = draft.services[service].rows[at];
            draft.rows[row].condition = condition(draft, row);
            let active = draft.replica(row).is_some_and(|r| r.leaving.is_none());
            let rests = draft.replica(row).is_some_and(Replica::rests);
            let job = draft.runs(row).is_some_and(|spec| spec.job.is_some());
            if active && !rests && !job {
                route(draft, row);
            }
            remember(draft, row, active);
        }
        say_aside(draft, service);
        shed(draft, service);
        forget_strangers(draft, service);
    }
}

/// Drops the clocks of replicas that the plan no longer has.
fn forget_strangers(draft: &mut Draft<'_>, service: usize) {
    let memory = draft.memory(service);
    let clocks = [
        &memory.missing_since_ms,
        &memory.unhealthy_since_ms,
        &memory.unreachable_since_ms,
        &memory.reached_in_part_since_ms,
    ];
    let before = draft.services[service].before;
    let known = |id: &ReplicaId| before.is_some_and(|b| b.replicas.contains_key(id));
    if clocks.iter().all(|clock| clock.keys().all(known)) {
        return;
    }
    let memory = draft.memory_mut(service);
    memory.missing_since_ms.retain(|id, _| known(id));
    memory.unhealthy_since_ms.retain(|id, _| known(id));
    memory.unreachable_since_ms.retain(|id, _| known(id));
    memory.reached_in_part_since_ms.retain(|id, _| known(id));
}

fn condition(draft: &mut Draft<'_>, row: usize) -> Condition {
    if draft.on_lost_node(row) {
        return Condition::Lost;
    }
    let Some(number) = draft.rows[row].node else {
        return Condition::Lost;
    };
    let node = &draft.cluster.nodes[number];
    if node.state != NodeState::Ready {
        return Condition::Unknown;
    }
    let (id, status) = (draft.rows[row].id, draft.rows[row].status);
    let acked = draft.cluster.acked(number);
    let service = draft.rows[row].service;
    let clock = &draft.memory(service).missing_since_ms;
    if (status.is_some() || !acked) && clock.contains_key(&id) {
        draft.memory_mut(service).missing_since_ms.remove(&id);
    }
    match status {
        Some(_) if !knows_to_go_on(draft, row) => Condition::Starting,
        Some(status) => reported(status),
        None if acked => missing(draft, row),
        None => not_known(draft, row),
    }
}

/// Does the node speak of the time after the pause, if there was one?
fn knows_to_go_on(draft: &Draft<'_>, row: usize) -> bool {
    let Some(woken) = draft.replica(row).and_then(|replica| replica.woken) else {
        return true;
    };
    let node = draft.rows[row].node;
    let seen = node.and_then(|number| draft.cluster.nodes[number].seen);
    seen.is_some_and(|seen| seen.assignment_generation >= woken.generation)
}

/// As the node says it.
fn reported(status: &ReplicaStatus) -> Condition {
    #[cfg(feature = "mutants")]
    if status.state == ReplicaState::Starting
        && longshore_model::mutant::is(longshore_model::Mutant::RouteBeforeHealthy)
    {
        return Condition::Healthy;
    }
    match status.state {
        // A paused one serves nobody until its health was proven anew.
        ReplicaState::Assigned
        | ReplicaState::Pulling
        | ReplicaState::Starting
        | ReplicaState::Paused => Condition::Starting,
        ReplicaState::Healthy => Condition::Healthy,
        ReplicaState::Completed => Condition::Completed,
        ReplicaState::Unhealthy => Condition::Unhealthy,
        ReplicaState::Stopping | ReplicaState::Gone => {
            Condition::Failed(status.reason.clone().unwrap_or(FailReason::Removed))
        }
        ReplicaState::Failed => {
            Condition::Failed(status.reason.clone().unwrap_or(FailReason::Removed))
        }
    }
}

/// The node knows the assignment and does not list the replica. An agent that just started may
/// still be adopting what runs, so this is believed only after a hold.
fn missing(draft: &mut Draft<'_>, row: usize) -> Condition {
    let (now_ms, hold_ms) = (draft.input.now_ms, draft.input.config.missing_hold_ms);
    let id = draft.rows[row].id;
    let leaves = draft.replica(row).is_none_or(|r| r.leaving.is_some());
    if leaves {
        return not_known(draft, row);
    }
    let service = draft.rows[row].service;
    let since_ms = since(draft, service, id, |memory| &mut memory.missing_since_ms);
    draft.look_again(service, since_ms.saturating_add(hold_ms));
    if now_ms.saturating_sub(since_ms) >= hold_ms {
        Condition::Failed(FailReason::Removed)
    } else {
        not_known(draft, row)
    }
}

fn not_known(draft: &Draft<'_>, row: usize) -> Condition {
    if draft.rows[row].was == Traffic::Serve {
        Condition::Unknown
    } else {
        Condition::Starting
    }
}

/// Healthy: in. Started anew: nothing new. Unknown: as it was, HAProxy's own checks decide; so it is
/// with one whose agent began anew and does not know yet what it proved before.
fn route(draft: &mut Draft<'_>, row: usize) {
    let Some(replica) = draft.replica(row) else {
        return;
    };
    let now_in = replica.traffic;
    let proven = draft.rows[row].condition == Condition::Healthy;
    if proven
        && replica.woken.is_some()
        && let Some(replica) = draft.replica_mut(row)
    {
        replica.woken = None;
    }
    if is_aside(draft, row) {
        // Whatever it is like: it may have sessions, and whoever stops it later must know of them.
        if now_in == Traffic::Serve {
            draft.set_traffic(row, Traffic::Drain);
        }
        return;
    }
    match &draft.rows[row].condition {
        Condition::Healthy if now_in == Traffic::Serve => {}
        Condition::Healthy => draft.set_traffic(row, Traffic::Serve),
        Condition::Starting if now_in == Traffic::Serve && !unproven(draft, row) => {
            take_out(draft, row);
        }
        // Those in doubt are weighed together; failed and lost ones leave, which takes them out.
        _ => {}
    }
}

/// Does an operator keep it out of the routes?
fn is_aside(draft: &Draft<'_>, row: usize) -> bool {
    let seen = &draft.rows[row];
    let aside = draft
        .input
        .desired
        .aside
        .get(&draft.services[seen.service].key);
    aside.is_some_and(|aside| aside.contains_key(&seen.id))
}

/// Says which replicas that stay are kept out of the routes, by whom and why.
fn say_aside(draft: &mut Draft<'_>, service: usize) {
    let desired = draft.input.desired;
    let Some(aside) = desired.aside.get(&draft.services[service].key) else {
        return;
    };
    let rows = draft.services[service].rows.iter();
    let kept = rows.filter_map(|&row| {
        let replica = draft.replica(row).filter(|r| r.leaving.is_none())?;
        let said = aside.get(&replica.id)?;
        Some(Reason::SetAside {
            slot: replica.slot,
            said: said.clone(),
        })
    });
    let kept: Vec<Reason> = kept.take(ASIDE_NAMED_MAX).collect();
    for reason in kept {
        draft.wait(service, reason);
    }
}

/// Takes no new requests. It may still answer those that it has (its check fails, or its agent has
/// lost its ledger and proves it anew), and whoever stops it later must know of them: it drains.
fn take_out(draft: &mut Draft<'_>, row: usize) {
    let Some(replica) = draft.replica(row) else {
        return;
    };
    let status = draft.rows[row].status;
    draft.report.events.push(EventKind::Unhealthy {
        service: replica.service.clone(),
        replica: replica.id,
        node: replica.node.clone(),
        why: status.and_then(|status| status.reason.clone()),
    });
    draft.set_traffic(row, Traffic::Drain);
}

/// Does its agent prove its health anew with no word of a new start, while HAProxy reaches it? Such
/// an agent has lost its ledger. What it does not know is no evidence against the replica.
fn unproven(draft: &Draft<'_>, row: usize) -> bool {
    let seen = &draft.rows[row];
    let begins = |status: &ReplicaStatus| {
        // One that started anew says of what its last run ended.
        status.state == ReplicaState::Starting && status.reason.is_none()
    };
    seen.condition == Condition::Starting
        && seen.sight.up > 0
        && seen.status.is_some_and(begins)
        && draft.replica(row).is_some_and(|r| r.woken.is_none())
}

/// Takes replicas in doubt out of the routes (their own check fails, or was not passed again since
/// their agent began anew), as long as at least half of the service stays in: doubt everywhere says
/// more about load, about the check or about the agent than about the replicas, and HAProxy's own
/// checks guard what stays. True: some were taken out.
pub(crate) fn shed(draft: &mut Draft<'_>, service: usize) -> bool {
    // Said anew: the count may have changed since.
    let waits = &mut draft.services[service].waits;
    waits.retain(|wait| !matches!(wait, Reason::KeptInRoutes { .. }));
    let sick = |row: &&usize| {
        draft.rows[**row].condition == Condition::Unhealthy || unproven(draft, **row)
    };
    let rows = &draft.services[service].rows;
    if !rows.iter().any(|row| sick(&row)) {
        return false;
    }
    let in_routes: Vec<usize> = rows
        .iter()
        .copied()
        .filter(|&row| {
            let replica = draft.replica(row);
            replica.is_some_and(|r| r.leaving.is_none() && r.traffic == Traffic::Serve)
        })
        .collect();
    let mut sick: Vec<usize> = in_routes.iter().filter(sick).copied().collect();
    let half = usize::try_from(draft.target(service).div_ceil(2)).unwrap_or(usize::MAX);
    let room = in_routes.len().saturating_sub(half.max(1));
    // Those that HAProxy does not reach either go first, those that nobody blames last.
    sick.sort_by_key(|&row| (draft.rows[row].sight.up > 0, unproven(draft, row), row));
    let stay = sick.split_off(room.min(sick.len()));
    let shed = !sick.is_empty();
    for row in sick {
        take_out(draft, row);
    }
    if !stay.is_empty() {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let reason = Reason::KeptInRoutes {
            replicas: count(stay.len()),
            unproven: count(stay.iter().filter(|&&row| unproven(draft, row)).count()),
        };
        draft.wait(service, reason);
    }
    shed
}

/// One of the clocks of a service's replicas.
type Clock = fn(&mut ServiceMemory) -> &mut BTreeMap<ReplicaId, TimeMs>;

/// Since when the clock runs; from now on if it did not.
fn since(draft: &mut Draft<'_>, service: usize, id: ReplicaId, clock: Clock) -> TimeMs {
    let now_ms = draft.input.now_ms;
    *clock(draft.memory_mut(service)).entry(id).or_insert(now_ms)
}

fn forget(draft: &mut Draft<'_>, service: usize, id: ReplicaId, clock: Clock) {
    clock(draft.memory_mut(service)).remove(&id);
}

/// Keeps the clocks of the holds.
fn remember(draft: &mut Draft<'_>, row: usize, active: bool) {
    let id = draft.rows[row].id;
    let seen = &draft.rows[row];
    let sick = active && seen.condition == Condition::Unhealthy;
    let node_up = seen.node.is_some_and(|number| {
        let state = draft.cluster.nodes[number].state;
        state.is_connected()
    });
    let alive = matches!(seen.condition, Condition::Healthy | Condition::Unknown);
    let shall_serve = active && node_up && alive && seen.was == Traffic::Serve;
    let sight = seen.sight;
    let memory = draft.memory(seen.service);
    // Edges that have yet to take the newest routes in say nothing new.
    let shut_out = |clock: &BTreeMap<ReplicaId, TimeMs>| {
        let goes_on = sight.down_drained > 0 && clock.contains_key(&id);
        shall_serve && (sight.down > 0 || sight.kept_out > 0 || goes_on)
    };
    let cut_off = sight.up == 0 && shut_out(&memory.unreachable_since_ms);
    let in_part = sight.up > 0 && shut_out(&memory.reached_in_part_since_ms);
    let lost_it = cut_off && sight.down > 0;
    let config = draft.input.config;
    let sick_clock: Clock = |memory| &mut memory.unhealthy_since_ms;
    let cut_off_clock: Clock = |memory| &mut memory.unreachable_since_ms;
    let in_part_clock: Clock = |memory| &mut memory.reached_in_part_since_ms;
    let holds = [
        (sick_clock, sick, config.unhealthy_hold_ms),
        (cut_off_clock, cut_off, config.unreachable_hold_ms),
        (in_part_clock, in_part, config.unreachable_hold_ms),
    ];
    let service = draft.rows[row].service;
    for (clock, holds, hold_ms) in holds {
        if holds {
            let since_ms = since(draft, service, id, clock);
            draft.look_again(service, since_ms.saturating_add(hold_ms));
        } else if draft.services[service].has_memory() {
            forget(draft, service, id, clock);
        }
    }
    if lost_it && let Some(number) = draft.rows[row].node {
        draft.cluster.mark_unreachable(number);
    }
}
