//! The mirror TCP: a TCP client that speaks to the target in the captured client's name.
//!
//! It is the client side of RFC 9293, cut into the handshake ([`handshake`]), the sending half
//! ([`send`]), the receiving half ([`receive`]), the timeout ([`rto`]), and what joins them:
//! segments that come ([`incoming`]) and packets that go ([`outgoing`]). It has no clock and no
//! socket: segments, bytes and `now` come in, packets and deadlines go out.

mod handshake;
mod incoming;
mod outgoing;
mod payload;
mod range_set;
mod receive;
mod rto;
mod send;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use tcpcopy_packet::{FourTuple, MirrorSeq, Segment, TcpFlags};

pub(crate) use self::handshake::{MAX_HANDSHAKE_HOLD, SynOffer};
use self::receive::Receiver;
use self::send::{Sender, TimerKind};
use crate::time::Instant;

/// How long a closed connection still answers the target's retransmissions. Far below RFC 9293's
/// two segment lifetimes: a later packet of the target is dropped by intercept's tombstone, and a
/// client that reuses the tuple ends this state at once.
const TIME_WAIT: Duration = Duration::from_secs(1);
/// Hop limit of our packets: what Linux clients send.
const HOP_LIMIT: u8 = 64;
/// Smallest window advertised, in bytes, whatever the captured client's was: the replay has no
/// application that could be slow.
const MIN_WINDOW: u32 = 65_535;
/// RFC 9293 section 3.3.2's states of a client, and what comes before and after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The SYN waits for intercept to know the session.
    Registering,
    SynSent,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait {
        until: Instant,
    },
    /// We have sent a RST; what the target still sends is answered with another.
    Aborted {
        until: Instant,
    },
    Closed,
}

/// Why the target's side of a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both sides have closed, or we have aborted.
    Done,
    /// The target answered the SYN with a RST.
    Refused,
    /// The target reset the connection.
    Reset,
    /// No answer to any SYN.
    Unanswered,
}

/// What one segment of the target changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The handshake is complete.
    pub(crate) established: bool,
    /// Client bytes newly acknowledged.
    pub(crate) delivered: u64,
    /// Target payload bytes newly received in order.
    pub(crate) received: u64,
    /// Whether the target marked the end of what it has to say for now.
    pub(crate) pushed: bool,
    /// The target has sent its FIN.
    pub(crate) target_finished: bool,
    /// The segment was out of order or a duplicate.
    pub(crate) disordered: bool,
    /// It is a keep-alive probe, which is answered.
    pub(crate) keep_alive: bool,
    /// It shows that a segment of ours was lost.
    pub(crate) loss_found: bool,
    /// We answer with a challenge (RFC 5961).
    pub(crate) challenged: bool,
    /// The session is over at the target.
    pub(crate) ended: Option<Ending>,
}

/// What a timeout made happen, for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    Nothing,
    Retransmission,
    TailProbe,
    WindowProbe,
    Ended(Ending),
}

/// A packet that [`Mirror::poll_transmit`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transmitted {
    /// Part of it had been sent before.
    pub(crate) retransmission: bool,
    /// It is a RST.
    pub(crate) reset: bool,
}

#[derive(Debug)]
pub(crate) struct Mirror {
    tuple: FourTuple,
    state: State,
    iss: MirrorSeq,
    offer: SynOffer,
    syn: handshake::SynTimer,
    /// Options in force after the handshake.
    timestamps: bool,
    sack: bool,
    send_scale: u8,
    /// The window field to advertise, in units of the scale we offered.
    window: u16,
    timestamp_offset: u32,
    identification: u16,
    mtu: u16,
    /// A RST waits to leave, with this sequence number.
    rst: Option<MirrorSeq>,
    /// Nothing leaves before: the captured client had not answered its SYN-ACK yet.
    held_until: Option<Instant>,
    client_established: bool,
    send: Sender,
    receive: Receiver,
}

impl Mirror {
    /// A connection to be, from `tuple.source` to `tuple.destination`. `seed` makes the initial
    /// sequence number unpredictable.
    pub(crate) fn new(
        now: Instant,
        tuple: FourTuple,
        offer: SynOffer,
        mtu: u16,
        seed: u64,
    ) -> Self {
        let (iss, timestamp_offset) = handshake::initial_numbers(now, tuple, seed);
        Self {
            tuple,
            state: State::Registering,
            iss,
            offer,
            syn: handshake::SynTimer::default(),
            timestamps: false,
            sack: false,
            send_scale: 0,
            window: offer.window >> offer.window_scale.unwrap_or(0),
            timestamp_offset,
            identification: iss.value() as u16,
            mtu,
            rst: None,
            held_until: None,
            client_established: false,
            send: Sender::new(),
            receive: Receiver::new(),
        }
    }

    pub(crate) fn tuple(&self) -> FourTuple {
        self.tuple
    }

    pub(crate) fn offer(&self) -> SynOffer {
        self.offer
    }

    pub(crate) fn iss(&self) -> MirrorSeq {
        self.iss
    }

    /// Memory that the queued bytes take, and those of the target that wait for others.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.send.memory_bytes() + self.receive.memory_bytes()
    }

    /// The target's bytes are wanted, from the first on.
    pub(crate) fn want_payload(&mut self) {
        self.receive.want_payload();
    }

    /// Whether the target's bytes are wanted.
    pub(crate) fn wants_payload(&self) -> bool {
        self.receive.wants_payload()
    }

    /// Nobody wants the target's bytes any more.
    pub(crate) fn forget_payload(&mut self) {
        self.receive.forget_payload();
    }

    /// Takes the target's bytes that have come since the last time, where they are wanted.
    pub(crate) fn take_payload(&mut self) -> Vec<u8> {
        self.receive.take_payload()
    }

    /// Whether the FIN has left, so that no byte can follow.
    pub(crate) fn has_finished(&self) -> bool {
        self.send.fin_sent()
    }

    pub(crate) fn has_reset_to_send(&self) -> bool {
        self.rst.is_some()
    }

    /// Offset after the last byte queued.
    pub(crate) fn end(&self) -> u64 {
        self.send.end()
    }

    /// Client bytes that the target has acknowledged.
    pub(crate) fn delivered(&self) -> u64 {
        self.send.delivered()
    }

    /// Client bytes that have left at least once.
    pub(crate) fn sent(&self) -> u64 {
        self.send.max().min(self.send.end())
    }

    /// Target payload bytes received in order.
    pub(crate) fn received(&self) -> u64 {
        self.receive.received()
    }

    pub(crate) fn is_registering(&self) -> bool {
        self.state == State::Registering
    }

    /// Whether the target has closed its side.
    pub(crate) fn target_finished(&self) -> bool {
        self.receive.finished()
    }

    /// Whether all that is left is to answer the target's retransmissions.
    pub(crate) fn is_lingering(&self) -> bool {
        matches!(
            self.state,
            State::TimeWait { .. } | State::Aborted { .. } | State::Closed
        )
    }

    /// Whether nothing is left to do, not even that.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether client bytes or a FIN wait for the target's acknowledgement.
    pub(crate) fn is_waiting_for_target(&self) -> bool {
        self.state == State::SynSent || self.send.una() < self.send.max()
    }

    /// intercept knows the session: the SYN may leave.
    pub(crate) fn registered(&mut self, now: Instant) {
        if self.state == State::Registering {
            self.state = State::SynSent;
            self.syn.start(now);
        }
    }

    /// The captured client has answered the origin's SYN-ACK, `rtt` after its SYN.
    pub(crate) fn client_established(&mut self, rtt: Duration) {
        self.client_established = true;
        self.held_until = None;
        self.receive.set_rtt(rtt);
    }

    /// Advertises the captured client's window from now on.
    pub(crate) fn follow_window(&mut self, window: u16) {
        let floor = MIN_WINDOW >> self.offer.window_scale.unwrap_or(0);
        self.window = window.max(u16::try_from(floor).unwrap_or(u16::MAX));
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.send.push(chunk);
    }

    /// A FIN follows the last byte.
    pub(crate) fn finish(&mut self) {
        self.send.finish();
    }

    /// Takes back all bytes from `offset` on, none of which may have been sent.
    pub(crate) fn take_from(&mut self, offset: u64) -> Vec<Bytes> {
        debug_assert!(
            offset >= self.sent(),
            "bytes that have left can't be taken back"
        );
        self.send.take_from(offset)
    }

    /// Ends the connection with a RST; nothing else is sent.
    pub(crate) fn abort(&mut self, now: Instant) {
        self.state = match self.state {
            State::Registering | State::Closed | State::TimeWait { .. } => State::Closed,
            State::Aborted { until } => State::Aborted { until },
            _ => {
                self.rst = Some(self.seq_at(self.send.max()));
                State::Aborted {
                    until: now + TIME_WAIT,
                }
            }
        };
    }

    /// The path to the target is back: sends what is unanswered at once.
    pub(crate) fn kick(&mut self, now: Instant) {
        self.send.kick(now);
        self.syn.kick(now);
    }

    /// When there is nothing left to answer, after the end.
    pub(crate) fn lingers_until(&self) -> Option<Instant> {
        match self.state {
            State::TimeWait { until } | State::Aborted { until } => Some(until),
            _ => None,
        }
    }

    /// Whether the captured client has answered the origin's SYN-ACK.
    pub(crate) fn client_is_established(&self) -> bool {
        self.client_established
    }

    /// The round-trip time that acknowledgements follow.
    pub(crate) fn rtt(&self) -> Duration {
        self.receive.rtt()
    }

    /// When [`Self::timeout`] or [`Self::poll_transmit`] has work next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Registering | State::Closed => None,
            State::SynSent => self.syn.deadline(),
            State::TimeWait { until } => earliest(Some(until), self.receive.deadline()),
            State::Aborted { until } => Some(until),
            _ => {
                let deadline = earliest(self.send.deadline(), self.receive.deadline());
                match self.held_until {
                    Some(until) => Some(deadline.map_or(until, |at| at.max(until))),
                    None => deadline,
                }
            }
        }
    }

    /// Acts on timers that have run out.
    pub(crate) fn timeout(&mut self, now: Instant) -> Expired {
        if self.held_until.is_some_and(|until| until <= now) {
            self.held_until = None;
        }
        match self.state {
            State::TimeWait { until } | State::Aborted { until } if until <= now => {
                self.state = State::Closed;
                Expired::Ended(Ending::Done)
            }
            State::SynSent => self.syn_timeout(now),
            State::Registering | State::Closed | State::TimeWait { .. } | State::Aborted { .. } => {
                Expired::Nothing
            }
            _ => match self.send.timeout(now) {
                None => Expired::Nothing,
                Some(TimerKind::Retransmit) => Expired::Retransmission,
                Some(TimerKind::Probe) => Expired::TailProbe,
                Some(TimerKind::Persist) => Expired::WindowProbe,
            },
        }
    }

    /// Writes the next packet into `packet`, if one may leave now. Client bytes from `gate` on
    /// stay; the FIN counts as the byte after the last.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        gate: u64,
        packet: &mut Vec<u8>,
    ) -> Option<Transmitted> {
        if let Some(seq) = self.rst.take() {
            let answered = self.state != State::SynSent;
            let flags = if answered {
                TcpFlags::RST | TcpFlags::ACK
            } else {
                TcpFlags::RST
            };
            self.write(now, flags, seq, None, packet);
            return Some(Transmitted {
                reset: true,
                ..Transmitted::default()
            });
        }
        match self.state {
            State::Registering | State::Closed | State::Aborted { .. } => return None,
            State::SynSent => return self.poll_syn(now, packet),
            _ if self.held_until.is_some_and(|until| until > now) => return None,
            _ => {}
        }
        if !matches!(self.state, State::TimeWait { .. })
            && let Some(transmission) = self.send.next_transmission(now, gate)
        {
            self.write_transmission(now, &transmission, packet);
            self.note_fin_sent();
            let retransmission = transmission.retransmission;
            return Some(Transmitted {
                retransmission,
                ..Transmitted::default()
            });
        }
        if self.receive.deadline().is_some_and(|at| at <= now) {
            let seq = self.seq_at(self.send.max());
            self.write(now, TcpFlags::ACK, seq, None, packet);
            return Some(Transmitted::default());
        }
        None
    }

    /// Takes a segment of the target.
    pub(crate) fn segment(&mut self, now: Instant, segment: &Segment<'_>) -> Progress {
        match self.state {
            State::Registering | State::Closed => Progress::default(),
            State::SynSent => self.handshake_segment(now, segment),
            State::Aborted { .. } => {
                self.answer_with_reset(segment);
                Progress::default()
            }
            _ => self.synchronized_segment(now, segment),
        }
    }

    fn note_fin_sent(&mut self) {
        if self.send.fin_sent() {
            self.state = match self.state {
                State::Established => State::FinWait1,
                State::CloseWait => State::LastAck,
                state => state,
            };
        }
    }

    /// The sequence number of a stream offset.
    fn seq_at(&self, offset: u64) -> MirrorSeq {
        self.iss + 1 + offset as u32
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
