//! The head of a message: what it says, and what is made of it.
//!
//! Lines that nobody changes leave as they came, byte by byte.

mod gather;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use gather::Gathering;
pub(crate) use read::Message;

/// Whether the name of a method or a header may have this byte (RFC 9110, section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A place in a head's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start..self.end]
    }
}

/// A head, to be reused from message to message.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// The head as it came, then all that was made.
    text: Vec<u8>,
    /// Where the empty line begins, and where it ends.
    end: Span,
    method: Span,
    /// What the request is for, as it is now.
    target: Span,
    /// Where that stood when it came.
    given_target: Span,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    minor: u8,
    /// An answer's status.
    status: u16,
    fields: Vec<Field>,
    is_changed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
    /// Its line as it came; nothing at the head's end for one that was added.
    given: Span,
    now: Now,
}

/// What became of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Given,
    /// It has this line now.
    Made(Span),
    Removed,
}

impl Head {
    pub(crate) fn method(&self) -> &[u8] {
        self.method.of(&self.text)
    }

    pub(crate) fn target(&self) -> &[u8] {
        self.target.of(&self.text)
    }

    /// The minor version: 0 or 1.
    pub(crate) fn minor(&self) -> u8 {
        self.minor
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Names and values of the fields, in order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let kept = self.fields.iter().filter(|it| it.now != Now::Removed);
        kept.map(|it| (it.name.of(&self.text), it.value.of(&self.text)))
    }

    /// How many bytes it is kept in.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether the client waits for a word of the server before it sends the body (RFC 9110,
    /// section 10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        let mut values = self.values("expect");
        self.minor > 0 && values.any(|it| it.eq_ignore_ascii_case(b"100-continue"))
    }

    /// The values of a field, in order.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields()
            .filter(move |(it, _)| it.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Gives the request another target.
    pub(crate) fn set_target(&mut self, target: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(target);
        self.target = Span::new(start, self.text.len());
        self.is_changed = true;
    }

    /// Gives the field at this place in [`fields`](Self::fields) another value.
    pub(crate) fn set_value(&mut self, place: usize, value: &[u8]) {
        let mut kept = self.fields.iter().enumerate();
        let is_kept = |(_, field): &(usize, &Field)| field.now != Now::Removed;
        let Some((at, _)) = kept.by_ref().filter(is_kept).nth(place) else {
            return;
        };
        let start = self.text.len();
        self.text.extend_from_slice(value);
        self.set_at(at, Span::new(start, self.text.len()));
    }

    /// What the head is now, in pieces.
    pub(crate) fn write(&self, mut out: impl FnMut(&[u8])) {
        if !self.is_changed {
            return out(&self.text[..self.end.end]);
        }
        let mut run = 0;
        if self.target != self.given_target {
            out(&self.text[..self.given_target.start]);
            out(self.target.of(&self.text));
            run = self.given_target.end;
        }
        for field in &self.fields {
            if field.now == Now::Given {
                continue;
            }
            if run < field.given.start {
                out(&self.text[run..field.given.start]);
            }
            if let Now::Made(line) = field.now {
                out(line.of(&self.text));
            }
            run = field.given.end;
        }
        out(&self.text[run..self.end.end]);
    }

    /// Sets a field: the first of its name gets the value, others are removed; where there is none,
    /// one is added.
    pub(crate) fn set(&mut self, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        value(&mut self.text);
        let value = Span::new(start, self.text.len());
        let mut is_set = false;
        for at in 0..self.fields.len() {
            if !self.has_name(at, name) {
                continue;
            }
            if std::mem::replace(&mut is_set, true) {
                self.remove_at(at);
            } else {
                self.set_at(at, value);
            }
        }
        if !is_set {
            self.push(name, value);
        }
    }

    /// Adds a field behind all others.
    pub(crate) fn add(&mut self, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        value(&mut self.text);
        let value = Span::new(start, self.text.len());
        self.push(name, value);
    }

    /// Removes all fields of a name.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        for at in 0..self.fields.len() {
            if self.has_name(at, name) {
                self.remove_at(at);
            }
        }
    }

    /// Gives all fields of a name another one.
    pub(crate) fn rename(&mut self, name: &[u8], new: &[u8]) {
        for at in 0..self.fields.len() {
            if self.has_name(at, name) {
                let start = self.text.len();
                self.text.extend_from_slice(new);
                self.fields[at].name = Span::new(start, self.text.len());
                self.set_at(at, self.fields[at].value);
            }
        }
    }

    fn has_name(&self, at: usize, name: &[u8]) -> bool {
        let field = &self.fields[at];
        field.name.end - field.name.start == name.len()
            && field.now != Now::Removed
            && field.name.of(&self.text).eq_ignore_ascii_case(name)
    }

    fn remove_at(&mut self, at: usize) {
        self.fields[at].now = Now::Removed;
        self.is_changed = true;
    }

    /// Writes the line of a field with this value.
    fn set_at(&mut self, at: usize, value: Span) {
        let Field { name, given, .. } = self.fields[at];
        let start = self.text.len();
        self.text.extend_from_within(name.start..name.end);
        self.text.extend_from_slice(b": ");
        self.text.extend_from_within(value.start..value.end);
        self.text.extend_from_slice(b"\r\n");
        self.fields[at] = Field {
            name,
            value,
            given,
            now: Now::Made(Span::new(start, self.text.len())),
        };
        self.is_changed = true;
    }

    fn push(&mut self, name: &[u8], value: Span) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let name = Span::new(start, self.text.len());
        let end = self.end.start;
        self.fields.push(Field {
            name,
            value,
            given: Span::new(end, end),
            now: Now::Given,
        });
        self.set_at(self.fields.len() - 1, value);
    }
}
