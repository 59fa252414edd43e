//! Saying to the target what the client has said to the origin, once it can be said.

use plugin_api::Outcome;

use super::queue::{Data, Item, Noted, Rest};
use super::statement::NO_ATTRIBUTES;
use super::target::{Busy, Whose};
use super::{CALL_BYTES, Connection, Turn};
use crate::answer::Summary;
use crate::capability::Capabilities;
use crate::command::{Kind, code, replace_statement_id};
use crate::frame::{FULL, header, put_message};
use crate::login::{Login, Packet};
use crate::statements::Named;

/// What became of an item.
#[derive(Debug)]
pub(super) enum Released {
    /// It was said, or left out.
    Yes,
    /// It has to wait.
    NotYet(Box<Noted>),
}

/// The error that servers give for a statement that is not prepared (`ER_UNKNOWN_STMT_HANDLER`).
const UNKNOWN_STATEMENT: u16 = 1243;

impl Connection {
    /// Says what can be said.
    pub(super) fn pump(&mut self, turn: &mut Turn<'_, '_>) {
        self.queue.waits_for_origin = false;
        self.queue.is_held |= self.logged_in.is_none();
        while !self.is_over && self.logged_in.is_some() {
            if self.sent >= CALL_BYTES {
                self.pauses = !self.queue.is_empty();
                return;
            }
            let Some(item) = self.queue.pop() else {
                self.queue.is_held = false;
                return;
            };
            if let Some(item) = self.release(item, turn) {
                self.queue.put_back(item);
                self.queue.is_held = true;
                return;
            }
        }
    }

    fn release(&mut self, item: Item, turn: &mut Turn<'_, '_>) -> Option<Item> {
        match item {
            Item::Rest(rest) => {
                self.release_rest(&rest, turn);
                None
            }
            Item::Data(data) => self.release_data(data, turn).map(Item::Data),
            Item::Command(mut noted) => {
                // The client has gone on without sending the file that the target waits for.
                self.end_file(turn);
                let must_wait = self.target.busy.is_some()
                    || self.target.may_ask_file()
                    || (self.queue.is_held
                        || noted.joins.is_some()
                        || self.rollbacks.are_due(noted.number))
                        && !self.target.is_idle();
                if must_wait {
                    return Some(Item::Command(noted));
                }
                self.roll_back(&noted, turn);
                if self.target.busy.is_some() {
                    return Some(Item::Command(noted));
                }
                self.restore(&mut noted, turn);
                if self.target.busy.is_some() {
                    return Some(Item::Command(noted));
                }
                match self.command(noted, turn) {
                    Released::Yes => None,
                    Released::NotYet(noted) => Some(Item::Command(noted)),
                }
            }
        }
    }

    /// Tells the target what the session is made of, before the first command that it hears.
    fn restore(&mut self, noted: &mut Noted, turn: &mut Turn<'_, '_>) {
        if let Some(made) = noted.joins.take() {
            self.statements.renew_before(noted.mark);
            let mut commands = self.what_to_restore(&made, turn);
            if !commands.is_empty() {
                self.begin(noted, turn);
            }
            commands.reverse();
            self.target.to_restore = commands;
            self.restore_next(turn);
        }
    }

    fn release_rest(&mut self, rest: &Rest, turn: &mut Turn<'_, '_>) {
        let Some(sequence) = &mut self.target.continues else {
            return;
        };
        // In a call that is not about the client, what is sent would overtake the beginning of the
        // message, should that not have left: so it follows as an exchange of its own.
        let follows = !self.is_of_client && self.sent == 0 && self.target.file.is_none();
        if follows {
            let number = self.target.begun.unwrap_or_default();
            turn.ctx.begin_exchange(&self.account.label(number));
        }
        self.sent += rest.bytes.len();
        if let Some(length) = rest.header {
            turn.ctx.send(&header(length, *sequence));
            *sequence = sequence.wrapping_add(1);
            if let Some(file) = &mut self.target.file {
                *file = *sequence;
            }
        }
        turn.ctx.send(&rest.bytes);
        if follows {
            // It ends the oldest, which is a part that went before: the answer is the last one's.
            turn.ctx.end_exchange(Outcome::ok().label("a part"));
        }
    }

    /// A piece of a file, or of a login.
    fn release_data(&mut self, data: Data, turn: &mut Turn<'_, '_>) -> Option<Data> {
        self.target.continues = None;
        if data.kind == Kind::ChangeUser {
            if self.is_changing() {
                let packet = Packet {
                    sequence: data.sequence,
                    payload: data.payload,
                };
                self.change(packet, turn);
            }
            return None;
        }
        let Some(sequence) = self.target.file else {
            if self.target.owes(data.number) {
                return Some(data);
            }
            if data.payload.is_empty() {
                turn.ctx.count("files_left_out", 1);
            }
            return None;
        };
        self.target.file = (!data.payload.is_empty()).then_some(sequence.wrapping_add(1));
        self.send(sequence, data.length, &data.payload, data.is_whole, turn);
        None
    }

    /// Ends the file that the target waits for, if it does.
    pub(super) fn end_file(&mut self, turn: &mut Turn<'_, '_>) {
        if let Some(sequence) = self.target.file.take() {
            turn.ctx.count("files_not_sent_by_the_client", 1);
            turn.ctx.send(&header(0, sequence));
        }
    }

    fn command(&mut self, noted: Box<Noted>, turn: &mut Turn<'_, '_>) -> Released {
        let leaves_out_writers = turn.plugin.options.read_only;
        match noted.kind {
            Kind::Replication => self.refuse("replication", turn),
            Kind::Shutdown => self.leave_out(&noted, "shutdowns_left_out", turn),
            Kind::Unknown => self.leave_out(&noted, "commands_unknown", turn),
            Kind::ChangeUser => return self.begin_change(noted, turn),
            Kind::Query => self.query(&noted, turn),
            Kind::Prepare => self.prepare(&noted, turn),
            Kind::ProcessKill => self.process_kill(&noted, turn),
            Kind::InitDb => {
                let name = turn.plugin.accounts.database(&noted.payload[1..]).to_vec();
                self.ask(&noted, &[&noted.payload[..1], &name].concat(), turn);
            }
            Kind::ResetConnection => {
                self.statements.remove_before(noted.mark);
                self.ask(&noted, &noted.payload, turn);
            }
            kind if kind.names_statement() => return self.statement_command(noted, turn),
            kind if kind.writes() && leaves_out_writers => {
                self.leave_out(&noted, "writers_left_out", turn);
            }
            _ => self.ask(&noted, &noted.payload, turn),
        }
        Released::Yes
    }

    fn query(&mut self, noted: &Noted, turn: &mut Turn<'_, '_>) {
        let (attributes, text) = noted.payload.split_at(noted.text_at);
        let run = self.statements.follow(&noted.meaning);
        let reads_only = turn.plugin.options.read_only;
        let text = match self.retell(text, &noted.meaning, noted.is_whole, turn) {
            Ok(_) if run == Named::LeftOut => Err("statements_not_prepared"),
            Ok(_) if reads_only && (noted.meaning.writes || run == Named::Writes) => {
                Err("writers_left_out")
            }
            retold => retold,
        };
        let text = match text {
            Ok(text) => text,
            Err(reason) => {
                self.statements.left_out(&noted.meaning);
                return self.leave_out(noted, reason, turn);
            }
        };
        if noted.meaning.is_hidden {
            turn.ctx.count("texts_in_variables", 1);
        }
        let had_attributes = attributes.len() > 1;
        let payload = match (
            had_attributes,
            self.target_has(Capabilities::QUERY_ATTRIBUTES),
        ) {
            (true, true) | (false, false) => [attributes, &text].concat(),
            (false, true) => [&noted.payload[..1], &NO_ATTRIBUTES, &text].concat(),
            (true, false) if noted.is_whole => [&noted.payload[..1], &text].concat(),
            // What has been told of a long message's length stays true.
            (true, false) => {
                let blanks = vec![b' '; attributes.len() - 1];
                [&noted.payload[..1], &blanks, &text].concat()
            }
        };
        if payload.len() > noted.payload.len() && !noted.is_whole {
            return self.leave_out(noted, "queries_too_long_to_change", turn);
        }
        self.ask(noted, &payload, turn);
    }

    fn process_kill(&mut self, noted: &Noted, turn: &mut Turn<'_, '_>) {
        let connection = crate::command::statement_id(&noted.payload);
        let target = connection.and_then(|id| self.place.recall_number(id, turn.ctx));
        match target {
            // MySQL 9 has no such command.
            Some(target) => {
                let payload = self.own_query(format!("KILL {target}").as_bytes());
                self.ask(noted, &payload, turn);
            }
            None => self.leave_out(noted, "kills_of_unknown_connections", turn),
        }
    }

    pub(super) fn target_has(&self, capability: Capabilities) -> bool {
        self.logged_in
            .as_ref()
            .is_some_and(|it| it.target.has(capability))
    }

    /// Another user logs in on the same connection.
    fn begin_change(&mut self, noted: Box<Noted>, turn: &mut Turn<'_, '_>) -> Released {
        if !self.target.is_idle() {
            return Released::NotYet(noted);
        }
        match self.account.has_failed_at_origin(noted.number) {
            None => {
                self.queue.waits_for_origin = true;
                return Released::NotYet(noted);
            }
            Some(true) => {
                self.leave_change_out(&noted, turn);
                return Released::Yes;
            }
            Some(false) => {}
        }
        let Some(before) = &self.logged_in else {
            return Released::NotYet(noted);
        };
        self.login = Login::change_user(before);
        self.login_number = Some(noted.number);
        self.statements.remove_before(noted.mark);
        self.target.busy = Some(Busy::Changing);
        let packet = Packet {
            sequence: 0,
            payload: noted.payload,
        };
        self.change(packet, turn);
        self.tell_early_packets(noted.number, turn);
        Released::Yes
    }

    /// The origin has denied the change of user: here the password might be right. MySQL ends the
    /// connection then, so nothing that follows is done; MariaDB goes on with the user before, but
    /// without transaction and statements.
    fn leave_change_out(&mut self, noted: &Noted, turn: &mut Turn<'_, '_>) {
        self.leave_out(noted, "changes_of_user_denied_at_origin", turn);
        let logged_in = self.logged_in.as_ref();
        if logged_in.and_then(|it| it.origin_is_mariadb) == Some(false) {
            self.is_over = true;
        } else {
            self.statements.close_before(noted.mark);
            self.origin_rolled_back(noted.number, turn);
        }
    }

    fn change(&mut self, packet: Packet, turn: &mut Turn<'_, '_>) {
        let mut out = Vec::new();
        let step = self
            .login
            .on_client(&turn.plugin.accounts, packet, turn.ctx, &mut out);
        self.say(&out, turn);
        self.login_step(step, turn);
    }

    pub(super) fn begin(&mut self, noted: &Noted, turn: &mut Turn<'_, '_>) {
        if self.target.begins(noted.number) {
            turn.ctx.begin_exchange(&self.account.label(noted.number));
        }
    }

    /// Begins the exchange of a command under another name, before the plugin says something for it.
    pub(super) fn begin_as(
        &mut self,
        noted: &Noted,
        label: &std::sync::Arc<str>,
        turn: &mut Turn<'_, '_>,
    ) {
        self.account
            .rename(noted.number, std::sync::Arc::clone(label));
        self.begin(noted, turn);
    }

    /// Says a command in these words, and expects its answer.
    pub(super) fn ask(&mut self, noted: &Noted, payload: &[u8], turn: &mut Turn<'_, '_>) {
        self.ask_with_file(noted, payload, noted.meaning.may_ask_file, turn);
    }

    /// The same of a command whose text does not tell whether the target may ask for a file.
    pub(super) fn ask_with_file(
        &mut self,
        noted: &Noted,
        payload: &[u8],
        may_ask_file: bool,
        turn: &mut Turn<'_, '_>,
    ) {
        self.begin(noted, turn);
        for id in self.statements.take_to_close() {
            let mut payload = [code::CLOSE_STATEMENT, 0, 0, 0, 0];
            replace_statement_id(&mut payload, id);
            self.send_own(&payload, turn);
        }
        if let Some(shape) = noted.kind.shape() {
            let whose = Whose::Client {
                number: noted.number,
                prepares: noted.prepares,
                may_ask_file: may_ask_file && self.target_has(Capabilities::LOCAL_FILES),
            };
            self.target.expect(shape, whose);
        }
        self.send(0, noted.length, payload, noted.is_whole, turn);
        if noted.kind.shape().is_none() {
            self.account.told(noted.number, turn.ctx);
        }
    }

    /// Sends a message, or the beginning of one whose first packet has this length.
    fn send(
        &mut self,
        sequence: u8,
        length: u32,
        payload: &[u8],
        is_whole: bool,
        turn: &mut Turn<'_, '_>,
    ) {
        let mut out = Vec::with_capacity(payload.len() + crate::frame::HEADER);
        if is_whole {
            put_message(&mut out, sequence, payload);
        } else {
            debug_assert!(length <= FULL && payload.len() <= length as usize);
            out.extend_from_slice(&header(length, sequence));
            out.extend_from_slice(payload);
        }
        self.sent += payload.len();
        self.target.continues = (!is_whole).then_some(sequence.wrapping_add(1));
        turn.ctx.send(&out);
    }

    /// Leaves a command out, by name.
    pub(super) fn leave_out(&mut self, noted: &Noted, reason: &str, turn: &mut Turn<'_, '_>) {
        turn.ctx.count(reason, 1);
        self.target.continues = None;
        let number = noted.number;
        if self.target.begins(number) {
            // Nothing is sent of it: that is how the engine knows.
            turn.ctx.begin_exchange(&self.account.label(number));
            self.account.left_out(number, turn.ctx);
        } else {
            // Something has been said for it already.
            let summary = Summary {
                error: Some(UNKNOWN_STATEMENT),
                ..Summary::default()
            };
            self.account.target(number, &summary, turn.ctx);
        }
    }
}
