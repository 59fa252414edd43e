//! `MULTI`: what is said behind it happens at `EXEC`, if at all.

use crate::expected::{Changes, Expected};

/// A transaction that has begun.
#[derive(Default)]
pub(super) struct Transaction {
    /// How many answers more than one its `EXEC` has.
    pub(super) more: u64,
    pub(super) queued: Changes,
    /// Who it logs in.
    pub(super) user: Option<Vec<u8>>,
}

impl Transaction {
    /// A command is queued that would owe this; answers what it owes.
    pub(super) fn queue(&mut self, expected: Expected) -> Expected {
        match expected {
            Expected::Selected(database) => self.queued.database = Some(database),
            Expected::Login { protocol, .. } => {
                self.queued.is_login = true;
                self.queued.protocol = protocol.or(self.queued.protocol);
            }
            _ => return expected,
        }
        Expected::Answer
    }
}
