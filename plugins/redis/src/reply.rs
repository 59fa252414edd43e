//! What the target answers: RESP2 and RESP3, from which only the beginning of each reply is kept.

#[cfg(test)]
mod tests;

use crate::command::parse_length;

/// How deep replies may be nested.
const MAX_DEPTH: usize = 128;

/// How much of a line or a string is kept.
const WORD_BYTES: usize = 64;

/// The longest line of a length or a count.
const LENGTH_LINE_BYTES: usize = 32;

/// The bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What kind of value a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One line: a status, a number, a boolean.
    Line,
    /// An error, of one line or as a string.
    Error,
    /// A string.
    Text,
    /// Nothing.
    Null,
    /// Several values.
    Array,
    /// Several values that nobody asked for.
    Push,
}

/// A whole reply, as far as anybody wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) shape: Shape,
    /// How its text begins, or the first of its values does.
    word: Word,
    /// How many values it has.
    pub(crate) count: u64,
    /// The third of its values, if that is a whole number.
    pub(crate) third: Option<u64>,
    /// How many of its values, however deep, are errors.
    pub(crate) errors: u64,
}

/// The first bytes of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    bytes: [u8; WORD_BYTES],
    length: usize,
}

impl Word {
    const EMPTY: Self = Self {
        bytes: [0; WORD_BYTES],
        length: 0,
    };

    fn push(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(WORD_BYTES - self.length);
        self.bytes[self.length..][..taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
    }
}

impl Reply {
    const EMPTY: Self = Self {
        shape: Shape::Null,
        word: Word::EMPTY,
        count: 0,
        third: None,
        errors: 0,
    };

    /// How its text begins, or the first of its values does.
    pub(crate) fn word(&self) -> &[u8] {
        &self.word.bytes[..self.word.length]
    }

    /// The error's code: the first of its words.
    pub(crate) fn code(&self) -> Option<&str> {
        let word = self.word().split(|byte| byte.is_ascii_whitespace()).next();
        let code = std::str::from_utf8(word?).ok();
        code.filter(|_| self.shape == Shape::Error)
    }
}

/// Reads replies in pieces of any size.
#[derive(Debug)]
pub(crate) struct ReplyParser {
    state: State,
    /// The values of several values that are not complete, outermost first.
    open: Vec<Open>,
    /// The line at hand, cut.
    line: Word,
    last_was_return: bool,
    reply: Reply,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A value begins.
    Type,
    /// The line of a value of this type.
    Line(u8),
    /// So many bytes of a string, then its line end.
    Text {
        left: u64,
        is_kept: bool,
    },
    End {
        is_return_due: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// How many values are to come; `None` until their end is told.
    left: Option<u64>,
    /// How many have come, up to 3.
    come: u8,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Values,
    /// They are about the value that follows them.
    Attribute,
    /// The pieces of one string.
    Pieces,
}

impl ReplyParser {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Type,
            open: Vec::new(),
            line: Word::EMPTY,
            last_was_return: false,
            reply: Reply::EMPTY,
        }
    }

    /// Reads on from `bytes`, up to the end of a reply if there is one.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<&Reply>, Malformed> {
        if self.open.is_empty() && matches!(self.state, State::Type) {
            self.reply = Reply::EMPTY;
        }
        while let Some((&first, after)) = bytes.split_first() {
            let is_complete = match self.state {
                State::Type => {
                    *bytes = after;
                    self.line = Word::EMPTY;
                    self.last_was_return = false;
                    self.state = State::Line(first);
                    // Not a value's type: told before a line without end is waited for.
                    if !b"+-:$*_#,(!=%~|>;.".contains(&first) {
                        return Err(Malformed);
                    }
                    false
                }
                State::Line(kind) => self.line(kind, bytes)?,
                State::Text { left, is_kept } => {
                    let taken = usize::try_from(left).map_or(bytes.len(), |it| it.min(bytes.len()));
                    let (text, after) = bytes.split_at(taken);
                    *bytes = after;
                    if is_kept {
                        self.reply.word.push(text);
                    }
                    let left = left - taken as u64;
                    self.state = match left {
                        0 => State::End {
                            is_return_due: true,
                        },
                        left => State::Text { left, is_kept },
                    };
                    false
                }
                State::End { is_return_due } => {
                    *bytes = after;
                    match (is_return_due, first) {
                        (true, b'\r') => {
                            self.state = State::End {
                                is_return_due: false,
                            };
                            false
                        }
                        (false, b'\n') => self.complete(),
                        _ => return Err(Malformed),
                    }
                }
            };
            if is_complete {
                return Ok(Some(&self.reply));
            }
        }
        Ok(None)
    }

    /// Reads on in a line; true where that completes a reply.
    fn line(&mut self, kind: u8, bytes: &mut &[u8]) -> Result<bool, Malformed> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.last_was_return = bytes.last() == Some(&b'\r');
            self.line.push(bytes);
            *bytes = &[];
            return Ok(false);
        };
        let (line, after) = bytes.split_at(end);
        let has_return = line
            .last()
            .map_or(self.last_was_return, |last| *last == b'\r');
        self.line.push(line);
        *bytes = &after[1..];
        if !has_return {
            return Err(Malformed);
        }
        let mut line = self.line.clone();
        if line.bytes[..line.length].last() == Some(&b'\r') {
            line.length -= 1;
        }
        self.value(kind, &line)
    }

    /// A value's line is complete.
    fn value(&mut self, kind: u8, line: &Word) -> Result<bool, Malformed> {
        let text = &line.bytes[..line.length];
        let is_in_pieces = self.open.last().map(|open| open.what) == Some(What::Pieces);
        if is_in_pieces != (kind == b';') {
            return Err(Malformed);
        }
        match kind {
            b'+' | b':' | b'#' | b',' | b'(' | b'-' | b'_' => {
                let shape = match kind {
                    b'-' => Shape::Error,
                    b'_' => Shape::Null,
                    _ => Shape::Line,
                };
                self.note(shape, 0);
                if self.is_word() {
                    self.reply.word = line.clone();
                }
                if kind == b':' && place(&self.open) == Some((1, 2)) {
                    self.reply.third = std::str::from_utf8(text)
                        .ok()
                        .and_then(|it| it.parse().ok());
                }
                Ok(self.complete())
            }
            b'$' | b'=' | b'!' if text == b"?" => self.open(None, What::Pieces, Shape::Text),
            b'$' | b'=' | b'!' => {
                let shape = if kind == b'!' {
                    Shape::Error
                } else {
                    Shape::Text
                };
                match length(text)? {
                    None => {
                        self.note(Shape::Null, 0);
                        Ok(self.complete())
                    }
                    Some(length) => {
                        self.note(shape, 0);
                        self.text(length, self.is_word());
                        Ok(false)
                    }
                }
            }
            b';' => self.piece(length(text)?.ok_or(Malformed)?),
            b'.' => match self.open.pop() {
                Some(Open {
                    left: None, what, ..
                }) if text.is_empty() => Ok(self.close(what == What::Attribute)),
                _ => Err(Malformed),
            },
            _ => self.several(kind, text),
        }
    }

    /// Several values begin.
    fn several(&mut self, kind: u8, text: &[u8]) -> Result<bool, Malformed> {
        let (what, shape) = match kind {
            b'|' => (What::Attribute, Shape::Array),
            b'>' => (What::Values, Shape::Push),
            _ => (What::Values, Shape::Array),
        };
        if text == b"?" {
            return self.open(None, what, shape);
        }
        let Some(count) = length(text)? else {
            self.note(Shape::Null, 0);
            return Ok(self.complete());
        };
        let values = match kind {
            b'%' | b'|' => count.saturating_mul(2),
            _ => count,
        };
        self.open(Some(values), what, shape)
    }

    fn open(&mut self, left: Option<u64>, what: What, shape: Shape) -> Result<bool, Malformed> {
        if what != What::Attribute {
            self.note(shape, left.unwrap_or(0));
        }
        if left == Some(0) {
            return Ok(self.close(what == What::Attribute));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(Malformed);
        }
        self.open.push(Open {
            left,
            come: 0,
            what,
        });
        self.state = State::Type;
        Ok(false)
    }

    /// A piece of a string that comes in pieces; one of no bytes is the last.
    fn piece(&mut self, length: u64) -> Result<bool, Malformed> {
        if length == 0 {
            self.open.pop();
            return Ok(self.complete());
        }
        let string = self.open.len() - 1;
        self.text(
            length,
            matches!(place(&self.open[..string]), Some((0 | 1, 0))),
        );
        Ok(false)
    }

    fn text(&mut self, length: u64, is_kept: bool) {
        self.state = match length {
            0 => State::End {
                is_return_due: true,
            },
            left => State::Text { left, is_kept },
        };
    }

    /// Whether the value at hand is what the reply is known by.
    fn is_word(&self) -> bool {
        matches!(place(&self.open), Some((0 | 1, 0)))
    }

    /// Remembers what the value at hand is.
    fn note(&mut self, shape: Shape, count: u64) {
        let Some((depth, _)) = place(&self.open) else {
            return;
        };
        if depth == 0 {
            self.reply.shape = shape;
            self.reply.count = count;
        }
        self.reply.errors += u64::from(depth > 0 && shape == Shape::Error);
    }

    /// Several values are complete.
    fn close(&mut self, is_attribute: bool) -> bool {
        self.state = State::Type;
        // What an attribute is about is still to come.
        !is_attribute && self.complete()
    }

    /// A value is complete, and with it perhaps those that it is in; true where that is the reply.
    fn complete(&mut self) -> bool {
        self.state = State::Type;
        while let Some(open) = self.open.last_mut() {
            if open.what == What::Pieces {
                return false;
            }
            open.come = (open.come + 1).min(3);
            let Some(left) = &mut open.left else {
                return false;
            };
            *left -= 1;
            if *left > 0 {
                return false;
            }
            let is_attribute = open.what == What::Attribute;
            self.open.pop();
            if is_attribute {
                return false;
            }
        }
        true
    }
}

/// Where a value in these others stands: how deep, and behind how many (3: or more). `None` in an
/// attribute.
fn place(open: &[Open]) -> Option<(usize, u8)> {
    let is_attribute = |open: &Open| open.what == What::Attribute;
    match open.iter().any(is_attribute) {
        true => None,
        false => Some((open.len(), open.last().map_or(0, |open| open.come))),
    }
}

/// A length or a count; none for null.
fn length(text: &[u8]) -> Result<Option<u64>, Malformed> {
    match text.len() {
        1..=LENGTH_LINE_BYTES => parse_length(text).map_err(|_| Malformed),
        _ => Err(Malformed),
    }
}
