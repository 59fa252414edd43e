//! Reads heads.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Request, Response, Status};

use super::{Field, Head, Now, Span};
use crate::limits::{Limits, MAX_FIELDS};
use crate::malformed::Malformed;

/// Which kind of message a head begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Request,
    Answer,
}

impl Head {
    /// Reads a head from its first byte on. `None` while it is not complete, else how many bytes
    /// it has.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(
        &mut self,
        message: Message,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, Malformed> {
        let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let room = &mut room[..limits.fields];
        let read = match message {
            Message::Request => self.read_request(bytes, room),
            Message::Answer => self.read_answer(bytes, room),
        };
        let read = match read {
            Err(Error::Token) if message == Message::Request => {
                self.read_latin_request(bytes, limits)
            }
            read => read,
        };
        match read {
            Ok(Some(length)) if length > limits.head_bytes => Err(Malformed::HeadTooLarge),
            Ok(None) if bytes.len() > limits.head_bytes => Err(Malformed::HeadTooLarge),
            Ok(length) => Ok(length),
            Err(error) => Err(problem(message, bytes, error)),
        }
    }

    fn read_request<'b>(
        &mut self,
        bytes: &'b [u8],
        room: &mut [MaybeUninit<Header<'b>>],
    ) -> Result<Option<usize>, Error> {
        let mut request = Request::new(&mut []);
        let Status::Complete(length) = request.parse_with_uninit_headers(bytes, room)? else {
            return Ok(None);
        };
        let method = request.method.unwrap_or_default();
        let target = request.path.unwrap_or_default();
        self.method = span(bytes, method.as_bytes());
        self.target = span(bytes, target.as_bytes());
        self.given_target = self.target;
        self.minor = request.version.unwrap_or(1);
        self.status = 0;
        self.take(bytes, length, request.headers);
        Ok(Some(length))
    }

    /// Reads a request whose target may have bytes that are no UTF-8, which `httparse` takes for an
    /// error: it is shown letters in their place. Method and version must be ASCII.
    fn read_latin_request(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, Error> {
        // One byte more tells that a head is too large.
        let bytes = &bytes[..bytes.len().min(limits.head_bytes + 1)];
        let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
        let target = memchr::memchr(b' ', &bytes[..end]).unwrap_or(end);
        if bytes[target..end].is_ascii() {
            return Err(Error::Token);
        }
        let mut shown = bytes.to_vec();
        for byte in shown[target..end].iter_mut().filter(|it| !it.is_ascii()) {
            *byte = b'x';
        }
        let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let read = self.read_request(&shown, &mut room[..limits.fields])?;
        if let Some(length) = read {
            self.text.copy_from_slice(&bytes[..length]);
        }
        Ok(read)
    }

    fn read_answer<'b>(
        &mut self,
        bytes: &'b [u8],
        room: &mut [MaybeUninit<Header<'b>>],
    ) -> Result<Option<usize>, Error> {
        let mut answer = Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut answer, bytes, room)?;
        let Status::Complete(length) = parsed else {
            return Ok(None);
        };
        (self.method, self.target) = (Span::default(), Span::default());
        self.given_target = self.target;
        self.minor = answer.version.unwrap_or(1);
        self.status = answer.code.unwrap_or(0);
        self.take(bytes, length, answer.headers);
        Ok(Some(length))
    }

    /// Keeps a copy of the head and the places of its fields.
    fn take(&mut self, bytes: &[u8], length: usize, headers: &[Header<'_>]) {
        self.text.clear();
        self.text.extend_from_slice(&bytes[..length]);
        let empty_line = match bytes[..length] {
            [.., b'\r', b'\n'] => length - 2,
            _ => length - 1,
        };
        self.end = Span::new(empty_line, length);
        self.is_changed = false;
        self.fields.clear();
        let starts = headers.iter().skip(1);
        let starts = starts.map(|next| span(bytes, next.name.as_bytes()).start);
        for (header, next) in headers.iter().zip(starts.chain([empty_line])) {
            let name = span(bytes, header.name.as_bytes());
            self.fields.push(Field {
                name,
                value: span(bytes, header.value),
                given: Span::new(name.start, next),
                now: Now::Given,
            });
        }
    }
}

/// Where a part of `bytes` is.
fn span(bytes: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
    // An empty part may be anywhere.
    let start = start.min(bytes.len() - part.len());
    Span::new(start, start + part.len())
}

/// The name of what is wrong.
fn problem(message: Message, bytes: &[u8], error: Error) -> Malformed {
    match error {
        Error::TooManyHeaders => Malformed::TooManyHeaders,
        Error::Version if bytes.starts_with(b"PRI * HTTP/2") => Malformed::Http2,
        Error::Version if message == Message::Request => Malformed::Version,
        Error::Token if bytes.starts_with(b"\x16") => Malformed::Tls,
        Error::HeaderName if has_fold(bytes) => Malformed::ObsFold,
        _ => Malformed::BadHead,
    }
}

/// Whether a line of fields begins with a blank.
fn has_fold(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n').skip(1);
    lines.any(|line| matches!(line, [b' ' | b'\t', ..]))
}
