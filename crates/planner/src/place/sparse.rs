//! Numbers of a few nodes out of many.

use std::ops::{Index, IndexMut};

/// From so many entries on, room is kept for every number.
const FEW_MAX: usize = 256;

/// Values of some numbers, and the same for all others.
#[derive(Debug)]
pub(super) struct Sparse<T> {
    /// In order of their numbers; empty once they are many.
    few: Vec<(usize, T)>,
    /// By number; empty while they are few.
    many: Vec<T>,
    other: T,
}

impl<T: Copy> Sparse<T> {
    pub(super) fn new(other: T) -> Self {
        Self {
            few: Vec::new(),
            many: Vec::new(),
            other,
        }
    }

    /// Numbers that may have a value of their own, in order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        let few = self.few.iter().map(|(number, _)| *number);
        few.chain(0..self.many.len())
    }

    fn find(&self, number: usize) -> Result<usize, usize> {
        self.few.binary_search_by_key(&number, |(known, _)| *known)
    }

    fn spread_out(&mut self, number: usize) {
        let last = self.few.last().map_or(0, |(last, _)| *last);
        self.many.resize(last.max(number) + 1, self.other);
        for (number, value) in self.few.drain(..) {
            self.many[number] = value;
        }
    }
}

impl<T: Copy> Index<usize> for Sparse<T> {
    type Output = T;
    fn index(&self, number: usize) -> &T {
        if self.many.is_empty() {
            self.find(number).map_or(&self.other, |at| &self.few[at].1)
        } else {
            self.many.get(number).unwrap_or(&self.other)
        }
    }
}

impl<T: Copy> IndexMut<usize> for Sparse<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        if self.many.is_empty() {
            match self.find(number) {
                Ok(at) => return &mut self.few[at].1,
                Err(at) if self.few.len() < FEW_MAX => {
                    self.few.insert(at, (number, self.other));
                    return &mut self.few[at].1;
                }
                Err(_) => self.spread_out(number),
            }
        }
        if self.many.len() <= number {
            self.many.resize(number + 1, self.other);
        }
        &mut self.many[number]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few or many, it says of each number what was last written, or the other value.
        #[test]
        fn it_is_a_map_with_a_default(
            acts in proptest::collection::vec((0..600_usize, any::<u8>()), 0..900),
        ) {
            let (mut sparse, mut model) = (Sparse::new(7), BTreeMap::new());
            for (number, value) in acts {
                sparse[number] = value;
                model.insert(number, value);
            }
            for number in 0..700 {
                prop_assert_eq!(sparse[number], *model.get(&number).unwrap_or(&7));
            }
        }
    }
}
