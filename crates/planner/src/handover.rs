//! A replica on its way out: drained, parked, stopped, gone. Each step waits for every edge that
//! still counts, and for nobody longer than the deadline.

use longshore_model::plan::{Leaving, Traffic};
use longshore_model::reason::LeaveReason;
use longshore_model::receipt::DrainReceipt;
use longshore_model::replica::ReplicaState;
use longshore_model::{EventKind, TimeMs};

use crate::cluster::contact_ms;
use crate::draft::Draft;
use crate::homes;

/// Takes every leaving replica of `rows` as far as it may go now.
pub(crate) fn run(draft: &mut Draft<'_>, rows: &[usize]) {
    for &row in rows {
        // drain, park, stop, gone: no replica takes more steps than that.
        for _ in 0..4 {
            if !step(draft, row) {
                break;
            }
        }
    }
}

/// Rows of all replicas that leave.
pub(crate) fn leaving(draft: &Draft<'_>) -> Vec<usize> {
    let leaves = |row: &usize| draft.replica(*row).is_some_and(|r| r.leaving.is_some());
    let rows = draft.services.iter().flat_map(|slot| &slot.rows);
    rows.copied().filter(leaves).collect()
}

fn step(draft: &mut Draft<'_>, row: usize) -> bool {
    let Some(replica) = draft.replica(row) else {
        return false;
    };
    let Some(leaving) = &replica.leaving else {
        return false;
    };
    let (now_ms, traffic, stop) = (draft.input.now_ms, replica.traffic, replica.stop);
    let service = draft.rows[row].service;
    let lost = draft.on_lost_node(row);
    // Only its node can say that it is gone.
    let forgotten = lost && !homes::may_come_back(draft, row);
    if stop {
        let gone = forgotten || is_gone(draft, row, leaving);
        if gone {
            draft.forget(row);
        }
        return gone;
    }
    if traffic == Traffic::Drain {
        let deadline_ms = leaving.deadline_ms;
        take_receipts(draft, row);
        let drained = lost || is_drained(draft, row);
        if drained || now_ms >= deadline_ms {
            park(draft, row);
            return true;
        }
        draft.look_again(service, deadline_ms);
        return false;
    }
    let late_ms = late_ms(draft, leaving);
    let parked = draft.cluster.all_run(leaving.park_generation);
    #[cfg(feature = "mutants")]
    let parked = parked || longshore_model::mutant::is(longshore_model::Mutant::StopBeforePark);
    if !parked && now_ms < late_ms {
        draft.look_again(service, late_ms);
        return false;
    }
    let deadline_ms = leaving.deadline_ms;
    if now_ms < deadline_ms && !lost && came_back(draft, leaving) {
        draft.look_again(service, deadline_ms);
        return false;
    }
    say_drained(draft, row);
    if forgotten {
        draft.forget(row);
    } else {
        crate::record::drain(draft, row, late_ms);
        stop_it(draft, row);
    }
    true
}

/// Is an edge here again that nobody waited for when the replica left the routes? It may have
/// sessions on it, which it no longer counts by replica: they get their time.
fn came_back(draft: &Draft<'_>, leaving: &Leaving) -> bool {
    draft.cluster.edges.iter().any(|edge| {
        let receipt = leaving.receipts.get(edge.id);
        !edge.gone && receipt.is_some_and(|receipt| receipt.edge_gone)
    })
}

/// After this, nobody waits for edges any more. A deadline that passed while the controller was
/// away, or an edge was, has told that edge nothing: until its lease is over it may come back, and
/// then it gets the time to take the replica out. One that comes and goes delays it once.
fn late_ms(draft: &Draft<'_>, leaving: &Leaving) -> TimeMs {
    let config = draft.input.config;
    let grace_ms = config.park_grace_ms;
    let due_ms = leaving.deadline_ms.saturating_add(grace_ms);
    let last_ms = leaving.deadline_ms.max(draft.input.listens_since_ms());
    let last_ms = last_ms
        .saturating_add(config.edge_lease_ms)
        .saturating_add(grace_ms);
    let edges = draft.cluster.edges.iter();
    let held_ms = edges
        .filter(|edge| !edge.gone && !edge.runs(leaving.park_generation))
        .map(|edge| match edge.seen.filter(|_| edge.connected) {
            Some(seen) => seen.session.since_ms.saturating_add(grace_ms),
            None => {
                let heard_ms = edge.seen.map_or(0, |seen| contact_ms(&seen.session));
                let heard_ms = heard_ms.max(draft.input.listens_since_ms());
                heard_ms.saturating_add(config.edge_lease_ms + 1)
            }
        });
    held_ms.max().unwrap_or(0).min(last_ms).max(due_ms)
}

/// Notes what each edge says of a drain: when it first ran it, when it first showed no session.
fn take_receipts(draft: &mut Draft<'_>, row: usize) {
    let id = draft.rows[row].id;
    let now_ms = draft.input.now_ms;
    let key = draft.services[draft.rows[row].service].key.clone();
    let Some(leaving) = draft.replica(row).and_then(|r| r.leaving.as_deref()) else {
        return;
    };
    let mut receipts = leaving.receipts.clone();
    let (drain_generation, since_ms) = (leaving.drain_generation, leaving.since_ms);
    let edges = draft.cluster.edges.iter();
    for edge in edges.filter(|edge| edge.runs(drain_generation)) {
        let sessions = edge.sessions(&key, id);
        let first = DrainReceipt {
            sessions_at_drain: sessions,
            ..DrainReceipt::default()
        };
        let receipt = receipts.entry(edge.id.clone()).or_insert(first);
        if edge.is_empty_of(&key, id) && receipt.zero_after_ms.is_none() {
            receipt.zero_after_ms = Some(now_ms.saturating_sub(since_ms));
        }
    }
    if receipts != leaving.receipts
        && let Some(leaving) = draft.replica_mut(row).and_then(|r| r.leaving.as_mut())
    {
        leaving.receipts = receipts;
    }
}

fn is_drained(draft: &Draft<'_>, row: usize) -> bool {
    let id = draft.rows[row].id;
    let key = &draft.services[draft.rows[row].service].key;
    let Some(leaving) = draft.replica(row).and_then(|r| r.leaving.as_ref()) else {
        return false;
    };
    draft
        .cluster
        .edges
        .iter()
        .all(|edge| edge.gone || (edge.runs(leaving.drain_generation) && edge.is_empty_of(key, id)))
}

/// Out of the routes, with a record of whom it did not wait for.
fn park(draft: &mut Draft<'_>, row: usize) {
    let id = draft.rows[row].id;
    let next = draft.next_routes();
    draft.set_traffic(row, Traffic::Out);
    let key = draft.services[draft.rows[row].service].key.clone();
    let edges = draft.cluster.edges.iter();
    let seen: Vec<_> = edges
        .map(|edge| {
            let done = edge.is_empty_of(&key, id);
            (edge.id, edge.gone, edge.seen, edge.sessions(&key, id), done)
        })
        .collect();
    let Some(leaving) = draft.replica_mut(row).and_then(|r| r.leaving.as_mut()) else {
        return;
    };
    leaving.park_generation = next;
    for (edge, gone, seen, sessions, empty) in seen {
        let runs = seen.is_some_and(|seen| seen.routes_generation >= leaving.drain_generation);
        let done = runs && empty;
        let receipt = leaving.receipts.entry(edge.clone()).or_default();
        receipt.sessions_at_park = sessions;
        receipt.edge_gone = gone;
        receipt.forced = gone || !done;
    }
}

fn say_drained(draft: &mut Draft<'_>, row: usize) {
    let Some(replica) = draft.replica(row) else {
        return;
    };
    let Some(Leaving {
        drain_generation: 1..,
        since_ms,
        receipts,
        ..
    }) = replica.leaving.as_deref()
    else {
        return;
    };
    let event = EventKind::Drained {
        service: replica.service.clone(),
        replica: replica.id,
        node: replica.node.clone(),
        after_ms: draft.input.now_ms.saturating_sub(*since_ms),
        receipts: receipts
            .iter()
            .map(|(edge, receipt)| (edge.clone(), *receipt))
            .collect(),
    };
    draft.report.events.push(event);
}

fn stop_it(draft: &mut Draft<'_>, row: usize) {
    draft.touch_node(row);
    let now_ms = draft.input.now_ms;
    let generations = &draft.input.current.generations;
    let Some(replica) = draft.replica_mut(row) else {
        return;
    };
    let next = generations.get(&replica.node).copied().unwrap_or(0);
    let next = next.saturating_add(1);
    replica.stop = true;
    if let Some(leaving) = &mut replica.leaving {
        leaving.stop_generation = next;
        leaving.stop_ms = now_ms;
    }
}

/// Its node knows that it shall stop and lists it no longer, or says that it is gone.
fn is_gone(draft: &Draft<'_>, row: usize, leaving: &Leaving) -> bool {
    let node = draft.rows[row]
        .node
        .and_then(|number| draft.cluster.nodes[number].seen);
    let knows = node.is_some_and(|seen| seen.assignment_generation >= leaving.stop_generation);
    let listed = draft.rows[row].status;
    knows && listed.is_none_or(|status| status.state == ReplicaState::Gone)
}

/// Reasons that do not wait for sessions: nothing answers any more.
#[must_use]
pub(crate) fn is_dead(reason: &LeaveReason) -> bool {
    matches!(reason, LeaveReason::Failed { .. } | LeaveReason::NodeLost)
}
