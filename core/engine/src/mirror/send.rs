//! The sending half of the mirror: what may leave next, and what an acknowledgement means.
//!
//! All positions are stream offsets: 0 is the first byte after the SYN; the FIN takes the offset
//! after the last byte. Congestion control is NewReno (RFC 5681, RFC 6582) with SACK-based repair
//! (RFC 6675, with every hole below the highest selectively acknowledged byte taken as lost) and a
//! tail loss probe (RFC 8985 section 7).

mod timers;

use std::time::Duration;

use bytes::Bytes;
use tcpcopy_packet::TargetSeq;

use super::range_set::RangeSet;
use super::rto::RttEstimator;
use crate::outbox::Outbox;
use crate::time::Instant;

/// Initial congestion window, in segments (RFC 6928).
const INITIAL_WINDOW_SEGMENTS: u32 = 10;
/// Largest congestion window, in bytes: a bound on what one session keeps in the network.
const MAX_CONGESTION_WINDOW: u32 = 4 << 20;
/// Duplicate acknowledgements that mean loss (RFC 5681 section 3.2).
const DUPLICATE_THRESHOLD: u8 = 3;

/// A part of the stream to put into one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmission {
    pub(super) start: u64,
    /// After the last byte; equal to `start` for a bare FIN.
    pub(super) end: u64,
    pub(super) fin: bool,
    /// Whether the data available ends here.
    pub(super) push: bool,
    pub(super) retransmission: bool,
}

/// What the target's acknowledgement field, window and SACK blocks say, in stream offsets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledgement<'a> {
    pub(super) ack: u64,
    /// Already scaled, in bytes.
    pub(super) window: u32,
    pub(super) seq: TargetSeq,
    pub(super) sacked: &'a [(u64, u64)],
    /// Whether the segment carried nothing else, so that it may count as a duplicate.
    pub(super) pure: bool,
}

/// Which timer ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerKind {
    /// Nothing was acknowledged for a whole timeout.
    Retransmit,
    /// The tail of the data may be lost: send its last segment once more.
    Probe,
    /// The target's window is closed: ask whether it still is.
    Persist,
}

#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// Recovery ends when everything before this offset is acknowledged.
    point: u64,
    /// Holes before this offset were retransmitted already.
    retransmitted: u64,
}

#[derive(Debug)]
pub(super) struct Sender {
    outbox: Outbox,
    /// RFC 9293's SND.UNA, SND.NXT and the highest SND.NXT ever, as offsets.
    una: u64,
    next: u64,
    max: u64,
    /// Whether a FIN follows the last byte.
    finishing: bool,
    /// SND.UNA + SND.WND at the last window update; SND.WL1 and SND.WL2.
    window_edge: u64,
    window_max: u32,
    update_seq: TargetSeq,
    update_ack: u64,
    mss: u32,
    congestion_window: u32,
    slow_start_threshold: u32,
    duplicate_acks: u8,
    /// The timer asks for one segment outside the usual rules.
    probe: Option<TimerKind>,
    recovery: Option<Recovery>,
    sacked: RangeSet,
    rtt: RttEstimator,
    /// The offset whose acknowledgement is being timed, and when it left (Karn's algorithm).
    timed: Option<(u64, Instant)>,
    timer: Option<(TimerKind, Instant)>,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self {
            outbox: Outbox::default(),
            una: 0,
            next: 0,
            max: 0,
            finishing: false,
            window_edge: 0,
            window_max: 0,
            update_seq: TargetSeq::default(),
            update_ack: 0,
            mss: 536,
            congestion_window: 0,
            slow_start_threshold: u32::MAX,
            duplicate_acks: 0,
            probe: None,
            recovery: None,
            sacked: RangeSet::default(),
            rtt: RttEstimator::default(),
            timed: None,
            timer: None,
        }
    }

    /// Begins after the handshake: `mss` is what one segment may carry, options taken off.
    pub(super) fn open(&mut self, mss: u32, window: u32, seq: TargetSeq, rtt: Option<Duration>) {
        self.mss = mss;
        self.window_edge = u64::from(window);
        self.window_max = window;
        self.update_seq = seq;
        self.congestion_window = mss * INITIAL_WINDOW_SEGMENTS;
        if let Some(rtt) = rtt {
            self.rtt.sample(rtt);
        }
    }

    /// Memory that the queued bytes take.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.outbox.memory_bytes()
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.outbox.push(chunk);
    }

    /// A FIN follows the last byte.
    pub(super) fn finish(&mut self) {
        self.finishing = true;
    }

    pub(super) fn una(&self) -> u64 {
        self.una
    }

    /// The highest offset ever sent.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// Offset after the last byte queued.
    pub(super) fn end(&self) -> u64 {
        self.outbox.end()
    }

    /// Bytes acknowledged by the target, the FIN not counted.
    pub(super) fn delivered(&self) -> u64 {
        self.una.min(self.end())
    }

    /// Whether a loss is being repaired.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovery.is_some()
    }

    pub(super) fn fin_sent(&self) -> bool {
        self.max > self.end()
    }

    pub(super) fn fin_acknowledged(&self) -> bool {
        self.una > self.end()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timer.map(|(_, at)| at)
    }

    pub(super) fn read(
        &mut self,
        transmission: &Transmission,
    ) -> impl Iterator<Item = &[u8]> + Clone {
        self.outbox.read(transmission.start, transmission.end)
    }

    /// Takes out everything from `offset` on; the rest can still be acknowledged.
    pub(super) fn take_from(&mut self, offset: u64) -> Vec<Bytes> {
        self.outbox.split_off(offset)
    }

    /// The next segment to send, and takes it as sent. Bytes from `gate` on stay; the FIN counts as
    /// the byte after the last.
    pub(super) fn next_transmission(&mut self, now: Instant, gate: u64) -> Option<Transmission> {
        let transmission = self
            .probe_part()
            .or_else(|| self.lost_part())
            .or_else(|| self.resent_part())
            .or_else(|| self.new_part(now, gate))?;
        self.note_sent(now, &transmission);
        Some(transmission)
    }

    /// The one segment that a probe timer asked for.
    fn probe_part(&mut self) -> Option<Transmission> {
        let kind = self.probe.take()?;
        if kind == TimerKind::Persist {
            // RFC 9293 section 3.8.6.1: one byte beyond the window makes the target answer.
            (self.una < self.end()).then(|| self.part(self.una, self.una + 1))
        } else {
            (self.una < self.max).then(|| {
                self.part(
                    self.max.saturating_sub(u64::from(self.mss)).max(self.una),
                    self.max,
                )
            })
        }
    }

    /// In recovery: the next hole below the highest byte that is known to have arrived.
    fn lost_part(&mut self) -> Option<Transmission> {
        let recovery = self.recovery?;
        let from = recovery.retransmitted.max(self.una);
        // Without SACK only the first segment is known to be missing (RFC 6582).
        let to = self
            .sacked
            .highest()
            .unwrap_or(self.una + u64::from(self.mss))
            .min(self.max);
        let (start, end) = self.sacked.first_hole(from, to)?;
        let first = recovery.retransmitted <= self.una;
        if !first && self.pipe() >= u64::from(self.congestion_window) {
            return None;
        }
        let part = self.part(start, end.min(start + u64::from(self.mss)));
        let retransmitted = part.end + u64::from(part.fin);
        self.recovery = Some(Recovery {
            retransmitted,
            ..recovery
        });
        Some(part)
    }

    /// After a timeout: everything unacknowledged once more, at the congestion window's pace.
    fn resent_part(&mut self) -> Option<Transmission> {
        if self.next >= self.max {
            return None;
        }
        let Some((start, end)) = self.sacked.first_hole(self.next, self.max) else {
            self.next = self.max;
            return None;
        };
        let in_flight = (start - self.una) - self.sacked.covered(self.una, start);
        let edge = self.window_edge.max(self.una + 1);
        if in_flight >= u64::from(self.congestion_window) || start >= edge {
            return None;
        }
        self.next = start;
        Some(self.part(start, end.min(start + u64::from(self.mss)).min(edge)))
    }

    /// Data that never left before, and the FIN.
    fn new_part(&mut self, now: Instant, gate: u64) -> Option<Transmission> {
        let end = self.end();
        let limit = end.min(gate);
        if self.next >= limit {
            let fin_is_due = self.finishing && self.next == end && gate > end && self.max <= end;
            return fin_is_due.then(|| self.part(end, end + 1));
        }
        if self.pipe() >= u64::from(self.congestion_window) && self.max > self.una {
            return None;
        }
        let available = limit - self.next;
        let usable = self.window_edge.saturating_sub(self.next);
        let length = available.min(usable).min(u64::from(self.mss));
        // Sender-side silly window avoidance (RFC 9293 section 3.8.6.2.1).
        let worthwhile = length == u64::from(self.mss)
            || length == available
            || length >= u64::from(self.window_max / 2).max(1);
        if length == 0 || !worthwhile {
            if self.una == self.max && self.timer.is_none() {
                self.timer = Some((TimerKind::Persist, now + self.rtt.rto()));
            }
            return None;
        }
        let fin = self.finishing && self.next + length == end && gate > end;
        Some(self.part(self.next, self.next + length + u64::from(fin)))
    }

    /// The segment for `[start, stop)`, where `stop` may lie one after the last byte: the FIN.
    fn part(&self, start: u64, stop: u64) -> Transmission {
        let end = self.end();
        Transmission {
            start: start.min(end),
            end: stop.min(end),
            fin: stop > end,
            push: stop >= end,
            retransmission: start < self.max,
        }
    }

    fn note_sent(&mut self, now: Instant, transmission: &Transmission) {
        let stop = transmission.end + u64::from(transmission.fin);
        if self.next >= transmission.start {
            self.next = self.next.max(stop);
        }
        if stop <= self.max {
            self.timed = None;
        } else {
            if transmission.retransmission {
                self.timed = None;
            } else if self.timed.is_none() {
                self.timed = Some((stop, now));
            }
            self.max = stop;
            // A window probe needs bytes to probe with: behind the last one, the FIN is sent again.
            let is_over = |kind| match kind {
                TimerKind::Probe => true,
                TimerKind::Persist => transmission.fin,
                TimerKind::Retransmit => false,
            };
            if self.timer.is_none_or(|(kind, _)| is_over(kind)) {
                self.start_timer(now);
            }
        }
        if self.timer.is_none() {
            self.timer = Some((TimerKind::Retransmit, now + self.rtt.rto()));
        }
    }

    /// Bytes thought to be in the network (RFC 6675 section 4).
    fn pipe(&self) -> u64 {
        if self.next < self.max {
            return (self.next - self.una) - self.sacked.covered(self.una, self.next);
        }
        let outstanding = self.max - self.una;
        let arrived = self.sacked.covered(self.una, self.max);
        let lost = match self.recovery {
            Some(recovery) => {
                let from = recovery.retransmitted.max(self.una);
                let to = self.sacked.highest().unwrap_or(from).max(from);
                (to - from) - self.sacked.covered(from, to)
            }
            None => 0,
        };
        // Without SACK each duplicate acknowledgement stands for a segment that arrived.
        let duplicates = if self.sacked.is_empty() {
            u64::from(self.duplicate_acks) * u64::from(self.mss)
        } else {
            0
        };
        outstanding.saturating_sub(arrived + lost + duplicates)
    }

    /// Takes an acknowledgement; the caller has checked that `ack` lies within what was sent.
    /// Returns how many bytes it newly covers, the FIN not counted.
    pub(super) fn acknowledge(&mut self, now: Instant, info: &Acknowledgement<'_>) -> u64 {
        let before = self.delivered();
        let sacked_before = self.sacked.highest();
        for &(start, end) in info.sacked {
            if start >= info.ack && end <= self.max {
                self.sacked.insert(start, end);
            }
        }
        if info.ack > self.una {
            self.advance(now, info.ack);
        } else if info.ack == self.una && self.max > self.una {
            let window_moved = info.ack + u64::from(info.window) != self.window_edge;
            let news = self.sacked.highest() > sacked_before;
            if news || (info.pure && !window_moved) {
                self.duplicate_acks = self.duplicate_acks.saturating_add(1);
                self.maybe_enter_recovery();
            }
        }
        self.update_window(info);
        self.delivered() - before
    }

    fn advance(&mut self, now: Instant, ack: u64) {
        let acknowledged = u32::try_from(ack - self.una).unwrap_or(u32::MAX);
        self.una = ack;
        self.next = self.next.max(ack);
        self.outbox.release_before(ack);
        self.sacked.remove_before(ack);
        self.duplicate_acks = 0;
        self.probe = None;
        if let Some((timed, sent_at)) = self.timed
            && ack >= timed
        {
            self.rtt.sample(now.since(sent_at));
            self.timed = None;
        }
        self.rtt.progress();
        match self.recovery {
            Some(recovery) if ack >= recovery.point => {
                self.recovery = None;
                self.congestion_window = self.slow_start_threshold;
            }
            Some(_) => {}
            None => self.grow(acknowledged),
        }
        if self.una < self.max {
            self.start_timer(now);
        } else {
            self.timer = None;
        }
        if !self.sacked.is_empty() {
            self.maybe_enter_recovery();
        }
    }

    fn grow(&mut self, acknowledged: u32) {
        let growth = if self.congestion_window < self.slow_start_threshold {
            acknowledged.min(2 * self.mss)
        } else {
            (u64::from(self.mss) * u64::from(acknowledged.min(self.mss))
                / u64::from(self.congestion_window.max(1))) as u32
        };
        self.congestion_window = (self.congestion_window + growth).min(MAX_CONGESTION_WINDOW);
    }

    fn maybe_enter_recovery(&mut self) {
        let arrived_above = self.sacked.covered(self.una, self.max);
        let lost = self.duplicate_acks >= DUPLICATE_THRESHOLD
            || arrived_above >= u64::from(DUPLICATE_THRESHOLD) * u64::from(self.mss);
        if self.recovery.is_some() || !lost || self.next < self.max {
            return;
        }
        self.slow_start_threshold = self.half_flight();
        self.congestion_window = self.slow_start_threshold;
        self.recovery = Some(Recovery {
            point: self.max,
            retransmitted: self.una,
        });
        self.timed = None;
    }

    fn half_flight(&self) -> u32 {
        let flight = u32::try_from(self.max - self.una).unwrap_or(u32::MAX);
        (flight / 2).max(2 * self.mss)
    }

    fn update_window(&mut self, info: &Acknowledgement<'_>) {
        // RFC 9293 section 3.10.7.4: only segments newer than the last update may move the window.
        let newer = info.seq.after(self.update_seq)
            || (info.seq == self.update_seq && info.ack >= self.update_ack);
        if !newer || info.ack < self.una {
            return;
        }
        let edge = info.ack + u64::from(info.window);
        if edge > self.window_edge && matches!(self.timer, Some((TimerKind::Persist, _))) {
            // A probe's byte may have been refused: what was sent beyond the window goes again.
            self.next = self.una;
            self.timer = None;
            self.rtt.progress();
        }
        self.window_edge = edge;
        self.window_max = self.window_max.max(info.window);
        self.update_seq = info.seq;
        self.update_ack = info.ack;
    }
}
