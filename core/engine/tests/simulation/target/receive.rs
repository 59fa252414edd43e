//! The model target's receiving half: order, window, what has come out of order.

use std::collections::BTreeMap;

use tcpcopy_packet::{SackBlock, SackBlocks};

/// What a segment's arrival meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It brought the next bytes.
    InOrder,
    /// It brought the next bytes and joined them to what lay beyond a hole.
    FilledHole,
    /// Something before it is missing.
    OutOfOrder,
    /// Nothing new, or nothing that fits the window.
    Nothing,
}

/// Positions are offsets from the peer's initial sequence number: its SYN is 0, data begins at 1.
#[derive(Debug)]
pub(crate) struct Receiver {
    initial_seq: u32,
    /// RFC 9293's RCV.NXT.
    pub(crate) next: u64,
    /// All data received in order.
    pub(crate) stream: Vec<u8>,
    out_of_order: BTreeMap<u64, Vec<u8>>,
    /// The block that changed last, which SACK reports first (RFC 2018 section 4).
    latest_block: u64,
    fin_at: Option<u64>,
    buffer_bytes: u64,
    /// The highest right edge ever advertised.
    edge: u64,
    shift: u8,
    mss: u64,
    /// Whether the latest window told was zero.
    pub(crate) told_zero: bool,
}

impl Receiver {
    pub(crate) fn new(initial_seq: u32, buffer_bytes: u64, shift: u8, mss: u16) -> Self {
        Self {
            initial_seq,
            next: 1,
            stream: Vec::new(),
            out_of_order: BTreeMap::new(),
            latest_block: 0,
            fin_at: None,
            buffer_bytes,
            edge: 1,
            shift,
            mss: u64::from(mss),
            told_zero: false,
        }
    }

    /// The offset a sequence number stands for, near RCV.NXT; negative before the SYN.
    pub(crate) fn offset(&self, seq: u32) -> i64 {
        let distance = seq.wrapping_sub(self.seq_at(self.next)).cast_signed();
        self.next.cast_signed() + i64::from(distance)
    }

    fn seq_at(&self, offset: u64) -> u32 {
        let low = u32::try_from(offset & u64::from(u32::MAX)).expect("masked");
        self.initial_seq.wrapping_add(low)
    }

    pub(crate) fn next_seq(&self) -> u32 {
        self.seq_at(self.next)
    }

    /// Whether the peer's FIN and all before it have come.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin_at.is_some_and(|at| self.next > at)
    }

    /// RFC 9293 section 3.10.7.4, as widely done: touching the window is enough.
    pub(crate) fn is_acceptable(&self, offset: i64, sequence_len: u32) -> bool {
        let next = self.next.cast_signed();
        offset + i64::from(sequence_len) >= next && offset <= self.edge.cast_signed().max(next)
    }

    /// Whether an offset lies in the receive window.
    pub(crate) fn in_window(&self, offset: i64) -> bool {
        offset >= self.next.cast_signed()
            && offset <= self.edge.cast_signed().max(self.next.cast_signed())
    }

    /// Panics if data goes beyond every window ever advertised; one byte may, as a probe.
    pub(crate) fn check_within_window(&self, offset: i64, payload_len: u32) {
        let end = offset + i64::from(payload_len);
        let edge = self.edge.cast_signed();
        let probe = payload_len == 1 && offset <= edge;
        assert!(
            end <= edge || probe || payload_len == 0,
            "data {offset}..{end} beyond the advertised right edge {edge} (next {})",
            self.next
        );
    }

    /// Takes in a segment's data and FIN.
    pub(crate) fn insert(&mut self, offset: i64, payload: &[u8], fin: bool) -> Arrival {
        let end = offset + i64::try_from(payload.len()).expect("small");
        if fin && end <= self.edge.cast_signed().max(self.next.cast_signed()) {
            self.fin_at = u64::try_from(end).ok();
        }
        let start = offset.max(self.next.cast_signed());
        let stop = end.min(self.edge.cast_signed());
        let before = self.next;
        let had_hole = !self.out_of_order.is_empty();
        if start < stop {
            let range = [start, stop].map(|at| usize::try_from(at - offset).expect("inside"));
            let bytes = &payload[range[0]..range[1]];
            let start = u64::try_from(start).expect("after the SYN");
            if start > self.next {
                self.hold(start, bytes);
            } else {
                self.stream.extend_from_slice(bytes);
                self.next += bytes.len() as u64;
            }
        }
        self.join();
        if self.fin_at == Some(self.next) {
            self.next += 1;
        }
        match (self.next > before, had_hole) {
            (true, true) => Arrival::FilledHole,
            (true, false) => Arrival::InOrder,
            (false, _) if start < stop => Arrival::OutOfOrder,
            (false, _) => Arrival::Nothing,
        }
    }

    fn hold(&mut self, start: u64, bytes: &[u8]) {
        self.latest_block = start;
        let longer = self
            .out_of_order
            .get(&start)
            .is_none_or(|held| held.len() < bytes.len());
        if longer {
            self.out_of_order.insert(start, bytes.to_vec());
        }
    }

    fn join(&mut self) {
        while let Some(entry) = self.out_of_order.first_entry() {
            if *entry.key() > self.next {
                return;
            }
            let (start, bytes) = entry.remove_entry();
            let known = usize::try_from(self.next - start).expect("near");
            if let Some(fresh) = bytes.get(known..) {
                self.stream.extend_from_slice(fresh);
                self.next += fresh.len() as u64;
            }
        }
    }

    /// Blocks beyond the hole, the latest first; at most `most`.
    pub(crate) fn sack_blocks(&self, most: usize) -> SackBlocks {
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (&start, bytes) in &self.out_of_order {
            let end = start + bytes.len() as u64;
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        merged.sort_by_key(|&(start, end)| !(start..end).contains(&self.latest_block));
        let mut blocks = SackBlocks::default();
        for (start, end) in merged.into_iter().take(most) {
            blocks.push(SackBlock {
                start: self.seq_at(start),
                end: self.seq_at(end),
            });
        }
        blocks
    }

    /// The window field to send; `read` is how far the application has read.
    ///
    /// The right edge never goes back and moves only by steps that matter (RFC 9293 section
    /// 3.8.6.2.2).
    pub(crate) fn window_field(&mut self, read: u64, is_syn: bool) -> u16 {
        let shift = if is_syn { 0 } else { self.shift };
        let wanted = 1 + read + self.buffer_bytes;
        let step = self.mss.min(self.buffer_bytes / 2).max(1);
        let edge = if wanted >= self.edge + step {
            wanted
        } else {
            self.edge
        };
        let field = (edge.saturating_sub(self.next) >> shift).min(u64::from(u16::MAX));
        self.edge = self.edge.max(self.next + (field << shift));
        self.told_zero = field == 0;
        u16::try_from(field).expect("limited")
    }

    /// Whether a peer that was told of no room should hear that there is some now.
    pub(crate) fn should_reopen(&self, read: u64) -> bool {
        let step = self.mss.min(self.buffer_bytes / 2).max(1 << self.shift);
        self.told_zero && 1 + read + self.buffer_bytes >= self.next + step
    }
}
