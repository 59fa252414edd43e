//! Sessions that wait for a source port or a file descriptor, first come, first served.
//!
//! When one attempt has failed for want of either, so would all others: a kernel without a free port
//! searches its whole range each time. So the line stands still for a moment, and then one attempt
//! shows whether it moves again.

use std::collections::VecDeque;
use std::time::Duration;

use super::SessionKey;
use crate::ledger::DropReason;
use crate::time::Instant;

/// Time from a failed attempt to the next.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Line {
    waiting: VecDeque<SessionKey>,
    /// Nobody tries before.
    retry_at: Option<Instant>,
    /// What was short at the last failed attempt.
    reason: DropReason,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            retry_at: None,
            reason: DropReason::NoTupleLeft,
        }
    }

    /// Whether who comes now has to wait, and for what.
    pub(super) fn shortage(&self) -> Option<DropReason> {
        let is_moving = self.waiting.is_empty() && self.retry_at.is_none();
        (!is_moving).then_some(self.reason)
    }

    /// The newest goes last.
    pub(super) fn join(&mut self, key: SessionKey) {
        self.waiting.push_back(key);
    }

    /// An attempt has failed; who made it has waited longest.
    pub(super) fn stand_still(&mut self, now: Instant, key: SessionKey, reason: DropReason) {
        self.waiting.push_front(key);
        self.retry_at = Some(now + RETRY_INTERVAL);
        self.reason = reason;
    }

    /// When the next may try.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Whose turn it is now.
    pub(super) fn next(&mut self, now: Instant) -> Option<SessionKey> {
        if self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        self.retry_at = None;
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Instant = |ms| Instant::from_micros(ms * 1000);

    #[test]
    fn one_failed_attempt_stops_the_line_and_one_good_one_moves_it() {
        let [a, b, c] = [1, 2, 3].map(|serial| SessionKey::new(serial, 0));
        let mut line = Line::new();
        assert_eq!(line.shortage(), None);
        line.stand_still(T(0), a, DropReason::NoDescriptor);
        assert_eq!(line.shortage(), Some(DropReason::NoDescriptor));
        line.join(b);
        line.join(c);
        assert_eq!(line.next(T(1)), None);
        let retry_at = T(0) + RETRY_INTERVAL;
        assert_eq!(line.next_at(), Some(retry_at));
        assert_eq!(line.next(retry_at), Some(a));
        line.stand_still(retry_at, a, DropReason::NoTupleLeft);
        assert_eq!(line.next(retry_at), None);
        let retry_at = retry_at + RETRY_INTERVAL;
        let order = [(); 4].map(|()| line.next(retry_at));
        assert_eq!(order, [Some(a), Some(b), Some(c), None]);
        assert_eq!(
            (line.shortage(), line.next_at()),
            (None, None),
            "all is well again"
        );
    }
}
