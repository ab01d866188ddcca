//! Evening out the cluster: replicas move to nodes that became ready, a few at a time.
//!
//! A move is a replacement on another node: the successor is placed first, and the old replica
//! leaves ([`LeaveReason::Rebalanced`]) once the successor serves. What decides is a potential,
//! compared field by field: for each spread label the sum over its values of the squared count of
//! the service's replicas, then the same over nodes, then the sum over nodes of the squared count
//! of all replicas. Each move lowers the first field that it changes by at least
//! `rebalance_gain_min`. Vectors of natural numbers in that order cannot fall for ever, so
//! evening out comes to an end in any cluster that stands still, and then plans nothing.
//!
//! The look at the whole cluster is taken only while it is open (see [`due`]), and then once in
//! `rebalance_period_ms`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::memory::RebalanceMemory;
use longshore_model::plan::Move;
use longshore_model::reason::LeaveReason;
use longshore_model::record::{
    MOVABLE_MAX, Movable, MoveRecord, Moved, SEATS_MAX, Seat as NotedSeat, Tally, is_worth,
};
use longshore_model::report::{NodeState, Stay};
use longshore_model::spec::{PlacementPolicy, UpdateOrder};
use longshore_model::{Decision, EventKind, ReplicaId, ServiceSpec, TimeMs};

use crate::PlanInput;
use crate::cluster::NodeSlot;
use crate::config::RebalanceMode;
use crate::draft::Draft;
use crate::place::{self, Order};
use crate::record;

/// Most kinds of sources and of destinations that are compared with each other.
const KINDS_MAX: usize = 64;

/// Will this run look at the whole cluster? Then every service must be planned.
#[must_use]
pub(crate) fn due(input: &PlanInput<'_>) -> bool {
    let memory = &input.memory.rebalance;
    is_open(input, memory) && input.now_ms >= memory.due_ms
}

fn is_open(input: &PlanInput<'_>, memory: &RebalanceMemory) -> bool {
    match input.config.rebalance {
        RebalanceMode::Off => false,
        RebalanceMode::OnJoin => input.now_ms < memory.until_ms,
        RebalanceMode::Continuous => true,
    }
}

/// Ends moves that are over. True: some were, and their services have one replica too many.
pub(crate) fn end(draft: &mut Draft<'_>) -> bool {
    let mut ended = false;
    for service in 0..draft.services.len() {
        ended |= end_moves(draft, service);
    }
    ended
}

/// Ends moves that are over and begins new ones.
pub(crate) fn run(draft: &mut Draft<'_>) {
    end(draft);
    if due(&draft.input) {
        look(draft);
    }
    watch(draft);
    if is_open(&draft.input, &draft.rebalance) {
        draft.look_again_all(draft.rebalance.due_ms);
        draft.look_again_all(draft.rebalance.until_ms);
    }
}

/// Has the successor of the row's replica taken over?
pub(crate) fn is_succeeded(draft: &Draft<'_>, row: usize) -> bool {
    let seen = &draft.rows[row];
    let mut moves = draft
        .planned(seen.service)
        .into_iter()
        .flat_map(|entry| &entry.moves);
    moves.any(|m| {
        let mut rows = draft.services[seen.service].rows.iter();
        m.replica == seen.id && rows.any(|&r| draft.rows[r].id == m.successor && draft.serves(r))
    })
}

/// Is the row's replica about to be replaced on another node?
pub(crate) fn moves(draft: &Draft<'_>, row: usize) -> bool {
    let seen = &draft.rows[row];
    draft
        .planned(seen.service)
        .is_some_and(|entry| entry.moves.iter().any(|m| m.replica == seen.id))
}

/// Forgets moves whose replica or successor leaves, or of which nobody is too many, and all of a
/// service that must not move now: then it has one replica too many, and gives one up like any
/// surplus.
fn end_moves(draft: &mut Draft<'_>, service: usize) -> bool {
    let Some(entry) = draft.planned(service) else {
        return false;
    };
    if entry.moves.is_empty() {
        return false;
    }
    let stays = |id| {
        let rows = &draft.services[service].rows;
        rows.iter().any(|&row| {
            let replica = draft.replica(row);
            draft.rows[row].id == id && replica.is_some_and(|r| r.leaving.is_none())
        })
    };
    let whole = |m: &&Move| stays(m.replica) && stays(m.successor);
    let mut kept: Vec<Move> = entry.moves.iter().filter(whole).copied().collect();
    // With fewer wanted than stay without the successors, somebody leaves anyway: by its own order.
    let (active, target) = (draft.active(service).len(), draft.target(service) as usize);
    let scale_in = active - stayers(draft, service, &kept) > target;
    // With more wanted, or another one lost meanwhile, the successors are needed beside the others.
    kept.truncate(active.saturating_sub(target));
    let global = draft.services[service]
        .spec
        .is_some_and(|spec| spec.is_global());
    if draft.brake || scale_in || global || crate::rollout::runs(draft, service) {
        kept.clear();
    }
    let ended = kept.len() != entry.moves.len();
    if ended {
        draft.entry(service).moves = kept;
    }
    ended
}

/// How many successors of `moves` do not leave.
fn stayers(draft: &Draft<'_>, service: usize, moves: &[Move]) -> usize {
    let active = draft.active(service).into_iter();
    active
        .filter(|&row| moves.iter().any(|m| m.successor == draft.rows[row].id))
        .count()
}

/// Notices nodes that begin to take replicas, which opens the window.
fn watch(draft: &mut Draft<'_>) {
    let cluster = &draft.cluster;
    let nodes = cluster.nodes.iter().filter(|slot| slot.takes());
    let known = &draft.rebalance.takers;
    let same = if cluster.same_takers {
        let same = |&number: &usize| cluster.nodes[number].takes() == cluster.nodes[number].took;
        cluster.touched().iter().all(same)
    } else {
        // Both are in id order.
        known.iter().eq(nodes.clone().map(|n| n.id))
    };
    if same {
        return;
    }
    let (now_ms, config) = (draft.input.now_ms, draft.input.config);
    let window_ms = config.rebalance_window_ms;
    // After a start nobody is known: then those count that joined lately, not all that connect.
    let starting = known.is_empty() || now_ms < config.observe_until(draft.input.started_ms);
    let fresh = nodes.clone().filter(|n| !known.contains(n.id));
    let until = fresh
        .map(|n| match starting {
            true => n.node.joined_ms.min(now_ms).saturating_add(window_ms),
            false => now_ms.saturating_add(window_ms),
        })
        .max()
        .unwrap_or(0);
    let takers = nodes.map(|n| n.id.clone()).collect();
    let rebalance = Arc::make_mut(&mut draft.rebalance);
    rebalance.takers = takers;
    if until > rebalance.until_ms && until > now_ms {
        rebalance.until_ms = until;
        let soon_ms = now_ms.saturating_add(config.rebalance_period_ms);
        if rebalance.due_ms <= now_ms {
            rebalance.due_ms = soon_ms;
        }
    }
}

/// One look at every service; begins as many moves as may be.
fn look(draft: &mut Draft<'_>) {
    let (now_ms, config) = (draft.input.now_ms, draft.input.config);
    let closed = cluster_stay(draft);
    let mut moving = in_flight(draft);
    let mut began = false;
    let mut totals = totals(draft);
    let mut stays = BTreeMap::new();
    for service in 0..draft.services.len() {
        let Some(spec) = draft.services[service].spec else {
            continue;
        };
        let mut stay = closed
            .clone()
            .or_else(|| service_stay(draft, service, spec));
        while stay.is_none() {
            if moving >= config.rebalance_moves_max {
                let max = config.rebalance_moves_max;
                stay = Some(Stay::MovesAtOnce { max });
            } else {
                let record = begin(draft, service, spec, &mut totals);
                if record.moved.is_some() {
                    (moving, began) = (moving + 1, true);
                } else {
                    stay = Some(Stay::Even);
                }
                note(draft, service, record);
            }
        }
        if let Some(stay) = stay {
            if stay != Stay::Even {
                let stays = Some(stay.clone());
                let record = MoveRecord {
                    stays,
                    ..MoveRecord::default()
                };
                note(draft, service, record);
            }
            stays.insert(draft.services[service].key.clone(), stay);
        }
    }
    let rebalance = Arc::make_mut(&mut draft.rebalance);
    rebalance.stays = stays;
    rebalance.due_ms = now_ms.saturating_add(config.rebalance_period_ms);
    if began {
        // Many replicas move a few at a time: that may take longer than the first window.
        let window_ms = now_ms.saturating_add(config.rebalance_window_ms);
        rebalance.until_ms = rebalance.until_ms.max(window_ms);
    }
}

/// Why nothing moves in the whole cluster.
fn cluster_stay(draft: &Draft<'_>) -> Option<Stay> {
    let until_ms = draft.input.config.observe_until(draft.input.started_ms);
    if draft.input.now_ms < until_ms {
        return Some(Stay::Observing { until_ms });
    }
    let sure = |slot: &NodeSlot<'_>| {
        matches!(slot.state, NodeState::Ready | NodeState::Lost) && !slot.doubted
    };
    let mut workers = draft.cluster.nodes.iter().filter(|n| n.node.roles.worker);
    let all_sure = workers.all(sure);
    (draft.brake || !all_sure).then_some(Stay::Doubt)
}

/// Why nothing of the service moves.
fn service_stay(draft: &Draft<'_>, service: usize, spec: &ServiceSpec) -> Option<Stay> {
    let entry = draft.planned(service)?;
    let cool_ms = draft.input.config.rebalance_cooldown_ms;
    let changed_ms = entry.last_change.as_ref().map(|change| change.at_ms);
    let changed_until_ms = changed_ms.map_or(0, |at_ms| at_ms.saturating_add(cool_ms));
    let rests = draft.active(service).into_iter();
    let rests = rests.map(|row| rests_until_ms(draft, row));
    let cool_until_ms = changed_until_ms.max(rests.min().unwrap_or(0));
    if spec.is_global() {
        Some(Stay::EachNode)
    } else if spec.placement.stay {
        Some(Stay::OptedOut)
    } else if spec.placement.policy == PlacementPolicy::Binpack {
        Some(Stay::Binpack)
    } else if spec.exchange(false).order == UpdateOrder::StopFirst || crate::homes::is_pinned(spec)
    {
        Some(Stay::StopFirst)
    } else if crate::rollout::runs(draft, service) {
        Some(Stay::RolloutRuns)
    } else if !is_settled(draft, service) {
        Some(Stay::NotSettled)
    } else if draft.input.now_ms < cool_until_ms {
        Some(Stay::Cooldown {
            until_ms: cool_until_ms,
        })
    } else {
        None
    }
}

/// A replica that has just come to its node rests there: what made the place the best one may be
/// over in a moment, and to and fro gains nothing.
fn rests_until_ms(draft: &Draft<'_>, row: usize) -> TimeMs {
    let came_ms = draft.replica(row).map_or(0, |replica| replica.created_ms);
    came_ms.saturating_add(draft.input.config.rebalance_cooldown_ms)
}

/// May the row's replica be moved?
fn is_movable(draft: &Draft<'_>, row: usize) -> bool {
    !moves(draft, row) && draft.serves(row) && rests_until_ms(draft, row) <= draft.input.now_ms
}

/// All replicas serve, none comes, none goes, none waits, no failure is remembered.
fn is_settled(draft: &Draft<'_>, service: usize) -> bool {
    let Some(entry) = draft.planned(service) else {
        return false;
    };
    let active = draft.active(service);
    let wanted = draft.services[service].template.as_ref();
    let fine = |&row: &usize| {
        let replica = draft.replica(row);
        draft.serves(row) && replica.is_some_and(|r| Some(&r.template) == wanted)
    };
    let leaves = |&row: &usize| draft.replica(row).is_some_and(|r| r.leaving.is_some());
    active.len() == entry.target as usize
        && entry.moves.is_empty()
        && entry.failures.is_none()
        && active.iter().all(fine)
        && !draft.services[service].rows.iter().any(leaves)
}

/// Moves under way: the old replica is still somewhere.
fn in_flight(draft: &Draft<'_>) -> u32 {
    let moving = |row: usize| {
        let replica = draft.replica(row);
        let leaving = replica.and_then(|r| r.leaving.as_ref());
        leaving.map_or_else(
            || moves(draft, row),
            |leaving| leaving.reason == LeaveReason::Rebalanced,
        )
    };
    let rows = (0..draft.rows.len()).filter(|&row| moving(row));
    u32::try_from(rows.count()).unwrap_or(u32::MAX)
}

/// Replicas of all services by node number, as they will be when all moves are over. What a
/// service tries again and again stays nowhere: others need not make way for it.
fn totals(draft: &Draft<'_>) -> Vec<u32> {
    let mut totals = vec![0; draft.cluster.nodes.len()];
    for service in 0..draft.services.len() {
        let failing = crate::failures::failures(draft, service).is_some();
        for row in draft.active(service) {
            if let Some(number) = draft.rows[row].node
                && !moves(draft, row)
                && (!failing || draft.serves(row))
            {
                totals[number] += 1;
            }
        }
    }
    totals
}

/// A node as seen by one service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    tally: Tally,
    number: usize,
}

/// Notes a look for the history; that nothing moves only when the reason is a new one.
fn note(draft: &mut Draft<'_>, service: usize, record: MoveRecord) {
    let before = draft.rebalance.stays.get(&draft.services[service].key);
    let kind = |stay: Option<&Stay>| stay.map(std::mem::discriminant);
    if record.moved.is_some() || kind(record.stays.as_ref()) != kind(before) {
        record::note(draft, service, Decision::Move(Arc::new(record)));
    }
}

/// Begins the best move of the service, if any is worth it.
fn begin(
    draft: &mut Draft<'_>,
    service: usize,
    spec: &ServiceSpec,
    totals: &mut [u32],
) -> MoveRecord {
    let mut record = MoveRecord {
        gain_min: draft.input.config.rebalance_gain_min,
        stays: Some(Stay::Even),
        ..MoveRecord::default()
    };
    let Some(template) = draft.services[service].template.clone() else {
        return record;
    };
    let order = Order {
        service,
        spec,
        count: 1,
        template,
    };
    let seats = seats(draft, service, spec, totals);
    let (from, to) = sides(draft, &order, &seats);
    let pairs = from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b)));
    let best = pairs
        .filter(|(a, b)| a.number != b.number)
        .map(|(a, b)| (a.tally.change(&b.tally), a.number, b.number))
        .min();
    let Some((change, a, b)) = best else {
        return record;
    };
    let (from, to) = (noted(draft, &from, a), noted(draft, &to, b));
    let movable = movable(draft, service, a);
    if is_worth(&change, record.gain_min) {
        let first = movable.first().map(|first| first.replica);
        let Some(moved) = first.and_then(|first| start(draft, &order, first, a, b)) else {
            return record;
        };
        totals[a] -= 1;
        totals[b] += 1;
        (record.moved, record.stays) = (Some(moved), None);
    }
    MoveRecord {
        from,
        to,
        movable,
        ..record
    }
}

/// For each kind of node the fullest that may give a replica, and the emptiest that may take one.
fn sides<'s>(
    draft: &Draft<'_>,
    order: &Order<'_>,
    seats: &'s [Seat],
) -> (Vec<&'s Seat>, Vec<&'s Seat>) {
    let fits = place::fitting(draft, order);
    let mut gives = vec![false; seats.len()];
    for row in draft.active(order.service) {
        if let Some(number) = draft.rows[row].node {
            gives[number] |= is_movable(draft, row);
        }
    }
    let kind = |seat: &Seat| (seat.tally.values.clone(), seat.tally.here);
    let mut from: BTreeMap<_, &Seat> = BTreeMap::new();
    let mut to: BTreeMap<_, &Seat> = BTreeMap::new();
    for seat in seats {
        if gives[seat.number] {
            let best = from.entry(kind(seat)).or_insert(seat);
            *best = seat.max(best);
        }
        if fits[seat.number] {
            let best = to.entry(kind(seat)).or_insert(seat);
            *best = seat.min(best);
        }
    }
    let mut from: Vec<&Seat> = from.into_values().collect();
    let mut to: Vec<&Seat> = to.into_values().collect();
    from.sort_by_key(|seat| Reverse(*seat));
    to.sort();
    from.truncate(KINDS_MAX);
    to.truncate(KINDS_MAX);
    (from, to)
}

/// The first of one side for the history, the chosen one among them.
fn noted(draft: &Draft<'_>, side: &[&Seat], chosen: usize) -> Vec<NotedSeat> {
    let seats = side.iter().enumerate();
    let kept = seats.filter(|(at, seat)| *at < SEATS_MAX || seat.number == chosen);
    kept.map(|(_, seat)| NotedSeat {
        node: draft.cluster.nodes[seat.number].id.clone(),
        tally: seat.tally.clone(),
    })
    .collect()
}

/// Replicas that may leave a node; the one that fewest sessions would miss first.
fn movable(draft: &Draft<'_>, service: usize, from: usize) -> Vec<Movable> {
    let mut movable: Vec<Movable> = draft
        .active(service)
        .into_iter()
        .filter(|&row| draft.rows[row].node == Some(from) && is_movable(draft, row))
        .map(|row| Movable {
            replica: draft.rows[row].id,
            sessions: draft.rows[row].sight.sessions,
        })
        .collect();
    movable.sort_by_key(|m| (m.sessions, Reverse(m.replica)));
    movable.truncate(MOVABLE_MAX);
    movable
}

fn seats(draft: &Draft<'_>, service: usize, spec: &ServiceSpec, totals: &[u32]) -> Vec<Seat> {
    let mut here = vec![0_u32; draft.cluster.nodes.len()];
    for row in draft.active(service) {
        if let Some(number) = draft.rows[row].node
            && !moves(draft, row)
        {
            here[number] += 1;
        }
    }
    let labels = place::by_label(draft, spec, &here);
    let tally = |number: usize| Tally {
        zones: labels
            .iter()
            .map(|(values, counts)| counts[values[number]])
            .collect(),
        here: here[number],
        total: totals[number],
        values: labels.iter().map(|(values, _)| values[number]).collect(),
    };
    let seat = |number: usize| Seat {
        tally: tally(number),
        number,
    };
    (0..here.len()).map(seat).collect()
}

/// Places the successor of `replica` on node `to`.
fn start(
    draft: &mut Draft<'_>,
    order: &Order<'_>,
    replica: ReplicaId,
    from: usize,
    to: usize,
) -> Option<Moved> {
    let service = order.service;
    let new = place::place_on(draft, order, to)?;
    let successor = draft.rows[new].id;
    let since_ms = draft.input.now_ms;
    draft.entry(service).moves.push(Move {
        replica,
        successor,
        since_ms,
    });
    let name = |number: usize| draft.cluster.nodes[number].id.clone();
    let moved = Moved {
        replica,
        from: name(from),
        successor,
        to: name(to),
    };
    draft.report.events.push(EventKind::Moving {
        service: draft.services[service].key.clone(),
        replica,
        node: moved.from.clone(),
        successor,
        to: moved.to.clone(),
    });
    Some(moved)
}

/// Why no replica of the service moves, by the last look at the cluster.
pub(crate) fn stay(draft: &Draft<'_>, service: usize) -> Option<Stay> {
    if draft.input.config.rebalance == RebalanceMode::Off {
        return Some(Stay::Off);
    }
    let key = &draft.services[service].key;
    let looked = draft.rebalance.stays.get(key).cloned();
    // Once the window has closed nobody looks again: a rollout ends without it.
    let over = |stay: &Stay| *stay == Stay::RolloutRuns && !crate::rollout::runs(draft, service);
    let looked = looked.filter(|stay| !over(stay));
    let waits = draft.input.config.rebalance == RebalanceMode::OnJoin;
    looked.or_else(|| waits.then_some(Stay::NoNodeJoined))
}
