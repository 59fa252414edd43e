//! The target's bytes, for sessions with somebody who wants them: put in order beside the lengths
//! that [`Receiver`](super::receive::Receiver) keeps of every session.

use std::collections::BTreeMap;

/// Most bytes held beyond a hole. What is refused is not acknowledged, so that it comes again; a
/// target that keeps to the advertised window comes nowhere near it.
const MAX_HELD_BYTES: usize = 8 << 20;

/// Bytes in order that nobody has taken yet, and those that wait for a hole to be filled.
#[derive(Debug, Default)]
pub(super) struct Payload {
    ready: Vec<u8>,
    /// By the offset of their first byte; they may overlap.
    held: BTreeMap<u64, Box<[u8]>>,
    held_bytes: usize,
}

impl Payload {
    /// Takes the bytes that have come in order since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    /// Memory that they take.
    pub(super) fn memory_bytes(&self) -> u64 {
        (self.ready.len() + self.held_bytes) as u64
    }

    /// Whether so many more bytes may wait.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.held_bytes + bytes <= MAX_HELD_BYTES
    }

    /// Bytes that follow those before.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.ready.extend_from_slice(bytes);
    }

    /// Bytes beyond a hole.
    pub(super) fn hold(&mut self, start: u64, bytes: &[u8]) {
        let known = self.held.get(&start).map_or(0, |held| held.len());
        if known < bytes.len() {
            self.held.insert(start, bytes.into());
            self.held_bytes = self.held_bytes + bytes.len() - known;
        }
    }

    /// The bytes `[from, to)`, all of which are held, follow those before.
    pub(super) fn release(&mut self, mut from: u64, to: u64) {
        while let Some(entry) = self.held.first_entry()
            && *entry.key() < to
        {
            let start = *entry.key();
            let bytes = entry.remove();
            self.held_bytes -= bytes.len();
            let known = usize::try_from(from - start).unwrap_or(usize::MAX);
            if let Some(novel) = bytes.get(known..) {
                self.ready.extend_from_slice(novel);
                from += novel.len() as u64;
            }
        }
        debug_assert!(from >= to, "bytes that were not held");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_bytes_follow_once_however_often_they_came() {
        let mut payload = Payload::default();
        payload.hold(3, b"defg");
        payload.hold(5, b"fghij");
        payload.hold(3, b"de");
        payload.hold(5, b"fg");
        assert_eq!(payload.memory_bytes(), 9);
        payload.append(b"abc");
        payload.release(3, 10);
        assert_eq!(payload.take(), b"abcdefghij");
        assert_eq!(payload.memory_bytes(), 0);
    }

    #[test]
    fn what_was_known_when_the_hole_was_filled_is_left_out() {
        let mut payload = Payload::default();
        payload.hold(2, b"cdef");
        payload.append(b"abcd");
        payload.release(4, 6);
        assert_eq!(payload.take(), b"abcdef");
        payload.hold(8, b"ij");
        assert!(payload.has_room(MAX_HELD_BYTES - 2));
        assert!(!payload.has_room(MAX_HELD_BYTES - 1));
    }
}
