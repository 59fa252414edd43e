//! The bound on processor time (`--cpu-percent`): a shard that has used up its share sleeps.
//!
//! Production comes first, so the bound is hard; what the shard can't do in its share has to be left
//! out. Once it has been behind for a moment it takes no new connections: whole connections left out
//! by name are worth more than a replay that falls ever further behind, or holes in the capture.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Longest sleep at once: a capture ring of the default size holds more than comes in this time at a
/// gigabit a second.
const LONGEST_SLEEP: Duration = Duration::from_millis(200);
/// How long work may be left behind before no new connections are taken.
const OVERLOAD: Duration = Duration::from_millis(100);

/// Keeps account of a thread's processor time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    /// Processor seconds allowed in a second.
    share: f64,
    /// When the account was last brought up to date: wall clock and processor time.
    last: Option<(Duration, Duration)>,
    /// Processor time used beyond what was allowed.
    debt: Duration,
    /// Since when there has been both debt and work.
    behind_since: Option<Duration>,
    is_overloaded: bool,
}

/// What the account asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// How long to sleep.
    pub(super) sleep: Duration,
    /// Whether new connections may be taken, when that has changed.
    pub(super) admission: Option<bool>,
}

impl Throttle {
    /// `share` in processor seconds a second, above 0.
    pub(super) fn new(share: f64) -> Self {
        Self {
            share,
            last: None,
            debt: Duration::ZERO,
            behind_since: None,
            is_overloaded: false,
        }
    }

    /// Brings the account up to date with the calling thread's clocks; `has_more` where there is
    /// work left.
    pub(super) fn check(&mut self, has_more: bool) -> Demand {
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        let (wall, used) = (read(ClockId::Monotonic), read(ClockId::ThreadCPUTime));
        self.account(wall, used, has_more)
    }

    fn account(&mut self, wall: Duration, used: Duration, has_more: bool) -> Demand {
        let (last_wall, last_used) = self.last.replace((wall, used)).unwrap_or((wall, used));
        let allowed = wall.saturating_sub(last_wall).mul_f64(self.share);
        self.debt = (self.debt + used.saturating_sub(last_used)).saturating_sub(allowed);
        let was_overloaded = self.is_overloaded;
        if !has_more {
            self.behind_since = None;
            self.is_overloaded = false;
        } else if !self.debt.is_zero() {
            let since = *self.behind_since.get_or_insert(wall);
            self.is_overloaded |= wall.saturating_sub(since) >= OVERLOAD;
        }
        Demand {
            sleep: self.debt.div_f64(self.share).min(LONGEST_SLEEP),
            admission: (self.is_overloaded != was_overloaded).then_some(!self.is_overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn who_stays_within_the_share_never_sleeps() {
        let mut throttle = Throttle::new(0.5);
        for turn in 0..100 {
            let demand = throttle.account(ms(turn * 10), ms(turn * 5), true);
            assert_eq!((demand.sleep, demand.admission), (ms(0), None));
        }
    }

    #[test]
    fn what_is_used_beyond_the_share_is_slept_off() {
        let mut throttle = Throttle::new(0.25);
        throttle.account(ms(0), ms(0), false);
        // 4 ms used of 4 allow for 1.
        let demand = throttle.account(ms(4), ms(4), false);
        assert_eq!(demand.sleep, ms(12));
        assert_eq!(throttle.account(ms(16), ms(4), false).sleep, ms(0));
    }

    #[test]
    fn no_sleep_is_so_long_that_a_ring_overflows() {
        let mut throttle = Throttle::new(0.01);
        throttle.account(ms(0), ms(0), false);
        assert_eq!(throttle.account(ms(50), ms(50), false).sleep, LONGEST_SLEEP);
    }

    #[test]
    fn whoever_leaves_work_behind_takes_no_connections_until_it_has_caught_up() {
        let mut throttle = Throttle::new(0.5);
        throttle.account(ms(0), ms(0), true);
        assert_eq!(throttle.account(ms(50), ms(50), true).admission, None);
        assert_eq!(throttle.account(ms(100), ms(60), true).admission, None);
        // Behind for 100 ms, though it keeps to its share.
        assert_eq!(
            throttle.account(ms(151), ms(101), true).admission,
            Some(false)
        );
        assert_eq!(throttle.account(ms(300), ms(110), true).admission, None);
        assert_eq!(
            throttle.account(ms(310), ms(111), false).admission,
            Some(true)
        );
    }
}
