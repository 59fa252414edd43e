//! What can be wrong with a capture file: where, what, and what to do about it.

use std::io;

use super::MAX_FRAME_BYTES;
use super::pcapng::MAX_INTERFACES;

/// A capture file can't be read, or not further. All frames before have been handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file can't be opened.
    #[error("can't open the capture file {name}: {source}")]
    Open {
        /// The file.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system can't read it.
    #[error("can't read {name} beyond byte {offset}: {source}")]
    Read {
        /// The file.
        name: String,
        /// How far it was read, in bytes, of the decompressed data if it is compressed.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its content is wrong.
    #[error("{name} is broken at byte {offset}{}: {problem}", within(*.compressed))]
    Broken {
        /// The file.
        name: String,
        /// Where the broken record begins, in bytes, of the decompressed data if it is compressed.
        offset: u64,
        /// Whether the file is compressed.
        compressed: bool,
        /// What is wrong there.
        problem: Problem,
    },
}

impl FileError {
    /// The file.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Open { name, .. } | Self::Read { name, .. } | Self::Broken { name, .. } => name,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } => "check the path, and that this user may read the file",
            Self::Read { .. } => "check the disk or the program that writes to the pipe",
            Self::Broken { problem, .. } => problem.hint(),
        }
    }
}

/// What is wrong with the content of a capture file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not a byte.
    #[error("it is empty")]
    Empty,
    /// It begins like no capture file.
    #[error("it begins with {0:02x?}, as neither pcap nor pcapng files do, plain, gzip or zstd")]
    UnknownFormat([u8; 4]),
    /// A version of the format that isn't known here.
    #[error("version {major}.{minor} of {format} is not known")]
    UnknownVersion {
        /// `pcap` or `pcapng`.
        format: &'static str,
        /// The version before the dot.
        major: u16,
        /// The version after the dot.
        minor: u16,
    },
    /// The end comes early.
    #[error("it ends inside a {record}, {missing} bytes early")]
    Truncated {
        /// What was begun.
        record: &'static str,
        /// How many bytes of the part being read are missing.
        missing: u64,
    },
    /// A frame longer than any.
    #[error(
        "a packet claims to be {0} bytes long, and no more than {MAX_FRAME_BYTES} are possible"
    )]
    FrameTooLong(u32),
    /// A pcapng block shorter than its own head, or of odd length.
    #[error("a block claims to be {0} bytes long, which is impossible")]
    BlockLength(u32),
    /// A block that says two lengths.
    #[error("a block says that it is {first} bytes long, and at its end that it is {last}")]
    BlockLengths {
        /// The length in front.
        first: u32,
        /// The length at the end.
        last: u32,
    },
    /// A packet that does not fit its block.
    #[error("a packet of {packet} bytes does not fit its block of {block} bytes")]
    PacketBeyondBlock {
        /// The packet's length.
        packet: u32,
        /// The whole block's length.
        block: u32,
    },
    /// A packet of an interface that was not described.
    #[error("a packet names interface {0}, which the file has not described")]
    NoSuchInterface(u32),
    /// More interfaces than anyone has.
    #[error("it describes more than {MAX_INTERFACES} interfaces")]
    TooManyInterfaces,
    /// A section with a byte order that is none.
    #[error("a section begins with the byte-order mark {0:08x}, which is none")]
    ByteOrder(u32),
    /// The compression ends early.
    #[error("the compressed data ends early")]
    CompressionTruncated,
    /// The compression is broken.
    #[error("the compressed data is broken: {0}")]
    Compression(String),
}

impl Problem {
    fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::UnknownFormat(_) | Self::UnknownVersion { .. } => {
                "record with 'tcpcopy capture' or 'tcpdump -w', or convert the file with \
                 'editcap -F pcapng'"
            }
            Self::Truncated { .. } | Self::CompressionTruncated => {
                "the recording or a copy of it was cut off; what comes before this point has been \
                 read"
            }
            _ => {
                "the file was damaged, so nothing behind this point can be trusted; what comes \
                 before it has been read"
            }
        }
    }
}

/// What is wrong, and where the record that is wrong begins.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) offset: u64,
    pub(super) cause: Cause,
}

/// Whose fault it is.
#[derive(Debug)]
pub(super) enum Cause {
    /// The file's.
    Content(Problem),
    /// The system's.
    System(io::Error),
}

fn within(compressed: bool) -> &'static str {
    if compressed {
        " of its decompressed data"
    } else {
        ""
    }
}
