//! Where new replicas go: filters that explain themselves, then the smallest score.
//!
//! Candidates of a service sit in a heap. A placement only makes the chosen node (and its zone)
//! less attractive, so an entry that is found stale is scored again and put back: each placement
//! costs a few heap steps, not a look at every node.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Index;
use std::sync::Arc;

use longshore_model::plan::{PortBinding, Replica, Traffic};
use longshore_model::reason::{HomeRefusal, RefusalCount};
use longshore_model::record::ShortLook;
use longshore_model::spec::{
    ContainerSpec, ENGINE_LABELS, PlacementPolicy, ServiceSpec, ZONE_LABEL,
};
use longshore_model::{EventKind, Reason, ReplicaId, TemplateId};

use crate::cluster::{NodeSlot, Sight};
use crate::draft::{Condition, Draft, Now, Row, held, held_new};
use crate::{homes, progress};
use filter::refusal;
use sparse::Sparse;

pub(crate) use each_node::{place_each, say_no_room, takes_after};
pub(crate) use filter::{constraint_refusal, fit_refusal, lasting_refusal};
pub(crate) use room::{fit, is_tight, must_stop_first, no_room, places, reserves, would_take};

pub(crate) mod pool;

mod each_node;
mod filter;
mod notes;
mod room;
mod sparse;

/// What shall be placed.
#[derive(Debug)]
pub(crate) struct Order<'s> {
    pub service: usize,
    pub spec: &'s ServiceSpec,
    pub count: u32,
    pub template: TemplateId,
}

/// Rank of a node for one more replica; the smallest wins, field by field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// A replica of the service failed there lately, or edges cannot reach the node.
    suspect: bool,
    /// Replicas of the service under the same value of each spread label.
    spread: Vec<u32>,
    /// Bin-pack: free share of the reservations, the fullest first. Zero when spreading.
    free_permille: u32,
    /// Replicas of the service there.
    of_service: u32,
    /// Replicas of any service there.
    replicas: u32,
    /// Reserved share.
    fill_permille: u32,
    /// Measured CPU use, in tenths: finer would be noise.
    cpu_tenths: u32,
    /// The image must be pulled first.
    image_absent: bool,
    /// Position in id order.
    number: usize,
}

/// What one service's placement needs to know of all nodes.
struct Board<'s> {
    container: Arc<ContainerSpec>,
    placement: &'s longshore_model::spec::PlacementSpec,
    /// Replicas of the service per node.
    of_service: Sparse<u32>,
    /// The same, of the template to start: in a rollout the others are about to leave.
    of_template: Sparse<u32>,
    /// Per spread label: the value's number per node, and replicas per value.
    labels: Vec<(Vec<usize>, Vec<u32>)>,
    suspects: Sparse<bool>,
    /// The image, as nodes report it.
    image: String,
    /// Any node has the image.
    image_somewhere: bool,
    /// All nodes as they were before the first was placed, for the history.
    look: Option<notes::Look>,
    /// Volumes hold its replicas where their data is.
    is_pinned: bool,
}

/// Places up to `order.count` replicas; returns their rows. Where it stops short, the service
/// waits with the refusals, node by node.
pub(crate) fn place(draft: &mut Draft<'_>, order: &Order<'_>) -> Vec<usize> {
    let (placed, refused) = fill(draft, order, false);
    if let Some((reason, short)) = refused {
        draft.wait(order.service, reason);
        draft.services[order.service].short = Some(Box::new(short));
    }
    placed
}

/// Places up to `order.count` warm standbys. Where it stops short, says why; the service does not
/// wait for them.
pub(crate) fn place_standbys(draft: &mut Draft<'_>, order: &Order<'_>) -> Option<Reason> {
    fill(draft, order, true).1.map(|(reason, _)| reason)
}

/// Where places ran short: the reason, and all that it follows from.
type Refused = Option<(Reason, ShortLook)>;

fn fill(draft: &mut Draft<'_>, order: &Order<'_>, standby: bool) -> (Vec<usize>, Refused) {
    let Some(mut board) = board(draft, order) else {
        return (Vec::new(), None);
    };
    board.look = notes::look(draft, &board);
    let mut placed = match standby {
        false => pool::place(draft, order, &mut board),
        true => Vec::new(),
    };
    if count(&placed) == order.count {
        return (placed, None);
    }
    // What the pools cannot place, or the reason why there is no place.
    let mut heap: BinaryHeap<Reverse<Score>> = (0..draft.cluster.nodes.len())
        .filter(|&number| refusal(&draft.cluster.nodes[number], &board, number, draft).is_none())
        .map(|number| Reverse(score(draft, &board, number)))
        .collect();
    let mut slots = free_slots(draft, order.service, order.count - count(&placed));
    while count(&placed) < order.count {
        let Some(Reverse(entry)) = heap.pop() else {
            break;
        };
        let number = entry.number;
        if refusal(&draft.cluster.nodes[number], &board, number, draft).is_some() {
            continue;
        }
        let now = score(draft, &board, number);
        if now > entry {
            heap.push(Reverse(now));
            continue;
        }
        let Some(slot) = slots.pop() else { break };
        let Some(row) = add(draft, order, &board, number, slot, standby) else {
            slots.push(slot);
            continue;
        };
        placed.push(row);
        notes::chosen(draft, order, &board, row, &now, heap.peek());
        board.of_service[number] += 1;
        board.of_template[number] += 1;
        for (values, counts) in &mut board.labels {
            counts[values[number]] += 1;
        }
        heap.push(Reverse(score(draft, &board, number)));
    }
    let short = count(&placed) < order.count;
    let refused = short.then(|| {
        let facts = notes::short(draft, order, &board);
        (unplaceable(draft, &board), facts)
    });
    (placed, refused)
}

/// By node number: could the node take one more replica, and is nothing against it lately?
pub(crate) fn fitting(draft: &Draft<'_>, order: &Order<'_>) -> Vec<bool> {
    let Some(board) = board(draft, order) else {
        return vec![false; draft.cluster.nodes.len()];
    };
    let nodes = draft.cluster.nodes.iter().enumerate();
    nodes
        .map(|(n, slot)| !board.suspects[n] && refusal(slot, &board, n, draft).is_none())
        .collect()
}

/// Places one replica on one node, if it takes it; returns its row.
pub(crate) fn place_on(draft: &mut Draft<'_>, order: &Order<'_>, number: usize) -> Option<usize> {
    let board = board(draft, order)?;
    if refusal(&draft.cluster.nodes[number], &board, number, draft).is_some() {
        return None;
    }
    let slot = free_slots(draft, order.service, 1).pop()?;
    add(draft, order, &board, number, slot, false)
}

/// How many of the standbys in `rows`, all on node `number`, must go before the node can take a
/// replica of the order? None: all of them are not enough.
pub(crate) fn room_after(
    draft: &mut Draft<'_>,
    order: &Order<'_>,
    number: usize,
    rows: &[usize],
) -> Option<usize> {
    let mut board = board(draft, order)?;
    let as_it_is = draft.cluster.held[number].clone();
    let mut enough = None;
    for (gone, &row) in rows.iter().enumerate() {
        take_away(draft, &mut board, order, number, row);
        if refusal(&draft.cluster.nodes[number], &board, number, draft).is_none() {
            enough = Some(gone + 1);
            break;
        }
    }
    draft.cluster.held[number] = as_it_is;
    enough
}

/// The service waits with the refusals, node by node, that a replica of the order would meet if
/// the one of `row` were gone.
pub(crate) fn say_no_place_after(draft: &mut Draft<'_>, order: &Order<'_>, row: usize) {
    let (Some(mut board), Some(number)) = (board(draft, order), draft.rows[row].node) else {
        return;
    };
    let as_it_is = draft.cluster.held[number].clone();
    take_away(draft, &mut board, order, number, row);
    let (reason, short) = (
        unplaceable(draft, &board),
        notes::short(draft, order, &board),
    );
    draft.cluster.held[number] = as_it_is;
    draft.wait(order.service, reason);
    draft.services[order.service].short = Some(Box::new(short));
}

/// As if the row's replica were gone from its node, `number`.
fn take_away(
    draft: &mut Draft<'_>,
    board: &mut Board<'_>,
    order: &Order<'_>,
    number: usize,
    row: usize,
) {
    let Some(replica) = draft.replica(row) else {
        return;
    };
    let ports = replica.ports.clone();
    let frees = draft.runs(row).map(|spec| held(spec, replica));
    draft.cluster.held[number].release(frees.unwrap_or_default(), &ports);
    if draft.rows[row].service == order.service {
        board.of_service[number] = board.of_service[number].saturating_sub(1);
    }
}

fn count(list: &[usize]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn container(draft: &Draft<'_>, order: &Order<'_>) -> Option<Arc<ContainerSpec>> {
    if let Some(known) = draft.template(order.service, &order.template) {
        return Some(Arc::clone(known));
    }
    let wanted = draft.services[order.service].template.as_ref() == Some(&order.template);
    if wanted {
        return Some(Arc::new(order.spec.container.clone()));
    }
    // None runs any more, but it is what the last good revision ran.
    let good = draft.planned(order.service)?.good.as_ref()?;
    (good.template == order.template).then(|| Arc::new(good.spec.container.clone()))
}

fn board<'s>(draft: &Draft<'_>, order: &Order<'s>) -> Option<Board<'s>> {
    let container = container(draft, order)?;
    let mut of_service = Sparse::new(0_u32);
    let mut of_template = Sparse::new(0_u32);
    for &row in &draft.services[order.service].rows {
        let (Some(number), Some(replica)) = (draft.rows[row].node, draft.replica(row)) else {
            continue;
        };
        let stays = replica.leaving.is_none() && replica.ended.is_none();
        // A standby is gone in a moment, and only then its place is free: it begins to leave after
        // places were looked for, so that nobody can count on it earlier.
        of_service[number] += u32::from(stays || replica.paused);
        of_template[number] += u32::from(stays && replica.template == order.template);
    }
    let placement = &order.spec.placement;
    let labels = by_label(draft, order.spec, &of_template);
    let suspects = suspects(draft, order);
    let image = container.image_ref().to_string();
    let image_somewhere = draft.cluster.images().contains(&image);
    Some(Board {
        container,
        placement,
        of_service,
        of_template,
        labels,
        suspects,
        image,
        image_somewhere,
        look: None,
        is_pinned: homes::is_pinned(order.spec),
    })
}

/// Per spread label: the value's number per node, and replicas per value. Without labels in the
/// file a service that spreads does so over zones, where there are several.
pub(crate) fn by_label(
    draft: &Draft<'_>,
    spec: &ServiceSpec,
    of_service: &(impl Index<usize, Output = u32> + ?Sized),
) -> Vec<(Vec<usize>, Vec<u32>)> {
    let nodes = &draft.cluster.nodes;
    let placement = &spec.placement;
    let labels = placement.spread_labels.iter();
    let mut labels: Vec<_> = labels.map(|l| by_value(nodes, of_service, l)).collect();
    let spreads = placement.policy == PlacementPolicy::Spread;
    if labels.is_empty() && spreads && draft.cluster.has_zones() {
        labels.push(by_value(nodes, of_service, ZONE_LABEL));
    }
    labels
}

/// Nodes that edges cannot reach, or on which this very template failed. Where it failed on most
/// workers the template is to blame: avoiding them would crowd the rest.
fn suspects(draft: &Draft<'_>, order: &Order<'_>) -> Sparse<bool> {
    let nodes = &draft.cluster.nodes;
    let mut suspects = Sparse::new(false);
    for &number in &draft.cluster.unreachable {
        suspects[number] = true;
    }
    let failed = &draft.memory(order.service).failed_on;
    if failed.is_empty() {
        return suspects;
    }
    let failed = failed.iter().filter_map(|(id, last)| {
        let number = draft.cluster.number(id)?;
        let here = nodes[number].node.roles.worker && last.template == order.template;
        here.then_some(number)
    });
    let failed: Vec<usize> = failed.collect();
    let workers = nodes.iter().filter(|slot| slot.node.roles.worker).count();
    if failed.len() * 2 <= workers {
        for number in failed {
            suspects[number] = true;
        }
    }
    suspects
}

/// Numbers the values of a label and counts the service's replicas under each. Nodes without the
/// label share one value.
fn by_value(
    nodes: &[NodeSlot<'_>],
    of_service: &(impl Index<usize, Output = u32> + ?Sized),
    label: &str,
) -> (Vec<usize>, Vec<u32>) {
    let engine = label.strip_prefix(ENGINE_LABELS);
    let label = label.strip_prefix("node.labels.").unwrap_or(label);
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut values, mut counts) = (Vec::with_capacity(nodes.len()), Vec::new());
    for (at, slot) in nodes.iter().enumerate() {
        let of_engine = |name: &str| slot.seen?.capacity.engine_labels.get(name);
        let value = match engine {
            Some(name) => of_engine(name),
            None => slot.node.labels.get(label),
        };
        let value = value.map_or("", String::as_str);
        let fresh = numbers.len();
        let number = *numbers.entry(value).or_insert(fresh);
        if number == fresh {
            counts.push(0);
        }
        counts[number] += of_service[at];
        values.push(number);
    }
    (values, counts)
}

fn score(draft: &Draft<'_>, board: &Board<'_>, number: usize) -> Score {
    let (slot, held) = (&draft.cluster.nodes[number], &draft.cluster.held[number]);
    let fill_permille = held.fill_permille;
    let pack = board.placement.policy == PlacementPolicy::Binpack;
    let has_image = board.image_somewhere
        && slot
            .seen
            .is_some_and(|seen| seen.images.contains(&board.image));
    Score {
        suspect: board.suspects[number],
        spread: board
            .labels
            .iter()
            .map(|(values, counts)| counts[values[number]])
            .collect(),
        free_permille: if pack {
            1_000_u32.saturating_sub(fill_permille)
        } else {
            0
        },
        of_service: if pack { 0 } else { board.of_template[number] },
        replicas: if pack {
            u32::MAX - held.replicas
        } else {
            held.replicas
        },
        fill_permille,
        cpu_tenths: slot.cpu_tenths(&draft.input),
        image_absent: !has_image,
        number,
    }
}

/// Why nobody fits: the first nodes by name, all of them by kind.
fn unplaceable(draft: &Draft<'_>, board: &Board<'_>) -> Reason {
    let nodes = draft.cluster.nodes.iter().enumerate();
    let refused: Vec<_> = nodes
        .filter_map(|(number, slot)| Some((slot.id, refusal(slot, board, number, draft)?)))
        .collect();
    let refusals_max = draft.input.config.refusals_max;
    Reason::Unplaceable {
        home: home_refusal(draft, board),
        counts: RefusalCount::of(refused.iter().map(|(_, refusal)| refusal), refusals_max),
        nodes: u32::try_from(refused.len()).unwrap_or(u32::MAX),
        refusals: refused
            .into_iter()
            .take(refusals_max)
            .map(|(id, refusal)| (id.clone(), refusal))
            .collect(),
    }
}

/// Why the node that has the data of its volume takes none.
fn home_refusal(draft: &Draft<'_>, board: &Board<'_>) -> Option<Box<HomeRefusal>> {
    let (volume, node) = homes::home(draft, &board.container).filter(|_| board.is_pinned)?;
    let number = draft.cluster.number(node)?;
    let why = refusal(&draft.cluster.nodes[number], board, number, draft)?;
    Some(Box::new(HomeRefusal {
        volume: volume.to_owned(),
        node: node.clone(),
        why,
    }))
}

/// The lowest slot numbers that no staying replica has, highest first.
fn free_slots(draft: &Draft<'_>, service: usize, wanted: u32) -> Vec<u32> {
    let staying = draft.staying(service);
    let mut taken: Vec<u32> = staying
        .into_iter()
        .filter_map(|row| draft.replica(row))
        .map(|r| r.slot)
        .collect();
    taken.sort_unstable();
    let mut taken = taken.into_iter().peekable();
    let mut slots = Vec::new();
    let mut slot = 1_u32;
    while count_u32(&slots) < wanted {
        while taken.next_if(|&t| t < slot).is_some() {}
        if taken.peek() == Some(&slot) {
            taken.next();
        } else {
            slots.push(slot);
        }
        slot = slot.saturating_add(1);
    }
    slots.reverse();
    slots
}

fn count_u32(list: &[u32]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

/// Reserves ports for a replica: its id chooses where the search begins, so that a port comes
/// round again as late as possible.
fn reserve_ports(
    draft: &Draft<'_>,
    number: usize,
    id: ReplicaId,
    container: &ContainerSpec,
) -> Option<Vec<PortBinding>> {
    let (slot, held) = (&draft.cluster.nodes[number], &draft.cluster.held[number]);
    let (low, high) = (draft.input.config.port_min, draft.input.config.port_max);
    let span = u64::from(high.checked_sub(low)?) + 1;
    let mut bindings: Vec<PortBinding> = Vec::with_capacity(container.ports.len());
    let mut step = 0_u64;
    let fixed = &container.fixed_ports;
    for &container_port in &container.ports {
        if let Some(&host_port) = fixed.get(&container_port) {
            bindings.push(PortBinding {
                container_port,
                host_port,
            });
            continue;
        }
        let host_port = loop {
            if step >= span {
                return None;
            }
            let offset = (id.0.wrapping_add(step)) % span;
            let port = low + u16::try_from(offset).ok()?;
            let run = u64::from(held.run_from(port));
            // Beyond the last port of the range the search goes on with the first one.
            step += run.clamp(1, span - offset);
            let reserved = fixed.values().any(|other| *other == port);
            if run == 0 && !reserved && !slot.taken_by_stranger(port) {
                break port;
            }
        };
        bindings.push(PortBinding {
            container_port,
            host_port,
        });
    }
    Some(bindings)
}

/// Adds one replica to the plan.
fn add(
    draft: &mut Draft<'_>,
    order: &Order<'_>,
    board: &Board<'_>,
    number: usize,
    slot: u32,
    standby: bool,
) -> Option<usize> {
    let id = ReplicaId(draft.next_replica.max(1));
    let ports = reserve_ports(draft, number, id, &board.container)?;
    // An id is never used again: without a next one there is no more replica.
    draft.next_replica = id.0.checked_add(1)?;
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::ReplicaIdReused) {
        draft.next_replica = id.0;
    }
    if board.is_pinned {
        homes::settle(draft, &board.container, number);
    }
    let revision = progress::revision(draft, order.service);
    let wants = held_new(&board.container, standby);
    draft.cluster.held_mut(number).reserve(wants, &ports);
    let node = &mut draft.cluster.nodes[number];
    node.dirty = true;
    let service = draft.services[order.service].key.clone();
    let replica = Replica {
        id,
        service: service.clone(),
        slot,
        node: node.id.clone(),
        address: node.node.address,
        template: order.template.clone(),
        revision,
        ports,
        created_ms: draft.input.now_ms,
        traffic: Traffic::Out,
        leaving: None,
        stop: false,
        paused: standby,
        woken: None,
        ended: None,
    };
    let event = EventKind::Placed {
        service,
        slot,
        replica: id,
        node: node.id.clone(),
    };
    draft.report.events.push(event);
    if draft.template(order.service, &order.template).is_none() {
        let templates = &mut draft.entry(order.service).templates;
        templates.insert(order.template.clone(), Arc::clone(&board.container));
    }
    let row = draft.rows.len();
    draft.rows.push(Row {
        id,
        service: order.service,
        node: Some(number),
        status: None,
        condition: Condition::Starting,
        sight: Sight::default(),
        was: Traffic::Out,
        was_in: false,
        before: None,
        now: Now::Other(Arc::new(replica)),
    });
    draft.services[order.service].rows.push(row);
    Some(row)
}

/// Forgets where replicas failed once the longest back-off has passed.
pub(crate) fn forget_failures(draft: &mut Draft<'_>) {
    let (now_ms, keep_ms) = (draft.input.now_ms, draft.input.config.backoff_cap_ms);
    let past = |at_ms: u64| now_ms.saturating_sub(at_ms) >= keep_ms;
    for service in 0..draft.services.len() {
        let failed = &draft.memory(service).failed_on;
        if failed.values().any(|failed| past(failed.at_ms)) {
            let failed = &mut draft.memory_mut(service).failed_on;
            failed.retain(|_, failed| !past(failed.at_ms));
        }
        let times = draft.memory(service).failed_on.values();
        if let Some(first_ms) = times.map(|failed| failed.at_ms).min() {
            draft.look_again(service, first_ms.saturating_add(keep_ms));
        }
    }
}
