//! Packets as the models see them: headers as values, and the checks every packet must pass.

use std::net::IpAddr;

use tcpcopy_packet::{FourTuple, Segment, TcpFlags, TcpOptions};

/// Length of an IPv4 header without options, in bytes.
const IPV4_HEADER_LEN: usize = 20;
/// Length of the fixed IPv6 header, in bytes.
const IPV6_HEADER_LEN: usize = 40;
/// Length of a TCP header without options, in bytes.
pub(crate) const TCP_HEADER_LEN: usize = 20;

/// The hop limit that captured packets arrive with.
const CLIENT_HOP_LIMIT: u8 = 64;

/// A segment without its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) tuple: FourTuple,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: TcpFlags,
    pub(crate) window: u16,
    pub(crate) options: TcpOptions,
    pub(crate) payload_len: u32,
}

impl Header {
    pub(crate) fn of(segment: &Segment<'_>) -> Self {
        Self {
            tuple: segment.tuple,
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: segment.window,
            options: segment.options,
            payload_len: segment.payload_len,
        }
    }

    /// The segment as intercept reports it: the payload's length, not its bytes.
    pub(crate) fn without_payload(&self) -> Segment<'static> {
        self.segment(&[])
    }

    /// The segment with its payload, which may be shorter than its length on the wire.
    pub(crate) fn segment<'a>(&self, payload: &'a [u8]) -> Segment<'a> {
        Segment {
            tuple: self.tuple,
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            options: self.options,
            hop_limit: CLIENT_HOP_LIMIT,
            payload,
            payload_len: self.payload_len,
        }
    }
}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{:?}] seq {}", self.tuple, self.flags, self.seq)?;
        if self.flags.contains(TcpFlags::ACK) {
            write!(f, " ack {}", self.ack)?;
        }
        write!(f, " win {} len {}", self.window, self.payload_len)?;
        let options = &self.options;
        if let Some(mss) = options.mss {
            write!(f, " mss {mss}")?;
        }
        if let Some(shift) = options.window_scale {
            write!(f, " wscale {shift}")?;
        }
        if options.sack_permitted {
            write!(f, " sackOK")?;
        }
        for block in options.sack.as_slice() {
            write!(f, " sack {}..{}", block.start, block.end)?;
        }
        if let Some(timestamps) = options.timestamps {
            write!(f, " ts {}/{}", timestamps.value, timestamps.echo)?;
        }
        Ok(())
    }
}

/// Length of the IP header that goes with an address, in bytes.
pub(crate) fn ip_header_len(address: IpAddr) -> usize {
    if address.is_ipv4() {
        IPV4_HEADER_LEN
    } else {
        IPV6_HEADER_LEN
    }
}

/// Parses a packet of the engine.
///
/// # Panics
///
/// Panics if it is not exactly one well-formed TCP packet with right checksums.
pub(crate) fn parse_verified(packet: &[u8]) -> Segment<'_> {
    let segment = match Segment::parse(packet) {
        Ok(segment) => segment,
        Err(error) => panic!("the engine sent a malformed packet: {error}: {packet:02x?}"),
    };
    let tcp_start = ip_header_len(segment.tuple.source.address);
    let mut sum = 6 + u64::try_from(packet.len() - tcp_start).expect("fits");
    if segment.tuple.source.address.is_ipv4() {
        assert_eq!(
            fold(words(&packet[..tcp_start])),
            0xffff,
            "IPv4 header checksum"
        );
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        assert_eq!(total, packet.len(), "IPv4 total length");
        sum += words(&packet[12..20]);
    } else {
        let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        assert_eq!(length, packet.len() - tcp_start, "IPv6 payload length");
        sum += words(&packet[8..40]);
    }
    assert_eq!(
        fold(sum + words(&packet[tcp_start..])),
        0xffff,
        "TCP checksum"
    );
    assert_eq!(
        segment.payload.len() as u64,
        u64::from(segment.payload_len),
        "whole payload"
    );
    segment
}

/// Sum of the big-endian 16-bit words, an odd byte padded with zero (RFC 1071).
fn words(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(2);
    let sum: u64 = chunks
        .by_ref()
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    sum + chunks
        .remainder()
        .first()
        .map_or(0, |last| u64::from(*last) << 8)
}

fn fold(mut sum: u64) -> u64 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
