//! How long things took: a histogram in buckets that grow with the time, so that a microsecond and
//! an hour are told equally well.

use std::time::Duration;

/// Each power of two is cut into 2^4 buckets: a value is known to 1/16, its middle to 1/32.
const PART_BITS: u32 = 4;
const PARTS: u64 = 1 << PART_BITS;
/// Times of 2^36 µs (19 hours) and more share the last bucket.
const MAX_BITS: u32 = 36;
const BUCKET_COUNT: usize = ((MAX_BITS - PART_BITS + 1) << PART_BITS) as usize;

/// Times with their quantiles, each within 4 % of the true one (below 16 µs within 1 µs), in a
/// fixed space of 4 KiB. Recording takes a few instructions.
#[derive(Clone, PartialEq, Eq)]
pub struct DelayHistogram {
    counts: Box<[u64; BUCKET_COUNT]>,
    count: u64,
    sum_us: u128,
    max_us: u64,
}

impl DelayHistogram {
    /// A histogram of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKET_COUNT]),
            count: 0,
            sum_us: 0,
            max_us: 0,
        }
    }

    /// Takes one time, as whole microseconds.
    pub fn record(&mut self, delay: Duration) {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket_of(delay_us)] += 1;
        self.count += 1;
        self.sum_us += u128::from(delay_us);
        self.max_us = self.max_us.max(delay_us);
    }

    /// Adds what another histogram has.
    pub fn merge(&mut self, other: &Self) {
        for (count, other) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += other;
        }
        self.count += other.count;
        self.sum_us += other.sum_us;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many times were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, exactly; zero where there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_us)
    }

    /// The mean, to the microsecond; zero where there is none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean_us = self.sum_us.checked_div(u128::from(self.count)).unwrap_or(0);
        Duration::from_micros(u64::try_from(mean_us).unwrap_or(u64::MAX))
    }

    /// The time that `percent` (0 to 100) of all times do not exceed; zero where there is none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (percent / 100.0 * self.count as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return Duration::from_micros(middle_of(bucket).min(self.max_us));
            }
        }
        self.max()
    }
}

impl Default for DelayHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for DelayHistogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DelayHistogram")
            .field("count", &self.count)
            .field("median", &self.percentile(50.0))
            .field("p99", &self.percentile(99.0))
            .field("max", &self.max())
            .finish()
    }
}

/// Times below [`PARTS`] µs have a bucket each; after that each power of two has `PARTS`.
fn bucket_of(delay_us: u64) -> usize {
    let bits = delay_us.max(PARTS).ilog2();
    if bits >= MAX_BITS {
        return BUCKET_COUNT - 1;
    }
    let shift = bits - PART_BITS;
    ((u64::from(shift) << PART_BITS) + (delay_us >> shift)) as usize
}

/// The middle of a bucket's times, in microseconds.
fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> PART_BITS).saturating_sub(1);
    let first = (bucket - (shift << PART_BITS)) << shift;
    first + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(delays_us: impl IntoIterator<Item = u64>) -> DelayHistogram {
        let mut histogram = DelayHistogram::new();
        delays_us
            .into_iter()
            .for_each(|delay_us| histogram.record(Duration::from_micros(delay_us)));
        histogram
    }

    #[test]
    fn every_time_is_known_to_five_per_cent() {
        let mut delay_us = 1;
        while delay_us < 1 << MAX_BITS {
            // One longer beside it, so that the longest doesn't help.
            let told = of([delay_us, u64::MAX]).percentile(50.0).as_micros() as f64;
            let error = (told / delay_us as f64 - 1.0).abs();
            assert!(error <= 0.04, "{delay_us} µs is told as {told}");
            delay_us += 1 + delay_us / 77;
        }
    }

    #[test]
    fn buckets_follow_each_other() {
        let mut last = 0;
        for delay_us in 0..100_000 {
            let bucket = bucket_of(delay_us);
            assert!(bucket == last || bucket == last + 1, "{delay_us}");
            last = bucket;
        }
        assert_eq!(bucket_of((1 << MAX_BITS) - 1), BUCKET_COUNT - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKET_COUNT - 1);
    }

    #[test]
    fn percentiles_of_an_even_spread() {
        let histogram = of(1..=10_000);
        for percent in [1.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
            let told = histogram.percentile(percent).as_micros() as f64;
            assert!(
                (told / (percent * 100.0) - 1.0).abs() < 0.05,
                "{percent}: {told}"
            );
        }
        assert_eq!(histogram.max(), Duration::from_millis(10));
        assert_eq!(histogram.mean(), Duration::from_micros(5000));
        assert_eq!(histogram.count(), 10_000);
    }

    #[test]
    fn two_make_one() {
        let (mut low, high) = (of(0..1000), of(1000..4000));
        low.merge(&high);
        assert_eq!(low, of(0..4000));
    }

    #[test]
    fn nothing_has_no_times() {
        let histogram = DelayHistogram::default();
        assert_eq!(histogram.percentile(50.0), Duration::ZERO);
        assert_eq!(
            (histogram.mean(), histogram.max()),
            (Duration::ZERO, Duration::ZERO)
        );
    }
}
