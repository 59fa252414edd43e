//! Which session to look at next.
//!
//! An entry says "look at this key not later than then". It can't be cancelled: sessions keep
//! their true deadlines, and whoever pops an entry asks the session. So the queue stays a plain
//! list of moments, in a hierarchical timing wheel: adding and popping cost the same with a
//! million entries as with ten, and an entry takes 16 bytes where the key takes 8.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::Instant;

/// A tick is 2^10 microseconds, about a millisecond.
const TICK_BITS: u32 = 10;
/// Each level has 2^6 slots; a slot of one level spans all slots of the level below.
const SLOT_BITS: u32 = 6;
const SLOT_COUNT: usize = 1 << SLOT_BITS;
/// As many levels as every moment needs, so that none is too far away.
const LEVEL_COUNT: usize = (u64::BITS - TICK_BITS).div_ceil(SLOT_BITS) as usize;

/// The entries that one key has in a [`TimerQueue`], so that the queue doesn't fill up with late
/// ones: a far moment (a timeout) and a near one (a retransmission).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimerEntries {
    near: Option<Instant>,
    far: Option<Instant>,
}

impl TimerEntries {
    /// Whether an entry at `at` is needed; it is known then.
    pub(crate) fn push(&mut self, at: Instant) -> bool {
        match (self.near, self.far) {
            (Some(near), _) if near <= at => false,
            (Some(near), None) => {
                (self.near, self.far) = (Some(at), Some(near));
                true
            }
            _ => {
                self.near = Some(at);
                true
            }
        }
    }

    /// Forgets the entry that has come out of the queue; false where it is one that was replaced.
    pub(crate) fn pop(&mut self, at: Instant) -> bool {
        if self.near == Some(at) {
            self.near = self.far.take();
            return true;
        }
        false
    }
}

/// Keys with the moments at which they are due, see the [module](self).
#[derive(Debug)]
pub struct TimerQueue<K> {
    /// All entries of ticks up to `tick`, in order.
    due: VecDeque<Entry<K>>,
    /// The wheel has turned this far: every entry in `levels` is of a later tick.
    tick: u64,
    /// An entry is in the level of the highest digit (base 64) in which its tick differs from
    /// `tick`, so all entries of a level come before those of the next.
    levels: [Level<K>; LEVEL_COUNT],
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    at: Instant,
    key: K,
}

#[derive(Debug)]
struct Level<K> {
    /// A bit for each slot that has entries.
    occupied: u64,
    /// Entries of each slot in the order of insertion.
    slots: [Vec<Entry<K>>; SLOT_COUNT],
}

impl<K: Copy> TimerQueue<K> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        let level = |_| Level {
            occupied: 0,
            slots: std::array::from_fn(|_| Vec::new()),
        };
        Self {
            due: VecDeque::new(),
            tick: 0,
            levels: std::array::from_fn(level),
            len: 0,
        }
    }

    /// Adds an entry; `at` may have passed already.
    pub fn schedule(&mut self, key: K, at: Instant) {
        self.len += 1;
        self.place(Entry { at, key });
    }

    /// Takes the first entry that is due at `now`: by time, then by insertion.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        self.pop_due_entry(now).map(|(_, key)| key)
    }

    /// As [`pop_due`](Self::pop_due), with the moment of the entry.
    pub fn pop_due_entry(&mut self, now: Instant) -> Option<(Instant, K)> {
        while self.due.is_empty() {
            if !self.turn(tick_of(now)) {
                return None;
            }
        }
        self.due.front().filter(|entry| entry.at <= now)?;
        let entry = self.due.pop_front()?;
        self.len -= 1;
        Some((entry.at, entry.key))
    }

    /// A moment at which to call [`pop_due`](Self::pop_due) again: not later than the first entry,
    /// and exactly that of an entry less than a tick away. `None` when the queue is empty.
    ///
    /// Once `pop_due` has found nothing at some moment, this is later than that moment until
    /// something is scheduled that is due. Where it is earlier than the first entry, `pop_due`
    /// finds nothing and the next answer is later: a few times for an entry that is far away.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        if let Some(first) = self.due.front() {
            return Some(first.at);
        }
        let (level, slot) = self.first_slot()?;
        Some(Instant::from_micros(
            self.first_tick(level, slot) << TICK_BITS,
        ))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn place(&mut self, entry: Entry<K>) {
        let tick = tick_of(entry.at);
        if tick <= self.tick {
            let index = self.due.partition_point(|other| other.at <= entry.at);
            self.due.insert(index, entry);
            return;
        }
        let highest_difference = (tick ^ self.tick).ilog2();
        let level = highest_difference / SLOT_BITS;
        let slot = (tick >> (level * SLOT_BITS)) as usize % SLOT_COUNT;
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << slot;
        level.slots[slot].push(entry);
    }

    /// Turns the wheel to its first slot with entries, but not beyond tick `limit`, and spreads
    /// the slot over the levels below. Returns whether there was such a slot.
    fn turn(&mut self, limit: u64) -> bool {
        let first = self
            .first_slot()
            .map(|(level, slot)| (level, slot, self.first_tick(level, slot)))
            .filter(|(.., tick)| *tick <= limit);
        let Some((level, slot, tick)) = first else {
            self.tick = self.tick.max(limit);
            return false;
        };
        self.tick = tick;
        let is_lowest = level == 0;
        let level = &mut self.levels[level];
        level.occupied &= !(1 << slot);
        let mut entries = std::mem::take(&mut level.slots[slot]);
        if is_lowest {
            // Sorted, each goes to the end of `due`. The sort is stable, and entries of one moment
            // reach a slot in the order of insertion, from above as from outside: a slot is
            // spread before anything can be placed below it.
            entries.sort_by_key(|entry| entry.at);
        }
        entries.into_iter().for_each(|entry| self.place(entry));
        true
    }

    /// Level and number of the slot with the earliest entries.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        Some((level, self.levels[level].occupied.trailing_zeros() as usize))
    }

    /// The first tick that belongs to a slot: `tick` with the level's digit replaced and zeros
    /// below.
    fn first_tick(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * SLOT_BITS;
        let digits = self.tick >> shift;
        let upper = digits - digits % SLOT_COUNT as u64;
        (upper + slot as u64) << shift
    }
}

impl<K: Copy> Default for TimerQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

fn tick_of(at: Instant) -> u64 {
    at.as_micros() >> TICK_BITS
}
