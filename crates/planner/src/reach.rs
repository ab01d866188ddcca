//! Replicas that are healthy as their nodes say, and that no edge reaches, or that some edges do
//! not: HAProxy's check fails. New ones fail their rollout by that as by a crash, unless it may as
//! well be the way to their node; of the others it is said.

use longshore_model::reason::{FailReason, LeaveReason};
use longshore_model::{NodeId, Reason, ReplicaId, ServiceSpec, TimeMs};
use std::collections::{BTreeMap, BTreeSet};

use crate::draft::Draft;
use crate::{failures, verdict};

/// What HAProxy does where a file is silent: between two checks, and checks that count.
const CHECK_INTERVAL_MS: u64 = 500;
const CHECKS: u64 = 3;

/// Most edges that one reason names.
const EDGES_NAMED_MAX: usize = 8;

/// New replicas that no edge reached in time fail, and leave. They may still have sessions of the
/// time before their check failed, so they drain.
pub(crate) fn run(draft: &mut Draft<'_>) {
    if draft.brake {
        return;
    }
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::UnreachedIsWaitedFor) {
        return;
    }
    for service in 0..draft.services.len() {
        let Some(spec) = draft.services[service].spec else {
            continue;
        };
        let hold_ms = draft.input.config.unreached_fail_ms;
        let hold_ms = hold_ms.saturating_add(checks_ms(spec));
        for (row, since_ms, edges) in judged(draft, service) {
            // Where the file has closed its way in by now, nobody need reach it any more.
            if !draft
                .replica(row)
                .is_some_and(|r| r.is_behind(&spec.routes))
            {
                continue;
            }
            let after_ms = draft.input.now_ms.saturating_sub(since_ms);
            if after_ms < hold_ms {
                draft.look_again(service, since_ms.saturating_add(hold_ms));
                continue;
            }
            let why = FailReason::NotReached { after_ms, edges };
            failures::note_failure(draft, service, row, &why);
            draft.leave(row, LeaveReason::Unreachable);
        }
    }
}

/// New replicas whose rollout fails by it if no edge reaches them, or some edges do not: these are
/// named.
fn judged(draft: &Draft<'_>, service: usize) -> Vec<(usize, TimeMs, Vec<NodeId>)> {
    let memory = draft.memory(service);
    let by_none = clocked(draft, service, &memory.unreachable_since_ms).into_iter();
    let by_none = by_none.filter(|(row, _)| is_judged(draft, service, *row));
    let mut judged: Vec<_> = by_none.map(|(row, ms)| (row, ms, Vec::new())).collect();
    for (row, since_ms) in clocked(draft, service, &memory.reached_in_part_since_ms) {
        if !verdict::is_on_trial(draft, service, row) {
            continue;
        }
        let edges = without_excuse(draft, service, row);
        if !edges.is_empty() {
            judged.push((row, since_ms, edges));
        }
    }
    judged
}

/// Edges that do not reach the replica, but an older one of its service on the same node: there is
/// nothing wrong with the way. Of other edges nobody knows what is.
fn without_excuse(draft: &Draft<'_>, service: usize, row: usize) -> Vec<NodeId> {
    let (Some(replica), node) = (draft.replica(row), draft.rows[row].node) else {
        return Vec::new();
    };
    let older = draft.services[service].rows.iter().filter(|&&other| {
        let old = draft.replica(other);
        draft.rows[other].node == node && old.is_some_and(|r| r.template != replica.template)
    });
    let reach: BTreeSet<&NodeId> = older
        .flat_map(|&other| checks(draft, other))
        .filter_map(|(edge, passes)| passes.then_some(edge))
        .collect();
    let blind = blind(draft, row).filter(|edge| reach.contains(edge));
    blind.take(EDGES_NAMED_MAX).cloned().collect()
}

/// Edges whose check of the replica fails.
fn blind<'d>(draft: &'d Draft<'_>, row: usize) -> impl Iterator<Item = &'d NodeId> {
    checks(draft, row).filter_map(|(edge, passes)| (!passes).then_some(edge))
}

fn checks<'d>(draft: &'d Draft<'_>, row: usize) -> impl Iterator<Item = (&'d NodeId, bool)> {
    let seen = &draft.rows[row];
    let key = &draft.services[seen.service].key;
    draft.cluster.checks(key, seen.id)
}

/// Does it speak against its rollout that no edge reaches the replica? Then it does not move
/// elsewhere meanwhile: the next one would fare no better.
pub(crate) fn is_judged(draft: &Draft<'_>, service: usize, row: usize) -> bool {
    verdict::is_on_trial(draft, service, row) && !is_node_cut_off(draft, service, row)
}

/// Has it been out of reach for so long that it moves? One that never was in gets the time of its
/// checks as well.
pub(crate) fn is_late(draft: &Draft<'_>, row: usize, spec: &ServiceSpec) -> bool {
    let seen = &draft.rows[row];
    let clock = &draft.memory(seen.service).unreachable_since_ms;
    // Asked of every replica; of most there is no clock.
    let Some(since_ms) = clock.get(&seen.id) else {
        return false;
    };
    let hold_ms = draft.input.config.unreachable_hold_ms;
    let hold_ms = match seen.sight.down > 0 {
        true => hold_ms,
        false => hold_ms.saturating_add(checks_ms(spec)),
    };
    draft.input.now_ms.saturating_sub(*since_ms) >= hold_ms && !is_judged(draft, seen.service, row)
}

/// Says of those that stay, new or not, that nobody reaches them, or which edges do not.
pub(crate) fn say(draft: &mut Draft<'_>, service: usize) {
    let Some(spec) = draft.services[service].spec else {
        return;
    };
    let hold_ms = draft.input.config.unreachable_hold_ms;
    let hold_ms = hold_ms.saturating_add(checks_ms(spec));
    let memory = draft.memory(service);
    let by_none = clocked(draft, service, &memory.unreachable_since_ms);
    let in_part = clocked(draft, service, &memory.reached_in_part_since_ms);
    // The worse one is said last, and stands first.
    say_of(draft, service, &in_part, hold_ms, true);
    say_of(draft, service, &by_none, hold_ms, false);
}

fn say_of(
    draft: &mut Draft<'_>,
    service: usize,
    found: &[(usize, TimeMs)],
    hold_ms: u64,
    in_part: bool,
) {
    let now_ms = draft.input.now_ms;
    let mut late = Vec::new();
    for &(row, since_ms) in found {
        match now_ms.saturating_sub(since_ms) >= hold_ms {
            true => late.push((row, since_ms)),
            false => draft.look_again(service, since_ms.saturating_add(hold_ms)),
        }
    }
    let Some((row, since_ms)) = late.iter().min_by_key(|(row, since)| (since, row)).copied() else {
        return;
    };
    let edges: BTreeSet<NodeId> = match in_part {
        true => late
            .iter()
            .flat_map(|(row, _)| blind(draft, *row).cloned())
            .collect(),
        false => BTreeSet::new(),
    };
    // Routes that changed since are not known to every edge yet.
    if in_part && edges.is_empty() {
        return;
    }
    if let Some(replica) = draft.replica(row) {
        let reason = Reason::NotReached {
            replicas: u32::try_from(late.len()).unwrap_or(u32::MAX),
            slot: replica.slot,
            node: replica.node.clone(),
            since_ms,
            edges: edges.into_iter().take(EDGES_NAMED_MAX).collect(),
        };
        draft.wait_first(service, reason);
    }
}

/// Staying replicas whose clock runs, and since when.
fn clocked(
    draft: &Draft<'_>,
    service: usize,
    clock: &BTreeMap<ReplicaId, TimeMs>,
) -> Vec<(usize, TimeMs)> {
    if clock.is_empty() {
        return Vec::new();
    }
    let active = draft.active(service).into_iter();
    let since = active.filter_map(|row| Some((row, *clock.get(&draft.rows[row].id)?)));
    since.collect()
}

/// Are others on its node out of reach as well, and none in it? That says more of the way to the
/// node than of the new template: the replica moves.
fn is_node_cut_off(draft: &Draft<'_>, service: usize, row: usize) -> bool {
    let Some((number, replica)) = draft.rows[row].node.zip(draft.replica(row)) else {
        return false;
    };
    let held = &draft.cluster.held[number];
    let (mut up, mut down) = (held.up, held.down);
    for &other in &draft.services[service].rows {
        let seen = &draft.rows[other];
        let same = draft
            .replica(other)
            .is_some_and(|r| r.template == replica.template);
        if seen.node == Some(number) && same {
            up = up.saturating_sub(seen.sight.up);
            down = down.saturating_sub(seen.sight.down);
        }
    }
    up == 0 && down > 0
}

/// How long HAProxy's own checks take to tell: those that bring a replica in, and those that take
/// it out.
fn checks_ms(spec: &ServiceSpec) -> u64 {
    let of = |check: &longshore_model::route::CheckTimes| {
        let interval_ms = match check.interval_ms {
            0 => CHECK_INTERVAL_MS,
            said => u64::from(said),
        };
        let checks = u64::from(check.rise) + u64::from(check.fall);
        interval_ms.saturating_mul(checks.max(CHECKS))
    };
    let times = spec.routes.iter().map(|route| of(&route.check));
    times.max().unwrap_or_default()
}
