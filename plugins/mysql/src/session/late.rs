//! Joining a connection that was there before the capture, or going on behind a hole: where its
//! messages begin, when no transaction is open, and what the target must be told first.

use super::queue::Noted;
use super::statement::NO_ATTRIBUTES;
use super::{Connection, Turn};
use crate::answer::Summary;
use crate::capability::Capabilities;
use crate::command::{Kind, code};
use crate::frame::HEADER;
use crate::statements::Side;

/// So many commands may pass without an answer of the origin being seen; then the next is taken.
const BLIND_COMMANDS: u32 = 4;

/// Databases of the server itself: that a column is of one says nothing of the session.
const OF_SERVER: [&[u8]; 4] = [b"", b"information_schema", b"performance_schema", b"sys"];

/// Whether a session takes part yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joining {
    /// So many commands have passed without an answer: a transaction may be open.
    Watching(u32),
    /// The origin has said that no transaction is open.
    Ready,
    Joined,
}

impl Joining {
    pub(super) fn watching() -> Self {
        Self::Watching(0)
    }
}

/// Where the login stands of a session that joins late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LateLogin {
    /// Before all commands, as no part of any exchange.
    #[default]
    Before,
    /// Commands have passed before it was said: it needs an exchange of its own.
    Behind,
    /// That exchange has begun.
    Open,
}

/// How the streams of a connection are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Plain,
    Packed,
}

impl Framing {
    /// How a stream is made in which a command begins with the first of these bytes; `None` when it
    /// does not look as if one did. `known` tells whether it is compressed, where that is known.
    pub(super) fn of(bytes: &[u8], known: Option<bool>) -> Option<Self> {
        if known != Some(true) && begins_command(bytes) {
            return Some(Self::Plain);
        }
        (known != Some(false) && begins_packed(bytes)).then_some(Self::Packed)
    }
}

/// Whether a command begins here: its number, its length, and what it is.
fn begins_command(bytes: &[u8]) -> bool {
    let Some((&[a, b, c, 0], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return false;
    };
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    let Some(first) = rest.first().filter(|_| length > 0) else {
        return false;
    };
    let fits = match Kind::of(*first) {
        Kind::Unknown | Kind::Replication => false,
        Kind::Quit | Kind::Ping | Kind::Statistics | Kind::ResetConnection | Kind::Debug => {
            length == 1
        }
        Kind::CloseStatement | Kind::ResetStatement | Kind::ProcessKill => length == 5,
        Kind::SetOption => length == 3,
        Kind::Fetch => length == 9,
        Kind::Execute => length >= 10,
        Kind::LongData => length >= 7,
        _ => true,
    };
    // What comes behind it is a message of its own, or the rest is still to come.
    let is_followed_well = rest.get(length..).is_none_or(|behind| {
        behind.len() < HEADER || behind[HEADER - 1] == 0 || length == crate::frame::FULL as usize
    });
    fits && is_followed_well
}

fn begins_packed(bytes: &[u8]) -> bool {
    let Some((&[_, _, _, 0, a, b, c], rest)) = bytes.split_first_chunk::<7>() else {
        return false;
    };
    match (u32::from_le_bytes([a, b, c, 0]), rest) {
        (0, rest) => begins_command(rest),
        // How zlib streams begin (RFC 1950, section 2.2), and zstd frames.
        (_, [first, second, ..]) => {
            let is_zlib = u16::from_be_bytes([*first, *second]) % 31 == 0 && first & 0xf == 8;
            is_zlib || rest.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        }
        _ => false,
    }
}

/// What a session is made of at the origin, as far as that is known.
#[derive(Clone, Debug)]
pub(super) struct Made {
    schema: Option<Vec<u8>>,
    names: Option<Vec<u8>>,
    is_autocommit: Option<bool>,
}

impl Connection {
    /// Whether a command takes part in the replay.
    pub(super) fn join(&mut self, noted: &mut Noted, turn: &mut Turn<'_, '_>) -> bool {
        match &mut self.joining {
            Joining::Joined => return true,
            // What was said of this value before may be missing.
            _ if noted.kind == Kind::LongData => {
                self.pass_over(noted, turn);
                return false;
            }
            Joining::Ready => {}
            // What may be open ends, and something new begins.
            Joining::Watching(_) if noted.meaning.begins => {}
            Joining::Watching(_)
                if matches!(noted.kind, Kind::ChangeUser | Kind::ResetConnection) => {}
            Joining::Watching(seen) if *seen >= BLIND_COMMANDS => {
                turn.ctx.count("joined_blindly", 1);
            }
            Joining::Watching(seen) => {
                *seen += 1;
                self.pass_over(noted, turn);
                return false;
            }
        }
        self.joining = Joining::Joined;
        // Another user has a state of their own.
        noted.joins = (noted.kind != Kind::ChangeUser).then(|| Made {
            schema: self.origin.schema.clone(),
            names: self.origin.names.clone(),
            is_autocommit: self.origin.status.map(|status| status.is_autocommit()),
        });
        true
    }

    /// The target has gone. Where nothing waits and no transaction is open, a session that goes on
    /// with the connection may begin with its next command.
    pub(super) fn leave_rest(&mut self, turn: &mut Turn<'_, '_>) {
        let is_at_rest =
            self.joining == Joining::Joined && self.is_settled() && self.origin.rests();
        self.place.leave(turn.ctx);
        if is_at_rest {
            self.place.leave_rest(turn.ctx);
        }
    }

    /// A command before the session takes part. What can be learnt from it is.
    fn pass_over(&mut self, noted: &Noted, turn: &mut Turn<'_, '_>) {
        turn.ctx.count("commands_before_joining", 1);
        if self.logged_in.is_none() && self.late_login == LateLogin::Before {
            self.late_login = LateLogin::Behind;
        }
        turn.ctx.begin_exchange(&self.account.label(noted.number));
        self.account.left_out(noted.number, turn.ctx);
        match noted.kind {
            Kind::Prepare => {
                if let Some(statement) = noted.prepares.and_then(|key| self.statements.find(key)) {
                    statement.target = Side::Unknown;
                }
            }
            Kind::Execute => {
                if let Some(key) = noted.statement {
                    self.learn_types(key, noted);
                    self.statements.misses_data(key, None);
                }
            }
            Kind::LongData | Kind::ResetStatement => {
                if let Some(key) = noted.statement {
                    let is_missed = noted.kind == Kind::LongData;
                    let behind = is_missed.then_some(noted.gaps);
                    self.statements.misses_data(key, behind);
                }
            }
            Kind::CloseStatement => {
                if let Some(key) = noted.statement {
                    self.statements.closed_unheard(key);
                }
            }
            _ => {}
        }
    }

    /// The origin has answered a command before the session takes part.
    pub(super) fn watch(&mut self, summary: &Summary) {
        let is_watching = self.is_watching();
        if let Joining::Watching(seen) = &mut self.joining {
            *seen = 0;
            if summary
                .status
                .is_some_and(|status| !status.is_in_transaction())
            {
                self.joining = Joining::Ready;
            }
        }
        if let Some(schema) = &summary.column_schema
            && is_watching
            && !OF_SERVER.contains(&schema.as_slice())
        {
            self.origin.guess.get_or_insert_with(|| schema.clone());
        }
    }

    /// A text that the plugin says by itself, as a command.
    pub(super) fn own_query(&self, text: &[u8]) -> Vec<u8> {
        let attributes: &[u8] = match self.target_has(Capabilities::QUERY_ATTRIBUTES) {
            true => &NO_ATTRIBUTES,
            false => &[],
        };
        [&[code::QUERY], attributes, text].concat()
    }

    /// What the target has to be told before the first command: as commands. All that it was asked
    /// before is answered.
    pub(super) fn what_to_restore(&self, made: &Made, turn: &mut Turn<'_, '_>) -> Vec<Vec<u8>> {
        let query = |text: &[u8]| self.own_query(text);
        let mut commands = Vec::new();
        if self
            .target
            .status
            .is_some_and(|status| status.is_in_transaction())
        {
            turn.ctx.count("transactions_cut", 1);
            commands.push(query(b"ROLLBACK"));
        }
        if let Some(names) = made.names.as_deref().filter(|names| is_plain(names)) {
            commands.push(query(&[b"SET NAMES ", names].concat()));
        }
        let told = self.logged_in.as_ref().map_or(&[][..], |it| &it.database);
        let is_unknown = told.is_empty() && turn.plugin.accounts.late_database().is_empty();
        let guess = self.origin.guess.as_ref().filter(|_| is_unknown);
        let use_database = |schema| {
            let name = turn.plugin.accounts.database(schema);
            [&[code::INIT_DB], name].concat()
        };
        match (&made.schema, guess) {
            // There is no command that leaves a database.
            (Some(schema), _) if schema.is_empty() => {}
            // Where the target has heard commands, they may have led it elsewhere.
            (Some(schema), _) if schema != told || self.target.has_begun() => {
                commands.push(use_database(schema));
            }
            (None, Some(guess)) if self.is_late => {
                turn.ctx.count("database_guessed", 1);
                commands.push(use_database(guess));
            }
            (None, _) if is_unknown => {
                turn.ctx.count("database_unknown", 1);
            }
            _ => {}
        }
        // Servers begin with it switched on.
        let of_target = self.target.status.is_none_or(|it| it.is_autocommit());
        match made.is_autocommit {
            Some(true) if !of_target => commands.push(query(b"SET autocommit=1")),
            Some(false) => commands.push(query(b"SET autocommit=0")),
            _ => {}
        }
        commands
    }
}

/// Whether a character set's name is one.
fn is_plain(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::testing::{Algorithm, pack};
    use crate::frame::put_message;

    fn message(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_message(&mut out, sequence, payload);
        out
    }

    #[test]
    fn beginnings_of_commands_are_known() {
        let query = message(0, b"\x03select 1");
        assert_eq!(Framing::of(&query, None), Some(Framing::Plain));
        assert_eq!(Framing::of(&query[..8], None), Some(Framing::Plain));
        let two = [query.clone(), message(0, b"\x0e")].concat();
        assert_eq!(Framing::of(&two, None), Some(Framing::Plain));
        for no in [
            &query[1..],
            &message(1, b"\x03select 1"),
            &message(0, b"\x0e more than a ping"),
            &message(0, b"\x77"),
            b"\x01\0\0",
            b"ect 1 from t where a = 'some text'",
        ] {
            assert_eq!(Framing::of(no, None), None, "{no:?}");
        }
    }

    #[test]
    fn compressed_ones_too() {
        let query = message(0, b"\x03select 1");
        for algorithm in [None, Some(Algorithm::Zlib), Some(Algorithm::Zstd)] {
            let packed = pack(algorithm, 0, &query);
            assert_eq!(Framing::of(&packed, None), Some(Framing::Packed));
            assert_eq!(Framing::of(&packed, Some(false)), None);
        }
        assert_eq!(Framing::of(&query, Some(true)), None);
    }
}
