//! Services with one replica on each node: each node is a matter of its own. What one of them
//! lacks, no other has: nothing is started elsewhere, and nobody waits for that.
//!
//! A node that no longer takes the service loses its replica whatever the others do. Between two
//! templates, the successor serves on the same node before the old one leaves; where old ones stop
//! first, the floor of the whole service holds, as elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::reason::{LeaveReason, Refusal};
use longshore_model::{ServiceSpec, TemplateId};

use super::terms::Terms;
use super::{
    Sorted, count, forget_shortage, give_up, leaving, may_serve, may_trim, new_ones, say_waits,
    sick_long, template_to_start,
};
use crate::depends;
use crate::draft::Draft;
use crate::each_node::{is_kept_old, refusals, rollout_target};
use crate::failures::{backs_off, failures, is_outdated};
use crate::place::{self, Order};

/// One node of the service.
#[derive(Debug, Default)]
struct Seat {
    /// Rows that stay, in the order of their ids.
    staying: Vec<usize>,
    /// Of these, some whose node cannot tell.
    doubted: bool,
    /// One that is exchanged is on its way out.
    exchanging: bool,
    /// Anything of the service is.
    leaving: bool,
}

/// The nodes of the service, while one run changes them.
struct Seats {
    by_node: BTreeMap<usize, Seat>,
    /// By node number: why it takes none.
    refused: Vec<Option<Refusal>>,
}

impl Seats {
    fn of(draft: &Draft<'_>, service: usize, spec: &ServiceSpec) -> Self {
        let mut by_node: BTreeMap<usize, Seat> = BTreeMap::new();
        for &row in &draft.services[service].rows {
            let (Some(number), Some(replica)) = (draft.rows[row].node, draft.replica(row)) else {
                continue;
            };
            let seat = by_node.entry(number).or_default();
            match &replica.leaving {
                Some(_) if draft.on_lost_node(row) => {}
                Some(leaving) => {
                    seat.leaving = true;
                    seat.exchanging |= leaving.reason.is_exchange();
                }
                None if replica.paused => {}
                None => seat.staying.push(row),
            }
        }
        for (&number, seat) in &mut by_node {
            seat.doubted = draft.cluster.nodes[number].doubted;
        }
        let refused = refusals(draft, service, spec);
        Self { by_node, refused }
    }

    /// Nodes that take new replicas now, in id order.
    fn open(&self, draft: &Draft<'_>) -> Vec<usize> {
        let takes = |number: &usize| {
            self.refused[*number].is_none() && draft.cluster.nodes[*number].takes()
        };
        (0..self.refused.len()).filter(takes).collect()
    }

    fn staying(&self, number: usize) -> &[usize] {
        let seat = self.by_node.get(&number);
        seat.map_or(&[], |seat| &seat.staying)
    }

    fn leaves(&mut self, number: usize, row: usize) {
        if let Some(seat) = self.by_node.get_mut(&number) {
            seat.staying.retain(|&other| other != row);
            seat.leaving = true;
        }
    }

    fn comes(&mut self, draft: &Draft<'_>, rows: &[usize]) {
        for &row in rows {
            if let Some(number) = draft.rows[row].node {
                self.by_node.entry(number).or_default().staying.push(row);
            }
        }
    }

    /// One is exchanged there by now. True: one was before.
    fn exchanges(&mut self, number: usize) -> bool {
        let seat = self.by_node.entry(number).or_default();
        std::mem::replace(&mut seat.exchanging, true)
    }

    /// Nodes where an old one was stopped first and is not gone yet.
    fn exchanging(&self) -> u32 {
        let seats = self.by_node.values();
        u32::try_from(seats.filter(|seat| seat.exchanging).count()).unwrap_or(u32::MAX)
    }

    /// Nodes with one that serves.
    fn serving(&self, draft: &Draft<'_>) -> u32 {
        let serves = |seat: &&Seat| seat.staying.iter().any(|&row| draft.serves(row));
        u32::try_from(self.by_node.values().filter(serves).count()).unwrap_or(u32::MAX)
    }
}

/// Brings each node to one replica of the right template, as far as it may go now.
pub(super) fn reconcile(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) {
    let terms = Terms::of(draft, service, spec);
    forget_shortage(draft, service);
    let mut seats = Seats::of(draft, service, spec);
    send_away(draft, &mut seats);
    end_sick(draft, service, &mut seats);
    trim(draft, service, &mut seats, &terms);
    let mut short = fill(draft, service, spec, &mut seats, &terms);
    match terms.stop_first {
        true => short.extend(stop_first(draft, service, spec, &mut seats, &terms)),
        false => {
            // First who comes: beside one that serves nobody, a successor is enough as soon as it
            // is planned, and that is not for the next run to find.
            short.extend(start_first(draft, service, spec, &mut seats, &terms));
            follow(draft, service, &mut seats, &terms);
        }
    }
    place::say_no_room(draft, service, &short);
    say(draft, service, &seats, &terms);
}

/// Nodes that no longer take the service lose what they have. One whose node cannot tell is left
/// alone until it can, or is lost.
fn send_away(draft: &mut Draft<'_>, seats: &mut Seats) {
    for (&number, seat) in &mut seats.by_node {
        let Some(why) = seats.refused[number].clone().filter(|_| !seat.doubted) else {
            continue;
        };
        for row in std::mem::take(&mut seat.staying) {
            let reason = match why {
                Refusal::Draining => LeaveReason::NodeDrain,
                ref why => LeaveReason::NodeUnfit { why: why.clone() },
            };
            draft.leave(row, reason);
            seat.leaving = true;
        }
    }
}

/// What has failed its check for long is started anew where it is.
fn end_sick(draft: &mut Draft<'_>, service: usize, seats: &mut Seats) {
    let may = draft.input.now_ms >= draft.input.config.observe_until(draft.input.started_ms);
    if draft.brake || !may {
        return;
    }
    for number in seats.open(draft) {
        for row in seats.staying(number).to_vec() {
            if let Some(why) = sick_long(draft, row) {
                give_up(draft, service, row, LeaveReason::Failed { why });
                seats.leaves(number, row);
            }
        }
    }
}

/// One of each template is enough for a node; of a rollout that failed, the old one alone.
fn trim(draft: &mut Draft<'_>, service: usize, seats: &mut Seats, terms: &Terms) {
    let mut surplus = Vec::new();
    for (&number, seat) in &seats.by_node {
        if seat.doubted || seat.staying.len() < 2 {
            continue;
        }
        let mut kinds: BTreeMap<bool, Vec<usize>> = BTreeMap::new();
        for &row in &seat.staying {
            let old = is_outdated(draft, service, row);
            kinds.entry(old).or_default().push(row);
        }
        for rows in kinds.values_mut() {
            rows.sort_by_key(|&row| {
                let serves = (!draft.serves(row), !may_serve(draft, row));
                (serves, draft.rows[row].id)
            });
        }
        let unwanted_new = terms.stopped && kinds.contains_key(&true);
        for (old, rows) in kinds {
            let keeps = usize::from(old || !unwanted_new);
            surplus.extend(rows.into_iter().skip(keeps).map(|row| (number, row)));
        }
    }
    if surplus.is_empty() || !may_trim(draft, service) {
        return;
    }
    for (number, row) in surplus {
        let others = seats.staying(number).iter();
        let served = others
            .filter(|&&other| other != row)
            .any(|&other| draft.serves(other));
        // Where an edge does not answer, nobody is known to serve, and users may depend on any.
        if served || !may_serve(draft, row) {
            let reason = leaving::surplus(draft, row, terms.stopped);
            draft.leave(row, reason);
            seats.leaves(number, row);
        }
    }
}

/// Nodes without any get one; says where there is no room. A node on which one is still on its way
/// out makes room in a moment, and of that nothing is said.
fn fill(
    draft: &mut Draft<'_>,
    service: usize,
    spec: &ServiceSpec,
    seats: &mut Seats,
    terms: &Terms,
) -> Vec<(usize, Refusal)> {
    let new = new_ones(draft, service);
    let Some(template) = template_to_start(draft, service, terms, new) else {
        return Vec::new();
    };
    let mut empty = seats.open(draft);
    empty.retain(|number| {
        let seat = seats.by_node.get(number);
        seat.is_none_or(|seat| {
            let waits = terms.stop_first && seat.exchanging || terms.sole_writer && seat.leaving;
            seat.staying.is_empty() && !waits
        })
    });
    if empty.is_empty() || depends::waits(draft, service) {
        return Vec::new();
    }
    start(draft, service, spec, seats, terms, template, empty)
}

/// Starts one on each of the nodes; returns those without room.
fn start(
    draft: &mut Draft<'_>,
    service: usize,
    spec: &ServiceSpec,
    seats: &mut Seats,
    terms: &Terms,
    template: TemplateId,
    mut nodes: Vec<usize>,
) -> Vec<(usize, Refusal)> {
    rest(draft, service, terms, &template, &mut nodes);
    let order = Order {
        service,
        spec,
        count: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
        template,
    };
    let (placed, mut refused) = place::place_each(draft, &order, &nodes);
    seats.comes(draft, &placed);
    refused.retain(|(number, _)| !seats.by_node.get(number).is_some_and(|seat| seat.leaving));
    refused
}

/// Takes away the nodes on which the template failed lately: there it pauses. The others know
/// nothing of it. After a start of the controller nobody remembers where it was: then all pause.
fn rest(
    draft: &mut Draft<'_>,
    service: usize,
    terms: &Terms,
    template: &TemplateId,
    nodes: &mut Vec<usize>,
) {
    if failures(draft, service).is_none() || nodes.is_empty() {
        return;
    }
    let failed = draft.memory(service).failed_on.iter();
    let failed = failed.filter(|(_, last)| last.template == *template);
    let failed: BTreeSet<usize> = failed
        .filter_map(|(id, _)| draft.cluster.number(id))
        .collect();
    let pauses = |number: &usize| failed.is_empty() || failed.contains(number);
    if nodes.iter().any(pauses) && backs_off(draft, service, terms.stopped) {
        nodes.retain(|number| !pauses(number));
    }
}

/// Old ones whose successor serves leave.
fn follow(draft: &mut Draft<'_>, service: usize, seats: &mut Seats, terms: &Terms) {
    if terms.stopped {
        return;
    }
    let target = rollout_target(draft, service);
    let active = draft.active(service).into_iter();
    let old = active.filter(|&row| is_outdated(draft, service, row) && !is_kept_old(draft, row));
    let mut old = u32::try_from(old.count()).unwrap_or(u32::MAX);
    for number in seats.open(draft) {
        let staying = seats.staying(number).to_vec();
        let (olds, news): (Vec<_>, Vec<_>) = staying
            .into_iter()
            .partition(|&row| is_outdated(draft, service, row));
        let serves = news.iter().any(|&row| draft.serves(row));
        for row in olds {
            #[cfg(feature = "mutants")]
            let serves = serves
                || longshore_model::mutant::is(longshore_model::Mutant::StartFirstAsStopFirst);
            let followed = serves || (!news.is_empty() && !may_serve(draft, row));
            let gate_holds = terms.gated && old <= target.saturating_sub(terms.passed);
            if followed && !gate_holds {
                let reason = leaving::of(draft, row, LeaveReason::Replaced, false, false);
                give_up(draft, service, row, reason);
                seats.leaves(number, row);
                old = old.saturating_sub(1);
            }
        }
    }
}

/// Successors start beside old ones, as many as the rollout allows; those beside old ones that do
/// not serve first.
fn start_first(
    draft: &mut Draft<'_>,
    service: usize,
    spec: &ServiceSpec,
    seats: &mut Seats,
    terms: &Terms,
) -> Vec<(usize, Refusal)> {
    let more = terms.allowed.saturating_sub(new_ones(draft, service));
    let Some(template) = draft.services[service].template.clone() else {
        return Vec::new();
    };
    if terms.stopped || more == 0 {
        return Vec::new();
    }
    let mut nodes = seats.open(draft);
    nodes.retain(|&number| {
        let rows = seats.staying(number);
        !rows.is_empty() && rows.iter().all(|&row| is_outdated(draft, service, row))
    });
    nodes.sort_by_key(|&number| {
        let rows = seats.staying(number);
        (rows.iter().any(|&row| draft.serves(row)), number)
    });
    nodes.truncate(usize::try_from(more).unwrap_or(usize::MAX));
    start(draft, service, spec, seats, terms, template, nodes)
}

/// Old ones leave before new ones start, as many at a time as the file says, and only where a
/// successor finds room then.
fn stop_first(
    draft: &mut Draft<'_>,
    service: usize,
    spec: &ServiceSpec,
    seats: &mut Seats,
    terms: &Terms,
) -> Vec<(usize, Refusal)> {
    let Some(template) = draft.services[service].template.clone() else {
        return Vec::new();
    };
    if terms.stopped {
        return Vec::new();
    }
    let target = draft.target(service);
    let order = Order {
        service,
        spec,
        count: 1,
        template,
    };
    let mut nodes = seats.open(draft);
    nodes.sort_by_key(|&number| {
        let rows = seats.staying(number);
        (rows.iter().any(|&row| draft.serves(row)), number)
    });
    let mut serving = seats.serving(draft);
    let mut swaps = Swaps::of(draft, service, seats);
    let mut short = Vec::new();
    for number in nodes {
        let rows = seats.staying(number).to_vec();
        let (olds, news): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|&row| is_outdated(draft, service, row));
        let followed = news.iter().any(|&new| draft.serves(new));
        for row in olds {
            let others = seats.staying(number).iter();
            let alone = !others
                .filter(|&&other| other != row)
                .any(|&other| draft.serves(other));
            let served = u32::from(alone && draft.serves(row));
            let floor_holds = followed
                || !may_serve(draft, row)
                || serving.saturating_sub(served) >= terms.floor(target);
            if !(floor_holds && (followed || swaps.may_go_on(terms, target))) {
                continue;
            }
            let room = match news.is_empty() {
                true => place::takes_after(draft, &order, row),
                false => Ok(()),
            };
            if let Err(why) = room {
                short.push((number, why));
                continue;
            }
            let reason = leaving::of(draft, row, LeaveReason::Replaced, false, false);
            give_up(draft, service, row, reason);
            seats.leaves(number, row);
            serving = serving.saturating_sub(served);
            if !followed && !seats.exchanges(number) {
                swaps.begun();
            }
        }
    }
    short
}

/// What was stopped first and is not made up for yet.
#[derive(Debug)]
struct Swaps {
    /// Nodes whose old one is on its way out, and new ones that do not serve yet.
    swapping: u32,
    /// Such nodes, and all new ones.
    exchanged: u32,
    /// New ones failed lately.
    resting: bool,
}

impl Swaps {
    fn of(draft: &Draft<'_>, service: usize, seats: &Seats) -> Self {
        let new = draft.active(service).into_iter();
        let new: Vec<usize> = new
            .filter(|&row| !is_outdated(draft, service, row))
            .collect();
        let unready = new.iter().filter(|&&row| !draft.serves(row)).count();
        let unready = u32::try_from(unready).unwrap_or(u32::MAX);
        let exchanging = seats.exchanging();
        Self {
            swapping: exchanging.saturating_add(unready),
            exchanged: exchanging.saturating_add(count(&new)),
            resting: failures(draft, service).is_some(),
        }
    }

    /// May one more be stopped first?
    fn may_go_on(&self, terms: &Terms, target: u32) -> bool {
        !(self.resting && self.swapping > 0)
            && self.swapping < terms.batch(target)
            && self.exchanged < terms.allowed
    }

    fn begun(&mut self) {
        self.swapping = self.swapping.saturating_add(1);
        self.exchanged = self.exchanged.saturating_add(1);
    }
}

/// What is there now, for the waits.
fn say(draft: &mut Draft<'_>, service: usize, seats: &Seats, terms: &Terms) {
    let mut sorted = Sorted::default();
    for (&number, seat) in &seats.by_node {
        let takes = draft.cluster.nodes[number].takes();
        for &row in &seat.staying {
            let old = !terms.stopped && is_outdated(draft, service, row);
            match (seat.doubted, old && takes) {
                (true, _) => sorted.doubted.push(row),
                (false, true) => sorted.give.push((row, LeaveReason::Replaced)),
                (false, false) => sorted.keep.push(row),
            }
        }
    }
    say_waits(draft, service, &sorted);
}
