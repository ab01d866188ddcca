//! Candidates that services share.
//!
//! To a service that spreads over nodes alone, all nodes that it has not touched are ranked
//! alike: by what they hold, not by whom. Such nodes sit in one heap per set of constraints for
//! the whole run. While replicas are placed a node only becomes less attractive, so that an entry
//! which turns out to be stale is ranked again and put back. A service looks at the best of the
//! heap and at the nodes that it has touched itself, and puts back what it took: a placement costs
//! a few heap steps, and no service looks at every node.
//!
//! The choice is the one that a look at every node would make: the smallest [`Score`].

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use longshore_model::ContainerSpec;
use longshore_model::spec::{Constraint, PlacementPolicy, PlacementSpec};

use super::filter::room_refusal;
use super::{Board, Order, Score, add, free_slots, refusal, score};
use crate::cluster::{Cluster, NodeSlot};
use crate::draft::Draft;

/// Most pools of a run; services beyond them look at every node.
const POOLS_MAX: usize = 256;

/// Values of some numbers, and the same for all others.
#[derive(Debug)]
pub(super) struct Sparse<T> {
    values: BTreeMap<usize, T>,
    other: T,
}

impl<T> Sparse<T> {
    pub(super) fn new(other: T) -> Self {
        Self {
            values: BTreeMap::new(),
            other,
        }
    }
}

impl<T> Index<usize> for Sparse<T> {
    type Output = T;
    fn index(&self, number: usize) -> &T {
        self.values.get(&number).unwrap_or(&self.other)
    }
}

impl<T: Copy> IndexMut<usize> for Sparse<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        self.values.entry(number).or_insert(self.other)
    }
}

/// Rank of a node that the service has not touched: the later fields of [`Score`].
type Rank = (u32, u32, u32, bool, usize);

/// What the candidates of a pool have in common.
#[derive(Debug, PartialEq)]
struct Kind {
    constraints: Vec<Constraint>,
    platform: Option<longshore_model::spec::Platform>,
    /// The image, if any node has it.
    image: Option<String>,
}

#[derive(Debug)]
struct Pool {
    kind: Kind,
    heap: BinaryHeap<Reverse<Rank>>,
}

/// The pools of a run.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Vec<Pool>,
    /// Images that any node has; none: not looked yet.
    images: Option<BTreeSet<String>>,
}

impl Pools {
    /// Room came back: ranks may have improved, so that every heap is made again.
    pub(crate) fn clear(&mut self) {
        self.pools.clear();
    }

    fn has_image(&mut self, cluster_nodes: &[NodeSlot<'_>], image: &str) -> bool {
        let images = self.images.get_or_insert_with(|| {
            let seen = cluster_nodes.iter().filter_map(|slot| slot.seen);
            seen.flat_map(|seen| seen.images.iter().cloned()).collect()
        });
        images.contains(image)
    }
}

fn rank(score: &Score) -> Rank {
    (
        score.replicas,
        score.fill_permille,
        score.cpu_tenths,
        score.image_absent,
        score.number,
    )
}

/// Places as many replicas of the order as the pools can; none if they do not fit it.
pub(super) fn place(draft: &mut Draft<'_>, order: &Order<'_>, board: &mut Board<'_>) -> Vec<usize> {
    if board.placement.policy != PlacementPolicy::Spread || !board.labels.is_empty() {
        return Vec::new();
    }
    let Some(at) = pool(draft, board) else {
        return Vec::new();
    };
    let mut heap = std::mem::take(&mut draft.cluster.pools.pools[at].heap);
    let mut run = Run {
        aside: Vec::new(),
        own: BinaryHeap::new(),
        touched: BTreeSet::new(),
    };
    let known = board
        .of_service
        .values
        .keys()
        .chain(board.suspects.values.keys());
    for &number in known {
        if run.touched.insert(number) {
            let score = score(draft, board, number);
            run.own.push(Reverse(score));
        }
    }
    let placed = run.fill(draft, order, board, &mut heap);
    for number in run.aside {
        heap.push(Reverse(rank(&score(draft, board, number))));
    }
    draft.cluster.pools.pools[at].heap = heap;
    placed
}

/// The pool for the order; made if there is none yet.
fn pool(draft: &mut Draft<'_>, board: &Board<'_>) -> Option<usize> {
    let cluster = &mut draft.cluster;
    let image = &board.container.image;
    let held = cluster.pools.has_image(&cluster.nodes, image);
    let kind = Kind {
        constraints: board.placement.constraints.clone(),
        platform: board.container.platform.clone(),
        image: held.then(|| image.clone()),
    };
    let known = cluster
        .pools
        .pools
        .iter()
        .position(|pool| pool.kind == kind);
    if known.is_some() {
        return known;
    }
    if cluster.pools.pools.len() >= POOLS_MAX {
        return None;
    }
    let heap = members(draft, board);
    let pools = &mut draft.cluster.pools.pools;
    pools.push(Pool { kind, heap });
    Some(pools.len() - 1)
}

/// Nodes that take a replica which asks for nothing.
fn members(draft: &Draft<'_>, board: &Board<'_>) -> BinaryHeap<Reverse<Rank>> {
    let placement = PlacementSpec {
        constraints: board.placement.constraints.clone(),
        ..PlacementSpec::default()
    };
    let asks_nothing = Board {
        container: Arc::new(ContainerSpec {
            image: board.container.image.clone(),
            platform: board.container.platform.clone(),
            ..ContainerSpec::default()
        }),
        placement: &placement,
        of_service: Sparse::new(0),
        of_template: Sparse::new(0),
        labels: Vec::new(),
        suspects: Sparse::new(false),
    };
    let Cluster { nodes, .. } = &draft.cluster;
    let nodes = nodes.iter().enumerate();
    nodes
        .filter(|(number, slot)| refusal(slot, &asks_nothing, *number, draft).is_none())
        .map(|(number, _)| Reverse(rank(&score(draft, &asks_nothing, number))))
        .collect()
}

/// One order on one pool.
struct Run {
    /// Taken out of the pool, to be put back.
    aside: Vec<usize>,
    /// Nodes that the service has touched, or that are suspect.
    own: BinaryHeap<Reverse<Score>>,
    touched: BTreeSet<usize>,
}

impl Run {
    fn fill(
        &mut self,
        draft: &mut Draft<'_>,
        order: &Order<'_>,
        board: &mut Board<'_>,
        heap: &mut BinaryHeap<Reverse<Rank>>,
    ) -> Vec<usize> {
        let mut slots = free_slots(draft, order.service, order.count);
        let mut placed = Vec::new();
        while let Some(&slot) = slots.last() {
            let fresh = self.best_fresh(draft, board, heap);
            // Own nodes only become less attractive: a fresh one that beats the best of them as it
            // was beats them as they are. Only the history asks who that is.
            let wants_next = super::notes::wants_next(draft, order);
            let clear = !wants_next
                && fresh.as_ref().is_some_and(|fresh| {
                    let own = self.own.peek();
                    own.is_none_or(|Reverse(own)| fresh < own)
                });
            let own = match clear {
                true => None,
                false => self.best_own(draft, board),
            };
            let is_fresh = match (&fresh, &own) {
                (None, None) => break,
                (Some(fresh), Some(own)) => fresh < own,
                (fresh, _) => fresh.is_some(),
            };
            let (chosen, other) = match is_fresh {
                true => (fresh, own),
                false => (own, fresh),
            };
            let Some(chosen) = chosen else { break };
            let number = chosen.number;
            if is_fresh {
                heap.pop();
                self.aside.push(number);
                self.touched.insert(number);
            } else {
                self.own.pop();
            }
            let next = match (wants_next, is_fresh) {
                (false, _) => None,
                (true, true) => self.best_fresh(draft, board, heap),
                (true, false) => self.best_own(draft, board),
            };
            let next = [next, other].into_iter().flatten().min().map(Reverse);
            let Some(row) = add(draft, order, board, number, slot, false) else {
                continue;
            };
            slots.pop();
            placed.push(row);
            super::notes::chosen(draft, order, board, row, &chosen, next.as_ref());
            board.of_service[number] += 1;
            board.of_template[number] += 1;
            self.own.push(Reverse(score(draft, board, number)));
        }
        placed
    }

    /// The best node of the pool that the service has not touched and that takes a replica.
    fn best_fresh(
        &mut self,
        draft: &Draft<'_>,
        board: &Board<'_>,
        heap: &mut BinaryHeap<Reverse<Rank>>,
    ) -> Option<Score> {
        loop {
            let mut top = heap.peek_mut()?;
            let Reverse(entry) = *top;
            let number = entry.4;
            let score = score(draft, board, number);
            let now = rank(&score);
            if now > entry {
                *top = Reverse(now);
            } else if self.touched.contains(&number)
                || room_refusal(&draft.cluster.nodes[number], board, number, draft).is_some()
            {
                PeekMut::pop(top);
                self.aside.push(number);
            } else {
                return Some(score);
            }
        }
    }

    /// The best of the service's own nodes that takes one more.
    fn best_own(&mut self, draft: &Draft<'_>, board: &Board<'_>) -> Option<Score> {
        loop {
            let mut top = self.own.peek_mut()?;
            let number = top.0.number;
            let slot = &draft.cluster.nodes[number];
            if refusal(slot, board, number, draft).is_some() {
                PeekMut::pop(top);
                continue;
            }
            let now = score(draft, board, number);
            if now > top.0 {
                top.0 = now;
            } else {
                return Some(now);
            }
        }
    }
}
