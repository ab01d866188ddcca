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
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use longshore_model::spec::{Constraint, PlacementPolicy};

use super::filter::{fit_refusal, room_refusal};
use super::sparse::Sparse;
use super::{Board, Order, Score, add, free_slots, refusal, score};
use crate::cluster::{Cluster, Held};
use crate::draft::Draft;

/// Most pools of a run; services beyond them look at every node.
const POOLS_MAX: usize = 256;

/// Rank of a node that the service has not touched: the later fields of [`Score`], packed so that
/// heaps of many nodes are small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u128);

impl Rank {
    const IMAGE_ABSENT: u128 = 1 << 32;

    fn of(score: &Score) -> Self {
        // CPU use is ten times the capacity at most.
        let cpu_tenths = u128::from(score.cpu_tenths.min(0xffff)) << 33;
        let image_absent = u128::from(score.image_absent) << 32;
        let place = Self::at(score.replicas, score.fill_permille, score.number);
        Self(place.0 | cpu_tenths | image_absent)
    }

    /// The best rank that a node with so many replicas and this reserved share can have.
    fn at(replicas: u32, fill_permille: u32, number: usize) -> Self {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let place = u128::from(replicas) << 96 | u128::from(fill_permille) << 64;
        Self(place | u128::from(number))
    }

    fn number(self) -> usize {
        (self.0 & u128::from(u32::MAX)) as usize
    }
}

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
    /// So many of the line were looked at.
    passed: usize,
}

/// All nodes, the emptiest first, as they were when the line was made. It is put into order only
/// as far as somebody looks.
#[derive(Debug, Default)]
struct Line {
    ordered: Vec<Rank>,
    rest: BinaryHeap<Reverse<Rank>>,
}

impl Line {
    /// Ranks are those or later ones, as long as nodes only become less attractive.
    fn new(held: &[Held]) -> Self {
        let nodes = held.iter().enumerate();
        let ranks = nodes.map(|(number, h)| Rank::at(h.replicas, h.fill_permille, number));
        Self {
            ordered: Vec::new(),
            rest: ranks.map(Reverse).collect(),
        }
    }

    /// The node at a place of the line.
    fn get(&mut self, at: usize) -> Option<Rank> {
        while self.ordered.len() <= at {
            let Reverse(next) = self.rest.pop()?;
            self.ordered.push(next);
        }
        self.ordered.get(at).copied()
    }
}

/// The pools of a run.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Vec<Pool>,
    /// Made when first needed.
    line: Option<Line>,
}

impl Pools {
    /// Room came back: ranks may have improved, so that the line is made again.
    pub(crate) fn clear(&mut self) {
        self.pools.clear();
        self.line = None;
    }
}

/// Places as many replicas of the order as the pools can; none if they do not fit it.
pub(super) fn place(draft: &mut Draft<'_>, order: &Order<'_>, board: &mut Board<'_>) -> Vec<usize> {
    let spreads = board.placement.policy == PlacementPolicy::Spread && board.labels.is_empty();
    // What a volume holds goes to one node, or holds the next one once it is placed.
    if !spreads || board.is_pinned {
        return Vec::new();
    }
    let Some(at) = pool(draft, board) else {
        return Vec::new();
    };
    let mut run = Run {
        heap: std::mem::take(&mut draft.cluster.pools.pools[at].heap),
        passed: draft.cluster.pools.pools[at].passed,
        line: draft.cluster.pools.line.take(),
        aside: Vec::new(),
        own: BinaryHeap::new(),
        touched: Sparse::new(false),
    };
    let rows = draft.services[order.service].rows.iter();
    let known = rows.filter_map(|&row| draft.rows[row].node);
    for number in known.chain(board.suspects.numbers()) {
        let counts = board.of_service[number] > 0 || board.suspects[number];
        if counts && !run.touched[number] {
            run.touched[number] = true;
            let score = score(draft, board, number);
            run.own.push(Reverse(score));
        }
    }
    let placed = run.fill(draft, order, board);
    for number in run.aside {
        run.heap
            .push(Reverse(Rank::of(&score(draft, board, number))));
    }
    let pools = &mut draft.cluster.pools;
    pools.line = run.line;
    (pools.pools[at].heap, pools.pools[at].passed) = (run.heap, run.passed);
    placed
}

/// The pool for the order; made if there is none yet.
fn pool(draft: &mut Draft<'_>, board: &Board<'_>) -> Option<usize> {
    let image = &board.image;
    let kind = Kind {
        constraints: board.placement.constraints.clone(),
        platform: board.container.platform.clone(),
        image: board.image_somewhere.then(|| image.clone()),
    };
    let Cluster { pools, held, .. } = &mut draft.cluster;
    let known = pools.pools.iter().position(|pool| pool.kind == kind);
    if known.is_some() {
        return known;
    }
    if pools.pools.len() >= POOLS_MAX {
        return None;
    }
    pools.line.get_or_insert_with(|| Line::new(held));
    pools.pools.push(Pool {
        kind,
        heap: BinaryHeap::new(),
        passed: 0,
    });
    Some(pools.pools.len() - 1)
}

/// One order on one pool.
struct Run {
    /// The pool: nodes of the line that take a replica which asks for nothing.
    heap: BinaryHeap<Reverse<Rank>>,
    passed: usize,
    line: Option<Line>,
    /// Taken out of the pool, to be put back.
    aside: Vec<usize>,
    /// Nodes that the service has touched, or that are suspect.
    own: BinaryHeap<Reverse<Score>>,
    touched: Sparse<bool>,
}

impl Run {
    fn fill(
        &mut self,
        draft: &mut Draft<'_>,
        order: &Order<'_>,
        board: &mut Board<'_>,
    ) -> Vec<usize> {
        let mut slots = free_slots(draft, order.service, order.count);
        let mut placed = Vec::new();
        while let Some(&slot) = slots.last() {
            let fresh = self.best_fresh(draft, board);
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
                self.heap.pop();
                self.aside.push(number);
                self.touched[number] = true;
            } else {
                self.own.pop();
            }
            let next = match (wants_next, is_fresh) {
                (false, _) => None,
                (true, true) => self.best_fresh(draft, board),
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

    /// Takes nodes of the line into the pool until none of the rest can be better than its best.
    fn let_in(&mut self, draft: &Draft<'_>, board: &Board<'_>) {
        let Some(line) = &mut self.line else { return };
        // An image that no node has must be pulled wherever it goes.
        let absent = match board.image_somewhere {
            true => 0,
            false => Rank::IMAGE_ABSENT,
        };
        while let Some(least) = line.get(self.passed) {
            let number = least.number();
            let least = Rank(least.0 | absent);
            if self.heap.peek().is_some_and(|Reverse(best)| *best < least) {
                return;
            }
            self.passed += 1;
            let slot = &draft.cluster.nodes[number];
            if fit_refusal(slot, board.placement, &board.container).is_none() {
                self.heap
                    .push(Reverse(Rank::of(&score(draft, board, number))));
            }
        }
    }

    /// The best node of the pool that the service has not touched and that takes a replica.
    fn best_fresh(&mut self, draft: &Draft<'_>, board: &Board<'_>) -> Option<Score> {
        loop {
            self.let_in(draft, board);
            let mut top = self.heap.peek_mut()?;
            let Reverse(entry) = *top;
            let number = entry.number();
            let score = score(draft, board, number);
            let now = Rank::of(&score);
            if now > entry {
                *top = Reverse(now);
            } else if self.touched[number]
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
