//! The target's stream: its answers, and what they set free.

use std::collections::VecDeque;

use plugin_api::Outcome;

use super::late::LateLogin;
use super::rollback::has_rolled_back;
use super::{Connection, Turn};
use crate::answer::{Answer, Dialect, Shape, Step, Summary};
use crate::frame::{Gatherer, Message, Splitter, put_message};
use crate::login::{Known, LoggedIn, Packet};
use crate::ok::Status;
use crate::statements::{Key, Side};

/// The error for a statement that can be said, but not prepared (`ER_UNSUPPORTED_PS`). MySQL gives it
/// for `BEGIN`, MariaDB prepares that.
const UNPREPARABLE: u16 = 1295;

/// The target's stream, and where we stand with it.
#[derive(Debug, Default)]
pub(super) struct Target {
    splitter: Splitter,
    gatherer: Gatherer,
    dialect: Dialect,
    expected: VecDeque<Expected>,
    /// The answer to the oldest of them, as far as it has come.
    answer: Option<Answer>,
    /// How many of them may ask for a file first.
    may_ask_file: usize,
    pub(super) status: Option<Status>,
    /// It has asked for a file: the number that the next packet of the file has.
    pub(super) file: Option<u8>,
    /// The number that the next packet of a long message has; `None` when that is left out.
    pub(super) continues: Option<u8>,
    /// The newest exchange that has begun.
    pub(super) begun: Option<u64>,
    /// What keeps it from taking the client's next command.
    pub(super) busy: Option<Busy>,
    /// Of what the session is made of, what is still to be told, the next last.
    pub(super) to_restore: Vec<Vec<u8>>,
}

/// What the plugin does at the target by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// The dialogue of a change of user.
    Changing,
    /// Telling what the session is made of.
    Restoring,
    /// Preparing a statement again.
    Preparing(Key),
}

/// An answer that is to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    shape: Shape,
    whose: Whose,
}

/// To what it is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// To a command of the client.
    Client {
        number: u64,
        prepares: Option<Key>,
        /// Until it is answered, what comes next may be taken for a file.
        may_ask_file: bool,
    },
    /// To a command of the plugin.
    Own,
}

impl Whose {
    fn may_ask_file(self) -> bool {
        matches!(
            self,
            Self::Client {
                may_ask_file: true,
                ..
            }
        )
    }
}

impl Target {
    /// Whether nothing is to be answered.
    pub(super) fn is_idle(&self) -> bool {
        self.expected.is_empty()
    }

    /// Notes that an exchange begins; false when it has begun before.
    pub(super) fn begins(&mut self, number: u64) -> bool {
        let is_new = self.has_not_begun(number);
        self.begun = Some(number);
        is_new
    }

    /// Whether it has heard anything in an exchange.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub(super) fn has_not_begun(&self, number: u64) -> bool {
        self.begun.is_none_or(|begun| begun < number)
    }

    /// Whether something that came after this exchange has begun.
    pub(super) fn has_begun_behind(&self, number: u64) -> bool {
        self.begun.is_some_and(|begun| begun > number)
    }

    /// Expects an answer behind those that are expected.
    pub(super) fn expect(&mut self, shape: Shape, whose: Whose) {
        self.may_ask_file += usize::from(whose.may_ask_file());
        self.expected.push_back(Expected { shape, whose });
    }

    /// Whether an answer is to come before which no command may be said.
    pub(super) fn may_ask_file(&self) -> bool {
        self.may_ask_file > 0
    }

    /// Whether the answer to this exchange is still to come.
    pub(super) fn owes(&self, number: u64) -> bool {
        let is_it =
            |it: &Expected| matches!(it.whose, Whose::Client { number: it, .. } if it == number);
        self.expected.iter().any(is_it)
    }
}

impl Connection {
    pub(super) fn target_bytes(&mut self, bytes: &[u8], turn: &mut Turn<'_, '_>) {
        let mut input = bytes;
        let mut gatherer = std::mem::take(&mut self.target.gatherer);
        while !self.is_over
            && let Some(piece) = self.target.splitter.next(&mut input)
        {
            if let Some(message) = gatherer.take(&piece, |first, _| self.target_wants(first)) {
                self.target_message(message, turn);
            }
        }
        self.target.gatherer = gatherer;
    }

    fn is_logging_in(&self) -> bool {
        self.logged_in.is_none() || self.is_changing()
    }

    pub(super) fn is_changing(&self) -> bool {
        self.target.busy == Some(Busy::Changing)
    }

    fn target_wants(&self, first: u8) -> bool {
        let answer = self.target.answer.as_ref();
        self.is_logging_in() || answer.is_none_or(|answer| answer.wants(first))
    }

    fn target_message(&mut self, message: Message<'_>, turn: &mut Turn<'_, '_>) {
        if self.is_logging_in() {
            let packet = Packet {
                sequence: message.sequence,
                payload: message.payload.to_vec(),
            };
            let mut out = Vec::new();
            let step = self
                .login
                .on_target(&turn.plugin.accounts, packet, turn.ctx, &mut out);
            self.say(&out, turn);
            return self.login_step(step, turn);
        }
        let Some(expected) = self.target.expected.front().copied() else {
            // It says good-bye by itself: a time is over, or it shuts down.
            return turn.ctx.count("target_packets_unasked", 1);
        };
        let shape = expected.shape;
        let answer = self.target.answer.get_or_insert_with(|| Answer::new(shape));
        match answer.take(&mut self.target.dialect, message) {
            Ok(Step::More) => {}
            Ok(Step::File) => self.target.file = Some(message.sequence.wrapping_add(1)),
            Ok(Step::Done) => {
                let summary = std::mem::take(&mut answer.summary);
                self.target.answer = None;
                self.target.expected.pop_front();
                self.target.may_ask_file -= usize::from(expected.whose.may_ask_file());
                self.target_answered(expected.whose, &summary, turn);
            }
            Err(_) => self.refuse("target_answer_unreadable", turn),
        }
    }

    fn target_answered(&mut self, whose: Whose, summary: &Summary, turn: &mut Turn<'_, '_>) {
        if summary.status.is_some() {
            self.target.status = summary.status;
        } else if has_rolled_back(summary) {
            self.target.status = None;
        }
        match whose {
            Whose::Client {
                number, prepares, ..
            } => {
                self.target.file = None;
                if prepares.is_some_and(|key| self.target_prepared(key, summary)) {
                    return self.account.unpreparable(number, summary, turn.ctx);
                }
                self.account.target(number, summary, turn.ctx);
            }
            Whose::Own => self.own_answered(summary, turn),
        }
    }

    /// The target has prepared a statement, or has not; true where it can be said as a text instead.
    fn target_prepared(&mut self, key: Key, summary: &Summary) -> bool {
        let Some(statement) = self.statements.find(key) else {
            return false;
        };
        let side = match (summary.prepared, summary.error) {
            (Some(prepared), _) => Side::Ready(prepared),
            (None, Some(UNPREPARABLE)) if statement.text.is_some() => Side::Unpreparable,
            (None, _) => Side::Failed,
        };
        self.statements.target_answered(key, side);
        side == Side::Unpreparable
    }

    /// The target has answered to a command of the plugin.
    fn own_answered(&mut self, summary: &Summary, turn: &mut Turn<'_, '_>) {
        match self.target.busy {
            Some(Busy::Preparing(key)) => {
                let is_text = self.target_prepared(key, summary);
                let name = match summary.prepared {
                    Some(_) => "prepared_on_demand",
                    None if is_text => "statements_unpreparable",
                    None => "prepared_on_demand_in_vain",
                };
                turn.ctx.count(name, 1);
                self.target.busy = None;
            }
            Some(Busy::Restoring) => {
                if summary.error.is_some() {
                    turn.ctx.count("restored_in_vain", 1);
                }
                self.restore_next(turn);
            }
            Some(Busy::Changing) | None => {}
        }
    }

    /// Tells the next thing that is to be restored.
    pub(super) fn restore_next(&mut self, turn: &mut Turn<'_, '_>) {
        let Some(payload) = self.target.to_restore.pop() else {
            self.target.busy = None;
            return;
        };
        self.target.busy = Some(Busy::Restoring);
        self.say_own(&payload, Shape::Results, turn);
    }

    /// Says a command of the plugin.
    pub(super) fn say_own(&mut self, payload: &[u8], shape: Shape, turn: &mut Turn<'_, '_>) {
        self.send_own(payload, turn);
        self.target.expect(shape, Whose::Own);
    }

    pub(super) fn send_own(&mut self, payload: &[u8], turn: &mut Turn<'_, '_>) {
        let mut out = Vec::new();
        put_message(&mut out, 0, payload);
        turn.ctx.send(&out);
    }

    /// The target has let us in.
    pub(super) fn logged_in(&mut self, logged_in: LoggedIn, turn: &mut Turn<'_, '_>) {
        self.target.dialect = Dialect::of(logged_in.target);
        if let Some(number) = self.login_number {
            self.account.target(number, &Summary::default(), turn.ctx);
        }
        if self.is_changing() {
            self.target.busy = None;
        }
        if std::mem::take(&mut self.late_login) == LateLogin::Open {
            turn.ctx.end_exchange(Outcome::ok());
        }
        if let Some(origin) = logged_in.origin_id {
            self.place
                .remember_number(origin, logged_in.target_id, turn.ctx);
        }
        let known = self.known(&logged_in);
        self.place.remember(&known, turn.ctx);
        self.logged_in = Some(logged_in);
    }

    /// What another session has to know to go on with this connection.
    pub(super) fn known(&self, logged_in: &LoggedIn) -> Known {
        let database = self.origin.schema.as_ref().unwrap_or(&logged_in.database);
        let (user, character_set) = match &self.origin.changed {
            Some(changed) => (&changed.user, changed.character_set),
            None => (&logged_in.user, logged_in.character_set),
        };
        Known {
            user: user.clone(),
            database: database.clone(),
            character_set,
            // Without the origin it is only what the client can do.
            client: logged_in
                .client
                .filter(|_| self.client.has_attributes.is_some()),
        }
    }

    /// The target has not let us in.
    pub(super) fn denied(&mut self, code: u16, turn: &mut Turn<'_, '_>) {
        turn.ctx.count(&format!("login_error_{code}"), 1);
        let summary = Summary {
            error: Some(code),
            ..Summary::default()
        };
        if let Some(number) = self.login_number {
            self.account.target(number, &summary, turn.ctx);
        }
        if self.origin_denied() {
            // As it should be: the client will go.
            self.is_over = true;
        } else {
            self.account.lose_origin(turn.ctx);
            self.refuse("login_denied", turn);
        }
    }
}
