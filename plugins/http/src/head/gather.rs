//! Heads that come in pieces.

use super::{Head, Message};
use crate::limits::Limits;
use crate::malformed::Malformed;

/// The beginning of a head whose end has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    bytes: Vec<u8>,
}

impl Gathering {
    /// Whether nothing of a head has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begins with these bytes.
    pub(crate) fn begin(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets what has come.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Goes on with the bytes that follow, and takes from them what belongs to the head. True when
    /// it is complete.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn go_on(
        &mut self,
        message: Message,
        bytes: &mut &[u8],
        head: &mut Head,
        limits: &Limits,
    ) -> Result<bool, Malformed> {
        if self.bytes.is_empty() {
            // Empty lines before a message mean nothing (RFC 9112, section 2.2).
            let blank = bytes.iter().take_while(|it| matches!(it, b'\r' | b'\n'));
            *bytes = &bytes[blank.count()..];
            if bytes.is_empty() {
                return Ok(false);
            }
            match head.read(message, bytes, limits) {
                Ok(Some(length)) => {
                    *bytes = &bytes[length..];
                    return Ok(true);
                }
                Err(Malformed::HeadTooLarge) => return Err(Malformed::HeadTooLarge),
                // Told when it is complete, wherever it is cut.
                Ok(None) | Err(_) => {}
            }
        }
        let is_complete = self.take_lines(bytes);
        if self.bytes.len() > limits.head_bytes {
            return Err(Malformed::HeadTooLarge);
        }
        if !is_complete && may_begin(message, &self.bytes) {
            return Ok(false);
        }
        let read = head.read(message, &self.bytes, limits)?;
        // A head is small; what a large one needed is given back.
        self.bytes = Vec::new();
        read.map(|_| true).ok_or(Malformed::BadHead)
    }

    /// Takes bytes up to an empty line. True when there is one.
    fn take_lines(&mut self, bytes: &mut &[u8]) -> bool {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end + 1);
            self.bytes.extend_from_slice(line);
            *bytes = rest;
            if self.bytes.ends_with(b"\n\r\n") || self.bytes.ends_with(b"\n\n") {
                return true;
            }
        }
        self.bytes.extend_from_slice(bytes);
        *bytes = &[];
        false
    }
}

/// Whether a head may begin so: what is of another protocol shows at once.
fn may_begin(message: Message, bytes: &[u8]) -> bool {
    match message {
        Message::Request => bytes.first().is_none_or(u8::is_ascii_graphic),
        Message::Answer => bytes
            .iter()
            .zip(b"HTTP/1.")
            .all(|(one, other)| one == other),
    }
}
