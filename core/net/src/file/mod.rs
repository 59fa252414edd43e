//! Capture files: pcap and pcapng read as they come, pcapng written.
//!
//! - [`CaptureFile`]: the frames of one file or of standard input, plain, gzip or zstd; what it is
//!   shows in its first bytes, its name means nothing
//! - [`MergedFiles`]: the frames of several files in the order of their times
//! - [`PcapngEncoder`]: packets to the blocks of a pcapng file
//! - [`Recording`]: such blocks written to files that are rotated, within a bound on the disk
//!
//! Memory is bounded whatever a file holds: one frame a file, and a table of its interfaces. A
//! broken file is an error that comes after every frame before the break.

mod capture_file;
mod classic;
mod encoder;
mod error;
mod merged;
mod pcapng;
mod recording;
mod source;

pub use capture_file::{CaptureFile, FileCounters, FileFrame, Input, OpenInput};
pub use encoder::{LINK_TYPE_RAW, PcapngEncoder, RecordedInterface};
pub use error::{FileError, Problem};
pub use merged::MergedFiles;
pub use recording::{Kept, Recording, RecordingConfig, RecordingError, Rotation};

/// The most bytes of a frame; a record that claims more is broken. The longest packets of Linux
/// have half of it.
pub const MAX_FRAME_BYTES: u32 = 1 << 20;

/// Nanoseconds of a second.
const NS_PER_S: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
