//! pcapng as it is written: one section, little-endian, times in nanoseconds.

use super::pcapng::{
    BYTE_ORDER_MARK, ENHANCED_PACKET, INTERFACE_DESCRIPTION, OPTION_END, OPTION_TIME_RESOLUTION,
    SECTION_HEADER,
};

/// The link type of packets that begin with their IP header (`LINKTYPE_RAW`).
pub const LINK_TYPE_RAW: u16 = 101;

const INTERFACE_STATISTICS: u32 = 5;

// Options of a section, an interface and its statistics.
const OPTION_APPLICATION: u16 = 4;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_FILTER: u16 = 11;
const OPTION_RECEIVED: u16 = 4;
const OPTION_DROPPED: u16 = 5;

/// The first byte of the filter option: what follows is an expression of libpcap.
const FILTER_IS_TEXT: u8 = 0;

/// The longest value of an option, in bytes; longer texts are cut.
const MAX_OPTION_LEN: usize = u16::MAX as usize;

/// An interface as a recording describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedInterface {
    /// Its name, such as `eth0` or `any`.
    pub name: String,
    /// How its frames are framed: [`LINK_TYPE_RAW`] or another of libpcap's numbers.
    pub link_type: u16,
    /// The most bytes kept of one packet.
    pub snaplen: u32,
    /// The capture filter, in pcap-filter words; empty for none.
    pub filter: String,
}

/// Turns packets into the blocks of a pcapng file.
#[derive(Clone, Debug)]
pub struct PcapngEncoder {
    application: String,
    interfaces: Vec<RecordedInterface>,
}

impl PcapngEncoder {
    /// A recording on these interfaces; packets name them by their place in this list.
    #[must_use]
    pub fn new(application: &str, interfaces: Vec<RecordedInterface>) -> Self {
        Self {
            application: application.to_owned(),
            interfaces,
        }
    }

    /// Appends what every file begins with: the section's header and its interfaces.
    pub fn header(&self, out: &mut Vec<u8>) {
        block(out, SECTION_HEADER, |out| {
            out.extend(BYTE_ORDER_MARK.to_le_bytes());
            out.extend(1_u16.to_le_bytes());
            out.extend(0_u16.to_le_bytes());
            // The section's length is not known.
            out.extend((-1_i64).to_le_bytes());
            option(out, OPTION_APPLICATION, self.application.as_bytes());
            option(out, OPTION_END, &[]);
        });
        for interface in &self.interfaces {
            block(out, INTERFACE_DESCRIPTION, |out| {
                out.extend(interface.link_type.to_le_bytes());
                out.extend(0_u16.to_le_bytes());
                out.extend(interface.snaplen.to_le_bytes());
                option(out, OPTION_INTERFACE_NAME, interface.name.as_bytes());
                option(out, OPTION_TIME_RESOLUTION, &[9]);
                if !interface.filter.is_empty() {
                    let text = [&[FILTER_IS_TEXT], interface.filter.as_bytes()].concat();
                    option(out, OPTION_FILTER, &text);
                }
                option(out, OPTION_END, &[]);
            });
        }
    }

    /// Appends a packet: when it came, in nanoseconds since the Unix epoch, the bytes of it that
    /// were kept, and its length on the device.
    pub fn packet(
        &self,
        interface: u32,
        time_ns: u64,
        packet: &[u8],
        original_len: u32,
        out: &mut Vec<u8>,
    ) {
        block(out, ENHANCED_PACKET, |out| {
            let length = u32::try_from(packet.len()).expect("packets are shorter than 4 GiB");
            let [low, high] = [time_ns as u32, (time_ns >> 32) as u32];
            for word in [interface, high, low, length, original_len] {
                out.extend(word.to_le_bytes());
            }
            out.extend(packet);
            pad(out, packet.len());
        });
    }

    /// Appends what the kernel has counted on an interface up to a moment: packets that passed the
    /// filter, and how many of them it had to drop.
    pub fn statistics(
        &self,
        interface: u32,
        time_ns: u64,
        received: u64,
        dropped: u64,
        out: &mut Vec<u8>,
    ) {
        block(out, INTERFACE_STATISTICS, |out| {
            for word in [interface, (time_ns >> 32) as u32, time_ns as u32] {
                out.extend(word.to_le_bytes());
            }
            option(out, OPTION_RECEIVED, &received.to_le_bytes());
            option(out, OPTION_DROPPED, &dropped.to_le_bytes());
            option(out, OPTION_END, &[]);
        });
    }
}

/// The blocks in front that are whole: their length in bytes, and how many of them are packets.
pub(super) fn whole_blocks(bytes: &[u8]) -> (usize, u64) {
    let (mut whole, mut packets) = (0, 0);
    while let Some([kind, length]) = bytes
        .get(whole..whole + 8)
        .and_then(|head| head.as_chunks::<4>().0.first_chunk())
    {
        let end = whole.saturating_add(u32::from_le_bytes(*length) as usize);
        if end > bytes.len() || end == whole {
            break;
        }
        packets += u64::from(u32::from_le_bytes(*kind) == ENHANCED_PACKET);
        whole = end;
    }
    (whole, packets)
}

/// Writes a block whose length is known only behind it.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    let length = u32::try_from(out.len() + 4 - start).expect("blocks are shorter than 4 GiB");
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out.extend(length.to_le_bytes());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(MAX_OPTION_LEN)];
    let length = u16::try_from(value.len()).expect("it was cut");
    out.extend(code.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(value);
    pad(out, value.len());
}

/// Fills a field of this length up to a multiple of four.
fn pad(out: &mut Vec<u8>, length: usize) {
    let missing = length.next_multiple_of(4) - length;
    out.resize(out.len() + missing, 0);
}
