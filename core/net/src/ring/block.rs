//! A block of captured packets and the packets in it, read in place.

use std::mem::offset_of;

use libc::{sockaddr_ll, tpacket_block_desc, tpacket_hdr_v1, tpacket_hdr_variant1, tpacket3_hdr};

use crate::sys::HandedOver;

/// A packet in the ring, from its IP header on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedPacket<'a> {
    /// The bytes from the IP header on: `original_len` of them, or fewer if the snapshot length or
    /// the block is shorter. Ethernet's padding of short packets may follow the IP packet.
    pub packet: &'a [u8],
    /// The length when the packet passed the device, in bytes. Up to 64 KiB where the kernel
    /// joined received segments (GRO) or has not yet cut one to be sent (GSO).
    pub original_len: u32,
    /// When the kernel received it, in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// The EtherType, such as 0x0800 for IPv4.
    pub protocol: u16,
    /// How the packet relates to the device.
    pub kind: PacketKind,
    /// The VLAN tag (priority, flag and number) that the kernel took off.
    pub vlan: Option<u16>,
    /// The kernel's number for the device it was seen on.
    pub interface_index: u32,
}

/// How a packet relates to the device it was seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// Received, for this host.
    ToHost,
    /// Received, for another host's link-layer address: promiscuous mode, as on a mirror port.
    ToOtherHost,
    /// Received broadcast or multicast.
    ToMany,
    /// Sent by this host.
    Outgoing,
}

/// A block of packets on loan from the kernel; dropping it gives it back.
#[derive(Debug)]
pub struct Block<'r> {
    pub(super) memory: HandedOver<'r>,
    pub(super) next_index: &'r mut usize,
    pub(super) block_count: usize,
    pub(super) keep_outgoing: bool,
}

impl Block<'_> {
    /// The packets in the order of their arrival.
    #[must_use]
    pub fn packets(&self) -> Packets<'_> {
        let block = self.memory.bytes();
        let field = |offset| {
            u32_at(block, offset_of!(tpacket_block_desc, hdr) + offset).unwrap_or_default()
        };
        Packets {
            block,
            offset: field(offset_of!(tpacket_hdr_v1, offset_to_first_pkt)) as usize,
            left: field(offset_of!(tpacket_hdr_v1, num_pkts)),
            keep_outgoing: self.keep_outgoing,
        }
    }
}

impl<'b> IntoIterator for &'b Block<'_> {
    type Item = CapturedPacket<'b>;
    type IntoIter = Packets<'b>;

    fn into_iter(self) -> Packets<'b> {
        self.packets()
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        *self.next_index = (*self.next_index + 1) % self.block_count;
    }
}

/// Iterates over the packets of a [`Block`].
#[derive(Clone, Debug)]
pub struct Packets<'b> {
    block: &'b [u8],
    offset: usize,
    left: u32,
    keep_outgoing: bool,
}

impl<'b> Iterator for Packets<'b> {
    type Item = CapturedPacket<'b>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            self.left -= 1;
            let at = self.block.get(self.offset..)?;
            self.offset += u32_at(at, offset_of!(tpacket3_hdr, tp_next_offset))? as usize;
            let (packet, hardware_type) = parse(at)?;
            if packet.kind != PacketKind::Outgoing
                || (self.keep_outgoing && hardware_type != libc::ARPHRD_LOOPBACK)
            {
                return Some(packet);
            }
        }
        None
    }
}

/// Reads the packet whose ring header `at` begins with, and its device's hardware type. The
/// kernel wrote these offsets; `None`, for one outside the block, does not happen.
#[inline]
fn parse(at: &[u8]) -> Option<(CapturedPacket<'_>, u16)> {
    const VARIANT: usize = offset_of!(tpacket3_hdr, hv1);
    const ADDRESS: usize = size_of::<tpacket3_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
    let header = at.get(..ADDRESS + size_of::<sockaddr_ll>())?;
    let status = u32_at(header, offset_of!(tpacket3_hdr, tp_status))?;
    let seconds = u32_at(header, offset_of!(tpacket3_hdr, tp_sec))?;
    let nanoseconds = u32_at(header, offset_of!(tpacket3_hdr, tp_nsec))?;
    let start = usize::from(u16_at(header, offset_of!(tpacket3_hdr, tp_net))?);
    let length = u32_at(header, offset_of!(tpacket3_hdr, tp_snaplen))? as usize;
    let tag = u32_at(
        header,
        VARIANT + offset_of!(tpacket_hdr_variant1, tp_vlan_tci),
    )?;
    let kind = match header[ADDRESS + offset_of!(sockaddr_ll, sll_pkttype)] {
        libc::PACKET_HOST => PacketKind::ToHost,
        libc::PACKET_OTHERHOST => PacketKind::ToOtherHost,
        libc::PACKET_OUTGOING => PacketKind::Outgoing,
        _ => PacketKind::ToMany,
    };
    let packet = CapturedPacket {
        packet: at.get(start..start + length)?,
        original_len: u32_at(header, offset_of!(tpacket3_hdr, tp_len))?,
        timestamp_ns: u64::from(seconds) * 1_000_000_000 + u64::from(nanoseconds),
        protocol: u16::from_be(u16_at(
            header,
            ADDRESS + offset_of!(sockaddr_ll, sll_protocol),
        )?),
        kind,
        vlan: (status & libc::TP_STATUS_VLAN_VALID != 0)
            .then(|| u16::try_from(tag & 0xffff).expect("16 bits")),
        interface_index: u32_at(header, ADDRESS + offset_of!(sockaddr_ll, sll_ifindex))?,
    };
    Some((
        packet,
        u16_at(header, ADDRESS + offset_of!(sockaddr_ll, sll_hatype))?,
    ))
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .first_chunk()
        .map(|field| u32::from_ne_bytes(*field))
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)?
        .first_chunk()
        .map(|field| u16::from_ne_bytes(*field))
}
