//! What will happen, in order of time; at one time, in the order in which it was asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A time-ordered queue.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    asked: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at_ms: u64,
    asked: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, self.asked) == (other.at_ms, other.asked)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.asked).cmp(&(other.at_ms, other.asked))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            asked: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Asks for an event.
    pub fn push(&mut self, at_ms: u64, event: E) {
        self.asked += 1;
        let asked = self.asked;
        self.heap.push(Reverse(Entry {
            at_ms,
            asked,
            event,
        }));
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.heap
            .pop()
            .map(|Reverse(entry)| (entry.at_ms, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_then_the_order_of_asking() {
        let mut queue = Queue::default();
        for (at_ms, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            queue.push(at_ms, event);
        }
        let all: String = std::iter::from_fn(|| queue.pop()).map(|(_, e)| e).collect();
        assert_eq!(all, "abcd");
    }
}
