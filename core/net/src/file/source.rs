//! The bytes of a capture file, decompressed as their beginning tells.

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::error::{Cause, Fault, Problem};

/// How much is read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// How much is decompressed at once: where the compressed data is damaged, what the same step has
/// decompressed before is lost.
const STEP_BYTES: usize = 4 << 10;

/// What gzip files begin with (RFC 1952 section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// What zstd frames begin with (RFC 8878 section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What skippable zstd frames begin with but for the low half of the first byte (RFC 8878 section
/// 3.1.2).
const ZSTD_SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// A reader of decompressed bytes that knows where it is.
pub(super) struct Source {
    reader: Box<dyn BufRead + Send>,
    /// Decompressed bytes read so far.
    offset: u64,
    /// Bytes of the file read so far.
    position: Arc<AtomicU64>,
    compressed: bool,
}

impl Source {
    /// Looks at the first bytes and decompresses from then on.
    pub(super) fn new(reader: impl Read + Send + 'static) -> Result<Self, Fault> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        let mut magic = [0; 4];
        let begin = fill(&mut reader, &mut magic).map_err(|error| Fault {
            offset: 0,
            cause: Cause::System(error),
        })?;
        let position = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            reader: Cursor::new(magic[..begin].to_vec()).chain(reader),
            count: 0,
            position: Arc::clone(&position),
        };
        let is_gzip = magic[..2] == GZIP_MAGIC;
        let is_zstd = magic == ZSTD_MAGIC
            || [magic[0] & 0xf0, magic[1], magic[2], magic[3]] == ZSTD_SKIPPABLE;
        let in_steps = |reader: Box<dyn Read + Send>| -> Box<dyn BufRead + Send> {
            Box::new(BufReader::with_capacity(STEP_BYTES, reader))
        };
        let reader = if is_gzip {
            in_steps(Box::new(MultiGzDecoder::new(counted)))
        } else if is_zstd {
            let decoder = zstd::stream::read::Decoder::with_buffer(counted);
            in_steps(Box::new(decoder.map_err(|error| Fault {
                offset: 0,
                cause: Cause::System(error),
            })?))
        } else {
            Box::new(counted)
        };
        Ok(Self {
            reader,
            offset: 0,
            position,
            compressed: is_gzip || is_zstd,
        })
    }

    /// Decompressed bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the file itself read so far.
    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Fills the buffer as far as the file goes; the answer is how many bytes there were.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Cause> {
        let (before, wanted) = (self.offset, buffer.len());
        let mut filled = 0;
        while filled < wanted {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.cause(error)),
            }
            self.offset = before + filled as u64;
        }
        Ok(filled)
    }

    /// Fills the whole buffer with a part of `record`, which began at `start`.
    pub(super) fn read_part(
        &mut self,
        buffer: &mut [u8],
        record: &'static str,
        start: u64,
    ) -> Result<(), Fault> {
        let at_start = |cause| Fault {
            offset: start,
            cause,
        };
        let count = self.read(buffer).map_err(at_start)?;
        match (buffer.len() - count) as u64 {
            0 => Ok(()),
            missing => Err(at_start(Cause::Content(Problem::Truncated {
                record,
                missing,
            }))),
        }
    }

    /// Leaves out so many bytes of `record`, which began at `start`.
    pub(super) fn skip(
        &mut self,
        mut count: u64,
        record: &'static str,
        start: u64,
    ) -> Result<(), Fault> {
        let mut scratch = [0; 4096];
        while count > 0 {
            let part = count.min(scratch.len() as u64) as usize;
            let read = self.read_part(&mut scratch[..part], record, start);
            read.map_err(|fault| fault.with_missing(count - part as u64))?;
            count -= part as u64;
        }
        Ok(())
    }

    fn cause(&self, error: io::Error) -> Cause {
        match error.kind() {
            _ if !self.compressed => Cause::System(error),
            io::ErrorKind::UnexpectedEof => Cause::Content(Problem::CompressionTruncated),
            // What a decoder says has no number of the system.
            _ if error.raw_os_error().is_none() => {
                Cause::Content(Problem::Compression(error.to_string()))
            }
            _ => Cause::System(error),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("offset", &self.offset)
            .field("compressed", &self.compressed)
            .finish_non_exhaustive()
    }
}

impl Fault {
    fn with_missing(mut self, more: u64) -> Self {
        if let Cause::Content(Problem::Truncated { missing, .. }) = &mut self.cause {
            *missing += more;
        }
        self
    }
}

/// Counts the bytes taken from a reader, for all to see.
struct Counted<R> {
    reader: R,
    count: u64,
    position: Arc<AtomicU64>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.count += count as u64;
        self.position.store(self.count, Ordering::Relaxed);
    }
}

/// Fills the buffer as far as the reader goes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
