//! What a plugin asks for, as bytes.
//!
//! ```text
//! action = tag: u8, length: u32, payload: length bytes       integers are little-endian
//!
//! tag  action          payload
//!  1   send            the bytes
//!  2   begin exchange  label
//!  3   end exchange    ok: u8 (0 or 1), status: u32, label
//!  4   hold            -
//!  5   release         -
//!  6   refuse          name
//!  7   count           n: u64, name
//!  8   timer           microseconds: u64
//!  9   pass through    -
//! 10   wait            timeout in microseconds: u64, key: the bytes
//!
//! label = UTF-8, at most 256 bytes
//! name  = 1 to 64 of a-z, 0-9, _
//! ```

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::Outcome;

/// What stands before each payload: tag and length.
pub const TAG_BYTES: usize = 5;

/// The longest label of an exchange or an outcome.
pub const LABEL_BYTES: usize = 256;

/// The longest name of a counter or a reason.
pub const NAME_BYTES: usize = 64;

const SEND: u8 = 1;
const BEGIN_EXCHANGE: u8 = 2;
const END_EXCHANGE: u8 = 3;
const HOLD: u8 = 4;
const RELEASE: u8 = 5;
const REFUSE: u8 = 6;
const COUNT: u8 = 7;
const TIMER: u8 = 8;
const PASS_THROUGH: u8 = 9;
const WAIT: u8 = 10;

/// One thing that a plugin asks for; [`Context`](crate::Context) says what each means.
///
/// ```
/// use plugin_api::abi::{Action, ActionBuffer, Actions};
///
/// let mut buffer = ActionBuffer::new();
/// buffer.push(Action::BeginExchange { label: "GET" });
/// buffer.push(Action::Send(b"GET / HTTP/1.1\r\n\r\n"));
///
/// let read: Result<Vec<_>, _> = Actions::new(buffer.bytes()).collect();
/// assert_eq!(read?[0], Action::BeginExchange { label: "GET" });
/// # Ok::<(), plugin_api::abi::MalformedAction>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Bytes for the target.
    Send(&'a [u8]),
    /// A request begins.
    BeginExchange {
        /// What kind of request.
        label: &'a str,
    },
    /// The answer to the oldest open request is complete.
    EndExchange(Outcome<'a>),
    /// What is sent from here on waits.
    Hold,
    /// It waits no longer.
    Release,
    /// The session can't be replayed.
    Refuse {
        /// The counter's name.
        reason: &'a str,
    },
    /// A counter grows.
    Count {
        /// The counter's name.
        name: &'a str,
        /// By how much.
        n: u64,
    },
    /// The timer is set anew.
    Timer {
        /// How long from now.
        after: Duration,
    },
    /// The rest of the session bypasses the plugin.
    PassThrough,
    /// A shared value is asked for.
    Wait {
        /// Its key.
        key: &'a [u8],
        /// For how long it is waited for.
        timeout: Duration,
    },
}

/// Writes actions, in a buffer that is used again and again.
///
/// ```
/// use plugin_api::abi::{Action, ActionBuffer};
///
/// let mut buffer = ActionBuffer::new();
/// buffer.push(Action::Send(b"ab"));
/// assert_eq!(buffer.bytes(), [1, 2, 0, 0, 0, b'a', b'b']);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ActionBuffer(Vec<u8>);

impl ActionBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an action. A label that is too long is cut; a name is made one: other characters
    /// become `_`, and what is too long is cut.
    pub fn push(&mut self, action: Action<'_>) {
        match action {
            Action::Send(bytes) => self.write(SEND, &[bytes]),
            Action::BeginExchange { label } => self.write(BEGIN_EXCHANGE, &[cut(label).as_bytes()]),
            Action::EndExchange(outcome) => {
                let (ok, status) = ([u8::from(outcome.ok)], outcome.status.to_le_bytes());
                self.write(END_EXCHANGE, &[&ok, &status, cut(outcome.label).as_bytes()]);
            }
            Action::Hold => self.write(HOLD, &[]),
            Action::Release => self.write(RELEASE, &[]),
            Action::Refuse { reason } => self.write(REFUSE, &[Name::new(reason).bytes()]),
            Action::Count { name, n } => {
                self.write(COUNT, &[&n.to_le_bytes(), Name::new(name).bytes()]);
            }
            Action::Timer { after } => self.write(TIMER, &[&micros(after).to_le_bytes()]),
            Action::PassThrough => self.write(PASS_THROUGH, &[]),
            Action::Wait { key, timeout } => {
                self.write(WAIT, &[&micros(timeout).to_le_bytes(), key]);
            }
        }
    }

    /// All actions as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Gives the bytes away, and leaves an empty buffer.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Makes room for so many more bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.0.reserve(bytes);
    }

    /// Forgets all actions and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn write(&mut self, tag: u8, payload: &[&[u8]]) {
        let length: usize = payload.iter().map(|part| part.len()).sum();
        let field = u32::try_from(length).expect("an action is shorter than 4 GiB");
        self.0.reserve(TAG_BYTES + length);
        self.0.push(tag);
        self.0.extend_from_slice(&field.to_le_bytes());
        for part in payload {
            self.0.extend_from_slice(part);
        }
    }
}

impl fmt::Debug for ActionBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(Actions::new(&self.0))
            .finish()
    }
}

/// Reads actions from bytes that anybody may have written. It ends after the first error.
///
/// ```
/// use plugin_api::abi::{Action, Actions, MalformedAction};
///
/// let mut actions = Actions::new(&[4, 0, 0, 0, 0, 99, 0, 0, 0, 0]);
/// assert_eq!(actions.next(), Some(Ok(Action::Hold)));
/// assert_eq!(actions.next(), Some(Err(MalformedAction::Tag(99))));
/// assert_eq!(actions.next(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Actions<'a> {
    rest: &'a [u8],
}

impl<'a> Actions<'a> {
    /// Reads `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn read(&mut self) -> Result<Action<'a>, MalformedAction> {
        let (tag, rest) = self.rest.split_first().ok_or(MalformedAction::Short)?;
        let (length, rest) = rest.split_first_chunk().ok_or(MalformedAction::Short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (payload, rest) = rest
            .split_at_checked(length)
            .ok_or(MalformedAction::Short)?;
        self.rest = rest;
        match *tag {
            SEND => Ok(Action::Send(payload)),
            BEGIN_EXCHANGE => Ok(Action::BeginExchange {
                label: label(payload)?,
            }),
            END_EXCHANGE => end_exchange(payload),
            HOLD => empty(payload, Action::Hold),
            RELEASE => empty(payload, Action::Release),
            REFUSE => Ok(Action::Refuse {
                reason: name(payload)?,
            }),
            COUNT => {
                let (n, rest) = integer(payload)?;
                let name = name(rest)?;
                Ok(Action::Count { name, n })
            }
            TIMER => {
                let (after, rest) = integer(payload)?;
                let after = Duration::from_micros(after);
                empty(rest, Action::Timer { after })
            }
            PASS_THROUGH => empty(payload, Action::PassThrough),
            WAIT => {
                let (timeout, key) = integer(payload)?;
                let timeout = Duration::from_micros(timeout);
                Ok(Action::Wait { key, timeout })
            }
            tag => Err(MalformedAction::Tag(tag)),
        }
    }
}

impl<'a> Iterator for Actions<'a> {
    type Item = Result<Action<'a>, MalformedAction>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let action = self.read();
        if action.is_err() {
            self.rest = &[];
        }
        Some(action)
    }
}

/// Why bytes are no actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MalformedAction {
    /// They end in the middle of one.
    #[error("an action is cut off")]
    Short,
    /// There is no action of this number.
    #[error("there is no action of number {0}")]
    Tag(u8),
    /// The payload of an action is longer or shorter than it can be.
    #[error("the payload of an action has a wrong length")]
    Length,
    /// A label is not UTF-8, or too long.
    #[error("a label must be UTF-8 of at most {LABEL_BYTES} bytes")]
    Label,
    /// A name is empty, too long, or has other characters.
    #[error("a name must be 1 to {NAME_BYTES} lower case letters, digits and _")]
    Name,
    /// A truth value is neither 0 nor 1.
    #[error("a truth value must be 0 or 1")]
    Boolean,
}

fn end_exchange(payload: &[u8]) -> Result<Action<'_>, MalformedAction> {
    let (ok, rest) = payload.split_first().ok_or(MalformedAction::Length)?;
    let ok = match ok {
        0 => false,
        1 => true,
        _ => return Err(MalformedAction::Boolean),
    };
    let (status, rest) = rest.split_first_chunk().ok_or(MalformedAction::Length)?;
    Ok(Action::EndExchange(Outcome {
        ok,
        status: u32::from_le_bytes(*status),
        label: label(rest)?,
    }))
}

fn empty<'a>(rest: &[u8], action: Action<'a>) -> Result<Action<'a>, MalformedAction> {
    match rest {
        [] => Ok(action),
        _ => Err(MalformedAction::Length),
    }
}

fn integer(payload: &[u8]) -> Result<(u64, &[u8]), MalformedAction> {
    let (integer, rest) = payload.split_first_chunk().ok_or(MalformedAction::Length)?;
    Ok((u64::from_le_bytes(*integer), rest))
}

fn label(payload: &[u8]) -> Result<&str, MalformedAction> {
    match std::str::from_utf8(payload) {
        Ok(label) if label.len() <= LABEL_BYTES => Ok(label),
        _ => Err(MalformedAction::Label),
    }
}

fn name(payload: &[u8]) -> Result<&str, MalformedAction> {
    let length = (1..=NAME_BYTES).contains(&payload.len());
    if !length || !payload.iter().copied().all(is_of_name) {
        return Err(MalformedAction::Name);
    }
    std::str::from_utf8(payload).map_err(|_| MalformedAction::Name)
}

fn is_of_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')
}

/// As much of a text as a label may have.
fn cut(text: &str) -> &str {
    let mut length = text.len().min(LABEL_BYTES);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    &text[..length]
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A text made a name.
struct Name {
    bytes: [u8; NAME_BYTES],
    length: usize,
}

impl Name {
    fn new(text: &str) -> Self {
        let text = if text.is_empty() { "_" } else { text };
        let mut bytes = [0; NAME_BYTES];
        let length = text.len().min(NAME_BYTES);
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = if is_of_name(from) { from } else { b'_' };
        }
        Self { bytes, length }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Parts {
        kind: u8,
        bytes: Vec<u8>,
        label: String,
        name: String,
        number: u64,
    }

    impl Parts {
        fn action(&self) -> Action<'_> {
            let duration = Duration::from_micros(self.number);
            match self.kind {
                SEND => Action::Send(&self.bytes),
                BEGIN_EXCHANGE => Action::BeginExchange { label: &self.label },
                END_EXCHANGE => Action::EndExchange(Outcome {
                    ok: self.number.is_multiple_of(2),
                    status: self.number as u32,
                    label: &self.label,
                }),
                HOLD => Action::Hold,
                RELEASE => Action::Release,
                REFUSE => Action::Refuse { reason: &self.name },
                COUNT => Action::Count {
                    name: &self.name,
                    n: self.number,
                },
                TIMER => Action::Timer { after: duration },
                PASS_THROUGH => Action::PassThrough,
                _ => Action::Wait {
                    key: &self.bytes,
                    timeout: duration,
                },
            }
        }
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let bytes = vec(any::<u8>(), 0..80);
        (
            SEND..=WAIT,
            bytes,
            "\\PC{0,60}",
            "[a-z0-9_]{1,64}",
            any::<u64>(),
        )
            .prop_map(|(kind, bytes, label, name, number)| Parts {
                kind,
                bytes,
                label,
                name,
                number,
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(all in vec(parts(), 0..12)) {
            let mut buffer = ActionBuffer::new();
            for parts in &all {
                buffer.push(parts.action());
            }
            let read: Vec<_> = Actions::new(buffer.bytes()).collect::<Result<_, _>>().expect("ours");
            let written: Vec<_> = all.iter().map(Parts::action).collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            all in vec(parts(), 0..6),
            cut in any::<prop::sample::Index>(),
            flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            noise in vec(any::<u8>(), 0..40),
        ) {
            let mut buffer = ActionBuffer::new();
            for parts in &all {
                buffer.push(parts.action());
            }
            let mut bytes = buffer.take();
            bytes.extend(noise);
            for (at, value) in flips.into_iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            // What was read, written again, is a beginning of the bytes: nothing is made up.
            let mut again = ActionBuffer::new();
            let mut errors = 0;
            for action in Actions::new(&bytes) {
                prop_assert_eq!(errors, 0, "an error is the end");
                match action {
                    Ok(action) => again.push(action),
                    Err(_) => errors += 1,
                }
            }
            prop_assert!(bytes.starts_with(again.bytes()));
            prop_assert_eq!(errors == 0, bytes.len() == again.bytes().len());
        }
    }

    fn read(bytes: &[u8]) -> Result<Vec<Action<'_>>, MalformedAction> {
        Actions::new(bytes).collect()
    }

    #[test]
    fn each_error_has_its_name() {
        assert_eq!(read(&[]), Ok(vec![]));
        assert_eq!(read(&[4, 0, 0, 0]), Err(MalformedAction::Short));
        assert_eq!(read(&[1, 255, 255, 255, 255]), Err(MalformedAction::Short));
        assert_eq!(read(&[0, 0, 0, 0, 0]), Err(MalformedAction::Tag(0)));
        assert_eq!(read(&[11, 0, 0, 0, 0]), Err(MalformedAction::Tag(11)));
        assert_eq!(read(&[4, 1, 0, 0, 0, 9]), Err(MalformedAction::Length));
        assert_eq!(read(&[8, 1, 0, 0, 0, 9]), Err(MalformedAction::Length));
        assert_eq!(read(&[2, 1, 0, 0, 0, 0xff]), Err(MalformedAction::Label));
        assert_eq!(read(&[6, 1, 0, 0, 0, b'A']), Err(MalformedAction::Name));
        assert_eq!(read(&[6, 0, 0, 0, 0]), Err(MalformedAction::Name));
        assert_eq!(
            read(&[3, 5, 0, 0, 0, 2, 0, 0, 0, 0]),
            Err(MalformedAction::Boolean)
        );
        let long = [&[2, 1, 1, 0, 0][..], &[b'a'; LABEL_BYTES + 1]].concat();
        assert_eq!(read(&long), Err(MalformedAction::Label));
    }

    #[test]
    fn names_and_labels_are_made_to_fit() {
        let mut buffer = ActionBuffer::new();
        let long = "é".repeat(LABEL_BYTES);
        buffer.push(Action::BeginExchange { label: &long });
        buffer.push(Action::Refuse { reason: "Not OK" });
        buffer.push(Action::Count { name: "", n: 1 });
        buffer.push(Action::Count { name: &long, n: 1 });
        let fits = [
            Action::BeginExchange {
                label: &long[..LABEL_BYTES],
            },
            Action::Refuse { reason: "_ot___" },
            Action::Count { name: "_", n: 1 },
            Action::Count {
                name: &"_".repeat(NAME_BYTES),
                n: 1,
            },
        ];
        assert_eq!(read(buffer.bytes()).expect("made to fit"), fits);
    }
}
