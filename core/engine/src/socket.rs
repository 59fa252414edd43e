//! A session's view of its kernel connection to the target: what waits for the kernel, what the
//! kernel has taken, what the target has acknowledged, and when which side closes.
//!
//! The kernel does TCP; this decides what it is given and when. At most one chunk is on offer at a
//! time. What the kernel has taken is out of our hands, but it is *delivered* only once the target
//! has acknowledged it. The kernel's buffer is the kernel's to bound; what it does not take waits
//! here, within the memory budget.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use tcpcopy_packet::{Endpoint, FourTuple};

use crate::channel::{Heard, Request};
use crate::ledger::DropReason;
use crate::mirror::{MAX_HANDSHAKE_HOLD, SynOffer};
use crate::outbox::Outbox;
use crate::output::Closing;
use crate::time::Instant;

/// How long our FIN waits for the target's. A server that closes after its answer (`Connection:
/// close`) does so at this moment, and whoever closes first keeps the connection in TIME_WAIT: on
/// our side that would take one of this host's source ports away for a minute.
const FINISH_PATIENCE: Duration = Duration::from_millis(20);

/// What happened to a kernel connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketEvent {
    Connecting(Endpoint),
    Connected,
    /// The kernel took so many bytes of the offer.
    Taken(usize),
    Writable,
    /// So many of the bytes taken are not acknowledged.
    Acknowledged(u64),
    /// So many bytes of the target; `is_last` when no more wait in the kernel.
    Received {
        bytes: u64,
        is_last: bool,
    },
    /// The target has closed its side.
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The connection may be asked for.
    Unconnected,
    /// No port or descriptor was free; others that wait may come first.
    InLine,
    Connecting,
    Connected,
    /// We want it reset; the kernel still has it.
    Aborted,
    /// The kernel does not have it any more.
    Closed,
}

/// How far the end of our stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    /// The client goes on.
    NotYet,
    /// It follows the last byte.
    Asked,
    /// It leaves then, or when the target has closed.
    Due(Instant),
    Sent,
}

#[derive(Debug)]
pub(crate) struct Socket {
    tuple: FourTuple,
    offer: SynOffer,
    state: State,
    finish: Finish,
    /// What the kernel has not taken.
    outbox: Outbox,
    /// Bytes that the kernel has taken.
    taken: u64,
    delivered: u64,
    received: u64,
    /// Length of the chunk that waits for the kernel's answer; 0 for none.
    offered: usize,
    /// The kernel has no room.
    is_full: bool,
    target_finished: bool,
    client_established: bool,
    /// No byte leaves before: the captured client had not answered its SYN-ACK yet.
    held_until: Option<Instant>,
    /// Since when ports or descriptors have been short for this connection, and which.
    shortage: Option<(Instant, DropReason)>,
}

impl Socket {
    /// A connection to be. `offer` is for whoever goes on after it; of it only matters here whether
    /// the first bytes wait for the captured client.
    pub(crate) fn new(target: Endpoint, offer: SynOffer) -> Self {
        let unknown = match target.address {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        Self {
            tuple: FourTuple::new(Endpoint::new(unknown, 0), target),
            offer,
            state: State::Unconnected,
            finish: Finish::NotYet,
            outbox: Outbox::default(),
            taken: 0,
            delivered: 0,
            received: 0,
            offered: 0,
            is_full: false,
            target_finished: false,
            client_established: false,
            held_until: None,
            shortage: None,
        }
    }

    /// From our end, as soon as it is known, to the target.
    pub(crate) fn tuple(&self) -> FourTuple {
        self.tuple
    }

    pub(crate) fn offer(&self) -> SynOffer {
        self.offer
    }

    /// Memory that the queued bytes take; those that the kernel has taken are in its memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.outbox.memory_bytes()
    }

    pub(crate) fn end(&self) -> u64 {
        self.outbox.end()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.taken
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Acknowledgements are looked at only now and then: an answer to something counts as well.
    pub(crate) fn got_through(&self) -> bool {
        self.delivered > 0 || (self.taken > 0 && self.received > 0)
    }

    pub(crate) fn target_finished(&self) -> bool {
        self.target_finished
    }

    pub(crate) fn is_waiting_for_target(&self) -> bool {
        match self.state {
            State::Connecting => true,
            State::Connected => self.delivered < self.taken || self.is_full,
            _ => false,
        }
    }

    pub(crate) fn is_lingering(&self) -> bool {
        self.is_closed()
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Aborted | State::Closed)
    }

    /// Whether the kernel has a connection of this session.
    pub(crate) fn is_open(&self) -> bool {
        matches!(
            self.state,
            State::Connecting | State::Connected | State::Aborted
        )
    }

    pub(crate) fn client_established(&mut self) {
        self.client_established = true;
        self.held_until = None;
    }

    pub(crate) fn client_is_established(&self) -> bool {
        self.client_established
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.outbox.push(chunk);
    }

    /// A FIN follows the last byte.
    pub(crate) fn finish(&mut self) {
        if self.finish == Finish::NotYet {
            self.finish = Finish::Asked;
        }
    }

    /// Whether the end of the stream has been told, so that no byte can follow.
    pub(crate) fn has_finished(&self) -> bool {
        self.finish == Finish::Sent
    }

    /// Takes back all bytes from `offset` on, which the kernel must not have.
    pub(crate) fn take_from(&mut self, offset: u64) -> Vec<Bytes> {
        debug_assert!(
            offset >= self.taken,
            "bytes that the kernel has can't be taken back"
        );
        self.outbox.split_off(offset)
    }

    /// The connection is to be reset, where there is one.
    pub(crate) fn abort(&mut self) {
        self.state = match self.is_open() {
            true => State::Aborted,
            false => State::Closed,
        };
    }

    /// The kernel does not have the connection any more.
    pub(crate) fn failed(&mut self) {
        self.state = State::Closed;
    }

    /// Waits in line for a port or descriptor; `reason` names what is short.
    pub(crate) fn wait_in_line(&mut self, now: Instant, reason: DropReason) {
        self.state = State::InLine;
        let since = self.shortage.map_or(now, |(since, _)| since);
        self.shortage = Some((since, reason));
    }

    /// It is this one's turn to ask for a connection. False where it does not wait any more.
    pub(crate) fn leave_line(&mut self) -> bool {
        let was_in_line = self.state == State::InLine;
        if was_in_line {
            self.state = State::Unconnected;
        }
        was_in_line
    }

    /// Whether a connection was asked for and has neither come nor failed.
    pub(crate) fn is_connecting(&self) -> bool {
        self.state == State::Connecting
    }

    /// Since when it has waited for a port or a descriptor, and which.
    pub(crate) fn shortage(&self) -> Option<(Instant, DropReason)> {
        self.shortage.filter(|_| self.state == State::InLine)
    }

    /// Forgets what time has ended.
    pub(crate) fn timeout(&mut self, now: Instant) {
        if self.held_until.is_some_and(|until| until <= now) {
            self.held_until = None;
        }
    }

    /// When [`Self::poll`] has work next, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.state, self.finish) {
            (State::Connected, _) if self.held_until.is_some() => self.held_until,
            // A plugin may have had something to say meanwhile.
            (State::Connected, Finish::Due(at)) if self.taken == self.end() => Some(at),
            _ => None,
        }
    }

    /// What to do next. Client bytes from `gate` on stay; the FIN counts as the byte after the last.
    pub(crate) fn poll(&mut self, now: Instant, gate: u64) -> Option<Request> {
        match self.state {
            State::Unconnected => {
                self.state = State::Connecting;
                return Some(Request::Connect);
            }
            State::Connected => {}
            State::InLine | State::Connecting | State::Aborted | State::Closed => return None,
        }
        if self.offered > 0 || self.held_until.is_some_and(|until| until > now) {
            return None;
        }
        if self.taken < self.end() {
            return self.poll_bytes(gate);
        }
        self.poll_finish(now, gate).map(Request::Close)
    }

    fn poll_bytes(&mut self, gate: u64) -> Option<Request> {
        let until = gate.min(self.end());
        if self.is_full || self.taken >= until {
            return None;
        }
        self.offered = self.outbox.read(self.taken, until).next()?.len();
        Some(Request::Send)
    }

    fn poll_finish(&mut self, now: Instant, gate: u64) -> Option<Closing> {
        if self.finish == Finish::Asked && gate > self.end() {
            self.finish = Finish::Due(now + FINISH_PATIENCE);
        }
        match self.finish {
            Finish::Due(at) if self.target_finished || at <= now => {
                self.finish = Finish::Sent;
                Some(Closing::Finish)
            }
            Finish::Sent if self.target_finished && self.delivered == self.end() => {
                self.state = State::Closed;
                Some(Closing::Release)
            }
            _ => None,
        }
    }

    /// The bytes of a [`Request::Send`].
    pub(crate) fn offered(&mut self) -> &[u8] {
        let until = self.taken + self.offered as u64;
        self.outbox.read(self.taken, until).next().unwrap_or(&[])
    }

    /// Takes what happened to the connection.
    pub(crate) fn event(&mut self, now: Instant, event: SocketEvent) -> Heard {
        let mut heard = Heard::default();
        if self.is_closed() {
            return heard;
        }
        match event {
            SocketEvent::Connecting(source) => {
                self.tuple.source = source;
                self.shortage = None;
            }
            SocketEvent::Connected if self.is_connecting() => {
                self.state = State::Connected;
                heard.established = true;
                if self.offer.follows_client && !self.client_established {
                    self.held_until = Some(now + MAX_HANDSHAKE_HOLD);
                }
            }
            SocketEvent::Connected => {}
            SocketEvent::Taken(bytes) => {
                let offered = std::mem::take(&mut self.offered);
                self.is_full = bytes < offered;
                self.taken += bytes.min(offered) as u64;
                self.outbox.release_before(self.taken);
            }
            SocketEvent::Writable => self.is_full = false,
            SocketEvent::Acknowledged(unacknowledged) => {
                let delivered = self.taken.saturating_sub(unacknowledged);
                heard.delivered = delivered.saturating_sub(self.delivered);
                self.delivered += heard.delivered;
            }
            SocketEvent::Received { bytes, is_last } => {
                self.received += bytes;
                heard.received = bytes;
                heard.pushed = is_last;
            }
            SocketEvent::Finished => {
                heard.target_finished = true;
                heard.pushed = true;
                self.target_finished = true;
            }
        }
        heard
    }
}
