//! What came before its turn.

use std::collections::VecDeque;

use tcpcopy_packet::SequenceNumber;

use super::{Extent, MAX_HELD_BYTES, MAX_HELD_SEGMENTS, distance, len};
use crate::Instant;

/// Bytes that wait for a hole before them to be filled.
#[derive(Debug)]
pub(super) struct HeldPiece<S> {
    pub(super) seq: S,
    pub(super) ack: u32,
    pub(super) arrived: Instant,
    pub(super) payload: Box<[u8]>,
}

impl<S: SequenceNumber> HeldPiece<S> {
    fn end(&self) -> S {
        self.seq + len(&self.payload)
    }
}

/// The end of the stream, known before it is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fin<S> {
    /// The number of the FIN, one after the last byte's.
    pub(super) at: S,
    pub(super) ack: u32,
    pub(super) arrived: Instant,
}

/// Pieces in order of their numbers, without overlap, none beyond the end.
#[derive(Debug)]
pub(super) struct Held<S> {
    pieces: VecDeque<HeldPiece<S>>,
    bytes: usize,
    pub(super) fin: Option<Fin<S>>,
}

impl<S> Default for Held<S> {
    fn default() -> Self {
        Self {
            pieces: VecDeque::new(),
            bytes: 0,
            fin: None,
        }
    }
}

impl<S: SequenceNumber> Held<S> {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.fin.is_none()
    }

    /// Where the stream goes on after the first hole.
    pub(super) fn first(&self) -> Option<S> {
        let piece = self.pieces.front().map(|piece| piece.seq);
        piece.or(self.fin.map(|fin| fin.at))
    }

    /// The earliest arrival: whatever is held shows that the first hole exists.
    pub(super) fn since(&self) -> Option<Instant> {
        let pieces = self.pieces.iter().map(|piece| piece.arrived);
        pieces.chain(self.fin.map(|fin| fin.arrived)).min()
    }

    /// Remembers the end, unless one is known or bytes beyond it are.
    pub(super) fn note_fin(&mut self, fin: Fin<S>) {
        let ends_before = self
            .pieces
            .back()
            .is_none_or(|last| fin.at.since(last.end()) >= 0);
        if self.fin.is_none() && ends_before {
            self.fin = Some(fin);
        }
    }

    /// What is known of the position `seq`, and for how many bytes from there that holds.
    pub(super) fn extent_at(&self, seq: S) -> (Extent, u32) {
        let to_fin = self
            .fin
            .map_or(u32::MAX, |fin| fin.at.since(seq).max(0).cast_unsigned());
        if to_fin == 0 {
            return (Extent::AfterFin, u32::MAX);
        }
        match self.pieces.get(self.index_after(seq)) {
            Some(piece) if piece.seq.since(seq) <= 0 => (Extent::Known, distance(seq, piece.end())),
            Some(piece) => (Extent::Novel, distance(seq, piece.seq)),
            None => (Extent::Novel, to_fin),
        }
    }

    /// Adds a piece that overlaps no other; refuses it when the limits are reached.
    pub(super) fn insert(&mut self, piece: HeldPiece<S>) -> bool {
        let bytes = self.bytes + piece.payload.len();
        if bytes > MAX_HELD_BYTES || self.pieces.len() == MAX_HELD_SEGMENTS {
            return false;
        }
        self.bytes = bytes;
        self.pieces.insert(self.index_after(piece.seq), piece);
        true
    }

    /// Takes the first piece if it begins at `seq`.
    pub(super) fn pop_at(&mut self, seq: S) -> Option<HeldPiece<S>> {
        self.pieces.front().filter(|piece| piece.seq == seq)?;
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.payload.len();
        Some(piece)
    }

    /// The place of the first piece that ends after `seq`.
    fn index_after(&self, seq: S) -> usize {
        self.pieces
            .partition_point(|piece| piece.end().since(seq) <= 0)
    }
}
