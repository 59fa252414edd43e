//! What a statement does, as far as its text tells.

use std::ops::Range;

use super::escapes::{Escapes, Reading};
use super::prepared::Source;
use super::token::{Token, Tokens};

#[cfg(test)]
mod tests;

/// So many names are read in a text.
const NAMES: usize = 256;

/// What a text means for a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// It begins with a transaction, whatever was before.
    pub(crate) begins: bool,
    /// It may change data, definitions or the server. Where the text does not tell, it may.
    pub(crate) writes: bool,
    /// The server may ask for a file of the client.
    pub(crate) may_ask_file: bool,
    /// It runs what a variable holds.
    pub(crate) is_hidden: bool,
    /// The database that is used behind it, if it says so.
    pub(crate) database: Option<Vec<u8>>,
    /// The character set behind it, if it says so.
    pub(crate) names: Option<Vec<u8>>,
    /// What it does with statements that are prepared in text, in order.
    pub(crate) by_name: Vec<ByName>,
    /// What means another thing at the target, in order.
    pub(crate) changes: Vec<Change>,
    /// Under this name it is left out, always.
    pub(crate) left_out: Option<&'static str>,
}

/// What a text does with a statement that is prepared in text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ByName {
    /// `PREPARE name FROM` a text that writes, or doesn't.
    Prepares(Vec<u8>, bool),
    /// `EXECUTE name`.
    Executes(Vec<u8>),
}

/// A part of a text that means another thing at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Where it stands; `None` where nothing can be put in its place.
    pub(crate) span: Option<Range<usize>>,
    /// It stands within quotes.
    pub(crate) is_quoted: bool,
    pub(crate) means: Means,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    Database(Vec<u8>),
    Connection(u32),
}

impl Change {
    fn at(span: Range<usize>, means: Means) -> Self {
        Self {
            span: Some(span),
            is_quoted: false,
            means,
        }
    }
}

impl Meaning {
    /// Reads a text, in each way that is possible in the session.
    pub(crate) fn of(text: &[u8], escapes: Escapes) -> Self {
        let readings = escapes.readings(text).into_iter();
        let mut all = readings.map(|reading| Self::read(text, reading));
        let mut meaning = all.next().unwrap_or_default();
        for other in all {
            meaning.writes |= other.writes;
            meaning.may_ask_file |= other.may_ask_file;
            meaning.is_hidden |= other.is_hidden;
            meaning.left_out = meaning.left_out.or(other.left_out);
            if meaning.changes != other.changes || meaning.by_name != other.by_name {
                meaning.left_out.get_or_insert("texts_of_two_meanings");
            }
        }
        meaning
    }

    pub(super) fn read(text: &[u8], reading: Reading) -> Self {
        let mut tokens = Tokens::new(text, reading);
        let mut meaning = Self::default();
        let mut is_first = true;
        while meaning.statement(&mut tokens, is_first) {
            is_first = false;
            if meaning.by_name.len() + meaning.changes.len() > NAMES {
                meaning.leave_out("texts_with_too_many_names");
                meaning.writes = true;
                break;
            }
        }
        meaning
    }

    pub(super) fn leave_out(&mut self, reason: &'static str) {
        self.left_out.get_or_insert(reason);
    }
}

/// Statements that begin with these words change nothing.
const READERS: [&str; 30] = [
    "SELECT",
    "SHOW",
    "EXPLAIN",
    "DESCRIBE",
    "DESC",
    "USE",
    "BEGIN",
    "START",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "HELP",
    "VALUES",
    "TABLE",
    "DEALLOCATE",
    "CHECK",
    "CHECKSUM",
    "DO",
    "LOCK",
    "UNLOCK",
    "KILL",
    "XA",
    "SIGNAL",
    "RESIGNAL",
    "GET",
    "HANDLER",
    "BINLOG_STATUS",
    "PREPARE",
    "SET",
];

/// Words that make a writer of a statement that begins like a reader, or behind `WITH`.
const WRITING: [&str; 8] = [
    "UPDATE", "DELETE", "INSERT", "REPLACE", "OUTFILE", "DUMPFILE", "NEXTVAL", "SETVAL",
];

impl Meaning {
    /// Reads up to the next semicolon; false at the end of the text.
    fn statement(&mut self, tokens: &mut Tokens<'_>, is_first: bool) -> bool {
        let first = tokens.find(|token| !matches!(token, Token::Sign(b';' | b'(')));
        let Some(first) = first else {
            return false;
        };
        let Token::Word(word) = first else {
            self.writes = true;
            tokens.pass_statement();
            return true;
        };
        let keyword = word.to_ascii_uppercase();
        match keyword.as_slice() {
            b"BEGIN" => return self.begin(tokens, is_first),
            b"IF" | b"CASE" | b"LOOP" | b"WHILE" | b"REPEAT" | b"FOR" => {
                return self.compound(tokens);
            }
            b"START" => self.start(tokens, is_first),
            b"USE" => self.use_database(tokens),
            b"SET" => return self.set(tokens),
            b"KILL" => return self.kill(tokens),
            b"SHUTDOWN" | b"RESTART" => {
                self.leave_out("shutdowns_left_out");
                self.writes = true;
            }
            b"LOAD" => {
                self.writes = true;
                for token in until_semicolon(tokens) {
                    self.may_ask_file |= token.is("LOCAL");
                }
                return true;
            }
            b"PREPARE" => return self.prepare(tokens),
            b"EXECUTE" => return self.execute(tokens),
            b"SELECT" | b"WITH" | b"VALUES" | b"TABLE" | b"DO" => {
                return self.query(false, tokens);
            }
            b"EXPLAIN" | b"DESCRIBE" | b"DESC" => return self.query(true, tokens),
            _ => self.writes |= !is_one_of(word, &READERS),
        }
        tokens.pass_statement();
        true
    }

    /// `BEGIN`, or `BEGIN NOT ATOMIC` and statements up to an `END`.
    fn begin(&mut self, tokens: &mut Tokens<'_>, is_first: bool) -> bool {
        let Some(token) = tokens.next() else {
            self.begins |= is_first;
            return true;
        };
        if token == Token::Sign(b';') || token.is("WORK") {
            self.begins |= is_first;
            if token.is("WORK") {
                tokens.pass_statement();
            }
            return true;
        }
        self.compound(tokens)
    }

    /// Statements stand anywhere in it: behind `THEN` and `DO`, say.
    fn compound(&mut self, tokens: &mut Tokens<'_>) -> bool {
        self.writes = true;
        for token in tokens {
            if token.is("SHUTDOWN") {
                self.leave_out("shutdowns_left_out");
            } else if token.is("KILL") {
                self.leave_out(UNKNOWN_KILL);
            }
        }
        true
    }

    /// `START TRANSACTION`, but not `START SLAVE` and the like.
    fn start(&mut self, tokens: &mut Tokens<'_>, is_first: bool) {
        match tokens.next() {
            Some(token) if token.is("TRANSACTION") => self.begins |= is_first,
            _ => self.writes = true,
        }
    }

    fn use_database(&mut self, tokens: &mut Tokens<'_>) {
        if let Some(database) = name(tokens.next()) {
            self.database = Some(database.clone());
            let change = Change::at(tokens.span(), Means::Database(database));
            self.changes.push(change);
        }
    }

    /// A query, unless a word in it writes. `FOR UPDATE` and `ON UPDATE` do not; nor do `REPLACE(…)`
    /// and `INSERT(…)`, which are functions.
    fn query(&mut self, mut is_plan: bool, tokens: &mut Tokens<'_>) -> bool {
        let mut before = Token::Sign(b' ');
        let mut may_be_function = false;
        for token in until_semicolon(tokens) {
            self.writes |= may_be_function && token != Token::Sign(b'(');
            may_be_function = false;
            // What is explained is not done, unless it is analysed.
            is_plan &= !token.is("ANALYZE");
            let is_name = before == Token::Sign(b'.') || before == Token::Sign(b'@');
            let locks = token.is("UPDATE") && before.is("FOR");
            if let Token::Word(word) = token
                && is_one_of(word, &WRITING)
                && !(is_name || locks || is_plan)
            {
                may_be_function = is_one_of(word, &["REPLACE", "INSERT"]);
                self.writes |= !may_be_function;
            }
            before = token;
        }
        true
    }

    fn set(&mut self, tokens: &mut Tokens<'_>) -> bool {
        /// Of the server, or of an account.
        const WIDER: [&str; 5] = ["GLOBAL", "PERSIST", "PERSIST_ONLY", "PASSWORD", "STATEMENT"];
        let mut all = until_semicolon(tokens);
        let mut before = match all.next() {
            Some(token) if token.is("NAMES") => {
                self.names = name(all.next()).or(self.names.take());
                all.for_each(drop);
                return true;
            }
            Some(Token::Word(word)) => {
                self.writes |= is_one_of(word, &["DEFAULT", "RESOURCE"]) || is_one_of(word, &WIDER);
                Token::Word(word)
            }
            Some(token) => token,
            None => return true,
        };
        let mut token = Some(before);
        while let Some(now) = token {
            self.writes |= match now {
                Token::Word(word) => {
                    let variable = word.strip_prefix(b"@@").unwrap_or(word);
                    is_one_of(variable, &WIDER)
                }
                Token::Name(name) => before == Token::Word(b"@@") && is_one_of(name, &WIDER),
                _ => false,
            };
            before = now;
            token = all.next();
        }
        true
    }

    /// `KILL` of a connection; of all else, the target's name for it isn't known.
    fn kill(&mut self, tokens: &mut Tokens<'_>) -> bool {
        let mut change = None;
        while let Some(token) = tokens.next() {
            change = match token {
                Token::Sign(b';') => break,
                Token::Word(word)
                    if change.is_none()
                        && is_one_of(word, &["HARD", "SOFT", "CONNECTION", "QUERY"]) =>
                {
                    continue;
                }
                Token::Number(digits) if change.is_none() => {
                    let digits = std::str::from_utf8(digits).ok();
                    let connection = digits.and_then(|digits| digits.parse().ok());
                    connection.map(|it| Change::at(tokens.span(), Means::Connection(it)))
                }
                _ => None,
            };
            if change.is_none() {
                tokens.pass_statement();
                break;
            }
        }
        match change {
            Some(change) => self.changes.push(change),
            None => self.leave_out(UNKNOWN_KILL),
        }
        true
    }

    fn prepare(&mut self, tokens: &mut Tokens<'_>) -> bool {
        let Some(name) = name(tokens.next()) else {
            tokens.pass_statement();
            return true;
        };
        tokens.next();
        let inner = Source::read(tokens).meaning();
        self.by_name.push(ByName::Prepares(name, inner.writes));
        // What it does is done when it runs.
        self.is_hidden |= inner.is_hidden;
        self.changes.extend(inner.changes);
        self.left_out = self.left_out.or(inner.left_out);
        true
    }

    fn execute(&mut self, tokens: &mut Tokens<'_>) -> bool {
        let first = tokens.next();
        if !first.is_some_and(|token| token.is("IMMEDIATE")) {
            let executes = name(first).map(ByName::Executes);
            self.by_name.extend(executes);
            tokens.pass_statement();
            return true;
        }
        let inner = Source::read(tokens).meaning();
        self.writes |= inner.writes;
        self.may_ask_file |= inner.may_ask_file;
        self.is_hidden |= inner.is_hidden;
        self.database = inner.database.or(self.database.take());
        self.names = inner.names.or(self.names.take());
        self.changes.extend(inner.changes);
        self.left_out = self.left_out.or(inner.left_out);
        true
    }
}

/// Connections at the target that were not replayed, or that can't be told.
const UNKNOWN_KILL: &str = "kills_of_unknown_connections";

fn is_one_of(word: &[u8], words: &[&str]) -> bool {
    words
        .iter()
        .any(|it| word.eq_ignore_ascii_case(it.as_bytes()))
}

/// A name, however it is written.
fn name(token: Option<Token<'_>>) -> Option<Vec<u8>> {
    match token? {
        Token::Word(name) | Token::Name(name) | Token::Text(name) => Some(name.to_vec()),
        Token::Number(_) | Token::Sign(_) => None,
    }
}

/// The rest of a statement, its semicolon taken as well.
fn until_semicolon<'t, 'a>(
    tokens: &'t mut Tokens<'a>,
) -> impl Iterator<Item = Token<'a>> + use<'t, 'a> {
    tokens.take_while(|token| *token != Token::Sign(b';'))
}
