//! intercept's end of one tunnel connection.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

use super::channel::{Channel, ChannelError, MAX_BODY_LEN, Role, Step};
use super::diagnosis::{Diagnosis, MAX_DIAGNOSIS_LEN, Probe};
use super::frame::{
    Features, Hello, RefuseCode, Registration, Unregistration, encode_refusal, kind,
};
use super::key::Security;
use super::replies::ReplyBatch;
use super::{HELLO_TIMEOUT, MAX_QUEUED_REPLIES, SILENCE};
use crate::wire::Reader;

/// Longest body of a frame that carries a number.
const MAX_NUMBER_LEN: usize = 8;
/// Bytes that may wait for a peer at all: the last batch of replies may go that far beyond its
/// limit, and answers fill the rest.
const MAX_QUEUED: usize = 2 * MAX_QUEUED_REPLIES + (1 << 20);

/// What a link has to tell its server.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// The peer says who it is; answer with [`ServerLink::accept`] or [`ServerLink::refuse`].
    Hello(Hello),
    /// A session was registered; answer with [`ServerLink::confirm`] or
    /// [`ServerLink::conflict`], in order.
    Register(Registration),
    /// A session ended.
    Unregister(Unregistration),
    /// The peer asks about a probe; answer with [`ServerLink::diagnosis`].
    Diagnose(Probe),
    /// The instance ends in good order.
    Bye,
}

/// Why the server ends a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// No hello within [`HELLO_TIMEOUT`].
    #[error("no hello within {} s", HELLO_TIMEOUT.as_secs())]
    HelloTimeout,
    /// Nothing came for [`SILENCE`].
    #[error("silent for {} s", SILENCE.as_secs())]
    Silent,
    /// The peer does not read what it is sent, not even with its replies dropped.
    #[error("the peer does not read")]
    Stalled,
    /// The server refused the peer.
    #[error("refused")]
    Refused,
    /// The two ends can't understand each other.
    #[error("{0}")]
    Channel(#[from] ChannelError),
}

impl CloseReason {
    /// The kind of reason, for logs that show each kind once in a while.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::HelloTimeout => "hello timeout",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Refused => "refused",
            Self::Channel(error) => match error {
                ChannelError::NotATunnel => "not a tunnel",
                ChannelError::Version { .. } => "version",
                ChannelError::KeyMissingHere => "key missing here",
                ChannelError::KeyMissingThere => "key missing there",
                ChannelError::Insecure => "insecure",
                ChannelError::Key => "key",
                ChannelError::Seal => "seal",
                ChannelError::Malformed => "malformed",
            },
        }
    }
}

/// How far the link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Prelude, key exchange and hello are under way.
    Opening {
        give_up_at: Instant,
    },
    /// The hello came and awaits its answer.
    Greeted,
    Up,
    /// Over; what is queued may still be sent.
    Closed(CloseReason),
}

/// intercept's end of one tunnel connection.
///
/// The shell owns the socket. It passes what it reads to [`Self::receive`] and drains
/// [`Self::poll_event`]; writes what [`Self::transmit`] gives; calls [`Self::timeout`] once in a
/// while; and closes the connection when [`Self::closed`] gives a reason, after one more attempt
/// to write.
#[derive(Debug)]
pub struct ServerLink {
    phase: Phase,
    channel: Channel,
    admitted: bool,
    last_heard: Instant,
    features: Features,
    /// A frame of registrations or ends that is handed out one by one.
    unpacking: Option<(u8, Range<usize>)>,
    /// Reply records dropped and not yet reported.
    overflow: u64,
}

impl ServerLink {
    /// Makes the link for a connection accepted from `peer` at `now`.
    #[must_use]
    pub fn new(security: &Security, peer: IpAddr, now: Instant) -> Self {
        Self {
            phase: Phase::Opening {
                give_up_at: now + HELLO_TIMEOUT,
            },
            channel: Channel::new(Role::Server, security),
            admitted: security.admits(peer),
            last_heard: now,
            features: Features::NONE,
            unpacking: None,
            overflow: 0,
        }
    }

    /// Takes bytes from the connection.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        if self.closed().is_none() {
            self.last_heard = now;
            self.channel.receive(bytes);
        }
    }

    /// The next event; `None` when there is nothing to tell until more bytes arrive.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        while self.closed().is_none() {
            match self.advance() {
                Ok(Progress::Idle) => return None,
                Ok(Progress::Quiet) => {}
                Ok(Progress::Event(event)) => return Some(event),
                Err(error) => self.phase = Phase::Closed(error.into()),
            }
        }
        None
    }

    /// Answers a hello, granting the features that both ends know.
    pub fn accept(&mut self, asked: Features) {
        if self.phase == Phase::Greeted {
            self.phase = Phase::Up;
            self.features = asked.intersection(Features::KNOWN);
            let bits = self.features.bits();
            self.channel.send(kind::HELLO_ACK, MAX_NUMBER_LEN, |out| {
                out.extend(bits.to_be_bytes());
            });
        }
    }

    /// Tells the peer why it is not wanted and ends the link.
    pub fn refuse(&mut self, code: RefuseCode, text: &str) {
        if self.closed().is_none() {
            self.phase = Phase::Closed(CloseReason::Refused);
            self.channel.send(kind::REFUSE, MAX_BODY_LEN, |out| {
                encode_refusal(out, code, text)
            });
        }
    }

    /// Answers the next `count` registrations: their packets are caught from now on.
    pub fn confirm(&mut self, count: u32) {
        self.answer(kind::REGISTERED, count);
    }

    /// Answers the next `count` registrations: their tuples belong to another instance.
    pub fn conflict(&mut self, count: u32) {
        self.answer(kind::CONFLICT, count);
    }

    /// Tells what was seen of a probe.
    pub fn diagnosis(&mut self, diagnosis: &Diagnosis) {
        if self.phase == Phase::Up && self.channel.queued() < MAX_QUEUED {
            let encode = |out: &mut Vec<u8>| diagnosis.encode(out);
            self.channel
                .send(kind::DIAGNOSIS, MAX_DIAGNOSIS_LEN, encode);
        }
    }

    /// Queues reply records; returns how many were dropped because the peer reads too slowly.
    pub fn send_replies(&mut self, batch: &ReplyBatch) -> u64 {
        if self.phase != Phase::Up {
            return batch.count();
        }
        if self.channel.queued() > MAX_QUEUED_REPLIES {
            self.overflow += batch.count();
            return batch.count();
        }
        if self.overflow > 0 {
            let lost = std::mem::take(&mut self.overflow);
            self.channel.send(kind::OVERFLOW, MAX_NUMBER_LEN, |out| {
                out.extend(lost.to_be_bytes());
            });
        }
        for body in batch.bodies() {
            self.channel
                .send(kind::REPLIES, body.len(), |out| out.extend_from_slice(body));
        }
        0
    }

    /// What was granted to the peer.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Whether the hello was answered and the link is not over.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Why the link is over, if it is.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Closed(reason) => Some(reason),
            Phase::Opening { .. } | Phase::Greeted | Phase::Up => None,
        }
    }

    /// The bytes to write to the connection; [`Self::consume`] says how many were.
    pub fn transmit(&mut self) -> &[u8] {
        self.channel.transmit()
    }

    /// Notes that the first `count` bytes of [`Self::transmit`] are written.
    pub fn consume(&mut self, count: usize) {
        self.channel.consume(count);
    }

    /// Ends the link if its peer has been silent, has not said hello or has not read for too long.
    pub fn timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Opening { give_up_at } if give_up_at <= now => {
                self.phase = Phase::Closed(CloseReason::HelloTimeout);
            }
            Phase::Up if self.last_heard + SILENCE <= now => {
                self.phase = Phase::Closed(CloseReason::Silent);
            }
            Phase::Up if self.channel.queued() > MAX_QUEUED => {
                self.phase = Phase::Closed(CloseReason::Stalled);
            }
            Phase::Opening { .. } | Phase::Greeted | Phase::Up | Phase::Closed(_) => {}
        }
    }

    fn answer(&mut self, kind: u8, count: u32) {
        if self.phase != Phase::Up || count == 0 {
            return;
        }
        if self.channel.queued() > MAX_QUEUED {
            self.phase = Phase::Closed(CloseReason::Stalled);
        } else {
            self.channel
                .send(kind, MAX_NUMBER_LEN, |out| out.extend(count.to_be_bytes()));
        }
    }

    /// Takes the next piece out of the bytes received.
    fn advance(&mut self) -> Result<Progress, ChannelError> {
        if let Some((kind, rest)) = &mut self.unpacking {
            let mut reader = Reader(&self.channel.bytes()[rest.clone()]);
            if !reader.is_empty() {
                let event = match *kind {
                    kind::REGISTER => ServerEvent::Register(Registration::decode(&mut reader)?),
                    _ => ServerEvent::Unregister(Unregistration::decode(&mut reader)?),
                };
                rest.start = rest.end - reader.0.len();
                return Ok(Progress::Event(event));
            }
            self.unpacking = None;
        }
        match self.channel.next()? {
            None => Ok(Progress::Idle),
            Some(Step::Opened) if !self.admitted => {
                self.channel.refuse_in_clear(
                    "a tunnel without a key is only accepted from the loopback; give both ends \
                     the same --key-file, or start intercept with --insecure",
                );
                Err(ChannelError::Insecure)
            }
            Some(Step::Opened) => Ok(Progress::Quiet),
            Some(Step::Frame(kind, body)) => self.frame(kind, body),
        }
    }

    fn frame(&mut self, kind: u8, body: Range<usize>) -> Result<Progress, ChannelError> {
        match (kind, self.phase) {
            (kind::HELLO, Phase::Opening { .. }) => {
                let hello = Hello::decode(&self.channel.bytes()[body])?;
                self.phase = Phase::Greeted;
                return Ok(Progress::Event(ServerEvent::Hello(hello)));
            }
            (kind::HELLO, _) => return Err(ChannelError::Malformed),
            (kind::REGISTER | kind::UNREGISTER, Phase::Up) => self.unpacking = Some((kind, body)),
            (kind::REGISTER | kind::UNREGISTER, _) => return Err(ChannelError::Malformed),
            (kind::DIAGNOSE, Phase::Up) if self.features.contains(Features::DIAGNOSIS) => {
                let probe = Probe::decode(&mut Reader(&self.channel.bytes()[body]))?;
                return Ok(Progress::Event(ServerEvent::Diagnose(probe)));
            }
            (kind::PING, _) if self.channel.queued() < MAX_QUEUED => {
                self.channel.send(kind::PONG, 0, |_| ());
            }
            (kind::BYE, Phase::Up) => return Ok(Progress::Event(ServerEvent::Bye)),
            _ => {}
        }
        Ok(Progress::Quiet)
    }
}

/// What one step through the received bytes brought.
#[derive(Debug)]
enum Progress {
    /// More bytes are needed.
    Idle,
    /// Something that is no event.
    Quiet,
    Event(ServerEvent),
}
