//! Whether stopping one first makes a place for its successor.

use super::Sorted;
use super::terms::Terms;
use crate::draft::Draft;
use crate::place::{self, would_take};

/// Places for the successors of those that stop first.
#[derive(Debug)]
pub(super) struct Places {
    /// Free ones that nobody is about to take; none: nothing stops first.
    free: Option<u32>,
}

impl Places {
    pub(super) fn of(draft: &Draft<'_>, service: usize, sorted: &Sorted, terms: &Terms) -> Self {
        let free = || place::places(draft, service).unwrap_or(0);
        Self {
            free: terms
                .stop_first
                .then(|| free().saturating_sub(sorted.waiting_gone)),
        }
    }

    /// Could a successor of the row's replica start: where that is, or elsewhere? A node that takes
    /// nothing new (cordoned, or against the constraints by now) has none for it either.
    pub(super) fn is_there(&self, draft: &Draft<'_>, row: usize) -> bool {
        self.free.is_none_or(|free| free > 0) || Self::is_own(draft, row)
    }

    /// It leaves, and its successor takes one.
    pub(super) fn take(&mut self, draft: &Draft<'_>, row: usize) {
        if let Some(free) = self.free.as_mut().filter(|_| !Self::is_own(draft, row)) {
            *free = free.saturating_sub(1);
        }
    }

    fn is_own(draft: &Draft<'_>, row: usize) -> bool {
        let seen = &draft.rows[row];
        let spec = draft.services[seen.service].spec;
        let node = seen.node.map(|number| &draft.cluster.nodes[number]);
        spec.zip(node)
            .is_some_and(|(spec, node)| would_take(node, spec))
    }
}
