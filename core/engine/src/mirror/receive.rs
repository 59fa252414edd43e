//! The receiving half of the mirror: which bytes of the target have arrived, and when to say so.
//!
//! The replies' headers are enough: only lengths are kept, unless somebody wants the bytes
//! ([`Payload`]). A reply that intercept or the network lost is never acknowledged, so the target
//! sends it again; the same goes for bytes that are wanted and did not come with their header.

use std::time::Duration;

use tcpcopy_packet::{SackBlock, SackBlocks, TargetSeq, TcpTimestamp};

use super::payload::Payload;
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
    /// The bytes themselves, where they are wanted.
    payload: Option<Box<Payload>>,
}

/// The payload and the FIN of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    /// The number of the first byte.
    pub(super) seq: TargetSeq,
    pub(super) len: u32,
    pub(super) fin: bool,
    /// As many of the bytes as came with the header.
    pub(super) bytes: &'a [u8],
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
            payload: None,
        }
    }

    /// The bytes are wanted, from the first on.
    pub(super) fn want_payload(&mut self) {
        self.payload.get_or_insert_default();
    }

    pub(super) fn wants_payload(&self) -> bool {
        self.payload.is_some()
    }

    /// Nobody wants bytes any more.
    pub(super) fn forget_payload(&mut self) {
        self.payload = None;
    }

    /// Takes the bytes that have come in order since the last time, where they are wanted.
    pub(super) fn take_payload(&mut self) -> Vec<u8> {
        (self.payload.as_mut()).map_or_else(Vec::new, |payload| payload.take())
    }

    /// Memory that held bytes take.
    pub(super) fn memory_bytes(&self) -> u64 {
        (self.payload.as_ref()).map_or(0, |payload| payload.memory_bytes())
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
    pub(super) fn accept(&mut self, now: Instant, incoming: Incoming<'_>) -> Arrival {
        let Incoming {
            seq,
            mut len,
            mut fin,
            bytes,
        } = incoming;
        if self.payload.is_some() && bytes.len() < len as usize {
            len = bytes.len() as u32;
            fin = false;
        }
        let distance = i64::from(seq.since(self.next));
        let before = self.received;
        // The FIN took one sequence number: what comes after it counts from before it.
        let start = i64::try_from(before).unwrap_or(i64::MAX) + distance - i64::from(self.finished);
        let end = start + i64::from(len);
        let mut arrival = Arrival::default();
        if end > start && end > before.cast_signed() && !self.finished {
            let known = usize::try_from(-start).unwrap_or(0);
            let start = u64::try_from(start).unwrap_or(0);
            arrival.disordered = start != before;
            let bytes = bytes.get(known..).unwrap_or_default();
            self.take(start, end.cast_unsigned(), bytes);
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

    /// Takes what lies from `start` to `end`; `bytes` only matter where they are wanted.
    fn take(&mut self, start: u64, end: u64, bytes: &[u8]) {
        if start > self.received {
            self.hold(start, end, bytes);
            return;
        }
        if let Some(payload) = &mut self.payload {
            payload.append(&bytes[(self.received - start) as usize..(end - start) as usize]);
        }
        self.received = self.received.max(end);
        while let Some(end) = self.held.take_contiguous(self.received) {
            if let Some(payload) = &mut self.payload {
                payload.release(self.received, end);
            }
            self.received = self.received.max(end);
        }
    }

    /// Remembers what came beyond a hole.
    fn hold(&mut self, start: u64, end: u64, bytes: &[u8]) {
        let is_known = self.held.covered(start, end) == end - start;
        let has_room = (self.payload.as_ref()).is_none_or(|payload| payload.has_room(bytes.len()));
        // No room for one more hole: the bytes stay unacknowledged and come again.
        if is_known || (has_room && self.held.insert(start, end)) {
            self.newest_held = start;
            if let Some(payload) = &mut self.payload
                && !is_known
            {
                payload.hold(start, bytes);
            }
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

    fn accept(receiver: &mut Receiver, seq: TargetSeq, len: u32, fin: bool) -> Arrival {
        let bytes = &[];
        let incoming = Incoming {
            seq,
            len,
            fin,
            bytes,
        };
        receiver.accept(Instant::ZERO, incoming)
    }

    fn at(receiver: &Receiver, offset: i32) -> TargetSeq {
        TargetSeq::new(receiver.next().value().wrapping_add_signed(offset))
    }

    #[test]
    fn small_data_waits_for_company_and_two_segments_do_not() {
        let mut receiver = receiver();
        let now = Instant::ZERO;
        let next = at(&receiver, 0);
        accept(&mut receiver, next, 100, false);
        assert_eq!(receiver.deadline(), Some(now + DELAYED_ACK));
        let next = at(&receiver, 0);
        accept(&mut receiver, next, 1900, false);
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
        let beyond = at(&receiver, 100);
        assert!(accept(&mut receiver, beyond, 50, true).disordered);
        assert_eq!(receiver.deadline(), Some(now));
        let block = receiver.sack_blocks().as_slice()[0];
        assert_eq!(
            (block.start, block.end),
            ((first + 100).value(), (first + 150).value())
        );
        let arrival = accept(&mut receiver, first, 100, false);
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
        let late = accept(&mut receiver, first, 100, false);
        assert!(late.disordered && late.received == 0);
    }

    #[test]
    fn overlaps_count_once() {
        let mut receiver = receiver();
        let first = at(&receiver, 0);
        accept(&mut receiver, first, 100, false);
        let arrival = accept(&mut receiver, first + 50, 100, false);
        assert_eq!(arrival.received, 50);
    }

    /// Offers bytes of the alphabet, cut off after `whole` of them.
    fn offer(receiver: &mut Receiver, start: u32, len: u32, whole: usize) -> String {
        let alphabet = b"abcdefghijklmnopqrstuvwxyz";
        let bytes = &alphabet[start as usize..(start + len) as usize][..whole];
        let incoming = Incoming {
            seq: START + 1 + start,
            len,
            fin: start + len == 26,
            bytes,
        };
        receiver.accept(Instant::ZERO, incoming);
        String::from_utf8(receiver.take_payload()).unwrap()
    }

    #[test]
    fn wanted_bytes_come_in_order_and_those_cut_off_come_again() {
        let mut receiver = receiver();
        receiver.want_payload();
        assert_eq!(offer(&mut receiver, 0, 3, 3), "abc");
        assert_eq!(offer(&mut receiver, 5, 3, 3), "");
        assert_eq!(offer(&mut receiver, 6, 4, 4), "");
        assert_eq!(offer(&mut receiver, 5, 5, 5), "", "all of it is known");
        assert_eq!(offer(&mut receiver, 1, 5, 5), "defghij");
        assert_eq!(receiver.memory_bytes(), 0);
        assert_eq!(offer(&mut receiver, 8, 18, 6), "klmn");
        assert_eq!(receiver.received(), 14);
        assert!(!receiver.finished(), "what follows did not come");
        assert_eq!(offer(&mut receiver, 14, 12, 12), "opqrstuvwxyz");
        assert!(receiver.finished());
    }
}
