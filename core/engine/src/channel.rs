//! How one session reaches the target: the mirror TCP, or a connection of this host's kernel.
//!
//! The rest of the session does not care which. All positions are offsets in the client's stream:
//! `delivered <= sent <= end`.

use std::time::Duration;

use bytes::Bytes;
use tcpcopy_packet::FourTuple;

use crate::ledger::DropReason;
use crate::mirror::{Expired, Mirror, SynOffer};
use crate::output::Closing;
use crate::socket::Socket;
use crate::time::Instant;

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "an engine has only one kind, and the usual one for a million sessions is the larger"
)]
pub(crate) enum Channel {
    Raw(Mirror),
    Socket(Socket),
}

/// What a session wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Send the packet that was written.
    Packet,
    /// Open a kernel connection.
    Connect,
    /// Give it the bytes of [`Socket::offered`].
    Send,
    /// Close it.
    Close(Closing),
}

/// What one segment of the target, or one event of its connection, changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The target has accepted the connection.
    pub(crate) established: bool,
    /// Client bytes newly acknowledged.
    pub(crate) delivered: u64,
    /// Target payload bytes newly received in order.
    pub(crate) received: u64,
    /// Whether the target marked the end of what it has to say for now; a socket: whether all that
    /// has come of it was read.
    pub(crate) pushed: bool,
    /// The target has closed its side.
    pub(crate) target_finished: bool,
}

impl Heard {
    /// Whether the target has been heard of at all.
    pub(crate) fn is_anything(self) -> bool {
        self != Self::default()
    }
}

/// Asks whichever it is.
macro_rules! either {
    ($channel:expr, $it:ident => $answer:expr) => {
        match $channel {
            Self::Raw($it) => $answer,
            Self::Socket($it) => $answer,
        }
    };
}

impl Channel {
    pub(crate) fn mirror_mut(&mut self) -> Option<&mut Mirror> {
        match self {
            Self::Raw(mirror) => Some(mirror),
            Self::Socket(_) => None,
        }
    }

    pub(crate) fn socket_mut(&mut self) -> Option<&mut Socket> {
        match self {
            Self::Raw(_) => None,
            Self::Socket(socket) => Some(socket),
        }
    }

    pub(crate) fn tuple(&self) -> FourTuple {
        either!(self, it => it.tuple())
    }

    /// What a session that goes on after this one is to offer.
    pub(crate) fn offer(&self) -> SynOffer {
        either!(self, it => it.offer())
    }

    /// The round-trip time it imitates.
    pub(crate) fn rtt(&self) -> Duration {
        match self {
            Self::Raw(mirror) => mirror.rtt(),
            Self::Socket(_) => Duration::ZERO,
        }
    }

    /// Memory that the queued bytes take.
    pub(crate) fn memory_bytes(&self) -> u64 {
        either!(self, it => it.memory_bytes())
    }

    /// Offset after the last byte queued.
    pub(crate) fn end(&self) -> u64 {
        either!(self, it => it.end())
    }

    /// Client bytes that can't be taken back any more: they have left, or the kernel has them.
    pub(crate) fn sent(&self) -> u64 {
        either!(self, it => it.sent())
    }

    /// Client bytes that the target has acknowledged.
    pub(crate) fn delivered(&self) -> u64 {
        either!(self, it => it.delivered())
    }

    /// Target payload bytes received in order.
    pub(crate) fn received(&self) -> u64 {
        either!(self, it => it.received())
    }

    /// Whether the target has taken anything in, so that another connection may fare better.
    pub(crate) fn got_through(&self) -> bool {
        match self {
            Self::Raw(mirror) => mirror.delivered() > 0,
            Self::Socket(socket) => socket.got_through(),
        }
    }

    /// Whether the target has closed its side.
    pub(crate) fn target_finished(&self) -> bool {
        either!(self, it => it.target_finished())
    }

    /// Whether something waits for the target's acknowledgement.
    pub(crate) fn is_waiting_for_target(&self) -> bool {
        either!(self, it => it.is_waiting_for_target())
    }

    /// What it is called when the target says nothing to it for too long.
    pub(crate) fn silence_reason(&self) -> DropReason {
        match self {
            Self::Socket(socket) if socket.target_finished() => DropReason::TargetClosed,
            Self::Raw(_) | Self::Socket(_) => DropReason::TargetSilent,
        }
    }

    /// Whether the session has nothing more to say, and at most answers the target.
    pub(crate) fn is_lingering(&self) -> bool {
        either!(self, it => it.is_lingering())
    }

    /// Whether nothing is left to do, not even that.
    pub(crate) fn is_closed(&self) -> bool {
        either!(self, it => it.is_closed())
    }

    /// Whether a RST waits to leave as a packet.
    pub(crate) fn has_reset_to_send(&self) -> bool {
        match self {
            Self::Raw(mirror) => mirror.has_reset_to_send(),
            Self::Socket(_) => false,
        }
    }

    /// The captured client has answered the origin's SYN-ACK, `rtt` after its SYN.
    pub(crate) fn client_established(&mut self, rtt: Duration) {
        match self {
            Self::Raw(mirror) => mirror.client_established(rtt),
            Self::Socket(socket) => socket.client_established(),
        }
    }

    pub(crate) fn client_is_established(&self) -> bool {
        either!(self, it => it.client_is_established())
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        either!(self, it => it.push(chunk))
    }

    /// The end of the stream follows the last byte.
    pub(crate) fn finish(&mut self) {
        either!(self, it => it.finish())
    }

    /// Whether the end of the stream has left, or the connection is over: no byte can follow.
    pub(crate) fn has_finished(&self) -> bool {
        self.is_lingering() || either!(self, it => it.has_finished())
    }

    /// Puts bytes before all from `offset` on, none of which may have been sent.
    pub(crate) fn insert(&mut self, offset: u64, chunk: Bytes) {
        let later = self.take_from(offset);
        self.push(chunk);
        for chunk in later {
            self.push(chunk);
        }
    }

    /// Takes back all bytes from `offset` on, none of which may have been sent.
    pub(crate) fn take_from(&mut self, offset: u64) -> Vec<Bytes> {
        either!(self, it => it.take_from(offset))
    }

    /// When there is nothing left to answer, after the end.
    pub(crate) fn lingers_until(&self) -> Option<Instant> {
        match self {
            Self::Raw(mirror) => mirror.lingers_until(),
            Self::Socket(_) => None,
        }
    }

    /// Ends the connection with a RST; nothing else is sent.
    pub(crate) fn abort(&mut self, now: Instant) {
        match self {
            Self::Raw(mirror) => mirror.abort(now),
            Self::Socket(socket) => socket.abort(),
        }
    }

    /// Acts on timers that have run out.
    pub(crate) fn timeout(&mut self, now: Instant) -> Expired {
        match self {
            Self::Raw(mirror) => mirror.timeout(now),
            Self::Socket(socket) => {
                socket.timeout(now);
                Expired::Nothing
            }
        }
    }

    /// When [`Self::timeout`] has work next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        either!(self, it => it.deadline())
    }
}
