//! Warm standbys: replicas started, proven healthy and paused beforehand.
//!
//! They hold memory and ports, no CPU, and are in no route and in no count. What the service needs
//! next is taken from them first: such a replica goes on in the same run, counts as starting until
//! its node has proven its health anew, and the pool is filled up afterwards. Replicas that serve
//! come first: where one finds no room, standbys of any service give theirs.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use longshore_model::node::Availability;
use longshore_model::plan::Woken;
use longshore_model::reason::{LeaveReason, Refusal, StandbyEnd};
use longshore_model::replica::ReplicaState;
use longshore_model::report::{NodeState, WarmReport, WarmWait};
use longshore_model::{AutoscaleSpec, EventKind, Reason, ServiceSpec, TemplateId};

use crate::cluster::NodeSlot;
use crate::draft::Draft;
use crate::failures::{backs_off, failures};
use crate::jobs;
use crate::place::{self, Order, constraint_refusal};

/// Gives up standbys that are not wanted, makes room for what serves, fills the pools.
pub(crate) fn run(draft: &mut Draft<'_>) {
    let mut pressed = false;
    for service in 0..draft.services.len() {
        drop_unwanted(draft, service);
        pressed |= lacks_what_standbys_hold(draft, service);
    }
    if pressed {
        for service in 0..draft.services.len() {
            make_room(draft, service);
        }
    }
    for service in 0..draft.services.len() {
        let waits = fill(draft, service, pressed);
        report(draft, service, waits);
    }
}

/// Rows of standbys of a service that do not leave.
fn standbys(draft: &Draft<'_>, service: usize) -> Vec<usize> {
    let rows = draft.services[service].rows.iter().copied();
    rows.filter(|&row| {
        draft
            .replica(row)
            .is_some_and(|r| r.paused && r.leaving.is_none())
    })
    .collect()
}

/// What the service would start next: of a rollout that stopped, or before the job that goes first
/// has completed, the old one. A standby is started as well before it is paused.
fn template(draft: &Draft<'_>, service: usize) -> Option<TemplateId> {
    let old = crate::rollout::fallback(draft, service);
    let wanted = || {
        let free = jobs::awaited(draft, service).is_none();
        draft.services[service].template.clone().filter(|_| free)
    };
    old.or_else(wanted)
}

/// A standby has run once, so that it would write to the volume of the one that serves.
fn wanted(spec: Option<&ServiceSpec>) -> u32 {
    let spec = spec.filter(|spec| spec.sole_writer_of().is_none());
    let autoscale = spec.and_then(|spec| spec.autoscale.as_ref());
    autoscale.map_or(0, |autoscale| {
        autoscale.warm.min(AutoscaleSpec::REPLICAS_MAX)
    })
}

fn is_ready(draft: &Draft<'_>, row: usize) -> bool {
    let status = draft.rows[row].status;
    status.is_some_and(|status| status.state == ReplicaState::Paused)
}

fn may_host(slot: &NodeSlot<'_>, spec: &ServiceSpec) -> bool {
    slot.node.roles.worker
        && slot.node.availability == Availability::Active
        && constraint_refusal(slot, &spec.placement.constraints).is_none()
}

/// Standbys of an older template, on nodes that take no replicas, and more than are wanted.
fn drop_unwanted(draft: &mut Draft<'_>, service: usize) {
    let spec = draft.services[service].spec.map(|spec| &**spec);
    let template = template(draft, service);
    let mut stay = Vec::new();
    for row in standbys(draft, service) {
        let Some(replica) = draft.replica(row) else {
            continue;
        };
        let fresh = Some(&replica.template) == template.as_ref();
        let hosted = draft.rows[row].node.is_some_and(|number| {
            spec.is_some_and(|spec| may_host(&draft.cluster.nodes[number], spec))
        });
        let end = match (spec.is_some(), fresh, hosted) {
            (false, ..) => LeaveReason::Down,
            (_, false, _) => end(StandbyEnd::Outdated),
            (.., false) => end(StandbyEnd::Node),
            _ => {
                stay.push(row);
                continue;
            }
        };
        draft.leave(row, end);
    }
    let surplus = stay.len().saturating_sub(wanted(spec) as usize);
    // Those that are not proven first, then the newest.
    stay.sort_by_key(|&row| (is_ready(draft, row), Reverse(draft.rows[row].id)));
    for row in stay.into_iter().take(surplus) {
        draft.leave(row, end(StandbyEnd::Fewer));
    }
}

fn end(why: StandbyEnd) -> LeaveReason {
    LeaveReason::Standby { why }
}

fn is_unplaceable(draft: &Draft<'_>, service: usize) -> bool {
    let mut waits = draft.services[service].waits.iter();
    waits.any(|wait| matches!(wait, Reason::Unplaceable { .. }))
}

/// Does a replica find no room for lack of memory or ports? Standbys hold no CPU.
fn lacks_what_standbys_hold(draft: &Draft<'_>, service: usize) -> bool {
    let mut waits = draft.services[service].waits.iter();
    waits.any(|wait| {
        let Reason::Unplaceable { counts, .. } = wait else {
            return false;
        };
        let held = |kind: &Refusal| {
            matches!(
                kind,
                Refusal::Memory { .. } | Refusal::Ports | Refusal::HostPort { .. }
            )
        };
        counts.iter().any(|count| held(&count.kind))
    })
}

/// Standbys on one node make room for a replica that found none. One node a run: the room is there
/// only once they are gone, and until then nothing more is asked for.
fn make_room(draft: &mut Draft<'_>, service: usize) {
    let (Some(spec), Some(template)) = (
        draft.services[service].spec,
        draft.services[service].template.clone(),
    ) else {
        return;
    };
    let key = draft.services[service].key.clone();
    let why = end(StandbyEnd::Pressure {
        service: key.clone(),
    });
    let promised = draft.rows.iter().any(|row| {
        let leaving = row.replica().and_then(|r| r.leaving.as_ref());
        leaving.is_some_and(|leaving| leaving.reason == why)
    });
    if !lacks_what_standbys_hold(draft, service) || promised {
        return;
    }
    let mut on_node: Vec<Vec<usize>> = vec![Vec::new(); draft.cluster.nodes.len()];
    for other in 0..draft.services.len() {
        for row in standbys(draft, other) {
            if let Some(number) = draft.rows[row].node {
                on_node[number].push(row);
            }
        }
    }
    let order = Order {
        service,
        spec,
        count: 1,
        template,
    };
    // One on each node: those that have theirs need no room.
    let active = draft.active(service).into_iter();
    let has: BTreeSet<Option<usize>> = active
        .filter(|_| spec.is_global())
        .map(|row| draft.rows[row].node)
        .collect();
    for (number, mut rows) in on_node.into_iter().enumerate() {
        if has.contains(&Some(number)) {
            continue;
        }
        // The largest first: fewest have to go.
        rows.sort_by_key(|&row| (Reverse(memory_bytes(draft, row)), draft.rows[row].id));
        if let Some(count) = place::room_after(draft, &order, number, &rows) {
            for &row in &rows[..count] {
                draft.leave(row, why.clone());
            }
            return;
        }
    }
}

/// What the replica of a row reserves.
pub(crate) fn memory_bytes(draft: &Draft<'_>, row: usize) -> u64 {
    let spec = draft.runs(row);
    spec.map_or(0, |spec| spec.resources.memory_reserved_bytes)
}

/// Places what is missing of a pool. Says why something is.
fn fill(draft: &mut Draft<'_>, service: usize, pressed: bool) -> Option<WarmWait> {
    let spec = draft.services[service].spec?;
    let there = u32::try_from(standbys(draft, service).len()).unwrap_or(u32::MAX);
    let missing = wanted(Some(spec)).saturating_sub(there);
    if missing == 0 {
        return None;
    }
    let Some(template) = template(draft, service) else {
        let job = jobs::awaited(draft, service)?.service;
        return Some(WarmWait::Job { service: job });
    };
    if let Some(wait) = hold(draft, service, pressed) {
        return Some(wait);
    }
    let order = Order {
        service,
        spec,
        count: missing,
        template,
    };
    let refused = place::place_standbys(draft, &order)?;
    let Reason::Unplaceable { counts, .. } = refused else {
        return None;
    };
    Some(WarmWait::Unplaceable { counts })
}

/// Why the pool is not filled now.
fn hold(draft: &mut Draft<'_>, service: usize, pressed: bool) -> Option<WarmWait> {
    if draft.brake {
        return Some(WarmWait::Outage);
    }
    if crate::rollout::runs(draft, service) {
        return Some(WarmWait::RolloutRuns);
    }
    if let Some(failed) = failures(draft, service) {
        let until_ms = failed.retry_at_ms;
        let stopped = crate::rollout::fallback(draft, service).is_some();
        if backs_off(draft, service, stopped) {
            return Some(WarmWait::Backoff { until_ms });
        }
    }
    let active = draft.active(service);
    let first = (active.len() as u64) < u64::from(draft.target(service))
        || is_unplaceable(draft, service)
        || !active.iter().all(|&row| draft.serves(row));
    if first {
        return Some(WarmWait::ServiceFirst);
    }
    pressed.then_some(WarmWait::Pressure)
}

fn report(draft: &mut Draft<'_>, service: usize, waits: Option<WarmWait>) {
    let rows = standbys(draft, service);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let ready = rows.iter().filter(|&&row| is_ready(draft, row)).count();
    draft.services[service].report.warm = WarmReport {
        wanted: wanted(draft.services[service].spec.map(|spec| &**spec)),
        planned: count(rows.len()),
        ready: count(ready),
        waits,
    };
}

/// Wakes up to `missing` standbys of `template`; returns their rows.
pub(crate) fn wake(
    draft: &mut Draft<'_>,
    service: usize,
    missing: u32,
    template: &TemplateId,
) -> Vec<usize> {
    let Some(spec) = draft.services[service].spec else {
        return Vec::new();
    };
    let mut rows = standbys(draft, service);
    rows.retain(|&row| draft.replica(row).is_some_and(|r| &r.template == template));
    rows.sort_by_key(|&row| (!is_ready(draft, row), draft.rows[row].id));
    let mut woken = Vec::new();
    for row in rows {
        if woken.len() >= missing as usize {
            break;
        }
        if may_wake(draft, row, spec) {
            wake_one(draft, row);
            woken.push(row);
        }
    }
    woken
}

/// Its node is there and takes replicas, and has the CPU that a standby does not hold.
fn may_wake(draft: &Draft<'_>, row: usize, spec: &ServiceSpec) -> bool {
    let Some(number) = draft.rows[row].node else {
        return false;
    };
    let slot = &draft.cluster.nodes[number];
    let asked_milli = draft
        .runs(row)
        .map_or(0, |c| c.resources.cpu_reserved_milli);
    let held = &draft.cluster.held[number];
    slot.state == NodeState::Ready
        && !slot.doubted
        && may_host(slot, spec)
        && held.cpu_reserved_milli.saturating_add(asked_milli) <= held.cpu_milli
}

fn wake_one(draft: &mut Draft<'_>, row: usize) {
    let cpu_milli = draft
        .runs(row)
        .map_or(0, |c| c.resources.cpu_reserved_milli);
    let at_ms = draft.input.now_ms;
    let Some(number) = draft.rows[row].node else {
        return;
    };
    draft.cluster.held_mut(number).reserve_cpu(cpu_milli);
    let slot = &draft.cluster.nodes[number];
    let now = draft.input.current.generations.get(slot.id);
    let generation = now.copied().unwrap_or(0).saturating_add(1);
    draft.touch_node(row);
    let Some(replica) = draft.replica_mut(row) else {
        return;
    };
    replica.paused = false;
    replica.woken = Some(Woken { at_ms, generation });
    let event = EventKind::Woken {
        service: replica.service.clone(),
        slot: replica.slot,
        replica: replica.id,
        node: replica.node.clone(),
    };
    draft.report.events.push(event);
}
