//! One connection of the model target: RFC 9293's states around the two halves.

mod output;

use tcpcopy_packet::{FourTuple, Segment, TcpFlags};

use super::Spoken;
use super::app::{App, AppAction};
use super::config::TargetConfig;
use super::receive::{Arrival, Receiver};
use super::send::Sender;
use crate::events::{MINUTE_US, Micros, SECOND_US};
use crate::wire::TCP_HEADER_LEN;

/// How long a connection that closed first remembers (twice the maximum segment lifetime).
const TIME_WAIT_US: Micros = MINUTE_US;
/// How long a closed connection waits for the mirror's FIN.
const FIN_WAIT_US: Micros = MINUTE_US;
/// Times a SYN-ACK is sent again.
const SYN_ACK_RETRIES: u32 = 5;
/// Unanswered keep-alive probes after which the connection is reset.
const KEEPALIVE_PROBES: u32 = 9;
/// Interval of unanswered keep-alive probes.
const KEEPALIVE_INTERVAL_US: Micros = SECOND_US;
/// Bytes the timestamps option takes of every segment, padding included.
const TIMESTAMPS_LEN: u16 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The SYN-ACK goes out at a moment, again and again until its acknowledgement.
    SynReceived {
        send_at_us: Micros,
        sent: u32,
    },
    /// ESTABLISHED to LAST-ACK; which one follows from the FINs seen.
    Synchronized,
    TimeWait {
        until_us: Micros,
    },
    Closed,
}

/// How a connection ended, seen from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides closed.
    Closed,
    /// The mirror reset it.
    ResetByMirror,
    /// The target reset it, of its application's will or for data after its close.
    ResetByTarget,
    /// The mirror no longer answered.
    TimedOut,
    /// The mirror no longer answered keep-alive probes.
    KeepaliveUnanswered,
}

/// A connection the target accepted, and what it received on it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Source = the target.
    tuple: FourTuple,
    config: TargetConfig,
    phase: Phase,
    sender: Sender,
    receiver: Receiver,
    app: App,
    peer_shift: u8,
    /// Whether both sides scale their windows.
    scaled: bool,
    sack: bool,
    timestamps: bool,
    /// RFC 7323's TS.Recent.
    recent: u32,
    clock_offset: u32,
    /// RCV.NXT as last acknowledged.
    acknowledged: u64,
    ack_at_us: Option<Micros>,
    unacknowledged_segments: u32,
    app_closed: bool,
    /// Our FIN went out before the mirror's came: the side that closes first has TIME-WAIT.
    closed_first: bool,
    /// A wholly closed connection doesn't wait for the mirror's FIN beyond this.
    fin_wait_until_us: Option<Micros>,
    keepalive_sent: u32,
    last_heard_us: Micros,
    pub(crate) began_us: Micros,
    pub(crate) end: Option<End>,
    pub(crate) established: bool,
    /// Segments that brought nothing new: what the mirror sent in vain or again.
    pub(crate) useless_segments: u64,
    /// RSTs outside the window.
    pub(crate) bad_resets: u64,
    out: Vec<Spoken>,
}

impl Connection {
    /// Takes in a SYN.
    pub(crate) fn new(
        now_us: Micros,
        syn: &Segment<'_>,
        config: &TargetConfig,
        delay_us: Micros,
        initial_seq: u32,
    ) -> Self {
        let offered = &syn.options;
        let timestamps = config.timestamps && offered.timestamps.is_some();
        let scaled = config.window_scale.is_some() && offered.window_scale.is_some();
        let peer_mss = offered.mss.unwrap_or(536).min(config.mss);
        let segment = peer_mss - if timestamps { TIMESTAMPS_LEN } else { 0 };
        let shift = config.window_scale.filter(|_| scaled).unwrap_or(0);
        Self {
            tuple: syn.tuple.reversed(),
            config: config.clone(),
            phase: Phase::SynReceived {
                send_at_us: now_us + delay_us,
                sent: 0,
            },
            sender: Sender::new(initial_seq, segment, config.segmentation_offload),
            receiver: Receiver::new(syn.seq, config.receive_buffer_bytes, shift, config.mss),
            app: App::new(config, now_us),
            peer_shift: offered.window_scale.filter(|_| scaled).unwrap_or(0),
            scaled,
            sack: config.sack && offered.sack_permitted,
            timestamps,
            recent: offered.timestamps.map_or(0, |timestamps| timestamps.value),
            clock_offset: initial_seq.rotate_left(13),
            acknowledged: 1,
            ack_at_us: None,
            unacknowledged_segments: 0,
            app_closed: false,
            closed_first: false,
            fin_wait_until_us: None,
            keepalive_sent: 0,
            last_heard_us: now_us,
            began_us: now_us,
            end: None,
            established: false,
            useless_segments: 0,
            bad_resets: 0,
            out: Vec::new(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    pub(crate) fn stream(&self) -> &[u8] {
        &self.receiver.stream
    }

    pub(crate) fn client_closed(&self) -> bool {
        self.receiver.is_finished()
    }

    pub(crate) fn retransmitted(&self) -> u64 {
        self.sender.retransmitted
    }

    pub(crate) fn take_out(&mut self) -> Vec<Spoken> {
        std::mem::take(&mut self.out)
    }

    /// Whether a SYN may replace this connection (RFC 9293 section 3.6.1, RFC 6191).
    pub(crate) fn yields_to(&self, syn: &Segment<'_>) -> bool {
        let newer_clock = self.timestamps
            && syn
                .options
                .timestamps
                .is_some_and(|ts| is_after(ts.value, self.recent));
        let later = self.receiver.offset(syn.seq) > self.receiver.next.cast_signed();
        matches!(self.phase, Phase::TimeWait { .. }) && (later || newer_clock)
    }

    /// Checks what any sender must keep to, whatever the state.
    fn check(&self, segment: &Segment<'_>, packet_len: usize) {
        let is_syn = segment.flags.contains(TcpFlags::SYN);
        let is_rst = segment.flags.contains(TcpFlags::RST);
        let options = &segment.options;
        let headers = crate::wire::ip_header_len(self.tuple.source.address) + TCP_HEADER_LEN;
        assert!(
            packet_len <= usize::from(self.config.mss) + headers,
            "a packet of {packet_len} bytes is over the target's MSS of {}",
            self.config.mss
        );
        if is_syn {
            return;
        }
        assert!(
            options.mss.is_none() && options.window_scale.is_none(),
            "SYN options elsewhere"
        );
        assert!(!options.sack_permitted, "SACK permitted outside a SYN");
        assert!(
            options.sack.is_empty() || self.sack,
            "SACK blocks without agreement"
        );
        assert!(
            options.timestamps.is_none() || self.timestamps,
            "timestamps without agreement"
        );
        assert!(
            options.timestamps.is_some() || !self.timestamps || is_rst,
            "a segment without the agreed timestamps (RFC 7323 section 3.2)"
        );
    }

    /// Takes in a segment of the mirror.
    pub(crate) fn segment(&mut self, now_us: Micros, segment: &Segment<'_>, packet_len: usize) {
        self.check(segment, packet_len);
        self.last_heard_us = now_us;
        self.keepalive_sent = 0;
        let flags = segment.flags;
        let offset = self.receiver.offset(segment.seq);
        if flags.contains(TcpFlags::SYN) {
            return self.repeated_syn(now_us, offset);
        }
        if flags.contains(TcpFlags::RST) {
            return self.reset_by_mirror(now_us, offset);
        }
        if let Some(ts) = segment.options.timestamps.filter(|_| self.timestamps) {
            if is_after(self.recent, ts.value) {
                return self.acknowledge(now_us);
            }
            if offset <= self.acknowledged.cast_signed() {
                self.recent = ts.value;
            }
        }
        if matches!(self.phase, Phase::SynReceived { sent: 0, .. }) {
            // Meant for an older connection: this one has not answered yet.
            return self.answer_with_reset(segment);
        }
        if !self.receiver.is_acceptable(offset, segment.sequence_len()) {
            self.useless_segments += u64::from(segment.payload_len > 0);
            self.receiver
                .check_within_window(offset, segment.payload_len);
            return self.acknowledge(now_us);
        }
        assert!(flags.contains(TcpFlags::ACK), "no ACK flag after the SYN");
        if !self.take_acknowledgement(now_us, segment, offset) {
            return;
        }
        self.receiver
            .check_within_window(offset, segment.payload_len);
        self.take_data(now_us, segment, offset);
        self.pump(now_us);
    }

    fn repeated_syn(&mut self, now_us: Micros, offset: i64) {
        match &mut self.phase {
            // Not yet answered: its own time will come.
            Phase::SynReceived { sent: 0, .. } => {}
            Phase::SynReceived { send_at_us, .. } if offset == 0 => *send_at_us = now_us,
            // A challenge (RFC 5961 section 4.2).
            _ => self.acknowledge(now_us),
        }
    }

    fn reset_by_mirror(&mut self, now_us: Micros, offset: i64) {
        if offset == self.receiver.next.cast_signed() {
            self.close(End::ResetByMirror);
        } else if self.receiver.in_window(offset) {
            // RFC 5961 section 3.2.
            self.acknowledge(now_us);
        } else {
            self.bad_resets += 1;
        }
    }

    /// Returns whether the segment is still to be looked at.
    fn take_acknowledgement(&mut self, now_us: Micros, segment: &Segment<'_>, offset: i64) -> bool {
        let ack = self.sender.offset(segment.ack);
        let highest = self.sender.highest.cast_signed();
        if let Phase::SynReceived { sent, .. } = self.phase {
            if sent == 0 || ack != 1 {
                self.answer_with_reset(segment);
                return false;
            }
            self.phase = Phase::Synchronized;
            self.established = true;
            self.sender.unacknowledged = 1;
        }
        assert!(
            ack <= highest,
            "acknowledges {ack}, but only {highest} was ever sent"
        );
        let window = u64::from(segment.window) << self.peer_shift;
        let Ok(ack) = u64::try_from(ack) else {
            return false;
        };
        let bare = segment.sequence_len() == 0 && window == self.sender.window;
        if let Some(range) = self.sender.acknowledged(now_us, ack, bare) {
            self.send_range(now_us, range);
        }
        if ack >= self.sender.unacknowledged {
            self.sender.learn_window(offset, ack, window);
        }
        self.check_sack(segment);
        true
    }

    fn check_sack(&self, segment: &Segment<'_>) {
        for block in segment.options.sack.as_slice() {
            let [start, end] = [block.start, block.end].map(|seq| self.sender.offset(seq));
            let highest = self.sender.highest.cast_signed();
            assert!(
                start < end && end <= highest,
                "SACK {start}..{end} of {highest} sent"
            );
        }
    }

    fn take_data(&mut self, now_us: Micros, segment: &Segment<'_>, offset: i64) {
        let fin = segment.flags.contains(TcpFlags::FIN);
        if segment.payload_len == 0 && !fin {
            // A keep-alive probe of old sequence asks for an answer.
            if offset < self.receiver.next.cast_signed() {
                self.acknowledge(now_us);
            }
            return;
        }
        let end = offset + i64::from(segment.payload_len);
        let new_data = segment.payload_len > 0 && end > self.receiver.next.cast_signed();
        if self.app_closed && new_data {
            self.send_reset(self.sender.seq_at(self.sender.next));
            return self.close(End::ResetByTarget);
        }
        let was_finished = self.receiver.is_finished();
        let arrival = self.receiver.insert(offset, segment.payload, fin);
        self.useless_segments += u64::from(arrival == Arrival::Nothing && segment.payload_len > 0);
        if arrival == Arrival::InOrder && !fin {
            self.unacknowledged_segments += 1;
            if self.unacknowledged_segments >= 2 || self.config.delayed_ack_us == 0 {
                self.acknowledge(now_us);
            } else {
                self.ack_at_us
                    .get_or_insert(now_us + self.config.delayed_ack_us);
            }
        } else {
            self.acknowledge(now_us);
        }
        if self.receiver.is_finished() && !was_finished {
            self.app.read(now_us, &self.receiver.stream);
        }
    }

    /// Lets the application run, sends what may be sent, and follows the FINs.
    fn pump(&mut self, now_us: Micros) {
        if self.phase != Phase::Synchronized {
            return;
        }
        self.app.read(now_us, &self.receiver.stream);
        if self.receiver.is_finished() && self.app.read == self.receiver.stream.len() as u64 {
            self.app.client_closed(now_us);
        }
        while let Some(action) = self.app.act(now_us) {
            match action {
                AppAction::Write(bytes) => self.sender.write(bytes),
                AppAction::Shutdown => self.sender.close(),
                AppAction::Close => {
                    self.app_closed = true;
                    self.sender.close();
                }
                AppAction::Abort => {
                    self.send_reset(self.sender.seq_at(self.sender.next));
                    return self.close(End::ResetByTarget);
                }
            }
        }
        while let Some(range) = self.sender.transmit(now_us) {
            self.send_range(now_us, range);
        }
        if self.receiver.should_reopen(self.app.read) {
            self.acknowledge(now_us);
        }
        self.follow_fins(now_us);
    }

    fn follow_fins(&mut self, now_us: Micros) {
        let received = self.receiver.is_finished();
        self.closed_first |= self.sender.fin_sent() && !received;
        if !self.sender.fin_acknowledged() {
            return;
        }
        if !received {
            let until_us = self.app_closed.then_some(now_us + FIN_WAIT_US);
            self.fin_wait_until_us = self.fin_wait_until_us.or(until_us);
        } else if self.closed_first {
            self.phase = Phase::TimeWait {
                until_us: now_us + TIME_WAIT_US,
            };
            self.end = Some(End::Closed);
        } else {
            self.close(End::Closed);
        }
    }

    /// Lets time pass.
    pub(crate) fn timeout(&mut self, now_us: Micros) {
        match self.phase {
            Phase::SynReceived { send_at_us, sent } if now_us >= send_at_us => {
                if sent > SYN_ACK_RETRIES {
                    return self.close(End::TimedOut);
                }
                let wait_us = SECOND_US << sent;
                self.phase = Phase::SynReceived {
                    send_at_us: now_us + wait_us,
                    sent: sent + 1,
                };
                self.send_syn_ack(now_us);
            }
            Phase::TimeWait { until_us } if now_us >= until_us => self.phase = Phase::Closed,
            Phase::Synchronized => {
                self.pump(now_us);
                self.timeout_synchronized(now_us);
            }
            _ => {}
        }
    }

    fn timeout_synchronized(&mut self, now_us: Micros) {
        if self.fin_wait_until_us.is_some_and(|at| now_us >= at) {
            return self.close(End::Closed);
        }
        if self.ack_at_us.is_some_and(|at| now_us >= at) {
            self.acknowledge(now_us);
        }
        if self.sender.deadline_us.is_some_and(|at| now_us >= at) {
            match self.sender.timeout(now_us) {
                Ok(range) => self.send_range(now_us, range),
                Err(()) => return self.close(End::TimedOut),
            }
        }
        if self.keepalive_at().is_some_and(|at| now_us >= at) {
            if self.keepalive_sent == KEEPALIVE_PROBES {
                self.send_reset(self.sender.seq_at(self.sender.next));
                return self.close(End::KeepaliveUnanswered);
            }
            self.keepalive_sent += 1;
            self.send_at(now_us, self.sender.next.wrapping_sub(1), 0, TcpFlags::ACK);
        }
    }

    fn keepalive_at(&self) -> Option<Micros> {
        let idle = self.sender.deadline_us.is_none() && self.phase == Phase::Synchronized;
        let first_us = self.config.keepalive_us.filter(|_| idle)?;
        let more_us = KEEPALIVE_INTERVAL_US * u64::from(self.keepalive_sent);
        Some(self.last_heard_us + first_us + more_us)
    }

    /// When [`Connection::timeout`] has something to do.
    pub(crate) fn next_at(&self) -> Option<Micros> {
        match self.phase {
            Phase::SynReceived { send_at_us, .. } => Some(send_at_us),
            Phase::TimeWait { until_us } => Some(until_us),
            Phase::Closed => None,
            Phase::Synchronized => {
                let app = self.app.next_at(self.receiver.stream.len() as u64);
                let sender = self.sender.deadline_us;
                [
                    self.ack_at_us,
                    sender,
                    self.keepalive_at(),
                    self.fin_wait_until_us,
                    app,
                ]
                .into_iter()
                .flatten()
                .min()
            }
        }
    }

    fn close(&mut self, end: End) {
        self.phase = Phase::Closed;
        self.end.get_or_insert(end);
    }

    /// Resets from outside, as intercept does for the sessions of a tunnel that stays away.
    pub(crate) fn abort(&mut self) {
        if matches!(self.phase, Phase::SynReceived { .. } | Phase::Synchronized) {
            self.close(End::ResetByTarget);
        }
    }
}

/// Whether timestamp `a` is later than `b` (RFC 7323 section 5.2).
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}
