//! One TCP segment with its addresses, as a checked view of an IP packet.

use std::net::IpAddr;

use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::TcpPacket;

use crate::{Endpoint, FourTuple, TcpOptions};

/// The IPv4 header without options, in bytes (RFC 791 section 3.1).
pub(crate) const IPV4_HEADER_LEN: usize = 20;

/// The IPv6 header without extension headers, in bytes (RFC 8200 section 3).
pub(crate) const IPV6_HEADER_LEN: usize = 40;

/// The TCP header without options, in bytes (RFC 9293 section 3.1).
pub(crate) const TCP_HEADER_LEN: usize = 20;

/// The IPv6 fragment header, in bytes (RFC 8200 section 4.5).
const FRAGMENT_HEADER_LEN: usize = 8;

/// IPv6 extension headers walked in one packet; more of them are refused, so that a packet can't
/// cost more than its share. RFC 8200 section 4.1 recommends an order with six at most.
const MAX_EXTENSION_HEADERS: usize = 8;

// Protocol and extension header numbers, as IANA lists them.
pub(crate) const PROTOCOL_TCP: u8 = 6;
const EXTENSION_HOP_BY_HOP: u8 = 0;
const EXTENSION_ROUTING: u8 = 43;
const EXTENSION_FRAGMENT: u8 = 44;
const EXTENSION_DESTINATION: u8 = 60;

/// The control bits of a TCP header (RFC 9293 section 3.1); CWR and ECE are kept, not acted on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement field is significant.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x20);

    /// The flags of a header's byte 13.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The header's byte 13.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [(TcpFlags, char); 6] = [
            (TcpFlags::SYN, 'S'),
            (TcpFlags::FIN, 'F'),
            (TcpFlags::RST, 'R'),
            (TcpFlags::PSH, 'P'),
            (TcpFlags::ACK, '.'),
            (TcpFlags::URG, 'U'),
        ];
        NAMES
            .iter()
            .filter(|(flag, _)| self.contains(*flag))
            .try_for_each(|(_, c)| write!(f, "{c}"))
    }
}

/// A TCP segment: its addresses, header and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Sender and receiver.
    pub tuple: FourTuple,
    /// Sequence number, untyped until the direction is known.
    pub seq: u32,
    /// Acknowledgement number; only significant with [`TcpFlags::ACK`].
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// The window field, not yet scaled.
    pub window: u16,
    /// The options understood here.
    pub options: TcpOptions,
    /// The hop limit of the IP packet; 0 where there was none to read.
    pub hop_limit: u8,
    /// The payload bytes that were captured: `payload_len` of them, or fewer after a short
    /// snapshot.
    pub payload: &'a [u8],
    /// The payload's length on the wire, in bytes.
    pub payload_len: u32,
}

impl<'a> Segment<'a> {
    /// Reads the segment in an IP packet, version 4, or 6 with hop-by-hop, routing and destination
    /// extension headers.
    ///
    /// Bytes after the packet's own length are the link's padding and left out. A length of 0 in
    /// the IP header is that of a packet over 64 KiB, joined by receive offload: it is then as long
    /// as what was captured. A packet cut short by the capture is read as long as the TCP header
    /// with its options is whole; [`Segment::payload_len`] still tells the length on the wire.
    ///
    /// TCP and IP checksums are not verified: in packets captured on their way out, offload has
    /// not filled them yet, and the kernel verified those on their way in.
    ///
    /// # Errors
    ///
    /// [`PacketError`] says what the bytes are instead. A fragment is [`PacketError::Fragment`]
    /// only if it may be one of a TCP segment, else [`PacketError::NotTcp`].
    pub fn parse(packet: &'a [u8]) -> Result<Self, PacketError> {
        let transport = Transport::of(packet)?;
        let segment = Self::read(transport.bytes, transport.length, |header| {
            FourTuple::new(
                Endpoint::new(transport.source, header.get_source()),
                Endpoint::new(transport.destination, header.get_destination()),
            )
        })?;
        Ok(Self {
            hop_limit: transport.hop_limit,
            ..segment
        })
    }

    /// Finds the segment in an IP packet without reading it: its tuple, the captured bytes from
    /// the TCP header on, and their length on the wire, just as [`Segment::parse_tcp`] takes them.
    ///
    /// # Errors
    ///
    /// [`PacketError`], as [`Segment::parse`] does up to the ports.
    pub fn locate(packet: &'a [u8]) -> Result<(FourTuple, &'a [u8], u32), PacketError> {
        let transport = Transport::of(packet)?;
        let Some(&[s1, s0, d1, d0]) = transport.bytes.first_chunk() else {
            return Err(PacketError::Truncated("TCP header"));
        };
        let tuple = FourTuple::new(
            Endpoint::new(transport.source, u16::from_be_bytes([s1, s0])),
            Endpoint::new(transport.destination, u16::from_be_bytes([d1, d0])),
        );
        let tcp_len =
            u32::try_from(transport.length).map_err(|_| PacketError::HeaderLength("IP packet"))?;
        Ok((tuple, transport.bytes, tcp_len))
    }

    /// Reads a segment from its TCP header on, as [`Segment::parse`] does.
    ///
    /// `tuple` is taken as it is, whatever ports the header names. `tcp_len` is the length of
    /// header and payload on the wire, in bytes; `tcp` may hold less of the payload, and what it
    /// holds beyond `tcp_len` is left out.
    ///
    /// # Errors
    ///
    /// [`PacketError::Truncated`] and [`PacketError::HeaderLength`].
    pub fn parse_tcp(tuple: FourTuple, tcp: &'a [u8], tcp_len: u32) -> Result<Self, PacketError> {
        Self::read(tcp, usize::try_from(tcp_len).unwrap_or(usize::MAX), |_| {
            tuple
        })
    }

    fn read(
        tcp: &'a [u8],
        wire_len: usize,
        tuple: impl FnOnce(&TcpPacket<'a>) -> FourTuple,
    ) -> Result<Self, PacketError> {
        if wire_len < TCP_HEADER_LEN {
            return Err(PacketError::HeaderLength("TCP header"));
        }
        let tcp = &tcp[..tcp.len().min(wire_len)];
        let view = TcpPacket::new(tcp).ok_or(PacketError::Truncated("TCP header"))?;
        let header_len = usize::from(view.get_data_offset()) * 4;
        if header_len < TCP_HEADER_LEN || header_len > wire_len {
            return Err(PacketError::HeaderLength("TCP header"));
        }
        let Some((header, payload)) = tcp.split_at_checked(header_len) else {
            return Err(PacketError::Truncated("TCP options"));
        };
        let flags = TcpFlags::from_bits(view.get_flags());
        Ok(Self {
            tuple: tuple(&view),
            seq: view.get_sequence(),
            ack: view.get_acknowledgement(),
            flags,
            window: view.get_window(),
            options: TcpOptions::parse(&header[TCP_HEADER_LEN..], flags),
            hop_limit: 0,
            payload,
            payload_len: u32::try_from(wire_len - header_len)
                .map_err(|_| PacketError::HeaderLength("IP packet"))?,
        })
    }

    /// The sequence space the segment takes up: payload, plus one each for SYN and FIN
    /// (RFC 9293 section 3.4).
    #[must_use]
    pub fn sequence_len(&self) -> u32 {
        self.payload_len
            .wrapping_add(u32::from(self.flags.contains(TcpFlags::SYN)))
            .wrapping_add(u32::from(self.flags.contains(TcpFlags::FIN)))
    }
}

/// What an IP packet carries.
struct Transport<'a> {
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    /// The captured bytes from the TCP header on.
    bytes: &'a [u8],
    /// Their length on the wire.
    length: usize,
}

impl<'a> Transport<'a> {
    fn of(packet: &'a [u8]) -> Result<Self, PacketError> {
        match packet.first() {
            None => Err(PacketError::Truncated("IP header")),
            Some(byte) if byte >> 4 == 4 => Self::of_ipv4(packet),
            Some(byte) if byte >> 4 == 6 => Self::of_ipv6(packet),
            Some(_) => Err(PacketError::NotIp),
        }
    }

    fn of_ipv4(packet: &'a [u8]) -> Result<Self, PacketError> {
        let view = Ipv4Packet::new(packet).ok_or(PacketError::Truncated("IPv4 header"))?;
        let header_len = usize::from(view.get_header_length()) * 4;
        if header_len < IPV4_HEADER_LEN {
            return Err(PacketError::HeaderLength("IPv4 header"));
        }
        let captured = packet
            .get(header_len..)
            .ok_or(PacketError::Truncated("IPv4 options"))?;
        let length = match usize::from(view.get_total_length()) {
            0 => captured.len(),
            total => total
                .checked_sub(header_len)
                .ok_or(PacketError::HeaderLength("IPv4 header"))?,
        };
        let protocol = view.get_next_level_protocol().0;
        if protocol != PROTOCOL_TCP {
            return Err(PacketError::NotTcp(protocol));
        }
        const MORE_FRAGMENTS: u8 = 0b001;
        if view.get_fragment_offset() != 0 || view.get_flags() & MORE_FRAGMENTS != 0 {
            return Err(PacketError::Fragment);
        }
        Ok(Self {
            source: view.get_source().into(),
            destination: view.get_destination().into(),
            hop_limit: view.get_ttl(),
            bytes: &captured[..captured.len().min(length)],
            length,
        })
    }

    fn of_ipv6(packet: &'a [u8]) -> Result<Self, PacketError> {
        let view = Ipv6Packet::new(packet).ok_or(PacketError::Truncated("IPv6 header"))?;
        let captured = &packet[IPV6_HEADER_LEN..];
        let length = match usize::from(view.get_payload_length()) {
            0 => captured.len(),
            length => length,
        };
        let payload = &captured[..captured.len().min(length)];
        let extensions_len = walk_extensions(view.get_next_header().0, payload, length)?;
        Ok(Self {
            source: view.get_source().into(),
            destination: view.get_destination().into(),
            hop_limit: view.get_hop_limit(),
            bytes: &payload[extensions_len..],
            length: length - extensions_len,
        })
    }
}

/// The length of the extension headers before the TCP header (RFC 8200 section 4), in bytes: at
/// most `payload.len()`, which is at most `length`, the payload's length on the wire.
fn walk_extensions(first: u8, payload: &[u8], length: usize) -> Result<usize, PacketError> {
    let mut next = first;
    let mut offset = 0;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        let rest = &payload[offset..];
        let header_len = match (next, rest) {
            (PROTOCOL_TCP, _) => return Ok(offset),
            (EXTENSION_HOP_BY_HOP | EXTENSION_ROUTING | EXTENSION_DESTINATION, [_, units, ..]) => {
                8 + usize::from(*units) * 8
            }
            (EXTENSION_FRAGMENT, [inner, _, high, low, ..]) => {
                check_fragment(*inner, u16::from_be_bytes([*high, *low]))?;
                FRAGMENT_HEADER_LEN
            }
            (
                EXTENSION_HOP_BY_HOP
                | EXTENSION_ROUTING
                | EXTENSION_DESTINATION
                | EXTENSION_FRAGMENT,
                _,
            ) => return Err(PacketError::Truncated("IPv6 extension header")),
            (other, _) => return Err(PacketError::NotTcp(other)),
        };
        if offset + header_len > length {
            return Err(PacketError::HeaderLength("IPv6 extension header"));
        }
        if header_len > rest.len() {
            return Err(PacketError::Truncated("IPv6 extension header"));
        }
        next = rest[0];
        offset += header_len;
    }
    Err(PacketError::HeaderLength("IPv6 extension headers"))
}

/// Refuses a fragment; one that is the whole packet (RFC 6946) passes.
fn check_fragment(inner: u8, offset_and_flags: u16) -> Result<(), PacketError> {
    const OFFSET_AND_MORE_FRAGMENTS: u16 = 0xfff9;
    if offset_and_flags & OFFSET_AND_MORE_FRAGMENTS == 0 {
        return Ok(());
    }
    match inner {
        // Destination options may stand before TCP in the fragmentable part.
        PROTOCOL_TCP | EXTENSION_DESTINATION => Err(PacketError::Fragment),
        other => Err(PacketError::NotTcp(other)),
    }
}

/// Why bytes are not a TCP segment in an IP packet. Each is data, counted by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Neither version 4 nor version 6.
    #[error("not an IP packet")]
    NotIp,
    /// An IP packet that carries something other than TCP.
    #[error("not TCP (IP protocol {0})")]
    NotTcp(u8),
    /// A fragment of an IP packet; fragments are counted, not joined.
    #[error("IP fragment")]
    Fragment,
    /// Fewer bytes than the headers need.
    #[error("truncated {0}")]
    Truncated(&'static str),
    /// A header length field that contradicts the packet.
    #[error("bad header length in {0}")]
    HeaderLength(&'static str),
}

#[cfg(test)]
mod tests;
