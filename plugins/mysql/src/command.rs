//! Commands: the first byte of a message, and how it is answered.

use crate::answer::Shape;

/// Which command a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Quit,
    InitDb,
    Query,
    FieldList,
    CreateDb,
    DropDb,
    Refresh,
    Shutdown,
    Statistics,
    ProcessInfo,
    ProcessKill,
    Debug,
    Ping,
    ChangeUser,
    Prepare,
    Execute,
    LongData,
    CloseStatement,
    ResetStatement,
    SetOption,
    Fetch,
    ResetConnection,
    BulkExecute,
    /// A replica asks for the binary log: its answer has no end.
    Replication,
    /// None that a client sends.
    Unknown,
}

impl Kind {
    pub(crate) fn of(code: u8) -> Self {
        match code {
            0x01 => Self::Quit,
            0x02 => Self::InitDb,
            0x03 => Self::Query,
            0x04 => Self::FieldList,
            0x05 => Self::CreateDb,
            0x06 => Self::DropDb,
            0x07 => Self::Refresh,
            0x08 => Self::Shutdown,
            0x09 => Self::Statistics,
            0x0a => Self::ProcessInfo,
            0x0c => Self::ProcessKill,
            0x0d => Self::Debug,
            0x0e => Self::Ping,
            0x11 => Self::ChangeUser,
            0x12..=0x15 | 0x1e | 0x20 | 0x21 => Self::Replication,
            0x16 => Self::Prepare,
            0x17 => Self::Execute,
            0x18 => Self::LongData,
            0x19 => Self::CloseStatement,
            0x1a => Self::ResetStatement,
            0x1b => Self::SetOption,
            0x1c => Self::Fetch,
            0x1f => Self::ResetConnection,
            0xfa => Self::BulkExecute,
            _ => Self::Unknown,
        }
    }

    /// How the answer is built; `None` where there is none, and for a login, which is a dialogue.
    pub(crate) fn shape(self) -> Option<Shape> {
        match self {
            Self::Quit | Self::LongData | Self::CloseStatement | Self::ChangeUser => None,
            Self::Query | Self::Execute | Self::BulkExecute | Self::ProcessInfo => {
                Some(Shape::Results)
            }
            Self::Prepare => Some(Shape::Prepared),
            Self::FieldList => Some(Shape::Fields),
            Self::Fetch => Some(Shape::Rows),
            Self::Statistics => Some(Shape::Text),
            Self::InitDb
            | Self::CreateDb
            | Self::DropDb
            | Self::Refresh
            | Self::Shutdown
            | Self::ProcessKill
            | Self::Debug
            | Self::Ping
            | Self::ResetStatement
            | Self::SetOption
            | Self::ResetConnection
            | Self::Replication
            | Self::Unknown => Some(Shape::Okay),
        }
    }

    /// What reports call it. Statements have their text for it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::InitDb => "init db",
            Self::Query => "query",
            Self::FieldList => "field list",
            Self::CreateDb => "create db",
            Self::DropDb => "drop db",
            Self::Refresh => "refresh",
            Self::Shutdown => "shutdown",
            Self::Statistics => "statistics",
            Self::ProcessInfo => "process info",
            Self::ProcessKill => "kill",
            Self::Debug => "debug",
            Self::Ping => "ping",
            Self::ChangeUser => "change user",
            Self::Prepare => "prepare",
            Self::Execute => "execute",
            Self::LongData => "long data",
            Self::CloseStatement => "close statement",
            Self::ResetStatement => "reset statement",
            Self::SetOption => "set option",
            Self::Fetch => "fetch",
            Self::ResetConnection => "reset connection",
            Self::BulkExecute => "bulk execute",
            Self::Replication => "replication",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it names a prepared statement, behind the first byte.
    pub(crate) fn names_statement(self) -> bool {
        matches!(
            self,
            Self::Execute
                | Self::BulkExecute
                | Self::LongData
                | Self::CloseStatement
                | Self::ResetStatement
                | Self::Fetch
        )
    }

    /// Whether it changes data or the server by itself.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::CreateDb | Self::DropDb | Self::Refresh)
    }
}

/// The statement that a command names: little-endian, behind the first byte.
pub(crate) fn statement_id(payload: &[u8]) -> Option<u32> {
    let id = payload.get(1..5)?;
    Some(u32::from_le_bytes(id.try_into().ok()?))
}

/// Puts another statement in its place.
pub(crate) fn replace_statement_id(payload: &mut [u8], id: u32) {
    if let Some(place) = payload.get_mut(1..5) {
        place.copy_from_slice(&id.to_le_bytes());
    }
}

/// MariaDB's number for the statement that was prepared last.
pub(crate) const LAST_PREPARED: u32 = u32::MAX;

/// The first byte of the commands that the plugin says by itself.
pub(crate) mod code {
    pub(crate) const INIT_DB: u8 = 0x02;
    pub(crate) const QUERY: u8 = 0x03;
    pub(crate) const PREPARE: u8 = 0x16;
    pub(crate) const CLOSE_STATEMENT: u8 = 0x19;
}
