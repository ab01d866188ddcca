//! Which replicas a service keeps, gives up and still needs.
//!
//! Additive first: what serves is given up only when a replacement serves, unless the file says
//! stop-first.

use std::cmp::Reverse;

use longshore_model::node::Availability;
use longshore_model::plan::Traffic;
use longshore_model::reason::{FailReason, LeaveReason, ScaleCause};
use longshore_model::record::VictimRecord;
use longshore_model::report::NodeState;
use longshore_model::{Reason, ServiceSpec, TemplateId};

use crate::draft::{Condition, Draft};
use crate::failures::{backs_off, failures, forgive, is_outdated};
use crate::place::{self, Order, constraint_refusal};
use crate::progress;
use crate::verdict;
use crate::{depends, health, homes, jobs, reach, rebalance, warm};

mod each_node;
mod leaving;
mod places;
mod terms;
mod victims;

use places::Places;
use terms::Terms;
use victims::{Choice, victim, victims};

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
    /// The first of these whose lost node alone can say that it is gone.
    unheard: Option<usize>,
}

/// Rounds of reconciling and going on; each but the last changes where the rollout is.
const ROUNDS_MAX: usize = 8;

/// Brings every service closer to its count and template.
pub(crate) fn run(draft: &mut Draft<'_>) {
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::OneBadServiceBlocks)
        && (0..draft.services.len()).any(|service| failures(draft, service).is_some())
    {
        return;
    }
    for service in 0..draft.services.len() {
        // Of fewer wanted since its last look, fewer may fail: what is over starts nothing more.
        if verdict::judge(draft, service) {
            progress::settle(draft, service);
        }
        for _ in 0..ROUNDS_MAX {
            let Some(spec) = draft.services[service].spec else {
                for row in draft.active(service) {
                    draft.leave(row, LeaveReason::Down);
                }
                break;
            };
            match (spec.job, spec.is_global()) {
                (Some(_), _) => {
                    jobs::start(draft, service, spec);
                    break;
                }
                (None, true) => each_node::reconcile(draft, service, spec),
                (None, false) => reconcile(draft, service, spec),
            }
            // What was not healthy may just have left, and the others have proven themselves; with
            // fewer wanted, fewer must stay in the routes.
            let forgiven = forgive(draft, service);
            let shed = health::shed(draft, service);
            if !(progress::advance(draft, service) || forgiven || shed) {
                break;
            }
        }
        progress::say_waits(draft, service);
    }
}

/// Does a rollout exchange replicas now? The autoscaler takes nothing away meanwhile. It ends with
/// the monitoring of the last batch, or when it fails or is held.
pub(crate) fn runs(draft: &Draft<'_>, service: usize) -> bool {
    progress::of(draft, service).is_some_and(|rollout| rollout.runs() && rollout.from.is_some())
}

fn sort(draft: &Draft<'_>, service: usize, spec: &ServiceSpec, terms: &Terms) -> Sorted {
    let mut sorted = Sorted::default();
    for &row in &draft.services[service].rows {
        let Some(replica) = draft.replica(row) else {
            continue;
        };
        if let Some(leaving) = &replica.leaving {
            let replaced = leaving.reason.is_exchange() && !draft.on_lost_node(row);
            let writes = terms.sole_writer && homes::holds(draft, row);
            if writes && draft.on_lost_node(row) {
                sorted.unheard.get_or_insert(row);
            }
            sorted.waiting_gone += u32::from(writes || (terms.stop_first && replaced));
            continue;
        }
        if replica.rests() {
            continue;
        }
        let Some(number) = draft.rows[row].node else {
            continue;
        };
        let node = &draft.cluster.nodes[number];
        // An engine that does not answer may still run what it ran; only what never served is
        // started elsewhere.
        let stuck = !node.state.lacks_engine() || draft.rows[row].was != Traffic::Serve;
        let is_old = !terms.stopped && is_outdated(draft, service, row);
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
    let may_move = now_ms >= config.observe_until(draft.input.started_ms) && !draft.brake;
    if is_old
        || constraint_refusal(node, &spec.placement.constraints).is_some()
        || !node.node.roles.worker
    {
        Some(LeaveReason::Replaced)
    } else if node.node.availability == Availability::Draining {
        Some(LeaveReason::NodeDrain)
    } else if rebalance::moves(draft, row) {
        Some(LeaveReason::Rebalanced)
    } else if may_move && reach::is_late(draft, row, spec) {
        Some(LeaveReason::Unreachable)
    } else if may_move {
        sick_long(draft, row).map(|why| LeaveReason::Failed { why })
    } else {
        None
    }
}

/// What its check says, if it has failed for so long that the replica is given up.
fn sick_long(draft: &Draft<'_>, row: usize) -> Option<FailReason> {
    let (now_ms, config) = (draft.input.now_ms, draft.input.config);
    let seen = &draft.rows[row];
    let clock = &draft.memory(seen.service).unhealthy_since_ms;
    let since_ms = clock.get(&seen.id)?;
    let long = now_ms.saturating_sub(*since_ms) >= config.unhealthy_hold_ms;
    let said = seen.status.and_then(|status| status.reason.clone());
    long.then(|| {
        said.unwrap_or(FailReason::CheckFails {
            detail: String::new(),
        })
    })
}

/// Leaves and starts until neither changes anything, so that planning again finds nothing.
fn reconcile(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) {
    let terms = Terms::of(draft, service, spec);
    let mut sorted = sort(draft, service, spec, &terms);
    // Bounded: each round but the last gives up or places at least one replica.
    let rounds = sorted.keep.len() + sorted.give.len() + 2;
    for _ in 0..rounds {
        let created = create(draft, service, spec, &mut sorted, &terms);
        let left = give(draft, service, &mut sorted, &terms);
        let trimmed = trim(draft, service, &mut sorted, &terms);
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
    terms: &Terms,
) -> u32 {
    forget_shortage(draft, service);
    let target = draft.target(service);
    let (keep, give) = (count(&sorted.keep), count(&sorted.give));
    let of = |kind: &dyn Fn(usize, &LeaveReason) -> bool| {
        let hits = sorted.give.iter().filter(|(row, why)| kind(*row, why));
        u32::try_from(hits.count()).unwrap_or(u32::MAX)
    };
    let replaced = of(&|_, why| *why == LeaveReason::Replaced);
    let outdated =
        of(&|row, why| *why == LeaveReason::Replaced && is_outdated(draft, service, row));
    let cut_off = of(&|_, why| *why == LeaveReason::Unreachable);
    // The successor of one that moves is there; where its node cannot tell, the move waits.
    let moves = of(&|_, why| *why == LeaveReason::Rebalanced);
    let others = give - replaced - cut_off - moves;
    let cut_off_now = if cut_off == 0 || any_up(draft, sorted) {
        cut_off
    } else {
        cut_off.min(1)
    };
    let new = new_ones(draft, service);
    let there = keep
        .saturating_add(give)
        .saturating_add(sorted.waiting_gone);
    // What is missing anyway comes first, and is new as well.
    let more = terms
        .allowed
        .saturating_sub(new)
        .saturating_sub(target.saturating_sub(there));
    let replaced_now = match terms.stop_first || terms.stopped {
        true => 0,
        // What moves for another reason than its template goes as many at a time.
        false => outdated.min(more) + (replaced - outdated).min(terms.batch(target)),
    };
    let surge = match terms.sole_writer {
        true => 0,
        false => others + cut_off_now + replaced_now,
    };
    let surge = surge.min(target.saturating_sub(keep));
    let missing = target.saturating_add(surge).saturating_sub(there);
    // Beside the old ones that a gate keeps, all of the batch.
    let batch = match terms.gated && !terms.stop_first && !terms.stopped {
        true => terms.allowed.min(target).saturating_sub(new),
        false => 0,
    };
    let missing = missing.max(batch);
    let Some(template) = template_to_start(draft, service, terms, new) else {
        return 0;
    };
    let woken = warm::wake(draft, service, missing, &template);
    sorted.keep.extend(&woken);
    let missing = missing.saturating_sub(count(&woken));
    if missing == 0 || depends::waits(draft, service) || backs_off(draft, service, terms.stopped) {
        return count(&woken);
    }
    let order = Order {
        service,
        spec,
        count: missing,
        template,
    };
    let placed = place::place(draft, &order);
    sorted.keep.extend(&placed);
    count(&woken) + count(&placed)
}

/// What found no place in an earlier round of this run may be wanted no longer: a rollout that
/// failed since then wants fewer. Said anew where it still is so.
fn forget_shortage(draft: &mut Draft<'_>, service: usize) {
    let slot = &mut draft.services[service];
    slot.waits
        .retain(|wait| !matches!(wait, Reason::Unplaceable { .. }));
    slot.short = None;
}

/// Staying replicas of the wanted template.
fn new_ones(draft: &Draft<'_>, service: usize) -> u32 {
    let active = draft.active(service).into_iter();
    let new = active.filter(|&row| !is_outdated(draft, service, row));
    u32::try_from(new.count()).unwrap_or(u32::MAX)
}

/// The wanted template; while its rollout is stopped, or held with its batch complete, the newest
/// old one.
fn template_to_start(
    draft: &Draft<'_>,
    service: usize,
    terms: &Terms,
    new: u32,
) -> Option<TemplateId> {
    let full = terms.held && new >= terms.allowed;
    // Until its job has completed, what ran before goes on.
    let waits = jobs::awaited(draft, service).is_some();
    if terms.stopped || full || waits {
        let old = match terms.stopped || waits {
            true => old_template(draft, service),
            false => newest_outdated(draft, service),
        };
        if old.is_some() || terms.stopped || waits {
            return old;
        }
    }
    draft.services[service].template.clone()
}

/// Template of the newest staying replica that has another one than the file wants.
fn newest_outdated(draft: &Draft<'_>, service: usize) -> Option<TemplateId> {
    let rows = draft.services[service].rows.iter().rev();
    rows.filter(|&&row| is_outdated(draft, service, row))
        .filter_map(|&row| draft.replica(row))
        .find(|replica| replica.leaving.is_none() && !replica.rests())
        .map(|replica| replica.template.clone())
}

/// What a service shall run while its rollout is stopped, or the job before it has not completed;
/// none: neither is so, or there is nothing to go back to.
pub(crate) fn fallback(draft: &Draft<'_>, service: usize) -> Option<TemplateId> {
    let old = progress::stopped(draft, service) || jobs::awaited(draft, service).is_some();
    old.then(|| old_template(draft, service)).flatten()
}

/// What a service shall run while its rollout is stopped: the newest old template that is left, or
/// what its last good revision ran.
fn old_template(draft: &Draft<'_>, service: usize) -> Option<TemplateId> {
    newest_outdated(draft, service).or_else(|| {
        let good = draft.planned(service)?.good.as_ref()?;
        let wanted = draft.services[service].template.as_ref();
        (Some(&good.template) != wanted).then(|| good.template.clone())
    })
}

/// Gives up what is to be replaced, as far as the rest carries it. Returns how many left.
fn give(draft: &mut Draft<'_>, service: usize, sorted: &mut Sorted, terms: &Terms) -> u32 {
    if sorted.give.is_empty() {
        return 0;
    }
    let target = draft.target(service);
    let any_up = any_up(draft, sorted);
    sorted.give.sort_by_cached_key(|(row, reason)| {
        (draft.serves(*row), urgency(reason), draft.rows[*row].id)
    });
    let slack = terms.update.max_unavailable;
    let mut places = Places::of(draft, service, sorted, terms);
    let mut old = outdated_ones(draft, service);
    let mut exchanged = new_ones(draft, service) + sorted.waiting_gone;
    let rows = sorted.keep.iter().chain(&sorted.doubted).copied();
    let rows = rows.chain(sorted.give.iter().map(|(row, _)| *row));
    let mut serving = u32::try_from(rows.filter(|&row| draft.serves(row)).count()).unwrap_or(0);
    let keep = count(&sorted.keep);
    let ready =
        u32::try_from(sorted.keep.iter().filter(|&&row| draft.serves(row)).count()).unwrap_or(0);
    let resting = failures(draft, service).is_some();
    let (mut stay, mut left, mut given) = (Vec::new(), 0, count(&sorted.give));
    for (row, reason) in std::mem::take(&mut sorted.give) {
        let serves = draft.serves(row);
        let replaced = keep + given > target && ready + given > target.saturating_sub(slack);
        let followed = replaced || places.is_there(draft, row);
        let floor = terms.floor_for(target, followed);
        let floor_holds = !may_serve(draft, row) || serving - u32::from(serves) >= floor;
        let swapping = sorted.waiting_gone + (keep - ready);
        let outdated = is_outdated(draft, service, row);
        let held = !followed && homes::holds(draft, row);
        let stop_first = terms.swaps(&reason, followed)
            && !(resting && swapping > 0)
            && swapping < terms.batch(target)
            && (!outdated || exchanged < terms.allowed);
        #[cfg(feature = "mutants")]
        let stop_first = stop_first
            || (reason == LeaveReason::Replaced
                && longshore_model::mutant::is(longshore_model::Mutant::StartFirstAsStopFirst));
        let gate_holds = terms.gated
            && outdated
            && reason == LeaveReason::Replaced
            && old <= target.saturating_sub(terms.passed);
        let replaced = replaced && !gate_holds;
        // A whole service out of every edge's reach says more about the check than about it.
        let judged = reason != LeaveReason::Unreachable || any_up;
        let succeeded = reason != LeaveReason::Rebalanced || rebalance::is_succeeded(draft, row);
        // Whatever else would replace it: a rollout that waits for a place holds no drain up.
        if crate::drains::is_forced(draft, row) {
            serving = serving.saturating_sub(u32::from(serves));
            given -= 1;
            left += 1;
            draft.leave(row, LeaveReason::NodeDrainForced);
        } else if floor_holds && judged && succeeded && (replaced || stop_first) {
            serving -= u32::from(serves);
            given -= 1;
            left += 1;
            old -= u32::from(outdated);
            let scale_in = keep == 0 && replaced && !draft.brake;
            let reason = leaving::of(draft, row, reason, scale_in, terms.stopped);
            give_up(draft, service, row, reason);
            sorted.waiting_gone += u32::from(stop_first && !replaced);
            places.take(draft, row);
            exchanged += u32::from(stop_first && !replaced);
        } else {
            let due = stop_first && serving - u32::from(serves) >= terms.floor_for(target, true);
            places.miss(row, due && !followed, held);
            stay.push((row, reason));
        }
    }
    sorted.give = stay;
    places.say(draft, service);
    left
}

/// Who goes first of those that are to be replaced: the smallest.
fn urgency(reason: &LeaveReason) -> u8 {
    match reason {
        LeaveReason::Failed { .. } => 0,
        LeaveReason::Unreachable => 1,
        LeaveReason::NodeDrain => 2,
        _ => 3,
    }
}

/// One leaves.
fn give_up(draft: &mut Draft<'_>, service: usize, row: usize, reason: LeaveReason) {
    if let LeaveReason::Failed { why } = &reason {
        verdict::count_failure(draft, service, row, why);
    }
    draft.leave(row, reason);
}

/// Staying replicas of other templates than the wanted one.
fn outdated_ones(draft: &Draft<'_>, service: usize) -> u32 {
    let active = draft.active(service).into_iter();
    let old = active.filter(|&row| is_outdated(draft, service, row));
    u32::try_from(old.count()).unwrap_or(u32::MAX)
}

/// Could users depend on it? Also when no edge can be asked: only one that an edge calls down, or
/// that its node does not call healthy, surely serves nobody. Without a route, edges have no say.
/// One that its node proves anew (its agent has lost its ledger) serves or is about to serve again.
fn may_serve(draft: &Draft<'_>, row: usize) -> bool {
    let Some(replica) = draft.replica(row) else {
        return false;
    };
    let seen = &draft.rows[row];
    let alive = matches!(seen.condition, Condition::Healthy | Condition::Unknown);
    let called_down = (seen.sight.down > 0 || seen.sight.kept_out > 0)
        && seen.sight.up == 0
        && draft.has_route(seen.service, replica);
    let proves_anew = seen.condition == Condition::Starting && replica.traffic != Traffic::Out;
    let counts = proves_anew || (replica.traffic == Traffic::Serve && alive);
    counts && !called_down
}

/// Gives up replicas beyond the count. Returns how many left.
fn trim(draft: &mut Draft<'_>, service: usize, sorted: &mut Sorted, terms: &Terms) -> u32 {
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
    let (mut lines, mut heap) = victims(draft, &sorted.keep, &on_node, terms.stopped);
    let floor = terms.floor(target);
    let give = sorted.give.iter().map(|(row, _)| *row);
    let rows = sorted
        .keep
        .iter()
        .chain(&sorted.doubted)
        .copied()
        .chain(give);
    let mut serving = u32::try_from(rows.filter(|&row| draft.serves(row)).count()).unwrap_or(0);
    let record = VictimRecord {
        surplus,
        considered: count(&sorted.keep),
        serving,
        floor,
        ..VictimRecord::default()
    };
    let mut choice = Choice::new(record, &on_node, terms.stopped);
    while surplus > 0
        && let Some(Reverse((entry, line))) = heap.pop()
    {
        let row = entry.1;
        // Counts per node only fall, so a stale entry only ever moves back.
        let now = victim(draft, row, &on_node, terms.stopped);
        if now > entry {
            heap.push(Reverse((now, line)));
            continue;
        }
        let serves = draft.serves(row);
        let unknown = in_doubt(draft, row);
        choice.consider(draft, row);
        if (serves || unknown) && serving.saturating_sub(serves.into()) < floor {
            break;
        }
        serving -= u32::from(serves);
        surplus -= 1;
        if let Some(number) = draft.rows[row].node {
            on_node[number] -= 1;
        }
        let reason = leaving::surplus(draft, row, terms.stopped);
        choice.leaves(draft, row);
        draft.leave(row, reason);
        heap.extend(lines[line].pop().map(|next| Reverse((next, line))));
    }
    choice.end(draft, service, heap);
    sorted
        .keep
        .retain(|&row| draft.replica(row).is_some_and(|r| r.leaving.is_none()));
    before - surplus
}

/// Its node cannot tell, or proves it anew, and users could depend on it.
fn in_doubt(draft: &Draft<'_>, row: usize) -> bool {
    let condition = &draft.rows[row].condition;
    matches!(condition, Condition::Unknown | Condition::Starting) && may_serve(draft, row)
}

/// A surplus is kept during an outage, whoever asked for it: of what is there, nobody knows yet
/// what stays. While the controller still watches, one that nobody asked for (nodes that came
/// back) is kept.
fn may_trim(draft: &mut Draft<'_>, service: usize) -> bool {
    if draft.brake {
        if let Some(outage) = draft.report.problems.first().cloned() {
            draft.wait(service, outage);
        }
        return false;
    }
    let observed = draft.input.config.observe_until(draft.input.started_ms);
    let started_ms = draft.input.started_ms;
    let entry = draft.planned(service);
    let last_change = entry.and_then(|entry| entry.last_change.as_ref());
    let asked = last_change.is_some_and(|change| {
        let metric = matches!(change.cause, ScaleCause::Metric { .. });
        change.at_ms >= started_ms && change.to < change.from && !metric
    });
    if asked || draft.input.now_ms >= observed {
        return true;
    }
    draft.look_again(service, observed);
    draft.wait(service, Reason::Observing { until_ms: observed });
    false
}

fn say_waits(draft: &mut Draft<'_>, service: usize, sorted: &Sorted) {
    let misplaced = |(row, why): &&(usize, LeaveReason)| {
        *why == LeaveReason::Replaced && !is_outdated(draft, service, *row)
    };
    let misplaced = sorted.give.iter().filter(misplaced).count();
    draft.services[service].report.misplaced = u32::try_from(misplaced).unwrap_or(u32::MAX);
    if let Some((row, _)) = sorted.give.first() {
        let replica = draft.rows[*row].id;
        draft.wait(service, Reason::WaitsForReplacement { replica });
    }
    let unknown = sorted.keep.iter().chain(&sorted.doubted).find_map(|&row| {
        let number = draft.rows[row].node?;
        let slot = &draft.cluster.nodes[number];
        (slot.state == NodeState::Away && draft.cluster.held[number].up > 0)
            .then(|| slot.id.clone())
    });
    if let Some(node) = unknown {
        draft.wait(service, Reason::UnknownButServing { node });
    }
    if let Some(row) = sorted.unheard.filter(|_| sorted.keep.is_empty()) {
        places::say_no_place_after(draft, service, row);
    }
}
