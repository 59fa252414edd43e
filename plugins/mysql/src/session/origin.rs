//! The origin's stream: what it answered to the client, and which numbers it gave.

use std::collections::VecDeque;

use super::client::is_packed;
use super::queue::Noted;
use super::rollback::has_rolled_back;
use super::{Connection, Turn};
use crate::answer::{Answer, Dialect, Malformed, Step, Summary};
use crate::capability::Capabilities;
use crate::command::Kind;
use crate::compression::Unpacker;
use crate::frame::{FULL, Gatherer, HEADER, Message, Splitter};
use crate::login::{Known, Packet};
use crate::ok::{self, Okay, Status};
use crate::sql::Escapes;
use crate::statements::Key;

/// So many packets of logins are kept until the target is ready for them.
const EARLY_PACKETS: usize = 64;

/// The origin's stream, and what it has told of the session.
#[derive(Debug, Default)]
pub(super) struct Origin {
    phase: Phase,
    pub(super) is_packed: bool,
    unpacker: Option<Unpacker>,
    splitter: Splitter,
    gatherer: Gatherer,
    dialect: Dialect,
    expected: VecDeque<Expected>,
    /// Packets of dialogues of changes of user that the target has not been told of yet, with their
    /// exchanges.
    early: VecDeque<(u64, Packet)>,
    /// The number of an EOF that may still come behind an answer, while it is not known whether this
    /// connection has them.
    trailing: Option<u8>,
    pub(super) status: Option<Status>,
    /// The session's database, once it is known otherwise than from the login.
    pub(super) schema: Option<Vec<u8>>,
    /// The database that columns were of, where that is all that tells.
    pub(super) guess: Option<Vec<u8>>,
    /// Who the client has become since the login.
    pub(super) changed: Option<Known>,
    /// Its character set, by name.
    pub(super) names: Option<Vec<u8>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Greeting,
    Login,
    /// It has refused the client.
    Denied(u16),
    /// Each message belongs to the oldest answer that is expected.
    InStep,
    /// Which message is whose can't be told before the next command.
    OutOfStep,
}

#[derive(Debug)]
struct Expected {
    number: u64,
    /// `None` for a login in the middle.
    answer: Option<Answer>,
    /// The number that its next packet has, where that is known.
    next: Option<u8>,
    prepares: Option<Key>,
    effect: Effect,
}

/// What a command does if it succeeds.
#[derive(Debug)]
enum Effect {
    Nothing,
    Schema(Vec<u8>),
    Names(Vec<u8>),
    /// The session's state is that of a new one, but for the database.
    Reset,
    /// The session is another user's.
    User(Known),
}

impl Origin {
    /// A stream whose beginning was not seen.
    pub(super) fn search(&mut self, known: Option<Capabilities>) {
        self.phase = Phase::OutOfStep;
        if let Some(known) = known {
            self.dialect = Dialect::of(known);
            self.is_packed = is_packed(known);
        }
    }

    /// Whether it has answered everything, and no transaction is open.
    pub(super) fn rests(&self) -> bool {
        let is_outside = self
            .status
            .is_some_and(|status| !status.is_in_transaction());
        is_outside && self.phase == Phase::InStep && self.expected.is_empty()
    }

    /// How the texts of the session are to be read.
    pub(super) fn escapes(&self) -> Escapes {
        Escapes::of(self.status, self.names.as_deref())
    }

    pub(super) fn is_in_step(&self) -> bool {
        self.phase != Phase::OutOfStep
    }

    /// A command was sent that the origin will answer.
    /// `changes` tells to whom the session will belong.
    pub(super) fn expect(
        &mut self,
        number: u64,
        answer: Option<Answer>,
        noted: &Noted,
        changes: Option<Known>,
    ) {
        let meaning = &noted.meaning;
        let effect = match (noted.kind, &meaning.database, &meaning.names) {
            (Kind::ChangeUser, _, _) => changes.map_or(Effect::Reset, Effect::User),
            (Kind::ResetConnection, _, _) => Effect::Reset,
            (Kind::InitDb, _, _) => Effect::Schema(noted.payload[1..].to_vec()),
            (Kind::Query, Some(name), _) => Effect::Schema(name.clone()),
            (Kind::Query, None, Some(name)) => Effect::Names(name.clone()),
            _ => Effect::Nothing,
        };
        // One packet is followed by the next number.
        let next = (answer.is_some() && noted.length < FULL).then_some(1);
        self.expected.push_back(Expected {
            number,
            answer,
            next,
            prepares: noted.prepares,
            effect,
        });
    }

    /// Whether the answer to this exchange is still to come.
    pub(super) fn owes(&self, number: u64) -> bool {
        self.expected.iter().any(|it| it.number == number)
    }

    /// Expects the newest answer only. These are the others' exchanges, which nobody will answer.
    pub(super) fn forget_all_but_last(&mut self) -> Vec<u64> {
        let older = self.expected.len().saturating_sub(1);
        self.expected.drain(..older).map(|it| it.number).collect()
    }

    /// What comes next belongs to no command that is known.
    pub(super) fn fall_behind(&mut self) {
        if matches!(self.phase, Phase::InStep | Phase::OutOfStep) {
            self.phase = Phase::OutOfStep;
            (self.splitter, self.gatherer) = Default::default();
            self.unpacker = None;
            self.expected.clear();
        }
    }

    /// Some of the stream is lost, or nothing more is to be waited for.
    pub(super) fn lose(&mut self) {
        if matches!(self.phase, Phase::Greeting | Phase::Login) {
            self.phase = Phase::InStep;
        }
        self.fall_behind();
    }

    /// Passes over a hole, if it is within a packet that nobody reads.
    pub(super) fn skip(&mut self, missing: u64) -> bool {
        let is_plain = self.unpacker.is_none() && self.phase == Phase::InStep;
        is_plain && self.gatherer.is_passing() && self.splitter.skip(missing)
    }

    fn wants(&self, first: u8) -> bool {
        match self.phase {
            Phase::InStep => self
                .expected
                .front()
                .and_then(|expected| expected.answer.as_ref())
                .is_none_or(|answer| answer.wants(first)),
            _ => true,
        }
    }

    /// Whether the answer to the newest command begins here, as its number tells.
    fn steps_in(&mut self, input: &[u8]) -> bool {
        let Some(expected) = self.expected.front() else {
            return false;
        };
        let begins = match input.first_chunk::<HEADER>() {
            Some(&[a, b, c, sequence]) => {
                let fits = match expected.next {
                    Some(next) if !self.is_packed => sequence == next,
                    _ => sequence > 0,
                };
                [a, b, c] != [0; 3] && fits
            }
            None => false,
        };
        if !begins {
            return false;
        }
        self.phase = Phase::InStep;
        self.unpacker = self.is_packed.then(Unpacker::default);
        true
    }

    /// Whether this only trails behind the answer before. Then it is known that such EOFs come.
    fn trails(&mut self, message: Message<'_>) -> bool {
        let number = self.trailing.take();
        let is_eof = message.length < ok::EOF_LENGTH && message.payload.first() == Some(&ok::EOF);
        let trails = is_eof && number == Some(message.sequence);
        if trails {
            self.dialect.deprecates_eof = Some(false);
        }
        trails
    }

    /// Reads a packet of the answer that is expected. Answers are numbered without a gap, so that
    /// one that was taken for another's shows at once. (Within compressed streams they are not.)
    fn read(&mut self, expected: &mut Expected, message: Message<'_>) -> Result<Step, Malformed> {
        let next = expected.next.filter(|_| !self.is_packed);
        let answer = expected.answer.as_mut().ok_or(Malformed)?;
        if next.is_some_and(|next| next != message.sequence) {
            return Err(Malformed);
        }
        let step = answer.take(&mut self.dialect, message)?;
        let next = message.last.wrapping_add(1);
        // Behind a file comes what follows the file's last number.
        expected.next = (step != Step::File).then_some(next);
        if step == Step::Done && self.dialect.deprecates_eof.is_none() {
            self.trailing = Some(next);
        }
        Ok(step)
    }

    /// What an answer tells of the session; true if another session would have to know.
    fn learn(&mut self, effect: Effect, summary: &Summary) -> bool {
        if summary.status.is_some() {
            self.status = summary.status;
        }
        let (mut schema, mut names) = (summary.schema.clone(), summary.character_set.clone());
        let mut is_another = false;
        match effect {
            Effect::Schema(name) if summary.error.is_none() => schema = schema.or(Some(name)),
            Effect::Names(name) if summary.error.is_none() => names = names.or(Some(name)),
            Effect::Reset if summary.error.is_none() => self.names = None,
            Effect::User(known) if summary.error.is_none() => {
                (self.names, self.guess) = (None, None);
                schema = schema.or(Some(known.database.clone()));
                self.changed = Some(known);
                is_another = true;
            }
            _ => {}
        }
        let has_changed = is_another || schema.is_some() && schema != self.schema;
        self.schema = schema.or(self.schema.take());
        self.names = names.or(self.names.take());
        has_changed
    }
}

impl Connection {
    pub(super) fn origin_bytes(&mut self, bytes: &[u8], turn: &mut Turn<'_, '_>) {
        let mut input = bytes;
        if matches!(self.origin.phase, Phase::Greeting | Phase::Login) {
            self.origin_packets(&mut input, turn);
        }
        if input.is_empty() || self.is_over {
            return;
        }
        let is_denied = self.origin_denied();
        if is_denied || !self.origin.is_in_step() && !self.origin.steps_in(input) {
            return;
        }
        let Some(mut unpacker) = self.origin.unpacker.take() else {
            return self.origin_packets(&mut input, turn);
        };
        let mut plain = Vec::new();
        loop {
            match unpacker.next(&mut input, &mut plain) {
                Ok(true) => self.origin_packets(&mut plain.as_slice(), turn),
                Ok(false) => break,
                Err(_) => {
                    turn.ctx.count("origin_answers_unreadable", 1);
                    return self.lose_origin(turn);
                }
            }
        }
        if self.origin.phase == Phase::InStep {
            self.origin.unpacker = Some(unpacker);
        }
    }

    /// Takes packets, up to the end of the login if that is where the stream stands: behind it, it
    /// may be compressed.
    fn origin_packets(&mut self, input: &mut &[u8], turn: &mut Turn<'_, '_>) {
        let was_in_step = self.origin.phase == Phase::InStep;
        let mut gatherer = std::mem::take(&mut self.origin.gatherer);
        while let Some(piece) = self.origin.splitter.next(input) {
            if let Some(message) = gatherer.take(&piece, |first, _| self.origin.wants(first)) {
                self.origin_message(message, turn);
            }
            let is_in_step = self.origin.phase == Phase::InStep;
            let goes_on = matches!(self.origin.phase, Phase::Greeting | Phase::Login) || is_in_step;
            if !goes_on {
                return;
            }
            if is_in_step && !was_in_step {
                break;
            }
        }
        self.origin.gatherer = gatherer;
    }

    fn origin_message(&mut self, message: Message<'_>, turn: &mut Turn<'_, '_>) {
        match self.origin.phase {
            Phase::Greeting | Phase::Login => self.origin_login(message, turn),
            Phase::InStep => self.origin_answer(message, turn),
            Phase::Denied(_) | Phase::OutOfStep => {}
        }
    }

    fn origin_login(&mut self, message: Message<'_>, turn: &mut Turn<'_, '_>) {
        let is_greeting = self.origin.phase == Phase::Greeting;
        let first = message.payload.first().copied();
        let packet = Packet {
            sequence: message.sequence,
            payload: message.payload.to_vec(),
        };
        self.tell_login(packet, turn);
        if self.origin.phase == Phase::Greeting {
            self.origin.phase = Phase::Login;
        }
        let mut summary = Summary::default();
        match first {
            Some(ok::ERROR) => {
                let code = ok::error_code(message.payload).unwrap_or_default();
                self.origin.phase = Phase::Denied(code);
                summary.error = Some(code);
            }
            Some(ok::OK) if !is_greeting => {
                self.origin.phase = Phase::InStep;
                summary.status = Okay::read(message.payload).map(|okay| okay.status);
                self.origin.status = summary.status;
                if let Some(capabilities) = self.login.client_capabilities() {
                    self.origin.dialect = Dialect::of(capabilities);
                    self.origin.is_packed = is_packed(capabilities);
                    self.origin.unpacker = self.origin.is_packed.then(Unpacker::default);
                    self.origin_agreed(capabilities, turn);
                }
            }
            _ => return,
        }
        if let Some(number) = self.login_number {
            self.account.origin(number, &summary, turn.ctx);
        }
    }

    /// Tells a change of user that begins now what the origin has said for it already.
    pub(super) fn tell_early_packets(&mut self, number: u64, turn: &mut Turn<'_, '_>) {
        let early = &mut self.origin.early;
        let count = early.iter().take_while(|it| it.0 <= number).count();
        let early: Vec<_> = early.drain(..count).collect();
        for (_, packet) in early.into_iter().filter(|it| it.0 == number) {
            self.tell_login(packet, turn);
        }
    }

    /// What client and origin have agreed upon is known, perhaps only after both have gone on.
    fn origin_agreed(&mut self, capabilities: Capabilities, turn: &mut Turn<'_, '_>) {
        if !self.login.has_seen_origin() {
            return;
        }
        self.client.has_attributes = Some(capabilities.has(Capabilities::QUERY_ATTRIBUTES));
        if let Some(logged_in) = &self.logged_in {
            let known = self.known(logged_in);
            self.place.remember(&known, turn.ctx);
        }
    }

    fn tell_login(&mut self, packet: Packet, turn: &mut Turn<'_, '_>) {
        let mut out = Vec::new();
        let step = self
            .login
            .on_origin(&turn.plugin.accounts, packet, turn.ctx, &mut out);
        self.say(&out, turn);
        self.login_step(step, turn);
    }

    /// Whether the origin has refused the client with this error.
    pub(super) fn origin_denied(&self) -> bool {
        matches!(self.origin.phase, Phase::Denied(_))
    }

    fn origin_answer(&mut self, message: Message<'_>, turn: &mut Turn<'_, '_>) {
        if self.origin.trails(message) {
            return;
        }
        let Some(mut expected) = self.origin.expected.pop_front() else {
            // The server ends the connection by itself; or its answer has overtaken the command, and
            // must not be waited for.
            turn.ctx.count("origin_answers_unasked", 1);
            return self.lose_origin(turn);
        };
        if expected.answer.is_none() {
            return self.origin_change(expected, message, turn);
        }
        match self.origin.read(&mut expected, message) {
            Ok(Step::More) => self.origin.expected.push_front(expected),
            Ok(Step::File) => {
                let dialogue = self.client.dialogue.as_mut();
                if let Some(dialogue) = dialogue.filter(|it| it.number == expected.number) {
                    dialogue.file_asked(message.sequence);
                }
                self.origin.expected.push_front(expected);
            }
            Ok(Step::Done) => {
                let summary = expected
                    .answer
                    .take()
                    .map(|it| it.summary)
                    .unwrap_or_default();
                self.origin_answered(expected, &summary, turn);
            }
            Err(_) => {
                turn.ctx.count("origin_answers_unreadable", 1);
                self.lose_origin(turn);
            }
        }
    }

    /// A message of the dialogue that a change of user is.
    fn origin_change(&mut self, expected: Expected, message: Message<'_>, turn: &mut Turn<'_, '_>) {
        let packet = Packet {
            sequence: message.sequence,
            payload: message.payload.to_vec(),
        };
        if self.is_changing() && self.login_number == Some(expected.number) {
            self.tell_login(packet, turn);
        } else if self.target.has_not_begun(expected.number)
            && self.origin.early.len() < EARLY_PACKETS
        {
            self.origin.early.push_back((expected.number, packet));
        }
        let mut summary = Summary::default();
        match message.payload.first() {
            Some(&ok::OK) => summary.status = Okay::read(message.payload).map(|it| it.status),
            Some(&ok::ERROR) => summary.error = ok::error_code(message.payload),
            _ => return self.origin.expected.push_front(expected),
        }
        self.origin_answered(expected, &summary, turn);
    }

    fn origin_answered(&mut self, expected: Expected, summary: &Summary, turn: &mut Turn<'_, '_>) {
        if let Some(key) = expected.prepares {
            self.origin_prepared(key, summary.prepared, turn);
        }
        let is_anew = matches!(expected.effect, Effect::Reset | Effect::User(_));
        if is_anew && summary.error.is_none() {
            // Statements whose preparation was answered since the command came are gone too.
            self.place.forget_statements(turn.ctx);
        }
        let has_changed = self.origin.learn(expected.effect, summary);
        if let Some(logged_in) = self.logged_in.as_ref().filter(|_| has_changed) {
            let known = self.known(logged_in);
            self.place.remember(&known, turn.ctx);
        }
        self.watch(summary);
        if has_rolled_back(summary) {
            self.origin_rolled_back(expected.number, turn);
        }
        self.account.origin(expected.number, summary, turn.ctx);
    }
}
