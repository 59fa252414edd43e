//! What a plugin tells the gate: which exchanges are open, and what is held.

use std::collections::VecDeque;

use super::{Gate, StreamEnd};
use crate::time::Instant;

/// An idle session keeps room for this many open exchanges.
const KEPT: usize = 16;

/// How far what a plugin says replaces what TCP shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// The plugin marks where answers end.
    ends_are_marked: bool,
    /// An exchange that it has marked was released.
    has_released: bool,
    /// Exchanges released whose answer has not ended.
    open: u32,
    /// The first so many that are not released have ended already: no answer is to come.
    ended_early: u32,
    /// When the first byte of each of these left, as far as it has.
    left_at: VecDeque<Instant>,
    /// Exchanges that are still to leave and are none of the open ones: they were released before
    /// the first mark.
    unmarked: usize,
    held: Option<Held>,
}

/// Nothing leaves from this offset on.
#[derive(Clone, Copy, Debug)]
struct Held {
    from: u64,
    /// Since when anything has waited for its end.
    since: Option<Instant>,
}

/// What became of the end of the oldest exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndOfOldest {
    /// There is no such exchange.
    Stray,
    /// It had not left yet.
    Early,
    /// It had.
    Open {
        /// When its first byte did, if it has got further than this side.
        left_at: Option<Instant>,
    },
}

impl Marks {
    pub(super) fn held_from(&self) -> Option<u64> {
        self.held.map(|held| held.from)
    }

    /// Whether an exchange is open; `None` where the plugin does not tell.
    pub(super) fn has_open(&self) -> Option<bool> {
        self.ends_are_marked.then_some(self.open > 0)
    }

    /// The same for an exchange that is to wait for those before it: the first has none before it
    /// that are marked.
    pub(super) fn has_open_before(&self) -> Option<bool> {
        self.has_open().filter(|_| self.has_released)
    }

    /// An exchange is released. Returns whether its end has been told before.
    pub(super) fn note_released(&mut self) -> bool {
        let has_ended = self.ended_early > 0;
        if self.ends_are_marked {
            self.has_released = true;
            self.open += u32::from(!has_ended);
        }
        self.ended_early = self.ended_early.saturating_sub(1);
        has_ended
    }

    /// No more than so many exchanges are waiting.
    pub(super) fn keep_waiting(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.ended_early = self.ended_early.min(count);
    }

    /// A byte of the next exchange has left.
    pub(super) fn note_departed(&mut self, now: Instant) {
        if self.unmarked > 0 {
            self.unmarked -= 1;
        } else if self.left_at.len() < self.open as usize {
            self.left_at.push_back(now);
        }
    }

    /// The newest of the open ones are no more.
    fn forget_newest(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.open = self.open.saturating_sub(count);
        self.left_at.truncate(self.open as usize);
    }
}

impl Gate {
    /// From the next exchange on, a plugin tells where answers end.
    pub(crate) fn expect_marked_ends(&mut self) {
        if !self.marks.ends_are_marked {
            self.marks.ends_are_marked = true;
            self.marks.unmarked = self.released.saturating_sub(self.departed);
        }
    }

    /// Nobody tells any more where answers end, and nothing is held.
    pub(crate) fn forget_marks(&mut self) {
        self.unanswered = self.is_unanswered();
        self.marks = Marks::default();
    }

    /// The oldest exchange that is open has ended: its answer has, or, of one that has not left,
    /// there will be none.
    pub(crate) fn end_oldest(&mut self) -> EndOfOldest {
        if self.marks.open == 0 {
            let waiting = self.exchanges.len() - self.released;
            if self.marks.ended_early as usize >= waiting {
                return EndOfOldest::Stray;
            }
            self.marks.ended_early += 1;
            return EndOfOldest::Early;
        }
        self.marks.open -= 1;
        let left_at = self.marks.left_at.pop_front();
        if self.marks.left_at.is_empty() && self.marks.left_at.capacity() > KEPT {
            self.marks.left_at = VecDeque::new();
        }
        EndOfOldest::Open { left_at }
    }

    /// Holds back what follows this offset, unless something is held already.
    pub(crate) fn hold(&mut self, offset: u64) {
        self.marks.held.get_or_insert(Held {
            from: offset,
            since: None,
        });
    }

    /// What was held may leave.
    pub(crate) fn release_hold(&mut self) {
        self.marks.held = None;
    }

    /// Whether anything is held, or would be if it came.
    pub(crate) fn is_held(&self) -> bool {
        self.marks.held.is_some()
    }

    /// Since when something has been held without a word of the target.
    pub(crate) fn held_since(&self) -> Option<Instant> {
        let since = self.marks.held?.since?;
        Some(since.max(self.last_reply_at))
    }

    /// The stream ends at `end` so far: remembers since when something has been held.
    pub(super) fn note_held(&mut self, now: Instant, end: u64) {
        let has_ended = self.has_ended();
        if let Some(held) = &mut self.marks.held
            && (held.from < end || has_ended)
        {
            held.since.get_or_insert(now);
        }
    }

    /// Whether the end of the stream may leave, after all before it.
    pub(crate) fn end_is_released(&self) -> bool {
        self.end_released
    }

    /// So many bytes were put before those at `from`, none of which may leave yet.
    pub(crate) fn shift(&mut self, from: u64, bytes: u64) {
        for exchange in self.exchanges.iter_mut().skip(self.released) {
            exchange.start += bytes;
        }
        if let Some(held) = &mut self.marks.held
            && held.from >= from
        {
            held.from += bytes;
        }
    }

    /// Takes out the end of the stream, for a new connection to the target.
    pub(crate) fn take_end(&mut self) -> Option<StreamEnd> {
        self.end.take()
    }

    /// Takes out the newest exchange if nothing was sent of it, where the stream ends at `end`.
    /// Returns what one in its place has to wait for: how much the client had seen.
    pub(crate) fn take_empty(&mut self, end: u64) -> Option<u64> {
        let newest = *self.exchanges.back()?;
        let is_released = self.released == self.exchanges.len();
        (newest.start == end).then(|| {
            self.take_from(end);
            if is_released { 0 } else { newest.seen }
        })
    }

    /// Whether nothing waits here and nothing is to come of the target: of exchanges there are only
    /// such of which nothing was sent, where the stream ends at `end`.
    pub(crate) fn is_at_rest(&self, end: u64) -> bool {
        let are_empty = self.exchanges.iter().all(|exchange| exchange.start == end);
        are_empty && !self.is_held() && !self.is_unanswered()
    }

    /// Takes out the exchanges from this offset on; returns how many there were.
    pub(crate) fn take_from(&mut self, offset: u64) -> u64 {
        let first = (self.exchanges).partition_point(|exchange| exchange.start < offset);
        let count = self.exchanges.len() - first;
        let released = self.released.saturating_sub(first).min(count);
        self.marks.forget_newest(released);
        self.exchanges.truncate(first);
        self.keep_first(first);
        count as u64
    }
}
