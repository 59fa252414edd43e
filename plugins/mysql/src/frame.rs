//! Packets: 3 bytes of length, 1 of sequence number, payload. A payload of 16 MiB and more comes in
//! several packets, of which all but the last are full.

/// The largest payload of one packet. One that is full is continued by the next.
pub(crate) const FULL: u32 = 0xff_ffff;

/// Bytes of a header.
pub(crate) const HEADER: usize = 4;

/// The beginning of an answer is kept up to this size; what follows is passed over.
const GATHERED_BYTES: usize = 64 * 1024;

/// Some bytes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) sequence: u8,
    /// Of the whole packet's payload.
    pub(crate) length: u32,
    /// The packet begins here.
    pub(crate) starts: bool,
    /// The packet continues the message of the one before it.
    pub(crate) continues: bool,
    pub(crate) bytes: &'a [u8],
    /// The packet ends here.
    pub(crate) ends: bool,
}

impl Piece<'_> {
    /// A message begins here.
    pub(crate) fn starts_message(&self) -> bool {
        self.starts && !self.continues
    }

    /// A message ends here.
    pub(crate) fn ends_message(&self) -> bool {
        self.ends && self.length < FULL
    }
}

/// Splits a stream into packets, wherever it is cut, without gathering them.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    header: [u8; HEADER],
    header_bytes: usize,
    /// Payload still to come of the packet whose header is complete.
    rest: u32,
    continues: bool,
}

impl Splitter {
    /// The next piece of what is left of `input`; `None` when all of it has been taken.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        let mut starts = false;
        if self.header_bytes < HEADER {
            let count = input.len().min(HEADER - self.header_bytes);
            let (head, tail) = input.split_at(count);
            self.header[self.header_bytes..][..count].copy_from_slice(head);
            self.header_bytes += count;
            *input = tail;
            if self.header_bytes < HEADER {
                return None;
            }
            self.rest = self.length();
            starts = true;
        }
        if input.is_empty() && self.rest > 0 && !starts {
            return None;
        }
        let count = input.len().min(self.rest as usize);
        let (bytes, tail) = input.split_at(count);
        *input = tail;
        self.rest -= count as u32;
        let piece = Piece {
            sequence: self.header[3],
            length: self.length(),
            starts,
            continues: self.continues,
            bytes,
            ends: self.rest == 0,
        };
        if piece.ends {
            self.header_bytes = 0;
            self.continues = !piece.ends_message();
        }
        Some(piece)
    }

    /// Whether the stream stands between two messages.
    #[cfg(test)]
    pub(crate) fn is_between(&self) -> bool {
        self.header_bytes == 0 && !self.continues
    }

    /// Passes over bytes that the capture has missed, if they are all of the packet under way.
    pub(crate) fn skip(&mut self, missing: u64) -> bool {
        let is_within = self.header_bytes == HEADER && missing < u64::from(self.rest);
        if is_within {
            self.rest -= missing as u32;
        }
        is_within
    }

    fn length(&self) -> u32 {
        let [a, b, c, _] = self.header;
        u32::from_le_bytes([a, b, c, 0])
    }
}

/// Puts the pieces of a message together, as far as somebody wants to read it.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    bytes: Vec<u8>,
    is_wanted: Option<bool>,
    sequence: u8,
    length: u32,
}

/// A message as far as it was gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// Of its first packet.
    pub(crate) sequence: u8,
    /// The same of its last one.
    pub(crate) last: u8,
    /// Of the payload of its first packet.
    pub(crate) length: u32,
    /// Its beginning: all of it if it was wanted and is not too long, at least the first byte.
    pub(crate) payload: &'a [u8],
}

impl Gatherer {
    /// Takes a piece. The answer is the message when it is complete. `is_wanted` is asked once for
    /// each message, with its first byte and length.
    pub(crate) fn take<'a>(
        &'a mut self,
        piece: &Piece<'a>,
        is_wanted: impl FnOnce(u8, u32) -> bool,
    ) -> Option<Message<'a>> {
        if piece.starts_message() {
            self.bytes.clear();
            self.is_wanted = None;
            (self.sequence, self.length) = (piece.sequence, piece.length);
        }
        let is_whole = piece.starts_message() && piece.ends_message();
        if is_whole && piece.bytes.len() <= GATHERED_BYTES {
            return Some(Message {
                sequence: piece.sequence,
                last: piece.sequence,
                length: piece.length,
                payload: piece.bytes,
            });
        }
        if let Some(first) = piece.bytes.first() {
            let length = self.length;
            let keeps = *self
                .is_wanted
                .get_or_insert_with(|| is_wanted(*first, length));
            let room = match keeps {
                true => GATHERED_BYTES.saturating_sub(self.bytes.len()),
                false => usize::from(self.bytes.is_empty()),
            };
            self.bytes
                .extend_from_slice(&piece.bytes[..piece.bytes.len().min(room)]);
        }
        piece.ends_message().then_some(Message {
            sequence: self.sequence,
            last: piece.sequence,
            length: self.length,
            payload: &self.bytes,
        })
    }

    /// Whether a message is coming in that nobody wants.
    pub(crate) fn is_passing(&self) -> bool {
        self.is_wanted == Some(false)
    }
}

/// A packet's header.
pub(crate) fn header(length: u32, sequence: u8) -> [u8; HEADER] {
    let [a, b, c, _] = length.to_le_bytes();
    [a, b, c, sequence]
}

/// Appends a message as packets, the first with this sequence number; returns the number that the
/// next packet would have.
pub(crate) fn put_message(out: &mut Vec<u8>, mut sequence: u8, payload: &[u8]) -> u8 {
    let mut rest = payload;
    loop {
        let length = rest.len().min(FULL as usize);
        let (packet, tail) = rest.split_at(length);
        out.extend_from_slice(&header(length as u32, sequence));
        out.extend_from_slice(packet);
        sequence = sequence.wrapping_add(1);
        rest = tail;
        if length < FULL as usize {
            return sequence;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a splitter makes of a stream that is cut into chunks of this size: sequence and payload
    /// of each message.
    fn messages(stream: &[u8], chunk: usize) -> Vec<(u8, Vec<u8>)> {
        let mut splitter = Splitter::default();
        let mut found: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut is_open = false;
        for mut input in stream.chunks(chunk) {
            while let Some(piece) = splitter.next(&mut input) {
                if piece.starts_message() {
                    assert!(!is_open);
                    found.push((piece.sequence, Vec::new()));
                }
                is_open = !piece.ends_message();
                found
                    .last_mut()
                    .expect("begun")
                    .1
                    .extend_from_slice(piece.bytes);
            }
            assert!(input.is_empty());
        }
        assert!(splitter.is_between() && !is_open);
        found
    }

    proptest! {
        #[test]
        fn messages_are_split_as_they_were_put_together(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6),
            chunk in 1_usize..30,
        ) {
            let mut stream = Vec::new();
            for (at, payload) in payloads.iter().enumerate() {
                put_message(&mut stream, at as u8, payload);
            }
            let expected: Vec<_> = payloads.into_iter().enumerate()
                .map(|(at, payload)| (at as u8, payload)).collect();
            prop_assert_eq!(messages(&stream, chunk), expected);
        }
    }

    #[test]
    fn long_messages_are_continued() {
        for (length, packets) in [(FULL - 1, 1_u8), (FULL, 2), (FULL + 1, 2), (2 * FULL, 3)] {
            let payload = vec![7; length as usize];
            let mut stream = Vec::new();
            assert_eq!(
                put_message(&mut stream, 255, &payload),
                255_u8.wrapping_add(packets)
            );
            assert_eq!(
                stream.len(),
                length as usize + usize::from(packets) * HEADER
            );
            assert!(messages(&stream, 1 << 20) == [(255, payload)]);
        }
    }

    #[test]
    fn bytes_missed_within_a_packet_can_be_passed_over() {
        let mut splitter = Splitter::default();
        assert!(!splitter.skip(1));
        let mut input = &b"\x05\0\0\x01ab"[..];
        splitter.next(&mut input).expect("a piece");
        assert!(!splitter.skip(3));
        assert!(splitter.skip(2));
        let mut input = &b"e"[..];
        assert!(splitter.next(&mut input).expect("a piece").ends_message());
    }

    #[test]
    fn only_the_first_byte_is_kept_of_what_nobody_wants() {
        let mut stream = Vec::new();
        put_message(&mut stream, 3, &[9; 100]);
        put_message(&mut stream, 4, b"wanted");
        let mut splitter = Splitter::default();
        let mut gatherer = Gatherer::default();
        let mut found = Vec::new();
        for mut input in stream.chunks(2) {
            while let Some(piece) = splitter.next(&mut input) {
                if let Some(message) = gatherer.take(&piece, |first, _| first == b'w') {
                    found.push((message.sequence, message.length, message.payload.to_vec()));
                }
            }
        }
        let expected = [(3, 100, vec![9]), (4, 6, b"wanted".to_vec())];
        assert_eq!(found, expected);
    }
}
