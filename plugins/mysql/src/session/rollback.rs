//! Transactions that only the origin has rolled back by itself: the target is told to do the same,
//! or else what the client says next would stand in a transaction that it believes is gone.

use std::collections::VecDeque;

use super::queue::Noted;
use super::{Connection, Turn};
use crate::answer::Summary;

/// A deadlock (`ER_LOCK_DEADLOCK`): the server has rolled the whole transaction back.
const DEADLOCK: u16 = 1213;

/// Whether an answer means that the transaction is gone.
pub(super) fn has_rolled_back(summary: &Summary) -> bool {
    summary.error == Some(DEADLOCK)
}

/// The exchanges behind which the origin had no transaction any more, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rollbacks(VecDeque<u64>);

impl Rollbacks {
    /// Whether one has to be told before the command of this number.
    pub(super) fn are_due(&self, number: u64) -> bool {
        self.0.front().is_some_and(|behind| *behind < number)
    }
}

impl Connection {
    /// The origin has rolled back the transaction that this exchange was in.
    pub(super) fn origin_rolled_back(&mut self, number: u64, turn: &mut Turn<'_, '_>) {
        if self.target.has_begun_behind(number) {
            // What follows has been said already.
            turn.ctx.count("rollbacks_too_late", 1);
        } else {
            self.rollbacks.0.push_back(number);
        }
    }

    /// Has the target roll back what the origin has, before it hears this command.
    pub(super) fn roll_back(&mut self, noted: &Noted, turn: &mut Turn<'_, '_>) {
        let mut is_due = false;
        while self.rollbacks.are_due(noted.number) {
            self.rollbacks.0.pop_front();
            is_due = true;
        }
        let status = self.target.status;
        if is_due && status.is_some_and(|status| status.is_in_transaction()) {
            turn.ctx.count("transactions_rolled_back", 1);
            self.begin(noted, turn);
            self.target.to_restore = vec![self.own_query(b"ROLLBACK")];
            self.restore_next(turn);
        }
    }
}
