//! Heads that come in pieces.

use super::{Head, Message};
use crate::limits::Limits;
use crate::malformed::Malformed;

/// The beginning of a head whose end has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    bytes: Vec<u8>,
    /// How many there were when they were last read in vain.
    tried: usize,
}

impl Gathering {
    /// Whether nothing of a head has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begins with these bytes.
    pub(crate) fn begin(&mut self, bytes: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets what has come.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.tried = 0;
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
            if let Some(length) = head.read(message, bytes, limits)? {
                *bytes = &bytes[length..];
                return Ok(true);
            }
        }
        let is_complete = self.take_lines(bytes);
        // What is wrong shows early, and yet nothing is read more often than twice.
        if !is_complete && self.bytes.len() < self.tried * 2 {
            return match self.bytes.len() > limits.head_bytes {
                true => Err(Malformed::HeadTooLarge),
                false => Ok(false),
            };
        }
        let read = head.read(message, &self.bytes, limits)?;
        self.tried = self.bytes.len();
        match (read, is_complete) {
            (Some(_), _) => {
                // A head is small; what a large one needed is given back.
                self.bytes = Vec::new();
                self.tried = 0;
                Ok(true)
            }
            (None, true) => Err(Malformed::BadHead),
            (None, false) => Ok(false),
        }
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
