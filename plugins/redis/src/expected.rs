//! Which reply ends which exchange.

use std::collections::VecDeque;

use crate::kind::Topic;
use crate::reply::{Reply, Shape};

/// How many commands of different kinds may wait for their answers. A target that answers nothing
/// must not cost memory without end; the gate has given up on it long before.
const MOST: usize = 1 << 20;

/// What a login, `SELECT` or a transaction with them changes about the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The target's number of the database that is selected.
    pub(crate) database: Option<u64>,
    /// There is an `AUTH` or `HELLO`.
    pub(crate) is_login: bool,
    /// What `HELLO` asks for.
    pub(crate) protocol: Option<u8>,
}

/// What the target owes for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// One answer.
    Answer,
    /// None.
    Silence,
    /// `AUTH` or `HELLO` of the client, with the target's account or as the client said it.
    Login {
        is_mapped: bool,
        /// What `HELLO` asks for, 0 where that is none.
        protocol: Option<u8>,
    },
    Reset,
    Monitor,
    /// A selected database.
    Selected(u64),
    /// The answer to `EXEC`, which is followed by so many values more where a transaction has
    /// subscribed to several topics at once.
    Transaction {
        more: u64,
        queued: Changes,
    },
    /// So many values, of whatever kind.
    Values(u64),
    /// Confirmations for so many topics.
    Topics {
        topic: Topic,
        joins: bool,
        left: u64,
    },
    /// Confirmations for all topics that there are.
    AllTopics(Topic),
    /// Commands of the plugin's own, which are no exchanges.
    OwnLogin,
    OwnHello,
    OwnSelect,
    OwnDiscard,
}

impl Expected {
    /// Whether no exchange ends with it.
    pub(crate) fn is_own(self) -> bool {
        self.is_introduction() || self == Self::OwnDiscard
    }

    /// Whether it is a part of what the plugin tells the target before the client's commands.
    fn is_introduction(self) -> bool {
        matches!(self, Self::OwnLogin | Self::OwnHello | Self::OwnSelect)
    }

    /// Whether it says who the client is, or forgets that.
    fn tells_user(self) -> bool {
        matches!(self, Self::Login { .. } | Self::OwnLogin | Self::Reset)
    }
}

/// What a reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// A message, a notice, a line of `MONITOR`: nobody asked for it.
    OutOfBand(&'static str),
    /// Nothing that was asked.
    Nothing,
    /// What is expected first, which may be owed more.
    Part,
    /// It is the whole answer to this.
    All(Expected),
}

/// The answers that a session waits for, and what its connection is listening to.
#[derive(Debug, Default)]
pub(crate) struct ExpectedReplies {
    /// What is expected, each so many times in a row.
    queue: VecDeque<(Expected, u32)>,
    /// How many of them are parts of introductions.
    introductions: usize,
    /// 3 once the target has agreed.
    protocol: u8,
    is_monitoring: bool,
    channels: u64,
    patterns: u64,
    shards: u64,
    /// Topics were subscribed to in silence; their confirmations come nevertheless.
    has_silent_topics: bool,
}

impl ExpectedReplies {
    /// Adds what is owed for the next command. False where there is too much.
    pub(crate) fn push(&mut self, expected: Expected) -> bool {
        let places = self.queue.len();
        match self.queue.back_mut() {
            Some((last, times)) if *last == expected && *times < u32::MAX => *times += 1,
            _ if places >= MOST => return false,
            _ => self.queue.push_back((expected, 1)),
        }
        self.introductions += usize::from(expected.is_introduction());
        true
    }

    /// Topics are subscribed to without an answer to wait for.
    pub(crate) fn note_silent_topics(&mut self) {
        self.has_silent_topics = true;
    }

    /// What is expected first.
    pub(crate) fn first(&self) -> Option<Expected> {
        self.queue.front().map(|(expected, _)| *expected)
    }

    /// Takes out what is expected first.
    pub(crate) fn pop(&mut self) -> Option<Expected> {
        let (expected, times) = self.queue.front_mut()?;
        let expected = *expected;
        *times -= 1;
        if *times == 0 {
            self.queue.pop_front();
            if self.queue.is_empty() {
                self.queue = VecDeque::new();
            }
        }
        self.introductions -= usize::from(expected.is_introduction());
        Some(expected)
    }

    /// How many commands wait for their answers.
    pub(crate) fn open(&self) -> u64 {
        let of_clients = self.queue.iter().filter(|(expected, _)| !expected.is_own());
        of_clients.map(|(_, times)| u64::from(*times)).sum()
    }

    /// Whether the target still has to agree to what the plugin has said by itself.
    pub(crate) fn has_introduction(&self) -> bool {
        self.introductions > 0
    }

    /// Whether the target has yet to answer what says who the client is.
    pub(crate) fn has_login(&self) -> bool {
        self.queue.iter().any(|(expected, _)| expected.tells_user())
    }

    /// The target has agreed to this version of the protocol.
    pub(crate) fn set_protocol(&mut self, protocol: u8) {
        self.protocol = protocol;
    }

    /// Which version of the protocol the target speaks.
    pub(crate) fn protocol(&self) -> u8 {
        self.protocol.max(2)
    }

    pub(crate) fn set_monitoring(&mut self) {
        self.is_monitoring = true;
    }

    /// The connection is as new, but for what is expected.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            queue: std::mem::take(&mut self.queue),
            introductions: self.introductions,
            ..Self::default()
        };
    }

    fn is_subscribed(&self) -> bool {
        self.channels + self.patterns + self.shards > 0 || self.has_silent_topics
    }

    /// Tells what a reply is about, and takes out what is answered with it.
    pub(crate) fn answer(&mut self, reply: &Reply) -> Answers {
        if let Some(name) = self.out_of_band(reply) {
            return Answers::OutOfBand(name);
        }
        let Some((first, _)) = self.queue.front_mut() else {
            return Answers::Nothing;
        };
        let first = *first;
        let next = match first {
            Expected::Transaction { more, .. } if more > 0 && reply.shape == Shape::Array => {
                Some(Expected::Values(more))
            }
            Expected::Values(left) if left > 1 => Some(Expected::Values(left - 1)),
            Expected::Topics { topic, joins, left } => {
                let is_part = self.confirm(reply, topic, joins) && left > 1;
                is_part.then(|| Expected::Topics {
                    topic,
                    joins,
                    left: left - 1,
                })
            }
            Expected::AllTopics(topic) => {
                let left = self.topics(topic);
                let is_part = self.confirm(reply, topic, false) && left > 1;
                is_part.then(|| Expected::Topics {
                    topic,
                    joins: false,
                    left: left - 1,
                })
            }
            _ => None,
        };
        self.pop();
        match next {
            Some(next) => {
                self.queue.push_front((next, 1));
                Answers::Part
            }
            None => Answers::All(first),
        }
    }

    /// The name of what nobody asked for, if the reply is that.
    fn out_of_band(&mut self, reply: &Reply) -> Option<&'static str> {
        let is_push = reply.shape == Shape::Push;
        if is_push || (reply.shape == Shape::Array && self.is_subscribed() && self.protocol() == 2)
        {
            match (reply.word(), reply.count) {
                (b"message" | b"smessage", 3) | (b"pmessage", 4) => return Some("messages"),
                _ => {}
            }
            if let Some((topic, joins)) = confirmation(reply) {
                let is_expected = match self.first() {
                    Some(Expected::Topics {
                        topic: expected,
                        joins: expected_joins,
                        ..
                    }) => (expected, expected_joins) == (topic, joins),
                    Some(Expected::AllTopics(expected)) => expected == topic && !joins,
                    Some(Expected::Values(_)) => true,
                    _ => false,
                };
                if is_expected {
                    return None;
                }
                self.confirm(reply, topic, joins);
                return Some("subscription_notices");
            }
            return is_push.then_some("pushes");
        }
        let is_line =
            self.is_monitoring && reply.shape == Shape::Line && is_monitored(reply.word());
        is_line.then_some("monitored_commands")
    }

    /// Takes note of a confirmation; false where it is none of this topic.
    fn confirm(&mut self, reply: &Reply, topic: Topic, joins: bool) -> bool {
        if confirmation(reply) != Some((topic, joins)) {
            return false;
        }
        // Channels and patterns are counted together, shard channels by themselves.
        let total = reply.third.unwrap_or(0);
        match topic {
            Topic::Channel => self.channels = total.saturating_sub(self.patterns),
            Topic::Pattern => self.patterns = total.saturating_sub(self.channels),
            Topic::Shard => self.shards = total,
        }
        true
    }

    fn topics(&self, topic: Topic) -> u64 {
        match topic {
            Topic::Channel => self.channels,
            Topic::Pattern => self.patterns,
            Topic::Shard => self.shards,
        }
    }
}

/// What a reply confirms, if it is a confirmation.
fn confirmation(reply: &Reply) -> Option<(Topic, bool)> {
    if !matches!(reply.shape, Shape::Array | Shape::Push) || reply.count != 3 {
        return None;
    }
    reply.third?;
    match reply.word() {
        b"subscribe" => Some((Topic::Channel, true)),
        b"unsubscribe" => Some((Topic::Channel, false)),
        b"psubscribe" => Some((Topic::Pattern, true)),
        b"punsubscribe" => Some((Topic::Pattern, false)),
        b"ssubscribe" => Some((Topic::Shard, true)),
        b"sunsubscribe" => Some((Topic::Shard, false)),
        _ => None,
    }
}

/// A line of `MONITOR`: `1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`.
fn is_monitored(line: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|it| it.is_ascii_digit()).count();
    let seconds = digits(line);
    let fraction = match &line[seconds..] {
        [b'.', rest @ ..] => rest,
        _ => return false,
    };
    let micros = digits(fraction);
    seconds > 0 && micros > 0 && fraction[micros..].starts_with(b" [")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::ReplyParser;

    fn answers(expected: &mut ExpectedReplies, text: &str) -> Vec<Answers> {
        let mut parser = ReplyParser::new();
        let mut bytes = text.as_bytes();
        let mut answers = Vec::new();
        while let Some(reply) = parser.next(&mut bytes).expect("replies") {
            answers.push(expected.answer(reply));
        }
        answers
    }

    fn topics(joins: bool, left: u64) -> Expected {
        Expected::Topics {
            topic: Topic::Channel,
            joins,
            left,
        }
    }

    #[test]
    fn equal_expectations_take_one_place() {
        let mut expected = ExpectedReplies::default();
        for _ in 0..1000 {
            assert!(expected.push(Expected::Answer));
        }
        assert_eq!((expected.queue.len(), expected.open()), (1, 1000));
        let all = answers(&mut expected, "+OK\r\n$-1\r\n");
        assert_eq!(all, [Answers::All(Expected::Answer); 2]);
        assert_eq!(expected.open(), 998);
    }

    #[test]
    fn introductions_and_logins_are_known_without_what_is_around_them() {
        let mut expected = ExpectedReplies::default();
        for each in [
            Expected::Reset,
            Expected::OwnDiscard,
            Expected::OwnLogin,
            Expected::OwnLogin,
            Expected::OwnSelect,
            Expected::Answer,
        ] {
            assert!(expected.push(each));
        }
        let mut facts = Vec::new();
        while let Some(first) = expected.first() {
            facts.push((expected.has_introduction(), expected.has_login()));
            if first == Expected::Reset {
                expected.reset();
            }
            expected.pop();
        }
        let both = (true, true);
        let wanted = [both, both, both, both, (true, false), (false, false)];
        assert_eq!(facts, wanted);
    }

    #[test]
    fn a_subscription_is_confirmed_topic_by_topic() {
        let mut expected = ExpectedReplies::default();
        expected.push(topics(true, 2));
        expected.push(Expected::AllTopics(Topic::Channel));
        expected.push(Expected::Answer);
        let text = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n\
            *3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n\
            *3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n\
            *3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n\
            *3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n\
            *3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n";
        let all = answers(&mut expected, text);
        let wanted = [
            Answers::Part,
            Answers::OutOfBand("messages"),
            Answers::All(topics(true, 1)),
            Answers::Part,
            Answers::All(topics(false, 1)),
            // Nobody is subscribed any more: it is the answer to LRANGE.
            Answers::All(Expected::Answer),
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn an_error_is_the_whole_answer_to_a_subscription() {
        let mut expected = ExpectedReplies::default();
        expected.push(topics(true, 3));
        let all = answers(&mut expected, "-NOPERM no\r\n+PONG\r\n");
        assert_eq!(all, [Answers::All(topics(true, 3)), Answers::Nothing]);
    }

    #[test]
    fn pushes_are_nobodys_answer() {
        let mut expected = ExpectedReplies::default();
        expected.push(Expected::Answer);
        let text = ">2\r\n+invalidate\r\n*1\r\n+k\r\n>3\r\n+subscribe\r\n+a\r\n:1\r\n+OK\r\n";
        let wanted = [
            Answers::OutOfBand("pushes"),
            Answers::OutOfBand("subscription_notices"),
            Answers::All(Expected::Answer),
        ];
        assert_eq!(answers(&mut expected, text), wanted);
    }

    #[test]
    fn monitor_lines_are_told_from_answers() {
        let mut expected = ExpectedReplies::default();
        expected.set_monitoring();
        expected.push(Expected::Answer);
        let text = "+1339518083.107412 [0 127.0.0.1:1] \"keys\" \"*\"\r\n+PONG\r\n";
        let all = answers(&mut expected, text);
        assert_eq!(all[0], Answers::OutOfBand("monitored_commands"));
        assert_eq!(all[1], Answers::All(Expected::Answer));
    }

    #[test]
    fn a_transaction_that_subscribes_to_several_topics_is_followed_by_the_rest() {
        let mut expected = ExpectedReplies::default();
        let transaction = Expected::Transaction {
            more: 1,
            queued: Changes::default(),
        };
        expected.push(transaction);
        let text = "*2\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n\
            *3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n+PONG\r\n";
        let wanted = [Answers::Part, Answers::All(Expected::Values(1))];
        assert_eq!(answers(&mut expected, text), wanted);
        expected.push(transaction);
        let aborted = answers(&mut expected, "*-1\r\n");
        assert_eq!(aborted, [Answers::All(transaction)]);
    }
}
