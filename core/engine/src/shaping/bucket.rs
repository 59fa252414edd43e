//! A bound of so many a second, as a token bucket that time fills.

use crate::time::Instant;

/// What one thing costs. Time earns the rate's thousandths each microsecond, so that all is whole
/// numbers.
const COST: i64 = 1_000_000_000;
/// The bucket holds what the rate earns in a tenth of a second, since captured packets come in
/// batches,
const BURST_PER_RATE: f64 = 0.1;
/// but at least so many: fewer would run over between arrivals that come as dice fall, and less
/// than the rate would pass.
const LEAST_BURST: f64 = 50.0;
/// Lowest rate, a second.
const LEAST_RATE: f64 = 0.001;
/// Highest rate, a second.
const MOST_RATE: f64 = 1e9;

/// Lets as many pass as a rate allows, whatever is offered.
///
/// It begins with one, so that no burst comes before its time, and it may be overdrawn by the
/// copies of one thing, which the next ones wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Thousandths of a thing a second, which is as many [`COST`]s a microsecond.
    rate_millis: u64,
    capacity: i64,
    level: i64,
    /// All that was earned, also what ran over.
    earned: u128,
    filled_at: Option<Instant>,
}

impl Bucket {
    pub(crate) fn new(per_second: f64) -> Self {
        let rate = per_second.clamp(LEAST_RATE, MOST_RATE);
        let capacity = (rate * BURST_PER_RATE).max(LEAST_BURST);
        Self {
            rate_millis: (rate * 1000.0).round() as u64,
            capacity: capacity as i64 * COST,
            level: COST,
            earned: 0,
            filled_at: None,
        }
    }

    /// Whether one more may pass now.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let elapsed = now.since(*self.filled_at.get_or_insert(now));
        self.filled_at = Some(now);
        let earned = elapsed.as_micros() * u128::from(self.rate_millis);
        self.earned += earned;
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(earned).min(self.capacity);
        self.level >= COST
    }

    /// So many have passed.
    pub(crate) fn charge(&mut self, count: u64) {
        let cost = i64::try_from(count).unwrap_or(i64::MAX);
        self.level = self.level.saturating_sub(cost.saturating_mul(COST));
    }

    /// How many could have passed since the first was asked about.
    pub(crate) fn allowed(&self) -> u64 {
        u64::try_from(self.earned / COST.unsigned_abs() as u128).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers things of so many `copies`, `gap` microseconds apart, for `seconds`; returns how many
    /// passed a second.
    fn passed(rate: f64, seconds: u64, copies: u64, mut gap: impl FnMut() -> u64) -> f64 {
        let mut bucket = Bucket::new(rate);
        let (mut at_us, mut passed) = (7_000_000, 0);
        let end_us = at_us + seconds * 1_000_000;
        while at_us < end_us {
            if bucket.allows(Instant::from_micros(at_us)) {
                bucket.charge(copies);
                passed += copies;
            }
            at_us += gap();
        }
        passed as f64 / seconds as f64
    }

    fn assert_near(rate: f64, passed: f64, what: &str) {
        assert!(
            (passed / rate - 1.0).abs() < 0.02,
            "{what}: {passed} for {rate}"
        );
    }

    fn dice(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        }
    }

    #[test]
    fn what_passes_is_the_rate_whatever_is_offered() {
        for rate in [10.0f64, 33.3, 500.0, 20_000.0] {
            for offered in [1.01, 1.2, 2.0, 10.0] {
                let gap = 1e6 / (rate * offered);
                let seconds = (20_000.0 / rate).max(10.0) as u64;
                let mut exact = 0.0;
                let even = passed(rate, seconds, 1, || {
                    exact += gap;
                    let whole = exact as u64;
                    exact -= whole as f64;
                    whole
                });
                assert_near(rate, even, "even");
                let mut random = dice(3);
                let poisson = passed(rate, seconds, 1, || (-random().ln() * gap) as u64);
                assert_near(rate, poisson, "as dice fall");
            }
        }
    }

    #[test]
    fn bursts_on_whole_milliseconds_lose_nothing() {
        for (rate, burst) in [(5_000.0, 6), (50_000.0, 60), (50_000.0, 500), (800.0, 40)] {
            let mut number = 0;
            let burst_gap_ms = (f64::from(burst) / rate * 1000.0 / 1.1) as u64;
            let passed = passed(rate, 20, 1, || {
                number += 1;
                if number % burst == 0 {
                    burst_gap_ms.max(1) * 1000
                } else {
                    0
                }
            });
            assert_near(rate, passed, "bursts");
        }
    }

    #[test]
    fn copies_count_each() {
        assert_near(1000.0, passed(1000.0, 20, 3, || 500), "three copies");
        assert_near(100.0, passed(100.0, 60, 7, || 500), "seven copies");
    }

    #[test]
    fn a_pause_earns_no_more_than_a_burst() {
        let mut bucket = Bucket::new(100.0);
        assert!(bucket.allows(Instant::ZERO));
        let later = Instant::from_micros(3_600_000_000);
        let mut burst = 0;
        while bucket.allows(later) {
            bucket.charge(1);
            burst += 1;
        }
        assert_eq!(burst, LEAST_BURST as u32);
        assert_eq!(bucket.allowed(), 360_000);
    }

    #[test]
    fn the_first_comes_alone() {
        let mut bucket = Bucket::new(1000.0);
        assert!(bucket.allows(Instant::from_micros(1)));
        bucket.charge(1);
        assert!(!bucket.allows(Instant::from_micros(1000)));
        assert!(bucket.allows(Instant::from_micros(1001)));
    }
}
