//! The content of a body, gathered as far as a rule looks into it.

use std::borrow::Cow;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::head::Head;

/// The beginning of a body's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    bytes: Vec<u8>,
    /// How many bytes are looked at, before and after decompression.
    room: usize,
    coding: Coding,
    is_json: bool,
}

/// `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Plain,
    Gzip,
    Deflate,
    /// One that nobody here can undo.
    Other,
}

impl Content {
    /// Content that has a head like this, of which so many bytes are looked at; `None` where it is
    /// no text.
    pub(crate) fn of(head: &Head, room: usize) -> Option<Self> {
        let kind = head.values("content-type").next().unwrap_or(b"text/html");
        let has = |word: &[u8]| {
            let mut windows = kind.windows(word.len());
            windows.any(|window| window.eq_ignore_ascii_case(word))
        };
        let is_json = has(b"json");
        if !is_json && !has(b"text/") && !has(b"html") && !has(b"xml") {
            return None;
        }
        let mut codings = head.values("content-encoding");
        let coding = match codings.next() {
            None => Coding::Plain,
            Some(it) if it.eq_ignore_ascii_case(b"identity") => Coding::Plain,
            Some(it) if it.eq_ignore_ascii_case(b"gzip") => Coding::Gzip,
            Some(it) if it.eq_ignore_ascii_case(b"x-gzip") => Coding::Gzip,
            Some(it) if it.eq_ignore_ascii_case(b"deflate") => Coding::Deflate,
            Some(_) => Coding::Other,
        };
        Some(Self {
            bytes: Vec::new(),
            room,
            coding: if codings.next().is_some() {
                Coding::Other
            } else {
                coding
            },
            is_json,
        })
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Content goes on.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = self.room - self.bytes.len();
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// What it says; `None` where nobody can read it.
    pub(crate) fn read(&self) -> Option<Cow<'_, [u8]>> {
        match self.coding {
            Coding::Plain => Some(Cow::Borrowed(&self.bytes)),
            Coding::Gzip => inflate(gzip_body(&self.bytes)?, false, self.room).map(Cow::Owned),
            // It means zlib, and some servers send it without that (RFC 9110, section 8.4.1.2).
            Coding::Deflate => inflate(&self.bytes, true, self.room)
                .or_else(|| inflate(&self.bytes, false, self.room))
                .map(Cow::Owned),
            Coding::Other => None,
        }
    }
}

/// Decompresses what may be cut, or longer than is looked at; `None` for what is nothing of the kind.
fn inflate(bytes: &[u8], has_header: bool, room: usize) -> Option<Vec<u8>> {
    let mut flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    if has_header {
        flags |= TINFL_FLAG_PARSE_ZLIB_HEADER;
    }
    let mut state = Box::new(DecompressorOxide::new());
    let mut text = vec![0; room.min(1024 + 4 * bytes.len())];
    let (mut from, mut to) = (0, 0);
    loop {
        let (status, used, written) = decompress(&mut state, &bytes[from..], &mut text, to, flags);
        from += used;
        to += written;
        match status {
            TINFLStatus::HasMoreOutput if text.len() < room => {
                let more = text.len() * 2;
                text.resize(more.min(room), 0);
            }
            TINFLStatus::Done
            | TINFLStatus::HasMoreOutput
            | TINFLStatus::NeedsMoreInput
            | TINFLStatus::FailedCannotMakeProgress => break,
            _ => return None,
        }
    }
    text.truncate(to);
    Some(text)
}

/// What follows the header of a gzip member (RFC 1952, section 2.3).
fn gzip_body(bytes: &[u8]) -> Option<&[u8]> {
    let (&[0x1f, 0x8b, 8, flags], rest) = bytes.split_first_chunk()? else {
        return None;
    };
    let mut rest = rest.get(6..)?;
    if flags & 4 != 0 {
        let (length, after) = rest.split_first_chunk()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            rest = rest.get(memchr::memchr(0, rest)? + 1..)?;
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    use super::*;
    use crate::head::Message;
    use crate::limits::Limits;

    fn content(fields: &str, room: usize, bytes: &[u8]) -> Option<Content> {
        let head_bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let mut head = Head::default();
        let read = head.read(Message::Answer, head_bytes.as_bytes(), &Limits::DEFAULT);
        assert_eq!(read, Ok(Some(head_bytes.len())));
        let mut content = Content::of(&head, room)?;
        for piece in bytes.chunks(3) {
            content.push(piece);
        }
        Some(content)
    }

    fn read(coding: &str, room: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let fields = format!("Content-Encoding: {coding}\r\n");
        let content = content(&fields, room, bytes).expect("text");
        content.read().map(Cow::into_owned)
    }

    fn gzip(flags: u8, more: &[u8], text: &[u8]) -> Vec<u8> {
        let head = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255];
        [&head, more, &compress_to_vec(text, 6)].concat()
    }

    #[test]
    fn compressed_content_is_read_as_far_as_it_is_there() {
        let text = b"some text, some text, some text".as_slice();
        assert_eq!(
            read("GZIP", 1000, &gzip(0, b"", text)).as_deref(),
            Some(text)
        );
        let more = b"\x02\x00xyname\0comment\0cc";
        assert_eq!(
            read("gzip", 1000, &gzip(30, more, text)).as_deref(),
            Some(text)
        );
        let zlib = compress_to_vec_zlib(text, 6);
        assert_eq!(read("deflate", 1000, &zlib).as_deref(), Some(text));
        let raw = compress_to_vec(text, 6);
        assert_eq!(read("deflate", 1000, &raw).as_deref(), Some(text));
        let long = vec![b'a'; 100_000];
        assert_eq!(
            read("gzip", 5000, &gzip(0, b"", &long)),
            Some(vec![b'a'; 5000])
        );
        assert_eq!(read("identity", 4, text).as_deref(), Some(&text[..4]));
        assert_eq!(read("br", 1000, text), None);
        assert_eq!(read("gzip", 1000, text), None);
        assert_eq!(read("gzip", 1000, b"\x1f\x8b\x08\xff"), None);
    }

    #[test]
    fn only_text_is_looked_at() {
        let of = |kind: &str| content(&format!("Content-Type: {kind}\r\n"), 10, b"");
        assert!(of("image/png").is_none());
        assert!(of("application/problem+JSON").is_some_and(|it| it.is_json()));
        assert!(of("text/html; charset=utf-8").is_some_and(|it| !it.is_json()));
        assert!(content("", 10, b"").is_some());
    }
}
