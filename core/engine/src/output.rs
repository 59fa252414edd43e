//! What goes in and out of the engine besides captured segments.

use std::fmt;

use tcpcopy_packet::{Endpoint, FourTuple};

use crate::ledger::DropReason;
use crate::time::Instant;

/// Names a session towards intercept and in logs. It is never used twice by one engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u64);

impl SessionId {
    pub(crate) const fn new(serial: u32, place: u32) -> Self {
        Self((serial as u64) << 32 | place as u64)
    }

    pub(crate) const fn serial(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) const fn place(self) -> u32 {
        self.0 as u32
    }

    /// The id as the tunnel carries it.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The id that [`as_u64`](Self::as_u64) gave; any other number names a session that ended.
    #[must_use]
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}.{}", self.place(), self.serial())
    }
}

/// What intercept has to know before a session's SYN may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The session.
    pub session: SessionId,
    /// From the source that stands for the client to the target.
    pub tuple: FourTuple,
    /// The initial sequence number of our SYN.
    pub iss: u32,
    /// Whether the replies have to carry their payload, because a plugin wants it.
    pub payload: bool,
}

/// A session that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session.
    pub session: SessionId,
    /// The captured client.
    pub client: Endpoint,
    /// From the source that stood for the client to the target. Where no connection was ever under
    /// way, a socket's source is the unspecified address and port 0.
    pub tuple: FourTuple,
    /// Client bytes that were to be sent.
    pub captured_bytes: u64,
    /// Those that the target acknowledged.
    pub delivered_bytes: u64,
    /// Target bytes received.
    pub received_bytes: u64,
    /// Why it ended, unless both sides closed.
    pub reason: Option<DropReason>,
}

/// What the engine wants done; see [`Engine::poll_output`](crate::Engine::poll_output).
#[derive(Debug)]
pub enum Output<'a> {
    /// Send this IP packet to the target.
    Packet(&'a [u8]),
    /// Tell intercept of a session, and the engine when it has confirmed.
    Register(Registration),
    /// Tell intercept that a session is over.
    Unregister {
        /// The session.
        session: SessionId,
        /// As it was registered.
        tuple: FourTuple,
    },
    /// Open a kernel connection to the target, and answer with [`UpstreamEvent::Connecting`] or
    /// [`UpstreamEvent::Failed`] at once.
    Connect {
        /// The session; the same may ask again after a failure for want of a port or a descriptor.
        session: SessionId,
        /// The captured client.
        client: Endpoint,
        /// The server that it spoke to.
        origin: Endpoint,
        /// Where to connect to.
        target: Endpoint,
    },
    /// Give these bytes to the session's connection. The next input is the answer,
    /// [`UpstreamEvent::Taken`], before the next output.
    Send {
        /// The session.
        session: SessionId,
        /// Client bytes, at least one.
        bytes: &'a [u8],
    },
    /// Close the session's connection.
    Close {
        /// The session.
        session: SessionId,
        /// In which way.
        how: Closing,
    },
    /// A session ended; for whoever keeps a log.
    Record(SessionRecord),
    /// Nothing more to do before this moment, or before the next input.
    Timeout(Option<Instant>),
}

/// How a kernel connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// FIN after the bytes that were taken; the target may go on.
    Finish,
    /// RST, and the connection is over: nothing more is to be said of it.
    Reset,
    /// Both sides have closed and every byte has arrived: the connection is over.
    Release,
}

/// Why a kernel connection could not be made, or is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketFailure {
    /// The target answered the SYN with a RST.
    Refused,
    /// The target reset the connection.
    Reset,
    /// The kernel has given up waiting for the target.
    TimedOut,
    /// No way leads to the target.
    Unreachable,
    /// No source port towards the target is free at the moment.
    NoPort,
    /// No file descriptor is free at the moment.
    NoDescriptor,
    /// Anything else.
    Other,
}

impl SocketFailure {
    /// What it is called in the account.
    pub(crate) const fn reason(self) -> DropReason {
        match self {
            Self::Refused => DropReason::TargetRefused,
            Self::Reset => DropReason::TargetReset,
            Self::TimedOut => DropReason::TargetSilent,
            Self::Unreachable => DropReason::TargetUnreachable,
            Self::NoPort => DropReason::NoTupleLeft,
            Self::NoDescriptor => DropReason::NoDescriptor,
            Self::Other => DropReason::SocketFailed,
        }
    }

    /// Whether it is likely to pass, so that asking again helps.
    pub(crate) const fn is_shortage(self) -> bool {
        matches!(self, Self::NoPort | Self::NoDescriptor)
    }
}

/// What happened on the way to the target. The tunnel's events concern an engine with
/// [`Upstream::Raw`](crate::Upstream::Raw), the sockets' one with
/// [`Upstream::Socket`](crate::Upstream::Socket); others, and those of a session that has ended, are
/// counted and change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamEvent {
    /// intercept has confirmed the session: its SYN may leave.
    Registered(SessionId),
    /// intercept won't take the session.
    RegistrationRefused(SessionId),
    /// The tunnel is usable, for the first time or again: all live sessions are registered.
    TunnelUp,
    /// The tunnel is gone for now: nothing leaves, so that no answer gets past intercept. Each
    /// session speaks again when it is confirmed again.
    TunnelDown,
    /// The tunnel won't come back: all sessions end.
    TunnelLost,
    /// A connection is under way.
    Connecting {
        /// The session.
        session: SessionId,
        /// Our end of it.
        source: Endpoint,
    },
    /// The target has accepted the connection.
    Connected(SessionId),
    /// The kernel took so many bytes of the [`Output::Send`]. Where it is fewer than offered,
    /// nothing more is offered before [`Self::Writable`].
    Taken {
        /// The session.
        session: SessionId,
        /// How many.
        bytes: usize,
    },
    /// The kernel has room again.
    Writable(SessionId),
    /// How far the target's acknowledgements have come.
    Acknowledged {
        /// The session.
        session: SessionId,
        /// Of the bytes taken so far, this many are not acknowledged; a FIN is no byte.
        unacknowledged: u64,
    },
    /// The target has closed its side, after all that was
    /// [received](crate::Engine::received) of it.
    Finished(SessionId),
    /// There is no connection, or none any more. What [`Self::Acknowledged`] said last stands.
    Failed {
        /// The session.
        session: SessionId,
        /// Why.
        failure: SocketFailure,
    },
}

/// What happened to the capture that is not a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureEvent {
    /// The kernel had no room for this many packets.
    RingDropped(u64),
    /// A packet whose headers can't be trusted.
    Malformed,
    /// A fragment of an IP packet.
    Fragment,
    /// A packet that is not TCP.
    NotTcp,
}

/// How [`Engine::shut_down`](crate::Engine::shut_down) goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutDown {
    /// Deliver what was captured, but no longer than until then.
    Drain {
        /// After this moment, what is left is dropped.
        deadline: Instant,
    },
    /// Drop what is left.
    Now,
}

/// How much the engine holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Captured connections known.
    pub connections: u64,
    /// Sessions towards the target, those that only linger included.
    pub sessions: u64,
    /// Memory of captured bytes: those not acknowledged by the target, of all sessions, and those
    /// held until a hole in the capture is filled.
    pub buffered_bytes: u64,
    /// Those of them that are held until a hole in the capture is filled.
    pub held_bytes: u64,
    /// Sessions with captured bytes that wait for the target's answer or acknowledgement: while
    /// there are any, a late reply delays the replay.
    pub hurried_sessions: u64,
}

/// What is neither delivered nor dropped, counted session by session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Connections (and copies) whose session is not established yet.
    pub connections: u64,
    /// Requests.
    pub requests: u64,
    /// Bytes.
    pub bytes: u64,
}
