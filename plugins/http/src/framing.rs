//! Where the body of a message ends (RFC 9112, section 6), and what its fields say of the
//! connection.

use crate::body::Body;
use crate::head::Head;
use crate::limits::Limits;
use crate::malformed::Malformed;

/// What of a request decides how its answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Its answer has no body.
    Head,
    /// When it succeeds, the connection becomes a tunnel.
    Connect,
}

/// What a request says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) body: Body,
    /// It may be the last one of its protocol.
    pub(crate) may_switch: bool,
    /// It is the last one of its connection.
    pub(crate) is_last: bool,
}

/// What an answer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Body,
    /// Another one to the same request follows.
    pub(crate) is_interim: bool,
    /// What follows is another protocol.
    pub(crate) switches: bool,
    /// It is the last one of its connection.
    pub(crate) is_last: bool,
}

/// What the fields say.
#[derive(Debug, Default)]
struct Fields {
    length: Option<u64>,
    coding: Option<Coding>,
    closes: bool,
    keeps_alive: bool,
    upgrades: bool,
}

/// What `Transfer-Encoding` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// Nothing is done to the body.
    Identity,
    /// `chunked` is the last.
    Chunked,
    /// Something else is.
    Other,
}

impl Request {
    /// # Errors
    /// Where two readers could see two different ends.
    pub(crate) fn of(head: &Head, limits: &Limits) -> Result<Self, Malformed> {
        let fields = Fields::of(head)?;
        let body = match (fields.coding, fields.length) {
            (Some(_), Some(_)) => return Err(Malformed::BothLengths),
            (Some(_), None) if head.minor() == 0 => return Err(Malformed::TransferCodingInHttp10),
            (Some(Coding::Chunked), None) => chunked(limits),
            (Some(_), None) => return Err(Malformed::BadTransferCoding),
            (None, length) => Body::Length(length.unwrap_or(0)),
        };
        let kind = match head.method() {
            b"HEAD" => Kind::Head,
            b"CONNECT" => Kind::Connect,
            _ => Kind::Plain,
        };
        Ok(Self {
            kind,
            body,
            may_switch: fields.upgrades || kind == Kind::Connect,
            is_last: fields.is_last(head.minor()),
        })
    }
}

impl Answer {
    /// # Errors
    /// Where nobody can tell its end.
    pub(crate) fn of(head: &Head, to: Kind, limits: &Limits) -> Result<Self, Malformed> {
        let (fields, status) = (Fields::of(head)?, head.status());
        let switches = status == 101 || (to == Kind::Connect && (200..300).contains(&status));
        let is_interim = (100..200).contains(&status) && !switches;
        let has_none = switches || is_interim || matches!(status, 204 | 304) || to == Kind::Head;
        let body = match (fields.coding, fields.length) {
            _ if has_none => Body::Length(0),
            (Some(Coding::Chunked), _) => chunked(limits),
            (Some(Coding::Other), _) => Body::UntilClose,
            (_, Some(length)) => Body::Length(length),
            (_, None) => Body::UntilClose,
        };
        Ok(Self {
            status,
            is_interim,
            switches,
            is_last: fields.is_last(head.minor()) || body == Body::UntilClose,
            body,
        })
    }
}

fn chunked(limits: &Limits) -> Body {
    Body::chunked(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
}

impl Fields {
    fn of(head: &Head) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        for (name, value) in head.fields() {
            // Only names of these lengths matter; most are told apart by that.
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => fields.add_length(value)?,
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    fields.add_coding(value)?
                }
                10 if name.eq_ignore_ascii_case(b"connection") => fields.add_options(value),
                _ => {}
            }
        }
        Ok(fields)
    }

    /// One value, or several that are equal.
    fn add_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for item in items(value) {
            let length = number(item).ok_or(Malformed::BadContentLength)?;
            if self.length.is_some_and(|other| other != length) {
                return Err(Malformed::DifferingLengths);
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn add_coding(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for item in items(value) {
            let coding = match item {
                item if item.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
                item if item.eq_ignore_ascii_case(b"identity") => Coding::Identity,
                _ => Coding::Other,
            };
            if self.coding == Some(Coding::Chunked) {
                return Err(Malformed::BadTransferCoding);
            }
            self.coding = Some(coding);
        }
        Ok(())
    }

    fn add_options(&mut self, value: &[u8]) {
        for item in items(value) {
            self.closes |= item.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= item.eq_ignore_ascii_case(b"keep-alive");
            self.upgrades |= item.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// Whether the connection ends with the message, in this minor version.
    fn is_last(&self, minor: u8) -> bool {
        self.closes || (minor == 0 && !self.keeps_alive)
    }
}

/// The items of a list.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A number of digits only.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_number)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Message;

    fn head(message: Message, start: &str, fields: &str) -> Head {
        let bytes = format!("{start}\r\n{fields}\r\n");
        let mut head = Head::default();
        let read = head.read(message, bytes.as_bytes(), &Limits::DEFAULT);
        assert_eq!(read, Ok(Some(bytes.len())));
        head
    }

    fn request(start: &str, fields: &str) -> Result<Request, Malformed> {
        let head = head(Message::Request, start, fields);
        Request::of(&head, &Limits::DEFAULT)
    }

    fn answer(status: u16, to: Kind, fields: &str) -> Answer {
        let start = format!("HTTP/1.1 {status} x");
        let head = head(Message::Answer, &start, fields);
        Answer::of(&head, to, &Limits::DEFAULT).expect("an answer")
    }

    #[test]
    fn the_body_of_a_request_has_one_end_or_none() {
        let post = |fields: &str| request("POST / HTTP/1.1", fields).map(|it| it.body);
        assert_eq!(post(""), Ok(Body::Length(0)));
        assert_eq!(post("content-LENGTH: 12\r\n"), Ok(Body::Length(12)));
        let twice = "Content-Length: 5, 5\r\nContent-Length: 5\r\n";
        assert_eq!(post(twice), Ok(Body::Length(5)));
        let chunked = chunked(&Limits::DEFAULT);
        assert_eq!(post("Transfer-Encoding: gzip, Chunked\r\n"), Ok(chunked));
        for (fields, problem) in [
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                Malformed::BothLengths,
            ),
            (
                "Content-Length: 5\r\nContent-Length: 6\r\n",
                Malformed::DifferingLengths,
            ),
            ("Content-Length: 5, 6\r\n", Malformed::DifferingLengths),
            ("Content-Length: +5\r\n", Malformed::BadContentLength),
            ("Content-Length: 5 5\r\n", Malformed::BadContentLength),
            ("Content-Length:\r\n", Malformed::BadContentLength),
            (
                "Content-Length: 18446744073709551616\r\n",
                Malformed::BadContentLength,
            ),
            ("Transfer-Encoding: gzip\r\n", Malformed::BadTransferCoding),
            (
                "Transfer-Encoding: xchunked\r\n",
                Malformed::BadTransferCoding,
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
                Malformed::BadTransferCoding,
            ),
            (
                "Transfer-Encoding: chunked, chunked\r\n",
                Malformed::BadTransferCoding,
            ),
            ("Transfer-Encoding:\r\n", Malformed::BadTransferCoding),
        ] {
            assert_eq!(post(fields), Err(problem), "{fields}");
        }
        let old = request("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n");
        assert_eq!(old, Err(Malformed::TransferCodingInHttp10));
    }

    #[test]
    fn the_body_of_an_answer_depends_on_its_request() {
        let length = "Content-Length: 7\r\n";
        let body = |status, to, fields| answer(status, to, fields).body;
        assert_eq!(body(200, Kind::Plain, length), Body::Length(7));
        for (status, to) in [
            (200, Kind::Head),
            (204, Kind::Plain),
            (304, Kind::Plain),
            (100, Kind::Plain),
            (101, Kind::Plain),
            (200, Kind::Connect),
        ] {
            assert_eq!(body(status, to, length), Body::Length(0), "{status}");
        }
        assert_eq!(body(403, Kind::Connect, length), Body::Length(7));
        assert_eq!(body(200, Kind::Plain, ""), Body::UntilClose);
        let gzip = "Transfer-Encoding: gzip\r\n";
        assert_eq!(body(200, Kind::Plain, gzip), Body::UntilClose);
        let both = "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n";
        let chunked = chunked(&Limits::DEFAULT);
        assert_eq!(body(200, Kind::Plain, both), chunked);
        let identity = "Content-Length: 7\r\nTransfer-Encoding: identity\r\n";
        assert_eq!(body(200, Kind::Plain, identity), Body::Length(7));
        assert!(answer(103, Kind::Plain, "").is_interim);
        assert!(answer(101, Kind::Plain, "").switches);
    }

    #[test]
    fn the_last_of_a_connection_says_so() {
        let is_last = |start: &str, fields: &str| request(start, fields).expect("one").is_last;
        assert!(!is_last("GET / HTTP/1.1", ""));
        assert!(is_last("GET / HTTP/1.1", "Connection: x, CLOSE\r\n"));
        assert!(is_last("GET / HTTP/1.0", ""));
        assert!(!is_last("GET / HTTP/1.0", "connection: Keep-Alive\r\n"));
        let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
        let upgrade = request("GET / HTTP/1.1", upgrade).expect("one");
        assert!(upgrade.may_switch && !upgrade.is_last);
    }
}
