//! TCP segments written as IP packets, with checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::IpNextHeaderProtocol;
use pnet_packet::ipv4::MutableIpv4Packet;
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::tcp::MutableTcpPacket;

use crate::checksum::Checksum;
use crate::options::MAX_OPTIONS_LEN;
use crate::segment::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, PROTOCOL_TCP, TCP_HEADER_LEN};
use crate::{FourTuple, Segment, TcpFlags, TcpOptions};

/// The hop limit of a new builder: the usual first value of client systems.
pub const DEFAULT_HOP_LIMIT: u8 = 64;

/// Headers of the longest kind.
const MAX_HEADERS_LEN: usize = IPV6_HEADER_LEN + TCP_HEADER_LEN + MAX_OPTIONS_LEN;

/// What the length fields of IPv4 (the whole packet) and IPv6 (after the header) can tell.
const MAX_LENGTH_FIELD: usize = u16::MAX as usize;

/// Where the checksum stands in a TCP header (RFC 9293 section 3.1).
const TCP_CHECKSUM_OFFSET: usize = 16;

/// The header fields of a segment that leaves; [`SegmentBuilder::write`] makes the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentBuilder {
    /// Sender and receiver, of one address family.
    pub tuple: FourTuple,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// The window field, already scaled.
    pub window: u16,
    /// Options. Those of a SYN are written only with SYN, SACK blocks only without; beside
    /// timestamps, three blocks fit.
    pub options: TcpOptions,
    /// IPv4 identification; it tells fragments of one packet from those of another, so it should
    /// differ between packets. IPv6 has none.
    pub identification: u16,
    /// IPv4 time to live, IPv6 hop limit.
    pub hop_limit: u8,
}

impl SegmentBuilder {
    /// A segment that is all zero but for its tuple and the [`DEFAULT_HOP_LIMIT`].
    #[must_use]
    pub fn new(tuple: FourTuple) -> Self {
        Self {
            tuple,
            seq: 0,
            ack: 0,
            flags: TcpFlags::default(),
            window: 0,
            options: TcpOptions::default(),
            identification: 0,
            hop_limit: DEFAULT_HOP_LIMIT,
        }
    }

    /// Writes IP header, TCP header and payload into `packet`, in place of what it held.
    ///
    /// Don't Fragment is not set: ICMP's "fragmentation needed" goes to the address the packet
    /// names as its sender, which isn't ours, so that no lower path MTU would ever be learnt.
    ///
    /// # Errors
    ///
    /// [`BuildError`]; `packet` is then empty.
    pub fn write<'p>(
        &self,
        payload: impl Iterator<Item = &'p [u8]>,
        packet: &mut Vec<u8>,
    ) -> Result<(), BuildError> {
        packet.clear();
        let addresses = Addresses::of(&self.tuple)?;
        let ip_len = addresses.header_len();
        let options = self.options.encode(self.flags);
        let headers_len = ip_len + TCP_HEADER_LEN + options.len();
        let limit = addresses.max_packet_len();

        let mut headers = [0u8; MAX_HEADERS_LEN];
        headers[ip_len + TCP_HEADER_LEN..headers_len].copy_from_slice(options.as_slice());
        self.write_tcp_header(&mut headers[ip_len..headers_len]);
        packet.extend_from_slice(&headers[..headers_len]);
        for bytes in payload {
            let length = packet.len() + bytes.len();
            if length > limit {
                packet.clear();
                return Err(BuildError::TooLong { length, limit });
            }
            packet.extend_from_slice(bytes);
        }

        let tcp_len = u16::try_from(packet.len() - ip_len).expect("within the limit");
        let (ip, tcp) = packet.split_at_mut(ip_len);
        let mut checksum = addresses.pseudo_header(tcp_len);
        checksum.add(tcp);
        tcp[TCP_CHECKSUM_OFFSET..TCP_CHECKSUM_OFFSET + 2]
            .copy_from_slice(&checksum.finish().to_be_bytes());
        match addresses {
            Addresses::V4(source, destination) => {
                self.write_ipv4_header(ip, source, destination, tcp_len);
            }
            Addresses::V6(source, destination) => {
                self.write_ipv6_header(ip, source, destination, tcp_len);
            }
        }
        Ok(())
    }

    /// Writes all but the checksum; `header` is zero and as long as the header will be.
    fn write_tcp_header(&self, header: &mut [u8]) {
        let words = u8::try_from(header.len() / 4).expect("at most 15 words");
        let mut tcp = MutableTcpPacket::new(header).expect("room for the header");
        tcp.set_source(self.tuple.source.port);
        tcp.set_destination(self.tuple.destination.port);
        tcp.set_sequence(self.seq);
        tcp.set_acknowledgement(self.ack);
        tcp.set_data_offset(words);
        tcp.set_flags(self.flags.bits());
        tcp.set_window(self.window);
    }

    fn write_ipv4_header(
        &self,
        header: &mut [u8],
        source: Ipv4Addr,
        destination: Ipv4Addr,
        tcp_len: u16,
    ) {
        let header_len = u16::try_from(IPV4_HEADER_LEN).expect("20");
        let mut ip = MutableIpv4Packet::new(header).expect("room for the header");
        ip.set_version(4);
        ip.set_header_length(5);
        ip.set_total_length(header_len + tcp_len);
        ip.set_identification(self.identification);
        ip.set_ttl(self.hop_limit);
        ip.set_next_level_protocol(IpNextHeaderProtocol(PROTOCOL_TCP));
        ip.set_source(source);
        ip.set_destination(destination);
        let mut checksum = Checksum::new();
        checksum.add(header);
        MutableIpv4Packet::new(header)
            .expect("as above")
            .set_checksum(checksum.finish());
    }

    fn write_ipv6_header(
        &self,
        header: &mut [u8],
        source: Ipv6Addr,
        destination: Ipv6Addr,
        tcp_len: u16,
    ) {
        let mut ip = MutableIpv6Packet::new(header).expect("room for the header");
        ip.set_version(6);
        ip.set_payload_length(tcp_len);
        ip.set_next_header(IpNextHeaderProtocol(PROTOCOL_TCP));
        ip.set_hop_limit(self.hop_limit);
        ip.set_source(source);
        ip.set_destination(destination);
    }
}

/// The segment's header fields; identification 0 and the [`DEFAULT_HOP_LIMIT`].
impl From<&Segment<'_>> for SegmentBuilder {
    fn from(segment: &Segment<'_>) -> Self {
        Self {
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: segment.window,
            options: segment.options,
            ..Self::new(segment.tuple)
        }
    }
}

/// Why a segment can't be written as a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// One address is of IPv4, the other of IPv6.
    #[error("the sender and the receiver are of different IP versions")]
    MixedFamilies,
    /// The payload doesn't fit an IP packet.
    #[error("a packet of {length} bytes or more is over the limit of {limit}")]
    TooLong {
        /// Bytes of headers and payload up to the slice that was too much.
        length: usize,
        /// Bytes a packet of this family can have.
        limit: usize,
    },
}

/// A pair of addresses of one family.
enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Addresses {
    fn of(tuple: &FourTuple) -> Result<Self, BuildError> {
        match (tuple.source.address, tuple.destination.address) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Ok(Self::V4(source, destination)),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Ok(Self::V6(source, destination)),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                Err(BuildError::MixedFamilies)
            }
        }
    }

    const fn header_len(&self) -> usize {
        match self {
            Self::V4(..) => IPV4_HEADER_LEN,
            Self::V6(..) => IPV6_HEADER_LEN,
        }
    }

    const fn max_packet_len(&self) -> usize {
        match self {
            Self::V4(..) => MAX_LENGTH_FIELD,
            Self::V6(..) => IPV6_HEADER_LEN + MAX_LENGTH_FIELD,
        }
    }

    /// The sum over the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
    fn pseudo_header(&self, tcp_len: u16) -> Checksum {
        let mut checksum = Checksum::new();
        match self {
            Self::V4(source, destination) => {
                checksum.add(&source.octets());
                checksum.add(&destination.octets());
            }
            Self::V6(source, destination) => {
                checksum.add(&source.octets());
                checksum.add(&destination.octets());
            }
        }
        // Zeroes between the fields add nothing, so that both families' forms sum up alike.
        let [high, low] = tcp_len.to_be_bytes();
        checksum.add(&[0, PROTOCOL_TCP, high, low]);
        checksum
    }
}

#[cfg(test)]
mod tests;
