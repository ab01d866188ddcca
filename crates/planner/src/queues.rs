//! What waits at edges while the last replicas of a service leave.
//!
//! Each edge keeps those that leave in as long as something waits there and nobody else serves. One
//! where nothing waits would drain them at once, and answer new requests with 503 although the replica
//! runs on for another edge. All edges therefore hold them until nothing waits at any (decision 0045).

use longshore_model::plan::Traffic;

use crate::draft::Draft;

/// Decides of each service with replicas that drain whether edges hold them in.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        let held = draft.planned(service).is_some_and(|entry| entry.holds);
        let holds = holds(draft, service, held);
        if holds != held {
            draft.entry(service).holds = holds;
            draft.routes_dirty = true;
        }
    }
}

/// A hold begins with the drain of the last ones, and only then: who was said to be drained somewhere
/// is not let in again. One that is only not well drains, too, and is not held.
fn holds(draft: &Draft<'_>, service: usize, held: bool) -> bool {
    let with = |traffic| {
        let rows = draft.services[service].rows.iter().copied();
        rows.filter(move |row| {
            let replica = draft.replica(*row);
            replica.is_some_and(|r| r.traffic == traffic && draft.has_route(service, r))
        })
    };
    let leaves = |row: &usize| draft.replica(*row).is_some_and(|r| r.leaving.is_some());
    let drains = || with(Traffic::Drain).filter(leaves);
    let begins = || {
        let at_once = drains().all(|row| draft.rows[row].was == Traffic::Serve);
        at_once && with(Traffic::Serve).next().is_none() && anything_waits(draft, service)
    };
    // Asked of a hold that begins, too: the next run asks the same.
    drains().any(|row| waits_for(draft, service, row)) && (held || begins())
}

/// Does anything wait for the service at an edge, as it said last?
fn anything_waits(draft: &Draft<'_>, service: usize) -> bool {
    let key = &draft.services[service].key;
    let mut edges = draft.cluster.edges.iter().filter(|edge| !edge.gone);
    edges.any(|edge| {
        let seen = edge.seen.and_then(|seen| seen.backends.get(key));
        seen.is_some_and(|seen| seen.queued > 0)
    })
}

/// Does anything wait for a replica that drains, or may it, as an edge has not said yet?
fn waits_for(draft: &Draft<'_>, service: usize, row: usize) -> bool {
    let leaving = draft
        .replica(row)
        .and_then(|replica| replica.leaving.as_ref());
    let since = leaving.map_or(0, |leaving| leaving.drain_generation);
    let (key, id) = (&draft.services[service].key, draft.rows[row].id);
    let mut edges = draft.cluster.edges.iter().filter(|edge| !edge.gone);
    edges.any(|edge| !edge.runs(since) || edge.queued(key, id) > 0)
}
