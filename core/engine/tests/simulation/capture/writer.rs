//! Writes a conversation down as the capture sees it, turn by turn.

use std::ops::Range;

use tcpcopy_packet::{FourTuple, TcpFlags, TcpOptions, Timestamps};

use super::{CapturedSegment, ClientShape, Disturbance, header};
use crate::conversation::{Conversation, Ending, Turn, answer_bytes};
use crate::events::{MILLISECOND_US, Micros, SECOND_US};
use crate::rng::Rng;

/// Time between segments of one burst.
const SEGMENT_GAP_US: Micros = 12;
/// The origin's time for an answer.
const SERVICE_US: Micros = 300;
/// How long a lost segment takes to be sent again.
const RETRANSMISSION_US: Micros = 200 * MILLISECOND_US;
/// Bytes a client sends beyond a lost segment, at most.
const MAX_IN_FLIGHT: u64 = 500_000;
/// How often an idle client probes.
const KEEPALIVE_INTERVAL_US: Micros = 2 * SECOND_US;
/// Bytes the origin sends between two acknowledgements of the client, at most.
const ACKED_AT_ONCE: u64 = 64_000;

pub(super) struct Writer<'a> {
    conversation: &'a Conversation,
    shape: ClientShape,
    disturbance: Disturbance,
    rng: &'a mut Rng,
    now_us: Micros,
    /// Stream bytes the client has sent, and whether a FIN followed them.
    sent: u64,
    fin_sent: bool,
    /// The last bytes come once each: the table forgets a connection that has closed, so that what
    /// came again after the replay's end would count as another connection.
    is_closing: bool,
    /// Sequence space of the origin sent, and what of it the client has acknowledged.
    answered: u64,
    acknowledged: u64,
    segments: Vec<CapturedSegment>,
    holes: Vec<Range<u64>>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        conversation: &'a Conversation,
        shape: ClientShape,
        disturbance: Disturbance,
        rng: &'a mut Rng,
    ) -> Self {
        Self {
            conversation,
            shape,
            disturbance,
            rng,
            now_us: conversation.start_us,
            sent: 0,
            fin_sent: false,
            is_closing: false,
            answered: 0,
            acknowledged: 0,
            segments: Vec::new(),
            holes: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> (Vec<CapturedSegment>, Vec<Range<u64>>) {
        (self.segments, self.holes)
    }

    pub(super) fn write(&mut self) {
        self.handshake();
        if self.conversation.greeting_bytes > 0 {
            self.now_us += SERVICE_US;
            self.answer(self.conversation.greeting_bytes);
        }
        let turns = &self.conversation.turns;
        for (index, turn) in turns.iter().enumerate() {
            self.think(turn.think_us);
            let fin = self.conversation.ending == Ending::FinWithData && index + 1 == turns.len();
            self.burst(turn, fin);
            if index + 1 == turns.len() {
                match self.conversation.ending {
                    Ending::Abort => return self.client(TcpFlags::RST | TcpFlags::ACK, None),
                    Ending::HalfClose => self.fin(),
                    _ => {}
                }
            }
            let answer: u64 = turn.messages.iter().map(|m| answer_bytes(m.answer)).sum();
            if !turn.answered_meanwhile && answer > 0 {
                self.now_us += SERVICE_US;
                self.answer(answer);
            }
        }
        self.end();
    }

    fn handshake(&mut self) {
        self.client(TcpFlags::SYN, None);
        self.origin(TcpFlags::SYN | TcpFlags::ACK, 0);
        self.now_us += self.shape.round_trip_us;
        self.client(TcpFlags::ACK, None);
    }

    fn think(&mut self, think_us: Micros) {
        let until_us = self.now_us + think_us;
        if self.shape.keepalive {
            while self.now_us + KEEPALIVE_INTERVAL_US < until_us {
                self.now_us += KEEPALIVE_INTERVAL_US;
                self.client(TcpFlags::ACK, None);
                let probe = self.segments.last_mut().expect("just written");
                probe.header.seq = probe.header.seq.wrapping_sub(1);
            }
        }
        self.now_us = until_us;
    }

    /// The messages of one turn, with what befalls them.
    fn burst(&mut self, turn: &Turn, fin: bool) {
        let start = self.sent;
        let mut ends = Vec::new();
        let mut end = start;
        for message in &turn.messages {
            end += message.bytes;
            ends.push(end);
        }
        let parts = if turn.answered_meanwhile {
            ends.clone()
        } else {
            vec![end]
        };
        let mut part_start = start;
        for (part, part_end) in parts.into_iter().enumerate() {
            let last = part_end == end;
            self.part(part_start..part_end, &ends, fin && last);
            part_start = part_end;
            if turn.answered_meanwhile {
                let bytes = answer_bytes(turn.messages[part].answer);
                self.now_us += SERVICE_US;
                self.answer(bytes);
            }
        }
    }

    fn part(&mut self, range: Range<u64>, ends: &[u64], fin: bool) {
        self.is_closing = fin;
        let mss = u64::from(self.shape.mss) - if self.shape.timestamps { 12 } else { 0 };
        let cuts = self.shape.cut.cut(range.clone(), ends, mss, self.rng);
        let mut late = Vec::new();
        let mut swapped: Option<(Range<u64>, TcpFlags)> = None;
        for cut in cuts {
            self.sent = self.sent.max(cut.end);
            let mut flags = TcpFlags::ACK;
            if ends.contains(&cut.end) {
                flags = flags | TcpFlags::PSH;
            }
            if fin && cut.end == range.end {
                flags = flags | TcpFlags::FIN;
            }
            self.now_us += SEGMENT_GAP_US;
            if self.rng.permille(self.disturbance.hole_permille) {
                self.holes.push(cut);
            } else if self.rng.permille(self.disturbance.late_permille) {
                late.push((cut, flags));
            } else if swapped.is_none() && self.rng.permille(self.disturbance.swapped_permille) {
                swapped = Some((cut, flags));
                continue;
            } else {
                self.data(cut, flags);
            }
            if let Some((cut, flags)) = swapped.take() {
                self.data(cut, flags);
            }
            self.send_again(&mut late, MAX_IN_FLIGHT);
        }
        if let Some((cut, flags)) = swapped.take() {
            self.data(cut, flags);
        }
        self.send_again(&mut late, 0);
        self.fin_sent |= fin;
    }

    /// The client sends again what was lost, once so many bytes have followed the first of it.
    fn send_again(&mut self, late: &mut Vec<(Range<u64>, TcpFlags)>, after_bytes: u64) {
        if late
            .first()
            .is_some_and(|(lost, _)| self.sent >= lost.end + after_bytes)
        {
            self.now_us += RETRANSMISSION_US;
            for (cut, flags) in late.drain(..) {
                self.data(cut, flags);
            }
        }
    }

    fn data(&mut self, range: Range<u64>, flags: TcpFlags) {
        self.client(flags, Some(range.clone()));
        if self.is_closing {
            return;
        }
        if self.rng.permille(self.disturbance.duplicate_permille) {
            self.now_us += SEGMENT_GAP_US;
            self.client(flags, Some(range.clone()));
        }
        if self.rng.permille(self.disturbance.overlap_permille) {
            // Bytes in a hole that are sent again later would seem to belong to a later request.
            let before = if self.disturbance.hole_permille == 0 {
                range.start.min(3_000)
            } else {
                0
            };
            let start = range.start - self.rng.range(0, before + 1);
            let end = self.rng.range(start + 1, self.sent.min(start + 9_000) + 1);
            self.now_us += SEGMENT_GAP_US;
            self.client(TcpFlags::ACK, Some(start..end));
        }
    }

    /// The origin's bytes and the client's acknowledgements of them.
    fn answer(&mut self, bytes: u64) {
        let mut left = bytes;
        while left > 0 {
            let chunk = left.min(ACKED_AT_ONCE);
            left -= chunk;
            self.origin(TcpFlags::ACK | TcpFlags::PSH, chunk);
            self.answered += chunk;
            self.now_us += SEGMENT_GAP_US;
            if left == 0 {
                self.now_us += self.shape.round_trip_us;
            }
            self.acknowledged = self.answered;
            if left > 0 || !self.shape.piggybacked_acks {
                self.client(TcpFlags::ACK, None);
            }
        }
    }

    fn end(&mut self) {
        self.now_us += SERVICE_US;
        match self.conversation.ending {
            Ending::ClientFin => {
                self.fin();
                self.origin_fin();
            }
            Ending::FinWithData | Ending::HalfClose => self.origin_fin(),
            Ending::OriginFin => {
                self.origin_fin();
                self.fin();
            }
            Ending::Simultaneous => {
                self.origin(TcpFlags::FIN | TcpFlags::ACK, 0);
                self.fin();
                self.answered += 1;
                self.acknowledged = self.answered;
                self.now_us += self.shape.round_trip_us;
                self.client(TcpFlags::ACK, None);
            }
            Ending::Reset => self.client(TcpFlags::RST | TcpFlags::ACK, None),
            Ending::Abort | Ending::Open => {}
        }
    }

    fn fin(&mut self) {
        self.now_us += SEGMENT_GAP_US;
        self.client(TcpFlags::FIN | TcpFlags::ACK, None);
        self.fin_sent = true;
    }

    fn origin_fin(&mut self) {
        self.origin(TcpFlags::FIN | TcpFlags::ACK, 0);
        self.answered += 1;
        self.now_us += self.shape.round_trip_us;
        self.acknowledged = self.answered;
        self.client(TcpFlags::ACK, None);
    }

    /// Writes a segment of the client: a range of its stream, or nothing after what it sent.
    fn client(&mut self, flags: TcpFlags, range: Option<Range<u64>>) {
        let is_syn = flags.contains(TcpFlags::SYN);
        let mut header = header(self.conversation.tuple, flags, self.options(is_syn));
        let after = self.sent + u64::from(self.fin_sent);
        let range = range.unwrap_or(after..after);
        let position = if is_syn { 0 } else { 1 + range.start };
        header.seq = self.shape.client_seq.wrapping_add(low(position));
        if !is_syn {
            header.ack = self
                .shape
                .origin_seq
                .wrapping_add(low(1 + self.acknowledged));
        }
        header.payload_len = low(range.end - range.start);
        self.segments.push(CapturedSegment {
            at_us: self.now_us,
            header,
            range: Some(range),
        });
    }

    fn origin(&mut self, flags: TcpFlags, payload_len: u64) {
        if !self.shape.origin_visible {
            return;
        }
        let is_syn = flags.contains(TcpFlags::SYN);
        let tuple: FourTuple = self.conversation.tuple.reversed();
        let mut header = header(tuple, flags, self.options(is_syn));
        let position = if is_syn { 0 } else { 1 + self.answered };
        header.seq = self.shape.origin_seq.wrapping_add(low(position));
        let received = self.sent + u64::from(self.fin_sent);
        header.ack = self.shape.client_seq.wrapping_add(low(1 + received));
        header.payload_len = low(payload_len);
        self.segments.push(CapturedSegment {
            at_us: self.now_us,
            header,
            range: None,
        });
    }

    fn options(&self, is_syn: bool) -> TcpOptions {
        let clock = low((self.now_us / MILLISECOND_US) & u64::from(u32::MAX));
        let timestamps = Timestamps {
            value: clock.wrapping_sub(77),
            echo: clock,
        };
        let mut options = TcpOptions {
            timestamps: self.shape.timestamps.then_some(timestamps),
            ..TcpOptions::default()
        };
        if is_syn {
            options.mss = Some(self.shape.mss);
            options.window_scale = self.shape.window_scale;
            options.sack_permitted = self.shape.sack;
        }
        options
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).expect("masked")
}
