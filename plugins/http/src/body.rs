//! Bodies of messages, followed byte by byte (RFC 9112, sections 6 and 7).

use crate::malformed::Malformed;

/// Bytes of a chunk's line besides its size: extensions are legal, and nobody uses them.
const CHUNK_LINE_BYTES: u32 = 4096;

/// What is still to come of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks, and trailers behind them.
    Chunked(Chunks),
    /// All until the connection ends; only answers have that.
    UntilClose,
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// How many of them belong to this step.
    pub(crate) used: usize,
    /// How many of those, at their end, are content; the rest is framing.
    pub(crate) content: usize,
    /// The body is complete.
    pub(crate) is_end: bool,
}

impl Body {
    /// A chunked body from its beginning, with trailers of so many bytes at most.
    pub(crate) fn chunked(trailer_bytes: u32) -> Self {
        Self::Chunked(Chunks {
            state: ChunkState::FirstDigit,
            size: 0,
            line: 0,
            room: trailer_bytes,
        })
    }

    /// Whether nothing is to come.
    pub(crate) fn is_over(&self) -> bool {
        *self == Self::Length(0)
    }

    /// Follows some bytes, to the end of a piece of content at most.
    ///
    /// # Errors
    /// When they are no chunks.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        match self {
            Self::Length(left) => {
                let used = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= used as u64;
                Ok(Step {
                    used,
                    content: used,
                    is_end: *left == 0,
                })
            }
            Self::Chunked(chunks) => chunks.step(bytes),
            Self::UntilClose => Ok(Step {
                used: bytes.len(),
                content: bytes.len(),
                is_end: false,
            }),
        }
    }

    /// Follows all the bytes that belong to the body: how many, and whether it is complete.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub(crate) fn skip(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut used = 0;
        loop {
            let step = match self.step(&bytes[used..]) {
                // What was good is good; the rest is told next time.
                Err(_) if used > 0 => return Ok((used, false)),
                step => step?,
            };
            used += step.used;
            if step.is_end || used == bytes.len() {
                return Ok((used, step.is_end));
            }
        }
    }

    /// A hole of so many bytes. False when nobody can tell what was in it.
    pub(crate) fn skip_hole(&mut self, missing: Option<u64>) -> bool {
        let left = match self {
            Self::Length(left) => left,
            Self::UntilClose => return true,
            Self::Chunked(chunks) => match chunks.state {
                ChunkState::Data => &mut chunks.size,
                _ => return false,
            },
        };
        match missing {
            Some(missing) if missing <= *left => {
                *left -= missing;
                true
            }
            _ => false,
        }
    }
}

/// Chunks on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    state: ChunkState,
    /// Bytes of the chunk that are still to come; its size as far as it is read.
    size: u64,
    /// Bytes of this line's extensions.
    line: u32,
    /// Bytes that trailers may still have.
    room: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    FirstDigit,
    Size,
    /// Behind the size: only extensions may follow.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A trailer, or the end.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
    /// The next byte is none of a chunk.
    Bad(Malformed),
}

impl Chunks {
    fn step(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let step = |used, content, is_end| Step {
            used,
            content,
            is_end,
        };
        for (at, byte) in bytes.iter().enumerate() {
            if self.state == ChunkState::Data {
                let room = bytes.len() - at;
                let taken = room.min(usize::try_from(self.size).unwrap_or(usize::MAX));
                self.size -= taken as u64;
                if self.size == 0 {
                    self.state = ChunkState::DataCr;
                }
                return Ok(step(at + taken, taken, false));
            }
            self.state = match self.framing(*byte) {
                Err(problem) if at > 0 => {
                    self.state = ChunkState::Bad(problem);
                    return Ok(step(at, 0, false));
                }
                state => state?,
            };
            if self.state == ChunkState::Done {
                return Ok(step(at + 1, 0, true));
            }
        }
        Ok(step(bytes.len(), 0, self.state == ChunkState::Done))
    }

    /// One byte that is not content.
    fn framing(&mut self, byte: u8) -> Result<ChunkState, Malformed> {
        use ChunkState::{
            Bad, Blank, Data, DataCr, DataLf, Done, EndLf, Extension, FirstDigit, Line, Size,
            SizeLf, Trailer, TrailerLf,
        };
        match (self.state, byte) {
            (Bad(problem), _) => Err(problem),
            (FirstDigit | Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                if self.size >> 60 != 0 {
                    return Err(Malformed::BadChunk);
                }
                self.size = self.size << 4 | u64::from(digit);
                Ok(Size)
            }
            (Size | Blank, b';') => Ok(Extension),
            (Size | Blank | Extension, b'\r') => Ok(SizeLf),
            (Size | Blank, b' ' | b'\t') => self.lengthen(Blank),
            (Extension, b'\n' | 0) => Err(Malformed::BadChunk),
            (Extension, _) => self.lengthen(Extension),
            (SizeLf, b'\n') => {
                self.line = 0;
                Ok(if self.size == 0 { Line } else { Data })
            }
            (DataCr, b'\r') => Ok(DataLf),
            (DataLf, b'\n') => Ok(FirstDigit),
            (Line, b'\r') => Ok(EndLf),
            (Line, b' ' | b'\t') => Err(Malformed::ObsFold),
            (Line | Trailer, b'\n' | 0) => Err(Malformed::BadChunk),
            (Trailer, b'\r') => Ok(TrailerLf),
            (Line | Trailer, _) => {
                self.room = self
                    .room
                    .checked_sub(1)
                    .ok_or(Malformed::TrailersTooLarge)?;
                Ok(Trailer)
            }
            (TrailerLf, b'\n') => Ok(Line),
            (EndLf, b'\n') => Ok(Done),
            _ => Err(Malformed::BadChunk),
        }
    }

    /// One more byte besides the size in a chunk's line.
    fn lengthen(&mut self, next: ChunkState) -> Result<ChunkState, Malformed> {
        self.line += 1;
        match self.line > CHUNK_LINE_BYTES {
            true => Err(Malformed::ChunkLineTooLong),
            false => Ok(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content, how many bytes the body had, and whether it is complete.
    fn read(mut body: Body, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize), Malformed> {
        let (mut content, mut used) = (Vec::new(), 0);
        for part in bytes.chunks(piece) {
            let mut at = 0;
            while at < part.len() {
                let step = body.step(&part[at..])?;
                at += step.used;
                content.extend_from_slice(&part[at - step.content..at]);
                if step.is_end {
                    return Ok((content, used + at));
                }
            }
            used += part.len();
        }
        Ok((content, usize::MAX))
    }

    #[test]
    fn chunks_are_read_wherever_they_are_cut() {
        let bytes = b"4\t \r\nWiki\r\n006 ;a=\"b\" ;c\r\npedia \r\n0\r\nA: b\r\nC:\r\n\r\nGET";
        for piece in 1..bytes.len() {
            let read = read(Body::chunked(100), bytes, piece);
            assert_eq!(read, Ok((b"Wikipedia ".to_vec(), bytes.len() - 3)));
        }
    }

    #[test]
    fn what_is_no_chunk_is_named() {
        let long = format!("1;{}\r\n", "a".repeat(4097));
        let blank = format!("1{}\r\n", " ".repeat(4097));
        for (bytes, problem) in [
            (&b"\r\n"[..], Malformed::BadChunk),
            (b"-1\r\n", Malformed::BadChunk),
            (b"0x4\r\n", Malformed::BadChunk),
            (b"4\nWiki\r\n", Malformed::BadChunk),
            (b"4\r\nWikix\r\n", Malformed::BadChunk),
            (b"4\r\nWiki\n0\r\n", Malformed::BadChunk),
            (b"4;a\nWiki\r\n", Malformed::BadChunk),
            (b"10000000000000000\r\n", Malformed::BadChunk),
            (b"0\r\nA: b\n\n", Malformed::BadChunk),
            (b"0\r\nA: b\r\n c\r\n", Malformed::ObsFold),
            (b"0\r\nA: 123456789\r\n\r\n", Malformed::TrailersTooLarge),
            (b"4 x\r\nWiki\r\n", Malformed::BadChunk),
            (b"4\t 4\r\nWiki\r\n", Malformed::BadChunk),
            (long.as_bytes(), Malformed::ChunkLineTooLong),
            (blank.as_bytes(), Malformed::ChunkLineTooLong),
        ] {
            assert_eq!(read(Body::chunked(10), bytes, 1), Err(problem));
            assert_eq!(read(Body::chunked(10), bytes, bytes.len()), Err(problem));
        }
    }

    #[test]
    fn a_hole_within_content_is_stepped_over() {
        let mut body = Body::Length(10);
        assert!(body.skip_hole(Some(4)) && !body.skip_hole(Some(7)) && !body.skip_hole(None));
        assert_eq!(body.skip(b"123456GET"), Ok((6, true)));
        let mut body = Body::chunked(0);
        assert!(!body.skip_hole(Some(1)));
        assert_eq!(body.skip(b"5\r\n1"), Ok((4, false)));
        assert!(body.skip_hole(Some(4)));
        assert_eq!(body.skip(b"\r\n0\r\n\r\n"), Ok((7, true)));
    }
}
