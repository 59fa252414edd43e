//! What a server says to one command: where its answer ends, and what came of it.

use crate::capability::Capabilities;
use crate::frame::{FULL, Message};
use crate::ok::{self, Okay, Status};
use crate::wire::Reader;

#[cfg(test)]
mod tests;

/// How the answer to a command is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One packet: OK, EOF or error.
    Okay,
    /// One packet of text, or an error.
    Text,
    /// Results: each an OK, or columns and rows; or a request for a file first.
    Results,
    /// What a statement was prepared to, with parameters and columns.
    Prepared,
    /// Columns without a count.
    Fields,
    /// Rows without columns.
    Rows,
}

/// What changes how answers look: some capabilities, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// OK packets in place of EOF packets. `None` where the beginning of the connection was not
    /// seen: the first columns tell it.
    pub(crate) deprecates_eof: Option<bool>,
}

impl Dialect {
    pub(crate) fn of(capabilities: Capabilities) -> Self {
        Self {
            deprecates_eof: Some(capabilities.has(Capabilities::DEPRECATE_EOF)),
        }
    }

    fn ends_rows(self, first: u8, length: u32) -> bool {
        let limit = match self.deprecates_eof {
            Some(true) => FULL,
            Some(false) | None => ok::EOF_LENGTH,
        };
        first == ok::EOF && length < limit
    }
}

/// What came of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The code of the error it ended with.
    pub(crate) error: Option<u16>,
    /// The server's flags, as last told; an error tells none.
    pub(crate) status: Option<Status>,
    /// Rows of all results.
    pub(crate) rows: u64,
    /// Affected rows of all results.
    pub(crate) affected: u64,
    /// What the statement was prepared to.
    pub(crate) prepared: Option<Prepared>,
    /// The session's database, where it has changed.
    pub(crate) schema: Option<Vec<u8>>,
    /// The session's character set, where it has changed.
    pub(crate) character_set: Option<Vec<u8>>,
    /// The database that the first column comes from; of interest where nothing else tells it.
    pub(crate) column_schema: Option<Vec<u8>>,
}

/// A prepared statement, as its server numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) id: u32,
    pub(crate) parameters: u16,
}

/// What a packet means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More is to come.
    More,
    /// The client is to send a file, then more is to come.
    File,
    /// The answer is complete.
    Done,
}

/// The answer is not one to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// An answer that is being read.
#[derive(Debug)]
pub(crate) struct Answer {
    shape: Shape,
    state: State,
    /// Another result follows this one, whatever its end says: MySQL tells so of a procedure's
    /// parameters only before their row.
    is_followed: bool,
    pub(crate) summary: Summary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    /// So many definitions still to come; then perhaps an EOF; then what `after` says.
    Definitions {
        left: u64,
        after: After,
    },
    /// The EOF behind definitions, where there is one.
    Separator {
        after: After,
    },
    Fields,
    Rows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Rows,
    /// The definitions of columns, behind those of parameters.
    Columns(u16),
    End,
}

impl Answer {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            state: match shape {
                Shape::Rows => State::Rows,
                Shape::Fields => State::Fields,
                Shape::Okay | Shape::Text | Shape::Results | Shape::Prepared => State::First,
            },
            is_followed: false,
            summary: Summary::default(),
        }
    }

    /// Whether more than the first byte matters of a packet that begins with `first`.
    pub(crate) fn wants(&self, first: u8) -> bool {
        match self.state {
            State::First => true,
            State::Rows | State::Fields | State::Separator { .. } => {
                first == ok::EOF || first == ok::ERROR
            }
            State::Definitions { .. } => self.wants_schema() || first == ok::ERROR,
        }
    }

    /// Takes the next packet. What the server shows of itself goes into `dialect`.
    pub(crate) fn take(
        &mut self,
        dialect: &mut Dialect,
        message: Message<'_>,
    ) -> Result<Step, Malformed> {
        let first = *message.payload.first().ok_or(Malformed)?;
        if first == ok::ERROR {
            return self.error(message.payload);
        }
        match self.state {
            State::First => self.first(*dialect, first, message.payload),
            State::Definitions { left, after } => {
                self.definition(*dialect, left, after, message.payload)
            }
            State::Separator { after } => self.separator(dialect, after, message),
            State::Fields if dialect.ends_rows(first, message.length) => {
                self.finish(*dialect, message.payload)
            }
            State::Fields => Ok(Step::More),
            State::Rows => self.row(*dialect, message),
        }
    }

    fn error(&mut self, payload: &[u8]) -> Result<Step, Malformed> {
        let code = ok::error_code(payload).ok_or(Malformed)?;
        if code == ok::PROGRESS {
            return Ok(Step::More);
        }
        self.summary.error = Some(code);
        Ok(Step::Done)
    }

    fn first(&mut self, dialect: Dialect, first: u8, payload: &[u8]) -> Result<Step, Malformed> {
        match self.shape {
            Shape::Text => Ok(Step::Done),
            Shape::Okay => match first {
                ok::OK => self.okay(payload),
                ok::EOF => self.finish(dialect, payload),
                _ => Err(Malformed),
            },
            Shape::Prepared => self.prepared(first, payload),
            Shape::Results => match first {
                ok::OK => self.okay(payload),
                ok::FILE => Ok(Step::File),
                _ => self.columns(payload),
            },
            Shape::Fields | Shape::Rows => Err(Malformed),
        }
    }

    fn okay(&mut self, payload: &[u8]) -> Result<Step, Malformed> {
        let okay = Okay::read(payload).ok_or(Malformed)?;
        let summary = &mut self.summary;
        summary.affected = summary.affected.saturating_add(okay.affected);
        if let Some(schema) = okay.schema {
            summary.schema = Some(schema.to_vec());
        }
        if let Some(character_set) = okay.character_set {
            summary.character_set = Some(character_set.to_vec());
        }
        Ok(self.result_ended(okay.status))
    }

    /// An EOF packet, or the OK packet in its place.
    fn finish(&mut self, dialect: Dialect, payload: &[u8]) -> Result<Step, Malformed> {
        let is_eof = payload.len() == EOF_PACKET;
        if dialect.deprecates_eof == Some(true) && !is_eof {
            return self.okay(payload);
        }
        let status = ok::eof_status(payload).ok_or(Malformed)?;
        Ok(self.result_ended(status))
    }

    fn result_ended(&mut self, status: Status) -> Step {
        self.summary.status = Some(status);
        let is_followed = std::mem::take(&mut self.is_followed) || status.has_more_results();
        if is_followed && self.shape == Shape::Results {
            self.state = State::First;
            return Step::More;
        }
        Step::Done
    }

    fn prepared(&mut self, first: u8, payload: &[u8]) -> Result<Step, Malformed> {
        let mut reader = Reader::new(payload);
        let read = |reader: &mut Reader<'_>| {
            reader.skip(1)?;
            let id = reader.u32()?;
            let columns = reader.u16()?;
            let parameters = reader.u16()?;
            Some((Prepared { id, parameters }, columns))
        };
        let (prepared, columns) = read(&mut reader)
            .filter(|_| first == ok::OK)
            .ok_or(Malformed)?;
        self.summary.prepared = Some(prepared);
        /// Where a flag is that tells whether definitions follow, counted from what has been read.
        /// Servers that have not agreed upon it end before it.
        const FLAG: usize = 3;
        if reader.rest().get(FLAG) == Some(&0) {
            return Ok(Step::Done);
        }
        Ok(match prepared.parameters {
            0 => self.prepared_columns(columns),
            left => self.definitions(u64::from(left), After::Columns(columns)),
        })
    }

    fn prepared_columns(&mut self, columns: u16) -> Step {
        match columns {
            0 => Step::Done,
            left => self.definitions(u64::from(left), After::End),
        }
    }

    fn definitions(&mut self, left: u64, after: After) -> Step {
        self.state = State::Definitions { left, after };
        Step::More
    }

    fn columns(&mut self, payload: &[u8]) -> Result<Step, Malformed> {
        let mut reader = Reader::new(payload);
        let left = reader.lenenc().filter(|left| *left > 0).ok_or(Malformed)?;
        // A flag behind the number tells whether definitions follow, where that was agreed upon.
        if reader.u8() == Some(0) {
            self.state = State::Separator { after: After::Rows };
            return Ok(Step::More);
        }
        Ok(self.definitions(left, After::Rows))
    }

    fn wants_schema(&self) -> bool {
        self.shape == Shape::Results && self.summary.column_schema.is_none()
    }

    fn definition(
        &mut self,
        dialect: Dialect,
        left: u64,
        after: After,
        payload: &[u8],
    ) -> Result<Step, Malformed> {
        if self.wants_schema() {
            let mut reader = Reader::new(payload);
            let schema = reader.lenenc_bytes().and_then(|_| reader.lenenc_bytes());
            self.summary.column_schema = schema.map(<[u8]>::to_vec);
        }
        if left > 1 {
            return Ok(self.definitions(left - 1, after));
        }
        match (dialect.deprecates_eof, after) {
            (Some(true), after) => self.follow(after),
            (Some(false) | None, after) => {
                self.state = State::Separator { after };
                // Where it is not known whether a separator comes, an answer that could end here
                // does; a separator that comes after it belongs to nothing.
                let ends = matches!(after, After::End | After::Columns(0));
                Ok(match dialect.deprecates_eof.is_none() && ends {
                    true => Step::Done,
                    false => Step::More,
                })
            }
        }
    }

    fn follow(&mut self, after: After) -> Result<Step, Malformed> {
        Ok(match after {
            After::End => Step::Done,
            After::Columns(columns) => self.prepared_columns(columns),
            After::Rows => {
                self.state = State::Rows;
                Step::More
            }
        })
    }

    /// The packet behind definitions: an EOF, or what follows without one.
    fn separator(
        &mut self,
        dialect: &mut Dialect,
        after: After,
        message: Message<'_>,
    ) -> Result<Step, Malformed> {
        let is_eof = message.payload.first() == Some(&ok::EOF)
            && message.length as usize == EOF_PACKET
            && dialect.deprecates_eof != Some(true);
        let wants = dialect.deprecates_eof.get_or_insert(!is_eof);
        if is_eof {
            let status = ok::eof_status(message.payload).ok_or(Malformed)?;
            self.summary.status = Some(status);
            // A cursor has been opened: its rows are fetched by commands of their own.
            if after == After::Rows && status.has_cursor() {
                return Ok(self.result_ended(status));
            }
            self.is_followed = status.is_out_parameters() && status.has_more_results();
            return self.follow(after);
        }
        if !*wants && after != After::Rows {
            return Err(Malformed);
        }
        self.follow(after)?;
        self.take(dialect, message)
    }

    fn row(&mut self, dialect: Dialect, message: Message<'_>) -> Result<Step, Malformed> {
        let first = message.payload.first().copied().unwrap_or_default();
        if dialect.ends_rows(first, message.length) {
            return self.finish(dialect, message.payload);
        }
        self.summary.rows += 1;
        Ok(Step::More)
    }
}

/// Bytes of an EOF packet's payload.
const EOF_PACKET: usize = 5;
