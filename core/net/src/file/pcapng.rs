//! pcapng: a chain of blocks, each with its type and its length in front and its length again
//! behind. Sections have their own byte order and their own interfaces; each interface has its own
//! link type and its own unit of time.
//!
//! Blocks that hold no packets (names, statistics, secrets, a vendor's own) are left out.

use super::capture_file::FrameInfo;
use super::classic::{u16_of, u32_of};
use super::error::{Cause, Fault, Problem};
use super::source::Source;
use super::{MAX_FRAME_BYTES, NS_PER_S};

/// More interfaces in one section are refused: they would cost memory.
pub(super) const MAX_INTERFACES: usize = 65_536;

pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub(super) const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
pub(super) const ENHANCED_PACKET: u32 = 6;

pub(super) const BYTE_ORDER_MARK: u32 = 0x1a2b_3c4d;
/// Minor versions in use; 1.2 was written by mistake and means 1.0.
const VERSIONS: [(u16, u16); 2] = [(1, 0), (1, 2)];

/// Type and length.
const HEAD_LEN: u32 = 8;
/// Head and the length behind.
const LEAST_BLOCK_LEN: u32 = 12;
/// Head, byte-order mark, version, section length, and the length behind.
const LEAST_SECTION_LEN: u32 = 28;
/// The most bytes of options looked at in an interface's description.
const MAX_OPTIONS_LEN: u32 = 1 << 16;

pub(super) const OPTION_END: u16 = 0;
pub(super) const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;

/// Where the reader is in the chain.
#[derive(Debug, Default)]
pub(super) struct Pcapng {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u16,
    /// The most bytes kept of a packet; 0 for no limit.
    snaplen: u32,
    resolution: Resolution,
    /// Seconds added to every time.
    offset_s: i64,
}

/// The unit of an interface's times, as a part of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// 10 to the power of minus this.
    Decimal(u8),
    /// 2 to the power of minus this.
    Binary(u8),
}

/// The head of a block.
#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u32,
    length: u32,
    /// Where the block begins in the file.
    start: u64,
}

impl Pcapng {
    /// Whether a file that begins so is of this format.
    pub(super) fn begins_with(magic: [u8; 4]) -> bool {
        u32::from_ne_bytes(magic) == SECTION_HEADER
    }

    /// Reads the first section's header, the first four bytes of which have been read.
    pub(super) fn open(source: &mut Source) -> Result<Self, Fault> {
        let mut pcapng = Self::default();
        let mut length = [0; 4];
        source.read_part(&mut length, "section header", 0)?;
        pcapng.begin_section(source, length, 0)?;
        Ok(pcapng)
    }

    /// Reads on to the next packet and puts it into `frame`; `None` at the end of the file.
    pub(super) fn advance(
        &mut self,
        source: &mut Source,
        frame: &mut Vec<u8>,
    ) -> Result<Option<FrameInfo>, Fault> {
        loop {
            let Some(head) = self.read_head(source)? else {
                return Ok(None);
            };
            match head.kind {
                SECTION_HEADER => {}
                INTERFACE_DESCRIPTION => self.describe_interface(source, head)?,
                ENHANCED_PACKET => return self.enhanced_packet(source, head, frame).map(Some),
                OBSOLETE_PACKET => return self.obsolete_packet(source, head, frame).map(Some),
                SIMPLE_PACKET => return self.simple_packet(source, head, frame).map(Some),
                _ => self.leave(source, head, HEAD_LEN, "block")?,
            }
        }
    }

    /// Reads the head of a block, and all of it if it begins a section.
    fn read_head(&mut self, source: &mut Source) -> Result<Option<Head>, Fault> {
        let start = source.offset();
        let mut head = [[0; 4]; 2];
        let bytes = head.as_flattened_mut();
        let count = source.read(bytes).map_err(|cause| Fault {
            offset: start,
            cause,
        })?;
        match count {
            0 => return Ok(None),
            8 => {}
            count => {
                let missing = (bytes.len() - count) as u64;
                let record = "block";
                return Err(broken(start, Problem::Truncated { record, missing }));
            }
        }
        let kind = u32_of(head[0], self.big_endian);
        if kind == SECTION_HEADER {
            self.begin_section(source, head[1], start)?;
        }
        let length = u32_of(head[1], self.big_endian);
        if length < LEAST_BLOCK_LEN || !length.is_multiple_of(4) {
            return Err(broken(start, Problem::BlockLength(length)));
        }
        Ok(Some(Head {
            kind,
            length,
            start,
        }))
    }

    /// Reads the rest of a section's header; its byte order holds for its length already.
    fn begin_section(
        &mut self,
        source: &mut Source,
        length: [u8; 4],
        start: u64,
    ) -> Result<(), Fault> {
        const RECORD: &str = "section header";
        let mut mark = [0; 4];
        source.read_part(&mut mark, RECORD, start)?;
        self.big_endian = match (u32::from_be_bytes(mark), u32::from_le_bytes(mark)) {
            (BYTE_ORDER_MARK, _) => true,
            (_, BYTE_ORDER_MARK) => false,
            (other, _) => return Err(broken(start, Problem::ByteOrder(other))),
        };
        self.interfaces.clear();
        let length = u32_of(length, self.big_endian);
        if length < LEAST_SECTION_LEN || !length.is_multiple_of(4) {
            return Err(broken(start, Problem::BlockLength(length)));
        }
        let mut version = [[0; 2]; 2];
        source.read_part(version.as_flattened_mut(), RECORD, start)?;
        let (major, minor) = (
            u16_of(version[0], self.big_endian),
            u16_of(version[1], self.big_endian),
        );
        if !VERSIONS.contains(&(major, minor)) {
            let format = "pcapng";
            let problem = Problem::UnknownVersion {
                format,
                major,
                minor,
            };
            return Err(broken(start, problem));
        }
        let head = Head {
            kind: SECTION_HEADER,
            length,
            start,
        };
        self.leave(source, head, HEAD_LEN + 8, RECORD)
    }

    fn describe_interface(&mut self, source: &mut Source, head: Head) -> Result<(), Fault> {
        const RECORD: &str = "interface description";
        const FIXED_LEN: u32 = 8;
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(broken(head.start, Problem::TooManyInterfaces));
        }
        let [first, snaplen] = self.words(source, head, RECORD)?;
        let mut interface = Interface {
            link_type: u16_of([first[0], first[1]], self.big_endian),
            snaplen: u32_of(snaplen, self.big_endian),
            resolution: Resolution::Decimal(6),
            offset_s: 0,
        };
        let body_len = head.length - LEAST_BLOCK_LEN - FIXED_LEN;
        let mut options = vec![0; body_len.min(MAX_OPTIONS_LEN) as usize];
        source.read_part(&mut options, RECORD, head.start)?;
        interface.apply(&options, self.big_endian);
        self.interfaces.push(interface);
        let read = HEAD_LEN + FIXED_LEN + body_len.min(MAX_OPTIONS_LEN);
        self.leave(source, head, read, RECORD)
    }

    fn enhanced_packet(
        &self,
        source: &mut Source,
        head: Head,
        frame: &mut Vec<u8>,
    ) -> Result<FrameInfo, Fault> {
        let words: [[u8; 4]; 5] = self.words(source, head, "packet block")?;
        let [interface, high, low, length, original] =
            words.map(|word| u32_of(word, self.big_endian));
        let time = [high, low];
        self.packet(source, head, interface, time, [length, original], frame)
    }

    fn obsolete_packet(
        &self,
        source: &mut Source,
        head: Head,
        frame: &mut Vec<u8>,
    ) -> Result<FrameInfo, Fault> {
        let words: [[u8; 4]; 5] = self.words(source, head, "packet block")?;
        // The other half is a count of drops.
        let interface = u16_of([words[0][0], words[0][1]], self.big_endian);
        let [_, high, low, length, original] = words.map(|word| u32_of(word, self.big_endian));
        let time = [high, low];
        let lengths = [length, original];
        self.packet(source, head, interface.into(), time, lengths, frame)
    }

    /// A packet with a time, behind its 20 bytes of particulars.
    fn packet(
        &self,
        source: &mut Source,
        head: Head,
        interface: u32,
        time: [u32; 2],
        [length, original_len]: [u32; 2],
        frame: &mut Vec<u8>,
    ) -> Result<FrameInfo, Fault> {
        const FIXED_LEN: u32 = 20;
        let interface = self.interface(interface, head)?;
        self.body(source, head, HEAD_LEN + FIXED_LEN, length, frame)?;
        let ticks = u64::from(time[0]) << 32 | u64::from(time[1]);
        Ok(FrameInfo {
            time_ns: Some(interface.time_ns(ticks)),
            link_type: interface.link_type,
            original_len,
        })
    }

    /// A packet of the first interface, without a time; the block's length tells the packet's.
    fn simple_packet(
        &self,
        source: &mut Source,
        head: Head,
        frame: &mut Vec<u8>,
    ) -> Result<FrameInfo, Fault> {
        const FIXED_LEN: u32 = 4;
        let [original_len] = self.words(source, head, "packet block")?;
        let original_len = u32_of(original_len, self.big_endian);
        let interface = self.interface(0, head)?;
        let limit = match interface.snaplen {
            0 => u32::MAX,
            snaplen => snaplen,
        };
        let room = head.length - LEAST_BLOCK_LEN - FIXED_LEN;
        let length = original_len.min(limit).min(room);
        self.body(source, head, HEAD_LEN + FIXED_LEN, length, frame)?;
        Ok(FrameInfo {
            time_ns: None,
            link_type: interface.link_type,
            original_len,
        })
    }

    fn interface(&self, number: u32, head: Head) -> Result<&Interface, Fault> {
        let found = self.interfaces.get(number as usize);
        found.ok_or_else(|| broken(head.start, Problem::NoSuchInterface(number)))
    }

    /// The words that a block of this kind begins with.
    fn words<const N: usize>(
        &self,
        source: &mut Source,
        head: Head,
        record: &'static str,
    ) -> Result<[[u8; 4]; N], Fault> {
        if ((head.length - LEAST_BLOCK_LEN) as usize) < 4 * N {
            return Err(broken(head.start, Problem::BlockLength(head.length)));
        }
        let mut words = [[0; 4]; N];
        source.read_part(words.as_flattened_mut(), record, head.start)?;
        Ok(words)
    }

    /// Reads the packet and leaves the block; `read` bytes of the block have been read.
    fn body(
        &self,
        source: &mut Source,
        head: Head,
        read: u32,
        length: u32,
        frame: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        const RECORD: &str = "packet block";
        if length > head.length - read - (LEAST_BLOCK_LEN - HEAD_LEN) {
            let problem = Problem::PacketBeyondBlock {
                packet: length,
                block: head.length,
            };
            return Err(broken(head.start, problem));
        }
        if length > MAX_FRAME_BYTES {
            return Err(broken(head.start, Problem::FrameTooLong(length)));
        }
        frame.resize(length as usize, 0);
        source.read_part(frame, RECORD, head.start)?;
        self.leave(source, head, read + length, RECORD)
    }

    /// Skips the rest of a block, of which `read` bytes have been read, and checks its end.
    fn leave(
        &self,
        source: &mut Source,
        head: Head,
        read: u32,
        record: &'static str,
    ) -> Result<(), Fault> {
        let rest = head.length - read - (LEAST_BLOCK_LEN - HEAD_LEN);
        source.skip(rest.into(), record, head.start)?;
        let mut last = [0; 4];
        source.read_part(&mut last, record, head.start)?;
        let last = u32_of(last, self.big_endian);
        if last == head.length {
            return Ok(());
        }
        let first = head.length;
        Err(broken(head.start, Problem::BlockLengths { first, last }))
    }
}

impl Interface {
    /// Takes over what the options say; those that can't be read end the list.
    fn apply(&mut self, mut options: &[u8], big_endian: bool) {
        while let [a, b, c, d, rest @ ..] = options {
            let code = u16_of([*a, *b], big_endian);
            let length = usize::from(u16_of([*c, *d], big_endian));
            let Some(value) = rest.get(..length).filter(|_| code != OPTION_END) else {
                return;
            };
            match (code, value) {
                (OPTION_TIME_RESOLUTION, [power]) => {
                    self.resolution = Resolution::of_option(*power);
                }
                (OPTION_TIME_OFFSET, [a, b, c, d, e, f, g, h]) => {
                    let bytes = [*a, *b, *c, *d, *e, *f, *g, *h];
                    self.offset_s = if big_endian {
                        i64::from_be_bytes(bytes)
                    } else {
                        i64::from_le_bytes(bytes)
                    };
                }
                _ => {}
            }
            options = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    /// Nanoseconds since the epoch; times that can't be said so become the nearest.
    fn time_ns(&self, ticks: u64) -> u64 {
        let since = i128::from(self.resolution.to_ns(ticks))
            + i128::from(self.offset_s) * i128::from(NS_PER_S);
        u64::try_from(since.max(0)).unwrap_or(u64::MAX)
    }
}

impl Resolution {
    fn of_option(value: u8) -> Self {
        let power = value & 0x7f;
        if value & 0x80 == 0 {
            Self::Decimal(power)
        } else {
            Self::Binary(power)
        }
    }

    fn to_ns(self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks);
        let ns = match self {
            Self::Decimal(power @ 0..=9) => ticks * 10_u128.pow(9 - u32::from(power)),
            // Beyond 10 to the power of 38 every time is 0.
            Self::Decimal(power) => 10_u128
                .checked_pow(u32::from(power) - 9)
                .map_or(0, |unit| ticks / unit),
            Self::Binary(power) => (ticks * u128::from(NS_PER_S)) >> power,
        };
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

fn broken(offset: u64, problem: Problem) -> Fault {
    Fault {
        offset,
        cause: Cause::Content(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_time() {
        for (option, ticks, ns) in [
            (6, 1_234_567, 1_234_567_000),
            (9, 1_234_567, 1_234_567),
            (0, 3, 3 * NS_PER_S),
            (12, 1_999, 1),
            (127, u64::MAX, 0),
            (0x80 | 10, 1536, 3 * NS_PER_S / 2),
            (0x80 | 32, 1 << 31, NS_PER_S / 2),
            (0xff, u64::MAX, 0),
            (0, u64::MAX, u64::MAX),
        ] {
            assert_eq!(
                Resolution::of_option(option).to_ns(ticks),
                ns,
                "{option:#x}"
            );
        }
    }

    #[test]
    fn offsets_of_time() {
        let mut interface = Interface {
            link_type: 1,
            snaplen: 0,
            resolution: Resolution::Decimal(6),
            offset_s: 5,
        };
        assert_eq!(interface.time_ns(1), 5 * NS_PER_S + 1_000);
        interface.offset_s = -5;
        assert_eq!(interface.time_ns(1), 0);
        interface.offset_s = i64::MAX;
        assert_eq!(interface.time_ns(u64::MAX), u64::MAX);
    }

    #[test]
    fn options_of_an_interface() {
        let mut interface = Interface {
            link_type: 1,
            snaplen: 0,
            resolution: Resolution::Decimal(6),
            offset_s: 0,
        };
        // A name of 3 bytes, the resolution, an offset, the end, and one behind it.
        let options = [
            &[0, 2, 0, 3, b'l', b'o', b'0', 0][..],
            &[0, 9, 0, 1, 9, 0, 0, 0],
            &[0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 0, 0, 0],
            &[0, 9, 0, 1, 3, 0, 0, 0],
        ]
        .concat();
        interface.apply(&options, true);
        assert_eq!(
            (interface.resolution, interface.offset_s),
            (Resolution::Decimal(9), 7)
        );
        // One that claims more than there is.
        interface.apply(&[9, 0, 200, 0, 3], false);
        assert_eq!(interface.resolution, Resolution::Decimal(9));
    }
}
