//! The receiving half of the mirror: which bytes of the target have arrived, and when to say so.
//!
//! The replies' headers are enough: only lengths are kept. A reply that intercept or the network
//! lost is never acknowledged, so the target sends it again.

use std::time::Duration;

use tcpcopy_packet::{SackBlock, SackBlocks, TargetSeq, TcpTimestamp};

use super::range_set::RangeSet;
use crate::time::Instant;

/// How long an acknowledgement waits for data to ride on (RFC 9293 section 3.8.6.3: at most half
/// a second; the kernels in use take 40 ms).
const DELAYED_ACK: Duration = Duration::from_millis(40);

/// What a segment brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// New payload bytes, in order.
    pub(super) received: u64,
    /// Whether the target's FIN is now in order.
    pub(super) finished: bool,
    /// Whether the segment was out of order or a duplicate.
    pub(super) disordered: bool,
}

#[derive(Debug)]
pub(super) struct Receiver {
    /// RCV.NXT.
    next: TargetSeq,
    /// Payload bytes received in order.
    received: u64,
    /// Offsets of payload that arrived beyond a hole.
    held: RangeSet,
    /// Where the newest of them begins: it is reported first (RFC 2018 section 4).
    newest_held: u64,
    /// Where the target's FIN stands, once seen.
    fin_at: Option<u64>,
    finished: bool,
    /// The newest timestamp to echo (RFC 7323 section 4.3).
    ts_recent: TcpTimestamp,
    /// Received but not yet acknowledged, in bytes.
    unacknowledged: u32,
    ack_at: Option<Instant>,
    /// Extra time of the captured client's network, both ways.
    rtt: Duration,
    /// Largest segment the target was told it may send.
    offered_mss: u32,
    /// Acknowledge at the end of each batch.
    immediate: bool,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            next: TargetSeq::default(),
            received: 0,
            held: RangeSet::default(),
            newest_held: 0,
            fin_at: None,
            finished: false,
            ts_recent: TcpTimestamp::default(),
            unacknowledged: 0,
            ack_at: None,
            rtt: Duration::ZERO,
            offered_mss: 536,
            immediate: false,
        }
    }

    /// Begins after the target's SYN with sequence number `initial`.
    pub(super) fn open(&mut self, initial: TargetSeq, offered_mss: u16, immediate: bool) {
        self.next = initial + 1;
        self.offered_mss = u32::from(offered_mss);
        self.immediate = immediate;
    }

    pub(super) fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Acknowledgements leave later by this much from now on.
    pub(super) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// RCV.NXT.
    pub(super) fn next(&self) -> TargetSeq {
        self.next
    }

    /// Payload bytes received in order.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    pub(super) fn ts_recent(&self) -> TcpTimestamp {
        self.ts_recent
    }

    /// Whether a timestamp is older than one already seen: a wandering duplicate (RFC 7323
    /// section 5).
    pub(super) fn is_stale(&self, value: TcpTimestamp) -> bool {
        value.before(self.ts_recent)
    }

    /// Remembers a timestamp of a segment that begins at or before RCV.NXT.
    pub(super) fn note_timestamp(&mut self, seq: TargetSeq, value: TcpTimestamp) {
        if seq.at_or_before(self.next) && value.at_or_after(self.ts_recent) {
            self.ts_recent = value;
        }
    }

    /// Sets the first timestamp, whatever it is.
    pub(super) fn set_timestamp(&mut self, value: TcpTimestamp) {
        self.ts_recent = value;
    }

    /// Takes a segment's payload and FIN.
    pub(super) fn accept(&mut self, now: Instant, seq: TargetSeq, len: u32, fin: bool) -> Arrival {
        let distance = i64::from(seq.since(self.next));
        let before = self.received;
        // The FIN took one sequence number: what comes after it counts from before it.
        let start = i64::try_from(before).unwrap_or(i64::MAX) + distance - i64::from(self.finished);
        let end = start + i64::from(len);
        let mut arrival = Arrival::default();
        if end > start && end > before.cast_signed() && !self.finished {
            let start = u64::try_from(start).unwrap_or(0);
            arrival.disordered = start != before;
            self.take(start, end.cast_unsigned());
        } else if len > 0 {
            arrival.disordered = true;
        }
        if fin && self.fin_at.is_none() {
            self.fin_at = u64::try_from(end).ok();
        }
        arrival.received = self.received - before;
        self.next += u32::try_from(arrival.received).unwrap_or(u32::MAX);
        if self.fin_at == Some(self.received) && !self.finished {
            self.finished = true;
            self.next += 1;
            arrival.finished = true;
        }
        self.plan_ack(now, &arrival, fin);
        arrival
    }

    fn take(&mut self, start: u64, end: u64) {
        if start > self.received {
            // No room for one more hole: the bytes stay unacknowledged and come again.
            if self.held.insert(start, end) {
                self.newest_held = start;
            }
            return;
        }
        self.received = self.received.max(end);
        while let Some(end) = self.held.take_contiguous(self.received) {
            self.received = self.received.max(end);
        }
    }

    fn plan_ack(&mut self, now: Instant, arrival: &Arrival, fin: bool) {
        if arrival.disordered || (fin && !arrival.finished) {
            self.ack_soon(now);
            return;
        }
        self.unacknowledged = self.unacknowledged.saturating_add(arrival.received as u32);
        if arrival.finished {
            self.ack_by(now + self.rtt);
        } else if arrival.received > 0 {
            // Every second full-sized segment at once (RFC 5681 section 4.2).
            let at_once = self.immediate || self.unacknowledged >= 2 * self.offered_mss;
            let delay = if at_once {
                self.rtt
            } else {
                DELAYED_ACK.max(self.rtt)
            };
            self.ack_by(now + delay);
        }
    }

    /// An acknowledgement is due now.
    pub(super) fn ack_soon(&mut self, now: Instant) {
        self.ack_by(now);
    }

    /// An acknowledgement is due then at the latest.
    pub(super) fn ack_by(&mut self, at: Instant) {
        self.ack_at = Some(self.ack_at.map_or(at, |before| before.min(at)));
    }

    /// When an acknowledgement leaves at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.ack_at
    }

    /// Any segment with an ACK has left.
    pub(super) fn note_acknowledged(&mut self) {
        self.ack_at = None;
        self.unacknowledged = 0;
    }

    /// The SACK blocks to send: what came last first, then the rest in order (RFC 2018 section 4).
    pub(super) fn sack_blocks(&self) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let is_newest = |range: &(u64, u64)| (range.0..range.1).contains(&self.newest_held);
        let newest = self.held.iter().find(is_newest);
        let others = self.held.iter().filter(|range| !is_newest(range));
        for (start, end) in newest.into_iter().chain(others) {
            let seq = |offset: u64| (self.next + (offset - self.received) as u32).value();
            if !blocks.push(SackBlock {
                start: seq(start),
                end: seq(end),
            }) {
                break;
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: TargetSeq = TargetSeq::new(u32::MAX - 1);

    fn receiver() -> Receiver {
        let mut receiver = Receiver::new();
        receiver.open(START, 1000, false);
        receiver
    }

    fn at(receiver: &Receiver, offset: i32) -> TargetSeq {
        TargetSeq::new(receiver.next().value().wrapping_add_signed(offset))
    }

    #[test]
    fn small_data_waits_for_company_and_two_segments_do_not() {
        let mut receiver = receiver();
        let now = Instant::ZERO;
        receiver.accept(now, at(&receiver, 0), 100, false);
        assert_eq!(receiver.deadline(), Some(now + DELAYED_ACK));
        receiver.accept(now, at(&receiver, 0), 1900, false);
        assert_eq!(receiver.deadline(), Some(now));
        assert_eq!(receiver.received(), 2000);
        receiver.note_acknowledged();
        assert_eq!(receiver.deadline(), None);
    }

    #[test]
    fn a_hole_is_reported_and_closed() {
        let mut receiver = receiver();
        let now = Instant::ZERO;
        let first = at(&receiver, 0);
        assert!(
            receiver
                .accept(now, at(&receiver, 100), 50, true)
                .disordered
        );
        assert_eq!(receiver.deadline(), Some(now));
        let block = receiver.sack_blocks().as_slice()[0];
        assert_eq!(
            (block.start, block.end),
            ((first + 100).value(), (first + 150).value())
        );
        let arrival = receiver.accept(now, first, 100, false);
        assert_eq!(
            arrival,
            Arrival {
                received: 150,
                finished: true,
                disordered: false
            }
        );
        assert_eq!(receiver.next(), first + 151);
        assert!(receiver.sack_blocks().is_empty());
        let late = receiver.accept(now, first, 100, false);
        assert!(late.disordered && late.received == 0);
    }

    #[test]
    fn overlaps_count_once() {
        let mut receiver = receiver();
        let first = at(&receiver, 0);
        receiver.accept(Instant::ZERO, first, 100, false);
        let arrival = receiver.accept(Instant::ZERO, first + 50, 100, false);
        assert_eq!(arrival.received, 50);
    }
}
