//! What holds a session's next bytes back: the answer to the request before.
//!
//! A client that had seen answer bytes before it spoke again has begun a new *exchange*; its bytes
//! wait until the target has answered the exchange before. Without a plugin nobody knows where an
//! answer ends, but the capture tells how long the origin's was: the target's counts as given when
//! about as much has come and the target has pushed it out, or when it falls quiet.
//!
//! Where a plugin marks exchanges, it also tells where answers end ([`marks`]), and it may hold
//! everything back.
//!
//! The captured moment needs no gate here: bytes reach the engine at that moment, never before. A
//! latency asked for holds each exchange, and the end, back for that much longer.

mod marks;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

pub(crate) use self::marks::EndOfOldest;
use self::marks::Marks;
use crate::delay::DelayHistogram;
use crate::latency::Arrival;
use crate::time::Instant;

/// An answer of another length than the origin's is taken as given after this long without a byte.
const QUIET: Duration = Duration::from_millis(10);
/// Where no byte came at all since the request before, but as many as the client had ever seen:
/// the target has said its part early.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long an aborting client's last request waits for its first answer bytes.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);
/// How much shorter than the origin's an answer may be and still count at its last push: an eighth
/// or this many bytes, for headers that differ.
const ANSWER_TOLERANCE: u64 = 512;

/// One request, as far as TCP can tell: what the client said between two looks at the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Stream offset of its first byte.
    pub(crate) start: u64,
    /// Origin bytes that the client had seen since the exchange before began; 0 means no wait.
    pub(crate) seen: u64,
    /// Origin bytes that the client had seen in all.
    pub(crate) seen_total: u64,
    /// When its first byte was captured.
    pub(crate) arrival: Arrival,
}

/// How the captured client ended its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// With a RST instead of a FIN.
    pub(crate) abort: bool,
    /// As in [`Exchange::seen`].
    pub(crate) seen: u64,
    /// As in [`Exchange::seen_total`].
    pub(crate) seen_total: u64,
    /// When it was captured.
    pub(crate) arrival: Arrival,
}

/// What the gate looks at to decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Client bytes sent at least once.
    pub(crate) sent: u64,
    /// Client bytes acknowledged by the target.
    pub(crate) delivered: u64,
    /// Client bytes captured.
    pub(crate) end: u64,
    /// Target bytes received in order.
    pub(crate) received: u64,
    /// Whether the target has sent its FIN.
    pub(crate) finished: bool,
}

/// What the gate decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Exchanges that got their first answer bytes, or left and have no answer to wait for.
    pub(crate) answered: u64,
    /// Exchanges of which the target now has every byte.
    pub(crate) delivered: u64,
    /// More bytes, or the end of the stream, may leave.
    pub(crate) opened: bool,
}

#[derive(Debug)]
pub(crate) struct Gate {
    enabled: bool,
    /// Exchanges not wholly delivered yet, in order.
    exchanges: VecDeque<Exchange>,
    /// How many of them may leave.
    released: usize,
    /// Of how many of them a byte has left.
    departed: usize,
    /// Any exchange has ever been released.
    has_released: bool,
    /// When the next one leaves, once nothing but the latency holds it.
    leaves_at: Option<Instant>,
    end: Option<StreamEnd>,
    end_released: bool,
    /// Target bytes received when the newest released exchange was released.
    base: u64,
    /// The newest released exchange has no answer yet.
    unanswered: bool,
    /// The last reply bytes were pushed.
    pushed: bool,
    last_reply_at: Instant,
    /// Since when the next exchange has had nothing but the answer to wait for.
    waiting_since: Option<Instant>,
    /// When time alone may open the gate.
    check_at: Option<Instant>,
    /// What a plugin has to say about it.
    marks: Marks,
}

impl Gate {
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            exchanges: VecDeque::new(),
            released: 0,
            departed: 0,
            has_released: false,
            leaves_at: None,
            end: None,
            end_released: false,
            base: 0,
            unanswered: false,
            pushed: false,
            last_reply_at: Instant::ZERO,
            waiting_since: None,
            check_at: None,
            marks: Marks::default(),
        }
    }

    /// A new exchange begins.
    pub(crate) fn begin(&mut self, exchange: Exchange) {
        self.exchanges.push_back(exchange);
    }

    /// The client has ended its stream.
    pub(crate) fn end(&mut self, end: StreamEnd) {
        self.end = Some(end);
    }

    /// Whether any exchange was ever let go.
    pub(crate) fn has_released(&self) -> bool {
        self.has_released
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Bytes from this offset on stay. The FIN counts as the byte after the last.
    pub(crate) fn limit(&self, end: u64) -> u64 {
        let limit = match self.next_exchange(end) {
            Some(exchange) => exchange.start,
            None if self.end.is_some() && !self.end_released => end,
            None => u64::MAX,
        };
        self.marks.held_from().map_or(limit, |held| held.min(limit))
    }

    /// The first exchange that may not leave yet, if anything was sent of it: a plugin may have begun
    /// one and said nothing so far.
    fn next_exchange(&self, end: u64) -> Option<&Exchange> {
        let next = self.exchanges.get(self.released);
        next.filter(|exchange| exchange.start < end)
    }

    /// Whether the client's RST is due.
    pub(crate) fn abort_is_due(&self) -> bool {
        self.end_released && self.end.is_some_and(|end| end.abort)
    }

    /// The target's bytes have come.
    pub(crate) fn reply(&mut self, now: Instant, pushed: bool) {
        self.last_reply_at = now;
        self.pushed = pushed;
    }

    /// Whether bytes or the end are held back for an answer, and since when.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
            .map(|since| since.max(self.last_reply_at))
    }

    /// When the next exchange, or the end, leaves, where only the latency asked for holds it.
    pub(crate) fn leaves_at(&self) -> Option<Instant> {
        self.leaves_at
    }

    /// Records how long exchanges were held, of which a byte has now left: `sent` bytes have.
    pub(crate) fn note_departed(&mut self, now: Instant, sent: u64, delays: &mut DelayHistogram) {
        while let Some(exchange) = self.exchanges.get(self.departed)
            && exchange.start < sent
        {
            delays.record(now.since(exchange.arrival.at));
            self.departed += 1;
            self.marks.note_departed(now);
        }
    }

    /// Whether an answer of the target is still to come, as far as one can tell.
    pub(crate) fn expects_answer(&self) -> bool {
        self.is_unanswered() || self.released < self.exchanges.len()
    }

    /// Whether the newest exchange that has left still waits for its answer.
    fn is_unanswered(&self) -> bool {
        (self.marks.has_open()).unwrap_or(self.unanswered)
    }

    /// When [`Self::pass`] should be asked again, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.check_at
    }

    /// Releases what may leave and settles what has arrived.
    pub(crate) fn pass(&mut self, now: Instant, view: &View) -> Passage {
        let mut passage = Passage::default();
        self.check_at = None;
        self.note_held(now, view.end);
        loop {
            if self.unanswered && view.received > self.base {
                self.unanswered = false;
                passage.answered += u64::from(self.marks.has_open().is_none());
            }
            let before = self.released;
            if !self.release_next(now, view) {
                break;
            }
            passage.opened = true;
            let has_ended = self.released > before && self.marks.note_released();
            passage.answered += u64::from(has_ended);
        }
        passage.delivered = self.settle(view);
        passage
    }

    fn release_next(&mut self, now: Instant, view: &View) -> bool {
        let exchange = self.next_exchange(view.end).copied();
        let end = self.end.filter(|_| !self.end_released);
        if exchange.is_none() && end.is_none() {
            return false;
        }
        let start = exchange.map_or(view.end, |exchange| exchange.start);
        if self.marks.held_from().is_some_and(|held| held <= start) {
            self.waiting_since = None;
            return false;
        }
        if self.leaves_at.is_none() {
            let ready = match (exchange, end) {
                (Some(exchange), _) => self.exchange_is_ready(now, view, exchange),
                (None, Some(end)) => self.end_is_ready(now, view, end),
                (None, None) => None,
            };
            let Some(Arrival { at, latency_us }) = ready else {
                return false;
            };
            self.waiting_since = None;
            self.leaves_at = Some(at + Duration::from_micros(latency_us.into()));
        }
        if self.leaves_at.is_some_and(|at| !self.has_come(now, at)) {
            return false;
        }
        self.leaves_at = None;
        if exchange.is_some() {
            self.released += 1;
            self.has_released = true;
            self.base = view.received;
            self.unanswered = true;
            self.pushed = false;
        } else {
            self.end_released = true;
        }
        true
    }

    /// Since when an exchange has had nothing to wait for but its latency.
    fn exchange_is_ready(
        &mut self,
        now: Instant,
        view: &View,
        exchange: Exchange,
    ) -> Option<Arrival> {
        let Exchange {
            start,
            seen,
            seen_total,
            arrival,
        } = exchange;
        if seen == 0 || !self.enabled {
            return Some(arrival);
        }
        self.may_go(now, view, start, seen, seen_total)
            .then_some(Arrival { at: now, ..arrival })
    }

    /// The same of the stream's end.
    fn end_is_ready(&mut self, now: Instant, view: &View, end: StreamEnd) -> Option<Arrival> {
        let late = Arrival {
            at: now,
            ..end.arrival
        };
        if !end.abort {
            if end.seen == 0 || !self.enabled {
                return Some(end.arrival);
            }
            return self
                .may_go(now, view, view.end, end.seen, end.seen_total)
                .then_some(late);
        }
        // A RST takes away what the target has not read yet: everything must have arrived, and
        // the last request should have its answer begun.
        if view.delivered < view.end {
            return None;
        }
        let due = *self.waiting_since.get_or_insert(now) + ABORT_PATIENCE;
        let is_ready = !self.is_unanswered() || view.finished || self.has_come(now, due);
        is_ready.then_some(late)
    }

    /// Whether the exchange before the one at `start` counts as answered.
    fn may_go(
        &mut self,
        now: Instant,
        view: &View,
        start: u64,
        seen: u64,
        seen_total: u64,
    ) -> bool {
        if view.finished {
            return true;
        }
        if view.sent < start {
            return false;
        }
        let since = *self.waiting_since.get_or_insert(now);
        if let Some(has_open) = self.marks.has_open_before() {
            return !has_open;
        }
        let answer = view.received - self.base;
        if answer == 0 {
            let due = self.last_reply_at.max(since) + PATIENCE;
            return view.received >= seen_total && self.has_come(now, due);
        }
        let about_as_much = answer + ANSWER_TOLERANCE.max(seen / 8) >= seen;
        (about_as_much && self.pushed) || self.has_come(now, self.last_reply_at + QUIET)
    }

    fn has_come(&mut self, now: Instant, due: Instant) -> bool {
        if now < due {
            self.check_at = Some(due);
        }
        now >= due
    }

    /// Counts and forgets the exchanges of which every byte is delivered.
    fn settle(&mut self, view: &View) -> u64 {
        let mut delivered = 0;
        while self.released > 0 {
            let complete = match self.exchanges.get(1) {
                Some(next) => view.delivered >= next.start,
                None => {
                    let over = !self.is_unanswered() || view.finished || self.end.is_some();
                    view.delivered == view.end && over
                }
            };
            if !complete {
                break;
            }
            self.exchanges.pop_front();
            self.released -= 1;
            self.departed = self.departed.saturating_sub(1);
            delivered += 1;
        }
        if self.exchanges.is_empty() && self.exchanges.capacity() > 0 {
            self.exchanges = VecDeque::new();
        }
        delivered
    }

    /// How many exchanges are neither delivered nor given up.
    pub(crate) fn pending(&self) -> u64 {
        self.exchanges.len() as u64
    }

    /// At the session's end: how many of the rest were delivered whole, and how many were not.
    pub(crate) fn close(&mut self, view: &View) -> (u64, u64) {
        let total = self.exchanges.len();
        let ends = self
            .exchanges
            .iter()
            .skip(1)
            .map(|next| next.start)
            .chain([view.end]);
        let delivered = ends
            .take(total)
            .filter(|end| *end <= view.delivered)
            .count();
        self.exchanges = VecDeque::new();
        self.released = 0;
        self.departed = 0;
        self.leaves_at = None;
        (delivered as u64, (total - delivered) as u64)
    }

    /// Gives up the newest exchange, which will never be complete. Returns where it began.
    pub(crate) fn drop_newest_exchange(&mut self) -> Option<u64> {
        let newest = self.exchanges.pop_back()?;
        self.keep_first(self.exchanges.len());
        Some(newest.start)
    }

    /// The exchanges from `count` on are no more.
    fn keep_first(&mut self, count: usize) {
        if self.released >= count {
            self.leaves_at = None;
        }
        self.released = self.released.min(count);
        self.departed = self.departed.min(count);
        self.marks.keep_waiting(count - self.released);
    }

    /// Takes out the exchanges that no byte has left of, for a new connection to the target.
    pub(crate) fn take_unsent(&mut self, sent: u64) -> Option<Unsent> {
        let first = (0..self.exchanges.len())
            .find(|index| *index >= self.released || self.exchanges[*index].start >= sent)?;
        let exchanges = self.exchanges.split_off(first);
        self.keep_first(first);
        let from = exchanges[0].start;
        Some(Unsent {
            from,
            exchanges,
            end: self.end.take(),
        })
    }
}

/// Exchanges on their way to another session; offsets are still the old session's.
#[derive(Debug)]
pub(crate) struct Unsent {
    /// Offset of their first byte.
    pub(crate) from: u64,
    pub(crate) exchanges: VecDeque<Exchange>,
    pub(crate) end: Option<StreamEnd>,
}
