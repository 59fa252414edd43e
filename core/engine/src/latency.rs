//! The latency that is added to what the target sees: a sample for each request and each end.

use crate::config::Latency;
use crate::time::Instant;

/// When something reached the gate, and how much later than it otherwise would it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) latency_us: u32,
}

/// Draws latencies, evenly spread round their mean; the same seed draws the same ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distance {
    least_us: u32,
    /// From the least to the most.
    spread_us: u32,
    state: u64,
}

impl Distance {
    /// The distance of the session with this number.
    pub(crate) fn new(latency: Option<Latency>, seed: u64, session: u32) -> Self {
        let micros =
            |span: std::time::Duration| u32::try_from(span.as_micros()).unwrap_or(u32::MAX / 4);
        let (mean_us, jitter_us) = latency.map_or((0, 0), |latency| {
            (
                micros(latency.mean),
                micros(latency.jitter.min(latency.mean)),
            )
        });
        Self {
            least_us: mean_us - jitter_us,
            spread_us: 2 * jitter_us,
            state: mix(seed ^ mix(session.into())),
        }
    }

    /// What arrives now.
    pub(crate) fn arrival(&mut self, now: Instant) -> Arrival {
        let mut latency_us = self.least_us;
        if self.spread_us > 0 {
            self.state = self.state.wrapping_add(STEP);
            let values = u128::from(self.spread_us) + 1;
            latency_us += ((u128::from(mix(self.state)) * values) >> u64::BITS) as u32;
        }
        Arrival {
            at: now,
            latency_us,
        }
    }
}

/// 2^64 divided by the golden ratio: steps of it reach every number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes neighbours unlike each other (SplitMix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn samples(mean_us: u64, jitter_us: u64, session: u32) -> Vec<u32> {
        let latency = Latency {
            mean: Duration::from_micros(mean_us),
            jitter: Duration::from_micros(jitter_us),
        };
        let mut distance = Distance::new(Some(latency), 7, session);
        (0..10_000)
            .map(|_| distance.arrival(Instant::ZERO).latency_us)
            .collect()
    }

    #[test]
    fn samples_spread_evenly_round_the_mean() {
        let samples = samples(80_000, 20_000, 1);
        let within = |range: std::ops::RangeInclusive<u32>| {
            samples
                .iter()
                .filter(|sample| range.contains(sample))
                .count()
        };
        assert_eq!(within(60_000..=100_000), samples.len());
        for tenth in 0..10 {
            let from = 60_000 + tenth * 4_000;
            let count = within(from..=from + 3_999);
            assert!((900..1100).contains(&count), "{count} from {from}");
        }
    }

    #[test]
    fn without_jitter_all_are_the_mean_and_without_latency_zero() {
        assert!(samples(5_000, 0, 1).iter().all(|sample| *sample == 5_000));
        let mut none = Distance::new(None, 7, 1);
        assert_eq!(none.arrival(Instant::ZERO), Arrival::default());
    }

    #[test]
    fn sessions_differ_and_seeds_repeat() {
        assert_eq!(samples(80_000, 20_000, 1), samples(80_000, 20_000, 1));
        let (one, other) = (samples(80_000, 20_000, 1), samples(80_000, 20_000, 2));
        let equal = one.iter().zip(&other).filter(|(one, other)| one == other);
        assert!(equal.count() < 20);
    }
}
