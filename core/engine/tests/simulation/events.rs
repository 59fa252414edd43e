//! The virtual clock: events in order of time, and of insertion within a microsecond.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Microseconds since the simulation began.
pub(crate) type Micros = u64;

pub(crate) const MILLISECOND_US: Micros = 1_000;
pub(crate) const SECOND_US: Micros = 1_000_000;
pub(crate) const MINUTE_US: Micros = 60 * SECOND_US;

/// Events waiting for their moment.
#[derive(Debug)]
pub(crate) struct EventQueue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    inserted: u64,
}

impl<E> EventQueue<E> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            inserted: 0,
        }
    }

    pub(crate) fn push(&mut self, at_us: Micros, event: E) {
        self.inserted += 1;
        self.heap.push(Reverse(Entry {
            at_us,
            order: self.inserted,
            event,
        }));
    }

    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.heap.peek().map(|Reverse(entry)| entry.at_us)
    }

    pub(crate) fn pop(&mut self) -> Option<(Micros, E)> {
        self.heap
            .pop()
            .map(|Reverse(entry)| (entry.at_us, entry.event))
    }
}

#[derive(Debug)]
struct Entry<E> {
    at_us: Micros,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
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
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}
