//! What the client says for a command besides the command: the packets of a file, or of a login.

use crate::command::Kind;

/// The dialogue of the newest command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialogue {
    pub(super) kind: Kind,
    /// Its exchange.
    pub(super) number: u64,
    /// A server may ask for a file.
    may_ask_file: bool,
    /// Within a file: the number of its next packet.
    next: Option<u8>,
    /// Files that the origin has asked for, and those that the client has ended. What the two of
    /// them say may be heard in any order.
    asked: u32,
    ended: u32,
}

impl Dialogue {
    pub(super) fn new(kind: Kind, number: u64, may_ask_file: bool) -> Self {
        Self {
            kind,
            number,
            may_ask_file,
            next: None,
            asked: 0,
            ended: 0,
        }
    }

    /// Whether a message with this number belongs to it. Commands have 0; but numbers go round, and
    /// within a file 0 follows 255.
    pub(super) fn continues_with(&self, sequence: u8) -> bool {
        sequence > 0 || self.next == Some(0)
    }

    /// The origin has asked for a file, in a packet with this number.
    pub(super) fn file_asked(&mut self, sequence: u8) {
        self.asked += 1;
        if self.asked > self.ended && self.next.is_none() {
            self.next = Some(sequence.wrapping_add(1));
        }
    }

    /// The client has said a message for it whose last packet has this number. A file ends with an
    /// empty one.
    pub(super) fn message_ended(&mut self, last: u8, is_empty: bool) {
        if self.kind == Kind::ChangeUser {
            return;
        }
        self.ended += u32::from(is_empty);
        self.next = (!is_empty).then_some(last.wrapping_add(1));
    }

    /// Whether the client is sending a file.
    pub(super) fn is_within_file(&self) -> bool {
        self.next.is_some()
    }

    /// Whether what is missing now may be of a file. `is_open` tells whether the origin has not
    /// answered yet.
    pub(super) fn may_miss_file(&self, is_open: bool) -> bool {
        self.is_within_file() || self.may_ask_file && self.ended == 0 && is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round_within_a_file() {
        let mut dialogue = Dialogue::new(Kind::Query, 1, true);
        assert!(!dialogue.continues_with(0) && dialogue.continues_with(2));
        dialogue.file_asked(1);
        dialogue.message_ended(254, false);
        assert!(!dialogue.continues_with(0));
        dialogue.message_ended(255, false);
        assert!(dialogue.continues_with(0) && dialogue.is_within_file());
        dialogue.message_ended(0, false);
        dialogue.message_ended(1, true);
        assert!(!dialogue.continues_with(0) && !dialogue.is_within_file());
    }

    #[test]
    fn a_second_file_may_begin_with_0() {
        let mut dialogue = Dialogue::new(Kind::Query, 1, true);
        dialogue.message_ended(2, false);
        dialogue.message_ended(3, true);
        // Heard behind the file.
        dialogue.file_asked(1);
        assert!(!dialogue.is_within_file());
        dialogue.file_asked(255);
        assert!(dialogue.continues_with(0));
    }
}
