//! Which shard owns a client.
//!
//! Every connection belongs to the shard that its client's address and port hash to, so all
//! packets of a connection, of either direction, and all reports about it, meet on one thread.
//! The kernel spreads packets over the shards' rings with a program ([`PACKET_FANOUT_CBPF`])
//! made by [`ShardMap`] that computes the same as [`shard_of`].
//!
//! [`PACKET_FANOUT_CBPF`]: https://man7.org/linux/man-pages/man7/packet.7.html

use std::net::IpAddr;

use crate::bpf::{self, Assembler, Instruction, Label, op};
use crate::filter::{Directions, FilterError, OriginFilter};

/// Odd constants with well spread bits: the first spreads words and ports, the others finish as
/// multiply-and-shift mixers do.
const SPREAD: u32 = 0x9e37_79b1;
const MIX_1: u32 = 0x85eb_ca6b;
const MIX_2: u32 = 0xc2b2_ae35;

/// TCP's protocol number.
const TCP: u8 = 6;
/// The length of an IPv6 header; a TCP header follows it at once or is not looked for.
const IPV6_HEADER_LEN: u32 = 40;
/// The offset of an IPv6 packet's addresses.
const IPV6_ADDRESSES: u32 = 8;
/// The offset of an IPv4 packet's addresses.
const IPV4_ADDRESSES: u32 = 12;
/// The more-fragments flag and the offset, in the 16 bits at byte 6 of an IPv4 header.
const IPV4_FRAGMENT_BITS: u32 = 0x3fff;

/// The shard, below `shard_count`, that owns a client. A count of 0 is taken as 1.
///
/// It is pure and stable within one build; nothing outside the process may depend on its values.
#[must_use]
pub fn shard_of(client: IpAddr, client_port: u16, shard_count: u16) -> u16 {
    let address = match client {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => fold_ipv6(address.octets()),
    };
    shard_of_hash(address, client_port, shard_count)
}

fn shard_of_hash(address: u32, port: u16, shard_count: u16) -> u16 {
    let mut hash = u32::from(port).wrapping_mul(SPREAD) ^ address;
    hash = hash.wrapping_mul(MIX_1);
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(MIX_2);
    hash ^= hash >> 16;
    let shard = hash % u32::from(shard_count.max(1));
    u16::try_from(shard).expect("a remainder of a 16-bit number")
}

/// The four words of an address, each in its own place.
fn fold_ipv6(octets: [u8; 16]) -> u32 {
    octets.as_chunks::<4>().0.iter().fold(0, |hash: u32, word| {
        hash.wrapping_mul(SPREAD) ^ u32::from_be_bytes(*word)
    })
}

/// How packets are spread over shards: their number, and which end of a packet is the client.
///
/// With [`Directions::ToOrigin`] the client is the sender. With [`Directions::Both`] it is the
/// sender of packets to a port of an origin and the receiver of all others. (A client whose own
/// port is also an origin's port may thus see its two directions on two shards.)
#[derive(Clone, Debug)]
pub struct ShardMap {
    shard_count: u16,
    /// First and last of each run; `None` if the client is always the sender.
    origin_ports: Option<Vec<(u16, u16)>>,
}

impl ShardMap {
    /// Spreads over `shard_count` shards; 0 is taken as 1.
    #[must_use]
    pub fn new(shard_count: u16, origins: &[OriginFilter], directions: Directions) -> Self {
        let origin_ports = (directions == Directions::Both)
            .then(|| bpf::port_ranges(origins.iter().map(|origin| origin.port)));
        Self {
            shard_count: shard_count.max(1),
            origin_ports,
        }
    }

    /// How many shards there are, at least one.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        self.shard_count
    }

    /// The shard of a packet, from its IP header on. Fragments, packets with IPv6 extension
    /// headers and whatever is not TCP belong to shard 0.
    #[must_use]
    pub fn shard_of_packet(&self, packet: &[u8]) -> u16 {
        self.client_hash(packet).map_or(0, |(address, port)| {
            shard_of_hash(address, port, self.shard_count)
        })
    }

    /// The client's folded address and its port.
    fn client_hash(&self, packet: &[u8]) -> Option<(u32, u16)> {
        let (source, destination, tcp) = match packet.first()? >> 4 {
            4 => {
                let header_len = usize::from(packet[0] & 0x0f) * 4;
                let fragment = u32::from(be16(packet, 6)?) & IPV4_FRAGMENT_BITS != 0;
                if *packet.get(9)? != TCP || fragment || header_len < 20 {
                    return None;
                }
                let address = |at| packet.get(at..at + 4)?.first_chunk().copied();
                let fold = |at| address(at).map(u32::from_be_bytes);
                let at = IPV4_ADDRESSES as usize;
                (fold(at)?, fold(at + 4)?, header_len)
            }
            6 => {
                if *packet.get(6)? != TCP {
                    return None;
                }
                let address = |at| packet.get(at..at + 16)?.first_chunk().copied();
                let fold = |at| address(at).map(fold_ipv6);
                let at = IPV6_ADDRESSES as usize;
                (fold(at)?, fold(at + 16)?, IPV6_HEADER_LEN as usize)
            }
            _ => return None,
        };
        let (source_port, destination_port) = (be16(packet, tcp)?, be16(packet, tcp + 2)?);
        let to_origin = self
            .origin_ports
            .as_ref()
            .is_none_or(|ranges| is_within(ranges, destination_port));
        Some(if to_origin {
            (source, source_port)
        } else {
            (destination, destination_port)
        })
    }

    /// The kernel's program that computes [`Self::shard_of_packet`]. `base` is where the program
    /// finds the IP header: 0, or [`NETWORK_HEADER`].
    ///
    /// # Errors
    /// [`FilterError::TooLong`] with more separate ports (some 2,900) than a program can hold.
    pub(crate) fn program(&self, base: u32) -> Result<Vec<Instruction>, FilterError> {
        let program = Program::new(base).assemble(self);
        match program.len() {
            instructions if instructions > bpf::MAX_INSTRUCTIONS => {
                Err(FilterError::TooLong { instructions })
            }
            _ => Ok(program),
        }
    }
}

fn is_within(ranges: &[(u16, u16)], port: u16) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= port);
    after > 0 && port <= ranges[after - 1].1
}

fn be16(packet: &[u8], at: usize) -> Option<u16> {
    packet
        .get(at..at + 2)?
        .first_chunk()
        .map(|bytes| u16::from_be_bytes(*bytes))
}

/// Where a program finds the network header wherever the packet's data starts (`SKF_NET_OFF`):
/// outgoing packets reach the program with their link header in front.
#[expect(
    clippy::cast_sign_loss,
    reason = "BPF offsets are unsigned, special ones wrap"
)]
pub(crate) const NETWORK_HEADER: u32 = libc::SKF_NET_OFF as u32;

/// Scratch words of the program.
mod scratch {
    pub(super) const SOURCE: u32 = 0;
    pub(super) const DESTINATION: u32 = 1;
    pub(super) const SOURCE_PORT: u32 = 2;
    pub(super) const DESTINATION_PORT: u32 = 3;
}

/// The shard program while it is written; its parts stand in the order in which they run.
struct Program {
    code: Assembler,
    base: u32,
    /// Whatever belongs to shard 0 without a hash.
    other: Label,
    /// X is the offset of the TCP header, the folded addresses are in scratch words.
    ports: Label,
    client_is_source: Label,
    client_is_destination: Label,
}

impl Program {
    fn new(base: u32) -> Self {
        let mut code = Assembler::default();
        let [other, ports, client_is_source, client_is_destination] =
            std::array::from_fn(|_| code.label());
        Self {
            code,
            base,
            other,
            ports,
            client_is_source,
            client_is_destination,
        }
    }

    fn assemble(mut self, map: &ShardMap) -> Vec<Instruction> {
        let version_6 = self.code.label();
        self.load(op::LD_B_ABS, 0);
        self.code.push(op::RSH_K, 4);
        self.code.jump_if(op::JEQ_K, 6, version_6);
        self.code.jump_unless(op::JEQ_K, 4, self.other);
        self.ipv4();
        self.code.bind(version_6);
        self.ipv6();
        self.choose_client(map.origin_ports.as_deref());
        self.hash(map.shard_count);
        self.code.bind(self.other);
        self.code.push(op::RET_K, 0);
        self.code.finish()
    }

    fn load(&mut self, code: u16, offset: u32) {
        self.code.push(code, self.base.wrapping_add(offset));
    }

    fn ipv4(&mut self) {
        self.load(op::LD_B_ABS, 9);
        self.code.jump_unless(op::JEQ_K, u32::from(TCP), self.other);
        self.load(op::LD_H_ABS, 6);
        self.code
            .jump_if(op::JSET_K, IPV4_FRAGMENT_BITS, self.other);
        for (offset, word) in [(0, scratch::SOURCE), (4, scratch::DESTINATION)] {
            self.load(op::LD_W_ABS, IPV4_ADDRESSES + offset);
            self.code.push(op::ST, word);
        }
        self.load(op::LD_B_ABS, 0);
        self.code.push(op::AND_K, 0x0f);
        self.code.push(op::LSH_K, 2);
        self.code.jump_unless(op::JGE_K, 20, self.other);
        self.code.push(op::TAX, 0);
        self.code.jump(self.ports);
    }

    fn ipv6(&mut self) {
        self.load(op::LD_B_ABS, 6);
        self.code.jump_unless(op::JEQ_K, u32::from(TCP), self.other);
        for (offset, word) in [(0, scratch::SOURCE), (16, scratch::DESTINATION)] {
            self.load(op::LD_W_ABS, IPV6_ADDRESSES + offset);
            for next in [4, 8, 12] {
                self.code.push(op::MUL_K, SPREAD);
                self.code.push(op::TAX, 0);
                self.load(op::LD_W_ABS, IPV6_ADDRESSES + offset + next);
                self.code.push(op::XOR_X, 0);
            }
            self.code.push(op::ST, word);
        }
        self.code.push(op::LDX_IMM, IPV6_HEADER_LEN);
    }

    fn choose_client(&mut self, origin_ports: Option<&[(u16, u16)]>) {
        self.code.bind(self.ports);
        self.load(op::LD_H_IND, 0);
        self.code.push(op::ST, scratch::SOURCE_PORT);
        self.load(op::LD_H_IND, 2);
        self.code.push(op::ST, scratch::DESTINATION_PORT);
        match origin_ports {
            Some(ports) => {
                let (hit, miss) = (self.client_is_source, self.client_is_destination);
                self.code.find_range(ports, hit, miss);
            }
            None => self.code.jump(self.client_is_source),
        }
    }

    fn hash(&mut self, shard_count: u16) {
        let finish = self.code.label();
        self.code.bind(self.client_is_destination);
        self.code.push(op::LD_MEM, scratch::DESTINATION_PORT);
        self.code.push(op::LDX_MEM, scratch::DESTINATION);
        self.code.jump(finish);
        self.code.bind(self.client_is_source);
        self.code.push(op::LD_MEM, scratch::SOURCE_PORT);
        self.code.push(op::LDX_MEM, scratch::SOURCE);
        self.code.bind(finish);
        self.code.push(op::MUL_K, SPREAD);
        self.code.push(op::XOR_X, 0);
        for (factor, shift) in [(MIX_1, 15), (MIX_2, 16)] {
            self.code.push(op::MUL_K, factor);
            self.code.push(op::TAX, 0);
            self.code.push(op::RSH_K, shift);
            self.code.push(op::XOR_X, 0);
        }
        self.code.push(op::MOD_K, u32::from(shard_count));
        self.code.push(op::RET_A, 0);
    }
}

#[cfg(test)]
mod tests;
