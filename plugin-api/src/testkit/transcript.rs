//! What happens on connections, as text.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::escape::{escape, unescape};
use crate::{Direction, SessionInfo};

/// What happens on one or more connections, in order.
///
/// One step a line; empty lines, lines that begin with `#` and blanks around a line mean nothing.
///
/// | line | what happens |
/// | --- | --- |
/// | `C: get x\r\n` | the captured client says this; `O:` the origin, `T:` the target |
/// | `C gap 100` | 100 bytes of the client's stream are lost for good; also `O` and `T`; `C gap unknown` |
/// | `C end` | the client has finished its stream; also `O end`, `T end` |
/// | `after 250 ms` | time goes by; timers go off |
/// | `session 2` | what follows belongs to session 2, which opens now; without this line: session 1 |
/// | `session 2 mid-stream copy=1 client=192.0.2.9:1234` | the same with what it is told; also `origin=`, `target=` |
/// | `close` | the session ends; those that are open at the transcript's end do it there |
///
/// In bytes, `\r \n \t \0 \\` and `\xNN` are escapes; a blank at the beginning or end is `\x20`.
/// What a transcript prints is read as the same transcript.
///
/// ```
/// use plugin_api::testkit::Transcript;
///
/// let text = "session 1 mid-stream\nC: a\\x00b\\r\\n\nC end\nafter 250 ms\n";
/// let transcript: Transcript = text.parse()?;
/// assert_eq!(transcript.to_string(), text);
///
/// let error = "C: \\q".parse::<Transcript>().unwrap_err();
/// assert_eq!(error.to_string(), r"line 1: \ must be followed by r, n, t, 0, \ or xNN");
/// # Ok::<(), plugin_api::testkit::TranscriptError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One line of a transcript.
///
/// ```
/// use plugin_api::Direction;
/// use plugin_api::testkit::{Step, Transcript};
///
/// let bytes = b"get x\n".to_vec();
/// let steps = vec![Step::Data { direction: Direction::Client, bytes }];
/// assert_eq!(Transcript { steps }.to_string(), "C: get x\\n\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What follows belongs to this session, which opens when it is first named.
    Session(Opening),
    /// Bytes of a stream; at least one.
    Data {
        /// Which stream.
        direction: Direction,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A hole in a stream.
    Gap {
        /// Which stream.
        direction: Direction,
        /// How many bytes, if that is known.
        missing: Option<u64>,
    },
    /// A stream is finished.
    End {
        /// Which stream.
        direction: Direction,
    },
    /// Time goes by, in whole milliseconds.
    After(Duration),
    /// The session ends.
    Close,
}

/// A session of a transcript and what it is told.
///
/// ```
/// use plugin_api::testkit::Opening;
///
/// let late = Opening { start_seen: false, ..Opening::new(2) };
/// assert_eq!(late.to_string(), "session 2 mid-stream");
/// assert_eq!(late.info().client.port(), 50002);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its number.
    pub id: u64,
    /// Whether its beginning was captured.
    pub start_seen: bool,
    /// Which copy it is.
    pub copy: u16,
    /// The client, if not one made up from the number.
    pub client: Option<SocketAddr>,
    /// The origin, if not the usual one.
    pub origin: Option<SocketAddr>,
    /// The target, if not the usual one.
    pub target: Option<SocketAddr>,
}

impl Opening {
    /// A session about which there is nothing to say.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self {
            id,
            start_seen: true,
            copy: 0,
            client: None,
            origin: None,
            target: None,
        }
    }

    /// What the session is told: clients have ports from 50001 on, by their session's number.
    #[must_use]
    pub fn info(&self) -> SessionInfo {
        let example = SessionInfo::example();
        let mut client = example.client;
        client.set_port(50_000 + (self.id % 10_000) as u16);
        SessionInfo {
            id: self.id,
            client: self.client.unwrap_or(client),
            origin: self.origin.unwrap_or(example.origin),
            target: self.target.unwrap_or(example.target),
            copy: self.copy,
            start_seen: self.start_seen,
        }
    }
}

/// A line that is not one of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct TranscriptError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for Transcript {
    type Err = TranscriptError;

    fn from_str(text: &str) -> Result<Self, TranscriptError> {
        let mut steps = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let step = line.parse().map_err(|problem| TranscriptError {
                line: at + 1,
                problem,
            })?;
            steps.push(step);
        }
        Ok(Self { steps })
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        if let Some((letter, bytes)) = line.split_once(':')
            && let Some(direction) = direction(letter)
        {
            let bytes = unescape(bytes.trim_start())?;
            return match bytes.is_empty() {
                true => Err("there are no bytes".to_owned()),
                false => Ok(Self::Data { direction, bytes }),
            };
        }
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["session", id, rest @ ..] => opening(id, rest).map(Self::Session),
            ["close"] => Ok(Self::Close),
            ["after", millis, "ms"] => match millis.parse() {
                Ok(millis) => Ok(Self::After(Duration::from_millis(millis))),
                Err(_) => Err(format!("{millis} is no number of milliseconds")),
            },
            [name, "end"] if direction(name).is_some() => end(name),
            [letter, "gap", missing] if direction(letter).is_some() => gap(letter, missing),
            _ => Err(
                "expected `C:`, `O:` or `T:` and bytes, `C gap`, `C end`, `after`, `session` or `close`"
                    .to_owned(),
            ),
        }
    }
}

fn direction(letter: &str) -> Option<Direction> {
    match letter {
        "C" => Some(Direction::Client),
        "O" => Some(Direction::Origin),
        "T" => Some(Direction::Target),
        _ => None,
    }
}

fn letter(direction: Direction) -> char {
    match direction {
        Direction::Client => 'C',
        Direction::Origin => 'O',
        Direction::Target => 'T',
    }
}

fn end(letter: &str) -> Result<Step, String> {
    let direction = direction(letter).ok_or_else(|| format!("{letter} is no stream"))?;
    Ok(Step::End { direction })
}

fn gap(letter: &str, missing: &str) -> Result<Step, String> {
    let direction = direction(letter).ok_or_else(|| format!("{letter} is no stream"))?;
    let missing = match missing {
        "unknown" => None,
        number => match number.parse() {
            Ok(missing) => Some(missing),
            Err(_) => return Err(format!("{number} is neither a number nor `unknown`")),
        },
    };
    Ok(Step::Gap { direction, missing })
}

fn opening(id: &str, rest: &[&str]) -> Result<Opening, String> {
    let id = id.parse().map_err(|_| format!("{id} is no number"))?;
    let mut opening = Opening::new(id);
    for word in rest {
        let wrong = || format!("{word} is nothing that a session is told");
        match word.split_once('=') {
            None if *word == "mid-stream" => opening.start_seen = false,
            Some(("copy", copy)) => opening.copy = copy.parse().map_err(|_| wrong())?,
            Some((who @ ("client" | "origin" | "target"), address)) => {
                let address = Some(address.parse().map_err(|_| wrong())?);
                match who {
                    "client" => opening.client = address,
                    "origin" => opening.origin = address,
                    _ => opening.target = address,
                }
            }
            _ => return Err(wrong()),
        }
    }
    Ok(opening)
}

impl fmt::Display for Transcript {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(formatter, "{step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(opening) => opening.fmt(formatter),
            Self::Data { direction, bytes } => {
                write!(formatter, "{}: {}", letter(*direction), escape(bytes))
            }
            Self::Gap { direction, missing } => match missing {
                Some(missing) => write!(formatter, "{} gap {missing}", letter(*direction)),
                None => write!(formatter, "{} gap unknown", letter(*direction)),
            },
            Self::End { direction } => write!(formatter, "{} end", letter(*direction)),
            Self::After(time) => write!(formatter, "after {} ms", time.as_millis()),
            Self::Close => formatter.write_str("close"),
        }
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "session {}", self.id)?;
        if !self.start_seen {
            formatter.write_str(" mid-stream")?;
        }
        if self.copy != 0 {
            write!(formatter, " copy={}", self.copy)?;
        }
        let addresses = [
            ("client", self.client),
            ("origin", self.origin),
            ("target", self.target),
        ];
        for (who, address) in addresses {
            if let Some(address) = address {
                write!(formatter, " {who}={address}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn step() -> impl Strategy<Value = Step> {
        let direction = prop_oneof![
            Just(Direction::Client),
            Just(Direction::Origin),
            Just(Direction::Target)
        ];
        let opening = (
            any::<u64>(),
            any::<bool>(),
            any::<u16>(),
            any::<Option<SocketAddr>>(),
        );
        prop_oneof![
            opening.prop_map(|(id, start_seen, copy, address)| Step::Session(Opening {
                start_seen,
                copy,
                client: address.filter(plain),
                target: address.filter(plain),
                ..Opening::new(id)
            })),
            (direction.clone(), vec(any::<u8>(), 1..40))
                .prop_map(|(direction, bytes)| Step::Data { direction, bytes }),
            (direction.clone(), any::<Option<u64>>())
                .prop_map(|(direction, missing)| Step::Gap { direction, missing }),
            direction.prop_map(|direction| Step::End { direction }),
            any::<u32>().prop_map(|time| Step::After(Duration::from_millis(time.into()))),
            Just(Step::Close),
        ]
    }

    /// Addresses with a flow label or a numbered zone have more than a connection's address has.
    fn plain(address: &SocketAddr) -> bool {
        *address == SocketAddr::new(address.ip(), address.port())
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(steps in vec(step(), 0..20)) {
            let transcript = Transcript { steps };
            prop_assert_eq!(transcript.to_string().parse(), Ok(transcript));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(C|O|T|session|after|:| |[0-9]|\\\\|\\PC|\n){0,40}") {
            if let Ok(transcript) = text.parse::<Transcript>() {
                prop_assert_eq!(transcript.to_string().parse(), Ok(transcript));
            }
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let problem = |text: &str| text.parse::<Transcript>().expect_err("wrong").to_string();
        assert_eq!(problem("close\n\nO:  \n"), "line 3: there are no bytes");
        assert_eq!(
            problem("C: \\x4"),
            "line 1: \\x must be followed by two hexadecimal digits"
        );
        assert_eq!(
            problem("session 1 late"),
            "line 1: late is nothing that a session is told"
        );
        assert_eq!(
            problem("after x ms"),
            "line 1: x is no number of milliseconds"
        );
        assert!(problem("X: y").starts_with("line 1: expected `C:`"));
    }
}
