//! The compressed protocol: a header of 7 bytes around pieces of the stream, each compressed on its
//! own or, where that does not pay, as it is.

use std::io::{Cursor, Read};

use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// Bytes of a compressed packet's header: length, sequence number, length before compression.
const HEADER: usize = 7;

/// So much comes out of one call.
const CHUNK: usize = 16 * 1024;

/// What a zstd frame may ask to be remembered of what it has said: more than any 16 MiB need.
const WINDOW_BYTES: u64 = 32 << 20;

/// How a zstd frame begins.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A stream that is not compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Takes the compressed packets off a stream. Each tells by its first byte how it is compressed.
#[derive(Debug, Default)]
pub(crate) struct Unpacker {
    header: Vec<u8>,
    body: Body,
}

/// What comes out of the packet whose header is complete.
#[derive(Default)]
enum Body {
    /// The header is not complete.
    #[default]
    None,
    /// What is in it shows with the next byte.
    Unseen { packed: usize, unpacked: usize },
    /// So many bytes still to come, as they are.
    Plain(usize),
    Zlib {
        stream: Box<Decompress>,
        packed: usize,
        unpacked: usize,
    },
    /// A frame that is gathered, up to this length.
    ZstdGathered {
        frame: Vec<u8>,
        packed: usize,
        unpacked: usize,
    },
    Zstd {
        stream: Box<StreamingDecoder<Cursor<Vec<u8>>, FrameDecoder>>,
        unpacked: usize,
    },
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::None | Self::Unseen { .. } => "None",
            Self::Plain(_) => "Plain",
            Self::Zlib { .. } => "Zlib",
            Self::ZstdGathered { .. } | Self::Zstd { .. } => "Zstd",
        })
    }
}

impl Unpacker {
    /// Puts a piece of the stream within into `out`, which is emptied first. False when `input` is
    /// taken and nothing more comes out of it.
    ///
    /// # Errors
    /// What comes can't be unpacked; the stream is lost.
    pub(crate) fn next(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, Corrupt> {
        out.clear();
        loop {
            let progress = match &mut self.body {
                Body::None => self.begin(input),
                Body::Unseen { .. } => self.look(input),
                Body::Plain(rest) => {
                    let (bytes, tail) = input.split_at(input.len().min(*rest).min(CHUNK));
                    *input = tail;
                    out.extend_from_slice(bytes);
                    *rest -= bytes.len();
                    !bytes.is_empty()
                }
                Body::Zlib { .. } => self.inflate(input, out)?,
                Body::ZstdGathered { .. } => self.gather(input)?,
                Body::Zstd { .. } => self.decode(out)?,
            };
            self.end_packet();
            if !out.is_empty() {
                return Ok(true);
            }
            if !progress {
                return Ok(false);
            }
        }
    }

    fn begin(&mut self, input: &mut &[u8]) -> bool {
        let (head, tail) = input.split_at(input.len().min(HEADER - self.header.len()));
        self.header.extend_from_slice(head);
        *input = tail;
        let &[a, b, c, _, d, e, f] = self.header.as_slice() else {
            return false;
        };
        self.header.clear();
        let packed = u32::from_le_bytes([a, b, c, 0]) as usize;
        let unpacked = u32::from_le_bytes([d, e, f, 0]) as usize;
        self.body = match unpacked {
            0 => Body::Plain(packed),
            unpacked => Body::Unseen { packed, unpacked },
        };
        true
    }

    fn look(&mut self, input: &[u8]) -> bool {
        let Body::Unseen { packed, unpacked } = self.body else {
            return false;
        };
        self.body = match input.first() {
            None => return false,
            // No zlib stream begins so.
            Some(first) if *first == ZSTD_MAGIC[0] => Body::ZstdGathered {
                frame: Vec::new(),
                packed,
                unpacked,
            },
            Some(_) => Body::Zlib {
                stream: Box::new(Decompress::new(true)),
                packed,
                unpacked,
            },
        };
        true
    }

    /// The next packet's header is next, where this one is complete.
    fn end_packet(&mut self) {
        let is_complete = match &self.body {
            Body::Plain(rest) => *rest == 0,
            Body::Zlib {
                packed, unpacked, ..
            } => *packed == 0 && *unpacked == 0,
            Body::Zstd { unpacked, .. } => *unpacked == 0,
            Body::None | Body::Unseen { .. } | Body::ZstdGathered { .. } => false,
        };
        if is_complete {
            self.body = Body::None;
        }
    }

    fn inflate(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, Corrupt> {
        let Body::Zlib {
            stream,
            packed,
            unpacked,
        } = &mut self.body
        else {
            return Ok(false);
        };
        let piece = &input[..input.len().min(*packed)];
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        out.reserve_exact(CHUNK);
        let status = stream
            .decompress_vec(piece, out, FlushDecompress::None)
            .map_err(|_| Corrupt)?;
        let taken = (stream.total_in() - before_in) as usize;
        let made = (stream.total_out() - before_out) as usize;
        *input = &input[taken..];
        *packed -= taken;
        *unpacked = unpacked.checked_sub(made).ok_or(Corrupt)?;
        if status == Status::StreamEnd && (*packed > 0 || *unpacked > 0) {
            return Err(Corrupt);
        }
        let is_stuck = taken == 0 && made == 0;
        if is_stuck && (*packed == 0 || !piece.is_empty()) {
            return Err(Corrupt);
        }
        Ok(!is_stuck)
    }

    fn gather(&mut self, input: &mut &[u8]) -> Result<bool, Corrupt> {
        let Body::ZstdGathered {
            frame,
            packed,
            unpacked,
        } = &mut self.body
        else {
            return Ok(false);
        };
        let (bytes, tail) = input.split_at(input.len().min(*packed - frame.len()));
        frame.extend_from_slice(bytes);
        *input = tail;
        if frame.len() < *packed {
            return Ok(false);
        }
        if zstd_window(frame).is_none_or(|window| window > WINDOW_BYTES) {
            return Err(Corrupt);
        }
        let frame = Cursor::new(std::mem::take(frame));
        let stream = StreamingDecoder::new(frame).map_err(|_| Corrupt)?;
        self.body = Body::Zstd {
            stream: Box::new(stream),
            unpacked: *unpacked,
        };
        Ok(true)
    }

    fn decode(&mut self, out: &mut Vec<u8>) -> Result<bool, Corrupt> {
        let Body::Zstd { stream, unpacked } = &mut self.body else {
            return Ok(false);
        };
        out.resize(CHUNK.min(*unpacked), 0);
        let made = stream.read(out).map_err(|_| Corrupt)?;
        out.truncate(made);
        *unpacked -= made;
        match made {
            0 => Err(Corrupt),
            _ => Ok(true),
        }
    }
}

/// What a zstd frame asks to be remembered (RFC 8878, section 3.1.1.1).
fn zstd_window(frame: &[u8]) -> Option<u64> {
    let descriptor = *frame.strip_prefix(&ZSTD_MAGIC)?.first()?;
    let rest = &frame[ZSTD_MAGIC.len() + 1..];
    if descriptor & 0x20 == 0 {
        let window = *rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // One segment: the window is the content. Dictionaries are agreed upon by nobody here.
    let (length, offset) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let mut size = [0; 8];
    size[..length].copy_from_slice(rest.get(..length)?);
    Some(u64::from_le_bytes(size).saturating_add(offset))
}

#[cfg(test)]
pub(crate) mod testing {
    //! The other way round, for tests.

    use std::io::Write;

    /// How a packet is compressed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Algorithm {
        Zlib,
        Zstd,
    }

    /// A compressed packet.
    pub(crate) fn pack(algorithm: Option<Algorithm>, sequence: u8, bytes: &[u8]) -> Vec<u8> {
        let (packed, unpacked) = match algorithm {
            None => (bytes.to_vec(), 0),
            Some(Algorithm::Zlib) => {
                let mut encoder =
                    flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).expect("to memory");
                (encoder.finish().expect("to memory"), bytes.len())
            }
            Some(Algorithm::Zstd) => {
                let level = ruzstd::encoding::CompressionLevel::Fastest;
                (ruzstd::encoding::compress_to_vec(bytes, level), bytes.len())
            }
        };
        let mut out = (packed.len() as u32).to_le_bytes();
        out[3] = sequence;
        let mut out = out.to_vec();
        out.extend_from_slice(&(unpacked as u32).to_le_bytes()[..3]);
        out.extend_from_slice(&packed);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::{Algorithm, pack};
    use super::*;

    fn unpacked(stream: &[u8], chunk: usize) -> Result<Vec<u8>, Corrupt> {
        let mut unpacker = Unpacker::default();
        let (mut all, mut piece) = (Vec::new(), Vec::new());
        for mut input in stream.chunks(chunk) {
            while unpacker.next(&mut input, &mut piece)? {
                assert!(piece.len() <= CHUNK * 2);
                all.extend_from_slice(&piece);
            }
            assert!(input.is_empty());
        }
        Ok(all)
    }

    #[test]
    fn what_was_packed_is_unpacked_wherever_it_is_cut() {
        let long: Vec<u8> = (0..100_000_u32)
            .flat_map(|at| (at / 7).to_le_bytes())
            .collect();
        let pieces = [&b"short"[..], &long, b"", &[0; 50_000]];
        let expected = pieces.concat();
        for algorithm in [Algorithm::Zlib, Algorithm::Zstd] {
            let mut stream = Vec::new();
            for (at, piece) in pieces.iter().enumerate() {
                let algorithm = (at > 0 && !piece.is_empty()).then_some(algorithm);
                stream.extend(pack(algorithm, at as u8, piece));
            }
            for chunk in [1, 7, 1000, stream.len()] {
                let found = unpacked(&stream, chunk).expect("well packed");
                assert!(found == expected, "{algorithm:?} {chunk}");
            }
        }
    }

    #[test]
    fn lies_about_the_length_are_found() {
        for algorithm in [Algorithm::Zlib, Algorithm::Zstd] {
            let mut stream = pack(Some(algorithm), 0, &[7; 1000]);
            stream[4] = 100;
            let shorter = unpacked(&stream, 50);
            stream[5] = 200;
            let longer = unpacked(&stream, 50);
            assert_eq!(longer, Err(Corrupt), "{algorithm:?}");
            assert!(shorter.is_ok_and(|it| it.len() <= 1000) || algorithm == Algorithm::Zlib);
        }
        let huge = [
            &[10, 0, 0, 0, 1, 0, 0][..],
            &[0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 0, 0, 0, 0],
        ];
        assert_eq!(unpacked(&huge.concat(), 99), Err(Corrupt));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            zstd in any::<bool>(),
            cut in 1_usize..50,
        ) {
            let algorithm = if zstd { Algorithm::Zstd } else { Algorithm::Zlib };
            let _ = unpacked(&bytes, cut);
            let mut packed = pack(Some(algorithm), 0, &[3; 200]);
            for (at, byte) in bytes.iter().enumerate().take(3) {
                let place = (at * 31 + usize::from(*byte)) % packed.len();
                packed[place] ^= byte | 1;
            }
            packed.truncate(HEADER + 200);
            let _ = unpacked(&packed, cut);
        }
    }
}
