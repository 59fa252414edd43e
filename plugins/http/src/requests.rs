//! The client's stream as requests.

use crate::body::Body;
use crate::framing::Request;
use crate::head::{Gathering, Head, Message, is_token};
use crate::limits::Limits;
use crate::malformed::Malformed;

/// Methods that a request is recognised by where the beginning of the stream is missing: those of
/// RFC 9110, PATCH, and WebDAV's.
const METHODS: [&[u8]; 16] = [
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"CONNECT",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
];

/// The longest method that is recognised there at the beginning of a line.
const METHOD_BYTES: usize = 20;

/// The longest request line that is found where the beginning of the stream is missing.
const LINE_BYTES: usize = 16 * 1024;

/// What the version in a request line begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// Reads the client's stream.
#[derive(Debug)]
pub(crate) struct Requests {
    state: State,
    gathering: Gathering,
    /// The last line, as far as it has come, while looking for a request.
    line: Vec<u8>,
    /// Bytes given up while looking for a request.
    skipped: u64,
}

#[derive(Debug)]
enum State {
    /// Before the first request that can be recognised.
    Lost,
    /// Between requests, or within a head.
    Head,
    Body(Body),
}

/// What the client said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// A request begins; its head has been read.
    Request(Request),
    /// It goes on.
    Body {
        /// The body with its framing, as it came.
        raw: &'a [u8],
        /// The request is complete.
        is_end: bool,
    },
}

/// Where a hole was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hole {
    /// Between requests, or in a head: what is left of that is given up.
    Between,
    /// In a body. What follows is known.
    InBody,
    /// In a body, and nobody knows what follows: the next request is looked for.
    AcrossBody,
}

impl Requests {
    /// A stream whose beginning was captured, or not.
    pub(crate) fn new(start_seen: bool) -> Self {
        Self {
            state: match start_seen {
                true => State::Head,
                false => State::Lost,
            },
            gathering: Gathering::default(),
            line: Vec::new(),
            skipped: 0,
        }
    }

    /// Bytes given up since this was last asked, while looking for a request.
    pub(crate) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Whether a request has begun and is not complete.
    pub(crate) fn is_within(&self) -> bool {
        matches!(self.state, State::Body(_)) || !self.gathering.is_empty()
    }

    /// The next thing that these bytes say, which are shortened by that. The head of a request is
    /// in `head` then.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub(crate) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        head: &mut Head,
        limits: &Limits,
    ) -> Result<Option<Said<'a>>, Malformed> {
        if let State::Lost = self.state
            && !self.find(bytes)
        {
            return Ok(None);
        }
        if let State::Body(body) = &mut self.state {
            if bytes.is_empty() && !body.is_over() {
                return Ok(None);
            }
            let (used, is_end) = body.skip(bytes)?;
            let (raw, rest) = bytes.split_at(used);
            *bytes = rest;
            if is_end {
                self.state = State::Head;
            }
            return Ok(Some(Said::Body { raw, is_end }));
        }
        let gathering = &mut self.gathering;
        if !gathering.go_on(Message::Request, bytes, head, limits)? {
            return Ok(None);
        }
        let request = Request::of(head, limits)?;
        self.state = State::Body(request.body.clone());
        Ok(Some(Said::Request(request)))
    }

    /// Bytes of the stream are missing here.
    pub(crate) fn hole(&mut self, missing: Option<u64>) -> Hole {
        let place = match &mut self.state {
            State::Body(body) => match body.skip_hole(missing) {
                true => return Hole::InBody,
                false => Hole::AcrossBody,
            },
            State::Head | State::Lost => Hole::Between,
        };
        self.gathering.clear();
        self.skipped += self.line.len() as u64;
        self.line.clear();
        self.state = State::Lost;
        place
    }

    /// Looks for the line that begins a request. It may follow the end of a body without any mark
    /// between, hence its own form is all there is to go by.
    fn find(&mut self, bytes: &mut &[u8]) -> bool {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end + 1);
            self.line.extend_from_slice(line);
            *bytes = rest;
            let start = request_line(&self.line);
            self.skipped += start.unwrap_or(self.line.len()) as u64;
            if let Some(start) = start {
                self.gathering.begin(&self.line[start..]);
                self.line = Vec::new();
                self.state = State::Head;
                return true;
            }
            self.line.clear();
        }
        self.line.extend_from_slice(bytes);
        *bytes = &[];
        if self.line.len() > 2 * LINE_BYTES {
            let surplus = self.line.len() - LINE_BYTES;
            self.line.drain(..surplus);
            self.skipped += surplus as u64;
        }
        false
    }
}

/// Where in a line a request begins that takes all the rest of it.
fn request_line(line: &[u8]) -> Option<usize> {
    // What is before that may have been given up already.
    let (before, line) = line.split_at(line.len().saturating_sub(LINE_BYTES));
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let before_version =
        (line.strip_suffix(b" HTTP/1.1")).or_else(|| line.strip_suffix(b" HTTP/1.0"))?;
    let space = memchr::memrchr(b' ', before_version)?;
    let (until, target) = (&line[..space], &before_version[space + 1..]);
    let has_form = matches!(target, [b'/' | b'*', ..]) || target.starts_with(b"http");
    // A line of its own may begin with any method; a body may stand before those that are known.
    let is_method = |it: &[u8]| !it.is_empty() && it.iter().all(u8::is_ascii_uppercase);
    let method = match before.is_empty() && is_method(until) && until.len() <= METHOD_BYTES {
        true => until,
        false => METHODS.iter().find(|method| until.ends_with(method))?,
    };
    let start = before.len() + until.len() - method.len();
    (has_form || method == b"CONNECT").then_some(start)
}

/// What the first bytes behind an upgrade are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// They begin a request of HTTP/1.
    Request,
    /// They do not.
    Other,
    /// There are too few to tell.
    Open,
}

impl Opening {
    /// What these are. A line longer than any request's is none.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let shown = &bytes[..bytes.len().min(LINE_BYTES)];
        match Self::of_line(shown) {
            Self::Open if bytes.len() >= LINE_BYTES => Self::Other,
            opening => opening,
        }
    }

    fn of_line(bytes: &[u8]) -> Self {
        let is_blank = |it: &u8| matches!(it, b'\r' | b'\n');
        let Some(start) = bytes.iter().position(|it| !is_blank(it)) else {
            return Self::Open;
        };
        let line = &bytes[start..];
        let Some(end) = line.iter().position(|it| !is_token(*it)) else {
            return match line.len() > METHOD_BYTES {
                true => Self::Other,
                false => Self::Open,
            };
        };
        if !(1..=METHOD_BYTES).contains(&end) || line[end] != b' ' {
            return Self::Other;
        }
        let target = &line[end + 1..];
        let Some(end) = target.iter().position(|it| *it <= b' ' || *it == 0x7f) else {
            return Self::Open;
        };
        if end == 0 || target[end] != b' ' {
            return Self::Other;
        }
        let rest = &target[end + 1..];
        let known = rest.len().min(VERSION.len());
        match (rest[..known] == VERSION[..known], rest.get(VERSION.len())) {
            (true, None) => Self::Open,
            (true, Some(b'0'..=b'9')) => Self::Request,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads as `METHOD target`, bodies, `.` for an end; and how much was skipped.
    fn read(requests: &mut Requests, mut bytes: &[u8]) -> Result<String, Malformed> {
        let (mut head, mut all) = (Head::default(), Vec::new());
        while let Some(said) = requests.next(&mut bytes, &mut head, &Limits::DEFAULT)? {
            match said {
                Said::Request(_) => {
                    all.extend_from_slice(head.method());
                    all.push(b' ');
                    all.extend_from_slice(head.target());
                    all.push(b' ');
                }
                Said::Body { raw, is_end } => {
                    all.extend_from_slice(raw);
                    all.extend_from_slice(if is_end { b"." } else { b"" });
                }
            }
        }
        Ok(String::from_utf8_lossy(&all).into_owned())
    }

    const STREAM: &[u8] = b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\n\
        Content-Length: 4\r\n\r\nbodyPUT /c HTTP/1.1\nTransfer-Encoding: chunked\n\n\
        1\r\nx\r\n0\r\n\r\n\r\nHEAD / HTTP/1.0\r\n\r\n";

    #[test]
    fn pipelined_requests_are_read_wherever_they_are_cut() {
        let expected = "GET /a .POST /b body.PUT /c 1\r\nx\r\n0\r\n\r\n.HEAD / .";
        for piece in 1..=STREAM.len() {
            let mut requests = Requests::new(true);
            let parts = STREAM.chunks(piece);
            let said = parts.map(|part| read(&mut requests, part).expect("requests"));
            assert_eq!(said.collect::<String>(), expected, "pieces of {piece}");
            assert!(!requests.is_within());
        }
    }

    #[test]
    fn the_first_request_is_found_behind_anything() {
        let before = b"\x00\xffrest of a GET / HTTP/1.1 body\r\nid=7";
        for piece in 1..=before.len() + STREAM.len() {
            let mut requests = Requests::new(false);
            let all = [before, &STREAM[2..]].concat();
            let parts = all.chunks(piece);
            let said = parts.map(|part| read(&mut requests, part).expect("requests"));
            assert!(
                said.collect::<String>()
                    .starts_with("GET /a .POST /b body.")
            );
            assert_eq!(requests.take_skipped(), before.len() as u64);
        }
        let mut requests = Requests::new(false);
        let said = read(&mut requests, b"PURGE /a HTTP/1.1\r\n\r\n");
        assert_eq!(said, Ok("PURGE /a .".to_owned()));
        let mut requests = Requests::new(false);
        let nothing = vec![b'a'; 100_000];
        assert_eq!(read(&mut requests, &nothing), Ok(String::new()));
        assert!(requests.line.len() <= 2 * LINE_BYTES);
    }

    #[test]
    fn after_a_hole_the_next_request_is_found() {
        let mut requests = Requests::new(true);
        assert_eq!(read(&mut requests, b"GET / HT"), Ok(String::new()));
        assert_eq!(requests.hole(None), Hole::Between);
        let rest = b"b: c\r\n\r\nGET /d HTTP/1.1\r\n\r\n";
        assert_eq!(read(&mut requests, rest), Ok("GET /d .".to_owned()));
        assert_eq!(requests.take_skipped(), 8);

        let post = b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n123";
        assert_eq!(read(&mut requests, post), Ok("POST / 123".to_owned()));
        assert_eq!(requests.hole(Some(5)), Hole::InBody);
        let rest = b"90GET / HTTP/1.1\r\n\r\n";
        assert_eq!(read(&mut requests, rest), Ok("90.GET / .".to_owned()));
        assert_eq!(read(&mut requests, post), Ok("POST / 123".to_owned()));
        assert_eq!(requests.hole(Some(8)), Hole::AcrossBody);
        assert_eq!(read(&mut requests, b"zz"), Ok(String::new()));
    }
}
