//! What a client has said of which nothing has left yet: should the target close, another session's
//! plugin hears it again.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::outbox::Outbox;
use crate::time::Instant;

/// So much is kept of one session, and so many beginnings. A client that has said more of which
/// nothing has left is not heard again: a request that is left out may be an upload of any size.
const KEPT_BYTES: u64 = 4 << 20;
const KEPT_STARTS: usize = 4_096;

/// Where a request begins, as far as TCP can tell, or the stream goes on after a hole.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Offset of its first byte in what the client said.
    input: u64,
    /// Where the output ended when it began.
    output: u64,
    at: Instant,
    what: Beginning,
    /// Requests that the plugin has begun since and left out.
    left_out: u64,
}

/// What is told before the bytes that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A request begins; how much the client had seen.
    Request(u64),
    /// So many bytes are missing.
    Gap(Option<u64>),
}

/// The client's bytes from the first request on of which nothing has left.
#[derive(Debug, Default)]
pub(super) struct Past {
    said: Outbox,
    starts: VecDeque<Start>,
    has_progressed: bool,
    /// There was more than is kept, and some of it may not be decided yet.
    is_cut: bool,
}

/// One request, or what follows a hole in one, to be said again.
#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) what: Beginning,
    pub(super) at: Instant,
    pub(super) chunks: Vec<Bytes>,
}

impl Repeat {
    pub(super) fn byte_count(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

impl Past {
    pub(super) fn memory_bytes(&self) -> u64 {
        self.said.memory_bytes()
    }

    /// Something begins with the next byte, where the output ends at `output`.
    pub(super) fn begin(&mut self, at: Instant, output: u64, what: Beginning) {
        // After a hole in a request that is forgotten, nothing can begin.
        if self.is_cut || self.starts.is_empty() && matches!(what, Beginning::Gap(_)) {
            return;
        }
        self.starts.push_back(Start {
            input: self.said.end(),
            output,
            at,
            what,
            left_out: 0,
        });
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.said.push(chunk);
        if self.said.memory_bytes() > KEPT_BYTES || self.starts.len() > KEPT_STARTS {
            self.starts.clear();
            self.is_cut = true;
        }
        self.release();
    }

    /// Nothing waits any more of what the client has said: what has not left is left out.
    pub(super) fn decide(&mut self) {
        self.starts.clear();
        self.is_cut = false;
        self.release();
    }

    /// The plugin has begun a request and left it out.
    pub(super) fn note_left_out(&mut self) {
        if let Some(newest) = self.starts.back_mut() {
            newest.left_out += 1;
        }
    }

    /// How many requests that are kept here the plugin has left out.
    pub(super) fn left_out(&self) -> u64 {
        self.starts.iter().map(|start| start.left_out).sum()
    }

    /// Output before `sent` has left: forgets the requests that it may belong to.
    pub(super) fn forget_sent(&mut self, sent: u64) {
        let before = self.starts.len();
        while self.starts.front().is_some_and(|first| first.output < sent) {
            self.starts.pop_front();
            while (self.starts.front()).is_some_and(|it| matches!(it.what, Beginning::Gap(_))) {
                self.starts.pop_front();
            }
        }
        if self.starts.len() < before {
            self.has_progressed = true;
            self.release();
        }
    }

    fn release(&mut self) {
        let needed = self
            .starts
            .front()
            .map_or(self.said.end(), |first| first.input);
        self.said.release_before(needed);
    }

    /// So many bytes of output that belong to no request were put in at `from`.
    pub(super) fn shift(&mut self, from: u64, bytes: u64) {
        let later = self.starts.iter_mut().filter(|start| start.output >= from);
        later.for_each(|start| start.output += bytes);
    }

    /// Whether any request has left. Where none has, another session would fare no better: a target
    /// that turns our login down must not be asked for ever.
    pub(super) fn has_progressed(&self) -> bool {
        self.has_progressed
    }

    /// Where the output ended before the first of the requests.
    pub(super) fn output(&self) -> Option<u64> {
        self.starts.front().map(|first| first.output)
    }

    /// Takes out all requests, in order.
    pub(super) fn take(&mut self) -> Vec<Repeat> {
        let Some(first) = self.starts.front() else {
            return Vec::new();
        };
        let mut offset = first.input;
        let mut chunks = self.said.split_off(offset).into_iter();
        let starts = std::mem::take(&mut self.starts);
        let ends = starts
            .iter()
            .skip(1)
            .map(|next| next.input)
            .chain([u64::MAX]);
        let mut repeats = Vec::with_capacity(starts.len());
        for (start, end) in starts.iter().zip(ends) {
            let mut own = Vec::new();
            while offset < end
                && let Some(chunk) = chunks.next()
            {
                offset += chunk.len() as u64;
                own.push(chunk);
            }
            repeats.push(Repeat {
                what: start.what,
                at: start.at,
                chunks: own,
            });
        }
        repeats
    }
}

#[cfg(test)]
mod tests {
    use super::Beginning::{Gap, Request};
    use super::*;

    const T: fn(u64) -> Instant = Instant::from_micros;

    fn texts(past: &mut Past) -> Vec<(Beginning, String)> {
        let repeats = past.take().into_iter();
        repeats
            .map(|repeat| {
                (
                    repeat.what,
                    String::from_utf8(repeat.chunks.concat()).unwrap(),
                )
            })
            .collect()
    }

    fn past() -> Past {
        let mut past = Past::default();
        past.push(Bytes::from_static(b"unbegun"));
        for (output, seen, chunks) in [
            (0, 0, ["first ", "request"]),
            (10, 100, ["second ", "request"]),
            (20, 200, ["third ", "request"]),
        ] {
            past.begin(T(output), output, Request(seen));
            for chunk in chunks {
                past.push(Bytes::from_static(chunk.as_bytes()));
            }
        }
        past
    }

    #[test]
    fn what_nothing_has_left_of_is_said_again() {
        let mut past = past();
        past.forget_sent(10);
        assert_eq!(past.output(), Some(10));
        let second = (Request(100), "second request".to_owned());
        assert_eq!(
            texts(&mut past),
            [second, (Request(200), "third request".to_owned())]
        );
        assert_eq!((past.memory_bytes(), past.output()), (0, None));
    }

    #[test]
    fn what_has_left_is_forgotten_and_so_is_what_belongs_to_no_request() {
        let mut past = past();
        past.shift(20, 5);
        past.forget_sent(25);
        assert_eq!(
            texts(&mut past),
            [(Request(200), "third request".to_owned())]
        );
        past.begin(T(0), 30, Request(0));
        past.push(Bytes::from_static(b"x"));
        past.forget_sent(31);
        past.push(Bytes::from_static(b"more of it"));
        assert_eq!(past.memory_bytes(), 0);
    }

    #[test]
    fn a_hole_is_told_of_again_and_belongs_to_its_request() {
        let mut past = past();
        past.begin(T(0), 25, Gap(Some(9)));
        past.push(Bytes::from_static(b" after a hole"));
        past.begin(T(0), 30, Request(300));
        past.push(Bytes::from_static(b"fourth"));
        past.forget_sent(20);
        let third = (Request(200), "third request".to_owned());
        let rest = (Gap(Some(9)), " after a hole".to_owned());
        let fourth = (Request(300), "fourth".to_owned());
        assert_eq!(texts(&mut past), [third, rest, fourth]);
    }

    #[test]
    fn what_is_left_out_is_kept_no_longer_than_it_may_be_needed() {
        let mut past = past();
        past.note_left_out();
        past.note_left_out();
        assert_eq!(past.left_out(), 2);
        past.decide();
        assert_eq!((past.memory_bytes(), past.left_out()), (0, 0));
        past.begin(T(0), 20, Request(0));
        let chunk = Bytes::from(vec![0; 64 << 10]);
        for _ in 0..=KEPT_BYTES >> 16 {
            past.push(chunk.clone());
            assert!(past.memory_bytes() <= KEPT_BYTES);
        }
        past.begin(T(0), 20, Request(0));
        assert_eq!(past.output(), None, "what it follows may still wait");
        past.decide();
        past.begin(T(0), 20, Request(0));
        for _ in 0..=KEPT_STARTS {
            past.begin(T(0), 20, Request(0));
        }
        past.push(chunk);
        assert_eq!((past.memory_bytes(), past.output()), (0, None));
    }

    #[test]
    fn nothing_begins_with_a_hole() {
        let mut past = past();
        past.begin(T(0), 30, Gap(None));
        past.forget_sent(21);
        assert_eq!(past.output(), None);
        past.begin(T(0), 40, Gap(None));
        assert_eq!(past.output(), None);
    }
}
