//! The classic format, pcap: a header for the file, then packets with 16 bytes before each.

use super::capture_file::FrameInfo;
use super::error::{Cause, Fault, Problem};
use super::source::Source;
use super::{MAX_FRAME_BYTES, NS_PER_S};

/// The first four bytes, with times in microseconds.
const MAGIC_US: u32 = 0xa1b2_c3d4;
/// The first four bytes, with times in nanoseconds.
const MAGIC_NS: u32 = 0xa1b2_3c4d;
/// The only version in use is 2.4; older ones of 2 differ in nothing that is read here but for
/// those before 2.3, of the last century.
const MAJOR: u16 = 2;
const LEAST_MINOR: u16 = 3;
/// The whole file header.
const HEADER_LEN: usize = 24;
/// What comes before each packet.
const PACKET_HEADER_LEN: usize = 16;

/// What the file header tells.
#[derive(Debug)]
pub(super) struct Classic {
    big_endian: bool,
    ns_per_tick: u64,
    link_type: u16,
}

impl Classic {
    /// Whether a file that begins so is of this format.
    pub(super) fn begins_with(magic: [u8; 4]) -> bool {
        let (big, little) = (u32::from_be_bytes(magic), u32::from_le_bytes(magic));
        [big, little]
            .iter()
            .any(|magic| [MAGIC_US, MAGIC_NS].contains(magic))
    }

    /// Reads the file header, the first four bytes of which have been read.
    pub(super) fn open(magic: [u8; 4], source: &mut Source) -> Result<Self, Fault> {
        let mut header = [0; HEADER_LEN];
        source.read_part(&mut header[4..], "file header", 0)?;
        let big_endian = [MAGIC_US, MAGIC_NS].contains(&u32::from_be_bytes(magic));
        let u16_at = |at: usize| u16_of([header[at], header[at + 1]], big_endian);
        let (major, minor) = (u16_at(4), u16_at(6));
        if major != MAJOR || minor < LEAST_MINOR {
            return Err(Fault {
                offset: 0,
                cause: Cause::Content(Problem::UnknownVersion {
                    format: "pcap",
                    major,
                    minor,
                }),
            });
        }
        let is_ns = u32_of(magic, big_endian) == MAGIC_NS;
        // The upper half of the field is about frame check sequences.
        let link_type = if big_endian { u16_at(22) } else { u16_at(20) };
        Ok(Self {
            big_endian,
            ns_per_tick: if is_ns { 1 } else { 1_000 },
            link_type,
        })
    }

    /// Reads the next packet into `frame`; `None` at the end of the file.
    pub(super) fn advance(
        &self,
        source: &mut Source,
        frame: &mut Vec<u8>,
    ) -> Result<Option<FrameInfo>, Fault> {
        const RECORD: &str = "packet";
        let start = source.offset();
        let fault = |cause| Fault {
            offset: start,
            cause,
        };
        let mut header = [0; PACKET_HEADER_LEN];
        match source.read(&mut header).map_err(fault)? {
            0 => return Ok(None),
            PACKET_HEADER_LEN => {}
            count => {
                return Err(fault(Cause::Content(Problem::Truncated {
                    record: RECORD,
                    missing: (PACKET_HEADER_LEN - count) as u64,
                })));
            }
        }
        let (words, _) = header.as_chunks::<4>();
        let word = |at: usize| u32_of(words[at], self.big_endian);
        let length = word(2);
        if length > MAX_FRAME_BYTES {
            return Err(fault(Cause::Content(Problem::FrameTooLong(length))));
        }
        frame.resize(length as usize, 0);
        source.read_part(frame, RECORD, start)?;
        let time_ns = u64::from(word(0)) * NS_PER_S + u64::from(word(1)) * self.ns_per_tick;
        Ok(Some(FrameInfo {
            time_ns: Some(time_ns),
            link_type: self.link_type,
            original_len: word(3),
        }))
    }

    pub(super) fn link_type(&self) -> u16 {
        self.link_type
    }
}

pub(super) fn u32_of(bytes: [u8; 4], big_endian: bool) -> u32 {
    if big_endian {
        u32::from_be_bytes(bytes)
    } else {
        u32::from_le_bytes(bytes)
    }
}

pub(super) fn u16_of(bytes: [u8; 2], big_endian: bool) -> u16 {
    if big_endian {
        u16::from_be_bytes(bytes)
    } else {
        u16::from_le_bytes(bytes)
    }
}
