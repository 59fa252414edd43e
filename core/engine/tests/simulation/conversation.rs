//! What a client says and when: the ground truth of one connection.
//!
//! The client's stream is a sequence of messages. Every byte but a message's last is a
//! pattern of its position, below 0x80; the last is 0x80 plus the message's *answer class*, so that
//! a server that only sees the stream knows where messages end and how long each answer is.

use tcpcopy_packet::FourTuple;

use crate::events::Micros;
use crate::rng::mix;

/// Bytes the origin and the target answer to a message of each class.
pub(crate) const ANSWER_BYTES: [u64; 12] = [
    0,
    1,
    17,
    400,
    1_460,
    4_000,
    30_000,
    70_000,
    300_000,
    1 << 20,
    8 << 20,
    64 << 20,
];

/// A class of [`ANSWER_BYTES`].
pub(crate) type AnswerClass = u8;

/// No answer at all: part of something larger, such as an upload.
pub(crate) const UNANSWERED: AnswerClass = 0;

/// Marks a message's last byte.
const TERMINATOR: u8 = 0x80;

/// One message of the client, at least one byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) bytes: u64,
    pub(crate) answer: AnswerClass,
}

/// Messages sent without waiting for answers between them; then the client waits for all.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) messages: Vec<Message>,
    /// Time between the last answer (or the connection's start) and the first byte.
    pub(crate) think_us: Micros,
    /// Whether the origin answers each message as it comes, so that the client's acknowledgements
    /// move while it still sends; else the answers follow the turn's last message.
    pub(crate) answered_meanwhile: bool,
}

/// How the captured connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client sends FIN after the last answer.
    ClientFin,
    /// The last data segment carries the FIN: a half-close, the answers come after it.
    FinWithData,
    /// A FIN of its own after the last message, before its answers: a half-close.
    HalfClose,
    /// The origin closes after the last answer, the client then.
    OriginFin,
    /// Both FINs cross.
    Simultaneous,
    /// The client resets after the last answer.
    Reset,
    /// The client resets after its last message, not waiting for the answer.
    Abort,
    /// Nothing more is seen: kept alive, or the client's host died.
    Open,
}

/// One client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// Source = the client, destination = the origin.
    pub(crate) tuple: FourTuple,
    pub(crate) start_us: Micros,
    /// What makes this connection's pattern differ from any other's.
    pub(crate) key: u64,
    /// Bytes the server says before the client does.
    pub(crate) greeting_bytes: u64,
    pub(crate) turns: Vec<Turn>,
    pub(crate) ending: Ending,
}

impl Conversation {
    /// The client's whole stream.
    pub(crate) fn stream(&self) -> Vec<u8> {
        let length = usize::try_from(self.stream_len()).expect("fits memory");
        let mut stream = Vec::with_capacity(length + 8);
        while stream.len() < length {
            let word = mix(self.key ^ (stream.len() as u64 / 8)) & 0x7f7f_7f7f_7f7f_7f7f;
            stream.extend_from_slice(&word.to_le_bytes());
        }
        stream.truncate(length);
        let mut end = 0;
        for message in self.messages() {
            end += usize::try_from(message.bytes).expect("fits memory");
            stream[end - 1] = TERMINATOR | message.answer;
        }
        stream
    }

    pub(crate) fn stream_len(&self) -> u64 {
        self.messages().map(|message| message.bytes).sum()
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        self.turns
            .iter()
            .flat_map(|turn| turn.messages.iter().copied())
    }

    /// Where the messages begin in the stream.
    pub(crate) fn message_starts(&self) -> Vec<u64> {
        let mut start = 0;
        self.messages()
            .map(|message| {
                start += message.bytes;
                start - message.bytes
            })
            .collect()
    }
}

/// The answer class that ends a message with `byte`, if it does.
pub(crate) fn message_end(byte: u8) -> Option<AnswerClass> {
    (byte & TERMINATOR != 0).then_some(byte & !TERMINATOR)
}

/// Bytes of an answer of this class.
pub(crate) fn answer_bytes(class: AnswerClass) -> u64 {
    ANSWER_BYTES[usize::from(class)]
}
