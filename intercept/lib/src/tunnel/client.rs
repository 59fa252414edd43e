//! tcpcopy's end of the tunnel.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::channel::{Channel, ChannelError, Role, Step};
use super::diagnosis::{Diagnosis, Probe};
use super::frame::{
    Features, Hello, RefuseCode, Registration, Unregistration, decode_refusal, kind,
};
use super::key::Security;
use super::replies::{ReplyRecord, decode_record};
use super::{HEARTBEAT, HELLO_TIMEOUT, MAX_QUEUED_REQUESTS, SILENCE};
use crate::wire::Reader;

/// Longest body of a frame this end sends, in bytes.
const MAX_REQUEST_LEN: usize = 128;

/// How long to wait before another attempt to connect: doubled from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure, and after the loss of a link that was up.
    pub first: Duration,
    /// The longest wait.
    pub last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            last: Duration::from_secs(5),
        }
    }
}

/// Who this client is.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The key, or that there is none. Whether a peer may be dialled without one is
    /// [`Security::admits`].
    pub security: Security,
    /// What to say in the hello.
    pub hello: Hello,
    /// Those of the hello's features without which the link is of no use.
    pub required: Features,
    /// When to try again.
    pub backoff: Backoff,
}

/// What the client has to tell its shell.
#[derive(Debug)]
pub enum ClientEvent<'a> {
    /// Open a TCP connection now; answer with [`TunnelClient::connected`] or
    /// [`TunnelClient::disconnected`].
    Connect,
    /// The link is up; every live session has to be registered (again).
    Up {
        /// What the server granted.
        features: Features,
    },
    /// The session is registered: its SYN may leave.
    Confirmed(u64),
    /// The session's tuple belongs to another instance at the moment: it can't be replayed.
    Conflict(u64),
    /// The target sent a segment.
    Reply(ReplyRecord<'a>),
    /// The server dropped this many reply records because they were not read fast enough.
    Overflow(u64),
    /// What the server has seen of a probe.
    Diagnosis(Diagnosis),
    /// There is no link any more: close the TCP connection. [`ClientEvent::Connect`] follows at
    /// `retry_at`. Unconfirmed registrations are void.
    Down {
        /// Why.
        reason: DownReason,
        /// Whether the link had been up.
        was_up: bool,
        /// When the next attempt is made.
        retry_at: Instant,
    },
}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// The TCP connection could not be opened or broke.
    #[error("{0}")]
    Connection(String),
    /// The server closed the connection.
    #[error("intercept closed the connection")]
    Closed,
    /// The server closed the connection in the key exchange.
    #[error("intercept closed the connection in the key exchange: the keys differ")]
    KeyRejected,
    /// Nothing came for [`SILENCE`].
    #[error("intercept has been silent for {} s", SILENCE.as_secs())]
    Silent,
    /// No link came about within [`HELLO_TIMEOUT`].
    #[error("no link within {} s", HELLO_TIMEOUT.as_secs())]
    HelloTimeout,
    /// The server does not read what it is sent.
    #[error("intercept does not read what it is sent")]
    Stalled,
    /// The server said no.
    #[error("refused by intercept: {text}")]
    Refused {
        /// The reason, for programs.
        code: RefuseCode,
        /// The reason, for people.
        text: String,
    },
    /// The server does not know a feature that is required, being of an older version.
    #[error("this intercept is too old: it does not know what it was asked for")]
    Outdated,
    /// The two ends can't understand each other.
    #[error("{0}")]
    Channel(#[from] ChannelError),
}

/// How far the link has come.
#[derive(Debug)]
enum Phase {
    /// Waits for the time of the next attempt.
    Waiting { retry_at: Instant },
    /// The shell is connecting.
    Connecting { give_up_at: Instant },
    /// Connected; prelude, key exchange and hello are under way.
    Opening { give_up_at: Instant },
    /// The hello was answered.
    Up {
        ping_at: Instant,
        silent_at: Instant,
    },
}

/// Events that carry no bytes.
#[derive(Debug)]
enum Notice {
    Connect,
    Down {
        reason: DownReason,
        was_up: bool,
        retry_at: Instant,
    },
}

/// A frame that is handed out in pieces.
#[derive(Debug)]
enum Unpacking {
    None,
    Replies(Range<usize>),
    Answers { left: u32, confirmed: bool },
}

/// tcpcopy's end of a tunnel: registers sessions, hands out replies, reconnects.
///
/// The shell owns the socket. It calls [`Self::timeout`] at [`Self::next_timeout`], passes what
/// it reads to [`Self::receive`], writes what [`Self::transmit`] gives, and after each of these
/// drains [`Self::poll_event`].
#[derive(Debug)]
pub struct TunnelClient {
    config: ClientConfig,
    phase: Phase,
    channel: Channel,
    last_heard: Instant,
    backoff: Duration,
    notices: VecDeque<Notice>,
    unpacking: Unpacking,
    /// Sessions registered and not answered, oldest first; the server answers in order.
    unanswered: VecDeque<u64>,
}

impl TunnelClient {
    /// Makes a client whose first attempt to connect is due at `now`.
    #[must_use]
    pub fn new(config: ClientConfig, now: Instant) -> Self {
        Self {
            phase: Phase::Waiting { retry_at: now },
            channel: Channel::new(Role::Client, &config.security),
            last_heard: now,
            backoff: config.backoff.first,
            notices: VecDeque::new(),
            unpacking: Unpacking::None,
            unanswered: VecDeque::new(),
            config,
        }
    }

    /// The TCP connection that [`ClientEvent::Connect`] asked for is there.
    pub fn connected(&mut self, now: Instant) {
        if let Phase::Connecting { .. } = self.phase {
            self.channel = Channel::new(Role::Client, &self.config.security);
            self.phase = Phase::Opening {
                give_up_at: now + HELLO_TIMEOUT,
            };
        }
    }

    /// The TCP connection could not be opened, or is gone: `error` is `None` at its orderly end.
    pub fn disconnected(&mut self, now: Instant, error: Option<String>) {
        let reason = match (error, &self.phase) {
            (_, Phase::Waiting { .. }) => return,
            (_, Phase::Opening { .. }) if self.channel.in_key_exchange() => DownReason::KeyRejected,
            (Some(text), _) => DownReason::Connection(text),
            (None, _) => DownReason::Closed,
        };
        self.go_down(now, reason);
    }

    /// Takes bytes from the connection.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        if let Phase::Opening { .. } | Phase::Up { .. } = self.phase {
            self.last_heard = now;
            self.channel.receive(bytes);
        }
    }

    /// The next event; `None` when there is nothing to tell until more bytes or time arrive.
    pub fn poll_event(&mut self) -> Option<ClientEvent<'_>> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Some(match notice {
                    Notice::Connect => ClientEvent::Connect,
                    Notice::Down {
                        reason,
                        was_up,
                        retry_at,
                    } => ClientEvent::Down {
                        reason,
                        was_up,
                        retry_at,
                    },
                });
            }
            match self.advance() {
                Ok(Progress::Idle) => return None,
                Ok(Progress::Quiet) => {}
                Ok(Progress::Event(event)) => return Some(self.lend(event)),
                Err(reason) => self.go_down(self.last_heard, reason),
            }
        }
    }

    /// Registers a session; the answer is whether it was queued. It is not when there is no link:
    /// register again after the next [`ClientEvent::Up`].
    pub fn register(&mut self, registration: &Registration) -> bool {
        if !self.is_up() {
            return false;
        }
        self.unanswered.push_back(registration.session);
        self.channel.send(kind::REGISTER, MAX_REQUEST_LEN, |out| {
            registration.encode(out)
        });
        true
    }

    /// Reports the end of a session. Without a link this does nothing: intercept ends by itself
    /// what is not registered again.
    pub fn unregister(&mut self, unregistration: &Unregistration) {
        if self.is_up() {
            let encode = |out: &mut Vec<u8>| unregistration.encode(out);
            self.channel.send(kind::UNREGISTER, MAX_REQUEST_LEN, encode);
        }
    }

    /// Asks what the server sees of a probe; [`ClientEvent::Diagnosis`] answers. The answer is
    /// whether the question was queued: without [`Features::DIAGNOSIS`] the server does not know it.
    pub fn diagnose(&mut self, probe: &Probe) -> bool {
        if self.is_up() {
            let encode = |out: &mut Vec<u8>| probe.encode(out);
            self.channel.send(kind::DIAGNOSE, MAX_REQUEST_LEN, encode);
        }
        self.is_up()
    }

    /// Announces that the instance ends in good order: sessions not unregistered before are reset
    /// at once. Send what [`Self::transmit`] gives, then close.
    pub fn bye(&mut self) {
        if self.is_up() {
            self.channel.send(kind::BYE, 0, |_| ());
        }
    }

    /// Whether the link is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// Registrations not answered yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// The bytes to write to the connection; [`Self::consume`] says how many were.
    pub fn transmit(&mut self) -> &[u8] {
        match self.phase {
            Phase::Opening { .. } | Phase::Up { .. } => self.channel.transmit(),
            Phase::Waiting { .. } | Phase::Connecting { .. } => &[],
        }
    }

    /// Notes that the first `count` bytes of [`Self::transmit`] are written.
    pub fn consume(&mut self, count: usize) {
        self.channel.consume(count);
    }

    /// When [`Self::timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        match self.phase {
            Phase::Waiting { retry_at } => retry_at,
            Phase::Connecting { give_up_at } | Phase::Opening { give_up_at } => give_up_at,
            Phase::Up { ping_at, silent_at } => ping_at.min(silent_at),
        }
    }

    /// Does what is due at `now`.
    pub fn timeout(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Waiting { retry_at } if *retry_at <= now => {
                self.phase = Phase::Connecting {
                    give_up_at: now + HELLO_TIMEOUT,
                };
                self.notices.push_back(Notice::Connect);
            }
            Phase::Connecting { give_up_at } | Phase::Opening { give_up_at }
                if *give_up_at <= now =>
            {
                self.go_down(now, DownReason::HelloTimeout);
            }
            Phase::Up { ping_at, silent_at } => {
                *silent_at = self.last_heard + SILENCE;
                if *silent_at <= now {
                    return self.go_down(now, DownReason::Silent);
                }
                if *ping_at <= now {
                    *ping_at = now + HEARTBEAT;
                    self.channel.send(kind::PING, 0, |_| ());
                }
                if self.channel.queued() > MAX_QUEUED_REQUESTS {
                    self.go_down(now, DownReason::Stalled);
                }
            }
            Phase::Waiting { .. } | Phase::Connecting { .. } | Phase::Opening { .. } => {}
        }
    }

    fn go_down(&mut self, now: Instant, reason: DownReason) {
        let was_up = self.is_up();
        let retry_at = now + self.backoff;
        self.backoff = (2 * self.backoff).min(self.config.backoff.last);
        self.phase = Phase::Waiting { retry_at };
        self.unpacking = Unpacking::None;
        self.unanswered.clear();
        self.channel = Channel::new(Role::Client, &self.config.security);
        self.notices.push_back(Notice::Down {
            reason,
            was_up,
            retry_at,
        });
    }

    /// Takes the next piece out of the bytes received.
    fn advance(&mut self) -> Result<Progress, DownReason> {
        match &mut self.unpacking {
            Unpacking::Replies(rest) if rest.start < rest.end => {
                let bytes = &self.channel.bytes()[..rest.end];
                let place = decode_record(bytes, rest.start).map_err(ChannelError::from)?;
                rest.start = place.next;
                return Ok(Progress::Event(Found::Reply(place)));
            }
            Unpacking::Answers { left, confirmed } if *left > 0 => {
                *left -= 1;
                let session = self.unanswered.pop_front().ok_or(ChannelError::Malformed)?;
                return Ok(Progress::Event(Found::Answer {
                    session,
                    confirmed: *confirmed,
                }));
            }
            Unpacking::None | Unpacking::Replies(_) | Unpacking::Answers { .. } => {
                self.unpacking = Unpacking::None;
            }
        }
        if !matches!(self.phase, Phase::Opening { .. } | Phase::Up { .. }) {
            return Ok(Progress::Idle);
        }
        match self.channel.next()? {
            None => Ok(Progress::Idle),
            Some(Step::Opened) => {
                let hello = &self.config.hello;
                self.channel
                    .send(kind::HELLO, MAX_REQUEST_LEN, |out| hello.encode(out));
                Ok(Progress::Quiet)
            }
            Some(Step::Frame(kind, body)) => self.frame(kind, body),
        }
    }

    fn frame(&mut self, kind: u8, body: Range<usize>) -> Result<Progress, DownReason> {
        let mut reader = Reader(&self.channel.bytes()[body.clone()]);
        match kind {
            kind::HELLO_ACK if !self.is_up() => {
                let features = Features::from_bits(reader.u32().map_err(ChannelError::from)?);
                if !features.contains(self.config.required) {
                    return Err(DownReason::Outdated);
                }
                let (ping_at, silent_at) = (self.last_heard + HEARTBEAT, self.last_heard + SILENCE);
                self.phase = Phase::Up { ping_at, silent_at };
                self.backoff = self.config.backoff.first;
                return Ok(Progress::Event(Found::Up(features)));
            }
            kind::REFUSE => {
                let (code, text) = decode_refusal(reader.0).map_err(ChannelError::from)?;
                return Err(DownReason::Refused { code, text });
            }
            _ if !self.is_up() => {}
            kind::REGISTERED | kind::CONFLICT => {
                let left = reader.u32().map_err(ChannelError::from)?;
                self.unpacking = Unpacking::Answers {
                    left,
                    confirmed: kind == kind::REGISTERED,
                };
            }
            kind::REPLIES => self.unpacking = Unpacking::Replies(body),
            kind::OVERFLOW => {
                let lost = reader.u64().map_err(ChannelError::from)?;
                return Ok(Progress::Event(Found::Overflow(lost)));
            }
            kind::DIAGNOSIS => {
                let diagnosis = Diagnosis::decode(&mut reader).map_err(ChannelError::from)?;
                return Ok(Progress::Event(Found::Diagnosis(diagnosis)));
            }
            _ => {}
        }
        Ok(Progress::Quiet)
    }

    fn lend(&self, found: Found) -> ClientEvent<'_> {
        let bytes = self.channel.bytes();
        match found {
            Found::Up(features) => ClientEvent::Up { features },
            Found::Answer {
                session,
                confirmed: true,
            } => ClientEvent::Confirmed(session),
            Found::Answer {
                session,
                confirmed: false,
            } => ClientEvent::Conflict(session),
            Found::Overflow(lost) => ClientEvent::Overflow(lost),
            Found::Diagnosis(diagnosis) => ClientEvent::Diagnosis(diagnosis),
            Found::Reply(place) => ClientEvent::Reply(ReplyRecord {
                session: place.session,
                payload_len: place.payload_len,
                tcp: &bytes[place.tcp],
                payload: &bytes[place.payload],
            }),
        }
    }
}

/// What one step through the received bytes brought.
#[derive(Debug)]
enum Progress {
    /// More bytes are needed.
    Idle,
    /// Something that is no event.
    Quiet,
    Event(Found),
}

/// An event whose bytes are still in the channel.
#[derive(Debug)]
enum Found {
    Up(Features),
    Answer { session: u64, confirmed: bool },
    Overflow(u64),
    Diagnosis(Diagnosis),
    Reply(super::replies::RecordPlace),
}
