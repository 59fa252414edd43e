//! One direction of a captured connection put back in order.
//!
//! Segments come as the capture saw them: out of order, twice, overlapping, with bytes missing
//! (RFC 9293 section 3.10.7.4 is the receiver this follows). Bytes that are next in order are
//! handed on at once, borrowed from the segment; others are copied and held until the hole before
//! them is filled. Where two segments carry different bytes for one position, those that came
//! first win, and an end of the stream that contradicts bytes that came first is ignored.

mod held;
#[cfg(test)]
mod tests;

use tcpcopy_packet::SequenceNumber;

use self::held::{Fin, Held, HeldPiece};
use crate::Instant;

/// Most bytes held out of order in one direction.
pub const MAX_HELD_BYTES: usize = 8 << 20;

/// Most pieces held out of order in one direction. A full [`MAX_HELD_BYTES`] of Ethernet's
/// segments fits; it bounds what a client that sends single bytes can make us hold besides them.
pub const MAX_HELD_SEGMENTS: usize = 8192;

/// A segment that begins further than this from the next byte in order, in bytes, belongs to no
/// window: windows are at most this large (RFC 7323 section 2.3).
pub const MAX_DISTANCE: u32 = 1 << 30;

/// What a captured segment brings to its stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamSegment<'a, S> {
    /// The number of the first payload byte (after the SYN, where there is one).
    pub seq: S,
    /// The acknowledgement field, handed through.
    pub ack: u32,
    /// The captured payload; fewer than [`MAX_DISTANCE`] bytes.
    pub payload: &'a [u8],
    /// Whether the stream ends after the payload.
    pub fin: bool,
}

/// Bytes of the stream that follow those handed on before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The bytes; empty only where `fin` is set.
    pub payload: &'a [u8],
    /// The acknowledgement field of the segment that brought them first.
    pub ack: u32,
    /// Whether the stream ends after them. Nothing follows then.
    pub fin: bool,
}

/// What became of a segment's payload. The byte counts add up to its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Bytes that were in order and were handed on at once.
    pub delivered_bytes: u32,
    /// Bytes that wait for a hole to be filled.
    pub held_bytes: u32,
    /// Bytes whose position was known already.
    pub duplicate_bytes: u32,
    /// Bytes beyond the end of the stream.
    pub after_fin_bytes: u32,
    /// Bytes thrown away because [`MAX_HELD_BYTES`] or [`MAX_HELD_SEGMENTS`] was reached. The hole
    /// they leave is permanent unless they are sent again.
    pub over_limit_bytes: u32,
    /// Bytes of a segment further away than [`MAX_DISTANCE`], which was ignored as a whole.
    pub outlandish_bytes: u32,
}

/// The reassembly of one direction, see the [module](self). Small as long as nothing is held.
#[derive(Debug)]
pub struct Reassembly<S> {
    next: S,
    is_finished: bool,
    /// Only there while there is a hole.
    held: Option<Box<Held<S>>>,
}

impl<S: SequenceNumber> Reassembly<S> {
    /// A stream whose first byte has the number `first` (the initial sequence number plus one).
    #[must_use]
    pub fn new(first: S) -> Self {
        Self {
            next: first,
            is_finished: false,
            held: None,
        }
    }

    /// Takes in a segment and hands on, through `deliver`, all that is in order now.
    pub fn insert(
        &mut self,
        now: Instant,
        segment: StreamSegment<'_, S>,
        deliver: &mut impl FnMut(Piece<'_>),
    ) -> Inserted {
        let StreamSegment {
            seq,
            ack,
            payload,
            fin,
        } = segment;
        if self.held.is_none() && seq == self.next && !self.is_finished {
            if !payload.is_empty() || fin {
                self.next += len(payload);
                self.is_finished = fin;
                deliver(Piece { payload, ack, fin });
            }
            return Inserted {
                delivered_bytes: len(payload),
                ..Inserted::default()
            };
        }
        if seq.since(self.next).unsigned_abs() > MAX_DISTANCE {
            return Inserted {
                outlandish_bytes: len(payload),
                ..Inserted::default()
            };
        }
        if fin {
            self.note_fin(Fin {
                at: seq + len(payload),
                ack,
                arrived: now,
            });
        }
        let inserted = self.insert_payload(now, segment, deliver);
        self.settle(deliver);
        inserted
    }

    /// The number of the next byte in order, which is missing if anything is held.
    #[must_use]
    pub fn next(&self) -> S {
        self.next
    }

    /// Whether the stream has ended and all of it was handed on.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// How many bytes wait for a hole to be filled.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes())
    }

    /// When the hole at [`next`](Self::next) was first seen; `None` when there is none.
    #[must_use]
    pub fn gap_since(&self) -> Option<Instant> {
        self.held.as_ref().and_then(|held| held.since())
    }

    /// Length of the hole at [`next`](Self::next) in bytes; `None` when there is none.
    #[must_use]
    pub fn gap_len(&self) -> Option<u32> {
        let resume = self.held.as_ref()?.first()?;
        Some(distance(self.next, resume))
    }

    /// Gives up the hole at [`next`](Self::next): goes on with what follows it. Returns the hole's
    /// length in bytes; `None` when there is no hole.
    pub fn skip_gap(&mut self, deliver: &mut impl FnMut(Piece<'_>)) -> Option<u32> {
        let hole = self.gap_len()?;
        self.next += hole;
        self.deliver_held(deliver);
        self.settle(deliver);
        Some(hole)
    }

    /// Remembers the end of the stream, unless an end is known or bytes beyond it are.
    fn note_fin(&mut self, fin: Fin<S>) {
        if self.is_finished || fin.at.since(self.next) < 0 {
            return;
        }
        self.held.get_or_insert_default().note_fin(fin);
    }

    fn insert_payload(
        &mut self,
        now: Instant,
        segment: StreamSegment<'_, S>,
        deliver: &mut impl FnMut(Piece<'_>),
    ) -> Inserted {
        let mut inserted = Inserted::default();
        let mut seq = segment.seq;
        let mut rest = segment.payload;
        while !rest.is_empty() {
            let (extent, extent_len) = self.extent_at(seq);
            let (part, after) = rest.split_at(rest.len().min(extent_len as usize));
            let part_len = len(part);
            match extent {
                Extent::Known => inserted.duplicate_bytes += part_len,
                Extent::AfterFin => inserted.after_fin_bytes += part_len,
                Extent::Novel if seq == self.next => {
                    inserted.delivered_bytes += part_len;
                    self.deliver(part, segment.ack, deliver);
                    self.deliver_held(deliver);
                }
                Extent::Novel => {
                    let piece = HeldPiece {
                        seq,
                        ack: segment.ack,
                        arrived: now,
                        payload: part.into(),
                    };
                    if self.held.get_or_insert_default().insert(piece) {
                        inserted.held_bytes += part_len;
                    } else {
                        inserted.over_limit_bytes += part_len;
                    }
                }
            }
            seq += part_len;
            rest = after;
        }
        inserted
    }

    /// What is known of the position `seq`, and for how many bytes from there that holds.
    fn extent_at(&self, seq: S) -> (Extent, u32) {
        if seq.since(self.next) < 0 {
            return (Extent::Known, distance(seq, self.next));
        }
        if self.is_finished {
            return (Extent::AfterFin, u32::MAX);
        }
        self.held
            .as_ref()
            .map_or((Extent::Novel, u32::MAX), |held| held.extent_at(seq))
    }

    /// Hands on bytes that are next in order.
    fn deliver(&mut self, payload: &[u8], ack: u32, deliver: &mut impl FnMut(Piece<'_>)) {
        self.next += len(payload);
        let end = self.held.as_ref().and_then(|held| held.fin);
        // An end that came with another segment is handed on by `settle`, with its own ack.
        let fin = end.is_some_and(|end| end.at == self.next && end.ack == ack);
        self.is_finished = fin;
        deliver(Piece { payload, ack, fin });
    }

    /// Hands on the held pieces that follow without a hole.
    fn deliver_held(&mut self, deliver: &mut impl FnMut(Piece<'_>)) {
        while let Some(piece) = self.held.as_mut().and_then(|held| held.pop_at(self.next)) {
            self.deliver(&piece.payload, piece.ack, deliver);
        }
    }

    /// Ends the stream if its end is reached, and frees what is no longer needed.
    fn settle(&mut self, deliver: &mut impl FnMut(Piece<'_>)) {
        let Some(held) = &self.held else { return };
        if let Some(fin) = held
            .fin
            .filter(|fin| fin.at == self.next && !self.is_finished)
        {
            self.is_finished = true;
            deliver(Piece {
                payload: &[],
                ack: fin.ack,
                fin: true,
            });
        }
        if self.is_finished || held.is_empty() {
            self.held = None;
        }
    }
}

/// What is known of a stretch of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Its bytes have come.
    Known,
    /// Its bytes have not come.
    Novel,
    /// The stream ended before it.
    AfterFin,
}

fn len(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).expect("a segment's payload is far smaller than 4 GiB")
}

/// The bytes from `from` to `to`, which does not lie before it.
fn distance<S: SequenceNumber>(from: S, to: S) -> u32 {
    to.since(from).cast_unsigned()
}
