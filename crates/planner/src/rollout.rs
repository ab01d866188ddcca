//! Which replicas a service keeps, gives up and still needs.
//!
//! Additive first: what serves is given up only when a replacement serves, unless the file says
//! stop-first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use longshore_model::node::Availability;
use longshore_model::plan::Traffic;
use longshore_model::reason::{FailReason, LeaveReason, ScaleCause};
use longshore_model::report::NodeState;
use longshore_model::spec::UpdateOrder;
use longshore_model::{Reason, ServiceSpec, TemplateId};

use crate::draft::{Condition, Draft};
use crate::failures::{backs_off, failed_too_often, failures, is_outdated};
use crate::place::{self, Order, constraint_refusal};

/// A service's replicas that do not leave, sorted by what shall become of them.
#[derive(Debug, Default)]
struct Sorted {
    /// As wanted, started or starting.
    keep: Vec<usize>,
    /// To be replaced, and why.
    give: Vec<(usize, LeaveReason)>,
    /// On nodes that cannot tell: not counted on, not touched.
    doubted: Vec<usize>,
    /// Stop-first: leaving ones whose successors must wait until they are gone.
    waiting_gone: u32,
}

/// Brings every service closer to its count and template.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        match draft.services[service].spec {
            Some(spec) => reconcile(draft, service, spec),
            None => {
                for row in draft.active(service) {
                    draft.leave(row, LeaveReason::Down);
                }
            }
        }
    }
}

/// Is a rollout under way (and not stopped by failures)? It ends when the last old one is gone.
pub(crate) fn runs(draft: &Draft<'_>, service: usize) -> bool {
    let rows = draft.services[service].rows.iter();
    let outdated = rows
        .copied()
        .any(|row| !draft.on_lost_node(row) && is_outdated(draft, service, row));
    outdated && !failed_too_often(draft, service)
}

fn sort(draft: &Draft<'_>, service: usize, spec: &ServiceSpec, stopped: bool) -> Sorted {
    let mut sorted = Sorted::default();
    for &row in &draft.services[service].rows {
        let Some(replica) = draft.replica(row) else {
            continue;
        };
        if let Some(leaving) = &replica.leaving {
            let stop_first = spec.update.order == UpdateOrder::StopFirst;
            let replaced = leaving.reason == LeaveReason::Replaced && !draft.on_lost_node(row);
            sorted.waiting_gone += u32::from(stop_first && replaced);
            continue;
        }
        let Some(number) = draft.rows[row].node else {
            continue;
        };
        let node = &draft.cluster.nodes[number];
        // An engine that does not answer may still run what it ran; only what never served is
        // started elsewhere.
        let stuck = node.state != NodeState::EngineDown || !draft.rows[row].was_in;
        let is_old = !stopped && is_outdated(draft, service, row);
        if node.doubted && stuck {
            sorted.doubted.push(row);
        } else if let Some(reason) = unwanted(draft, row, spec, is_old) {
            sorted.give.push((row, reason));
        } else {
            sorted.keep.push(row);
        }
    }
    sorted
}

/// Why a replica that runs shall be replaced, if it shall.
fn unwanted(
    draft: &Draft<'_>,
    row: usize,
    spec: &ServiceSpec,
    is_old: bool,
) -> Option<LeaveReason> {
    let (now_ms, config) = (draft.input.now_ms, draft.input.config);
    let node = &draft.cluster.nodes[draft.rows[row].node?];
    let id = draft.rows[row].id;
    let memory = draft.memory(draft.rows[row].service);
    let since = |map: &std::collections::BTreeMap<_, u64>, hold_ms: u64| {
        map.get(&id)
            .is_some_and(|since_ms| now_ms.saturating_sub(*since_ms) >= hold_ms)
    };
    let may_move = now_ms >= config.observe_until(draft.input.started_ms) && !draft.brake;
    if is_old
        || constraint_refusal(node, &spec.placement.constraints).is_some()
        || !node.node.roles.worker
    {
        Some(LeaveReason::Replaced)
    } else if node.node.availability == Availability::Draining {
        Some(LeaveReason::NodeDrain)
    } else if may_move && since(&memory.unreachable_since_ms, config.unreachable_hold_ms) {
        Some(LeaveReason::Unreachable)
    } else if may_move && since(&memory.unhealthy_since_ms, config.unhealthy_hold_ms) {
        let said = draft.rows[row]
            .status
            .and_then(|status| status.reason.clone());
        let why = said.unwrap_or(FailReason::CheckFails {
            detail: String::new(),
        });
        Some(LeaveReason::Failed { why })
    } else {
        None
    }
}

/// Healthy routed replicas that a change must leave.
pub(crate) fn floor(spec: &ServiceSpec, target: u32) -> u32 {
    match spec.update.order {
        UpdateOrder::StartFirst | UpdateOrder::Auto => target
            .saturating_sub(spec.update.max_unavailable)
            .max(1)
            .min(target),
        // Stop-first means to go without the ones being replaced, all of them if there is one.
        UpdateOrder::StopFirst => {
            let away = spec
                .update
                .max_unavailable
                .max(spec.update.batch(target))
                .max(1);
            target.saturating_sub(away)
        }
    }
}

/// Leaves and starts until neither changes anything, so that planning again finds nothing.
fn reconcile(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) {
    // While the new template is stopped, the old one is what the service shall run.
    let stopped = failed_too_often(draft, service) && newest_outdated(draft, service).is_some();
    let mut sorted = sort(draft, service, spec, stopped);
    if stopped && let Some(failures) = failures(draft, service) {
        let detail = format!(
            "the new template failed {} times; the old one stays: {}",
            failures.count, failures.last
        );
        draft.wait(service, Reason::Quarantined { detail });
    }
    // Bounded: each round but the last gives up or places at least one replica.
    let rounds = sorted.keep.len() + sorted.give.len() + 2;
    for _ in 0..rounds {
        let created = create(draft, service, spec, &mut sorted, stopped);
        let left = give(draft, service, spec, &mut sorted, stopped);
        let trimmed = trim(draft, service, spec, &mut sorted);
        if created + left + trimmed == 0 {
            break;
        }
    }
    say_waits(draft, service, &sorted);
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

/// Can any edge reach any replica of the service? If none can, the check itself may be wrong.
fn any_up(draft: &Draft<'_>, sorted: &Sorted) -> bool {
    let give = sorted.give.iter().map(|(row, _)| row);
    sorted
        .keep
        .iter()
        .chain(give)
        .any(|&row| draft.rows[row].sight.up > 0)
}

/// Starts what is missing and what shall replace others. Returns how many were placed.
fn create(
    draft: &mut Draft<'_>,
    service: usize,
    spec: &ServiceSpec,
    sorted: &mut Sorted,
    stopped: bool,
) -> u32 {
    let target = draft.target(service);
    let (keep, give) = (count(&sorted.keep), count(&sorted.give));
    let of = |kind: fn(&LeaveReason) -> bool| {
        u32::try_from(sorted.give.iter().filter(|(_, r)| kind(r)).count()).unwrap_or(u32::MAX)
    };
    let outdated = of(|reason| *reason == LeaveReason::Replaced);
    let cut_off = of(|reason| *reason == LeaveReason::Unreachable);
    let others = give - outdated - cut_off;
    let cut_off_now = if cut_off == 0 || any_up(draft, sorted) {
        cut_off
    } else {
        cut_off.min(1)
    };
    let outdated_now = match spec.update.order {
        UpdateOrder::StartFirst | UpdateOrder::Auto if !stopped => {
            outdated.min(spec.update.batch(target))
        }
        _ => 0,
    };
    let surge = target
        .saturating_sub(keep)
        .min(others + cut_off_now + outdated_now);
    let there = keep
        .saturating_add(give)
        .saturating_add(sorted.waiting_gone);
    let missing = target.saturating_add(surge).saturating_sub(there);
    if missing == 0 || backs_off(draft, service, stopped) {
        return 0;
    }
    let Some(template) = template_to_start(draft, service, stopped) else {
        return 0;
    };
    let order = Order {
        service,
        spec,
        count: missing,
        template,
    };
    let placed = place::place(draft, &order);
    sorted.keep.extend(&placed);
    count(&placed)
}

/// The wanted template; while its rollout is stopped, the newest old one.
fn template_to_start(draft: &Draft<'_>, service: usize, stopped: bool) -> Option<TemplateId> {
    if stopped {
        newest_outdated(draft, service)
    } else {
        draft.services[service].template.clone()
    }
}

/// Template of the newest staying replica that has another one than the file wants.
fn newest_outdated(draft: &Draft<'_>, service: usize) -> Option<TemplateId> {
    let rows = draft.services[service].rows.iter().rev();
    rows.filter(|&&row| is_outdated(draft, service, row))
        .filter_map(|&row| draft.replica(row))
        .find(|replica| replica.leaving.is_none())
        .map(|replica| replica.template.clone())
}

/// Gives up what is to be replaced, as far as the rest carries it. Returns how many left.
fn give(
    draft: &mut Draft<'_>,
    service: usize,
    spec: &ServiceSpec,
    sorted: &mut Sorted,
    stopped: bool,
) -> u32 {
    if sorted.give.is_empty() {
        return 0;
    }
    let target = draft.target(service);
    let any_up = any_up(draft, sorted);
    let rank = |reason: &LeaveReason| match reason {
        LeaveReason::Failed { .. } => 0,
        LeaveReason::Unreachable => 1,
        LeaveReason::NodeDrain => 2,
        _ => 3,
    };
    sorted.give.sort_by_cached_key(|(row, reason)| {
        (draft.serves(*row), rank(reason), draft.rows[*row].id)
    });
    let floor = floor(spec, target);
    let slack = spec.update.max_unavailable;
    let rows = sorted.keep.iter().chain(&sorted.doubted).copied();
    let rows = rows.chain(sorted.give.iter().map(|(row, _)| *row));
    let mut serving = u32::try_from(rows.filter(|&row| draft.serves(row)).count()).unwrap_or(0);
    let keep = count(&sorted.keep);
    let ready =
        u32::try_from(sorted.keep.iter().filter(|&&row| draft.serves(row)).count()).unwrap_or(0);
    let resting = failures(draft, service).is_some();
    let mut given = count(&sorted.give);
    let mut stay = Vec::new();
    let mut left = 0;
    for (row, reason) in std::mem::take(&mut sorted.give) {
        let serves = draft.serves(row);
        let floor_holds = !may_serve(draft, row) || serving - u32::from(serves) >= floor;
        let replaced = keep + given > target && ready + given > target.saturating_sub(slack);
        let swapping = sorted.waiting_gone + (keep - ready);
        let stop_first = spec.update.order == UpdateOrder::StopFirst
            && reason == LeaveReason::Replaced
            && !stopped
            && !(resting && swapping > 0)
            && swapping < spec.update.batch(target);
        // A whole service out of every edge's reach says more about the check than about it.
        let judged = reason != LeaveReason::Unreachable || any_up;
        if floor_holds && judged && (replaced || stop_first) {
            serving -= u32::from(serves);
            given -= 1;
            left += 1;
            let scale_in = keep == 0 && replaced && !draft.brake;
            let dead = matches!(reason, LeaveReason::Failed { .. });
            draft.leave(
                row,
                if scale_in && !dead {
                    LeaveReason::ScaleIn
                } else {
                    reason
                },
            );
            sorted.waiting_gone += u32::from(stop_first && !replaced);
        } else {
            stay.push((row, reason));
        }
    }
    sorted.give = stay;
    left
}

/// Could users depend on it? Also when no edge can be asked: only one that an edge calls down, or
/// that its node does not call healthy, surely serves nobody. Without a route, edges have no say.
fn may_serve(draft: &Draft<'_>, row: usize) -> bool {
    let Some(replica) = draft.replica(row) else {
        return false;
    };
    let seen = &draft.rows[row];
    let alive = matches!(seen.condition, Condition::Healthy | Condition::Unknown);
    let called_down =
        seen.sight.down > 0 && seen.sight.up == 0 && draft.has_route(seen.service, replica);
    replica.traffic == Traffic::Serve && alive && !called_down
}

/// Order in which surplus replicas are given up: the smallest first.
type Victim = (u8, u8, Reverse<u32>, u32, Reverse<u64>, usize);

/// Gives up replicas beyond the count. Returns how many left.
fn trim(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec, sorted: &mut Sorted) -> u32 {
    let target = draft.target(service);
    let mut surplus = count(&sorted.keep).saturating_sub(target);
    if surplus == 0 || !may_trim(draft, service) {
        return 0;
    }
    let before = surplus;
    let mut on_node = vec![0_u32; draft.cluster.nodes.len()];
    for &row in &sorted.keep {
        if let Some(number) = draft.rows[row].node {
            on_node[number] += 1;
        }
    }
    let mut heap: BinaryHeap<Reverse<Victim>> = sorted
        .keep
        .iter()
        .map(|&row| Reverse(victim(draft, row, &on_node)))
        .collect();
    let floor = floor(spec, target);
    let give = sorted.give.iter().map(|(row, _)| *row);
    let rows = sorted
        .keep
        .iter()
        .chain(&sorted.doubted)
        .copied()
        .chain(give);
    let mut serving = u32::try_from(rows.filter(|&row| draft.serves(row)).count()).unwrap_or(0);
    while surplus > 0
        && let Some(Reverse(entry)) = heap.pop()
    {
        let row = entry.5;
        // Counts per node only fall, so a stale entry only ever moves back.
        let now = victim(draft, row, &on_node);
        if now > entry {
            heap.push(Reverse(now));
            continue;
        }
        let serves = draft.serves(row);
        if serves && serving <= floor {
            break;
        }
        serving -= u32::from(serves);
        surplus -= 1;
        if let Some(number) = draft.rows[row].node {
            on_node[number] -= 1;
        }
        let reason = match draft.rows[row].condition {
            Condition::Unhealthy => LeaveReason::Unhealthy,
            _ => LeaveReason::ScaleIn,
        };
        draft.leave(row, reason);
    }
    sorted
        .keep
        .retain(|&row| draft.replica(row).is_some_and(|r| r.leaving.is_none()));
    before - surplus
}

fn victim(draft: &Draft<'_>, row: usize, on_node: &[u32]) -> Victim {
    let seen = &draft.rows[row];
    let state = match seen.condition {
        Condition::Failed(_) | Condition::Lost | Condition::Unhealthy => 0,
        Condition::Starting => 1,
        Condition::Unknown => 2,
        Condition::Healthy if !draft.serves(row) => 3,
        Condition::Healthy => 4,
    };
    let (node, here) = seen.node.map_or((0, 0), |number| {
        let slot = &draft.cluster.nodes[number];
        let rank = match slot.node.availability {
            Availability::Draining => 0,
            Availability::Cordoned => 1,
            Availability::Active if slot.fill_permille() > 1_000 => 2,
            Availability::Active => 3,
        };
        (rank, on_node[number])
    });
    (
        state,
        node,
        Reverse(here),
        seen.sight.sessions,
        Reverse(seen.id.0),
        row,
    )
}

/// A surplus that nobody asked for (nodes that came back) is kept while the controller still
/// watches, and during an outage.
fn may_trim(draft: &mut Draft<'_>, service: usize) -> bool {
    let observed = draft.input.config.observe_until(draft.input.started_ms);
    let started_ms = draft.input.started_ms;
    let entry = draft.planned(service);
    let last_change = entry.and_then(|entry| entry.last_change.as_ref());
    let asked = last_change.is_some_and(|change| {
        let metric = matches!(change.cause, ScaleCause::Metric { .. });
        change.at_ms >= started_ms && !metric
    });
    if asked || (draft.input.now_ms >= observed && !draft.brake) {
        return true;
    }
    draft.look_again(service, observed);
    draft.wait(service, Reason::Observing { until_ms: observed });
    false
}

fn say_waits(draft: &mut Draft<'_>, service: usize, sorted: &Sorted) {
    if let Some((row, _)) = sorted.give.first() {
        let replica = draft.rows[*row].id;
        draft.wait(service, Reason::WaitsForReplacement { replica });
    }
    let unknown = sorted.keep.iter().chain(&sorted.doubted).find_map(|&row| {
        let number = draft.rows[row].node?;
        let slot = &draft.cluster.nodes[number];
        (slot.state == NodeState::Away && slot.up > 0).then(|| slot.id.clone())
    });
    if let Some(node) = unknown {
        draft.wait(service, Reason::UnknownButServing { node });
    }
}
