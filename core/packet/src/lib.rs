//! IP and TCP packets as values: checked views of bytes that came from outside, and builders of
//! packets that leave. No I/O, no clock, no allocation on the parsing path.
//!
//! - `sequence`: one newtype per sequence space, with modular order (RFC 9293 section 3.4)
//! - `tuple`: endpoints and four-tuples
//! - `segment`: one TCP segment with its addresses, parsed and checked
//! - `options`: the TCP options this product understands
//! - `build`: segments written as IP packets, with checksums
//! - `frame`: link-layer framing taken off, down to the IP packet
//! - `checksum`: the Internet checksum (RFC 1071)

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod build;
mod checksum;
mod frame;
mod options;
mod segment;
mod sequence;
mod tuple;

pub use build::{BuildError, DEFAULT_HOP_LIMIT, SegmentBuilder};
pub use checksum::Checksum;
pub use frame::{FrameError, LinkType, strip_link_header};
pub use options::{
    MAX_OPTIONS_LEN, MAX_SACK_BLOCKS, MAX_WINDOW_SCALE, SackBlock, SackBlocks, TcpOptions,
    Timestamps,
};
pub use segment::{PacketError, Segment, TcpFlags};
pub use sequence::{ClientSeq, MirrorSeq, OriginSeq, SequenceNumber, TargetSeq, TcpTimestamp};
pub use tuple::{Endpoint, FourTuple};
