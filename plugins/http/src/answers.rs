//! A server's stream as answers.

use crate::body::Body;
use crate::framing::{Answer, Kind};
use crate::head::{Gathering, Head, Message};
use crate::limits::Limits;
use crate::malformed::Malformed;

/// Reads a server's stream.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    state: State,
    gathering: Gathering,
}

#[derive(Debug, Default)]
enum State {
    /// Between answers, or within a head.
    #[default]
    Head,
    Body(Body),
    /// What follows is no HTTP.
    Switched,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// An answer begins; its head has been read.
    Answer(Answer),
    /// Content of its body, without framing.
    Content(&'a [u8]),
    /// It is complete.
    End,
}

impl Answers {
    /// Whether the next byte begins an answer.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.state, State::Head) && self.gathering.is_empty()
    }

    /// The next thing that these bytes say, which are shortened by that; an answer that begins is
    /// one to a request of this kind. Its head is in `head` then.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub(crate) fn next<'a>(
        &mut self,
        to: Kind,
        bytes: &mut &'a [u8],
        head: &mut Head,
        limits: &Limits,
    ) -> Result<Option<Heard<'a>>, Malformed> {
        loop {
            match &mut self.state {
                State::Switched => {
                    *bytes = &[];
                    return Ok(None);
                }
                State::Body(body) if body.is_over() => {
                    self.state = State::Head;
                    return Ok(Some(Heard::End));
                }
                _ if bytes.is_empty() => return Ok(None),
                State::Body(body) => {
                    let step = body.step(bytes)?;
                    let (taken, rest) = bytes.split_at(step.used);
                    *bytes = rest;
                    if step.is_end {
                        self.state = State::Body(Body::Length(0));
                    }
                    if step.content > 0 {
                        let content = &taken[step.used - step.content..];
                        return Ok(Some(Heard::Content(content)));
                    }
                }
                State::Head => {
                    let gathering = &mut self.gathering;
                    if !gathering.go_on(Message::Answer, bytes, head, limits)? {
                        return Ok(None);
                    }
                    let answer = Answer::of(head, to, limits)?;
                    self.state = match (answer.switches, answer.is_interim) {
                        (true, _) => State::Switched,
                        (false, true) => State::Head,
                        (false, false) => State::Body(answer.body.clone()),
                    };
                    return Ok(Some(Heard::Answer(answer)));
                }
            }
        }
    }

    /// The server has closed its side. True when that completes an answer.
    pub(crate) fn close(&mut self) -> bool {
        let is_end = matches!(self.state, State::Body(Body::UntilClose));
        if is_end {
            self.state = State::Head;
        }
        is_end
    }

    /// Bytes are missing here. False when nobody knows what follows.
    pub(crate) fn hole(&mut self, missing: Option<u64>) -> bool {
        match &mut self.state {
            State::Body(body) => body.skip_hole(missing),
            State::Switched => true,
            State::Head => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answers: &mut Answers, kinds: &mut Vec<Kind>, mut bytes: &[u8]) -> String {
        let (mut head, mut all) = (Head::default(), String::new());
        loop {
            let to = kinds.first().copied().unwrap_or(Kind::Plain);
            let heard = answers.next(to, &mut bytes, &mut head, &Limits::DEFAULT);
            match heard.expect("answers") {
                Some(Heard::Answer(answer)) => {
                    all += &format!("{} ", answer.status);
                    if !answer.is_interim && !kinds.is_empty() {
                        kinds.remove(0);
                    }
                }
                Some(Heard::Content(bytes)) => all += &String::from_utf8_lossy(bytes),
                Some(Heard::End) => all += ".",
                None => return all,
            }
        }
    }

    #[test]
    fn answers_are_read_wherever_they_are_cut() {
        let stream = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
            HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n\
            HTTP/1.0 500 x\r\n\r\nall the rest";
        for piece in 1..=stream.len() {
            let mut answers = Answers::default();
            let mut kinds = vec![
                Kind::Plain,
                Kind::Head,
                Kind::Plain,
                Kind::Plain,
                Kind::Plain,
            ];
            let parts = stream.chunks(piece);
            let heard = parts.map(|part| read(&mut answers, &mut kinds, part));
            let expected = "100 200 ok.200 .304 .200 x.500 all the rest";
            assert_eq!(heard.collect::<String>(), expected, "pieces of {piece}");
            assert!(!answers.is_between() && answers.close() && answers.is_between());
        }
    }

    #[test]
    fn what_follows_a_switch_is_not_read() {
        let mut answers = Answers::default();
        let bytes = b"HTTP/1.1 101 x\r\n\r\n\x81\x00";
        assert_eq!(read(&mut answers, &mut vec![], bytes), "101 ");
        assert!(!answers.close());
    }
}
