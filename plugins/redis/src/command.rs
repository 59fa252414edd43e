//! What a client says: arrays of bulk strings, or inline commands of one line.
//!
//! A command is given out whole when it is short enough. Of a longer one the beginning is, and the
//! rest is followed by [`Rest`], which keeps no bytes.

mod inline;
#[cfg(test)]
mod tests;

use std::ops::Range;

/// How much of a command is gathered before it is sent piece by piece, and the longest inline
/// command, which is Redis' own limit.
pub(crate) const GATHERED_BYTES: usize = 64 * 1024;

/// The longest line of a length or a count.
const LENGTH_LINE_BYTES: usize = 32;

/// The most arguments that a command may have: Redis' own limit.
const MAX_ARGUMENTS: u64 = i32::MAX as u64;

/// The longest argument: far above what any server takes, so that sums do not overflow.
const MAX_ARGUMENT_BYTES: u64 = 1 << 40;

/// Where an argument is.
pub(crate) type Span = Range<usize>;

/// The bytes are no command; the server would say so and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A command, or the beginning of a long one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command<'a> {
    /// As the client said it; of a long one, as far as it was gathered.
    pub(crate) raw: &'a [u8],
    /// What the spans are in.
    text: &'a [u8],
    spans: &'a [Span],
    /// How many arguments it has, with its name.
    pub(crate) count: u64,
}

impl<'a> Command<'a> {
    /// An argument; the name is number 0.
    pub(crate) fn arg(&self, at: usize) -> Option<&'a [u8]> {
        self.text.get(self.spans.get(at)?.clone())
    }

    /// An argument that is a number.
    pub(crate) fn number(&self, at: usize) -> Option<u64> {
        std::str::from_utf8(self.arg(at)?).ok()?.parse().ok()
    }

    /// Whether an argument is this word, in upper or lower case.
    pub(crate) fn is(&self, at: usize, word: &str) -> bool {
        self.arg(at)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The arguments that are there, with the name.
    pub(crate) fn args(&self) -> impl Iterator<Item = &'a [u8]> {
        let text = self.text;
        self.spans.iter().map(move |span| &text[span.clone()])
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.spans.len() as u64 == self.count
    }
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// An array of this many arguments, whose spans are known, up to this offset.
    Array(usize),
    /// An inline command up to this offset: its line without the end is the span.
    Inline(usize),
    /// Nothing that the server would answer: an empty line, an array of nothing.
    Nothing(usize),
    /// It is not complete before there are this many bytes.
    Partial {
        /// At least.
        wanted: usize,
        /// How many arguments an array announces, and where the first of them begins; 0 before
        /// that is known.
        count: u64,
        first: usize,
    },
}

/// Reads a command at the beginning of `bytes`, and where its arguments are.
pub(crate) fn parse(bytes: &[u8], spans: &mut Vec<Span>) -> Result<Parsed, Malformed> {
    spans.clear();
    let partial = |wanted, count, first| Parsed::Partial {
        wanted,
        count,
        first,
    };
    if bytes.first() != Some(&b'*') {
        return Ok(match find_newline(bytes) {
            None => partial(bytes.len() + 1, 0, 0),
            Some(end) => {
                let line = &bytes[..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                match line.iter().all(u8::is_ascii_whitespace) {
                    true => Parsed::Nothing(end + 1),
                    false => {
                        spans.push(0..line.len());
                        Parsed::Inline(end + 1)
                    }
                }
            }
        });
    }
    let Some((count, first)) = length_line(bytes, 0)? else {
        return Ok(partial(bytes.len() + 1, 0, 0));
    };
    let Some(count) = count.filter(|count| *count > 0) else {
        return Ok(Parsed::Nothing(first));
    };
    if count > MAX_ARGUMENTS {
        return Err(Malformed);
    }
    let mut at = first;
    for _ in 0..count {
        match bytes.get(at) {
            None => return Ok(partial(bytes.len() + 1, count, first)),
            Some(b'$') => {}
            Some(_) => return Err(Malformed),
        }
        let Some((length, start)) = length_line(bytes, at)? else {
            return Ok(partial(bytes.len() + 1, count, first));
        };
        let end = start.saturating_add(argument_length(length)?);
        let after = end.saturating_add(2);
        if bytes.len() < after {
            return Ok(partial(after, count, first));
        }
        spans.push(start..end);
        at = after;
    }
    Ok(Parsed::Array(at))
}

/// The command that [`parse`] has found whole. `decoded` is for the words of an inline command.
pub(crate) fn whole<'a>(
    parsed: &Parsed,
    bytes: &'a [u8],
    spans: &'a mut Vec<Span>,
    decoded: &'a mut Vec<u8>,
) -> Result<Option<Command<'a>>, Malformed> {
    let (raw, text) = match *parsed {
        Parsed::Array(end) => (&bytes[..end], bytes),
        Parsed::Inline(end) => {
            let line = spans.first().cloned().ok_or(Malformed)?;
            inline::split(&bytes[line], decoded, spans)?;
            (&bytes[..end], decoded.as_slice())
        }
        Parsed::Nothing(_) | Parsed::Partial { .. } => return Ok(None),
    };
    Ok(Some(Command {
        raw,
        text,
        spans,
        count: spans.len() as u64,
    }))
}

/// The beginning of a long command: what is there of it.
pub(crate) fn beginning<'a>(bytes: &'a [u8], spans: &'a [Span], count: u64) -> Command<'a> {
    Command {
        raw: bytes,
        text: bytes,
        spans,
        count,
    }
}

fn argument_length(length: Option<u64>) -> Result<usize, Malformed> {
    let length = length.filter(|length| *length <= MAX_ARGUMENT_BYTES);
    // A command that this machine can't count is followed piece by piece, and never gathered.
    length
        .map(|length| usize::try_from(length).unwrap_or(usize::MAX))
        .ok_or(Malformed)
}

fn find_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// Reads the line of a count or a length that begins at `at` with its sign. Answers the number (none
/// for a negative one) and where the line ends; `None` while it is not complete.
fn length_line(bytes: &[u8], at: usize) -> Result<Option<(Option<u64>, usize)>, Malformed> {
    let line = &bytes[at + 1..];
    let Some(end) = find_newline(&line[..line.len().min(LENGTH_LINE_BYTES)]) else {
        return match line.len() < LENGTH_LINE_BYTES {
            true => Ok(None),
            false => Err(Malformed),
        };
    };
    let digits = line[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    Ok(Some((parse_length(digits)?, at + 1 + end + 1)))
}

/// A count or a length; none for a negative one, which stands for null.
pub(crate) fn parse_length(digits: &[u8]) -> Result<Option<u64>, Malformed> {
    let text = std::str::from_utf8(digits).map_err(|_| Malformed)?;
    let number: i64 = text.parse().map_err(|_| Malformed)?;
    Ok(u64::try_from(number).ok())
}

/// Follows the arguments of a command that is too long to be gathered.
#[derive(Debug)]
pub(crate) struct Rest {
    arguments: u64,
    /// Of the argument at hand, with its line end.
    bytes: u64,
    /// The line of a length that has begun.
    line: Option<Length>,
}

/// A length, read byte by byte.
#[derive(Debug, Default)]
struct Length {
    value: u64,
    digits: u8,
    has_return: bool,
}

impl Rest {
    /// So many arguments follow.
    pub(crate) fn of(arguments: u64) -> Self {
        Self {
            arguments,
            bytes: 0,
            line: None,
        }
    }

    /// Whether the command is complete.
    pub(crate) fn is_over(&self) -> bool {
        self.arguments == 0 && self.bytes == 0 && self.line.is_none()
    }

    /// Passes over so many bytes that nobody has seen. False where they are not all of the argument at
    /// hand, so that nobody knows what comes behind them.
    pub(crate) fn pass_over(&mut self, bytes: u64) -> bool {
        // The line end behind the argument is no part of it.
        let is_within = self.bytes >= bytes.saturating_add(2);
        if is_within {
            self.bytes -= bytes;
        }
        is_within
    }

    /// Follows the command; answers how many of these bytes belong to it.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && !self.is_over() {
            if self.bytes > 0 {
                let left = bytes.len() - at;
                let step = usize::try_from(self.bytes).map_or(left, |bytes| bytes.min(left));
                self.bytes -= step as u64;
                at += step;
                continue;
            }
            self.length_byte(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn length_byte(&mut self, byte: u8) -> Result<(), Malformed> {
        let Some(line) = &mut self.line else {
            if byte != b'$' {
                return Err(Malformed);
            }
            self.line = Some(Length::default());
            self.arguments -= 1;
            return Ok(());
        };
        match byte {
            b'0'..=b'9' if !line.has_return && usize::from(line.digits) < LENGTH_LINE_BYTES => {
                let value = line.value.saturating_mul(10);
                line.value = value.saturating_add(u64::from(byte - b'0'));
                line.digits += 1;
            }
            b'\r' if !line.has_return && line.digits > 0 => line.has_return = true,
            b'\n' if line.has_return && line.value <= MAX_ARGUMENT_BYTES => {
                self.bytes = line.value + 2;
                self.line = None;
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }
}
