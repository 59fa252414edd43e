//! What both ends of a tunnel share: prelude, key exchange, envelopes, frames.

use std::ops::Range;

use snow::{HandshakeState, TransportState};

use super::TUNNEL_VERSION;
use super::frame::{RefuseCode, encode_refusal, kind};
use super::key::{Security, TunnelKey};
use crate::wire::Malformed;

/// Bytes of a prelude: magic (4), version (2), flags (2).
pub const PRELUDE_LEN: usize = 8;
/// First bytes of every tunnel.
const MAGIC: [u8; 4] = *b"TcIn";
/// Prelude flag: a key is used.
const FLAG_NOISE: u16 = 1;
/// Bytes of an envelope's length.
const ENVELOPE_HEADER_LEN: usize = 2;
/// Bytes of a frame before its body: kind (1), length (2).
const FRAME_HEADER_LEN: usize = 3;
/// What sealing adds to an envelope (the Poly1305 tag).
const TAG_LEN: usize = 16;
/// Most bytes of frames in one envelope, sealed or not.
const MAX_ENVELOPE_LEN: usize = 65_535 - TAG_LEN;
/// Longest body of a frame.
pub(super) const MAX_BODY_LEN: usize = MAX_ENVELOPE_LEN - FRAME_HEADER_LEN;
/// Room for a message of the key exchange: an ephemeral key and a tag.
const MAX_HANDSHAKE_LEN: usize = 48;
/// Consumed bytes that may stay at the front of a buffer before the rest is moved down.
const COMPACT_AT: usize = 64 << 10;
/// The handshake: no static keys, the pre-shared key mixed in before the first message.
const NOISE_PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// Why a connection is no tunnel, or no longer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The first bytes are not those of a tunnel.
    #[error("the peer does not speak the tunnel protocol")]
    NotATunnel,
    /// The peer speaks another version.
    #[error("the peer speaks tunnel version {theirs}, this is version {TUNNEL_VERSION}")]
    Version {
        /// The peer's version.
        theirs: u16,
    },
    /// The peer uses a key and this end does not.
    #[error("the peer uses a key and this end has none")]
    KeyMissingHere,
    /// This end uses a key and the peer does not.
    #[error("this end uses a key and the peer has none")]
    KeyMissingThere,
    /// Clear text with a peer that is not on the loopback.
    #[error("a tunnel without a key is only accepted from the loopback")]
    Insecure,
    /// The key exchange failed: the keys differ.
    #[error("the key exchange failed: the keys differ")]
    Key,
    /// An envelope whose seal is broken.
    #[error("an envelope was altered on its way")]
    Seal,
    /// Bytes that follow no rule of the protocol.
    #[error("malformed frame")]
    Malformed,
}

impl From<Malformed> for ChannelError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// Which end of the tunnel this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// How far the connection has come.
enum State {
    /// The peer's prelude is awaited.
    Prelude,
    /// The peer's message of the key exchange is awaited.
    KeyExchange(Box<HandshakeState>),
    /// Frames flow, sealed if there is a transport state.
    Open(Option<Box<TransportState>>),
}

/// What [`Channel::next`] found in the bytes received.
#[derive(Debug)]
pub(super) enum Step {
    /// The channel is open: frames may be sent.
    Opened,
    /// A frame; its body lies at this place of [`Channel::bytes`] until the next call.
    Frame(u8, Range<usize>),
}

/// One end of a tunnel below the meaning of its frames.
pub(super) struct Channel {
    role: Role,
    key: Option<TunnelKey>,
    state: State,
    /// Received, not yet opened; consumed up to `inbox_start`.
    inbox: Vec<u8>,
    inbox_start: usize,
    /// The frames of the envelope being read; consumed up to `frames_start`.
    frames: Vec<u8>,
    frames_start: usize,
    /// Frames not yet in an envelope: never more than one envelope's worth.
    pending: Vec<u8>,
    /// Envelopes not yet sent; sent up to `outbox_start`.
    outbox: Vec<u8>,
    outbox_start: usize,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("role", &self.role)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

impl Channel {
    pub(super) fn new(role: Role, security: &Security) -> Self {
        let mut channel = Self {
            role,
            key: security.key().cloned(),
            state: State::Prelude,
            inbox: Vec::new(),
            inbox_start: 0,
            frames: Vec::new(),
            frames_start: 0,
            pending: Vec::new(),
            outbox: Vec::new(),
            outbox_start: 0,
        };
        if role == Role::Client {
            channel.outbox.extend(channel.prelude());
        }
        channel
    }

    /// Takes bytes from the connection.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        compact(&mut self.inbox, &mut self.inbox_start);
        self.inbox.extend_from_slice(bytes);
    }

    /// Finds the next frame, or that the channel has opened; `None` when more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Step>, ChannelError> {
        loop {
            match &self.state {
                State::Prelude => match self.read_prelude()? {
                    None => return Ok(None),
                    Some(true) => return Ok(Some(Step::Opened)),
                    Some(false) => {}
                },
                State::KeyExchange(_) => {
                    return Ok(self.read_handshake()?.then_some(Step::Opened));
                }
                State::Open(_) => {
                    if self.frames_start < self.frames.len() {
                        return self.read_frame().map(Some);
                    }
                    if !self.open_envelope()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The bytes in which the places given by [`Self::next`] lie.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.frames
    }

    /// Whether frames may be sent.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether the peer's message of the key exchange is awaited.
    pub(super) const fn in_key_exchange(&self) -> bool {
        matches!(self.state, State::KeyExchange(_))
    }

    /// Queues a frame whose body `encode` writes, of at most `size_hint` bytes.
    ///
    /// A body over [`MAX_BODY_LEN`] is a bug of the caller and is not sent.
    pub(super) fn send(&mut self, kind: u8, size_hint: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_open() {
            return;
        }
        if self.pending.len() + FRAME_HEADER_LEN + size_hint > MAX_ENVELOPE_LEN {
            self.seal();
        }
        let start = self.pending.len();
        self.pending.extend([kind, 0, 0]);
        encode(&mut self.pending);
        let body_len = self.pending.len() - start - FRAME_HEADER_LEN;
        debug_assert!(body_len <= size_hint && self.pending.len() <= MAX_ENVELOPE_LEN);
        match u16::try_from(body_len) {
            Ok(len) if self.pending.len() <= MAX_ENVELOPE_LEN => {
                self.pending[start + 1..start + FRAME_HEADER_LEN]
                    .copy_from_slice(&len.to_be_bytes());
            }
            _ => self.pending.truncate(start),
        }
    }

    /// Bytes that wait to be sent, about.
    pub(super) fn queued(&self) -> usize {
        self.outbox.len() - self.outbox_start + self.pending.len()
    }

    /// The bytes to send next; [`Self::consume`] says how many were.
    pub(super) fn transmit(&mut self) -> &[u8] {
        self.seal();
        &self.outbox[self.outbox_start..]
    }

    /// Notes that the first `count` bytes of [`Self::transmit`] are sent.
    pub(super) fn consume(&mut self, count: usize) {
        self.outbox_start = (self.outbox_start + count).min(self.outbox.len());
        compact(&mut self.outbox, &mut self.outbox_start);
    }

    /// Tells a client that speaks in the clear and may not, in the clear, why it is refused.
    pub(super) fn refuse_in_clear(&mut self, text: &str) {
        self.state = State::Open(None);
        self.send(kind::REFUSE, MAX_BODY_LEN, |out| {
            encode_refusal(out, RefuseCode::Insecure, text);
        });
    }

    fn prelude(&self) -> [u8; PRELUDE_LEN] {
        let flags = if self.key.is_some() { FLAG_NOISE } else { 0 };
        prelude(TUNNEL_VERSION, flags)
    }

    /// Reads the peer's prelude; the answer is whether the channel is open with that, or `None`
    /// when bytes are missing.
    fn read_prelude(&mut self) -> Result<Option<bool>, ChannelError> {
        let received = &self.inbox[self.inbox_start..];
        let probe = received.len().min(MAGIC.len());
        if received[..probe] != MAGIC[..probe] {
            return Err(ChannelError::NotATunnel);
        }
        let Some(theirs) = received.first_chunk::<PRELUDE_LEN>().copied() else {
            return Ok(None);
        };
        self.inbox_start += PRELUDE_LEN;
        let ours = self.prelude();
        if self.role == Role::Server {
            self.outbox.extend(ours);
        }
        let version = u16::from_be_bytes([theirs[4], theirs[5]]);
        if version != TUNNEL_VERSION {
            return Err(ChannelError::Version { theirs: version });
        }
        let they_use_a_key = u16::from_be_bytes([theirs[6], theirs[7]]) & FLAG_NOISE != 0;
        match (&self.key, they_use_a_key) {
            (None, true) => Err(ChannelError::KeyMissingHere),
            (Some(_), false) => Err(ChannelError::KeyMissingThere),
            (None, false) => {
                self.state = State::Open(None);
                Ok(Some(true))
            }
            (Some(key), true) => {
                let mut handshake = match self.role {
                    Role::Client => handshake(key, &ours, &theirs, Role::Client)?,
                    Role::Server => handshake(key, &theirs, &ours, Role::Server)?,
                };
                if self.role == Role::Client {
                    write_handshake(&mut handshake, &mut self.outbox)?;
                }
                self.state = State::KeyExchange(Box::new(handshake));
                Ok(Some(false))
            }
        }
    }

    /// Reads the peer's message of the key exchange; the answer is whether it was there.
    fn read_handshake(&mut self) -> Result<bool, ChannelError> {
        let State::KeyExchange(handshake) = &mut self.state else {
            return Ok(false);
        };
        let received = &self.inbox[self.inbox_start..];
        let Some((header, rest)) = received.split_first_chunk::<ENVELOPE_HEADER_LEN>() else {
            return Ok(false);
        };
        let len = usize::from(u16::from_be_bytes(*header));
        if len > MAX_HANDSHAKE_LEN {
            return Err(ChannelError::Key);
        }
        let Some(message) = rest.get(..len) else {
            return Ok(false);
        };
        let mut payload = [0; MAX_HANDSHAKE_LEN];
        handshake
            .read_message(message, &mut payload)
            .map_err(|_| ChannelError::Key)?;
        self.inbox_start += ENVELOPE_HEADER_LEN + len;
        if self.role == Role::Server {
            write_handshake(handshake, &mut self.outbox)?;
        }
        if !handshake.is_handshake_finished() {
            return Err(ChannelError::Key);
        }
        let State::KeyExchange(handshake) = std::mem::replace(&mut self.state, State::Open(None))
        else {
            return Ok(false);
        };
        let transport = handshake
            .into_transport_mode()
            .map_err(|_| ChannelError::Key)?;
        self.state = State::Open(Some(Box::new(transport)));
        Ok(true)
    }

    /// Opens the next envelope into `frames`; the answer is whether there was a whole one.
    fn open_envelope(&mut self) -> Result<bool, ChannelError> {
        let State::Open(transport) = &mut self.state else {
            return Ok(false);
        };
        let received = &self.inbox[self.inbox_start..];
        let Some((header, rest)) = received.split_first_chunk::<ENVELOPE_HEADER_LEN>() else {
            return Ok(false);
        };
        let len = usize::from(u16::from_be_bytes(*header));
        let Some(envelope) = rest.get(..len) else {
            return Ok(false);
        };
        self.frames_start = 0;
        self.frames.clear();
        match transport {
            None => self.frames.extend_from_slice(envelope),
            Some(transport) => {
                self.frames.resize(len, 0);
                let opened = transport
                    .read_message(envelope, &mut self.frames)
                    .map_err(|_| ChannelError::Seal)?;
                self.frames.truncate(opened);
            }
        }
        self.inbox_start += ENVELOPE_HEADER_LEN + len;
        Ok(true)
    }

    fn read_frame(&mut self) -> Result<Step, ChannelError> {
        let rest = &self.frames[self.frames_start..];
        let Some(&[kind, high, low]) = rest.first_chunk::<FRAME_HEADER_LEN>() else {
            return Err(ChannelError::Malformed);
        };
        let start = self.frames_start + FRAME_HEADER_LEN;
        let end = start + usize::from(u16::from_be_bytes([high, low]));
        if end > self.frames.len() {
            return Err(ChannelError::Malformed);
        }
        self.frames_start = end;
        Ok(Step::Frame(kind, start..end))
    }

    /// Puts the pending frames into an envelope.
    fn seal(&mut self) {
        let State::Open(transport) = &mut self.state else {
            return;
        };
        if self.pending.is_empty() {
            return;
        }
        let header = self.outbox.len();
        let start = header + ENVELOPE_HEADER_LEN;
        self.outbox.extend([0; ENVELOPE_HEADER_LEN]);
        match transport {
            None => self.outbox.extend_from_slice(&self.pending),
            Some(transport) => {
                self.outbox.resize(start + self.pending.len() + TAG_LEN, 0);
                let sealed = transport
                    .write_message(&self.pending, &mut self.outbox[start..])
                    .expect("an envelope fits a Noise message and nonces never run out");
                self.outbox.truncate(start + sealed);
            }
        }
        let len = u16::try_from(self.outbox.len() - start).expect("bounded by MAX_ENVELOPE_LEN");
        self.outbox[header..start].copy_from_slice(&len.to_be_bytes());
        self.pending.clear();
    }
}

fn prelude(version: u16, flags: u16) -> [u8; PRELUDE_LEN] {
    let [v1, v0] = version.to_be_bytes();
    let [f1, f0] = flags.to_be_bytes();
    let [m0, m1, m2, m3] = MAGIC;
    [m0, m1, m2, m3, v1, v0, f1, f0]
}

fn handshake(
    key: &TunnelKey,
    client_prelude: &[u8; PRELUDE_LEN],
    server_prelude: &[u8; PRELUDE_LEN],
    role: Role,
) -> Result<HandshakeState, ChannelError> {
    let prologue = [*client_prelude, *server_prelude].concat();
    let params = NOISE_PATTERN.parse().map_err(|_| ChannelError::Key)?;
    let builder = snow::Builder::new(params)
        .psk(0, key.bytes())
        .and_then(|builder| builder.prologue(&prologue))
        .map_err(|_| ChannelError::Key)?;
    match role {
        Role::Client => builder.build_initiator(),
        Role::Server => builder.build_responder(),
    }
    .map_err(|_| ChannelError::Key)
}

fn write_handshake(
    handshake: &mut HandshakeState,
    outbox: &mut Vec<u8>,
) -> Result<(), ChannelError> {
    let mut message = [0; MAX_HANDSHAKE_LEN];
    let len = handshake
        .write_message(&[], &mut message)
        .map_err(|_| ChannelError::Key)?;
    outbox.extend((len as u16).to_be_bytes());
    outbox.extend_from_slice(&message[..len]);
    Ok(())
}

/// Drops the consumed front of a buffer when that is cheap.
fn compact(buffer: &mut Vec<u8>, start: &mut usize) {
    if *start == buffer.len() {
        buffer.clear();
        *start = 0;
    } else if *start >= COMPACT_AT {
        buffer.drain(..*start);
        *start = 0;
    }
}
