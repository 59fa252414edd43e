//! Commands about prepared statements: each names one by the origin's number.

use std::sync::Arc;

use super::queue::Noted;
use super::release::Released;
use super::target::Busy;
use super::{Connection, Turn};
use crate::answer::{Prepared, Shape};
use crate::capability::Capabilities;
use crate::command::{Kind, LAST_PREPARED, code, replace_statement_id, statement_id};
use crate::parameters::{Execute, Retelling};
use crate::sql::{Meaning, digest};
use crate::statements::{Key, Side, Statement};

impl Connection {
    pub(super) fn prepare(&mut self, noted: &Noted, turn: &mut Turn<'_, '_>) {
        // A writer is prepared all the same: its number is one of those that the server gives.
        let retold = self.retell(&noted.payload[1..], &noted.meaning, noted.is_whole, turn);
        let text = match retold {
            Ok(text) => text,
            Err(reason) => {
                if let Some(key) = noted.prepares {
                    self.statements.target_answered(key, Side::Failed);
                }
                return self.leave_out(noted, reason, turn);
            }
        };
        if noted.prepares.is_none() {
            turn.ctx.count("statements_not_kept", 1);
        }
        self.ask(noted, &[&noted.payload[..1], &text].concat(), turn);
    }

    /// The statement that a command names when it comes, if it is known here or from another
    /// session. Later the same number may mean another one.
    pub(super) fn statement_of(&mut self, payload: &[u8], turn: &mut Turn<'_, '_>) -> Option<Key> {
        let id = statement_id(payload)?;
        let known = self.statements.of_origin(id, self.last_prepared);
        if known.is_some() || id == LAST_PREPARED || !self.recalls {
            return known;
        }
        let recalled = self.place.recall_statement(id, turn.ctx)?;
        let label: Arc<str> = Arc::from(digest(&recalled.text, self.origin.escapes()));
        let meaning = Meaning::of(&recalled.text, self.origin.escapes());
        let mut statement = Statement::new(&recalled.text, label);
        (statement.writes, statement.may_ask_file) = (meaning.writes, meaning.may_ask_file);
        // What a hole of this session has hidden may have changed them.
        statement.types = recalled.types.filter(|_| self.client.gaps == 0);
        let key = self.statements.add(statement)?;
        let parameters = recalled.parameters;
        self.statements
            .origin_answered(key, Some(Prepared { id, parameters }));
        Some(key)
    }

    /// The client says what a number means no longer: it closes a statement, or makes the servers
    /// forget all of them. What it has said before still means what it meant.
    pub(super) fn note_closing(&mut self, noted: &Noted, turn: &mut Turn<'_, '_>) {
        match noted.kind {
            Kind::CloseStatement => {
                if let (Some(key), Some(id)) = (noted.statement, statement_id(&noted.payload)) {
                    self.number_closed(key, id, turn);
                }
            }
            Kind::ResetConnection | Kind::ChangeUser => {
                (self.recalls, self.last_prepared) = (false, None);
                self.statements.drop_numbers();
                self.place.forget_statements(turn.ctx);
            }
            _ => {}
        }
    }

    fn number_closed(&mut self, key: Key, id: u32, turn: &mut Turn<'_, '_>) {
        self.statements.drop_number(key);
        self.place.forget_statement(id, turn.ctx);
    }

    /// The origin has prepared a statement, or has not.
    pub(super) fn origin_prepared(
        &mut self,
        key: Key,
        prepared: Option<Prepared>,
        turn: &mut Turn<'_, '_>,
    ) {
        self.statements.origin_answered(key, prepared);
        if let (Some(prepared), Some(statement)) = (prepared, self.statements.find(key)) {
            self.place
                .remember_statement(prepared.id, statement, turn.ctx);
            if self.queue.resolve(prepared.id, key) {
                self.number_closed(key, prepared.id, turn);
            }
        }
    }

    /// A command that names a statement.
    pub(super) fn statement_command(
        &mut self,
        noted: Box<Noted>,
        turn: &mut Turn<'_, '_>,
    ) -> Released {
        if noted.statement.is_none() && self.statements.waits_for_origin(noted.mark) {
            // Its answer has been overtaken; it will come.
            self.queue.waits_for_origin = true;
            return Released::NotYet(noted);
        }
        let known = noted.statement;
        let known = known.and_then(|key| Some((key, self.statements.find(key)?)));
        let Some((key, statement)) = known else {
            self.say_of_none(&noted, turn);
            return Released::Yes;
        };
        if matches!(noted.kind, Kind::Execute | Kind::BulkExecute) {
            self.account
                .rename(noted.number, Arc::clone(&statement.label));
        }
        let is_left_out = turn.plugin.options.read_only && statement.writes;
        match (noted.kind, statement.target) {
            (_, Side::Asked) => return Released::NotYet(noted),
            (Kind::CloseStatement, side) => self.close_statement(key, side, &noted, turn),
            (_, _) if is_left_out => {
                self.learn_types(key, &noted);
                self.leave_out(&noted, "writers_left_out", turn);
            }
            (Kind::Execute, Side::Unpreparable) => self.execute_as_text(key, &noted, turn),
            (_, Side::Failed | Side::Unpreparable) => {
                self.leave_out(&noted, "statements_not_prepared", turn)
            }
            (_, Side::Unknown) => return self.prepare_again(key, noted, turn),
            (Kind::Execute, Side::Ready(prepared)) => self.execute(key, prepared, &noted, turn),
            (Kind::BulkExecute, Side::Ready(prepared)) => self.bulk(key, prepared, &noted, turn),
            (kind, Side::Ready(prepared)) => {
                match kind {
                    Kind::LongData => note_long_data(statement, &noted.payload),
                    _ if kind == Kind::ResetStatement => {
                        statement.sent_before.clear();
                        statement.misses_data = None;
                    }
                    _ => {}
                }
                self.ask_of_statement(prepared, &noted, turn);
            }
        }
        Released::Yes
    }

    /// A command about a statement that is not known here. Where the origin does not know it
    /// either, since it was closed or another user has logged in, the target is to hear of one that
    /// it does not know.
    fn say_of_none(&mut self, noted: &Noted, turn: &mut Turn<'_, '_>) {
        if self.recalls || !self.statements.are_all_known() {
            return self.leave_out(noted, "statements_unknown", turn);
        }
        let none = Prepared {
            id: NO_STATEMENT,
            parameters: 0,
        };
        self.ask_of_statement(none, noted, turn);
    }

    /// Says a command about another number.
    fn ask_of_statement(&mut self, prepared: Prepared, noted: &Noted, turn: &mut Turn<'_, '_>) {
        let mut payload = noted.payload.clone();
        replace_statement_id(&mut payload, prepared.id);
        self.ask(noted, &payload, turn);
    }

    fn close_statement(&mut self, key: Key, side: Side, noted: &Noted, turn: &mut Turn<'_, '_>) {
        match side {
            Side::Ready(prepared) => self.ask_of_statement(prepared, noted, turn),
            Side::Unknown | Side::Asked | Side::Failed | Side::Unpreparable => {
                self.leave_out(noted, "statements_closed_unprepared", turn);
            }
        }
        self.statements.remove(key);
    }

    /// Prepares at the target what was prepared before the session took part.
    fn prepare_again(&mut self, key: Key, noted: Box<Noted>, turn: &mut Turn<'_, '_>) -> Released {
        let statement = self.statements.find(key);
        let known = statement.and_then(|it| Some((it.text.clone()?, Arc::clone(&it.label))));
        let Some((text, label)) = known else {
            self.leave_out(&noted, "statements_unknown", turn);
            return Released::Yes;
        };
        if !self.target.is_idle() {
            return Released::NotYet(noted);
        }
        let meaning = Meaning::of(&text, self.origin.escapes());
        let text = match self.retell(&text, &meaning, true, turn) {
            Ok(text) => text,
            Err(reason) => {
                self.leave_out(&noted, reason, turn);
                return Released::Yes;
            }
        };
        self.begin_as(&noted, &label, turn);
        let payload = [&[code::PREPARE], text.as_slice()].concat();
        self.target.busy = Some(Busy::Preparing(key));
        self.say_own(&payload, Shape::Prepared, turn);
        Released::NotYet(noted)
    }

    /// Remembers the types of parameters that an execution tells.
    pub(super) fn learn_types(&mut self, key: Key, noted: &Noted) -> bool {
        let has_attributes = self.client.has_attributes;
        let Some(statement) = self.statements.find(key) else {
            return false;
        };
        let own = statement.parameters().unwrap_or_default();
        let read = Execute::read(&noted.payload, own, has_attributes);
        let Some(types) = read.as_ref().and_then(Execute::types) else {
            return false;
        };
        if noted.gaps < statement.types_behind {
            return false;
        }
        let are_new = statement.types.as_deref() != Some(types);
        if are_new {
            statement.types = Some(types.to_vec());
        }
        statement.types_behind = noted.gaps;
        are_new
    }

    fn execute(&mut self, key: Key, prepared: Prepared, noted: &Noted, turn: &mut Turn<'_, '_>) {
        let are_new = self.learn_types(key, noted);
        let with_names = self.target_has(Capabilities::QUERY_ATTRIBUTES);
        let has_attributes = self.client.has_attributes;
        let number = self.statements.number(key);
        let Some(statement) = self.statements.find(key) else {
            return;
        };
        if let Some(number) = number.filter(|_| are_new) {
            self.place.remember_statement(number, statement, turn.ctx);
        }
        if statement.misses_data == Some(noted.gaps) {
            statement.misses_data = None;
            return self.leave_out_execution(key, noted, "long_data_missed", turn);
        }
        let own = statement.parameters().unwrap_or_default();
        let Some(read) = Execute::read(&noted.payload, own, has_attributes) else {
            return self.leave_out_execution(key, noted, "executions_unreadable", turn);
        };
        let types = statement.types_behind(noted.gaps);
        let tells = read.relies_on_types() && !statement.target_knows_types;
        if tells && types.is_none() {
            return self.leave_out_execution(key, noted, "parameter_types_unknown", turn);
        }
        let retelling = Retelling {
            statement: prepared.id,
            with_names,
            types: types.filter(|_| tells || !fits_names(&read, with_names)),
            sent_before: &statement.sent_before,
        };
        if !noted.is_whole && !read.fits(retelling) {
            return self.leave_out_execution(key, noted, "executions_too_long_to_change", turn);
        }
        let Some(payload) = read.retell(retelling) else {
            return self.leave_out_execution(key, noted, "executions_unreadable", turn);
        };
        statement.target_knows_types |= tells || read.types().is_some();
        statement.sent_before.clear();
        let asks = statement.may_ask_file;
        self.ask_with_file(noted, &payload, asks, turn);
    }

    /// Leaves an execution out. Values that were sent for it must not become the next one's.
    fn leave_out_execution(
        &mut self,
        key: Key,
        noted: &Noted,
        reason: &str,
        turn: &mut Turn<'_, '_>,
    ) {
        let statement = self.statements.find(key);
        if statement.is_some_and(|statement| !statement.sent_before.is_empty()) {
            self.statements.renew(key);
        }
        self.leave_out(noted, reason, turn);
    }

    /// Says a statement without parameters that the target does not prepare.
    fn execute_as_text(&mut self, key: Key, noted: &Noted, turn: &mut Turn<'_, '_>) {
        let without_parameters = |it: &&mut Statement| it.parameters() == Some(0);
        let statement = self.statements.find(key).filter(without_parameters);
        let Some(text) = statement.and_then(|statement| statement.text.clone()) else {
            return self.leave_out(noted, "statements_not_prepared", turn);
        };
        let meaning = Meaning::of(&text, self.origin.escapes());
        let text = match self.retell(&text, &meaning, true, turn) {
            Ok(text) => text,
            Err(reason) => return self.leave_out(noted, reason, turn),
        };
        let payload = self.own_query(&text);
        turn.ctx.count("executions_said_as_texts", 1);
        self.ask(noted, &payload, turn);
    }

    /// MariaDB's execution with many sets of parameters at once.
    fn bulk(&mut self, key: Key, prepared: Prepared, noted: &Noted, turn: &mut Turn<'_, '_>) {
        /// In the flags: the types are given.
        const TYPES_GIVEN: u16 = 128;
        if !self.target_has(Capabilities::MARIADB_BULK) {
            return self.leave_out(noted, "bulk_executions_left_out", turn);
        }
        let Some(statement) = self.statements.find(key) else {
            return;
        };
        let flags = noted
            .payload
            .get(5..7)
            .map_or(0, |it| u16::from_le_bytes([it[0], it[1]]));
        if flags & TYPES_GIVEN == 0 && !statement.target_knows_types {
            return self.leave_out(noted, "parameter_types_unknown", turn);
        }
        statement.target_knows_types = true;
        self.ask_of_statement(prepared, noted, turn);
    }
}

/// Servers count statements from 1.
const NO_STATEMENT: u32 = 0;

/// No attributes, of one set.
pub(super) const NO_ATTRIBUTES: [u8; 2] = [0, 1];

fn fits_names(read: &Execute<'_>, with_names: bool) -> bool {
    read.has_names() == with_names
}

/// Notes that the value of a parameter is sent by itself.
fn note_long_data(statement: &mut Statement, payload: &[u8]) {
    if let Some(parameter) = payload.get(5..7) {
        let parameter = u16::from_le_bytes([parameter[0], parameter[1]]);
        statement.sent_before.insert(parameter);
    }
}
