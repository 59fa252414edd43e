//! The model target's sending half: counts of bytes, a retransmission timer, a congestion window.

use crate::content::target_said;
use crate::events::{MILLISECOND_US, MINUTE_US, Micros, SECOND_US};

/// RFC 6298's lower bound, as lowered by most systems.
const RTO_MIN_US: Micros = 200 * MILLISECOND_US;
const RTO_INITIAL_US: Micros = SECOND_US;
const RTO_MAX_US: Micros = MINUTE_US;
/// Timeouts in a row after which the connection is given up.
const MAX_TIMEOUTS: u32 = 15;
/// Segments of the initial congestion window (RFC 6928).
const INITIAL_WINDOW_SEGMENTS: u64 = 10;
/// Bytes of the largest super-segment before offload cuts it.
const MAX_SUPER_SEGMENT: u64 = 65_000;

/// A range to put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) fin: bool,
}

/// Positions are offsets from our initial sequence number: our SYN is 0, data begins at 1.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) initial_seq: u32,
    /// RFC 9293's SND.UNA and SND.NXT.
    pub(crate) unacknowledged: u64,
    pub(crate) next: u64,
    /// The highest offset ever sent.
    pub(crate) highest: u64,
    written: u64,
    closed: bool,
    /// The peer's window in bytes and the segment that told it (SND.WL1, SND.WL2).
    pub(crate) window: u64,
    window_seq: i64,
    window_ack: u64,
    pub(crate) mss: u64,
    offload: bool,
    congestion_window: u64,
    threshold: u64,
    duplicate_acks: u32,
    /// While recovering from a loss: recovery ends once this is acknowledged.
    recover: Option<u64>,
    smoothed_us: Option<(Micros, Micros)>,
    sample: Option<(u64, Micros)>,
    rto_us: Micros,
    timeouts: u32,
    pub(crate) deadline_us: Option<Micros>,
    pub(crate) retransmitted: u64,
    /// Where what was written at once ends, counted from the first byte.
    ends: Vec<u64>,
}

impl Sender {
    pub(crate) fn new(initial_seq: u32, mss: u16, offload: bool) -> Self {
        let mss = u64::from(mss);
        Self {
            initial_seq,
            unacknowledged: 0,
            next: 0,
            highest: 0,
            written: 0,
            closed: false,
            window: 0,
            window_seq: 0,
            window_ack: 0,
            mss,
            offload,
            congestion_window: INITIAL_WINDOW_SEGMENTS * mss,
            threshold: u64::MAX,
            duplicate_acks: 0,
            recover: None,
            smoothed_us: None,
            sample: None,
            rto_us: RTO_INITIAL_US,
            timeouts: 0,
            deadline_us: None,
            retransmitted: 0,
            ends: Vec::new(),
        }
    }

    pub(crate) fn seq_at(&self, offset: u64) -> u32 {
        let low = u32::try_from(offset & u64::from(u32::MAX)).expect("masked");
        self.initial_seq.wrapping_add(low)
    }

    /// The offset an acknowledgement number stands for; negative before our SYN.
    pub(crate) fn offset(&self, ack: u32) -> i64 {
        let distance = ack
            .wrapping_sub(self.seq_at(self.unacknowledged))
            .cast_signed();
        self.unacknowledged.cast_signed() + i64::from(distance)
    }

    pub(crate) fn write(&mut self, bytes: u64) {
        assert!(!self.closed, "the application wrote after its close");
        self.written += bytes;
        self.ends.push(self.written);
    }

    /// The bytes of a segment that begins at this offset.
    pub(crate) fn said(&self, offset: u64, len: u32) -> Vec<u8> {
        target_said(offset.saturating_sub(1), u64::from(len), &self.ends)
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// One past the last offset there is to send, the FIN included.
    fn end(&self) -> u64 {
        1 + self.written + u64::from(self.closed)
    }

    pub(crate) fn fin_sent(&self) -> bool {
        self.closed && self.highest == self.end()
    }

    pub(crate) fn fin_acknowledged(&self) -> bool {
        self.closed && self.unacknowledged == self.end()
    }

    /// Learns the peer's window (RFC 9293 section 3.10.7.4).
    pub(crate) fn learn_window(&mut self, seq: i64, ack: u64, window: u64) {
        if self.window_seq < seq || (self.window_seq == seq && self.window_ack <= ack) {
            self.window = window;
            self.window_seq = seq;
            self.window_ack = ack;
        }
    }

    /// Takes in an acknowledgement; `bare` is one without data or a change of window. Returns a
    /// range to send again at once.
    pub(crate) fn acknowledged(
        &mut self,
        now_us: Micros,
        ack: u64,
        bare: bool,
    ) -> Option<Transmit> {
        if self.window == 0 {
            self.timeouts = 0;
        }
        if ack > self.unacknowledged {
            return self.advance(now_us, ack);
        }
        if ack < self.unacknowledged || !bare || self.next == self.unacknowledged {
            return None;
        }
        self.duplicate_acks += 1;
        if self.duplicate_acks != 3 || self.recover.is_some() {
            return None;
        }
        self.shrink();
        self.congestion_window = self.threshold;
        self.recover = Some(self.highest);
        Some(self.first_unacknowledged())
    }

    fn advance(&mut self, now_us: Micros, ack: u64) -> Option<Transmit> {
        if let Some((offset, sent_us)) = self.sample
            && ack > offset
        {
            self.sample = None;
            self.learn_round_trip(now_us - sent_us);
        }
        let grown = (ack - self.unacknowledged).min(2 * self.mss);
        self.unacknowledged = ack;
        self.next = self.next.max(ack);
        self.duplicate_acks = 0;
        self.timeouts = 0;
        let outstanding = self.next > ack;
        self.deadline_us = outstanding.then(|| now_us + self.rto_us);
        match self.recover {
            Some(recover) if ack < recover => return Some(self.first_unacknowledged()),
            Some(_) => self.recover = None,
            None if self.congestion_window < self.threshold => self.congestion_window += grown,
            None => self.congestion_window += grown * self.mss / self.congestion_window,
        }
        None
    }

    fn shrink(&mut self) {
        let flight = self.highest - self.unacknowledged;
        self.threshold = (flight / 2).max(2 * self.mss);
    }

    /// RFC 6298 section 2.
    fn learn_round_trip(&mut self, sample_us: Micros) {
        let (smoothed, variation) = match self.smoothed_us {
            None => (sample_us, sample_us / 2),
            Some((smoothed, variation)) => (
                (7 * smoothed + sample_us) / 8,
                (3 * variation + smoothed.abs_diff(sample_us)) / 4,
            ),
        };
        self.smoothed_us = Some((smoothed, variation));
        self.rto_us = (smoothed + 4 * variation).clamp(RTO_MIN_US, RTO_MAX_US);
    }

    fn range(&self, offset: u64, most: u64) -> Transmit {
        let data_end = 1 + self.written;
        let bytes = data_end.saturating_sub(offset).min(most);
        Transmit {
            offset,
            bytes,
            fin: self.closed && offset + bytes == data_end,
        }
    }

    fn first_unacknowledged(&mut self) -> Transmit {
        self.retransmitted += 1;
        self.sample = None;
        let most = self.mss.min(self.highest - self.unacknowledged);
        let mut range = self.range(self.unacknowledged, most);
        range.fin &= self.fin_sent();
        self.next = self
            .next
            .max(range.offset + range.bytes + u64::from(range.fin));
        range
    }

    /// The next new segment the windows let through.
    pub(crate) fn transmit(&mut self, now_us: Micros) -> Option<Transmit> {
        let window = self.window.min(self.congestion_window);
        let room = (self.unacknowledged + window).saturating_sub(self.next);
        let most = if self.offload {
            MAX_SUPER_SEGMENT / self.mss * self.mss
        } else {
            self.mss
        };
        let range = self.range(self.next, most.min(room));
        let whole = self.range(self.next, most);
        // A short segment only when it is the last or nothing is under way (RFC 9293 3.8.6.2.1).
        let worth = range == whole || range.bytes >= self.mss || self.next == self.unacknowledged;
        if self.next >= self.end() || (range.bytes == 0 && !range.fin) || !worth {
            if self.next < self.end() && self.deadline_us.is_none() {
                self.deadline_us = Some(now_us + self.rto_us);
            }
            return None;
        }
        if self.next < self.highest {
            self.retransmitted += 1;
        } else {
            self.sample.get_or_insert((self.next, now_us));
        }
        self.next += range.bytes + u64::from(range.fin);
        self.highest = self.highest.max(self.next);
        self.deadline_us.get_or_insert(now_us + self.rto_us);
        Some(range)
    }

    /// The timer fired: goes back to the first unacknowledged byte, or probes a closed window.
    ///
    /// Returns what to send, or an error when the peer has been silent for too long.
    pub(crate) fn timeout(&mut self, now_us: Micros) -> Result<Transmit, ()> {
        self.timeouts += 1;
        if self.timeouts > MAX_TIMEOUTS {
            return Err(());
        }
        self.rto_us = (self.rto_us * 2).min(RTO_MAX_US);
        self.deadline_us = Some(now_us + self.rto_us);
        self.sample = None;
        if self.highest > self.unacknowledged {
            self.shrink();
            self.congestion_window = self.mss;
            self.recover = None;
            self.next = self.unacknowledged;
            self.retransmitted += 1;
        }
        // At least one byte, even into a closed window: a probe.
        let most = self.mss.min(self.window.max(1));
        let range = self.range(self.next, most);
        self.next += range.bytes + u64::from(range.fin);
        self.highest = self.highest.max(self.next);
        Ok(range)
    }
}
