//! One session of a model plugin.

use std::collections::VecDeque;
use std::time::Duration;

use tcpcopy_engine::plugin::{Actions, Direction, Event, SessionInfo};

use super::model::{Behaviour, PluginModel, Sighting};
use crate::content::{answers_in, origin_said};
use crate::conversation::{AnswerClass, UNANSWERED, message_end};
use crate::rng::Rng;

/// What plugins say to the target of their own accord; the last byte asks for an answer.
pub(crate) const LOGIN: &[u8] = b"HERE I AM AND WHO ARE YOU\x82";
pub(crate) const PASSWORD: &[u8] = b"THE WORD IS FRIEND\x83";
pub(crate) const RESPONSE: &[u8] = b"CHALLENGE ACCEPTED\x81";
/// Answers of this class are challenges.
pub(crate) const CHALLENGE: AnswerClass = 3;

/// What one thing that the target says means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Greeting,
    LoginAnswer,
    PasswordAnswer,
    Challenge,
    /// An exchange is over after so many more.
    Answer(u64),
}

#[derive(Debug)]
pub(super) struct ModelSession {
    model: PluginModel,
    info: SessionInfo,
    /// A message that is not complete, where whole ones are sent.
    partial: Vec<u8>,
    /// Complete messages of a request that is not complete, where whole ones are sent.
    request: Vec<u8>,
    /// The client is in the middle of a message, or of a request of several.
    in_message: bool,
    in_request: bool,
    /// What comes up to the end of the message belongs to nothing.
    skips: bool,
    requests: u64,
    messages: u64,
    expected: VecDeque<Expected>,
    waiting: VecDeque<Vec<u8>>,
    client_bytes: u64,
    target_bytes: u64,
    origin_bytes: u64,
    /// Where the origin's next byte stands, if that is known.
    origin_at: Option<u64>,
    has_ended: bool,
}

impl ModelSession {
    pub(super) fn open(model: PluginModel, info: SessionInfo, actions: &mut Actions) -> Self {
        let mut session = Self {
            model,
            info,
            partial: Vec::new(),
            request: Vec::new(),
            in_message: false,
            in_request: false,
            skips: !info.start_seen && !model.trusts_beginnings,
            requests: 0,
            messages: 0,
            expected: VecDeque::new(),
            waiting: VecDeque::new(),
            client_bytes: 0,
            target_bytes: 0,
            origin_bytes: 0,
            origin_at: info.start_seen.then_some(0),
            has_ended: false,
        };
        if model.is_greeted {
            session.expected.push_back(Expected::Greeting);
        }
        match model.behaviour {
            Behaviour::LogsIn => {
                actions.send(LOGIN);
                actions.hold();
                session.expected.push_back(Expected::LoginAnswer);
            }
            Behaviour::AwaitsGreeting => actions.hold(),
            _ => {}
        }
        session
    }

    pub(super) fn sighting(&self) -> Sighting {
        let answers = self.expected.iter();
        Sighting {
            info: self.info,
            client_bytes: self.client_bytes,
            origin_bytes: self.origin_bytes,
            target_bytes: self.target_bytes,
            missing_answers: answers.filter(|it| **it != Expected::Greeting).count(),
        }
    }

    pub(super) fn event(&mut self, event: Event<'_>, rng: &mut Rng, actions: &mut Actions) {
        match event {
            Event::Client(bytes) => self.client(bytes, rng, actions),
            Event::Origin(bytes) => self.origin(bytes),
            Event::Target(bytes) => self.target(bytes, actions),
            Event::Gap {
                direction: Direction::Client,
                ..
            } => self.gap(actions),
            Event::Gap { missing, .. } => {
                let known = self.origin_at.zip(missing);
                self.origin_at = known.map(|(at, missing)| at + missing);
            }
            Event::ClientEnd => {
                assert!(!self.has_ended, "the client ends twice");
                self.has_ended = true;
            }
            Event::Timer => self.timer(rng, actions),
            Event::OriginEnd | Event::TargetEnd | Event::Woken => {}
        }
    }

    fn client(&mut self, bytes: &[u8], rng: &mut Rng, actions: &mut Actions) {
        assert!(!bytes.is_empty() && !self.has_ended, "bytes after the end");
        self.client_bytes += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| message_end(*byte).is_some());
            let (part, after) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
            let class = end.and_then(|at| message_end(part[at]));
            rest = after;
            let skips = self.skips;
            self.skips &= class.is_none();
            if skips {
                continue;
            }
            self.part(part, class, rng, actions);
            if let Behaviour::PassesThrough(after) = self.model.behaviour
                && self.messages == after
            {
                actions.send(rest);
                actions.pass_through();
                return;
            }
        }
    }

    /// A part of a message; `class` where it ends with it.
    fn part(
        &mut self,
        part: &[u8],
        class: Option<AnswerClass>,
        rng: &mut Rng,
        actions: &mut Actions,
    ) {
        use Behaviour::{Answers, Delays, Doubles, DropsThird, LogsIn, RelaysUnmarked};
        let is_whole = matches!(
            self.model.behaviour,
            Doubles | DropsThird | LogsIn | Answers | Delays
        );
        self.messages += u64::from(class.is_some());
        self.in_message = class.is_none();
        let begins = !self.in_request;
        self.in_request = class.is_none_or(|class| class == UNANSWERED);
        if !is_whole {
            if begins && self.model.behaviour != RelaysUnmarked {
                actions.begin_exchange();
            }
            actions.send(part);
            if class.is_some_and(|class| class != UNANSWERED) {
                self.expected.push_back(Expected::Answer(1));
            }
            return;
        }
        self.partial.extend_from_slice(part);
        let Some(class) = class else {
            return;
        };
        let message = std::mem::take(&mut self.partial);
        self.request.extend_from_slice(&message);
        if self.model.behaviour == Doubles {
            self.request.extend_from_slice(&message);
        }
        if class != UNANSWERED {
            let request = std::mem::take(&mut self.request);
            self.requests += 1;
            self.complete(request, class, rng, actions);
        }
    }

    /// A request is complete.
    fn complete(
        &mut self,
        request: Vec<u8>,
        class: AnswerClass,
        rng: &mut Rng,
        actions: &mut Actions,
    ) {
        let expected = match self.model.behaviour {
            Behaviour::DropsThird if self.requests.is_multiple_of(3) => {
                return actions.begin_exchange();
            }
            Behaviour::Delays => {
                if self.waiting.is_empty() {
                    actions.hold();
                    actions.set_timer(Duration::from_micros(rng.range(0, 20_000)));
                }
                return self.waiting.push_back(request);
            }
            Behaviour::Doubles => Expected::Answer(2),
            Behaviour::Answers if class == CHALLENGE => Expected::Challenge,
            _ => Expected::Answer(1),
        };
        self.expected.push_back(expected);
        actions.begin_exchange();
        actions.send(&request);
    }

    fn timer(&mut self, rng: &mut Rng, actions: &mut Actions) {
        let request = (self.waiting.pop_front()).expect("a timer only while something waits");
        actions.release();
        actions.begin_exchange();
        actions.send(&request);
        self.expected.push_back(Expected::Answer(1));
        if !self.waiting.is_empty() {
            actions.hold();
            actions.set_timer(Duration::from_micros(rng.range(0, 20_000)));
        }
    }

    fn gap(&mut self, actions: &mut Actions) {
        let has_sent_part = self.in_message && self.partial.is_empty() && !self.skips;
        if has_sent_part {
            return actions.refuse();
        }
        self.partial.clear();
        self.in_message = false;
        self.skips = true;
    }

    fn origin(&mut self, bytes: &[u8]) {
        if let Some(at) = &mut self.origin_at {
            let said = origin_said(*at, bytes.len() as u64);
            assert!(said == bytes, "the origin's bytes from {at} on");
            *at += bytes.len() as u64;
        }
        self.origin_bytes += bytes.len() as u64;
    }

    fn target(&mut self, bytes: &[u8], actions: &mut Actions) {
        let answers = answers_in(self.target_bytes, bytes);
        self.target_bytes += bytes.len() as u64;
        let awaits_greeting = self.model.behaviour == Behaviour::AwaitsGreeting;
        let marks = self.model.behaviour != Behaviour::RelaysUnmarked;
        for _ in 0..answers {
            match self.expected.pop_front() {
                Some(Expected::Greeting) if awaits_greeting => actions.release(),
                Some(Expected::Greeting) | None => {}
                Some(Expected::LoginAnswer) => {
                    actions.send(PASSWORD);
                    self.expected.push_front(Expected::PasswordAnswer);
                }
                Some(Expected::PasswordAnswer) => actions.release(),
                Some(Expected::Challenge) => {
                    actions.send(RESPONSE);
                    self.expected.push_front(Expected::Answer(1));
                }
                Some(Expected::Answer(left @ 2..)) => {
                    self.expected.push_front(Expected::Answer(left - 1));
                }
                Some(Expected::Answer(_)) if marks => actions.end_exchange(true),
                Some(Expected::Answer(_)) => {}
            }
        }
    }
}
