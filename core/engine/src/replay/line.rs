//! Sessions that wait for a source port or a file descriptor, first come, first served.
//!
//! When one attempt has failed for want of either, so would all others: a kernel without a free port
//! searches its whole range each time. So the line stands still for a moment, and then one attempt
//! shows whether it moves again.

use std::collections::VecDeque;
use std::time::Duration;

use tcpcopy_packet::Endpoint;

use super::SessionKey;
use crate::ledger::DropReason;
use crate::time::Instant;

/// Time from a failed attempt to the next.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The lines, one for each target that there are not enough ports or descriptors for: a port that is
/// short towards one is free towards another.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<(Endpoint, Line)>);

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<SessionKey>,
    /// Nobody tries before.
    retry_at: Option<Instant>,
    /// What was short at the last failed attempt.
    reason: Option<DropReason>,
}

impl Lines {
    /// Lets who comes now wait behind others, where there are any; says for what.
    pub(super) fn join(&mut self, target: Endpoint, key: SessionKey) -> Option<DropReason> {
        let (_, line) = self.0.iter_mut().find(|(other, _)| *other == target)?;
        line.waiting.push_back(key);
        line.reason
    }

    /// An attempt has failed; who made it has waited longest.
    pub(super) fn stand_still(
        &mut self,
        now: Instant,
        target: Endpoint,
        key: SessionKey,
        reason: DropReason,
    ) {
        let known = self.0.iter().position(|(other, _)| *other == target);
        let index = known.unwrap_or_else(|| {
            self.0.push((target, Line::default()));
            self.0.len() - 1
        });
        let line = &mut self.0[index].1;
        line.waiting.push_front(key);
        line.retry_at = Some(now + RETRY_INTERVAL);
        line.reason = Some(reason);
    }

    /// When the next may try.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.0.iter().filter_map(|(_, line)| line.retry_at).min()
    }

    /// Whose turn it is now.
    pub(super) fn next(&mut self, now: Instant) -> Option<SessionKey> {
        // A line without anybody is none: who was called last has found what it waited for.
        self.0.retain(|(_, line)| !line.waiting.is_empty());
        self.0.iter_mut().find_map(|(_, line)| line.next(now))
    }
}

impl Line {
    fn next(&mut self, now: Instant) -> Option<SessionKey> {
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

    fn target(port: u16) -> Endpoint {
        Endpoint::new(std::net::Ipv4Addr::LOCALHOST.into(), port)
    }

    #[test]
    fn one_failed_attempt_stops_the_line_and_one_good_one_moves_it() {
        let [a, b, c] = [1, 2, 3].map(|serial| SessionKey::new(serial, 0));
        let here = target(1);
        let mut lines = Lines::default();
        assert_eq!(lines.join(here, a), None, "nobody waits");
        lines.stand_still(T(0), here, a, DropReason::NoDescriptor);
        let [second, third] = [b, c].map(|key| lines.join(here, key));
        assert_eq!(second, Some(DropReason::NoDescriptor));
        assert_eq!(third, second);
        assert_eq!(lines.next(T(1)), None);
        let retry_at = T(0) + RETRY_INTERVAL;
        assert_eq!(lines.next_at(), Some(retry_at));
        assert_eq!(lines.next(retry_at), Some(a));
        lines.stand_still(retry_at, here, a, DropReason::NoTupleLeft);
        assert_eq!(lines.next(retry_at), None);
        let retry_at = retry_at + RETRY_INTERVAL;
        let order = [(); 4].map(|()| lines.next(retry_at));
        assert_eq!(order, [Some(a), Some(b), Some(c), None]);
        assert_eq!(lines.next_at(), None);
        assert_eq!(lines.join(here, a), None, "all is well again");
    }

    #[test]
    fn a_port_that_is_short_towards_one_target_holds_up_no_other() {
        let [a, b] = [1, 2].map(|serial| SessionKey::new(serial, 0));
        let mut lines = Lines::default();
        lines.stand_still(T(0), target(1), a, DropReason::NoTupleLeft);
        assert_eq!(lines.join(target(2), b), None);
        lines.stand_still(T(20), target(2), b, DropReason::NoTupleLeft);
        assert_eq!(lines.next_at(), Some(T(50)));
        assert_eq!(lines.next(T(50)), Some(a));
        assert_eq!(lines.next(T(50)), None);
        assert_eq!(lines.next_at(), Some(T(70)));
    }
}
