//! The frames and their bodies.

use std::fmt;

use tcpcopy_packet::FourTuple;

use crate::wire::{Malformed, Reader, put_tuple};

/// What a frame is. Client to server below 0x80, server to client from there.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const REGISTER: u8 = 0x02;
    pub(crate) const UNREGISTER: u8 = 0x03;
    pub(crate) const PING: u8 = 0x04;
    pub(crate) const BYE: u8 = 0x05;
    pub(crate) const DIAGNOSE: u8 = 0x06;
    pub(crate) const HELLO_ACK: u8 = 0x81;
    pub(crate) const REGISTERED: u8 = 0x82;
    pub(crate) const CONFLICT: u8 = 0x83;
    pub(crate) const REPLIES: u8 = 0x84;
    pub(crate) const PONG: u8 = 0x85;
    pub(crate) const OVERFLOW: u8 = 0x86;
    pub(crate) const REFUSE: u8 = 0x87;
    pub(crate) const DIAGNOSIS: u8 = 0x88;
}

/// Longest name of an instance, in bytes.
const MAX_NAME_LEN: usize = 64;
/// Longest text of a refusal, in bytes.
const MAX_REFUSAL_LEN: usize = 512;

/// Features of the protocol that an end may ask for; the other end answers with those it grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// Nothing beyond the base protocol.
    pub const NONE: Self = Self(0);
    /// Reply records carry the captured payload, not only the TCP header.
    pub const PAYLOAD: Self = Self(1);
    /// The server tells what it sees of a probe ([`Diagnosis`](super::Diagnosis)).
    pub const DIAGNOSIS: Self = Self(2);
    /// All that this release knows.
    pub const KNOWN: Self = Self(Self::PAYLOAD.0 | Self::DIAGNOSIS.0);

    /// Whether all features of `other` are there.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The features both sides have.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// Who speaks: the first frame of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the client would like; the server grants a subset.
    pub features: Features,
    /// One number for one run of tcpcopy, drawn at random at its start: a link that comes back
    /// with it inherits the sessions of the one that broke.
    pub instance: u64,
    /// Which shard of the instance the link serves.
    pub shard: u16,
    /// For people: what the instance calls itself in intercept's log.
    pub name: String,
}

impl Hello {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.features.bits().to_be_bytes());
        out.extend(self.instance.to_be_bytes());
        out.extend(self.shard.to_be_bytes());
        out.extend(self.name.bytes().take(MAX_NAME_LEN));
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        Ok(Self {
            features: Features::from_bits(reader.u32()?),
            instance: reader.u64()?,
            shard: reader.u16()?,
            name: printable(reader.0, MAX_NAME_LEN),
        })
    }
}

/// A session as tcpcopy announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The client's own number for the session; unique within the link.
    pub session: u64,
    /// Source is the mirrored client, destination the target.
    pub tuple: FourTuple,
    /// The sequence number of the mirror's SYN. It tells the session's SYN-ACK from that of a
    /// real client that uses the tuple later.
    pub iss: u32,
}

impl Registration {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.session.to_be_bytes());
        put_tuple(out, &self.tuple);
        out.extend(self.iss.to_be_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            session: reader.u64()?,
            tuple: reader.tuple()?,
            iss: reader.u32()?,
        })
    }
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unregistration {
    /// The number it was registered with.
    pub session: u64,
    /// The tuple it was registered with.
    pub tuple: FourTuple,
}

impl Unregistration {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.session.to_be_bytes());
        put_tuple(out, &self.tuple);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            session: reader.u64()?,
            tuple: reader.tuple()?,
        })
    }
}

/// Why a server refuses a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseCode {
    /// No key, and not on the loopback.
    Insecure,
    /// The server has as many links as it takes.
    TooManyLinks,
    /// The server is shutting down.
    ShuttingDown,
    /// A reason this release does not know.
    Other(u8),
}

impl RefuseCode {
    const fn byte(self) -> u8 {
        match self {
            Self::Insecure => 1,
            Self::TooManyLinks => 2,
            Self::ShuttingDown => 3,
            Self::Other(byte) => byte,
        }
    }
}

impl From<u8> for RefuseCode {
    fn from(byte: u8) -> Self {
        match byte {
            1 => Self::Insecure,
            2 => Self::TooManyLinks,
            3 => Self::ShuttingDown,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for RefuseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insecure => f.write_str("insecure"),
            Self::TooManyLinks => f.write_str("too many links"),
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::Other(byte) => write!(f, "reason {byte}"),
        }
    }
}

pub(crate) fn encode_refusal(out: &mut Vec<u8>, code: RefuseCode, text: &str) {
    out.push(code.byte());
    out.extend(text.bytes().take(MAX_REFUSAL_LEN));
}

pub(crate) fn decode_refusal(body: &[u8]) -> Result<(RefuseCode, String), Malformed> {
    let mut reader = Reader(body);
    Ok((
        RefuseCode::from(reader.u8()?),
        printable(reader.0, MAX_REFUSAL_LEN),
    ))
}

/// A peer's text made fit for a log: bounded, valid, without control characters.
pub(super) fn printable(bytes: &[u8], max_len: usize) -> String {
    let bytes = &bytes[..bytes.len().min(max_len)];
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}
