//! Whether stopping one first makes a place for its successor.

use super::Sorted;
use super::terms::Terms;
use crate::draft::Draft;
use crate::place::{self, Order, reserves, would_take};

/// Places for the successors of those that stop first.
#[derive(Debug)]
pub(super) struct Places {
    /// Free ones that nobody is about to take; none: nothing stops first.
    free: Option<u32>,
    /// Row of the first one of which only the reservations of its successor find no place.
    short: Option<usize>,
}

impl Places {
    pub(super) fn of(draft: &Draft<'_>, service: usize, sorted: &Sorted, terms: &Terms) -> Self {
        let open = |number| reserves(draft, service, number, None);
        let free = || place::places(draft, service, open).unwrap_or(0);
        Self {
            short: None,
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

    /// The row's replica stays, `for_want` of a place only? One that is not due yet wants none yet:
    /// others may take it until then. One that is `held` where it is by its data has no other.
    pub(super) fn miss(&mut self, row: usize, for_want: bool, held: bool) {
        if held || for_want {
            self.short.get_or_insert(row);
        }
    }

    /// Says why nobody could follow one that stays for that.
    pub(super) fn say(&self, draft: &mut Draft<'_>, service: usize) {
        let stays = |row: usize| draft.replica(row).is_some_and(|r| r.leaving.is_none());
        if let Some(row) = self.short.filter(|&row| stays(row)) {
            say_no_place_after(draft, service, row);
        }
    }

    /// It leaves, and its successor takes one.
    pub(super) fn take(&mut self, draft: &Draft<'_>, row: usize) {
        if let Some(free) = self.free.as_mut().filter(|_| !Self::is_own(draft, row)) {
            *free = free.saturating_sub(1);
        }
    }

    fn is_own(draft: &Draft<'_>, row: usize) -> bool {
        let seen = &draft.rows[row];
        Self::takes(draft, row)
            && seen
                .node
                .is_some_and(|number| reserves(draft, seen.service, number, Some(row)))
    }

    /// Would its node take a successor, were there room?
    fn takes(draft: &Draft<'_>, row: usize) -> bool {
        let seen = &draft.rows[row];
        let spec = draft.services[seen.service].spec;
        spec.zip(seen.node)
            .is_some_and(|(spec, number)| would_take(draft, number, spec))
    }
}

/// Says why nobody can follow the row's replica.
pub(super) fn say_no_place_after(draft: &mut Draft<'_>, service: usize, row: usize) {
    let slot = &draft.services[service];
    let (Some(spec), Some(template)) = (slot.spec, slot.template.clone()) else {
        return;
    };
    let order = Order {
        service,
        spec,
        count: 1,
        template,
    };
    place::say_no_place_after(draft, &order, row);
}
