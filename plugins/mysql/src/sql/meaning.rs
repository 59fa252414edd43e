//! What a statement does, as far as its text tells.

use super::token::{Token, Tokens};

#[cfg(test)]
mod tests;

/// What a text is read for, in bytes; where writing matters and the text may hold several
/// statements, all of it is.
const READ_BYTES: usize = 16 * 1024;

/// What a statement means for a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) verb: Verb,
    /// It may change data, definitions or the server. Where the text does not tell, it may.
    pub(crate) writes: bool,
    /// The server may ask for a file of the client.
    pub(crate) may_ask_file: bool,
}

/// Statements that are more than a text for the target. Of several in one text, the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verb {
    /// One of all the others.
    #[default]
    Other,
    /// A transaction begins, whatever was before.
    Begin,
    /// `USE name`.
    Use(Vec<u8>),
    /// `SET NAMES name`.
    Names(Vec<u8>),
    /// `KILL` of this connection; the digits are there in the text.
    Kill {
        connection: u32,
        start: usize,
        end: usize,
    },
    /// The server is to stop or to restart.
    Shutdown,
    /// `PREPARE name FROM` a text that is not in the statement or writes.
    PrepareWriting(Vec<u8>),
    /// `PREPARE name FROM` a text that only reads.
    PrepareReading(Vec<u8>),
    /// `EXECUTE name`.
    Execute(Vec<u8>),
}

impl Meaning {
    /// Reads a text. `reads_all` where a statement that writes may stand behind the first
    /// [`READ_BYTES`], and that matters.
    pub(crate) fn of(text: &[u8], reads_all: bool) -> Self {
        let limit = if reads_all { usize::MAX } else { READ_BYTES };
        let text = &text[..text.len().min(limit)];
        let mut tokens = Tokens::new(text);
        let mut meaning = Self::default();
        let mut is_first = true;
        while let Some(statement) = Statement::read(&mut tokens) {
            meaning.writes |= statement.writes;
            meaning.may_ask_file |= statement.may_ask_file;
            if std::mem::take(&mut is_first) {
                meaning.verb = statement.verb;
            } else if statement.verb == Verb::Shutdown {
                meaning.verb = Verb::Shutdown;
            }
        }
        meaning
    }
}

/// One of the statements of a text.
#[derive(Debug, Default)]
struct Statement {
    verb: Verb,
    writes: bool,
    may_ask_file: bool,
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

impl Statement {
    /// Reads up to the next semicolon; `None` at the end of the text.
    fn read(tokens: &mut Tokens<'_>) -> Option<Self> {
        let first = loop {
            match tokens.next()? {
                Token::Sign(b';' | b'(') => {}
                token => break token,
            }
        };
        let mut statement = Self::default();
        let Token::Word(word) = first else {
            pass(tokens);
            return Some(Self {
                writes: true,
                ..statement
            });
        };
        let keyword = word.to_ascii_uppercase();
        match keyword.as_slice() {
            b"BEGIN" => statement.verb = Verb::Begin,
            b"START" => statement.start(tokens),
            b"USE" => statement.verb = name(tokens.next()).map_or(Verb::Other, Verb::Use),
            b"SET" => return Some(statement.set(tokens)),
            b"KILL" => statement.kill(tokens),
            b"SHUTDOWN" | b"RESTART" => {
                (statement.verb, statement.writes) = (Verb::Shutdown, true);
            }
            b"LOAD" => {
                statement.writes = true;
                statement.may_ask_file = tokens.any(|token| token.is("LOCAL"));
                return Some(statement);
            }
            b"PREPARE" => statement.prepare(tokens),
            b"EXECUTE" => statement.verb = name(tokens.next()).map_or(Verb::Other, Verb::Execute),
            b"SELECT" | b"WITH" | b"EXPLAIN" | b"VALUES" | b"TABLE" | b"DO" => {
                return Some(statement.query(&keyword, tokens));
            }
            _ => statement.writes = !is_one_of(word, &READERS),
        }
        pass(tokens);
        Some(statement)
    }

    /// `START TRANSACTION`, but not `START SLAVE` and the like.
    fn start(&mut self, tokens: &mut Tokens<'_>) {
        match tokens.next() {
            Some(token) if token.is("TRANSACTION") => self.verb = Verb::Begin,
            _ => self.writes = true,
        }
    }

    /// A query, unless a word in it writes. `FOR UPDATE` and `ON UPDATE` do not.
    fn query(mut self, keyword: &[u8], tokens: &mut Tokens<'_>) -> Self {
        let mut before = Token::Sign(b' ');
        let mut is_plan = keyword == b"EXPLAIN";
        for token in tokens.by_ref() {
            if token == Token::Sign(b';') {
                break;
            }
            // What is explained is not done, unless it is analysed.
            is_plan &= !token.is("ANALYZE");
            let is_name = before == Token::Sign(b'.') || before == Token::Sign(b'@');
            let locks = token.is("UPDATE") && before.is("FOR");
            if let Token::Word(word) = token
                && is_one_of(word, &WRITING)
                && !(is_name || locks || is_function(word))
            {
                self.writes |= !is_plan;
            }
            before = token;
        }
        self
    }

    fn set(mut self, tokens: &mut Tokens<'_>) -> Self {
        let first = tokens.next();
        if first.is_some_and(|token| token.is("NAMES")) {
            self.verb = name(tokens.next()).map_or(Verb::Other, Verb::Names);
            pass(tokens);
            return self;
        }
        let first = first
            .into_iter()
            .take_while(|token| *token != Token::Sign(b';'));
        let mut all = first.chain(
            tokens
                .by_ref()
                .take_while(|token| *token != Token::Sign(b';')),
        );
        // A password, a role, or a variable of the whole server.
        self.writes = all.any(|token| {
            let Token::Word(word) = token else {
                return false;
            };
            let word = word.to_ascii_uppercase();
            let is_global = word.starts_with(b"@@GLOBAL") || word.starts_with(b"@@PERSIST");
            is_global
                || is_one_of(
                    &word,
                    &["GLOBAL", "PERSIST", "PERSIST_ONLY", "PASSWORD", "STATEMENT"],
                )
        });
        if self.writes {
            pass(tokens);
        }
        self
    }

    fn kill(&mut self, tokens: &mut Tokens<'_>) {
        loop {
            let at = tokens.at();
            match tokens.next() {
                Some(Token::Number(digits)) => {
                    let connection = std::str::from_utf8(digits)
                        .ok()
                        .and_then(|it| it.parse().ok());
                    let end = tokens.at();
                    let _ = at;
                    if let Some(connection) = connection {
                        let start = end - digits.len();
                        self.verb = Verb::Kill {
                            connection,
                            start,
                            end,
                        };
                    }
                    return;
                }
                Some(Token::Word(_)) => {}
                _ => return,
            }
        }
    }

    /// What is prepared from a variable may be anything.
    fn prepare(&mut self, tokens: &mut Tokens<'_>) {
        let Some(name) = name(tokens.next()) else {
            return;
        };
        tokens.next();
        self.verb = match tokens.next() {
            Some(Token::Text(text)) if !Meaning::of(text, true).writes => {
                Verb::PrepareReading(name)
            }
            _ => Verb::PrepareWriting(name),
        };
    }
}

/// `REPLACE(…)` and `INSERT(…)` are functions in a query; they write only behind `WITH`, which no
/// server of these two knows.
fn is_function(word: &[u8]) -> bool {
    is_one_of(word, &["REPLACE", "INSERT"])
}

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

/// Passes over the rest of a statement.
fn pass(tokens: &mut Tokens<'_>) {
    tokens.any(|token| token == Token::Sign(b';'));
}
