//! Segments of the target once the handshake is done, in the order of RFC 9293 section 3.10.7.4.

use tcpcopy_packet::{MAX_SACK_BLOCKS, MirrorSeq, Segment, TargetSeq, TcpFlags, TcpTimestamp};

use super::receive::Incoming;
use super::send::Acknowledgement;
use super::{Ending, Mirror, Progress, State, TIME_WAIT};
use crate::time::Instant;

/// How far beyond RCV.NXT a segment may begin, in bytes: more than any window advertised.
const MAX_RECEIVE_WINDOW: i32 = 1 << 30;

impl Mirror {
    /// A segment in a state that has a receive window.
    pub(super) fn synchronized_segment(&mut self, now: Instant, segment: &Segment<'_>) -> Progress {
        let mut progress = Progress::default();
        let seq = TargetSeq::new(segment.seq);
        if segment.flags.contains(TcpFlags::RST) {
            return self.reset_segment(now, seq);
        }
        if segment.flags.contains(TcpFlags::SYN) {
            // RFC 5961 section 4: also a SYN-ACK that comes again is answered this way.
            self.receive.ack_soon(now);
            progress.challenged = true;
            return progress;
        }
        progress.keep_alive = is_keep_alive(segment, self.receive.next());
        if !segment.flags.contains(TcpFlags::ACK) || self.is_unacceptable(now, segment) {
            progress.disordered = true;
            return progress;
        }
        let Some(ack) = self.ack_offset(segment.ack) else {
            self.receive.ack_soon(now);
            progress.challenged = true;
            return progress;
        };
        let was_recovering = self.send.is_recovering();
        progress.delivered = self.acknowledge(now, segment, seq, ack);
        progress.loss_found = self.send.is_recovering() && !was_recovering;
        let fin = segment.flags.contains(TcpFlags::FIN);
        if segment.payload_len > 0 || fin {
            let incoming = Incoming {
                seq,
                len: segment.payload_len,
                fin,
                bytes: segment.payload,
            };
            let arrival = self.receive.accept(now, incoming);
            progress.received = arrival.received;
            progress.disordered = arrival.disordered;
            progress.target_finished = arrival.finished;
            progress.pushed = segment.flags.contains(TcpFlags::PSH) || fin;
        }
        progress.ended = self.advance_state(now);
        progress
    }

    /// RFC 5961 section 3.2: only a RST at exactly RCV.NXT counts.
    fn reset_segment(&mut self, now: Instant, seq: TargetSeq) -> Progress {
        let distance = seq.since(self.receive.next());
        if distance == 0 {
            self.state = State::Closed;
            return Progress {
                ended: Some(Ending::Reset),
                ..Progress::default()
            };
        }
        let challenged = (0..MAX_RECEIVE_WINDOW).contains(&distance);
        if challenged {
            self.receive.ack_soon(now);
        }
        Progress {
            challenged,
            ..Progress::default()
        }
    }

    /// Old timestamps (RFC 7323 section 5.3), keep-alive probes (RFC 9293 section 3.8.4) and
    /// segments far outside the window are answered with an acknowledgement and dropped.
    fn is_unacceptable(&mut self, now: Instant, segment: &Segment<'_>) -> bool {
        let seq = TargetSeq::new(segment.seq);
        if self.timestamps
            && let Some(timestamps) = segment.options.timestamps
        {
            let value = TcpTimestamp::new(timestamps.value);
            if self.receive.is_stale(value) {
                self.receive.ack_soon(now);
                return true;
            }
            self.receive.note_timestamp(seq, value);
        }
        let distance = seq.since(self.receive.next());
        if is_keep_alive(segment, self.receive.next()) {
            self.receive.ack_soon(now);
        }
        let outside = !(-MAX_RECEIVE_WINDOW..MAX_RECEIVE_WINDOW).contains(&distance);
        if outside {
            self.receive.ack_soon(now);
        }
        outside
    }

    /// Where an acknowledgement number stands in the stream; `None` when it covers what was never
    /// sent.
    fn ack_offset(&self, ack: u32) -> Option<u64> {
        let una = self.send.una();
        let distance = i64::from(MirrorSeq::new(ack).since(self.seq_at(una)));
        let offset = u64::try_from(una.cast_signed() + distance).unwrap_or(0);
        (offset <= self.send.max()).then_some(offset)
    }

    fn acknowledge(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        seq: TargetSeq,
        ack: u64,
    ) -> u64 {
        let una = self.send.una();
        let base = self.seq_at(una);
        let mut sacked = [(0, 0); MAX_SACK_BLOCKS];
        let mut count = 0;
        for block in segment.options.sack.as_slice() {
            let start = i64::from(MirrorSeq::new(block.start).since(base));
            let end = i64::from(MirrorSeq::new(block.end).since(base));
            if self.sack && start >= 0 && end > start {
                sacked[count] = (una + start.cast_unsigned(), una + end.cast_unsigned());
                count += 1;
            }
        }
        let info = Acknowledgement {
            ack,
            window: u32::from(segment.window) << self.send_scale,
            seq,
            sacked: &sacked[..count],
            pure: segment.sequence_len() == 0,
        };
        self.send.acknowledge(now, &info)
    }

    /// The transitions that an acknowledged FIN of ours and a FIN of the target cause.
    fn advance_state(&mut self, now: Instant) -> Option<Ending> {
        let acknowledged = self.send.fin_acknowledged();
        let finished = self.receive.finished();
        self.state = match (self.state, acknowledged, finished) {
            (State::Established, _, true) => State::CloseWait,
            (State::FinWait1, true, false) => State::FinWait2,
            (State::FinWait1, false, true) => State::Closing,
            (State::FinWait1, true, true) | (State::FinWait2 | State::Closing, true, true) => {
                State::TimeWait {
                    until: now + TIME_WAIT,
                }
            }
            (State::LastAck, true, _) => State::Closed,
            (State::TimeWait { .. }, _, _) if self.receive.deadline().is_some() => {
                State::TimeWait {
                    until: now + TIME_WAIT,
                }
            }
            (state, _, _) => state,
        };
        (self.state == State::Closed).then_some(Ending::Done)
    }

    /// After our RST: the target still speaks, so it has not taken it (RFC 9293 section 3.10.7.1).
    pub(super) fn answer_with_reset(&mut self, segment: &Segment<'_>) {
        if !segment.flags.contains(TcpFlags::RST) && segment.flags.contains(TcpFlags::ACK) {
            self.rst = Some(MirrorSeq::new(segment.ack));
        }
    }
}

/// A keep-alive probe begins one before what is expected, with no byte or one that is not new
/// (RFC 9293 section 3.8.4).
fn is_keep_alive(segment: &Segment<'_>, expected: TargetSeq) -> bool {
    TargetSeq::new(segment.seq).since(expected) == -1 && segment.sequence_len() <= 1
}
