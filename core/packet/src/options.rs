//! The TCP options this product understands; all others are skipped.

use crate::TcpFlags;

/// The options area of a TCP header, in bytes, at most (RFC 9293 section 3.1).
pub const MAX_OPTIONS_LEN: usize = 40;

/// The largest window scale shift (RFC 7323 section 2.3).
pub const MAX_WINDOW_SCALE: u8 = 14;

/// SACK blocks that fit a header (RFC 2018 section 3: four, three beside timestamps).
pub const MAX_SACK_BLOCKS: usize = 4;

/// One SACK block in a header, in bytes.
const SACK_BLOCK_LEN: usize = 8;

// Option kinds, as IANA numbers them.
const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// One SACK block: the bytes `[start, end)` of the receiver's space that have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlock {
    /// First sequence number of the block.
    pub start: u32,
    /// The sequence number after its last.
    pub end: u32,
}

/// Up to [`MAX_SACK_BLOCKS`] SACK blocks, in header order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [SackBlock; MAX_SACK_BLOCKS],
    count: u8,
}

impl SackBlocks {
    /// Adds a block; returns whether there was room.
    pub fn push(&mut self, block: SackBlock) -> bool {
        let Some(slot) = self.blocks.get_mut(usize::from(self.count)) else {
            return false;
        };
        *slot = block;
        self.count += 1;
        true
    }

    /// The blocks, in header order.
    #[must_use]
    pub fn as_slice(&self) -> &[SackBlock] {
        &self.blocks[..usize::from(self.count)]
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The timestamps option (RFC 7323 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// `TSval`: the sender's clock.
    pub value: u32,
    /// `TSecr`: the peer's clock, echoed.
    pub echo: u32,
}

/// The options of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size (RFC 9293 section 3.7.1), SYN only, in bytes.
    pub mss: Option<u16>,
    /// Window scale shift (RFC 7323 section 2), SYN only, 0 to 14; larger ones are read as 14.
    pub window_scale: Option<u8>,
    /// SACK-permitted (RFC 2018 section 2), SYN only.
    pub sack_permitted: bool,
    /// SACK blocks (RFC 2018 section 3).
    pub sack: SackBlocks,
    /// Timestamps (RFC 7323 section 3).
    pub timestamps: Option<Timestamps>,
}

impl TcpOptions {
    /// Reads the options area of a header. Unknown options are skipped, and so are those with a
    /// length other than their RFC's; an option that reaches beyond the area ends the reading.
    ///
    /// MSS, window scale and SACK-permitted count only on a segment with SYN, SACK blocks only on
    /// one without.
    #[must_use]
    pub fn parse(area: &[u8], flags: TcpFlags) -> Self {
        let syn = flags.contains(TcpFlags::SYN);
        let mut options = Self::default();
        let mut rest = area;
        // What nearly every segment of an established connection carries, and nothing else.
        if let [
            NOP,
            NOP,
            TIMESTAMPS,
            10,
            v0,
            v1,
            v2,
            v3,
            e0,
            e1,
            e2,
            e3,
            after @ ..,
        ] = area
        {
            options.timestamps = Some(Timestamps {
                value: u32::from_be_bytes([*v0, *v1, *v2, *v3]),
                echo: u32::from_be_bytes([*e0, *e1, *e2, *e3]),
            });
            rest = after;
        }
        while let [kind, after @ ..] = rest {
            match *kind {
                END => break,
                NOP => rest = after,
                kind => {
                    let Some((&length, _)) = after.split_first() else {
                        break;
                    };
                    let Some(option) = rest.get(..usize::from(length)) else {
                        break;
                    };
                    let Some(value) = option.get(2..) else { break };
                    options.read_option(kind, value, syn);
                    rest = &rest[option.len()..];
                }
            }
        }
        options
    }

    /// Bytes the options take up in a header of a segment with these flags: a multiple of 4, at
    /// most [`MAX_OPTIONS_LEN`].
    #[must_use]
    pub fn encoded_len(&self, flags: TcpFlags) -> usize {
        self.encode(flags).len()
    }

    /// The options as they stand in a header.
    ///
    /// On a segment with SYN in Linux's order: MSS, SACK-permitted, timestamps, window scale.
    /// Without: timestamps, then SACK blocks, as many as fit (RFC 2018 section 3). What does not
    /// belong on the segment is left out.
    pub(crate) fn encode(&self, flags: TcpFlags) -> EncodedOptions {
        let mut out = EncodedOptions {
            bytes: [0; MAX_OPTIONS_LEN],
            length: 0,
        };
        if flags.contains(TcpFlags::SYN) {
            if let Some(mss) = self.mss {
                out.push(&[MSS, 4]);
                out.push(&mss.to_be_bytes());
            }
            match (self.sack_permitted, self.timestamps) {
                (true, Some(_)) => out.push(&[SACK_PERMITTED, 2]),
                (true, None) => out.push(&[NOP, NOP, SACK_PERMITTED, 2]),
                (false, Some(_)) => out.push(&[NOP, NOP]),
                (false, None) => {}
            }
            self.encode_timestamps(&mut out);
            if let Some(shift) = self.window_scale {
                out.push(&[NOP, WINDOW_SCALE, 3, shift.min(MAX_WINDOW_SCALE)]);
            }
        } else {
            if self.timestamps.is_some() {
                out.push(&[NOP, NOP]);
            }
            self.encode_timestamps(&mut out);
            self.encode_sack(&mut out);
        }
        out
    }

    fn encode_timestamps(&self, out: &mut EncodedOptions) {
        if let Some(Timestamps { value, echo }) = self.timestamps {
            out.push(&[TIMESTAMPS, 10]);
            out.push(&value.to_be_bytes());
            out.push(&echo.to_be_bytes());
        }
    }

    fn encode_sack(&self, out: &mut EncodedOptions) {
        let room = (MAX_OPTIONS_LEN - out.len() - 4) / SACK_BLOCK_LEN;
        let blocks = self.sack.as_slice();
        let blocks = &blocks[..blocks.len().min(room)];
        if blocks.is_empty() {
            return;
        }
        let length = 2 + SACK_BLOCK_LEN * blocks.len();
        out.push(&[
            NOP,
            NOP,
            SACK,
            u8::try_from(length).expect("at most four blocks"),
        ]);
        for block in blocks {
            out.push(&block.start.to_be_bytes());
            out.push(&block.end.to_be_bytes());
        }
    }

    fn read_option(&mut self, kind: u8, value: &[u8], syn: bool) {
        match (kind, value) {
            (MSS, [high, low]) if syn => self.mss = Some(u16::from_be_bytes([*high, *low])),
            (WINDOW_SCALE, [shift]) if syn => {
                self.window_scale = Some((*shift).min(MAX_WINDOW_SCALE));
            }
            (SACK_PERMITTED, []) if syn => self.sack_permitted = true,
            (TIMESTAMPS, [v0, v1, v2, v3, e0, e1, e2, e3]) => {
                self.timestamps = Some(Timestamps {
                    value: u32::from_be_bytes([*v0, *v1, *v2, *v3]),
                    echo: u32::from_be_bytes([*e0, *e1, *e2, *e3]),
                });
            }
            (SACK, blocks) if !syn && blocks.len() % SACK_BLOCK_LEN == 0 => {
                for block in blocks.chunks_exact(SACK_BLOCK_LEN) {
                    let (start, end) = block.split_at(4);
                    self.sack.push(SackBlock {
                        start: u32::from_be_bytes(start.try_into().expect("half a block")),
                        end: u32::from_be_bytes(end.try_into().expect("half a block")),
                    });
                }
            }
            _ => {}
        }
    }
}

/// An options area being written; its length is a multiple of 4 once the options are complete.
pub(crate) struct EncodedOptions {
    bytes: [u8; MAX_OPTIONS_LEN],
    length: usize,
}

impl EncodedOptions {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

#[cfg(test)]
mod tests;
