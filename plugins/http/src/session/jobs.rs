//! Requests that the plugin keeps for a while: their body is looked into, a value is waited for, or
//! they come behind one of those.

use std::collections::VecDeque;

use crate::body::Body;
use crate::framing::Request;
use crate::head::Head;
use crate::values::Attempt;

/// Bytes of requests that a session keeps while one waits for a value. With more, it waits no
/// longer.
const KEPT_BYTES: usize = 1 << 20;

/// A request that is kept.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) head: Head,
    pub(super) request: Request,
    pub(super) number: u64,
    /// The counter under which it is left out.
    pub(super) dropped: Option<String>,
    /// Its body with the framing, as far as it has come.
    pub(super) raw: Vec<u8>,
    /// All of it has come.
    pub(super) is_whole: bool,
    /// A part of the body is missing.
    pub(super) is_broken: bool,
    /// The client has ended within it.
    pub(super) is_cut: bool,
    /// It came while another was kept: what lies between them is no longer known to tcpcopy.
    pub(super) is_behind: bool,
    pub(super) attempt: Attempt,
    /// What it counts as kept.
    pub(super) bytes: usize,
}

/// All that is kept, in order.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    pub(super) list: VecDeque<Job>,
    /// The key that the first waits for.
    pub(super) waiting: Option<Vec<u8>>,
    bytes: usize,
}

impl Jobs {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn push(&mut self, mut job: Job) {
        job.bytes = job.head.len();
        self.bytes += job.bytes;
        self.list.push_back(job);
    }

    /// The body of the newest goes on.
    pub(super) fn extend(&mut self, raw: &[u8], is_end: bool) {
        if let Some(job) = self.list.back_mut() {
            job.is_whole = is_end;
            if job.dropped.is_none() {
                job.raw.extend_from_slice(raw);
                job.bytes += raw.len();
                self.bytes += raw.len();
            }
        }
    }

    /// Whether there is no room to wait any longer.
    pub(super) fn is_full(&self, body_bytes: usize) -> bool {
        self.bytes > KEPT_BYTES + body_bytes
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        let job = self.list.pop_front()?;
        self.bytes -= job.bytes;
        if self.list.is_empty() {
            *self = Self::default();
        }
        Some(job)
    }
}

impl Job {
    /// Whether enough of the body has come to look into it.
    pub(super) fn is_ready(&self, body_bytes: usize) -> bool {
        self.is_whole || self.is_cut || self.raw.len() > body_bytes
    }

    /// What may be looked into, and edited: of a body with a length the beginning, of one in chunks
    /// the whole, without its framing. `None` where that is too long or not all there.
    pub(super) fn content(&self, body_bytes: usize) -> Option<Vec<u8>> {
        match &self.request.body {
            Body::Length(_) => {
                let end = self.raw.len().min(body_bytes);
                (self.is_whole || self.raw.len() > body_bytes).then(|| self.raw[..end].to_vec())
            }
            body if self.is_whole && self.raw.len() <= body_bytes => {
                let (content, _) = unchunk(body, &self.raw)?;
                Some(content)
            }
            _ => None,
        }
    }

    /// Puts content in the place of what [`content`](Self::content) gave.
    pub(super) fn set_content(&mut self, old: usize, new: &[u8]) {
        match &self.request.body {
            Body::Length(length) => {
                let length = (*length - old as u64).saturating_add(new.len() as u64);
                self.raw.splice(..old, new.iter().copied());
                self.head.set(b"Content-Length", |out| {
                    out.extend_from_slice(length.to_string().as_bytes());
                });
            }
            body => {
                let end = unchunk(body, &self.raw).map(|(_, end)| self.raw.split_off(end));
                self.raw.clear();
                if !new.is_empty() {
                    self.raw
                        .extend_from_slice(format!("{:x}\r\n", new.len()).as_bytes());
                    self.raw.extend_from_slice(new);
                    self.raw.extend_from_slice(b"\r\n");
                }
                self.raw.extend_from_slice(&end.unwrap_or_default());
            }
        }
    }
}

/// The content of a whole chunked body, and where in it the last chunk begins, the one without
/// content.
fn unchunk(body: &Body, raw: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut content, mut at, mut last) = (body.clone(), Vec::new(), 0, 0);
    loop {
        let step = body.step(&raw[at..]).ok().filter(|it| it.used > 0)?;
        at += step.used;
        content.extend_from_slice(&raw[at - step.content..at]);
        if step.content > 0 {
            last = at;
        }
        if step.is_end {
            // Behind the last content comes the end of its line.
            let last = if last == 0 { 0 } else { last + 2 };
            return Some((content, last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Message;
    use crate::limits::Limits;

    fn job(fields: &str, raw: &[u8]) -> Job {
        let bytes = format!("POST / HTTP/1.1\r\n{fields}\r\n");
        let mut head = Head::default();
        let read = head.read(Message::Request, bytes.as_bytes(), &Limits::DEFAULT);
        assert_eq!(read, Ok(Some(bytes.len())));
        Job {
            request: Request::of(&head, &Limits::DEFAULT).expect("a request"),
            head,
            number: 0,
            dropped: None,
            raw: raw.to_vec(),
            is_whole: true,
            is_broken: false,
            is_cut: false,
            is_behind: false,
            attempt: Attempt::default(),
            bytes: 0,
        }
    }

    #[test]
    fn the_length_follows_the_content() {
        let mut job = job(
            "Content-Length: 10\r\ncontent-length: 10\r\n",
            b"0123456789",
        );
        assert_eq!(job.content(100).as_deref(), Some(&b"0123456789"[..]));
        assert_eq!(job.content(4).as_deref(), Some(&b"0123"[..]));
        job.set_content(4, b"abcdef");
        assert_eq!(job.raw, b"abcdef456789");
        let fields: Vec<_> = job.head.values("content-length").collect();
        assert_eq!(fields, [b"12"]);
    }

    #[test]
    fn chunks_become_one_and_trailers_stay() {
        let raw = b"3;x\r\nabc\r\n2\r\nde\r\n0;y\r\nT: 1\r\n\r\n";
        let mut job = job("Transfer-Encoding: chunked\r\n", raw);
        assert_eq!(job.content(100).as_deref(), Some(&b"abcde"[..]));
        assert_eq!(job.content(10), None);
        job.set_content(5, b"0123456789abcdef");
        assert_eq!(job.raw, b"10\r\n0123456789abcdef\r\n0;y\r\nT: 1\r\n\r\n");
        job.set_content(16, b"");
        assert_eq!(job.raw, b"0;y\r\nT: 1\r\n\r\n");
        assert_eq!(job.content(100).as_deref(), Some(&b""[..]));
    }
}
