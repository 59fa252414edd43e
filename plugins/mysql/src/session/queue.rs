//! What the client has said and the target has not heard yet.

use std::collections::VecDeque;

use super::late::Made;
use crate::command::{Kind, statement_id};
use crate::sql::Meaning;
use crate::statements::Key;

/// A message of the client, or a part of a long one.
#[derive(Debug)]
pub(super) enum Item {
    Command(Box<Noted>),
    /// A message that continues the dialogue of a command: a piece of a file, or of a login.
    Data(Data),
    /// More of a message whose beginning went before.
    Rest(Rest),
}

/// A command, and what was noted when it came.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) kind: Kind,
    /// Its exchange.
    pub(super) number: u64,
    /// The payload, or the beginning of a long one.
    pub(super) payload: Vec<u8>,
    /// Of the payload of its first packet.
    pub(super) length: u32,
    /// Whether `payload` is all of it.
    pub(super) is_whole: bool,
    /// Where the text of a `COM_QUERY` begins.
    pub(super) text_at: usize,
    /// What the text says.
    pub(super) meaning: Meaning,
    /// The statement that it prepares.
    pub(super) prepares: Option<Key>,
    /// The statement that it names, once that is known.
    pub(super) statement: Option<Key>,
    /// What statements prepared after it come after.
    pub(super) mark: Key,
    /// The session takes part from here on: what it was made of at the origin, to be told first.
    pub(super) joins: Option<Made>,
    /// How many holes of the client's stream are before it.
    pub(super) gaps: u32,
}

#[derive(Debug)]
pub(super) struct Data {
    pub(super) sequence: u8,
    /// The command whose dialogue it continues.
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) payload: Vec<u8>,
    pub(super) length: u32,
    pub(super) is_whole: bool,
}

#[derive(Debug)]
pub(super) struct Rest {
    /// The length of the packet that begins here, if one does.
    pub(super) header: Option<u32>,
    pub(super) bytes: Vec<u8>,
}

impl Item {
    /// The number of a statement that a command names, while it is not known which one that is.
    fn unknown_statement(&self) -> Option<u32> {
        match self {
            Self::Command(noted) if noted.kind.names_statement() && noted.statement.is_none() => {
                statement_id(&noted.payload)
            }
            Self::Command(_) | Self::Data(_) | Self::Rest(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        /// What an item takes besides its bytes.
        const OVERHEAD: usize = 256;
        OVERHEAD
            + match self {
                Self::Command(noted) => noted.payload.len(),
                Self::Data(data) => data.payload.len(),
                Self::Rest(rest) => rest.bytes.len(),
            }
    }
}

/// The messages that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// Something had to wait: until the queue is empty, the next command is said when the one
    /// before is answered.
    pub(super) is_held: bool,
    /// What waits does so for the origin.
    pub(super) waits_for_origin: bool,
    /// It may not be known of all commands that wait which statements they name.
    has_unknown: bool,
}

impl Queue {
    /// Adds a message; false when that is more than `limit` bytes.
    #[must_use]
    pub(super) fn push(&mut self, item: Item, limit: usize) -> bool {
        self.bytes += item.bytes();
        self.has_unknown |= item.unknown_statement().is_some();
        self.items.push_back(item);
        self.bytes <= limit
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.bytes();
        self.has_unknown &= !self.items.is_empty();
        Some(item)
    }

    /// The origin has given the statement `key` this number: commands behind its preparation that
    /// wait to know what they name mean it, up to the one that closes it. True if there is that one.
    pub(super) fn resolve(&mut self, id: u32, key: Key) -> bool {
        if !self.has_unknown {
            return false;
        }
        for item in &mut self.items {
            let is_unknown = item.unknown_statement() == Some(id);
            if let Item::Command(noted) = item
                && is_unknown
                && noted.mark > key
            {
                noted.statement = Some(key);
                if noted.kind == Kind::CloseStatement {
                    return true;
                }
            }
        }
        false
    }

    /// What waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether something of this exchange waits.
    pub(super) fn has(&self, number: u64) -> bool {
        self.items.iter().any(|item| match item {
            Item::Command(noted) => noted.number == number,
            Item::Data(data) => data.number == number,
            Item::Rest(_) => false,
        })
    }

    /// Puts back what was popped.
    pub(super) fn put_back(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.has_unknown |= item.unknown_statement().is_some();
        self.items.push_front(item);
    }
}
