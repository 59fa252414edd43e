//! What came of a transcript.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Level, SessionInfo};

/// What came of a transcript. It prints as a story: each step with what the plugin did about it.
///
/// The accessors without a session speak of the transcript's first one. The first page of
/// [`testkit`](super) has an example.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// The sessions in the order in which they opened.
    pub sessions: Vec<PlayedSession>,
    /// The plugin's counters.
    pub counts: BTreeMap<String, u64>,
    /// What the plugin wrote to the log. Only [`run`](super::run) fills it.
    pub log: Vec<(Level, String)>,
    pub(super) story: String,
}

impl Played {
    /// What was sent to the target; bytes that are still held are not among it.
    #[must_use]
    pub fn sent(&self) -> &[u8] {
        self.sessions.first().map_or(&[], |session| &session.sent)
    }

    /// The exchanges in their order.
    #[must_use]
    pub fn exchanges(&self) -> &[Exchange] {
        self.sessions
            .first()
            .map_or(&[], |session| &session.exchanges)
    }

    /// Why the plugin gave the session up, if it did.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.sessions.first()?.refusal.as_deref()
    }

    /// A counter; 0 if the plugin never counted it.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// A session by its number.
    #[must_use]
    pub fn session(&self, id: u64) -> Option<&PlayedSession> {
        self.sessions.iter().find(|session| session.info.id == id)
    }
}

impl fmt::Display for Played {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.story)
    }
}

/// What came of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayedSession {
    /// What it was told.
    pub info: SessionInfo,
    /// What was sent to the target.
    pub sent: Vec<u8>,
    /// What was sent behind a hold that was never released.
    pub held: Vec<u8>,
    /// The exchanges in their order.
    pub exchanges: Vec<Exchange>,
    /// Ends of exchanges while none was open: a mistake of the plugin.
    pub surplus_ends: u64,
    /// Why the plugin gave the session up, if it did.
    pub refusal: Option<String>,
    /// Whether the plugin let the rest of the session pass by.
    pub passed_through: bool,
}

impl PlayedSession {
    pub(super) fn new(info: SessionInfo) -> Self {
        Self {
            info,
            sent: Vec::new(),
            held: Vec::new(),
            exchanges: Vec::new(),
            surplus_ends: 0,
            refusal: None,
            passed_through: false,
        }
    }

    /// If nothing was sent of the newest exchange, it never will be.
    pub(super) fn leave_out_unsent(&mut self) {
        if let Some(newest) = self.exchanges.last_mut()
            && newest.outcome.is_none()
        {
            newest.is_left_out = newest.request.is_empty();
        }
    }
}

/// A request with how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What kind of request.
    pub label: String,
    /// What was sent from its beginning to the next one's.
    pub request: Vec<u8>,
    /// Whether the target did it, its number and its word; `None` while the answer is not
    /// complete.
    pub outcome: Option<(bool, u32, String)>,
    /// Nothing was sent of it before the next one began, or at all: the plugin has dropped it.
    pub is_left_out: bool,
}
