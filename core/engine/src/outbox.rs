//! The bytes on their way to the target, kept until nobody will ask for them again: the mirror's until
//! the target has acknowledged them, a socket's until the kernel has taken them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Bytes of memory that a chunk costs beside its payload.
const CHUNK_OVERHEAD_BYTES: u64 = 64;

/// A queue of chunks addressed by stream offset: `[start, end)` is what it holds.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Bytes>,
    start: u64,
    end: u64,
    /// Where the last read ended: a chunk's index and the offset of its first byte. In a long queue
    /// the next read begins here instead of at the front.
    cursor: (usize, u64),
}

impl Outbox {
    /// Offset after the last byte ever queued.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Memory taken by what it holds, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.end - self.start + self.chunks.len() as u64 * CHUNK_OVERHEAD_BYTES
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.end += chunk.len() as u64;
        self.chunks.push_back(chunk);
    }

    /// Lets go of everything before `offset`.
    pub(crate) fn release_before(&mut self, offset: u64) {
        let offset = offset.min(self.end);
        let mut popped = 0;
        while let Some(front) = self.chunks.front_mut() {
            let front_end = self.start + front.len() as u64;
            if front_end > offset {
                front.advance((offset - self.start) as usize);
                self.start = offset;
                break;
            }
            self.start = front_end;
            self.chunks.pop_front();
            popped += 1;
        }
        if self.chunks.is_empty() {
            // A million idle sessions must not each keep the queue of their busiest moment.
            self.chunks = VecDeque::new();
        }
        self.cursor = match self.cursor.0.checked_sub(popped) {
            Some(index) if index > 0 => (index, self.cursor.1),
            _ => (0, self.start),
        };
    }

    /// The bytes `[from, to)`, which must lie within the queue, chunk by chunk.
    pub(crate) fn read(&mut self, from: u64, to: u64) -> impl Iterator<Item = &[u8]> + Clone {
        debug_assert!(
            self.start <= from && to <= self.end,
            "bytes that are not queued"
        );
        if from < self.cursor.1 {
            self.cursor = (0, self.start);
        }
        while let Some(chunk) = self.chunks.get(self.cursor.0) {
            let chunk_end = self.cursor.1 + chunk.len() as u64;
            if chunk_end > from {
                break;
            }
            self.cursor = (self.cursor.0 + 1, chunk_end);
        }
        let mut skip = (from - self.cursor.1) as usize;
        let mut left = (to - from) as usize;
        let mut index = self.cursor.0;
        let chunks = &self.chunks;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let chunk = chunks.get(index)?;
            let slice = &chunk[skip..chunk.len().min(skip + left)];
            (skip, left, index) = (0, left - slice.len(), index + 1);
            Some(slice)
        })
    }

    /// Takes out everything from `offset` on.
    pub(crate) fn split_off(&mut self, offset: u64) -> Vec<Bytes> {
        let mut chunk_start = self.start;
        let mut taken = Vec::new();
        // What lies before may have left without being acknowledged, so it stays.
        let mut kept = VecDeque::new();
        for mut chunk in std::mem::take(&mut self.chunks) {
            let chunk_end = chunk_start + chunk.len() as u64;
            if chunk_end > offset {
                taken.push(chunk.split_off(offset.saturating_sub(chunk_start) as usize));
            }
            if !chunk.is_empty() {
                kept.push_back(chunk);
            }
            chunk_start = chunk_end;
        }
        self.chunks = kept;
        self.end = offset.max(self.start).min(self.end);
        self.cursor = (0, self.start);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        let mut outbox = Outbox::default();
        for chunk in ["abc", "defgh", "i", "jkl"] {
            outbox.push(Bytes::from_static(chunk.as_bytes()));
        }
        outbox
    }

    fn text(outbox: &mut Outbox, from: u64, to: u64) -> String {
        let bytes: Vec<u8> = outbox.read(from, to).flatten().copied().collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn reads_across_chunks_forwards_and_back() {
        let mut outbox = outbox();
        assert_eq!(text(&mut outbox, 1, 10), "bcdefghij");
        assert_eq!(text(&mut outbox, 8, 12), "ijkl");
        assert_eq!(text(&mut outbox, 0, 2), "ab");
        assert_eq!(text(&mut outbox, 5, 5), "");
    }

    #[test]
    fn released_bytes_are_gone_and_the_rest_keeps_its_place() {
        let mut outbox = outbox();
        assert_eq!(text(&mut outbox, 9, 11), "jk");
        outbox.release_before(4);
        assert_eq!(text(&mut outbox, 4, 9), "efghi");
        outbox.release_before(10);
        assert_eq!(text(&mut outbox, 10, 12), "kl");
        outbox.release_before(99);
        assert_eq!(outbox.end(), 12);
        outbox.push(Bytes::from_static(b"mn"));
        assert_eq!(text(&mut outbox, 12, 14), "mn");
    }

    #[test]
    fn the_tail_can_be_taken_over() {
        let mut outbox = outbox();
        outbox.release_before(2);
        assert_eq!(outbox.split_off(6).concat(), b"ghijkl");
        assert_eq!(
            text(&mut outbox, 2, 6),
            "cdef",
            "it may have to be sent again"
        );
        assert_eq!(outbox.end(), 6);
    }
}
